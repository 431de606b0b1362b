"""Figures of training tricks show smooth units, how signals propagate, and effects with their intervals."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from matplotlib.axes import Axes

from sparsekit.plots.canvas import axes_for, finish, plain
from sparsekit.plots.colours import BASELINE, DASHED, INK, nested, numbered
from sparsekit.plots.naming import name_lines
from sparsekit.plots.palette import LIGHT
from sparsekit.tricks import Soft

FURTHEST = 4.0  # input up to which units are drawn, as they are straight beyond it


def plot_soft_units(units: Sequence[Soft], ax: Axes | None = None) -> Axes:
    """Draw smooth units over the ReLU that they become. The legend says how far each is from it at most.

    Args:
        units: for example `[Soft("pswish", beta) for beta in (1, 3, 20)]`.
        ax: where to draw, or None for a new figure.
    """
    ax = axes_for(ax)
    x = torch.linspace(-FURTHEST, FURTHEST, 801)
    ax.plot(x.numpy(), x.relu().numpy(), color=BASELINE, linestyle=DASHED, label="ReLU")
    for number, unit in enumerate(units):
        style = numbered(number)
        name = f"{unit.unit}, beta {unit.beta:g}: gap {unit.gap:.3f}"
        ax.plot(
            x.numpy(),
            unit(x).numpy(),
            color=style.colour,
            linestyle=style.dashes,
            label=name,
            linewidth=nested(number, len(units))["linewidth"],
        )
    finish(ax, x="input", y="output", grid="both")
    name_lines(ax)
    return ax


def plot_signals(tables: Mapping[str, pd.DataFrame], ax: Axes | None = None, *, column: str = "output_std") -> Axes:
    """Draw how strong signals are from layer to layer, with a line for each initialisation.

    Args:
        tables: by name, each from `analysis.signal_propagation` for the same network.
        ax: where to draw, or None for a new figure.
        column: `"output_std"` or `"gradient_norm"`.

    Raises:
        ValueError: if there is no table, or one lacks the column.
    """
    if not tables or any(column not in table for table in tables.values()):
        raise ValueError(f"there must be tables with a column {column!r}, got {', '.join(tables) or 'none'}")
    ax = axes_for(ax)
    for number, (name, table) in enumerate(tables.items()):
        style = numbered(number)
        ax.plot(
            [plain(str(layer)) for layer in table.index],
            table[column],
            color=style.colour,
            marker=style.marker,
            linestyle=style.dashes,
            label=plain(name),
            **nested(number, len(tables)),
        )
    ax.set_yscale("log")
    words = {"output_std": "spread of a layer's outputs", "gradient_norm": "norm of a layer's gradient"}
    finish(ax, x="layer", y=words.get(column, column), grid="both")
    name_lines(ax)
    return ax


def plot_effects(effects: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw effects with their intervals, in points of accuracy. An interval that leaves out zero is dark and round.

    Args:
        effects: from `analysis.factorial_effects`.
        ax: where to draw, or None for a new figure.

    Raises:
        ValueError: if a column is missing.
    """
    if missing := {"effect", "low", "high"} - set(effects):
        raise ValueError(f"the table must come from factorial_effects, got one without {', '.join(sorted(missing))}")
    ax = axes_for(ax, height=1.2 + 0.28 * len(effects))
    rows = 100 * effects[["effect", "low", "high"]].iloc[::-1]
    for row, (effect, low, high) in enumerate(rows.itertuples(index=False)):
        is_clear = low > 0 or high < 0
        colour, marker = (INK, "o") if is_clear else (LIGHT["soft"], "s")
        ax.plot([low, high], [row, row], color=colour)
        ax.plot([effect], [row], color=colour, marker=marker, markerfacecolor=colour if is_clear else LIGHT["paper"])
    ax.axvline(0, color=BASELINE, linestyle=DASHED, linewidth=1)
    ax.set_yticks(range(len(rows)), map(plain, map(str, rows.index)))
    return finish(ax, x="effect on test accuracy, points", y="trick or pair", grid="x")
