"""On a map of networks near ones are alike. Walk over it, zoom into a run, and see the mask of each network."""

from collections.abc import Mapping, Sequence

import numpy as np
import traitlets as t
from jaxtyping import Float
from matplotlib.figure import Figure

from sparsekit.analysis import classical_mds, topology_similarity_matrix
from sparsekit.plots import plot_map
from sparsekit.plots.palette import LIGHT
from sparsekit.topology import Topology
from sparsekit.widgets.base import load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state
from sparsekit.widgets.ticket_encoding import check_same_layers, encode_topology, matrix_shapes

MASKS = "masks"  # 1 - IoU


class DiversityMap(SharedWidget):
    """Networks stand as points on a map, with the mask of the chosen one beside it.

    This is a view over `analysis.classical_mds`. Click a point, or go from network to network with the arrow keys. The
    networks of one run lie so near to each other that they fall on one spot, so each group also has a map of its own to
    zoom into. Another list chooses between several matrices of distances, because the same networks may lie in another
    order in mask space and in function space.

    Args:
        topologies: of the networks, by name.
        distances: further matrices by name, a row for each network in the same order, for example
            `{"answers": analysis.disagreement(outputs)}`.
        groups: of each network, for example its run. Each gets a marker.
        state: a text that *Copy as code* wrote, with the network, the matrix and the group.

    Raises:
        ValueError: if there is no network, their layers differ, a matrix does not hold distances, or the state names
            what is not there.

    Example:
        >>> from sparsekit.topology.selection import random_topology
        >>> DiversityMap({name: random_topology({"fc": (10, 20)}, 0.5, seed=seed) for seed, name in enumerate("abc")})
        Network a has 100 of 200 connections. By masks, c is nearest, at a distance of 0.621
    """

    _esm = load_script("shared", "copy_code", "tickets", "diversity_map")
    shares = ("network", "space", "zoom")
    names = t.List(t.Unicode()).tag(sync=True)
    groups = t.List(t.Unicode()).tag(sync=True)
    shapes = t.List().tag(sync=True)
    topologies = t.List(t.Dict()).tag(sync=True)
    spaces = t.List(t.Dict()).tag(sync=True)
    network = t.Unicode("").tag(sync=True)
    space = t.Unicode(MASKS).tag(sync=True)
    zoom = t.Unicode("").tag(sync=True)

    def __init__(
        self,
        topologies: Mapping[str, Topology],
        distances: Mapping[str, Float[np.ndarray, "t t"]] | None = None,
        *,
        groups: Sequence[str] | None = None,
        state: str = "",
    ):
        if not topologies:
            raise ValueError("a map needs at least one network, got none. Give a topology by its name")
        self.masks, members = dict(topologies), list(topologies.values())
        for topology in members:
            check_same_layers(members[0], topology)
        group_names = [""] * len(members) if groups is None else list(groups)
        if len(group_names) != len(members):
            raise ValueError(f"there must be a group for each of {len(members)} networks, got {len(group_names)}")
        self.distances = {MASKS: 1 - topology_similarity_matrix(members)[0], **(distances or {})}
        self.maps = {space: classical_mds(np.asarray(matrix)) for space, matrix in self.distances.items()}
        super().__init__(
            names=list(topologies),
            groups=group_names,
            shapes=matrix_shapes(members[0]),
            topologies=[encode_topology(one) for one in members],
            spaces=[_space(name, np.asarray(matrix), group_names) for name, matrix in self.distances.items()],
            network=next(iter(topologies)),
        )
        self.choose(**read_state(state, {"network": self.network, "space": MASKS, "zoom": ""}))

    def choose(self, **values: str) -> None:
        """Move from code (`network`, `space`, and `zoom`, a group or nothing for all). The others stay.

        Raises:
            ValueError: if there is no such network, matrix or group.
        """
        choice = {"network": self.network, "space": self.space, "zoom": self.zoom, **values}
        options = {"network": self.names, "space": list(self.maps), "zoom": ["", *dict.fromkeys(self.groups)]}
        for name, allowed in options.items():
            if choice[name] not in allowed:
                known = ", ".join(allowed)
                raise ValueError(f"{name} must be one of {known}, got {choice[name]!r}. Choose one of them")
        with self.hold_sync():
            for name, value in choice.items():
                setattr(self, name, value)

    def sentence(self) -> str:
        """Say which network is chosen, how large it is, and which other is nearest."""
        topology, number = self.masks[self.network], self.names.index(self.network)
        row = np.array(self.distances[self.space][number], dtype=float)
        row[number] = np.inf
        size = f"Network {self.network} has {topology.count:,} of {topology.size:,} connections"
        if len(self.names) < 2:
            return size
        return f"{size}. By {self.space}, {self.names[int(row.argmin())]} is nearest, at a distance of {row.min():.3g}"

    def snapshot(self) -> StaticImage:
        """Draw the map of all networks, and beside it that of the chosen one's group."""
        members = [k for k, group in enumerate(self.groups) if group == self.groups[self.names.index(self.network)]]
        several = [list(range(len(self.names)))]
        if 1 < len(members) < len(self.names):
            several.append(members)
        figure = Figure(figsize=(5.6 * len(several), 4.2), dpi=100, layout="constrained", facecolor=LIGHT["paper"])
        for ax, chosen in zip(np.atleast_1d(figure.subplots(1, len(several))), several, strict=True):
            part = np.asarray(self.distances[self.space])[np.ix_(chosen, chosen)]
            names, groups = ([some[k] for k in chosen] for some in (self.names, self.groups))
            number = names.index(self.network)
            plot_map(classical_mds(part), ax, names=names, groups=groups, chosen=number, space=self.space)
            ax.set_facecolor(LIGHT["paper"])
        return StaticImage.of_figure(figure, self.sentence())


def _space(name: str, matrix: Float[np.ndarray, "t t"], groups: Sequence[str]) -> dict:
    """Return distances with a map of all networks and one of each group that has several."""
    members = {"": list(range(len(groups)))}
    for group in dict.fromkeys(groups):
        members |= {group: [k for k, one in enumerate(groups) if one == group]} if group else {}
    maps = {group: classical_mds(matrix[np.ix_(some, some)]) for group, some in members.items()}
    drawn = {group: {"points": one.points.tolist(), "share": one.share} for group, one in maps.items()}
    return {"name": name, "distances": matrix.tolist(), "maps": drawn}
