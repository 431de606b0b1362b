"""Storage `masked` uses a dense weight and a mask on any device. It saves no memory and no time."""

# The plain classes declare weight and bias in their own way.
# pyright: reportIncompatibleVariableOverride=false

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparsekit.layers.accumulation import Accumulation, when_backward_ends
from sparsekit.layers.base import SparseLayer
from sparsekit.layers.off_mask import as_it_is
from sparsekit.layers.plain_settings import Conv2dSettings, LinearSettings
from sparsekit.layers.transition import Transition
from sparsekit.topology import LayerTopology


class DenseGradient:
    """This catcher receives the gradient of *all* weights of a masked layer, missing connections included.

    While it is on, the parameter receives the dense gradient. It is accumulated over micro-batches and, under DDP,
    averaged over the processes together with everything else. As soon as a backward pass has ended we copy it to
    `total`, and the parameter keeps the gradients of existing connections only. So nobody else (gradient clipping,
    the optimizer) ever sees the rest.
    """

    def __init__(self, layer: "MaskedLayer"):
        self.layer = layer
        self.total: Tensor | None = None
        self.is_infinite = False
        self.was_read = False
        self._accumulation = Accumulation(layer.param)

    def received(self, grad: Tensor) -> Tensor:
        """Take part in a backward pass by handing on the gradient, plus that of earlier micro-batches off the mask."""
        if not self._accumulation.begins():
            return grad
        if self._accumulation.was_cleared():
            self.total, self.is_infinite = None, False
        when_backward_ends(self._settle)
        return grad if self.total is None else grad + self.total * ~self.layer.mask

    def entries(self, indices: Tensor) -> Tensor:
        """Return the gradient at any sorted positions, of a backward pass that was caught."""
        assert self.total is not None
        return self.layer.entries(self.total, indices)

    def _settle(self) -> None:
        grad = self.layer.param.grad
        if grad is None:
            return
        # GradScaler skips a step with infinite gradients, so it must not spoil the next one.
        self.is_infinite = not bool(grad.isfinite().all())
        self.total = None if self.is_infinite else grad.clone()
        grad.mul_(self.layer.mask)
        self._accumulation.record()


class _Straight(torch.autograd.Function):
    """Multiply by the mask, but hand the gradient on as if there were none."""

    @staticmethod
    def forward(ctx, weight: Tensor, mask: Tensor, catcher: Any) -> Tensor:
        ctx.catcher = catcher
        return weight * mask

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ctx.catcher.received(grad), None, None


class ForwardMask(nn.Module, ABC):
    """With a forward mask a layer uses fewer connections in its forward pass than it trains.

    Some methods hold weights that they do not use at the moment. These still get gradients, so they may be used again.
    A forward mask may have parameters of its own.
    """

    @abstractmethod
    def forward(self, weight: Tensor, mask: Bool[Tensor, "o *f"]) -> Tensor:
        """Return the weight that the forward pass uses, zero wherever it uses none.

        Args:
            weight: of the trained connections, zero elsewhere.
            mask: true at the trained connections.
        """


class MaskedLayer(SparseLayer):
    """This is the base class of masked layers. `param` is the dense `weight`, zero wherever there is no connection.

    With a `forward_mask` the forward pass uses only some of the connections that exist and are trained.
    """

    storage = "masked"
    param_name = "weight"
    forward_mask: ForwardMask | None

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.forward_mask = None

    def dense_weight(self) -> Tensor:
        weight = super().dense_weight()
        return weight if self.forward_mask is None else self.forward_mask(weight, self.mask).detach()

    @property
    def active(self) -> LayerTopology:
        """The connections that the forward pass uses, which are all of them without a forward mask."""
        return self.topology if self.forward_mask is None else LayerTopology.of_mask(self.dense_weight() != 0)

    @property
    def mask(self) -> Tensor:
        """True where a connection exists, shaped like the weight."""
        # A cache between steps is nothing that a compiler could trace, or that several models could share.
        if torch.compiler.is_compiling() or self._has_no_numbers:
            empty = self.stored_indices.new_zeros(math.prod(self.shape), dtype=torch.bool)
            return empty.index_fill(0, self.stored_indices.round().long(), True).view(self.shape)
        return self._derived("mask", lambda: self.topology.mask())

    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        flat = values.new_zeros(topology.size)
        return flat.index_copy_(0, topology.indices.to(values.device), values).view(topology.shape)

    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        return packed.flatten()[self.indices]

    def entries(self, packed: Tensor, indices: Tensor) -> Tensor:
        """Return what a tensor shaped like `param` holds at any positions, existing or missing."""
        return packed.flatten()[indices]

    def laid_out(self, packed: Tensor) -> Tensor:
        return packed * self.mask

    def packed_shape(self, topology: LayerTopology) -> tuple[int, ...]:
        return topology.shape

    def transfer(self, tensor: Tensor, transition: Transition) -> Tensor:
        new, survivors = transition.new, transition.kept
        values = tensor.flatten().index_select(0, survivors)
        return tensor.new_zeros(new.size).index_copy_(0, survivors, values).view(new.shape)

    def effective_weight(self, *, read: bool = False) -> Tensor:
        if not torch.compiler.is_compiling():
            self.copy_guard.check()
        if self.catcher is not None:
            self.catcher.was_read |= read
        weight = self.through_mask(self.param, self.mask)
        return weight if self.forward_mask is None else self.forward_mask(weight, self.mask)

    def through_mask(self, weight: Tensor, mask: Tensor) -> Tensor:
        """Return a weight times a mask, whose whole gradient goes to the catcher while there is one."""
        return weight * mask if self.catcher is None else _Straight.apply(weight, mask, self.catcher)

    def dense_grad(self) -> Tensor:
        assert self.param.grad is not None
        return self.param.grad

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        # Noise on all parameters, for example, reaches numbers that no forward pass uses, but a plain model would.
        if not (self.param.is_meta or hasattr(self.param, "placements")):
            self.param.data.masked_fill_(~self.mask, 0)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def forward(self, input: Tensor) -> Tensor:
        return self.kind.dense(input, self._weight_for(input), self.bias)

    def _weight_for(self, input: Any) -> Tensor:
        """Return the weight, without a product with the mask where that changes nothing and would take long.

        The parameter is zero wherever there is no connection, unless other code has written there.
        """
        if self.catcher is None and self.forward_mask is None and (weight := as_it_is(self, input)) is not None:
            return weight
        return self.effective_weight()

    def _invalidate_backward(self) -> None:
        super()._invalidate_backward()
        # Autograd saves the mask for the backward pass, not the parameter itself.
        if (mask := vars(self).get("_cache", {}).get("mask")) is not None:
            torch.autograd.graph.increment_version(mask)


class MaskedLinear(MaskedLayer, LinearSettings):
    """This linear layer is stored as a dense weight and a mask."""


class MaskedConv2d(MaskedLayer, Conv2dSettings):
    """This 2-D convolution is stored as a dense weight and a mask."""
