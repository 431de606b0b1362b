"""The compiled operations, which walk through each array once. They are imported for large arrays only.

Merging loops advance past whatever is smaller, and add comparisons to positions instead of branching on them. Where
connections changed is random, so a processor would guess wrong at every other one. Memory comes from numpy, not from
inside the loops, because numpy asks for large pages, which makes scattered writes several times as fast.
"""

from typing import no_type_check

import numpy as np

from sparsekit.utils import compiling

_compiled = compiling.compiled()

# Columns in one block of the counting sort, so that a block's writes stay within the second-level cache. We measured
# that 64 to 1024 are alike, and that one block for all takes three times as long at two million connections.
BLOCK_BITS = 8


def positions_in(array: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return where each sorted query stands in the sorted array, or -1."""
    positions = np.empty(queries.size, np.int64)
    _positions_in(array, queries, positions)
    return positions


def union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what is in either of two sorted arrays."""
    both = np.empty(first.size + second.size, np.int64)
    return _cut(both, _union(first, second, both))


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what is in both of two sorted arrays."""
    common = np.empty(min(first.size, second.size) + 1, np.int64)
    return _cut(common, _intersection(first, second, common))


def match(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where each number of `new` stands in `old` or -1, and the positions of what only one of them has."""
    positions = np.empty(new.size, np.int64)
    dropped, grown = np.empty(old.size + 1, np.int64), np.empty(new.size + 1, np.int64)
    num_dropped, num_grown = _match(old, new, positions, dropped, grown)
    return positions, _cut(dropped, num_dropped), _cut(grown, num_grown)


def missing_at(array: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the r-th number that a sorted array lacks, for each of some sorted ranks."""
    missing = np.empty(ranks.size, np.int64)
    _missing_at(array, ranks, missing)
    return missing


def compress(positions: np.ndarray, num_rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row pointers and columns of sorted positions in a matrix. It divides once a row, not once a position."""
    pointers, cols = np.empty(num_rows + 1, np.int64), np.empty(positions.size, np.int64)
    _compress(positions, width, pointers, cols)
    return pointers, cols


def transpose(pointers: np.ndarray, cols: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return column pointers, the connections' rows column by column, and their old positions: a counting sort."""
    ends = np.zeros(width + 1, np.int64)
    _count(cols, ends)
    keys, blocks, bits = np.empty(cols.size, np.int64), ends[: -1 : 1 << BLOCK_BITS].copy(), cols.size.bit_length()
    _into_blocks(pointers, cols, bits, blocks, keys)
    rows, order = np.empty(cols.size, np.int64), np.empty(cols.size, np.int64)
    _within_blocks(keys, bits, blocks, ends[:-1].copy(), rows, order)
    return ends, rows, order


def _cut(array: np.ndarray, count: int) -> np.ndarray:
    # It is copied, because a part would keep the whole array alive, and take all of it along into a file.
    return array if count == array.size else array[:count].copy()


@no_type_check  # the tests' type checker must not wrap what is to be compiled
@_compiled
def _positions_in(array, queries, positions):
    i = j = 0
    while i < array.size and j < queries.size:
        x, y = array[i], queries[j]
        positions[j] = i if x == y else -1
        i += x <= y
        j += y <= x
    positions[j:] = -1


@no_type_check
@_compiled
def _union(first, second, both):
    i = j = k = 0
    while i < first.size and j < second.size:
        x, y = first[i], second[j]
        both[k] = min(x, y)
        k += 1
        i += x <= y
        j += y <= x
    for rest in (first[i:], second[j:]):
        both[k : k + rest.size] = rest
        k += rest.size
    return k


@no_type_check
@_compiled
def _intersection(first, second, common):
    i = j = k = 0
    while i < first.size and j < second.size:
        x, y = first[i], second[j]
        common[k] = x
        k += x == y
        i += x <= y
        j += y <= x
    return k


@no_type_check
@_compiled
def _match(old, new, positions, dropped, grown):
    i = j = d = g = 0
    while i < old.size and j < new.size:
        x, y = old[i], new[j]
        positions[j] = i if x == y else -1
        dropped[d], grown[g] = i, j
        d += x < y
        g += y < x
        i += x <= y
        j += y <= x
    positions[j:] = -1
    num_dropped, num_grown = d + old.size - i, g + new.size - j
    dropped[d:num_dropped] = np.arange(i, old.size)
    grown[g:num_grown] = np.arange(j, new.size)
    return num_dropped, num_grown


@no_type_check
@_compiled
def _missing_at(array, ranks, missing):
    i = j = 0
    while j < ranks.size:
        missing[j] = ranks[j] + i
        before = i < array.size and array[i] - i <= ranks[j]
        i += before
        j += not before


@no_type_check
@_compiled
def _compress(positions, width, pointers, cols):
    k = 0
    for row in range(pointers.size - 1):
        pointers[row], first = k, row * width
        while k < positions.size and positions[k] < first + width:
            cols[k] = positions[k] - first
            k += 1
    pointers[-1] = k


@no_type_check
@_compiled
def _count(cols, ends):
    for col in cols:
        ends[col + 1] += 1
    for col in range(ends.size - 1):
        ends[col + 1] += ends[col]


@no_type_check
@_compiled
def _into_blocks(pointers, cols, bits, blocks, keys):
    # A key holds all that the second pass needs: row, position and column within the block.
    for row in range(pointers.size - 1):
        for k in range(pointers[row], pointers[row + 1]):
            block, within = cols[k] >> BLOCK_BITS, cols[k] & ((1 << BLOCK_BITS) - 1)
            position = blocks[block]
            keys[position] = (((row << bits) | k) << BLOCK_BITS) | within
            blocks[block] = position + 1


@no_type_check
@_compiled
def _within_blocks(keys, bits, blocks, free, rows, order):
    begin = 0
    for block in range(blocks.size):
        end = blocks[block]
        for key in keys[begin:end]:
            col = (block << BLOCK_BITS) | (key & ((1 << BLOCK_BITS) - 1))
            position, row_and_k = free[col], key >> BLOCK_BITS
            rows[position], order[position] = row_and_k >> bits, row_and_k & ((1 << bits) - 1)
            free[col] = position + 1
        begin = end
