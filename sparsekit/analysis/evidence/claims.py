"""Do our measurements support what a paper says? One rule decides for every claim."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sparsekit.utils.checks import number, shown

SURE = 0.975  # of each verdict. Where nothing differs, one claim in 40 counts as reproduced and one as contradicted
ROUNDING = 1e-12  # accuracies are shares of examples, so smaller differences are rounding

Verdict = Literal["reproduced", "contradicted", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim that a difference exceeds a bound, and what was measured.

    Args:
        text: the claim in words.
        mean: mean difference over the seeds.
        error: its standard error.
        seeds: how many runs of each method.
        above: what the difference must exceed.
    """

    text: str
    mean: float
    error: float
    seeds: int
    above: float = 0.0

    @property
    def t(self) -> float:
        """How many standard errors the mean lies above the bound, infinite where all seeds differ by the same."""
        gap = self.mean - self.above
        if abs(gap) < ROUNDING:
            return 0.0
        return math.copysign(math.inf, gap) if self.error < ROUNDING else gap / self.error

    @property
    def verdict(self) -> Verdict:
        """`"reproduced"` or `"contradicted"` where the mean is surely above or below the bound, else `"undecided"`.

        We are sure where Student's t exceeds its 97.5 % quantile, with one degree of freedom less than seeds. Two seeds
        must lie 12.7 standard errors off, three 4.3, ten 2.3.

        Source: Student (1908), The probable error of a mean, Biometrika 6(1), for paired differences.
        """
        from scipy.stats import t as student  # here, as the import costs a second

        quantile = float(student.ppf(SURE, self.seeds - 1)) if self.seeds > 1 else math.inf
        if self.t > quantile:
            return "reproduced"
        return "contradicted" if self.t < -quantile else "undecided"

    @property
    def is_reproduced(self) -> bool:
        """Whether the verdict is that the claim holds here."""
        return self.verdict == "reproduced"

    def __str__(self) -> str:
        points, error = 100 * self.mean, 100 * self.error
        numbers = f"{points:+.1f} ± {error:.1f} points, t = {self.t:.1f}, n = {self.seeds} seeds"
        return f"{self.verdict}: {self.text} ({numbers})"


def assess_claim(text: str, ours: Iterable[Any], theirs: Iterable[Any], *, above: float = 0.0) -> Claim:
    """Return what paired runs say about the claim that `ours - theirs > above`.

    Args:
        text: the claim in words.
        ours, theirs: accuracies as shares, one per seed, in the same order of seeds.
        above: what the difference must exceed, below 0 for "hardly worse".

    Raises:
        TypeError: if something is no number.
        ValueError: if the runs are not paired, there are fewer than two, or a number is not finite.

    Example:
        >>> print(assess_claim("A beats B", [0.93, 0.94, 0.95], [0.90, 0.90, 0.91]))
        reproduced: A beats B (+3.7 ± 0.3 points, t = 11.0, n = 3 seeds)
    """
    ours, theirs = _numbers(ours), _numbers(theirs)
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"there must be two runs or more of each, in pairs, got {len(ours)} and {len(theirs)}")
    for runs in (ours, theirs):
        if not all(map(math.isfinite, runs)):
            raise ValueError(f"runs must have measured numbers, got {list(runs)}. Leave out the seeds that have none")
    if not math.isfinite(number("above", above)):
        raise ValueError(f"above must be a number, got {above}. Use 0 to ask whether ours is better at all")
    gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    return Claim(text=text, mean=statistics.fmean(gaps), error=error, seeds=len(gaps), above=above)


def _numbers(runs: Any) -> list[float]:
    """Return accuracies as plain numbers, from a list, an array, a tensor or a column of a table."""
    listed = runs.tolist() if hasattr(runs, "tolist") else runs
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise TypeError(f"accuracies must be sequences of numbers, got {shown(runs)}. Give one number per seed")
    return [float(number("an accuracy", one)) for one in listed]
