"""Feature-major tensors: the memory format in which the fast kernels read and write activations.

Like `torch.channels_last` it changes strides, never shapes: `(batch, features)` lies in memory as `(features, batch)`,
and `(batch, channels, height, width)` as `(height, width, channels, batch)`. One connection then meets a whole row of
samples at once. Additions, ReLU and everything else that works element by element keep the format.

Legend: `B` batch, `W` features, `H W C` height, width, channels, `N` height times width.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels import backend

_ROWS = {2: (1, 0), 4: (2, 3, 1, 0)}  # from a tensor's dimensions to their order in memory
_BACK = {2: (1, 0), 4: (3, 2, 0, 1)}


def is_feature_major(x: Tensor) -> bool:
    """Whether a tensor `(B, W)` or `(B, C, H, W)` lies in memory with its batch innermost.

    Example:
        >>> is_feature_major(torch.zeros(3, 5)), is_feature_major(torch.zeros(5, 3).T)
        (False, True)
    """
    return x.dim() in _ROWS and x.permute(_ROWS[x.dim()]).is_contiguous()


def feature_major(x: Float[Tensor, "b *features"]) -> Float[Tensor, "b *features"]:
    """Return the same tensor in feature-major format: itself if it already is, else a copy. Differentiable.

    Args:
        x: `(B, W)` or `(B, C, H, W)`.

    Raises:
        ValueError: if it has another number of dimensions.

    Example:
        >>> x = feature_major(torch.rand(8, 3, 4, 4))
        >>> x.shape, x.stride()
        (torch.Size([8, 3, 4, 4]), (1, 8, 96, 24))
    """
    if x.dim() not in _ROWS:
        raise ValueError(f"feature_major takes (batch, features) or (batch, channels, height, width), got {x.shape}")
    return x if is_feature_major(x) else _FeatureMajor.apply(x)


class _FeatureMajor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.x_layout = layout_of(x)
        y, rows = new_feature_major(x, *x.shape)
        rows.copy_(rows_of(x))
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        return in_layout(rows_of(grad), ctx.x_layout)


def rows_of(x: Tensor) -> Tensor:
    """Return a detached tensor as the kernels read it, contiguous `(W, B)` or `(H, W, C, B)`; copied only if needed."""
    rows = x.detach().permute(_ROWS[x.dim()])
    if rows.is_contiguous():
        return rows
    if backend.is_fast(x):
        from sparsekit.kernels.cpu import copies

        return copies.to_rows(x.detach())
    return rows.contiguous()


def new_feature_major(like: Tensor, *shape: int) -> tuple[Tensor, Tensor]:
    """Return an empty feature-major tensor and the rows in which kernels write it.

    The tensor is no view of anything, so that what an autograd function returns may be changed in place by a
    `ReLU(inplace=True)` after it.
    """
    back = _BACK[len(shape)]
    rows_shape = [shape[dim] for dim in _ROWS[len(shape)]]
    rows_strides = [math.prod(rows_shape[dim + 1 :]) for dim in range(len(rows_shape))]
    tensor = like.new_empty_strided(shape, [rows_strides[dim] for dim in back])
    return tensor, tensor.permute(_ROWS[len(shape)])


def from_rows(rows: Tensor) -> Tensor:
    """Return what the kernels wrote with its ordinary shape, without copying."""
    return rows.permute(_BACK[rows.dim()])


def layout_of(x: Tensor) -> str:
    """Return `"rows"` for a feature-major tensor, `"contiguous"`, `"channels-last"`, or `"other"`."""
    if is_feature_major(x):
        return "rows"
    if x.is_contiguous():
        return "contiguous"
    return "channels-last" if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else "other"


def in_layout(rows: Tensor, layout: str) -> Tensor:
    """Return what the kernels wrote in the memory format of the tensor that it belongs to."""
    if layout in ("rows", "other"):
        return from_rows(rows)
    if backend.is_fast(rows):
        from sparsekit.kernels.cpu import copies

        return copies.from_rows(rows, layout)
    memory_format = torch.contiguous_format if layout == "contiguous" else torch.channels_last
    return from_rows(rows).contiguous(memory_format=memory_format)
