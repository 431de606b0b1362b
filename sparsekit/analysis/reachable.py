"""Effective connections of any model, residual ones included: the model itself is asked, on a copy.

All weights become 1 and all biases 0, activations and normalisations let everything through, pooling takes
means, and after every layer with weights values are cut to 0 or 1. What then arrives anywhere is "an input
reaches this place", and the gradient is "this place reaches an output". A connection is effective where both
hold. This is SynFlow's pass with masks in the place of weights; cutting to 0 or 1 keeps it exact at any
depth.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparsekit.analysis.observing import observed, weighted_layers
from sparsekit.layers import SparseLayer, sparse_layers, topology_of
from sparsekit.topology import LayerTopology, Topology

# What is only added to a signal (biases, class tokens, position embeddings) is known by its name alone.
_ADDED = ("bias", "token", "pos", "embed", "offset", "shift")


def effective_in(model: nn.Module, example: Float[Tensor, "n *input"]) -> Topology:
    """Return the connections of a model's sparse layers that lie on a path from an input to an output.

    Args:
        model: with sparse layers in either storage; it is not changed. Dense layers connect everything.
        example: a batch as the model takes it; only its shape matters. One sample is enough.

    Raises:
        ValueError: if the model has no sparse layer.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> cut = Topology({"2": LayerTopology((1, 2), torch.tensor([0]))})
        >>> first = Topology({"0": LayerTopology((2, 1), torch.tensor([0, 1])), **cut})
        >>> effective_in(sparsify(net, first), torch.zeros(1, 1))["0"].indices.tolist()
        [0]

    Source: the pass of SynFlow, Tanaka et al. (2020), arXiv:2006.05467, with masks for weights; the quantity
    is that of Vysogorets and Kempe (2023), arXiv:2107.02306.
    """
    if not topology_of(model):
        raise ValueError("the model must have a sparse layer, got none; call sparsify first")
    with observed(model) as twin, _PassThrough(), torch.enable_grad():
        _fill_with_ones(twin)
        for module in weighted_layers(twin).values():
            module.register_forward_hook(lambda module, inputs, output: _Cut.apply(output))
        twin(_ones_like(example)).sum().backward()
    return Topology({name: _with_gradient(layer) for name, layer in sparse_layers(twin).items()})


def log10_num_paths_in(model: nn.Module, example: Float[Tensor, "n *input"]) -> float:
    """Return log10 of the number of paths from inputs to outputs; minus infinity if there is none.

    Every position of a picture is an input and output of its own; a pooling window of n places counts as a
    mean, 1/n path from each.

    Args:
        model: plain, or with sparse layers in either storage; it is not changed.
        example: a batch as the model takes it; only its shape matters. One sample is enough.

    Raises:
        ValueError: if there are more than float64 can count, about 1e308.

    Example:
        >>> round(
        ...     10 ** log10_num_paths_in(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(1, 3))
        ... )
        24
    """
    with observed(model) as twin, _PassThrough():
        _fill_with_ones(twin)
        paths = float(twin(_ones_like(example)[:1]).sum())
    if math.isinf(paths):
        raise ValueError("paths must number less than 1e308, got more; count them by log10_num_paths(topology)")
    return math.log10(paths) if paths > 0 else -math.inf


def _fill_with_ones(twin: nn.Module) -> None:
    """Turn a copy into float64 with weights and gains of 1, and 0 for whatever is only added."""
    twin.double().requires_grad_(False)
    for name, parameter in twin.named_parameters():
        parameter.fill_(0.0 if any(word in name.split(".")[-1] for word in _ADDED) else 1.0)
    for module in weighted_layers(twin).values():
        weight = module.param if isinstance(module, SparseLayer) else module.weight
        weight.requires_grad_(True).grad = None


def _ones_like(example: Tensor) -> Tensor:
    return torch.ones_like(example, dtype=torch.float64)


def _with_gradient(layer: SparseLayer) -> LayerTopology:
    grads = layer.grads()
    topology = layer.topology
    kept = torch.zeros(topology.count, dtype=torch.bool) if grads is None else grads > 0
    return LayerTopology(topology.shape, topology.indices[kept])


class _Cut(torch.autograd.Function):
    """Forward and backward alike: 1 where something arrives, 0 elsewhere."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (grad,) = grads
        return (grad > 0).to(grad.dtype)


def _first(x: Tensor, *rest, **settings) -> Tensor:
    return x


def _one_more(x: Tensor, *rest, **settings) -> Tensor:
    # Attention reads every place (the 1) and lets queries and keys matter (the x).
    return x + 1


def _attend(query: Tensor, key: Tensor, value: Tensor, *rest, **settings) -> Tensor:
    return (query @ key.transpose(-2, -1) + 1) @ value


def _gated(x: Tensor, dim: int = -1) -> Tensor:
    signal, gate = x.chunk(2, dim)
    return signal * (1 + gate)


def _mean_pool(x: Tensor, kernel_size, stride=None, padding=0, *rest, **settings) -> Tensor:
    return F.avg_pool2d(x, kernel_size, stride or kernel_size, padding, ceil_mode=settings.get("ceil_mode", False))


def _mean_adaptive(x: Tensor, output_size, *rest, **settings) -> Tensor:
    return F.adaptive_avg_pool2d(x, output_size)


# A maximum would hand its gradient to one of many equal places, and curves would let large values die.
_LETS_ALL_THROUGH = (
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.prelu),
    *(F.hardtanh, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.softsign, F.logsigmoid, F.log_softmax),
    *(torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.log_softmax, torch.prelu),
    *(Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.tanh, Tensor.log_softmax),
    *(
        F.batch_norm,
        F.layer_norm,
        F.group_norm,
        F.instance_norm,
        F.rms_norm,
        F.local_response_norm,
        F.normalize,
    ),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
)
_STANDS_FOR: dict[Callable, Callable] = {
    **dict.fromkeys(_LETS_ALL_THROUGH, _first),
    **dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax), _one_more),
    F.glu: _gated,
    F.scaled_dot_product_attention: _attend,
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _mean_pool),
    F.adaptive_max_pool2d: _mean_adaptive,
}


class _PassThrough(TorchFunctionMode):
    """Replaces what bends or compares values by something positive that lets every path through."""

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        return _STANDS_FOR.get(func, func)(*args, **(kwargs or {}))
