"""Paths and planes between networks: they go through the networks themselves, and leave them as they were."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import STORAGES, batch_for, made, mlp, small_conv_net, sparse, times_as_long
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit import analysis, models
from sparsekit.analysis.landscape import planes as landscape
from sparsekit.analysis.landscape.connectivity import Path
from sparsekit.analysis.landscape.weight_vectors import (
    Bench,
    check_alike,
    load_vector,
    support_of,
    union_support,
    vector_of,
)

BATCH, OTHER = batch_for((6,), size=20), batch_for((6,), size=12, seed=1)


def nets(count: int = 3, storage: str = "masked") -> list[nn.Module]:
    """Networks of one architecture with other values and other connections."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    return [sparse(made(make, seed), storage, seed=seed) for seed in range(count)]


def with_norm(seed: int) -> nn.Module:
    net = made(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)), seed
    )
    net(torch.randn(30, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return sparse(net, "masked", seed=seed)


def named(networks: list[nn.Module]) -> dict[str, nn.Module]:
    return dict(zip("abcdefg", networks, strict=False))


def counts(networks: list[nn.Module]) -> list[int]:
    return [sk.topology_of(net).count for net in networks]


class TestVectors:
    @pytest.mark.parametrize("storage", STORAGES)
    def test_a_vector_is_the_plain_network_and_regrows(self, storage):
        net = sparse(small_conv_net(), storage)
        vector, support = vector_of(net), support_of(net)
        assert (vector[~support] == 0).all()
        biases = sum(p.numel() for name, p in net.named_parameters() if name.endswith("bias"))
        assert int(support.sum()) == sk.topology_of(net).count + biases
        other = sk.densify(sparse(small_conv_net().apply(lambda m: [p.data.zero_() for p in m.parameters()]), storage))
        load_vector(other, vector)
        x = batch_for((2, 6, 6))[0]
        torch.testing.assert_close(other(x), sk.densify(net)(x))
        with pytest.raises(ValueError, match=r"each of \d+ parameters, got 3"):
            load_vector(other, torch.zeros(3))

    def test_unions_hold_what_either_has(self):
        a, b = nets(2)
        either = union_support([a, b])
        assert torch.equal(either, support_of(a) | support_of(b))
        assert int(either.sum()) == (sk.topology_of(a) | sk.topology_of(b)).count + 11

    def test_networks_that_cannot_be_mixed_are_refused(self):
        with pytest.raises(ValueError, match="must have the same parameters"):
            check_alike([mlp(6, 8, 3), mlp(6, 9, 3)])
        with pytest.raises(ValueError, match="at least 2 networks, got 1"):
            check_alike([mlp(6, 8, 3)])

    def test_batch_norm_needs_data_to_be_refreshed_with_and_gets_them(self):
        net = with_norm(0)
        with pytest.raises(ValueError, match="with fresh statistics, got refresh_with None"):
            Bench(net, [BATCH], nn.functional.cross_entropy)
        bench = Bench(net, [BATCH], nn.functional.cross_entropy, refresh_with=[OTHER])
        expected = sk.evaluate(net, [BATCH], refresh_with=[OTHER])
        assert bench.at(vector_of(net)) == expected
        assert expected != sk.evaluate(net, [BATCH])


class TestPaths:
    def test_a_segment_begins_and_ends_in_its_networks_and_has_the_connections_of_both_between(self):
        a, b = nets(2)
        table = analysis.evaluate_path(analysis.linear_path(a, b), [BATCH])
        assert table["position"].tolist() == pytest.approx(np.linspace(0, 1, 11))
        for net, row in ((a, table.iloc[0]), (b, table.iloc[-1])):
            measured = sk.evaluate(sk.densify(net), [BATCH])
            assert (row["loss"], row["accuracy"]) == (measured.loss, measured.accuracy)
            assert row["connections"] == sk.topology_of(net).count
        both = (sk.topology_of(a) | sk.topology_of(b)).count
        assert (table["connections"].iloc[1:-1] == both).all()

    def test_the_middle_is_the_mean_of_the_weights(self):
        a, b = nets(2)
        middle = sk.densify(a)
        for name, parameter in middle.named_parameters():
            other = dict(sk.densify(b).named_parameters())[name]
            parameter.data.add_(other.data).div_(2)
        expected = sk.evaluate(middle, [BATCH]).loss
        found = analysis.evaluate_path(analysis.linear_path(a, b), [BATCH], positions=[0.5])["loss"].item()
        assert found == pytest.approx(expected, rel=1e-12)

    def test_a_network_is_connected_with_itself_and_barriers_are_the_same_in_both_directions(self):
        a, b, c = nets()
        again = sk.sparsify(sk.densify(a), sk.topology_of(a), "csr", init="dense")
        matrix = analysis.barrier_matrix([a, again, b, c], [BATCH])
        assert matrix == pytest.approx(matrix.T)
        assert (matrix >= 0).all()
        assert matrix[0, 1] == pytest.approx(0, abs=1e-12)
        assert matrix[0, 2:] == pytest.approx(matrix[1, 2:])

    def test_two_orders_of_the_same_units_have_a_barrier_though_they_compute_the_same(self):
        plain = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
        swapped = copy.deepcopy(plain)
        for net, rows in ((plain, [0, 1]), (swapped, [1, 0])):
            net[0].weight.data.copy_(4 * torch.eye(2)[rows])
            net[2].weight.data.copy_(4 * torch.eye(2)[:, rows])
        batch = (torch.eye(2, dtype=torch.float64), torch.tensor([0, 1]))
        table = analysis.evaluate_path(analysis.linear_path(plain, swapped), [batch], positions=5)
        assert table["loss"].iloc[0] == table["loss"].iloc[-1]
        # In the middle all weights are 2: both classes get 8 and the loss is ln 2.
        assert analysis.barrier(table) == pytest.approx(np.log(2) - table["loss"].iloc[0])
        assert analysis.barrier(table, of="error") == pytest.approx(0.5)

    def test_the_barrier_is_measured_from_the_line_between_the_ends(self):
        positions = [-0.2, 0.0, 0.25, 0.5, 1.0, 1.2]
        table = pd.DataFrame({"position": positions, "loss": [9.0, 1.0, 2.0, 2.5, 3.0, 9.0]})
        assert analysis.barrier(table) == pytest.approx(0.5)
        assert analysis.barrier(table.assign(loss=[9.0, 1.0, 0.0, 0.0, 3.0, 9.0])) == 0
        with pytest.raises(ValueError, match="must have its ends"):
            analysis.barrier(table.iloc[2:])
        with pytest.raises(ValueError, match="'loss' or 'error', got 'accuracy'"):
            analysis.barrier(table, of="accuracy")
        with pytest.raises(ValueError, match="at least 3 positions, got 2"):
            analysis.barrier_matrix(nets(2), [BATCH], positions=2)

    def test_fresh_statistics_are_taken_at_every_point(self):
        a, b = with_norm(0), with_norm(1)
        table = analysis.evaluate_path(analysis.linear_path(a, b), [BATCH], refresh_with=[OTHER], positions=3)
        middle = sk.densify(a)
        load_vector(middle, (vector_of(a) + vector_of(b)) / 2)
        expected = [sk.evaluate(net, [BATCH], refresh_with=[OTHER]).loss for net in (a, middle, b)]
        assert table["loss"].tolist() == pytest.approx(expected)


class TestBezier:
    def test_it_keeps_its_ends_and_bends_towards_a_lower_loss(self):
        a, b = nets(2)
        for net in (a, b):
            sk.fit(net, torch.optim.SGD(net.parameters(), lr=0.3), [BATCH], epochs=60, progress=False)
        straight = analysis.evaluate_path(analysis.linear_path(a, b), [BATCH])
        path = analysis.bezier_path(a, b, [BATCH], steps=80, learning_rate=0.3)
        bent = analysis.evaluate_path(path, [BATCH])
        for end in (0, -1):
            assert bent["loss"].iloc[end] == straight["loss"].iloc[end]
        assert bent["loss"].mean() < straight["loss"].mean()
        assert torch.equal(path.at(0), vector_of(a))
        assert torch.equal(path.at(1), vector_of(b))

    def test_within_the_union_no_other_connection_is_used(self):
        a, b = nets(2)
        free = analysis.bezier_path(a, b, [BATCH], steps=3)
        bound = analysis.bezier_path(a, b, [BATCH], steps=3, within="union")
        either = union_support([a, b])
        assert (bound.controls[1][~either] == 0).all()
        assert (free.controls[1][~either] != 0).any()

    def test_without_steps_it_is_the_straight_line(self):
        a, b = nets(2)
        path, line = analysis.bezier_path(a, b, [BATCH], steps=0), analysis.linear_path(a, b)
        for position in (0.25, 0.5, 0.9):
            torch.testing.assert_close(path.at(position), line.at(position))

    def test_a_quadratic_curve_has_the_points_of_its_formula(self):
        start, bend, end = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 0.0]])
        path, t = Path(nn.Linear(1, 1), torch.stack([start, bend, end])), 0.3
        expected = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        torch.testing.assert_close(path.at(t), expected)

    def test_an_unknown_space_is_refused(self):
        with pytest.raises(ValueError, match="'union' or 'everywhere', got 'here'"):
            analysis.bezier_path(*nets(2), [BATCH], within="here")


