"""The command line: `sparsekit train`, `lottery`, `sup-tickets`, `tickets`, `list`, `show`, `compare` and `bench`.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from sparsekit.cli.output import (
    keep_freed_memory,
    prepare,
    print_table,
    said,
    show_history,
    show_lottery,
    show_superpositions,
    show_tickets,
    write_comparison,
)
from sparsekit.cli.values import pairs_of, plural, rule_settings_of, score_of, singular, tricks_of
from sparsekit.utils.settings import check_thread_variables

app = typer.Typer(
    help="Train sparse neural networks and look at what their topologies did.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


class Storage(StrEnum):
    """How sparse layers keep their weights."""

    masked = "masked"
    csr = "csr"


class Suite(StrEnum):
    """What `bench` measures."""

    layers = "layers"
    networks = "networks"
    update = "update"
    memory = "memory"


# Options that several commands have in common.
Recipe = Annotated[str, typer.Argument(help="which experiment; see: sparsekit list recipes")]
Rule = Annotated[str, typer.Option(help="when and how the topology changes; see: sparsekit list rules")]
Tricks = Annotated[
    list[str] | None, typer.Option("--trick", help="helps to train; may be repeated; see: sparsekit list tricks")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="every=50 of the rule, or NAME.stop=300 of a trick or score; may be repeated"),
]
Seed = Annotated[int, typer.Option(help="of everything random")]
Stored = Annotated[Storage, typer.Option(help="masked: dense weight and mask; csr: connections only")]
Folder = Annotated[Path, typer.Option(file_okay=False, help="where runs are kept")]
DataRoot = Annotated[
    Path | None, typer.Option(file_okay=False, help="where data sets lie; else SPARSEKIT_DATA, else data/")
]
Progress = Annotated[bool, typer.Option(help="show a progress bar")]


@app.command(epilog="Example: [bold]sparsekit train digits-mlp --rule rigl --density 0.02 --seed 0[/bold]")
def train(
    recipe: Recipe,
    rule: Rule = "rigl",
    density: Annotated[float | None, typer.Option(help="share of the weights that exist, above 0 to 1")] = None,
    score: Annotated[
        str | None, typer.Option(help="prune by it before training; none draws at random; see: sparsekit list scores")
    ] = None,
    shuffle: Annotated[bool, typer.Option(help="then put each layer's connections at random places")] = False,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data")] = None,
    storage: Stored = Storage.masked,
    trick: Tricks = None,
    settings: Settings = None,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
) -> None:
    """Train one experiment. A finished run is shown again, an interrupted one goes on where it was."""
    pairs = pairs_of(settings or [])
    from sparsekit.experiments import run
    from sparsekit.utils.registry import get

    tricks, pairs = tricks_of(trick or [], pairs)
    made, pairs = score_of(score, pairs)
    chosen = {"density": density, "epochs": epochs, "score": made, "shuffle": shuffle or None, "tricks": tricks or None}
    experiment = get("recipe", recipe)(
        rule=rule,
        seed=seed,
        storage=storage.value,
        rule_settings=rule_settings_of(rule, pairs),
        **{name: value for name, value in chosen.items() if value is not None},
    )
    show_history(run(experiment, folder, root=data_root, progress=progress))


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
        typer.Option("--control", help="reinit, shuffle or signs: the last ticket with that changed; may be repeated"),
    ] = None,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data, of each level")] = None,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
) -> None:
    """Train, prune the smallest weights, go back and train again, level by level. What is there already is read."""
    from sparsekit.experiments.lottery import Lottery, check_control, run_control, run_lottery
    from sparsekit.utils.registry import get

    dense = get("recipe", recipe)(rule="dense", seed=seed, **({} if epochs is None else {"epochs": epochs}))
    back: dict[str, Any] = {"rewind": rewind, "rewind_step": rewind_step, "finetune_rate": finetune_rate}
    plan = Lottery(experiment=dense, levels=levels, prune=prune, **back)
    for name in control or ():
        check_control(plan, name, levels)
    won = run_lottery(plan, folder, root=data_root, progress=progress)
    how: dict[str, Any] = {"level": levels, "root": data_root, "progress": progress}
    show_lottery(won, {name: run_control(plan, name, folder, **how) for name in control or ()})


@app.command("sup-tickets", epilog="Example: [bold]sparsekit sup-tickets mnist1d-mlp --rule gse --seed 1[/bold]")
def sup_tickets(
    recipe: Recipe,
    rule: Rule = "rigl",
    density: Annotated[float, typer.Option(help="share of the weights that exist, above 0 to 1")] = 0.05,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the training data, cycles included")] = 60,
    storage: Stored = Storage.masked,
    cycle_rate: Annotated[float, typer.Option(help="share of the epochs that cycles may take, 0 to 1")] = 0.2,
    cycle_epochs: Annotated[int, typer.Option(min=1, help="epochs of a cycle")] = 4,
    explore: Annotated[float, typer.Option(help="share of the connections exchanged as a cycle begins, 0 to 1")] = 0.5,
    low: Annotated[float | None, typer.Option(help="learning rate at the ends of a cycle; none goes on")] = None,
    high: Annotated[float | None, typer.Option(help="learning rate in its middle; none is five times low")] = None,
    controls: Annotated[bool, typer.Option("--controls", help="also without exploration; four seeds mixed")] = False,
    trick: Tricks = None,
    settings: Settings = None,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
) -> None:
    """Collect cheap tickets in one training, superpose them in every way, and keep the superposition as a ticket."""
    from sparsekit.experiments.sup_tickets import SupTickets, run_controls, run_sup_tickets
    from sparsekit.utils.registry import get

    tricks, pairs = tricks_of(trick or [], pairs_of(settings or []))
    chosen = {"density": density, "seed": seed, "epochs": epochs, "storage": storage.value, "tricks": tricks}
    experiment = get("recipe", recipe)(rule=rule, rule_settings=rule_settings_of(rule, pairs), **chosen)
    sup = SupTickets(
        experiment=experiment, cycle_rate=cycle_rate, cycle_epochs=cycle_epochs, explore=explore, low=low, high=high
    )
    how: dict[str, Any] = {"root": data_root, "progress": progress}
    found = run_sup_tickets(sup, folder, **how)
    show_superpositions(found, data_root, run_controls(sup, folder, **how) if controls else None)


@app.command(epilog="Example: [bold]sparsekit tickets runs/mnist1d-mlp-sup-0123456789/tickets[/bold]")
def tickets(folder: Annotated[Path, typer.Argument(help="a folder of tickets")]) -> None:
    """List the tickets of a folder: steps, connections, accuracy."""
    from sparsekit.tickets import TicketBook

    show_tickets(TicketBook(folder))


@app.command("list", epilog="Example: [bold]sparsekit list rules[/bold]")
def list_(
    kind: Annotated[str | None, typer.Argument(help="rules, models, data, recipes, ...; none lists the kinds")] = None,
) -> None:
    """List what there is, with a sentence and the source of each."""
    from sparsekit.utils.registry import get, kinds, names, source_of, summary_of

    if kind is None:
        typer.echo("\n".join(f"sparsekit list {plural(name)}" for name in kinds()))
        return
    single = singular(kind, kinds())
    things = {name: get(single, name) for name in names(single)}
    rows = [(name, summary_of(thing), source_of(thing)) for name, thing in things.items()]
    print_table(["name", "what it is", "source"], rows)


@app.command(epilog="Example: [bold]sparsekit show runs/digits-mlp-e8b42002bb[/bold]")
def show(run: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Show what a run has measured, and what its topology looks like now."""
    from sparsekit.experiments import read_run

    show_history(read_run(run))


