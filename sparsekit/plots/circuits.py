"""This figure shows the circuit of a task: its nodes in the order in which they are computed, and their weights."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from sparsekit.plots.canvas import TICK_SIZE, axes_for, finish
from sparsekit.plots.colours import INK
from sparsekit.plots.palette import LIGHT

THICKEST = 3.0  # points, for the largest weight
Node = tuple[str, int]


def plot_circuit(edges: pd.DataFrame, ax: Axes | None = None, *, tokens: Sequence[str] = ()) -> Axes:
    """Draw a circuit with a column for each module and a line for each weight, blue above zero and red below.

    A dotted line joins what is written into a stream and what is read from it later, which are channels of one number.

    Args:
        edges: one row per weight, from `analysis.edges_of`.
        ax: where to draw, or None for a new figure.
        tokens: names of the channels of `tokens` and `answers`, or none for their numbers.

    Raises:
        ValueError: if there is no edge.

    Example:
        >>> row = {"source": "tokens", "source_channel": 3, "target": "embed", "target_channel": 0, "weight": 1.5}
        >>> plot_circuit(pd.DataFrame([row]))
        <figure: circuit of 1 weights between 2 nodes>
    """
    if edges.empty:
        raise ValueError("a circuit must have at least one weight, got none. Raise the limit of find_circuit")
    pairs = node_pairs(edges)
    at = node_positions(pairs)
    columns = list(dict.fromkeys(group for group, _ in at))
    ax = axes_for(ax, width=max(6.4, 0.8 * len(columns)), height=4.6)
    for first, last in streams(pairs, columns):
        ax.plot(*zip(at[first], at[last], strict=True), ":", color=LIGHT["faint"], linewidth=1)
    weights = edges["weight"].tolist()
    largest = max(map(abs, weights))
    for (source, target), weight in zip(pairs, weights, strict=True):
        width = max(0.4, THICKEST * abs(weight) / largest)
        colour = LIGHT["plus" if weight > 0 else "minus"]
        ax.plot(*zip(at[source], at[target], strict=True), color=colour, linewidth=width)
    _draw_nodes(ax, at, tokens)
    finish(ax, x="", y="node", title=f"circuit of {len(edges)} weights between {len(at)} nodes", grid="")
    ax.set_yticks([])
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    return ax


def node_pairs(edges: pd.DataFrame) -> list[tuple[Node, Node]]:
    """Return both ends of each weight, a module and a channel each."""
    return list(zip(_nodes(edges, "source"), _nodes(edges, "target"), strict=True))


def _nodes(edges: pd.DataFrame, end: str) -> list[Node]:
    return [(str(group), int(at)) for group, at in zip(edges[end], edges[f"{end}_channel"], strict=True)]


def node_positions(pairs: Sequence[tuple[Node, Node]]) -> dict[Node, tuple[float, float]]:
    """Return where each node is drawn: its module's column, and a height by its number."""
    channels: dict[str, set[int]] = {}
    for group, channel in [node for pair in pairs for node in pair]:
        channels.setdefault(group, set()).add(channel)
    return {
        (group, channel): (float(column), (rank + 0.5) / len(numbers))
        for column, (group, numbers) in enumerate(channels.items())
        for rank, channel in enumerate(sorted(numbers))
    }


def streams(pairs: Sequence[tuple[Node, Node]], columns: Sequence[str]) -> list[tuple[Node, Node]]:
    """Return which nodes are joined without a weight: where no matrix reads on, and where none has written."""
    sources, targets = {source for source, _ in pairs}, {target for _, target in pairs}
    read, written = {group for group, _ in sources}, {group for group, _ in targets}
    ends = sorted(node for node in targets if node[0] not in read and node[0] != "answers")
    starts = sorted(node for node in sources if node[0] not in written and node[0] != "tokens")
    return [
        (end, start)
        for end in ends
        for start in starts
        if end[1] == start[1] and columns.index(end[0]) < columns.index(start[0])
    ]


def _draw_nodes(ax: Axes, at: dict[Node, tuple[float, float]], tokens: Sequence[str]) -> None:
    for (group, channel), (x, y) in at.items():
        ax.plot(x, y, "o", color=INK, markersize=4)
        name = tokens[channel] if tokens and group in ("tokens", "answers") else str(channel)
        ax.annotate(name, (x, y), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=TICK_SIZE, color=INK)
