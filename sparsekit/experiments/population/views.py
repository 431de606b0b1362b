"""What the rules of a population's members see: each its own block of what the wide network saw."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from sparsekit.experiments.population.blocks import part_of_features
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.rewiring.flow import Sums, WholeModel, all_ones_flow, ones_for
from sparsekit.rewiring.layer_io import LayerIO

SMALL = 2**20  # weights, whose gradient takes 4 MiB

Pairs = dict[str, tuple[Tensor, Tensor]]  # input and output gradient of each layer, by name


@contextmanager
def recording(model: nn.Module, *, enabled: bool) -> Iterator[Pairs]:
    """Record what every layer of the wide network sees in the backward pass that is run inside it."""
    pairs: Pairs = {}
    layers = sparse_layers(model) if enabled else {}
    hooks = [layer.register_forward_hook(partial(_record, pairs, name)) for name, layer in layers.items()]
    try:
        yield pairs
    finally:
        for hook in hooks:
            hook.remove()


def member_io(
    pairs: Pairs, layers: Mapping[str, SparseLayer], whole: WholeModel, member: int, size: int
) -> dict[str, LayerIO]:
    """Return what a member's layers saw, as `capture_io` would have recorded it of the member alone."""
    return {name: _io_of(pairs[name], layer, name, whole, member, size) for name, layer in layers.items()}


class MemberModel(WholeModel):
    """A member's model, which gets its present numbers only if a rule asks for a pass through all of it."""

    def __init__(self, model: nn.Module, inputs: Tensor, refresh: Callable[[], Any]):
        super().__init__(model)
        self.arguments, self.refresh = ones_for((inputs,)), refresh

    @cached_property
    def flow(self) -> Sums:
        """What `all_ones_flow` gives for the model as it is when this is first asked for."""
        self.refresh()
        return all_ones_flow(self.model, self.arguments)


@dataclass(eq=False)
class MemberIO(LayerIO):
    """What a member's layer saw. Its gradients come from one product of matrices, since members are small."""

    @cached_property
    def _gradient(self) -> Tensor:
        kind = self.layer.kind
        ((x, g),) = self.pairs
        return (kind.output_matrix(g) @ kind.input_matrix(x).T).flatten()

    def grad_at(self, indices: Tensor) -> Tensor:
        """Return the loss gradient at sorted weight positions, existing or missing."""
        is_small = self.layer.topology.size <= SMALL and self.layer.kind.num_groups == 1
        return self._gradient.index_select(0, indices) if is_small and self.pairs else super().grad_at(indices)


def _io_of(
    pair: tuple[Tensor, Tensor], layer: SparseLayer, name: str, whole: WholeModel, member: int, size: int
) -> LayerIO:
    # Copies begin at an address as any other tensor, and so products of matrices give the same bits for any member.
    x, g = (part_of_features(side, member, size).clone() for side in pair)
    is_finite = bool(g.isfinite().all())
    return MemberIO(layer, name, whole, pairs=[(x, g)] if is_finite else [], saw_infinite=not is_finite)


def _record(pairs: Pairs, name: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
    x = args[0].detach()
    output.register_hook(lambda g: pairs.__setitem__(name, (x, g.detach())))
