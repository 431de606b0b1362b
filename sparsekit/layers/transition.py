"""A transition says which connections of a layer stay, go and come, computed once for all tensors that move along."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Int64
from torch import Tensor

from sparsekit.topology import LayerTopology
from sparsekit.topology.sorted_sets import match, true_positions


@dataclass(frozen=True, eq=False)
class Transition:
    """A transition leads from an old topology of a layer to a new one.

    Example:
        >>> from torch import tensor
        >>> transition = Transition(LayerTopology((2, 2), tensor([0, 3])), LayerTopology((2, 2), tensor([1, 3])))
        >>> transition.dropped.tolist(), transition.grown.tolist(), transition.sources.tolist()
        ([0], [1], [0, 1])
    """

    old: LayerTopology
    new: LayerTopology

    @property
    def changes_nothing(self) -> bool:
        """Whether both topologies are the same."""
        _, dropped_at, grown_at = self._compared
        return dropped_at.numel() == grown_at.numel() == 0

    @cached_property
    def dropped(self) -> Int64[Tensor, " d"]:
        """Positions in the old topology only."""
        return self.old.indices.index_select(0, self._compared[1])

    @cached_property
    def grown(self) -> Int64[Tensor, " g"]:
        """Positions in the new topology only."""
        return self.new.indices.index_select(0, self.grown_at)

    @property
    def grown_at(self) -> Int64[Tensor, " g"]:
        """Which of the new connections are grown, as indices into `new.indices`."""
        return self._compared[2]

    @cached_property
    def sources(self) -> Int64[Tensor, " e"]:
        """The index of each new connection in `old.indices`, 0 for a grown one."""
        return self._compared[0].clamp(min=0)

    @cached_property
    def kept(self) -> Int64[Tensor, " k"]:
        """Positions in both topologies."""
        return self.new.indices.index_select(0, true_positions(self._compared[0] >= 0))

    @cached_property
    def _compared(self) -> tuple[Tensor, Tensor, Tensor]:
        return match(self.old.indices, self.new.indices)
