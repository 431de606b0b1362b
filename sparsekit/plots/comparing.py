"""These figures compare topologies with each other, and with chance."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.image import AxesImage

from sparsekit.plots.canvas import HEAT, TICK_SIZE, axes_for, colour_bar, finish, log_ticks, on_heat, percent, plain
from sparsekit.plots.colours import BASELINE, DASHED, INK, Style, styles_on
from sparsekit.plots.naming import name_lines
from sparsekit.plots.palette import LIGHT


def plot_comparison_matrix(
    values: Float[np.ndarray, "t t"],
    baselines: Float[np.ndarray, "t t"],
    ax: Axes | None = None,
    *,
    names: list[str] | None = None,
    measure: str = "iou",
) -> Axes:
    """Draw how alike every pair of topologies is, and how many times the random baseline that is.

    The baseline is also marked on the colour bar. A topology compared with itself is left pale.

    Args:
        values: similarity of each pair, from `analysis.topology_similarity_matrix`.
        baselines: what two random topologies of the same layer densities would have, from the same function.
        ax: where to draw, or None for a new figure.
        names: of the topologies, or None for numbers.
        measure: its name, for the colour bar.

    Raises:
        ValueError: if the matrices are not square and of one shape, or there is another number of names.
    """
    names = names or [str(number) for number in range(len(values))]
    if values.shape != baselines.shape or values.shape != (len(names), len(names)):
        raise ValueError(
            f"there must be a value and a baseline for each pair of {len(names)} names, "
            f"got {values.shape} and {baselines.shape}"
        )
    ax = axes_for(ax, width=3.6 + 0.85 * len(names), height=1.0 + 0.85 * len(names))
    others = np.ma.masked_array(values, np.eye(len(names), dtype=bool))
    highest = max(float(others.max()) if others.count() else 1.0, 2 * float(baselines.mean()), 1e-9)
    ax.set_facecolor(LIGHT["line"])
    image = ax.imshow(others, cmap=HEAT, vmin=0.0, vmax=min(1.0, highest))
    label = measure.replace("_", " ").replace("iou", "intersection over union")
    _mark_baseline(colour_bar(ax, image, label, shrink=0.85), float(baselines.mean()))
    _write_cells(ax, values, baselines, image)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(len(names)), map(plain, names))
    return finish(ax, x="second topology", y="first topology", grid="")


def plot_effective_density(densities: pd.DataFrame, ax: Axes | None = None, *, by: str = "method") -> Axes:
    """Draw effective against nominal density, and so how many connections lie on a path through the network.

    Args:
        densities: one row per topology, with columns `nominal`, `effective` (0 to 1) and, where there are
            several kinds, `method`. Rows of one method and nominal density are averaged.
        ax: where to draw, or None for a new figure.
        by: the column whose values get a line each.

    Raises:
        ValueError: if a column is missing.

    Source: figure 1 of Vysogorets and Kempe (2023), arXiv:2107.02306, compares the same two.
    """
    missing = {"nominal", "effective"} - set(densities)
    if missing:
        raise ValueError(f"the table must have the columns nominal and effective, got none named {', '.join(missing)}")
    ax = axes_for(ax)
    groups = densities.groupby(by, sort=False) if by in densities else [("", densities)]
    lines = {str(method): rows for method, rows in groups}
    styles = styles_on(ax, lines)
    for method, rows in lines.items():
        _effective_line(ax, method, rows, styles[method])
    ends = [densities["nominal"].min(), densities["nominal"].max()]
    ax.plot(ends, ends, color=BASELINE, linestyle=DASHED, linewidth=1.4, label="all effective")
    finish(ax, x="nominal density (connections / positions)", y="effective density", grid="both")
    ax.set_xscale("log")
    ax.set_yscale("log")
    log_ticks(ax.xaxis)
    for axis in (ax.xaxis, ax.yaxis):
        percent(axis)
    name_lines(ax)
    return ax


def _mark_baseline(bar: Colorbar, baseline: float) -> None:
    bar.ax.axhline(baseline, color=LIGHT["surface"], linewidth=3.5)
    bar.ax.axhline(baseline, color=INK, linewidth=1.5)
    bar.ax.annotate(
        f"random\n{baseline:.2g}",
        (0.0, baseline),
        (-4, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=TICK_SIZE,
        color=BASELINE,
    )


def _write_cells(ax: Axes, values: np.ndarray, baselines: np.ndarray, image: AxesImage) -> None:
    for (row, column), value in np.ndenumerate(values):
        if row == column:
            ax.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=TICK_SIZE, color=BASELINE)
            continue
        times = value / baselines[row, column] if baselines[row, column] else float("nan")
        ax.text(
            column,
            row,
            f"{value:.2f}\n{times:.1f}×",
            ha="center",
            va="center",
            fontsize=TICK_SIZE,
            color=on_heat(float(np.asarray(image.norm(value)))),
        )


def _effective_line(ax: Axes, method: str, rows: pd.DataFrame, style: Style) -> None:
    mean = rows.groupby("nominal")["effective"].agg(["mean"])
    ax.plot(
        mean.index,
        mean["mean"],
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        markersize=6,
        label=plain(method) or None,
    )
