"""A walk says how the kernels of a linear layer go over its connections.

What they gather, rows of samples, should stay in the second cache. Two things help. Lanes of a batch that is larger
than a vector can be packed, so that the rows lie side by side. And a wide layer can be walked in slabs of what is
gathered, one after the other. Both cost something, so a walk does either only where it was measured to pay.
"""

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Int32
from torch import Tensor

from sparsekit.kernels.cpu.threads import fair_shares
from sparsekit.kernels.cpu.vectors import WIDEST
from sparsekit.kernels.structure import Structure

NARROW = 2048  # gathered rows up to which there is one slab, and in each slab of a wider layer
MIN_CUT = 32 if WIDEST < 128 else 8  # connections of a row in a slab, below which a slab costs more than it gains
MIN_USES = 16  # of each gathered row, below which packing costs more than it gains
NEVER = 2**30


class Walk(NamedTuple):
    """A walk in one direction has its numbers as the kernels read them, and the bounds of each thread's part.

    Args:
        numbers: `CUTS` (where each row's connections begin and end in a slab), `STEP` from one slab to the next,
            `SLABS`, `INDICES` (what each connection gathers), `LAST` connection, `GATHERED` rows, from how many
            vectors on it `PACKS`, and `STARTS` (of the backward pass).
        bounds: rows or columns of each part.
        arrays: to which the addresses lead.
    """

    numbers: np.ndarray
    bounds: np.ndarray
    arrays: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, pointers: Tensor, indices: Tensor, gathered: int, threads: int, starts: np.ndarray | None) -> Self:
        """Return the walk over compressed rows (or columns) that gathers by these indices."""
        slabs = num_slabs(len(indices), len(pointers) - 1, gathered)
        cuts = pointers.numpy() if slabs == 1 else _cuts(pointers, indices, gathered, slabs)
        arrays = tuple(map(np.ascontiguousarray, (cuts, indices.numpy(), np.empty(0) if starts is None else starts)))
        cuts_at, indices_at, starts_at = (array.ctypes.data for array in arrays)
        step = 1 if slabs == 1 else len(pointers) - 1
        packs = packs_from(len(indices), gathered)
        numbers = np.array([cuts_at, step, slabs, indices_at, len(indices) - 1, gathered, packs, starts_at], np.int64)
        return cls(numbers, fair_shares(pointers.numpy(), threads), arrays)


def num_slabs(connections: int, rows: int, gathered: int) -> int:
    """Return in how many slabs a layer is walked.

    A slab of 2048 rows fits into the second cache (512 KiB for vectors of 64 numbers, 1 MiB for those of 128). But
    each slab loads and stores all results once more, so it must hold enough connections of a row. On an AMD EPYC
    (Zen 3) a layer of 4096 features gains a fifth at 5 %, and nothing at 1 %. On an Intel Xeon (Sapphire Rapids),
    whose third cache is slower, slabs of 1024 rows gained half of the time at 5 %, and a third at 1 %.
    """
    most = connections // (MIN_CUT * max(1, rows))
    return 1 if gathered <= NARROW else max(1, min(-(-gathered // NARROW), most))


def packs_from(connections: int, gathered: int) -> int:
    """Return for how many times as many samples as a vector has numbers the walk packs, which may be `NEVER`.

    Rows that start at a high power of two share few sets of the caches. On Zen 3 a layer of 1024 features gains a
    twentieth for 256 samples and a tenth for 1024, and loses with fewer. A wider one gains from the second vector on.
    On Sapphire Rapids it gained a third of the time for 512 samples, and more than half for 1024.
    """
    if connections < MIN_USES * gathered:
        return NEVER
    return 4 if gathered < NARROW else 2


def by_rows(structure: Structure, threads: int) -> Walk:
    """Return the walk of the forward pass, output by output."""
    return Walk.of(structure.row_pointers, structure.cols, structure.width, threads, None)


def by_columns(structure: Structure, threads: int) -> Walk:
    """Return the walk of the backward pass, input by input. It also says where each part's values of a row begin."""
    pointers, rows, _ = structure.columns
    bounds, row_starts = fair_shares(pointers.numpy(), threads), structure.row_pointers[:-1].numpy()
    before = (rows[: int(pointers[bound])].numpy() for bound in bounds)
    starts = np.stack([row_starts + np.bincount(part, minlength=len(row_starts)) for part in before])
    return Walk.of(pointers, rows, structure.num_rows, threads, starts.astype(np.int32))


def _cuts(
    pointers: Int32[Tensor, " pointers"], indices: Int32[Tensor, " e"], gathered: int, slabs: int
) -> Int32[np.ndarray, "cuts rows"]:
    """Return where the connections of each row enter each slab, and where the last one ends."""
    rows = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers.numpy()))
    width = -(-gathered // slabs)
    counts = np.bincount(rows * slabs + indices.numpy() // width, minlength=(len(pointers) - 1) * slabs)
    ends = counts.reshape(-1, slabs).cumsum(1)
    begins = np.concatenate([np.zeros_like(ends[:, :1]), ends], axis=1) + pointers.numpy()[:-1, None]
    return begins.T.astype(np.int32)
