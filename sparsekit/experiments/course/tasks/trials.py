"""Exercises that experiment: the reader looks for a number, and a training or a draw says whether it does the thing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from sparsekit.experiments.course import arena
from sparsekit.experiments.course.comparing import brief
from sparsekit.experiments.course.exercise import OPEN, Exercise, Results, Verdict, error_text
from sparsekit.rules import GSE, RigL, Static
from sparsekit.schedules import Constant
from sparsekit.topology import random_topology

SEEDS = (0, 1, 2)
LAST_STEPS = arena.STEPS
DRAWS = range(10)
LENET = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}  # outputs × inputs


@dataclass(frozen=True, kw_only=True)
class Trial(Exercise):
    """An exercise whose answer is a number, which is tried out.

    Args:
        low, high: ends of the range that makes sense, both included.
        what: the number's name in a sentence.
        outside: what to tell somebody whose number lies outside.
        whole: whether the number must be an integer.
        measure: tries a number. It returns whether the number does what it should, and what was measured.
    """

    seconds: ClassVar[float] = 60

    low: float
    high: float
    what: str
    outside: str
    measure: Callable[[float], tuple[bool, str]]
    whole: bool = False

    def run(self, answer: Any) -> Results:
        """Return the number, or that of a function without arguments."""
        try:
            answer = answer() if callable(answer) else answer
        except NotImplementedError:
            return [(OPEN, None)]
        except (Exception, SystemExit) as error:  # a reader's error belongs in the sentence
            return [("error", error_text(error))]
        return [(OPEN, None)] if answer is None or answer is ... else [("value", answer)]

    def assess(self, results: Results) -> Verdict:
        """Try the number out."""
        kind, value = results[0]
        if kind == OPEN:
            return self.open()
        if kind == "error":
            return self.wrong(f"Your answer raises {value}.")
        if not isinstance(value, int | float) or isinstance(value, bool):
            return self.wrong(f"{self.what.capitalize()} is a number, got {brief(value)}.")
        if not self.low <= value <= self.high:
            return self.wrong(f"{self.what.capitalize()} lies between {self.low:g} and {self.high:g}. {self.outside}")
        if self.whole and value % 1:
            return self.wrong(f"{self.what.capitalize()} is an integer, got {value}.")
        fits, measured = self.measure(float(value))
        return self.right(measured) if fits else self.wrong(measured[0].upper() + measured[1:])


@cache
def _mean_of(rule_name: str, number: float) -> float:
    """Return the mean accuracy of three seeds, in percent."""
    rules = {
        "fixed": Static(),
        "restless": RigL(stop=LAST_STEPS, every=10, drop_fraction=Constant(number)),
        "gse": GSE(stop=3 * LAST_STEPS // 4, every=25, subset=number or None),
    }
    density = number if rule_name == "fixed" else arena.DENSITY
    return arena.compete({rule_name: rules[rule_name]}, SEEDS, density=density)[rule_name].mean


def _reads_enough(density: float) -> tuple[bool, str]:
    accuracy = _mean_of("fixed", density)
    said = f"with {100 * density:.3g} % of the weights, random and fixed, it reads {accuracy:.1f} of 100 (mean of 3)."
    return accuracy >= 90, said


def _loses(drop_fraction: float) -> tuple[bool, str]:
    restless, fixed = _mean_of("restless", drop_fraction), _mean_of("fixed", arena.DENSITY)
    said = f"exchanging {drop_fraction:.0%} again and again reads {restless:.1f} of 100, and the fixed mask {fixed:.1f}"
    return restless < fixed, f"{said} (means of 3)."


def _is_frugal(subset: float) -> tuple[bool, str]:
    accuracy = _mean_of("gse", subset)
    return accuracy >= 88, f"with {subset:g} draws for each connection GSE reads {accuracy:.1f} of 100 (mean of 3)."


def _tells_apart(density: float) -> tuple[bool, str]:
    dead = {
        name: [
            int((random_topology(LENET, density, allocation=name, seed=seed)["fc3"].fan_in() == 0).sum())
            for seed in DRAWS
        ]
        for name in ("uniform", "erk")
    }
    always, never = sum(count > 0 for count in dead["uniform"]), sum(count > 0 for count in dead["erk"])
    said = f"a class without any connection came up in {always} of 10 uniform draws and in {never} of 10 by ERK."
    return always == 10 and never == 0, said


ENOUGH_DENSITY = Trial(
    name="enough_density",
    notebook="00",
    low=0.001,
    high=0.16,
    what="your density",
    outside="A density is a share, so 5 % is 0.05, and we look for one of at most 0.16.",
    measure=_reads_enough,
    hints=(
        "With 5 % of the weights the fixed random network reads about 70 of 100. Which way must you go?",
        "Double the density and look again. From 0.1 on each step is worth less.",
        "Somewhere between 0.1 and 0.16 it passes 90.",
    ),
)

TELLING_DENSITY = Trial(
    name="telling_density",
    notebook="01",
    low=0.001,
    high=0.5,
    what="your density",
    outside="A density is a share, so 5 % is 0.05.",
    measure=_tells_apart,
    hints=(
        "The last layer has 1,000 positions. How many connections does it get at a uniform density of 0.05?",
        "Ten classes share them. With how many connections in all is a class left out nearly always?",
        "At 0.01 ten connections fall on ten classes at random, and three or four classes get none.",
    ),
)

LOSING_FRACTION = Trial(
    name="losing_fraction",
    notebook="02",
    low=0.0,
    high=1.0,
    what="your drop fraction",
    outside="It is the share of a layer's connections that a rewiring exchanges, so 30 % is 0.3.",
    measure=_loses,
    hints=(
        "A new connection needs some steps to learn. What if it is dropped again before it has?",
        "Weak connections are dropped first. How large must the fraction be, until strong ones go as well?",
        "At 0.8 RigL is still ahead. Look above it.",
    ),
)

FRUGAL_SUBSET = Trial(
    name="frugal_subset",
    notebook="03",
    low=0.01,
    high=0.6,
    what="your subset",
    outside="It is the number of draws for each connection, and we look for one of at most 0.6.",
    measure=_is_frugal,
    hints=(
        "With one draw for each connection GSE reads about 91 of 100. What does it lose with a tenth of that?",
        "Below 0.25 it falls behind SET.",
        "Try 0.5.",
    ),
)

EXERCISES = (ENOUGH_DENSITY, TELLING_DENSITY, LOSING_FRACTION, FRUGAL_SUBSET)
