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
from sparsekit.widgets.rendering import StaticImage

WIDTH, ROW = 980, 24  # of the image, and height of a bar with its gap, in pixels
AVERAGES = (("mean", "missing counts as zero"), ("active", "only where it exists"))
PRUNES = (("once", "once, at the end"), ("each", "after each ticket"))


class TicketLab(FigureExplorer):
    """See a bar for every ticket, for their ensemble and their superposition, and which connections survive it.

    This is a view over the pure function `Lab.try_out`, so every move of a control superposes and measures anew.

    Args:
        tickets: at least one, of networks with the same layers.
        model: with those layers. It stays as it is.
        test: examples to measure on, as a pair of inputs and labels.
        train: examples to refresh batch norm with, for which we never use the test inputs.

    Attributes:
        trial: the trial that the bars show.

    Raises:
        ValueError: if there is no ticket, or their layers differ.
    """

    image_format = "svg+xml"

    def __init__(self, tickets: Sequence[Ticket], model: nn.Module, *, test: Batch, train: Batch):
        self._lab = Lab.of(tickets, model, test=test, train=train)
        self.trial: Trial
        numbers = range(len(tickets))
        values: dict[str, Any] = {f"in {number}": True for number in numbers}
        values |= {f"weight {number}": 1.0 for number in numbers} | {"average": "mean", "prune": "once"}
        super().__init__(self._draw_trial, _fields(len(tickets)), values, title="What to superpose")

    def sentence(self) -> str:
        """Say what the bars show."""
        return self.trial.sentence()

    def snapshot(self) -> StaticImage:
        """Draw the bars as they are now, as an image that needs no browser."""
        figure = Figure(figsize=(10.4, 1.3 + 0.28 * len(self.trial.accuracies)), dpi=100, layout="constrained")
        ax, votes = figure.subplots(1, 2, width_ratios=(3, 2))
        plot_superposition(self.trial.accuracies, self.trial.chosen, ax).set_title("", loc="left")
        plot_votes(self.trial.votes, self.trial.survivors, votes)
        figure.suptitle(plain(self.sentence()), fontsize=10)
        png = io.BytesIO()
        figure.savefig(png, format="png")
        return StaticImage(png.getvalue(), self.sentence())

    def _draw_trial(self, **values: Any) -> None:
        numbers = range(len(self._lab.tickets))
        weights = [values[f"weight {number}"] if values[f"in {number}"] else 0.0 for number in numbers]
        if not any(weights):
            raise ValueError("at least one ticket must take part, got none. Tick one, with a weight above 0")
        self.trial = self._lab.try_out(weights, average=values["average"], prune=values["prune"])

    def _render(self) -> bytes:
        # The browser draws the letters, because matplotlib takes a third of a second for these sixty words.
        return svg_of(self.trial).encode()

    def _layout(self) -> ipywidgets.Layout:
        return ipywidgets.Layout(width=f"{WIDTH}px", max_width="100%")


def svg_of(trial: Trial) -> str:
    """Return bars of the accuracies and, beside them, columns of the votes, as an SVG image."""
    height = 40 + ROW * len(trial.accuracies)
    parts = [*_bars(trial), *_columns(trial, height)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    return f'{head}<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'


def _bars(trial: Trial) -> Iterator[str]:
    """Yield a bar for each network. Lengths begin below the lowest accuracy, so that you can see differences."""
    low, high = min(trial.accuracies.values()), max(trial.accuracies.values())
    first, room = max(0.0, low - 0.5 * max(0.02, high - low)), 380
    for row, (name, accuracy) in enumerate(trial.accuracies.items()):
        top, number = 6 + ROW * row, name.partition("ticket ")[2]
        colour = VERMILLION if not number else BLUE if int(number) in trial.chosen else LEFT_OUT
        length = room * (accuracy - first) / max(high - first, 1e-9)
        yield _text(142, top + 15, name, anchor="end")
        yield f'<rect x="150" y="{top}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
        yield _text(156 + length, top + 15, f"{accuracy:.1%}")
    yield _text(150, 26 + ROW * len(trial.accuracies), f"test accuracy (bars begin at {first:.1%})")


def _columns(trial: Trial, height: int) -> Iterator[str]:
    """Yield a column for each number of votes, its lower part the connections that survive."""
    left, column_width, room = 640, 320 / max(1, len(trial.votes) - 1), height - 70
    highest = max(*trial.votes, 1)
    for votes in range(1, len(trial.votes)):
        count, survivors = trial.votes[votes], trial.survivors[votes]
        x, middle = left + column_width * (votes - 1), left + column_width * (votes - 0.6)
        for number, style in ((count, f'fill="{PAPER}" stroke="{BASELINE}"'), (survivors, f'fill="{VERMILLION}"')):
            length = room * number / highest
            top = height - 40 - length
            yield f'<rect x="{x:.1f}" y="{top:.1f}" width="{0.8 * column_width:.1f}" height="{length:.1f}" {style}/>'
        share = f"{survivors / count:.0%}" if count else ""
        yield _text(middle, height - 45 - room * count / highest, share, anchor="middle")
        yield _text(middle, height - 24, str(votes), anchor="middle")
    yield _text(left, height - 6, "connections by how many tickets have them (red ones survive)")


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="13" text-anchor="{anchor}">{words}</text>'


def _fields(num: int) -> list[Field]:
    ticket_fields = [
        field
        for number in range(num)
        for field in (
            Field(name=f"in {number}", kind="check", label=f"Ticket {number}"),
            Field(name=f"weight {number}", kind="range", label=f"Weight {number}", low=0, high=1, step=0.1),
        )
    ]
    choices = [
        Field(name="average", kind="choice", label="Average", options=AVERAGES),
        Field(name="prune", kind="choice", label="Prune", options=PRUNES),
    ]
    return [*ticket_fields, *choices]
