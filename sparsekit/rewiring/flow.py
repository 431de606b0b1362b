"""How much flows through every layer when all inputs are 1 and all weights are positive: the pass of SynFlow."""

import copy
import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation, batchnorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

from sparsekit.layers import MaskedMatrix, sparse_layers
from sparsekit.rewiring.flow_sums import FlowThroughMatrix, Sums, add_up
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.utils.substitutes import Substitutes

_NORMS = (batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_STAYING = ("MultiheadAttention", "GLU", "Softmax", "Softmax2d")  # of the module of activations
_BENDING = tuple(getattr(activation, name) for name in activation.__all__ if name not in _STAYING)
_UNSEEN = -1e3  # a number below this, added to what attention compares, is a mask


class WholeModel:
    """The model whose layers are captured, and how it was called last: what a pass through all of it needs."""

    def __init__(self, model: nn.Module):
        self.model, self.arguments = model, None

    def record_call(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Record the shapes of a call of the model."""
        if module is self.model:
            self.arguments = ones_for(args)

    @cached_property
    def flow(self) -> Sums:
        """What `all_ones_flow` gives for the model as it is when this is first asked for.

        Raises:
            ValueError: if the model was not called with a tensor by position.
        """
        if not self.arguments:
            raise ValueError(
                "the flow of ones needs the shape of the model's input, got no call of the model with a tensor. Run "
                "model(x), the input by position, inside capture_io(model)"
            )
        return all_ones_flow(self.model, self.arguments)


def ones_for(arguments: Any) -> Any:
    """Return ones in place of every tensor of real numbers or bytes, in the memory of a single number each.

    Other integers and truth values stay, because they are indices and masks.
    """
    one = partial(torch.ones, (), dtype=torch.float64)
    return tree_map(lambda x: one(device=x.device).expand(x.shape) if _is_real(x) else x, arguments)


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.dtype == torch.uint8)


def all_ones_flow(model: nn.Module, arguments: tuple[Any, ...]) -> Sums:
    """Return for each sparse layer what arrives at its inputs `(W,)`, and what its outputs `(O,)` pass on.

    The model's absolute weights, without biases, see inputs of ones. `R` is the sum of all outputs. What arrives is
    the activation. What is passed on is the derivative of `R`. Both are summed over samples and positions, and their
    product is what a connection of weight 1 would add to `R`. Normalisations and activations are left out, modules and
    functions alike (they count as the identity, attention's softmax as a division by the sum). Of an embedding the mean
    of all rows arrives. All this happens on a copy in double precision and evaluation mode.

    Args:
        model: with sparse layers in either storage.
        arguments: what the model is called with, for example from `ones_for`.

    Returns:
        By layer name. Layers that the pass does not reach are left out.

    Raises:
        ValueError: if the model is recurrent, or the pass reaches no sparse layer.

    Source: Tanaka et al. (2020), arXiv:2006.05467, section 6.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology import LayerTopology
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
        >>> nn.init.constant_(net[2].weight, -3.0) is net[2].weight
        True
        >>> net = sparsify(net, {"0": LayerTopology.full((1, 2)), "2": LayerTopology.full((1, 1))})
        >>> inputs, outputs = all_ones_flow(net, (torch.ones(1, 2),))["0"]
        >>> inputs.tolist(), outputs.tolist()
        ([1.0, 1.0], [3.0])
    """
    network = positive_copy(model.module if isinstance(model, DistributedDataParallel) else model)
    sums: Sums = {}
    for name, layer in sparse_layers(network).items():
        if isinstance(layer, MaskedMatrix):
            layer.param.requires_grad_(True)
            layer.catcher = FlowThroughMatrix(sums, name, layer)
        layer.register_forward_hook(partial(add_up, sums, name), with_kwargs=True)
    with seeded_rng(generator(0, "flow")), torch.enable_grad():
        arriving = flow_through(lambda: network(*tree_map(_with_gradient, arguments)))
        if arriving.requires_grad:
            arriving.backward()
    if not sums:
        raise ValueError(
            "the flow of ones must reach at least one sparse layer, got none reached. Outputs must depend on inputs of "
            "real numbers, or on an embedding, through sparse layers"
        )
    return sums


def flow_through(run: Callable[[], Any]) -> Tensor:
    """Run a model that was made straight, and return the sum of all its outputs that depend on anything."""
    with Straight():
        outputs = tree_leaves(run())
    arriving = [part.sum() for part in outputs if isinstance(part, Tensor) and part.requires_grad]
    return torch.stack(arriving).sum() if arriving else torch.zeros((), dtype=torch.float64)


def positive_copy(model: nn.Module) -> nn.Module:
    """Return a copy in double precision with positive weights, no biases or positions, and no module that bends.

    What bends are normalisations and activations, torch's own and a user's. See `Straight` for functions.
    """
    network = copy.deepcopy(model).double().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.abs_()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if _is_added(network, name, tensor):
            tensor.zero_()
    for module in network.modules():
        # The module stays, for others may read its settings (an encoder layer reads those of its norms).
        if _bends(module):
            vars(module)["forward"] = _first_of
    return network


def _is_added(model: nn.Module, name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a bias or holds positions, by its name. A table named bias that is not learnt is a mask."""
    owner, _, own = name.rpartition(".")
    if isinstance(model.get_submodule(owner), nn.Embedding):
        own = owner.rpartition(".")[2]
    is_bias = "bias" in own and (isinstance(tensor, nn.Parameter) or tensor.dim() < 2)
    return tensor.is_floating_point() and (is_bias or own.startswith("pos") or own.endswith("position"))


def _bends(module: nn.Module) -> bool:
    """Whether a module is a normalisation or an activation, torch's own or a user's, which we try out."""
    if isinstance(module, _NORMS + _BENDING):
        return True
    own = [*module.parameters(), *module.buffers()]
    if type(module).__module__.startswith("torch.") or len(list(module.modules())) > 1 or any(x.dim() > 1 for x in own):
        return False
    width = max((x.numel() for x in own), default=4)
    return any(_bends_numbers(module, shape) for shape in ((2, 3, width), (2, width, 3, 3)))


def _bends_numbers(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether doubled numbers give the same (a normalisation), or each by itself not twice as much (an activation)."""
    numbers = torch.linspace(-3, 3, math.prod(shape), dtype=torch.float64)
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))
    try:
        with seeded_rng(generator(0, "trying out")):
            once, moved, twice = (module.forward(x.view(shape)) for x in (numbers, numbers[order], 2 * numbers))
    except Exception:  # it takes no such numbers
        return False
    if not isinstance(once, Tensor) or once.shape != shape or bool((once == once.flatten()[0]).all()):
        return False
    is_activation = torch.equal(once.flatten()[order], moved.flatten()) and not torch.allclose(twice, 2 * once)
    return is_activation or torch.allclose(twice, once, rtol=1e-3)


class Straight(Substitutes):
    """Within it functions are what `positive_copy` makes of modules: normalisations and activations change nothing.

    Softmax is a division by the sum, see `shares`. Of embeddings every position gets the mean of all rows, so that it
    does not matter which words a batch holds. All numbers are of double precision, whatever a model converts them to.

    Raises:
        ValueError: if the model uses a recurrent function, whose gates cannot be left out.
    """

    def __init__(self):
        unchanged = dict.fromkeys([f"{name}{end}" for name in _CURVES for end in ("", "_")], _first_of)
        refused = {name: partial(_refuse, name) for name in _GATED}
        super().__init__({**unchanged, **refused, **_REPLACED})

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = {name: _as_double(value) for name, value in (kwargs or {}).items()}
        result = super().__torch_function__(func, types, tuple(map(_as_double, args)), kwargs)
        is_single = isinstance(result, Tensor) and result.is_floating_point() and result.dtype != torch.float64
        return result.double() if is_single else result


def shares(input: Tensor, dim: int | None = -1, *_: Any, **__: Any) -> Tensor:
    """Return, in place of attention's softmax, every number divided by the sum, which counts as a constant.

    As the identity, softmax would let attention cube what arrives, and four blocks would exceed any number. The sum
    being a constant, queries, keys and values all have the same sum of scores, so that what comes before an attention
    counts up to three times as much as what follows. What a mask takes far below 0 gets nothing, and where nothing
    arrives there are zeros. Outputs, one row per example, stay as they are.

    Example:
        >>> shares(torch.tensor([[[1.0, 3.0, -torch.inf]]])).tolist()
        [[[0.25, 0.75, 0.0]]]
    """
    if input.ndim < 3:  # nothing but rows of outputs
        return input
    seen = input.clamp(min=0)
    total = seen.detach().sum(-1 if dim is None else dim, keepdim=True)
    return seen / total.where(total > 0, 1.0)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What attention in one function does, with `shares` in place of its softmax. Any scale gives the same shares."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    compared = query @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(compared.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        is_seen = attn_mask if attn_mask.dtype == torch.bool else attn_mask > _UNSEEN
        compared = compared.masked_fill(~is_seen, 0.0)
    return shares(compared) @ value


def _embedding(input: Tensor, weight: Tensor, *_: Any, **__: Any) -> Tensor:
    return _mean_row(weight).expand(*input.shape, weight.shape[1]).clone()


def _embedding_bag(input: Tensor, weight: Tensor, *more: Any, **named: Any) -> Tensor:
    return nn.functional.embedding_bag(input, _mean_row(weight).expand_as(weight).contiguous(), *more, **named)


def _mean_row(weight: Tensor) -> Tensor:
    # Here the flow begins, because integers have no gradient that would say what depends on them.
    return weight.detach().mean(0).requires_grad_()


def _first_of(*args: Any, **named: Any) -> Any:
    return args[0] if args else next(iter(named.values()))


def _refuse(name: str, *_: Any, **__: Any) -> Any:
    raise ValueError(
        f"the flow of ones needs layers that are straight without activations, got {name}, whose gates close at large "
        "numbers. Choose a score or a guide that looks at data"
    )


def _as_double(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


_GATED = ("lstm", "lstm_cell", "gru", "gru_cell", "rnn_tanh", "rnn_tanh_cell")
# fmt: off
_CURVES = [
    "relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardtanh",
    "hardswish", "hardsigmoid", "softplus", "softsign", "softshrink", "hardshrink", "tanhshrink", "threshold",
    "sigmoid", "logsigmoid", "tanh", "softmin", "log_softmax", "layer_norm", "batch_norm", "group_norm",
    "instance_norm", "rms_norm", "local_response_norm", "normalize"
]
# fmt: on
_REPLACED = {
    "softmax": shares,
    "scaled_dot_product_attention": _attention,
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    **dict.fromkeys(("float", "half", "bfloat16"), Tensor.double),
}


def _with_gradient(value: Any) -> Any:
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        return value
    return value.double().requires_grad_().clone()  # a leaf could not be changed in place, which some models do
