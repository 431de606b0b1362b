"""Tick tickets in and out, move their weights, and see at once what their superposition can do."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from sparsekit.evaluate import Batch
from sparsekit.plots import plot_superposition, plot_votes
from sparsekit.plots.canvas import Shown as ShownAxes
from sparsekit.sup_tickets.lab import Lab, Trial
from sparsekit.tickets import Ticket
from sparsekit.widgets.controls import Field
from sparsekit.widgets.figure_explorer import FigureExplorer

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

    def __init__(self, tickets: Sequence[Ticket], model: nn.Module, *, test: Batch, train: Batch):
        self._lab = Lab.of(tickets, model, test=test, train=train)
        self.trial: Trial
        numbers = range(len(tickets))
        values: dict[str, Any] = {f"in {number}": True for number in numbers}
        values |= {f"weight {number}": 1.0 for number in numbers} | {"average": "mean", "prune": "once"}
        super().__init__(self._draw_trial, _fields(len(tickets)), values, title="What to superpose")

    def _draw_trial(self, **values: Any) -> Axes:
        numbers = range(len(self._lab.tickets))
        weights = [values[f"weight {number}"] if values[f"in {number}"] else 0.0 for number in numbers]
        if not any(weights):
            raise ValueError("at least one ticket must take part, got none; tick one, with a weight above 0")
        self.trial = self._lab.try_out(weights, average=values["average"], prune=values["prune"])
        # Places by hand: finding them by itself would draw every picture twice.
        height = 1.3 + 0.28 * (len(numbers) + 3)
        figure = Figure(figsize=(10.4, height), dpi=100)
        edges = {"left": 0.14, "right": 0.985, "bottom": 0.6 / height, "top": 1 - 0.35 / height}
        ax, votes = figure.subplots(
            1, 2, width_ratios=(3, 2), subplot_kw={"axes_class": ShownAxes}, gridspec_kw={**edges, "wspace": 0.22}
        )
        plot_superposition(self.trial.accuracies, self.trial.chosen, ax)
        plot_votes(self.trial.votes, self.trial.survivors, votes)
        ax.set_title(self.trial.sentence(), fontsize=10, loc="left")
        return ax


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
