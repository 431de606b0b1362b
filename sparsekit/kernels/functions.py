"""This module gives the kernels their gradients: sparse linear and sparse 2-D convolution as autograd functions.

Each comes twice: with the compiled kernels, feature-major (`_Fast...`), and with the reference kernels (`_Plain...`).

Legend: `B` samples, `N` samples times pixels, `O` outputs, `W` columns of the unfolded input, `E` connections.
Values may have further dimensions of size 1, as a layer's parameter has.
"""

import functools
import math
from collections.abc import Iterator
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels import backend, operators
from sparsekit.kernels.checks import check_conv2d, check_gradient, check_linear
from sparsekit.kernels.first_order import first_derivatives_only
from sparsekit.kernels.layout import (
    in_layout,
    is_feature_major,
    new_feature_major,
    output_size,
    rows_and_layout,
    rows_of,
)
from sparsekit.kernels.reference import sampled_outer, spmm, spmm_transposed
from sparsekit.kernels.structure import Structure, Traced
from sparsekit.utils.memory import keep_freed_memory

# Unfolding repeats every input kernel-size times, so we take samples in parts of at most so many numbers (64 MiB).
UNFOLDED_NUMBERS = 2**24

# Below this share of the rows' positions, computing each entry is faster than a dense product of which only some
# entries are needed.
SINGLE_BELOW = 1 / 4


def sparse_linear(
    x: Float[Tensor, "..."], values: Float[Tensor, " e *ones"], structure: Structure | Traced, bias: Tensor | None
) -> Float[Tensor, "*batch outputs"]:
    """Apply a sparse linear layer to samples in the last dimension, with gradients for connections only.

    On a CPU the result is feature-major (see `layout`). The input should be as well, or it is transposed first.

    Raises:
        ValueError: if the input has not as many features as the layer reads, there is not one value per connection or
            one bias per output, or the types differ.
    """
    check_linear(x, values, bias, structure)
    x_NW = x if x.dim() == 2 else x.reshape(-1, structure.width)
    if isinstance(structure, Traced):
        y_NO = operators.linear(x_NW, values.flatten(), bias, structure)
    elif backend.is_fast(x):
        y_NO = _FastLinear.apply(x_NW, values, bias, structure)
    else:
        backend.say_where(x.device)
        y_NO = _PlainLinear.apply(x_NW, values.flatten(), structure)
        y_NO = y_NO if bias is None else y_NO + bias
    return y_NO if x.dim() == 2 else y_NO.reshape(*x.shape[:-1], structure.num_rows)


def sparse_conv2d(
    x: Float[Tensor, "b channels height width"],
    values: Float[Tensor, " e *ones"],
    structure: Structure | Traced,
    bias: Tensor | None,
    unfold: dict,
) -> Float[Tensor, "b outputs out_height out_width"]:
    """Apply a sparse convolution. On a CPU the result is feature-major, as in `sparse_linear`.

    Args:
        unfold: `kernel_size`, `stride`, `padding`, `dilation`, each a pair, as `torch.nn.functional.unfold` takes them.

    Raises:
        ValueError: if the input is no batch of images with as many channels as the layer reads, there is not one value
            per connection or one bias per output, the types differ, or the kernel is larger than the padded image.
    """
    check_conv2d(x, values, bias, structure, unfold)
    if isinstance(structure, Traced):
        return operators.conv2d(x, values.flatten(), bias, structure, unfold)
    if backend.is_fast(x):
        return _FastConv2d.apply(x, values, bias, structure, unfold)
    backend.say_where(x.device)
    y = _PlainConv2d.apply(x, values.flatten(), structure, unfold)
    return y if bias is None else y + bias.view(-1, 1, 1)


