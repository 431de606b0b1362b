"""Which numbers of a network belong to one hidden unit, read from its forward.

Exchange two hidden units, with everything that belongs to them, and the network computes the same. A unit's numbers lie
along dimensions of several tensors: its row of one weight, its bias, its column of the next weight. Where a network
adds or pads, units of several layers are one. We follow the channels of the input through the forward and give each a
number. Channels that are added get the same one.
"""

import operator
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.layers import SparseLayer
from sparsekit.models.resnet import PadShortcut
from sparsekit.tricks.fx_reader import forward_graph

Channels = list[int]  # the number of the unit in each channel
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
UNITWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
PASSING = (*UNITWISE, *POOLS, *DROPOUTS, nn.Flatten)
PASSING_CALLS = {torch.relu, functional.relu, torch.tanh, torch.sigmoid, torch.flatten, "relu", "tanh", "flatten"}
ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}


@dataclass(frozen=True)
class Side:
    """One dimension of a tensor, with the number of the unit that each of its positions belongs to."""

    name: str
    dim: int
    units: Sequence[int]


@dataclass(frozen=True)
class Units:
    """The hidden units of a network.

    Args:
        sides: every dimension that lies along units.
        groups: units that may be exchanged with each other, because they have positions in the same dimensions.
    """

    sides: Sequence[Side]
    groups: Sequence[Sequence[int]]


def units_of(model: nn.Module) -> Units:
    """Read which numbers of a model belong to the same hidden unit.

    Raises:
        ValueError: if the forward cannot be read, or has a part through which we cannot follow units.

    Example:
        >>> units_of(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))).groups
        [[3, 4]]
    """
    reader = _Reader()
    outputs = reader.through(model, "", [])
    fixed = {reader.root(unit) for unit in [*reader.inputs, *outputs]}
    sides = [Side(name, dim, [reader.root(unit) for unit in units]) for name, dim, units in reader.sides]
    dimensions: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for side in sides:
        for unit in side.units:
            dimensions[unit].append((side.name, side.dim))
    groups: dict[tuple, list[int]] = defaultdict(list)
    for unit, where in dimensions.items():
        groups[tuple(where)].append(unit)
    return Units(sides, [group for group in groups.values() if len(group) > 1 and not fixed & {*group}])


class _Reader:
    """Follows channels through a forward. Units that turn out to be one are joined (union-find)."""

    def __init__(self):
        self.parents: list[int] = []
        self.sides: list[tuple[str, int, Channels]] = []
        self.inputs: Channels = []

    def new(self, count: int) -> Channels:
        """Return channels of units that nobody has seen before."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return list(range(first, first + count))

    def root(self, unit: int) -> int:
        """Return the number of the unit that this one was joined with."""
        while self.parents[unit] != unit:
            unit = self.parents[unit]
        return unit

    def join(self, first: Channels, second: Channels, where: str) -> Channels:
        """Make the units of two signals one, because they are added."""
        if len(first) != len(second):
            raise ValueError(f"{where}: signals that are added must have as many channels, got {len(first)} and others")
        for one, other in zip(first, second, strict=True):
            self.parents[self.root(other)] = self.root(one)
        return first

    def through(self, module: nn.Module, name: str, channels: Channels) -> Channels:
        """Return the channels behind a module. The network's input has none until a layer with weights counts them."""
        if isinstance(module, PadShortcut):
            before, after = self.new(module.before), self.new(module.after)
            return [*before, *_known(channels, name), *after]
        if isinstance(module, (*CONVS, nn.Linear)) or (isinstance(module, SparseLayer) and len(module.shape) > 1):
            return self._weighted(module, name, channels)
        if isinstance(module, NORMS):
            return self._norm(module, name, _known(channels, name))
        if isinstance(module, PASSING):
            return channels
        if type(module).__module__.startswith("torch.nn.") and not isinstance(module, nn.Sequential):
            raise ValueError(f"{name}: units cannot be followed through {type(module).__name__}. Use networks without")
        return self._graph(module, name, channels)

    def _weighted(self, module: nn.Module, name: str, channels: Channels) -> Channels:
        shape, groups = tuple(_shape_of(module)), getattr(module, "groups", 1)
        if groups != 1:
            return self._depthwise(name, _known(channels, name), shape, groups, module)
        inputs = self._counted(channels, shape[1], name)
        outputs = self.new(shape[0])
        self.sides += [(f"{name}.weight", 1, inputs), (f"{name}.weight", 0, outputs)]
        return self._biased(module, name, outputs)

    def _depthwise(self, name: str, channels: Channels, shape: tuple[int, ...], groups: int, module) -> Channels:
        if not groups == shape[0] == len(channels):
            raise ValueError(f"{name}: groups must be 1 or as many as channels, got {groups} of {len(channels)}")
        self.sides.append((f"{name}.weight", 0, channels))
        return self._biased(module, name, channels)

    def _biased(self, module: nn.Module, name: str, channels: Channels) -> Channels:
        if getattr(module, "bias", None) is not None:
            self.sides.append((f"{name}.bias", 0, channels))
        return channels

    def _norm(self, module: nn.Module, name: str, channels: Channels) -> Channels:
        entries = [key for key, value in module.state_dict().items() if isinstance(value, Tensor) and value.dim() == 1]
        self.sides += [(f"{name}.{key}", 0, channels) for key in entries]
        return channels

    def _counted(self, channels: Channels, count: int, name: str) -> Channels:
        """Return the channels that a weight reads: several positions of each where an image was flattened."""
        if not channels:
            self.inputs = self.inputs if len(self.inputs) == count else self.new(count)
            return self.inputs
        if count % len(channels):
            raise ValueError(f"{name}: {count} inputs must be a multiple of the {len(channels)} channels before it")
        return [unit for unit in channels for _ in range(count // len(channels))]

    def _graph(self, module: nn.Module, name: str, channels: Channels) -> Channels:
        """Follow the calls of a module's own forward."""
        signals: dict[torch.fx.Node, Channels] = {}
        for node in forward_graph(module).nodes:
            arguments = [signals[other] for other in node.all_input_nodes if other in signals]
            if node.op == "placeholder":
                signals[node] = channels
            elif node.op == "output":
                return arguments[0]
            elif node.op == "call_module":
                path = f"{name}.{node.target}" if name else str(node.target)
                signals[node] = self.through(module.get_submodule(str(node.target)), path, arguments[0])
            elif node.target in ADDITIONS and len(arguments) == 2:
                signals[node] = self.join(arguments[0], arguments[1], name)
            elif node.target in PASSING_CALLS:
                signals[node] = arguments[0]
            else:
                raise ValueError(f"{name or 'the model'}: units cannot be followed through {node.target}. Use a module")
        raise ValueError(f"{name or 'the model'}: the forward must return something, got nothing. Add a return")


def _shape_of(module: nn.Module) -> Sequence[int]:
    return module.shape if isinstance(module, SparseLayer) else module.get_parameter("weight").shape


def _known(channels: Channels, name: str) -> Channels:
    if not channels:
        raise ValueError(
            f"{name}: a layer with weights must come before it, got the network's input. Use another network"
        )
    return channels
