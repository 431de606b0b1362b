"""A skip target is a layer that a skip may lead around, from its input to just before the ReLU that follows."""

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from sparsekit.layers import SparseLayer
from sparsekit.tricks.fx_reader import UnreadableError, abbreviate, forward_graph, is_ours_or_torchs, is_relu_call

LAYERS = (SparseLayer, nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
SUMS = {operator.add, operator.iadd, torch.add, Tensor.add, Tensor.add_, "add", "add_"}


@dataclass(frozen=True)
class SkipTarget:
    """A layer and the normalisation behind it, if there is one, up to the ReLU or the sum before it.

    Args:
        first: name of the layer.
        last: name of the normalisation, or of the layer itself.
    """

    first: str
    last: str


@dataclass(frozen=True, kw_only=True)
class SkipTargets:
    """The layers that a skip may lead around, and for every other layer the reason against it.

    Args:
        layers: in the model's order.
        others: the reasons, by layer.
        needed: what a target must be, in words.
    """

    layers: tuple[SkipTarget, ...]
    others: dict[str, str]
    needed: str

    def __str__(self) -> str:
        layers = abbreviate([target.first for target in self.layers])
        return f"around: {layers} | not around: {abbreviate([f'{name} ({why})' for name, why in self.others.items()])}"


@dataclass(frozen=True)
class LayerSettings:
    """The settings of a layer that its skip depends on."""

    inputs: int
    outputs: int
    stride: tuple[int, ...] = ()  # none for a linear layer
    keeps_size: bool = True


def find_skip_targets(model: nn.Module, *, blocks_only: bool = False) -> SkipTargets:
    """Return the layers that skips may lead around. `torch.fx` reads each module's own `forward`.

    Args:
        model: sparse or plain.
        blocks_only: only convolutions with normalisation in blocks that add something up. A convolution 1 x 1 of the
            same stride must give images of the same size.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> print(find_skip_targets(net))
        around: 0 | not around: 2 (leads to no ReLU)
    """
    targets, others, used = [], {}, Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for prefix, module in model.named_modules():
        if not isinstance(module, nn.Sequential) and is_ours_or_torchs(module):
            continue
        try:
            graph = forward_graph(module)
        except UnreadableError as error:
            others |= {_join(prefix, name): str(error) for name, child in module.named_children() if _is_layer(child)}
            continue
        reader = _ForwardReader(module, graph, used, blocks_only)
        for name, last, why in reader.layers():
            if why:
                others[_join(prefix, name)] = why
            else:
                targets.append(SkipTarget(_join(prefix, name), _join(prefix, last)))
    needed = "convolutions in residual blocks" if blocks_only else "layers that lead to a ReLU"
    return SkipTargets(layers=tuple(targets), others=others, needed=needed)


def settings_of(layer: Any) -> LayerSettings:
    """Return the settings of a linear layer or convolution, sparse or not, that its skip depends on."""
    shape = layer.shape if isinstance(layer, SparseLayer) else tuple(layer.weight.shape)
    if len(shape) == 2:
        return LayerSettings(shape[1], shape[0])
    conv: Any = layer.kind if isinstance(layer, SparseLayer) else layer
    sizes = zip(conv.kernel_size, _pair(conv.padding), conv.dilation, strict=True)
    keeps_size = conv.padding == "same" or all(2 * pad == gap * (side - 1) for side, pad, gap in sizes)
    return LayerSettings(shape[1] * conv.groups, shape[0], tuple(conv.stride), keeps_size)


class _ForwardReader:
    """A reader of one module's own forward."""

    def __init__(self, module: nn.Module, graph: torch.fx.Graph, used: Counter, blocks_only: bool):
        self.module, self.used, self.blocks_only = module, used, blocks_only
        self.nodes = [node for node in graph.nodes if node.op == "call_module"]
        self.calls = Counter(node.target for node in self.nodes)
        is_sum = any(_is_sum(node) for node in graph.nodes)
        self.is_block = is_sum and not isinstance(module, nn.Sequential)

    def layers(self) -> Iterator[tuple[str, str, str]]:
        """Yield the name of each layer, the module before the ReLU, and the reason against a skip, if there is one."""
        for node in self.nodes:
            if isinstance(layer := self._child(node), LAYERS):
                last = self._last(node)
                yield str(node.target), str(last.target), self._reason_against(node, last, layer)

    def _reason_against(self, node: torch.fx.Node, last: torch.fx.Node, layer: nn.Module) -> str:
        if any(self.calls[one.target] > 1 or self.used[id(self._child(one))] > 1 for one in (node, last)):
            return "used more than once"
        if not self._leads_to_relu(last):
            return "leads to no ReLU"
        return self._reason_against_branch(node, last, settings_of(layer)) if self.blocks_only else ""

    def _reason_against_branch(self, node: torch.fx.Node, last: torch.fx.Node, layer: LayerSettings) -> str:
        if not self.is_block:
            return "in no residual block"
        if last is node or not layer.stride:
            return "no convolution with normalisation"
        return "" if layer.keeps_size else "a convolution 1 x 1 would give another size"

    def _last(self, node: torch.fx.Node) -> torch.fx.Node:
        readers = list(node.users)
        return readers[0] if len(readers) == 1 and isinstance(self._child(readers[0]), NORMS) else node

    def _leads_to_relu(self, node: torch.fx.Node) -> bool:
        sums = [reader for reader in node.users if _is_sum(reader)]
        return any(self._is_relu(reader) for one in (node, *sums) for reader in one.users)

    def _is_relu(self, node: torch.fx.Node) -> bool:
        return is_relu_call(node) or isinstance(self._child(node), nn.ReLU)

    def _child(self, node: torch.fx.Node) -> nn.Module | None:
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_layer(module: nn.Module | None) -> bool:
    return isinstance(module, LAYERS)


def _is_sum(node: torch.fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and node.target in SUMS


def _pair(setting: Any) -> tuple[int, ...]:
    return setting if isinstance(setting, tuple) else (0, 0)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
