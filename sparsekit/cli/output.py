"""What the command line prints and writes."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from sparsekit.sup_tickets import SupTicketsHistory
    from sparsekit.tickets import TicketBook
    from sparsekit.train import History

WIDE = 10_000  # columns; no line is longer


def write_comparison(table: "pd.DataFrame", folder: Path, recipe: str) -> list[Path]:
    """Write the table as CSV and Markdown, and a figure for each density."""
    from sparsekit.compare import markdown_of
    from sparsekit.plots import plot_methods

    files = [folder / f"{recipe}.csv", folder / f"{recipe}.md"]
    table.to_csv(files[0], index=False)
    files[1].write_text(markdown_of(table), encoding="utf-8")
    for wanted, rows in table.groupby("wanted"):
        files.append(folder / f"{recipe}-{wanted:g}.png")
        plot_methods(rows).get_figure(root=True).savefig(files[-1])  # type: ignore[union-attr]  # it always has one
    return files


def prepare(threads: int) -> None:
    """Set what is read only once: by torch as it first asks for memory, by other kernels as they are loaded."""
    if "torch" not in sys.modules:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: dense and sparse training both gain
        os.environ["OMP_NUM_THREADS"] = str(threads)


def said(row: dict[str, Any]) -> dict[str, Any]:
    """Print what was just measured, or why it was not."""
    where = f"{row['case']:10} T{row['threads']}" + (f" {row['density']:.4f}" if row["density"] else "")
    what = f"{row['ms'][1]:10.3f} ms  x{row['speedup'][1]:.2f}" if "ms" in row else row.get("skipped", row.get("bytes"))
    typer.echo(f"{where}  {row['method']:26} {what}")
    return row


def show_history(history: "History") -> None:
    """Print what a run measured, and its layers."""
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


def show_tickets(book: "TicketBook") -> None:
    """Print the tickets of a folder."""
    typer.echo(f"{book.folder}")
    rows = [(f"{one.step}", f"{one.count:,}", f"{one.density:.4f}", f"{one.accuracy:.4f}") for one in book]
    print_table(["step", "connections", "density", "accuracy"], rows)


def show_superpositions(found: "SupTicketsHistory", root: Path | None) -> None:
    """Print what tickets and their superpositions achieve; write the superposition beside the tickets."""
    from sparsekit import datasets
    from sparsekit.sup_tickets import superpositions
    from sparsekit.tickets import write_ticket
    from sparsekit.train import load_model

    assert found.history.folder is not None
    experiment = found.sup.experiment
    data = datasets.load(experiment.data, root=root, **experiment.data_settings)
    table = superpositions(found.tickets, load_model(found.history.folder, root=root), data)
    typer.echo(f"{found.book.folder}")
    rows = [
        (str(name), f"{row['accuracy']:.4f}", f"{row['loss']:.4f}", f"{row['connections']:,.0f}")
        for name, row in table.iterrows()
    ]
    print_table(["network", "test accuracy", "test loss", "connections"], rows)
    path = found.history.folder / "superposed.safetensors"
    write_ticket(found.superposed(), path)
    typer.echo(f"wrote {path}")


def _print_layers(history: "History") -> None:
    first, last = history.journal.initial, history.journal[-1]
    rows = []
    for name, layer in last.items():
        kept = (layer & first[name]).count / max(1, layer.count)
        shape = " x ".join(map(str, layer.shape))
        rows.append((name, shape, f"{layer.count:,}", f"{layer.density:.4f}", f"{kept:.1%}"))
    print_table(["layer", "shape", "connections", "density", "kept since the start"], rows)


def print_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows under headings: framed on a screen; in a file or another program, one line each, however long."""
    is_screen = sys.stdout.isatty()
    table = Table(box=box.HEAVY_HEAD if is_screen else None)
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if is_screen else WIDE).print(table)
