"""What scores ask a model for: its outputs, whatever its inputs, and gradients by weights it may not even use."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradients_of(value: Tensor, weights: list[Tensor], *, create_graph: bool = False) -> Sequence[Tensor]:
    """Return the gradient of a number by some weights: zeros by those, or by all, that it does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    return torch.autograd.grad(value, weights, create_graph=create_graph, materialize_grads=True)


def outputs_for(model: nn.Module, inputs: Any) -> Any:
    """Return what a model says to one input, to a tuple of several, or to a dict of several by name."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)
