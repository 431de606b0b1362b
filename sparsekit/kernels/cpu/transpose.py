"""These kernels transpose between ordinary and feature-major tensors, in tiles of one cache line."""

# Numba, not the caller, gives an intrinsic its first argument.
# pyright: reportCallIssue=false

import numpy as np
from numba import prange

from sparsekit.kernels.cpu.vectors import transpose_tile
from sparsekit.utils import compiling

# Bytes from which on a copy is written past the caches, where it would push everything else out before it is read.
STREAMED = 2**23
# Numbers that may be written side by side, a tile of each row in turn, which are as many as the first cache holds.
# Past the caches the order of writing does not matter, and every row is best read from its start to its end.
WRITTEN = 2**13

compiled = compiling.compiled()
threaded = compiling.compiled(parallel=True)


@compiled
def _by_number(source, at, step, target, target_at, target_step, rows, cols):
    for col in range(cols):
        for row in range(rows):
            target[target_at + col * target_step + row] = source[at + row * step + col]


@compiled
def transpose(source, at, step, target, target_at, target_step, rows, first, last):
    """Write `target[col, row] = source[row, col]` for some columns, where rows start every `step` numbers."""
    tile = np.int64(64 // source.itemsize)
    streams = target.nbytes >= STREAMED and target.ctypes.data % 64 == 0 and target_at % tile == target_step % tile == 0
    block = last - first if streams else max(tile, WRITTEN // target_step // tile * tile)
    for begin in range(first, last, block):
        for row in range(0, rows, tile):
            for col in range(begin, min(last, begin + block), tile):
                tile_at, tile_target_at = at + row * step + col, target_at + col * target_step + row
                high, wide = min(tile, rows - row), min(tile, last - col)
                if high < tile or wide < tile:
                    _by_number(source, tile_at, step, target, tile_target_at, target_step, high, wide)
                elif streams:
                    transpose_tile(source, tile_at, step, target, tile_target_at, target_step, True)
                else:
                    transpose_tile(source, tile_at, step, target, tile_target_at, target_step, False)


@compiled
def matrix(source, target, rows, cols, bounds, part):
    """Transpose one part of the columns of a matrix `(rows, cols)`."""
    transpose(source, 0, cols, target, 0, rows, rows, bounds[part], bounds[part + 1])


@compiled
def planes(source, step, jump, target, target_step, target_jump, rows, cols, bounds, part):
    """Transpose a part of several matrices, each of which begins `jump` numbers after the one before it."""
    for plane in range(bounds[part], bounds[part + 1]):
        transpose(source, plane * jump, step, target, plane * target_jump, target_step, rows, 0, cols)


@threaded
def matrix_threaded(source, target, rows, cols, bounds):
    """Run all parts of `matrix`, a thread each."""
    for part in prange(len(bounds) - 1):
        matrix(source, target, rows, cols, bounds, part)


@threaded
def planes_threaded(source, step, jump, target, target_step, target_jump, rows, cols, bounds):
    """Run all parts of `planes`, a thread each."""
    for part in prange(len(bounds) - 1):
        planes(source, step, jump, target, target_step, target_jump, rows, cols, bounds, part)
