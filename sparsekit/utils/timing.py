"""Let methods take turns, and compare only what ran side by side.

Shared machines change their speed by a factor of two from one second to the next. So every method is timed once in each
round, in alternating order. Ratios are taken within a round, and only then their median.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_WAITED = 0.03  # share of a sample that our threads may wait for a core
MIN_CLEAN = 4  # samples. If fewer were not disturbed, all count, and the report says so
MORE_ROUNDS = 2  # times as many rounds at most where samples were disturbed
# Seconds. What takes longer is timed at once. Anything else is called before, as often as it is timed. So it is timed
# as in a training, where each step follows others like it, with its numbers in the cache and memory in fitting pieces.
WARM_BELOW = 2.0
TASKS = Path("/proc/self/task")

Method = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long a measurement lasts.

    Args:
        rounds: number of rounds, in each of which every method takes its turn.
        sample_seconds: least time of one sample, for which fast methods are called several times.
        budget_seconds: time after which no further round begins.
        min_rounds: number of rounds to run however long they take.
    """

    rounds: int = 15
    sample_seconds: float = 0.004
    budget_seconds: float = 40.0
    min_rounds: int = 3


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Seconds that one call took, and the share of the time that our threads waited for a core."""

    seconds: float
    waited: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether no other process was in the way."""
        return self.waited <= MAX_WAITED


Round = Mapping[str, Sample]


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """The middle half of some numbers."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Quartiles":
        """Return the quartiles of one number or more.

        Example:
            >>> Quartiles.of([1.0, 2.0, 3.0, 4.0, 5.0])
            Quartiles(low=2.0, median=3.0, high=4.0)
        """
        if len(numbers) == 1:
            return cls(low=numbers[0], median=numbers[0], high=numbers[0])
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(low=low, median=median, high=high)


def run_queue_seconds() -> float:
    """Return how long all threads of this process have waited for a core so far, or 0 if the system does not tell."""
    return sum(map(_waited_by, TASKS.glob("*/schedstat"))) * 1e-9


def time_in_turns(
    methods: Mapping[str, Method],
    effort: Effort | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    waiting: Callable[[], float] = run_queue_seconds,
) -> list[Round]:
    """Time methods in turns, each round in the opposite order of the one before.

    Args:
        methods: what is timed, by name. Each is called at least twice before its time counts, or once if it is slow.
        effort: how long to measure.
        clock: a function that returns seconds, counted from any moment.
        waiting: a function that returns for how many seconds this process has waited for a core.

    Returns:
        One sample of each method for each round, disturbed ones included.
    """
    effort = effort or Effort()
    begin, rounds = clock(), []
    seconds = {name: _seconds_of(method, clock) for name, method in methods.items()}
    with _without_garbage_collection():
        while _continues(rounds, effort, clock() - begin):
            order = list(methods) if len(rounds) % 2 == 0 else list(methods)[::-1]
            rounds.append({name: _sample(methods[name], seconds[name], effort, clock, waiting) for name in order})
    return rounds


def times_of(rounds: Sequence[Round], name: str) -> list[float]:
    """Return a method's seconds per call, from the clean samples, or from all if hardly any is clean."""
    clean = [samples[name].seconds for samples in rounds if samples[name].is_clean]
    return clean if len(clean) >= MIN_CLEAN else [samples[name].seconds for samples in rounds]


def speedups_of(rounds: Sequence[Round], name: str, baseline: str) -> list[float]:
    """Return how many times faster than the baseline a method was, round by round, where both samples are clean."""
    clean = [samples for samples in rounds if samples[name].is_clean and samples[baseline].is_clean]
    chosen = clean if len(clean) >= MIN_CLEAN else rounds
    return [samples[baseline].seconds / samples[name].seconds for samples in chosen]


def median_seconds(methods: Mapping[str, Method], effort: Effort | None = None) -> dict[str, float]:
    """Time methods in turns, as `time_in_turns` does, and return the median seconds of one call of each.

    Example:
        >>> seconds = median_seconds({"short": lambda: sum(range(10)), "long": lambda: sum(range(10_000))})
        >>> seconds["short"] < seconds["long"]
        True
    """
    rounds = time_in_turns(methods, effort)
    return {name: statistics.median(times_of(rounds, name)) for name in methods}


def least_seconds(methods: Mapping[str, Method], effort: Effort | None = None) -> dict[str, float]:
    """Time methods in turns and return the least seconds of one call of each.

    Other work on the machine only ever adds to a time. So for few short samples their least says most, where the
    median of five would be that of a disturbed one.

    Example:
        >>> seconds = least_seconds({"short": lambda: sum(range(10)), "long": lambda: sum(range(10_000))})
        >>> seconds["short"] < seconds["long"]
        True
    """
    rounds = time_in_turns(methods, effort)
    return {name: min(times_of(rounds, name)) for name in methods}


def fastest(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """Return which of these methods has the lowest median."""
    return min(names, key=lambda name: statistics.median(times_of(rounds, name)))


def num_clean(rounds: Sequence[Round], name: str) -> int:
    """Return how many samples of a method nothing disturbed."""
    return sum(samples[name].is_clean for samples in rounds)


def _continues(rounds: Sequence[Round], effort: Effort, elapsed: float) -> bool:
    if len(rounds) < effort.min_rounds:
        return True
    if elapsed > effort.budget_seconds or len(rounds) >= MORE_ROUNDS * effort.rounds:
        return False
    return len(rounds) < effort.rounds or any(num_clean(rounds, name) < MIN_CLEAN for name in rounds[0])


def _seconds_of(method: Method, clock: Callable[[], float]) -> float:
    """Return about how long a call takes, by the second one, because the first may compile."""
    seconds = _once(method, clock)
    if seconds < 1:  # what takes longer is called once per sample anyway
        seconds = _once(method, clock)
    return max(seconds, 1e-7)  # a clock may stand still


def _once(method: Method, clock: Callable[[], float]) -> float:
    begin = clock()
    method()
    return clock() - begin


def _sample(
    method: Method, seconds: float, effort: Effort, clock: Callable[[], float], waiting: Callable[[], float]
) -> Sample:
    calls = max(1, round(effort.sample_seconds / seconds))
    if seconds < WARM_BELOW:
        for _ in range(calls):
            method()
    waited, begin = waiting(), clock()
    for _ in range(calls):
        method()
    elapsed = clock() - begin
    return Sample(seconds=elapsed / calls, waited=(waiting() - waited) / elapsed if elapsed else 0.0)


def _waited_by(file: Path) -> int:
    try:
        return int(file.read_text().split()[1])
    except (OSError, IndexError, ValueError):  # a thread that has just ended
        return 0


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
