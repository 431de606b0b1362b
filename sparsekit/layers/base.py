"""A sparse layer is a module that owns a topology and the values of its connections."""

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.kernels.positions import as_positions, as_stored
from sparsekit.layers.accumulation import Catcher
from sparsekit.layers.copy_guard import CopyGuard
from sparsekit.layers.dense_weight import DenseWeight
from sparsekit.layers.initial import scaled_rows
from sparsekit.layers.kinds import Kind
from sparsekit.layers.loading import read_state
from sparsekit.layers.transition import Transition
from sparsekit.layers.weight_access import WeightAccess
from sparsekit.topology import LayerTopology

GHOST = "_ghost"  # the attribute of a module in which a trick keeps what it has put around its forward
STATE = "state_"  # the prefix of buffers that hold a rule's state


class SparseLayer(WeightAccess, ABC):
    """A sparse layer is a linear or convolutional layer with some of its connections.

    `indices` is saved in the `state_dict`, so a topology travels with every checkpoint. `param` is the same object
    for life and is only refilled, so optimizers hold it across rewirings. `weight` is the dense weight for code that
    expects one (see `DenseWeight`). Final subclasses like `MaskedLinear` are `nn.Linear` or `nn.Conv2d` as well.

    Args:
        kind: linear or convolution, with its settings.
        topology: which connections exist.
        values: their values, in the order of `topology.indices`.
        bias: the plain layer's bias (the parameter itself, because layers may share one), or None.
    """

    storage: ClassVar[str]
    param_name: ClassVar[str]
    bias: nn.Parameter | None
    catcher: Catcher | None = None  # while a backward pass is captured

    def __init__(self, kind: Kind, topology: LayerTopology, values: Float[Tensor, " e"], bias: nn.Parameter | None):
        nn.Module.__init__(self)  # not that of nn.Linear, which would initialise a dense weight
        self.kind = kind
        self.shape = topology.shape
        # We set these directly, because properties bear their names and show them to other code.
        self._buffers["indices"] = as_stored(topology.indices.to(values.device))
        # The order is that of the plain layer, because an optimizer's saved state knows parameters by their order only.
        self._parameters[self.param_name] = nn.Parameter(self.pack(topology, values.detach()))
        self.register_parameter("bias", bias)

    @property
    def param(self) -> Tensor:  # under torch.func another tensor stands for the parameter
        """The parameter that the optimizer trains: the dense weight (`masked`) or the connections' values (`csr`)."""
        return self._parameters[self.param_name]  # type: ignore[return-value]

    @property
    def indices(self) -> Int64[Tensor, " e"]:
        """The connections' sorted positions in the flattened weight, as a copy that must only be read."""
        return self._derived("indices", lambda: as_positions(self.stored_indices))

    @property
    def stored_indices(self) -> Tensor:
        """The buffer that stores the positions (see `kernels.positions`)."""
        return self._buffers["indices"]  # type: ignore[return-value]

    @property
    def _has_no_numbers(self) -> bool:
        """Whether no code can read the positions, on the meta device or in `torch.vmap` over several models."""
        stored = self.stored_indices
        if not torch._C._are_functorch_transforms_active():
            return stored.is_meta
        return stored.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(stored)  # type: ignore[attr-defined]

    @abstractmethod
    def effective_weight(self, *, read: bool = False) -> Tensor:
        """Return the dense weight that the forward pass uses, as a differentiable function of `param`.

        Args:
            read: whether other code than the layer's own forward asks, which a captured backward pass records.
        """

    @property
    def topology(self) -> LayerTopology:
        """The connections that exist."""
        return self._derived("topology", lambda: LayerTopology(self.shape, self.indices))

    @abstractmethod
    def pack(self, topology: LayerTopology, values: Float[Tensor, " e"]) -> Tensor:
        """Return values laid out as `param` holds them."""

    @abstractmethod
    def unpack(self, packed: Tensor) -> Float[Tensor, " e"]:
        """Return the value of each connection in a tensor shaped like `param`, in the order of `topology.indices`."""

    @abstractmethod
    def packed_shape(self, topology: LayerTopology) -> tuple[int, ...]:
        """Return the shape of `param` under a topology."""

    @abstractmethod
    def transfer(self, tensor: Tensor, transition: Transition) -> Tensor:
        """Move a tensor shaped like `param` (weights, Adam moments) to a new topology, with 0 for grown connections."""

    def scattered(self, packed: Tensor) -> Tensor:
        """Return a tensor shaped like `param` as a new dense one, detached, zero wherever there is no connection."""
        flat = torch.zeros(self.topology.size, dtype=packed.dtype, device=packed.device)
        return flat.index_copy_(0, self.indices, self.unpack(packed.detach())).view(self.shape)

    @abstractmethod
    def laid_out(self, packed: Tensor) -> Tensor:
        """Return a tensor shaped like `param` as a dense one, differentiably."""

    def gather(self, dense: Tensor, into: Tensor) -> None:
        """Write the connections' values in a dense tensor into one shaped like `param`, in place."""
        into.copy_(self.pack(self.topology, dense.flatten()[self.indices]))

    def write(self, values: Float[Tensor, " e"]) -> None:
        """Give the connections new values, in place."""
        self.param.copy_(self.pack(self.topology, values.to(self.param)))

    def dense_grad(self) -> Tensor:
        """Return the gradient of `param`, which must exist, shaped like the dense weight."""
        return DenseWeight.of(self, gradient=True)

    def values(self) -> Float[Tensor, " e"]:
        """Return the value of each connection, in the order of `topology.indices`."""
        return self.unpack(self.param.detach())

    def grads(self) -> Float[Tensor, " e"] | None:
        """Return the gradient of each connection, or None before any backward pass."""
        return None if self.param.grad is None else self.unpack(self.param.grad)

    @property
    def rule_state(self) -> dict[str, Tensor]:
        """The state of a rule in this layer, as buffers, so it is saved and restored with everything else."""
        return {
            name.removeprefix(STATE): x for name, x in self._buffers.items() if x is not None and name.startswith(STATE)
        }

    def set_rule_state(self, state: Mapping[str, Tensor]) -> None:
        """Keep a rule's state for the next step. Nothing in it moves at a rewiring."""
        for name, tensor in state.items():
            self.register_buffer(f"{STATE}{name}", tensor.detach().to(self.indices.device))

    @torch.inference_mode(False)
    @torch.no_grad()
    def set_topology(self, transition: Transition, grown: Tensor | None = None) -> None:
        """Change which connections exist, in place. Call `rewire` instead, which moves the optimizer state as well.

        Args:
            transition: from the present topology to the new one.
            grown: values of the grown connections, in the order of `transition.grown`, or None for zeros.
        """
        new, packed = transition.new, self.transfer(self.param, transition)
        if grown is not None:
            values = grown.new_zeros(new.count).index_copy(0, transition.grown_at, grown)
            packed = packed + self.pack(new, values).to(packed)
        self.copy_guard.before_rewiring()
        self.copy_guard.reset()
        self._invalidate_backward()
        self._buffers["indices"] = as_stored(new.indices)
        self._derived("topology", lambda: new)
        self._refill(packed)

    def to_plain(self) -> nn.Module:
        """Return the plain module with the same weights and bias, and zeros for missing connections."""
        with torch.device("meta"):  # so no random numbers are drawn for weights that are replaced
            plain = self.kind.plain(self.shape, self.bias is not None)
        plain.weight = nn.Parameter(self.dense_weight(), requires_grad=self.param.requires_grad)
        plain.register_parameter("bias", self.bias)
        return plain.train(self.training)

    def dense_weight(self) -> Tensor:
        """Return a detached dense copy of the weight, as large as the dense layer."""
        return self.scattered(self.param)

    def reset_parameters(self) -> None:
        """Initialise weight and bias again, as the plain layer does, with weights scaled by `fit_to_fan_in`."""
        with torch.device(self.param.device):
            plain = self.kind.plain(self.shape, self.bias is not None)
        with torch.no_grad():
            self.gather(scaled_rows(plain.weight, self.topology), into=self.param)  # type: ignore[arg-type]
            if self.bias is not None:
                self.bias.copy_(plain.bias)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        topology = self.topology
        return f"{topology.shape}, density {topology.density:.4f} ({topology.count:,} connections)"

    def _derived(self, name: str, make: Any) -> Any:
        """Cache what follows from the topology until the positions change (rewired, moved, loaded, overwritten)."""
        cache: dict[str, Any] | None = self.__dict__.get("_cache")
        stored = self._buffers["indices"]
        version = 0 if stored.is_inference() else stored._version  # type: ignore[union-attr]
        if cache is None or cache["stored"] is not stored or cache["version"] != version:
            cache = {"stored": stored, "version": version}
            object.__setattr__(self, "_cache", cache)
        elif (copied := cache.get("indices")) is not None and copied._version:
            raise ValueError(
                "positions must be changed by rewire or load_state_dict, got a layer whose `indices` were written to, "
                "which are a copy. Load a state_dict to restore its topology"
            )
        if name not in cache:
            if torch._C._are_functorch_transforms_active():
                return make()  # results of a transform must not outlive it
            tracing = torch._C._get_tracing_state()  # what is made is no inference tensor, and no part of a trace
            torch._C._set_tracing_state(None)  # type: ignore[arg-type]
            try:
                with torch.inference_mode(False):
                    cache[name] = make()
            finally:
                torch._C._set_tracing_state(tracing)  # type: ignore[arg-type]
        return cache[name]

    @property
    def copy_guard(self) -> CopyGuard:
        """What this layer knows of the one it was copied from, and of its own copies."""
        if "_copy_guard" not in self.__dict__:
            object.__setattr__(self, "_copy_guard", CopyGuard(self))
        return self.__dict__["_copy_guard"]

    def __deepcopy__(self, memo: dict) -> Self:
        self.copy_guard.check()
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        object.__setattr__(new, "_copy_guard", CopyGuard(new, original=self))
        return new

    def __getstate__(self) -> dict:
        # What records a backward pass belongs to this very layer, so copies and files go without it.
        excluded = {key for key, hook in self._forward_hooks.items() if getattr(hook, "stays_behind", False)}
        state = {key: value for key, value in self.__dict__.items() if key not in ("_cache", "catcher", "_copy_guard")}
        for name in ("_forward_hooks", "_forward_hooks_with_kwargs"):
            state[name] = OrderedDict((key, value) for key, value in state[name].items() if key not in excluded)
        return state

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or convert the layer. Positions move along, but their type stays."""
        stored = self.stored_indices
        self.copy_guard.while_converting(lambda: super(SparseLayer, self)._apply(fn, recurse))
        if self.stored_indices.dtype != stored.dtype:
            self._buffers["indices"] = stored.to(self.stored_indices.device)
        return self

    def _invalidate_backward(self) -> None:
        """Count a rewiring as a change in place, so torch refuses a backward pass that began before it."""
        if not self.param.is_inference():
            torch.autograd.graph.increment_version(self.param)

    def _refill(self, packed: Tensor) -> None:
        # We keep the parameter object, and where possible its memory, because optimizers and DDP buckets hold both.
        if packed.shape == self.param.shape:
            self.param.data.copy_(packed)
        else:  # by way of another type, or autograd expects gradients of the old size where an old loss is alive
            other = torch.float64 if packed.dtype != torch.float64 else torch.float32
            self.param.grad = None
            self.param.data = packed.to(other)
            self.param.data = packed

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        self.copy_guard.check()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _has(self, topology: LayerTopology) -> bool:
        if self.stored_indices.is_meta:
            return False
        try:
            return self.topology == topology
        except ValueError:  # memory that nobody has written to yet, after `to_empty`
            return False

    @torch.inference_mode(False)
    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        """Load a plain layer's weight, or either storage's state, whatever this layer's storage and count."""
        of_rule = [name for name in state_dict if name.startswith(f"{prefix}{STATE}")]
        for name in [f"{STATE}{key}" for key in self.rule_state]:
            del self._buffers[name]
        self.set_rule_state({name.removeprefix(f"{prefix}{STATE}"): state_dict[name].clone() for name in of_rule})
        try:
            loaded = read_state(state_dict, prefix, self)
        except (TypeError, ValueError) as error:
            errors.append(f"{prefix.rstrip('.')}: {error}")
            return
        if loaded is not None:
            topology, values = loaded
            if not self._has(topology):
                self._invalidate_backward()
                self._refill(self.param.detach().new_zeros(self.packed_shape(topology)))
                self.param.grad = None
            self._buffers["indices"] = as_stored(topology.indices.to(self.param.device))
            self.copy_guard.reset()
            state_dict[f"{prefix}indices"] = as_stored(topology.indices)
            state_dict[f"{prefix}{self.param_name}"] = self.pack(topology, values.to(self.param.dtype))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
