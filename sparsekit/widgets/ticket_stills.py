"""Draw masks in the colours of their owners, and who survives superposition, as static images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from sparsekit.plots.palette import LIGHT
from sparsekit.tickets import Ticket
from sparsekit.topology import Topology

HUES = ("plus", "minus", "third")
GREY = 0.58  # share of paper in the grey of what some tickets have
GAP = 10  # empty rows between two layers


@dataclass(frozen=True)
class Survival:
    """How many connections each kind has, and how many of them stay.

    Args:
        whole: of what all tickets have, what some have, and what only ticket 0, 1, ... has.
        stay: how many of each kind are in the superposition.
    """

    whole: tuple[int, ...]
    stay: tuple[int, ...]

    @classmethod
    def of(cls, tickets: Sequence[Ticket], mixed: Ticket) -> "Survival":
        """Count them."""
        whole, stay = np.zeros(len(tickets) + 2, dtype=np.int64), np.zeros(len(tickets) + 2, dtype=np.int64)
        for name, kinds in kinds_of([one.topology for one in tickets]).items():
            here = kinds[mixed.topology[name].indices.numpy()]
            whole += np.bincount(kinds[kinds >= 0], minlength=len(whole))
            stay += np.bincount(here[here >= 0], minlength=len(stay))
        return cls(tuple(whole.tolist()), tuple(stay.tolist()))


def kinds_of(topologies: Sequence[Topology]) -> dict[str, np.ndarray]:
    """Return for each position of each layer who has it.

    0 is all, 1 some, 2 + k only network k, and -1 is nobody.
    """
    kinds = {}
    for name, layer in topologies[0].items():
        has = np.zeros((len(topologies), layer.size), dtype=bool)
        for row, topology in zip(has, topologies, strict=True):
            row[topology[name].indices.numpy()] = True
        votes = has.sum(0)
        kinds[name] = np.select([votes == 0, votes == len(topologies), votes > 1], [-1, 0, 1], 2 + has.argmax(0))
    return kinds


def kind_names(num: int) -> list[str]:
    """Return the words for the kinds of `num` tickets.

    Example:
        >>> kind_names(3)[:3]
        ['in all three', 'in two', 'only in ticket 0']
    """
    words = {2: "both", 3: "all three", 4: "all four"}.get(num, f"all {num}")
    return [f"in {words}", "in two" if num == 3 else "in some", *(f"only in ticket {k}" for k in range(num))]


def kind_colours(num: int, *, chosen: int = 0) -> list[str]:
    """Return a colour for each kind. Of more than three tickets only the chosen one has a hue."""
    ink, paper = np.array(to_rgb(LIGHT["ink"])), np.array(to_rgb(LIGHT["surface"]))
    grey = "#{:02x}{:02x}{:02x}".format(*(np.round(255 * (ink + (paper - ink) * GREY)).astype(int)))
    hues = [LIGHT[HUES[k]] if num <= len(HUES) else LIGHT["plus"] if k == chosen else grey for k in range(num)]
    return [LIGHT["ink"], grey, *hues]


def draw_mask(ax: Axes, tickets: Sequence[Ticket], shown: Topology, *, chosen: int = 0) -> None:
    """Draw a network's connections in the colours of who has them, layer below layer, longer sides across."""
    colours = np.array([to_rgb(colour) for colour in [*kind_colours(len(tickets), chosen=chosen), LIGHT["surface"]]])
    parts = []
    for name, kinds in kinds_of([one.topology for one in tickets]).items():
        layer = shown[name]
        cells = np.full(layer.size, -1)
        cells[layer.indices.numpy()] = np.maximum(kinds[layer.indices.numpy()], -1)
        cells = cells.reshape(layer.num_outputs, layer.num_inputs)
        parts.append(colours[cells.T if layer.num_outputs > layer.num_inputs else cells])
    width = max((part.shape[1] for part in parts), default=1)
    blank = np.tile(to_rgb(LIGHT["paper"]), (GAP, width, 1))
    rows = [row for part in parts for row in (_widened(part, width), blank)]
    ax.imshow(np.concatenate(rows[:-1]) if rows else blank, interpolation="nearest")
    ax.set_axis_off()


def draw_survivors(ax: Axes, survival: Survival) -> None:
    """Draw a bar for each kind, whose full part survives."""
    num = len(survival.whole) - 2
    for row, colour in enumerate(kind_colours(num)):
        whole, stay = survival.whole[row], survival.stay[row]
        ax.barh(row, 1, color=LIGHT["line"], height=0.6)
        ax.barh(row, stay / whole if whole else 0, color=colour, height=0.6)
        ax.text(1.02, row, f"{stay:,} of {whole:,}", va="center", fontsize=8, color=LIGHT["ink"])
    ax.set_yticks(range(num + 2), kind_names(num), fontsize=8)
    ax.set_xlim(0, 1.35)
    ax.set_xticks([])
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, colors=LIGHT["ink"])
    ax.set_facecolor(LIGHT["paper"])


def _widened(cells: np.ndarray, width: int) -> np.ndarray:
    """Scale a layer up to the width of the widest, or leave it where the widest is not twice as wide."""
    times = max(1, width // cells.shape[1])
    wide = cells.repeat(times, axis=0).repeat(times, axis=1)
    margin = np.tile(to_rgb(LIGHT["paper"]), (wide.shape[0], width - wide.shape[1], 1))
    return np.concatenate([wide, margin], axis=1)
