"""Where the weights of sparse layers are among a model's parameters and in its `state_dict`."""

from torch import Tensor, nn

from sparsekit.layers.base import STATE, SparseLayer
from sparsekit.layers.masked import MaskedLayer
from sparsekit.layers.matrix_layer import CONTAINER, MaskedMatrix
from sparsekit.layers.owners import WholeWeight, is_open


def masks_of(model: nn.Module, *, active: bool = False) -> dict[str, Tensor]:
    """Return a mask for each parameter that holds sparse layers, by the parameter's name in the plain model.

    Args:
        model: a sparse model.
        active: whether masks show what the forward pass uses, which is less under a forward mask.

    Example:
        >>> from sparsekit.layers import shapes_of, sparsify
        >>> from sparsekit.topology.selection import random_topology
        >>> plain = nn.LSTM(2, 3)
        >>> net = sparsify(plain, random_topology(shapes_of(plain), 0.5))
        >>> {name: int(mask.sum()) for name, mask in masks_of(net).items()}
        {'weight_ih_l0': 14, 'weight_hh_l0': 16}
    """
    masks: dict[str, Tensor] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, MaskedMatrix):
            name = f"{path[: path.rindex(CONTAINER)]}{layer.owned.parameter}"
            mask = layer.mask_of(layer.active if active else layer.topology)
            masks[name] = masks[name] & mask if name in masks else mask
        elif isinstance(layer, SparseLayer):
            topology = layer.active if active and isinstance(layer, MaskedLayer) else layer.topology
            masks[f"{path}.weight".lstrip(".")] = topology.mask()
    return masks


def weights_in(model: nn.Module, name: str) -> Tensor:
    """Return a detached dense copy of a parameter, by its name in the plain model, as the forward pass uses it."""
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(owner, SparseLayer) and attribute == "weight":
        return owner.dense_weight()
    if is_open(owner) and attribute in type(owner).masked_names:  # type: ignore[attr-defined]
        return WholeWeight(owner, attribute).dense_weight()
    return owner.get_parameter(attribute)


def entries_of_layers(model: nn.Module) -> set[str]:
    """Return which names in a `state_dict` are of sparse layers: connections, values, and the state of a rule."""
    names: set[str] = set()
    for path, layer in model.named_modules():
        if not isinstance(layer, SparseLayer):
            names |= {f"{path}.{name}".lstrip(".") for name in _wholly_sparse(layer)}
            continue
        entries = [*layer._parameters, *layer._buffers]
        of_layer = [name for name in entries if name in ("indices", layer.param_name) or name.startswith(STATE)]
        names |= {f"{path}.{name}".lstrip(".") for name in of_layer}
    return names


def tied_entries(model: nn.Module) -> set[str]:
    """Return under which further names a `state_dict` has the sparse layers that several modules share.

    Example:
        >>> from sparsekit.layers import shapes_of, sparsify
        >>> from sparsekit.topology.selection import random_topology
        >>> plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
        >>> plain[1].weight = plain[0].weight
        >>> net = sparsify(plain, random_topology(shapes_of(plain, include=("tied",)), 0.5))
        >>> sorted(tied_entries(net))
        ['1.sparse_weights.weight.indices', '1.weight']
    """
    names: set[str] = set()
    firsts = {id(layer): path for path, layer in model.named_modules() if isinstance(layer, SparseLayer)}
    for path, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, MaskedMatrix) and path != firsts[id(layer)]:
            holder = path[: path.rindex(CONTAINER)]
            parameter = path.rpartition(".")[2].partition(":")[0]
            names |= {f"{path}.{name}" for name in layer._buffers} | {f"{holder}{parameter}"}
    return names


def _wholly_sparse(owner: nn.Module) -> list[str]:
    """Return which parameters of a module hold nothing but sparse matrices."""
    wholes = [WholeWeight(owner, name) for name in type(owner).masked_names] if is_open(owner) else []  # type: ignore[attr-defined]
    return [x.name for x in wholes if _is_whole(x)]


def _is_whole(whole: WholeWeight) -> bool:
    """Whether a parameter is all in its owner's layers, which another owner may share."""
    size = sum(layer.topology.size for layer in whole.layers)
    return size == whole.param.numel() and all(layer.owned.owner is whole.owner for layer in whole.layers)
