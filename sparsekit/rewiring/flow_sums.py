"""What arrives at a layer in the flow of ones, and what it passes on, is added up here while the model runs."""

import torch
from torch import Tensor

from sparsekit.layers import MaskedMatrix, SparseLayer

Sums = dict[str, tuple[Tensor, Tensor]]


class FlowThroughMatrix:
    """A catcher that tells from a gradient what arrives at a matrix and what it passes on, which nobody else sees."""

    was_read = False

    def __init__(self, sums: Sums, name: str, layer: MaskedMatrix):
        self.sums, self.name, self.layer = sums, name, layer
        self.total = torch.zeros(layer.shape, dtype=torch.float64, device=layer.param.device).flatten(1)

    def received(self, grad: Tensor) -> Tensor:
        """Add up the gradient, which is the product of both where one sample arrives once."""
        self.total = self.total + self.layer.matrix(grad.detach()).flatten(1)
        root = self.total.sum().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        self.sums[self.name] = (self.total.sum(0) / root, self.total.sum(1) / root)
        return grad


def add_up(sums: Sums, name: str, layer: SparseLayer, args: tuple, kwargs: dict, output: Tensor) -> None:
    """Record what arrives now, and in the backward pass what is passed on. This is a forward hook."""
    if output.requires_grad:
        arrives = layer.kind.input_sums((args[0] if args else kwargs["input"]).detach())

        def record(passed_on: Tensor) -> None:
            before = sums.get(name, (0, 0))
            sums[name] = (before[0] + arrives, before[1] + layer.kind.output_sums(passed_on))

        output.register_hook(record)
