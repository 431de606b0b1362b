"""`sparsekit site`: the course as static pages whose widgets are alive, to be opened from a disk without a kernel."""

from pathlib import Path
from typing import Annotated

import typer

from sparsekit.cli.course import Notebooks


def site(
    out: Annotated[Path, typer.Argument(file_okay=False, help="folder of the pages, which is made if it is missing")],
    notebooks: Notebooks = None,
    only: Annotated[
        list[str] | None, typer.Option(help="execute only notebooks that begin so, 03 for example. May be repeated")
    ] = None,
    recordings: Annotated[
        Path, typer.Option(file_okay=False, help="folder that keeps the executed notebooks for the next time")
    ] = Path(".site"),
    keep: Annotated[
        bool, typer.Option("--keep", help="take recordings of older code, too, rather than execute again")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="notebooks to execute at a time, else one for each processor")
    ] = None,
) -> None:
    """Write the course as pages that need no kernel, no server and no network.

    Every notebook is executed once, which takes about a minute each. Then its page has the same widgets, alive. What
    only a kernel could compute is shown as it was recorded. Pages of notebooks that you leave out have still images.
    The reference is made from the docstrings of the package, and the gallery from the code of its own page.
    """
    from sparsekit.cli.course.copies import course_folder, originals_in
    from sparsekit.cli.site.pages import pages_of, write_site
    from sparsekit.cli.site.recording import record_all
    from sparsekit.cli.site.reference import reference_pages

    reference = reference_pages()  # first, because it says at once which package is missing
    notebooks = notebooks or course_folder()
    sources = originals_in(notebooks)
    root = notebooks.resolve().parent
    shown = [*sources, *root.glob("docs/gallery.md")]
    notebooks_to_run = [one for one in shown if not only or one.name.startswith(tuple(only))]
    executed = record_all(notebooks_to_run, recordings, keep=keep, workers=workers, tell=typer.echo)
    pages = pages_of(sources, executed, root)
    files = write_site([*pages, *reference], out)
    typer.echo(f"wrote {len(files)} pages. Open {files[0]}")
