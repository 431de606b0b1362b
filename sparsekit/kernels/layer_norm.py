"""This module normalises the features of each sample in feature-major activations, differentiably.

Legend: `B` samples, `W` features.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels.first_order import first_derivatives_only
from sparsekit.kernels.functions import in_rows
from sparsekit.kernels.layout import in_layout, new_feature_major


def layer_norm(
    x: Float[Tensor, "b w"], weight: Float[Tensor, " w"], bias: Float[Tensor, " w"] | None, *, eps: float
) -> Float[Tensor, "b w"]:
    """Normalise each sample by the mean and variance of its features, and return the feature-major result.

    Args:
        x: on a CPU, float32 or float64, copied unless it is feature-major.
        weight: scale of each feature.
        bias: shift of each feature.
        eps: added to the variance.

    Source: Ba et al. (2016), arXiv:1607.06450, equation 4, with mean and variance as in `torch.nn.LayerNorm`.
    """
    return _LayerNorm.apply(x, weight, bias, eps)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        from sparsekit.kernels.cpu import layer_norm
        from sparsekit.kernels.cpu.threads import equal_shares, run

        x_BW, ctx.x_layout = in_rows(x)
        y_BW, y_WB = new_feature_major(x, *x.shape)
        means, scales = x.new_empty(len(x)), x.new_empty(len(x))
        shift = torch.zeros_like(weight) if bias is None else bias
        inputs = (one.detach().numpy() for one in (x_BW.T, weight, shift))
        outputs = (one.numpy() for one in (y_WB, means, scales))
        bounds = equal_shares(len(x), unit=layer_norm.LANES)
        run(layer_norm.forward, layer_norm.forward_threaded, (*inputs, eps, *outputs), bounds)
        ctx.save_for_backward(x_BW, weight, means, scales)
        return y_BW

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        from sparsekit.kernels.cpu import layer_norm
        from sparsekit.kernels.cpu.threads import equal_shares, run

        x_BW, weight, means, scales = ctx.saved_tensors  # whose hooks may return another layout
        bounds = equal_shares(len(grad), unit=layer_norm.LANES)
        parts = torch.zeros(len(bounds) - 1, 2, len(weight), dtype=torch.float64)
        dx_WB = grad.new_empty(grad.shape[::-1])
        arguments = in_rows(x_BW)[0].T, in_rows(grad)[0].T, weight, means, scales, dx_WB, parts
        arrays = tuple(one.detach().numpy() for one in arguments)
        run(layer_norm.backward, layer_norm.backward_threaded, arrays, bounds)
        dweight, dbias = parts.sum(0).to(weight)
        return in_layout(dx_WB, ctx.x_layout), dweight, dbias if ctx.needs_input_grad[2] else None, None
