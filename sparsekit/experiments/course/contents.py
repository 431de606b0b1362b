"""The contents of the course, as read from the notebooks, and what a reader has done of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sparsekit.experiments.course.progress import Record
from sparsekit.experiments.course.tasks import exercises
from sparsekit.utils.notebook_files import Notebook, read_notebook, source_of

NAME = re.compile(r"(\d\d)_\w+\.ipynb")


@dataclass(frozen=True)
class Chapter:
    """A notebook of the course.

    Args:
        number: the two digits that its name begins with.
        file: its name.
        title: its first heading, without the number.
        minutes: that it says it takes, or 0.
        exercises: the names of its exercises.
        solved: how many of them the reader has solved.
        tried: how many others the reader has tried.
    """

    number: str
    file: str
    title: str
    minutes: int
    exercises: tuple[str, ...]
    solved: int = 0
    tried: int = 0


def chapters(folder: Path, record: Record) -> list[Chapter]:
    """Return the notebooks of a folder in order, with what a record says of them. Damaged files are left out."""
    return list(_chapters(folder, record))


def _chapters(folder: Path, record: Record) -> Iterator[Chapter]:
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        match = NAME.fullmatch(path.name)
        try:
            notebook = read_notebook(path)
        except (ValueError, OSError):
            continue
        if match is not None:
            yield _chapter(match[1], path.name, notebook, record)


def _chapter(number: str, file: str, notebook: Notebook, record: Record) -> Chapter:
    first = next((source_of(cell) for cell in notebook["cells"] if cell.get("cell_type") == "markdown"), "")
    title = re.search(r"^#\s+(?:\d+\.\s*)?(.+)$", first, re.MULTILINE)
    minutes = re.search(r"\*\*(\d+) minutes", first)
    names = tuple(one.name for one in exercises(number))
    done = [record["exercises"].get(name, {}) for name in names]
    return Chapter(
        number=number,
        file=file,
        title=title[1] if title else file,
        minutes=int(minutes[1]) if minutes else 0,
        exercises=names,
        solved=sum(bool(one.get("solved")) for one in done),
        tried=sum(bool(one) and not one.get("solved") for one in done),
    )
