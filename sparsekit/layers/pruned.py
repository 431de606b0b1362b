"""A model that other code has pruned becomes a sparse one whose connections are the weights that are left."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import prune

from sparsekit.layers.convert import sparsify
from sparsekit.layers.listing import MODEL, sparse_layers
from sparsekit.layers.matrices import matrices_of
from sparsekit.topology import LayerTopology
from sparsekit.utils.checks import must_be

ORIG, MASK = "_orig", "_mask"  # how torch.nn.utils.prune names a weight's values and its mask


def from_pruned(model: nn.Module, state: Mapping[str, Any] | None = None, *, storage: str = "masked") -> nn.Module:
    """Return a sparse model whose connections are the weights of a pruned one that are not zero.

    Masks of `torch.nn.utils.prune` say which connections exist, also where a value happens to be zero. Without a mask,
    a weight that is zero does not exist. So a dense pretrained state gives layers of density 1, which a rule that
    starts dense may prune. Embeddings and tied weights become sparse only where they have a mask.

    Args:
        model: a plain model, pruned or not, which stays as it is.
        state: a pruned or dense `state_dict` to load into a copy of it.
        storage: see `sparsify`.

    Raises:
        TypeError: if the model or the state is something else.
        ValueError: if the model is sparse already, or the state is not that of this model.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3))
        >>> _ = prune.l1_unstructured(net[0], "weight", 5)
        >>> from_pruned(net)[0].topology.count
        7
    """
    must_be("model", model, nn.Module, MODEL)
    if sparse_layers(model):
        raise ValueError("from_pruned needs a plain model, got one with sparse layers. Load the state into it instead")
    plain, masks = _without_masks(model)
    if state is not None:
        must_be("state", state, Mapping, "Give what model.state_dict() returned, as torch.load reads it")
        values, masks = _joined(state)
        _load(plain, values)
    paths = {id(module): path for path, module in plain.named_modules()}
    topology = {}
    for name, matrix in matrices_of(plain).items():
        mask = masks.get(f"{paths[id(matrix.owner)]}.{matrix.parameter}".lstrip("."))
        if mask is not None or not matrix.groups:
            exists = matrix.value.detach() if mask is None else matrix.of(mask.to(matrix.param.device))
            topology[name] = LayerTopology.of_mask(exists != 0)
    return sparsify(plain, topology, storage, init="dense")


def _without_masks(model: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a copy in which what torch's pruning computes has become a weight again, and the masks by its name."""
    pruned = [(path, name) for path, module in model.named_modules() for name in _pruned_in(module)]
    # torch cannot copy a computed tensor, so we give the copies ourselves.
    computed = (getattr(model.get_submodule(path), name) for path, name in pruned)
    new = copy.deepcopy(model, {id(x): x.detach().clone() for x in computed})
    masks = {}
    for path, name in pruned:
        module = new.get_submodule(path)
        masks[f"{path}.{name}".lstrip(".")] = module.get_buffer(name + MASK)
        prune.remove(module, name)
    return new, masks


def _pruned_in(module: nn.Module) -> list[str]:
    names = (name.removesuffix(ORIG) for name in module._parameters if name.endswith(ORIG))
    return [name for name in names if name + MASK in module._buffers]


def _joined(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a state without the parts that torch's pruning makes of a weight, and the masks by the weight's name.

    Raises:
        ValueError: if values and mask of a weight are not both there, or have different shapes.
    """
    masks = {key.removesuffix(MASK): x for key, x in state.items() if f"{key.removesuffix(MASK)}{ORIG}" in state}
    masks = {name: x for name, x in masks.items() if name + MASK in state}
    values = {key: x for key, x in state.items() if key.removesuffix(MASK) not in masks or not key.endswith(MASK)}
    for name, mask in masks.items():
        weight = values.pop(name + ORIG)
        if weight.shape != mask.shape:
            raise ValueError(
                f"{name}: its mask must have the weight's shape {tuple(weight.shape)}, got {tuple(mask.shape)}. Save "
                "the model's state_dict anew"
            )
        values[name] = weight * mask.to(weight.dtype)
    return values, masks


def _load(plain: nn.Module, values: Mapping[str, Any]) -> None:
    try:
        plain.load_state_dict(dict(values))
    except RuntimeError as error:
        raise ValueError(
            f"the state must be that of this model, got another: {error}. Build the model that was saved"
        ) from error
