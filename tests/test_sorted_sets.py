"""Sets as sorted tensors: the compiled ways and those of torch agree with Python's own sets."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsekit.topology import sorted_sets
from sparsekit.topology.sorted_sets import compiled, operations

WAYS = {"compiled": 0, "plain": 2**62}  # from how many numbers on compiled code is used
members = st.sets(st.integers(0, 60), max_size=40)


@pytest.fixture(params=WAYS.values(), ids=WAYS, autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(operations, "LARGE", request.param)


def tensor(numbers) -> Tensor:
    return torch.tensor(sorted(numbers), dtype=torch.int64)


@given(members, members)
@settings(max_examples=150)
def test_operations_are_those_of_sets(first, second):
    a, b = tensor(first), tensor(second)
    assert torch.equal(sorted_sets.union(a, b), tensor(first | second))
    assert torch.equal(sorted_sets.intersection(a, b), tensor(first & second))
    assert torch.equal(sorted_sets.difference(a, b), tensor(first - second))


@given(members, members)
@settings(max_examples=150)
def test_comparing_says_where_each_number_stood_and_what_only_one_has(old, new):
    a, b = tensor(old), tensor(new)
    found, dropped_at, grown_at = sorted_sets.match(a, b)
    assert found.tolist() == [sorted(old).index(number) if number in old else -1 for number in sorted(new)]
    assert torch.equal(a[dropped_at], tensor(old - new))
    assert torch.equal(b[grown_at], tensor(new - old))


@given(members, st.lists(st.integers(-2, 62), max_size=30))
@settings(max_examples=150)
def test_positions_are_found_whatever_the_order_of_the_queries_and_however_often_they_come(numbers, queries):
    expected = [sorted(numbers).index(query) if query in numbers else -1 for query in queries]
    for asked in (queries, sorted(set(queries))):
        expected = [sorted(numbers).index(query) if query in numbers else -1 for query in asked]
        assert sorted_sets.positions_in(tensor(numbers), torch.tensor(asked, dtype=torch.int64)).tolist() == expected


@given(members, st.lists(st.integers(0, 80), max_size=30))
@settings(max_examples=150)
def test_missing_numbers_are_found_by_rank_in_any_order(numbers, ranks):
    missing = [number for number in range(200) if number not in numbers]
    for asked in (ranks, sorted(ranks)):
        found = sorted_sets.missing_at(tensor(numbers), torch.tensor(asked, dtype=torch.int64))
        assert found.tolist() == [missing[rank] for rank in asked]


@given(st.lists(st.integers(-5, 30), max_size=40))
def test_each_number_is_kept_once_and_in_order(numbers):
    assert sorted_sets.distinct(torch.tensor(numbers, dtype=torch.int64)).tolist() == sorted(set(numbers))


@given(st.lists(st.booleans(), max_size=40))
def test_true_positions_are_those_of_the_mask(mask):
    assert sorted_sets.true_positions(torch.tensor(mask, dtype=torch.bool)).tolist() == [
        i for i, x in enumerate(mask) if x
    ]


@given(st.data(), st.integers(1, 9), st.sampled_from([1, 3, 8, 300, 700]))
@settings(max_examples=100)
def test_rows_and_columns_are_compressed_as_a_matrix_is_read(data, num_rows, width):
    positions = tensor(data.draw(st.sets(st.integers(0, num_rows * width - 1), max_size=60)))
    rows, cols = positions // width, positions % width
    assert torch.equal(sorted_sets.rows_of(positions, width), rows)
    pointers, found_cols = sorted_sets.compress(positions, num_rows, width)
    assert torch.equal(found_cols, cols)
    assert pointers.tolist() == [int((rows < row).sum()) for row in range(num_rows + 1)]
    ends, rows_by_col, order = sorted_sets.transpose(pointers, cols, width)
    by_hand = sorted(range(len(positions)), key=lambda place: (int(cols[place]), place))
    assert order.tolist() == by_hand
    assert torch.equal(rows_by_col, rows[order])
    assert ends.tolist() == [int((cols < col).sum()) for col in range(width + 1)]


def test_every_other_number_of_a_tensor_is_a_set_as_well():
    numbers, some = torch.arange(40)[::2], torch.arange(60)[::3]
    wanted = set(numbers.tolist()) | set(some.tolist())
    assert sorted_sets.union(numbers, some).tolist() == sorted(wanted)
    assert sorted_sets.positions_in(numbers, some).tolist() == [
        n // 2 if n < 40 and n % 2 == 0 else -1 for n in some.tolist()
    ]


def test_results_are_no_parts_of_larger_arrays_which_would_stay_in_memory():
    a, b = np.arange(0, 1000), np.arange(500, 1500)
    for result in (compiled.union(a, b), compiled.intersection(a, b), *compiled.match(a, b)):
        assert result.base is None


def test_without_numba_torch_does_it(monkeypatch):
    operations._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "sparsekit.topology.sorted_sets.compiled", None)
    monkeypatch.delattr(sorted_sets, "compiled")
    try:
        assert operations._compiled_for(torch.arange(2**16)) is None
        assert sorted_sets.union(torch.arange(3), torch.arange(2, 5)).tolist() == [0, 1, 2, 3, 4]
    finally:
        operations._compiled.cache_clear()
