"""This module makes the compiled kernels operators of torch, for `torch.compile` and `torch.export`.

torch's compiler cannot look into Numba. Of an operator it knows the shape of the result, so the graph around it stays
whole. The operators are functions of tensors alone, a layer's positions among them. After a rewiring they get other
positions, so nothing is compiled again. Without a compiler `functions` is faster, because torch calls operators slowly.

Legend: `B` samples, `W` columns of the unfolded input, `O` outputs, `E` connections.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sparsekit.kernels.checks import check_conv2d, check_gradient, check_is_matrix, check_linear
from sparsekit.kernels.layout import from_rows, new_feature_major, output_size, rows_of
from sparsekit.kernels.positions import as_positions
from sparsekit.kernels.structure import Structure, Traced
from sparsekit.topology import LayerTopology

GEOMETRY = ("kernel_size", "stride", "padding", "dilation")  # a pair each

# From positions to (their version, what we derived from them). An entry goes with its tensor.
_structures = WeakTensorKeyDictionary()


def linear(x: Tensor, values: Tensor, bias: Tensor | None, traced: Traced) -> Tensor:
    """Apply a sparse linear layer to `(B, W)`. The result `(B, O)` is feature-major."""
    return _linear(x, values, bias, traced.indices, traced.shape)


def conv2d(x: Tensor, values: Tensor, bias: Tensor | None, traced: Traced, unfold: dict) -> Tensor:
    """Apply a sparse convolution to `(B, channels, height, width)`. The result is feature-major."""
    geometry = [side for key in GEOMETRY for side in unfold[key]]
    return _conv2d(x, values, bias, traced.indices, traced.shape, traced.groups, geometry)


# --- linear layers ---------------------------------------------------------------------------------------------------


@torch.library.custom_op("sparsekit::linear", mutates_args=())
def _linear(x: Tensor, values: Tensor, bias: Tensor | None, indices: Tensor, shape: Sequence[int]) -> Tensor:
    from sparsekit.kernels.cpu import calls

    structure = _structure(indices, shape)
    check_is_matrix(x)
    check_linear(x, values, bias, structure)
    y_BO, y_OB = new_feature_major(x, x.shape[0], shape[0])
    calls.linear_forward(values, structure, bias, rows_of(x), y_OB, x.shape[0])
    return y_BO


@_linear.register_fake
def _(x, values, bias, indices, shape):
    return new_feature_major(x, x.shape[0], shape[0])[0]


@torch.library.custom_op("sparsekit::linear_backward", mutates_args=())
def _linear_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Tensor, shape: Sequence[int], needs_input: bool
) -> tuple[Tensor, Tensor]:
    from sparsekit.kernels.cpu import calls

    structure = _structure(indices, shape)
    check_is_matrix(x)
    check_linear(x, values, None, structure)
    check_gradient(grad, x, (x.shape[0], structure.num_rows))
    dx_WB, dvalues, _ = calls.linear_backward(
        values, structure, rows_of(x), rows_of(grad), x.shape[0], needs_input=needs_input
    )
    return _or_nothing(dx_WB, x), dvalues


@_linear_backward.register_fake
def _(grad, x, values, indices, shape, needs_input):
    return _input_gradient_like(x, needs_input), torch.empty_like(values)


def _save_linear(ctx, inputs, output) -> None:
    x, values, _, indices, ctx.shape = inputs
    ctx.save_for_backward(x, values, indices)


def _differentiate_linear(ctx, grad):
    needs_input, _, needs_bias, *_ = ctx.needs_input_grad
    dx, dvalues = _linear_backward(grad, *ctx.saved_tensors, ctx.shape, needs_input)
    return dx if needs_input else None, dvalues, grad.sum(0) if needs_bias else None, None, None


_linear.register_autograd(_differentiate_linear, setup_context=_save_linear)


# --- convolutions ----------------------------------------------------------------------------------------------------


@torch.library.custom_op("sparsekit::conv2d", mutates_args=())
def _conv2d(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    indices: Tensor,
    shape: Sequence[int],
    groups: int,
    geometry: Sequence[int],
) -> Tensor:
    from sparsekit.kernels.cpu import calls

    structure, unfold = _structure(indices, shape, groups), _unfold(geometry)
    check_conv2d(x, values, bias, structure, unfold)
    y, y_HWOB = _new_image(x, shape, geometry)
    calls.conv2d_forward(values, structure, bias, rows_of(x), y_HWOB, unfold)
    return y


@_conv2d.register_fake
def _(x, values, bias, indices, shape, groups, geometry):
    return _new_image(x, shape, geometry)[0]


@torch.library.custom_op("sparsekit::conv2d_backward", mutates_args=())
def _conv2d_backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    indices: Tensor,
    shape: Sequence[int],
    groups: int,
    geometry: Sequence[int],
    needs_input: bool,
) -> tuple[Tensor, Tensor]:
    from sparsekit.kernels.cpu import calls

    structure, unfold = _structure(indices, shape, groups), _unfold(geometry)
    size = check_conv2d(x, values, None, structure, unfold)
    check_gradient(grad, x, (x.shape[0], structure.num_rows, *size))
    dx, dvalues = calls.conv2d_backward(values, structure, rows_of(x), rows_of(grad), unfold, needs_input=needs_input)
    return _or_nothing(dx, x), dvalues


@_conv2d_backward.register_fake
def _(grad, x, values, indices, shape, groups, geometry, needs_input):
    return _input_gradient_like(x, needs_input), torch.empty_like(values)


def _save_conv2d(ctx, inputs, output) -> None:
    x, values, _, indices, *ctx.settings = inputs
    ctx.save_for_backward(x, values, indices)


def _differentiate_conv2d(ctx, grad):
    needs_input, _, needs_bias, *_ = ctx.needs_input_grad
    dx, dvalues = _conv2d_backward(grad, *ctx.saved_tensors, *ctx.settings, needs_input)
    dbias = grad.sum((0, 2, 3)) if needs_bias else None
    return dx if needs_input else None, dvalues, dbias, None, None, None, None


_conv2d.register_autograd(_differentiate_conv2d, setup_context=_save_conv2d)


# --- what both need --------------------------------------------------------------------------------------------------


def _structure(indices: Tensor, shape: Sequence[int], groups: int = 1) -> Structure:
    """Return the index arrays of positions, made once for as long as nobody writes to the tensor.

    Raises:
        ValueError: if the positions are unsorted, doubled or out of range.
    """
    key = (indices._version, tuple(shape), groups)
    entry = _structures.get(indices)
    if entry is None or entry[0] != key:
        # We store an alias, because a value that held its own key would keep both alive.
        entry = key, Structure(LayerTopology(tuple(shape), as_positions(indices.detach())), groups)
        _structures[indices] = entry
    return entry[1]


def _unfold(geometry: Sequence[int]) -> dict:
    return dict(zip(GEOMETRY, zip(geometry[::2], geometry[1::2], strict=True), strict=True))


def _new_image(x: Tensor, shape: Sequence[int], geometry: Sequence[int]) -> tuple[Tensor, Tensor]:
    return new_feature_major(x, x.shape[0], shape[0], *output_size(tuple(x.shape[2:]), **_unfold(geometry)))


def _or_nothing(rows: Tensor | None, like: Tensor) -> Tensor:
    """Return an empty tensor instead of None, because an operator must return tensors."""
    return like.new_empty(0) if rows is None else from_rows(rows)


def _input_gradient_like(x: Tensor, needed: bool) -> Tensor:
    return new_feature_major(x, *x.shape)[0] if needed else x.new_empty(0)
