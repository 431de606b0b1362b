"""A rule that another one follows, from a step on, perhaps with another number of connections."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule, check_rule
from sparsekit.rules.candidates.guided import Guided
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.parts import (
    HasCandidateState,
    HasForwardMasks,
    HasInitialTopology,
    HasState,
    NeedsDense,
    PreparesLayers,
    part_of,
)
from sparsekit.rules.presets import SET
from sparsekit.rules.static import Static
from sparsekit.rules.wrapper import WrappedRule
from sparsekit.schedules import Constant
from sparsekit.topology import Topology
from sparsekit.topology.allocation import check_density
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting

# What a rule arranges before the first step, which a rule that follows it would find missing, or left over.
BEFORE_TRAINING = (HasForwardMasks, HasInitialTopology, NeedsDense, PreparesLayers)


@register("switched", "switched")
@dataclass(frozen=True, kw_only=True)
class Switched(WrappedRule):
    """One rule up to step `at`, and another one from there on.

    With a `density`, the first step of the second rule gives the network that many connections. It drops the weakest
    ones, or grows as the second rule grows. A rule that does not grow, such as `Static()`, then grows at random. A rule
    that grows within a drawn subset, such as GSE, looks at every missing connection in this one step, because its
    subset may be smaller than what is to grow.

    Args:
        base: the rule of the steps before `at`.
        after: the rule from step `at` on.
        at: first step of the second rule.
        density: share of the weights that exist from step `at` on. None leaves it as it is.

    Raises:
        TypeError: if one of both is no rule.
        ValueError: if the second rule needs what the first one did not prepare, or changes the density itself.

    Example:
        >>> from sparsekit.rules import SET
        >>> rule = Switched(base=SET(stop=60, every=20), after=Static(), at=30)
        >>> [step for step in range(60) if rule.is_due(step)]
        [0, 20]
    """

    base: Rule = setting(Static(), "the rule of the steps before")
    after: Rule = setting(Static(), "the rule from then on")
    at: int = setting(0, "first step of the second rule", range=(0, 1_000_000))
    density: float | None = setting(None, "share of the weights from then on. None leaves it", range=(0, 1))

    def __post_init__(self):
        check_rule(self.base)
        check_rule(self.after)
        super().__post_init__()
        if self.density is not None:
            check_density(self.density)
            if getattr(self.after, "density", None) is not None:
                raise ValueError(
                    f"one of both must say the density, got {self.density} and a rule with a density of its own. Leave "
                    "density out, or choose a rule without"
                )
        if type(last_of(self.base)) is not type(self.after) and (why := _why_not(last_of(self.base), self.after)):
            raise ValueError(f"a rule must do without the other's preparations, got {why}. Choose another rule")

    def rule_at(self, step: int) -> Rule:
        """Return the rule that acts at a step, which is never a switched one itself."""
        if step < self.at:
            return rule_at(self.base, step)
        return self._resizing if self.density is not None and step == self.at else self.after

    @cached_property
    def _resizing(self) -> Rule:
        """The second rule as it gives the network its new number of connections, and exchanges no others."""
        rule = self.after if isinstance(self.after, DropGrow) else SET(stop=None, drop_fraction=Constant(0.0))
        if isinstance(rule.candidates, Guided):
            rule = replace(rule, candidates=replace(rule.candidates, subset=math.inf))
        density = Constant(float(self.density or 0))
        return replace(rule, density=density, drop_fraction=Constant(0.0), every=1, start=self.at, stop=self.at)

    def is_due(self, step: int) -> bool:
        """Whether the rule that acts at this step is due."""
        return self.rule_at(step).is_due(step)

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return what the rule that acts at this step proposes. See `Rule.propose`.

        Raises:
            ValueError: if the second rule finds too few positions for the new density.
        """
        topology = self.rule_at(step).propose(views, step, generator)
        if self.density is not None and step == self.at:
            self._check_reached(topology)
        return topology

    def _check_reached(self, topology: Topology) -> None:
        target = max(1, round(float(self.density or 0) * topology.size))
        if topology.count < target:
            raise ValueError(
                f"a rule must find positions for {target:,} connections, got {topology.count:,} from {self.after}. "
                "Choose a smaller density, or another rule"
            )


def rule_at(rule: Rule, step: int) -> Rule:
    """Return the rule that acts at a step. Only a switched rule is another one at other steps.

    Example:
        >>> rule_at(Switched(base=Static(), after=SET(stop=60), at=30), 29)
        Static()
    """
    return rule.rule_at(step) if isinstance(rule, Switched) else rule


def last_of(rule: Rule) -> Rule:
    """Return the rule that acts last, which of most rules is the rule itself."""
    return rule.after if isinstance(rule, Switched) else rule


def _why_not(before: Rule, after: Rule) -> str:
    """Return what keeps a rule from following another one, or an empty text."""
    for rule in (before, after):
        if any(part_of(rule, part) is not None for part in BEFORE_TRAINING):
            return f"{type(rule).__name__}, which arranges something before the first step"
    if _has_state(before) and _has_state(after):
        return f"{type(before).__name__} and {type(after).__name__}, which would take over each other's state"
    return ""


def _has_state(rule: Rule) -> bool:
    """Whether a rule remembers something, which a drop-grow rule does only if its candidates do."""
    if type(rule) is DropGrow:
        return part_of(rule.candidates, HasCandidateState) is not None
    return part_of(rule, HasState) is not None
