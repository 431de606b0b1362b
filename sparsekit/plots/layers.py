"""Figures of one topology show how dense its layers are, and how its connections spread over units."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparsekit.analysis import layer_table, unit_fan_out
from sparsekit.plots.canvas import (
    HEAT,
    TICK_SIZE,
    axes_for,
    colour_bar,
    finish,
    log_ticks,
    note,
    plain,
)
from sparsekit.plots.colours import BASELINE, INK, styles_on
from sparsekit.plots.naming import legend, legend_beside
from sparsekit.plots.palette import LIGHT
from sparsekit.topology import LayerTopology, Topology, check_topology


def plot_layer_densities(topologies: dict[str, Topology] | Topology, ax: Axes | None = None) -> Axes:
    """Draw the compression (1 / density) of every layer as bars on a logarithmic axis.

    Args:
        topologies: one, or several by name (methods, allocations), whose bars stand beside each other.
        ax: where to draw, or None for a new figure.

    Raises:
        TypeError: if one of them is no topology.
        ValueError: if there is no topology.

    Source: the form of figure 9 in the supplement of GSE, arXiv:2401.06898.
    """
    groups = dict(topologies) if isinstance(topologies, dict) else {"": topologies}
    for topology in groups.values():
        check_topology(topology)
    if not groups or not any(groups.values()):
        raise ValueError("bars need at least one topology with a layer, got none. Sparsify the model first")
    layers = list(next(iter(groups.values())))
    ax = axes_for(ax, width=max(5.0, 1.6 + 0.45 * len(layers) * len(groups)))
    styles = styles_on(ax, groups)
    for number, (name, topology) in enumerate(groups.items()):
        _density_bars(ax, name, topology, styles[name].colour, offset=number, groups=len(groups))
    _name_layers(ax, layers)
    finish(ax, x="layer", y="compression (1 / density)")
    ax.set_yscale("log")
    log_ticks(ax.yaxis)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    # Bars begin at 1 (dense), so that their length is the logarithm of the compression.
    ax.set_ylim(bottom=1.0, top=ax.get_ylim()[1] * 1.6)
    legend_beside(ax)
    return ax


def plot_fan_histogram(layer: LayerTopology, ax: Axes | None = None, *, side: str = "fan_in") -> Axes:
    """Draw how many units of a layer have how many connections, beside what chance would give.

    The line is what to expect of a uniformly random topology with as many connections. A unit with `p` of the layer's
    `n` positions then has a hypergeometric number of its `e` connections. At low density that is nearly the Poisson
    distribution of Mocanu et al., while at high density it is far narrower. Learnt topologies have a long tail instead.

    Args:
        layer: the topology of one layer.
        ax: where to draw, or None for a new figure.
        side: `"fan_in"` (connections into each output) or `"fan_out"` (out of each input, kernels summed).

    Raises:
        ValueError: if the side is neither.

    Source: the degree distributions of Mocanu et al. (2018), arXiv:1707.04780. The exact distribution is ours.
    """
    if side not in ("fan_in", "fan_out"):
        raise ValueError(f"side must be 'fan_in' or 'fan_out', got {side!r}. Choose one of them")
    fan = (layer.fan_in() if side == "fan_in" else unit_fan_out(layer)).cpu().numpy()
    ax = axes_for(ax)
    unit = "output" if side == "fan_in" else "input"
    edges = _integer_edges(int(fan.min()), int(fan.max()))
    ax.hist(
        fan, bins=list(edges), color=LIGHT["faint"], edgecolor=LIGHT["paper"], label=f"this layer, {len(fan)} {unit}s"
    )
    _expected_line(ax, layer, len(fan), edges)
    finish(ax, x=f"{side.replace('_', '-')} (connections per {unit})", y=f"units ({unit}s)")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


def plot_input_map(
    layer: LayerTopology,
    image: tuple[int, int] | tuple[int, int, int],
    ax: Axes | None = None,
    *,
    high: float | None = None,
) -> Axes:
    """Draw how many connections leave each pixel of the input image, which is the first layer's fan-out.

    Dynamic sparse training moves connections to where images differ, mostly their centre.

    Args:
        layer: the topology of the first, linear layer.
        image: height and width of the image, or channels, height and width (channels are summed).
        ax: where to draw, or None for a new figure.
        high: the count that is darkest, so that maps can share one scale. None is the greatest.

    Raises:
        ValueError: if the image has another number of pixels than the layer has inputs.

    Source: the input connectivity of Mocanu et al. (2018), arXiv:1707.04780, and its released code.
    """
    if math.prod(image) != layer.num_inputs:
        raise ValueError(f"the image must have {layer.num_inputs} pixels like the layer's inputs, got {image}")
    counts = layer.fan_out().cpu().numpy().reshape(-1, *image[-2:]).sum(0)
    ax = axes_for(ax, width=4.8)
    heatmap = ax.imshow(counts, cmap=HEAT, vmin=0, vmax=high, interpolation="none")
    is_clipped = high is not None and bool(counts.max() > high)
    bar = colour_bar(ax, heatmap, "connections per pixel", shrink=0.9, clipped=is_clipped)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return finish(ax, x="column (pixel)", y="row (pixel)", grid="")


def _density_bars(ax: Axes, name: str, topology: Topology, colour: str, *, offset: int, groups: int) -> None:
    width = 0.8 / groups
    table = layer_table(topology)
    centres = np.arange(len(table)) + (offset - (groups - 1) / 2) * width
    is_empty = table["count"] == 0
    heights = np.where(is_empty, table["size"], table["compression"])
    bars = ax.bar(centres, heights, width * 0.92, color=colour, label=plain(name) or None)
    for bar, empty, compression in zip(bars, is_empty, table["compression"], strict=True):
        bar.set(hatch="//", facecolor="none", edgecolor=colour) if empty else None
        if groups <= 2:
            text = "empty" if empty else f"{compression:.3g}×"
            ax.annotate(
                text,
                (bar.get_x() + bar.get_width() / 2, bar.get_height()),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=TICK_SIZE,
                color=BASELINE,
            )


def _name_layers(ax: Axes, names: list[str]) -> None:
    long = max(len(name) for name in names) * len(names) > 60
    ax.set_xticks(range(len(names)), map(plain, names), rotation=45 if long else 0, ha="right" if long else "center")


def _integer_edges(lowest: int, highest: int) -> np.ndarray:
    """Return edges between integers, so that every bar holds equally many of them, with 40 bars at most."""
    step = max(1, math.ceil((highest - lowest + 1) / 40))
    return np.arange(lowest, highest + step + 1, step) - 0.5


def _expected_line(ax: Axes, layer: LayerTopology, units: int, edges: np.ndarray) -> None:
    if layer.count == 0:
        note(ax, "no connections")
        return
    from scipy.stats import hypergeom  # costs a second, and only this figure needs it

    counts = np.arange(int(edges[0] + 0.5), int(edges[-1] + 0.5))
    shares = hypergeom.pmf(counts, layer.size, layer.count, layer.size // units)
    per_bar = shares.reshape(-1, round(edges[1] - edges[0])).sum(1)
    centres = (edges[1:] + edges[:-1]) / 2
    ax.plot(centres, units * per_bar, color=INK, marker=".", linestyle="--", label="random topology (expected)")
