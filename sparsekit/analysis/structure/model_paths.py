"""Effective connections of any model, residual ones included, because a copy of the model itself is run.

Each value is replaced by how much arrives there from the inputs: 1 at an input, 0 where nothing depends on one
(biases, tokens). Connections weigh 1, and behind every layer with weights what arrives is cut to 0 or 1. So a value
above 0 says "an input reaches this unit", a gradient above 0 says "this unit reaches an output", and a connection is
effective where both hold. This is SynFlow's pass with masks for weights, exact at any depth.

A function passes on what arrives at any of its arguments, whatever their values. That holds for activations,
differences, products, comparisons and statistics, and only a constant factor of 0 cuts. A function that the table below
does not list is refused. We follow two conventions. Torch's normalisations are functions of single values, so the mean
and spread of the others are no paths (in a hand-written one they are), and masks of attention count as open.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map

from sparsekit.analysis.observing import check_is_called, observed, weighted_layers
from sparsekit.layers import SparseLayer, sparse_layers, topology_of
from sparsekit.topology import LayerTopology, Topology


def effective_topology_of_model(model: nn.Module, example: Float[Tensor, "n *input"]) -> Topology:
    """Return the connections of a model's sparse layers that lie on a path from an input to an output.

    Args:
        model: with sparse layers in either storage. It is not changed, and dense layers connect everything.
        example: a batch as the model takes it. Only its shape matters, and one sample is enough.

    Raises:
        ValueError: if the model has no sparse layer, or an operation is not known to let paths through.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> cut = Topology({"2": LayerTopology((1, 2), torch.tensor([0]))})
        >>> first = Topology({"0": LayerTopology((2, 1), torch.tensor([0, 1])), **cut})
        >>> effective_topology_of_model(sparsify(net, first), torch.zeros(1, 1))["0"].indices.tolist()
        [0]

    Sources: the pass of SynFlow, Tanaka et al. (2020), arXiv:2006.05467, with masks for weights. The quantity is that
    of Vysogorets and Kempe (2023), arXiv:2107.02306.
    """
    if not topology_of(model):
        raise ValueError("the model must have a sparse layer, got none. Call sparsify first")
    with observed(model) as model_copy, torch.enable_grad():
        _arriving(model_copy, example, cut=True).backward()
    return Topology({name: _with_gradient(layer) for name, layer in sparse_layers(model_copy).items()})


def log10_num_paths_of_model(model: nn.Module, example: Float[Tensor, "n *input"]) -> float:
    """Return log10 of the number of paths from inputs to outputs, minus infinity if there is none.

    Every position of an image is an input and output of its own. A pooling window of n positions counts as a mean, with
    1/n path from each. A `MultiheadAttention` has one path to each of its outputs that is reached.

    Args:
        model: plain, or with sparse layers in either storage. It is not changed.
        example: a batch as the model takes it. Only its shape matters, and one sample is enough.

    Raises:
        ValueError: if there are more than float64 counts (1e308), or an operation is not known to let paths through.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> round(10 ** log10_num_paths_of_model(net, torch.ones(1, 3)))
        24
    """
    with observed(model) as model_copy, torch.enable_grad():
        paths = _arriving(model_copy, example[:1], cut=False).item()
    if not math.isfinite(paths):
        raise ValueError("paths must number less than 1e308, got more. Count them by log10_num_paths(topology)")
    return math.log10(paths) if paths > 0 else -math.inf


def _arriving(model_copy: nn.Module, example: Tensor, *, cut: bool) -> Tensor:
    """Return how much arrives at all outputs of a copy together."""
    _prepare(model_copy, with_gradients=cut)
    for layer in sparse_layers(model_copy).values():  # all of whose own arithmetic is sums of what arrives
        layer.forward = partial(_apart, layer.forward)
    for module in weighted_layers(model_copy).values():
        if cut:
            module.register_forward_hook(lambda _, inputs, y: _apart(_Cut.apply, y) if _is_signal(y) else y)
    with _Arrivals():
        outputs = model_copy(torch.ones_like(example, dtype=torch.float64).requires_grad_().clone())
    if not (arriving := [output.sum() for output in tree_leaves(outputs) if _is_signal(output)]):
        raise ValueError("the model must return tensors that depend on its input, got none. Return what it computes")
    return torch.stack(arriving).sum()


def _prepare(model_copy: nn.Module, *, with_gradients: bool) -> None:
    """Turn a copy into float64. Sparse layers get weights of 1 and biases of 0, all else anything but 0."""
    model_copy.double().requires_grad_(False)
    for parameter in model_copy.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)  # unequal, so that no difference between them is 0
    for layer in sparse_layers(model_copy).values():
        for parameter in layer.parameters():  # the bias among them
            nn.init.zeros_(parameter)
        nn.init.ones_(layer.param).requires_grad_(with_gradients).grad = None


def _with_gradient(layer: SparseLayer) -> LayerTopology:
    grads = layer.grads()
    return LayerTopology(layer.shape, layer.topology.indices[slice(0) if grads is None else grads > 0])


class _Cut(torch.autograd.Function):
    """Forward and backward alike: 1 where something arrives, 0 elsewhere."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return (grads[0] > 0).to(grads[0].dtype)


