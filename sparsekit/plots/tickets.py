"""Figures of cheap tickets show where they are taken, what their superposition does, and which connections survive."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from sparsekit.plots.canvas import LABEL_SIZE, TICK_SIZE, axes_for, finish, percent, plain
from sparsekit.plots.colours import BASELINE, INK, PAPER
from sparsekit.plots.naming import legend
from sparsekit.plots.palette import LIGHT
from sparsekit.schedules import Schedule

LEFT_OUT = LIGHT["line"]  # a ticket that takes no part


def plot_cycles(
    table: pd.DataFrame, learning_rate: Schedule, ends: Sequence[int], ax: Axes | None = None, *, first: int = 0
) -> Axes:
    """Draw learning rate and test accuracy by step, with a marker where each ticket is taken.

    Args:
        table: rows of a training, from `history.frame()`.
        learning_rate: by step.
        ends: steps after which tickets are taken.
        ax: where to draw, or None for a new figure.
        first: step to begin at, to see the cycles from near.
    """
    ax = axes_for(ax, width=8.0, height=3.6)
    rows = table[(table["name"] == "test accuracy") & (table["step"] >= first)]
    ax.plot(rows["step"] + 1, rows["value"], color=INK, label="test accuracy")
    at_end = {row.step + 1: row.value for row in rows.itertuples()}  # type: ignore[operator]
    measured = [end for end in ends if end in at_end]
    ax.plot(measured, [at_end[end] for end in measured], "o", color=INK, markersize=8, label="a ticket is taken")
    percent(ax.yaxis)
    finish(ax, x="step", y="test accuracy")
    rates = ax.twinx()
    steps = range(first, max(ends))
    rates.plot(steps, [learning_rate(step) for step in steps], color=BASELINE, linewidth=1, label="learning rate")
    rates.set_yscale("log")
    rates.set_ylabel("learning rate", fontsize=LABEL_SIZE, color=BASELINE)
    rates.tick_params(labelsize=TICK_SIZE)
    rates.spines[["top"]].set_visible(False)
    legend(ax, loc="lower right")
    return ax


def plot_superposition(accuracies: Mapping[str, float], chosen: Sequence[int], ax: Axes | None = None) -> Axes:
    """Draw the accuracy of tickets, ensemble and superposition as bars. Tickets that take no part are faint.

    Args:
        accuracies: share of right answers by name, as in `Trial.accuracies`.
        chosen: numbers of the tickets that take part.
        ax: where to draw, or None for a new figure.
    """
    ax = axes_for(ax, width=6.4, height=1.0 + 0.3 * len(accuracies))
    names = list(accuracies)
    for row, name in enumerate(names):
        part = name.partition("ticket ")[2]
        colour = INK if not part else LIGHT["soft"] if int(part) in chosen else LEFT_OUT
        ax.barh(row, accuracies[name], color=colour, height=0.7)
        ax.text(accuracies[name], row, f" {accuracies[name]:.1%}", va="center", fontsize=TICK_SIZE)
    ax.set_yticks(range(len(names)), map(plain, names))
    ax.invert_yaxis()
    low, high = min(accuracies.values()), max(accuracies.values())
    room = max(0.02, high - low)
    start = max(0.0, low - 0.5 * room)
    ax.set_xlim(start, high + 0.5 * room)
    percent(ax.xaxis)
    words = "test accuracy (the axis does not begin at 0)" if start else "test accuracy"
    return finish(ax, x=words, y="", title="tickets, and what they make", grid="x")


def plot_votes(votes: Sequence[int], survivors: Sequence[int], ax: Axes | None = None) -> Axes:
    """Draw how many connections are in 1, 2, ... of the tickets, and how many of each survive the pruning.

    Args:
        votes: `votes[k]` connections are in exactly k tickets, as in `Trial.votes`.
        survivors: how many of those stay.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if there is not one survivor count per vote count, or there are more survivors than connections.
    """
    if len(votes) != len(survivors) or any(s > v for v, s in zip(votes, survivors, strict=False)):
        raise ValueError(f"survivors must be some of the connections, got {list(survivors)} of {list(votes)}")
    ax = axes_for(ax, width=4.8, height=3.4)
    counts = range(1, len(votes))
    ax.bar(counts, votes[1:], color=PAPER, edgecolor=BASELINE, label="in the union")
    ax.bar(counts, survivors[1:], color=INK, label="survive")
    for count in counts:
        if votes[count]:
            share = survivors[count] / votes[count]
            ax.text(count, votes[count], f"{share:.0%}", ha="center", va="bottom", fontsize=TICK_SIZE)
    ax.set_xticks(list(counts))
    legend(ax)
    return finish(ax, x="tickets that have a connection", y="connections")
