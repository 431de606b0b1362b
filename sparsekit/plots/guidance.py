"""Figures of guided sampling: where candidates were drawn, and how many remain."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from sparsekit.analysis import Guidance
from sparsekit.plots.canvas import TICK_SIZE, axes_for, finish, in_percent, legend, log_ticks, percent, plain
from sparsekit.plots.colours import BASELINE, BLUE, DASHED, GROWN, INK, PAPER, SKY, VERMILLION

KINDS = {"connection": INK, "candidate": SKY, "missed": VERMILLION, "found": GROWN}


def plot_guidance(found: Guidance, ax: Axes | None = None) -> Axes:
    """Draw one sampling of a layer: rows are outputs, columns inputs, and beside them the probabilities that guide.

    Connections are dark. Of the missing places those drawn are pale blue, and of those with the largest gradients the
    ones that were drawn are green and the others red.

    Args:
        found: from `analysis.guidance`.
        ax: where to draw; a new figure if None.
    """
    ax = axes_for(ax, width=7.6, height=5.2)
    ax.imshow(_kinds(found), interpolation="nearest", aspect="auto")
    finish(ax, x="input", y="output", grid="")
    top, right = ax.inset_axes((0, 1.02, 1, 0.16)), ax.inset_axes((1.02, 0, 0.12, 1))
    inputs, outputs = found.inputs.cpu().numpy(), found.outputs.cpu().numpy()
    top.fill_between(range(len(inputs)), inputs, step="mid", color=BLUE)
    right.fill_betweenx(range(len(outputs)), outputs, step="mid", color=BLUE)
    top.set(xlim=ax.get_xlim(), ylim=(0, None), xticks=[], yticks=[])
    right.set(ylim=ax.get_ylim(), xlim=(0, None), xticks=[], yticks=[])
    for side in (top, right):
        side.spines[["top", "right", "left", "bottom"]].set_visible(False)
    top.set_ylabel("probability", fontsize=TICK_SIZE, rotation=0, ha="right", va="center")
    swatches = [Patch(color=colour, label=f"{name}: {count:,}") for (name, count), colour in _legend(found)]
    ax.legend(
        handles=swatches, frameon=False, fontsize=TICK_SIZE, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12)
    )
    return ax


def plot_sampled_ratio(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw candidates per existing connection against density: dots as measured, the line as the formula says.

    Args:
        table: from `analysis.sampled_ratios`: indexed by density, with columns `measured` and `expected`.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: if a column is missing.
    """
    if missing := {"measured", "expected"} - set(table):
        raise ValueError(f"the table must have columns measured and expected, got none named {', '.join(missing)}")
    ax = axes_for(ax, height=3.6)
    ax.plot(table.index, table["expected"], color=BASELINE, linestyle=DASHED, label="formula")
    ax.plot(table.index, table["measured"], color=BLUE, marker="s", linestyle="", markersize=7, label="measured")
    gap = float(abs(table["measured"].to_numpy() / table["expected"].to_numpy() - 1).max())
    title = f"measured and formula differ by {in_percent(gap)} at most"
    finish(ax, x="density", y="|S| / |A|, candidates per connection", title=title, grid="both")
    ax.set_xscale("log")
    log_ticks(ax.xaxis)
    percent(ax.xaxis)
    ax.set_ylim(0, None)
    legend(ax)
    return ax


def plot_recall(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw accuracy against recall: a mean over seeds with one standard error for each method, named beside it.

    Args:
        runs: one row per run, with columns `method`, `recall` and `accuracy` (0 to 1).
        ax: where to draw; a new figure if None.

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
        color=BLUE,
        linestyle="",
        marker="o",
        capsize=3,
    )
    points = zip(recall["mean"].tolist(), accuracy["mean"].tolist(), recall.index, strict=True)
    for place, (x, y, method) in enumerate(sorted(points)):
        aside = (6, 7 if place % 2 else -13)  # neighbours write above and below, so that names stay apart
        ax.annotate(plain(str(method)), (x, y), aside, textcoords="offset points", fontsize=TICK_SIZE)
    finish(ax, x="recall (share of RigL's choice among the candidates)", y="test accuracy (share correct)", grid="both")
    ax.margins(x=0.15, y=0.15)
    percent(ax.xaxis)
    percent(ax.yaxis)
    return ax


def _kinds(found: Guidance) -> np.ndarray:
    places = {
        "candidate": found.candidates,
        "missed": found.best - found.candidates,
        "found": found.best & found.candidates,
        "connection": found.topology,
    }
    picture = np.empty((found.topology.size, 3))
    picture[:] = to_rgb(PAPER)
    for name, layer in places.items():
        picture[layer.indices.cpu().numpy()] = to_rgb(KINDS[name])
    return picture.reshape(found.topology.num_outputs, -1, 3)


def _legend(found: Guidance) -> list[tuple[tuple[str, int], str]]:
    hits = (found.best & found.candidates).count
    counts = (
        ("connections", found.topology.count),
        ("candidates", found.candidates.count),
        ("largest gradients, missed", found.best.count - hits),
        ("found", hits),
    )
    return list(zip(counts, KINDS.values(), strict=True))
