"""The command line: `sparsekit train`, `list`, `show`, `compare` and `bench`.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import ast
import inspect
import os
import sys
import types
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from sparsekit.train import History

app = typer.Typer(
    help="Train sparse neural networks and look at what their topologies did.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
WIDE = 10_000  # columns; no line is longer
CONSTANTS = {"true": True, "false": False, "none": None}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "none"}


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


@app.command(epilog="Example: [bold]sparsekit train digits-mlp --rule rigl --density 0.02 --seed 0[/bold]")
def train(
    recipe: Annotated[str, typer.Argument(help="which experiment; see: sparsekit list recipes")],
    rule: Annotated[str, typer.Option(help="when and how the topology changes; see: sparsekit list rules")] = "rigl",
    density: Annotated[float | None, typer.Option(help="share of the weights that exist, above 0 to 1")] = None,
    score: Annotated[
        str | None, typer.Option(help="prune by it before training; none draws at random; see: sparsekit list scores")
    ] = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data")] = None,
    storage: Annotated[
        Storage, typer.Option(help="masked: dense weight and mask; csr: connections only")
    ] = Storage.masked,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="a setting of the rule, as in --set every=50; may be repeated")
    ] = None,
    folder: Annotated[Path, typer.Option(file_okay=False, help="where runs are kept")] = Path("runs"),
    data_root: Annotated[
        Path | None, typer.Option(file_okay=False, help="where data sets lie; else SPARSEKIT_DATA, else data/")
    ] = None,
    progress: Annotated[bool, typer.Option(help="show a progress bar")] = True,
) -> None:
    """Train one experiment. A finished run is shown again, an interrupted one goes on where it was."""
    pairs = _pairs(settings or [])
    from sparsekit.registry import get
    from sparsekit.train import run

    chosen = {"density": density, "epochs": epochs, "score": score}
    experiment = get("recipe", recipe)(
        rule=rule,
        seed=seed,
        storage=storage.value,
        rule_settings=_rule_settings(rule, pairs),
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
        typer.echo("\n".join(f"sparsekit list {_plural(name)}" for name in kinds()))
        return
    single = _singular(kind, kinds())
    things = {name: get(single, name) for name in names(single)}
    rows = [(name, summary_of(thing), source_of(thing)) for name, thing in things.items()]
    _print_table(["name", "what it is", "source"], rows)


@app.command(epilog="Example: [bold]sparsekit show runs/digits-mlp-e8b42002bb[/bold]")
def show(run: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Show what a run has measured, and what its topology looks like now."""
    from sparsekit.train import read_run

    _show(read_run(run))


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
    data_root: Annotated[
        Path | None, typer.Option(file_okay=False, help="where data sets lie; else SPARSEKIT_DATA, else data/")
    ] = None,
) -> None:
    """Train all methods, or chosen ones, under one protocol; write a table and figures. Finished runs are read."""
    _prepare(threads)
    import torch

    from sparsekit.compare import RECIPE_OF, markdown_of, table_of
    from sparsekit.compare import compare as compared

    torch.set_num_threads(threads)
    if recipe is None and data not in RECIPE_OF:
        raise ValueError(f"--data must be one of {', '.join(RECIPE_OF)}, got {data!r}; or name a --recipe")
    recipe = recipe or RECIPE_OF[data]
    settings = {} if epochs is None else {"epochs": epochs}
    cells = []
    for cell in compared(
        recipe, method, densities=density or (0.05,), seeds=seeds, folder=folder, root=data_root, **settings
    ):
        cells.append(cell)
        typer.echo(f"{cell.method:18} density {cell.wanted:<6g} seed {cell.seed:<3} {100 * cell.accuracy:6.2f} %")
    table = table_of(cells)
    typer.echo("\n" + markdown_of(table))
    for file in _write_comparison(table, folder, recipe):
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
    _prepare(threads)
    from sparsekit.benchmark import SUITES, Options, load, measure, render, save

    folder = folder / "quick" if quick else folder  # quick numbers must not take the place of careful ones
    sparsities = tuple(sparsity) if sparsity else None
    options = Options(threads=threads, sparsities=sparsities, only=only, quick=quick)
    for name in suites or SUITES:
        save(folder / "results" / f"{name}.json", name, list(map(_said, measure(name, options))))
    files = {name: folder / "results" / f"{name}.json" for name in SUITES}
    report = render({name: load(file) for name, file in files.items() if file.exists()})
    (folder / "REPORT.md").write_text(report, encoding="utf-8")
    typer.echo(f"wrote {folder / 'REPORT.md'}")


