"""Topologies up to the order of their units, representations up to rotation, and distances as maps and trees."""

import numpy as np
import pytest
import torch
from helpers import batch_for, mlp, random_layer, small_conv_net, sparse

import sparsekit as sk
from sparsekit import analysis
from sparsekit.analysis.behaviour.representation_similarity import cka_matrix, layer_outputs
from sparsekit.analysis.structure.aligned_distance import topological_distances
from sparsekit.topology import LayerTopology, Topology


def layer(*units: set[int], inputs: int) -> LayerTopology:
    places = sorted(row * inputs + place for row, unit in enumerate(units) for place in unit)
    return LayerTopology((len(units), inputs), torch.tensor(places, dtype=torch.int64))


def net(seed: int, *shapes: tuple[int, ...], share: float = 0.4) -> Topology:
    sizes = [int(np.prod(shape)) for shape in shapes]
    layers = [random_layer(shape, int(share * size), seed) for shape, size in zip(shapes, sizes, strict=True)]
    return Topology({f"l{place}": one for place, one in enumerate(layers)})


def shuffled_units(topology: Topology, orders: list[torch.Tensor]) -> Topology:
    """The same network with its hidden units in another order."""
    layers, before = {}, None
    for (name, one), order in zip(topology.items(), [*orders, None], strict=True):
        mask = one.mask()
        if before is not None:
            mask = mask.reshape(len(mask), len(before), -1)[:, before].reshape(one.shape)
        layers[name] = LayerTopology.of_mask(mask if order is None else mask[order])
        before = order
    return Topology(layers)


class TestTopologicalDistance:
    def test_it_has_the_value_worked_out_by_hand(self):
        a = Topology({"fc": layer({0, 1}, {1, 2}, inputs=4)})
        b = Topology({"fc": layer({2, 3}, {0, 1}, inputs=4)})
        table = analysis.topological_distance(a, b, match_last=True)
        assert table.loc["fc", "distance"] == pytest.approx(1 / 3)
        assert table.loc["fc", "in_place"] == pytest.approx(5 / 6)  # {0, 1} and {2, 3}: 1; {1, 2} and {0, 1}: 2/3
        assert table.loc["network"].equals(table.loc["fc"])

    def test_it_does_not_see_the_order_of_hidden_units_in_any_layer(self):
        chain = net(0, (12, 8), (9, 12), (4, 9))
        orders = [torch.randperm(size, generator=torch.Generator().manual_seed(size)) for size in (12, 9)]
        table = analysis.topological_distance(chain, shuffled_units(chain, orders))
        assert (table["distance"] == 0).all()
        assert (table["in_place"] > 0.3).all()

    def test_channels_are_units_before_and_after_flattening(self):
        chain = net(1, (6, 2, 3, 3), (5, 6, 3, 3), (4, 5 * 4))
        orders = [torch.randperm(size, generator=torch.Generator().manual_seed(size)) for size in (6, 5)]
        table = analysis.topological_distance(chain, shuffled_units(chain, orders))
        assert (table["distance"] == 0).all()

    def test_outputs_stay_in_place_unless_asked_to_match(self):
        a, b = Topology({"fc": layer({0}, {1}, inputs=2)}), Topology({"fc": layer({1}, {0}, inputs=2)})
        assert analysis.topological_distance(a, b).loc["network", "distance"] == 1
        assert analysis.topological_distance(a, b, match_last=True).loc["network", "distance"] == 0

    def test_disjoint_supports_are_at_distance_one_and_empty_units_are_alike(self):
        a, b = Topology({"fc": layer({0}, {1}, inputs=4)}), Topology({"fc": layer({2}, {3}, inputs=4)})
        assert analysis.topological_distance(a, b, match_last=True).loc["fc", "distance"] == 1
        none = Topology({"fc": layer(set(), set(), inputs=4)})
        assert analysis.topological_distance(none, none).loc["fc", "distance"] == 0

    def test_one_layer_is_as_far_in_both_directions_and_matching_never_makes_it_further(self):
        nets = [net(seed, (10, 9)) for seed in range(3)]
        forth = analysis.topological_distance(nets[0], nets[1], match_last=True)
        back = analysis.topological_distance(nets[1], nets[0], match_last=True)
        assert forth.loc["l0"].tolist() == pytest.approx(back.loc["l0"].tolist())
        assert forth.loc["l0", "distance"] <= forth.loc["l0", "in_place"]
        matrix = topological_distances(nets, match_last=True)
        assert matrix[1, 0] == matrix[0, 1] == forth.loc["network", "distance"]
        assert np.diag(matrix).tolist() == [0, 0, 0]

    def test_layers_that_make_no_chain_are_refused(self):
        odd = net(0, (12, 8), (9, 13))
        with pytest.raises(ValueError, match="13 inputs of l1 after a layer of 12 outputs"):
            analysis.topological_distance(odd, odd)
        with pytest.raises(ValueError, match="at least one layer"):
            analysis.topological_distance(Topology(), Topology())


