"""This module converts between plain and sparse models."""

import copy
import types
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.layers.auto import fastest_storages
from sparsekit.layers.base import GHOST, SparseLayer
from sparsekit.layers.companions import add_companions, remove_companions
from sparsekit.layers.coverage import coverage
from sparsekit.layers.csr import SparseConv2d, SparseLinear
from sparsekit.layers.initial import check_init
from sparsekit.layers.listing import KINDS, MODEL, check_names_and_shapes, left_dense, sparse_layers
from sparsekit.layers.masked import ForwardMask, MaskedConv2d, MaskedLinear
from sparsekit.layers.masking import mask_matrices, values_to_begin_with
from sparsekit.layers.matrices import Matrix, matrices_of
from sparsekit.layers.matrix_layer import MaskedMatrix
from sparsekit.layers.owners import close_owner, is_open
from sparsekit.topology import LayerTopology
from sparsekit.utils.checks import must_be

LAYERS: dict[tuple[str, type], type[SparseLayer]] = {
    ("masked", nn.Linear): MaskedLinear,
    ("masked", nn.Conv2d): MaskedConv2d,
    ("csr", nn.Linear): SparseLinear,
    ("csr", nn.Conv2d): SparseConv2d,
}
STORAGES = ("masked", "csr")
SAVE = "save_pretrained"  # of models of Hugging Face and timm

MANY_UPDATES = 30  # in place, more than any initialisation makes
MANY_ZEROS = 0.01  # of the weights, more than a draw from a continuous distribution gives


class TrainedWeightsWarning(UserWarning):
    """Weights that seem to be trained or pruned are scaled as if they had just been drawn."""


class LeftDenseWarning(UserWarning):
    """Some weights of a model cannot be made sparse, and the message names them and says why."""


def sparsify(
    model: nn.Module,
    topology: Mapping[str, LayerTopology],
    storage: str = "masked",
    *,
    init: str = "fan-in",
    example: Tensor | None = None,
) -> nn.Module:
    """Return a copy of a plain model whose named layers keep only the topology's connections.

    Args:
        model: a plain model, which is not changed. One made `with torch.device("meta")` has no dense weights, so its
            connections get initial weights of their own (see `initial_values`). Its biases are zero, and the topology
            must name every layer.
        topology: the connections of each layer that is to be sparse. Layers it does not name stay as they are.
        storage: `"masked"` (a dense weight and a mask, on any device) or `"csr"` (existing connections only, where
            norms, GELUs and poolings become subclasses that keep activations feature-major). `"auto"` takes for each
            layer the faster of both on this machine, as measured with the example batch (see `layers.auto`). Layers
            that are no `nn.Linear` or `nn.Conv2d` are masked in any case (see `register_kind`).
        init: `"fan-in"` scales the weights of a new model, which were drawn for dense layers, to the inputs that each
            output has (see `fit_to_fan_in`). `"dense"` keeps every value as it is. Choose it to prune a trained model,
            or to see what the scale is worth.
        example: a batch of inputs, as large as those of the training, for `"auto"` only.

    Raises:
        TypeError: if the topology, or what it holds for a layer, is something else.
        ValueError: if a name is not a layer that can be sparse, a shape differs, the storage or the initialisation is
            unknown, or the model cannot be copied.

    Warns:
        LeftDenseWarning: says how many weights are left dense (embeddings, tied weights, ...), see `left_dense`. A
            model whose attribute `meant_dense` names all of them needs no warning.
        TrainedWeightsWarning: if weights are scaled that seem to be trained or pruned. We can see it where the model
            has just been trained, has batch norm, or comes from `densify`, but not where it was copied, or loaded from
            a file, before that.

    Example:
        >>> from sparsekit.layers import shapes_of, topology_of
        >>> from sparsekit.topology.selection import random_topology
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> sparse = sparsify(model, random_topology(shapes_of(model), 0.25, seed=0), storage="csr")
        >>> topology_of(sparse).count
        40
    """
    if storage not in (*STORAGES, "auto"):
        raise ValueError(f"storage must be one of {', '.join(STORAGES)}, auto, got {storage!r}. Choose one of them")
    check_init(init)
    _check_fits(model, topology)
    if init == "fan-in":
        _warn_if_trained(model, topology)
    if storage == "auto":
        storages = _measured(model, topology, example)
    else:
        storages = dict.fromkeys(topology, storage)
    sparse = _sparsified(model, topology, storages, init)
    if left_dense(sparse).keys() - set(getattr(model, "meant_dense", ())):
        warnings.warn(coverage(sparse).left_sentence(), LeftDenseWarning, stacklevel=2)
    return sparse