@app.command(epilog="Example: [bold]sparsekit compare --data digits --density 0.02 --seeds 5[/bold]")
def compare(
    data: Annotated[str, typer.Option(help="digits, mnist1d, fashion-mini or cifar10")] = "digits",
    recipe: Annotated[str | None, typer.Option(help="the protocol; none takes the quickest of the data")] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="a rule, a score or dense; may be repeated; none means all")
    ] = None,
    density: Annotated[list[float] | None, typer.Option(help="share of weights that exist; may be repeated")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each, from seed 0")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data")] = None,
    threads: Annotated[int, typer.Option(min=1, help="that every run may use")] = 1,
    folder: Annotated[Path, typer.Option(file_okay=False, help="where runs, table and figures are kept")] = Path(
        "runs/compare"
    ),
    data_root: DataRoot = None,
) -> None:
    """Train all methods, or chosen ones, under one protocol; write a table and figures. Finished runs are read."""
    prepare(threads)
    import torch

    from sparsekit.experiments.compare import compare as compared
    from sparsekit.experiments.compare import markdown_of, recipe_for, table_of

    torch.set_num_threads(threads)
    recipe = recipe or recipe_for(data)
    settings = {} if epochs is None else {"epochs": epochs}
    cells = []
    for cell in compared(
        recipe, method, densities=density or (0.05,), seeds=seeds, folder=folder, root=data_root, **settings
    ):
        cells.append(cell)
        typer.echo(f"{cell.method:18} density {cell.wanted:<6g} seed {cell.seed:<3} {100 * cell.accuracy:6.2f} %")
    table = table_of(cells)
    typer.echo("\n" + markdown_of(table))
    for file in write_comparison(table, folder, recipe):
        typer.echo(f"wrote {file}")


@app.command(epilog="Example: [bold]sparsekit bench layers --quick[/bold]")
def bench(
    suites: Annotated[list[Suite] | None, typer.Argument(help="what to measure; none means everything")] = None,
    threads: Annotated[int, typer.Option(min=1, help="that every method may use")] = 1,
    sparsity: Annotated[list[float] | None, typer.Option(help="share of missing weights; may be repeated")] = None,
    only: Annotated[str | None, typer.Option(help="one case: linear, conv, mlp, resnet20, ..., or a width")] = None,
    quick: Annotated[bool, typer.Option(help="smaller and fewer cases, within a minute")] = False,
    folder: Annotated[Path, typer.Option(file_okay=False, help="for results and report")] = Path("benchmarks"),
) -> None:
    """Measure the speed of sparse training on this machine, beside dense torch and other sparse kernels."""
    prepare(threads)
    from sparsekit.analysis.costs.benchmark import SUITES, Options, load, measure, render, save
    from sparsekit.utils.files import write_text

    folder = folder / "quick" if quick else folder  # quick numbers must not take the place of careful ones
    sparsities = tuple(sparsity) if sparsity else None
    options = Options(threads=threads, sparsities=sparsities, only=only, quick=quick)
    files = {name: folder / "results" / f"{name}.jsonl" for name in SUITES}
    for file in filter(Path.exists, files.values()):
        load(file)  # a damaged one had better be known before hours of measuring
    for name in suites or SUITES:
        save(files[name], name, list(map(said, measure(name, options))))
    report = render({name: load(file) for name, file in files.items() if file.exists()})
    write_text(folder / "REPORT.md", report)
    typer.echo(f"wrote {folder / 'REPORT.md'}")


def main() -> None:
    """Run the command line; a mistake of the user's gets a sentence, not a traceback."""
    keep_freed_memory()
    try:
        check_thread_variables()
        app()
    except (ValueError, OSError, FloatingPointError, TypeError) as error:
        Console(stderr=True, emoji=False).print(f"[bold red]Error:[/bold red] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
