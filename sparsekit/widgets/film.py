"""Watch how a topology evolves, by scrubbing or playing the rewirings of a recorded run in the browser alone."""

from collections.abc import Sequence

import numpy as np
import traitlets as t
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparsekit.plots.canvas import plain
from sparsekit.plots.palette import LIGHT
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import Topology
from sparsekit.widgets import colours, mask_encoding, rendering
from sparsekit.widgets.base import load_script
from sparsekit.widgets.mask_deltas import Histogram, LayerFilm, film_of
from sparsekit.widgets.mask_encoding import percent
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state

INKS = {"paper": "surface", "kept": "kept", "born": "ink", "dropped": "soft"}  # names of the palette
LIMIT = 512  # longer side of a frame in CSS pixels
MAX_ASPECT = 4  # a longer matrix fills its axes in the static image, because its rows could not be seen otherwise


class TopologyFilm(SharedWidget):
    """A film shows which connections are born, kept and dropped in each rewiring of a run, and how fans spread.

    The browser gets all of it once, as the first mask and the positions that change. It then needs no kernel for
    scrubbing, playing and choosing a layer, and does not write back. Set `rewiring` from code to go somewhere.

    Args:
        journal: the recorded run. `journal[i]` is the topology after `i` rewirings, 0 being before the first.
        layers: names of the layers to send, or None for all.
        rewiring: which one to show at first.
        state: a text that *Copy as code* wrote. It overrides the rewiring.

    Raises:
        ValueError: if there are no layers, a name is unknown, the rewiring is not in the journal, or the state is of
            another widget.
    """

    _esm = load_script("shared", "copy_code", "mask_deltas", "film")
    shares = ("rewiring", "layer")
    layers = t.List(t.Dict()).tag(sync=True)
    rewiring = t.Int(0).tag(sync=True)
    layer = t.Int(0).tag(sync=True)
    colours = t.Dict(default_value=INKS).tag(sync=True)

    def __init__(self, journal: Journal, *, layers: Sequence[str] | None = None, rewiring: int = 0, state: str = ""):
        first = read_state(state, {"rewiring": rewiring, "layer": 0})
        topologies = list(journal.topologies())
        self._steps = journal.steps
        self.films = {name: film_of([one[name] for one in topologies]) for name in _layer_names(topologies[0], layers)}
        super().__init__(layers=[self._layer_dict(name, film) for name, film in self.films.items()], **first)

    @property
    def nbytes(self) -> int:
        """Bytes of masks that we send to the browser, once."""
        return sum(film.nbytes for film in self.films.values())

    @t.validate("rewiring")
    def _check_rewiring(self, proposal: t.Bunch) -> int:
        if not 0 <= proposal.value <= len(self._steps):
            raise ValueError(
                f"rewiring must lie in [0, {len(self._steps)}], got {proposal.value}. Choose 0 for before the first"
            )
        return proposal.value

    @t.validate("layer")
    def _check_layer(self, proposal: t.Bunch) -> int:
        if not 0 <= proposal.value < len(self.films):
            raise ValueError(f"layer must lie in [0, {len(self.films) - 1}], got {proposal.value}. Count from 0")
        return proposal.value

    def sentence(self) -> str:
        """Say how long the film is and what it shows now."""
        layer = self.layers[self.layer]
        return f"Film of {len(self._steps)} rewirings, layer {layer['name']}. {layer['captions'][self.rewiring]}"

    def snapshot(self) -> StaticImage:
        """Draw mask, fan-in and fan-out of the rewiring that `rewiring` names."""
        name = self.layers[self.layer]["name"]
        figure = rendering.figure_rgba(_figure(self.films[name], self.rewiring, name))
        caption = rendering.text([self.layers[self.layer]["captions"][self.rewiring]])
        return StaticImage(rendering.png(rendering.stack([figure, caption], gap=4)), self.sentence())

    def _layer_dict(self, name: str, film: LayerFilm) -> dict:
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
            "delta_sizes": list(film.delta_sizes),
            "counts": film.counts.tolist(),
            "captions": captions(film, self._steps),
            "fan_in": _bars(film.fan_in),
            "fan_out": _bars(film.fan_out),
        }


def captions(film: LayerFilm, steps: Sequence[int]) -> list[str]:
    """Say for every frame what its rewiring did. Churn is the share of connections that are new."""
    first = f"Before the first rewiring there are {film.counts[0, 1]:,} connections."
    return [first] + [
        f"Rewiring {number} of {len(steps)} at step {step:,}: {born:,} born, {kept:,} kept, {dropped:,} dropped. "
        f"There are now {born + kept:,} connections, and the churn is {_churn(born, kept)}."
        for number, (step, (born, kept, dropped)) in enumerate(zip(steps, film.counts[1:].tolist(), strict=True), 1)
    ]


def _churn(born: int, kept: int) -> str:
    return percent(born / (born + kept)) if born + kept else "–"


def frame_rgba(film: LayerFilm, frame: int) -> rendering.Rgba:
    """Draw one frame with one pixel per position, in the colours of the browser."""
    after, before = film.mask(frame), film.mask(max(0, frame - 1))
    kind = np.where(after, np.where(before, 1, 2), np.where(before, 3, 0))
    return np.array([(*colours.rgb(LIGHT[name]), 255) for name in INKS.values()], dtype=np.uint8)[kind]


def _layer_names(first: Topology, layers: Sequence[str] | None) -> list[str]:
    names = list(first) if layers is None else list(layers)
    unknown = [name for name in names if name not in first]
    if unknown or not names:
        raise ValueError(f"layers must be some of {', '.join(first) or '(none)'}, got {unknown or 'none'}")
    return names


def _bars(histogram: Histogram) -> dict:
    return {"width": histogram.width, "units": histogram.units.tolist(), "highest": histogram.highest}


def _figure(film: LayerFilm, frame: int, name: str) -> Figure:
    figure = Figure(figsize=(7.6, 4.6), dpi=100, layout="constrained", facecolor=LIGHT["paper"])
    axes = figure.subplot_mosaic([["mask", "in"], ["mask", "out"]], width_ratios=[2, 1])
    rows, cols = film.base.shape[0], film.base.num_inputs
    is_thin = max(rows, cols) > MAX_ASPECT * min(rows, cols)
    axes["mask"].imshow(frame_rgba(film, frame), interpolation="nearest", aspect="auto" if is_thin else "equal")
    axes["mask"].set(title=plain(name), xticks=[], yticks=[])
    for key, title, fan in (("in", "Outputs by fan-in", film.fan_in), ("out", "Inputs by fan-out", film.fan_out)):
        edges = np.arange(fan.units.shape[1]) * fan.width
        axes[key].bar(edges, fan.units[frame], width=fan.width * 0.9, color=colours.KEPT, align="edge")
        axes[key].set_title(title, fontsize=9)
        axes[key].set_ylim(0, fan.highest)
    swatches = [Patch(color=LIGHT[INKS[kind]], label=kind) for kind in ("born", "kept", "dropped")]
    figure.legend(handles=swatches, loc="outside lower left", ncols=3, frameon=False)
    return figure
