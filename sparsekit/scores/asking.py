"""What scores ask a model for: gradients by weights it may not even use."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gradients_of(value: Tensor, weights: list[Tensor], *, create_graph: bool = False) -> Sequence[Tensor]:
    """Return the gradient of a number by some weights: zeros by those, or by all, that it does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    return torch.autograd.grad(value, weights, create_graph=create_graph, materialize_grads=True)
