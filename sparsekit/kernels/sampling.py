"""Draw places of a layer in proportion to weights of its inputs and outputs, without a table of all places.

A place is drawn by drawing its output and, among that output's inputs, its input. Both ways below give the same
places bit for bit: plain torch (any device), and loops that need time linear in outputs, inputs and draws.

Legend: `O` outputs, `Q` groups, `F` inputs per output, `M` draws, `E` places that are taken.
"""

from functools import cache
from types import ModuleType

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.topology import LayerTopology

# With fewer draws torch needs about a millisecond, and readers of small examples never wait for a compiler.
LOOPS_FROM = 2**14


def sample_positions(
    inputs: Float[Tensor, "groups f"],
    outputs: Float[Tensor, " o"],
    num_draws: int,
    taken: LayerTopology,
    generator: torch.Generator,
) -> Int64[Tensor, " c"]:
    """Draw places with replacement; return, sorted, those drawn at least once that are not taken.

    A draw falls on `(output, input)` with a probability proportional to `outputs[output] * inputs[group, input]`,
    where the group is the output's. Weights that nothing can be drawn from (all zero, or not finite) count as equal.

    Args:
        inputs: a weight for each input of each group; layers without groups have one.
        outputs: a weight for each output.
        num_draws: how many, with repetitions.
        taken: places that are left out.
        generator: draws from it are the same on every device.

    Example:
        >>> taken = LayerTopology((2, 3), torch.tensor([0]))
        >>> draws = torch.Generator().manual_seed(0)
        >>> sample_positions(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([1.0, 0.0]), 20, taken, draws).tolist()
        [1]
    """
    rows, places = _draw(inputs, outputs, num_draws, generator)
    loops = _loops(places)
    if loops is None:
        distinct = torch.unique(places)
        return distinct[taken.position_of(distinct) < 0]
    return torch.from_numpy(loops.distinct_outside(places.numpy(), rows.numpy(), taken.indices.numpy()))


def _draw(inputs: Tensor, outputs: Tensor, num_draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the output of each draw, in increasing order, and its place."""
    inputs_QF, outputs_O = _usable(inputs), _usable(outputs)
    edges_QF = inputs_QF.cumsum(1)
    per_group = len(outputs) // len(inputs)
    weights_O = outputs_O * edges_QF[:, -1].repeat_interleave(per_group)
    if not bool(weights_O.any()):  # the outputs that count read none of the inputs that count
        return _draw(torch.ones_like(inputs_QF), torch.ones_like(outputs_O), num_draws, generator)
    edges_O = weights_O.cumsum(0)
    rows_M = _count_up_to(edges_O / edges_O[-1], _sorted_uniforms(num_draws, generator).to(outputs.device))
    groups_M = rows_M // per_group
    # Group q lies between q and q + 1, so that one search serves all groups.
    start_Q = torch.arange(len(inputs), device=inputs.device)
    totals_Q = edges_QF[:, -1:]
    edges_W = (start_Q[:, None] + edges_QF / torch.where(totals_Q > 0, totals_Q, 1)).flatten()
    last_Q = torch.searchsorted(edges_W, (start_Q + 1).double())
    columns_M = _count_up_to(edges_W, groups_M + _uniforms(num_draws, generator).to(inputs.device), is_sorted=False)
    columns_M = torch.minimum(columns_M, last_Q[groups_M])  # a sum may be rounded up to the end of its group
    num_inputs = inputs.shape[1]
    return rows_M, rows_M * num_inputs + columns_M - groups_M * num_inputs


def _usable(weights: Tensor) -> Tensor:
    """Shares of the total in double precision, made equal where nothing can be drawn from the weights."""
    weights = weights.double()
    total = weights.sum()
    return weights / total if bool(total.isfinite() & (total > 0)) else torch.full_like(weights, 1 / weights.numel())


def _uniforms(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)


def _sorted_uniforms(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in increasing order, without sorting: sums of exponential gaps.

    Source: Devroye (1986), Non-Uniform Random Variate Generation, section V.3.1.
    """
    sums = -torch.log1p(-_uniforms(count + 1, generator)).cumsum(0)
    return sums[:-1] / sums[-1]


def _count_up_to(edges: Tensor, points: Tensor, *, is_sorted: bool = True) -> Tensor:
    """For each point the number of edges at or below it: which interval it lies in; the last edge counts never."""
    loops = _loops(points)
    if loops is None:
        found = torch.searchsorted(edges, points, right=True)
    else:
        find = loops.count_sorted if is_sorted else loops.count_indexed
        found = torch.from_numpy(find(edges.numpy(), points.numpy()))
    last = torch.searchsorted(edges, edges[-1:])
    return torch.minimum(found, last)


def _loops(like: Tensor) -> ModuleType | None:
    """The compiled loops where they help and work, else None."""
    return _compiled() if like.device.type == "cpu" and like.numel() >= LOOPS_FROM else None


@cache
def _compiled() -> ModuleType | None:
    try:
        from sparsekit.kernels import sampling_loops
    except (ImportError, RuntimeError):  # no numba, or no folder that it could keep compiled code in
        return None
    return sampling_loops
