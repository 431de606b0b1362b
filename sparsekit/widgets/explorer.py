"""Move a sparsity slider and see every layer's mask, with the numbers that decide whether a network can work."""

from collections.abc import Mapping
from typing import Any

import ipywidgets
from torch import Tensor

from sparsekit.topology import Topology
from sparsekit.utils.registry import names
from sparsekit.widgets import mask_encoding, rendering
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.mask_encoding import Bits, LayerFacts
from sparsekit.widgets.mask_tiles import LayerTable, MaskTiles
from sparsekit.widgets.ranked import RankedScores
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import StaticPreview

PRESETS: dict[str, dict[str, Any]] = {
    "Try 90 %": {"density": 0.1},
    "Try 98 % ERK": {"density": 0.02, "allocation": "erk"},
    "Try 99.5 % uniform": {"density": 0.005, "allocation": "uniform"},
}
MOST_SPARSITY = 99.9  # percent; one connection in a thousand, where every score cuts networks in two


class MaskExplorer(StaticPreview):
    """Masks of all layers under a slider for sparsity and lists of allocations and scores.

    A view over the pure function `masks_at(density, allocation, score)`; the slider says sparsity in percent, code
    says density.

    Args:
        scores: for each score's name a tensor per layer, shaped like the layer's weight; higher means keep.
        density: share of weights that exist at first, in [0.001, 1].
        allocation: name of an allocation (`names("allocation")`).
        score: one of the scores' names; None is the first.
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
        self._bits: dict[str, Bits] = {}
        self._show(self._ranked.bits_at(density, allocation, values["score"]))
        self.controls.observe(self._refresh, "values")
        self.presets.on_press(lambda name: self.choose(**self._presets[name]))
        self.view = ipywidgets.VBox([self.controls, self.presets, self.masks, self.table])

    def masks_at(self, density: float, allocation: str, score: str) -> Topology:
        """Return the topology for any settings, whatever the controls say."""
        return self._ranked.topology_at(density, allocation, score)

    def choose(self, *, density: float | None = None, allocation: str | None = None, score: str | None = None) -> None:
        """Set controls from code; what is None stays."""
        chosen = {
            "sparsity": None if density is None else _sparsity(density),
            "allocation": allocation,
            "score": score,
        }
        self.controls.set(**{name: value for name, value in chosen.items() if value is not None})

    @property
    def density(self) -> float:
        """The share of weights that the slider asks for, 0 to 1."""
        return _density(self.controls.values["sparsity"])

    @property
    def topology(self) -> Topology:
        """The topology that is shown."""
        return Topology({name: layer.topology() for name, layer in self._bits.items()})

    @property
    def facts(self) -> list[LayerFacts]:
        """The numbers of each layer that is shown."""
        return mask_encoding.all_facts(self._bits)

    def sentence(self) -> str:
        """Say what is chosen and what it leaves."""
        values = self.controls.values
        return f"{values['sparsity']:g} % sparsity, {values['allocation']}, {values['score']} scores: {self.masks.alt}"

    def snapshot(self) -> Picture:
        """Draw the masks and the table as they are now."""
        parts = [
            rendering.text([self.sentence().partition(":")[0]], bold=1),
            rendering.tiles(self._bits, self.masks.captions),
            rendering.columns([self.table.head, *self.table.rows]),
        ]
        return Picture(rendering.png(rendering.stack(parts)), self.sentence())

    def _refresh(self, _change: Any) -> None:
        values = self.controls.values
        try:
            bits = self._ranked.bits_at(_density(values["sparsity"]), values["allocation"], values["score"])
        except ValueError as problem:  # the last picture that was possible stays
            self.controls.change("sparsity", error=str(problem))
            return
        self._show(bits)
        if self.controls.fields[0]["error"]:
            self.controls.change("sparsity", error="")

    def _show(self, bits: dict[str, Bits]) -> None:
        self._bits = bits
        self.table.show(self.masks.show_bits(bits))

    def _fields(self) -> list[Field]:
        return [
            Field(
                name="sparsity",
                kind="range",
                label="Sparsity",
                low=0,
                high=MOST_SPARSITY,
                step=0.1,
                format="percent",
            ),
            Field(name="allocation", kind="choice", label="Allocation", options=options_of(names("allocation"))),
            Field(name="score", kind="choice", label="Score", options=options_of(self._ranked.names)),
        ]

    def _widget(self) -> ipywidgets.VBox:
        return self.view


def _sparsity(density: float) -> float:
    return round(100 * (1 - density), 6)  # 100 * (1 - 0.02) is 98.00000000000001


def _density(sparsity: float) -> float:
    return round(1 - sparsity / 100, 8)
