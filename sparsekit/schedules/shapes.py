"""Schedules by their shape: lines, waves, stages and cycles."""

import math
from abc import abstractmethod
from dataclasses import dataclass

from sparsekit.schedules.base import Lasting, Schedule
from sparsekit.utils.registry import register
from sparsekit.utils.settings import exact_fraction


@dataclass(frozen=True)
class _Timed(Lasting):
    """A schedule from `start` to `end` within `steps`, whose subclasses say how the way between bends."""

    start: float
    end: float = 0.0
    steps: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self._check_steps()

    def __call__(self, step: int) -> float:
        progress = min(max(step / self._length(), 0.0), 1.0)
        return self.end + (self.start - self.end) * self.remaining(progress)

    @abstractmethod
    def remaining(self, progress: float) -> float:
        """Return the share of the way still to go, 1 at progress 0 and 0 at progress 1."""


@register("schedule", "linear")
@dataclass(frozen=True)
class Linear(_Timed):
    """A straight line from `start` to `end`.

    Source: RigL's ablation of drop-fraction decays, Evci et al. (2020), arXiv:1911.11134, appendix.

    Example:
        >>> Linear(1.0, 0.0, 10)(5)
        0.5
    """

    def remaining(self, progress: float) -> float:
        return 1.0 - progress


@register("schedule", "cosine")
@dataclass(frozen=True)
class Cosine(_Timed):
    """Half a cosine wave from `start` to `end`, which is flat at both ends.

    Its formula is `end + (start - end) / 2 * (1 + cos(pi * step / steps))`.
    Source: the drop fraction of RigL, Evci et al. (2020), arXiv:1911.11134, section 3.

    Example:
        >>> round(Cosine(0.3, 0.0, 75)(25), 6)
        0.225
    """

    def remaining(self, progress: float) -> float:
        return (1.0 + math.cos(math.pi * progress)) / 2.0


@register("schedule", "cubic")
@dataclass(frozen=True)
class Cubic(_Timed):
    """Fast at first, slow at the end: `end + (start - end) * (1 - step / steps) ** 3`.

    Source: the density of gradual magnitude pruning, Zhu and Gupta (2017), arXiv:1710.01878, equation 1.

    Example:
        >>> round(1 - Cubic(1.0, 0.05, 4)(1), 6)  # sparsity after a quarter of the way to 95 %
        0.549219
    """

    def remaining(self, progress: float) -> float:
        return (1.0 - progress) ** 3


@register("schedule", "sigmoid")
@dataclass(frozen=True)
class Sigmoid(_Timed):
    """Slow at both ends, fast in the middle: a logistic curve, scaled so that it meets both ends exactly.

    With `s(x) = 1 / (1 + exp(-x))` and progress `p`, the share of the way is
    `(s(k (2 p - 1)) - s(-k)) / (s(k) - s(-k))`, where `k` is the steepness.
    Source: the density of CHTss, Zhang et al. (2025), arXiv:2501.19107, with steepness 6.

    Raises:
        ValueError: if the steepness is not above zero.

    Example:
        >>> [round(Sigmoid(0.5, 0.1, 4)(step), 3) for step in range(5)]
        [0.5, 0.482, 0.3, 0.118, 0.1]
    """

    steepness: float = 6.0

    def __post_init__(self):
        super().__post_init__()
        if self.steepness <= 0:
            raise ValueError(f"steepness must be above 0, got {self.steepness}. Use Linear for a straight line")

    def remaining(self, progress: float) -> float:
        # A logistic curve is half of a hyperbolic tangent of half its argument, raised by a half.
        half = self.steepness / 2
        return (1.0 - math.tanh(half * (2.0 * progress - 1.0)) / math.tanh(half)) / 2.0


@register("schedule", "geometric")
@dataclass(frozen=True)
class Geometric(_Timed):
    """The same factor at every step: `start * (end / start) ** (step / steps)`, over orders of magnitude.

    Both ends must be above zero.
    Source: the usual way between two orders of magnitude, and our choice for the sharpness of soft units.

    Raises:
        ValueError: if an end is not above zero.

    Example:
        >>> [Geometric(1.0, 100.0, 4)(step) for step in (0, 2, 4)]
        [1.0, 10.0, 100.0]
    """

    end: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.start <= 0 or self.end <= 0:
            raise ValueError(f"both ends must be above 0, got {self.start} and {self.end}. Use Linear to reach zero")

    def __call__(self, step: int) -> float:
        progress = Linear(0.0, 1.0, self.steps)(step)
        return self.start * (self.end / self.start) ** progress

    def remaining(self, progress: float) -> float:
        return 1.0 - progress


@register("schedule", "triangular")
@dataclass(frozen=True)
class Triangular(Schedule):
    """Cycles that climb from `low` to `high` and return, as the learning rate of cheap tickets does.

    Source: Sup-tickets, Yin et al. (2022), arXiv:2205.15322, as coded by its authors.

    Example:
        >>> [round(Triangular(0.001, 0.005, cycle=8)(step), 4) for step in range(0, 9, 2)]
        [0.001, 0.003, 0.005, 0.003, 0.001]
    """

    low: float
    high: float
    cycle: int

    def __post_init__(self):
        super().__post_init__()
        if self.cycle < 2:
            raise ValueError(f"a cycle must last at least 2 steps to go up and down, got {self.cycle}. Give 2 or more")
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} and {self.high}. Exchange them")

    def __call__(self, step: int) -> float:
        phase = (max(step, 0) % self.cycle) / self.cycle
        return self.low + (self.high - self.low) * (1.0 - abs(2.0 * phase - 1.0))


@register("schedule", "piecewise")
@dataclass(frozen=True)
class Piecewise(Schedule):
    """A value that is multiplied by `factor` at each milestone: the classic step decay of learning rates.

    Milestones are steps, in increasing order. The new value holds from the milestone on.
    Source: He et al. (2016), arXiv:1512.03385, section 4.2.

    Example:
        >>> [round(Piecewise(0.1, (10, 20))(step), 4) for step in (9, 10, 20)]
        [0.1, 0.01, 0.001]
    """

    value: float
    milestones: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must increase, got {self.milestones}. Sort them")

    def __call__(self, step: int) -> float:
        return self.value * self.factor ** sum(step >= milestone for milestone in self.milestones)


@register("schedule", "stages")
@dataclass(frozen=True)
class Stages(Lasting):
    """One value after the other, where each change comes after a share of `steps`.

    Source: the sparsity schedules of MEST, Yuan et al. (2021), arXiv:2110.14032, as in its code.

    Example:
        >>> [Stages((0.2, 0.1, 0.0), (0.75, 1.0), steps=40)(step) for step in (29, 30, 40)]
        [0.2, 0.1, 0.0]
    """

    values: tuple[float, ...]
    changes: tuple[float, ...]
    steps: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self._check_steps()
        if len(self.values) != len(self.changes) + 1:
            raise ValueError(
                f"there must be one value more than changes, got {self.values} and {self.changes}. Add one"
            )
        if list(self.changes) != sorted(self.changes) or not all(0 <= change <= 1 for change in self.changes):
            raise ValueError(f"changes must be increasing shares of the steps, 0 to 1, got {self.changes}. Sort them")

    def __call__(self, step: int) -> float:
        steps = self._length()
        return self.values[sum(step >= exact_fraction(change) * steps for change in self.changes)]
