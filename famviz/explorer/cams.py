"""The CAM explorer: a wall of images, and for the chosen one the maps of every network side by side."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import traitlets
from matplotlib.figure import Figure

from famkd.errors import UserError
from famviz.analysis.cam import METHODS, ROLLOUT, enlarged
from famviz.analysis.cam_scores import TOP
from famviz.analysis.cam_store import TARGETS, CamStore, Choice
from famviz.analysis.compare_networks import Sources, compare_networks
from famviz.explorer.base import Explorer
from famviz.explorer.cam_messages import STEPS, Messages
from famviz.explorer.page import Message, css, fragment, module
from famviz.explorer.pictures import colour_tables
from famviz.figures.cam import MAP, grid_figure
from famviz.networks.prepare import CROP
from famviz.tables import Table

PAGE_BUDGET = 3 << 20  # bytes of pictures and maps in a saved page
LAYERS = 4  # stages that the menu of layers offers, from the deepest
ONLY = ("all", "both right", "only the reference right", "only the other right", "both wrong")
ANY = ("all", "other answers")  # of images without labels
LINKED = ("image", "method", "layer", "target", "scale", "blend", "top")
PLOTS = ("confidence", "embedding", "confidences")
VIEWS = ("confusion", "classes", "calibration", "CKA", "embedding")  # of all images at once
SHOWN = (*LINKED, "areas", "other", "only_class", "only_answer", "only", "agreement", "order", "figure", "plot", "of",
         "view")  # fmt: skip


class CamExplorer(Explorer):
    """Class activation maps of several networks on the same images. The traits are the interface.

    Predictions and maps are computed in small batches while the widget is shown, those of the chosen image first.

    Args:
        source: a run, several runs of one teacher, networks by name, or what `compare_networks` returned.
        images, labels, names, transforms, masks, crop, root: as in `compare_networks`, if the source is not its result.
        traits: what to show first, such as `image=3, method="LayerCAM"`.

    Errors: UserError for images, networks or traits that do not exist.
    """

    shown = SHOWN
    linked = LINKED
    _esm = module("cams")
    _css = css("cams")
    _meta = traitlets.Dict().tag(sync=True)

    image = traitlets.Int(0, help="Position of the chosen image.").tag(sync=True)
    method = traitlets.Unicode("GradCAM", help="One of famviz.cam.METHODS, or AttentionRollout.").tag(sync=True)
    layer = traitlets.Unicode("", help="A path; -1, -2, ... for a stage from the deepest; empty for the default.").tag(
        sync=True
    )
    target = traitlets.Unicode("", help="true, reference, each, or a class by name or index.").tag(sync=True)
    scale = traitlets.Enum(("shared", "own"), "shared", help="Colour range of the maps of an image.").tag(sync=True)
    blend = traitlets.Float(0.55, min=0.0, max=1.0, help="Share of a map's colours over the image.").tag(sync=True)
    top = traitlets.Float(TOP, min=0.01, max=1.0, help="Share of the pixels that is outlined.").tag(sync=True)
    areas = traitlets.Bool(False, help="Compute insertion and deletion of the chosen image.").tag(sync=True)
    other = traitlets.Unicode("", help="The network that is compared with the reference.").tag(sync=True)
    only_class = traitlets.Int(-1, help="Show images of this class only; -1 for all.").tag(sync=True)
    only_answer = traitlets.Int(-1, help="Show images for which `other` says this class only; -1 for all.").tag(
        sync=True
    )
    only = traitlets.Enum((*ONLY, *ANY), "all", help="Show images with these answers only.").tag(sync=True)
    agreement = traitlets.Enum(("all", "low", "high"), "all", help="Show a quarter of the images only.").tag(sync=True)
    order = traitlets.Enum(("position", "agreement", "confidence"), "position", help="Of the wall.").tag(sync=True)
    figure = traitlets.Enum(("rank correlation", "IoU"), "rank correlation", help="What agreement means.").tag(
        sync=True
    )
    plot = traitlets.Enum(PLOTS, "confidence", help="What the diagram shows.").tag(sync=True)
    view = traitlets.Enum(VIEWS, "confusion", help="What is shown of all images at once.").tag(sync=True)
    of = traitlets.Unicode("", help="The network whose confidence or embedding the diagram shows.").tag(sync=True)

    def __init__(
        self, source: Sources, images: Any = None, labels: Any = None, names: Sequence[str] | None = None,
        transforms: Any = None, *, masks: np.ndarray | None = None, crop: float = CROP, root: str = "", **traits: Any,
    ):  # fmt: skip
        self.refuse_unknown(traits)
        options: dict[str, Any] = {"masks": masks, "crop": crop, "root": root}
        self.comparison = compare_networks(source, images, labels, names, transforms, **options)
        self.store = CamStore(self.comparison)
        self.messages = Messages(self.store)
        others = self.comparison.others or self.comparison.names
        first = {"other": others[0], "of": others[0], "target": "true" if self.comparison.labelled else "reference"}
        super().__init__(_meta=self._facts_of_page())
        for name, value in {**first, **traits}.items():
            setattr(self, name, value)
        self.on_msg(self._answer)

    @property
    def choice(self) -> Choice:
        """What the maps are about."""
        return Choice(self.method, self.layer, self.target)

    def maps(self) -> dict[str, np.ndarray]:
        """The maps of the chosen image (H, W) by network, at the size of the pixels that are drawn."""
        height, width = self._meta["size"]
        found = self.store.maps([self.image], self.choice)[0]
        return {name: enlarged(each.evidence[None], (height, width))[0] for name, each in found.items()
                if not isinstance(each, str)}  # fmt: skip

    def figures(self) -> Table:
        """A row for each network: its map of the chosen image in figures, with insertion and deletion if `areas`."""
        rows = []
        for name, each in self.store.maps([self.image], self.choice)[0].items():
            row: dict[str, object] = {"network": name}
            if not isinstance(each, str):
                row |= {"class": each.label, "p": each.probability, **each.figures}
                if self.areas:
                    row["insertion"], row["deletion"] = self.store.areas(self.image, name, self.choice, STEPS)
            rows.append(row)
        return Table(rows)

    def disagreement(self, images: int | Sequence[int] | None = None) -> Table:
        """A row for each image and network: agreement with the reference, the least first. Computes what is missing."""
        positions = self.comparison.positions(images)
        rows = []
        for at, shown in zip(positions, self.store.maps(positions, self.choice)):
            for name in self.comparison.others:
                each = shown[name]
                if not isinstance(each, str):
                    rows.append({"image": at, "network": name, **each.figures})
        return Table(sorted(rows, key=lambda row: row.get(self.figure, np.nan)))

    def frame(self) -> Any:
        """The rows of `disagreement` as a pandas DataFrame, or as a list of dicts where pandas is not installed."""
        return self.disagreement().frame()

    def to_figure(self) -> Figure:
        """A matplotlib figure of the chosen image and the maps of the networks that have one, the reference first."""
        shown = self.store.maps([self.image], self.choice)[0]
        having = {name: each for name, each in shown.items() if not isinstance(each, str)}
        if not having:
            raise UserError(str(next(iter(shown.values()))))
        layers = {} if self.method == ROLLOUT else {name: each.layer for name, each in having.items()}
        options = {"method": self.method, "layer": layers, "target": self._target_of_figure()}
        return grid_figure(self.comparison.only(having).cams([self.image], **options), scale=self._scale())

    def _scale(self) -> Literal["shared", "own"]:
        return "own" if self.scale == "own" else "shared"

    def _target_of_figure(self) -> Any:
        return {"each": "predicted"}.get(self.target, int(self.target) if self.target.isdigit() else self.target)

    @property
    def title(self) -> str:
        """The names of the networks."""
        return ", ".join(self.comparison.names)

    def to_fragment(
        self, images: int | Sequence[int] | None = None, choices: Sequence[Choice] = (), budget: int = PAGE_BUDGET
    ) -> str:
        """This explorer as a part of a page: its data and its place, without module and style.

        Args:
            images: number or positions of the images; by default all, as far as they fit.
            choices: of methods, layers and classes whose maps are held; by default the present method and layer, for
                the true class, what the reference predicts, and what each network predicts.
            budget: bytes of pictures and maps. Images that do not fit any more are left out, the chosen one never.
        """
        wanted = [
            self.choice._replace(target=target) for target in TARGETS if target != "true" or self._meta["labelled"]
        ]
        held = list(dict.fromkeys([self.choice, *(choices or wanted)]))
        positions = self.comparison.positions(images)
        positions = [self.image, *(at for at in positions if at != self.image)]
        kept, messages = self.messages.of_page(positions, held, self.areas, budget)
        meta = {**self._meta, "alone": True, "images": sorted(kept), "held": ["|".join(each) for each in held]}
        return fragment("cams", {"_meta": meta, **self.chosen()}, {}, messages)

    def _facts_of_page(self) -> dict[str, Any]:
        """What the page needs before it asks for anything."""
        comparison = self.comparison
        _, height, width, _ = comparison.pixels([0]).shape
        stages = {name: self.store.stages(name) for name in comparison.names}
        count = min(LAYERS, *(len(each) for each in stages.values())) if len(stages) > 1 else LAYERS
        layers = [["", "default"]]
        for back in range(1, count + 1):
            paths = dict.fromkeys(each[-back] for each in stages.values() if back <= len(each))
            if paths:
                layers.append([str(-back), f"stage -{back}: {', '.join(paths)}"])
        classes = comparison.classes
        return {
            "networks": comparison.names,
            "reference": comparison.names.index(comparison.reference),
            "count": len(comparison),
            "images": list(range(len(comparison))),
            "classes": classes,
            "count_of_classes": len(classes) or 1 << 31,
            "labelled": comparison.labelled,
            "size": [height, width],
            "methods": [*METHODS, ROLLOUT],
            "layers": layers,
            "only": [*(ONLY if comparison.labelled else ()), *(() if comparison.labelled else ANY)],
            "masks": comparison.masks is not None,
            "top": TOP,
            "tables": colour_tables({"map": MAP}),
            "alone": False,
        }

    def answer(self, question: dict[str, Any]) -> Message:
        """The answer to a question of the page."""
        return self.messages.answer(question)

    @traitlets.validate("image")
    def _is_image(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self.comparison):
            raise traitlets.TraitError(f"image must be 0 .. {len(self.comparison) - 1}, not {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("method", "layer", "target")
    def _is_choice(self, proposal: Any) -> str:
        """What the store would refuse is refused here; the name of a class becomes its index."""
        name, value = proposal["trait"].name, proposal["value"]
        if name == "target" and value in self.comparison.classes:
            value = str(self.comparison.classes.index(value))
        try:
            self.store.check(self.choice._replace(**{name: value}))
            for network in self.comparison.names if name == "layer" and value else ():
                self.store.layer(network, value)
        except UserError as error:
            raise traitlets.TraitError(str(error)) from error
        return value

    @traitlets.validate("other", "of")
    def _is_network(self, proposal: Any) -> str:
        if proposal["value"] not in self.comparison.names:
            raise traitlets.TraitError(f"{proposal['trait'].name} must be one of {', '.join(self.comparison.names)}")
        return proposal["value"]
