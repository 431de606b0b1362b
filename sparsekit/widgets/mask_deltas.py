"""A film of one layer, small enough to be sent whole: the first mask, then only the places that changed.

A rewiring is the sorted list of positions that flip, whichever way: where a connection existed it is dropped, where
none existed it is born. Gaps between neighbours are small numbers, so each is written in as few bytes as it needs
(seven bits a byte, the eighth says that more follow). Flipping twice undoes itself, so the browser walks the film in
both directions. A layer of 512 x 512 at 5 % density that exchanges 30 % of its connections costs about 8 kB per
rewiring instead of the mask's 32 kB.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from sparsekit.topology import LayerTopology
from sparsekit.widgets.mask_encoding import Bits, bits_of

MOST_BINS = 24  # bars of a histogram that can still be told apart at 220 pixels


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many units have so many connections, for every frame, on one axis throughout the film.

    Args:
        width: connections per bar; bar `k` holds units with `k * width` to `(k + 1) * width - 1` of them.
        units: `(frames, bars)` number of units.
    """

    width: int
    units: Int64[np.ndarray, "frames bars"]

    @property
    def most(self) -> int:
        """Units in the tallest bar of the film, at least 1."""
        return max(1, int(self.units.max()))


@dataclass(frozen=True, eq=False)
class LayerFilm:
    """Everything the browser needs to show any rewiring of one layer.

    Args:
        base: the mask before the first rewiring.
        gaps: the flips of all rewirings, as written by `write_gaps`, one after the other.
        flips: number of flipped positions per rewiring, `(n,)`.
        counts: born, kept and dropped connections per frame, `(n + 1, 3)`; frame 0 has only kept ones.
        fan_in, fan_out: histograms of all mask_encoding.
    """

    base: Bits
    gaps: bytes
    flips: tuple[int, ...]
    counts: Int64[np.ndarray, "frames 3"]
    fan_in: Histogram
    fan_out: Histogram

    @property
    def nbytes(self) -> int:
        """Bytes sent for the pictures of this layer."""
        return self.base.rows.nbytes + len(self.gaps)

    def mask(self, frame: int) -> Bool[np.ndarray, "o f"]:
        """Return the mask after so many rewirings, made from what is sent."""
        state = self.base.mask().reshape(-1)
        for positions in itertools.islice(self._positions(), frame):
            state[positions] ^= True
        return state.reshape(self.base.shape[0], -1)

    def _positions(self):
        done = 0
        for count in self.flips:
            positions, used = read_gaps(self.gaps[done:], count)
            done += used
            yield positions


def film_of(layers: Sequence[LayerTopology]) -> LayerFilm:
    """Return the film of one layer from its topologies, the first being the one before the first rewiring.

    Raises:
        ValueError: if there is no topology.
    """
    if not layers:
        raise ValueError("a film must have at least one frame, got none; record a run with a Journal first")
    pairs = list(itertools.pairwise(layer.to("cpu") for layer in layers))
    changed = [np.setxor1d(old.indices.numpy(), new.indices.numpy(), assume_unique=True) for old, new in pairs]
    return LayerFilm(
        base=bits_of(layers[0]),
        gaps=b"".join(write_gaps(positions) for positions in changed),
        flips=tuple(len(positions) for positions in changed),
        counts=np.array([(0, layers[0].count, 0), *(_counts(old, new) for old, new in pairs)], dtype=np.int64),
        fan_in=_histogram([layer.fan_in().cpu().numpy() for layer in layers]),
        fan_out=_histogram([_unit_fan_out(layer) for layer in layers]),
    )


def write_gaps(positions: Int64[np.ndarray, " c"]) -> bytes:
    """Write strictly increasing positions as gaps (places skipped since the one before), seven bits a byte.

    Example:
        >>> list(write_gaps(np.array([0, 2, 131])))
        [0, 1, 128, 1]
    """
    gaps = np.diff(positions, prepend=-1) - 1
    # A gap below 2**7 takes one byte, below 2**14 two, and so on; positions stay below 2**35.
    lengths = 1 + np.stack([gaps >> shift > 0 for shift in (7, 14, 21, 28)]).sum(axis=0)
    ends = np.cumsum(lengths)
    out = np.zeros(int(ends[-1]) if len(gaps) else 0, dtype=np.uint8)
    for place in range(5):
        has = lengths > place
        more = np.where(lengths[has] > place + 1, 128, 0)
        out[(ends - lengths)[has] + place] = (gaps[has] >> 7 * place) & 127 | more
    return out.tobytes()


def read_gaps(data: bytes, count: int) -> tuple[Int64[np.ndarray, " c"], int]:
    """Return the first `count` positions that `write_gaps` wrote, and how many bytes they took."""
    raw: UInt8[np.ndarray, " b"] = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw < 128)[:count]
    if len(ends) == 0:
        return np.empty(0, dtype=np.int64), 0
    used = int(ends[-1]) + 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    shifts = 7 * (np.arange(used) - np.repeat(starts, ends - starts + 1))
    gaps = np.add.reduceat((raw[:used] & 127).astype(np.int64) << shifts, starts)
    return np.cumsum(gaps + 1) - 1, used


def _counts(old: LayerTopology, new: LayerTopology) -> tuple[int, int, int]:
    kept = (old & new).count
    return new.count - kept, kept, old.count - kept


def _unit_fan_out(layer: LayerTopology) -> Int64[np.ndarray, " i"]:
    return layer.fan_out().view(layer.shape[1], -1).sum(1).cpu().numpy()


def _histogram(fans: Sequence[Int64[np.ndarray, " u"]]) -> Histogram:
    most = max(int(fan.max()) for fan in fans)
    width = most // MOST_BINS + 1
    bars = most // width + 1
    return Histogram(width, np.stack([np.bincount(fan // width, minlength=bars) for fan in fans]))