def main() -> None:
    """Run the command line; a mistake of the user's gets a sentence, not a traceback."""
    try:
        app()
    except (ValueError, OSError, FloatingPointError, TypeError) as error:
        Console(stderr=True).print(f"[bold red]Error:[/bold red] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error


def _write_comparison(table: "pd.DataFrame", folder: Path, recipe: str) -> list[Path]:
    """Write the table as CSV and Markdown, and a figure for each density."""
    from sparsekit.compare import markdown_of
    from sparsekit.plots import plot_methods

    files = [folder / f"{recipe}.csv", folder / f"{recipe}.md"]
    table.to_csv(files[0], index=False)
    files[1].write_text(markdown_of(table), encoding="utf-8")
    for wanted, rows in table.groupby("wanted"):
        files.append(folder / f"{recipe}-{wanted:g}.png")
        plot_methods(rows).figure.savefig(files[-1])
    return files


# --- what is printed -------------------------------------------------------------------------------------------


def _prepare(threads: int) -> None:
    """Set what is read only once: by torch as it first asks for memory, by other kernels as they are loaded."""
    if "torch" not in sys.modules:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: dense and sparse training both gain
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """Print what was just measured, or why it was not."""
    where = f"{row['case']:10} T{row['threads']}" + (f" {row['density']:.4f}" if row["density"] else "")
    what = f"{row['ms'][1]:10.3f} ms  x{row['speedup'][1]:.2f}" if "ms" in row else row.get("skipped", row.get("bytes"))
    typer.echo(f"{where}  {row['method']:26} {what}")
    return row


def _show(history: "History") -> None:
    from sparsekit.train import read_experiment

    assert history.folder is not None
    experiment = read_experiment(history.folder)
    lines = [
        f"[bold]{escape(str(history.folder))}[/bold]",
        f"{experiment.model} on {experiment.data}, seed {experiment.seed}, {escape(repr(experiment.rule))}",
        *(f"  {name:26s} {history.last(name):.4f}" for name in sorted({row.name for row in history.rows})),
        f"  {'rewirings':26s} {len(history.journal)}",
    ]
    # A folder's name broken over two lines could not be copied.
    Console().print("\n".join(lines), soft_wrap=True)
    if history.journal.initial:
        _print_layers(history)


def _print_layers(history: "History") -> None:
    first, last = history.journal.initial, history.journal[-1]
    rows = []
    for name, layer in last.items():
        kept = (layer & first[name]).count / max(1, layer.count)
        shape = " x ".join(map(str, layer.shape))
        rows.append((name, shape, f"{layer.count:,}", f"{layer.density:.4f}", f"{kept:.1%}"))
    _print_table(["layer", "shape", "connections", "density", "kept since the start"], rows)


def _print_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows under headings: framed on a screen; in a file or another program, one line each, however long."""
    is_screen = sys.stdout.isatty()
    table = Table(box=box.HEAVY_HEAD if is_screen else None)
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if is_screen else WIDE).print(table)


# --- settings of rules -----------------------------------------------------------------------------------------


def _pairs(settings: Iterable[str]) -> dict[str, str]:
    """Split `name=value` pairs."""
    pairs = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"--set must look like name=value, got {setting!r}; for example --set every=50")
        pairs[name] = text
    return pairs


def _rule_settings(rule: str, pairs: dict[str, str]) -> dict[str, Any]:
    """Read each text as the type that its rule wants; settings no rule knows are left to the recipe to refuse."""
    if not pairs or rule == "dense":
        return dict(pairs)
    hints = _hints(rule)
    return {name: _value(rule, name, text, hints[name]) if name in hints else text for name, text in pairs.items()}


def _hints(rule: str) -> dict[str, Any]:
    from sparsekit.registry import get
    from sparsekit.rules import DropGrow, settings_of

    hints = {}
    for make in (DropGrow, get("rule", rule)):
        parameters = inspect.signature(make, eval_str=True).parameters
        hints |= {name: parameter.annotation for name, parameter in parameters.items()}
    return {name: hints[name] for name in settings_of(rule)}


def _value(rule: str, name: str, text: str, hint: Any) -> Any:
    """Return a setting's value: the name of a registered part, or a Python literal, or the text itself."""
    from sparsekit.registry import get, kinds, names

    is_part = name in kinds()
    if is_part and text in names(name):
        return get(name, text)()
    value = _literal(text)
    if not _suits(value, hint):
        wanted = f"one of {', '.join(names(name))}" if is_part else _words(hint)
        raise ValueError(f"--set {name} of {rule} must be {wanted}, got {text!r}")
    return value


def _literal(text: str) -> Any:
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def _suits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers are numbers, true and false are not."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_suits(value, one) for one in get_args(hint))
    if hint in (Any, inspect.Parameter.empty):
        return True
    wanted = (int, float) if hint is float else origin or hint
    return isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    """Say in words what a type asks for."""
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, get_args(hint)))
    return WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}, which only Python can give")


# --- kinds -----------------------------------------------------------------------------------------------------


def _plural(kind: str) -> str:
    return kind if kind == "data" or kind.endswith("s") else f"{kind}s"


def _singular(kind: str, known: list[str]) -> str:
    for name in known:
        if kind in (name, _plural(name)):
            return name
    raise ValueError(f"there must be something to list: {', '.join(map(_plural, known))}, got {kind!r}")


if __name__ == "__main__":
    main()
