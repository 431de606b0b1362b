"""What all widgets about several tickets have in common: their layers and names, and a still image under a sentence."""

from collections.abc import Sequence
from typing import Any

import traitlets as t
from matplotlib.figure import Figure

from sparsekit.plots.palette import LIGHT
from sparsekit.tickets import Ticket
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget
from sparsekit.widgets.ticket_encoding import matrix_shapes


class TicketView(SharedWidget):
    """A view of tickets. The browser gets the sides of every layer's mask, and a name for each ticket."""

    shapes = t.List().tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)

    def _still_of(self, figure: Figure) -> StaticImage:
        """Return a figure as an image under the widget's sentence."""
        figure.suptitle(self.sentence(), fontsize=10, x=0.01, ha="left", color=LIGHT["ink"])
        return StaticImage.of_figure(figure, self.sentence())


def traits_of(tickets: Sequence[Ticket]) -> dict[str, Any]:
    """Return the traits that tell the browser which tickets these are."""
    names = [f"ticket {number}" for number in range(len(tickets))]
    return {"shapes": matrix_shapes(tickets[0].topology), "names": names}


def still_figure(height: float) -> Figure:
    """Return an empty figure on paper, 10.4 inches wide."""
    return Figure(figsize=(10.4, height), dpi=100, layout="constrained", facecolor=LIGHT["paper"])
