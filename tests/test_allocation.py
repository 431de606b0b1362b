"""How many connections each layer gets."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit.topology.allocation import allocate, erdos_renyi, erdos_renyi_kernel, share_out, uniform
from sparsekit.utils import registry

LENET = {"a": (300, 784), "b": (100, 300), "c": (10, 100)}
SMALL = {"a": (100, 64), "b": (100, 100), "c": (10, 100)}
CONV = {"a": (16, 1, 3, 3), "b": (32, 16, 3, 3), "c": (64, 32, 3, 3), "d": (10, 64)}

# methods.md section B1: shapes, density, densities of Erdos-Renyi with kernel, and without where that differs.
GOLDEN = [
    (LENET, 0.2, (0.162241, 0.469362, 1), None),
    (LENET, 0.1, (0.079568, 0.230189, 1), None),
    (LENET, 0.05, (0.038484, 0.111334, 0.918507), None),
    (LENET, 0.02, (0.015394, 0.044534, 0.367403), None),
    (LENET, 0.01, (0.007697, 0.022267, 0.183701), None),
    (SMALL, 0.2, (0.188133, 0.146835, 0.807595), None),
    (SMALL, 0.1, (0.094066, 0.073418, 0.403797), None),
    (SMALL, 0.05, (0.047033, 0.036709, 0.201899), None),
    (CONV, 0.2, (1, 0.29904, 0.14121, 1), (1, 0.3162, 0.1581, 0.38999)),
    (CONV, 0.1, (1, 0.12007, 0.0567, 1), (1, 0.15318, 0.07659, 0.18892)),
    (CONV, 0.05, (0.75202, 0.05518, 0.02606, 0.5444), (0.83102, 0.07333, 0.03666, 0.09043)),
]

ALLOCATIONS = registry.names("allocation")

shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=6,
).map(lambda drawn: {f"layer{number}": shape for number, shape in enumerate(drawn)})
densities = st.floats(1e-4, 1.0)


def sizes(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(("net", "density", "with_kernel", "without"), GOLDEN)
def test_erdos_renyi_has_the_golden_densities(net, density, with_kernel, without):
    for allocation, golden in ((erdos_renyi_kernel, with_kernel), (erdos_renyi, without or with_kernel)):
        counts = allocation(net, density)
        for (name, size), expected in zip(sizes(net).items(), golden, strict=True):
            # At most one connection from the exact share, and the table is rounded to 5 or 6 places.
            assert counts[name] == pytest.approx(expected * size, abs=1 + size * 6e-6), name


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@given(shapes, densities)
@settings(max_examples=60)
def test_the_total_is_exact_and_no_layer_overflows(allocation, net, density):
    counts = registry.get("allocation", allocation)(net, density)
    assert list(counts) == list(net)
    assert sum(counts.values()) == round(density * sum(sizes(net).values()))
    assert all(isinstance(count, int) and 0 <= count <= sizes(net)[name] for name, count in counts.items())


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@given(shapes, densities)
@settings(max_examples=40)
def test_no_layer_goes_empty_while_there_are_connections_enough(allocation, net, density):
    counts = registry.get("allocation", allocation)(net, density)
    assert min(counts.values()) >= 1 or sum(counts.values()) < len(net)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@given(shapes, densities, densities)
@settings(max_examples=40)
def test_a_higher_density_takes_nothing_away(allocation, net, first, second):
    low, high = (registry.get("allocation", allocation)(net, density) for density in sorted((first, second)))
    # Largest remainders may shift one connection, and keeping every layer alive one per layer (Alabama's paradox).
    assert all(high[name] >= low[name] - 1 - len(net) for name in net)
    assert sum(high.values()) >= sum(low.values())


@given(shapes, densities)
@settings(max_examples=40)
def test_a_capped_layers_surplus_goes_to_the_others_in_proportion(net, density):
    counts, all_sizes = erdos_renyi_kernel(net, density), sizes(net)
    raw = {name: Fraction(sum(shape), math.prod(shape)) for name, shape in net.items()}
    open_layers = [name for name in net if counts[name] < all_sizes[name]]
    if not open_layers or min(counts.values()) <= 1:
        return
    share = sum(counts[name] for name in open_layers) / sum(raw[name] * all_sizes[name] for name in open_layers)
    assert all(abs(counts[name] - share * raw[name] * all_sizes[name]) <= 1 for name in open_layers)
    # A full layer is one that would get at least what it holds.
    full = [name for name in net if counts[name] == all_sizes[name]]
    assert all(share * raw[name] * all_sizes[name] >= all_sizes[name] - 1 for name in full)


def test_the_kernel_only_counts_where_it_should():
    dense_layers = {"a": (30, 20), "b": (7, 40)}
    assert erdos_renyi_kernel(dense_layers, 0.13) == erdos_renyi(dense_layers, 0.13)
    assert erdos_renyi_kernel(CONV, 0.13) != erdos_renyi(CONV, 0.13)


def test_power_zero_is_uniform_and_power_one_the_published_form():
    assert erdos_renyi_kernel(CONV, 0.13, power=0) == uniform(CONV, 0.13)
    assert erdos_renyi_kernel(CONV, 0.13, power=1) == erdos_renyi_kernel(CONV, 0.13)


def test_uniform_rounds_by_largest_remainder():
    # Shares 1.5, 0.6 and 0.9 of 3: floors 1, 0, 0 and the two largest remainders, 0.9 and 0.6, get one more.
    assert uniform({"a": (5, 1), "b": (2, 1), "c": (3, 1)}, 0.3) == {"a": 1, "b": 1, "c": 1}
    # Shares 4.5, 3.6 and 3.9 of 12, where no layer would go empty by another choice.
    assert uniform({"a": (15, 1), "b": (12, 1), "c": (13, 1)}, 0.3) == {"a": 4, "b": 4, "c": 4}


@pytest.mark.parametrize("allocation", [uniform, erdos_renyi, erdos_renyi_kernel])
def test_a_layer_whose_share_is_nothing_gets_one_connection_of_the_richest(allocation):
    assert allocation({"wide": (40, 40), "thin": (1, 40), "tiny": (1, 1)}, 0.01)["tiny"] == 1
    assert sum(allocation({"wide": (40, 40), "thin": (1, 40), "tiny": (1, 1)}, 0.01).values()) == 16


def test_layers_alike_get_counts_alike_to_one_connection():
    counts = erdos_renyi_kernel({str(number): (10, 10) for number in range(7)}, 0.123).values()
    assert sum(counts) == 86
    assert max(counts) - min(counts) == 1


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_density_one_is_dense(allocation):
    assert allocate(CONV, 1.0, allocation) == sizes(CONV)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("density", [0, -0.1, 1.0001, float("nan"), float("inf")])
def test_densities_outside_their_range_are_refused(allocation, density):
    with pytest.raises(ValueError, match=rf"density must lie in \(0, 1\], got {density}. Give the share"):
        allocate(LENET, density, allocation)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_network_without_layers_is_refused(allocation):
    with pytest.raises(ValueError, match="at least one layer to share connections among, got none. See left_dense"):
        allocate({}, 0.5, allocation)


def test_an_allocation_may_be_a_function_and_an_unknown_name_lists_the_known_ones():
    assert allocate(LENET, 0.5, lambda shapes, density: {"own": 1}) == {"own": 1}
    with pytest.raises(ValueError, match="allocation must be one of er, erk, uniform, got 'random'"):
        allocate(LENET, 0.5, "random")


def test_a_density_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="must leave at least one connection, got 0.001 of 200 weights"):
        allocate({"a": (10, 20)}, 0.001)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=6), st.floats(0, 1))
def test_sharing_out_is_exact_and_overfills_nothing(layers, share):
    sizes = {str(number): size for number, (size, _) in enumerate(layers)}
    weights = {str(number): weight for number, (_, weight) in enumerate(layers)}
    total = round(share * sum(sizes.values()))
    counts = share_out(total, weights, sizes)
    assert sum(counts.values()) == total
    assert all(0 <= counts[name] <= sizes[name] for name in sizes)
