"""Figures of layer collapse show what scores before training leave of each layer as a network shrinks.

All take the table of `analysis.collapse_table`, which has a row for each score, density and layer.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sparsekit.analysis.dynamics.score_collapse import check_table, critical_compression
from sparsekit.plots.canvas import HEAT, LABEL_SIZE, axes_for, finish, percent, plain, titled
from sparsekit.plots.colours import BASELINE, DASHED, INK, PAPER, nested, numbered, styles_on
from sparsekit.plots.naming import name_lines
from sparsekit.plots.palette import LIGHT

NONE = 0.5  # a logarithmic axis shows a layer without connections here, below 1, the fewest it can have
PALEST = 0.12  # tone of the sparsest layer, which is not white as one without connections is
COMPRESSION = "compression (1 / density)"


def plot_layer_collapse(table: pd.DataFrame, ax: Axes | None = None, *, score: str) -> Axes:
    """Draw how many connections of each layer one score keeps, against compression.

    A layer without connections stands on the line at the bottom. Hollow markers are connections on a path from an
    input to an output, where these are fewer.

    Args:
        table: from `analysis.collapse_table`.
        ax: where to draw, or None for a new figure.
        score: which of its scores.

    Raises:
        ValueError: if a column is missing, or there is no such score.
    """
    check_table(table)
    rows = table.loc[table["score"] == score]
    if rows.empty:
        raise ValueError(f"score must be one of {', '.join(_scores_of(table))}, got {score!r}. Choose one of them")
    ax = axes_for(ax, width=7.2, height=3.8)
    for number, (layer, line) in enumerate(rows.groupby("layer", sort=False)):
        _layer_line(ax, str(layer), line.sort_values("density", ascending=False), number)
    ax.axhline(NONE, color=BASELINE, linestyle=DASHED, linewidth=1.0)
    finish(ax, x=COMPRESSION, y="connections in the layer", title=_collapse_title(rows, score), grid="x")
    _compression_axis(ax.xaxis, rows)
    _count_axis(ax, int(max(rows["kept"])))
    name_lines(ax, title="layer")
    return ax


def plot_collapse_map(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw for every score and compression how dense each layer still is, as a strip per layer, from input to output.

    Dark is dense and pale is sparse, on a logarithmic scale. A layer without any connection is white and crossed.

    Args:
        table: from `analysis.collapse_table`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if a column is missing.
    """
    check_table(table)
    scores, layers = _scores_of(table), list(dict.fromkeys(table["layer"]))
    densities = sorted(set(table["density"]), reverse=True)
    ax = axes_for(ax, width=8.0, height=1.2 + 0.085 * len(scores) * (len(layers) + 1))
    strips = _strips(table, scores, layers, densities)
    ax.imshow(_colours(strips), interpolation="nearest", aspect="auto")
    rows, columns = np.nonzero(strips == 0)
    ax.scatter(columns, rows, s=9, marker="x", color=INK, linewidths=0.8)
    finish(ax, x=COMPRESSION, y="", grid="")
    titled(ax, "connections / positions of each layer, the first layer on top (crosses: none)")
    step = len(layers) + 1  # an empty strip between two scores
    ax.set_yticks([number * step + (len(layers) - 1) / 2 for number in range(len(scores))], map(plain, scores))
    ax.set_ylabel("score", fontsize=LABEL_SIZE, color=LIGHT["soft"])
    ax.set_xticks(_some(range(len(densities))), [_times(1 / density) for density in _some(densities)])
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    return ax


def plot_useful(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw which share of each score's connections lies on a path from an input to an output, against compression.

    Args:
        table: from `analysis.collapse_table`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if a column is missing.
    """
    check_table(table)
    ax = axes_for(ax, width=7.2, height=3.8)
    looks = styles_on(ax, _scores_of(table))
    styles = {score: looks[score] for score in _scores_of(table)}
    for rank, score in enumerate(styles):
        sums = table.loc[table["score"] == score].groupby("density")[["kept", "effective"]].agg("sum")
        share = sums["effective"] / np.maximum(1, sums["kept"])
        style = styles[score]
        ax.plot(
            1 / sums.index,
            share,
            color=style.colour,
            marker=style.marker,
            linestyle=style.dashes,
            label=plain(score),
            **nested(rank, len(styles)),
        )
    finish(ax, x=COMPRESSION, y="connections on a path", grid="both")
    _compression_axis(ax.xaxis, table)
    percent(ax.yaxis)
    name_lines(ax)
    return ax


def _layer_line(ax: Axes, layer: str, line: pd.DataFrame, number: int) -> None:
    style, x = numbered(number), 1 / line["density"]
    colour, marker = style.colour, style.marker
    count, effective = (line[name].clip(lower=NONE) for name in ("kept", "effective"))
    ax.plot(x, count, color=colour, marker=marker, markersize=6, linestyle=style.dashes, label=plain(layer))
    is_less = line["effective"] < line["kept"]
    hollow = effective[is_less]
    ax.plot(x[is_less], hollow, color=colour, marker=marker, markersize=6, linestyle="", markerfacecolor=LIGHT["paper"])


def _collapse_title(rows: pd.DataFrame, score: str) -> str:
    end = critical_compression(rows).loc[score]
    if not end["first_empty"]:
        return f"{score}: no layer loses its last connection"
    return f"{score}: no layer is empty up to {_times(end['compression'])}, then {end['first_empty']}"


def _strips(table: pd.DataFrame, scores: list[str], layers: list[str], densities: list[float]) -> np.ndarray:
    """Return the density of every layer, a row each, and a row of NaN between two scores."""
    shares = table.assign(share=table["kept"] / table["size"]).set_index(["score", "layer", "density"])["share"]
    order = pd.MultiIndex.from_product([scores, layers, densities])
    values = np.full((len(scores), len(layers) + 1, len(densities)), np.nan)
    values[:, :-1] = shares.reindex(order).to_numpy().reshape(len(scores), len(layers), len(densities))
    return values.reshape(-1, len(densities))[:-1]


def _colours(densities: np.ndarray) -> np.ndarray:
    """Return colours from the lowest density that occurs to 1 on a logarithmic scale. NaN is transparent."""
    lowest = np.min(densities, initial=1.0, where=densities > 0)
    dark = 1 - np.log(np.fmax(densities, lowest)) / min(np.log(lowest), -1e-9)
    image = HEAT(PALEST + (1 - PALEST) * dark)
    image[densities == 0] = to_rgba(PAPER)
    image[np.isnan(densities)] = 0.0
    return image


def _compression_axis(axis: Axis, rows: pd.DataFrame) -> None:
    axis.axes.set_xscale("log", base=2)
    compressions = sorted(1 / density for density in set(rows["density"]))
    axis.set_major_locator(FixedLocator(_some(compressions)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _times(value)))


def _count_axis(ax: Axes, highest: int) -> None:
    ax.set_yscale("log")
    ax.set_ylim(NONE * 0.7, highest * 1.6)
    ax.yaxis.set_major_locator(FixedLocator([NONE, *(10**power for power in range(len(str(highest)) + 1))]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "none" if value == NONE else f"{value:,.0f}"))


def _some(labels: Sequence) -> list:
    """Return every label, or every second, third, ... one, because more than ten would touch each other."""
    return list(labels[:: 1 + (len(labels) - 1) // 10])


def _scores_of(table: pd.DataFrame) -> list[str]:
    return [str(score) for score in dict.fromkeys(table["score"])]


def _times(compression: float) -> str:
    return f"{compression:,.0f}×" if compression >= 10 else f"{compression:.3g}×"
