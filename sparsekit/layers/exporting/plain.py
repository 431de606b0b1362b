"""Networks with plain layers, and the connections of their sparse layers in compressed rows."""

import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsekit.layers.condensed import CondensedLinear
from sparsekit.layers.convert import densify, replace_modules
from sparsekit.layers.listing import sparse_layers
from sparsekit.layers.masked import MaskedLayer
from sparsekit.layers.matrix_layer import MaskedMatrix
from sparsekit.topology import LayerTopology


class Compressed(NamedTuple):
    """A layer's weight in compressed rows.

    Args:
        pointers: where each row starts, and where the last one ends.
        columns: of each value, in the weight flattened to a matrix.
        values: row by row.
        shape: of the dense weight.
    """

    pointers: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, ...]


def plain_of(model: nn.Module) -> nn.Module:
    """Return a copy with plain layers in evaluation mode, of a network with sparse or condensed ones."""
    new = densify(model)
    condensed = [module for module in new.modules() if isinstance(module, CondensedLinear)]
    return replace_modules(new, {id(module): module.to_plain() for module in condensed}).eval().cpu()


def compressed_of(model: nn.Module) -> dict[str, Compressed]:
    """Return the weights of sparse and condensed layers, as the forward pass uses them, by their key in a state."""
    rows = {}
    for name, layer in sparse_layers(model).items():
        if isinstance(layer, MaskedMatrix):
            continue  # see `compressed_in_owners`
        topology = layer.active if isinstance(layer, MaskedLayer) else layer.topology
        values = layer.dense_weight().flatten()[topology.indices].cpu()
        rows[weight_key(name)] = Compressed(topology.csr()[0].cpu(), topology.cols.cpu(), values, layer.shape)
    for name, module in model.named_modules():
        if isinstance(module, CondensedLinear):
            shape = (len(module.bias), module.in_features)
            rows[weight_key(name)] = Compressed(module.pointers.cpu(), module.inputs.cpu(), module.values.cpu(), shape)
    return rows


def compressed_in_owners(model: nn.Module, plain: nn.Module) -> dict[str, Compressed]:
    """Return the sparse parameters of modules that keep their own forward, each in its own layout, by their key.

    A parameter may hold several matrices, and others beside them that are dense.
    """
    paths = {id(module): f"{path}." if path else "" for path, module in model.named_modules()}
    masks: dict[str, Tensor] = {}
    for layer in sparse_layers(model).values():
        if isinstance(layer, MaskedMatrix):
            key = f"{paths[id(layer.owned.owner)]}{layer.owned.parameter}"
            masks[key] = layer.mask.cpu() & masks.get(key, torch.tensor(True))
    state, rows = plain.state_dict(), {}
    for key, mask in masks.items():
        topology = LayerTopology.of_mask(mask)
        values = state[key].flatten()[topology.indices]
        rows[key] = Compressed(topology.csr()[0], topology.cols, values, tuple(mask.shape))
    return rows


def narrow(numbers: Tensor, *types: torch.dtype) -> Tensor:
    """Return integers of 0 and more in the first of these types that holds them all, or in int64.

    Example:
        >>> narrow(torch.tensor([3, 40_000]), torch.int16, torch.int32).dtype
        torch.int32
    """
    largest = int(numbers.max()) if numbers.numel() else 0
    return numbers.to(next((one for one in types if largest <= torch.iinfo(one).max), torch.int64))


def weight_key(name: str) -> str:
    """Return the key of a layer's weight in a state dict."""
    return f"{name}.weight" if name else "weight"


def several(example: Tensor) -> Tensor:
    """Return a batch of two inputs or more, because exporters take the size of a batch of one for fixed."""
    return example if len(example) > 1 else example.repeat(2, *[1] * (example.dim() - 1))


def is_installed(package: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def check_installed(what: str, *packages: str) -> None:
    """Check that optional packages are there.

    Raises:
        ImportError: if one is missing.
    """
    if missing := [package for package in packages if not is_installed(package)]:
        raise ImportError(
            f"{what} needs {' and '.join(packages)}, got no {' and no '.join(missing)}. Install sparsekit-lab[export]"
        )
