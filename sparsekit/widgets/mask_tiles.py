"""Show the masks of all layers as labelled tiles, and the table of numbers that goes with them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets as t

from sparsekit.topology import Topology
from sparsekit.widgets import mask_encoding, rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.mask_encoding import LayerFacts, PackedMask
from sparsekit.widgets.rendering import StaticImage


class MaskTiles(FrontEndWidget):
    """The masks of a network get a canvas per layer, with one pixel per position, scaled to a readable size.

    Args:
        topology: what to show at first. `show` replaces it.

    Attributes:
        packed_masks: what the tiles show, by layer.

    Example:
        >>> from sparsekit.topology.selection import random_topology
        >>> MaskTiles(random_topology({"fc": (10, 20)}, 0.1))
        1 layer has 20 of 200 connections (10.0 %, 10.0× fewer), 0 dead outputs and 7 dead inputs.
    """

    _esm = load_script("shared", "mask_tiles")
    layers = t.List(t.Dict()).tag(sync=True)
    bits = t.Bytes(b"").tag(sync=True)
    captions = t.List(t.Unicode()).tag(sync=True)
    alt = t.Unicode("There are no sparse layers.").tag(sync=True)
    before = t.Bytes(b"").tag(sync=True)

    def __init__(self, topology: Topology | None = None):
        super().__init__()
        self.packed_masks: dict[str, PackedMask] = {}
        if topology is not None:
            self.show(topology)

    def show(self, topology: Topology, before: Topology | None = None) -> list[LayerFacts]:
        """Show a topology, and return the facts of its layers.

        Args:
            topology: what to show.
            before: the topology before the last rewiring. With it, new connections are drawn in ink, kept ones are
                grey, and dropped ones are pale.
        """
        old = None if before is None else mask_encoding.pack_topology(before)
        return self.show_packed(mask_encoding.pack_topology(topology), old)

    def show_packed(
        self, layers: Mapping[str, PackedMask], before: Mapping[str, PackedMask] | None = None
    ) -> list[LayerFacts]:
        """Show masks that are packed already, and return the facts of the layers."""
        facts = mask_encoding.all_facts(layers)
        self.packed_masks = dict(layers)
        with self.hold_sync():  # one message, so that the browser never sees bits of one network with names of another
            self.layers = _tiles_of(layers)
            self.bits = mask_encoding.join_rows(layers)
            self.before = mask_encoding.join_rows(before or {})
            self.captions = [mask_encoding.caption(one) for one in facts]
            self.alt = mask_encoding.describe(facts)
        return facts

    def sentence(self) -> str:
        """Say how many connections the network has."""
        return self.alt

    def snapshot(self) -> StaticImage:
        """Draw the masks as they are now."""
        return StaticImage(rendering.png(rendering.tiles(self.packed_masks, self.captions)), self.alt)


class LayerTable(FrontEndWidget):
    """The table has a row of numbers per layer, and one for the network."""

    _esm = load_script("shared", "table")
    caption = t.Unicode("").tag(sync=True)
    head = t.List(t.Unicode(), default_value=list(mask_encoding.TABLE_HEAD)).tag(sync=True)
    rows = t.List(t.List(t.Unicode())).tag(sync=True)
    total = t.Bool(True).tag(sync=True)

    def show(self, facts: Sequence[LayerFacts], *, more: Mapping[str, Sequence[str]] | None = None) -> None:
        """Show the facts of these layers, and their sum as the caption.

        Args:
            facts: of each layer.
            more: further columns by their heading, a cell per layer and one for the network.
        """
        extra_columns = dict(more or {})
        with self.hold_sync():
            self.head = [*mask_encoding.TABLE_HEAD, *extra_columns]
            rows = zip(mask_encoding.table_rows(facts), *extra_columns.values(), strict=True)
            self.rows = [[*row, *cells] for row, *cells in rows]
            self.caption = mask_encoding.describe(facts)

    def sentence(self) -> str:
        """Write the table as lines of cells."""
        return "\n".join([self.caption, *("  ".join(row) for row in [self.head, *self.rows])])

    def snapshot(self) -> StaticImage:
        """Draw the table as text."""
        return StaticImage(rendering.png(rendering.columns([self.head, *self.rows])), self.sentence())


def _tiles_of(layers: Mapping[str, PackedMask]) -> list[dict]:
    limit = mask_encoding.tile_limit(len(layers))
    return [_tile_of(name, layer, limit) for name, layer in layers.items()]


def _tile_of(name: str, layer: PackedMask, limit: int) -> dict:
    rows, cols = layer.shape[0], layer.num_inputs
    width, height = mask_encoding.tile_size(rows, cols, limit)
    return {"name": name, "rows": rows, "cols": cols, "width": width, "height": height}


def layer_dicts(
    shapes: Mapping[str, tuple[int, ...]], tile_size: Callable[[int, int], tuple[int, int]]
) -> list[dict[str, Any]]:
    """Describe layers to the browser, which draws each with a row per output on so many pixels."""
    layers = []
    for name, shape in shapes.items():
        rows, cols = shape[0], math.prod(shape) // shape[0]
        width, height = tile_size(rows, cols)
        text = mask_encoding.shape_text(shape)
        sides = {"rows": rows, "cols": cols, "inputs": shape[1], "width": width, "height": height}
        layers.append({"name": name, "text": text, **sides})
    return layers
