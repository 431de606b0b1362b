"""Collect the cheap tickets of several trainings at once, for example of ten seeds."""

from collections.abc import Sequence
from pathlib import Path

from sparsekit.experiments import Experiment, run_all
from sparsekit.experiments.sup_tickets.base import SupTickets, SupTicketsHistory
from sparsekit.experiments.sup_tickets.collect import Planned, collect_all
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
    folder = Path(folder)

    def train(experiments: Sequence[Experiment], until: int | None) -> list[History]:
        return run_all(
            experiments, folder, root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, until=until
        )

    return collect_all([Planned.of(sup, folder, root) for sup in sups], train, root)
