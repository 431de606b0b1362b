"""For rules that choose within an output or a group of inputs: the weight matrix, a block of rows at a time."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.candidates.all_missing import LARGEST_PART
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import topk_indices
from sparsekit.topology.sorted_sets import true_positions


def row_blocks(layer: LayerTopology) -> Iterator[tuple[int, int]]:
    """Yield `(first row, last row + 1)` of blocks that are much smaller than the layer, or single rows."""
    rows = max(1, min(LARGEST_PART, layer.size // 4) // layer.num_inputs)
    for first in range(0, layer.num_outputs, rows):
        yield first, min(first + rows, layer.num_outputs)


def indices_in(layer: LayerTopology, first: int, last: int) -> Int64[Tensor, " k"]:
    """Return the positions of the connections of some rows, found by bisection."""
    ends = torch.tensor([first, last], device=layer.indices.device) * layer.num_inputs
    start, stop = torch.searchsorted(layer.indices, ends).tolist()
    return layer.indices[start:stop]


def kept_first(view: LayerView, survivors: LayerTopology, first: int, last: int) -> Float[Tensor, "rows f"]:
    """Return scores for the positions of some rows: survivors by magnitude in (1, 2], others by gradient in [0, 1].

    So the highest scores belong to survivors, before anything new.
    """
    positions = torch.arange(first * survivors.num_inputs, last * survivors.num_inputs, device=survivors.indices.device)
    scores = _to_one(view.grad_at(positions).abs().double())
    inside = indices_in(survivors, first, last)
    values = _to_one(view.values[view.topology.position_of(inside)].abs().double())
    scores[inside - first * survivors.num_inputs] = 1.5 + values / 2
    return scores.view(last - first, survivors.num_inputs)


def strongest(view: LayerView, count: int) -> LayerTopology:
    """Return the connections with the largest values."""
    return LayerTopology(view.topology.shape, view.topology.indices[topk_indices(view.values.abs(), count)])


def choose(
    view: LayerView, survivors: LayerTopology, choice: Callable[[Tensor, int], Bool[Tensor, "rows f"]]
) -> LayerTopology:
    """Return the positions that `choice(scores, first row)` marks in each block of rows."""
    chosen = []
    for first, last in row_blocks(survivors):
        marked = choice(kept_first(view, survivors, first, last), first)
        chosen.append(true_positions(marked.flatten()) + first * survivors.num_inputs)
    return LayerTopology(survivors.shape, torch.cat(chosen))


def _to_one(magnitudes: Tensor) -> Tensor:
    """Divide by the largest, so that ranks stay and the range is known."""
    return magnitudes / magnitudes.amax().clamp(min=1e-300) if magnitudes.numel() else magnitudes
