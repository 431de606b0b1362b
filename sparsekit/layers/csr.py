"""Storage `csr`: the existing connections only. Nothing as large as the dense layer is ever made."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.kernels import Structure, backend
from sparsekit.kernels.structure import Traced
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

    def forward(self, input: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return self._applied(input, self.structure)
        if backend.is_fast(self.param):
            return self._applied(input, Traced(self.indices, self.shape, self.kind.num_groups))
        return _uncompiled(self, input)

    def _applied(self, input: Tensor, structure: Structure | Traced) -> Tensor:
        device, values = input.device.type, self.param
        if not torch.is_autocast_enabled(device):
            return self.kind.sparse(input.to(values.dtype), values, structure, self.bias)
        # The kernels work in the precision of the values, so under autocast this layer stays in float32.
        with torch.autocast(device_type=device, enabled=False):
            return self.kind.sparse(input.to(values.dtype), values, structure, self.bias)


class SparseLinear(CsrLayer):
    """A linear layer stored as its connections."""


class SparseConv2d(CsrLayer):
    """A 2-D convolution stored as its connections."""


def _uncompiled(layer: CsrLayer, input: Tensor) -> Tensor:
    """Run a layer as it is while torch compiles what is around it."""
    # Made only here: importing torch's compiler takes seconds. With `fullgraph=True` the error shows this very line.
    outside: Any = torch.compiler.disable(CsrLayer.forward, reason="without Numba csr layers cannot be traced")
    return outside(layer, input)