class TestSimilarity:
    X, Y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0], [2.0], [3.0]])

    def test_it_has_the_value_worked_out_by_hand(self):
        assert analysis.linear_cka(self.X, self.Y) == pytest.approx(0.474342, abs=1e-6)

    @pytest.mark.parametrize("debiased", [False, True])
    def test_it_does_not_see_rotation_scale_and_shift(self, debiased):
        x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).double()).Q
        assert analysis.linear_cka(x, -3 * x @ rotation + 5, debiased=debiased) == pytest.approx(1)
        assert analysis.linear_cka(x, x[:, :3], debiased=debiased) < 0.95

    def test_few_samples_look_alike_unless_the_bias_is_taken_out(self):
        draws = torch.Generator().manual_seed(0)
        pairs = [torch.randn(2, 20, 100, generator=draws) for _ in range(20)]
        plain, debiased = (
            np.mean([analysis.linear_cka(x, y, debiased=way) for x, y in pairs]) for way in (False, True)
        )
        assert plain > 0.7
        assert abs(debiased) < 0.05

    def test_the_unbiased_estimate_is_that_of_its_formula(self):
        x, y = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def hsic(a, b):
            k, el = (m @ m.T for m in (a, b))
            for gram in (k, el):
                gram.fill_diagonal_(0)
            ones, n = torch.ones(9, dtype=torch.float64), 9
            mixed = (ones @ k @ ones) * (ones @ el @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ el @ ones)
            return float(((k @ el).trace() + mixed) / (n * (n - 3)))

        expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)) ** 0.5
        assert analysis.linear_cka(x, y, debiased=True) == pytest.approx(expected)

    def test_tables_compare_every_layer_with_every_other(self):
        first, second = sparse(mlp(6, 8, 7, 3), "masked"), mlp(6, 5, 3)
        batch = batch_for((6,), size=60)
        table = analysis.cka_table(first, second, [batch], debiased=False)
        assert table.shape == (3, 2)
        assert ((table > 0) & (table < 1)).all(axis=None)
        expected = analysis.linear_cka(first[0](batch[0]).detach(), second(batch[0]).detach())
        assert table.loc["0", "2"] == pytest.approx(expected)
        matrix = cka_matrix([first, first, mlp(6, 8, 7, 3)], [batch], layer="2")
        assert matrix[0, :2] == pytest.approx(1)
        assert matrix == pytest.approx(matrix.T)
        assert matrix[0, 2] < 0.99

    def test_outputs_are_taken_in_all_batches_and_images_are_flattened(self):
        inputs, labels = batch_for((2, 6, 6), size=7)
        model = small_conv_net()
        found = layer_outputs(model, [(inputs[:4], labels[:4]), (inputs[4:], labels[4:])])
        assert {name: tuple(output.shape) for name, output in found.items()} == {
            "0": (7, 144),
            "2": (7, 24),
            "5": (7, 3),
        }
        torch.testing.assert_close(found["5"], model(inputs).detach())
        assert not model[0]._forward_hooks

    def test_too_few_samples_and_unknown_layers_are_refused(self):
        with pytest.raises(ValueError, match="at least 4 samples, got 3"):
            analysis.linear_cka(self.X, self.Y, debiased=True)
        with pytest.raises(ValueError, match="at least 4 samples, got 2"):
            analysis.cka_table(mlp(6, 3), mlp(6, 3), [batch_for((6,), size=2)])
        with pytest.raises(ValueError, match="one of 0, got 'fc9'"):
            cka_matrix([mlp(6, 3)], [batch_for((6,))], layer="fc9")
        with pytest.raises(ValueError, match="at least one batch"):
            layer_outputs(mlp(6, 3), [])


class TestMaps:
    def test_points_of_a_plane_regrow_with_their_distances(self):
        points = np.random.default_rng(0).normal(size=(6, 2))
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
        found = analysis.classical_mds(distances)
        again = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
        assert again == pytest.approx(distances)
        assert found.share == pytest.approx(1)
        assert found.points.mean(0) == pytest.approx(0)
        longest = np.abs(found.points).argmax(0)
        assert (found.points[longest, [0, 1]] > 0).all()

    def test_what_two_dimensions_cannot_show_lowers_the_share(self):
        all_apart = 1 - np.eye(6)
        assert analysis.classical_mds(all_apart).share == pytest.approx(2 / 5)

    def test_equal_networks_lie_on_each_other_and_a_single_one_in_the_middle(self):
        assert analysis.classical_mds(np.zeros((3, 3))).points.tolist() == np.zeros((3, 2)).tolist()
        assert analysis.classical_mds(np.zeros((1, 1))).points.tolist() == [[0, 0]]

    def test_masks_make_a_map_through_one_minus_their_overlap(self):
        nets = [sk.random_topology({"fc": (20, 20)}, 0.2, seed=seed) for seed in (0, 0, 1, 2)]
        found = analysis.classical_mds(1 - analysis.topology_similarity_matrix(nets)[0]).points
        apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
        assert apart[0, 1] == pytest.approx(0, abs=1e-6)
        assert min(apart[0, 2], apart[0, 3], apart[2, 3]) > 0.3

    def test_the_tree_joins_the_nearest_first(self):
        distances = np.array([[0, 5, 1, 5], [5, 0, 5, 2], [1, 5, 0, 5], [5, 2, 5, 0]], dtype=float)
        joins = analysis.average_linkage(distances)
        assert joins.tolist() == [[0, 2, 1, 2], [1, 3, 2, 2], [4, 5, 5, 4]]

    def test_similarities_are_no_distances(self):
        for look in (analysis.classical_mds, analysis.average_linkage):
            for wrong in (np.eye(3), np.array([[0.0, 1.0], [2.0, 0.0]]), np.zeros((0, 0))):
                with pytest.raises(ValueError, match="must be symmetric and 0"):
                    look(wrong)
        with pytest.raises(ValueError, match="at least two networks, got 1"):
            analysis.average_linkage(np.zeros((1, 1)))
