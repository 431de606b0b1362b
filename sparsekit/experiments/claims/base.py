"""A fact is a sentence of a paper with the setting that checks it, and trials are the runs that decide."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments import population
from sparsekit.experiments.experiment import Experiment
from sparsekit.train import History
from sparsekit.utils.checks import check_integer
from sparsekit.utils.registry import source_of, summary_of

FIRST_SEED = 1000  # no search for settings has used seeds from here on
SEEDS = 10  # of a fact that names no other number

Measurement = Claim | Exact
Measure = Callable[["Trials"], Iterable[Measurement]]


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The runs that a fact is decided by, which are kept and read when they are there already.

    Args:
        seeds: of the runs.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        epochs: of every training, in place of what a fact asks for. Verdicts need None.
    """

    seeds: tuple[int, ...]
    folder: Path
    root: Path | None = None
    epochs: int | None = None

    def histories(self, recipe: Callable[..., Experiment], **settings: Any) -> list[History]:
        """Train a recipe once per seed, or read what is there.

        Args:
            recipe: what makes an experiment.
            settings: of the recipe, the same for all seeds.
        """
        if self.epochs is not None:
            settings["epochs"] = self.epochs
        return run_all([recipe(seed=seed, **settings) for seed in self.seeds], self.folder, root=self.root)

    def accuracies(self, recipe: Callable[..., Experiment], **settings: Any) -> list[float]:
        """Return the test accuracy at the end of each training, one per seed."""
        return [history.last("test accuracy") for history in self.histories(recipe, **settings)]


def run_all(experiments: Iterable[Experiment], folder: Path, *, root: Path | None = None) -> list[History]:
    """Carry out experiments, or read what they have left behind. This is the one place where facts train."""
    return population.run_all(list(experiments), folder, root=root, progress=False)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What a paper says, and how it is checked here.

    Args:
        number: in the list of facts.
        text: the fact in words.
        source: who says so, and how certain we are of it.
        setting: what is measured, in words.
        minutes: how long that takes on one core, roughly.
        seeds: how many runs of each kind. A measurement without chance has one.
        trains: whether networks are trained for it.
        measure: the measurement, or None where there is none.
        lacks: what a measurement would take, where there is none.
        decides: the command that would decide it on larger hardware, where there is no measurement.
    """

    number: int
    text: str
    source: str
    setting: str
    minutes: float
    seeds: int = SEEDS
    trains: bool = True
    measure: Measure | None = None
    lacks: str = ""
    decides: str = ""

    def command(self, seeds: int | None = None) -> str:
        """Return the command that measures this fact again."""
        few = f" --seeds {seeds}" if seeds not in (None, self.seeds) else ""
        return self.decides or f"sparsekit claims --only {self.number}{few}"

    def with_seeds(self, seeds: int | None) -> "Fact":
        """Return the fact with another number of seeds, or as it is.

        Raises:
            TypeError: if the number is no integer.
            ValueError: if there are fewer than two, which decide nothing.
        """
        return self if seeds is None else replace(self, seeds=check_integer("seeds", seeds, least=2))


def fact(
    number: int, *, setting: str, minutes: float, seeds: int = SEEDS, trains: bool = True
) -> Callable[[Measure], Fact]:
    """Make a fact of the function that measures it. Its docstring says the fact and, after `Source:`, who says so.

    Args:
        number: in the list of facts.
        setting: what is measured, in words.
        minutes: how long that takes on one core, roughly.
        seeds: how many runs of each kind.
        trains: whether networks are trained for it.
    """

    def made(measure: Measure) -> Fact:
        return Fact(
            number=number,
            text=summary_of(measure),
            source=source_of(measure),
            setting=setting,
            minutes=minutes,
            seeds=seeds,
            trains=trains,
            measure=measure,
        )

    return made


def facts_in(modules: Iterable[ModuleType]) -> dict[int, Fact]:
    """Return the facts that modules define, by number and in order.

    Raises:
        ValueError: if two have the same number.
    """
    listed = [value for module in modules for value in vars(module).values() if isinstance(value, Fact)]
    by_number = {one.number: one for one in sorted(listed, key=lambda one: one.number)}
    if len(by_number) < len(listed):
        numbers = [one.number for one in listed]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        raise ValueError(f"every fact must have a number of its own, got two of {twice}. Renumber one of them")
    return by_number
