"""Ghost neurons make every ReLU of a network a smooth unit for a while, and then a ReLU again."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sparsekit.layers.companions import FusedReLU
from sparsekit.layers.masked import ForwardMask
from sparsekit.schedules import Geometric, Schedule
from sparsekit.tricks.base import GHOST, GhostTrick, ghosts_of
from sparsekit.tricks.fx_reader import (
    CALLS,
    IN_PLACE,
    METHODS,
    UnreadableError,
    abbreviate,
    forward_graph,
    is_ours_or_torchs,
    is_relu_call,
    other_calls,
)
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting

NO_RELU = {"Softmax", "Softmax2d", "Softmin", "LogSoftmax", "MultiheadAttention", "Threshold"}

# Each unit is x * gate(beta * x). The gate opens where x is above zero, the more abruptly the larger beta is.
GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "pswish": torch.sigmoid,
    "mish": lambda z: torch.tanh(functional.softplus(z)),
    "gelu": torch.special.ndtr,
}
# These are the largest distances from the ReLU at beta = 1, found numerically. At any other beta divide by beta.
GAPS = {"pswish": 0.278465, "mish": 0.308843, "gelu": 0.169971}


@dataclass(frozen=True)
class Soft:
    """A smooth unit `x * gate(beta * x)`, which becomes the ReLU as beta grows.

    Args:
        unit: `"pswish"`, `"mish"` or `"gelu"`.
        beta: its sharpness. At 0 the unit is a straight line.

    Example:
        >>> Soft("pswish", 1.0)(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.2689,  0.0000,  0.7311])
        >>> round(Soft("pswish", 20.0).gap, 4)
        0.0139
    """

    unit: str
    beta: float

    def __call__(self, x: Float[Tensor, "*shape"], *, in_place: bool = False) -> Float[Tensor, "*shape"]:
        """Return the unit's output. `in_place` writes it over the input, as an in-place ReLU does."""
        if in_place:
            return x.copy_(self(x.clone()))
        return x * GATES[self.unit](self.beta * x)

    @property
    def gap(self) -> float:
        """The largest distance from the ReLU."""
        return GAPS[self.unit] / self.beta if self.beta else float("inf")


class SoftReLU(nn.ReLU):
    """A ReLU that is a smooth unit for now."""

    def forward(self, input: Tensor) -> Tensor:
        return vars(self)[GHOST](input, in_place=self.inplace)


@dataclass(frozen=True, kw_only=True)
class ReLUs:
    """Where the ReLUs of a model are.

    Args:
        modules: names of `nn.ReLU` modules.
        callers: modules that call relu as a function, and how often, or 0 where only running them can tell.
        others: what is no ReLU, or cannot become soft, and why.
    """

    modules: tuple[str, ...]
    callers: dict[str, int]
    others: dict[str, str]

    def __str__(self) -> str:
        calls = [f"{name or 'the model'} ({count or 'found when it runs'})" for name, count in self.callers.items()]
        others = [f"{name or 'the model'} ({reason})" for name, reason in self.others.items()]
        parts = {"modules": list(self.modules), "calls": calls, "not replaced": others}
        return " | ".join(f"{what}: {abbreviate(each)}" for what, each in parts.items())


def find_relus(model: nn.Module) -> ReLUs:
    """Return where the ReLUs of a model are: as modules, and as functional calls in the `forward` of others.

    `torch.fx` reads the functional calls from each module's own forward. If that cannot be traced but its class
    mentions relu, its calls are replaced while it runs.

    Example:
        >>> print(find_relus(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.GELU())))
        modules: 1 | calls: none | not replaced: 2 (GELU is no ReLU)
    """
    modules, callers, others = [], {}, {}
    for name, module in model.named_modules():
        if type(module) in (nn.ReLU, SoftReLU, FusedReLU):
            modules.append(name)
        elif reason := _reason_against(module):
            others[name] = reason
        else:
            _record_calls(module, name, callers, others)
    return ReLUs(modules=tuple(modules), callers=callers, others=others)


