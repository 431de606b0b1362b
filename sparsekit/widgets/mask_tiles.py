"""Masks of all layers, each as a labelled tile of its own size; and the table of numbers that goes with them."""

from collections.abc import Mapping, Sequence

import traitlets as t

from sparsekit.topology import Topology
from sparsekit.widgets import colours, mask_encoding, rendering
from sparsekit.widgets.mask_encoding import Bits, LayerFacts
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import FrontEnd, script


class MaskTiles(FrontEnd):
    """The masks of a network: a canvas per layer, one pixel per place, scaled to a readable size.

    Args:
        topology: what to show at first; `show` replaces it.

    Attributes:
        shown: the packed masks that are shown, by layer.

    Example:
        >>> from sparsekit.topology.selection import random_topology
        >>> MaskTiles(random_topology({"fc": (10, 20)}, 0.1))
        1 layer, 20 of 200 connections kept (10.0 %, 10.0× fewer), 0 dead outputs, 7 dead inputs.
    """

    _esm = script("shared", "mask_tiles")
    layers = t.List(t.Dict()).tag(sync=True)
    bits = t.Bytes(b"").tag(sync=True)
    captions = t.List(t.Unicode()).tag(sync=True)
    alt = t.Unicode("No sparse layers.").tag(sync=True)
    colours = t.List(t.Unicode(), default_value=[colours.PAPER, colours.INK]).tag(sync=True)

    def __init__(self, topology: Topology | None = None):
        super().__init__()
        self.shown: dict[str, Bits] = {}
        if topology is not None:
            self.show(topology)

    def show(self, topology: Topology) -> list[LayerFacts]:
        """Show a topology; returns the facts of its layers."""
        return self.show_bits(mask_encoding.all_bits(topology))

    def show_bits(self, layers: Mapping[str, Bits]) -> list[LayerFacts]:
        """Show masks that are packed already; returns the facts of the layers."""
        facts = mask_encoding.all_facts(layers)
        self.shown = dict(layers)
        with self.hold_sync():  # one message: the browser never sees bits of one network with names of another
            self.layers = _tiles_of(layers)
            self.bits = mask_encoding.joined(layers)
            self.captions = [mask_encoding.caption(one) for one in facts]
            self.alt = mask_encoding.describe(facts)
        return facts

    def sentence(self) -> str:
        """Say how much is kept."""
        return self.alt

    def snapshot(self) -> Picture:
        """Draw what is shown now."""
        return Picture(rendering.png(rendering.tiles(self.shown, self.captions)), self.alt)


class LayerTable(FrontEnd):
    """A row of numbers per layer, and one for the network."""

    _esm = script("shared", "table")
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
        added = dict(more or {})
        with self.hold_sync():
            self.head = [*mask_encoding.TABLE_HEAD, *added]
            rows = zip(mask_encoding.table_rows(facts), *added.values(), strict=True)
            self.rows = [[*row, *cells] for row, *cells in rows]
            self.caption = mask_encoding.describe(facts)

    def sentence(self) -> str:
        """Write the table as lines of cells."""
        return "\n".join([self.caption, *("  ".join(row) for row in [self.head, *self.rows])])

    def snapshot(self) -> Picture:
        """Draw the table as text."""
        return Picture(rendering.png(rendering.columns([self.head, *self.rows])), self.sentence())


def _tiles_of(layers: Mapping[str, Bits]) -> list[dict]:
    limit = mask_encoding.tile_limit(len(layers))
    return [_tile_of(name, layer, limit) for name, layer in layers.items()]


def _tile_of(name: str, layer: Bits, limit: int) -> dict:
    rows, cols = layer.shape[0], layer.num_inputs
    width, height = mask_encoding.tile_size(rows, cols, limit)
    return {"name": name, "rows": rows, "cols": cols, "width": width, "height": height}
