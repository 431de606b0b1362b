"""The command line: `sparsekit train`, `sparsekit list`, `sparsekit show`.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import ast
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from sparsekit.train import History

app = typer.Typer(
    help="Train sparse neural networks and look at what their topologies did.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
# Lists keep one line per thing when they are piped into a file or another program.
console = Console(soft_wrap=False)


class Storage(StrEnum):
    """How sparse layers keep their weights."""

    masked = "masked"
    csr = "csr"


@app.command(epilog="Example: [bold]sparsekit train digits-mlp --rule rigl --density 0.02 --seed 0[/bold]")
def train(
    recipe: Annotated[str, typer.Argument(help="which experiment; see: sparsekit list recipes")],
    rule: Annotated[str, typer.Option(help="when and how the topology changes; see: sparsekit list rules")] = "rigl",
    density: Annotated[float | None, typer.Option(help="share of the weights that exist, above 0 to 1")] = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    epochs: Annotated[int | None, typer.Option(help="passes over the training data")] = None,
    storage: Annotated[
        Storage, typer.Option(help="masked: dense weight and mask; csr: connections only")
    ] = Storage.masked,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="a setting of the rule, as in --set every=50; may be repeated")
    ] = None,
    folder: Annotated[Path, typer.Option(help="where runs are kept")] = Path("runs"),
    data_root: Annotated[Path | None, typer.Option(help="where data sets lie; else SPARSEKIT_DATA, else data/")] = None,
    progress: Annotated[bool, typer.Option(help="show a progress bar")] = True,
) -> None:
    """Train one experiment. A finished run is shown again, an interrupted one goes on where it was."""
    from sparsekit.registry import get
    from sparsekit.train import run

    chosen = {"density": density, "epochs": epochs}
    experiment = get("recipe", recipe)(
        rule=rule,
        seed=seed,
        storage=storage.value,
        rule_settings=_parsed(settings or []),
        **{name: value for name, value in chosen.items() if value is not None},
    )
    _show(run(experiment, folder, root=data_root, progress=progress))


@app.command("list", epilog="Example: [bold]sparsekit list rules[/bold]")
def list_(
    kind: Annotated[str | None, typer.Argument(help="rules, models, data, recipes, ...; none lists the kinds")] = None,
) -> None:
    """List what there is, with a sentence and the source of each."""
    from sparsekit.registry import get, kinds, names, source_of, summary_of

    if kind is None:
        for name in kinds():
            console.print(f"sparsekit list {_plural(name)}")
        return
    single = _singular(kind, kinds())
    table = Table("name", "what it is", "source", title=_plural(single), title_justify="left")
    for name in names(single):
        thing = get(single, name)
        table.add_row(name, escape(summary_of(thing)), escape(source_of(thing)))
    console.print(table)


@app.command(epilog="Example: [bold]sparsekit show runs/digits-mlp-0e9e6d3b7d[/bold]")
def show(run: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Show what a run has measured, and what its topology looks like now."""
    from sparsekit.train import read_run

    _show(read_run(run))


def main() -> None:
    """Run the command line; a mistake of the user's gets a sentence, not a traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError, FloatingPointError, TypeError) as error:
        Console(stderr=True).print(f"[bold red]Error:[/bold red] {escape(str(error))}")
        raise SystemExit(1) from error


def _show(history: "History") -> None:
    from sparsekit.train import read_experiment

    assert history.folder is not None
    experiment = read_experiment(history.folder)
    console.print(f"[bold]{escape(str(history.folder))}[/bold]")
    console.print(f"{experiment.model} on {experiment.data}, seed {experiment.seed}, {escape(repr(experiment.rule))}")
    for name in sorted({row.name for row in history.rows}):
        console.print(f"  {name:15s} {history.last(name):.4f}")
    console.print(f"  {'rewirings':15s} {len(history.journal)}")
    if history.journal.initial:
        console.print(_layers(history))


def _layers(history: "History") -> Table:
    first, last = history.journal.initial, history.journal[-1]
    table = Table(
        "layer", "shape", "connections", "density", "kept since the start", title="topology", title_justify="left"
    )
    for name, layer in last.items():
        kept = (layer & first[name]).count / max(1, layer.count)
        shape = " x ".join(map(str, layer.shape))
        table.add_row(name, shape, f"{layer.count:,}", f"{layer.density:.4f}", f"{kept:.1%}")
    return table


def _parsed(settings: list[str]) -> dict[str, Any]:
    """Read `name=value` pairs; values are Python literals, anything else is a text."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set must look like name=value, got {setting!r}; for example --set every=50")
        try:
            parsed[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parsed[name] = text
    return parsed


def _plural(kind: str) -> str:
    return kind if kind in ("data", "candidates") else f"{kind}s"


def _singular(kind: str, known: list[str]) -> str:
    for name in known:
        if kind in (name, _plural(name)):
            return name
    raise ValueError(f"there must be something to list: {', '.join(map(_plural, known))}, got {kind!r}")


if __name__ == "__main__":
    main()
