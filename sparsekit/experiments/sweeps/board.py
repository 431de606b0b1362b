"""The table that follows a sweep, in a terminal by rich, and in a notebook by rich as well."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
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

    def __rich__(self) -> Group:
        running, best, left = self.running(), self.best(), self.seconds_left()
        waiting = self.total - len(self.results) - len(running)
        table = Table("done", "failed", "running", "waiting", "best test accuracy", "seconds left")
        counts = (len(self.results) - len(self.failed), len(self.failed), len(running), waiting)
        accuracy = "-" if best is None else f"{100 * best[1]:.2f} %"
        table.add_row(*map(str, counts), accuracy, "-" if left is None else f"{left:.0f}")
        lines = [f"running: {name}" for name in running[:SHOWN]]
        lines += [f"and {len(running) - SHOWN} more"] if len(running) > SHOWN else []
        lines += [f"best: {best[0]}"] if best else []
        lines += [f"Dask's dashboard: {self.link}"] if self.link else []
        return Group(table, *map(Text, lines))


@contextmanager
def showing(board: Board, progress: bool) -> Iterator[Callable[[], None]]:
    """Show a board for as long as the `with` lasts, and give you a function that brings it up to date."""
    if not progress:
        yield lambda: None
        return
    with Live(board, console=Console(stderr=True, emoji=False), auto_refresh=False) as live:
        last = time.monotonic()

        def refresh() -> None:
            nonlocal last
            if time.monotonic() - last > REFRESH:
                last = time.monotonic()
                live.refresh()

        yield refresh