@register("trick", "ghost-neurons")
@dataclass(frozen=True, kw_only=True)
class GhostNeurons(GhostTrick):
    """Every ReLU is a smooth unit at first, becomes sharper, and from `stop` on it is the ReLU again.

    This holds for modules and functional calls alike, also for in-place ones. PSwish is `x * sigmoid(beta * x)`. With
    `beta=Constant(1.0)` it is Swish, and with `Constant(2.0)` what the released code uses, which never returns to
    ReLU. Mish and GELU are sharpened the same way, as `unit(beta * x) / beta`. At `stop` the unit jumps by at most
    `Soft.gap`.

    Raises:
        ValueError: if the unit is unknown.
        TypeError: if beta is no schedule.

    Source: ghost soft neurons of ToST, Jaiswal et al. (2022), "Training Your Sparse Neural Network Better with Any
        Mask", ICML. Units are those of the released code. The schedule is ours, because the paper's text could not
        be consulted.
    """

    unit: Literal["pswish", "mish", "gelu"] = setting("pswish", "the smooth unit")
    beta: Schedule = setting(Geometric(1.0, 20.0), "its sharpness, until stop", range=(0, 100))

    def __post_init__(self):
        super().__post_init__()
        if self.unit not in GATES:
            raise ValueError(f"unit must be one of {', '.join(GATES)}, got {self.unit!r}. Swish is pswish at beta 1")
        if not isinstance(self.beta, Schedule):
            raise TypeError(f"beta must be a Schedule, got {self.beta!r}. Use Constant(...) for a fixed number")

    def soft_at(self, step: int) -> Soft:
        """Return the unit of a step before the end.

        Raises:
            ValueError: if beta is below zero there.
        """
        beta = self.beta.lasting(self.end)(step)
        if beta < 0:
            raise ValueError(f"beta must not be below 0, got {beta} at step {step}")
        return Soft(self.unit, beta)

    def insert(self, model: nn.Module) -> None:
        """Make every ReLU soft.

        Raises:
            ValueError: if there is none, or they are soft already.
        """
        if any(isinstance(ghost, SoftReLU) for ghost in ghosts_of(model).values()):
            raise ValueError("a model must get its ghost neurons once, got one that has some. Set them by `at`")
        relus = find_relus(model)
        if not relus.modules and not relus.callers:
            raise ValueError(f"ghost neurons need ReLUs to stand in for, got none ({relus}). Leave the trick out")
        first = self.soft_at(0) if self.stop is not None else Soft(self.unit, 1.0)
        for name in relus.modules:
            relu = model.get_submodule(name)
            object.__setattr__(relu, "__class__", SoftReLU)
            vars(relu)[GHOST] = first
        for name in relus.callers:
            caller = model.get_submodule(name)
            vars(caller).update({GHOST: first, "forward": types.MethodType(_run_softly, caller)})

    def set_strength(self, model: nn.Module, step: int) -> None:
        """Sharpen the units.

        Raises:
            ValueError: if there are none.
        """
        soft, units = self.soft_at(step), _softened(model)
        if not units:
            raise ValueError(f"ghost neurons must be put in before step {step}, got a model without. Call apply first")
        for module in units:
            vars(module)[GHOST] = soft

    def remove(self, model: nn.Module) -> list[nn.Parameter]:
        for module in _softened(model):
            del vars(module)[GHOST]
            if isinstance(module, SoftReLU):
                object.__setattr__(module, "__class__", nn.ReLU)
            else:
                del vars(module)["forward"]
        return []


def _softened(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(vars(module).get(GHOST), Soft)]


def _run_softly(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run the forward of a module that calls relu as a function, with smooth units in its place."""
    with _SoftCalls(vars(self)[GHOST]):
        return type(self).forward(self, *args, **kwargs)


class _SoftCalls(TorchFunctionMode):
    """While this mode is on, a smooth unit replaces every relu that is called."""

    def __init__(self, soft: Soft):
        super().__init__()
        self.soft = soft

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        if func not in CALLS or not isinstance(x, Tensor):
            return func(*args, **kwargs)
        in_place = func in IN_PLACE or bool(kwargs.get("inplace", len(args) > 1 and args[1]))
        return self.soft(x, in_place=in_place)


def _reason_against(module: nn.Module) -> str:
    """Return why a module that acts like an activation is left alone, or nothing if it does not."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled: it cannot be looked into"
    if isinstance(module, ForwardMask):
        return "it acts on weights, not on signals"
    if isinstance(module, nn.RNNBase) and getattr(module, "nonlinearity", "") == "relu":
        return "the ReLU is inside of torch's recurrent kernel"
    if kind.__module__ == "torch.nn.modules.activation" and kind.__name__ not in NO_RELU:
        return f"{kind.__name__} is no ReLU"
    if "forward" in vars(module) and GHOST not in vars(module):
        return "somebody has replaced its forward"
    return ""


def _record_calls(module: nn.Module, name: str, callers: dict[str, int], others: dict[str, str]) -> None:
    """Record how often a module calls relu as a function, or why that is unknown."""
    attribute_count = sum(value in CALLS for value in vars(module).values() if callable(value))
    if is_ours_or_torchs(module):
        if attribute_count:
            callers[name] = attribute_count
        return
    try:
        graph = forward_graph(module)
    except UnreadableError as error:
        if attribute_count or _mentions_relu(type(module)):
            callers[name] = 0
        else:
            others[name] = f"unknown: {error}"
        return
    if calls := sum(map(is_relu_call, graph.nodes)):
        callers[name] = calls
    if names := other_calls(graph):
        others[name] = f"calls {' and '.join(names)}: no ReLU"


def _mentions_relu(kind: type) -> bool:
    """Whether a method of a class mentions relu."""
    classes = [one for one in kind.__mro__ if issubclass(one, nn.Module) and not one.__module__.startswith("torch.")]
    codes = [getattr(method, "__code__", None) for one in classes for method in vars(one).values()]
    return any(METHODS & set(code.co_names) for code in codes if code is not None)
