"""What `sparsekit sup-tickets` does for each seed, and what it prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sparsekit.cli.output import print_table
from sparsekit.cli.sweep import workers_or_none

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from sparsekit.datasets import Dataset
    from sparsekit.experiments.sup_tickets import SupTickets, SupTicketsHistory
    from sparsekit.tickets import Ticket

STRANGERS = 4  # networks of different seeds that a control averages


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where runs and data are, whether a bar is shown, and how many processes share the trainings."""

    folder: Path
    root: Path | None
    progress: bool
    workers: int = 1


def collect_and_show(sup: "SupTickets", seeds: int, with_controls: bool, context: Context) -> None:
    """Collect tickets for each seed, superpose them, and print what that is worth.

    Args:
        sup: the collection of the first seed.
        seeds: how many seeds, of which the others follow.
        with_controls: also collect without exploration, and for the first seed tickets of other seeds.
        context: where runs and data are.
    """
    show_plan(sup, context)
    first, tables = sup.experiment.seed, []
    collections = [replace(sup, experiment=replace(sup.experiment, seed=seed)) for seed in range(first, first + seeds)]
    _train_at_once(collections, with_controls, context)
    for number, one in enumerate(collections):
        table = _show_seed(one, with_controls, STRANGERS if number == 0 else 0, context, in_short=seeds > 1)
        if table is not None:
            tables.append(table)
    if sup.split.cycles:
        show_gains(tables)


def _train_at_once(collections: "Sequence[SupTickets]", with_controls: bool, context: Context) -> None:
    """Train all seeds, and their arms without exploration, so that each is only read afterwards.

    Several workers train about as many seeds each, and the seeds of other networks that a control averages as well.
    """
    from sparsekit.experiments.sup_tickets import run_all_sup_tickets
    from sparsekit.experiments.sup_tickets.controls import explores, other_seeds
    from sparsekit.experiments.sweeps import in_order

    strangers = other_seeds(collections[0], STRANGERS) if with_controls and context.workers > 1 else []
    trainings = [*collections, *(one for one in strangers if one not in collections)]
    still = [one for one in collections if with_controls and explores(one)]
    shares = [
        [*share, *(replace(one, explore=0.0) for one in share if one in still)]
        for first in range(context.workers)
        if (share := trainings[first :: context.workers])
    ]
    if len(shares) == 1 and len(shares[0]) == 1:
        return
    bar = context.progress and context.workers == 1
    train = partial(run_all_sup_tickets, folder=context.folder, root=context.root, progress=bar)
    with workers_or_none(context.workers) as client:
        for _ in in_order(train, shares, client):
            pass


def show_plan(sup: "SupTickets", context: Context) -> None:
    """Print the folder of the tickets, how the epochs are divided, and the learning rates."""
    from sparsekit import datasets
    from sparsekit.experiments.sup_tickets import plan
    from sparsekit.experiments.sup_tickets.collect import TICKETS

    data = datasets.load(sup.experiment.data, root=context.root, **sup.experiment.data_settings)
    experiment, ends = plan(sup, len(data.train))
    typer.echo(f"{context.folder / experiment.folder_name / TICKETS}")
    split, rate = sup.split, experiment.learning_rate_over(ends[-1])
    cycles = f"{split.cycles} x {sup.cycle_epochs} in cycles"
    typer.echo(f"{sup.experiment.epochs} epochs: {split.pretraining} ordinary ({ends[0]:,} steps) + {cycles}")
    typer.echo(f"learning rate of the ordinary part: {rate(0):g}, at its end {rate(ends[0] - 1):g}")
    if split.cycles:
        length = ends[1] - ends[0]
        low, high = rate(ends[0]), max(rate(ends[0] + step) for step in range(length))
        typer.echo(f"learning rate of a cycle ({length:,} steps): {low:.2g} to {high:.2g} and back")
    else:
        typer.echo("warning: there is no cycle, so ticket 0 is the only one. Raise --cycle-rate or --epochs")


def _show_seed(
    sup: "SupTickets", with_controls: bool, strangers: int, context: Context, *, in_short: bool
) -> "pd.DataFrame | None":
    """Collect and measure one seed. The table is returned unless it has a ticket at chance level."""
    from sparsekit.experiments.sup_tickets import run_controls, run_sup_tickets

    history = run_sup_tickets(sup, context.folder, root=context.root, progress=context.progress)
    controls = None
    if with_controls:
        controls = run_controls(sup, context.folder, strangers=strangers, root=context.root, progress=context.progress)
    return show_superpositions(history, context.root, controls, in_short=in_short)


