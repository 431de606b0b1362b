"""Figures of what methods cost."""

import pandas as pd
from matplotlib.axes import Axes

from sparsekit.plots.canvas import TICK_SIZE, axes_for, finish, in_percent, percent
from sparsekit.plots.colours import BASELINE, DASHED, style_of


def plot_flops(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each method's arithmetic per training step relative to dense training, cheapest at the top.

    The axis is logarithmic where the methods differ more than twentyfold; the line marks static sparse
    training.

    Args:
        table: from `analysis.training_flops_table`; any table indexed by method with a column
            `relative_to_dense`.
        ax: where to draw; a new figure if None.

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
    ax.barh(range(len(costs)), list(costs.values()), height=0.72, color=[style_of(name).colour for name in costs])
    for place, cost in enumerate(costs.values()):
        ax.annotate(
            in_percent(cost), (cost, place), (4, 0), textcoords="offset points", va="center", fontsize=TICK_SIZE
        )
    ax.set_yticks(range(len(costs)), list(costs))
    finish(ax, x="operations per training step (dense training: 100 %)", y="method", grid="x")
    _scale(ax, min(costs.values()), max(costs.values()))
    if "static" in costs:
        ax.axvline(costs["static"], color=BASELINE, linestyle=DASHED, linewidth=1.2)
    return ax


def _scale(ax: Axes, lowest: float, highest: float) -> None:
    if lowest > 0 and highest / lowest > 20:
        ax.set_xscale("log")
        ax.set_xlabel(f"{ax.get_xlabel()}, log scale")
        ax.set_xlim(lowest / 2, highest * 2.5)
    else:
        ax.set_xlim(0, highest * 1.15)
    percent(ax.xaxis)
