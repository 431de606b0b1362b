"""This sparse convolution is direct, with a batch held in registers and no unfolding.

Activations are feature-major, `(height, width, channels, batch)` in memory. Each output pixel gathers the input rows
that its connections name, output channel by output channel. Each input pixel gathers the rows of the output's gradient
and reads them once for both results, as in `linear`. At a border some taps (kernel positions) fall outside. The
connections of a channel are sorted by tap, so those inside are a few runs of neighbours.

Legend: `taps` kernel positions, `segments` where the connections of a (channel, tap) start, `offsets` how far from a
pixel's own row a connection reads, `runs` pairs of taps, from the first to past the last.
"""

# Numba, not the caller, gives an intrinsic its first argument.
# pyright: reportCallIssue=false

import numpy as np
from numba import prange

from sparsekit.kernels.cpu.vectors import WIDEST, dot, fma, load, prefetch, spread, store, zeros, zeros_like
from sparsekit.utils import compiling

AHEAD = 4  # as in `linear`

compiled = compiling.compiled()
threaded = compiling.compiled(parallel=True)


@compiled
def _runs(row_taps, col_taps, order, kernel_width, runs):
    """Write the runs of taps that stay inside, in the order of the connections, and return how many there are."""
    count, inside = 0, False
    for index in range(len(order)):
        tap = order[index]
        fits = row_taps[tap // kernel_width] and col_taps[tap % kernel_width]
        if fits and not inside:
            runs[count, 0] = index
            count += 1
        if fits:
            runs[count - 1, 1] = index + 1
        inside = fits
    return count


@compiled
def _outputs(like, count, segments, offsets, values, bias, x, at_x, y, at_y, batch, runs, taps):
    for out in range((len(segments) - 1) // taps):
        total = zeros_like(like) if bias is None else spread(bias[out], like)
        for run in range(len(runs)):
            for k in range(segments[out * taps + runs[run, 0]], segments[out * taps + runs[run, 1]]):
                at = np.uint64(k)  # Numba checks whether signed ones count from the end (below that is free)
                total = fma(spread(values[at], like), load(x, at_x + offsets[at], like, count), total)
        store(y, at_y + out * batch, total, count)


@compiled
def _inputs(like, count, segments, offsets, values, x, dx, at_x, g, at_g, dvalues, batch, runs, taps):
    end = len(offsets) - 1
    for channel in range((len(segments) - 1) // taps):
        x_row = load(x, at_x + channel * batch, like, count)
        total = zeros_like(like)
        for run in range(len(runs)):
            for k in range(segments[channel * taps + runs[run, 0]], segments[channel * taps + runs[run, 1]]):
                prefetch(g, at_g + offsets[min(k + AHEAD, end)], like)
                g_row = load(g, at_g + offsets[k], like, count)
                if dx is not None:
                    total = fma(spread(values[k], like), g_row, total)
                dvalues[k] += dot(x_row, g_row, 4)
        if dx is not None:
            store(dx, at_x + channel * batch, total, count)


@compiled
def _output_pixels(like, count, plan, values, bias, x, y, lane, first, last):
    segments, offsets, order, row_taps, col_taps, row_starts, col_starts, sizes, _ = plan
    width, kernel_width, x_pixel, y_pixel, batch = sizes
    runs = np.empty((len(order), 2), np.int64)
    for pixel in range(first, last):
        row, col = pixel // width, pixel % width
        valid_runs = runs[: _runs(row_taps[row], col_taps[col], order, kernel_width, runs)]
        at_x, at_y = (row_starts[row] + col_starts[col]) * x_pixel + lane, pixel * y_pixel + lane
        _outputs(like, count, segments, offsets, values, bias, x, at_x, y, at_y, batch, valid_runs, len(order))


@compiled
def _input_pixels(like, count, plan, values, x, g, dx, dvalues, lane, first, last):
    segments, offsets, order, row_taps, col_taps, row_starts, col_starts, sizes, _ = plan
    width, kernel_width, g_pixel, x_pixel, batch = sizes
    runs = np.empty((len(order), 2), np.int64)
    for pixel in range(first, last):
        row, col = pixel // width, pixel % width
        valid_runs = runs[: _runs(row_taps[row], col_taps[col], order, kernel_width, runs)]
        at_g, at_x = (row_starts[row] + col_starts[col]) * g_pixel + lane, pixel * x_pixel + lane
        _inputs(like, count, segments, offsets, values, x, dx, at_x, g, at_g, dvalues, batch, valid_runs, len(order))


@compiled
def forward(plan, values, bias, x, y, bounds, part):
    """Write one part of the output pixels, where the plan is a `plans.Plan`."""
    first, last, lane, batch = bounds[part], bounds[part + 1], 0, plan[7][4]
    while batch - lane >= WIDEST:
        _output_pixels(zeros(y, WIDEST), None, plan, values, bias, x, y, lane, first, last)
        lane += WIDEST
    while batch - lane >= 32:
        _output_pixels(zeros(y, 32), None, plan, values, bias, x, y, lane, first, last)
        lane += 32
    if lane < batch:
        _output_pixels(zeros(y, 32), batch - lane, plan, values, bias, x, y, lane, first, last)


@compiled
def backward(plan, values, x, g, dx, dvalues, bounds, part):
    """Write one part of `dx` (unless None), and add to the part's row of `dvalues`, sorted as the plan is."""
    first, last, lane, batch = bounds[part], bounds[part + 1], 0, plan[7][4]
    partial = dvalues[part]  # once, as per pixel threads would wait for each other to count references to `dvalues`
    while batch - lane >= WIDEST:
        _input_pixels(zeros(g, WIDEST), None, plan, values, x, g, dx, partial, lane, first, last)
        lane += WIDEST
    while batch - lane >= 32:
        _input_pixels(zeros(g, 32), None, plan, values, x, g, dx, partial, lane, first, last)
        lane += 32
    if lane < batch:
        _input_pixels(zeros(g, 32), batch - lane, plan, values, x, g, dx, partial, lane, first, last)


@threaded
def forward_threaded(plan, values, bias, x, y, bounds):
    """Run all parts of `forward`, a thread each."""
    for part in prange(len(bounds) - 1):
        forward(plan, values, bias, x, y, bounds, part)


@threaded
def backward_threaded(plan, values, x, g, dx, dvalues, bounds):
    """Run all parts of `backward`, a thread each."""
    for part in prange(len(bounds) - 1):
        backward(plan, values, x, g, dx, dvalues, bounds, part)
