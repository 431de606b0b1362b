"""Tick tickets in and out, move their weights, and see at once what their superposition can do."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure
from torch import nn

from sparsekit.evaluation.measuring import Batch
from sparsekit.experiments.sup_tickets.lab import Lab, Trial
from sparsekit.plots import plot_superposition, plot_votes
from sparsekit.plots.canvas import plain
from sparsekit.plots.colours import BASELINE, BLUE, PAPER, VERMILLION
from sparsekit.plots.tickets import LEFT_OUT
from sparsekit.tickets import Ticket
from sparsekit.widgets.controls import Field
from sparsekit.widgets.figure_explorer import FigureExplorer
from sparsekit.widgets.rendering import Picture

WIDTH, ROW = 980, 24  # of the picture, and height of a bar with its gap, in pixels
AVERAGES = (("mean", "missing counts as zero"), ("active", "only where it exists"))
PRUNES = (("once", "once, at the end"), ("each", "after each ticket"))


class TicketLab(FigureExplorer):
    """A bar for every ticket, for their ensemble and for their superposition, and which connections survive it.

    A view over the pure function `Lab.try_out`: every move of a control superposes and measures anew.

    Args:
        tickets: at least one, of networks with the same layers.
        model: with those layers; it stays as it is.
        test: examples to measure on, as a pair of inputs and labels.
        train: examples to refresh batch norm with; the test examples' inputs are never used for that.

    Attributes:
        trial: what is shown at the moment.

    Raises:
        ValueError: if there is no ticket, or they are not alike.
    """

    picture_format = "svg+xml"

    def __init__(self, tickets: Sequence[Ticket], model: nn.Module, *, test: Batch, train: Batch):
        self._lab = Lab.of(tickets, model, test=test, train=train)
        self.trial: Trial
        numbers = range(len(tickets))
        values: dict[str, Any] = {f"in {number}": True for number in numbers}
        values |= {f"weight {number}": 1.0 for number in numbers} | {"average": "mean", "prune": "once"}
        super().__init__(self._draw_trial, _fields(len(tickets)), values, title="What to superpose")

    def sentence(self) -> str:
        """Say what is shown."""
        return self.trial.sentence()

    def snapshot(self) -> Picture:
        """Draw the bars as they are now, as a picture that needs no browser."""
        figure = Figure(figsize=(10.4, 1.3 + 0.28 * len(self.trial.accuracies)), dpi=100, layout="constrained")
        ax, votes = figure.subplots(1, 2, width_ratios=(3, 2))
        plot_superposition(self.trial.accuracies, self.trial.chosen, ax).set_title("", loc="left")
        plot_votes(self.trial.votes, self.trial.survivors, votes)
        figure.suptitle(plain(self.sentence()), fontsize=10)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        return Picture(picture.getvalue(), self.sentence())

    def _draw_trial(self, **values: Any) -> None:
        numbers = range(len(self._lab.tickets))
        weights = [values[f"weight {number}"] if values[f"in {number}"] else 0.0 for number in numbers]
        if not any(weights):
            raise ValueError("at least one ticket must take part, got none; tick one, with a weight above 0")
        self.trial = self._lab.try_out(weights, average=values["average"], prune=values["prune"])

    def _picture(self) -> bytes:
        # The browser draws the letters: matplotlib takes a third of a second for these sixty words.
        return svg_of(self.trial).encode()

    def _layout(self) -> ipywidgets.Layout:
        return ipywidgets.Layout(width=f"{WIDTH}px", max_width="100%")


def svg_of(trial: Trial) -> str:
    """Return bars of the accuracies and, beside them, columns of the votes, as an SVG picture."""
    height = 40 + ROW * len(trial.accuracies)
    parts = [*_bars(trial), *_columns(trial, height)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    return f'{head}<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'


def _bars(trial: Trial) -> Iterator[str]:
    """Yield a bar for each network; lengths begin below the lowest accuracy, so that differences can be seen."""
    low, high = min(trial.accuracies.values()), max(trial.accuracies.values())
    first, room = max(0.0, low - 0.5 * max(0.02, high - low)), 380
    for place, (name, accuracy) in enumerate(trial.accuracies.items()):
        top, number = 6 + ROW * place, name.partition("ticket ")[2]
        colour = VERMILLION if not number else BLUE if int(number) in trial.chosen else LEFT_OUT
        length = room * (accuracy - first) / max(high - first, 1e-9)
        yield _text(142, top + 15, name, anchor="end")
        yield f'<rect x="150" y="{top}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
        yield _text(156 + length, top + 15, f"{accuracy:.1%}")
    yield _text(150, 26 + ROW * len(trial.accuracies), f"test accuracy (bars begin at {first:.1%})")


def _columns(trial: Trial, height: int) -> Iterator[str]:
    """Yield a column for each number of votes, its lower part the connections that survive."""
    left, wide, room = 640, 320 / max(1, len(trial.votes) - 1), height - 70
    most = max(*trial.votes, 1)
    for votes in range(1, len(trial.votes)):
        count, kept = trial.votes[votes], trial.survivors[votes]
        x, middle = left + wide * (votes - 1), left + wide * (votes - 0.6)
        for number, look in ((count, f'fill="{PAPER}" stroke="{BASELINE}"'), (kept, f'fill="{VERMILLION}"')):
            tall = room * number / most
            top = height - 40 - tall
            yield f'<rect x="{x:.1f}" y="{top:.1f}" width="{0.8 * wide:.1f}" height="{tall:.1f}" {look}/>'
        share = f"{kept / count:.0%}" if count else ""
        yield _text(middle, height - 45 - room * count / most, share, anchor="middle")
        yield _text(middle, height - 24, str(votes), anchor="middle")
    yield _text(left, height - 6, "connections by how many tickets have them; red: survive")


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="13" text-anchor="{anchor}">{words}</text>'


def _fields(num: int) -> list[Field]:
    each = [
        field
        for number in range(num)
        for field in (
            Field(name=f"in {number}", kind="check", label=f"Ticket {number}"),
            Field(name=f"weight {number}", kind="range", label=f"Weight {number}", low=0, high=1, step=0.1),
        )
    ]
    ways = [
        Field(name="average", kind="choice", label="Average", options=AVERAGES),
        Field(name="prune", kind="choice", label="Prune", options=PRUNES),
    ]
    return [*each, *ways]
