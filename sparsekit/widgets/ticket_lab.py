"""Tick tickets in and out, move their weights, and see at once whose connections their superposition keeps."""

from collections.abc import Sequence

import numpy as np
import traitlets as t
from torch import nn

from sparsekit.evaluation.measuring import Batch
from sparsekit.experiments.sup_tickets.lab import Lab, Trial
from sparsekit.experiments.sup_tickets.mixtures import Mixtures, measure_mixtures
from sparsekit.plots import plot_superposition
from sparsekit.plots.canvas import in_percent
from sparsekit.plots.palette import LIGHT
from sparsekit.tickets import Ticket, superpose
from sparsekit.widgets.base import load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import read_state
from sparsekit.widgets.ticket_encoding import check_not_too_many, encode_tickets
from sparsekit.widgets.ticket_stills import Survival, draw_mask, draw_survivors
from sparsekit.widgets.ticket_view import TicketView, still_figure, traits_of

BAND = 0.002  # accuracy of a shade of the triangle, which is less than a standard error on 10,000 examples


class TicketLab(TicketView):
    """See what a mixture of tickets achieves, which connections it keeps, and whose they are.

    Each ticket has a row with a box and a weight. Three tickets also have a triangle, of which `parts` decides how many
    mixtures we measure before it is shown. Then you can drag the point without a kernel. For any other number of
    tickets the kernel measures each mixture anew, and the accuracies are grey until they belong to the mask.

    Args:
        tickets: at least one, of networks with the same layers and equally many connections.
        model: with those layers. It stays as it is.
        test: examples to measure on, as a pair of inputs and labels.
        train: examples to refresh batch norm with, for which we never use the test inputs.
        parts: into which the whole of three tickets is divided, at least 3.
        progress: show a bar while the mixtures of three tickets are measured.
        state: a text that *Copy as code* wrote, with the weights.

    Attributes:
        mixtures: what was measured on the triangle, or None for other than three tickets.

    Raises:
        ValueError: if there is no ticket, there are more than 30, their layers or sizes differ, or
            the state has other weights than one for each.
    """

    _esm = load_script("shared", "copy_code", "tickets", "ticket_lab")
    shares = ("weights",)
    tickets = t.List(t.Dict()).tag(sync=True)
    alone = t.List(t.Float()).tag(sync=True)
    mixture_table = t.Dict().tag(sync=True)
    measured = t.Dict().tag(sync=True)
    weights = t.List(t.Float()).tag(sync=True)

    def __init__(
        self,
        tickets: Sequence[Ticket],
        model: nn.Module,
        *,
        test: Batch,
        train: Batch,
        parts: int = 9,
        progress: bool = False,
        state: str = "",
    ):
        check_not_too_many(tickets)
        self._lab = Lab.of(tickets, model, test=test, train=train)
        superpose(tickets)  # which refuses tickets of other layers or sizes
        is_triangle = len(tickets) == 3
        self.mixtures = measure_mixtures(self._lab, parts=parts, progress=progress) if is_triangle else None
        first = self._lab.try_out([1.0] * len(tickets))
        super().__init__(
            **traits_of(tickets),
            tickets=encode_tickets(tickets),
            alone=[first.accuracies[f"ticket {number}"] for number in range(len(tickets))],
            mixture_table={} if self.mixtures is None else _table(self.mixtures, parts, first, len(test[1])),
            measured={} if is_triangle else _measured([1.0] * len(tickets), first),
            weights=[1.0] * len(tickets),
        )
        self._trials = {tuple(self.weights): first}
        self.choose(*read_state(state, {"weights": self.weights})["weights"])

    @property
    def trial(self) -> Trial:
        """What the mixture of now gives."""
        weights = tuple(self.weights)
        if weights not in self._trials:
            self._trials = {weights: self._lab.try_out(weights)}
        return self._trials[weights]

    def choose(self, *weights: float) -> None:
        """Move the weights from code, one for each ticket. A ticket of weight 0 takes no part.

        Raises:
            ValueError: if there is not one per ticket, one is negative or not finite, or all are 0.
        """
        self.weights = list(weights)

    def sentence(self) -> str:
        """Say what the mixture achieves."""
        return self.trial.sentence()

    def snapshot(self) -> StaticImage:
        """Draw accuracies, survivors and masks as they are now, as an image that needs no browser."""
        trial, chosen = self.trial, [self._lab.tickets[k] for k in self.trial.chosen]
        figure = still_figure(4.6)
        axes = figure.subplot_mosaic([["bars", "mask"], ["kinds", "mask"]], width_ratios=[1.6, 1])
        plot_superposition(trial.accuracies, trial.chosen, axes["bars"]).set_title("", loc="left")
        axes["bars"].set_facecolor(LIGHT["paper"])
        mixed = superpose(chosen, weights=[self.weights[k] for k in trial.chosen])
        draw_survivors(axes["kinds"], Survival.of(self._lab.tickets, mixed))
        draw_mask(axes["mask"], self._lab.tickets, mixed.topology)
        return self._still_of(figure)

    @t.validate("weights")
    def _check_weights(self, proposal: t.Bunch) -> list[float]:
        weights = list(proposal.value)
        is_good = len(weights) == len(self.names) and all(0 <= weight < np.inf for weight in weights)
        if not is_good or not any(weights):
            raise ValueError(
                f"weights must be {len(self.names)} numbers from 0, not all of them 0, got {weights}. Give one a ticket"
            )
        return weights

    @t.observe("weights")
    def _measure(self, _change: t.Bunch) -> None:
        if self.mixtures is None and hasattr(self, "_trials"):
            self.measured = _measured(self.weights, self.trial)


def _measured(weights: Sequence[float], trial: Trial) -> dict:
    return {"of": list(weights), "accuracies": dict(trial.accuracies), "sentence": trial.sentence()}


def _table(mixtures: Mixtures, parts: int, equal: Trial, examples: int) -> dict:
    """Return the triangle in plain numbers, with the caption that says what is measured and what is smoothed."""
    size, ensemble = in_percent(equal.density), in_percent(equal.accuracies["ensemble"])
    caption = (
        f"All {len(mixtures.weights)} mixtures were pruned to {size} and measured on {examples:,} test examples, and "
        f"the point rests only on one of them. ± is one standard error of the paired difference to the best single "
        f"ticket, of this one training. The shades are a quadratic function fitted to all mixtures, {100 * BAND:.1f} "
        f"points each and darker (brighter in the dark) where accuracy is higher. Single mixtures lie "
        f"{100 * mixtures.residual:.2f} points around it, so smaller differences are noise. The ensemble of the three, "
        f"at three times the work, has {ensemble}."
    )
    rows = ("accuracy", "gain", "error", "fitted")
    numbers = {name: getattr(mixtures, name).tolist() for name in rows}
    return {"weights": mixtures.weights.tolist(), **numbers, "parts": parts, "band": BAND, "caption": caption}
