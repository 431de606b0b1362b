"""A map of networks: near ones are alike. Walk over it, and see the masks of the one you stand on."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sparsekit.analysis import MdsEmbedding, classical_mds, topology_similarity_matrix
from sparsekit.plots import plot_map
from sparsekit.topology import Topology
from sparsekit.widgets import rendering
from sparsekit.widgets.compositing import Stage
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.mask_tiles import MaskTiles
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import StaticPreview

MASKS = "masks"  # 1 - IoU


class DiversityMap(StaticPreview):
    """Networks as points on a map, and the masks of the chosen one below it.

    A view over `analysis.classical_mds`, drawn by `plots.plot_map`. The arrow keys go from network to network; a ring
    follows on the map. With several matrices of distances a list chooses between them: in mask space and in function
    space the same networks may lie in another order.

    Args:
        topologies: of the networks, by name.
        distances: further matrices by name, a row for each network in the same order, for example
            `{"answers": analysis.disagreement(outputs)}`.
        groups: of each network, for example its run; a colour and marker each.

    Raises:
        ValueError: if there is no network, their layers differ, or a matrix is none of distances.

    Example:
        >>> from sparsekit.topology.selection import random_topology
        >>> DiversityMap({name: random_topology({"fc": (10, 20)}, 0.5, seed=seed) for seed, name in enumerate("abc")})
        a: 100 of 200 connections; masks: nearest is c, 0.621 away
    """

    def __init__(
        self,
        topologies: Mapping[str, Topology],
        distances: Mapping[str, Float[np.ndarray, "t t"]] | None = None,
        *,
        groups: Sequence[str] | None = None,
    ):
        if not topologies:
            raise ValueError("a map needs at least one network, got none")
        self._topologies, self._groups = dict(topologies), groups
        self.distances = {MASKS: 1 - topology_similarity_matrix(list(topologies.values()))[0], **(distances or {})}
        self.maps = {space: classical_mds(matrix) for space, matrix in self.distances.items()}
        self._stages: dict[str, Stage] = {}
        self._rings: dict[str, Any] = {}
        self._lock = threading.Lock()  # two controls may answer on two threads
        fields = [
            Field(name="network", kind="choice", label="Network", options=options_of(list(topologies))),
            Field(name="space", kind="choice", label="Distances", options=options_of(list(self.maps))),
        ]
        values = {"network": next(iter(topologies)), "space": MASKS}
        self.controls = Controls(fields, values, title="Where to stand")
        png = self._picture(**values)
        layout = ipywidgets.Layout(width=f"{self._stages[MASKS].width}px", max_width="100%")
        self.image = ipywidgets.Image(value=png, format="png", layout=layout)
        self.words = Controls([Field(name="words", kind="text")], {"words": self.sentence()}, title="What is shown")
        self.masks = MaskTiles(self._topologies[values["network"]])
        self.controls.observe(self._refresh, "values")
        self.view = ipywidgets.VBox([self.controls, self.image, self.words, self.masks])

    def choose(self, **values: str) -> None:
        """Move controls from code (`network`, `space`), each by its name; the other stays.

        Raises:
            ValueError: if there is no such network or matrix.
        """
        wanted = {**self.controls.values, **values}
        for name, known in (("network", self._topologies), ("space", self.maps)):
            if wanted[name] not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {wanted[name]!r}")
        self.controls.set(**values)

    def sentence(self) -> str:
        """Say which network is chosen, how large it is, and which other is nearest."""
        name, space = self.controls.values["network"], self.controls.values["space"]
        names, topology = list(self._topologies), self._topologies[name]
        row = self.distances[space][names.index(name)].copy()
        row[names.index(name)] = np.inf
        nearest = f"; {space}: nearest is {names[int(row.argmin())]}, {row.min():.3g} away" if len(names) > 1 else ""
        return f"{name}: {topology.count:,} of {topology.size:,} connections{nearest}"

    def snapshot(self) -> Picture:
        """Draw the map and the masks below it as they are now."""
        space = self.controls.values["space"]
        parts = [
            rendering.text([self.sentence()], bold=1),
            rendering.figure_rgba(_figure(self.maps[space], self._settings(space), chosen=self._place)),
            rendering.tiles(self.masks.shown, self.masks.captions),
        ]
        return Picture(rendering.png(rendering.stack(parts)), self.sentence())

    @property
    def _place(self) -> int:
        return list(self._topologies).index(self.controls.values["network"])

    def _settings(self, space: str) -> dict[str, Any]:
        return {"names": list(self._topologies), "groups": self._groups, "space": space}

    def _refresh(self, _change: Any) -> None:
        with self._lock:
            values = self.controls.values
            self.image.value = self._picture(**values)
            self.masks.show(self._topologies[values["network"]])
            self.words.set(words=self.sentence())

    def _picture(self, *, network: str, space: str) -> bytes:
        if space not in self._stages:
            figure = _figure(self.maps[space], self._settings(space), chosen=0)
            self._rings[space] = figure.axes[0].collections[-1]
            self._stages[space] = Stage(figure, [self._rings[space]])
        self._rings[space].set_offsets(self.maps[space].points[[list(self._topologies).index(network)]])
        return self._stages[space].picture()

    def _widget(self) -> ipywidgets.VBox:
        return self.view


def _figure(found: MdsEmbedding, settings: Mapping[str, Any], *, chosen: int) -> Figure:
    figure = Figure(figsize=(6.2, 4.4), dpi=100, layout="constrained")
    plot_map(found, figure.subplots(), chosen=chosen, **settings)
    return figure
