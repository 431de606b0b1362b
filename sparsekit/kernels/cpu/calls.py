"""From torch tensors to the compiled kernels of linear and convolutional layers. Everything is feature-major."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels.cpu import conv2d, linear
from sparsekit.kernels.cpu.plans import ConvPlan, Plan
from sparsekit.kernels.cpu.threads import equal_shares, fair_shares, num_threads, run
from sparsekit.kernels.structure import Structure


def linear_forward(
    values: Float[Tensor, " e"],
    structure: Structure,
    bias: Float[Tensor, " o"] | None,
    x_WB: Float[Tensor, "w b"],
    y_OB: Float[Tensor, "o b"],
) -> None:
    """Write `values @ x + bias` to `y`."""
    index, bounds = _shared_out(structure, "rows", lambda: (structure.row_pointers, structure.cols))
    arguments = *index, _array(values), _array(bias), x_WB.numpy(), y_OB.numpy(), x_WB.shape[1]
    run(linear.forward, linear.forward_threaded, arguments, bounds)


def linear_backward(
    values: Float[Tensor, " e"],
    structure: Structure,
    x_WB: Float[Tensor, "w b"],
    g_OB: Float[Tensor, "o b"],
    *,
    needs_input: bool,
) -> tuple[Float[Tensor, "w b"] | None, Float[Tensor, " e"]]:
    """Return the gradients of the input (if needed) and of the values, from one walk over the connections."""
    dx_WB = torch.empty_like(x_WB) if needs_input else None
    dvalues, *room = (torch.empty_like(values) for _ in range(3))
    index, bounds = _shared_out(structure, "columns", lambda: structure.columns)
    arguments = *index, *map(_array, (values, x_WB, g_OB, dx_WB, dvalues, *room)), x_WB.shape[1]
    run(linear.backward, linear.backward_threaded, arguments, bounds)
    return dx_WB, dvalues


def conv2d_forward(
    values: Float[Tensor, " e"],
    structure: Structure,
    bias: Float[Tensor, " o"] | None,
    x_HWCB: Float[Tensor, "h w c b"],
    y_HWOB: Float[Tensor, "h2 w2 o b"],
    unfold: dict,
) -> None:
    """Write the convolution to `y`."""
    plan = _plan(structure, x_HWCB, unfold)
    arguments = tuple(plan.forward), *map(_array, (_ordered(values, plan.forward), bias, x_HWCB, y_HWOB))
    run(conv2d.forward, conv2d.forward_threaded, arguments, equal_shares(plan.out_size[0] * plan.out_size[1]))


def conv2d_backward(
    values: Float[Tensor, " e"],
    structure: Structure,
    x_HWCB: Float[Tensor, "h w c b"],
    g_HWOB: Float[Tensor, "h2 w2 o b"],
    unfold: dict,
    *,
    needs_input: bool,
) -> tuple[Float[Tensor, "h w c b"] | None, Float[Tensor, " e"]]:
    """Return the gradients of the input (if needed) and of the values, from one walk over the pixels."""
    plan = _plan(structure, x_HWCB, unfold)
    dx_HWCB = torch.empty_like(x_HWCB) if needs_input else None
    bounds = equal_shares(plan.in_size[0] * plan.in_size[1])
    sums = values.new_zeros(len(bounds) - 1, values.numel())
    arguments = tuple(plan.backward), *map(_array, (_ordered(values, plan.backward), x_HWCB, g_HWOB, dx_HWCB, sums))
    run(conv2d.backward, conv2d.backward_threaded, arguments, bounds)
    dvalues = torch.empty_like(values)
    dvalues[torch.from_numpy(plan.backward.places)] = sums.sum(0)
    return dx_HWCB, dvalues


def _plan(structure: Structure, x_HWCB: Tensor, unfold: dict) -> ConvPlan:
    height, width, _, batch = x_HWCB.shape
    # One size at a time: a plan is as large as the connections, and sizes seldom change.
    kept: dict[tuple, ConvPlan] = structure.derived("conv2d", dict)
    key = (height, width, batch, *unfold.values())
    if key not in kept:
        kept.clear()
        kept[key] = ConvPlan.of(structure, (height, width), batch, unfold)
    return kept[key]


def _ordered(values: Tensor, plan: Plan) -> Tensor:
    """The values as the plan walks over them: read at random places, they would push activations out of the cache."""
    return values.detach().index_select(0, torch.from_numpy(plan.places))


def _shared_out(structure: Structure, side: str, arrays: Callable) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The index arrays of one side, pointers first, and the bounds of each thread's part."""
    threads = num_threads()

    def make():
        index = tuple(array.numpy() for array in arrays())
        return index, fair_shares(index[0], threads)

    return structure.derived((side, threads), make)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().numpy()
