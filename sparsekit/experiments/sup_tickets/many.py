"""Collect the cheap tickets of several trainings at once, for example of ten seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sparsekit import datasets
from sparsekit.experiments import Experiment, fork, run_all
from sparsekit.experiments.sup_tickets.base import SupTickets, SupTicketsHistory
from sparsekit.experiments.sup_tickets.collect import TICKETS, check_not_past, collect, ordinary_part, plan
from sparsekit.tickets import TicketBook
from sparsekit.train import History


def run_all_sup_tickets(
    sups: Sequence[SupTickets],
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
) -> list[SupTicketsHistory]:
    """Collect the tickets of several trainings, each as `run_sup_tickets` would.

    Trainings that fit each other are trained at once (see `run_all`), from ticket to ticket.

    Args:
        sups: what to do. One that is named twice is done once.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each part of the trainings.
        checkpoint_seconds: save at least so often.

    Returns:
        The collections, in the order given.

    Raises:
        TypeError: if one is no collection.
        ValueError: as `run_sup_tickets`, or if there is none.

    Example:
        >>> from sparsekit.experiments.sup_tickets import sup_tickets_of
        >>> ten = [sup_tickets_of("mnist1d-mlp", seed=seed) for seed in range(10)]
        >>> tickets = [one.superposed() for one in run_all_sup_tickets(ten, "runs")]  # doctest: +SKIP
    """
    if isinstance(sups, SupTickets):
        raise TypeError("collections must be a list of SupTickets, got one. Write [sup]")
    if not sups:
        raise ValueError("there must be at least one collection, got none. Use [sup_tickets_of(..., seed=0)]")
    plans = [_Plan.of(sup, Path(folder), root) for sup in sups]
    train = partial(run_all, folder=folder, root=root, progress=progress, checkpoint_seconds=checkpoint_seconds)
    if new := [(one, one.ordinary) for one in plans if one.ordinary and not one.has_begun]:
        for (one, _), common in zip(new, train([ordinary for _, ordinary in new]), strict=True):
            assert common.folder is not None
            fork(common.folder, one.experiment, folder, step=one.ends[0], root=root)
    histories: dict[str, History] = {}
    for end in sorted({end for one in plans for end in one.ends}):
        due = [one for one in plans if one.is_due_at(end)]
        for one in due:
            check_not_past(one.folder, end, one.book)
        for one, history in zip(due, train([one.experiment for one in due], until=end) if due else (), strict=True):
            collect(one.book, end, one.folder, history, root)
            histories[one.folder.name] = history
    return [SupTicketsHistory(sup=one.sup, history=histories[one.folder.name], book=one.book) for one in plans]


@dataclass(frozen=True)
class _Plan:
    """What a collection trains, where it is kept, and after which steps tickets are taken."""

    sup: SupTickets
    experiment: Experiment
    ends: list[int]
    ordinary: Experiment | None
    folder: Path
    book: TicketBook

    @classmethod
    def of(cls, sup: SupTickets, folder: Path, root: str | Path | None) -> "_Plan":
        if not isinstance(sup, SupTickets):
            raise TypeError(f"this takes SupTickets, got {type(sup).__name__}. Use SupTickets(experiment=...)")
        data = datasets.load(sup.experiment.data, root=root, **sup.experiment.data_settings)
        experiment, ends = plan(sup, len(data.train))
        run_folder = folder / experiment.folder_name
        return cls(
            sup, experiment, ends, ordinary_part(sup, len(data.train)), run_folder, TicketBook(run_folder / TICKETS)
        )

    @property
    def has_begun(self) -> bool:
        return (self.folder / "checkpoint.pt").exists()

    def is_due_at(self, end: int) -> bool:
        """Whether a ticket is still to be taken there. The last end is always due, because it gives the history."""
        return end in self.ends and (end not in self.book.steps or end == self.ends[-1])
