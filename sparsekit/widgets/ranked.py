"""Rank every score once, so that a move of the slider costs one comparison per position."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from sparsekit.topology import Topology
from sparsekit.topology.allocation import allocate
from sparsekit.widgets.mask_encoding import PackedMask, pack

Scores = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


class RankedScores:
    """This is a pure function `(density, allocation, score) -> masks` over fixed scores, for many calls.

    It gives exactly what `keep_top_per_layer(scores[score], allocate(shapes, density, allocation))` gives, ties
    included, without sorting or listing positions again. It ranks a score at the first call that needs it.

    Args:
        scores: for each score's name a tensor per layer, shaped like the layer's weight. We keep the highest.

    Raises:
        ValueError: if there is no score or layer, the scores name different layers or shapes, or one holds a NaN.

    Example:
        >>> ranked = RankedScores({"magnitude": {"fc": torch.tensor([[0.1, 0.9], [0.5, 0.3]])}})
        >>> ranked.topology_at(0.5, "uniform", "magnitude")["fc"].indices.tolist()
        [1, 2]
    """

    def __init__(self, scores: Mapping[str, Scores]):
        self.shapes = _common_shapes(scores)
        self.names = list(scores)
        self._scores = {name: {layer: _plain(score) for layer, score in s.items()} for name, s in scores.items()}
        self._ranks: dict[str, dict[str, Int32[np.ndarray, "o f"]]] = {}

    def packed_masks_at(self, density: float, allocation: str, score: str) -> dict[str, PackedMask]:
        """Return the packed mask of every layer.

        Args:
            density: share of all weights that exist, in (0, 1].
            allocation: name of an allocation, for example `"erk"`.
            score: one of `names`.

        Raises:
            ValueError: if the density is outside (0, 1] or a name is unknown.
        """
        ranks = self._ranks_of(score)
        counts = allocate(self.shapes, density, allocation)
        return {layer: pack(self.shapes[layer], rank < counts[layer]) for layer, rank in ranks.items()}

    def topology_at(self, density: float, allocation: str, score: str) -> Topology:
        """Return the same as a topology, with arguments and errors as for `packed_masks_at`."""
        layers = self.packed_masks_at(density, allocation, score)
        return Topology({name: layer.topology() for name, layer in layers.items()})

    def rank_bytes(self, score: str) -> bytes:
        """Return every layer's ranks one after the other, as 32-bit integers for the browser.

        A position is kept if its rank lies below its layer's count.
        """
        return b"".join(rank.astype("<i4").tobytes() for rank in self._ranks_of(score).values())

    def stop_bytes(self, score: str, counts: Int32[np.ndarray, "stops layers"]) -> bytes:
        """Return at which stop each position goes, as 16-bit integers, which is all that some stops need of the ranks.

        Args:
            score: one of `names`.
            counts: how many connections each layer keeps at each stop.
        """
        ranks = self._ranks_of(score).values()
        levels = [
            np.searchsorted(np.unique(column), rank.ravel(), side="right")
            for column, rank in zip(counts.T, ranks, strict=True)
        ]
        return np.concatenate(levels).astype("<u2").tobytes()

    def _ranks_of(self, score: str) -> dict[str, Int32[np.ndarray, "o f"]]:
        if score not in self._scores:
            raise ValueError(f"score must be one of {', '.join(self.names)}, got {score!r}. Choose one of them")
        if score not in self._ranks:
            self._ranks[score] = {layer: _rank(tensor) for layer, tensor in self._scores[score].items()}
        return self._ranks[score]


def _rank(score: Tensor) -> Int32[np.ndarray, "o f"]:
    """Return for each position how many rank above it. Equal scores stand in the order of their positions."""
    order = torch.argsort(score.flatten(), descending=True, stable=True)
    rank = torch.empty(order.numel(), dtype=torch.int32)
    rank[order] = torch.arange(order.numel(), dtype=torch.int32)
    return rank.view(score.shape[0], -1).numpy()


def _plain(score: Tensor) -> Tensor:
    if bool(score.isnan().any()):
        raise ValueError("scores must be numbers, got NaN. Look for an infinite loss or gradient before ranking")
    return score.detach().cpu()


def _common_shapes(scores: Mapping[str, Scores]) -> dict[str, tuple[int, ...]]:
    shapes = {name: {layer: tuple(score.shape) for layer, score in s.items()} for name, s in scores.items()}
    if not shapes or not next(iter(shapes.values())):
        raise ValueError(
            "there must be at least one score with one layer, got none. Give {'magnitude': {layer: tensor}}"
        )
    first_name, first = next(iter(shapes.items()))
    for name, other in shapes.items():
        if other != first:
            raise ValueError(
                f"all scores must have the same layers and shapes, got {first} for {first_name!r}, {other} for {name!r}"
            )
    return first
