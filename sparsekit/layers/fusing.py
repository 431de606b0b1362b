"""This module fuses batch norms and ReLUs into one pass over memory, where narrow conv networks spend their time."""

import operator
from collections import Counter
from collections.abc import Iterator

import torch.fx
from torch import nn

from sparsekit.layers.companions import ADDS_IN_NORM, COMPANIONS, FusedReLU, _FeatureMajorNorm
from sparsekit.layers.tracing import traced


def fuse_relus(model: nn.Module) -> int:
    """Let each batch norm of a csr model do the work of the `nn.ReLU` that alone reads its output, in place.

    In the residual blocks of `sparsekit.models` the last batch norm adds the shortcut as well. Results stay the same,
    but a forward hook on such a batch norm sees what comes after the ReLU. To find the pairs the model's `forward` is
    read once, without numbers. A model that cannot be read is left as it is.

    Args:
        model: the result of `sparsify(..., storage="csr")`. `densify` undoes the fusion.

    Returns:
        The number of pairs fused.

    Example:
        >>> from sparsekit.layers import sparsify, shapes_of
        >>> from sparsekit.topology.selection import random_topology
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> fuse_relus(sparsify(net, random_topology(shapes_of(net), 0.5), storage="csr"))
        1
    """
    if not any(isinstance(module, _FeatureMajorNorm) for module in model.modules()):
        return 0  # without reading anything
    try:
        graph = traced(model, _is_leaf)
    except Exception:  # whatever other people's models raise when they get no numbers
        return 0
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    pairs = [pair for pair in _neighbours(model, graph) if calls[pair[0]] == calls[pair[1]] == 1]
    for norm, relu, block in pairs:
        model.get_submodule(norm).relu = True  # type: ignore[assignment]  # not a submodule but a setting
        object.__setattr__(model.get_submodule(relu), "__class__", FusedReLU)
        if block is not None:
            vars(block)[ADDS_IN_NORM] = True
    return len(pairs)


def _is_leaf(module: nn.Module) -> bool:
    """Return whether a module holds no pair, so its forward need not be traceable, or is one of torch's own."""
    is_torchs = type(module).__module__.startswith(("torch.nn", "torch.ao.nn")) and not isinstance(
        module, nn.Sequential
    )
    return is_torchs or nn.ReLU not in [type(part) for part in module.modules() if part is not module]


def _neighbours(model: nn.Module, graph: torch.fx.Graph) -> Iterator[tuple[str, str, nn.Module | None]]:
    """Yield the names of each batch norm and its only reader, a ReLU, and the block if it adds in between."""
    for node in graph.nodes:
        reader, block = _only_reader(node), None
        if node.op == "call_module" and reader is not None and reader.target in (operator.add, operator.iadd):
            block = model.get_submodule(str(node.target).rpartition(".")[0])
            # A subclass that inherits the setting may have a forward of its own, which ignores it.
            reader = _only_reader(reader) if ADDS_IN_NORM in vars(type(block)) else None
        if node.op != "call_module" or reader is None or reader.op != "call_module":
            continue
        norm, relu = (model.get_submodule(str(one.target)) for one in (node, reader))
        if isinstance(norm, _FeatureMajorNorm) and type(norm) in COMPANIONS.values() and type(relu) is nn.ReLU:
            yield str(node.target), str(reader.target), block


def _only_reader(node: torch.fx.Node) -> torch.fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
