"""`layer.weight` of a sparse layer is the dense weight that other code expects there, for reading and for writing.

Other code reads `layer.weight` to compute with it (tied decoders, fused attention, penalties) and writes to it
(`nn.init`, `.data.copy_`). Reading gives the weight that the forward pass uses, differentiable, zero where there is no
connection. Writing goes into the layer's connections and leaves out all other positions.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from sparsekit.layers.weight_queries import DETACHED, PARAMETER_QUERIES, REFUSED, SHAPE_QUERIES, VIEWS, name_of


class DenseWeightWarning(UserWarning):
    """The dense weight of a csr layer was computed, because other code read `layer.weight`."""


class _View(NamedTuple):
    """A view is one step from the whole weight to a part of it."""

    func: Callable
    args: tuple
    kwargs: dict
    part: int | None  # which result of `chunk`, `split` and the like

    def of(self, weight: Tensor) -> Tensor:
        result = self.func(weight, *self.args, **self.kwargs)
        return result if self.part is None else result[self.part]


class DenseWeight(Tensor):
    """The dense weight of a sparse layer, or a view of it, is computed when it is read and packed when it is written.

    A meta tensor stands in for it until a number is needed, so asking for its shape or type costs nothing.
    """

    layer: Any  # a SparseLayer, whose module imports this one
    detached: bool
    gradient: bool
    views: tuple[_View, ...]
    _is_param: bool = False

    @staticmethod
    def of(layer: Any, *, gradient: bool = False) -> "DenseWeight":
        """Return the weight of a layer, or with `gradient` the dense form of its gradient."""
        empty = torch.empty(layer.shape, dtype=layer.param.dtype, device="meta")
        weight = _labelled(empty, layer, detached=gradient, gradient=gradient, views=())
        weight._is_param = not gradient  # `isinstance(weight, nn.Parameter)` and `get_parameter` check this
        return weight

    def read(self) -> Tensor:
        """Return the weight as an ordinary tensor, differentiable unless it is detached."""
        return _through(self.views, _whole(self))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Answer for the layer, because every operation of torch on a `DenseWeight` comes here first."""
        kwargs = kwargs or {}
        name = name_of(func)
        if name in REFUSED:
            raise RuntimeError(
                f"{name} must be given the parameter of a sparse layer, got its dense weight. Use layer.param"
            )
        target = _written_by(func, name, args, kwargs)
        if target is not None:
            return _write(target, func, args, kwargs)
        if args and isinstance(args[0], DenseWeight) and (answer := _SPECIAL.get(name)):
            return answer(args[0], func, args[1:], kwargs)
        if func is torch.autograd.grad:
            return _gradients(*args, **kwargs)
        return func(*tree_map_only(DenseWeight, DenseWeight.read, args), **_read_all(kwargs))


def _labelled(meta: Tensor, layer: Any, **settings: Any) -> DenseWeight:
    weight = meta.as_subclass(DenseWeight)
    vars(weight).update(layer=layer, **settings)
    return weight


def _whole(weight: DenseWeight) -> Tensor:
    if weight.gradient:
        grad = weight.layer.param.grad
        assert grad is not None
        return weight.layer.scattered(grad)
    if weight.layer.storage == "csr":
        warnings.warn(
            "the dense weight of a csr layer is computed each time that layer.weight is read, as large as the dense "
            "layer. Where that is too slow use layer(x), layer.values(), or storage='masked'",
            DenseWeightWarning,
            stacklevel=1,
        )
    if weight.detached:
        return weight.layer.dense_weight()
    return weight.layer.effective_weight(read=True)


def _through(views: tuple[_View, ...], tensor: Tensor) -> Tensor:
    for view in views:
        tensor = view.of(tensor)
    return tensor


def _read_all(kwargs: dict) -> dict:
    return tree_map_only(DenseWeight, DenseWeight.read, kwargs)


# --- writing ---------------------------------------------------------------------------------------------------------


def _written_by(func: Callable, name: str, args: tuple, kwargs: dict) -> DenseWeight | None:
    """Return the weight that an operation writes to, by an in-place method, `out=`, or one of `torch.nn.init`."""
    if isinstance(kwargs.get("out"), DenseWeight):
        return kwargs["out"]
    in_place = name.endswith("_") and not name.endswith("__")
    in_place |= name == "__setitem__" or (name.startswith("__i") and name not in ("__invert__", "__index__", "__int__"))
    if not in_place or name in (*PARAMETER_QUERIES, "requires_grad_"):
        return None
    first = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
    if isinstance(first, list | tuple) and any(isinstance(one, DenseWeight) for one in first):
        raise RuntimeError(f"{name} must be given parameters, got dense weights of sparse layers. Use layer.param")
    return first if isinstance(first, DenseWeight) else None


