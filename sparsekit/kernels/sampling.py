"""This module samples positions of a layer in proportion to weights of its inputs and outputs, without a full table.

We sample a position by sampling its output and, among that output's inputs, its input. There are two ways, plain torch
(any device) and loops in time linear in outputs, inputs and draws. Both give the same positions bit for bit.

Legend: `O` outputs, `Q` groups, `F` inputs per output, `M` draws, `E` positions that are taken.
"""

from functools import cache
from types import ModuleType

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.topology import LayerTopology

# With fewer draws torch needs about a millisecond, so readers of small examples never wait for a compiler.
LOOPS_FROM = 2**14


def sample_positions(
    inputs: Float[Tensor, "groups f"],
    outputs: Float[Tensor, " o"],
    num_draws: int,
    taken: LayerTopology,
    generator: torch.Generator,
) -> Int64[Tensor, " c"]:
    """Sample positions with replacement, and return, sorted, the distinct ones that are not taken.

    A draw falls on `(output, input)` with a probability proportional to `outputs[output] * inputs[group, input]`,
    where the group is the output's. Weights from which nothing can be sampled (all zero, or not finite) count as equal.

    Args:
        inputs: a weight for each input of each group, where layers without groups have one group.
        outputs: a weight for each output.
        num_draws: number of draws, with repetitions.
        taken: positions that are left out.
        generator: draws from it are the same on every device.

    Example:
        >>> taken = LayerTopology((2, 3), torch.tensor([0]))
        >>> draws = torch.Generator().manual_seed(0)
        >>> sample_positions(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([1.0, 0.0]), 20, taken, draws).tolist()
        [1]
    """
    rows, positions = _draw(inputs, outputs, num_draws, generator)
    loops = _loops(positions)
    if loops is None:
        distinct = torch.unique(positions)
        return distinct[taken.position_of(distinct) < 0]
    return torch.from_numpy(loops.distinct_outside(positions.numpy(), rows.numpy(), taken.indices.numpy()))


def draw_in_turn(
    inputs: Float[Tensor, "groups f"], outputs: Float[Tensor, " o"], num_draws: int, generator: torch.Generator
) -> Int64[Tensor, " m"]:
    """Return the position of each draw in turn, with repetitions, so that any first part is a smaller sample.

    The arguments are those of `sample_positions`.

    Example:
        >>> draws = torch.Generator().manual_seed(0)
        >>> draw_in_turn(torch.tensor([[0.0, 1.0]]), torch.tensor([1.0]), 3, draws).tolist()
        [1, 1, 1]
    """
    _, positions = _draw(inputs, outputs, num_draws, generator)
    return positions[torch.randperm(num_draws, generator=generator, device=generator.device).to(positions.device)]


def _draw(inputs: Tensor, outputs: Tensor, num_draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the output of each draw, in increasing order, and its position."""
    inputs_QF, outputs_O = _usable(inputs), _usable(outputs)
    edges_QF = inputs_QF.cumsum(1)
    per_group = len(outputs) // len(inputs)
    weights_O = outputs_O * edges_QF[:, -1].repeat_interleave(per_group)
    if not bool(weights_O.any()):  # the outputs that count read none of the inputs that count
        return _draw(torch.ones_like(inputs_QF), torch.ones_like(outputs_O), num_draws, generator)
    edges_O = weights_O.cumsum(0)
    rows_M = _count_up_to(edges_O / edges_O[-1], _sorted_uniforms(num_draws, generator).to(outputs.device))
    groups_M = rows_M // per_group
    # Group q lies between q and q + 1, so one search serves all groups.
    start_Q = torch.arange(len(inputs), device=inputs.device)
    totals_Q = edges_QF[:, -1:]
    edges_W = (start_Q[:, None] + edges_QF / torch.where(totals_Q > 0, totals_Q, 1)).flatten()
    last_Q = torch.searchsorted(edges_W, (start_Q + 1).double())
    columns_M = _count_up_to(edges_W, groups_M + _uniforms(num_draws, generator).to(inputs.device), is_sorted=False)
    columns_M = torch.minimum(columns_M, last_Q[groups_M])  # a sum may be rounded up to the end of its group
    num_inputs = inputs.shape[1]
    return rows_M, rows_M * num_inputs + columns_M - groups_M * num_inputs


def _usable(weights: Tensor) -> Tensor:
    """Return shares of the total in double precision, equal ones where nothing can be sampled from the weights."""
    weights = weights.double()
    total = weights.sum()
    return weights / total if bool(total.isfinite() & (total > 0)) else torch.full_like(weights, 1 / weights.numel())


def _uniforms(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)


def _sorted_uniforms(count: int, generator: torch.Generator) -> Tensor:
    """Return uniform numbers in increasing order without sorting, as sums of exponential gaps.

    Source: Devroye (1986), Non-Uniform Random Variate Generation, section V.3.1.
    """
    sums = -torch.log1p(-_uniforms(count + 1, generator)).cumsum(0)
    return sums[:-1] / sums[-1]


def _count_up_to(edges: Tensor, points: Tensor, *, is_sorted: bool = True) -> Tensor:
    """Return how many edges lie at or below each point, which tells its interval. The last edge never counts."""
    loops = _loops(points)
    if loops is None:
        counts = torch.searchsorted(edges, points, right=True)
    else:
        count = loops.count_sorted if is_sorted else loops.count_indexed
        counts = torch.from_numpy(count(edges.numpy(), points.numpy()))
    last = torch.searchsorted(edges, edges[-1:])
    return torch.minimum(counts, last)


def _loops(like: Tensor) -> ModuleType | None:
    """Return the compiled loops where they help and work, else None."""
    return _compiled() if like.device.type == "cpu" and like.numel() >= LOOPS_FROM else None


@cache
def _compiled() -> ModuleType | None:
    try:
        from sparsekit.kernels import sampling_loops
    except (ImportError, RuntimeError):  # no numba, or no folder for its compiled code
        return None
    return sampling_loops
