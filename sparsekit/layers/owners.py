"""A module whose weight is masked reads the masked one under the same name, by a property of a subclass of its own.

`open_owner` puts masked matrices into a module, and `close_owner` takes them out again. In between the module is of a
subclass with the same name, as torch's parametrizations make it, but it can be saved and copied as a whole.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.kernels.positions import as_positions
from sparsekit.layers.dense_weight import DenseWeight
from sparsekit.layers.loading import from_dense
from sparsekit.layers.matrix_layer import CONTAINER, MaskedMatrix
from sparsekit.topology import LayerTopology


class WholeWeight:
    """A parameter of an owner with all its masked matrices, which serves as the layer behind a `DenseWeight`."""

    storage = "masked"

    def __init__(self, owner: nn.Module, name: str):
        self.owner, self.name = owner, name

    @property
    def param(self) -> Tensor:
        """The parameter itself."""
        return self.owner._parameters[self.name]  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's shape."""
        return tuple(self.param.shape)

    @property
    def layers(self) -> list[MaskedMatrix]:
        """Its masked matrices."""
        return layers_of(self.owner, self.name)

    def effective_weight(self, *, read: bool = False) -> Tensor:
        """Return the weight that the forward pass uses, as a differentiable function of the parameter."""
        layers = self.layers
        if torch.compiler.is_compiling() or any(x.catcher or x.forward_mask for x in layers) or len(layers) == 1:
            weight = self.param
            for layer in layers:
                weight = layer.masked(weight)
            return weight
        for layer in layers:
            layer.copy_guard.check()
        return self.param * self.mask

    @property
    def mask(self) -> Tensor:
        """True where a connection exists in any matrix, or where the parameter holds none of them."""
        layers = self.layers
        return layers[0].mask if len(layers) == 1 else torch.stack([layer.mask for layer in layers]).all(0)

    def dense_weight(self) -> Tensor:
        """Return a detached copy of the weight that the forward pass uses."""
        with torch.no_grad():
            return self.effective_weight().detach().clone()

    def scattered(self, packed: Tensor) -> Tensor:
        """Return a detached tensor with zeros wherever there is no connection."""
        return packed.detach() * self.mask

    def laid_out(self, packed: Tensor) -> Tensor:
        """Return a tensor shaped like the parameter without what has no connection, differentiably."""
        return packed * self.mask

    def gather(self, dense: Tensor, into: Tensor) -> None:
        """Write what connections have in a dense tensor into another, in place."""
        into.copy_(dense * self.mask)

    def dense_grad(self) -> Tensor:
        """Return the gradient of the parameter, which must exist."""
        assert self.param.grad is not None
        return self.param.grad

    def assign(self, value: Tensor) -> None:
        """Take a whole new weight, which must be zero where there are no connections.

        Raises:
            ValueError: if it is not.
        """
        mask = LayerTopology.of_mask(self.mask)
        from_dense(value.detach(), mask, strictly=True)
        with torch.no_grad():
            self.param.copy_(value)
        self.param.requires_grad_(value.requires_grad)

    def __repr__(self) -> str:
        return f"{type(self.owner).__name__}.{self.name}"


def layers_of(owner: nn.Module, name: str | None = None) -> list[MaskedMatrix]:
    """Return the masked matrices of a module, or those of one of its parameters."""
    container = owner._modules.get(CONTAINER)
    children: Iterable[Any] = container.children() if container is not None else ()
    return [layer for layer in children if name is None or name in container.names_of(layer)]  # type: ignore[union-attr]


class SparseWeights(nn.Module):
    """The child of a module that holds its masked matrices. Where weights are tied, several modules share these."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter_of: dict[str, str] = {}

    def add(self, layer: MaskedMatrix, parameter: str) -> None:
        """Add a matrix of a parameter of the owner."""
        key = f"{parameter}:{layer.owned.part}".rstrip(":")
        self.parameter_of[key] = parameter
        self.add_module(key, layer)

    def names_of(self, layer: MaskedMatrix) -> list[str]:
        """Return which of the owner's parameters hold a matrix."""
        return [self.parameter_of[key] for key, child in self._modules.items() if child is layer]


def open_owner(owner: nn.Module, layers: Mapping[str, list[MaskedMatrix]]) -> None:
    """Let a module read masked weights, given its masked matrices by the names of its parameters."""
    container = SparseWeights()
    for name, listed in layers.items():
        for layer in listed:
            container.add(layer, name)
    children = dict(owner._modules)
    owner._modules.clear()
    owner.add_module(CONTAINER, container)  # first, because a module's own weights come before its children's
    owner._modules.update(children)
    vars(owner).pop("_flat_weights", None)
    owner.__class__ = opened_class(type(owner), tuple(sorted(layers)))


