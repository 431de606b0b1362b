"""Grade a folder of submissions: a table for the teacher, and a page for every student."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sparsekit.experiments.course.apart import Apart
from sparsekit.experiments.course.exercise import OPEN, Exercise, Verdict
from sparsekit.experiments.course.tasks import exercises
from sparsekit.utils.files import write_text
from sparsekit.utils.notebook_files import code_of, definitions_in, read_notebook

TABLE = "grades.csv"


@dataclass(frozen=True)
class Submission:
    """What a student handed in.

    Args:
        student: the name of the folder, or of the file without its ending.
        files: notebooks and Python files, in order.
    """

    student: str
    files: tuple[Path, ...]


def submissions_in(folder: Path) -> list[Submission]:
    """Return the submissions of a folder: one for each name that a folder in it has, or a file directly in it.

    Raises:
        ValueError: if there is none.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            files.setdefault(path.name, []).extend(_files_in(path))
    for path in _files_in(folder):
        files.setdefault(path.stem, []).append(path)
    found = [Submission(name, tuple(own)) for name, own in files.items() if own and not name.startswith(".")]
    if not found:
        raise ValueError(f"{folder} must hold submissions, got no notebook. Make a folder in it for each student")
    return sorted(found, key=lambda one: one.student)


def grade_folder(
    folder: Path,
    out: Path,
    *,
    seconds: float,
    memory: int,
    only: str = "",
    tell: Callable[[str], object] = lambda line: None,
) -> list[Path]:
    """Grade all submissions and write the table and the pages. Return the files.

    Args:
        folder: of the submissions.
        out: for table and pages, which replace those of an earlier call.
        seconds: that an answer may take.
        memory: bytes that an answer may use.
        only: what the notebooks' numbers begin with, for example `02`.
        tell: hears a line for each student.

    Raises:
        ValueError: if there are no submissions, or no such exercises.
        OSError: if the system cannot fork.
    """
    tasks, submissions = exercises(only), submissions_in(folder)
    if not tasks:
        raise ValueError(f"only must be the beginning of a notebook's number, got {only!r}. Leave it out for all")
    out.mkdir(parents=True, exist_ok=True)
    rows, pages = [], []
    try:
        with Apart(seconds=seconds, memory=memory) as apart:
            for submission in submissions:
                verdicts = grade(submission, tasks, apart)
                rows.append((submission.student, verdicts))
                pages.append(out / f"{submission.student}.md")
                write_text(pages[-1], _encodable(page_of(submission, tasks, verdicts)))
                tell(_encodable(f"{submission.student}: {sum(map(bool, verdicts.values()))} of {len(tasks)}"))
    finally:  # who stops this keeps the marks so far
        write_text(out / TABLE, _encodable(table_of(tasks, rows)))
    return [out / TABLE, *pages]


def grade(submission: Submission, tasks: list[Exercise], apart: Apart) -> dict[str, Verdict]:
    """Return the verdict on each exercise. What was not handed in is open."""
    definitions, unreadable = {}, []
    for path in submission.files:
        try:
            definitions[path] = _definitions_of(path)
        except Exception as error:  # a file may be anything, and costs its student only
            unreadable.append(f"{path.name} cannot be read ({error}).")
    verdicts = {}
    for task in tasks:
        code = _code_for(task, definitions)
        if code:
            verdicts[task.name] = apart.check(task, code)
        else:
            message = " ".join(["You have not handed in an answer.", *unreadable])
            verdicts[task.name] = Verdict(False, message, task.hints, OPEN)
    return verdicts


def table_of(tasks: list[Exercise], rows: list[tuple[str, dict[str, Verdict]]]) -> str:
    """Return a table as CSV: 1 for a right answer, 0 for a wrong one, nothing where none was handed in."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", *(task.name for task in tasks), "total"])
    for student, verdicts in rows:
        marks = ["" if verdicts[task.name].state == OPEN else int(bool(verdicts[task.name])) for task in tasks]
        name = f"'{student}" if student[:1] in "=+-@" else student  # a spreadsheet would compute it
        writer.writerow([name, *marks, sum(map(bool, verdicts.values()))])
    return text.getvalue()


def page_of(submission: Submission, tasks: list[Exercise], verdicts: dict[str, Verdict]) -> str:
    """Return a student's page as markdown, with the first hint for whatever is not right."""
    solved = sum(map(bool, verdicts.values()))
    lines = [f"# {submission.student}: {solved} of {len(tasks)}", ""]
    for task in tasks:
        verdict = verdicts[task.name]
        mark = "✓" if verdict else "○" if verdict.state == OPEN else "×"
        lines += [f"## {mark} `{task.name}` (notebook {task.notebook})", "", _harmless(verdict.message), ""]
        if verdict.hints:
            lines += [f"*Hint:* {verdict.hints[0]}", ""]
    return "\n".join(lines)


def _harmless(message: str) -> str:
    """Return a message without the characters by which a student's text could become HTML or a link on the page."""
    return message.replace("<", "&lt;").replace("](", "] (").replace("`", "'")


def _encodable(text: str) -> str:
    """Return a text that a file can hold. Half a character, which Python allows in a text, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix in (".ipynb", ".py") and path.is_file())


def _definitions_of(path: Path) -> str:
    cells = code_of(read_notebook(path)) if path.suffix == ".ipynb" else [path.read_text(encoding="utf-8")]
    return definitions_in(cells)


def _code_for(task: Exercise, definitions: dict[Path, str]) -> str:
    """Return the definitions of the file that answers an exercise, its own notebook's before others, or ""."""
    answering = [path for path, code in definitions.items() if _defines(code, task.name)]
    own = [path for path in answering if path.name.startswith(task.notebook)]
    return definitions[(own or answering)[-1]] if answering else ""


def _defines(code: str, name: str) -> bool:
    starts = (f"def {name}(", f"{name} = ", f"{name}: ")
    return any(line.startswith(starts) for line in code.splitlines())
