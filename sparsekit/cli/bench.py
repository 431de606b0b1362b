"""`sparsekit bench` measures speed on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from sparsekit.cli.options import Suite
from sparsekit.cli.output import prepare, print_row


def bench(
    suites: Annotated[list[Suite] | None, typer.Argument(help="what to measure, else everything")] = None,
    threads: Annotated[int, typer.Option(min=1, help="that every method may use")] = 1,
    sparsity: Annotated[list[float] | None, typer.Option(help="share of missing weights, may be repeated")] = None,
    only: Annotated[
        str | None, typer.Option(help="one case: linear, conv, mlp, resnet20, tiny-gpt, ..., or a width")
    ] = None,
    quick: Annotated[bool, typer.Option(help="smaller and fewer cases, within a minute")] = False,
    folder: Annotated[Path, typer.Option(file_okay=False, help="for results and report")] = Path("benchmarks"),
) -> None:
    """Measure the speed of sparse training on this machine, beside dense torch and other sparse kernels."""
    prepare(threads)
    from sparsekit.analysis.costs.benchmark import SUITES, Options, load, measure, render, save
    from sparsekit.utils.files import write_text

    folder = folder / "quick" if quick else folder  # fast numbers must not replace careful ones
    sparsities = tuple(sparsity) if sparsity else None
    options = Options(threads=threads, sparsities=sparsities, only=only, quick=quick)
    files = {name: folder / "results" / f"{name}.jsonl" for name in SUITES}
    for file in filter(Path.exists, files.values()):
        load(file)  # we want to know of a damaged one before hours of measuring
    for name in suites or SUITES:
        save(files[name], name, list(map(print_row, measure(name, options))))
    report = render({name: load(file) for name, file in files.items() if file.exists()})
    write_text(folder / "REPORT.md", report)
    typer.echo(f"wrote {folder / 'REPORT.md'}")
