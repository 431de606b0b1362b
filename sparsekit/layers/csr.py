"""Storage `csr` holds the existing connections only. It makes nothing as large as the dense layer unless you ask."""

# The plain classes declare weight and bias in their own way.
# pyright: reportIncompatibleVariableOverride=false

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from sparsekit.kernels import Structure, backend
from sparsekit.kernels.structure import Traced
from sparsekit.layers.accumulation import Catcher
from sparsekit.layers.base import SparseLayer
from sparsekit.layers.plain_settings import Conv2dSettings, LinearSettings
from sparsekit.layers.transition import Transition
from sparsekit.topology import LayerTopology


class _Scatter(torch.autograd.Function):
    """Lay a layer's values out as a dense weight, and show its whole gradient to the layer's catcher."""

    @staticmethod
    def forward(ctx, packed: Tensor, layer: "CsrLayer", catcher: Catcher) -> Tensor:
        ctx.indices, ctx.catcher, ctx.shape = layer.indices, catcher, packed.shape
        return layer.laid_out(packed)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ctx.catcher.received(grad).flatten()[ctx.indices].view(ctx.shape), None, None


class CsrLayer(SparseLayer):
    """The csr layers share this class. `param` is `packed_weight`, one value per connection.

    It has as many dimensions as the dense weight, all but the first of size 1. So code that sorts parameters by their
    dimensions (weight decay for matrices only) treats both storages alike.
    """

    storage = "csr"
    param_name = "packed_weight"

    @property
    def structure(self) -> Structure:
        """The index arrays that the kernels read."""
        return self._derived("structure", lambda: Structure(self.topology, self.kind.num_groups))

    def effective_weight(self, *, read: bool = False) -> Tensor:
        if torch.compiler.is_compiling() or self._has_no_numbers:
            return _scattered(self.param, self, self.stored_indices.round().long())
        self.copy_guard.check()
        if self.catcher is None:
            return self.laid_out(self.param)
        self.catcher.was_read |= read
        return _Scatter.apply(self.param, self, self.catcher)

    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        return values.clone().view(self.packed_shape(topology))

    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        return packed.flatten().clone()

    def laid_out(self, packed: Tensor) -> Tensor:
        return _scattered(packed, self, self.indices)

    def packed_shape(self, topology: LayerTopology) -> tuple[int, ...]:
        return (topology.count, *(1 for _ in topology.shape[1:]))

    def transfer(self, tensor: Tensor, transition: Transition) -> Tensor:
        if transition.old.count == 0:
            return tensor.new_zeros(self.packed_shape(transition.new))
        return tensor.index_select(0, transition.sources).index_fill_(0, transition.grown_at, 0)

    def forward(self, input: Any) -> Tensor:
        """Apply the layer to a tensor.

        Raises:
            TypeError: if the call is traced (`torch.jit`, `torch.fx`, exporters that use them).
            ValueError: if the input does not fit, or the layer is an average over different topologies.
        """
        if torch.compiler.is_compiling():
            if backend.is_fast(self.param):
                return self._applied(input, Traced(self.stored_indices, self.shape, self.kind.num_groups))
            return _uncompiled(self, input)
        is_shape = isinstance(input, Tensor) and input.is_meta
        if is_shape or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
            # These look into every operation, and know the dense ones.
            return self.kind.dense(input, self.effective_weight(), self.bias)
        if torch._C._get_tracing_state() or not isinstance(input, Tensor):
            raise TypeError(
                "a call that is traced by torch.jit, torch.fx or an exporter must go through plain layers, got a csr "
                "layer, whose kernels it cannot see into. Use sparsekit.densify(model)"
            )
        self.copy_guard.check()
        return self._applied(input, self.structure)

    def _applied(self, input: Tensor, structure: Structure | Traced) -> Tensor:
        device, values = "cpu" if input.is_cpu else input.device.type, self.param
        if values.dtype in HALF:
            return self._in_float32(input, structure)
        if input.dtype is not values.dtype:
            input = input.to(values.dtype)
        if not torch.is_autocast_enabled(device):
            return self.kind.sparse(input, values, structure, self.bias)
        # The kernels work in the precision of the values, so under autocast this layer stays in float32.
        with torch.autocast(device_type=device, enabled=False):
            return self.kind.sparse(input, values, structure, self.bias)

    def _in_float32(self, input: Tensor, structure: Structure | Traced) -> Tensor:
        """Compute in the kernels' precision from values stored in half of it."""
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(device_type=input.device.type, enabled=False):
            return self.kind.sparse(input.float(), self.param.float(), structure, bias).to(self.param.dtype)


class SparseLinear(CsrLayer, LinearSettings):
    """This linear layer is stored as its connections."""


class SparseConv2d(CsrLayer, Conv2dSettings):
    """This 2-D convolution is stored as its connections."""


HALF = (torch.float16, torch.bfloat16)


def _scattered(packed: Tensor, layer: CsrLayer, indices: Tensor) -> Tensor:
    flat = packed.new_zeros(math.prod(layer.shape))
    return flat.index_copy(0, indices, packed.flatten()).view(layer.shape)


def _uncompiled(layer: CsrLayer, input: Tensor) -> Tensor:
    """Run a layer as it is while torch compiles what is around it."""
    # Importing torch's compiler takes seconds, so we do it here. With `fullgraph=True` the error shows this very line.
    outside: Any = torch.compiler.disable(CsrLayer.forward, reason="without Numba csr layers cannot be traced")
    return outside(layer, input)
