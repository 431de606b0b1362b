"""What the command line prints and writes."""

import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sparsekit.utils.settings import check_threads

if TYPE_CHECKING:
    import pandas as pd

    from sparsekit.experiments.lottery import LotteryHistory
    from sparsekit.tickets import TicketBook
    from sparsekit.train import History

WIDE = 10_000  # columns, more than any line has


def write_comparison(table: "pd.DataFrame", folder: Path, recipe: str) -> list[Path]:
    """Write the table as CSV and Markdown, and a figure for each density."""
    from sparsekit.utils.files import check_name, write_atomically, write_text

    check_name(recipe, "recipe")
    from sparsekit.experiments.compare import markdown_of
    from sparsekit.plots import plot_methods

    files = [folder / f"{recipe}.csv", folder / f"{recipe}.md"]
    write_text(files[0], table.to_csv(index=False))
    write_text(files[1], markdown_of(table))
    for density, rows in table.groupby("target_density"):
        files.append(folder / f"{recipe}-{density:g}.png")
        figure = plot_methods(rows).get_figure(root=True)
        write_atomically(files[-1], partial(figure.savefig, format="png"))  # type: ignore[union-attr]  # it has one
    return files


def prepare(threads: int) -> None:
    """Set what torch reads once as it first asks for memory, and other kernels as they are loaded.

    Raises:
        ValueError: if there are fewer processors.
    """
    check_threads(threads)
    if "torch" not in sys.modules:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages make dense and sparse training faster
        os.environ["OMP_NUM_THREADS"] = str(threads)


def print_row(row: dict[str, Any]) -> dict[str, Any]:
    """Print what was just measured, or why it was not measured, and return it."""
    where = f"{row['case']:10} T{row['threads']}" + (f" {row['density']:.4f}" if row["density"] else "")
    what = f"{row['ms'][1]:10.3f} ms  x{row['speedup'][1]:.2f}" if "ms" in row else row.get("skipped", row.get("bytes"))
    typer.echo(f"{where}  {row['method']:26} {what}")
    return row


def show_history(history: "History") -> None:
    """Print what a run measured, and its layers."""
    from sparsekit.experiments import read_experiment

    assert history.folder is not None
    experiment = read_experiment(history.folder)
    lines = [
        f"[bold]{escape(str(history.folder))}[/bold]",
        escape(f"{experiment.model} on {experiment.data}, seed {experiment.seed}, {experiment.rule!r}"),
        *(escape(f"  {name:26s} {history.last(name):.4f}") for name in sorted({row.name for row in history.rows})),
        f"  {'rewirings':26s} {len(history.journal)}",
    ]
    # You could not copy a folder's name that is broken over two lines.
    Console(emoji=False).print("\n".join(lines), soft_wrap=True)
    if history.journal.initial:
        _print_layers(history)


def show_tickets(book: "TicketBook") -> None:
    """Print the tickets of a folder.

    Raises:
        FileNotFoundError: if there is no ticket in it, or no such folder.
        ValueError: if a ticket is damaged.
    """
    if not book.steps:
        inside = book.folder / "tickets"
        problem = "no ticket in it" if book.folder.is_dir() else "no such folder"
        advice = f"Give {inside}" if inside.is_dir() else "Give the one that a TicketBook was made with"
        raise FileNotFoundError(f"a folder must hold tickets, got {book.folder} with {problem}. {advice}")
    rows = [(f"{one.step}", f"{one.count:,}", f"{one.density:.4f}", f"{one.accuracy:.4f}") for one in book]
    typer.echo(f"{book.folder}")
    print_table(["step", "connections", "density", "accuracy"], rows)


def show_lottery(history: "LotteryHistory", controls: "Mapping[str, History]") -> None:
    """Print what every level achieves and, below, what the last ticket does with one thing about it changed."""
    last = history.lottery.levels
    tickets = {str(level): one for level, one in enumerate(zip(history.topologies, history.levels, strict=True))}
    tickets |= {f"{last} {name}": (control.journal.initial, control) for name, control in controls.items()}
    rows = [
        (name, f"{topology.density:.4f}", f"{run.last('test accuracy'):.4f}", str(run.folder))
        for name, (topology, run) in tickets.items()
    ]
    print_table(["level", "density", "test accuracy", "run"], rows)


def _print_layers(history: "History") -> None:
    first, last = history.journal.initial, history.journal[-1]
    rows = []
    for name, layer in last.items():
        survival = (layer & first[name]).count / max(1, layer.count)
        shape = " x ".join(map(str, layer.shape))
        rows.append((name, shape, f"{layer.count:,}", f"{layer.density:.4f}", f"{survival:.1%}"))
    print_table(["layer", "shape", "connections", "density", "kept since the start"], rows)


def print_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows under headings, framed on a screen, else one line each for a file or another program."""
    is_screen = sys.stdout.isatty()
    table = Table(box=box.HEAVY_HEAD if is_screen else None)
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as text, because brackets in a name are no markup
    Console(width=None if is_screen else WIDE).print(table)
