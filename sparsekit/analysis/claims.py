"""Does what was measured here bear out what a paper says? One rule decides for every claim."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SURE = 2.0  # standard errors: for many seeds about one chance in forty of a wrong "reproduced"


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
    def is_reproduced(self) -> bool:
        """Whether the mean lies more than two standard errors above the bound; the burden is on the claim."""
        return self.mean - SURE * self.error > self.above

    @property
    def verdict(self) -> str:
        """`"reproduced"` or `"not shown"`: small runs can fail to show a thing, they cannot refute it."""
        return "reproduced" if self.is_reproduced else "not shown"

    def __str__(self) -> str:
        points, error = 100 * self.mean, 100 * self.error
        return f"{self.verdict}: {self.text} ({points:+.1f} ± {error:.1f} points, {self.seeds} seeds)"


def judge(text: str, ours: Sequence[float], theirs: Sequence[float], *, above: float = 0.0) -> Claim:
    """Return what paired runs say about the claim that `ours - theirs > above`.

    Args:
        text: the claim in words.
        ours, theirs: accuracies as shares, one per seed, in the same order of seeds.
        above: what the difference must exceed; below 0 for "hardly worse".

    Raises:
        ValueError: if the runs are not paired, or there are fewer than two.

    Example:
        >>> print(judge("A beats B", [0.93, 0.94, 0.95], [0.90, 0.90, 0.91]))
        reproduced: A beats B (+3.7 ± 0.3 points, 3 seeds)
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"there must be two runs or more of each, in pairs, got {len(ours)} and {len(theirs)}")
    gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    return Claim(text=text, mean=statistics.fmean(gaps), error=error, seeds=len(gaps), above=above)
