"""A figure that sets methods against each other."""

import math

import pandas as pd
from matplotlib.axes import Axes

from sparsekit.plots.canvas import axes_for, finish, percent, plain
from sparsekit.plots.colours import styles_on


def plot_methods(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the mean accuracy of each method with its standard error, the best on top.

    Args:
        table: of one density, one row per method with columns `method`, `accuracy`, `error` (0 to 1) and `seeds`, from
            `compare.table_of`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if a column is missing, or a method occurs twice.
    """
    if missing := {"method", "accuracy", "error", "seeds"} - set(table):
        raise ValueError(f"the table must come from table_of, got one without {', '.join(sorted(missing))}")
    if table["method"].duplicated().any():
        raise ValueError("the table must have one row per method, got several. Choose the rows of one density")
    ax = axes_for(ax, width=6.4, height=1.2 + 0.24 * len(table))
    rows = table.sort_values("accuracy", ignore_index=True)
    columns = (rows[name].tolist() for name in ("method", "accuracy", "error"))
    styles = styles_on(ax, rows["method"])
    for height, (method, accuracy, error) in enumerate(zip(*columns, strict=True)):
        style = styles[method]
        width = 0.0 if math.isnan(error) else error
        ax.errorbar(accuracy, height, xerr=width, color=style.colour, marker=style.marker, capsize=2)
    ax.set_yticks(range(len(rows)), map(plain, rows["method"]))
    percent(ax.xaxis)
    return finish(ax, x=f"test accuracy, mean and standard error of {_seeds(rows)}", y="", grid="x")


def _seeds(rows: pd.DataFrame) -> str:
    counts = sorted({int(count) for count in rows["seeds"]})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
