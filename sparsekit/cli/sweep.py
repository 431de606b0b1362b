"""`sparsekit sweep` carries out the experiments of a grid on workers, and prints a table of results."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsekit.cli.options import DataRoot, Folder, Progress
from sparsekit.cli.output import print_table

if TYPE_CHECKING:
    import pandas as pd

    from sparsekit.experiments.sweeps import Grid

GridFile = Annotated[Path, typer.Argument(metavar="GRID.toml", exists=True, dir_okay=False, help="the experiments")]
Processes = Annotated[int | None, typer.Option(min=1, help="processes on this machine, else one for each processor")]
Scheduler = Annotated[str | None, typer.Option(help="address of a running Dask scheduler, as tcp://host:8786")]


def sweep(
    grid: GridFile,
    workers: Processes = None,
    scheduler: Scheduler = None,
    folder: Folder = Path("runs"),
    data_root: DataRoot = None,
    progress: Progress = True,
) -> None:
    """Carry out a grid of experiments side by side. Finished runs are read, and Ctrl-C stops until the next call."""
    from sparsekit.experiments.sweeps import read_grid
    from sparsekit.experiments.sweeps import sweep as carried_out

    experiments = read_grid(grid, root=data_root)
    with ExitStack() as stack:
        client = None if scheduler is None else stack.enter_context(_client_at(scheduler))
        try:
            results = carried_out(
                experiments.experiments, folder, client=client, workers=workers, root=data_root, progress=progress
            )
        except KeyboardInterrupt:
            typer.echo("stopped. The same command continues", err=True)
            raise typer.Exit(130) from None
    _print_results(experiments, results)
    if any(results["error"]):
        raise typer.Exit(1)


def workers_or_none(workers: int, threads: int | None = None) -> AbstractContextManager[Any]:
    """Return worker processes for the length of a `with`, or None where one is enough, so that work is done here."""
    if workers == 1:
        return nullcontext()
    from sparsekit.experiments.sweeps import local_client

    return local_client(workers, threads=threads)


def _client_at(address: str) -> Any:
    """Return a client of a scheduler that runs somewhere.

    Raises:
        ImportError: if Dask is not installed.
        OSError: if nobody answers.
    """
    from sparsekit.experiments.sweeps import import_dask

    client, _, _ = import_dask()
    return client(address)


def _print_results(grid: "Grid", results: "pd.DataFrame") -> None:
    axes = list(grid.settings[0])
    measured = [name for name in ("test accuracy", "density") if name in results]
    rows = [
        (
            *(str(settings[axis]) for axis in axes),
            *(f"{row[name]:.4f}" for name in measured),
            row["run"],
            row["error"],
        )
        for settings, row in zip(grid.settings, results.to_dict("records"), strict=True)
    ]
    print_table([*axes, *measured, "run", "error"], rows)
