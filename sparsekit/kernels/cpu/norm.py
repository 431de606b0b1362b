"""These kernels normalise batches of feature-major activations `(pixels, channels, batch)`, with or without a ReLU.

In a residual block something is added before the ReLU, which the same passes over memory do as well.

Each pass walks over memory once, in its order. Passes that only read take four pixels at a time, because memory then
answers several requests at once. Sums are held in float64 and taken of differences from the channel's first number, so
a large mean does not swallow a small variance.

Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1 and section 3.
"""

from numba import prange

from sparsekit.utils import compiling

# Sums may be regrouped, as vector registers must. We assume nothing about infinities and NaN.
FAST = {"reassoc", "contract", "nsz"}

compiled = compiling.compiled(fastmath=FAST)
in_order = compiling.compiled(fastmath={"contract", "nsz"})
threaded = compiling.compiled(fastmath=FAST, parallel=True)


@compiled
def sums(x, parts, bounds, part):
    """Add up `x - pivot` and its square per channel, into the part's own `(2, channels)`."""
    rest = bounds[part + 1] - (bounds[part + 1] - bounds[part]) % 4
    for p in range(bounds[part], rest, 4):
        for channel in range(x.shape[1]):
            pivot, one, two = x[0, channel, 0], x.dtype.type(0), x.dtype.type(0)
            row0, row1, row2, row3 = x[p, channel], x[p + 1, channel], x[p + 2, channel], x[p + 3, channel]
            for n in range(len(row0)):
                d0, d1, d2, d3 = row0[n] - pivot, row1[n] - pivot, row2[n] - pivot, row3[n] - pivot
                one += d0 + d1 + d2 + d3
                two += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3
            parts[part, 0, channel] += one
            parts[part, 1, channel] += two
    for p in range(rest, bounds[part + 1]):
        for channel in range(x.shape[1]):
            pivot, row = x[0, channel, 0], x[p, channel]
            one, two = x.dtype.type(0), x.dtype.type(0)
            for n in range(len(row)):
                one += row[n] - pivot
                two += (row[n] - pivot) * (row[n] - pivot)
            parts[part, 0, channel] += one
            parts[part, 1, channel] += two


@in_order  # so it gives the same result as separate steps
def apply(x, scale, shift, added, relu, y, bounds, part):
    """Write `scale * x + shift` per channel, plus `added` unless None, with negative results set to zero by a ReLU."""
    for pixel in range(bounds[part], bounds[part + 1]):
        for channel in range(x.shape[1]):
            a, b, row, out = scale[channel], shift[channel], x[pixel, channel], y[pixel, channel]
            if added is not None:
                other = added[pixel, channel]
                for n in range(len(row)):
                    value = a * row[n] + b + other[n]
                    out[n] = x.dtype.type(0) if relu and value <= 0 else value
            elif relu:
                for n in range(len(row)):
                    value = a * row[n] + b
                    out[n] = x.dtype.type(0) if value <= 0 else value
            else:
                for n in range(len(row)):
                    out[n] = a * row[n] + b


