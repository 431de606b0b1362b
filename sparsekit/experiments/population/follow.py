"""`follow` trains experiments side by side and shows how far they are, for those who watch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from sparsekit.experiments.draws import drawing
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.options import RunOptions
from sparsekit.experiments.population.fitting import populations_of
from sparsekit.experiments.population.run import begin_all, steps_of_all
from sparsekit.experiments.work import Work, having_turn
from sparsekit.train.history import History


def follow(
    experiments: Sequence[Experiment],
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    checkpoint_seconds: float = 20.0,
    keep_states: bool = False,
) -> Iterator[list[History]]:
    """Train experiments as `run_all` does, but all of them at the same time, and yield their histories on the way.

    You get the histories before the first step, and whenever a rewiring or an evaluation has added something to them.
    You may stop in between. Every run continues from its last checkpoint then, as after any interruption.

    Args:
        experiments: what to do. One that is named twice is trained once.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        checkpoint_seconds: save at least as often as this.
        keep_states: keep the state after every rewiring of those that are trained alone, as in `run`.

    Yields:
        The histories so far, in the order of the experiments.

    Raises:
        TypeError: if one is no experiment.
        ValueError: if there is none, or a setting does not fit the data.
        FloatingPointError: if the loss of one is not finite. The others have been trained to the end then.

    Example:
        >>> from sparsekit.experiments.recipes import digits_small
        >>> for histories in follow([digits_small(rule="set"), digits_small()]):  # doctest: +SKIP
        ...     print([len(history.journal) for history in histories])
    """
    groups = populations_of(experiments)
    with ExitStack() as turns:
        names = sorted({experiment.folder_name for experiment in experiments})
        checks = {name: turns.enter_context(having_turn(Path(folder) / name, tell=False)) for name in names}
        options = RunOptions(root=root, checkpoint_seconds=checkpoint_seconds, keep_states=keep_states, device="cpu")
        works = [begin_all(group, Path(folder), options) for group in groups]
        for work in (one for group in works for one in group):
            work.may_write = checks[work.folder.name]
        by_folder = {work.folder.name: work for group in works for work in group}
        in_order = [by_folder[experiment.folder_name] for experiment in experiments]
        yield [work.history() for work in in_order]
        before = _events(in_order)
        for _ in _in_step([_steps_of(group) for group in works]):
            if (now := _events(in_order)) != before:
                before = now
                yield [work.history() for work in in_order]


def _events(works: Sequence[Work]) -> list[tuple[int, int]]:
    """Count the evaluations and rewirings of each run."""
    return [(work.done // work.steps_per_epoch, len(work.journal)) for work in works]


def _steps_of(works: Sequence[Work]) -> Iterator[int]:
    """Train the members of a population, or the only one of a group by itself, and yield after each step."""
    return _steps_alone(works[0]) if len(works) == 1 else steps_of_all(works)


def _steps_alone(work: Work) -> Iterator[int]:
    work.model.train()
    steps = work.steps()
    draws = drawing(work.experiment, work.model, work.draws)
    while work.done < work.end:
        with draws:  # entered for each step, because other networks are trained between two of them
            next(steps)
        yield 1


def _in_step(trainings: Sequence[Iterator[int]]) -> Iterator[None]:
    """Let each training take a step in turn, until all are done. Raise the first failure then."""
    failures: list[FloatingPointError] = []
    left = list(trainings)
    while left:
        for training in list(left):
            try:
                next(training)
            except StopIteration:
                left.remove(training)
            except FloatingPointError as error:
                failures.append(error)
                left.remove(training)
        yield
    if failures:
        raise failures[0]
