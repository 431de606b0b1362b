"""What a teacher hands out: notebooks without solutions, or all notebooks with a guide that is made from them."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sparsekit.cli.course.copies import originals_in
from sparsekit.experiments.course.contents import chapters
from sparsekit.experiments.course.exercise import Cases
from sparsekit.experiments.course.progress import empty
from sparsekit.experiments.course.tasks import exercises
from sparsekit.experiments.course.tasks.trials import Trial
from sparsekit.utils.files import write_text
from sparsekit.utils.notebook_files import (
    Notebook,
    code_of,
    read_notebook,
    source_of,
    without_solutions,
    write_notebook,
)

GUIDE = "teachers_guide.md"
DISCUSSION = re.compile(r"^## Check yourself\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FOLDED = re.compile(r"<details><summary>(?!Solution)(.*?)</summary>\s*(.*?)</details>", re.DOTALL)


def build_student(notebooks: Path, out: Path) -> list[Path]:
    """Write the notebooks without solutions and outputs. Return the files.

    Raises:
        ValueError: if there are no notebooks, or the folder is not empty.
    """
    return _write_all(notebooks, out, without_solutions)


def build_teacher(notebooks: Path, out: Path) -> list[Path]:
    """Write the notebooks as they are, and a guide to them. Return the files.

    Raises:
        ValueError: if there are no notebooks, or the folder is not empty.
    """
    written = _write_all(notebooks, out, lambda notebook: notebook)
    write_text(out / GUIDE, guide_to(notebooks))
    return [*written, out / GUIDE]


def _write_all(notebooks: Path, out: Path, changed: Callable[[Notebook], Notebook]) -> list[Path]:
    """Write every notebook as it is to be handed out. Return the files."""
    sources = originals_in(notebooks)
    _check_empty(out)
    for path in sources:
        write_notebook(out / path.name, changed(read_notebook(path)))
    return [out / path.name for path in sources]


def guide_to(notebooks: Path) -> str:
    """Return a teacher's guide as markdown: time, questions, exercises with the mistakes to expect, and discussion."""
    course = chapters(notebooks, empty())
    hours = sum(chapter.minutes for chapter in course) / 60
    lines = [
        "# Teacher's guide",
        "",
        f"The course has {len(course)} notebooks, which say that they take {hours:.1f} hours in all. Each "
        "has a question. Let students choose before you run anything, since their first choice is kept.",
        "",
        "`sparsekit course build OUT --student` writes what you hand out. `sparsekit course grade FOLDER` runs what "
        "comes back, and writes a table and a page for each student.",
    ]
    for chapter in course:
        notebook = read_notebook(notebooks / chapter.file)
        lines += ["", f"## {int(chapter.number)}. {chapter.title}", "", f"Time: {chapter.minutes or '?'} minutes."]
        lines += [*_questions(notebook), *_mistakes(chapter.number), *_discussion(notebook)]
    return "\n".join(lines) + "\n"


def _questions(notebook: Notebook) -> Iterator[str]:
    """Write what the notebook lets students predict, with the answer."""
    for number, (question, options, answer, because) in enumerate(predictions_in(notebook)):
        if number == 0:
            yield from ("", "### Questions to predict")
        yield from ("", f"**{question}**", "")
        for index, option in enumerate(options):
            yield f"- {option}" + (" (right)" if index == answer else "")
        yield from ("", because) if because else ()


def predictions_in(notebook: Notebook) -> Iterator[tuple[str, list[str], int | None, str]]:
    """Yield question, options, answer and explanation of every `widgets.Predict(...)` that is written out."""
    for code in code_of(notebook):
        try:
            calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        except SyntaxError:  # a magic command
            continue
        for call in calls:
            if ast.unparse(call.func).rpartition(".")[2] == "Predict" and (written := _written_out(call)):
                yield written


def _written_out(call: ast.Call) -> tuple[str, list[str], int | None, str] | None:
    names = ("question", "options", "answer", "because")
    given = dict(zip(names, call.args, strict=False)) | {word.arg: word.value for word in call.keywords if word.arg}
    try:
        values = {name: ast.literal_eval(node) for name, node in given.items()}
    except ValueError:  # it is computed
        return None
    return values["question"], list(values["options"]), values.get("answer"), values.get("because", "")


def _mistakes(notebook: str) -> Iterator[str]:
    """Write the exercises of a notebook and the wrong answers that we know, with what the check says."""
    for number, task in enumerate(exercises(notebook)):
        if number == 0:
            yield from ("", "### Exercises, and answers to expect")
        yield from ("", f"**`{task.name}`**", "")
        if isinstance(task, Cases) and task.mistakes:
            yield "Students who get it wrong usually hear one of these sentences."
            yield ""
            yield from (f"- {mistake.message}" for mistake in task.mistakes)
            yield ""
        if isinstance(task, Trial):
            yield f"The answer is a number from {task.low:g} to {task.high:g}, and the check tries it out."
            yield f"Whoever leaves this range hears: {task.outside}"
            yield ""
        yield "Hints, in steps."
        yield ""
        yield from (f"{step}. {hint}" for step, hint in enumerate(task.hints, 1))


def _discussion(notebook: Notebook) -> Iterator[str]:
    """Write the questions of the section "Check yourself", and the answers where they are folded below."""
    texts = [source_of(cell) for cell in notebook["cells"] if cell.get("cell_type") == "markdown"]
    section = next((found[1] for text in texts if (found := DISCUSSION.search(text))), "")
    if not section:
        return
    yield from ("", "### Discussion", "")
    folded = FOLDED.findall(section)
    yield from (f"- **{_line(question)}** {_line(answer)}" for question, answer in folded)
    if not folded:
        yield section.strip()


def _line(text: str) -> str:
    return " ".join(text.split())


def _check_empty(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"a handout must go to a new or empty folder, got {out} with files in it. Name another")