def _measured(model: nn.Module, topology: Mapping[str, LayerTopology], example: Tensor | None) -> dict[str, str]:
    if example is None:
        raise ValueError("storage 'auto' must have a batch to measure with, got none. Give example=inputs")
    matrices = matrices_of(model)
    fastest = fastest_storages(
        model,
        {name: layer for name, layer in topology.items() if _is_replaced(matrices[name])},
        example,
        make=lambda name, storage: _sparse_layer(model.get_submodule(name), topology[name], storage, "dense"),
        build=lambda storages: _sparsified(
            model, topology, dict.fromkeys(topology, "masked") | dict(storages), "dense"
        ),
    )
    return dict.fromkeys(topology, "masked") | dict(fastest)


def _warn_if_trained(model: nn.Module, topology: Mapping[str, LayerTopology]) -> None:
    """Warn if weights that are to be scaled as new ones seem to be trained or pruned already."""
    if all(layer.density == 1 for layer in topology.values()):
        return
    matrices = matrices_of(model)
    weights = [matrices[name].param for name in topology]
    if max(_num_updates(model, weights)) < MANY_UPDATES and not any(map(_is_pruned, weights)):
        return
    warnings.warn(
        "init='fan-in' scales weights that were just drawn, got a model that seems to be trained or pruned. Give "
        "init='dense' to keep its values",
        TrainedWeightsWarning,
        stacklevel=3,
    )


def _num_updates(model: nn.Module, weights: list[nn.Parameter]) -> list[int]:
    """Return how often weights and batch norms were updated, as far as torch knows."""
    batches = [int(x) for name, x in model.named_buffers() if name.endswith("num_batches_tracked") and not x.is_meta]
    return [0, *batches, *(weight._version for weight in weights if not weight.is_inference())]


def _is_pruned(weight: Tensor) -> bool:
    """Whether many weights are exactly zero, as those that `densify` returns, but not all."""
    return not weight.is_meta and MANY_ZEROS < float((weight == 0).float().mean()) < 1


def _sparsified(
    model: nn.Module, topology: Mapping[str, LayerTopology], storages: Mapping[str, str], init: str
) -> nn.Module:
    new = _copy_of(model)
    modules, matrices = dict(new.named_modules()), matrices_of(new)
    replaced = {name for name in topology if _is_replaced(matrices[name])}
    swap = {id(modules[name]): _sparse_layer(modules[name], topology[name], storages[name], init) for name in replaced}
    others = {name: (matrices[name], layer) for name, layer in topology.items() if name not in replaced}
    mask_matrices(new, others, init)
    if any(storages[name] == "csr" for name in replaced):
        add_companions(new)
    new = replace_modules(new, swap)
    save_as_plain(new)
    if missing := [name for name, tensor in [*new.named_parameters(), *new.named_buffers()] if tensor.is_meta]:
        raise ValueError(
            "a model on the meta device, as for init='gse', must have no values but those of layers that the topology "
            f"names, got {', '.join(missing)}. Add LayerTopology.full(shape) for layers that are to stay dense, and "
            "choose init='fan-in' or 'dense' for a network with batch norms"
        )
    return new


