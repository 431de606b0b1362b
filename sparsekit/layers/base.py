"""The sparse layer: a module that owns a topology and the values of its connections."""

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.layers.kinds import Kind
from sparsekit.layers.move import Move
from sparsekit.topology import LayerTopology

GHOST = "_ghost"  # where a module keeps what a trick has put around its forward for a while
MEMORY = "memory_"  # what the names of buffers that a rule remembers something in begin with


class SparseLayer(nn.Module, ABC):
    """A linear or convolutional layer with some of its connections.

    `indices` is saved in the `state_dict`, so a topology travels with every checkpoint. `param` is the same object
    for life, only refilled: optimizers keep hold of it across rewirings. Final subclasses: `MaskedLinear`,
    `MaskedConv2d`, `SparseLinear`, `SparseConv2d`.

    Args:
        kind: linear or convolution, with its settings.
        topology: which connections exist.
        values: their values, in the order of `topology.indices`.
        bias: the plain layer's bias (the parameter itself: layers may share one), or None.
    """

    storage: ClassVar[str]
    param_name: ClassVar[str]
    indices: Tensor
    bias: nn.Parameter | None

    def __init__(self, kind: Kind, topology: LayerTopology, values: Float[Tensor, " e"], bias: nn.Parameter | None):
        super().__init__()
        self.kind = kind
        self.shape = topology.shape
        self.register_buffer("indices", topology.indices.to(values.device).clone())
        # In the order of the plain layer: an optimizer's saved state knows parameters by their order only.
        self.register_parameter(self.param_name, nn.Parameter(self.pack(topology, values.detach())))
        self.register_parameter("bias", bias)

    @property
    def param(self) -> nn.Parameter:
        """What the optimizer trains: the dense weight (`masked`) or the connections' values (`csr`)."""
        return getattr(self, self.param_name)

    @property
    def topology(self) -> LayerTopology:
        """Which connections exist."""
        return self._derived("topology", lambda: LayerTopology(self.shape, self.indices))

    @abstractmethod
    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        """Return values laid out as `param` holds them."""

    @abstractmethod
    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        """Return what a tensor shaped like `param` holds for each connection, in the order of `topology.indices`."""

    @abstractmethod
    def packed_shape(self, topology: LayerTopology) -> tuple[int, ...]:
        """Return the shape of `param` under a topology."""

    @abstractmethod
    def transfer(self, tensor: Tensor, move: Move) -> Tensor:
        """Move a tensor shaped like `param` (weights, momentum, Adam moments) to a new topology; grown places are 0."""

    def values(self) -> Float[Tensor, " e"]:
        """Return the value of each connection, in the order of `topology.indices`."""
        return self.unpack(self.param.detach())

    def grads(self) -> Float[Tensor, " e"] | None:
        """Return the gradient of each connection, or None before any backward pass."""
        return None if self.param.grad is None else self.unpack(self.param.grad)

    @property
    def memory(self) -> dict[str, Tensor]:
        """What a rule remembers about this layer: buffers, so it is saved and restored with everything else."""
        return {name.removeprefix(MEMORY): x for name, x in self._buffers.items() if name.startswith(MEMORY)}  # type: ignore[misc]

    def remember(self, notes: Mapping[str, Tensor]) -> None:
        """Write down what a rule wants to find again at the next step; nothing in it moves at a rewiring."""
        for name, tensor in notes.items():
            self.register_buffer(f"{MEMORY}{name}", tensor.detach().to(self.indices.device))

    def set_topology(self, move: Move, grown: Tensor | None = None) -> None:
        """Change which connections exist, in place; call `rewire`, which moves the optimizer's state as well.

        Args:
            move: from the present topology to the new one.
            grown: values of the grown connections, in the order of `move.grown`; zeros if None.
        """
        moved = self.transfer(self.param.detach(), move)
        if grown is not None:
            packed = self.pack(move.new, grown.new_zeros(move.new.count).index_copy(0, move.grown_at, grown))
            moved = moved + packed.to(moved)
        self.indices = move.new.indices
        self._derived("topology", lambda: move.new)
        self._refill(moved)

    def to_plain(self) -> nn.Module:
        """Return the plain module with the same weights and the same bias; missing connections are zeros."""
        # On no device, so that no random numbers are drawn for weights nobody keeps.
        with torch.device("meta"):
            plain = self.kind.plain(self.shape, self.bias is not None)
        plain.weight = nn.Parameter(self.dense_weight(), requires_grad=self.param.requires_grad)
        plain.register_parameter("bias", self.bias)
        return plain.train(self.training)

    def dense_weight(self) -> Tensor:
        """Return a dense copy of the weight, detached; as large as the dense layer."""
        flat = torch.zeros(self.topology.size, dtype=self.param.dtype, device=self.param.device)
        return flat.index_copy(0, self.indices, self.values()).view(self.shape)

    def extra_repr(self) -> str:
        topology = self.topology
        return f"{topology.shape}, density {topology.density:.4f} ({topology.count:,} connections)"

    def _derived(self, name: str, make: Any) -> Any:
        """Keep what follows from the topology until `indices` changes (rewired, moved, loaded, overwritten)."""
        cache: dict[str, Any] | None = self.__dict__.get("_cache")
        indices = self.indices  # looked up once: modules are slow to find their buffers
        version = 0 if indices.is_inference() else indices._version
        if cache is None or cache["indices"] is not indices or cache["version"] != version:
            cache = {"indices": indices, "version": version}
            object.__setattr__(self, "_cache", cache)
        if name not in cache:
            cache[name] = make()
        return cache[name]

    def __getstate__(self) -> dict:
        # What records a backward pass belongs to this very layer: copies and files go without it.
        left = {key for key, hook in self._forward_hooks.items() if getattr(hook, "stays_behind", False)}
        state = {key: value for key, value in self.__dict__.items() if key not in ("_cache", "catcher")}
        for name in ("_forward_hooks", "_forward_hooks_with_kwargs"):
            state[name] = OrderedDict((key, value) for key, value in state[name].items() if key not in left)
        return state

    def _refill(self, packed: Tensor) -> None:
        # The same parameter object, and where possible the same memory: optimizers and DDP buckets hold on to both.
        if packed.shape == self.param.shape:
            self.param.data.copy_(packed)
        else:
            # By way of another type, or autograd still expects gradients of the old size where an old loss is alive.
            other = torch.float64 if packed.dtype != torch.float64 else torch.float32
            self.param.grad = None
            self.param.data = packed.to(other)
            self.param.data = packed

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        """Load a plain layer's weight, or either storage's state, whatever this layer's storage and count."""
        remembered = [name for name in state_dict if name.startswith(f"{prefix}{MEMORY}")]
        for name in [f"{MEMORY}{key}" for key in self.memory]:
            del self._buffers[name]
        self.remember({name.removeprefix(f"{prefix}{MEMORY}"): state_dict[name].clone() for name in remembered})
        try:
            loaded = _read_state(state_dict, prefix, self)
        except (TypeError, ValueError) as error:
            errors.append(f"{prefix.rstrip('.')}: {error}")
            return
        if loaded is not None:
            topology, values = loaded
            if topology != self.topology:
                move = Move(self.topology, topology.to(self.indices.device))
                self._refill(self.transfer(self.param.detach(), move))
                self.param.grad = None
            self.indices = topology.indices.to(self.indices.device)
            state_dict[f"{prefix}indices"] = topology.indices
            state_dict[f"{prefix}{self.param_name}"] = self.pack(self.topology, values.to(self.param))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


