"""Figures of training runs show curves with the spread over seeds, and accuracy against density.

Runs come as one long table with a row per measured number. It has the columns of `History.frame()` (`step`, `epoch`,
`name`, `value`) and, if there are several runs, `method` and `seed`.
"""

import pandas as pd
from matplotlib.axes import Axes

from sparsekit.plots.canvas import axes_for, finish, log_ticks, percent, plain
from sparsekit.plots.colours import Nested, Style, nested, styles_on
from sparsekit.plots.naming import name_lines

SHARES = ("accuracy", "density")  # numbers with names that end so are written in per cent


def plot_curves(
    runs: pd.DataFrame,
    ax: Axes | None = None,
    *,
    name: str = "test accuracy",
    x: str = "step",
    by: str = "method",
) -> Axes:
    """Draw a number over the training, as each method's mean over its seeds with a band of one standard error.

    If a run measured it several times at one `x`, for example the loss of every batch of an epoch, these are averaged
    first. So the band is the spread over runs, and one run has none.

    Args:
        runs: the long table. Without a column `by` everything is one method, and without `seed` one run.
        ax: where to draw, or None for a new figure.
        name: which number.
        x: `"step"` (batches) or `"epoch"`.
        by: the column whose values get a line each.

    Raises:
        ValueError: if nothing of this name was measured. The message lists what was.
    """
    chosen = _chosen(runs, name)
    ax = axes_for(ax)
    groups = _groups(chosen, by)
    styles = styles_on(ax, groups)
    for rank, (method, rows) in enumerate(groups.items()):
        look = nested(rank, len(groups))
        _mean_line(ax, method, rows, styles[method], look, x=x)
    units = {"step": "step (batches)", "epoch": "epoch (passes over the data)"}
    finish(ax, x=units.get(x, x), y=_with_unit(name))
    if name.endswith(SHARES):
        percent(ax.yaxis)
    name_lines(ax)
    return ax


def plot_accuracy_density(runs: pd.DataFrame, ax: Axes | None = None, *, by: str = "method") -> Axes:
    """Draw final accuracy against density, as each method's mean over its seeds with one standard error.

    Args:
        runs: one row per run, with columns `density` (0 to 1), `accuracy` (0 to 1), and `method` and `seed`
            where there are several.
        ax: where to draw, or None for a new figure.
        by: the column whose values get a line each.

    Raises:
        ValueError: if a column is missing, or a density is not above 0.
    """
    _check_columns(runs, "density", "accuracy")
    if min(runs["density"]) <= 0:
        raise ValueError(f"densities must be above 0 for a logarithmic axis, got {runs['density'].min()}")
    ax = axes_for(ax)
    groups = _groups(runs, by)
    styles = styles_on(ax, groups)
    for rank, (method, rows) in enumerate(groups.items()):
        _error_bars(ax, method, rows, styles[method], nested(rank, len(groups)))
    finish(ax, x="density (share of weights that exist), sparser to the right", y="accuracy (share correct)")
    ax.set_xscale("log")
    log_ticks(ax.xaxis)
    ax.invert_xaxis()
    for axis in (ax.xaxis, ax.yaxis):
        percent(axis)
    name_lines(ax)
    return ax


def _chosen(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    _check_columns(runs, "name", "value")
    chosen = runs.loc[runs["name"] == name]
    if chosen.empty:
        measured = ", ".join(sorted(runs["name"].unique())) or "(nothing measured)"
        raise ValueError(f"the name must be one of {measured}, got {name!r}. Choose one of them")
    return chosen


def _check_columns(runs: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in runs]
    if missing:
        raise ValueError(f"the table must have the columns {', '.join(columns)}, got none named {', '.join(missing)}")


def _groups(runs: pd.DataFrame, by: str) -> dict[str, pd.DataFrame]:
    """Split by method in the order of first appearance. Without a column there is one method without a name."""
    if by not in runs:
        return {"": runs}
    return {str(method): rows for method, rows in runs.groupby(by, sort=False)}


def _mean_line(ax: Axes, method: str, rows: pd.DataFrame, style: Style, look: Nested, *, x: str) -> None:
    runs = [column for column in ("method", "seed") if column in rows]
    per_run = rows.groupby([*runs, x], dropna=False).agg({"value": "mean"})
    spread = per_run.groupby(level=x)["value"].agg(["mean", "sem"]).fillna({"sem": 0.0})
    ax.plot(
        spread.index,
        spread["mean"],
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        **look,
        markevery=max(1, len(spread) // 8),  # a marker per point would hide the line
        label=_label(method, rows),
    )
    low, high = spread["mean"] - spread["sem"], spread["mean"] + spread["sem"]
    ax.fill_between(spread.index, low, high, color=style.colour, alpha=0.18, linewidth=0)


def _error_bars(ax: Axes, method: str, rows: pd.DataFrame, style: Style, look: Nested) -> None:
    spread = rows.groupby("density")["accuracy"].agg(["mean", "sem"]).fillna({"sem": 0.0})
    ax.errorbar(
        spread.index,
        spread["mean"],
        yerr=spread["sem"],
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        **look,
        elinewidth=1.2,
        capsize=3,
        label=_label(method, rows),
    )


def _label(method: str, rows: pd.DataFrame) -> str | None:
    seeds = len(set(rows["seed"])) if "seed" in rows else 1
    return plain(f"{method}, {seeds} seeds" if method and seeds > 1 else method) or None


def _with_unit(name: str) -> str:
    units = {"accuracy": "share correct", "loss": "nats per sample", "density": "share of weights that exist"}
    unit = next((unit for word, unit in units.items() if name.endswith(word)), "")
    return f"{name} ({unit})" if unit else name
