"""These figures show what methods cost."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from sparsekit.plots.canvas import (
    TICK_SIZE,
    axes_for,
    finish,
    in_percent,
    log_ticks,
    percent,
    plain,
)
from sparsekit.plots.colours import BASELINE, DASHED, INK, numbered, styles_on
from sparsekit.plots.naming import name_lines


def plot_flops(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each method's arithmetic per training step relative to dense training, cheapest at the top.

    The axis is logarithmic if the methods differ more than twentyfold. The line marks static sparse training.

    Args:
        table: from `analysis.training_flops_table`, or any table indexed by method with a column
            `relative_to_dense`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if there is no such column, or no method.
    """
    if "relative_to_dense" not in table or table.empty:
        raise ValueError(
            "bars need a column relative_to_dense and at least one method, got neither or only one of them"
        )
    by_cost = table.sort_values("relative_to_dense", ascending=False)
    costs = dict(zip(map(str, by_cost.index), by_cost["relative_to_dense"].tolist(), strict=True))
    ax = axes_for(ax, height=1.1 + 0.36 * len(costs))
    styles = styles_on(ax, costs)
    ax.barh(range(len(costs)), list(costs.values()), height=0.72, color=[styles[name].colour for name in costs])
    for number, cost in enumerate(costs.values()):
        ax.annotate(
            in_percent(cost), (cost, number), (4, 0), textcoords="offset points", va="center", fontsize=TICK_SIZE
        )
    ax.set_yticks(range(len(costs)), map(plain, costs))
    finish(ax, x="operations per training step (dense training: 100 %)", y="method", grid="x")
    _scale(ax, min(costs.values()), max(costs.values()))
    if "static" in costs:
        ax.axvline(costs["static"], color=BASELINE, linestyle=DASHED, linewidth=1.2)
    return ax


def _milliseconds(ax: Axes) -> None:
    ax.set_yscale("log")
    log_ticks(ax.yaxis)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _scale(ax: Axes, lowest: float, highest: float) -> None:
    if lowest > 0 and highest / lowest > 20:
        ax.set_xscale("log")
        ax.set_xlabel(f"{ax.get_xlabel()}, log scale")
        ax.set_xlim(lowest / 2, highest * 2.5)
    else:
        ax.set_xlim(0, highest * 1.15)
    percent(ax.xaxis)


def plot_step_times(times: pd.DataFrame, ax: Axes | None = None, *, even: float | None = None) -> Axes:
    """Draw the time of a training step against sparsity, with a line for each way of computing.

    The dashed line is the dense time times the density, which fewer operations alone would promise.

    Args:
        times: indexed by density, with a column of seconds per way, one of them `dense`.
        ax: where to draw, or None for a new figure.
        even: a density to mark, such as `analysis.break_even` gives.

    Raises:
        ValueError: if there is no column `dense`.
    """
    if "dense" not in times:
        raise ValueError(f"the table must have a column dense to compare with, got {', '.join(times) or 'none'}")
    ax = axes_for(ax)
    times = times.sort_index(ascending=False)
    sparsity = 1 - times.index.to_numpy(dtype=float)
    for number, (name, seconds) in enumerate(times.items()):
        style = numbered(number)
        ax.plot(sparsity, 1000 * seconds, color=style.colour, marker=style.marker, label=plain(str(name)))
    promised = 1000 * times["dense"].median() * (1 - sparsity)
    ax.plot(sparsity, promised, color=BASELINE, linestyle=DASHED, label="promised by operations")
    finish(ax, x="sparsity (share of weights that are missing)", y="milliseconds per step, log scale", grid="both")
    _milliseconds(ax)
    percent(ax.xaxis)
    name_lines(ax)
    if even is not None:
        _mark_even(ax, 1 - even)
    return ax


def _mark_even(ax: Axes, sparsity: float) -> None:
    name = f"break-even at {in_percent(sparsity)}"
    ax.axvline(sparsity, color=BASELINE, linewidth=1.2, label=name)
    where, aside = (sparsity, 1.0), (-4, -4)
    ax.annotate(
        name,
        where,
        aside,
        ("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=TICK_SIZE,
        color=INK,
    )


def plot_update_times(seconds: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how long rules take to choose new connections against the width of the layer, in logarithmic scales.

    Args:
        seconds: from `analysis.update_seconds`, indexed by width, with a column per rule.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if there is nothing to draw.
    """
    if seconds.empty:
        raise ValueError("there must be at least one width and one rule, got none. See analysis.update_seconds")
    ax = axes_for(ax, height=3.8)
    styles = styles_on(ax, map(str, seconds))
    for name, column in seconds.items():
        style = styles[str(name)]
        ax.plot(seconds.index, 1000 * column, color=style.colour, marker=style.marker, label=plain(str(name)))
    finish(ax, x="width (inputs, and outputs, of the layer)", y="milliseconds per rewiring", grid="both")
    ax.set_xscale("log", base=2)
    _milliseconds(ax)
    ax.set_xticks(seconds.index, [f"{width:,}" for width in seconds.index])
    name_lines(ax)
    return ax