def _read_state(state: dict, prefix: str, layer: SparseLayer) -> tuple[LayerTopology, Tensor] | None:
    """Take a layer's topology and values out of a state dict, from whichever form they are stored in."""
    indices = state.pop(f"{prefix}indices", None)
    weight, packed = state.pop(f"{prefix}weight", None), state.pop(f"{prefix}packed_weight", None)
    if weight is None and packed is None:
        return None
    topology = layer.topology if indices is None else LayerTopology(layer.shape, indices)
    if weight is not None:
        return topology, _from_dense(weight, topology, prefix)
    if packed.shape != topology.indices.shape:
        raise ValueError(
            f"there must be one value per connection, got {packed.numel()} values for {topology.count} connections"
        )
    return topology, packed


def _from_dense(weight: Tensor, topology: LayerTopology, prefix: str) -> Tensor:
    if tuple(weight.shape) != topology.shape:
        raise ValueError(f"the weight must have shape {topology.shape}, got {tuple(weight.shape)}")
    values = weight.flatten()[topology.indices.to(weight.device)]
    off = int(weight.count_nonzero() - values.count_nonzero())
    if off:
        warnings.warn(
            f"{prefix}weight: {off:,} of {topology.size:,} loaded values lie off the topology and are left out; "
            "load into the plain model and call sparsify to choose a topology for them",
            stacklevel=2,
        )
    return values
