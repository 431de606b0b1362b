"""This module copies between feature-major memory and the two formats of torch, contiguous and channels-last."""

import torch
from torch import Tensor

from sparsekit.kernels.cpu import transpose
from sparsekit.kernels.cpu.threads import equal_shares, run

TILE = 16  # so threads meet at the border of a tile


def to_rows(x: Tensor) -> Tensor:
    """Return `(B, W)` as `(W, B)`, or `(B, C, H, W)` as `(H, W, C, B)`."""
    if x.dim() == 2:
        return _matrix(x.contiguous(), x.shape[0], x.shape[1]).view(x.shape[1], x.shape[0])
    batch, channels, height, width = x.shape
    if x.is_contiguous(memory_format=torch.channels_last):
        return _matrix(x, batch, x[0].numel()).view(height, width, channels, batch)
    pixels = height * width
    rows = x.new_empty(height, width, channels, batch)
    # One channel is a matrix (batch, pixels), whose columns become rows of the pixels.
    _planes(x.contiguous(), rows, (channels * pixels, pixels), (channels * batch, batch), (batch, pixels))
    return rows


def from_rows(rows: Tensor, layout: str) -> Tensor:
    """Return feature-major memory as an ordinary tensor, `"contiguous"` or `"channels-last"`."""
    batch = rows.shape[-1]
    if rows.dim() == 2:
        return _matrix(rows, rows.shape[0], batch).view(batch, -1)
    height, width, channels, _ = rows.shape
    if layout == "channels-last":
        return _matrix(rows, height * width * channels, batch).view(batch, height, width, channels).permute(0, 3, 1, 2)
    pixels = height * width
    x = rows.new_empty(batch, channels, height, width)
    _planes(rows, x, (channels * batch, batch), (channels * pixels, pixels), (pixels, batch))
    return x


def _matrix(source: Tensor, rows: int, cols: int) -> Tensor:
    target = source.new_empty(rows * cols)
    flat = source.as_strided((rows * cols,), (1,)).numpy()
    bounds = equal_shares(cols, unit=TILE)
    run(transpose.matrix, transpose.matrix_threaded, (flat, target.numpy(), rows, cols), bounds)
    return target


def _planes(source: Tensor, target: Tensor, steps: tuple, target_steps: tuple, shape: tuple) -> None:
    """Transpose one matrix per channel, with steps from row to row and from channel to channel."""
    arguments = source.view(-1).numpy(), *steps, target.view(-1).numpy(), *target_steps, *shape
    channels = source.numel() // (shape[0] * shape[1])
    run(transpose.planes, transpose.planes_threaded, arguments, equal_shares(channels))
