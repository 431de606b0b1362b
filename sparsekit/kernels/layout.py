"""Feature-major is the memory format in which the compiled kernels read and write activations.

Like `torch.channels_last` it changes strides, never shapes. `(batch, features)` lies in memory as `(features, batch)`,
and `(batch, channels, height, width)` as `(height, width, channels, batch)`. One connection then meets a whole row of
samples at once. Additions, ReLU and everything else that works element by element keep the format.

Legend: `B` batch, `W` features, `H W C` height, width, channels, `N` height times width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels import backend

_ROWS = {2: (1, 0), 4: (2, 3, 1, 0)}  # from a tensor's dimensions to their order in memory
_BACK = {2: (1, 0), 4: (3, 2, 0, 1)}


def is_feature_major(x: Tensor) -> bool:
    """Return whether a tensor `(B, W)` or `(B, C, H, W)` lies in memory with its batch innermost.

    Example:
        >>> is_feature_major(torch.zeros(3, 5)), is_feature_major(torch.zeros(5, 3).T)
        (False, True)
    """
    if x.dim() == 2 and x.stride() == (1, x.shape[0]):
        return True  # in a third of the time that the next line takes
    return x.dim() in _ROWS and x.permute(_ROWS[x.dim()]).is_contiguous()


def feature_major(x: Float[Tensor, "b *features"]) -> Float[Tensor, "b *features"]:
    """Return the same tensor in feature-major format, differentiably. It is copied only if it must be.

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
        rows, ctx.x_layout = rows_and_layout(x)
        return _without_base(from_rows(rows))

    @staticmethod
    def backward(ctx, grad: Tensor):
        return in_layout(rows_of(grad), ctx.x_layout)


def batch_major(x: Float[Tensor, "b *features"]) -> Float[Tensor, "b *features"]:
    """Return the same tensor contiguous, as plain layers read it best, differentiably.

    The result is that of `x.contiguous()`, several times faster on a CPU.

    Example:
        >>> batch_major(torch.zeros(5, 3).T).is_contiguous()
        True
    """
    return _BatchMajor.apply(x) if x.dim() in _ROWS and is_feature_major(x) else x.contiguous()


class _BatchMajor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return _without_base(in_layout(rows_of(x), "contiguous"))

    @staticmethod
    def backward(ctx, grad: Tensor):
        return from_rows(rows_of(grad))


def _without_base(x: Tensor) -> Tensor:
    """Return a tensor with the same memory that is no view, so that you may change it in place."""
    return x.new_empty(0).set_(x.untyped_storage(), x.storage_offset(), x.shape, x.stride())


def rows_of(x: Tensor) -> Tensor:
    """Return a detached tensor as the kernels read it, `(W, B)` or `(H, W, C, B)`, copied only if needed."""
    return rows_and_layout(x)[0]


def rows_and_layout(x: Tensor) -> tuple[Tensor, str]:
    """Return `rows_of` a tensor and its `layout_of`."""
    x = x.detach()
    rows = x.permute(_ROWS[x.dim()])
    if rows.is_contiguous():
        return rows, "rows"
    if backend.is_fast(x):
        from sparsekit.kernels.cpu import copies

        return copies.to_rows(x), layout_of(x)
    return rows.contiguous(), layout_of(x)


def new_feature_major(like: Tensor, *shape: int) -> tuple[Tensor, Tensor]:
    """Return an empty feature-major tensor and the rows in which kernels write it.

    The tensor is no view of anything, so that what an autograd function returns may be changed in place by a
    `ReLU(inplace=True)` after it.
    """
    batch, features, *size = shape
    strides = (1, batch, size[1] * features * batch, features * batch) if size else (1, batch)
    tensor = like.new_empty_strided(shape, strides)
    return tensor, tensor.permute(_ROWS[len(shape)])


def output_size(size: tuple[int, ...], *, kernel_size, stride, padding, dilation) -> tuple[int, ...]:
    """Return the height and width of a convolution's output."""
    sides = zip(size, kernel_size, stride, padding, dilation, strict=True)
    return tuple((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in sides)


def from_rows(rows: Tensor) -> Tensor:
    """Return the rows that kernels wrote as a tensor of ordinary shape, without copying."""
    return rows.permute(_BACK[rows.dim()])


def layout_of(x: Tensor) -> str:
    """Return `"rows"` for a feature-major tensor, `"contiguous"`, `"channels-last"`, or `"other"`."""
    if is_feature_major(x):
        return "rows"
    if x.is_contiguous():
        return "contiguous"
    return "channels-last" if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else "other"


def in_layout(rows: Tensor, layout: str) -> Tensor:
    """Return the rows that kernels wrote as a detached tensor in another memory format.

    A detached tensor is no view, and torch adds several gradients in place only where none is a view.
    """
    if layout in ("rows", "other"):
        return from_rows(rows).detach()
    if backend.is_fast(rows):
        from sparsekit.kernels.cpu import copies

        return copies.from_rows(rows, layout)
    memory_format = torch.contiguous_format if layout == "contiguous" else torch.channels_last
    return from_rows(rows).contiguous(memory_format=memory_format)
