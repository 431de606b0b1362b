"""This module hands torch tensors to the compiled kernels of linear and conv layers. Everything is feature-major."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels.cpu import conv2d, linear
from sparsekit.kernels.cpu.plans import ConvPlan, Plan
from sparsekit.kernels.cpu.threads import equal_shares, fair_shares, num_threads, run
from sparsekit.kernels.structure import Structure

# Numbers in a cache line. Where a part has as many in each row, its neighbour reaches the shared cache line much later,
# so parts can write to the same array.
LINE = 16


def linear_forward(
    values: Float[Tensor, " e *ones"],
    structure: Structure,
    bias: Float[Tensor, " o"] | None,
    x_WB: Float[Tensor, "w b"],
    y_OB: Float[Tensor, "o b"],
) -> None:
    """Write `values @ x + bias` to `y`."""
    index, bounds = _by_rows(structure)
    arguments = *index, _flat(values), _array(bias), x_WB.numpy(), y_OB.numpy(), x_WB.shape[1]
    run(linear.forward, linear.forward_threaded, arguments, bounds)


def linear_backward(
    values: Float[Tensor, " e *ones"],
    structure: Structure,
    x_WB: Float[Tensor, "w b"],
    g_OB: Float[Tensor, "o b"],
    *,
    needs_input: bool,
) -> tuple[Float[Tensor, "w b"] | None, Float[Tensor, " e *ones"]]:
    """Return the gradients of the input (if needed) and of the values, from one walk over the connections."""
    batch, dx_WB = x_WB.shape[1], torch.empty_like(x_WB) if needs_input else None
    index, bounds = _by_columns(structure)
    parts, dvalues = len(bounds) - 1, torch.empty_like(values) if batch else torch.zeros_like(values)
    shares = parts == 1 or values.numel() >= LINE * parts * structure.num_rows
    flat_dvalues = _flat(dvalues)
    partials = flat_dvalues[None] if shares else np.empty((parts, len(flat_dvalues)), flat_dvalues.dtype)
    arguments = *index, _flat(values), x_WB.numpy(), g_OB.numpy(), _array(dx_WB), partials, flat_dvalues, batch
    run(linear.backward, linear.backward_threaded, arguments, bounds)
    return dx_WB, dvalues


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


def _by_rows(structure: Structure) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the index arrays of a walk over the rows, and the bounds of each thread's part."""
    threads = num_threads()

    def make():
        pointers, cols = structure.row_pointers.numpy(), structure.cols.numpy()
        return (pointers, cols), fair_shares(pointers, threads)

    return structure.derived(("rows", threads), make)


def _by_columns(structure: Structure) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the same for a walk over the columns, and where each part's values of each row begin (last, the ends)."""
    threads = num_threads()

    def make():
        pointers, rows, _ = (array.numpy() for array in structure.columns)
        bounds, row_starts = fair_shares(pointers, threads), structure.row_pointers[:-1].numpy()
        before = (rows[: pointers[bound]] for bound in bounds)
        starts = np.stack([row_starts + np.bincount(part_rows, minlength=len(row_starts)) for part_rows in before])
        return (pointers, rows, starts.astype(np.int32)), bounds

    return structure.derived(("columns", threads), make)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().numpy()


def _flat(values: Tensor) -> np.ndarray:
    """Return values without dimensions of size 1, which NumPy drops in a tenth of the time that torch takes."""
    return values.detach().numpy().reshape(-1)
