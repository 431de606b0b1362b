"""`sparsekit warm-up` compiles the sparse kernels before a training waits for them."""

from typing import Annotated

import typer


def warm_up(
    threads: Annotated[int | None, typer.Option(min=1, help="of trainings to come, else as many as torch uses")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes at a time, else one for each processor")] = None,
) -> None:
    """Compile the kernels of storage csr for this processor, once, for all environments of this user."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sparsekit.kernels import backend
    from sparsekit.kernels.ahead import GROUPS, compile_ahead

    if not backend.is_fast(torch.zeros(1)):  # which says why
        raise typer.Exit(1)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        task = progress.add_task("compiling", total=len(GROUPS))
        for name in compile_ahead(threads=threads or torch.get_num_threads(), workers=workers):
            progress.console.print(f"ready: {name}")
            progress.advance(task)
