"""A masked matrix is a sparse layer inside a module that keeps its own forward, and its own parameter.

The parameter stays where it is, under its own name and in its own layout, so that optimizers, files and other code find
what they know. The layer beside it holds the positions of its connections.
"""

import copy
import math
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.kernels.positions import as_positions, as_stored
from sparsekit.layers.base import STATE, SparseLayer
from sparsekit.layers.copy_guard import CopyGuard
from sparsekit.layers.initial import fan_in_factors
from sparsekit.layers.kinds import Kind
from sparsekit.layers.masked import MaskedLayer
from sparsekit.layers.matrices import Matrix
from sparsekit.layers.transition import Transition
from sparsekit.topology import LayerTopology

CONTAINER = "sparse_weights"  # the child of an owner that holds its masked matrices


class MatrixKind(Kind):
    """The kind of a matrix whose module computes with it by itself, so that nobody sees its inputs and outputs."""

    @classmethod
    def of(cls, module: nn.Module) -> "MatrixKind":
        return cls()

    def _unseen(self, *_: Any, **__: Any) -> Any:
        raise ValueError(
            "inputs and outputs of this layer must be seen here, got a matrix that its module computes with by itself. "
            "Use what needs its weights and gradients only"
        )

    dense = sparse = input_matrix = output_matrix = gradient_at = input_sums = plain = _unseen  # type: ignore[assignment]


