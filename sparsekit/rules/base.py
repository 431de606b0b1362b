"""Rules: when and how a topology changes. A rule is a frozen value; what it remembers is in its arguments."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.capture import LayerView
from sparsekit.topology import LayerTopology, Topology


class Rule(ABC):
    """When a topology changes, and into what.

    A rule says whether it needs the gradients of missing connections, of how many batches (1: that of the step), and
    whether a rewiring takes the place of the weight update.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"rule"`, with `Source:` in their
    docstring.
    """

    needs_gradients: bool = False
    replaces_step: bool = False
    probe_batches: int = 1

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step (0 is the first batch)."""

    @abstractmethod
    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return the topology after this rewiring. Pure: nothing is changed, the same input gives the same answer."""


def check_rule(rule: object) -> None:
    """Raise TypeError unless this is a rule."""
    if not isinstance(rule, Rule):
        is_name = isinstance(rule, str)
        hint = f"make_rule({rule!r}, total_steps=...) makes one" if is_name else "call it, as in RigL(stop=750)"
        raise TypeError(f"rule must be a Rule, got {rule if not is_name else repr(rule)}; {hint}")


class DropScore(ABC):
    """A number per existing connection; those with the lowest are dropped."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, view: LayerView, generator: torch.Generator) -> Float[Tensor, " e"]:
        """Return a score for each connection, in the order of `view.topology.indices`; higher means keep."""


class GrowScore(ABC):
    """A number per candidate; those with the highest are grown."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, view: LayerView, candidates: Int64[Tensor, " c"], generator: torch.Generator
    ) -> Float[Tensor, " c"]:
        """Return a score for each candidate position; higher means grow."""


class Candidates(ABC):
    """Which missing connections are considered for growth."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Int64[Tensor, " c"]]:
        """Yield sorted positions outside `taken`, no position twice, in parts much smaller than the layer.

        Args:
            view: the layer.
            taken: places that cannot be grown.
            count: how many are to be grown here; where several layers compete for growth, a share of it in
                proportion to the missing places. Fewer candidates mean that fewer are exchanged.
        """
