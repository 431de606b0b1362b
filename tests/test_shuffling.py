"""Shuffled topologies: the counts stay, the places do not."""

import pytest
import torch
from helpers import random_layer
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology
from sparsekit.topology.shuffling import WITHIN, shuffled

EVERY = pytest.mark.parametrize("within", WITHIN)
shapes = st.sampled_from([(1, 1), (3, 4), (5, 2), (4, 3, 2, 2), (1, 9), (7, 1)])


@EVERY
@given(shapes, st.floats(0, 1), st.integers(0, 5))
def test_every_layer_keeps_its_count_at_positions_that_are_sorted_and_different(within, shape, share, seed):
    layer = random_layer(shape, round(share * LayerTopology.full(shape).size), seed)
    moved = shuffled(Topology({"a": layer}), within=within, seed=seed)["a"]
    assert (moved.shape, moved.count) == (layer.shape, layer.count)
    LayerTopology(moved.shape, moved.indices)  # which checks the places
    if within == "outputs":
        assert torch.equal(moved.fan_in(), layer.fan_in())
    if within == "inputs":
        assert torch.equal(moved.fan_out(), layer.fan_out())


@EVERY
def test_the_seed_and_the_layers_name_decide_the_positions(within):
    layer = random_layer((20, 30), 100)
    net = Topology({"a": layer, "b": layer})
    once, again, other = (shuffled(net, within=within, seed=seed) for seed in (0, 0, 1))
    assert once == again
    assert once["a"] != other["a"]
    assert once["a"] != once["b"]
    assert once["a"] != layer


@EVERY
def test_every_place_that_may_be_taken_is_taken_equally_often(within):
    layer = LayerTopology((3, 4), torch.tensor([0, 1, 4, 8, 9]))  # fan-in 2 1 2, fan-out 3 2 0 0
    taken = torch.zeros(12)
    for seed in range(600):
        taken[shuffled(Topology({"a": layer}), within=within, seed=seed)["a"].indices] += 1
    expected = {
        "layer": torch.full((3, 4), 5 / 12),
        "outputs": (torch.tensor([2, 1, 2]) / 4)[:, None].expand(3, 4),
        "inputs": (torch.tensor([3, 2, 0, 0]) / 3).expand(3, 4),
    }[within].flatten()
    sure = (expected == 0) | (expected == 1)
    assert torch.equal(taken[sure], 600 * expected[sure])
    # Draws without replacement vary less than independent ones, so that this test is on the safe side.
    assert chisquare(taken[~sure], 600 * expected[~sure]).pvalue > 1e-4


def test_a_shuffled_dense_layer_is_dense():
    net = Topology({"a": LayerTopology.full((4, 5))})
    assert all(shuffled(net, within=within) == net for within in WITHIN)


def test_more_than_half_of_the_connections_move_where_few_exist():
    """A flag without effect, as in some released code, would be found here."""
    net = random_topology({"a": (100, 100)}, 0.05)
    for within in WITHIN:
        assert (net & shuffled(net, within=within)).count < 0.2 * net.count


def test_other_ways_and_things_are_refused():
    net = Topology({"a": LayerTopology.full((2, 2))})
    with pytest.raises(ValueError, match="within must be one of layer, outputs, inputs, got 'rows'. Choose"):
        shuffled(net, within="rows")
    with pytest.raises(TypeError, match="Topology"):
        shuffled(net["a"])
