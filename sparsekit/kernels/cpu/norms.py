"""This module hands torch tensors to the kernels of batch normalisation. Sums per channel are float64 throughout."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sparsekit.kernels.cpu import norm
from sparsekit.kernels.cpu.threads import equal_shares, run


def moments(x_PCB: Float[Tensor, "p c b"]) -> tuple[Float64[Tensor, " c"], Float64[Tensor, " c"]]:
    """Return each channel's mean and variance, the latter divided by the number of samples."""
    bounds, parts = _parts(x_PCB)
    run(norm.sums, norm.sums_threaded, (x_PCB.numpy(), parts.numpy()), bounds)
    samples = x_PCB.shape[0] * x_PCB.shape[2]
    offset, square = parts.sum(0) / samples  # of differences from the channel's first number
    return offset + x_PCB[0, :, 0], (square - offset**2).clamp(min=0)


def scale(
    x_PCB: Float[Tensor, "p c b"],
    factor: Float64[Tensor, " c"],
    shift: Float64[Tensor, " c"],
    added_PCB: Float[Tensor, "p c b"] | None,
    y_PCB: Float[Tensor, "p c b"],
    *,
    relu: bool,
) -> None:
    """Write `factor * x + shift` per channel, plus `added`, to `y`, with negative results set to zero by a ReLU."""
    channels = (tensor.to(x_PCB).numpy() for tensor in (factor, shift))
    added = None if added_PCB is None else added_PCB.numpy()
    arguments = x_PCB.numpy(), *channels, added, relu, y_PCB.numpy()
    run(norm.apply, norm.apply_threaded, arguments, equal_shares(len(x_PCB)))


def gradients(
    x_PCB: Float[Tensor, "p c b"],
    g_PCB: Float[Tensor, "p c b"],
    scale: Float64[Tensor, " c"],
    shift: Float64[Tensor, " c"],
    mean: Float[Tensor, " c"],
    deviation: Float64[Tensor, " c"],
    sum_PCB: Float[Tensor, "p c b"] | None,
    *,
    relu: bool,
) -> tuple[Float[Tensor, "p c b"], Float[Tensor, " c"], Float[Tensor, " c"], Float[Tensor, "p c b"]]:
    """Return the gradients of the input, of the weight, of the bias, and of the added tensor.

    With `z = (x - mean) / deviation`, `dx = scale * (g - average(g) - z * average(g * z))`.

    Args:
        sum_PCB: the result, if something was added before the ReLU, because `x` alone does not tell what passed.
    """
    bounds, parts = _parts(x_PCB)
    x, g, scales = x_PCB.numpy(), g_PCB.numpy(), [tensor.to(x_PCB).numpy() for tensor in (scale, shift, mean)]
    if sum_PCB is not None and relu:
        relu_grads = torch.empty_like(x_PCB)
        arguments = x, sum_PCB.numpy(), g, scales[2], relu_grads.numpy(), parts.numpy()
        run(norm.relu_gradient_sums, norm.relu_gradient_sums_threaded, arguments, bounds)
        g_PCB, g, relu = relu_grads, relu_grads.numpy(), False
    else:
        run(norm.gradient_sums, norm.gradient_sums_threaded, (x, g, *scales, relu, parts.numpy()), bounds)
    dbias, product = parts.sum(0)
    dweight = product / deviation
    samples = x_PCB.shape[0] * x_PCB.shape[2]
    offset = scale * dbias / samples
    slope = scale * dweight / deviation / samples
    dx_PCB = torch.empty_like(x_PCB)
    more = [tensor.to(x_PCB).numpy() for tensor in (offset, slope)]
    run(norm.gradient, norm.gradient_threaded, (x, g, *scales, relu, *more, dx_PCB.numpy()), bounds)
    return dx_PCB, dweight.to(x_PCB), dbias.to(x_PCB), g_PCB


def _parts(x_PCB: Tensor) -> tuple:
    bounds = equal_shares(x_PCB.shape[0])
    return bounds, torch.zeros(len(bounds) - 1, 2, x_PCB.shape[1], dtype=torch.float64)