def linear_gradient_at(
    x: Float[Tensor, "..."], grad: Float[Tensor, "..."], structure: Structure
) -> Float[Tensor, " e"]:
    """Return the gradient of any connections, existing or not, from a layer's input and output gradient.

    Args:
        x: input of the layer, `(*batch, width)`.
        grad: gradient of its output, `(*batch, outputs)`.
        structure: the connections whose gradient is returned.

    Raises:
        ValueError: if the input has not as many features as the layer reads, or the gradient is not that of its output.
    """
    values = x.new_zeros(structure.num_connections)
    check_linear(x, values, None, structure)
    check_gradient(grad, x, (*x.shape[:-1], structure.num_rows))
    x_NW, g_NO = x.reshape(-1, structure.width), grad.reshape(-1, structure.num_rows)
    if not _has_few(x, structure):
        return sampled_outer(x_NW.T, g_NO.T, structure.rows, structure.cols)
    calls = compiled_calls()
    x_NW, g_NO = in_rows(x_NW)[0], in_rows(g_NO)[0]
    return calls.linear_backward(values, structure, x_NW, g_NO, len(x_NW), needs_input=False)[1]


def conv2d_gradient_at(
    x: Float[Tensor, "..."], grad: Float[Tensor, "..."], structure: Structure, unfold: dict
) -> Float[Tensor, " e"]:
    """Return the same for a convolution of images. For few connections nothing is unfolded."""
    values = x.new_zeros(structure.num_connections)
    size = check_conv2d(x, values, None, structure, unfold)
    check_gradient(grad, x, (len(x), structure.num_rows, *size))
    if not _has_few(x, structure):
        g_ON = grad.flatten(2).transpose(0, 1).flatten(1)
        return sampled_outer(unfold_columns_first(x, unfold), g_ON, structure.rows, structure.cols)
    return compiled_calls().conv2d_backward(values, structure, rows_of(x), rows_of(grad), unfold, needs_input=False)[1]


def _has_few(x: Tensor, structure: Structure) -> bool:
    """Return whether computing single connections is faster than cutting them out of products of matrices."""
    rows, count = structure.rows, structure.num_connections
    if x.device.type != "cpu" or count == 0:
        return False
    is_few = count < SINGLE_BELOW * structure.width * (int(rows[-1]) - int(rows[0]) + 1)
    return is_few and backend.is_fast(x)  # comes last, because it loads Numba


@functools.cache
def compiled_calls() -> ModuleType:
    """Return the module that calls the compiled kernels, which is imported once, as it loads Numba."""
    from sparsekit.kernels.cpu import calls

    keep_freed_memory()
    return calls


class _FastLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_BW: Tensor, values_E: Tensor, bias_O: Tensor | None, structure: Structure) -> Tensor:
        calls = compiled_calls()
        x_BW, ctx.x_layout = in_rows(x_BW)
        ctx.save_for_backward(x_BW, values_E)
        ctx.structure, batch = structure, x_BW.shape[0]
        y_BO = torch.empty_strided((batch, structure.num_rows), (1, batch), dtype=x_BW.dtype)
        calls.linear_forward(values_E, structure, bias_O, x_BW, y_BO, batch)
        return y_BO

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad_BO: Tensor):
        calls = compiled_calls()
        x_BW, values_E = ctx.saved_tensors
        x_BW, g_BO = in_rows(x_BW)[0], in_rows(grad_BO)[0]  # hooks on saved tensors may return another layout
        batch, (needs_input, _, needs_bias, _) = x_BW.shape[0], ctx.needs_input_grad
        dx, dvalues, dbias = calls.linear_backward(
            values_E, ctx.structure, x_BW, g_BO, batch, needs_input=needs_input, needs_bias=needs_bias
        )
        return dx if dx is None or ctx.x_layout == "rows" else in_layout(dx.T, ctx.x_layout), dvalues, dbias, None


def in_rows(x: Tensor) -> tuple[Tensor, str]:
    """Return a matrix as it is if it is feature-major, else a feature-major copy, and the layout it had."""
    if is_feature_major(x) and not x.is_neg():  # whose sign torch has not written yet
        return x, "rows"
    rows, layout = rows_and_layout(x)
    return rows.T, layout


