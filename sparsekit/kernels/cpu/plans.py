"""Plans tell the kernels of a convolution which pixels each connection reads, and what falls off the border."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from sparsekit.kernels.structure import Structure, sorted_by, unfold_columns


class Plan(NamedTuple):
    """A plan is one direction of a convolution, as the compiled kernels take it (they unpack it by position).

    Args:
        segments: where the connections of each (channel, tap) start, `(channels * taps + 1,)`.
        offsets: how far from a pixel's own row each connection reads, in numbers.
        order: the taps in the order in which connections are sorted.
        row_taps: whether a kernel row falls inside the image, by row of pixels.
        col_taps: whether a kernel column does, by column of pixels.
        row_starts: pixel rows times width, from which the offsets count, by row of pixels.
        col_starts: the same for columns.
        sizes: pixels in a row, columns of the kernel, numbers per pixel read and per pixel written, batch.
        value_index: which value each connection has, so values come to the kernels in this order.
    """

    segments: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    row_taps: np.ndarray
    col_taps: np.ndarray
    row_starts: np.ndarray
    col_starts: np.ndarray
    sizes: np.ndarray
    value_index: np.ndarray


@dataclass(frozen=True)
class Side:
    """A side is one dimension of a convolution: pixels, kernel positions, stride, padding and dilation."""

    inputs: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def outputs(self) -> int:
        """Number of output pixels."""
        return (self.inputs + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which taps fall inside `(outputs, kernel)`, where each output's window begins, and where taps lie."""
        begins = np.arange(self.outputs) * self.stride - self.padding
        reach = np.arange(self.kernel) * self.dilation
        at = begins[:, None] + reach
        return (at >= 0) & (at < self.inputs), begins, reach

    def written(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the same as an input pixel sees it, by outputs that read it. Also return each tap's remainder.

        Tap `k` of output `o` reads input `i` where `o * stride = i + padding - k * dilation`. This holds only where the
        remainders of both sides by the stride agree, and then `o` is the difference of the quotients.
        """
        ends, reach = np.arange(self.inputs) + self.padding, np.arange(self.kernel) * self.dilation
        at = ends[:, None] // self.stride - reach // self.stride
        agree = (ends[:, None] - reach) % self.stride == 0
        inside = agree & (at >= 0) & (at < self.outputs)
        return inside, ends // self.stride, -(reach // self.stride), reach % self.stride


@dataclass(frozen=True)
class ConvPlan:
    """A plan holds both directions of one convolution, for one size of image and batch."""

    forward: Plan
    backward: Plan
    in_size: tuple[int, int]
    out_size: tuple[int, int]

    @classmethod
    def of(cls, structure: Structure, size: tuple[int, int], batch: int, unfold: dict) -> Self:
        """Compute both directions in O(connections + pixels)."""
        settings = (unfold[key] for key in ("kernel_size", "stride", "padding", "dilation"))
        high, wide = (Side(*side) for side in zip(size, *settings, strict=True))
        return cls(
            forward=_forward(structure, high, wide, batch),
            backward=_backward(structure, high, wide, batch),
            in_size=(high.inputs, wide.inputs),
            out_size=(high.outputs, wide.outputs),
        )


def _forward(structure: Structure, high: Side, wide: Side, batch: int) -> Plan:
    """Go output by output, with connections sorted by output channel, then tap."""
    (row_taps, row_starts, rows), (col_taps, col_starts, cols) = high.read(), wide.read()
    taps = high.kernel * wide.kernel
    channels, outputs = structure.width // taps, structure.num_rows
    channel, tap, out = _ends(structure, taps)
    segments, value_index = sorted_by(out * taps + tap, outputs * taps)
    return Plan(
        segments=segments.numpy(),
        offsets=_small((_by_tap(rows, cols, wide.inputs)[tap] * channels + channel)[value_index] * batch),
        order=np.arange(taps),
        row_taps=row_taps,
        col_taps=col_taps,
        row_starts=row_starts * wide.inputs,
        col_starts=col_starts,
        sizes=np.array([wide.outputs, wide.kernel, channels * batch, outputs * batch, batch]),
        value_index=value_index.numpy(),
    )


def _backward(structure: Structure, high: Side, wide: Side, batch: int) -> Plan:
    """Go input by input, with connections sorted by input channel, then tap. Taps that one pixel meets are adjacent."""
    (row_taps, row_starts, rows, row_rest), (col_taps, col_starts, cols, col_rest) = high.written(), wide.written()
    taps = high.kernel * wide.kernel
    channels, outputs = structure.width // taps, structure.num_rows
    channel, tap, out = _ends(structure, taps)
    order = np.array(sorted(range(taps), key=lambda t: (row_rest[t // wide.kernel], col_rest[t % wide.kernel], t)))
    rank = torch.from_numpy(np.argsort(order))
    segments, value_index = sorted_by(channel * taps + rank[tap], channels * taps)
    return Plan(
        segments=segments.numpy(),
        offsets=_small((_by_tap(rows, cols, wide.outputs)[tap] * outputs + out)[value_index] * batch),
        order=order,
        row_taps=row_taps,
        col_taps=col_taps,
        row_starts=row_starts * wide.outputs,
        col_starts=col_starts,
        sizes=np.array([wide.inputs, wide.kernel, outputs * batch, channels * batch, batch]),
        value_index=value_index.numpy(),
    )


def _ends(structure: Structure, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the input channel, tap and output channel of each connection."""
    columns = unfold_columns(structure.topology, structure.groups)
    return columns // taps, columns % taps, structure.topology.rows


def _by_tap(rows: np.ndarray, cols: np.ndarray, width: int) -> Tensor:
    """Return how many pixels each tap lies away."""
    return torch.from_numpy((rows[:, None] * width + cols).flatten())


def _small(offsets: Tensor) -> np.ndarray:
    """Return offsets as int32 where they fit."""
    fits = offsets.numel() == 0 or int(offsets.abs().max()) < 2**31
    return (offsets.int() if fits else offsets).numpy()
