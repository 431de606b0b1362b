"""Storage `masked`: a dense weight and a mask in the forward pass. Any device; saves no memory and no time."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Variable

from sparsekit.layers.base import SparseLayer
from sparsekit.topology import LayerTopology


class DenseGradient:
    """Catches the gradient of *all* weights of a masked layer, those that do not exist included.

    While it is on, the parameter receives the dense gradient: it is accumulated over micro-batches and, under DDP,
    averaged over the processes together with everything else. As soon as a backward pass has ended it is copied to
    `total` and the parameter keeps the gradients of existing connections only, so that nobody else (gradient
    clipping, the optimizer) ever sees the rest.
    """

    def __init__(self, layer: "MaskedLayer"):
        self.layer = layer
        self.total: Tensor | None = None
        self._backward_pass = -1

    def received(self, grad: Tensor) -> Tensor:
        """Take part in a backward pass: hand on the gradient, with what earlier micro-batches found off the mask."""
        # A layer used twice takes part twice; one whose pass was interrupted is met again in another.
        this_pass = torch._C._current_graph_task_id()
        if self._backward_pass == this_pass:
            return grad
        self._backward_pass = this_pass
        if grad_was_cleared(self.layer.param):
            self.total = None
        engine = Variable._execution_engine
        # Queued twice over, so that it runs after DDP's own end-of-backward callback has written the averages.
        engine.queue_callback(lambda: engine.queue_callback(self._settle))
        return grad if self.total is None else grad + self.total * ~self.layer.mask

    def _settle(self) -> None:
        grad = self.layer.param.grad
        if grad is None:
            return
        # A step with infinite gradients is skipped by GradScaler: it must not spoil the next one.
        self.total = grad.clone() if bool(grad.isfinite().all()) else None
        grad.mul_(self.layer.mask)


def grad_was_cleared(param: Tensor) -> bool:
    """Whether what was accumulated so far has been thrown away: a new step, or one that GradScaler skipped."""
    return param.grad is None or not bool(param.grad.any())


class _Straight(torch.autograd.Function):
    """Multiply by the mask; backward hands the gradient on as if there were no mask."""

    @staticmethod
    def forward(ctx, weight: Tensor, mask: Tensor, catcher: DenseGradient) -> Tensor:
        ctx.catcher = catcher
        return weight * mask

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ctx.catcher.received(grad), None, None


class MaskedLayer(SparseLayer):
    """What masked layers share; `param` is the dense `weight`, zero wherever there is no connection."""

    storage = "masked"
    param_name = "weight"
    catcher: DenseGradient | None = None

    @property
    def mask(self) -> Tensor:
        """True where a connection exists, shaped like the weight."""
        return self._derived("mask", lambda: self.topology.mask())

    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        flat = values.new_zeros(topology.size)
        return flat.index_copy_(0, topology.indices.to(values.device), values).view(topology.shape)

    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        return packed.flatten()[self.indices]

    def transfer(self, tensor: Tensor, old: LayerTopology, new: LayerTopology) -> Tensor:
        return torch.where((old & new).mask(), tensor, 0)

    def forward(self, input: Tensor) -> Tensor:
        if self.catcher is None:
            weight = self.param * self.mask
        else:
            weight = _Straight.apply(self.param, self.mask, self.catcher)
        return self.kind.dense(input, weight, self.bias)


class MaskedLinear(MaskedLayer):
    """A linear layer stored as a dense weight and a mask."""


class MaskedConv2d(MaskedLayer):
    """A 2-D convolution stored as a dense weight and a mask."""
