"""Rules: when a topology changes, and into what. A rule is a frozen value, and this is all that every rule has.

What only some rules have is optional. `parts.py` lists these parts, with one small protocol for each.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass
from sparsekit.rules.parts import check_names
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.settings import CheckedSettings


class Rule(CheckedSettings, ABC):
    """When a topology changes, and into what.

    A rule of your own says `is_due` and `propose`, and nothing else is needed. It is a value, so it does not
    change. Everything that it may use is in its arguments.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"rule"`, with `Source:` in their
    docstring.

    Attributes:
        needs_gradients: whether the rule looks at the gradients of missing connections.
    """

    needs_gradients: bool = False

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        check_names(cls)

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step (0 is the first batch)."""

    @abstractmethod
    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return the topology after this rewiring. Pure: nothing is changed, the same input gives the same answer."""

    def training_flops(self, cost: Pass) -> float:
        """Return the mean operations of one training step per sample, or NaN where the rule does not say."""
        return math.nan


def check_rule(rule: object) -> None:
    """Raise TypeError unless this is a rule."""
    if not isinstance(rule, Rule):
        is_name = isinstance(rule, str)
        hint = f"Call make_rule({rule!r}, total_steps=...)" if is_name else "Call it, as in RigL(stop=750)"
        raise TypeError(f"rule must be a Rule, got {rule if not is_name else repr(rule)}. {hint}")


class DropScore(ABC):
    """A number per existing connection. Those with the lowest are dropped."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, view: LayerView, step: int, generator: torch.Generator) -> Float[Tensor, " e"]:
        """Return a score for each connection, in the order of `view.topology.indices`. Higher means keep."""


class GrowScore(ABC):
    """A number per candidate. Those with the highest are grown."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, view: LayerView, candidates: Int64[Tensor, " c"], step: int, generator: torch.Generator
    ) -> Float[Tensor, " c"]:
        """Return a score for each candidate position. Higher means grow.

        `view.remaining` is the topology after dropping, where the rule drops before it grows.
        """


class Candidates(ABC):
    """Which missing connections are considered for growth.

    Candidates that use what happened before have a state, as rules may. They define `init_state(view)` and
    `update_state(view)`, see `parts.HasCandidateState`.
    """

    needs_gradients: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        check_names(cls)

    @abstractmethod
    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Int64[Tensor, " c"]]:
        """Yield sorted positions outside `taken`, no position twice, in parts much smaller than the layer.

        Args:
            view: the layer.
            taken: positions that cannot be grown.
            count: how many are to be grown here. Where several layers compete for growth, this is a share of it in
                proportion to the missing positions. Fewer candidates mean that fewer are exchanged.
            generator: the source of random numbers.
        """

    def step_flops(self, cost: Pass) -> float:
        """Return the operations of a step with the gradients of all candidates, or NaN where nobody says."""
        return math.nan
