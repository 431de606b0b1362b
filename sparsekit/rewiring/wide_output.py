"""Rewiring of an output layer for very many classes, class by class, at a cost that is linear in their number."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsekit.layers.wide_output import WideOutput
from sparsekit.utils.checks import must_be, number


@torch.no_grad()
def rewire_output(
    output: WideOutput, drop_fraction: float, generator: torch.Generator, optimizer: Optimizer | None = None
) -> int:
    """Swap the weakest connections of each class for its candidates with the largest gradients, and draw new ones.

    A grown connection starts at 0 and with the state that the optimizer has where nothing was trained yet. A class that
    took part in no step since the last rewiring stays as it is, because nothing is known of its candidates.

    Args:
        output: the layer, which is changed in place.
        drop_fraction: share of each class's connections that is exchanged, rounded down.
        generator: the source of the new candidates.
        optimizer: the one that trains the layer, Adagrad, SparseAdam or SGD for example. None if there is none.

    Returns:
        The number of connections grown.

    Raises:
        TypeError: if the layer is no `WideOutput`, or the fraction is no number.
        ValueError: if the fraction is not in [0, 1], or the optimizer does not train the layer. Nothing has changed
            then.

    Example:
        >>> draws = torch.Generator().manual_seed(0)
        >>> output = WideOutput(32, 1000, fan_in=4, generator=draws)
        >>> output.loss(torch.ones(2, 32), torch.tensor([3, 5]), 1000, draws).backward()
        >>> rewire_output(output, 0.5, draws)
        2000

    Source: drop and grow of each class by itself, as Lasby et al. (2023), arXiv:2305.02299, keep a constant fan-in,
        with candidates like those of Heddes et al. (2024), arXiv:2401.06898.
    """
    must_be("output", output, WideOutput, "make one, as in WideOutput(256, 1_000_000, fan_in=32, generator=draws)")
    if not 0 <= number("drop_fraction", drop_fraction) <= 1:
        raise ValueError(f"drop_fraction must lie in [0, 1], got {drop_fraction}. Take 0.3 for example")
    states = [] if optimizer is None else _states(output, optimizer)
    count = min(int(drop_fraction * output.inputs.shape[1]), output.candidates.shape[1])
    grown = sum(_rewire_rows(output, rows, count, states, generator) for rows in output.blocks())
    output.candidate_grads.zero_()
    output.weight.grad = None
    return grown


def _states(output: WideOutput, optimizer: Optimizer) -> list[tuple[Tensor, float]]:
    """Return what an optimizer stores for each weight, and with what it begins."""
    groups = [group for group in optimizer.param_groups if any(one is output.weight for one in group["params"])]
    if not groups:
        raise ValueError(
            "the optimizer must train this layer, got one without its weight. Build it from model.parameters()"
        )
    first = groups[0].get("initial_accumulator_value", 0.0)  # of Adagrad, and all others begin with zeros
    stored = optimizer.state.get(output.weight, {}).values()
    return [(x, float(first)) for x in stored if isinstance(x, Tensor) and x.shape == output.weight.shape]


def _rewire_rows(
    output: WideOutput, rows: Tensor, count: int, states: list[tuple[Tensor, float]], generator: torch.Generator
) -> int:
    """Rewire a block of classes, and return how many connections were grown."""
    gains = output.candidate_grads[rows].abs()
    active = rows[gains.sum(1) > 0]
    if count and len(active):
        best = output.candidate_grads[active].abs().topk(count, dim=1).indices
        weakest = output.weight[active].abs().topk(count, dim=1, largest=False).indices
        at = (active.unsqueeze(1), weakest)
        output.inputs[at] = output.candidates[active].gather(1, best)
        output.weight[at] = 0.0
        for state, first in states:
            state[at] = first
    if len(active):
        output.candidates[active] = _new_candidates(output, active, generator)
    return count * len(active)


def _new_candidates(output: WideOutput, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw features that a class does not look at, each as probable as any other."""
    scores = torch.rand(len(rows), output.features, generator=generator, device=generator.device).to(rows.device)
    scores.scatter_(1, output.inputs[rows].long(), -1.0)
    return scores.topk(output.candidates.shape[1], dim=1).indices.to(output.candidates.dtype)
