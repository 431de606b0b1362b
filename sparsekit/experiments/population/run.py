"""`run_population` carries out several experiments as one training. Each has a run folder as `run` would leave it."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.feed import check_fits, check_steps, data_of, total_steps
from sparsekit.experiments.options import RunOptions
from sparsekit.experiments.population.feed import batches_of_all
from sparsekit.experiments.population.fitting import check_population, populations_of
from sparsekit.experiments.population.training import Member, Outcome, Population
from sparsekit.experiments.run import run_with
from sparsekit.experiments.work import Work, having_turn
from sparsekit.train.history import History, rows_of_epoch
from sparsekit.utils.seeds import generator, seeded_rng

EVALUATED_AT_ONCE = 250  # examples, so that activations of a dozen members stay in the cache


def run_population(
    experiments: Sequence[Experiment],
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    until: int | None = None,
) -> list[History]:
    """Train several experiments at once, as members of one wide network whose topology is block-diagonal.

    A step of the wide network is a step of every member, so what a step costs beside arithmetic is paid once. Seeds,
    densities, rules and beginnings may differ. A member draws what it would draw alone, and its numbers are those of
    `run` up to rounding. They do not depend on who else is in the population.

    Each member has a run folder of its own below `folder`, as `run` would leave it. So a run that was begun here may be
    continued alone, and the other way round. Finished runs are read. Members that are behind the others are trained
    first until they meet.

    Args:
        experiments: who is trained. One that is named twice is trained once.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar.
        checkpoint_seconds: save all members at least as often as this.
        until: stop after this many steps for now. Another call continues.

    Returns:
        The histories, in the order of the experiments.

    Raises:
        TypeError: if one is no experiment.
        ValueError: if there is none, they do not fit each other, or one cannot be in a population (see `why_alone`).
        FloatingPointError: if the loss of a member is not finite. The others have been trained to the end then, and
            the member's last checkpoint stays.
        CheckpointError: if a folder's checkpoint is damaged or its record lags behind. Nothing is touched.
        OSError: if there is no space, which the message says. The last checkpoints stay.

    Example:
        >>> from sparsekit.experiments.recipes import mnist1d_mlp
        >>> seeds = [mnist1d_mlp(rule="rigl", seed=seed) for seed in range(12)]
        >>> histories = run_population(seeds, "runs")  # doctest: +SKIP
    """
    check_population(experiments)
    check_steps(until=until)
    by_folder = {experiment.folder_name: experiment for experiment in experiments}
    with ExitStack() as turns:
        checks = {  # all processes take them in one order, so that no two wait for each other
            name: turns.enter_context(having_turn(Path(folder) / name, tell=progress)) for name in sorted(by_folder)
        }
        options = RunOptions(
            root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, until=until, device="cpu"
        )
        works = begin_all(by_folder.values(), Path(folder), options)
        for work in works:
            work.may_write = checks[work.folder.name]
        _train(works, options)
    histories = {work.folder.name: work.history() for work in works}
    return [histories[experiment.folder_name] for experiment in experiments]


def begin_all(experiments: Iterable[Experiment], folder: Path, options: RunOptions) -> list[Work]:
    """Check everything first, so that a bad setting leaves no folder behind. Then create or resume all runs."""
    experiments = list(experiments)
    data = data_of(experiments[0], options.root)
    for experiment in experiments:
        check_fits(experiment, data)
    works = []
    for experiment in experiments:
        with seeded_rng(generator(experiment.seed, "before training")):
            works.append(Work.begin(experiment, folder / experiment.folder_name, data, options))
    return works


def _train(works: Sequence[Work], options: RunOptions) -> None:
    """Train all to their end, and show a bar."""
    steps = sum(work.end - work.done for work in works)
    with tqdm(total=steps, desc=f"{len(works)} runs", disable=not options.progress, unit="step") as bar:
        for count in steps_of_all(works):
            bar.update(count)


def steps_of_all(works: Sequence[Work]) -> Iterator[int]:
    """Train always those that are furthest behind, until they meet the next ones. Yield how many took each step.

    Raises:
        FloatingPointError: at the end, if the loss of one was not finite.
    """
    failures: dict[str, FloatingPointError] = {}
    while unfinished := [work for work in works if work.done < work.end and work.folder.name not in failures]:
        step = min(work.done for work in unfinished)
        behind = [work for work in unfinished if work.done == step]
        stop = min([work.done for work in unfinished if work.done > step], default=behind[0].end)
        failures |= yield from _train_together(behind, stop)
    if failures:
        name, error = next(iter(failures.items()))
        raise FloatingPointError(
            f"{len(failures)} of {len(works)} members failed ({', '.join(failures)}), and the others are trained and "
            f"saved. {name}: {error}"
        ) from error


def _train_together(works: Sequence[Work], stop: int) -> Generator[int, None, dict[str, FloatingPointError]]:
    """Train members that have done equally many steps, to a step or until some fail. Return these by folder."""
    members = [Member(work.model, work.optimizer, work.experiment.rule, work.experiment.seed) for work in works]
    experiment, data = works[0].experiment, works[0].data
    population, saved_at = Population.of(members), time.monotonic()
    rate = experiment.learning_rate_over(total_steps(experiment, data))
    failures: dict[str, FloatingPointError] = {}
    for step, epoch, (inputs, labels) in _batches(works, stop):
        outcomes = population.step(inputs, labels, step, rate(step), label_smoothing=experiment.label_smoothing)
        failures = _record(works, outcomes, step, epoch)
        if (step + 1) % works[0].steps_per_epoch == 0 and experiment.is_tested_after(epoch):
            _evaluate(population, works, step, epoch)
        if failures or step + 1 == stop or time.monotonic() - saved_at > works[0].options.checkpoint_seconds:
            population.scatter()
            for work in works:
                if work.folder.name not in failures:
                    work.save()
            saved_at = time.monotonic()
        yield len(works)
        if failures:
            break
    return failures


def _batches(works: Sequence[Work], stop: int) -> Iterator[tuple[int, int, tuple[Tensor, Tensor]]]:
    """Yield step, epoch and batch from the members' present step on."""
    first, step = works[0], works[0].done
    assert isinstance(first.data, datasets.Dataset)  # other data are somebody's own, and those are trained alone
    seeds = [work.experiment.seed for work in works]
    while step < stop:
        epoch, skip = divmod(step, first.steps_per_epoch)
        for batch in batches_of_all(first.data, first.experiment.batch_size, seeds=seeds, epoch=epoch, skip=skip):
            if step < stop:
                yield step, epoch, batch
            step += 1


