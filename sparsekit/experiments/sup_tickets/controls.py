"""Controls for cheap tickets: the same cycles without new connections, and tickets of other seeds."""

from dataclasses import replace
from pathlib import Path

from sparsekit.experiments.sup_tickets.base import SupTickets
from sparsekit.experiments.sup_tickets.collect import run_sup_tickets
from sparsekit.rules.static import Static
from sparsekit.tickets import Ticket

STILL, STRANGERS = "no exploration", "other seeds"


def explores(sup: SupTickets) -> bool:
    """Whether a collection makes new connections in its cycles, so that there is something to leave out."""
    return not isinstance(sup.experiment.rule, Static) and sup.explore > 0


def other_seeds(sup: SupTickets, count: int) -> list[SupTickets]:
    """Return a collection and others of it, with the seeds that follow its own."""
    seeds = range(sup.experiment.seed, sup.experiment.seed + count)
    return [replace(sup, experiment=replace(sup.experiment, seed=seed)) for seed in seeds]


def run_controls(
    sup: SupTickets,
    folder: str | Path = "runs",
    *,
    strangers: int = 4,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    checkpoint_steps: int | None = None,
) -> dict[str, list[Ticket]]:
    """Collect the tickets that a superposition should be compared with.

    Each control is one more ordinary collection, which is read if it is there already. One has `explore=0`, and there
    is one for each of the seeds that follow that of `sup`.

    Args:
        sup: the collection that they are to be compared with.
        folder: where runs are kept.
        strangers: networks of different seeds, that of `sup` among them. 0 leaves them out.
        root, progress, checkpoint_seconds, checkpoint_steps: as for `run_sup_tickets`.

    Returns:
        Tickets by control. "no exploration" is plain averaging of weights along a sparse training, which says what new
        connections add. It is missing where the rule never makes any. "other seeds" are the last tickets of different
        seeds, whose average must fail because no path of low loss leads straight from one to the other.

    Raises:
        ValueError: as `run_sup_tickets`, or if there is one stranger, which would be the network itself.

    Source: the controls of Yin et al. (2022), arXiv:2205.15322. Plain averaging is that of Izmailov et al. (2018),
        arXiv:1803.05407.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> sup = SupTickets(experiment=digits_mlp(rule="rigl"), cycle_rate=0.2, cycle_epochs=4)
        >>> tickets = run_controls(sup, "runs")["other seeds"]  # doctest: +SKIP
    """
    if strangers < 0 or strangers == 1:
        raise ValueError(f"strangers must be 0 or at least 2, got {strangers}. Three cycles give 4 tickets")

    def collect(control: SupTickets) -> list[Ticket]:
        history = run_sup_tickets(
            control,
            folder,
            root=root,
            progress=progress,
            checkpoint_seconds=checkpoint_seconds,
            checkpoint_steps=checkpoint_steps,
        )
        return history.tickets

    controls = {}
    if explores(sup):
        controls[STILL] = collect(replace(sup, explore=0.0))
    if strangers:
        controls[STRANGERS] = [collect(other)[-1] for other in other_seeds(sup, strangers)]
    return controls
