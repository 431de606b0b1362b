"""The command line: `sparsekit train`, `lottery`, `sup-tickets`, `list`, `show`, `compare`, `sweep` and others.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sparsekit.cli.bench import bench
from sparsekit.cli.claims import claims
from sparsekit.cli.compare import compare
from sparsekit.cli.course import PASSED_ON, course, open_
from sparsekit.cli.options import (
    Compiled,
    DataRoot,
    Device,
    Folder,
    Initialised,
    Mixed,
    OnDevice,
    Progress,
    Recipe,
    Rule,
    Seed,
    Settings,
    Storage,
    Stored,
    Tricks,
    Workers,
)
from sparsekit.cli.output import (
    print_table,
    show_history,
    show_lottery,
    show_tickets,
    write_film,
)
from sparsekit.cli.site import site
from sparsekit.cli.superpositions import Context, collect_and_show
from sparsekit.cli.sweep import sweep, workers_or_none
from sparsekit.cli.values import (
    autocast_of,
    experiment_of,
    init_of,
    pairs_of,
    place,
    plural,
    rule_settings_of,
    score_of,
    singular,
    tricks_of,
)
from sparsekit.cli.warm_up import warm_up
from sparsekit.utils.memory import keep_freed_memory
from sparsekit.utils.settings import check_thread_variables

app = typer.Typer(
    help="Train sparse neural networks and look at what their topologies did.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command(epilog="Example: [bold]sparsekit train digits-mlp --rule rigl --density 0.02 --seed 0[/bold]")
def train(
    recipe: Recipe,
    rule: Rule = "rigl",
    density: Annotated[float | None, typer.Option(help="share of the weights that exist, above 0 to 1")] = None,
    score: Annotated[
        str | None, typer.Option(help="prune by it before training (see sparsekit list scores), else draw at random")
    ] = None,
    shuffle: Annotated[bool, typer.Option(help="then put each layer's connections at random positions")] = False,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data")] = None,
    storage: Stored = Storage.masked,
    init: Initialised = None,
    trick: Tricks = None,
    settings: Settings = None,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
    device: OnDevice = Device.auto,
    compile: Compiled = False,
    autocast: Mixed = None,
) -> None:
    """Train one experiment. A finished run is shown again, and an interrupted one continues where it was.

    To train it on several processes, call torchrun --nproc-per-node 2 -m sparsekit train ...
    """
    pairs = pairs_of(settings or [])
    place(device, compile, storage.value)
    from sparsekit.experiments import run_on_ranks
    from sparsekit.utils.ranks import ranks_of_environment

    tricks, pairs = tricks_of(trick or [], pairs)
    made_score, pairs = score_of(score, pairs)
    experiment = experiment_of(
        recipe,
        rule,
        pairs,
        data_root,
        density=density,
        seed=seed,
        epochs=epochs,
        score=made_score,
        shuffle=shuffle,
        storage=storage.value,
        tricks=tricks,
        **init_of(init),
        **autocast_of(autocast),
    )
    history = run_on_ranks(experiment, folder, root=data_root, progress=progress)
    if ranks_of_environment().rank == 0:
        show_history(history)


@app.command(epilog="Example: [bold]sparsekit lottery digits-mlp --levels 5 --rewind-step 19 --control reinit[/bold]")
def lottery(
    recipe: Recipe,
    levels: Annotated[int, typer.Option(help="how often to prune and train again")] = 16,
    prune: Annotated[float, typer.Option(help="share of the remaining connections that a level removes, 0 to 1")] = 0.2,
    rewind: Annotated[str, typer.Option(help="what a level begins with: weights, rate or finetune")] = "weights",
    rewind_step: Annotated[int, typer.Option(help="step of the training to go back to")] = 0,
    finetune_rate: Annotated[float | None, typer.Option(help="learning rate of finetune")] = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", help="reinit, shuffle, signs, ...: the last ticket so changed, may be repeated"),
    ] = None,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data, of each level")] = None,
    workers: Workers = 1,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
    device: OnDevice = Device.auto,
    compile: Compiled = False,
    autocast: Mixed = None,
) -> None:
    """Train, prune the smallest magnitudes, rewind and train again, level by level. Finished runs are read."""
    from sparsekit.experiments.lottery import Lottery, check_control, run_control, run_lottery
    from sparsekit.experiments.recipes import recipe_named
    from sparsekit.experiments.sweeps import in_order

    place(device, compile)
    base = recipe_named(recipe, data_root)(rule="dense", seed=seed, epochs=epochs, **autocast_of(autocast))
    plan = Lottery(
        experiment=base, levels=levels, prune=prune, rewind=rewind, rewind_step=rewind_step, finetune_rate=finetune_rate
    )
    for name in control or ():
        check_control(plan, name, levels)
    history = run_lottery(plan, folder, root=data_root, progress=progress)
    bar = progress and workers == 1
    train_control = partial(run_control, plan, folder=folder, level=levels, root=data_root, progress=bar)
    with workers_or_none(workers) as client:
        controls = dict(zip(control or (), in_order(train_control, control or (), client), strict=True))
    show_lottery(history, controls)


@app.command("sup-tickets", epilog="Example: [bold]sparsekit sup-tickets mnist1d-mlp --controls --seeds 6[/bold]")
def sup_tickets(
    recipe: Recipe,
    rule: Rule = "rigl",
    density: Annotated[float | None, typer.Option(help="share of the weights that exist, above 0 to 1")] = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="how many, from --seed. Verdicts need two or more")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data, cycles included")] = None,
    storage: Stored = Storage.masked,
    cycle_rate: Annotated[float | None, typer.Option(help="share of the epochs that cycles may take, 0 to 1")] = None,
    cycle_epochs: Annotated[int | None, typer.Option(min=1, help="epochs of a cycle")] = None,
    explore: Annotated[float, typer.Option(help="share of the connections exchanged as a cycle begins, 0 to 1")] = 0.5,
    low: Annotated[float | None, typer.Option(help="learning rate at its ends, else that before the cycles")] = None,
    high: Annotated[float | None, typer.Option(help="learning rate in its middle, else five times low")] = None,
    controls: Annotated[bool, typer.Option("--controls", help="also without exploration, and four seeds")] = False,
    workers: Workers = 1,
    init: Initialised = None,
    trick: Tricks = None,
    settings: Settings = None,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
    device: OnDevice = Device.auto,
    compile: Compiled = False,
    autocast: Mixed = None,
) -> None:
    """Collect cheap tickets in one training, superpose them in every way, and save the superposition as a ticket.

    What you leave out is the recipe's own setting (mnist1d-mlp has one), or else 60 epochs with 3 cycles of 4.
    """
    place(device, compile, storage.value)
    from sparsekit.experiments.sup_tickets import sup_tickets_of

    tricks, pairs = tricks_of(trick or [], pairs_of(settings or []))
    sup = sup_tickets_of(
        recipe,
        rule=rule,
        density=density,
        seed=seed,
        epochs=epochs,
        cycle_rate=cycle_rate,
        cycle_epochs=cycle_epochs,
        explore=explore,
        low=low,
        high=high,
        rule_settings=rule_settings_of(rule, pairs),
        root=data_root,
        storage=storage.value,
        tricks=tricks,
        **init_of(init),
        **autocast_of(autocast),
    )
    context = Context(folder=folder, root=data_root, progress=progress, workers=workers)
    collect_and_show(sup, seeds, controls, context)


@app.command(epilog="Example: [bold]sparsekit tickets runs/mnist1d-mlp-sup-0123456789/tickets[/bold]")
def tickets(folder: Annotated[Path, typer.Argument(help="a folder of tickets")]) -> None:
    """List the tickets of a folder, with steps, connections and accuracy."""
    from sparsekit.tickets import TicketBook

    show_tickets(TicketBook(folder))


@app.command("list", epilog="Example: [bold]sparsekit list rules[/bold]")
def list_(
    kind: Annotated[str | None, typer.Argument(help="rules, models, data, recipes, ..., else list the kinds")] = None,
) -> None:
    """List what there is, each with a sentence and its source."""
    from sparsekit.utils.registry import get, kinds, names, source_of, summary_of

    if kind is None:
        typer.echo("\n".join(f"sparsekit list {plural(name)}" for name in kinds()))
        return
    single = singular(kind, kinds())
    registered = {name: get(single, name) for name in names(single)}
    rows = [(name, summary_of(one), source_of(one)) for name, one in registered.items()]
    print_table(["name", "what it is", "source"], rows)


@app.command(epilog="Example: [bold]sparsekit show runs/digits-mlp-5c5d430431[/bold]")
def show(
    run: Annotated[Path, typer.Argument(help="a run's folder")],
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="write a page with living figures to it")] = None,
    film: Annotated[
        Path | None, typer.Option(dir_okay=False, help="write its masks as a film to it, a .html, .gif or .mp4")
    ] = None,
) -> None:
    """Show what a run has measured, and what its topology looks like now."""
    if html is None and film is None:
        from sparsekit.experiments import read_run

        show_history(read_run(run))
    if html is not None:
        from sparsekit.cli.site.run_page import write_run_page

        write_run_page(run, html)
        typer.echo(f"wrote {html}")
    if film is not None:
        write_film(run, film)
        typer.echo(f"wrote {film}")


app.command(epilog="Example: [bold]sparsekit compare --data digits --density 0.02 --seeds 5[/bold]")(compare)
app.command(epilog="Example: [bold]sparsekit sweep grid.toml --workers 4[/bold]")(sweep)
app.command(epilog="Example: [bold]sparsekit bench layers --quick[/bold]")(bench)
app.command(epilog="Example: [bold]sparsekit warm-up --threads 4[/bold]")(warm_up)
app.command(epilog="Example: [bold]sparsekit claims --only 5 --only 12[/bold]")(claims)
app.command(epilog="Example: [bold]sparsekit site pages --only 00 --only 01[/bold]")(site)
app.add_typer(course, name="course")
app.command("open", context_settings=PASSED_ON)(open_)


def main() -> None:
    """Run the command line. A mistake of the user gets a sentence instead of a traceback."""
    keep_freed_memory()
    try:
        check_thread_variables()
        app()
    except (ValueError, OSError, FloatingPointError, TypeError, ImportError) as error:
        Console(stderr=True, emoji=False).print(f"[bold red]Error:[/bold red] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