def _write(target: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Any:
    initialises = getattr(func, "__module__", "") == "torch.nn.init"
    layer = target.layer
    _check_operands(func, (args, kwargs))
    if torch.is_grad_enabled() and layer.param.requires_grad and not target.detached and not initialises:
        raise RuntimeError(
            "the weight of a sparse layer must not be changed in place while gradients are recorded, got "
            f"{name_of(func)}. Write inside torch.no_grad(), or to layer.weight.data"
        )
    with torch.no_grad():
        scratch = layer.scattered(layer.param.grad if target.gradient else layer.param)
        part = _through(target.views, scratch)

        def stand_in(weight: DenseWeight) -> Tensor:
            return part if weight is target else weight.read()

        func(*tree_map_only(DenseWeight, stand_in, args), **tree_map_only(DenseWeight, stand_in, kwargs))
        layer.gather(scratch, into=layer.param.grad if target.gradient else layer.param)
    return target


def _check_operands(func: Callable, operands: tuple) -> None:
    """Refuse tensors that were moved to the device of the stand-in for a weight, and lost their numbers there."""
    tensors = [x for x in tree_leaves(operands) if isinstance(x, Tensor) and not isinstance(x, DenseWeight)]
    if any(x.is_meta for x in tensors):
        raise RuntimeError(
            f"{name_of(func)} must be given tensors with numbers, got one on the meta device, as torch.nn.utils makes "
            "it for the dense weight of a sparse layer. Give it model.parameters() or layer.param"
        )


# --- reading without computing ---------------------------------------------------------------------------------------


def _of_the_shape(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return func(weight, *args, **kwargs)


def _of_the_parameter(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Any:
    answer = func(weight.layer.param, *args, **kwargs)
    return weight if answer is weight.layer.param else answer


def _requires_grad(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> bool:
    return not weight.detached and weight.layer.param.requires_grad


def _requires_grad_(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> DenseWeight:
    if weight.detached:
        raise RuntimeError(
            "a new parameter must be made of a tensor of its own, got the dense weight of a sparse layer. "
            "Write nn.Parameter(layer.weight.detach().clone()), or layer.weight.requires_grad_() for the layer's own"
        )
    weight.layer.param.requires_grad_(*args, **kwargs)
    return weight


def _set_requires_grad(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> None:
    weight.layer.param.requires_grad = args[0]


def _detached(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> DenseWeight:
    return _like(weight, _of_the_shape(weight, Tensor.view, (weight.shape,), {}), detached=True)


def _like(weight: DenseWeight, meta: Tensor, **changes: Any) -> DenseWeight:
    settings = {key: vars(weight)[key] for key in ("detached", "gradient", "views")}
    return _labelled(meta, weight.layer, **settings | changes)


def _view(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Any:
    args, kwargs = tree_map_only(DenseWeight, DenseWeight.read, (args, kwargs))
    if torch.is_grad_enabled() and not weight.detached:
        return func(weight.read(), *args, **kwargs)
    # It may be written to later, and what you write to a view goes into the layer as well.
    to_meta = lambda x: x.to("meta") if x.dtype != torch.bool else x  # noqa: E731
    meta_args, meta_kwargs = tree_map_only(Tensor, to_meta, (args, kwargs))
    try:
        with torch._C.DisableTorchFunctionSubclass():
            shapes = func(weight, *meta_args, **meta_kwargs)
    except (RuntimeError, NotImplementedError, IndexError):  # its size depends on the numbers, so it is a copy
        return func(weight.read(), *args, **kwargs)
    if isinstance(shapes, Tensor):
        return _like(weight, shapes, views=(*weight.views, _View(func, args, kwargs, None)))
    parts = [(*weight.views, _View(func, args, kwargs, number)) for number in range(len(shapes))]
    return tuple(_like(weight, meta, views=views) for meta, views in zip(shapes, parts, strict=True))


def _grad(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Tensor | None:
    if weight.layer.param.grad is None or weight.detached:
        return None
    whole = weight.layer.dense_grad()
    return _through(weight.views, whole) if weight.views else whole


def _set_grad(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> None:
    layer, (grad,) = weight.layer, args
    layer.param.grad = None if grad is None else layer.param.detach().clone()
    if grad is not None:
        layer.gather(grad, into=layer.param.grad)


def _set_data(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> None:
    _detached(weight, func, (), {}).copy_(args[0])


def _deep_copied(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """Return a tensor, or, while a model that holds the weight is copied, the weight of the copied layer."""
    if not (memo := args[0]):
        return _copied(weight, func, (), {})
    new = _like(weight, _of_the_shape(weight, Tensor.view, (weight.shape,), {}), _is_param=weight._is_param)
    new.layer = copy.deepcopy(weight.layer, memo)
    memo[id(weight)] = new
    return new


def _copied(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Tensor:
    with torch.no_grad():
        return weight.read().detach().clone().requires_grad_(_requires_grad(weight, func, (), {}))


def _gradients(outputs: Any, inputs: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
    """Return gradients, where that by a dense weight is that of its layer's parameter, laid out alike."""
    outputs, kwargs = tree_map_only(DenseWeight, DenseWeight.read, (outputs, kwargs))
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    params = tuple(x.layer.param if isinstance(x, DenseWeight) else x for x in inputs)
    grads = torch.autograd.grad(outputs, params, **kwargs)
    pairs = zip(inputs, grads, strict=True)
    return tuple(g if g is None or not isinstance(x, DenseWeight) else x.layer.laid_out(g) for x, g in pairs)


def _pickled(weight: DenseWeight, func: Callable, args: tuple, kwargs: dict) -> Any:
    return _copied(weight, func, (), {}).__reduce_ex__(*args)


_SPECIAL: dict[str, Callable[[DenseWeight, Callable, tuple, dict], Any]] = {
    **dict.fromkeys(SHAPE_QUERIES, _of_the_shape),
    **dict.fromkeys(PARAMETER_QUERIES, _of_the_parameter),
    **dict.fromkeys(VIEWS, _view),
    **dict.fromkeys(DETACHED, _detached),
    "is_leaf": lambda weight, func, args, kwargs: not _requires_grad(weight, func, args, kwargs),
    "requires_grad": _requires_grad,
    "requires_grad_": _requires_grad_,
    "requires_grad=": _set_requires_grad,
    "grad": _grad,
    "grad=": _set_grad,
    "data=": _set_data,
    "__deepcopy__": _deep_copied,
    "__reduce_ex__": _pickled,
}
