"""The browser gets masks as packed bits, the numbers beside them, and a sentence for those who cannot see them.

We show a layer as a matrix of `O` outputs by `F` inputs per output, which for convolutions are channels times kernel
positions. Each row of the matrix starts on a byte of its own, most significant bit first. The browser then draws any
width with one table of 256 bytes, and we count on bytes, eight positions at a time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from sparsekit.topology import LayerTopology, Topology


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A packed mask holds one layer's mask as rows of bits.

    Args:
        shape: the weight's shape, `(outputs, inputs, *kernel)`.
        rows: `(O, ceil(F / 8))` bytes, where the bits that fill up a row are zero.
    """

    shape: tuple[int, ...]
    rows: UInt8[np.ndarray, "o b"]

    @property
    def size(self) -> int:
        """Number of positions that a connection could have."""
        return math.prod(self.shape)

    @property
    def num_inputs(self) -> int:
        """Number of inputs per output, `F`."""
        return self.size // self.shape[0]

    def mask(self) -> Bool[np.ndarray, "o f"]:
        """Return the matrix, which is true where a connection exists."""
        return np.unpackbits(self.rows, axis=1, count=self.num_inputs).astype(bool)

    def topology(self) -> LayerTopology:
        """Return the same connections as sorted positions."""
        return LayerTopology(self.shape, torch.from_numpy(np.flatnonzero(self.mask())))


@dataclass(frozen=True)
class LayerFacts:
    """These numbers of one layer stand beside its mask, and are the same as in `analysis.layer_table`."""

    name: str
    shape: tuple[int, ...]
    count: int
    min_fan_in: int
    dead_outputs: int
    dead_inputs: int

    @property
    def size(self) -> int:
        """Number of positions that a connection could have."""
        return math.prod(self.shape)

    @property
    def density(self) -> float:
        """Share of the positions that have a connection, 0 to 1."""
        return self.count / self.size


def pack(shape: Sequence[int], mask: Bool[np.ndarray, "o f"]) -> PackedMask:
    """Pack a matrix of booleans, each row from a byte of its own.

    Example:
        >>> pack((1, 9), np.array([[True] + 7 * [False] + [True]])).rows.tolist()
        [[128, 128]]
    """
    return PackedMask(tuple(int(side) for side in shape), np.packbits(mask, axis=1))


def pack_layer(layer: LayerTopology) -> PackedMask:
    """Return a layer's topology as packed rows."""
    mask = layer.mask().reshape(layer.num_outputs, layer.num_inputs)
    return pack(layer.shape, mask.cpu().numpy())


def pack_topology(topology: Topology) -> dict[str, PackedMask]:
    """Return the packed rows of every layer."""
    return {name: pack_layer(layer) for name, layer in topology.items()}


def join_rows(layers: Mapping[str, PackedMask]) -> bytes:
    """Return the rows of all layers one after the other, as one message to the browser."""
    return b"".join(layer.rows.tobytes() for layer in layers.values())


def facts_of(name: str, layer: PackedMask) -> LayerFacts:
    """Count a layer's connections, its smallest fan-in and its dead units.

    An input is dead if no output reads any of its kernel positions.

    Example:
        >>> facts_of("fc", pack((2, 3), np.array([[1, 1, 0], [0, 0, 0]], dtype=bool))).dead_outputs
        1
    """
    fan_in = np.bitwise_count(layer.rows).sum(axis=1, dtype=np.int64)
    is_read = np.unpackbits(np.bitwise_or.reduce(layer.rows, axis=0), count=layer.num_inputs)
    live_inputs = is_read.reshape(layer.shape[1], -1).any(axis=1)
    return LayerFacts(
        name,
        layer.shape,
        int(fan_in.sum()),
        int(fan_in.min()),
        int((fan_in == 0).sum()),
        int((~live_inputs).sum()),
    )


def all_facts(layers: Mapping[str, PackedMask]) -> list[LayerFacts]:
    """Return the facts of every layer, in order."""
    return [facts_of(name, layer) for name, layer in layers.items()]