class _Arrivals(TorchFunctionMode):
    """Makes the functions of torch compute what arrives. A tensor with a gradient is a signal."""

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        check_is_called(func, filter(_is_signal, tree_leaves((args, kwargs))))
        if not any(map(_is_signal, tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        if not torch.is_grad_enabled() or kwargs.get("out") is not None:
            _refuse(func)
        result = _RULES.get(_name(func), _unknown)(func, *args, **kwargs)
        is_in_place = func.__name__.endswith("_") and not func.__name__.startswith("_")
        return args[0].copy_(result) if is_in_place and result is not args[0] else result


def _apart(function: Callable, *args: Any) -> Any:
    with torch._C.DisableTorchFunction():
        return function(*(torch.zeros_like(x) if _is_constant(x) else x for x in args))


def _name(func: Callable) -> str:
    """Return the name that a function shares with its variants: `add` for torch.add, Tensor.add_ and `+`."""
    name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__  # type: ignore[attr-defined]
    return name if name in _RULES else name.strip("_")


def _is_signal(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _is_constant(value: Any) -> bool:
    return isinstance(value, Tensor) and not _is_signal(value)


def _refuse(func: Callable, *args: Any, **settings: Any) -> NoReturn:
    where = "" if torch.is_grad_enabled() else " without gradients (in no_grad, or a custom Function)"
    raise ValueError(
        f"every operation must be known to let paths through, got {resolve_name(func) or func.__name__}{where}. "
        "Write it with others, or, where the layers form a chain, use effective_topology(topology)"
    )


def _unknown(func: Callable, *args: Any, **settings: Any) -> Any:
    result = func(*args, **settings)
    # Questions about shapes and types have answers without tensors.
    return _refuse(func) if any(isinstance(part, Tensor) for part in tree_leaves(result)) else result


def _of_one(func: Callable, input: Any, *rest: Any, inplace: bool = False, **settings: Any) -> Tensor:
    if any(map(_is_signal, tree_leaves((rest, settings)))):
        _refuse(func)
    return input if inplace else input.clone()


def _of_several(func: Callable, *args: Any, **settings: Any) -> Tensor:
    if func is torch.where and len(args) == 1:
        _refuse(func)
    tensors = [part for part in tree_leaves((args, settings)) if isinstance(part, Tensor)]
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return sum((tensor.expand(shape) for tensor in tensors if _is_signal(tensor)), torch.zeros(()))


def _times(func: Callable, x: Any, y: Any, **settings: Any) -> Tensor:
    if _is_signal(x) and _is_signal(y):
        return _of_several(func, x, y)
    signal, constant = (x, y) if _is_signal(x) else (y, x)
    return signal * (torch.as_tensor(constant, device=signal.device) != 0)


def _product(func: Callable, *args: Any, **settings: Any) -> Tensor:
    """Sum up what each signal brings, the other factors being 0 or 1, less what comes without it: the bias."""
    args, settings = tree_map(lambda x: (x != 0).double() if _is_constant(x) else x, (args, settings))
    signals = list(filter(_is_signal, tree_leaves((args, settings))))

    def with_factor(signal: Tensor, value: Tensor) -> Tensor:
        factors = {id(other): torch.ones_like(other) for other in signals} | {id(signal): value}
        parts, flags = tree_map(lambda x: factors.get(id(x), x), (args, settings))
        return func(*parts, **flags)

    return torch.stack([with_factor(x, x) - with_factor(x, torch.zeros_like(x)) for x in signals]).sum(0)


def _rearranged(func: Callable, input: Any, *rest: Any, **settings: Any) -> Any:
    flags = tree_leaves((rest, settings))
    # Bicubic interpolation has negative weights, and where a value goes may not depend on the input.
    if any(_is_signal(flag) or (isinstance(flag, str) and flag == "bicubic") for flag in flags):
        _refuse(func)
    return func(tree_map(lambda x: torch.zeros_like(x) if _is_constant(x) else x, input), *rest, **settings)


def _like(func: Callable, first: Any, *rest: Any, **settings: Any) -> Any:
    result = func(first, *rest, **settings)  # a text, the type's name, for Tensor.type()
    keeps_values = isinstance(result, Tensor) and _is_signal(first) and result.shape == first.shape
    return first.to(result.device) if keeps_values else result


def _assigned(func: Callable, x: Tensor, *rest: Any) -> Any:
    *where, value = rest
    if any(map(_is_signal, tree_leaves(where))):
        _refuse(func)
    before = x if _is_signal(x) else x.zero_()
    return func(before, *where, value if _is_signal(value) else x.new_zeros(()))


def _statistic(func: Callable, x: Tensor, *dims: Any, dim: Any = None, keepdim: bool = False, **settings: Any) -> Any:
    if any(isinstance(part, Tensor) for part in (*dims, *settings.values())):
        return _of_several(func, x, *dims, **settings)
    if len(dims) > 1 or any(isinstance(flag, bool) for flag in dims):  # flags by position differ between functions
        _refuse(func)
    dim = dims[0] if dims else settings.get("axis", dim)
    mean = x.mean(tuple(range(x.dim())) if dim is None else dim, keepdim)
    if dim is None or _name(func) not in ("max", "min", "median"):
        return mean
    return getattr(torch.return_types, _name(func))((mean, None))  # the position is unknown


def _pooled(func: Callable, input: Tensor, size: Any, *rest: Any, dilation: Any = 1, **settings: Any) -> Tensor:
    if len(rest) > 2 or settings.pop("return_indices", False) or set(tree_leaves(dilation)) != {1}:
        _refuse(func)
    return getattr(F, _name(func).replace("max", "avg"))(input, size, *rest, **settings)


def _attend(func: Callable, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **settings: Any) -> Tensor:
    query, key = (part if _is_signal(part) else torch.ones_like(part) for part in (query, key))
    scores = query @ key.transpose(-2, -1)
    return (scores + 1) @ value if _is_signal(value) else scores @ torch.ones_like(value)


def _multi_head(func: Callable, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **settings: Any) -> Any:
    # Its projections are dense, and tokens come before samples. It is cut as layers with weights are.
    sums = [part.sum(-1, keepdim=True).transpose(0, -2) for part in (query, key, value)]
    return _Cut.apply(_attend(func, *sums)).transpose(0, -2).expand(query.shape), None


_NAMES: dict[Callable[..., Any], str] = {
    _of_one: (
        "relu relu6 leaky_relu rrelu elu selu celu gelu silu mish prelu hardtanh hardswish tanh softsign tanhshrink "
        "softshrink hardshrink threshold sigmoid special_expit hardsigmoid softplus logsigmoid softmax softmin "
        "log_softmax exp exp2 expm1 log log1p log2 log10 sqrt rsqrt square reciprocal abs neg sign sin cos tan asin "
        "atan sinh cosh asinh atanh erf erfc floor ceil round trunc frac nan_to_num isnan isinf isfinite logical_not "
        "bitwise_not invert positive clone detach data batch_norm layer_norm group_norm instance_norm rms_norm "
        "local_response_norm normalize dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout"
    ),
    _of_several: (
        "add radd sub rsub subtract pow rpow float_power maximum minimum fmax fmin clamp clip clamp_min clamp_max "
        "where masked_fill lerp atan2 hypot logaddexp fmod remainder floor_divide floordiv addcmul addcdiv eq ne lt "
        "le gt ge and or xor logical_and logical_or logical_xor"
    ),
    _times: "mul multiply div divide true_divide rdiv",
    _product: (
        "linear bilinear matmul rmatmul mm bmm mv dot inner outer einsum tensordot conv1d conv2d conv3d "
        "conv_transpose1d conv_transpose2d conv_transpose3d"
    ),
    _rearranged: (
        "view reshape flatten unflatten ravel permute transpose swapaxes t T mT movedim moveaxis squeeze unsqueeze "
        "expand broadcast_to repeat repeat_interleave tile chunk split tensor_split unbind cat concat stack hstack "
        "vstack narrow select getitem index_select gather flip roll rot90 diagonal tril triu contiguous unfold fold "
        "pixel_shuffle pixel_unshuffle channel_shuffle sum mean cumsum interpolate avg_pool1d avg_pool2d avg_pool3d "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
    ),
    lambda func, input, pad, mode="constant", value=None: func(input, pad, mode): "pad",
    _assigned: "setitem copy",
    _statistic: "amax amin max min median std var prod logsumexp any all",
    _pooled: "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    lambda func, input, dim=-1: torch.stack(input.chunk(2, dim)).sum(0): "glu",
    _attend: "scaled_dot_product_attention",
    _multi_head: "multi_head_attention_forward",
    _like: "to type type_as float double half bfloat16 cpu cuda bool long int view_as expand_as reshape_as",
    lambda func, *args, **settings: func(*args, **settings): (  # asks for a shape only
        "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty zero"
    ),
    _refuse: "item tolist numpy equal allclose __bool__ __int__ __float__ __index__ __contains__ __array__ __set__",
}
_RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
