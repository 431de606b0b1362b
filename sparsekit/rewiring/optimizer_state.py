"""What an optimizer keeps of each weight: which optimizer does the work, and what it starts a new weight with."""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from sparsekit.layers import SparseLayer
from sparsekit.layers.transition import Transition

TRIAL = 0.75  # a weight that is not zero, and exact in every floating type


def chain(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimizer and those that it hands its work on to. The last one updates the weights.

    SAM, Lookahead and accelerate's `AcceleratedOptimizer` hold another optimizer. Most hold none.

    Raises:
        TypeError: if it is no optimizer and holds none.
        ValueError: if one holds several others.

    Example:
        >>> sgd = torch.optim.SGD([torch.zeros(1)])
        >>> chain(sgd) == [sgd]
        True
    """
    optimizers = [optimizer]
    while held := _held_by(optimizers[-1], optimizers):
        if len(held) > 1:
            kinds = ", ".join(type(one).__name__ for one in held)
            raise ValueError(
                f"an optimizer must hand its work on to one other at most, got {type(optimizers[-1]).__name__} with "
                f"{kinds}. Use one of these for all sparse layers"
            )
        optimizers += held
    if not isinstance(optimizers[-1], Optimizer):
        raise TypeError(f"the optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}. Use one")
    return optimizers


def _held_by(owner: object, others: list[Optimizer]) -> list[Optimizer]:
    attributes = [*getattr(owner, "__dict__", {}).values()]
    inside = [item for value in attributes if isinstance(value, list | tuple) for item in value]
    inside += [item for value in attributes if type(value) is dict for item in value.values()]
    held = [value for value in [*attributes, *inside] if isinstance(value, Optimizer)]
    return [*{id(one): one for one in held if not any(one is other for other in others)}.values()]


def states_of(optimizer: Optimizer, layer: SparseLayer) -> Iterator[MutableMapping[str, Any]]:
    """Yield each state that an optimizer, and those that it hands its work on to, keep of a layer's parameter."""
    states = {id(one.state): one.state for one in chain(optimizer) if hasattr(one, "state")}
    return (state[layer.param] for state in states.values() if layer.param in state)


class Trial:
    """A copy of an optimizer that trains two fresh weights only, a zero and another, with the settings of a parameter.

    It shares nothing that a step changes with the optimizer itself.

    Args:
        optimizer: the one to be tried.
        param: a parameter that it trains.
        settings: options of the parameter's group that are to be others.
    """

    def __init__(self, optimizer: Optimizer, param: Tensor, **settings: Any):
        inner = chain(optimizer)[-1]
        group = next((g for g in inner.param_groups if any(p is param for p in g["params"])), inner.param_groups[0])
        self.weights = torch.tensor([0.0, TRIAL]).to(param).view(2, *(1,) * (param.dim() - 1))
        self._probe = object.__new__(type(inner))
        # We leave out the constructor, whose arguments nobody knows, and a scheduler's own `step`.
        attributes = {name: value for name, value in vars(inner).items() if name != "step"}
        hooks = {name: OrderedDict() for name in attributes if name.startswith("_optimizer_step_")}
        trained = {"param_groups": [{**group, **settings, "params": [self.weights]}], "state": defaultdict(_Births)}
        vars(self._probe).update({**attributes, **hooks, **trained})

    @property
    def state(self) -> MutableMapping[str, Any]:
        """What the optimizer keeps of the two weights."""
        return self._probe.state[self.weights]

    def step(self, gradient: float = 0.0) -> None:
        """Let the optimizer take a step by the same gradient for both weights.

        Raises:
            ValueError: if it cannot. The message says why.
        """
        step: Callable[[Optimizer], Any] = type(self._probe).step
        step = getattr(step, "__wrapped__", step) if getattr(step, "hooked", False) else step  # without global hooks
        self.weights.grad = torch.full_like(self.weights, gradient)
        try:
            step(self._probe)
        except Exception as error:
            raise ValueError(
                "the optimizer must show in a step on a fresh weight what it starts new connections with, got "
                f"{type(self._probe).__name__}, which fails there ({type(error).__name__}: {error}). Use one whose "
                "step() needs nothing but gradients, or rewire before its first step"
            ) from error


class _Births(dict[str, Any]):
    """An optimizer's state of one parameter that also keeps what each entry held when it was first written."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, Any] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        self.first.setdefault(key, copy.deepcopy(value))
        super().__setitem__(key, value)


def fresh_state(optimizer: Optimizer, param: Tensor) -> dict[str, Any]:
    """Return what an optimizer starts two fresh weights with, 0 and `TRIAL`, with the settings of a parameter.

    No optimizer says so beforehand, but a step on a fresh parameter without any gradient shows it.

    Raises:
        ValueError: if the optimizer cannot take such a step.

    Example:
        >>> weight = torch.ones(3)
        >>> fresh_state(torch.optim.Rprop([weight], lr=0.25), weight)["step_size"].tolist()
        [0.25, 0.25]
    """
    trial = Trial(optimizer, param)
    trial.step()
    return {**trial.state, **getattr(trial.state, "first", {})}


class StateTransition:
    """An optimizer's state of a layer's connections on its way to another topology.

    Grown connections get what the optimizer starts a new weight with. Whatever may be wrong is found here, before
    anything changes.

    Args:
        layer: the layer.
        transition: from the old topology to the new one.
        optimizer: the one that trains the layer.
        values: initial values of the grown connections, or None for zeros.

    Raises:
        ValueError: if the state that they start with cannot be known.
    """

    def __init__(
        self,
        layer: SparseLayer,
        transition: Transition,
        optimizer: Optimizer,
        values: Float[Tensor, " g"] | None = None,
    ) -> None:
        self._layer, self._transition, self._shape = layer, transition, tuple(layer.packed_shape(transition.old))
        self._states = [*states_of(optimizer, layer)]
        self._fresh = fresh_state(optimizer, layer.param) if any(self._states) else {}
        self._values = layer.param.new_zeros(transition.grown.numel()) if values is None else values.detach()
        for state in self._states:
            self._each(state, self._fresh, lambda key, tensor, fresh: self._start(key, fresh, tensor.dtype))

    def apply(self) -> None:
        """Move the state. Call it before the layer itself is moved."""
        for state in self._states:
            state.update(self._each(state, self._fresh, self._moved))

    def _each(self, entries: Mapping[Any, Any], fresh: Any, change: Callable[[Any, Tensor, Any], Any]) -> dict:
        """Return entries with what they hold of each weight changed. Some optimizers keep lists or dicts of tensors."""
        known = fresh if isinstance(fresh, dict) else {}
        changed = dict(entries)
        for key, value in entries.items():
            one = known.get(key)
            if isinstance(value, Tensor) and self._is_per_weight(value, one):
                changed[key] = change(key, value, one)
            elif isinstance(value, dict):
                changed[key] = self._each(value, one, change)
            elif type(value) in (list, tuple):
                listed = dict(enumerate(one)) if isinstance(one, list | tuple) else {}
                changed[key] = type(value)(self._each(dict(enumerate(value)), listed, change).values())
        return changed

    def _is_per_weight(self, tensor: Tensor, fresh: Any) -> bool:
        # By chance one number for a whole column, say, may have the shape of a parameter of one connection.
        of_another_shape = isinstance(fresh, Tensor) and fresh.dim() > 0 and fresh.numel() != 2
        return tuple(tensor.shape) == self._shape and not of_another_shape

    def _moved(self, key: Any, tensor: Tensor, fresh: Any) -> Tensor:
        moved = self._layer.transfer(tensor, self._transition)
        start = self._start(key, fresh, tensor.dtype)
        if not bool(start.any()):
            return moved
        new, at = self._transition.new, self._transition.grown_at
        grown = self._layer.pack(new, start.new_zeros(new.count).index_copy(0, at, start))
        is_grown = self._layer.pack(new, start.new_zeros(new.count).index_fill(0, at, 1)) != 0
        return torch.where(is_grown, grown.to(moved.dtype), moved)

    def _start(self, key: Any, fresh: Any, dtype: torch.dtype) -> Float[Tensor, " g"]:
        """Return what each grown connection starts with, which is one number for all, or its own initial value."""
        first = self._values.to(dtype if dtype.is_floating_point else torch.float32)
        if fresh is None:
            if bool(first.any()):
                raise ValueError(
                    f"the optimizer's state must start as that of a fresh weight, got {key!r}, which a fresh weight "
                    "does not have, and connections that do not start at zero. Let them grow from zero, or remove "
                    f"{key!r} from optimizer.state before rewiring"
                )
            return first
        at_zero, elsewhere = torch.as_tensor(fresh).flatten().expand(2).tolist()
        # The state is a copy of the weight itself, as full-precision copies and averages of weights are.
        return first if at_zero == 0 and elsewhere == TRIAL else torch.full_like(first, at_zero)
