"""Which layers of a model are sparse, which could be, and which connections they have."""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.utils._pytree import tree_leaves

from sparsekit.layers.base import SparseLayer
from sparsekit.layers.kinds import Conv2dKind, LinearKind
from sparsekit.layers.masked import MaskedLayer
from sparsekit.topology import LayerTopology, Topology, check_topology
from sparsekit.utils.checks import must_be, shown

KINDS = {nn.Linear: LinearKind, nn.Conv2d: Conv2dKind}
MODEL = "Give a torch.nn.Module, for example models.build('mlp', ...)"


def sparse_layers(model: nn.Module) -> dict[str, SparseLayer]:
    """Return the sparse layers of a model by name. Anything but a model is a TypeError."""
    must_be("model", model, nn.Module, MODEL)
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLayer)}


def shapes_of(model: nn.Module, *, exclude: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
    """Return the weight shape of every layer that is, or can be made, sparse, in the model's own order.

    Args:
        model: plain or sparse.
        exclude: layer names to leave out, where `"first"` and `"last"` mean the first and the last layer.

    Raises:
        TypeError: if the model, or what is excluded, is something else.
        ValueError: if an excluded name is not such a layer.
    """
    must_be("model", model, nn.Module, MODEL)
    if isinstance(exclude, str) or not isinstance(exclude, Iterable):
        raise TypeError(f"exclude must be a tuple of layer names, got {shown(exclude)}. Write ('first',) for one")
    shapes = {name: _shape_of(module) for name, module in model.named_modules() if _can_be_sparse(model, module)}
    ends = {"first": next(iter(shapes), ""), "last": next(reversed(shapes), "")}
    left_out = {ends.get(name, name) if name not in shapes else name for name in exclude}
    if unknown := left_out - set(shapes):
        raise ValueError(
            f"exclude must name layers among {', '.join(shapes)}, first and last, got "
            f"{', '.join(sorted(map(str, unknown)))}. See left_dense(model)"
        )
    return {name: shape for name, shape in shapes.items() if name not in left_out}


def topology_of(model: nn.Module) -> Topology:
    """Return the connections of every sparse layer, by layer name."""
    return Topology({name: layer.topology for name, layer in sparse_layers(model).items()})


def active_topology(model: nn.Module) -> Topology:
    """Return the connections that the forward pass uses, which are fewer than `topology_of` under a forward mask."""
    named = sparse_layers(model).items()
    return Topology({name: layer.active if isinstance(layer, MaskedLayer) else layer.topology for name, layer in named})


def density_of(model: nn.Module) -> float:
    """Return the share of all parameters that exist, 0 to 1, with biases, norms and dense layers in full.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology.selection import random_topology
        >>> density_of(sparsify(model, random_topology({"0": (4, 4)}, 0.5)))
        0.75
    """
    layers = sparse_layers(model).values()
    packed = {id(layer.param) for layer in layers}
    others = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in packed)
    size = others + sum(layer.topology.size for layer in layers)
    return (others + sum(layer.topology.count for layer in layers)) / size if size else 1.0


def left_dense(model: nn.Module) -> dict[str, str]:
    """Return the weight matrices of a model that cannot be sparse, each with the reason."""
    reasons = {}
    for module_name, module in model.named_modules():
        if isinstance(module, SparseLayer) or _can_be_sparse(model, module):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            has_shape = not isinstance(parameter, nn.UninitializedParameter)
            if parameter.dim() >= 2 if has_shape else name != "bias":
                reasons[f"{module_name}.{name}".lstrip(".")] = _why_dense(module)
    return reasons


def _why_dense(module: nn.Module) -> str:
    if isinstance(module, nn.MultiheadAttention | nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "attention reads this weight itself, past any layer"
    if isinstance(module, LazyModuleMixin):
        return "not initialised yet, run one batch first"
    if type(module) in KINDS:
        return "tied, because other modules use the same weight or it is computed from others"
    return f"{type(module).__name__} is neither a linear layer nor a 2-D convolution"


def _can_be_sparse(model: nn.Module, module: nn.Module) -> bool:
    if isinstance(module, SparseLayer):
        return True
    # Subclasses may do anything with their weight, so only the two exact types qualify.
    if type(module) not in KINDS or "weight" not in module._parameters:
        return False
    owners = [other for other in model.modules() if any(p is module.weight for p in other._parameters.values())]
    return len(owners) == 1 and not any(x is module.weight for other in model.modules() for x in _in_containers(other))


def _in_containers(module: nn.Module) -> list:
    """Return what a module holds in lists and dictionaries of its own, besides its parameters."""
    attributes = [vars(module)[name] for name in vars(module) if not name.startswith("_")]
    return [x for value in attributes if isinstance(value, list | tuple | dict) for x in tree_leaves(value)]


def _shape_of(module: nn.Module) -> tuple[int, ...]:
    return module.shape if isinstance(module, SparseLayer) else tuple(module.get_parameter("weight").shape)


def check_names_and_shapes(model: nn.Module, topology: Mapping[str, LayerTopology]) -> None:
    """Check that a topology belongs to a model.

    Raises:
        TypeError: if the topology, or what it holds for a layer, is something else.
        ValueError: if a name is not a layer that can be sparse, or a shape differs.
    """
    check_topology(Topology(topology) if isinstance(topology, Mapping) else topology)
    shapes = shapes_of(model)
    for name, layer in topology.items():
        if name not in shapes:
            reason = _why_unknown(model, name, shapes)
            raise ValueError(f"the topology must name layers among {', '.join(shapes)}, got {name!r}: {reason}")
        if layer.shape != shapes[name]:
            raise ValueError(f"{name}: the topology must have the weight's shape {shapes[name]}, got {layer.shape}")


def _why_unknown(model: nn.Module, name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    layer = name.removesuffix(".weight")
    if layer in shapes:
        return f"layers go by their own name, not their weight's. Use {layer!r}"
    return left_dense(model).get(f"{name}.weight", "no such linear or convolutional layer")