@compiled
def gradient_sums(x, g, scale, shift, mean, relu, parts, bounds, part):
    """Add up the output's gradient, and its product with `x - mean`, per channel."""
    zero, rest = x.dtype.type(0), bounds[part + 1] - (bounds[part + 1] - bounds[part]) % 4
    for p in range(bounds[part], rest, 4):
        for channel in range(x.shape[1]):
            a, b, m, one, two = scale[channel], shift[channel], mean[channel], zero, zero
            row0, row1, row2, row3 = x[p, channel], x[p + 1, channel], x[p + 2, channel], x[p + 3, channel]
            grad0, grad1, grad2, grad3 = g[p, channel], g[p + 1, channel], g[p + 2, channel], g[p + 3, channel]
            for n in range(len(row0)):
                g0 = zero if relu and a * row0[n] + b <= 0 else grad0[n]
                g1 = zero if relu and a * row1[n] + b <= 0 else grad1[n]
                g2 = zero if relu and a * row2[n] + b <= 0 else grad2[n]
                g3 = zero if relu and a * row3[n] + b <= 0 else grad3[n]
                one += g0 + g1 + g2 + g3
                two += g0 * (row0[n] - m) + g1 * (row1[n] - m) + g2 * (row2[n] - m) + g3 * (row3[n] - m)
            parts[part, 0, channel] += one
            parts[part, 1, channel] += two
    for p in range(rest, bounds[part + 1]):
        for channel in range(x.shape[1]):
            a, b, m, one, two = scale[channel], shift[channel], mean[channel], zero, zero
            row, grad = x[p, channel], g[p, channel]
            for n in range(len(row)):
                relu_grad = zero if relu and a * row[n] + b <= 0 else grad[n]
                one += relu_grad
                two += relu_grad * (row[n] - m)
            parts[part, 0, channel] += one
            parts[part, 1, channel] += two


@compiled
def relu_gradient_sums(x, y, g, mean, relu_grads, parts, bounds, part):
    """Do the same behind a sum and its ReLU, whose result is `y`. Also write the part of `g` that passes the ReLU."""
    for pixel in range(bounds[part], bounds[part + 1]):
        for channel in range(x.shape[1]):
            m, row, grad = mean[channel], x[pixel, channel], g[pixel, channel]
            result, out = y[pixel, channel], relu_grads[pixel, channel]
            one, two = x.dtype.type(0), x.dtype.type(0)
            for n in range(len(row)):
                relu_grad = x.dtype.type(0) if result[n] <= 0 else grad[n]
                out[n] = relu_grad
                one += relu_grad
                two += relu_grad * (row[n] - m)
            parts[part, 0, channel] += one
            parts[part, 1, channel] += two


@compiled
def gradient(x, g, scale, shift, mean, relu, offset, slope, dx, bounds, part):
    """Write the input's gradient, `scale * g - offset - slope * (x - mean)`."""
    for pixel in range(bounds[part], bounds[part + 1]):
        for channel in range(x.shape[1]):
            a, b, m, row, grad = scale[channel], shift[channel], mean[channel], x[pixel, channel], g[pixel, channel]
            c, d, out = offset[channel], slope[channel], dx[pixel, channel]
            for n in range(len(row)):
                relu_grad = x.dtype.type(0) if relu and a * row[n] + b <= 0 else grad[n]
                out[n] = a * relu_grad - c - d * (row[n] - m)


@threaded
def sums_threaded(x, parts, bounds):
    """Run all parts of `sums`, a thread each."""
    for part in prange(len(bounds) - 1):
        sums(x, parts, bounds, part)


@threaded
def apply_threaded(x, scale, shift, added, relu, y, bounds):
    """Run all parts of `apply`, a thread each."""
    for part in prange(len(bounds) - 1):
        apply(x, scale, shift, added, relu, y, bounds, part)


@threaded
def gradient_sums_threaded(x, g, scale, shift, mean, relu, parts, bounds):
    """Run all parts of `gradient_sums`, a thread each."""
    for part in prange(len(bounds) - 1):
        gradient_sums(x, g, scale, shift, mean, relu, parts, bounds, part)


@threaded
def relu_gradient_sums_threaded(x, y, g, mean, relu_grads, parts, bounds):
    """Run all parts of `relu_gradient_sums`, a thread each."""
    for part in prange(len(bounds) - 1):
        relu_gradient_sums(x, y, g, mean, relu_grads, parts, bounds, part)


@threaded
def gradient_threaded(x, g, scale, shift, mean, relu, offset, slope, dx, bounds):
    """Run all parts of `gradient`, a thread each."""
    for part in prange(len(bounds) - 1):
        gradient(x, g, scale, shift, mean, relu, offset, slope, dx, bounds, part)
