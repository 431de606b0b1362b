"""Encode a film of one layer as its first mask and the positions that change, so that it can be sent whole.

The delta of a rewiring is the sorted list of positions that change. A connection that existed is dropped there, and
one that did not exist is born. Gaps between neighbours are small numbers, so we write each in as few bytes as it needs.
A byte has seven bits of it, and the eighth says that more follow. Applying a delta twice undoes it, so the browser
walks the film in both directions. A layer of 512 x 512 at 5 % density, for example, exchanges 30 % of its connections.
That costs about 8 kB per rewiring instead of the mask's 32 kB.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from sparsekit.topology import LayerTopology
from sparsekit.widgets.mask_encoding import PackedMask, pack_layer

MAX_BINS = 24  # bars of a histogram that can still be told apart at 220 pixels


@dataclass(frozen=True, eq=False)
class Histogram:
    """Count how many units have so many connections in every frame, on one axis throughout the film.

    Args:
        width: connections per bar. Bar `k` holds units with `k * width` to `(k + 1) * width - 1` of them.
        units: `(frames, bars)` number of units.
    """

    width: int
    units: Int64[np.ndarray, "frames bars"]

    @property
    def highest(self) -> int:
        """Units in the tallest bar of the film, at least 1."""
        return max(1, int(self.units.max()))


@dataclass(frozen=True, eq=False)
class LayerFilm:
    """A layer's film has everything that the browser needs to show any of its rewirings.

    Args:
        base: the mask before the first rewiring.
        gaps: the deltas of all rewirings, as `write_gaps` writes them, one after the other.
        delta_sizes: number of positions that change per rewiring, `(n,)`.
        counts: born, kept and dropped connections per frame, `(n + 1, 3)`. Frame 0 has only kept ones.
        fan_in, fan_out: histograms of all frames.
    """

    base: PackedMask
    gaps: bytes
    delta_sizes: tuple[int, ...]
    counts: Int64[np.ndarray, "frames 3"]
    fan_in: Histogram
    fan_out: Histogram

    @property
    def nbytes(self) -> int:
        """Bytes that we send for the masks of this layer."""
        return self.base.rows.nbytes + len(self.gaps)

    def mask(self, frame: int) -> Bool[np.ndarray, "o f"]:
        """Return the mask after so many rewirings, decoded from what we send."""
        mask = self.base.mask().reshape(-1)
        for positions in itertools.islice(self._deltas(), frame):
            mask[positions] ^= True
        return mask.reshape(self.base.shape[0], -1)

    def _deltas(self):
        start = 0
        for size in self.delta_sizes:
            positions, num_bytes = read_gaps(self.gaps[start:], size)
            start += num_bytes
            yield positions


def film_of(layers: Sequence[LayerTopology]) -> LayerFilm:
    """Return the film of one layer from its topologies, beginning with the one before the first rewiring.

    Raises:
        ValueError: if there is no topology.
    """
    if not layers:
        raise ValueError("a film must have at least one frame, got none. Record a run with a Journal first")
    pairs = list(itertools.pairwise(layer.to("cpu") for layer in layers))
    deltas = [np.setxor1d(old.indices.numpy(), new.indices.numpy(), assume_unique=True) for old, new in pairs]
    return LayerFilm(
        base=pack_layer(layers[0]),
        gaps=b"".join(write_gaps(positions) for positions in deltas),
        delta_sizes=tuple(len(positions) for positions in deltas),
        counts=np.array([(0, layers[0].count, 0), *(_counts(old, new) for old, new in pairs)], dtype=np.int64),
        fan_in=_histogram([layer.fan_in().cpu().numpy() for layer in layers]),
        fan_out=_histogram([_unit_fan_out(layer) for layer in layers]),
    )


def write_gaps(positions: Int64[np.ndarray, " c"]) -> bytes:
    """Write strictly increasing positions as gaps (the positions between two of them), with seven bits a byte.

    Example:
        >>> list(write_gaps(np.array([0, 2, 131])))
        [0, 1, 128, 1]
    """
    gaps = np.diff(positions, prepend=-1) - 1
    # A gap below 2**7 takes one byte, one below 2**14 two, and so on. Positions stay below 2**35.
    lengths = 1 + np.stack([gaps >> shift > 0 for shift in (7, 14, 21, 28)]).sum(axis=0)
    ends = np.cumsum(lengths)
    out = np.zeros(int(ends[-1]) if len(gaps) else 0, dtype=np.uint8)
    for byte in range(5):
        has_byte = lengths > byte
        more_follow = np.where(lengths[has_byte] > byte + 1, 128, 0)
        out[(ends - lengths)[has_byte] + byte] = (gaps[has_byte] >> 7 * byte) & 127 | more_follow
    return out.tobytes()


def read_gaps(data: bytes, count: int) -> tuple[Int64[np.ndarray, " c"], int]:
    """Return the first `count` positions that `write_gaps` wrote, and how many bytes they took."""
    raw: UInt8[np.ndarray, " b"] = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw < 128)[:count]
    if len(ends) == 0:
        return np.empty(0, dtype=np.int64), 0
    num_bytes = int(ends[-1]) + 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    shifts = 7 * (np.arange(num_bytes) - np.repeat(starts, ends - starts + 1))
    gaps = np.add.reduceat((raw[:num_bytes] & 127).astype(np.int64) << shifts, starts)
    return np.cumsum(gaps + 1) - 1, num_bytes


def _counts(old: LayerTopology, new: LayerTopology) -> tuple[int, int, int]:
    num_kept = (old & new).count
    return new.count - num_kept, num_kept, old.count - num_kept


def _unit_fan_out(layer: LayerTopology) -> Int64[np.ndarray, " i"]:
    return layer.fan_out().view(layer.shape[1], -1).sum(1).cpu().numpy()


def _histogram(fans: Sequence[Int64[np.ndarray, " u"]]) -> Histogram:
    highest = max(int(fan.max()) for fan in fans)
    width = highest // MAX_BINS + 1
    num_bars = highest // width + 1
    return Histogram(width, np.stack([np.bincount(fan // width, minlength=num_bars) for fan in fans]))
