"""These kernels of a linear layer multiply sparse by dense, with a batch held in registers.

Activations are feature-major, `(features, batch)` in memory, so one connection meets a whole row of samples. The
forward pass gathers rows of the input, output by output. The backward pass goes input by input and reads each row of
the output's gradient once for both of its results. It gathers the input's gradient and scatters that of the
connection's value, because values lie output by output. Each output, input and value is written by one thread only.
But in rows of few values those of several threads share cache lines, which they would take from each other at every
step. There each thread has an array of its own, and copies its share of each row from it in the end.

Legend: `batch` samples (the length of a row), `lane` the current first sample, `bounds` where the rows or columns of
each part begin and end, `starts` the first value of each row that each part meets (and last, where each row ends), `at`
the next one of each row, `partials` where each part writes the gradients of its connections' values (arrays of their
own, or one, `dvalues` itself).
"""

# Numba, not the caller, gives an intrinsic its first argument.
# pyright: reportCallIssue=false

import numpy as np
from numba import prange

from sparsekit.kernels.cpu.vectors import WIDEST, dot, fma, load, prefetch, spread, store, zeros, zeros_like
from sparsekit.utils import compiling

# How many connections ahead we prefetch a row, which is the least that hides the second cache's latency.
AHEAD = 4

compiled = compiling.compiled()
threaded = compiling.compiled(parallel=True)

# Indices in the inner loops are unsigned, because Numba checks each signed one for whether it counts from the end.


@compiled
def _rows(like, count, pointers, cols, values, bias, x, y, batch, first, last, lane):
    for row in range(first, last):
        total = zeros_like(like) if bias is None else spread(bias[row], like)
        for k in range(pointers[row], pointers[row + 1]):
            connection = np.uint64(k)
            x_row = load(x, np.int64(cols[connection]) * batch + lane, like, count)
            total = fma(spread(values[connection], like), x_row, total)
        store(y, np.int64(row) * batch + lane, total, count)


@compiled
def _columns(like, count, pointers, rows, at, values, x, g, dx, dvalues, batch, first, last, lane):
    end = len(rows) - 1
    for col in range(first, last):
        x_row = load(x, np.int64(col) * batch + lane, like, count)
        total = zeros_like(like)
        for k in range(pointers[col], pointers[col + 1]):
            prefetch(g, np.int64(rows[np.uint64(min(k + AHEAD, end))]) * batch + lane, like)
            row = np.uint64(rows[np.uint64(k)])
            index = np.uint64(at[row])
            at[row] += 1
            g_row = load(g, np.int64(row) * batch + lane, like, count)
            if dx is not None:
                total = fma(spread(values[index], like), g_row, total)
            dvalues[index] = (dvalues[index] if lane else 0) + dot(x_row, g_row, 2)
        if dx is not None:
            store(dx, np.int64(col) * batch + lane, total, count)


@compiled
def forward(pointers, cols, values, bias, x, y, batch, bounds, part):
    """Write `y[o] = bias[o] + sum of values * x[i]` for one part of the outputs."""
    first, last, lane = bounds[part], bounds[part + 1], 0
    while batch - lane >= WIDEST:
        _rows(zeros(y, WIDEST), None, pointers, cols, values, bias, x, y, batch, first, last, lane)
        lane += WIDEST
    while batch - lane >= 32:
        _rows(zeros(y, 32), None, pointers, cols, values, bias, x, y, batch, first, last, lane)
        lane += 32
    if lane < batch:
        _rows(zeros(y, 32), batch - lane, pointers, cols, values, bias, x, y, batch, first, last, lane)


@compiled
def _copy(partial, dvalues, starts, ends, first, last):
    for row in range(first, last):
        for k in range(starts[row], ends[row]):
            dvalues[np.uint64(k)] = partial[np.uint64(k)]


@compiled
def backward(pointers, rows, starts, values, x, g, dx, partials, dvalues, batch, bounds, part):
    """Write `dx[i] = sum of values * g[o]` (unless None) and `dvalues = g[o] . x[i]`, for one part of the inputs."""
    first, last, lane, at = bounds[part], bounds[part + 1], 0, starts[part]
    partial = partials[part % len(partials)]
    while batch - lane >= WIDEST:
        _columns(zeros(g, WIDEST), None, pointers, rows, at.copy(), values, x, g, dx, partial, batch, first, last, lane)
        lane += WIDEST
    while batch - lane >= 32:
        _columns(zeros(g, 32), None, pointers, rows, at.copy(), values, x, g, dx, partial, batch, first, last, lane)
        lane += 32
    if lane < batch:
        rest = batch - lane
        _columns(zeros(g, 32), rest, pointers, rows, at.copy(), values, x, g, dx, partial, batch, first, last, lane)
    if batch and len(partials) > 1:
        begin = len(at) * part // len(partials)  # each at another row
        _copy(partial, dvalues, at, starts[part + 1], begin, len(at))
        _copy(partial, dvalues, at, starts[part + 1], 0, begin)


@threaded
def forward_threaded(pointers, cols, values, bias, x, y, batch, bounds):
    """Run all parts of `forward`, a thread each."""
    for part in prange(len(bounds) - 1):
        forward(pointers, cols, values, bias, x, y, batch, bounds, part)


@threaded
def backward_threaded(pointers, rows, starts, values, x, g, dx, partials, dvalues, batch, bounds):
    """Run all parts of `backward`, a thread each."""
    for part in prange(len(bounds) - 1):
        backward(pointers, rows, starts, values, x, g, dx, partials, dvalues, batch, bounds, part)
