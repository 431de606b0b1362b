"""Cycles: after ordinary sparse training, look elsewhere with one large rewiring at the start of every cycle."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule, check_rule
from sparsekit.rules.static import Static
from sparsekit.rules.wrapper import WrappedRule
from sparsekit.schedules import Constant, Schedule
from sparsekit.topology import Topology
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("cycles", "cycles")
@dataclass(frozen=True, kw_only=True)
class Cycles(WrappedRule):
    """Any rule up to step `after`. From there on a large rewiring every `length` steps, and little or nothing between.

    The large rewiring is the rule's own, with `explore` in place of its `drop_fraction`. Scores, candidates and the
    exact budget stay the same. It sees the gradients of the cycle's first batch. They belong to the present weights if
    a rewiring replaces the weight update, and otherwise to the weights before the update. (The authors' code looks at
    the batch before, at weights that have moved since.) A ticket is ready after each step for which `ends_at` is true,
    which is at the end of the ordinary training and of each cycle.

    Args:
        base: the rule of the ordinary training.
        after: steps of ordinary training before the first cycle.
        length: steps of a cycle.
        explore: share of the connections exchanged at the start of a cycle. 0 leaves out the large rewiring.
        freeze: keep the topology within a cycle. If False, the base rule continues there, as in the authors' commands
            for ImageNet.

    Raises:
        TypeError: if the base is no rule.
        ValueError: if a number is out of range, the base changes the density in the cycles, or it cannot explore.

    Source: Yin et al. (2022), arXiv:2205.15322, as coded by its authors.

    Example:
        >>> from sparsekit.rules import SET
        >>> rule = Cycles(base=SET(stop=60, every=20), after=80, length=10)
        >>> [step for step in range(110) if rule.is_due(step)]
        [0, 20, 40, 60, 80, 90, 100]
        >>> [step for step in range(110) if rule.ends_at(step)]
        [79, 89, 99, 109]
    """

    base: Rule = setting(Static(), "the rule of the ordinary training")
    after: int = setting(1000, "steps of ordinary training before the first cycle", range=(1, 1_000_000))
    length: int = setting(100, "steps of a cycle", range=(2, 1_000_000))
    explore: float = setting(0.5, "share of the connections exchanged at the start of a cycle", range=(0, 1))
    freeze: bool = setting(True, "keep the topology within a cycle")

    def __post_init__(self):
        check_rule(self.base)
        super().__post_init__()
        if self.after < 1 or self.length < 2:
            raise ValueError(f"after must be at least 1 and length 2, got {self.after} and {self.length}. Raise it")
        if not 0 <= self.explore <= 1:
            raise ValueError(f"explore must lie in [0, 1], got {self.explore}. The paper takes 0.5")
        stop = getattr(self.base, "stop", None)
        if getattr(self.base, "density", None) is not None and stop is not None and stop > self.after:
            raise ValueError(
                f"the density must have arrived where cycles begin, {self.after}, got stop={stop}. Make the rule with "
                "an earlier stop"
            )
        if self.explore and not _can_explore(self.base):
            raise ValueError(
                f"the base rule must have a drop_fraction to explore with, got {type(self.base).__name__}. Choose SET, "
                "RigL, GSE, GraNet or the like, or explore=0"
            )

    @cached_property
    def _large(self) -> Rule:
        """The base rule, exchanging more."""
        changes = {"drop_fraction": Constant(self.explore), "density": None, "shrink": "per-layer"}
        names = {field.name for field in fields(self.base)}  # type: ignore[arg-type]
        return replace(self.base, **{name: value for name, value in changes.items() if name in names})  # type: ignore[type-var]

    def explores_at(self, step: int) -> bool:
        """Whether a large rewiring is due: at the start of every cycle."""
        at_start = step >= self.after and (step - self.after) % self.length == 0
        return at_start and self.explore > 0 and not isinstance(self.base, Static)

    def ends_at(self, step: int) -> bool:
        """Whether a ticket is ready after this step: the last before a cycle, and the last of each cycle."""
        done = step + 1
        return done >= self.after and (done - self.after) % self.length == 0

    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step."""
        continues = step < self.after or not self.freeze
        return self.explores_at(step) or (continues and self.base.is_due(step))

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return what the base rule proposes, at the start of a cycle with the larger share. See `Rule.propose`."""
        return (self._large if self.explores_at(step) else self.base).propose(views, step, generator)


def _can_explore(rule: Rule) -> bool:
    """Whether a rule exchanges a share of the connections. One that never changes anything has nothing to look for."""
    return isinstance(rule, Static) or isinstance(getattr(rule, "drop_fraction", None), Schedule)