def _record(works: Sequence[Work], outcomes: Sequence[Outcome], step: int, epoch: int) -> dict[str, FloatingPointError]:
    """Keep what a step gave each member, and return the errors of those that failed."""
    failures = {}
    for work, outcome in zip(works, outcomes, strict=True):
        if isinstance(outcome, FloatingPointError):
            failures[work.folder.name] = outcome
        else:
            work.record(step, epoch, *outcome)
    return failures


def _evaluate(population: Population, works: Sequence[Work], step: int, epoch: int) -> None:
    population.scatter_densities()
    for work, evaluation in zip(works, population.evaluate(works[0].test_batches(EVALUATED_AT_ONCE)), strict=True):
        work.rows += rows_of_epoch(step, epoch, evaluation, work.model)


def run_all(
    experiments: Sequence[Experiment],
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    until: int | None = None,
) -> list[History]:
    """Carry out experiments, those that fit each other as populations and the others by `run`, one after the other.

    On one core twelve seeds of `mnist1d-mlp` train about five times as fast as one by one. See
    `run_population` for what a population is, and `why_alone` for who cannot be in one.

    Args:
        experiments: what to do. One that is named twice is trained once.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each training.
        checkpoint_seconds: save at least as often as this.
        until: stop after this many steps for now. Another call continues.

    Returns:
        The histories, in the order of the experiments.

    Raises:
        TypeError: if one is no experiment.
        ValueError: if there is none, or a setting does not fit the data.
        FloatingPointError: if the loss of one is not finite. The population that it was in is trained then.
    """
    histories: dict[str, History] = {}
    for group in populations_of(experiments):
        if len(group) > 1:
            results = run_population(
                group, folder, root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, until=until
            )
        else:
            options = RunOptions(root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, until=until)
            results = [run_with(options, group[0], folder)]
        histories |= {experiment.folder_name: history for experiment, history in zip(group, results, strict=True)}
    return [histories[experiment.folder_name] for experiment in experiments]
