"""The table of all facts as a page in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sparsekit.experiments.claims.base import Fact
from sparsekit.experiments.claims.rows import MeasuredRow, path_of, read

HEAD = """# What the papers say, and what we measured

`sparsekit claims` writes this page. A claim is *reproduced* if t lies above Student's threshold, *contradicted* if it
lies below minus the threshold, and else *undecided*. Means are differences between the two sides of the claim, over
runs with the same seeds where a setting does not say otherwise, and ± is their standard error. The seeds begin at
1000, and no setting was chosen with them. An *exact* row has no chance in it, and its verdict says whether the measured
number agrees with the predicted one. Of a fact that was not measured, the table says what it would take.

"""
COLUMNS = ("fact", "claim", "setting", "n", "mean ± s.e.", "t", "threshold", "verdict", "command", "processor")


def page_of(facts: Mapping[int, Fact], folder: Path, previous: str = "") -> str:
    """Return the page. Rows are read from a folder, and facts without any are listed as not measured.

    Args:
        facts: all of them, by number.
        folder: where runs and rows are kept.
        previous: the page so far. A fact without rows in the folder keeps its lines, if its setting is still the same.

    Raises:
        ValueError: if a file of rows is damaged.
    """
    lines = [_line(COLUMNS), "|" + "---|" * len(COLUMNS)]
    for fact in facts.values():
        path = path_of(fact, folder)
        earlier = [] if path.exists() else _measured_lines(fact, previous)
        lines += earlier or table_lines(fact, read(path) if path.exists() else [])
    return HEAD + "\n".join(lines) + "\n\n## The facts and their sources\n\n" + "\n".join(_sources(facts)) + "\n"


def table_lines(fact: Fact, rows: Sequence[MeasuredRow]) -> Iterator[str]:
    """Yield a line of the table for each row of a fact, or one that says why there is none."""
    command = f"`{fact.command(fact.seeds)}`"
    for row in rows:
        n, mean, t, threshold = row.measurement.cells
        verdict = f"**{row.measurement.verdict}**"
        numbers = (n, mean, t, threshold, verdict)
        yield _line((str(fact.number), row.measurement.text, fact.setting, *numbers, command, row.processor))
    if not rows:
        status = "not run here" if fact.decides else "not measured yet"
        reason = f"{status}: {fact.lacks}" if fact.lacks else f"{status}: about {fact.minutes:g} minutes of one core"
        yield _line((str(fact.number), fact.text, fact.setting, "-", "-", "-", "-", reason, command, "-"))


def _measured_lines(fact: Fact, page: str) -> list[str]:
    """Return the lines of a page that give a fact's verdicts in its present setting."""
    start = _line((str(fact.number), "")).removesuffix(" |")
    setting = " | " + fact.setting.replace("|", r"\|") + " | "
    return [line for line in page.splitlines() if line.startswith(start) and setting in line and "| **" in line]


def _sources(facts: Mapping[int, Fact]) -> Iterator[str]:
    yield "| fact | what it says | source |"
    yield "|---|---|---|"
    for fact in facts.values():
        yield _line((str(fact.number), fact.text, fact.source))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
