"""These kernels of a linear layer multiply sparse by dense, with a batch held in registers.

Activations are feature-major, `(features, batch)` in memory, so one connection meets a whole row of samples. The
forward pass gathers rows of the input, output by output. The backward pass goes input by input and reads each row of
the output's gradient once for both of its results. It gathers the input's gradient and scatters that of the
connection's value, because values lie output by output. Each output, input and value is written by one thread only.
But in rows of few values those of several threads share cache lines, which they would take from each other at every
step. There each thread has an array of its own, and copies its share of each row from it in the end.

What is gathered should stay in the second cache. So lanes of a large batch are first packed, side by side, and wide
layers are walked in slabs of what is gathered. `walks` says when.

Legend: `batch` samples (the length of a row), `lane` the current first sample, `walk` the numbers of a `walks.Walk`,
`bounds` where the rows or columns of each part begin and end, `begins` and `ends` those of a row's connections in a
slab, `step` and `offset` how far apart gathered rows lie and how far the first one, `starts` the first value of each
row that each part meets (and last, where each row ends), `at` the next one of each row, `partials` where each part
writes the gradients of its connections' values (`stride` numbers apart, 0 for all to the same place), `number` a zero
of the type. All but `bounds`, sizes and `number` are addresses, 0 for what is missing.
"""

# Numba, not the caller, gives an intrinsic its first argument.
# pyright: reportCallIssue=false

import numpy as np
from numba import prange

from sparsekit.kernels.cpu.addresses import array_at
from sparsekit.kernels.cpu.vectors import WIDEST, dot, fma, load, prefetch, spread, store, total, zeros, zeros_like
from sparsekit.utils import compiling

# How many connections ahead we prefetch a row, which is the least that hides the second cache's latency.
AHEAD = 4

# What a walk's numbers are, in order. `CUTS`, `INDICES` and `STARTS` are addresses of int32 arrays. They stand here,
# because compiled code is thrown away when this file changes.
CUTS, STEP, SLABS, INDICES, LAST, GATHERED, PACKS, STARTS = range(8)

compiled = compiling.compiled()
threaded = compiling.compiled(parallel=True)

# Indices in the inner loops are unsigned, because Numba checks each signed one for whether it counts from the end.


@compiled
def _packed(like, lanes, source, batch, lane, rows):
    """Return some lanes of every row, next to each other."""
    target = np.empty(rows * lanes, source.dtype)
    for row in range(rows):
        store(target, row * lanes, load(source, row * batch + lane, like, None), None)
    return target


@compiled
def _rows(like, count, begins, ends, cols, values, bias, x, step, offset, y, batch, lane, first, last, slab):
    zero = values.dtype.type(0)
    for row in range(first, last):
        place = np.int64(row) * batch + lane
        if slab:
            total = load(y, place, like, count)
        else:
            total = spread(array_at(bias, zero)[row], like) if bias else zeros_like(like)
        for k in range(begins[row], ends[row]):
            connection = np.uint64(k)
            x_row = load(x, np.int64(cols[connection]) * step + offset, like, count)
            total = fma(spread(values[connection], like), x_row, total)
        store(y, place, total, count)


@compiled
def _outputs(like, count, lanes, walk, values, bias, x, y, batch, lane, first, last):
    cols, step, offset = array_at(walk[INDICES], np.int32(0)), batch, lane
    if count is None and batch >= lanes * walk[PACKS]:
        x, step, offset = _packed(like, lanes, x, batch, lane, walk[GATHERED]), lanes, 0
    for slab in range(walk[SLABS]):
        begins, ends = _cuts(walk, slab)
        _rows(like, count, begins, ends, cols, values, bias, x, step, offset, y, batch, lane, first, last, slab)


@compiled
def _cuts(walk, slab):
    """Return where the connections of each row begin and end in a slab."""
    begin = walk[CUTS] + 4 * slab * walk[STEP]
    return array_at(begin, np.int32(0)), array_at(begin + 4 * walk[STEP], np.int32(0))


@compiled
def forward(walk, number, values, bias, x, y, batch, bounds, part):
    """Write `y[o] = bias[o] + sum of values * x[i]` for one part of the outputs."""
    first, last, lane = bounds[part], bounds[part + 1], 0
    v, xs, ys = array_at(values, number), array_at(x, number), array_at(y, number)
    while batch - lane >= WIDEST:
        _outputs(zeros(ys, WIDEST), None, WIDEST, walk, v, bias, xs, ys, batch, lane, first, last)
        lane += WIDEST
    if WIDEST > 64:
        while batch - lane >= 64:
            _outputs(zeros(ys, 64), None, 64, walk, v, bias, xs, ys, batch, lane, first, last)
            lane += 64
    while batch - lane >= 32:
        _outputs(zeros(ys, 32), None, 32, walk, v, bias, xs, ys, batch, lane, first, last)
        lane += 32
    if lane < batch:
        _outputs(zeros(ys, 32), batch - lane, 32, walk, v, bias, xs, ys, batch, lane, first, last)


