"""What all explorers have: a picture beside the live view, links, and no unknown arguments."""

import base64
from typing import Any

import anywidget
import ipywidgets
import traitlets

from famkd.errors import UserError, nearest


class Explorer(anywidget.AnyWidget):
    """A widget with a still picture. A subclass names the traits that a caller may give and those that links share."""

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

    def to_png(self, path: Any = None) -> bytes:
        """A still picture of the choice."""
        raise NotImplementedError

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
