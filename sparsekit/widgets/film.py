"""Watch a topology evolve: scrub or play every rewiring of a recorded run, in the browser alone."""

from collections.abc import Sequence

import numpy as np
import traitlets as t
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsekit.plots.canvas import plain
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import Topology
from sparsekit.widgets import colours, mask_encoding, rendering
from sparsekit.widgets.mask_deltas import Histogram, LayerFilm, film_of
from sparsekit.widgets.mask_encoding import percent
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import FrontEnd, script

INKS = {"paper": colours.PAPER, "kept": colours.INK, "born": colours.BORN, "dropped": colours.DROPPED}
LIMIT = 512  # longer side of the picture in CSS pixels
MOST_STRETCHED = 4  # a matrix longer than that fills its frame in the still, or its rows could not be seen


class TopologyFilm(FrontEnd):
    """Every rewiring of a recorded run: which connections were born, kept and dropped, and how fans spread.

    All of it goes to the browser once, as the first mask and the places that flip; scrubbing, playing and choosing a
    layer then need no kernel (and do not write back: set `rewiring` from code to go somewhere).

    Args:
        journal: the recorded run; `journal[i]` is the topology after `i` rewirings, 0 being before the first.
        layers: names of the layers to send; None sends all.
        rewiring: which one to show at first.

    Raises:
        ValueError: if there are no layers, a name is unknown, or the rewiring is not in the journal.
    """

    _esm = script("shared", "flips", "film")
    layers = t.List(t.Dict()).tag(sync=True)
    rewiring = t.Int(0).tag(sync=True)
    layer = t.Int(0).tag(sync=True)
    colours = t.Dict(default_value=INKS).tag(sync=True)

    def __init__(self, journal: Journal, *, layers: Sequence[str] | None = None, rewiring: int = 0):
        topologies = list(journal.topologies())
        self._steps = journal.steps
        self.films = {name: film_of([one[name] for one in topologies]) for name in _chosen(topologies[0], layers)}
        super().__init__(layers=[self._sent(name, film) for name, film in self.films.items()], rewiring=rewiring)

    @property
    def nbytes(self) -> int:
        """Bytes of pictures sent to the browser, once."""
        return sum(film.nbytes for film in self.films.values())

    @t.validate("rewiring")
    def _within(self, proposal: t.Bunch) -> int:
        if not 0 <= proposal.value <= len(self._steps):
            raise ValueError(
                f"rewiring must lie in [0, {len(self._steps)}], got {proposal.value}; 0 is before the first"
            )
        return proposal.value

    def sentence(self) -> str:
        """Say how long the film is and what it shows now."""
        shown = self.layers[self.layer]
        return f"Film of {len(self._steps)} rewirings; {shown['name']}, {shown['captions'][self.rewiring]}"

    def snapshot(self) -> Picture:
        """Draw the rewiring that `rewiring` names: mask, fan-in and fan-out."""
        name = self.layers[self.layer]["name"]
        picture = rendering.figure_rgba(_figure(self.films[name], self.rewiring, name))
        caption = rendering.text([self.layers[self.layer]["captions"][self.rewiring]])
        return Picture(rendering.png(rendering.stack([picture, caption], gap=4)), self.sentence())

    def _sent(self, name: str, film: LayerFilm) -> dict:
        rows, cols = film.base.shape[0], film.base.num_inputs
        width, height = mask_encoding.tile_size(rows, cols, LIMIT)
        return {
            "name": name,
            "rows": rows,
            "cols": cols,
            "width": width,
            "height": height,
            "base": film.base.rows.tobytes(),
            "gaps": film.gaps,
            "flips": list(film.flips),
            "counts": film.counts.tolist(),
            "captions": captions(film, self._steps),
            "fan_in": _bars(film.fan_in),
            "fan_out": _bars(film.fan_out),
        }


def captions(film: LayerFilm, steps: Sequence[int]) -> list[str]:
    """Say for every frame what its rewiring did. Churn is the share of connections that are new."""
    first = f"Before the first rewiring: {film.counts[0, 1]:,} connections."
    return [first] + [
        f"Rewiring {number} of {len(steps)}, step {step:,}: {born:,} born, {kept:,} kept, {dropped:,} dropped; "
        f"{born + kept:,} connections, churn {percent(born / (born + kept)) if born + kept else '–'}."
        for number, (step, (born, kept, dropped)) in enumerate(zip(steps, film.counts[1:].tolist(), strict=True), 1)
    ]


def picture_of(film: LayerFilm, frame: int) -> rendering.Rgba:
    """Draw one frame, one pixel per place, in the colours of the browser."""
    now, before = film.mask(frame), film.mask(max(0, frame - 1))
    kind = np.where(now, np.where(before, 1, 2), np.where(before, 3, 0))
    return np.array([(*colours.rgb(colour), 255) for colour in INKS.values()], dtype=np.uint8)[kind]


def _chosen(first: Topology, layers: Sequence[str] | None) -> list[str]:
    chosen = list(first) if layers is None else list(layers)
    unknown = [name for name in chosen if name not in first]
    if unknown or not chosen:
        raise ValueError(f"layers must be some of {', '.join(first) or '(none)'}, got {unknown or 'none'}")
    return chosen


def _bars(histogram: Histogram) -> dict:
    return {"width": histogram.width, "units": histogram.units.tolist(), "most": histogram.most}


def _figure(film: LayerFilm, frame: int, name: str) -> Figure:
    figure = Figure(figsize=(7.6, 4.6), dpi=100, layout="constrained")
    axes = figure.subplot_mosaic([["mask", "in"], ["mask", "out"]], width_ratios=[2, 1])
    rows, cols = film.base.shape[0], film.base.num_inputs
    is_thin = max(rows, cols) > MOST_STRETCHED * min(rows, cols)
    axes["mask"].imshow(picture_of(film, frame), interpolation="nearest", aspect="auto" if is_thin else "equal")
    axes["mask"].set(title=plain(name), xticks=[], yticks=[])
    for place, title, fan in (("in", "Outputs by fan-in", film.fan_in), ("out", "Inputs by fan-out", film.fan_out)):
        numbers = np.arange(fan.units.shape[1]) * fan.width
        axes[place].bar(numbers, fan.units[frame], width=fan.width * 0.9, color=colours.INK, align="edge")
        axes[place].set_title(title, fontsize=9)
        axes[place].set_ylim(0, fan.most)
    swatches = [Patch(color=INKS[kind], label=kind) for kind in ("born", "kept", "dropped")]
    figure.legend(handles=swatches, loc="outside lower left", ncols=3, frameon=False)
    return figure
