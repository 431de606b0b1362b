"""This figure shows how the loss falls with the size of sparse networks."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from sparsekit.analysis import ScalingLaw
from sparsekit.plots.canvas import axes_for, finish, in_percent, log_ticks
from sparsekit.plots.colours import numbered
from sparsekit.plots.naming import name_lines


def plot_scaling(runs: pd.DataFrame, law: ScalingLaw, ax: Axes | None = None) -> Axes:
    """Draw measured losses against the number of connections, and the law as a line for each density.

    Args:
        runs: one row per network, with the columns `connections`, `density` and `loss` (nats).
        law: from `analysis.fit_scaling_law`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if there is no run.

    Example:
        >>> from sparsekit import analysis
        >>> law = analysis.ScalingLaw(0.3, 60.0, 0.5, 0.4, 0.5, 1.0)
        >>> table = pd.DataFrame({"connections": [200, 2000], "density": [0.1, 0.1], "loss": [3.0, 1.2]})
        >>> plot_scaling(table, law)
        <figure: loss of networks of 200 to 2,000 connections>
    """
    if runs.empty:
        raise ValueError("there must be at least one run, got none. Train networks of several sizes and densities")
    ax = axes_for(ax)
    for number, density in enumerate(sorted(map(float, runs["density"].unique()))):
        group, style = runs[runs["density"] == density], numbered(number)
        sizes = np.geomspace(group["connections"].min(), group["connections"].max(), 50)
        losses = [law.loss(size, density) for size in sizes]
        ax.plot(group["connections"], group["loss"], style.marker, color=style.colour)
        ax.plot(sizes, losses, color=style.colour, label=f"density {in_percent(density)}")
    low, high = runs["connections"].min(), runs["connections"].max()
    title = f"loss of networks of {low:,} to {high:,} connections"
    finish(ax, x="connections, log scale", y="loss (nats per sample)", title=title, grid="both")
    ax.set_xscale("log")
    log_ticks(ax.xaxis)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    name_lines(ax)
    return ax
