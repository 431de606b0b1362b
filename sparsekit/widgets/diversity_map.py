"""On a map of networks near ones are alike. Walk over it, and see the masks of the one you stand on."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sparsekit.analysis import classical_mds, topology_similarity_matrix
from sparsekit.plots import plot_map
from sparsekit.topology import Topology
from sparsekit.widgets import rendering
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.compositing import Compositor
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.mask_tiles import MaskTiles
from sparsekit.widgets.rendering import StaticImage

MASKS = "masks"  # 1 - IoU


class DiversityMap(StaticPreview):
    """Networks stand as points on a map, with the masks of the chosen one below it.

    This is a view over `analysis.classical_mds`, which `plots.plot_map` draws. The arrow keys go from network to
    network, and a ring follows on the map. A list chooses between several matrices of distances, because the same
    networks may lie in another order in mask space and in function space.

    Args:
        topologies: of the networks, by name.
        distances: further matrices by name, a row for each network in the same order, for example
            `{"answers": analysis.disagreement(outputs)}`.
        groups: of each network, for example its run. Each gets a colour and a marker.

    Raises:
        ValueError: if there is no network, their layers differ, or a matrix does not hold distances.

    Example:
        >>> from sparsekit.topology.selection import random_topology
        >>> DiversityMap({name: random_topology({"fc": (10, 20)}, 0.5, seed=seed) for seed, name in enumerate("abc")})
        Network a has 100 of 200 connections. By masks, c is nearest, at a distance of 0.621
    """

    def __init__(
        self,
        topologies: Mapping[str, Topology],
        distances: Mapping[str, Float[np.ndarray, "t t"]] | None = None,
        *,
        groups: Sequence[str] | None = None,
    ):
        if not topologies:
            raise ValueError("a map needs at least one network, got none. Give a topology by its name")
        self._topologies, self._groups = dict(topologies), groups
        self.distances = {MASKS: 1 - topology_similarity_matrix(list(topologies.values()))[0], **(distances or {})}
        self.maps = {space: classical_mds(matrix) for space, matrix in self.distances.items()}
        self._compositors: dict[str, Compositor] = {}
        self._rings: dict[str, Any] = {}
        self._lock = threading.Lock()  # because two controls may answer on two threads
        fields = [
            Field(name="network", kind="choice", label="Network", options=options_of(list(topologies))),
            Field(name="space", kind="choice", label="Distances", options=options_of(list(self.maps))),
        ]
        values = {"network": next(iter(topologies)), "space": MASKS}
        self.controls = Controls(fields, values, title="Where to stand")
        png = self._render(**values)
        layout = ipywidgets.Layout(width=f"{self._compositors[MASKS].width}px", max_width="100%")
        self.image = ipywidgets.Image(value=png, format="png", layout=layout)
        self.words = Controls([Field(name="words", kind="text")], {"words": self.sentence()}, title="In words")
        self.masks = MaskTiles(self._topologies[values["network"]])
        self.controls.observe(self._refresh, "values")
        self.view = ipywidgets.VBox([self.controls, self.image, self.words, self.masks])

    def choose(self, **values: str) -> None:
        """Move controls from code (`network`, `space`), each by its name. The other stays.

        Raises:
            ValueError: if there is no such network or matrix.
        """
        choice = {**self.controls.values, **values}
        for name, options in (("network", self._topologies), ("space", self.maps)):
            if choice[name] not in options:
                raise ValueError(f"{name} must be one of {', '.join(options)}, got {choice[name]!r}")
        self.controls.set(**values)

    def sentence(self) -> str:
        """Say which network is chosen, how large it is, and which other is nearest."""
        name, space = self.controls.values["network"], self.controls.values["space"]
        names, topology = list(self._topologies), self._topologies[name]
        row = self.distances[space][names.index(name)].copy()
        row[names.index(name)] = np.inf
        size = f"Network {name} has {topology.count:,} of {topology.size:,} connections"
        if len(names) < 2:
            return size
        return f"{size}. By {space}, {names[int(row.argmin())]} is nearest, at a distance of {row.min():.3g}"

    def snapshot(self) -> StaticImage:
        """Draw the map and the masks below it as they are now."""
        space = self.controls.values["space"]
        parts = [
            rendering.text([self.sentence()], bold=1),
            rendering.figure_rgba(self._figure(space, chosen=self._position)),
            rendering.tiles(self.masks.packed_masks, self.masks.captions),
        ]
        return StaticImage(rendering.png(rendering.stack(parts)), self.sentence())

    @property
    def _position(self) -> int:
        return list(self._topologies).index(self.controls.values["network"])

    def _refresh(self, _change: Any) -> None:
        with self._lock:
            values = self.controls.values
            self.image.value = self._render(**values)
            self.masks.show(self._topologies[values["network"]])
            self.words.set(words=self.sentence())

    def _render(self, *, network: str, space: str) -> bytes:
        if space not in self._compositors:
            figure = self._figure(space, chosen=0)
            self._rings[space] = figure.axes[0].collections[-1]
            self._compositors[space] = Compositor(figure, [self._rings[space]])
        self._rings[space].set_offsets(self.maps[space].points[[list(self._topologies).index(network)]])
        return self._compositors[space].render()

    def _figure(self, space: str, *, chosen: int) -> Figure:
        figure = Figure(figsize=(6.2, 4.4), dpi=100, layout="constrained")
        names = list(self._topologies)
        plot_map(self.maps[space], figure.subplots(), names=names, groups=self._groups, chosen=chosen, space=space)
        return figure

    def _widget(self) -> ipywidgets.VBox:
        return self.view