def _is_replaced(matrix: Matrix) -> bool:
    """Whether a layer becomes one of ours. Others keep their module, whose forward may be its own."""
    return type(matrix.owner) in KINDS and "tied" not in matrix.groups


def densify(model: nn.Module) -> nn.Module:
    """Return a plain copy of a sparse model, with zeros for missing connections, ready for export.

    Ghosts that a trick has put around layers stand around the plain ones too.

    Raises:
        TypeError: if it is no model.

    Example:
        >>> plain = nn.Sequential(nn.Linear(4, 4))
        >>> type(densify(sparsify(plain, {"0": LayerTopology.full((4, 4))}))[0]).__name__
        'Linear'
    """
    must_be("model", model, nn.Module, MODEL)
    new = copy.deepcopy(model)
    remove_companions(new)
    save_as_usual(new)
    layers = [layer for layer in sparse_layers(new).values() if not isinstance(layer, MaskedMatrix)]
    new = replace_modules(new, {id(layer): _with_ghost(layer, layer.to_plain()) for layer in layers})
    for module in [*new.modules()]:
        if is_open(module):
            close_owner(module)
    return new


def save_as_plain(model: nn.Module) -> None:
    """Let `save_pretrained` of a model, and of models in it, write plain layers, as `from_pretrained` needs them."""
    for module in model.modules():
        if hasattr(type(module), SAVE):
            vars(module)[SAVE] = types.MethodType(save_pretrained, module)


def save_as_usual(model: nn.Module) -> None:
    """Undo `save_as_plain`."""
    for module in model.modules():
        vars(module).pop(SAVE, None)


def save_pretrained(self: Any, *args: Any, state_dict: Any = None, **settings: Any) -> Any:
    """Save a model with plain layers, unless a trainer gives a state, from which it continues with the sparse model."""
    if state_dict is not None:
        return type(self).save_pretrained(self, *args, state_dict=state_dict, **settings)
    plain: Any = densify(self)
    return plain.save_pretrained(*args, **settings)


def _with_ghost(layer: SparseLayer, plain: nn.Module) -> nn.Module:
    if GHOST in vars(layer):
        vars(plain)[GHOST] = vars(layer)[GHOST]
        vars(plain)["forward"] = types.MethodType(vars(layer)["forward"].__func__, plain)
        for name, child in layer.named_children():
            if not isinstance(child, ForwardMask):
                plain.add_module(name, child)
    return plain


def _copy_of(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise ValueError(
            "the model must be one that can be copied, got one with weights computed outside of any layer. Undo "
            "torch.nn.utils.prune, and use torch.nn.utils.parametrizations in place of the old weight_norm"
        ) from error


def _check_fits(model: nn.Module, topology: Mapping[str, LayerTopology]) -> None:
    if sparse_layers(model):
        raise ValueError(
            "sparsify takes a plain model, got one with sparse layers. Call densify on it first, and give init='dense' "
            "to keep its values"
        )
    check_names_and_shapes(model, topology)


def _sparse_layer(module: nn.Module, topology: LayerTopology, storage: str, init: str) -> SparseLayer:
    kind = KINDS[type(module)].of(module)
    weight, bias = module.get_parameter("weight"), module._parameters["bias"]
    values = values_to_begin_with(weight, weight, topology, init)
    if weight.is_meta:
        bias = None if bias is None else nn.Parameter(torch.zeros(bias.shape, dtype=bias.dtype))
    topology = topology.to(values.device)
    layer = LAYERS[storage, type(module)](kind, topology, values, bias)
    layer.param.requires_grad_(weight.requires_grad)
    return layer.train(module.training)


def replace_modules(model: nn.Module, swap: Mapping[int, nn.Module]) -> nn.Module:
    """Replace old modules by new ones, at every occurrence of one that is used twice."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if id(child) in swap:
                parent._modules[key] = swap[id(child)]
    return swap.get(id(model), model)