class MaskedMatrix(MaskedLayer):
    """A matrix in a parameter of another module, its owner, with some of its connections.

    `shape` is that of the matrix, `(outputs, inputs, *kernel)`. `param` is the owner's parameter, in which the matrix
    may be transposed, or one of several. The owner reads the masked weight under the parameter's own name.

    Args:
        matrix: which matrix of which parameter it is.
        name: what follows the owner's name in that of the layer.
        topology: which connections exist.
    """

    owned: Matrix
    name_in_owner: str

    def __init__(self, matrix: Matrix, name: str, topology: LayerTopology):
        nn.Module.__init__(self)
        object.__setattr__(self, "owned", matrix)  # without making the owner a child of its own child
        self.kind, self.shape, self.name_in_owner = MatrixKind(), topology.shape, name
        self._buffers["indices"] = as_stored(topology.indices)
        self.register_parameter("bias", None)
        self.forward_mask = None

    @property
    def param(self) -> Tensor:
        """The owner's parameter, which may hold other matrices as well."""
        return self.owned.param

    def reset_parameters(self) -> None:
        """Do nothing, because the owner draws its weights itself, and calls `fit`."""

    @torch.no_grad()
    def fit(self) -> None:
        """Scale weights that the owner has just drawn to the inputs that each output has."""
        values = self.values()
        self.write(values * fan_in_factors(self.topology)[self.topology.rows].to(values))

    @torch.no_grad()
    def write(self, values: Float[Tensor, " e"]) -> None:
        self.param.copy_(self.placed(self.topology, values, self.param))

    def placed(self, topology: LayerTopology, values: Float[Tensor, " e"], whole: Tensor) -> Tensor:
        """Return a tensor shaped like `param` with this matrix's values in it, and zeros at missing connections."""
        return torch.where(self._own.to(whole.device), self.pack(topology, values.to(whole)), whole)

    def matrix(self, tensor: Tensor) -> Tensor:
        """Return this layer's matrix in any tensor shaped like `param`."""
        return self.owned.of(tensor)

    @property
    def positions(self) -> Tensor:
        """Where each entry of the matrix lies in the flattened parameter."""
        return self.owned.positions(self.stored_indices.device)

    @property
    def _own(self) -> Tensor:
        """True where the parameter holds this matrix, shaped like the parameter."""
        whole = torch.zeros(self.param.numel(), dtype=torch.bool, device=self.stored_indices.device)
        return whole.index_fill_(0, self.positions, True).view(self.param.shape)

    @property
    def mask(self) -> Tensor:
        """True where a connection exists and where the parameter holds something else, shaped like the parameter."""
        if torch.compiler.is_compiling() or self._has_no_numbers:
            return self._make_mask(self.stored_indices.round().long())
        return self._derived("mask", lambda: self._make_mask(self.indices))

    def mask_of(self, topology: LayerTopology) -> Tensor:
        """Return what `mask` is for another topology."""
        return self._make_mask(topology.indices)

    def _make_mask(self, indices: Tensor) -> Tensor:
        positions = self.positions
        whole = torch.ones(self.param.numel(), dtype=torch.bool, device=positions.device)
        return whole.index_fill(0, positions, False).index_fill(0, positions[indices], True).view(self.param.shape)

    @property
    def _at(self) -> Tensor:
        """Where each connection lies in the flattened parameter."""
        return self._derived("at", lambda: self.positions[self.indices])

    def entries(self, packed: Tensor, indices: Tensor) -> Tensor:
        return packed.flatten()[self.positions[indices]]

    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        at = self.positions[topology.indices.to(self.stored_indices.device)].to(values.device)
        flat = values.new_zeros(self.param.numel())
        return flat.index_copy_(0, at, values).view(self.param.shape)

    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        return packed.flatten()[self._at]

    def laid_out(self, packed: Tensor) -> Tensor:
        return self.matrix(packed * self.mask)

    def packed_shape(self, topology: LayerTopology) -> tuple[int, ...]:
        return tuple(self.param.shape)

    def transfer(self, tensor: Tensor, transition: Transition) -> Tensor:
        at = self.positions[transition.kept]
        flat = tensor.flatten()
        rest = tensor.masked_fill(self._own, 0).flatten()
        return rest.index_copy_(0, at, flat.index_select(0, at)).view(tensor.shape)

    def gather(self, dense: Tensor, into: Tensor) -> None:
        into.copy_(self.placed(self.topology, dense.flatten()[self.indices], into))

    def dense_weight(self) -> Tensor:
        weight = SparseLayer.dense_weight(self)
        return weight if self.forward_mask is None else self.forward_mask(weight, self.topology.mask()).detach()

    def dense_grad(self) -> Tensor:
        assert self.param.grad is not None
        return self.matrix(self.param.grad)

    def effective_weight(self, *, read: bool = False) -> Tensor:
        return self.matrix(getattr(self.owned.owner, self.owned.parameter) * 1)

    def masked(self, weight: Tensor) -> Tensor:
        """Return the parameter's weight without the connections that this matrix lacks, as the owner reads it."""
        if not torch.compiler.is_compiling():
            self.copy_guard.check()
        weight = self.through_mask(weight, self.mask)
        if self.forward_mask is None:
            return weight
        active = self.forward_mask(self.matrix(weight), self.topology.mask())
        return weight.flatten().index_copy(0, self.positions, active.flatten()).view(weight.shape)

    def forward(self, *_: Any) -> Tensor:
        """Refuse to be called, because the owner is what is called.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"a matrix must be used by its module, got a call of {self.name_in_owner or 'it'} alone")

    def watch(self, original: "MaskedMatrix") -> None:
        """Let this copy know its original, which the owner does when it has been copied as well."""
        object.__setattr__(self, "_copy_guard", CopyGuard(self, original=original))

    def __deepcopy__(self, memo: dict) -> "MaskedMatrix":
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def extra_repr(self) -> str:
        return f"{self.owned.parameter} {super().extra_repr()}"

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        """Load positions, where there are any, after the owner has loaded the weights, and mask these."""
        stored = state_dict.get(f"{prefix}indices")
        try:
            topology = self.topology if stored is None else LayerTopology(self.shape, as_positions(stored))
        except (TypeError, ValueError) as error:
            errors.append(f"{prefix.rstrip('.')}: {error}")
            return
        for name in [f"{STATE}{key}" for key in self.rule_state]:
            del self._buffers[name]
        of_rule = {name.removeprefix(prefix): x for name, x in state_dict.items() if name.startswith(prefix + STATE)}
        self.set_rule_state({name.removeprefix(STATE): x.clone() for name, x in of_rule.items()})
        self._take(topology)
        state_dict[f"{prefix}indices"] = as_stored(topology.indices)
        nn.Module._load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def _take(self, topology: LayerTopology) -> None:
        """Take over a topology for weights that were just loaded."""
        if not self._has(topology):
            self._invalidate_backward()
            self.param.grad = None
        self._buffers["indices"] = as_stored(topology.indices.to(self.stored_indices.device))
        self.copy_guard.reset()
        with torch.no_grad():
            off = self.param.detach().count_nonzero() - (self.param.detach() * self.mask).count_nonzero()
            self.param.data.mul_(self.mask)
        if off:
            warnings.warn(
                f"{self.owned.parameter}: {int(off):,} of {math.prod(self.shape):,} loaded values lie off the topology "
                "and are left out. Load into the plain model and call sparsify to choose a topology for them",
                stacklevel=2,
            )
