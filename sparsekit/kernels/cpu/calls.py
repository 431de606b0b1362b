"""This module hands torch tensors to the compiled kernels of linear and conv layers. Everything is feature-major."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels.cpu import conv2d, linear, walks
from sparsekit.kernels.cpu.addresses import address
from sparsekit.kernels.cpu.plans import ConvPlan, Plan
from sparsekit.kernels.cpu.threads import equal_shares, num_threads, run
from sparsekit.kernels.structure import Structure

# Numbers in a cache line. Where a part has as many in each row, its neighbour reaches the shared cache line much later,
# so parts can write to the same array.
LINE = 16
ZEROS = {torch.float32: np.float32(0), torch.float64: np.float64(0)}  # which tell the kernels their type


def linear_forward(
    values: Float[Tensor, " e *ones"],
    structure: Structure,
    bias: Float[Tensor, " o"] | None,
    x: Tensor,
    y: Tensor,
    batch: int,
) -> None:
    """Write `values @ x + bias` to `y`. Both are feature-major, whether they are given as rows or as batches."""
    walk, values = _walk(structure, walks.by_rows), values.contiguous()
    bias = None if bias is None else (bias if bias.dtype is x.dtype else bias.to(x.dtype)).contiguous()
    arguments = walk.numbers, ZEROS[y.dtype], address(values), _at(bias), address(x), address(y), batch
    run(linear.forward, linear.forward_threaded, arguments, walk.bounds)


def linear_backward(
    values: Float[Tensor, " e *ones"],
    structure: Structure,
    x: Tensor,
    g: Tensor,
    batch: int,
    *,
    needs_input: bool,
    needs_bias: bool = False,
) -> tuple[Tensor | None, Float[Tensor, " e *ones"], Float[Tensor, " o"] | None]:
    """Return the gradients of the input, which lies as `x` does, of the values and of the bias, from one walk.

    Those of the input and of the bias are None unless they are needed.
    """
    walk, values = _walk(structure, walks.by_columns), values.contiguous()
    dx = torch.empty_like(x) if needs_input else None  # which has the same strides
    dvalues = torch.empty_like(values) if batch else torch.zeros_like(values)
    dbias = torch.empty(structure.num_rows, dtype=x.dtype) if needs_bias else None
    parts, count = len(walk.bounds) - 1, structure.num_connections
    shares = parts == 1 or count >= LINE * parts * structure.num_rows
    partials = dvalues if shares else dvalues.new_empty(parts, count)
    arguments = (
        walk.numbers, ZEROS[x.dtype], address(values), address(x), address(g), None if dx is None else address(dx),
        address(partials), 0 if shares else count, address(dvalues), _at(dbias), batch,
    )  # fmt: skip
    run(linear.backward, linear.backward_threaded, arguments, walk.bounds)
    return dx, dvalues, dbias


def conv2d_forward(
    values: Float[Tensor, " e *ones"],
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
    values: Float[Tensor, " e *ones"],
    structure: Structure,
    x_HWCB: Float[Tensor, "h w c b"],
    g_HWOB: Float[Tensor, "h2 w2 o b"],
    unfold: dict,
    *,
    needs_input: bool,
) -> tuple[Float[Tensor, "h w c b"] | None, Float[Tensor, " e *ones"]]:
    """Return the gradients of the input (if needed) and of the values, from one walk over the pixels."""
    plan = _plan(structure, x_HWCB, unfold)
    dx_HWCB = torch.empty_like(x_HWCB) if needs_input else None
    bounds = equal_shares(plan.in_size[0] * plan.in_size[1])
    sums = values.new_zeros(len(bounds) - 1, values.numel())
    arguments = tuple(plan.backward), *map(_array, (_ordered(values, plan.backward), x_HWCB, g_HWOB, dx_HWCB, sums))
    run(conv2d.backward, conv2d.backward_threaded, arguments, bounds)
    dvalues = torch.empty_like(values)
    dvalues.view(-1)[torch.from_numpy(plan.backward.value_index)] = sums.sum(0)
    return dx_HWCB, dvalues


def _plan(structure: Structure, x_HWCB: Tensor, unfold: dict) -> ConvPlan:
    height, width, _, batch = x_HWCB.shape
    # We keep two sizes, a full batch and the last of an epoch, because a plan is as large as the connections. The last
    # one used comes last. Between any two lines another thread may use the same layer with other sizes.
    plans: dict[tuple, ConvPlan] = structure.derived("conv2d", dict)
    key = (height, width, batch, *unfold.values())
    plan = plans.pop(key, None) or ConvPlan.of(structure, (height, width), batch, unfold)
    plans[key] = plan
    for old in list(plans)[:-2]:
        plans.pop(old, None)
    return plan


def _ordered(values: Tensor, plan: Plan) -> Tensor:
    """Return the values in the plan's order, because random reads would push activations out of the cache."""
    return values.detach().index_select(0, torch.from_numpy(plan.value_index)).view(-1)


def _walk(structure: Structure, make: Callable[[Structure, int], walks.Walk]) -> walks.Walk:
    threads = num_threads()
    return structure.derived((make, threads), lambda: make(structure, threads))


def _at(tensor: Tensor | None) -> int:
    """Return where a tensor's numbers begin, which lie one after the other, or 0 for none."""
    return 0 if tensor is None else address(tensor)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().numpy()