def tile_size(rows: int, cols: int, limit: int) -> tuple[int, int]:
    """Return width and height in CSS pixels of a matrix on the page, whose longer side is about `limit`.

    Positions stay square and small matrices grow by an integer factor of at most 8. Only a thin one is stretched to a
    height or width of 28 pixels, where you can still see its rows.

    Example:
        >>> tile_size(64, 64, 256), tile_size(10, 256, 256), tile_size(256, 1024, 256)
        ((256, 256), (256, 30), (256, 64))
    """
    scale = min(8.0, limit / max(rows, cols))
    scale = math.floor(scale) if scale >= 1 else scale
    return _side(cols, scale), _side(rows, scale)


def tile_limit(num_layers: int) -> int:
    """Return the longer side of a tile in CSS pixels, which is smaller for more layers."""
    return next(limit for most, limit in ((4, 256), (9, 192), (math.inf, 128)) if num_layers <= most)


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as people write it.

    Example:
        >>> shape_text((16, 3, 3, 3))
        '16 × 3 × 3 × 3'
    """
    return " × ".join(str(side) for side in shape)


def percent(share: float) -> str:
    """Write a share with as many digits as tell it from 0 and from 100 %.

    Example:
        >>> percent(0.1), percent(0.00342), percent(0.9997), percent(1)
        ('10.0 %', '0.34 %', '99.97 %', '100 %')
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    digits = 2 if min(share, 1 - share) < 0.01 else 1
    return f"{100 * share:.{digits}f} %"


def caption(facts: LayerFacts) -> str:
    """Say how many connections a layer has, in the line under its mask."""
    return f"{facts.count:,} of {facts.size:,} connections"


def describe(facts: Sequence[LayerFacts]) -> str:
    """Say what the masks of a network show, for screen readers and plain text.

    Example:
        >>> describe([LayerFacts("fc", (10, 20), 20, 1, 0, 3)])
        '1 layer has 20 of 200 connections (10.0 %, 10.0× fewer), 0 dead outputs and 3 dead inputs.'
    """
    if not facts:
        return "There are no sparse layers."
    count, size = sum(one.count for one in facts), sum(one.size for one in facts)
    layers = f"{len(facts)} layers have" if len(facts) > 1 else "1 layer has"
    return (
        f"{layers} {count:,} of {size:,} connections ({percent(count / size)}, {times(size, count)} fewer"
        f"{_range(facts)}), {sum(one.dead_outputs for one in facts)} dead outputs and "
        f"{sum(one.dead_inputs for one in facts)} dead inputs."
    )


def times(size: int, count: int) -> str:
    """Write a compression, `size / count`, which an empty layer has not.

    Example:
        >>> times(200, 20), times(200, 0)
        ('10.0×', '–')
    """
    return f"{size / count:,.1f}×" if count else "–"


TABLE_HEAD = (
    "Layer",
    "Shape",
    "Connections",
    "Density",
    "Compression",
    "Min fan-in",
    "Dead outputs",
    "Dead inputs",
)


def table_rows(facts: Sequence[LayerFacts]) -> list[list[str]]:
    """Return the cells of the table under the masks, a row per layer and one for the network."""
    return [_row(one, shape_text(one.shape)) for one in facts] + ([_row(_total(facts), "")] if facts else [])


def _row(facts: LayerFacts, shape: str) -> list[str]:
    return [
        facts.name,
        shape,
        f"{facts.count:,}",
        percent(facts.density),
        times(facts.size, facts.count),
        *(f"{number:,}" for number in (facts.min_fan_in, facts.dead_outputs, facts.dead_inputs)),
    ]


def _total(facts: Sequence[LayerFacts]) -> LayerFacts:
    return LayerFacts(
        "Network",
        (1, sum(one.size for one in facts)),
        sum(one.count for one in facts),
        min(one.min_fan_in for one in facts),
        sum(one.dead_outputs for one in facts),
        sum(one.dead_inputs for one in facts),
    )


def _side(positions: int, scale: float) -> int:
    side = round(positions * scale)
    return side if side >= 28 else positions * math.ceil(28 / positions)


def _range(facts: Sequence[LayerFacts]) -> str:
    if len(facts) < 2:
        return ""
    densities = [one.density for one in facts]
    return f", layers from {percent(min(densities))} to {percent(max(densities))}"
