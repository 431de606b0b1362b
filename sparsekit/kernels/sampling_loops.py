"""Numba compiles these loops of `sampling`. Each does the work of one or two functions of torch, in linear time."""

from typing import no_type_check

import numpy as np

from sparsekit.utils import compiling

compiled = compiling.compiled()
SHORT = 64  # rows up to here are sorted by insertion, measured twice as fast as NumPy's sort, which copies them


@compiled
@no_type_check
def count_sorted(edges, points):
    """Count the edges at or below each of some increasing points, in one walk through both."""
    counts = np.empty(len(points), np.int64)
    edge = 0
    for number in range(len(points)):
        while edge < len(edges) and edges[edge] <= points[number]:
            edge += 1
        counts[number] = edge
    return counts


@compiled
@no_type_check
def count_indexed(edges, points):
    """Count the edges at or below each of some points in any order, by indexed search.

    There are as many equal buckets as edges, and a table says how many edges lie before each. A point's answer lies
    between the entries of its bucket and the next, on average one step apart where points are spread like buckets.

    Source: Chen and Asau (1974), On generating random variates from an empirical distribution.
    """
    scale = len(edges) / edges[-1]
    before = np.zeros(len(edges) + 2, np.int64)
    for edge in edges:
        before[int(edge * scale) + 1] += 1
    for bucket in range(len(edges) + 1):
        before[bucket + 1] += before[bucket]
    counts = np.empty(len(points), np.int64)
    for number in range(len(points)):
        bucket = min(int(points[number] * scale), len(edges))
        low, high = before[bucket], before[bucket + 1]
        while low < high:
            middle = (low + high) // 2
            if edges[middle] <= points[number]:
                low = middle + 1
            else:
                high = middle
        counts[number] = low
    return counts


@compiled
@no_type_check
def sort_part(values, begin, end):
    """Sort `values[begin:end]` in place."""
    if end - begin > SHORT:
        values[begin:end].sort()
        return
    for right in range(begin + 1, end):
        value, hole = values[right], right
        while hole > begin and values[hole - 1] > value:
            values[hole] = values[hole - 1]
            hole -= 1
        values[hole] = value


@compiled
@no_type_check
def distinct_outside(positions, rows, taken):
    """Sort positions in place, row by row, and return each once, without the (sorted) taken ones.

    Positions come grouped by increasing row.
    """
    distinct = np.empty_like(positions)
    count, at, begin, last = 0, 0, 0, -1
    while begin < len(positions):
        end = begin + 1
        while end < len(positions) and rows[end] == rows[begin]:
            end += 1
        sort_part(positions, begin, end)
        for position in positions[begin:end]:
            if position == last:
                continue
            last = position
            while at < len(taken) and taken[at] < position:
                at += 1
            if at == len(taken) or taken[at] != position:
                distinct[count] = position
                count += 1
        begin = end
    return distinct[:count].copy()
