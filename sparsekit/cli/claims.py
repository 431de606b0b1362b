"""`sparsekit claims` measures what the papers say and writes the table."""

from pathlib import Path
from typing import Annotated

import typer

from sparsekit.cli.options import Compiled, DataRoot, Device, OnDevice
from sparsekit.cli.output import prepare
from sparsekit.cli.values import place

Only = Annotated[list[int] | None, typer.Option("--only", help="number of a fact, may be repeated, else all")]
Seeds = Annotated[int | None, typer.Option(min=2, help="runs of each kind, else what each fact asks for, usually 10")]
Fast = Annotated[bool, typer.Option("--fast", help="only the facts for which nothing is trained")]
Folder = Annotated[Path, typer.Option(file_okay=False, help="where runs and measured rows are kept")]
Page = Annotated[
    Path | None, typer.Option(dir_okay=False, help="file of the table, docs/claims.md when all facts are measured")
]
ALL_FACTS = Path("docs/claims.md")


def claims(
    only: Only = None,
    seeds: Seeds = None,
    fast: Fast = False,
    folder: Folder = Path("runs/claims"),
    page: Page = None,
    data_root: DataRoot = None,
    device: OnDevice = Device.cpu,
    compile: Compiled = False,
) -> None:
    """Measure what the papers say, fact by fact, with a verdict for each. What is finished is read.

    The table of all facts is written only after all of them, or where you name its file with --page. Facts that you
    did not measure keep the lines that they have in that file.
    """
    prepare(1)
    import torch

    from sparsekit.experiments.claims import FACTS, chosen_facts, page_of, rows_of
    from sparsekit.utils.files import write_text

    place(device, compile)
    facts = {number: fact.with_seeds(seeds) for number, fact in FACTS.items()}
    torch.set_num_threads(1)
    for fact in chosen_facts(facts, only):
        if fact.measure is None:
            if only:
                typer.echo(f"{fact.number:>2}  not measured: {fact.lacks}. {fact.decides or 'Nothing measures it yet'}")
        elif not (fast and fact.trains):
            for row in rows_of(fact, folder, root=data_root):
                typer.echo(f"{fact.number:>2}  {row.measurement}")
    if page is None and not (only or seeds or fast):
        page = ALL_FACTS
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, page_of(facts, folder, page.read_text(encoding="utf-8") if page.exists() else ""))
        typer.echo(f"wrote {page}")