def close_owner(owner: nn.Module) -> None:
    """Undo `open_owner`. The parameters get the weights that the forward pass uses."""
    weights = {name: WholeWeight(owner, name).dense_weight() for name in type(owner).masked_names}  # type: ignore[attr-defined]
    owner.__class__ = type(owner).__mro__[2]
    del owner._modules[CONTAINER]
    for name, weight in weights.items():
        owner._parameters[name].data.copy_(weight)  # type: ignore[union-attr]
    if isinstance(owner, nn.RNNBase):
        owner._init_flat_weights()


def is_open(module: nn.Module) -> bool:
    """Whether a module has masked matrices."""
    return isinstance(module, _Opened)


class _Opened(nn.Module):
    """What all modules with masked matrices have in common, before their own class."""

    masked_names: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.masked_names and isinstance(value, Tensor):
            WholeWeight(self, name).assign(value)
        else:
            super().__setattr__(name, value)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as every module does.

        Raises:
            TypeError: if it is a masked weight, which cannot go under another name.
        """
        if isinstance(param, DenseWeight):
            raise TypeError(
                f"a masked weight must stay where it is, got a request to keep it as {name!r}, as torch.nn.utils.prune "
                "makes it. Prune with sparsify, or before it"
            )
        super().register_parameter(name, param)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move or convert the module, which does not count as writing to its weights."""
        convert: Callable[[], Any] = lambda: super(_Opened, self)._apply(fn, recurse)  # noqa: E731
        for layer in layers_of(self):
            convert = _guarded(layer, convert)
        return convert()

    def _reset(self) -> None:
        for layer in layers_of(self):
            layer.fit()

    def __deepcopy__(self, memo: dict) -> Any:
        for layer in layers_of(self):
            layer.copy_guard.check()
        new = memo[id(self)] = _made(type(self).__mro__[2], self.masked_names)
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        for layer, copied in zip(layers_of(self), layers_of(new), strict=True):
            copied.watch(layer)  # only now, as it needs the owner's parameter
        return new

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _made, (type(self).__mro__[2], self.masked_names), self.__getstate__()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *more: Any) -> None:
        """Read a layer's own connections and values as well, which tickets hold under the layer's name."""
        for path, layer in _paths(self, prefix):
            name = f"{prefix}{layer.name_in_owner}.".removeprefix(".").replace("..", ".")
            values = state_dict.pop(f"{name}packed_weight", None)
            if values is not None:
                topology = LayerTopology(layer.shape, as_positions(state_dict.pop(f"{name}indices")))
                state_dict[f"{path}indices"] = topology.indices
                key = prefix + self._modules[CONTAINER].names_of(layer)[0]  # type: ignore[union-attr]
                state_dict[key] = layer.placed(topology, values, state_dict.get(key, layer.param.detach()))
        super()._load_from_state_dict(state_dict, prefix, *more)


def _paths(owner: nn.Module, prefix: str) -> list[tuple[str, MaskedMatrix]]:
    """Return the prefixes of the entries of an owner's layers in a state dict, with the layers."""
    children = owner._modules[CONTAINER]._modules.items()  # type: ignore[union-attr]
    return [(f"{prefix}{CONTAINER}.{key}.", layer) for key, layer in children]  # type: ignore[misc]


def _guarded(layer: MaskedMatrix, convert: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: layer.copy_guard.while_converting(convert)


def _made(cls: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    opened = opened_class(cls, names)
    return opened.__new__(opened)


@cache
def opened_class(cls: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """Return the subclass of a class of modules that reads the masked form of these parameters."""
    members: dict[str, Any] = {name: property(_reader(name)) for name in names}
    if issubclass(cls, nn.RNNBase):
        members |= {"_flat_weights": property(_flat_weights, lambda self, value: None)}
        members |= {"flatten_parameters": lambda self: None}
    if hasattr(cls, "reset_parameters"):
        members["reset_parameters"] = _reset_parameters
    members |= {"masked_names": names, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (_Opened, cls), members)


def _reader(name: str) -> Callable[[Any], Tensor]:
    def read(self: nn.Module) -> Tensor:
        whole = WholeWeight(self, name)
        if torch.compiler.is_compiling() or torch._C._get_tracing_state():
            return whole.effective_weight()
        return DenseWeight.of(whole)

    return read


def _flat_weights(self: nn.RNNBase) -> list[Tensor]:
    """Return what a recurrent layer hands to torch, all masked."""
    return [getattr(self, name) for name in self._flat_weights_names]


def _reset_parameters(self: Any) -> None:
    """Initialise the module again, as its class does, with weights scaled by `fit_to_fan_in`."""
    super(type(self), self).reset_parameters()  # type: ignore[misc]  # the class above is the user's own
    self._reset()
