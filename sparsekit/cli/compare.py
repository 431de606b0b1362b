"""`sparsekit compare`: all methods, or chosen ones, under one protocol."""

from pathlib import Path
from typing import Annotated

import typer

from sparsekit.cli.options import Compiled, DataRoot, Device, Initialised, Mixed, OnDevice, Workers
from sparsekit.cli.output import prepare, write_comparison
from sparsekit.cli.sweep import workers_or_none
from sparsekit.cli.values import autocast_of, init_of, place


def compare(
    data: Annotated[str, typer.Option(help="see: sparsekit list data")] = "digits",
    recipe: Annotated[str | None, typer.Option(help="the protocol, else the fastest of the data")] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="a rule, a score or dense, may be repeated, else all")
    ] = None,
    density: Annotated[list[float] | None, typer.Option(help="share of weights that exist, may be repeated")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each, from seed 0")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the training data")] = None,
    init: Initialised = None,
    threads: Annotated[int, typer.Option(min=1, help="that every run may use")] = 1,
    workers: Workers = 1,
    folder: Annotated[Path, typer.Option(file_okay=False, help="where runs, table and figures are kept")] = Path(
        "runs/compare"
    ),
    data_root: DataRoot = None,
    device: OnDevice = Device.auto,
    compile: Compiled = False,
    autocast: Mixed = None,
) -> None:
    """Train all methods, or chosen ones, under one protocol. Write a table and figures. Finished runs are read."""
    prepare(threads)
    import torch

    from sparsekit.experiments.compare import compare as compared
    from sparsekit.experiments.compare import markdown_of, table_of
    from sparsekit.experiments.recipes import recipe_for

    torch.set_num_threads(threads)
    place(device, compile)
    recipe, cells = recipe or recipe_for(data), []
    settings = ({} if epochs is None else {"epochs": epochs}) | init_of(init) | autocast_of(autocast)
    densities = density or (0.05,)
    with workers_or_none(workers, threads) as client:
        for cell in compared(
            recipe, method, densities=densities, seeds=seeds, folder=folder, root=data_root, client=client, **settings
        ):
            cells.append(cell)
            run = f"{cell.method:18} density {cell.target_density:<6g} seed {cell.seed:<3}"
            typer.echo(f"{run} {100 * cell.accuracy:6.2f} %")
    table = table_of(cells)
    typer.echo("\n" + markdown_of(table))
    for file in write_comparison(table, folder, recipe):
        typer.echo(f"wrote {file}")
