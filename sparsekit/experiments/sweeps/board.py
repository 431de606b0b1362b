"""The table that follows a sweep, in a terminal by rich, and in a notebook as HTML, which keeps its colours."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

REFRESH = 0.5  # seconds between two looks at who is running
SHOWN = 8  # names of running experiments, so that the table does not leave the screen
METRIC = "test accuracy"


class Board:
    """What is known about a sweep: how many runs are done, failed, running and waiting, and which is best.

    A run in progress is claimed by a file beside its folder (see `turns.alone`). So who is running is seen in the
    folder of runs, whoever the workers are.

    Args:
        folder: of the runs.
        names: of all runs.
        results: by name, of the runs that are done. Whoever carries out the sweep adds to them.
        link: of Dask's dashboard, or None.
    """

    def __init__(self, folder: Path, names: Collection[str], results: Mapping[str, Any], link: str | None):
        self.folder, self.link, self.results = folder, link, results
        self.todo = [name for name in names if name not in results]
        self.total, self.start = len(names), time.monotonic()

    @property
    def failed(self) -> list[str]:
        """Names of the runs that failed."""
        return [name for name, outcome in self.results.items() if outcome.error]

    def running(self) -> list[str]:
        """Return the names of the runs that somebody is working on."""
        if not self.folder.is_dir():
            return []
        claims = {entry.name for entry in os.scandir(self.folder) if entry.name.endswith(".owner")}
        return [name for name in self.todo if name not in self.results and f".{name}.owner" in claims]

    def best(self) -> tuple[str, float] | None:
        """Return the name of the run with the highest test accuracy, and the accuracy."""
        measured = [(one.values[METRIC], name) for name, one in self.results.items() if METRIC in one.values]
        if not measured:
            return None
        accuracy, name = max(measured)
        return name, accuracy

    def seconds_left(self) -> float | None:
        """Return for how long the sweep will go if it goes as fast as until now, or None before the first run ends."""
        done = sum(name in self.results for name in self.todo)
        return (time.monotonic() - self.start) / done * (len(self.todo) - done) if done else None

    def facts(self) -> dict[str, str]:
        """Return what the table says, by the heads of its columns."""
        running, best, left = len(self.running()), self.best(), self.seconds_left()
        return {
            "done": str(len(self.results) - len(self.failed)),
            "failed": str(len(self.failed)),
            "running": str(running),
            "waiting": str(self.total - len(self.results) - running),
            "best test accuracy": "-" if best is None else f"{100 * best[1]:.2f} %",
            "seconds left": "-" if left is None else f"{left:.0f}",
        }

    def lines(self) -> list[str]:
        """Return what stands below the table: who is running, and which run is the best."""
        running, best = self.running(), self.best()
        lines = [f"running: {name}" for name in running[:SHOWN]]
        lines += [f"and {len(running) - SHOWN} more"] if len(running) > SHOWN else []
        return lines + ([f"best: {best[0]}"] if best else [])

    def __rich__(self) -> Group:
        facts = self.facts()
        table = Table(*facts)
        table.add_row(*facts.values())
        link = [f"Dask's dashboard: {self.link}"] if self.link else []
        return Group(table, *map(Text, self.lines() + link))

    def __repr__(self) -> str:
        """Say in one line what the table says, for notebooks that show no HTML."""
        return ", ".join(f"{what} {value}" for what, value in self.facts().items())

    def _repr_html_(self) -> str:
        """Return the table for a notebook, in its own colours."""
        facts = self.facts()
        heads = "".join(f"<th scope='col'>{what}</th>" for what in facts)
        cells = "".join(f"<td>{value}</td>" for value in facts.values())
        bar = f"<progress aria-label='Runs that have ended' max='{self.total}' value='{len(self.results)}'></progress>"
        lines = "".join(f"<div>{escape(line)}</div>" for line in self.lines())
        link = f"<div><a href='{escape(self.link)}'>Dask's dashboard</a></div>" if self.link else ""
        return f"{bar}<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>{lines}{link}"


@contextmanager
def showing(board: Board, progress: bool) -> Iterator[Callable[[], None]]:
    """Show a board for as long as the `with` lasts, and give you a function that brings it up to date."""
    console = Console(stderr=True, emoji=False)
    if not progress:
        yield lambda: None
    elif console.is_jupyter:
        from IPython.display import display

        handle = display(board, display_id=True)
        assert handle is not None  # as it has an id
        yield _seldom(lambda: handle.update(board))
        time.sleep(REFRESH)  # JupyterLab confuses updates that come at once
        handle.update(board)
    else:
        with Live(board, console=console, auto_refresh=False) as live:
            yield _seldom(live.refresh)


def _seldom(show: Callable[[], None]) -> Callable[[], None]:
    """Return a function that shows something, but not twice within a moment."""
    last = time.monotonic()

    def refresh() -> None:
        nonlocal last
        if time.monotonic() - last > REFRESH:
            last = time.monotonic()
            show()

    return refresh
