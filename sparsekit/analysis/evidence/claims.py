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
        mean: mean difference.
        error: its standard error.
        seeds: how many runs of each method. Where the two methods differ in that, the smaller number.
        above: what the difference must exceed.
        freedom: degrees of freedom of Student's t. None means one less than seeds, as for paired runs.
        unit: of the mean. Points are shares, shown in per cent, and any other unit is shown as it is.
    """

    text: str
    mean: float
    error: float
    seeds: int
    above: float = 0.0
    freedom: float | None = None
    unit: str = "points"

    @property
    def t(self) -> float:
        """How many standard errors the mean lies above the bound, infinite where all seeds differ by the same."""
        gap = self.mean - self.above
        if abs(gap) < ROUNDING:
            return 0.0
        return math.copysign(math.inf, gap) if self.error < ROUNDING else gap / self.error

    @property
    def threshold(self) -> float:
        """Student's 97.5 % quantile, which t must exceed. Two seeds need 12.7, three 4.3, ten 2.3, and one has none.

        Source: Student (1908), The probable error of a mean, Biometrika 6(1).
        """
        from scipy.stats import t as student  # here, as the import costs a second

        freedom = self.seeds - 1 if self.freedom is None else self.freedom
        return float(student.ppf(SURE, freedom)) if self.seeds > 1 and freedom > 0 else math.inf

    @property
    def verdict(self) -> Verdict:
        """`"reproduced"` or `"contradicted"` where t lies beyond the threshold on that side, else `"undecided"`."""
        if self.t > self.threshold:
            return "reproduced"
        return "contradicted" if self.t < -self.threshold else "undecided"

    @property
    def is_reproduced(self) -> bool:
        """Whether the verdict is that the claim holds here."""
        return self.verdict == "reproduced"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The numbers in words: seeds, mean and standard error, t, and threshold."""
        if self.unit == "points":
            mean, bound = f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} points", f"{100 * self.above:+.3g}"
        else:
            mean, bound = f"{self.mean:+.3g} ± {self.error:.2g} {self.unit}", f"{self.above:+.3g}"
        claimed = f"{mean}, claimed above {bound}" if self.above else mean
        return str(self.seeds), claimed, f"{self.t:.1f}", f"{self.threshold:.1f}"

    def __str__(self) -> str:
        seeds, mean, t, threshold = self.cells
        return f"{self.verdict}: {self.text} ({mean}, t = {t}, threshold {threshold}, n = {seeds} seeds)"


@dataclass(frozen=True, kw_only=True)
class Exact:
    """A claim about a number that no seed changes: what it should be, and what it is here.

    Args:
        text: the claim in words.
        predicted: what the formula or the source says.
        measured: what came out.
        tolerance: how far apart the two may lie, at least 0.

    Example:
        >>> print(Exact(text="a half is 0.5", predicted=0.5, measured=1 / 2, tolerance=0.0))
        reproduced: a half is 0.5 (measured 0.5, predicted 0.5 ± 0)
    """

    text: str
    predicted: float
    measured: float
    tolerance: float

    @property
    def verdict(self) -> Verdict:
        """`"reproduced"` where the two agree, else `"contradicted"`. A number that is missing decides nothing."""
        if math.isnan(self.measured):
            return "undecided"
        return "reproduced" if abs(self.measured - self.predicted) <= self.tolerance else "contradicted"

    @property
    def is_reproduced(self) -> bool:
        """Whether the verdict is that the claim holds here."""
        return self.verdict == "reproduced"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The numbers in words, in the order of `Claim.cells`. Nothing varies, so there is neither n nor t."""
        return "exact", f"{self.measured:.6g}", "-", f"{self.predicted:.6g} ± {self.tolerance:.2g}"

    def __str__(self) -> str:
        _, measured, _, predicted = self.cells
        return f"{self.verdict}: {self.text} (measured {measured}, predicted {predicted})"


def assess_claim(
    text: str,
    ours: Iterable[Any],
    theirs: Iterable[Any],
    *,
    above: float = 0.0,
    paired: bool = True,
    unit: str = "points",
) -> Claim:
    """Return what runs say about the claim that `ours - theirs > above`.

    Runs of the same seed share initial weights and data order, so their difference varies less than they do. Where no
    seed is shared, `paired=False` compares the two means instead.

    Args:
        text: the claim in words.
        ours, theirs: accuracies as shares, one per seed, in the same order of seeds.
        above: what the difference must exceed, below 0 for "hardly worse".
        paired: whether the runs share their seeds in pairs.
        unit: of the numbers. Points are shares, shown in per cent.

    Raises:
        TypeError: if something is no number.
        ValueError: if the runs are not paired, there are fewer than two, or a number is not finite.

    Source: Student (1908) for pairs. Welch (1947), The generalization of Student's problem when several different
        population variances are involved, Biometrika 34, for two groups.

    Example:
        >>> print(assess_claim("A beats B", [0.93, 0.94, 0.95], [0.90, 0.90, 0.91]))
        reproduced: A beats B (+3.7 ± 0.3 points, t = 11.0, threshold 4.3, n = 3 seeds)
    """
    ours, theirs = _numbers(ours), _numbers(theirs)
    _check(ours, theirs, above, paired)
    if not paired:
        mean, error, freedom = _welch(ours, theirs)
        seeds = min(len(ours), len(theirs))
        return Claim(text=text, mean=mean, error=error, seeds=seeds, above=above, freedom=freedom, unit=unit)
    gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    return Claim(text=text, mean=statistics.fmean(gaps), error=error, seeds=len(gaps), above=above, unit=unit)


def _welch(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the difference of two means, its standard error, and Welch's degrees of freedom."""
    squares = [statistics.variance(runs) / len(runs) for runs in (ours, theirs)]
    total = sum(squares)
    parts = [square**2 / (len(runs) - 1) for square, runs in zip(squares, (ours, theirs), strict=True)]
    freedom = total**2 / sum(parts) if sum(parts) > 0 else float(min(len(ours), len(theirs)) - 1)
    return statistics.fmean(ours) - statistics.fmean(theirs), total**0.5, freedom


def _check(ours: Sequence[float], theirs: Sequence[float], above: float, paired: bool) -> None:
    fewest, in_pairs = min(len(ours), len(theirs)), ", in pairs" if paired else ""
    if fewest < 2 or (paired and len(ours) != len(theirs)):
        raise ValueError(f"there must be two runs or more of each{in_pairs}, got {len(ours)} and {len(theirs)}")
    for runs in (ours, theirs):
        if not all(map(math.isfinite, runs)):
            raise ValueError(f"runs must have measured numbers, got {list(runs)}. Leave out the seeds that have none")
    if not math.isfinite(number("above", above)):
        raise ValueError(f"above must be a number, got {above}. Use 0 to ask whether ours is better at all")


def _numbers(runs: Any) -> list[float]:
    """Return accuracies as plain numbers, from a list, an array, a tensor or a column of a table."""
    listed = runs.tolist() if hasattr(runs, "tolist") else runs
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise TypeError(f"accuracies must be sequences of numbers, got {shown(runs)}. Give one number per seed")
    return [float(number("an accuracy", one)) for one in listed]
