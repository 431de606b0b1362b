"""Storage `csr`: the existing connections only. Nothing as large as the dense layer is ever made."""

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels import Structure, backend
from sparsekit.layers.base import SparseLayer
from sparsekit.layers.move import Move
from sparsekit.topology import LayerTopology


class CsrLayer(SparseLayer):
    """What csr layers share; `param` is `packed_weight`, one value per connection.

    Two such parameters can be averaged (`AveragedModel`, EMA) only while both have the same topology: after a rewiring
    the same place in `packed_weight` belongs to another connection. Average `densify`-ed copies, or use `masked`.
    """

    storage = "csr"
    param_name = "packed_weight"

    @property
    def structure(self) -> Structure:
        """The index arrays the kernels read."""
        return self._derived("structure", lambda: Structure(self.topology, self.kind.num_groups))

    @property
    def weight(self) -> Tensor:
        """A dense copy, for code that only reads `.weight`; writing to it changes nothing."""
        return self.dense_weight()

    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        return values.clone()

    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        return packed.clone()

    def packed_shape(self, topology: LayerTopology) -> tuple[int, ...]:
        return (topology.count,)

    def transfer(self, tensor: Tensor, move: Move) -> Tensor:
        if move.old.count == 0:
            return tensor.new_zeros(move.new.count)
        return tensor.index_select(0, move.sources).index_fill_(0, move.grown_at, 0)

    @backend.uncompiled
    def forward(self, input: Tensor) -> Tensor:
        device, values = input.device.type, self.param
        if not torch.is_autocast_enabled(device):
            return self.kind.sparse(input.to(values.dtype), values, self.structure, self.bias)
        # The kernels work in the precision of the values, so under autocast this layer stays in float32.
        with torch.autocast(device_type=device, enabled=False):
            return self.kind.sparse(input.to(values.dtype), values, self.structure, self.bias)


class SparseLinear(CsrLayer):
    """A linear layer stored as its connections."""


class SparseConv2d(CsrLayer):
    """A 2-D convolution stored as its connections."""
