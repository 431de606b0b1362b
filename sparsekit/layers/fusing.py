"""Batch norm and the ReLU behind it in one pass over memory, where narrow convolutional networks spend their time."""

from collections import Counter

import torch.fx
from torch import nn

from sparsekit.layers.companions import COMPANIONS, FusedReLU, _FeatureMajorNorm


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # What holds no pair is not looked into: its forward may do what cannot be traced.
        parts = [type(part) for part in m.modules() if part is not m]
        return nn.ReLU not in parts or super().is_leaf_module(m, module_qualified_name)


def fuse_relus(model: nn.Module) -> int:
    """Let each batch norm of a csr model do the work of the `nn.ReLU` that alone reads its output. In place.

    Results stay the same, but a forward hook on such a batch norm sees what comes after the ReLU. To find the pairs
    the model's `forward` is traced once, without numbers (`torch.fx`); one that cannot be traced is left as it is.

    Args:
        model: what `sparsify(..., storage="csr")` gave; `densify` undoes the fusion.

    Returns:
        The number of pairs fused.

    Example:
        >>> from sparsekit.layers import sparsify, shapes_of
        >>> from sparsekit.selection import random_topology
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> fuse_relus(sparsify(net, random_topology(shapes_of(net), 0.5), storage="csr"))
        1
    """
    try:
        graph = _Tracer().trace(model)
    except Exception:  # whatever a model of somebody else raises when it is given no numbers
        return 0
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    pairs = [(norm, relu) for norm, relu in _neighbours(model, graph) if calls[norm] == calls[relu] == 1]
    for norm, relu in pairs:
        model.get_submodule(norm).relu = True  # type: ignore[assignment]  # not a submodule but a setting
        object.__setattr__(model.get_submodule(relu), "__class__", FusedReLU)
    return len(pairs)


def unfuse_relus(model: nn.Module) -> int:
    """Undo `fuse_relus`, in place: each ReLU does its own work again. Return the number of pairs."""
    pairs = 0
    for module in model.modules():
        if isinstance(module, _FeatureMajorNorm):
            pairs += bool(module.__dict__.pop("relu", False))
        elif type(module) is FusedReLU:
            object.__setattr__(module, "__class__", nn.ReLU)
    return pairs


def _neighbours(model: nn.Module, graph: torch.fx.Graph):
    """Yield the names of each batch norm and the ReLU that is its only reader."""
    for node in graph.nodes:
        readers = list(node.users)
        if node.op != "call_module" or len(readers) != 1 or readers[0].op != "call_module":
            continue
        norm, relu = (model.get_submodule(str(one.target)) for one in (node, readers[0]))
        if isinstance(norm, _FeatureMajorNorm) and type(norm) in COMPANIONS.values() and type(relu) is nn.ReLU:
            yield str(node.target), str(readers[0].target)
