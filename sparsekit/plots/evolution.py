"""Figures of a changing topology show what is exchanged, what survives, and how much has been explored."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from sparsekit.plots.canvas import axes_for, finish, percent, plain
from sparsekit.plots.colours import BASELINE, DASHED, INK, Style, numbered, styles_on
from sparsekit.plots.naming import legend_beside, name_lines


def plot_churn(churn: pd.DataFrame, ax: Axes | None = None, *, fractions: Sequence[float] | None = None) -> Axes:
    """Draw the share of connections that each rewiring replaced, per layer and for the network.

    Args:
        churn: from `analysis.churn`.
        ax: where to draw, or None for a new figure.
        fractions: the drop fraction of each rewiring, drawn beside it. Churn stays below if a rule may regrow
            what it has just dropped.

    Raises:
        ValueError: if there are more or fewer fractions than rewirings.
    """
    ax = axes_for(ax, width=7.4)
    _layer_lines(ax, churn)
    _expected_line(ax, churn, fractions, "drop fraction")
    return _finish_shares(ax, churn, "churn (share of connections that are new)")


def plot_survival(survival: pd.DataFrame, ax: Axes | None = None, *, fractions: Sequence[float] | None = None) -> Axes:
    """Draw the share of the first topology's connections that are still, or again, there.

    Args:
        survival: from `analysis.survival`.
        ax: where to draw, or None for a new figure.
        fractions: the drop fraction of each rewiring. The survival under blind dropping is drawn beside it.

    Raises:
        ValueError: if there are more or fewer fractions than rewirings.
    """
    ax = axes_for(ax, width=7.4)
    _layer_lines(ax, survival)
    blind = None if fractions is None else np.cumprod([1.0, *(1 - np.asarray(fractions))])
    _expected_line(ax, survival, blind, "blind dropping")
    _finish_shares(ax, survival, "survival (share of first connections)")
    ax.set_ylim(0, 1.03)
    return ax


def plot_ages(ages: Mapping[str, Tensor], ax: Axes | None = None, *, unit: str = "rewirings") -> Axes:
    """Draw how old the connections are, the layers on top of each other.

    Args:
        ages: from `analysis.ages`.
        ax: where to draw, or None for a new figure.
        unit: what ages are counted in, `"rewirings"` or `"steps"`.

    Raises:
        ValueError: if there is no connection.
    """
    everything = torch.cat([layer.flatten() for layer in ages.values()]) if ages else torch.empty(0)
    if not everything.numel():
        raise ValueError("ages need at least one connection, got none. Look at an earlier topology")
    ax = axes_for(ax, width=7.4)
    oldest = int(everything.max())
    edges = np.arange(oldest + 2) - 0.5 if oldest < 40 else np.linspace(0, oldest, 41)
    weights = [np.full(layer.numel(), 1 / everything.numel()) for layer in ages.values()]
    colours = [numbered(number).colour for number in range(len(ages))]
    values = [layer.cpu().numpy() for layer in ages.values()]
    ax.hist(values, bins=list(edges), weights=weights, stacked=True, color=colours, label=list(map(plain, ages)))
    finish(ax, x=f"age ({unit} since a connection was grown)", y="connections (share of all)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    percent(ax.yaxis)
    legend_beside(ax, title="layer")
    return ax


def plot_exploration(
    explored: Mapping[str, pd.DataFrame] | pd.DataFrame,
    ax: Axes | None = None,
    *,
    expected: Sequence[float] | None = None,
) -> Axes:
    """Draw the in-time over-parameterisation R_s, the share of the dense network that has been explored so far.

    Args:
        explored: from `analysis.exploration`, one table (its layers are drawn), or tables by method.
        ax: where to draw, or None for a new figure.
        expected: R_s to expect of random growth, for example `exploration_expected(first,
            fractions)["network"]`.

    Raises:
        ValueError: if there is no table.

    Source: figure 2 of Liu et al. (2021), arXiv:2102.02887, shows the same quantity.
    """
    if len(explored) == 0:
        raise ValueError("there must be at least one table of exploration, got none")
    ax = axes_for(ax, width=7.4)
    first = explored if isinstance(explored, pd.DataFrame) else next(iter(explored.values()))
    if isinstance(explored, pd.DataFrame):
        _layer_lines(ax, explored)
    else:
        styles = styles_on(ax, explored)
        for method, table in explored.items():
            _method_line(ax, method, table, styles[method])
    _expected_line(ax, first, expected, "random growth (expected)", strict=False)
    _finish_shares(ax, first, "explored, R_s (share of all positions)")
    ax.set_ylim(bottom=0)
    return ax


def _layer_lines(ax: Axes, table: pd.DataFrame) -> None:
    layers = [name for name in table if name != "network"]
    for number, name in enumerate(layers):
        style = numbered(number)
        ax.plot(
            table.index, table[name], color=style.colour, linestyle=style.dashes, linewidth=1.3, label=plain(str(name))
        )
    ax.plot(table.index, table["network"], color=INK, linewidth=2.6, label="network")


def _method_line(ax: Axes, method: str, table: pd.DataFrame, style: Style) -> None:
    ax.plot(
        table.index,
        table["network"],
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        markevery=max(1, len(table) // 8),
        markersize=5,
        label=plain(method),
    )


def _expected_line(
    ax: Axes, table: pd.DataFrame, values: Sequence[float] | np.ndarray | None, name: str, *, strict: bool = True
) -> None:
    if values is None:
        return
    if strict and len(values) != len(table):
        raise ValueError(
            f"there must be one drop fraction per rewiring, got {len(values)} values for {len(table)} rows"
        )
    length = min(len(values), len(table))
    ax.plot(table.index[:length], values[:length], color=BASELINE, linestyle=DASHED, linewidth=1.6, label=name)


def _finish_shares(ax: Axes, table: pd.DataFrame, y: str) -> Axes:
    units = {"rewiring": "rewiring (number)", "step": "step (batches)"}
    index = str(table.index.name)
    finish(ax, x=units.get(index, index), y=y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    percent(ax.yaxis)
    ax.set_ylim(bottom=0)
    name_lines(ax)
    return ax
