"""Notebooks are executed once, and their recordings keep what their widgets know, so that pages come from files."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from sparsekit.utils.files import write_text
from sparsekit.utils.notebook_files import read_notebook, source_of
from sparsekit.utils.optional import require

INSTALL = "sparsekit-lab[notebooks]"
PACKAGE = Path(__file__).resolve().parents[2]
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUIET = ["--IPKernelApp.log_level=ERROR"]  # the warning that a kernel listens on this machine, once for each notebook
TIMEOUT = 300  # seconds a cell may take, as when we build the notebooks
SOURCES = (".py", ".js", ".css")  # of the package, any of which may change what a notebook shows
COMPLETE = """  # a last cell, which is not kept
import sys
if (_base := sys.modules.get("sparsekit.widgets.base")) is not None:
    _base.complete_all()
"""


def recorded(notebook: Path, folder: Path, *, keep: bool = False, tell: Callable[[str], None] = print) -> Path:
    """Return an executed copy of a notebook with the state of its widgets, and execute it if there is no fresh one.

    Args:
        notebook: the file, in whose folder its cells run. A text in Markdown is one, too, with its code as cells that
            run beside the recording.
        folder: of the recordings, which is made if it is missing.
        keep: whether a recording by other versions of the package and the notebook is good enough.
        tell: hears which notebook is executed, since that takes a while.

    Raises:
        ImportError: if the packages of notebooks are missing.
        ValueError: if the file is no notebook, or a cell fails.
    """
    is_text = notebook.suffix == ".md"
    target, stamp = folder / f"{notebook.stem}.ipynb", _stamp(notebook)
    if target.exists() and (keep or read_notebook(target)["metadata"].get("sparsekit", {}).get("stamp") == stamp):
        return target
    tell(f"executing {notebook.name}")
    nbformat = require("nbformat", install=INSTALL)
    folder.mkdir(parents=True, exist_ok=True)
    book = notebook_of(notebook.read_text(encoding="utf-8")) if is_text else nbformat.read(notebook, 4)
    book = executed(book, folder if is_text else notebook.parent, notebook.name)
    book.metadata["sparsekit"] = {"stamp": stamp}
    write_text(target, nbformat.writes(book))
    return target


def record_all(
    notebooks: Sequence[Path],
    folder: Path,
    *,
    keep: bool = False,
    workers: int | None = None,
    tell: Callable[[str], None] = print,
) -> dict[Path, Path]:
    """Return a recording of each notebook, of which several are executed at a time, each in a kernel of its own.

    Args:
        notebooks: as for `recorded`, and the other arguments likewise.
        workers: how many at a time. None takes as many as there are processors.

    Raises:
        ImportError: if the packages of notebooks are missing.
        ValueError: if a file is no notebook, or a cell fails.
    """
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        futures = [pool.submit(recorded, one, folder, keep=keep, tell=tell) for one in notebooks]
        try:
            return {one: future.result() for one, future in zip(notebooks, futures, strict=True)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def notebook_of(text: str) -> Any:
    r"""Return a notebook of a text in Markdown, whose blocks of Python are its cells.

    Raises:
        ImportError: if the packages of notebooks are missing.

    Example:
        >>> [cell.cell_type for cell in notebook_of("# Sums\n\n```python\n1 + 1\n```\n").cells]
        ['markdown', 'code']
    """
    cells = require("nbformat", install=INSTALL).v4
    pieces = [
        cells.new_code_cell(piece.rstrip()) if number % 2 else cells.new_markdown_cell(piece.strip())
        for number, piece in enumerate(CODE.split(text))
        if piece.strip()
    ]
    return cells.new_notebook(cells=pieces)


def executed(book: Any, folder: Path, name: str) -> Any:
    """Run all cells in a fresh kernel, then let each widget add what it needs where no kernel answers.

    Args:
        book: a notebook, as nbformat holds it. We change it.
        folder: where its cells run.
        name: of the notebook, for messages.

    Raises:
        ImportError: if the packages of notebooks are missing.
        ValueError: if a cell fails.
    """
    nbclient, nbformat = (require(one, install=INSTALL) for one in ("nbclient", "nbformat"))
    book.cells.append(nbformat.v4.new_code_cell(COMPLETE))
    resources = {"metadata": {"path": str(folder)}}
    try:
        client = nbclient.NotebookClient(book, timeout=TIMEOUT, record_timing=False, resources=resources)
        client.extra_arguments = [*QUIET]
        client.execute()
    except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError) as error:
        raise ValueError(
            f"every cell must run, but one of {name} has failed: {error}. Mend it in JupyterLab"
        ) from error
    book.cells.pop()
    return book


def _stamp(notebook: Path) -> str:
    """Return a text that changes with the notebook's cells and with the package's code."""
    if notebook.suffix == ".md":
        cells = notebook.read_text(encoding="utf-8")
    else:
        cells = "\n".join(source_of(cell) for cell in read_notebook(notebook)["cells"])
    return hashlib.sha256(f"{_code_stamp()}\n{cells}".encode()).hexdigest()[:16]


@cache
def _code_stamp() -> str:
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES and "cli" not in path.parts)
    return hashlib.sha256(b"\n".join(path.read_bytes() for path in files)).hexdigest()
