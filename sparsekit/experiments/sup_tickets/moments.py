"""Networks within the cycles of a collection, so that one sees new connections grow between two tickets."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from sparsekit.experiments import Experiment, fork, run
from sparsekit.experiments.moments import TICKETS, take_moments
from sparsekit.experiments.sup_tickets.base import SupTickets
from sparsekit.experiments.sup_tickets.collect import Planned
from sparsekit.tickets import Ticket, TicketBook
from sparsekit.utils.checks import check_integer


def cycle_moments(
    sup: SupTickets,
    folder: str | Path = "runs",
    *,
    per_cycle: int = 8,
    root: str | Path | None = None,
    progress: bool = True,
) -> list[Ticket]:
    """Train the cycles of a collection once more, and take the network at evenly spaced steps of each.

    The cycles are a run of their own that begins where the ordinary part ends, so only they cost time. They do the same
    as the collection bit for bit, and the last moment of each cycle is its ticket.

    Args:
        sup: the collection.
        folder: where runs are kept.
        per_cycle: moments of a cycle, the last of which is where its ticket is taken.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each part of the training.

    Returns:
        The networks as tickets, of which the first is ticket 0.

    Raises:
        TypeError: if it is no collection, or `per_cycle` no integer.
        ValueError: as `run_sup_tickets`, or if a cycle has fewer steps than moments.

    Example:
        >>> from sparsekit.experiments.sup_tickets import sup_tickets_of
        >>> moments = cycle_moments(sup_tickets_of("mnist1d-mlp"), "runs")  # doctest: +SKIP
    """
    check_integer("per_cycle", per_cycle, least=1)
    planned, folder = Planned.of(sup, Path(folder), root), Path(folder)
    steps = _steps_of(planned.ends, per_cycle)
    experiment = replace(planned.experiment, recipe=f"{planned.experiment.recipe}-moments")
    book = TicketBook(folder / experiment.folder_name / TICKETS)
    if set(steps) - set(book.steps):
        _begin(planned, experiment, folder, root=root, progress=progress)
        book = take_moments(experiment, folder, steps, root=root, progress=progress)
    return [book.at(step) for step in steps]


def _begin(planned: Planned, experiment: Experiment, folder: Path, *, root: str | Path | None, progress: bool) -> None:
    """Begin the run where the ordinary part ends, unless it has begun already."""
    if planned.ordinary is not None and not (folder / experiment.folder_name / "checkpoint.pt").exists():
        common = run(planned.ordinary, folder, root=root, progress=progress)
        assert common.folder is not None
        fork(common.folder, experiment, folder, step=planned.ends[0], root=root)


def _steps_of(ends: list[int], per_cycle: int) -> list[int]:
    """Return the steps of all moments, the first of which is that of ticket 0."""
    steps = [ends[0]]
    for start, end in pairwise(ends):
        if end - start < per_cycle:
            raise ValueError(f"a cycle must have at least {per_cycle} steps, got {end - start}. Choose fewer moments")
        steps += [start + (end - start) * moment // per_cycle for moment in range(1, per_cycle + 1)]
    return steps
