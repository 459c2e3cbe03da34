"""The amplitude explorer: spectra of the stages of several networks side by side, and what a band of them holds."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import traitlets
from matplotlib.figure import Figure

from famkd.errors import UserError, nearest
from famviz.analysis.amplitude import Relative, Stage, bootstrap_band
from famviz.analysis.amplitude_sources import compared
from famviz.analysis.amplitude_store import AmplitudeStore, Look
from famviz.analysis.bands import Band, band_of, band_share, rebuilt
from famviz.analysis.compare_networks import Sources
from famviz.explorer.amplitude_messages import TABLES, Messages, PageBudget
from famviz.explorer.base import Explorer
from famviz.explorer.page import Message, css, fragment, module
from famviz.explorer.pictures import colour_tables
from famviz.figures.amplitude import differences_figure
from famviz.networks.checkpoints import Checkpoints
from famviz.networks.prepare import CROP
from famviz.tables import Table

PAGE_BUDGET = 3 << 20  # bytes of spectra, maps and pictures in a saved page
FEW = 32  # images that the picture beside the live view is drawn from, while not all are known
DETAILED = 16  # frequencies of a side from which a spectrum has some detail
ALL = -1  # of the images
LINKED = ("stage", "network", "reference", "image", "relative", "window", "epoch", "rings", "angles")
SHOWN = (*LINKED, "brush", "profile")


class AmplitudeExplorer(Explorer):
    """Amplitude spectra of several networks on the same images. The traits are the interface.

    Spectra are computed in batches while the widget is shown. The networks are left as they were.

    Args:
        source: a run, several runs of one teacher, networks by name, or what `compare_networks` returned. Of runs also
            the outputs that their methods compare with the teacher.
        images, labels, names, transforms, crop, root: as in `compare_networks`, if the source is not its result.
        checkpoints: weights of earlier epochs by network and epoch, `{"student": {10: "epoch10.pth", ...}}`: files or
            state dicts. A run offers its best epoch by itself, where that is not the last one.
        traits: what to show first, such as `stage="layer2", rings=[3, 5]`.

    Errors: UserError for images, networks, checkpoints or traits that do not exist.
    """

    shown = SHOWN
    linked = LINKED
    _esm = module("amplitude")
    _css = css("amplitude")
    _meta = traitlets.Dict().tag(sync=True)

    stage = traitlets.Union([traitlets.Unicode(), traitlets.Int()], help="Name or position of a stage.").tag(sync=True)
    network = traitlets.Unicode("", help="The network whose maps and images are shown beside the reference.").tag(
        sync=True
    )
    reference = traitlets.Unicode("", help="The network that is subtracted from the others.").tag(sync=True)
    image = traitlets.Int(ALL, help="Position of one image; -1 for the mean of all.").tag(sync=True)
    relative = traitlets.Enum(("mean", "dc", "none"), "mean", help="What is taken out of a spectrum.").tag(sync=True)
    window = traitlets.Bool(False, help="Fade maps towards their edges.").tag(sync=True)
    epoch = traitlets.Int(0, help="An epoch with a checkpoint; 0 for the weights at the end.").tag(sync=True)
    rings = traitlets.List(traitlets.Int(), help="First and last ring of the band, cycles per map; [] for all.").tag(
        sync=True
    )
    angles = traitlets.List(traitlets.Int(), help="First and last direction of the band, degrees; [] for all.").tag(
        sync=True
    )
    brush = traitlets.Enum(("ring", "wedge"), "ring", help="What a drag on a spectrum chooses.").tag(sync=True)
    profile = traitlets.Enum(("spectrum", "difference"), "spectrum", help="What the curves show.").tag(sync=True)

    def __init__(
        self, source: Sources, images: Any = None, labels: Any = None, names: Sequence[str] | None = None,
        transforms: Any = None, *, checkpoints: Checkpoints | None = None, crop: float = CROP, root: str = "",
        **traits: Any,
    ):  # fmt: skip
        self.refuse_unknown(traits)
        options = {"images": images, "labels": labels, "names": names, "transforms": transforms}
        self.store = AmplitudeStore(compared(source, checkpoints, **options, crop=crop, root=root))
        self.comparison = self.store.comparison
        self.messages = Messages(self.store)
        first = {
            "stage": self._first_stage(),
            "network": (self.comparison.others or self.comparison.names)[-1],
            "reference": self.comparison.reference,
        }
        super().__init__(_meta=self._facts_of_page())
        for name, value in {**first, **traits}.items():
            setattr(self, name, value)
        self.on_msg(self._answer)

    @property
    def look(self) -> Look:
        """The weights and the window that the spectra are of."""
        return Look(self.window, self.epoch)

    @property
    def band(self) -> Band:
        """The chosen band: all frequencies but DC if none is."""
        return band_of(self.rings, self.angles)

    def spectra(self) -> Stage:
        """The chosen stage as it is shown: of one image, or the mean of all, with bootstrap bands."""
        relative = cast(Relative, self.relative)
        return self.store.stage(self.look, self._at, self.reference, relative, self._positions())

    def shares(self) -> Table:
        """A row for each network: mean share of the band in its energy apart from DC, in %, with a 95 % interval."""
        rows = []
        for name, planes in self.store.spectra(self.look, self._at, self._positions()).items():
            share = 100 * band_share(planes, self.band)
            row: dict[str, object] = {"network": name, "share %": float(share.mean())}
            if len(share) > 1:
                low, high = bootstrap_band(share[:, None])[:, 0]
                row |= {"low": float(low), "high": float(high)}
            rows.append(row)
        return Table(rows)

    def most(self, count: int = 12) -> Table:
        """The images in which the band has the largest share of the chosen network's energy, the largest first."""
        positions = list(range(len(self.comparison)))
        share = band_share(self.store.spectra(self.look, self._at, positions)[self.network], self.band)
        order = np.argsort(-share.round(6), kind="stable")[:count]  # equal shares differ by rounding errors
        return Table([{"image": positions[at], "share %": 100 * float(share[at])} for at in order])

    def rebuilt(self, position: int | None = None) -> dict[str, np.ndarray]:
        """An image (H, W, 3), 0..255, and the maps (C, H, W) of each network on it, from the band alone.

        Args:
            position: of the image; by default the chosen one, or the first of `most`.
        """
        if position is None:
            position = self.image if self.image != ALL else cast(int, self.most(1).rows[0]["image"])
        pixels = self.comparison.pixels([position])[0].astype(float)
        found = {"image": np.moveaxis(rebuilt(np.moveaxis(pixels, -1, 0), self.band), 0, -1)}
        maps = self.store.maps_of_stage(position, self._at, self.epoch)
        return {**found, **{name: rebuilt(each, self.band) for name, each in maps.items()}}

    def to_figure(self) -> Figure:
        """A figure of the stage. A mean is of the images that are known, at least of 32 if there are as many."""
        known = self.store.known(self.look)
        if self.image == ALL and len(known) < FEW:
            known = self.comparison.positions(FEW)
        positions = known if self.image == ALL else [self.image]
        relative = cast(Relative, self.relative)
        return differences_figure([self.store.stage(self.look, self._at, self.reference, relative, positions)])

    @property
    def title(self) -> str:
        """The names of the networks."""
        return ", ".join(self.comparison.names)

    def to_fragment(self, images: int | Sequence[int] | None = None, budget: int = PAGE_BUDGET) -> str:
        """This explorer as a part of a page: its data and its place, without module and style.

        Spectra are of all images, and every stage, reference, window and epoch can be chosen.

        Args:
            images: number or positions of the images that can be chosen; by default all, as far as they fit.
            budget: bytes. Images that do not fit any more are left out, the chosen one never.
        """
        positions = self.comparison.positions(images)
        if self.image != ALL:
            positions = [self.image, *(at for at in positions if at != self.image)]
        looks = [Look(window, epoch) for epoch in (0, *self.store.checkpoints) for window in (False, True)]
        held, messages = self.messages.of_page(PageBudget(looks, positions, budget))
        meta = {**self._meta, "alone": True, "images": sorted(held)}
        return fragment("amplitude", {"_meta": meta, **self.chosen()}, {}, messages)

    @property
    def _at(self) -> int:
        """Position of the chosen stage."""
        return self.store.stage_names.index(str(self.stage))

    def _first_stage(self) -> str:
        """The deepest stage with a spectrum of some detail."""
        detailed = [name for name, size in zip(self.store.stage_names, self.store.sizes) if min(size) >= DETAILED]
        return detailed[-1] if detailed else self.store.stage_names[0]

    def _positions(self) -> list[int]:
        """Positions of the images that are shown."""
        return list(range(len(self.comparison))) if self.image == ALL else [self.image]

    def _facts_of_page(self) -> dict[str, Any]:
        """What the page needs before it asks for anything."""
        store = self.store
        return {
            "networks": store.names,
            "reference": self.comparison.reference,
            "stages": store.stage_names,
            "sizes": [list(size) for size in store.sizes],
            "epochs": list(store.checkpoints),
            "of_epoch": {str(epoch): list(made) for epoch, made in store.checkpoints.items()},
            "count": len(self.comparison),
            "images": list(range(len(self.comparison))),
            "tables": colour_tables(TABLES),
            "alone": False,
        }

    def answer(self, question: dict[str, Any]) -> Message:
        """The answer to a question of the page."""
        return self.messages.answer(question)

    @traitlets.validate("stage")
    def _is_stage(self, proposal: Any) -> str:
        value, names = proposal["value"], self.store.stage_names
        if isinstance(value, int) and -len(names) <= value < len(names):
            return names[value]
        if value not in names:
            close = nearest(str(value), names)
            raise traitlets.TraitError(f"there is no stage {value!r}.{close} There are {', '.join(names)}.")
        return value

    @traitlets.validate("network", "reference")
    def _is_network(self, proposal: Any) -> str:
        if proposal["value"] not in self.store.names:
            raise traitlets.TraitError(f"{proposal['trait'].name} must be one of {', '.join(self.store.names)}")
        return proposal["value"]

    @traitlets.validate("image")
    def _is_image(self, proposal: Any) -> int:
        if not ALL <= proposal["value"] < len(self.comparison):
            last = len(self.comparison) - 1
            raise traitlets.TraitError(f"image must be 0 .. {last}, or -1 for all, not {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("epoch", "rings", "angles")
    def _is_choice(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            if name == "epoch":
                self.store.check(Look(epoch=value))
            else:
                band_of(**{name: value})
        except UserError as error:
            raise traitlets.TraitError(str(error)) from error
        return value

    def frame(self) -> Any:
        """The rows of `spectra` as a pandas DataFrame, or as a list of dicts where pandas is not installed."""
        return self.spectra().frame()

    def __repr__(self) -> str:
        return f"AmplitudeExplorer({', '.join(self.store.names)}; {len(self.comparison)} images)"
