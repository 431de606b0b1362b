"""One run as one page: what it has measured, its topology at every rewiring, and its network if that is small.

For slides there is also a page with the film alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsekit.cli.site.bodies import notebook_body
from sparsekit.cli.site.pages import Page, framed
from sparsekit.cli.site.recording import INSTALL, executed
from sparsekit.cli.site.widgets import models_of
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.record import read_experiment, read_run
from sparsekit.utils.files import write_text
from sparsekit.utils.optional import require

FOLDED = {"jupyter": {"source_hidden": True}}
CELLS = (  # headings and code. The code runs in a kernel, because widgets live there
    """from sparsekit import analysis, plots, widgets
from sparsekit.experiments import read_run

history = read_run({folder!r})""",
    "## What it has learned",
    """accuracy = plots.plot_curves(history.frame())
plots.titled(accuracy, f"The test accuracy ends at {{history.last('test accuracy'):.1%}}")""",
    "## The network",
    """try:
    network = widgets.NetworkView.of_run(history.folder)
except ValueError as reason:
    network = print(f"The network is not drawn, because {{reason}}")
network""",
    "## Its topology, rewiring by rewiring",
    "widgets.TopologyFilm(history.journal, rewiring=len(history.journal))",
    "## Its layers",
    "analysis.layer_table(history.journal[-1]).round(4)",
)


LOADED, FILM = CELLS[0], next(cell for cell in CELLS if "TopologyFilm" in cell)


def write_run_page(run: Path, file: Path) -> None:
    """Write a page of a run, which needs no kernel and no other file.

    Args:
        run: the run's folder.
        file: the page, which is replaced if it exists.

    Raises:
        FileNotFoundError: if there is no such run.
        ImportError: if the packages of notebooks are missing.
        ValueError: if the run has not measured anything yet.
    """
    if "test accuracy" not in {row.name for row in read_run(run).rows}:
        raise ValueError(
            f"a run must have measured its test accuracy, but {run} has not. Let it train an epoch at least"
        )
    _write(run, [_head(run, read_experiment(run)), *CELLS], file)


def write_film_page(run: Path, file: Path) -> None:
    """Write a page with the film of a run's topology, which plays without a kernel and without a network.

    Args:
        run: the run's folder.
        file: the page, which is replaced if it exists.

    Raises:
        FileNotFoundError: if there is no such run.
        ImportError: if the packages of notebooks are missing.
    """
    _write(run, [_head(run, read_experiment(run)), LOADED, FILM], file)


def _write(run: Path, texts: Sequence[str], file: Path) -> None:
    """Execute the cells, and write what they show."""
    book = executed(_notebook(run, texts), Path.cwd(), run.name)
    page = Page(file.name, notebook_body(book, lambda href: None), "notebook", models_of(book))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, framed(page, [], []))


def _notebook(run: Path, texts: Sequence[str]) -> Any:
    """Return texts and code as cells, with the code folded away."""
    cells = require("nbformat", install=INSTALL).v4
    texts = [text if text.startswith("#") else text.format(folder=str(run.resolve())) for text in texts]
    return cells.new_notebook(
        cells=[
            cells.new_markdown_cell(text) if text.startswith("#") else cells.new_code_cell(text, metadata=FOLDED)
            for text in texts
        ]
    )


def _head(run: Path, experiment: Experiment) -> str:
    network = f"{experiment.model} on {experiment.data}, seed {experiment.seed}"
    return f"# {run.resolve().name}\n\nThis is {network}, trained by `{experiment.rule!r}`."
