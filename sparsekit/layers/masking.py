"""How matrices inside other modules are masked, and which values connections begin with."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsekit.layers.initial import fan_in_factors, initial_values
from sparsekit.layers.matrices import Matrix
from sparsekit.layers.matrix_layer import MaskedMatrix
from sparsekit.layers.owners import open_owner
from sparsekit.topology import LayerTopology


def values_to_begin_with(weight: Tensor, matrix: Tensor, topology: LayerTopology, init: str) -> Tensor:
    """Return the values that connections begin with, which a weight on the meta device does not have.

    Args:
        weight: the parameter.
        matrix: the matrix in it, `(outputs, inputs, *kernel)`.
        topology: which connections exist.
        init: see `sparsify`.

    Raises:
        ValueError: if values are to be kept that are not there.
    """
    if weight.is_meta:
        if init != "fan-in":
            raise ValueError(f"a model must have values for init={init!r}, got one on the meta device. Leave init out")
        return initial_values(topology, weight.dtype)
    topology = topology.to(weight.device)
    values = matrix.detach().flatten()[topology.indices]
    return values * fan_in_factors(topology)[topology.rows].to(values) if init == "fan-in" else values


def mask_matrices(model: nn.Module, chosen: Mapping[str, tuple[Matrix, LayerTopology]], init: str) -> None:
    """Mask matrices in place, where they lie. Modules that share a parameter share its matrices.

    Args:
        model: a plain model.
        chosen: the matrix and the connections of each layer, by the layer's name.
        init: see `sparsify`.

    Raises:
        ValueError: if a kind gives an entry of a parameter twice.
    """
    values = {name: values_to_begin_with(m.param, m.value, topology, init) for name, (m, topology) in chosen.items()}
    paths = {id(module): path for path, module in model.named_modules()}
    layers: dict[int, list[MaskedMatrix]] = {}
    for name, (matrix, topology) in chosen.items():
        matrix.check()
        if matrix.param.is_meta:
            _give_memory(model, matrix.param)
        suffix = name.removeprefix(paths[id(matrix.owner)]).strip(".")
        layer = MaskedMatrix(matrix, suffix, topology.to(matrix.param.device))
        layer.write(values[name])
        layers.setdefault(id(matrix.param), []).append(layer.train(matrix.owner.training))
    for module in [*model.modules()]:
        layers_here = {name: layers[id(x)] for name, x in module._parameters.items() if id(x) in layers}
        if layers_here and not isinstance(module, MaskedMatrix):
            open_owner(module, layers_here)


def _give_memory(model: nn.Module, param: nn.Parameter) -> None:
    memory = nn.Parameter(torch.zeros(param.shape, dtype=param.dtype), requires_grad=param.requires_grad)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is param:
                module._parameters[name] = memory
