"""Numbers go from the members' models and optimizers into those of the wide network, and back.

What an optimizer trains is flattened on the way. Of a sparse layer these are the values of its connections, whatever
the storage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsekit.experiments.population.blocks import Members, split
from sparsekit.layers import SparseLayer
from sparsekit.layers.convert import KINDS
from sparsekit.layers.transition import Transition
from sparsekit.topology import LayerTopology
from sparsekit.train.loop import set_learning_rate

MOMENTUM = "momentum_buffer"


def topologies_of(model: nn.Module) -> dict[str, LayerTopology]:
    """Return the topology of every linear layer and convolution, which is full where it is dense."""
    modules = {name: module for name, module in model.named_modules() if type(module) in KINDS or _is_sparse(module)}
    return {
        name: module.topology
        if isinstance(module, SparseLayer)
        else LayerTopology.full(tuple(module.get_parameter("weight").shape))
        for name, module in modules.items()
    }


@dataclass(frozen=True)
class Slot:
    """A parameter of the wide network, and those of the members that it consists of.

    Args:
        wide: the parameter.
        own: each member's.
        layers: the sparse layers whose connections they are, or None each.
        name: of the layer whose weight this is, or None for a bias and the like.
    """

    wide: Tensor
    own: tuple[Tensor, ...]
    layers: tuple[SparseLayer | None, ...]
    name: str | None

    def counts(self, topologies: Mapping[str, Members]) -> list[int]:
        """Return how many numbers each member has."""
        if self.name is None:
            return [own.numel() for own in self.own]
        return [layer.count for layer in topologies[self.name]]

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return tensors shaped like the members' parameters as one shaped like the wide one."""
        parts = [
            x.flatten() if layer is None else layer.unpack(x) for x, layer in zip(tensors, self.layers, strict=True)
        ]
        return torch.cat(parts).view(self.wide.shape)

    def parts(self, numbers: Tensor, topologies: Mapping[str, Members]) -> tuple[Tensor, ...]:
        """Return each member's part of a tensor shaped like the wide parameter, flat. It shares its memory."""
        return split(numbers.detach(), self.counts(topologies))

    def packed(self, numbers: Tensor, topologies: Mapping[str, Members]) -> list[Tensor]:
        """Return a tensor shaped like the wide parameter as new ones, shaped like the members'."""
        parts = self.parts(numbers, topologies)
        return [
            part.clone().view(own.shape) if layer is None else layer.pack(layer.topology, part)
            for part, own, layer in zip(parts, self.own, self.layers, strict=True)
        ]


@dataclass(frozen=True)
class Exchange:
    """All numbers that the wide network and its members have in common."""

    wide: nn.Module
    wide_optimizer: Optimizer
    models: Sequence[nn.Module]
    optimizers: Sequence[Optimizer]
    slots: Sequence[Slot]

    @classmethod
    def between(
        cls, wide: nn.Module, wide_optimizer: Optimizer, models: Sequence[nn.Module], optimizers: Sequence[Optimizer]
    ) -> Self:
        """Find out which numbers belong together, which come in the same order in all networks."""
        names = {id(module.param): name for name, module in wide.named_modules() if isinstance(module, SparseLayer)}
        layer_of = {id(x.param): x for model in models for x in model.modules() if isinstance(x, SparseLayer)}
        columns = zip(wide.parameters(), *(model.parameters() for model in models), strict=True)
        slots = [
            Slot(parameter, tuple(own), tuple(layer_of.get(id(x)) for x in own), names.get(id(parameter)))
            for parameter, *own in columns
        ]
        return cls(wide, wide_optimizer, models, optimizers, slots)

    @torch.no_grad()
    def gather(self) -> None:
        """Fill the wide network and its optimizer with the members' numbers."""
        for slot in self.slots:
            slot.wide.copy_(slot.flat([own.detach() for own in slot.own]))
            if self.wide_optimizer.defaults["momentum"]:
                moments = map(_momentum, self.optimizers, slot.own)
                self.wide_optimizer.state[slot.wide][MOMENTUM] = slot.flat(list(moments)).clone()
        for wide, *own in self._buffers():
            wide.copy_(torch.cat(own) if own[0].dim() else torch.zeros_like(wide))

    @torch.no_grad()
    def scatter(self, topologies: Mapping[str, Members]) -> None:
        """Hand topologies, values, momentum and the learning rate back to the members."""
        self.scatter_topologies(topologies)
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, self.wide_optimizer.param_groups[0]["lr"])
        for slot in self.slots:
            for own, values in zip(slot.own, slot.packed(slot.wide, topologies), strict=True):
                own.data.copy_(values)
            if (momentum := self.wide_optimizer.state[slot.wide].get(MOMENTUM)) is not None:
                moments = slot.packed(momentum, topologies)
                for optimizer, own, moment in zip(self.optimizers, slot.own, moments, strict=True):
                    optimizer.state[own][MOMENTUM] = moment
        for wide, *own in self._buffers():
            for part, member in zip(_parts(wide, len(own)), own, strict=True):
                member.copy_(part if wide.dim() else member + wide)
            if not wide.dim():
                wide.zero_()  # a counter: what was counted here has been added to the members' own

    def scatter_topologies(self, topologies: Mapping[str, Members], *, of_other_size: bool = False) -> None:
        """Hand topologies back to the members, or those only that have another number of connections now."""
        for slot in self.slots:
            for layer, new in zip(slot.layers, topologies.get(slot.name or "", ()), strict=False):
                if layer is None:
                    continue
                is_old = layer.topology.count == new.count if of_other_size else layer.topology is new
                if not is_old:
                    layer.set_topology(Transition(layer.topology, new))

    def _buffers(self) -> list[tuple[Tensor, ...]]:
        """Return the wide network's buffers that are no topology, each with those of the members."""
        columns = [_statistics_of(model) for model in (self.wide, *self.models)]
        return list(zip(*columns, strict=True))


def _statistics_of(model: nn.Module) -> list[Tensor]:
    owners = [module for module in model.modules() if not isinstance(module, SparseLayer)]
    return [buffer for module in owners for buffer in module.buffers(recurse=False)]


def _parts(wide: Tensor, size: int) -> Sequence[Tensor]:
    return wide.chunk(size) if wide.dim() else [wide] * size


def _momentum(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    """Return the momentum of a parameter. Before its first update it has none, which is the same as zeros."""
    momentum = optimizer.state[parameter].get(MOMENTUM)
    return torch.zeros_like(parameter) if momentum is None else momentum


def _is_sparse(module: nn.Module) -> bool:
    return isinstance(module, SparseLayer)
