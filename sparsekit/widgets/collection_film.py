"""A film of a collection: scrub along its cycles, and see who has a connection, how strong it is, and who survives."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import traitlets as t
from matplotlib.axes import Axes

from sparsekit.plots.palette import LIGHT
from sparsekit.tickets import Ticket, superpose
from sparsekit.widgets.base import load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import read_state
from sparsekit.widgets.ticket_encoding import check_not_too_many, encode_tickets
from sparsekit.widgets.ticket_stills import HUES, Survival, draw_mask, draw_survivors, kind_colours
from sparsekit.widgets.ticket_view import TicketView, still_figure, traits_of

POINTS = 240  # of the learning rate's line, which is as many as a reader can tell apart


class CollectionFilm(TicketView):
    """See how the tickets of one training come about, whose connections they are, and which survive superposition.

    The learning rate is the slider. Under it stand the magnitudes of new connections beside those that ticket 0 has.
    The mask beside it is coloured by who has a connection, which is all tickets, some, or only one. The last stop is
    the superposition of all tickets in equal parts. Everything lies in the browser, so no kernel is needed.

    Args:
        tickets: of one training, in its order, at least two.
        learning_rate: by step.
        moments: networks at further steps, from `cycle_moments`, the tickets among them or not.
        accuracies: of the tickets, 0 to 1, or None for those that they were taken with.
        state: a text that *Copy as code* wrote, with the moment that is shown.

    Raises:
        ValueError: if there are fewer than two tickets, their layers or sizes differ, steps are not increasing, or
            there is no such moment.

    Source: the cheap tickets of Yin et al. (2022), arXiv:2205.15322.
    """

    _esm = load_script("shared", "copy_code", "tickets", "collection_film")
    shares = ("moment",)
    steps = t.List(t.Int()).tag(sync=True)
    ends = t.List(t.Int()).tag(sync=True)
    rates = t.Dict().tag(sync=True)
    accuracies = t.List().tag(sync=True)
    moments = t.List(t.Dict()).tag(sync=True)
    moment = t.Int(0).tag(sync=True)

    def __init__(
        self,
        tickets: Sequence[Ticket],
        learning_rate: Callable[[int], float],
        *,
        moments: Sequence[Ticket] = (),
        accuracies: Sequence[float] | None = None,
        state: str = "",
    ):
        self._tickets, ends = list(tickets), [one.step for one in tickets]
        _check(self._tickets)
        found = {one.step: one for one in [*moments, *tickets] if ends[0] <= one.step <= ends[-1]}
        frames = [found[step] for step in sorted(found)]
        self.survival = Survival.of(self._tickets, superpose(self._tickets))
        measured = [one.accuracy for one in tickets] if accuracies is None else list(accuracies)
        super().__init__(
            **traits_of(self._tickets),
            steps=[one.step for one in frames],
            ends=ends,
            rates=_rates(learning_rate, ends),
            accuracies=[None if math.isnan(one) else float(one) for one in measured],
            moments=encode_tickets(frames),
            **read_state(state, {"moment": len(frames)}),
        )

    @t.validate("moment")
    def _check_moment(self, proposal: t.Bunch) -> int:
        if not 0 <= proposal.value <= len(self.steps):
            raise ValueError(f"moment must lie in [0, {len(self.steps)}], got {proposal.value}. Count from 0")
        return proposal.value

    def sentence(self) -> str:
        """Say how many connections all tickets have, and how many of each one's own survive."""
        whole, stay = self.survival.whole, self.survival.stay
        own = ", ".join(f"{stay[k]:,} of {whole[k]:,}" for k in range(2, len(whole)))
        return (
            f"{len(self._tickets)} tickets of {self._tickets[0].count:,} connections share {whole[0]:,}. Of what only "
            f"one of them has, {own} survive the superposition"
        )

    def snapshot(self) -> StaticImage:
        """Draw the last stop, which is the superposition."""
        figure = still_figure(4.9)
        axes = figure.subplot_mosaic([["rate", "mask"], ["sizes", "mask"], ["kinds", "mask"]], width_ratios=[1.5, 1])
        _draw_rate(axes["rate"], self.rates, self.ends, self.accuracies)
        _draw_sizes(axes["sizes"], self._tickets)
        draw_survivors(axes["kinds"], self.survival)
        draw_mask(axes["mask"], self._tickets, superpose(self._tickets).topology)
        return self._still_of(figure)


def _rates(learning_rate: Callable[[int], float], ends: Sequence[int]) -> dict:
    """Return the learning rate from a little before the first ticket to the last one, at the tickets themselves too.

    A ticket is taken after its step, so its rate is that of the step before.
    """
    lead = (ends[-1] - ends[0]) // 12
    steps = {int(step) for step in np.linspace(max(1, ends[0] - lead), ends[-1], POINTS)} | set(ends)
    ordered = sorted(steps)
    return {"steps": ordered, "values": [float(learning_rate(step - 1)) for step in ordered]}


def _check(tickets: Sequence[Ticket]) -> None:
    if len(tickets) < 2:
        raise ValueError(f"a film must have at least two tickets, got {len(tickets)}. Collect some with cycles")
    steps, counts = [one.step for one in tickets], {one.count for one in tickets}
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"tickets must be in the order of their training, got steps {steps}. Sort them by step")
    check_not_too_many(tickets)
    if len(counts) > 1:
        raise ValueError(f"tickets must have equally many connections, got {sorted(counts)}. Take those of one run")


def _draw_rate(ax: Axes, rates: dict, ends: Sequence[int], accuracies: Sequence[float | None]) -> None:
    ax.plot(rates["steps"], rates["values"], color=LIGHT["ink"], linewidth=2)
    colours = kind_colours(len(ends))[2:] if len(ends) <= len(HUES) else [LIGHT["ink"]] * len(ends)
    for number, (end, accuracy, colour) in enumerate(zip(ends, accuracies, colours, strict=True)):
        height = rates["values"][rates["steps"].index(end)]
        ax.plot(end, height, "o", color=colour, markersize=8)
        words = f"ticket {number}" if accuracy is None else f"ticket {number}\n{accuracy:.1%}"
        ax.annotate(words, (end, height), (0, 9), textcoords="offset points", ha="center", fontsize=8)
    ax.margins(x=0.06, y=0.35)
    _quieten(ax, "learning rate")


def _draw_sizes(ax: Axes, tickets: Sequence[Ticket]) -> None:
    new, kept = magnitudes_of(tickets[-1], tickets[0])
    bins = np.geomspace(1e-4, max(kept.max(), 0.01) * 1.15, 45)
    ax.hist(kept.clip(1e-4), bins, color=LIGHT["faint"], label="kept")
    ax.hist(new.clip(1e-4), bins, histtype="step", color=LIGHT["ink"], linewidth=1.6, label="new")
    ax.set_xscale("log")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    _quieten(ax, "|w| of the last ticket, new and kept connections")


def magnitudes_of(ticket: Ticket, first: Ticket) -> tuple[np.ndarray, np.ndarray]:
    """Return the magnitudes of the connections that the first ticket does not have, and of those that it has."""
    new, kept = [np.empty(0)], [np.empty(0)]
    for name, layer in ticket.topology.items():
        is_new = (first.topology[name].position_of(layer.indices) < 0).numpy()
        size = ticket.values[name].detach().abs().float().numpy()
        new.append(size[is_new])
        kept.append(size[~is_new])
    return np.concatenate(new), np.concatenate(kept)


def _quieten(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=9, color=LIGHT["soft"])
    ax.set_facecolor(LIGHT["paper"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8, colors=LIGHT["soft"])
