"""Collect cheap tickets in one run, which stops for a moment where the learning rate is lowest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparsekit import datasets
from sparsekit.experiments import Experiment, fork, load_model
from sparsekit.experiments.experiment import DEFAULTS
from sparsekit.experiments.moments import TICKETS
from sparsekit.experiments.options import RunOptions
from sparsekit.experiments.record import steps_done
from sparsekit.experiments.run import run_with
from sparsekit.experiments.sup_tickets.base import SupTickets, SupTicketsHistory
from sparsekit.rules.base import Rule
from sparsekit.rules.cycles import Cycles
from sparsekit.rules.static import Static
from sparsekit.schedules import Joined, Piecewise, Schedule, Triangular
from sparsekit.tickets import TicketBook
from sparsekit.train import History
from sparsekit.tricks import GhostTrick

Train = Callable[[Sequence[Experiment], int | None], list[History]]


def run_sup_tickets(
    sup: SupTickets,
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    checkpoint_steps: int | None = None,
) -> SupTicketsHistory:
    """Train, and take a ticket before the first cycle and at the end of each.

    It is one ordinary run below `folder`, with the tickets in a folder `tickets` inside. Training always continues from
    the network itself, and no average is ever put back into it. What comes before the cycles is a run of its own, from
    which collections with other cycles are forked, so it is trained once (see `ordinary_part`).

    Args:
        sup: what to do.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each part of the training.
        checkpoint_seconds: save at least so often.
        checkpoint_steps: save every so many steps as well.

    Raises:
        TypeError: if it is no collection.
        ValueError: if settings do not fit each other or the data, or if the run has gone past a ticket that is missing.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> sup = SupTickets(experiment=digits_mlp(rule="rigl"), cycle_rate=0.2, cycle_epochs=4)
        >>> collected = run_sup_tickets(sup, "runs")  # doctest: +SKIP
        >>> collected.superposed().count  # doctest: +SKIP
    """
    planned = Planned.of(sup, Path(folder), root)
    options = RunOptions(
        root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, checkpoint_steps=checkpoint_steps
    )

    def train(experiments: Sequence[Experiment], until: int | None) -> list[History]:
        return [run_with(replace(options, until=until), experiment, folder) for experiment in experiments]

    return collect_all([planned], train, root)[0]


@dataclass(frozen=True)
class Planned:
    """What a collection trains, where it is kept, and after which steps tickets are taken."""

    sup: SupTickets
    experiment: Experiment
    ends: list[int]
    ordinary: Experiment | None
    folder: Path
    book: TicketBook

    @classmethod
    def of(cls, sup: SupTickets, folder: Path, root: str | Path | None) -> "Planned":
        """Plan a collection below `folder`.

        Raises:
            TypeError: if it is no collection.
            ValueError: as `plan`.
        """
        if not isinstance(sup, SupTickets):
            raise TypeError(f"this takes SupTickets, got {type(sup).__name__}. Use SupTickets(experiment=...)")
        data = datasets.load(sup.experiment.data, root=root, **sup.experiment.data_settings)
        experiment, ends = plan(sup, len(data.train))
        run_folder, ordinary = folder / experiment.folder_name, ordinary_part(sup, len(data.train))
        return cls(sup, experiment, ends, ordinary, run_folder, TicketBook(run_folder / TICKETS))

    @property
    def has_begun(self) -> bool:
        """Whether its run has a checkpoint to continue from."""
        return (self.folder / "checkpoint.pt").exists()

    def is_due_at(self, end: int) -> bool:
        """Whether a ticket is still to be taken there. The last end is always due, because it gives the history."""
        return end in self.ends and (end not in self.book.steps or end == self.ends[-1])


def collect_all(plans: Sequence[Planned], train: Train, root: str | Path | None) -> list[SupTicketsHistory]:
    """Begin collections where their ordinary parts end, and stop them for every ticket.

    Args:
        plans: what to do.
        train: carries out experiments up to a step, or to their end for None.
        root: the data folder, as in `datasets.load`.
    """
    if new := [(one, one.ordinary) for one in plans if one.ordinary and not one.has_begun]:
        for (one, _), common in zip(new, train([ordinary for _, ordinary in new], None), strict=True):
            assert common.folder is not None
            fork(common.folder, one.experiment, one.folder.parent, step=one.ends[0], root=root)
    histories: dict[str, History] = {}
    for end in sorted({end for one in plans for end in one.ends}):
        due = [one for one in plans if one.is_due_at(end)]
        for one in due:
            _check_not_past(one.folder, end, one.book)
        for one, history in zip(due, train([one.experiment for one in due], end) if due else (), strict=True):
            _collect(one.book, end, one.folder, history, root)
            histories[one.folder.name] = history
    return [SupTicketsHistory(sup=one.sup, history=histories[one.folder.name], book=one.book) for one in plans]


def plan(sup: SupTickets, num_train: int) -> tuple[Experiment, list[int]]:
    """Return the experiment that collects the tickets, and after which steps they are taken.

    Args:
        sup: what to do.
        num_train: number of training examples.

    Raises:
        ValueError: if the rule changes the density in the cycles, or should continue there but has stopped. Also if the
            learning rates do not fit each other, ghosts would be in a ticket, or a ticket would not be tested.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> sup = SupTickets(experiment=digits_mlp(epochs=60), cycle_rate=0.2, cycle_epochs=4)
        >>> experiment, ends = plan(sup, 1197)
        >>> ends, [round(experiment.learning_rate(step), 4) for step in (0, 456, 684, 912, 950, 988)]
        ([912, 988, 1064, 1140], [0.1, 0.01, 0.001, 0.001, 0.005, 0.001])
    """
    steps = datasets.count_batches(num_train, sup.experiment.batch_size)
    after, length = sup.split.pretraining * steps, sup.cycle_epochs * steps
    ordinary = _ordinary_rate(sup, steps)
    rule, rate = sup.experiment.rule, ordinary
    if sup.split.cycles:
        low, high = _ends_of_cycle(sup, ordinary(after - 1))
        rate = Joined(ordinary, at=after, then=Triangular(low, high, cycle=length))
        rule = _cycling(sup, after, length)
    changed = {"rule": rule, "learning_rate": rate, "test_last": _tested_epochs(sup)}
    experiment = replace(sup.experiment, recipe=f"{sup.experiment.recipe}-sup", **changed)
    _check_no_ghosts(experiment, after, steps)
    return experiment, [after + cycle * length for cycle in range(sup.split.cycles + 1)]


def ordinary_part(sup: SupTickets, num_train: int) -> Experiment | None:
    """Return what a collection does before its cycles, as an experiment that it shares with other collections.

    It is the same for any cycles (`low`, `high`, `explore`, `freeze`, and their number and length), and ends where the
    first one begins. A collection has none, and trains everything itself, if it has no cycles, or if its rule or a
    trick would outlive this part.

    Args:
        sup: what to do.
        num_train: number of training examples.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> sup = SupTickets(experiment=digits_mlp(epochs=60), cycle_rate=0.2, cycle_epochs=4)
        >>> part = ordinary_part(sup, 1197)
        >>> part.recipe, part.epochs, part == ordinary_part(replace(sup, explore=0.0), 1197)
        ('digits-mlp-ordinary', 48, True)
    """
    experiment, steps = sup.experiment, datasets.count_batches(num_train, sup.experiment.batch_size)
    end, tricks = sup.split.pretraining * steps, sup.experiment.tricks_over(sup.experiment.epochs * steps)
    stops = [getattr(part, "stop", None) or 0 for part in (experiment.rule, *tricks)]
    if not sup.split.cycles or max(*stops, experiment.first_step + 1) > end:
        return None
    return replace(
        experiment,
        recipe=f"{experiment.recipe}-ordinary",
        epochs=sup.split.pretraining,
        learning_rate=_ordinary_rate(sup, steps),
        tricks=tricks,
        test_last=(_tested_epochs(sup) or 0) - sup.split.cycles * sup.cycle_epochs,
    )


def _tested_epochs(sup: SupTickets) -> int | None:
    """Return how many of the last epochs are tested, which are those from ticket 0 on unless somebody wants more."""
    needed, said = sup.split.cycles * sup.cycle_epochs + 1, sup.experiment.test_last
    if said is not None and said < needed and sup.split.cycles:
        raise ValueError(
            f"test_last must be {needed} at least, so that every ticket is tested, got {said}. Raise it or leave it out"
        )
    return said or (needed if sup.split.cycles else None)


def _cycling(sup: SupTickets, after: int, length: int) -> Rule:
    base = sup.experiment.rule
    if isinstance(base, Static):
        return base
    stop = getattr(base, "stop", None)
    if not sup.freeze and stop is not None and stop <= after:
        raise ValueError(
            f"with freeze=False the rule must continue in the cycles, after step {after}, got stop={stop}. Make it "
            "with stop=None and a constant drop_fraction, such as Constant(0.3), or leave freeze out"
        )
    return Cycles(base=base, after=after, length=length, explore=sup.explore, freeze=sup.freeze)


def _check_no_ghosts(experiment: Experiment, first: int, steps: int) -> None:
    """Check that a ticket is an ordinary network. With ghosts it would later be measured without what was trained."""
    for trick in experiment.tricks_over(experiment.epochs * steps):
        if isinstance(trick, GhostTrick) and trick.end > first:
            raise ValueError(
                f"{type(trick).__name__} must be gone when the first ticket is taken, at step {first}, got "
                f"stop={trick.end}. Give it an earlier stop, or a smaller cycle_rate"
            )


def _ordinary_rate(sup: SupTickets, steps: int) -> Schedule:
    """Return the learning rate before the cycles. By default it takes the authors' two steps down."""
    epochs = sup.split.pretraining
    if sup.experiment.learning_rate is not None:
        return sup.experiment.learning_rate.lasting(epochs * steps)
    default, _ = DEFAULTS.get(sup.experiment.optimizer, (1e-3, {}))
    return Piecewise(default, (epochs * 2 // 4 * steps, epochs * 3 // 4 * steps), 0.1)


def _ends_of_cycle(sup: SupTickets, last: float) -> tuple[float, float]:
    low = last if sup.low is None else sup.low
    high = 5 * low if sup.high is None else sup.high  # 0.005 against 0.001 in the authors' commands
    if not 0 < low < high:
        raise ValueError(
            f"the learning rate of a cycle must rise from above 0, got {low} to {high}. Give low and high, or leave "
            "the experiment's learning rate to be chosen"
        )
    return low, high


def _check_not_past(folder: Path, end: int, book: TicketBook) -> None:
    done = steps_done(folder)
    if done > end and end not in book.steps:
        raise ValueError(
            f"a run must stop for its ticket at step {end}, got {folder} at step {done} without it. Delete the folder "
            "to collect anew"
        )


def _collect(book: TicketBook, step: int, folder: Path, history: History, root: str | Path | None) -> None:
    """Take the ticket of a step, if it is not there yet.

    Another process may continue the run as soon as this one releases it, but it takes the ticket first.
    """
    if step in book.steps:
        return
    model = load_model(folder, root=root)
    if steps_done(folder) == step:  # We look after loading, so what was loaded is no later.
        book.add(model, step=step, accuracy=_accuracy_after(history, step))
    else:
        _check_not_past(folder, step, book)


def _accuracy_after(history: History, step: int) -> float:
    accuracies = [row.value for row in history.rows if row.name == "test accuracy" and row.step == step - 1]
    return accuracies[-1]