class _FastConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, values_E: Tensor, bias_O: Tensor | None, structure: Structure, unfold: dict) -> Tensor:
        calls = compiled_calls()
        x_HWCB, ctx.x_layout = rows_and_layout(x)
        ctx.save_for_backward(x_HWCB, values_E)
        ctx.structure, ctx.unfold = structure, unfold
        y, y_HWOB = new_feature_major(x, len(x), structure.num_rows, *output_size(tuple(x.shape[2:]), **unfold))
        calls.conv2d_forward(values_E, structure, bias_O, x_HWCB, y_HWOB, unfold)
        return y

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        calls = compiled_calls()
        x_HWCB, values_E = ctx.saved_tensors
        g, (needs_input, _, needs_bias, _, _) = rows_of(grad), ctx.needs_input_grad
        dx, dvalues = calls.conv2d_backward(values_E, ctx.structure, x_HWCB, g, ctx.unfold, needs_input=needs_input)
        dx = None if dx is None else in_layout(dx, ctx.x_layout)
        return dx, dvalues, g.sum((0, 1, 3)) if needs_bias else None, None, None


class _PlainLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_NW: Tensor, values_E: Tensor, structure: Structure) -> Tensor:
        ctx.save_for_backward(x_NW, values_E)
        ctx.structure = structure
        return spmm(values_E, structure, x_NW.T).T

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad_NO: Tensor):
        x_NW, values_E = ctx.saved_tensors
        s = ctx.structure
        dx = spmm_transposed(values_E, s, grad_NO.T).T if ctx.needs_input_grad[0] else None
        dv = sampled_outer(x_NW.T, grad_NO.T, s.rows, s.cols) if ctx.needs_input_grad[1] else None
        return dx, dv, None


class _PlainConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, values_E: Tensor, structure: Structure, unfold: dict) -> Tensor:
        ctx.save_for_backward(x, values_E)
        ctx.structure, ctx.unfold = structure, unfold
        height, width = output_size(tuple(x.shape[2:]), **unfold)
        shape = (structure.num_rows, height * width)
        parts = [_fold_rows(spmm(values_E, structure, cols), len(part), *shape) for part, cols in _parts(x, unfold)]
        return torch.cat(parts).unflatten(2, (height, width))

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        x, values_E = ctx.saved_tensors
        dx, dv = [], torch.zeros_like(values_E)
        grads = grad.flatten(2).split(_samples_at_once(x, ctx.unfold))
        shape = (ctx.structure.width, math.prod(grad.shape[2:]))
        for (part, cols_WN), g in zip(_parts(x, ctx.unfold), grads, strict=True):
            g_ON = g.transpose(0, 1).flatten(1)
            if ctx.needs_input_grad[1]:
                dv += sampled_outer(cols_WN, g_ON, ctx.structure.rows, ctx.structure.cols)
            if ctx.needs_input_grad[0]:
                unfolded = _fold_rows(spmm_transposed(values_E, ctx.structure, g_ON), len(part), *shape)
                dx.append(F.fold(unfolded, tuple(x.shape[2:]), **ctx.unfold))
        return torch.cat(dx) if dx else None, dv, None, None


def unfold_columns_first(x: Tensor, unfold: dict) -> Tensor:
    """Unfold an image batch to `(W, N)`: one row per kernel position and channel."""
    return F.unfold(x, **unfold).transpose(0, 1).flatten(1)


def _parts(x: Tensor, unfold: dict) -> Iterator[tuple[Tensor, Tensor]]:
    for part in x.split(_samples_at_once(x, unfold)):
        yield part, unfold_columns_first(part, unfold)


def _samples_at_once(x: Tensor, unfold: dict) -> int:
    height, width = output_size(tuple(x.shape[2:]), **unfold)
    kernel_height, kernel_width = unfold["kernel_size"]
    per_sample = x.shape[1] * kernel_height * kernel_width * height * width
    return max(1, UNFOLDED_NUMBERS // max(1, per_sample))


def _fold_rows(rows_by_N: Tensor, samples: int, rows: int, pixels: int) -> Tensor:
    """Turn `(rows, samples * pixels)` into `(samples, rows, pixels)`."""
    return rows_by_N.view(rows, samples, pixels).transpose(0, 1)
