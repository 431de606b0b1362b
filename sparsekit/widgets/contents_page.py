"""The contents of the course as a page of links, with what the reader has done so far."""

from html import escape
from pathlib import Path

from sparsekit.experiments.course.contents import Chapter, chapters
from sparsekit.experiments.course.progress import BUDGET, read_progress
from sparsekit.widgets.base import STATIC, load_style

END_OF_COLOURS = "/* A figure that is a page"  # of style.css, whose colours this page has as well


class Contents:
    """The notebooks of a folder, each with a link, its exercises as dots, and above them the reader's best network.

    It is plain HTML, so its links work without a kernel, and it says what was so when its cell ran.

    Args:
        folder: of the notebooks.
        path: of the progress file, by default the folder's own if it holds copies of the notebooks.
    """

    def __init__(self, folder: str | Path = ".", path: Path | None = None):
        self.record, self.notice = read_progress(path)
        self.chapters = chapters(Path(folder), self.record)

    @property
    def solved(self) -> int:
        """How many exercises the reader has solved."""
        return sum(chapter.solved for chapter in self.chapters)

    @property
    def total(self) -> int:
        """How many exercises there are."""
        return sum(len(chapter.exercises) for chapter in self.chapters)

    def __repr__(self) -> str:
        guesses = self.record["guesses"].values()
        right = sum(guess["is_right"] is True for guess in guesses)
        done = f"{self.solved} of {self.total} exercises solved, {right} of {len(guesses)} guesses right."
        best = self.record["best"]
        reads = "Your best network is still to come." if best is None else f"Your best network reads {_percent(best)}."
        return f"{len(self.chapters)} notebooks. {done} {reads} {self.notice}".strip()

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self.chapters))
        notice = f'<p class="sk-soft">{escape(self.notice)}</p>' if self.notice else ""
        table = f'<table class="sk-contents-table" aria-label="Contents of the course"><tbody>{rows}</tbody></table>'
        page = f'<div class="sk"><div class="sk-contents">{self._head()}{table}{notice}</div></div>'
        return f"<style>{_style()}</style>{page}"

    def _head(self) -> str:
        best = self.record["best"]
        if best is None:
            keeps = f"<code>widgets.own_best</code> keeps one of at most {BUDGET:,} connections."
            number, text = "–", f"Your best network is still to come. {keeps}"
        else:
            number = _percent(best)
            text = f"Your best network so far has {best['connections']:,} connections ({escape(best['by'])})."
        guesses = self.record["guesses"].values()
        right = sum(guess["is_right"] is True for guess in guesses)
        done = f"{self.solved} of {self.total} exercises solved, {right} of {len(guesses)} guesses right"
        return f'<div class="sk-contents-best"><b>{number}</b><p>{text}<br><span>{done}</span></p></div>'


def _percent(best: dict) -> str:
    return f"{100 * best['accuracy']:.1f} %"


def _row(chapter: Chapter) -> str:
    dots = ["solved"] * chapter.solved + ["tried"] * chapter.tried
    dots += ["open"] * (len(chapter.exercises) - len(dots))
    said = f"{chapter.solved} of {len(chapter.exercises)} exercises solved" if dots else "no exercises"
    circles = "".join(f'<i class="sk-is-{dot}"></i>' for dot in dots)
    minutes = f"{chapter.minutes} min" if chapter.minutes else ""
    return (
        f'<tr><td class="sk-contents-number">{int(chapter.number)}</td>'
        f'<td><a href="{escape(chapter.file)}">{escape(chapter.title)}</a></td>'
        f'<td class="sk-contents-time">{minutes}</td>'
        f'<td class="sk-contents-dots" role="img" aria-label="{said}" title="{said}">{circles}</td></tr>'
    )


def _style() -> str:
    """Return the colours of all widgets and the rules of this page."""
    colours = load_style().partition(END_OF_COLOURS)[0]
    return colours + (STATIC / "contents.css").read_text(encoding="utf-8")
