"""`sparsekit course`: open and reset copies of the notebooks, hand out exercises, and grade what comes back."""

from pathlib import Path
from typing import Annotated

import typer

course = typer.Typer(help="Work through the notebooks, or teach with them.", no_args_is_help=True)

Notebooks = Annotated[
    Path | None, typer.Option("--notebooks", file_okay=False, help="folder of the originals, which stay as they are")
]
Work = Annotated[Path, typer.Option("--folder", file_okay=False, help="folder of your copies")]
COPIES = Path("work")
PASSED_ON = {"ignore_unknown_options": True}  # they become arguments then


@course.command(
    "open", context_settings=PASSED_ON, epilog="Example: [bold]sparsekit course open --no-browser --port 8899[/bold]"
)
def open_(
    jupyter: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTION]...", help="further options, for Jupyter")
    ] = None,
    notebooks: Notebooks = None,
    folder: Work = COPIES,
) -> None:
    """Open copies of the notebooks in JupyterLab. Further options go to Jupyter.

    Copies that you have changed stay as they are.
    """
    from sparsekit.cli.course.copies import course_folder, originals_in, update_copies
    from sparsekit.cli.course.lab import lab_command, run_lab

    notebooks = notebooks or course_folder()
    update = update_copies(notebooks, folder)
    if update.new:
        typer.echo(f"copied {len(update.new)} notebooks to {folder}")
    if update.renewed:
        typer.echo(f"renewed {', '.join(update.renewed)}, which you had not changed")
    for name in update.outdated:
        typer.echo(f"{name} has a newer original. To get it: sparsekit course reset {name[:2]}")
    code = run_lab(lab_command(folder, originals_in(notebooks)[0].name, jupyter or ()))
    raise typer.Exit(code)


@course.command(epilog="Example: [bold]sparsekit course reset 03[/bold]")
def reset(
    number: Annotated[str, typer.Argument(metavar="NN", help="what the notebook's name begins with")],
    notebooks: Notebooks = None,
    folder: Work = COPIES,
) -> None:
    """Begin a notebook again. Your copy is kept beside the new one."""
    from sparsekit.cli.course.copies import course_folder, reset_copy

    kept = reset_copy(notebooks or course_folder(), folder, number)
    typer.echo(f"{number} is as it was. " + (f"Your copy lies in {kept}" if kept else "You had no copy of it"))


@course.command(epilog="Example: [bold]sparsekit course build handout --student[/bold]")
def build(
    out: Annotated[Path, typer.Argument(file_okay=False, help="folder to write, which must be empty or new")],
    student: Annotated[
        bool, typer.Option("--student/--teacher", help="notebooks without solutions, or all with a guide")
    ],
    notebooks: Notebooks = None,
) -> None:
    """Write the notebooks for students, without solutions, or those for a teacher, with a guide."""
    from sparsekit.cli.course.copies import course_folder
    from sparsekit.cli.course.handout import build_student, build_teacher

    for file in (build_student if student else build_teacher)(notebooks or course_folder(), out):
        typer.echo(f"wrote {file}")


@course.command(epilog="Example: [bold]sparsekit course grade submissions --out grades[/bold]")
def grade(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="a folder of notebooks, or of one folder a student")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="for the table and the students' pages")] = Path("grades"),
    seconds: Annotated[float, typer.Option(min=0.1, help="that an answer may take")] = 20.0,
    megabytes: Annotated[int, typer.Option(min=100, help="that an answer may use beside what torch needs")] = 1000,
    only: Annotated[str | None, typer.Option(help="exercises of the notebooks that begin so, 02 for example")] = None,
) -> None:
    """Run every student's answers, each in a process of its own with limits. Write a table and a page for each.

    No line of a student's runs in this process, and a mistake in an answer costs that answer only. The limits guard
    against accidents. Against malice, grade in a container or as a user of its own. Call it as `sparsekit` and
    not as `python -m sparsekit`, which imports modules from the current folder.
    """
    from sparsekit.cli.course.grading import grade_folder

    for file in grade_folder(
        folder, out, seconds=seconds, memory=1_000_000 * megabytes, only=only or "", tell=typer.echo
    ):
        typer.echo(f"wrote {file}")
