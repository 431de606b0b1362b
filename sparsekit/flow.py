"""How much flows through every layer when all inputs are 1 and all weights are positive: the pass of SynFlow."""

import copy
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation, batchnorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.seeds import generator, seeded_rng

Sums = dict[str, tuple[Tensor, Tensor]]

_NORMS = (batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_BENDING = tuple(getattr(activation, name) for name in activation.__all__ if name not in ("MultiheadAttention", "GLU"))
_ADDED = ("bias", "position")  # how the names of parameters and buffers end that are added to what flows


class WholeModel:
    """The model whose layers are captured, and how it was called last: what a pass through all of it needs."""

    def __init__(self, model: nn.Module):
        self.model, self.arguments = model, None

    def note_call(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Remember the shapes of a call of the model."""
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
                "the flow of ones needs the shape of the model's input, got no call of the model with a tensor; run "
                "model(x), the input by position, inside capture_io(model)"
            )
        return all_ones_flow(self.model, self.arguments)


class CallNote:
    """A forward pre-hook whose copies, in copies and files of the model, do nothing and hold nothing."""

    def __init__(self, note: Callable[[nn.Module, tuple[Any, ...]], None] | None = None):
        self.note = note

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self.note is not None:
            self.note(module, args)

    def __reduce__(self) -> tuple[type["CallNote"], tuple[()]]:
        return CallNote, ()


def ones_for(arguments: Any) -> Any:
    """Return ones in place of every tensor of real numbers, in the memory of a single number each."""
    one = partial(torch.ones, (), dtype=torch.float64)
    return tree_map(
        lambda x: one(device=x.device).expand(x.shape) if isinstance(x, Tensor) and x.is_floating_point() else x,
        arguments,
    )


def all_ones_flow(model: nn.Module, arguments: tuple[Any, ...]) -> Sums:
    """Return for each sparse layer what arrives at its inputs `(W,)`, and what its outputs `(O,)` pass on.

    The model's absolute weights, without biases, see inputs of ones; `R` is the sum of all outputs. What arrives is
    the activation, what is passed on is the derivative of `R`, both summed over samples and positions: their product
    is what a connection of weight 1 would add to `R`. Normalisations and activation modules are left out (they count
    as the identity, attention's softmax as a division by the sum); activations called as functions are not. Double
    precision, evaluation mode, on a copy: the model and the random streams stay as they are.

    Args:
        model: with sparse layers in either storage.
        arguments: what the model is called with, for example from `ones_for`.

    Returns:
        By layer name; layers that the pass does not reach are left out.

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
    twin = positive_twin(model.module if isinstance(model, DistributedDataParallel) else model)
    sums: Sums = {}
    for name, layer in sparse_layers(twin).items():
        layer.register_forward_hook(partial(_add_up, sums, name), with_kwargs=True)
    with seeded_rng(generator(0, "flow")), torch.enable_grad():
        ones = tree_map(_with_gradient, arguments)
        arriving = [part.sum() for part in tree_leaves(twin(*ones)) if isinstance(part, Tensor) and part.requires_grad]
        if arriving:
            torch.stack(arriving).sum().backward()
    return sums


def positive_twin(model: nn.Module) -> nn.Module:
    """Return a copy in double precision with positive weights, no biases or positions, and nothing that bends.

    Normalisations are left out too; attention's softmax keeps its division, see `Shares`.
    """
    twin = copy.deepcopy(model).double().eval().requires_grad_(False)
    for parameter in twin.parameters():
        parameter.abs_()
    for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
        if name.endswith(_ADDED):
            tensor.zero_()
    for parent in twin.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Softmax):
                parent._modules[name] = Shares(child.dim)
            elif isinstance(child, _NORMS + _BENDING):
                parent._modules[name] = nn.Identity()
    return twin


class Shares(nn.Module):
    """In place of attention's softmax: every number divided by the sum, which counts as a constant.

    As the identity, softmax would let attention cube what arrives, and four blocks would exceed any number. The sum
    being a constant, queries, keys and values all have the same sum of scores, so that what comes before an attention
    counts up to three times as much as what follows. Outputs, one row per example, stay as they are.

    Example:
        >>> Shares(-1)(torch.tensor([[[1.0, 3.0]]])).tolist()
        [[[0.25, 0.75]]]
    """

    def __init__(self, dim: int | None):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers that add up to 1 along the dimension, or zeros where nothing arrives."""
        if x.ndim < 3:  # nothing but rows of outputs
            return x
        total = x.detach().sum(self.dim, keepdim=True)
        return x / total.where(total > 0, 1.0)


def _with_gradient(value: Any) -> Any:
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        return value
    return value.double().requires_grad_().clone()  # a leaf could not be changed in place, which some models do


def _add_up(sums: Sums, name: str, layer: SparseLayer, args: tuple, kwargs: dict, output: Tensor) -> None:
    """A forward hook: note what arrives now, and in the backward pass what is passed on."""
    if output.requires_grad:
        arrives = layer.kind.input_sums((args[0] if args else kwargs["input"]).detach())

        def note(passed_on: Tensor) -> None:
            before = sums.get(name, (0, 0))
            sums[name] = (before[0] + arrives, before[1] + layer.kind.output_sums(passed_on))

        output.register_hook(note)
