"""The base of all schedules, and schedules that are made of others."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from sparsekit.utils.registry import register
from sparsekit.utils.settings import CheckedSettings


class Schedule(CheckedSettings, ABC):
    """A function of the step. Its values before step 0 or after the end are those at the ends.

    Raises:
        TypeError: if a setting of a subclass that is a dataclass is of another type than annotated.
        ValueError: if a number is not finite.
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the value at a step (0 is the first)."""

    def lasting(self, steps: int | None) -> "Schedule":
        """Return this schedule with its open length, where it has one, set to `steps`."""
        return self

    def between(self, start: int, stop: int | None) -> "Schedule":
        """Return this schedule with its open length, where it has one, running from step `start` to step `stop`.

        Before `start` it has its first value. A schedule without an open length keeps the training's clock.
        """
        return self.lasting(stop)


@register("schedule", "constant")
@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Source: the trivial schedule.
    """

    value: float

    def __call__(self, step: int) -> float:
        return self.value


@register("schedule", "warmup")
@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight rise from `first` times the schedule's value during `steps`, then the schedule itself.

    The inner schedule keeps its own clock, which means that it is evaluated at the same step.
    Source: Goyal et al. (2017), arXiv:1706.02677, section 2.2.

    Example:
        >>> [Warmup(Constant(0.1), steps=4)(step) for step in (0, 2, 4)]
        [0.0, 0.05, 0.1]
    """

    then: Schedule
    steps: int
    first: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"a warm-up must last at least 1 step, got {self.steps}. Leave Warmup out instead")

    def lasting(self, steps: int | None) -> "Warmup":
        return replace(self, then=self.then.lasting(steps))

    def between(self, start: int, stop: int | None) -> "Warmup":
        return replace(self, then=self.then.between(start, stop))

    def __call__(self, step: int) -> float:
        share = min(max(step / self.steps, 0.0), 1.0)
        return (self.first + (1.0 - self.first) * share) * self.then(step)


@register("schedule", "joined")
@dataclass(frozen=True)
class Joined(Schedule):
    """One schedule up to step `at`, another from there on, which begins at its own step 0.

    If the length of the first is open, it becomes `at`. If that of the second is open, it becomes the remaining steps.
    Source: the learning rate of Sup-tickets, Yin et al. (2022), arXiv:2205.15322: steps down, then triangles.

    Example:
        >>> from sparsekit.schedules import Triangular
        >>> rate = Joined(Constant(0.1), at=100, then=Triangular(0.01, 0.05, cycle=10))
        >>> [round(rate(step), 3) for step in (99, 100, 105, 110)]
        [0.1, 0.01, 0.05, 0.01]
    """

    first: Schedule
    at: int
    then: Schedule

    def __post_init__(self):
        super().__post_init__()
        if self.at < 1:
            raise ValueError(f"schedules must be joined at step 1 or later, got {self.at}. Use the second one alone")

    def lasting(self, steps: int | None) -> "Joined":
        rest = None if steps is None else steps - self.at
        return replace(self, first=self.first.lasting(self.at), then=self.then.lasting(rest))

    def between(self, start: int, stop: int | None) -> "Joined":
        rest = None if stop is None else stop - self.at
        then = self.then.between(max(0, start - self.at), rest)
        return replace(self, first=self.first.between(start, self.at), then=then)

    def __call__(self, step: int) -> float:
        return self.first.lasting(self.at)(step) if step < self.at else self.then(step - self.at)


class Lasting(Schedule):
    """A schedule with a last step, which its owner sets where `steps` is None."""

    steps: int | None

    def lasting(self, steps: int | None) -> Self:
        if self.steps is not None or steps is None:
            return self
        return replace(self, steps=max(1, steps))  # type: ignore[type-var]  # every subclass is a dataclass

    def between(self, start: int, stop: int | None) -> Schedule:
        if self.steps is not None or stop is None:
            return self
        closed = self.lasting(stop - start)
        then = closed if stop > start else Constant(closed(1))  # without a step in between it arrives at once
        return Joined(Constant(closed(0)), at=start, then=then) if start else then

    def _check_steps(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1 or None, got {self.steps}. Use None to let the owner set it")

    def _length(self) -> int:
        if self.steps is None:
            raise ValueError(
                f"{self} must know how long it lasts, got steps=None. Give steps, or stop to the rule that owns it"
            )
        return self.steps
