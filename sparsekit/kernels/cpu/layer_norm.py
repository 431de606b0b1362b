"""These kernels normalise the features of each sample, in feature-major activations `(features, samples)`.

They take so many samples at a time that these stay in the nearest caches, and a vector register holds several samples.
The forward pass holds sums in float64, and its variance is that of differences from the mean.

Source: Ba et al. (2016), arXiv:1607.06450, equation 4, with mean and variance as in `torch.nn.LayerNorm`.
"""

import numpy as np
from numba import prange

from sparsekit.utils import compiling

LANES = 256  # samples at a time, so 128 features of them take 128 KiB
FAST = {"reassoc", "contract", "nsz"}  # sums may be regrouped. We assume nothing about infinities and NaN

compiled = compiling.compiled(fastmath=FAST)
threaded = compiling.compiled(fastmath=FAST, parallel=True)


@compiled
def forward(x, weight, bias, eps, y, means, scales, bounds, part):
    """Write `(x - mean) / sqrt(variance + eps) * weight + bias`, each sample's mean, and `1 / sqrt(variance + eps)`."""
    total, square = np.empty(LANES), np.empty(LANES)
    for start in range(bounds[part], bounds[part + 1], LANES):
        end = min(start + LANES, bounds[part + 1])
        mean, scale = means[start:end], scales[start:end]
        total[:], square[:] = 0, 0
        for feature in range(len(x)):
            row = x[feature, start:end]
            for n in range(len(row)):
                total[n] += row[n]
        for n in range(end - start):
            mean[n] = total[n] / len(x)
        for feature in range(len(x)):
            row = x[feature, start:end]
            for n in range(len(row)):
                difference = row[n] - mean[n]
                square[n] += difference * difference
        for n in range(end - start):
            scale[n] = 1 / np.sqrt(square[n] / len(x) + eps)
        for feature in range(len(x)):
            row, out, a, b = x[feature, start:end], y[feature, start:end], weight[feature], bias[feature]
            for n in range(len(row)):
                out[n] = (row[n] - mean[n]) * scale[n] * a + b


@compiled
def backward(x, g, weight, means, scales, dx, parts, bounds, part):
    """Write the input's gradient, and add up those of weight and bias into the part's own `(2, features)`.

    With `z = (x - mean) * scale` and `h = weight * g`, it is `scale * (h - average(h) - z * average(h * z))`.
    """
    total, product = np.empty(LANES, x.dtype), np.empty(LANES, x.dtype)
    for start in range(bounds[part], bounds[part + 1], LANES):
        end = min(start + LANES, bounds[part + 1])
        mean, scale = means[start:end], scales[start:end]
        total[:], product[:] = 0, 0
        for feature in range(len(x)):
            row, grad, a = x[feature, start:end], g[feature, start:end], weight[feature]
            one, two = x.dtype.type(0), x.dtype.type(0)
            for n in range(len(row)):
                one += grad[n] * ((row[n] - mean[n]) * scale[n])
                two += grad[n]
            parts[part, 0, feature] += one
            parts[part, 1, feature] += two
            # Two loops, because where many arrays might overlap, the compiler uses no vector registers.
            for n in range(len(row)):
                total[n] += a * grad[n]
            for n in range(len(row)):
                product[n] += a * grad[n] * ((row[n] - mean[n]) * scale[n])
        for n in range(end - start):
            total[n] /= len(x)
            product[n] /= len(x)
        for feature in range(len(x)):
            row, grad, a, out = x[feature, start:end], g[feature, start:end], weight[feature], dx[feature, start:end]
            for n in range(len(row)):
                out[n] = scale[n] * (a * grad[n] - total[n] - (row[n] - mean[n]) * scale[n] * product[n])


@threaded
def forward_threaded(x, weight, bias, eps, y, means, scales, bounds):
    """Run all parts of `forward`, a thread each."""
    for part in prange(len(bounds) - 1):
        forward(x, weight, bias, eps, y, means, scales, bounds, part)


@threaded
def backward_threaded(x, g, weight, means, scales, dx, parts, bounds):
    """Run all parts of `backward`, a thread each."""
    for part in prange(len(bounds) - 1):
        backward(x, g, weight, means, scales, dx, parts, bounds, part)