@compiled
def _columns(
    like, count, begins, ends, rows, end, at, values, x, g, step, offset, dx, dvalues, batch, lane, first, last, slab
):
    zero = values.dtype.type(0)
    for col in range(first, last):
        place = np.int64(col) * batch + lane
        x_row = load(x, place, like, count)
        total = zeros_like(like)
        if dx is not None:  # noqa: SIM102  # Numba leaves out what depends on None alone
            if slab:
                total = load(array_at(dx, zero), place, like, count)
        for k in range(begins[col], ends[col]):
            prefetch(g, np.int64(rows[np.uint64(min(k + AHEAD, end))]) * step + offset, like)
            row = np.uint64(rows[np.uint64(k)])
            index = np.uint64(at[row])
            at[row] += 1
            g_row = load(g, np.int64(row) * step + offset, like, count)
            if dx is not None:
                total = fma(spread(values[index], like), g_row, total)
            dvalues[index] = (dvalues[index] if lane else zero) + dot(x_row, g_row, 2)
        if dx is not None:
            store(array_at(dx, zero), place, total, count)


@compiled
def _inputs(like, count, lanes, walk, starts, values, x, g, dx, dvalues, batch, lane, first, last):
    rows, step, offset = array_at(walk[INDICES], np.int32(0)), batch, lane
    if count is None and batch >= lanes * walk[PACKS]:
        g, step, offset = _packed(like, lanes, g, batch, lane, walk[GATHERED]), lanes, 0
    at = np.empty(walk[GATHERED], np.int32)
    for row in range(walk[GATHERED]):
        at[row] = starts[row]
    for slab in range(walk[SLABS]):
        begins, ends = _cuts(walk, slab)
        _columns(
            like, count, begins, ends, rows, walk[LAST], at, values, x, g, step, offset, dx, dvalues, batch, lane,
            first, last, slab,
        )  # fmt: skip


@compiled
def _bias(like, g, dbias, batch, first, last):
    """Write the sum of each row of the output's gradient."""
    for row in range(first, last):
        sums, lane = zeros_like(like), 0
        while batch - lane >= 32:
            sums = fma(load(g, row * batch + lane, like, None), spread(1, like), sums)
            lane += 32
        if lane < batch:
            sums = fma(load(g, row * batch + lane, like, batch - lane), spread(1, like), sums)
        dbias[row] = total(sums)


@compiled
def _copy(partial, dvalues, starts, ends, first, last):
    for row in range(first, last):
        for k in range(starts[row], ends[row]):
            dvalues[np.uint64(k)] = partial[np.uint64(k)]


@compiled
def backward(walk, number, values, x, g, dx, partials, stride, dvalues, dbias, batch, bounds, part):
    """Write `dx[i] = sum of values * g[o]` (unless None) and `dvalues = g[o] . x[i]`, for one part of the inputs.

    Also write `dbias = sum of g[o]` for as large a part of the outputs.
    """
    first, last, lane, outputs, parts = bounds[part], bounds[part + 1], 0, walk[GATHERED], len(bounds) - 1
    v, xs, gs = array_at(values, number), array_at(x, number), array_at(g, number)
    own = array_at(partials + part * stride * v.itemsize, number)
    starts = array_at(walk[STARTS] + 4 * part * outputs, np.int32(0))
    if dbias:
        begin, end = outputs * part // parts, outputs * (part + 1) // parts
        _bias(zeros(gs, 32), gs, array_at(dbias, number), batch, begin, end)
    while batch - lane >= WIDEST:
        _inputs(zeros(gs, WIDEST), None, WIDEST, walk, starts, v, xs, gs, dx, own, batch, lane, first, last)
        lane += WIDEST
    if WIDEST > 64:
        while batch - lane >= 64:
            _inputs(zeros(gs, 64), None, 64, walk, starts, v, xs, gs, dx, own, batch, lane, first, last)
            lane += 64
    while batch - lane >= 32:
        _inputs(zeros(gs, 32), None, 32, walk, starts, v, xs, gs, dx, own, batch, lane, first, last)
        lane += 32
    if lane < batch:
        _inputs(zeros(gs, 32), batch - lane, 32, walk, starts, v, xs, gs, dx, own, batch, lane, first, last)
    if batch and stride:
        ends, begin = array_at(walk[STARTS] + 4 * (part + 1) * outputs, np.int32(0)), outputs * part // parts
        result = array_at(dvalues, number)
        _copy(own, result, starts, ends, begin, outputs)  # each begins at another row
        _copy(own, result, starts, ends, 0, begin)


@threaded
def forward_threaded(walk, number, values, bias, x, y, batch, bounds):
    """Run all parts of `forward`, a thread each."""
    for part in prange(len(bounds) - 1):
        forward(walk, number, values, bias, x, y, batch, bounds, part)


@threaded
def backward_threaded(walk, number, values, x, g, dx, partials, stride, dvalues, dbias, batch, bounds):
    """Run all parts of `backward`, a thread each."""
    for part in prange(len(bounds) - 1):
        backward(walk, number, values, x, g, dx, partials, stride, dvalues, dbias, batch, bounds, part)