class TestPlanes:
    def test_three_networks_lie_on_their_plane_at_their_distances(self):
        trio = nets()
        plane = analysis.plane_through(named(trio))
        a, b, c = (vector_of(net) for net in trio)
        places = plane.points
        assert (places["a"].x, places["a"].y) == (0, 0)
        assert (places["b"].x, places["b"].y) == pytest.approx((float((b - a).norm()), 0))
        assert np.hypot(places["c"].x, places["c"].y) == pytest.approx(float((c - a).norm()))
        apart = np.hypot(places["c"].x - places["b"].x, places["c"].y - places["b"].y)
        assert apart == pytest.approx(float((c - b).norm()))
        assert all(place.residual < 1e-12 for place in places.values())
        torch.testing.assert_close(plane.at(places["c"].x, places["c"].y), c)

    def test_a_fourth_network_has_a_residual_and_the_mean_of_the_three_has_none(self):
        *trio, fourth = nets(4)
        plane = analysis.plane_through(named(trio))
        mean = torch.stack([vector_of(net) for net in trio]).mean(0)
        center = plane.project(mean)
        assert center.residual == pytest.approx(0, abs=1e-12)
        assert center.x == pytest.approx(np.mean([place.x for place in plane.points.values()]))
        away = plane.including({"d": fourth}).points["d"]
        distance = (vector_of(fourth) - plane.at(away.x, away.y)).norm()
        assert away.residual == pytest.approx(float(distance))
        from_origin = (vector_of(fourth) - plane.origin).norm()
        assert away.share == pytest.approx(float(distance / from_origin))
        assert 0 < away.share < 1
        assert list(plane.points) == ["a", "b", "c"]  # a plane is a value

    def test_lines_and_other_networks_make_no_plane(self):
        a, b, _ = nets()
        middle = sk.densify(a)
        load_vector(middle, (vector_of(a) + vector_of(b)) / 2)
        with pytest.raises(ValueError, match="must not lie on one line"):
            analysis.plane_through({"a": a, "b": b, "middle": middle})
        with pytest.raises(ValueError, match="through three networks, got 2"):
            analysis.plane_through({"a": a, "b": b})
        plane = analysis.random_plane(a)
        with pytest.raises(ValueError, match="the same parameters"):
            plane.including({"odd": mlp(6, 9, 3)})

    @pytest.mark.parametrize("make", [lambda: nets(1)[0], lambda: sparse(small_conv_net(), "csr")])
    def test_random_directions_have_the_length_of_every_filter_and_stay_inside_the_support(self, make):
        net = make()
        support, plain = support_of(net), sk.densify(net)
        for inside in (True, False):
            plane = analysis.random_plane(net, inside=inside)
            for direction in plane.directions:
                assert bool((direction[~support] == 0).all()) == inside
                moved = copy.deepcopy(plain)
                load_vector(moved, direction)
                for name, weight in moved.named_parameters():
                    if weight.dim() < 2:
                        assert (weight == 0).all()
                    else:
                        own = dict(plain.named_parameters())[name]
                        torch.testing.assert_close(weight.flatten(1).norm(dim=1), own.flatten(1).norm(dim=1))
        again, other = (analysis.random_plane(net, seed=seed) for seed in (0, 1))
        assert torch.equal(again.directions, analysis.random_plane(net).directions)
        assert not torch.equal(again.directions, other.directions)

    def test_an_output_without_connections_does_not_move(self):
        net = nn.Sequential(nn.Linear(3, 2)).double()
        net[0].weight.data[0] = 0
        assert (analysis.random_plane(net).directions[:, :3] == 0).all()

    def test_axes_go_around_all_positions_and_beyond(self):
        plane = analysis.plane_through(named(nets()))
        x, y = plane.axes(9, margin=0.5)
        assert len(x) == len(y) == 9
        for axis, side in ((x, "x"), (y, "y")):
            values = [getattr(place, side) for place in plane.points.values()]
            assert axis[0] < min(values) < max(values) < axis[-1]
        assert [axis.tolist() for axis in analysis.random_plane(nets(1)[0]).axes(3)] == [[-1, 0, 1]] * 2


