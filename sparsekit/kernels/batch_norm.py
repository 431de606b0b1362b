"""This module normalises batches of feature-major activations, with or without a ReLU after it, differentiably.

Legend: `P` pixels (height times width), `C` channels, `B` batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparsekit.kernels.layout import in_layout, new_feature_major, rows_of


def batch_norm(
    x: Float[Tensor, "b c *hw"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    *,
    eps: float,
    relu: bool = False,
    added: Float[Tensor, "b c *hw"] | None = None,
) -> tuple[Float[Tensor, "b c *hw"], Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Normalise each channel over batch and pixels by their own mean and variance, as in training.

    Args:
        x: `(B, C)` or `(B, C, H, W)` on a CPU, float32 or float64, copied unless it is feature-major.
        weight: scale of each channel.
        bias: shift of each channel.
        eps: added to the variance.
        relu: whether negative results become zero, in the same pass.
        added: a tensor of the input's shape that is added before the ReLU, as in a residual block.

    Returns:
        The feature-major result, and each channel's mean and variance (divided by the number of samples), detached.

    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1.
    """
    return _BatchNorm.apply(x, weight, bias, added, eps, relu)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, eps: float, relu: bool):
        from sparsekit.kernels.cpu import norms

        rows = rows_of(x)
        x_PCB = rows.view(-1, *rows.shape[-2:])
        mean, variance = norms.moments(x_PCB)
        deviation = (variance + eps).sqrt()
        scale = weight.double() / deviation
        shift = bias.double() - mean * scale
        y, y_rows = new_feature_major(x, *x.shape)
        added_PCB = None if added is None else rows_of(added).view(x_PCB.shape)
        norms.scale(x_PCB, scale, shift, added_PCB, y_rows.view(x_PCB.shape), relu=relu)
        mean, variance = mean.to(x), variance.to(x)
        ctx.save_for_backward(x_PCB, scale, shift, mean, deviation, None if added is None else y)
        ctx.relu, ctx.shape = relu, rows.shape
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_):
        from sparsekit.kernels.cpu import norms

        x_PCB, scale, shift, mean, deviation, y = ctx.saved_tensors
        g_PCB = rows_of(grad).view(x_PCB.shape)
        sum_PCB = None if y is None else rows_of(y).view(x_PCB.shape)
        dx_PCB, dweight, dbias, relu_grad_PCB = norms.gradients(
            x_PCB, g_PCB, scale, shift, mean, deviation, sum_PCB, relu=ctx.relu
        )
        dadded = None if y is None else in_layout(relu_grad_PCB.view(ctx.shape), "rows")
        return in_layout(dx_PCB.view(ctx.shape), "rows"), dweight, dbias, dadded, None, None
