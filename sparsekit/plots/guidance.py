"""Figures of guided sampling show where candidates were sampled, and how many remain."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from sparsekit.analysis import Guidance
from sparsekit.plots.canvas import TICK_SIZE, axes_for, finish, in_percent, log_ticks, percent, plain
from sparsekit.plots.colours import BASELINE, DASHED, INK, PAPER
from sparsekit.plots.naming import name_lines
from sparsekit.plots.palette import LIGHT
from sparsekit.topology import LayerTopology

TONES = {"candidate": LIGHT["faint"], "connection": LIGHT["soft"]}
MANY = 2000  # marks, above which a drawing keeps them as an image


def plot_guidance(found: Guidance, ax: Axes | None = None) -> Axes:
    """Draw one sampling of a layer with outputs as rows, inputs as columns, and the guiding probabilities beside them.

    Connections are dark grey. Missing positions that were sampled are pale grey. Those with the largest gradients have
    a dot if they were sampled, and a ring if they were missed.

    Args:
        found: from `analysis.guidance`.
        ax: where to draw, or None for a new figure.
    """
    ax = axes_for(ax, width=7.6, height=5.2)
    ax.imshow(_tones(found), interpolation="none", aspect="auto")
    hits = found.best & found.candidates
    _mark(ax, hits, INK)
    _mark(ax, found.best - found.candidates, "none")
    finish(ax, x="input", y="output", grid="")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    boxes = ((0, 1.02, 1, 0.16), (1.02, 0, 0.12, 1))
    top, right = (ax.inset_axes(box, facecolor="none") for box in boxes)
    inputs, outputs = found.inputs.cpu().numpy(), found.outputs.cpu().numpy()
    top.fill_between(range(len(inputs)), inputs, step="mid", color=BASELINE)
    right.fill_betweenx(range(len(outputs)), outputs, step="mid", color=BASELINE)
    top.set(xlim=ax.get_xlim(), ylim=(0, None), xticks=[], yticks=[])
    right.set(ylim=ax.get_ylim(), xlim=(0, None), xticks=[], yticks=[])
    for side in (top, right):
        side.spines[["top", "right", "left", "bottom"]].set_visible(False)
    top.set_ylabel("probability", fontsize=TICK_SIZE, color=BASELINE, rotation=0, ha="right", va="center")
    handles = _legend(found, hits.count)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12)}
    ax.legend(handles=handles, frameon=False, fontsize=TICK_SIZE, labelcolor=INK, ncols=4, **place)
    return ax


def plot_sampled_ratio(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw candidates per existing connection against density, as measured (dots) and from the formula (line).

    Args:
        table: from `analysis.sampled_ratios`, indexed by density, with columns `measured` and `expected`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if a column is missing.
    """
    if missing := {"measured", "expected"} - set(table):
        raise ValueError(f"the table must have columns measured and expected, got none named {', '.join(missing)}")
    ax = axes_for(ax, height=3.6)
    ax.plot(table.index, table["expected"], color=BASELINE, linestyle=DASHED, label="formula")
    ax.plot(table.index, table["measured"], color=INK, marker="s", linestyle="", markersize=7, label="measured")
    gap = float(abs(table["measured"].to_numpy() / table["expected"].to_numpy() - 1).max())
    title = f"measured and formula differ by {in_percent(gap)} at most"
    finish(ax, x="density", y="|S| / |A|, candidates per connection", title=title, grid="both")
    ax.set_xscale("log")
    log_ticks(ax.xaxis)
    percent(ax.xaxis)
    ax.set_ylim(0, None)
    name_lines(ax)
    return ax


def plot_recall(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw accuracy against recall as the mean over seeds with one standard error, each method named beside it.

    Args:
        runs: one row per run, with columns `method`, `recall` and `accuracy` (0 to 1).
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if a column is missing.
    """
    if missing := {"method", "recall", "accuracy"} - set(runs):
        raise ValueError(f"the table must have columns method, recall, accuracy, got none named {', '.join(missing)}")
    ax = axes_for(ax, width=7.4, height=4.2)
    methods = runs.groupby("method", sort=False)
    recall, accuracy = (methods[name].agg(["mean", "sem"]).fillna(0.0) for name in ("recall", "accuracy"))
    ax.errorbar(
        recall["mean"],
        accuracy["mean"],
        xerr=recall["sem"],
        yerr=accuracy["sem"],
        color=INK,
        linestyle="",
        marker="o",
        capsize=3,
    )
    points = zip(recall["mean"].tolist(), accuracy["mean"].tolist(), recall.index, strict=True)
    for number, (x, y, method) in enumerate(sorted(points)):
        aside = (6, 7 if number % 2 else -13)  # neighbours write above and below, so that names stay apart
        ax.annotate(plain(str(method)), (x, y), aside, textcoords="offset points", fontsize=TICK_SIZE, color=INK)
    finish(ax, x="recall (share of RigL's choice among the candidates)", y="test accuracy (share correct)", grid="both")
    ax.margins(x=0.15, y=0.15)
    percent(ax.xaxis)
    percent(ax.yaxis)
    return ax


def _tones(sampling: Guidance) -> np.ndarray:
    layers = {"candidate": sampling.candidates, "connection": sampling.topology}
    image = np.empty((sampling.topology.size, 3))
    image[:] = to_rgb(PAPER)
    for name, layer in layers.items():
        image[layer.indices.cpu().numpy()] = to_rgb(TONES[name])
    return image.reshape(sampling.topology.num_outputs, -1, 3)


def _mark(ax: Axes, layer: LayerTopology, inside: str) -> None:
    rows, columns = np.divmod(layer.indices.cpu().numpy(), layer.num_inputs)
    marks = ax.scatter(columns, rows, s=11, facecolors=inside, edgecolors=INK, linewidths=0.9)
    marks.set_rasterized(layer.count > MANY)


def _legend(sampling: Guidance, hits: int) -> list[Patch | Line2D]:
    ring = {"color": "none", "marker": "o", "markersize": 4.5, "markeredgecolor": INK}
    return [
        Patch(color=TONES["connection"], label=f"connections: {sampling.topology.count:,}"),
        Patch(color=TONES["candidate"], label=f"candidates: {sampling.candidates.count:,}"),
        Line2D(
            [], [], **ring, markerfacecolor="none", label=f"largest gradients, missed: {sampling.best.count - hits:,}"
        ),
        Line2D([], [], **ring, markerfacecolor=INK, label=f"found: {hits:,}"),
    ]
