"""The learned filter of one level, with the options that it was built with."""

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from famviz import spectra
from famviz.survey import Survey

STARTS = {
    "zero": "started from zero",
    "balanced": "started from random noise",
    "official": "started from the draw of the released code",
}


@dataclass(frozen=True, eq=False, repr=False)
class Filter:
    """The learned filter of one level, as it acts on real feature maps."""

    index: int  # number of the level, 0 for the shallowest
    path: str  # of the module in the method's state dict
    held: np.ndarray | Survey  # `response`, or what reads it from the file in parts
    size: tuple[int, int]  # (H, W)
    gain: np.ndarray  # of the high-pass, 0..1, (H, W // 2 + 1)
    student: str = ""  # names of the taps, "" if unknown
    teacher: str = ""
    gamma: tuple[float, ...] = ()  # weight of the global branch, then of the local branch if there is one
    local: np.ndarray | None = None  # weights (C_out, C_in) of the 1x1 convolution of the local branch
    raw: np.ndarray | None = None  # the stored plane (C_out, C_in, H, W), DC in the middle; only in released files
    options: dict[str, Any] = field(default_factory=dict)  # filter, highpass, cutoff, order, init; only what is known

    def __repr__(self) -> str:
        """The title, the channels and the size, in place of the numbers."""
        (c_out, c_in), (height, width) = self.channels, self.size
        return f"Filter({self.title!r}, {c_in} to {c_out} channels, {height} x {width})"

    def _repr_html_(self) -> str:
        (c_out, c_in), (height, width) = self.channels, self.size
        words = f"<b>{html.escape(self.title)}</b>: {c_in} to {c_out} channels, {height} x {width}"
        return words + (f"; {html.escape(self.caption)}" if self.caption else "")

    @property
    def response(self) -> np.ndarray:
        """The frequency response, complex (C_out, C_in, H, W // 2 + 1), high-pass included.

        Of a large level it is read anew each time. ValueError where it does not fit into memory.
        """
        return self.held.stored.whole() if isinstance(self.held, Survey) else self.held

    @property
    def survey(self) -> Survey | None:
        """What is known of a large level, whose weights stay in their file; None for others."""
        return self.held if isinstance(self.held, Survey) else None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C_out, C_in, H, W // 2 + 1)."""
        c_out, c_in, height, columns = (self.held.stored if isinstance(self.held, Survey) else self.held).shape
        return c_out, c_in, height, columns

    @property
    def channels(self) -> tuple[int, int]:
        """(C_out, C_in)."""
        return self.shape[:2]

    def half(self, pair: tuple[int, int]) -> np.ndarray:
        """One filter by its output and input channel, complex (H, W // 2 + 1)."""
        return self.held.of_pairs([pair])[0] if isinstance(self.held, Survey) else self.held[pair]

    def mean(self) -> np.ndarray:
        """Mean of all filters, complex (H, W // 2 + 1)."""
        return self.held.finish().mean if isinstance(self.held, Survey) else self.held.mean((0, 1))

    def largest(self) -> float:
        """The largest |H| of the level."""
        return self.held.finish().peak if isinstance(self.held, Survey) else float(np.abs(self.held).max())

    @property
    def title(self) -> str:
        """Number of the level and its taps, such as "level 0 (layer1)"."""
        if not self.student:
            return f"level {self.index}"
        if self.student == self.teacher:
            return f"level {self.index} ({self.student})"
        return f"level {self.index} ({self.student} \u2192 {self.teacher})"

    @property
    def caption(self) -> str:
        """The options in words, without those that are unknown.

        For example "ideal high-pass, cutoff 0.2 (removes 5 of 64 frequencies); started from zero".
        """
        kind = str(self.options.get("filter", "dense"))
        parts = [
            "" if kind == "dense" else f"{kind} filter",  # dense is the usual kind
            self._highpass_in_words(),
            STARTS.get(str(self.options.get("init")), ""),
        ]
        return "; ".join(part for part in parts if part)

    def removed(self) -> tuple[int, int]:
        """Numbers of frequencies of the full plane that the high-pass removes, and that it else at least halves.

        The window of the released code is not symmetric about DC. Only the Hermitian part of a filter acts on real
        maps, so a frequency of which the window removes one sign is halved.
        """
        plane = spectra.full_plane(self.gain, self.size[1])
        gain = np.real(spectra.effective(plane))
        removed = gain == 0
        halved = ~removed & (gain <= 0.5)
        return int(removed.sum()), int(halved.sum())

    def _highpass_in_words(self) -> str:
        kind = self.options.get("highpass")
        if kind is None:
            return ""
        if kind == "none":
            return "no high-pass"
        words = f"{kind} high-pass"
        if "cutoff" in self.options:
            words += f", cutoff {self.options['cutoff']:g}"
        if kind == "butterworth" and "order" in self.options:
            words += f", order {self.options['order']}"
        removed, halved = self.removed()
        total = self.size[0] * self.size[1]
        effect = f"removes {removed or 'none'} of {total} frequencies"
        if halved:
            effect += f" and at least halves {halved} more"
        return f"{words} ({effect})"

    def plane(self) -> np.ndarray:
        """The response on the full centred plane, (C_out, C_in, H, W)."""
        return spectra.full_plane(self.response, self.size[1])

    def amplitude(self) -> np.ndarray:
        """Root mean square of |H| over all channel pairs, half spectrum (H, W // 2 + 1)."""
        if isinstance(self.held, Survey):
            return self.held.finish().amplitude
        return np.sqrt(np.square(np.abs(self.held)).mean((0, 1)))

    def energy(self) -> np.ndarray:
        """Energy per channel pair on white input, (C_out, C_in)."""
        if isinstance(self.held, Survey):
            return self.held.finish().energy
        return spectra.energy(self.held, self.size[1])

    def share(self) -> np.ndarray | None:
        """Share 0..1 of the global branch per channel pair, (C_out, C_in); None if there is only one branch."""
        if self.local is None or len(self.gamma) < 2:
            return None
        return spectra.share_of_energy(self.energy(), self.local, (self.gamma[0], self.gamma[1]))

    def total_share(self) -> float | None:
        """Share 0..1 of the global branch over the whole level; None if there is only one branch."""
        if self.local is None or len(self.gamma) < 2:
            return None
        far = self.gamma[0] ** 2 * self.energy().sum()
        near = self.gamma[1] ** 2 * np.square(self.local).sum()
        return float(far / max(far + near, spectra.LOWEST))

    @property
    def ineffective_share(self) -> float | None:
        """Share 0..1 of the stored energy that never acts; None if the file stores only what acts."""
        return None if self.raw is None else spectra.ineffective_share(self.raw, self.plane())
