"""Which layers of a model are sparse, which could be, and which connections they have."""

from collections.abc import Iterable, Iterator, Mapping

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from sparsekit.layers.base import SparseLayer
from sparsekit.layers.kinds import Conv2dKind, LinearKind
from sparsekit.layers.masked import MaskedLayer
from sparsekit.layers.matrices import Matrix, kind_of, matrices_of, split
from sparsekit.layers.matrix_layer import CONTAINER, MaskedMatrix
from sparsekit.topology import LayerTopology, Topology, check_topology
from sparsekit.utils.checks import must_be, shown

KINDS = {nn.Linear: LinearKind, nn.Conv2d: Conv2dKind}
MODEL = "Give a torch.nn.Module, for example models.build('mlp', ...)"


def sparse_layers(model: nn.Module) -> dict[str, SparseLayer]:
    """Return the sparse layers of a model by name. Anything but a model is a TypeError."""
    must_be("model", model, nn.Module, MODEL)
    return {_name_of(path, x): x for path, x in model.named_modules() if isinstance(x, SparseLayer)}


def _name_of(path: str, layer: SparseLayer) -> str:
    if not isinstance(layer, MaskedMatrix):
        return path
    return f"{path[: path.rindex(CONTAINER)]}{layer.name_in_owner}".strip(".")


def shapes_of(
    model: nn.Module, *, exclude: tuple[str, ...] = (), include: tuple[str, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """Return the weight shape of every layer that is, or can be made, sparse, in the model's own order.

    Args:
        model: plain or sparse.
        exclude: layer names to leave out, where `"first"` and `"last"` mean the first and the last layer.
        include: what is left out unless it is asked for, which is `"embeddings"`, weights that are `"tied"` (an
            embedding and a head, for example, which need both), groups of kinds of your own, and names of such layers.

    Raises:
        TypeError: if the model, or what is excluded or included, is something else.
        ValueError: if an excluded or included name is not such a layer.
    """
    must_be("model", model, nn.Module, MODEL)
    exclude, include = _names("exclude", exclude), _names("include", include)
    layers = dict(_possible(model))
    _check_included(include, layers)
    shapes = {name: shape for name, (shape, groups) in layers.items() if groups <= set(include) or name in include}
    ends = {"first": next(iter(shapes), ""), "last": next(reversed(shapes), "")}
    left_out = {ends.get(name, name) if name not in shapes else name for name in exclude}
    if unknown := left_out - set(shapes):
        raise ValueError(
            f"exclude must name layers among {', '.join(shapes)}, first and last, got "
            f"{', '.join(sorted(map(str, unknown)))}. See left_dense(model)"
        )
    return {name: shape for name, shape in shapes.items() if name not in left_out}


def _names(argument: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{argument} must be a tuple of layer names, got {shown(names)}. Write ('first',) for one")
    return tuple(names)


def _check_included(include: tuple[str, ...], layers: Mapping[str, tuple]) -> None:
    groups = {group for _, groups in layers.values() for group in groups} | {"embeddings", "tied"}
    if unknown := set(include) - groups - set(layers):
        raise ValueError(
            f"include must name layers, or {', '.join(sorted(groups))}, got {', '.join(sorted(map(str, unknown)))}. "
            "See left_dense(model)"
        )


def _possible(model: nn.Module) -> Iterator[tuple[str, tuple[tuple[int, ...], frozenset[str]]]]:
    """Yield the name of each layer that is or can be sparse, its shape, and what must be included for it."""
    of_owner: dict[int, list[tuple[str, Matrix]]] = {}
    for name, matrix in matrices_of(model).items():
        of_owner.setdefault(id(matrix.owner), []).append((name, matrix))
    sparse = set(sparse_layers(model))
    for path, module in model.named_modules():
        if isinstance(module, SparseLayer) and not isinstance(module, MaskedMatrix):
            yield path, (module.shape, frozenset())
        for name, matrix in of_owner.get(id(module), ()):
            yield name, (matrix.shape, frozenset() if name in sparse else matrix.groups)


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
    packed = {id(layer.param): layer for layer in layers}
    others = sum(numel_of(parameter) for parameter in model.parameters() if id(parameter) not in packed)
    # A parameter may hold more than the matrices that are sparse.
    held = sum(layer.param.numel() for layer in packed.values() if isinstance(layer, MaskedLayer))
    others += held - sum(layer.topology.size for layer in layers if isinstance(layer, MaskedLayer))
    size = others + sum(layer.topology.size for layer in layers)
    return (others + sum(layer.topology.count for layer in layers)) / size if size else 1.0


def numel_of(parameter: nn.Parameter) -> int:
    """Return how many numbers a parameter has, 0 while a lazy module has not given it a shape."""
    return 0 if isinstance(parameter, nn.UninitializedParameter) else parameter.numel()


def left_dense(model: nn.Module) -> dict[str, str]:
    """Return the weight matrices of a model that are left dense unless you ask for them, each with the reason.

    Example:
        >>> left_dense(nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 2)))
        {'0.weight': "sparse on request, by shapes_of(model, include=('embeddings',))"}
    """
    matrices = {}
    for matrix in matrices_of(model).values():
        matrices.setdefault(id(matrix.param), matrix)
    reasons, sparse = {}, {id(layer.param) for layer in sparse_layers(model).values()}
    for module_name, module in model.named_modules():
        for name, parameter in () if isinstance(module, SparseLayer) else module._parameters.items():
            if parameter is None or id(parameter) in sparse or _is_vector(name, parameter):
                continue
            matrix = matrices.get(id(parameter))
            if matrix is None or matrix.groups:
                reasons[f"{module_name}.{name}".lstrip(".")] = _why_dense(module, name, parameter, matrix)
    return reasons


def _is_vector(name: str, parameter: nn.Parameter) -> bool:
    return name == "bias" if isinstance(parameter, nn.UninitializedParameter) else parameter.dim() < 2


def _why_dense(module: nn.Module, name: str, parameter: nn.Parameter, matrix: Matrix | None) -> str:
    if matrix is not None:
        tied = "tied, because other modules use the same weight, " if "tied" in matrix.groups else ""
        return f"{tied}sparse on request, by shapes_of(model, include={tuple(sorted(matrix.groups))})"
    if isinstance(module, LazyModuleMixin):
        return "not initialised yet, run one batch first"
    if kind_of(module) is None:
        return f"{type(module).__name__} is of no known kind, see register_kind"
    if split(module, name, parameter):
        return "tied, because other code holds the same weight in a list or dictionary"
    return f"no matrix of {type(module).__name__}, or one whose weight is computed from others"


def check_names_and_shapes(model: nn.Module, topology: Mapping[str, LayerTopology]) -> None:
    """Check that a topology belongs to a model.

    Raises:
        TypeError: if the topology, or what it holds for a layer, is something else.
        ValueError: if a name is not a layer that can be sparse, or a shape differs.
    """
    check_topology(Topology(topology) if isinstance(topology, Mapping) else topology)
    shapes = {name: shape for name, (shape, _) in _possible(model)}
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
    return left_dense(model).get(f"{name}.weight", "no layer with a weight matrix")
