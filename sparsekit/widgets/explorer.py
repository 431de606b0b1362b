"""Move a sparsity slider and see every layer's mask, with the numbers that decide whether a network can work."""

from collections.abc import Mapping
from typing import Any

import ipywidgets
from torch import Tensor

from sparsekit.topology import Topology
from sparsekit.utils.registry import names
from sparsekit.widgets import mask_encoding, rendering
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.mask_encoding import LayerFacts, PackedMask
from sparsekit.widgets.mask_tiles import LayerTable, MaskTiles
from sparsekit.widgets.ranked import RankedScores
from sparsekit.widgets.rendering import StaticImage

PRESETS: dict[str, dict[str, Any]] = {
    "Try 90 %": {"density": 0.1},
    "Try 98 % ERK": {"density": 0.02, "allocation": "erk"},
    "Try 99.5 % uniform": {"density": 0.005, "allocation": "uniform"},
}
MAX_SPARSITY = 99.9  # percent, that is one connection in a thousand, where every score cuts networks in two


class MaskExplorer(StaticPreview):
    """Masks of all layers stand under a slider for sparsity and lists of allocations and scores.

    This is a view over the pure function `masks_at(density, allocation, score)`. The slider says sparsity in percent,
    and code says density.

    Args:
        scores: for each score's name a tensor per layer, shaped like the layer's weight. We keep the highest.
        density: share of weights that exist at first, in [0.001, 1].
        allocation: name of an allocation (`names("allocation")`).
        score: one of the scores' names, or None for the first.
        presets: button text to settings (`density`, `allocation`, `score`).

    Raises:
        ValueError: if a name is unknown or the scores do not fit each other.

    Example:
        >>> import torch
        >>> from sparsekit.utils.seeds import generator
        >>> weight = torch.randn(64, 64, generator=generator(0, "explorer"))
        >>> explorer = MaskExplorer({"magnitude": {"fc": weight.abs()}}, density=0.1)
        >>> explorer.topology.count
        410
    """

    def __init__(
        self,
        scores: Mapping[str, Mapping[str, Tensor]],
        *,
        density: float = 0.1,
        allocation: str = "erk",
        score: str | None = None,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        self._ranked = RankedScores(scores)
        self._presets = dict(PRESETS if presets is None else presets)
        values = {
            "sparsity": _sparsity(density),
            "allocation": allocation,
            "score": score or self._ranked.names[0],
        }
        self.controls = Controls(self._fields(), values, title="Which connections to keep")
        buttons = [Field(name=text, kind="button", label=text) for text in self._presets]
        self.presets = Controls(buttons, {}, title="Settings to try")
        self.masks, self.table = MaskTiles(), LayerTable()
        self._packed_masks: dict[str, PackedMask] = {}
        self._show(self._ranked.packed_masks_at(density, allocation, values["score"]))
        self.controls.observe(self._refresh, "values")
        self.presets.on_press(lambda name: self.choose(**self._presets[name]))
        self.view = ipywidgets.VBox([self.controls, self.presets, self.masks, self.table])

    def masks_at(self, density: float, allocation: str, score: str) -> Topology:
        """Return the topology for any settings, whatever the controls say."""
        return self._ranked.topology_at(density, allocation, score)

    def choose(self, *, density: float | None = None, allocation: str | None = None, score: str | None = None) -> None:
        """Set controls from code. What is None stays."""
        settings = {
            "sparsity": None if density is None else _sparsity(density),
            "allocation": allocation,
            "score": score,
        }
        self.controls.set(**{name: value for name, value in settings.items() if value is not None})

    @property
    def density(self) -> float:
        """The share of weights that the slider asks for, 0 to 1."""
        return _density(self.controls.values["sparsity"])

    @property
    def topology(self) -> Topology:
        """The topology that the masks show."""
        return Topology({name: layer.topology() for name, layer in self._packed_masks.items()})

    @property
    def facts(self) -> list[LayerFacts]:
        """The numbers of each layer."""
        return mask_encoding.all_facts(self._packed_masks)

    def sentence(self) -> str:
        """Say what is chosen and what it leaves."""
        values = self.controls.values
        return f"{values['sparsity']:g} % sparsity, {values['allocation']}, {values['score']} scores: {self.masks.alt}"

    def snapshot(self) -> StaticImage:
        """Draw the masks and the table as they are now."""
        parts = [
            rendering.text([self.sentence().partition(":")[0]], bold=1),
            rendering.tiles(self._packed_masks, self.masks.captions),
            rendering.columns([self.table.head, *self.table.rows]),
        ]
        return StaticImage(rendering.png(rendering.stack(parts)), self.sentence())

    def _refresh(self, _change: Any) -> None:
        values = self.controls.values
        try:
            packed_masks = self._ranked.packed_masks_at(self.density, values["allocation"], values["score"])
        except ValueError as problem:  # the last masks that were possible stay
            self.controls.change("sparsity", error=str(problem))
            return
        self._show(packed_masks)
        if self.controls.fields[0]["error"]:
            self.controls.change("sparsity", error="")

    def _show(self, packed_masks: dict[str, PackedMask]) -> None:
        self._packed_masks = packed_masks
        self.table.show(self.masks.show_packed(packed_masks))

    def _fields(self) -> list[Field]:
        return [
            Field(
                name="sparsity",
                kind="range",
                label="Sparsity",
                low=0,
                high=MAX_SPARSITY,
                step=0.1,
                format="percent",
            ),
            Field(name="allocation", kind="choice", label="Allocation", options=options_of(names("allocation"))),
            Field(name="score", kind="choice", label="Score", options=options_of(self._ranked.names)),
        ]

    def _widget(self) -> ipywidgets.VBox:
        return self.view


def _sparsity(density: float) -> float:
    return round(100 * (1 - density), 6)  # because 100 * (1 - 0.02) is 98.00000000000001


def _density(sparsity: float) -> float:
    return round(1 - sparsity / 100, 8)
