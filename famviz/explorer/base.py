"""What all explorers have: a still picture, a saved page, links, and no unknown arguments."""

import base64
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from matplotlib.figure import Figure

from famkd.errors import UserError, nearest
from famviz.explorer.page import Message, page
from famviz.figures import style


class Explorer(anywidget.AnyWidget):
    """A widget that can be drawn as a figure and saved as a page.

    A subclass names the traits that a caller may give and those that links share, and has the methods `to_figure`,
    `to_fragment` and `answer`.
    """

    shown: tuple[str, ...] = ()  # traits that a caller may give, and that a saved page keeps
    linked: tuple[str, ...] = ()

    def refuse_unknown(self, traits: dict[str, Any]) -> None:
        """UserError for a keyword argument that is no trait."""
        for name in traits:
            if name not in self.shown:
                close = nearest(name, self.shown)
                raise UserError(
                    f"{type(self).__name__} has no argument {name!r}.{close} It takes {', '.join(self.shown)}."
                )

    def chosen(self) -> dict[str, Any]:
        """The traits that a saved page keeps."""
        return {name: getattr(self, name) for name in self.shown}

    @property
    def title(self) -> str:
        """The title of a saved page, without the name of the program."""
        raise NotImplementedError

    def to_figure(self) -> Figure:
        """A matplotlib figure of the choice."""
        raise NotImplementedError

    def to_fragment(self, *args: Any, **held: Any) -> str:
        """The widget as a part of a page: its data and its place, without module and style."""
        raise NotImplementedError

    def answer(self, question: dict[str, Any]) -> Message:
        """The answer to a question of the page."""
        raise NotImplementedError

    def to_png(self, path: str | Path | None = None) -> bytes:
        """`to_figure` as a PNG file; also written to `path` if one is given."""
        data = style.to_bytes(self.to_figure(), "png")
        if path:
            Path(path).write_bytes(data)
        return data

    def to_html(self, path: str | Path | None = None, **held: Any) -> str:
        """A page with this widget that works without network and kernel; also written to `path` if one is given.

        Args:
            held: what the page holds, as in `to_fragment`.
        """
        text = page(f"famviz: {self.title}", self.to_fragment(**held))
        if path:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _answer(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        self.send(*self.answer(content))

    def link(self, other: "Explorer") -> list[traitlets.link]:
        """Make two explorers of a kind show the same choice; call `unlink()` on each returned link to undo it."""
        return [traitlets.link((self, name), (other, name)) for name in self.linked]

    def close(self) -> None:
        """Remove the widget from the page and from the kernel."""
        super().close()
        close_parts(self)

    def _repr_mimebundle_(self, **kwargs: Any):
        """The live widget, and a picture for a reopened or exported notebook, where nothing is live."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "image/png": base64.b64encode(self.to_png()).decode()}, metadata


def close_parts(widget: ipywidgets.Widget) -> None:
    """Close the children, the layout and the style of a closed widget, which the kernel would else keep."""
    children = getattr(widget, "children", ())
    for part in (*children, getattr(widget, "layout", None), getattr(widget, "style", None)):
        if isinstance(part, ipywidgets.Widget):
            part.close()
            close_parts(part)


def unique(names: list[str]) -> list[str]:
    """Names that differ: the second of two equal names ends in (2)."""
    counts = [names[:at].count(name) for at, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, counts)]
