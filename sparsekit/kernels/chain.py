"""Linear layers and the ReLUs between them run as one operator, which saves what single ones cost beside the kernels.

For each operator Python and autograd take as long as the kernel of a small or very sparse layer.

Legend: `B` batch, `O` outputs of a layer.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels.first_order import first_derivatives_only
from sparsekit.kernels.functions import compiled_calls, in_rows
from sparsekit.kernels.layout import in_layout
from sparsekit.kernels.structure import Structure


class Link(NamedTuple):
    """A linear layer of a chain: what it computes with, and whether a ReLU follows."""

    structure: Structure
    values: Float[Tensor, " e *ones"]
    bias: Float[Tensor, " o"] | None
    relu: bool


def linear_chain(x: Float[Tensor, "b features"], links: list[Link]) -> Float[Tensor, "b outputs"]:
    """Apply linear layers one after the other, and return the feature-major result.

    It is bit for bit that of `sparse_linear` and `torch.relu`, and so are the gradients. The caller checks that
    the compiled kernels can compute with the input, that each layer fits what it gets, and that types are equal.
    """
    parameters = [tensor for link in links for tensor in (link.values, link.bias)]
    return _Chain.apply(x, [link.structure for link in links], [link.relu for link in links], *parameters)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, structures: list[Structure], relus: list[bool], *parameters: Tensor | None) -> Tensor:
        calls, batch = compiled_calls(), len(x)
        x, ctx.x_layout = in_rows(x)
        results = [x]
        for structure, relu, values, bias in zip(structures, relus, parameters[::2], parameters[1::2], strict=True):
            y_BO = torch.empty_strided((batch, structure.num_rows), (1, batch), dtype=x.dtype)
            calls.linear_forward(values, structure, bias, results[-1], y_BO, batch)
            results.append(y_BO.relu_() if relu else y_BO)
        last = results[-1] if relus[-1] else None  # which only a ReLU needs to know
        ctx.save_for_backward(*results[:-1], last, *parameters[::2])
        ctx.structures, ctx.relus = structures, relus
        return results[-1]

    @staticmethod
    @first_derivatives_only
    def backward(ctx, grad: Tensor):
        calls, count = compiled_calls(), len(ctx.structures)
        results, all_values = ctx.saved_tensors[: count + 1], ctx.saved_tensors[count + 1 :]
        needs_x, needs_parameters = ctx.needs_input_grad[0], ctx.needs_input_grad[3:]
        g, grads = in_rows(grad)[0], [None] * (2 * count)
        for k in reversed(range(count)):
            if ctx.relus[k]:
                g = torch.ops.aten.threshold_backward(g, results[k + 1], 0)
            needs_more = needs_x or any(needs_parameters[: 2 * k])
            g, grads[2 * k], grads[2 * k + 1] = calls.linear_backward(
                all_values[k], ctx.structures[k], in_rows(results[k])[0], in_rows(g)[0], len(grad),
                needs_input=needs_more, needs_bias=needs_parameters[2 * k + 1],
            )  # fmt: skip
            if not needs_more:
                break
        dx = g if g is None or ctx.x_layout == "rows" else in_layout(g.T, ctx.x_layout)
        return dx, None, None, *grads
