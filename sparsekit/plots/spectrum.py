"""A figure of the loss's curvature, as the spectrum of the Hessian."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sparsekit.plots.canvas import axes_for, finish, plain
from sparsekit.plots.colours import BASELINE, DASHED, numbered
from sparsekit.plots.naming import legend


def plot_spectrum(
    spectra: pd.DataFrame | Mapping[str, pd.DataFrame], ax: Axes | None = None, *, points: int = 400
) -> Axes:
    """Draw the density of a Hessian's eigenvalues on a logarithmic axis, with a large bulk near 0 and a few far out.

    Each point of the quadrature is drawn as a bell, as wide as 1 % of the range.

    Args:
        spectra: a table of `analysis.hessian_spectrum`, or several by name.
        ax: where to draw, or None for a new figure.
        points: of each line.
    """
    tables = {"": spectra} if isinstance(spectra, pd.DataFrame) else dict(spectra)
    ax = axes_for(ax, width=6.8, height=3.6)
    ends = np.concatenate([table["eigenvalue"].to_numpy() for table in tables.values()])
    low, high = float(ends.min()), float(ends.max())
    width = 0.01 * (high - low) or 1.0
    x = np.linspace(low - 5 * width, high + 5 * width, points)
    highest = 0.0
    for number, (name, table) in enumerate(tables.items()):
        distance = (x[:, None] - table["eigenvalue"].to_numpy()) / width
        density = np.exp(-(distance**2) / 2) @ table["weight"].to_numpy() / (width * np.sqrt(2 * np.pi))
        highest = max(highest, float(density.max()))
        style = numbered(number)
        ax.plot(x, density, color=style.colour, linestyle=style.dashes, label=plain(name) or None)
    ax.axvline(0, color=BASELINE, linestyle=DASHED, linewidth=1.0)
    ax.set_yscale("log")
    ax.set_ylim(1e-6 / width, 3 * highest)  # below are only the bells' own tails
    finish(ax, x="eigenvalue of the Hessian", y="density of eigenvalues", grid="both")
    legend(ax)
    return ax
