"""Soups over the levels of a lottery: a level trains several copies of its ticket, and the next prunes their average.

Copies that begin with the same values and the same connections end in one basin, so their average is a network. It has
their connections and no more, so it costs what one of them costs.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from sparsekit import datasets
from sparsekit.evaluation.measuring import Batch, refresh_batch_norm
from sparsekit.experiments import Experiment, load_model
from sparsekit.experiments.feed import steps_of_epoch
from sparsekit.experiments.lottery.base import Lottery
from sparsekit.experiments.lottery.levels import LotteryRuns, sparse_with_values
from sparsekit.experiments.moments import take_moments
from sparsekit.experiments.options import RunOptions
from sparsekit.tickets import Ticket, greedy_soup, superpose
from sparsekit.utils.checks import check_integer
from sparsekit.utils.seeds import derive

SIZE = 1000  # training examples at once, with which batch norm is refreshed


class Soup(NamedTuple):
    """One level of soups.

    Args:
        start: the ticket that every copy began with.
        copies: the trained copies, or the average over the last epochs of each.
        ticket: the average of the copies, with fresh batch-norm statistics.
    """

    start: Ticket
    copies: list[Ticket]
    ticket: Ticket


def run_soups(
    lottery: Lottery,
    folder: str | Path = "runs",
    *,
    copies: int = 3,
    last: int = 1,
    measure: Callable[[Ticket], float] | None = None,
    root: str | Path | None = None,
    progress: bool = True,
) -> list[Soup]:
    """Train several copies of each level's ticket, average them, and let the next level prune the average.

    The copies of a level have the same connections and begin with the same values. Their seeds differ, and with these
    the order of the data. The paper of sparse soups varies weight decay and learning rate as well, which we do not. The
    first copy has the lottery's own seed, so with one copy this is the lottery itself.

    - Sparse model soups continue from the average, so give a lottery with `rewind="finetune"` or `"rate"`.
    - SWAMP rewinds and averages along each training too, so give one with `rewind="weights"` and a `last` above 1. Such
      copies stay in one basin only if `rewind_step` is late enough.

    Every copy is a run, so a finished one is read.

    Args:
        lottery: the levels.
        folder: where runs are kept.
        copies: networks to average at each level.
        last: how many of the last epochs of each copy are averaged at their ends. 1 takes the trained copy.
        measure: `ticket -> number`, higher is better. With one the average is greedy, so it takes in a copy only if
            this is no worse. Measure on held-out examples, as with `tickets.accuracy_on`, and never on the test data.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each training.

    Returns:
        What each level from 1 on has trained and made.

    Raises:
        TypeError: if it is no lottery, or a count is no integer.
        ValueError: as `run_lottery`, or if a count is too small or `last` is more than a level has epochs.

    Source: Zimmer et al. (2024), Sparse Model Soups, arXiv:2306.16788, and Choi et al. (2023), SWAMP, arXiv:2305.14852.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> dense = digits_mlp(rule="dense", epochs=30)
        >>> lottery = Lottery(experiment=dense, levels=3, prune=0.5, rewind="finetune", finetune_rate=0.01)
        >>> soups = run_soups(lottery, "runs", copies=3)  # doctest: +SKIP
        >>> soups[-1].ticket.density  # doctest: +SKIP
        0.125
    """
    check_integer("copies", copies, least=1)
    runs = LotteryRuns.of(lottery, folder, RunOptions(root=root, progress=progress))
    _check_last(runs, check_integer("last", last, least=1))
    dense = runs.train(lottery.experiment)
    assert dense.folder is not None
    before, soups = load_model(dense.folder, root=root), []
    for level in range(1, lottery.levels + 1):
        soup = _cooked(runs, level, before, copies, last, measure)
        before = soup.ticket.model_like(before)
        soups.append(soup)
    return soups


def _cooked(
    runs: LotteryRuns,
    level: int,
    before: nn.Module,
    copies: int,
    last: int,
    measure: Callable[[Ticket], float] | None,
) -> Soup:
    """Train the copies of one level and average them."""
    begun = runs.ticket_of(level, before)
    experiment = runs.experiment_of(f"level-{level}", begun)
    trained = [_trained(runs, _copy(experiment, number, last), last) for number in range(copies)]
    ticket = superpose(trained) if measure is None else greedy_soup(trained, measure).ticket
    model = ticket.model_like(before)
    refresh_batch_norm(model, _training_batches(runs.data))
    start = Ticket.of(sparse_with_values(begun), step=begun.step)
    return Soup(start, trained, Ticket.of(model, step=ticket.step))


def _copy(experiment: Experiment, number: int, last: int) -> Experiment:
    """Return the training of a copy. The first one that is not averaged is the level of the lottery itself."""
    seed = derive(experiment.seed, "copy", number) if number else experiment.seed
    suffix = f"-last-{last}" if last > 1 else ""  # which stops for its moments, so it is a run of its own
    return replace(experiment, seed=seed, recipe=f"{experiment.recipe}{suffix}")


def _trained(runs: LotteryRuns, experiment: Experiment, last: int) -> Ticket:
    """Train a copy, and return it or the average over the ends of its last epochs."""
    options, each = runs.options, steps_of_epoch(experiment, runs.data)
    end = each * experiment.epochs
    if last == 1:
        history = runs.train(experiment)
        assert history.folder is not None
        return Ticket.of(load_model(history.folder, root=options.root), step=end)
    steps = [end - each * number for number in reversed(range(last))]
    book = take_moments(experiment, runs.folder, steps, root=options.root, progress=options.progress)
    return superpose([book.at(step) for step in steps])


def _training_batches(data: datasets.Dataset) -> list[Batch]:
    return [(data.prepare(inputs), labels) for inputs, labels in datasets.batches_in_order(data.train, SIZE)]


def _check_last(runs: LotteryRuns, last: int) -> None:
    experiment = runs.lottery.experiment
    epochs = experiment.epochs - runs.lottery.rewind_step // steps_of_epoch(experiment, runs.data)
    if last > epochs:
        raise ValueError(f"last must be at most the {epochs} epochs that a level trains, got {last}. Lower it")
