"""The value that says which connections exist."""

import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit.topology import LayerTopology, Topology, check_same_layers

SHAPES = [(1, 1), (3, 4), (5, 2), (1, 7), (2, 3, 2, 2)]


def layer(shape: tuple[int, ...], *indices: int) -> LayerTopology:
    return LayerTopology(shape, torch.tensor(indices, dtype=torch.int64))


@st.composite
def masks(draw, count: int = 1):
    shape = draw(st.sampled_from(SHAPES))
    size = torch.Size(shape).numel()
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    return [torch.tensor(draw(flags), dtype=torch.bool).view(shape) for _ in range(count)]


@given(masks())
@settings(max_examples=60)
def test_every_view_of_a_topology_agrees_with_its_mask(drawn):
    (mask,) = drawn
    topology = LayerTopology.of_mask(mask)
    flat = mask.flatten(1)
    assert torch.equal(topology.mask(), mask)
    assert topology.mask().dtype == torch.bool
    assert (topology.count, topology.size) == (int(mask.sum()), mask.numel())
    assert topology.density == pytest.approx(float(mask.double().mean()))
    assert (topology.num_outputs, topology.num_inputs) == tuple(flat.shape)
    assert torch.equal(torch.stack([topology.rows, topology.cols], 1), flat.nonzero())
    assert torch.equal(topology.fan_in(), flat.sum(1))
    assert torch.equal(topology.fan_out(), flat.sum(0))
    assert topology.nbytes == 8 * topology.count


@given(masks())
@settings(max_examples=60)
def test_compressed_rows_and_columns_are_those_of_the_mask(drawn):
    flat = drawn[0].flatten(1)
    topology = LayerTopology.of_mask(drawn[0])
    pointers, cols = topology.csr()
    for o, row in enumerate(flat):
        assert cols[pointers[o] : pointers[o + 1]].tolist() == row.nonzero().flatten().tolist()
    pointers, rows, order = topology.csc()
    for f, column in enumerate(flat.T):
        assert rows[pointers[f] : pointers[f + 1]].tolist() == column.nonzero().flatten().tolist()
    assert torch.equal(topology.rows[order], rows)
    assert order.sort().values.tolist() == list(range(topology.count))


@given(masks())
@settings(max_examples=60)
def test_missing_positions_are_the_complement_and_can_be_asked_for_one_by_one(drawn):
    topology = LayerTopology.of_mask(drawn[0])
    missing = (~drawn[0]).flatten().nonzero().flatten()
    assert torch.equal(topology.missing(), missing)
    ranks = torch.arange(missing.numel()).flip(0)
    assert torch.equal(topology.missing_at(ranks), missing.flip(0))
    assert topology.missing_at(ranks[:0]).tolist() == []


@given(masks())
@settings(max_examples=60)
def test_place_of_finds_connections_and_answers_minus_one_for_the_rest(drawn):
    topology = LayerTopology.of_mask(drawn[0])
    everywhere = torch.arange(topology.size).flip(0)
    places = topology.position_of(everywhere)
    expected = [topology.indices.tolist().index(i) if drawn[0].flatten()[i] else -1 for i in everywhere.tolist()]
    assert places.tolist() == expected


@given(masks(2))
@settings(max_examples=60)
def test_set_algebra_is_that_of_the_masks(drawn):
    a, b = drawn
    first, second = LayerTopology.of_mask(a), LayerTopology.of_mask(b)
    assert torch.equal((first | second).mask(), a | b)
    assert torch.equal((first & second).mask(), a & b)
    assert torch.equal((first - second).mask(), a & ~b)
    assert (first == second) == torch.equal(a, b)
    nets = Topology({"x": first, "y": second}), Topology({"y": first, "x": second})
    assert torch.equal((nets[0] - nets[1])["x"].mask(), a & ~b)
    assert torch.equal((nets[0] - nets[1])["y"].mask(), b & ~a)
    assert (nets[0] | nets[1])["x"] == (nets[0] | nets[1])["y"]
    assert (nets[0] & nets[1])["x"] == (nets[0] & nets[1])["y"]


def test_a_network_knows_its_layers_in_order_and_counts_over_all_of_them():
    net = Topology([("b", layer((2, 3), 0, 5)), ("a", LayerTopology.full((1, 4)))])
    assert list(net) == ["b", "a"]
    assert (net.count, net.size, net.density) == (6, 10, 0.6)
    assert net.shapes == {"b": (2, 3), "a": (1, 4)}
    assert len(net) == 2
    with pytest.raises(KeyError, match="layer must be one of b, a, got 'c'"):
        net["c"]
    assert Topology().density == 0.0


def test_a_network_survives_json_pickle_and_the_way_to_another_device():
    net = Topology({"fc": layer((2, 3), 0, 5), "empty": layer((2, 2)), "conv": layer((2, 1, 3, 3), 17)})
    assert Topology.from_dict(json.loads(json.dumps(net.to_dict()))) == net
    assert pickle.loads(pickle.dumps(net)) == net
    assert net.to("cpu") == net


def test_topologies_are_equal_by_content_and_cannot_be_keys():
    assert layer((2, 3), 1) == layer((2, 3), 1)
    assert layer((2, 3), 1) != layer((3, 2), 1)
    assert layer((2, 3), 1) != layer((2, 3), 2)
    assert layer((2, 3), 1) != "something else"
    assert Topology({"a": layer((2, 3), 1)}) != Topology({"b": layer((2, 3), 1)})
    for thing in (layer((2, 3), 1), Topology()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(thing)


def test_a_topology_prints_its_numbers_and_not_its_positions():
    net = Topology({"fc": layer((20, 100), 0, 5)})
    assert repr(net["fc"]) == "LayerTopology((20, 100), 2 of 2,000 connections, density 0.0010)"
    assert repr(net) == "Topology(2 of 2,000 connections, density 0.0010)\n  fc: 2 of 2,000"


def test_a_topology_cannot_be_changed():
    with pytest.raises(AttributeError):
        layer((2, 3), 1).shape = (3, 2)
    with pytest.raises(TypeError, match="does not support item assignment"):
        Topology()["a"] = layer((2, 3), 1)


@pytest.mark.parametrize(
    ("shape", "indices", "message"),
    [
        ((4,), [0], r"two or more positive sides, got \(4,\)"),
        ((), [], r"two or more positive sides, got \(\)"),
        ((4, 0), [], r"two or more positive sides, got \(4, 0\)"),
        ((2, 2), [0, 4], r"positions must lie in \[0, 4\), got 0 to 4"),
        ((2, 2), [-1, 2], r"positions must lie in \[0, 4\), got -1 to 2"),
        ((2, 2), [0, 0], "strictly increasing, got unsorted or doubled ones. Use torch.unique"),
        ((2, 2), [0, 2, 1, 3], "strictly increasing"),
    ],
)
def test_impossible_positions_are_refused(shape, indices, message):
    with pytest.raises(ValueError, match=message):
        layer(shape, *indices)


def test_operations_between_different_shapes_are_refused():
    for operation in ("__or__", "__and__", "__sub__"):
        with pytest.raises(ValueError, match=r"same shape, got \(2, 3\) and \(3, 2\)"):
            getattr(layer((2, 3), 1), operation)(layer((3, 2), 1))
    with pytest.raises(ValueError, match=r"same layers and shapes, got differences at \[\('a', \(2, 3\)\)"):
        check_same_layers(Topology({"a": layer((2, 3))}), Topology({"a": layer((3, 2))}))