def show_superpositions(
    collection: "SupTicketsHistory",
    root: Path | None,
    controls: "Mapping[str, Sequence[Ticket]] | None" = None,
    *,
    in_short: bool = False,
) -> "pd.DataFrame | None":
    """Print what tickets, superpositions and controls achieve. Write the superposition into the run's folder.

    Args:
        collection: the tickets.
        root: the data folder.
        controls: further tickets by name.
        in_short: a line instead of a table.

    Returns:
        The table of `superpositions`, or None where a ticket is at chance level. Then nothing is written.
    """
    from sparsekit import datasets
    from sparsekit.experiments import load_model
    from sparsekit.experiments.sup_tickets import superpositions

    assert collection.history.folder is not None
    experiment = collection.sup.experiment
    data = datasets.load(experiment.data, root=root, **experiment.data_settings)
    model = load_model(collection.history.folder, root=root)
    table = superpositions(collection.tickets, model, data, controls=controls)
    at_chance = _at_chance(table, data.num_classes)
    _print_line(table, experiment.seed) if in_short else _print_superpositions(table, at_chance)
    _warn_of_growth(collection)
    if at_chance:
        typer.echo(
            f"warning: seed {experiment.seed} is at chance level ({', '.join(at_chance)}), so these are no tickets and "
            "nothing is superposed. Raise --epochs or --density, or choose another learning rate"
        )
        return None
    path = collection.history.folder / "superposed.safetensors"
    _write(collection.superposed(), model, data, float(table.at["superposed", "accuracy"]), path)
    return table


def _at_chance(table: "pd.DataFrame", num_classes: int) -> list[str]:
    """Return the names of the tickets that have not learned."""
    from sparsekit.experiments.sup_tickets import has_learned

    rows = zip(table.index, table["accuracy"].tolist(), table["loss"].tolist(), strict=True)
    tickets = [(str(name), accuracy, loss) for name, accuracy, loss in rows if str(name).startswith("ticket ")]
    return [name for name, accuracy, loss in tickets if not has_learned(accuracy, loss, num_classes)]


def _print_superpositions(table: "pd.DataFrame", at_chance: Sequence[str]) -> None:
    rows = [
        (
            f"{name}, at chance level" if name in at_chance else str(name),
            f"{row['accuracy']:.4f}",
            f"{row['loss']:.4f}",
            f"{row['connections']:,.0f}",
        )
        for name, row in table.iterrows()
    ]
    print_table(["network", "test accuracy", "test loss", "connections"], rows)


def _print_line(table: "pd.DataFrame", seed: int) -> None:
    from sparsekit.experiments.sup_tickets import rivals_of

    rivals = "  ".join(f"{name} {100 * accuracy:.2f}" for name, accuracy in rivals_of(table).items())
    typer.echo(f"seed {seed:<3} superposed {100 * table.at['superposed', 'accuracy']:.2f} %  {rivals}")


def _warn_of_growth(collection: "SupTicketsHistory") -> None:
    """Print how large new connections have become, with a warning where a superposition has nothing to gain."""
    from sparsekit.experiments.sup_tickets import grown_magnitudes

    grown = grown_magnitudes(collection.tickets)
    if not len(grown.new):
        return
    typer.echo(f"new connections: {len(grown.new):,}, median |w| {grown.ratio:.2f} of that of the kept ones")
    if not grown.have_grown:
        typer.echo(
            "warning: new connections have not grown, because their median |w| must be at least a third of that of the "
            "kept ones. Raise --low, --high or --cycle-epochs"
        )


def show_gains(tables: "Sequence[pd.DataFrame]") -> None:
    """Print by how much superpositions beat their rivals, with a verdict for each. One seed decides nothing.

    Args:
        tables: of the seeds that have learned, as `superpositions` returns them.
    """
    from sparsekit.experiments.sup_tickets import assess_superposition, rivals_of

    if len(tables) > 1:
        typer.echo("\n".join(map(str, assess_superposition(tables))))
    for table in tables if len(tables) == 1 else ():
        for rival, accuracy in rivals_of(table).items():
            gain = 100 * (table.at["superposed", "accuracy"] - accuracy)
            typer.echo(f"undecided: the superposition beats {rival} ({gain:+.2f} points, but one seed decides nothing)")


def _write(ticket: "Ticket", model: "nn.Module", data: "Dataset", accuracy: float, path: Path) -> None:
    """Write a ticket with fresh batch-norm statistics, with which its accuracy was measured."""
    from sparsekit.datasets import batches_in_order
    from sparsekit.evaluation.measuring import refresh_batch_norm
    from sparsekit.experiments.sup_tickets.report import BATCH
    from sparsekit.tickets import write_ticket

    network = ticket.model_like(model)
    refresh_batch_norm(network, ((data.prepare(x), y) for x, y in batches_in_order(data.train, BATCH)))
    write_ticket(type(ticket).of(network, step=ticket.step, accuracy=accuracy), path)
    typer.echo(f"wrote {path}")
