"""Tables, comparisons and effective connections: everything that needs topologies only."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsekit import analysis
from sparsekit.analysis.structure.chain_paths import cut_off_units
from sparsekit.analysis.structure.metrics import fan_histogram
from sparsekit.analysis.structure.topology_similarity import TopologySimilarity, topology_similarity_table
from sparsekit.layers import sparsify
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct, random_topology


def layer(*indices: int, shape: tuple[int, ...] = (2, 2)) -> LayerTopology:
    return LayerTopology(shape, torch.tensor(sorted(indices), dtype=torch.int64))


def held(*tensors: torch.Tensor) -> int:
    """Return the bytes of the memory behind some tensors, what they share once."""
    memory = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(memory.values())


def alike(a: Topology | LayerTopology, b: Topology | LayerTopology, measure: str) -> TopologySimilarity:
    return analysis.topology_similarity(a, b, measure=measure)


def of_masks(*masks: list[list[int]]) -> Topology:
    return Topology({str(i): LayerTopology.of_mask(torch.tensor(mask).bool()) for i, mask in enumerate(masks)})


def random_layer(shape: tuple[int, ...], count: int, seed: int) -> LayerTopology:
    generator = torch.Generator().manual_seed(seed)
    return LayerTopology(shape, draw_distinct(math.prod(shape), count, generator))


PAIR_SHAPES = {"a": (3, 4), "b": (2, 3, 2, 2)}
positions = st.fixed_dictionaries(
    {name: st.sets(st.integers(0, math.prod(shape) - 1)) for name, shape in PAIR_SHAPES.items()}
)


def of_positions(found: dict[str, set[int]]) -> Topology:
    return Topology({name: layer(*places, shape=PAIR_SHAPES[name]) for name, places in found.items()})


class TestLayerTable:
    def test_a_row_counts_what_is_drawn_by_hand(self):
        row = analysis.layer_table(of_masks([[1, 1, 0], [0, 0, 0]], [[1, 1]])).loc["0"]
        assert row[["count", "size", "density", "compression"]].tolist() == [2, 6, 1 / 3, 3]
        assert row["share"] == 0.5
        assert row[["fan_in_min", "fan_in_mean", "fan_in_max"]].tolist() == [0, 1, 2]
        assert row[["fan_out_min", "fan_out_mean", "fan_out_max"]].tolist() == [0, 2 / 3, 1]
        assert row[["dead_outputs", "dead_inputs"]].tolist() == [1, 1]

    def test_an_input_channel_of_a_convolution_is_alive_if_any_kernel_place_is(self):
        conv = Topology({"conv": layer(1, shape=(1, 2, 1, 2))})
        table = analysis.layer_table(conv)
        assert table.loc["conv", "dead_inputs"] == 1
        assert table.loc["conv", "fan_out_max"] == 1

    def test_an_empty_layer_has_infinite_compression_and_no_share(self):
        row = analysis.layer_table(of_masks([[0, 0]])).loc["0"]
        assert math.isinf(row["compression"])
        assert row["share"] == 0

    def test_histograms_count_every_unit_once_and_every_connection_once(self):
        net = random_topology({"fc": (30, 20), "conv": (8, 4, 3, 3)}, 0.2, seed=1)
        table = fan_histogram(net)
        for name, topology in net.items():
            for side, units in (("fan_in", topology.shape[0]), ("fan_out", topology.shape[1])):
                part = table[(table["layer"] == name) & (table["side"] == side)]
                assert part["units"].sum() == units
                assert (part["units"] * part["connections"]).sum() == topology.count

    def test_a_network_without_sparse_layers_gives_empty_tables(self):
        assert analysis.layer_table(Topology()).empty
        assert fan_histogram(Topology()).empty


class TestComparing:
    def test_all_measures_of_a_pair_worked_out_by_hand(self):
        a, b = layer(0, 1, shape=(2, 4)), layer(1, 2, 3, shape=(2, 4))
        assert analysis.iou(a, b).value == 1 / 4
        assert alike(a, b, "overlap").value == 1 / 2
        assert alike(b, a, "overlap").value == 1 / 3
        assert alike(a, b, "dice").value == 2 / 5
        assert alike(a, b, "hamming_per_positions").value == 3 / 8
        assert alike(a, b, "hamming_per_connections").value == 3 / 5

    @pytest.mark.parametrize(
        ("density", "baseline"), [(0.02, 0.0101), (0.05, 0.0256), (0.1, 0.0526), (0.2, 0.1111), (0.5, 0.3333)]
    )
    def test_two_independent_masks_of_a_density_have_the_published_expected_iou(self, density, baseline):
        a, b = (random_layer((50, 40), round(2000 * density), seed) for seed in range(2))
        assert analysis.iou(a, b).random_baseline == pytest.approx(baseline, abs=5e-5)
        assert analysis.iou(a, b).random_baseline == pytest.approx(density / (2 - density))
        assert alike(a, b, "overlap").random_baseline == pytest.approx(density)

    @pytest.mark.parametrize("measure", ["iou", "overlap", "dice", "hamming_per_positions", "hamming_per_connections"])
    def test_baselines_agree_with_many_random_draws_for_unequal_densities(self, measure):
        shapes = {"thin": (10, 8), "wide": (40, 50)}
        first, second = {"thin": 60, "wide": 100}, {"thin": 20, "wide": 300}

        def draw(counts: dict[str, int], seed: int) -> Topology:
            return Topology({n: random_layer(s, counts[n], seed + i) for i, (n, s) in enumerate(shapes.items())})

        draws = [alike(draw(first, 4 * i), draw(second, 4 * i + 2), measure) for i in range(60)]
        mean = float(np.mean([found.value for found in draws]))
        error = float(np.std([found.value for found in draws])) / math.sqrt(len(draws))
        assert mean == pytest.approx(draws[0].layer_matched_baseline, abs=4 * error + 1e-3)
        assert abs(mean - draws[0].random_baseline) > 4 * error

    def test_the_baseline_of_a_whole_network_knows_that_small_layers_are_dense(self):
        a, b = (random_topology({"thin": (10, 10), "wide": (100, 100)}, 0.02, allocation="er", seed=s) for s in (0, 1))
        found = analysis.iou(a, b)
        assert found.layer_matched_baseline > 1.5 * found.random_baseline
        assert found.value == pytest.approx(found.layer_matched_baseline, abs=0.02)

    @settings(max_examples=40, deadline=None)
    @given(positions, positions)
    def test_measures_are_shares_and_all_but_overlap_are_symmetric(self, first, second):
        a, b = of_positions(first), of_positions(second)
        for measure in ("iou", "overlap", "dice", "hamming_per_positions", "hamming_per_connections"):
            found = analysis.topology_similarity(a, b, measure=measure)
            for number in (found.value, found.random_baseline, found.layer_matched_baseline):
                assert 0 <= number <= 1
            if measure != "overlap":
                assert found == analysis.topology_similarity(b, a, measure=measure)

    @settings(max_examples=40, deadline=None)
    @given(positions, positions)
    def test_a_topology_is_like_itself_and_dice_follows_from_iou(self, first, second):
        a, b = of_positions(first), of_positions(second)
        assert analysis.iou(a, a).value == alike(a, a, "overlap").value == alike(a, a, "dice").value == 1
        assert alike(a, a, "hamming_per_positions").value == alike(a, a, "hamming_per_connections").value == 0
        jaccard = analysis.iou(a, b).value
        assert alike(a, b, "dice").value == pytest.approx(2 * jaccard / (1 + jaccard))
        assert alike(a, b, "hamming_per_connections").value == pytest.approx(1 - alike(a, b, "dice").value)

    def test_the_table_ends_with_the_network_and_its_layers_have_one_baseline(self):
        a, b = (random_topology({"x": (6, 6), "y": (5, 4)}, 0.4, seed=s) for s in (0, 1))
        table = topology_similarity_table(a, b, measure="dice")
        assert table.index.tolist() == ["x", "y", "network"]
        assert (table["random_baseline"] == table["layer_matched_baseline"])[:2].all()
        assert table.loc["network", "value"] == alike(a, b, "dice").value

    def test_the_matrix_holds_every_pair(self):
        tickets = [random_topology({"x": (6, 6)}, 0.3, seed=s) for s in range(3)]
        values, baselines = analysis.topology_similarity_matrix(tickets, measure="overlap")
        assert values.diagonal().tolist() == [1, 1, 1]
        assert values[0, 2] == alike(tickets[0], tickets[2], "overlap").value
        assert baselines == pytest.approx(np.full((3, 3), tickets[0].density))

    def test_the_matrix_takes_either_baseline(self):
        tickets = [of_masks([[1, 0, 0, 0, 0]] * 2, [[1, 1]]), of_masks([[0, 1, 0, 0, 0]] * 2, [[1, 1]])]
        pair = analysis.iou(*tickets)
        for baseline, wanted in (("layer-matched", pair.layer_matched_baseline), ("random", pair.random_baseline)):
            assert analysis.topology_similarity_matrix(tickets, baseline=baseline)[1][0, 1] == wanted
        assert pair.layer_matched_baseline > pair.random_baseline
        with pytest.raises((ValueError, TypeError), match="layer-matched"):
            analysis.topology_similarity_matrix(tickets, baseline="none")

    def test_topologies_of_different_layers_are_refused(self):
        with pytest.raises(ValueError, match="same layers"):
            analysis.iou(of_masks([[1, 0]]), of_masks([[1], [0]]))

    def test_an_unknown_measure_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"one of iou, overlap, dice.*got 'cosine'"):
            analysis.topology_similarity(layer(0), layer(0), measure="cosine")

    def test_comparing_networks_without_layers_is_refused(self):
        with pytest.raises(ValueError, match="at least one layer"):
            analysis.iou(Topology(), Topology())


class TestEffective:
    def test_the_paths_of_a_small_net_are_counted(self):
        assert 10 ** analysis.log10_num_paths(of_masks([[1, 1], [0, 1]], [[1, 1]])) == pytest.approx(3)

    def test_a_cut_network_has_no_path_and_no_effective_connection(self):
        net = of_masks([[1, 1], [0, 0]], [[0, 1]])
        assert analysis.log10_num_paths(net) == -math.inf
        assert analysis.effective_topology(net).count == 0

    def test_paths_of_a_deep_dense_net_are_counted_beyond_what_a_float_can_hold(self):
        net = Topology({str(i): LayerTopology.full((100, 100)) for i in range(200)})
        assert analysis.log10_num_paths(net) == pytest.approx(2 * 201)

    @pytest.mark.parametrize(
        ("allocation", "shares"),
        [("uniform", (0.728, 0.522, 0.251, 0.102, 0.029)), ("er", (1.0, 0.993, 0.821, 0.486, 0.179))],
    )
    def test_a_large_share_of_a_random_topology_is_useless_and_er_repairs_most_of_it(self, allocation, shares):
        shapes = {"0": (256, 64), "1": (256, 256), "2": (10, 256)}
        for density, expected in zip((0.1, 0.05, 0.02, 0.01, 0.005), shares, strict=True):
            nets = [random_topology(shapes, density, allocation=allocation, seed=seed) for seed in range(30)]
            found = [analysis.effective_density(net) / net.density for net in nets]
            # Means of 30 draws against means of 30 other draws.
            assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) * math.sqrt(2 / 30) + 2e-3)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([0.05, 0.15, 0.4, 1.0]))
    def test_effective_connections_are_a_subset_and_none_of_them_is_ineffective(self, seed, density):
        net = random_topology({"a": (9, 7), "b": (8, 9), "c": (3, 8)}, density, seed=seed)
        effective = analysis.effective_topology(net)
        assert (effective - net).count == 0
        assert analysis.effective_topology(effective) == effective
        assert analysis.effective_density(net) <= net.density
        assert analysis.log10_num_paths(effective) == pytest.approx(analysis.log10_num_paths(net))

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000))
    def test_what_is_called_ineffective_is_on_no_path_at_all(self, seed):
        net = random_topology({"a": (4, 3), "b": (4, 4), "c": (2, 4)}, 0.3, seed=seed)
        masks = [layer.mask().double() for layer in net.values()]
        before = [torch.ones(3).double()]
        for mask in masks:
            before.append(mask @ before[-1])
        after = [torch.ones(2).double()]
        for mask in reversed(masks):
            after.append(mask.T @ after[-1])
        for i, (name, mask) in enumerate(zip(net, masks, strict=True)):
            paths = after[2 - i][:, None] * mask * before[i][None, :]
            assert torch.equal(paths > 0, analysis.effective_topology(net)[name].mask())

    def test_units_that_only_speak_by_their_bias_are_counted(self):
        table = cut_off_units(of_masks([[1], [0], [1]], [[1, 1, 0]]))
        assert table.loc["0"].tolist() == [3, 1, 1]

    def test_a_flattened_figure_and_a_grouped_convolution_belong_to_the_chain(self):
        first = LayerTopology.of_mask(torch.tensor([1, 0, 1, 1]).view(4, 1, 1, 1).bool())
        grouped = LayerTopology.of_mask(torch.tensor([[1, 1], [1, 1]]).view(2, 2, 1, 1).bool())
        head = LayerTopology.of_mask(torch.tensor([[0, 0, 1, 0]]).bool())
        effective = analysis.effective_topology(Topology({"a": first, "g": grouped, "h": head}))
        assert effective["h"].indices.tolist() == [2]  # the first of two positions of channel 1
        assert effective["g"].indices.tolist() == [2, 3]  # which reads channels 2 and 3 of the layer before
        assert effective["a"].indices.tolist() == [2, 3]

    def test_layers_that_form_no_chain_are_refused_by_name(self):
        with pytest.raises(ValueError, match=r"got 1 with 3 inputs after 2 outputs.*effective_topology_of_model"):
            analysis.effective_topology(of_masks([[1], [1]], [[1, 1, 1]]))

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ((10, 4), (3, 20)),  # two tokens, perhaps, but then their features lie together
            ((10, 4), (3, 5)),
            ((10, 4), (6, 5, 3, 3)),
            ((10, 4, 3, 3), (3, 5)),
            ((10, 4, 3, 3), (3, 15)),
            ((10, 4, 3, 3), (5, 20, 3, 3)),
            ((10, 4, 3, 3), (3, 5, 3, 3)),  # two groups cannot share three outputs
        ],
    )
    def test_sizes_that_do_not_fit_are_no_chain(self, first, second):
        net = Topology({"a": LayerTopology.full(first), "b": LayerTopology.full(second)})
        for function in (analysis.effective_topology, cut_off_units, analysis.log10_num_paths):
            with pytest.raises(ValueError, match=f"got b with {second[1]} inputs after 10 outputs"):
                function(net)

    @pytest.mark.parametrize(
        ("first", "second", "paths"),
        [
            ((10, 4), (3, 10), 120),
            ((10, 4, 1, 1), (3, 10), 120),
            ((10, 4, 1, 1), (3, 40), 480),  # four positions of each channel
            ((10, 4), (3, 10, 1, 1), 120),
            ((10, 4, 1, 1), (6, 5, 1, 1), 120),  # two groups
            ((10, 4, 1, 1), (20, 1, 1, 1), 80),  # depthwise
        ],
    )
    def test_sizes_that_fit_are_a_chain(self, first, second, paths):
        net = Topology({"a": LayerTopology.full(first), "b": LayerTopology.full(second)})
        assert 10 ** analysis.log10_num_paths(net) == pytest.approx(paths)
        assert analysis.effective_topology(net) == net

    def test_a_chain_needs_a_layer(self):
        with pytest.raises(ValueError, match="at least one layer"):
            analysis.log10_num_paths(Topology())


def read_by_kernels(structure) -> list[torch.Tensor]:
    """The index arrays of a layer that has run, without the few numbers per side of a picture."""
    plans = structure.derived("conv2d", dict).values()
    if not plans:
        return [structure.row_pointers, structure.cols, *structure.columns]
    sides = [side for plan in plans for side in (plan.forward, plan.backward)]
    return [torch.from_numpy(array) for side in sides for array in (side.segments, side.offsets, side.value_index)]


class TestMemory:
    def test_csr_takes_eight_bytes_per_connection_and_four_per_row(self):
        net = Topology({"fc": random_layer((100, 80), 400, 0)})
        row = analysis.memory_bytes(net).loc["fc"]
        assert row["csr"] == 8 * 400 + 4 * 100
        assert row["dense"] == 4 * 8000
        assert row["bit_mask"] == 4 * 400 + 1000
        assert row["masked"] == 4 * 8000 + 1000

    def test_bits_that_fill_no_byte_take_a_whole_one(self):
        row = analysis.memory_bytes(Topology({"fc": random_layer((3, 3), 2, 0)})).loc["fc"]
        assert row["bit_mask"] == 4 * 2 + 2
        assert row["masked"] == 4 * 9 + 2

    @pytest.mark.parametrize("plain", [nn.Linear(80, 100), nn.Conv2d(4, 6, 3)])
    def test_what_our_layers_are_said_to_take_is_what_they_hold(self, plain):
        x = torch.zeros(2, 80) if isinstance(plain, nn.Linear) else torch.zeros(2, 4, 5, 5)
        topology = Topology({"": random_layer(tuple(plain.weight.shape), 60, 0)})
        row = analysis.memory_bytes(topology).loc[""]
        masked, csr = (sparsify(plain, topology, storage=storage, init="dense") for storage in ("masked", "csr"))
        for layer in (masked, csr):
            layer(x).sum().backward()
        assert row["masked_layer"] == held(masked.weight, masked.mask, masked.indices)
        assert row["csr_layer"] == held(csr.packed_weight, csr.indices, *read_by_kernels(csr.structure))

    def test_adam_adds_two_numbers_per_stored_value(self):
        net = Topology({"fc": random_layer((100, 80), 400, 0)})
        plain, adam = (analysis.memory_bytes(net, optimizer_values=n).loc["fc"] for n in (0, 2))
        assert adam["csr"] - plain["csr"] == 8 * 400
        assert adam["masked"] - plain["masked"] == 8 * 8000

    def test_a_negative_number_of_optimizer_values_is_refused(self):
        with pytest.raises(ValueError, match="at least 0, got -1"):
            analysis.memory_bytes(Topology(), optimizer_values=-1)
