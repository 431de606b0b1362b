"""Drag along a curve and see every layer's mask, with the numbers that decide whether a network can work."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import traitlets as t
from torch import Tensor

from sparsekit.topology import Topology
from sparsekit.topology.allocation import allocate, check_density
from sparsekit.utils.registry import names
from sparsekit.widgets import mask_encoding, rendering
from sparsekit.widgets.base import load_script
from sparsekit.widgets.mask_encoding import LayerFacts, PackedMask
from sparsekit.widgets.mask_tiles import layer_dicts
from sparsekit.widgets.ranked import RankedScores, Shapes
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state
from sparsekit.widgets.stills import curve_rgba

PRESETS: dict[str, dict[str, Any]] = {
    "Try 90 %": {"density": 0.1},
    "Try 98 % ERK": {"density": 0.02, "allocation": "erk"},
    "Try 99.5 % uniform": {"density": 0.005, "allocation": "uniform"},
}
CHOICE = ("density", "allocation", "score")
MIN_DENSITY = 0.001  # one connection in a thousand, where every score cuts networks in two
PAGE_STEP = 3  # stops of the slider for each that a page without a kernel has, where all of them are measured
NUM_STOPS = 121  # of the slider, so that a key changes the density by 6 %
ROUND = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)  # densities that readers ask for
MAX_TILE = 784  # CSS pixels, where the first layer of an MLP on 28 x 28 images has one pixel per position
Accuracy = Callable[[Topology], float]


class MaskExplorer(SharedWidget):
    """Masks of all layers stand under a curve of accuracy over connections, which is the slider.

    This is a view over the pure function `masks_at(density, allocation, score)`. The browser gets a rank for each
    position once, so it redraws without the kernel. The accuracy of each mask follows from the kernel. Until it comes,
    the figure says *working*. The curve shows sparsity in percent, and code says density.

    Args:
        scores: for each score's name a tensor per layer, shaped like the layer's weight. We keep the highest.
        density: share of weights that exist at first, in [0.001, 1].
        allocation: name of an allocation (`names("allocation")`).
        score: one of the scores' names, or None for the first.
        presets: button text to settings (`density`, `allocation`, `score`).
        accuracy: takes a topology and returns the share of examples that the pruned network classifies, 0 to 1.
            Without it the curves show the density of each layer.
        image: rows and columns of the inputs, or None to take a square if they fill one.
        state: a text that *Copy as code* wrote. It overrides the settings above.

    Raises:
        ValueError: if a name is unknown, a density is impossible, or the scores do not fit each other.

    Example:
        >>> import torch
        >>> from sparsekit.utils.seeds import generator
        >>> weight = torch.randn(64, 64, generator=generator(0, "explorer"))
        >>> explorer = MaskExplorer({"magnitude": {"fc": weight.abs()}}, density=0.1)
        >>> explorer.topology.count
        410
    """

    _esm = load_script("shared", "chart", "copy_code", "layer_rows", "input_map", "mask_explorer")
    layers = t.List(t.Dict()).tag(sync=True)
    ranks = t.List(t.Dict()).tag(sync=True)
    allocations = t.List(t.Unicode()).tag(sync=True)
    densities = t.List(t.Float()).tag(sync=True)
    counts = t.Bytes(b"").tag(sync=True)
    choice = t.Dict().tag(sync=True)
    presets = t.List(t.Dict()).tag(sync=True)
    measured = t.List(t.Dict()).tag(sync=True)
    known = t.List(t.Dict(), help="what a page may show without a kernel").tag(sync=True)
    measures = t.Bool(False).tag(sync=True)
    problem = t.Unicode("").tag(sync=True)
    image = t.List(t.Int()).tag(sync=True)
    shares = ("choice",)

    def __init__(
        self,
        scores: Mapping[str, Mapping[str, Tensor]],
        *,
        density: float = 0.1,
        allocation: str = "erk",
        score: str | None = None,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        accuracy: Accuracy | None = None,
        image: tuple[int, int] | None = None,
        state: str = "",
    ):
        self._ranked, self._accuracy = RankedScores(scores), accuracy
        self._still_points: dict[tuple[float, str, str], float] = {}
        first = {"density": density, "allocation": allocation, "score": score or self._ranked.names[0]}
        settings = read_state(state, first)
        buttons = [{"text": text, **one} for text, one in (PRESETS if presets is None else presets).items()]
        asked = [settings["density"], *(one["density"] for one in buttons if "density" in one)]
        self._ranked.packed_masks_at(**settings)  # because settings that cannot be are refused before anything is shown
        shapes, densities = self._ranked.shapes, _stops(self._ranked.shapes, asked)
        super().__init__(
            **self._data(densities),
            choice=settings,
            presets=buttons,
            measures=accuracy is not None,
            image=list(image or _square(next(iter(shapes.values())))),
        )
        self._measure()
        self.observe(self._on_choice, "choice")

    def _data(self, densities: list[float]) -> dict[str, Any]:
        """Return what the browser needs to make any mask."""
        shapes, allocations = self._ranked.shapes, names("allocation")
        return {
            "layers": layer_dicts(shapes, _tile_size),
            "ranks": [{"name": name, "bytes": self._ranked.rank_bytes(name)} for name in self._ranked.names],
            "allocations": allocations,
            "densities": densities,
            "counts": _count_bytes(shapes, allocations, densities),
        }

    def masks_at(self, density: float, allocation: str, score: str) -> Topology:
        """Return the topology for any settings, whatever the figure shows."""
        return self._ranked.topology_at(density, allocation, score)

    def choose(self, *, density: float | None = None, allocation: str | None = None, score: str | None = None) -> None:
        """Move the figure from code. What is None stays.

        Raises:
            ValueError: if a name is unknown or the density is impossible. Then everything stays.
        """
        changes = {"density": density, "allocation": allocation, "score": score}
        choice = {**self.choice, **{name: value for name, value in changes.items() if value is not None}}
        self._ranked.packed_masks_at(**choice)
        with self.hold_sync():
            if choice["density"] not in self.densities:
                densities = sorted({*self.densities, choice["density"]}, reverse=True)
                self.counts = _count_bytes(self._ranked.shapes, self.allocations, densities)
                self.densities = densities
            self.choice = choice

    @property
    def density(self) -> float:
        """The share of weights that the figure shows, 0 to 1."""
        return self.choice["density"]

    @property
    def topology(self) -> Topology:
        """The topology that the masks show."""
        return self._ranked.topology_at(**self.choice)

    @property
    def facts(self) -> list[LayerFacts]:
        """The numbers of each layer."""
        return mask_encoding.all_facts(self._masks())

    @property
    def accuracy(self) -> float | None:
        """The accuracy of what the figure shows, or None where it was not measured."""
        return next((one["accuracy"] for one in self.measured if _is_of(one, self.choice)), None)

    def sentence(self) -> str:
        """Say what is chosen and what it leaves."""
        sparsity, choice = round(100 * (1 - self.density), 6), self.choice
        accuracy = "" if self.accuracy is None else f" It classifies {self.accuracy:.1%} correctly."
        text = mask_encoding.describe(self.facts)
        return f"{sparsity:g} % sparsity, {choice['allocation']}, {choice['score']} scores: {text}{accuracy}"

    def snapshot(self) -> StaticImage:
        """Draw the masks and the table as they are now."""
        masks, facts = self._masks(), self.facts
        table = [list(mask_encoding.TABLE_HEAD), *mask_encoding.table_rows(facts)]
        accuracy = "" if self.accuracy is None else f", {self.accuracy:.1%} correct"
        parts = [
            rendering.text([self.sentence().partition(":")[0] + accuracy], bold=1),
            *self._still_curves(),
            rendering.tiles(masks, [mask_encoding.caption(one) for one in facts]),
            rendering.columns(table),
        ]
        return StaticImage(rendering.png(rendering.stack(parts)), self.sentence())

    def _still_curves(self) -> list[rendering.Rgba]:
        """Draw what was measured, and for the score that is shown also the densities that readers ask for."""
        if self._accuracy is None or self.accuracy is None:
            return []
        kind = self.choice["allocation"], self.choice["score"]
        for density in ROUND:
            if (density, *kind) not in self._still_points:
                self._still_points[density, *kind] = float(self._accuracy(self.masks_at(density, *kind)))
        points = {(one["density"], one["allocation"], one["score"]): one["accuracy"] for one in self.measured}
        lines: dict[str, list[tuple[float, float]]] = {}
        for (density, allocation, score), accuracy in {**self._still_points, **points}.items():
            if allocation == self.choice["allocation"]:
                lines.setdefault(score, []).append((density, accuracy))
        lines = {score: sorted(line, reverse=True) for score, line in lines.items()}
        ticks = {density: f"{100 * (1 - density):g} %" for density in (1, *ROUND, MIN_DENSITY)}
        point = (self.density, self.accuracy)
        names_of_axes = {"x": "sparsity", "y": "test accuracy"}
        return [curve_rgba(lines, self.choice["score"], point, ticks=ticks, is_log=True, **names_of_axes)]

    def complete(self) -> None:
        """Measure at fewer stops of the slider, all of them, and shrink the ranks to what these stops need."""
        choices = [self.choice, *({**self.choice, **preset} for preset in self.presets)]
        densities = sorted({*self.densities[::PAGE_STEP], *ROUND, *(one["density"] for one in choices)}, reverse=True)
        counts = _count_bytes(self._ranked.shapes, self.allocations, densities)
        table = np.frombuffer(counts, dtype="<i4").reshape(-1, len(self.layers))
        names = self._ranked.names
        stops = [{"name": name, "bytes": b"", "stops": self._ranked.stop_bytes(name, table)} for name in names]
        known = itertools.product(densities, self.allocations, names) if self._accuracy else ()
        with self.hold_sync():
            self.counts, self.densities, self.ranks = counts, densities, stops
            self.known = [self._measured_at(dict(zip(CHOICE, one, strict=True))) for one in known]

    def _measured_at(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        assert self._accuracy is not None
        return {**choice, "accuracy": float(self._accuracy(self._ranked.topology_at(**choice)))}

    def _masks(self) -> dict[str, PackedMask]:
        return self._ranked.packed_masks_at(**self.choice)

    def _on_choice(self, _change: Any) -> None:
        """Measure what the browser asks for. An error is shown, because nobody would hear of it here."""
        try:
            self._measure()
            self.problem = ""
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def _measure(self) -> None:
        choice = dict(self.choice)
        if self._accuracy is not None and self.accuracy is None:
            self.measured = [*self.measured, self._measured_at(choice)]


def _is_of(one: Mapping[str, Any], choice: Mapping[str, Any]) -> bool:
    return all(one[name] == choice[name] for name in CHOICE)


def _stops(shapes: Shapes, asked: Iterable[float]) -> list[float]:
    """Return the densities of the slider, from all connections to few, each of which leaves one at least."""
    grid = {round(float(density), 6) for density in np.geomspace(1, MIN_DENSITY, NUM_STOPS)}
    for density in asked:
        check_density(density)
    stops = sorted({*grid, *ROUND, *asked}, reverse=True)
    size = sum(math.prod(shape) for shape in shapes.values())
    return [stop for stop in stops if round(stop * size) >= 1]


def _count_bytes(shapes: Shapes, allocations: Iterable[str], densities: Iterable[float]) -> bytes:
    """Return the connections of each layer as 32-bit integers, one density after the other in each allocation."""
    counts = [
        list(allocate(shapes, density, allocation).values()) for allocation in allocations for density in densities
    ]
    return np.array(counts, dtype="<i4").tobytes()


def _tile_size(rows: int, cols: int) -> tuple[int, int]:
    """Return the pixels of a layer, which are one for each position up to a limit, and more if it is small."""
    if max(rows, cols) <= 256:
        return mask_encoding.tile_size(rows, cols, 256)
    scale = min(1.0, MAX_TILE / max(rows, cols))
    return max(28, round(cols * scale)), max(28, round(rows * scale))


def _square(shape: tuple[int, ...]) -> tuple[int, ...]:
    side = math.isqrt(shape[1])
    return (side, side) if len(shape) == 2 and side * side == shape[1] and side > 1 else ()