class TestSurfaces:
    @pytest.mark.parametrize("storage", STORAGES)
    def test_at_the_networks_own_positions_it_is_their_measured_loss(self, storage):
        trio = nets(storage=storage)
        plane = analysis.plane_through(named(trio))
        places = plane.points.values()
        axes = (np.array([place.x for place in places]), np.array([place.y for place in places]))
        found = analysis.surface(plane, [BATCH], axes=axes, progress=False)
        for place, net in enumerate(trio):
            measured = sk.evaluate(sk.densify(net), [BATCH])
            assert found.loss[place, place] == pytest.approx(measured.loss, rel=1e-12)
            assert found.accuracy[place, place] == measured.accuracy

    def test_with_batch_norm_too(self):
        trio = [with_norm(seed) for seed in range(3)]
        plane = analysis.plane_through(named(trio))
        third = plane.points["c"]
        axes = (np.array([0.0, third.x]), np.array([0.0, third.y]))
        found = analysis.surface(plane, [BATCH], axes=axes, refresh_with=[OTHER], progress=False)
        for place, net in ((0, trio[0]), (1, trio[2])):
            expected = sk.evaluate(net, [BATCH], refresh_with=[OTHER]).loss
            assert found.loss[place, place] == pytest.approx(expected)

    def test_rows_are_y_and_columns_are_x(self):
        plane = analysis.random_plane(nets(1)[0])
        found = analysis.surface(plane, [BATCH], axes=(np.arange(3.0), np.arange(2.0)), progress=False)
        assert found.loss.shape == (2, 3)
        bench = Bench(plane.model, [BATCH], nn.functional.cross_entropy)
        assert found.loss[1, 2] == bench.at(plane.at(2.0, 1.0)).loss

    def test_interrupted_it_continues_where_it_was_and_equals_the_uninterrupted(self, tmp_path, monkeypatch):
        plane, file = analysis.plane_through(named(nets())), tmp_path / "new" / "surface.npz"
        settings = {"axes": plane.axes(5), "progress": False}
        whole = analysis.surface(plane, [BATCH], **settings)
        measure, calls = Bench.at, []

        def stops(limit: int):
            def at(bench: Bench, vector: Tensor):
                calls.append(1)
                if len(calls) > limit:
                    raise KeyboardInterrupt
                return measure(bench, vector)

            return at

        monkeypatch.setattr(Bench, "at", stops(13))
        with pytest.raises(KeyboardInterrupt):
            analysis.surface(plane, [BATCH], cache=file, **settings)
        calls.clear()
        monkeypatch.setattr(Bench, "at", stops(15))  # the three rows that are missing, not one more
        found = analysis.surface(plane, [BATCH], cache=file, **settings)
        assert len(calls) == 15
        assert (found.loss == whole.loss).all()
        assert (found.accuracy == whole.accuracy).all()
        analysis.surface(plane, [BATCH], cache=file, **settings)
        assert len(calls) == 15
        assert [path.name for path in file.parent.iterdir()] == ["surface.npz"]

    def test_a_cache_of_other_data_or_another_plane_is_refused(self, tmp_path):
        plane, file = analysis.plane_through(named(nets())), tmp_path / "surface.npz"
        analysis.surface(plane, [BATCH], axes=plane.axes(2), cache=file, progress=False)
        other = analysis.random_plane(plane.model)
        for surface in (
            lambda: analysis.surface(plane, [OTHER], axes=plane.axes(2), cache=file, progress=False),
            lambda: analysis.surface(plane, [BATCH], axes=plane.axes(3), cache=file, progress=False),
            lambda: analysis.surface(other, [BATCH], axes=plane.axes(2), cache=file, progress=False),
        ):
            with pytest.raises(ValueError, match="of the same plane, grid, data and loss"):
                surface()

    def test_a_cache_of_another_loss_is_refused(self, tmp_path):
        plane = analysis.random_plane(nets(1)[0])

        def scaled(by: float):
            return lambda outputs, labels: by * cross_entropy(outputs, labels)

        pairs = {
            "keywords": [partial(cross_entropy, label_smoothing=share) for share in (0.1, 0.1, 0.2)],
            "tensors": [
                partial(cross_entropy, weight=one * torch.ones(3, dtype=torch.float64)) for one in (1, 1, 1.00001)
            ],
            "closures": [scaled(1.0), scaled(1.0), scaled(2.0)],
            "codes": [lambda a, b: cross_entropy(a, b), lambda x, y: cross_entropy(x, y), lambda a, b: (a * 2).mean()],
            "modules": [nn.CrossEntropyLoss(label_smoothing=share) for share in (0.1, 0.1, 0.2)],
            "names": [cross_entropy, cross_entropy, nn.functional.multi_margin_loss],
        }
        for name, (loss_fn, same, other) in pairs.items():
            settings = {"axes": plane.axes(2), "cache": tmp_path / f"{name}.npz", "progress": False}
            analysis.surface(plane, [BATCH], loss_fn, **settings)
            analysis.surface(plane, [BATCH], same, **settings)
            with pytest.raises(ValueError, match="of the same plane, grid, data and loss"):
                analysis.surface(plane, [BATCH], other, **settings)

    def test_a_loss_that_is_not_a_number_is_kept_and_not_computed_again(self, tmp_path):
        plane, file = analysis.random_plane(nets(1)[0]), tmp_path / "surface.npz"

        def broken(outputs: Tensor, labels: Tensor) -> Tensor:
            return outputs.mean() * float("nan")

        for _ in range(2):
            found = analysis.surface(plane, [BATCH], broken, axes=plane.axes(2), cache=file, progress=False)
            assert np.isnan(found.loss).all()

    def test_a_point_takes_little_more_than_the_network_on_its_images(self):
        """25 x 25 points and 2,000 images: 10 s where a forward pass takes 14 ms; less than 15 s is asked for."""
        trio = {str(s): models.build("mlp", input_shape=(784,), num_classes=10, hidden=(300, 100)) for s in range(3)}
        plane, net = analysis.plane_through(trio), trio["0"].requires_grad_(False)
        x, y = plane.axes(25)
        data = torch.randn(2000, 784, generator=torch.Generator().manual_seed(0)), torch.arange(2000) % 10

        def row(_: int) -> None:
            analysis.surface(plane, [data], axes=(x, y[:1]), progress=False)

        def passes() -> None:
            for _ in x:
                net(data[0])

        assert times_as_long(row, passes, turns=5) < 1.6

    def test_a_bar_shows_the_rows(self, capsys):
        plane = analysis.random_plane(nets(1)[0])
        analysis.surface(plane, [BATCH], axes=plane.axes(2))
        assert "surface: 100%" in capsys.readouterr().err


def test_nothing_here_changes_a_model():
    trio = [with_norm(seed).train() for seed in range(3)]
    before, state = [copy.deepcopy(net.state_dict()) for net in trio], torch.get_rng_state()
    settings = {"refresh_with": [OTHER]}
    analysis.barrier_matrix(trio, [BATCH], positions=3, **settings)
    analysis.evaluate_path(analysis.bezier_path(trio[0], trio[1], [BATCH], steps=2), [BATCH], positions=2, **settings)
    for plane in (analysis.plane_through(named(trio)), analysis.random_plane(trio[0])):
        analysis.surface(plane, [BATCH], axes=plane.axes(2), progress=False, **settings)
    for net, kept in zip(trio, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
        assert all(module.training for module in net.modules())
        assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert landscape.PlanePoint(x=0.0, y=0.0).residual == 0
