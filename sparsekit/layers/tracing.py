"""This module records what a forward calls, without numbers and without an effect on other threads.

`torch.fx.Tracer.trace` replaces `nn.Module.__call__` for the whole process while it reads, so trainings in other
threads fail. Here shallow copies stand in for a module and its parts, and their classes record the calls. Nodes,
proxies and graphs are those of `torch.fx`.
"""

import math
import sys
import types
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

import torch.fx
from torch import nn
from torch.fx import _symbolic_trace
from torch.utils._pytree import tree_leaves

from sparsekit.layers.base import SparseLayer

MATH = {id(function) for function in vars(math).values() if callable(function)}
WRAPPED = _symbolic_trace._wrapped_fns_to_patch  # by the identity of a module's namespace, and the name


def traced(
    module: nn.Module, is_leaf: Callable[[nn.Module], bool], forward: Callable[..., Any] | None = None
) -> torch.fx.Graph:
    """Return the graph of a module's forward, for inputs without numbers.

    Args:
        module: the module, which stays unchanged like its parts.
        is_leaf: which parts are one node each. The tracer looks into the others.
        forward: the function to read, instead of the forward of the module's class.

    Raises:
        Exception: whatever the forward raises when it gets no numbers.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> [node.target for node in traced(net, lambda part: True).nodes]
        ['input', '0', '1', 'output']
    """
    tracer = _Tracer(module, is_leaf)
    tracer.read(forward or type(module).forward)
    return tracer.graph


class _Tracer(torch.fx.Tracer):
    def __init__(self, module: nn.Module, is_leaf: Callable[[nn.Module], bool]):
        super().__init__()
        self.graph, self.tensor_attrs = torch.fx.Graph(tracer_cls=torch.fx.Tracer), {}
        self.parameters: dict[str, torch.fx.Proxy] = {}
        self.stand_ins: dict[int, nn.Module] = {}  # by the identity of the module that each stands in for
        self.leaves: dict[int, bool] = {}  # by the identity of a stand-in, whether it is a leaf
        self.root = self._stand_in(module, "", lambda part: part is not module and is_leaf(part))

    def read(self, forward: Callable[..., Any]) -> None:
        """Call the forward with a proxy for each of its arguments."""
        call, inputs = self.create_args_for_root(_recording(forward), is_module=True)
        self.create_node("output", "output", (self.create_arg(call(*inputs)),), {})

    def create_proxy(self, *args: Any, **kwargs: Any) -> torch.fx.Proxy:
        self._check_callers()
        return super().create_proxy(*args, **kwargs)

    def _stand_in(self, module: nn.Module, name: str, is_leaf: Callable[[nn.Module], bool]) -> nn.Module:
        """Return the stand-in that is called instead of a module. Its parts have stand-ins as well."""
        if id(module) in self.stand_ins:
            return self.stand_ins[id(module)]
        is_compiled = isinstance(module, torch.jit.ScriptModule)  # cannot be copied, so it is one node
        base, attributes = (nn.Module, vars(nn.Module())) if is_compiled else (type(module), vars(module))
        stand_in: Any = object.__new__(_recording_class(self, base, name, is_leaf(module)))
        self.stand_ins[id(module)], self.leaves[id(stand_in)] = stand_in, is_leaf(module)
        vars(stand_in).update({key: _rebound(value, module, stand_in) for key, value in attributes.items()})
        parts = {} if is_compiled else module._modules
        vars(stand_in)["_modules"] = {
            key: part and self._stand_in(part, f"{name}.{key}".lstrip("."), is_leaf) for key, part in parts.items()
        }
        return stand_in

    def _check_callers(self) -> None:
        """Refuse a part that is called by another way than through its module's attributes, as no call is recorded."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            code = frame.f_code
            caller = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
            if caller is self and code.co_name == "read":
                return
            if isinstance(caller, nn.Module):
                is_leaf = self.leaves.get(id(caller))
                if is_leaf is None or (is_leaf and code.co_name == "forward"):
                    raise RuntimeError(
                        f"its parts must be called as attributes of modules, got {type(caller).__name__}.{code.co_name}"
                    )
            frame = frame.f_back


def _recording_class(tracer: _Tracer, base: type[nn.Module], name: str, is_leaf: bool) -> type[nn.Module]:
    """Return a subclass that records its calls if it is a leaf, and its parameters when they are read."""

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> torch.fx.Proxy:
        return tracer.create_proxy("call_module", name, args, kwargs)

    def attribute(self: nn.Module, key: str) -> Any:
        return tracer.getattr(key, base.__getattr__(self, key), tracer.parameters)

    members: dict[str, Any] = {"__module__": base.__module__}
    for one in reversed(base.__mro__[: base.__mro__.index(nn.Module)]):
        functions = {key: value for key, value in vars(one).items() if isinstance(value, types.FunctionType)}
        members |= {key: _recording(value) for key, value in functions.items()}
    if not issubclass(base, SparseLayer):  # whose weight is computed from numbers
        members["__getattr__"] = attribute
    if is_leaf:
        members["__call__"] = call
    return types.new_class(base.__name__, (base,), exec_body=lambda namespace: namespace.update(members))


def _rebound(value: Any, module: nn.Module, stand_in: nn.Module) -> Any:
    """Turn a method that a module holds among its attributes into that of the stand-in."""
    is_bound = isinstance(value, types.MethodType) and value.__self__ is module
    return types.MethodType(value.__func__, stand_in) if is_bound else value


def _recording(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that records its calls of `math` and of wrapped functions (`torch.fx.wrap`).

    Those of torch do not change while a program runs, so each is looked through once.
    """
    is_torchs = str(getattr(function, "__module__", "")).startswith("torch.")
    return _recording_of_torch(function) if is_torchs else _looked_through(function)


def _looked_through(function: Callable[..., Any]) -> Callable[..., Any]:
    names = getattr(function, "__globals__", {})
    wrapped = {name: _wrapped(x) for name, x in names.items() if (id(names), name) in WRAPPED or _is_math(x)}
    if not wrapped or not isinstance(function, types.FunctionType):
        return function
    parts = (function.__code__, {**names, **wrapped}, function.__name__, function.__defaults__, function.__closure__)
    copy = types.FunctionType(*parts)
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, function.__annotations__
    vars(copy).update(vars(function))
    return copy


_recording_of_torch = cache(_looked_through)


def _is_math(value: Any) -> bool:
    return value is math or id(value) in MATH


def _wrapped(value: Any) -> Any:
    if value is math:
        return types.SimpleNamespace(**{name: _wrapped(one) for name, one in vars(math).items()})
    if not callable(value):
        return value

    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = next((one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.fx.Proxy)), None)
        return (
            value(*args, **kwargs) if proxy is None else proxy.tracer.create_proxy("call_function", value, args, kwargs)
        )

    return call
