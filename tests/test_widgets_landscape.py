"""Maps and landscapes show what their controls say, in numbers that the browser draws."""

import re

import numpy as np
import pytest
from test_plots import hills

import sparsekit as sk
from sparsekit import analysis
from sparsekit.analysis import PlanePoint, Surface
from sparsekit.widgets import DiversityMap, LandscapeExplorer

SHAPES = {"fc1": (12, 16), "head": (4, 12)}
NETS = {name: sk.random_topology(SHAPES, 0.3, seed=seed) for seed, name in enumerate(("zero", "one", "two"))}
ANSWERS = np.array([[0, 0.1, 0.9], [0.1, 0, 0.8], [0.9, 0.8, 0]])
MIME_TYPES = {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}
TRACK = {"bent": np.array([[0.0, 0.0], [1.0, 0.5]])}


def ridge_of(height: float, border: float = 50.0) -> Surface:
    """Two networks at (0, 0) and (2, 0), a ridge at x = 1, and a high border at x = 3."""
    x, y = np.linspace(-1, 3, 5), np.linspace(-1, 1, 3)
    loss = np.tile([2.0, 1.0, 1.0 + height, 1.0, border], (3, 1))
    points = {"a": PlanePoint(x=0.0, y=0.0), "b": PlanePoint(x=2.0, y=0.0)}
    return Surface(x, y, loss, 1 / loss, points)


class TestRidges:
    def test_a_ridge_is_how_far_the_loss_rises_above_the_line(self):
        ridge = analysis.highest_ridge(ridge_of(2.5))
        assert (ridge.first, ridge.second, ridge.extreme) == ("a", "b", 3.5)
        assert ridge.rise == pytest.approx(2.5)

    def test_in_accuracy_it_is_how_far_it_falls(self):
        ridge = analysis.highest_ridge(ridge_of(1.0), of="accuracy")
        assert (ridge.rise, ridge.extreme) == pytest.approx((0.5, 0.5))

    def test_networks_off_the_plane_take_no_part(self):
        assert analysis.highest_ridge(hills()) is None  # one of the two lies 40 % off
        with pytest.raises(ValueError, match="of must be 'loss' or 'accuracy'"):
            analysis.highest_ridge(hills(), of="height")

    def test_the_scale_ends_above_the_highest_ridge_of_all_surfaces(self):
        assert analysis.clipped_range([ridge_of(2.0), ridge_of(0.5)]) == pytest.approx((1.0, 1.0 + 1.3 * 2.0))
        assert analysis.clipped_range([ridge_of(2.0, border=3.5)]) == (1.0, 3.5)

    def test_without_a_ridge_nothing_is_clipped(self):
        assert analysis.clipped_range([ridge_of(0.0)]) == (1.0, 50.0)
        assert analysis.clipped_range([hills()]) == (hills().loss.min(), hills().loss.max())
        with pytest.raises(ValueError, match="at least one surface"):
            analysis.clipped_range([])

    @pytest.mark.parametrize("odd", [np.nan, np.inf])
    def test_a_loss_that_is_not_finite_does_not_move_the_scale(self, odd):
        surface = ridge_of(2.0)
        surface.loss[0, 4] = odd
        assert analysis.clipped_range([surface]) == pytest.approx((1.0, 3.6))
        assert LandscapeExplorer(surface).snapshot().startswith(b"\x89PNG")


class TestLandscapeExplorer:
    def test_the_cut_is_a_coordinate_and_the_words_go_along(self):
        explorer = LandscapeExplorer(hills())
        assert explorer.cut == 0.0
        for row in (0, 2, 4):
            explorer.choose(cut=hills().y[row])
            low, high = hills().loss[row].min(), hills().loss[row].max()
            assert f"The cut at {hills().y[row]:.2f} lies between {low:.3g} and {high:.3g}" in repr(explorer)
            assert repr(explorer) == explorer.snapshot().alt

    def test_the_title_states_the_ridge_with_its_number(self):
        titles = LandscapeExplorer({"one": ridge_of(2.5), "two": ridge_of(0.0)}).panels
        assert titles[0]["titles"]["loss"] == "One: between a and b the loss rises by 2.50 nats above the line"
        assert titles[1]["titles"]["loss"] == "Two: no ridge stands between the networks of the plane, in loss"
        alone = LandscapeExplorer(ridge_of(1.0)).panels[0]["titles"]["accuracy"]
        assert alone == "Between a and b the accuracy falls by 50.0 points below the line"

    def test_the_browser_gets_every_value_and_every_path(self):
        explorer = LandscapeExplorer(hills(), TRACK)
        (panel,) = explorer.panels
        assert np.frombuffer(panel["loss"], "<f4").tolist() == pytest.approx(hills().loss.ravel().tolist())
        assert panel["tracks"] == [{"name": "bent", "points": [[0.0, 0.0], [1.0, 0.5]]}]
        assert [point["off"] for point in panel["points"]] == [False, True]
        with pytest.raises(ValueError, match="tracks must be of the surfaces a, got b"):
            LandscapeExplorer({"a": hills()}, {"b": TRACK})

    @pytest.mark.parametrize("of", ["loss", "accuracy"])
    def test_every_measure_has_words_and_an_image_of_its_own(self, of):
        explorer = LandscapeExplorer({"one": ridge_of(2.0), "two": hills()}, {"two": TRACK}, of=of)
        assert repr(explorer).startswith(f"The {of} on the plane goes from")
        first = explorer.snapshot()
        explorer.choose(panel=1, of="loss" if of == "accuracy" else "accuracy", view="landscape")
        assert bytes(explorer.snapshot()) != bytes(first)

    def test_networks_off_the_plane_are_named(self):
        assert repr(LandscapeExplorer(hills())).endswith(". Some networks lie off the plane: mean 40 % of the distance")

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"view": "map"}, "one of contours, landscape, got 'map'"),
            ({"of": "height"}, "one of loss, accuracy"),
            ({"cut": 5}, "the cut must lie from -1 to 1, got 5"),
            ({"panel": 1}, "one of 0 to 0, got 1"),
        ],
    )
    def test_what_is_not_there_is_refused_and_nothing_moves(self, values, message):
        explorer = LandscapeExplorer(hills())
        with pytest.raises(ValueError, match=message):
            explorer.choose(turn=10.0, **values)
        assert explorer.turn == -60

    def test_a_notebook_gets_a_still(self):
        assert set(LandscapeExplorer(hills())._repr_mimebundle_()) >= MIME_TYPES


class TestDiversityMap:
    def test_the_words_are_those_of_the_network_that_is_chosen(self):
        explorer = DiversityMap(NETS, {"answers": ANSWERS})
        for name, topology in NETS.items():
            explorer.choose(network=name)
            size = f"{topology.count} of {topology.size} connections"
            assert re.match(rf"Network {name} has {size}\. By masks, \w+ is nearest, at a distance of", repr(explorer))
            assert repr(explorer) == explorer.snapshot().alt

    def test_another_space_has_another_nearest_network(self):
        explorer = DiversityMap(NETS, {"answers": ANSWERS})
        explorer.choose(network="two", space="answers")
        assert repr(explorer).endswith("By answers, one is nearest, at a distance of 0.8")
        expected = 1 - analysis.iou(NETS["two"], NETS["one"]).value
        assert explorer.distances["masks"][2, 1] == pytest.approx(expected)

    def test_each_group_has_a_map_of_its_own_on_which_distances_are_true(self):
        explorer = DiversityMap(NETS, {"answers": ANSWERS}, groups=["left", "left", "right"])
        maps = explorer.spaces[1]["maps"]
        assert set(maps) == {"", "left", "right"}
        assert np.linalg.norm(np.subtract(*maps["left"]["points"])) == pytest.approx(0.1)
        assert maps["left"]["share"] == pytest.approx(1.0)
        explorer.choose(zoom="left")
        assert explorer.snapshot().startswith(b"\x89PNG")

    def test_one_network_has_a_map_and_none_has_not(self):
        assert repr(DiversityMap({"only": NETS["one"]})) == "Network only has 72 of 240 connections"
        with pytest.raises(ValueError, match="at least one network"):
            DiversityMap({})

    def test_what_does_not_fit_is_refused(self):
        explorer = DiversityMap(NETS)
        with pytest.raises(ValueError, match="network must be one of zero, one, two, got 'three'"):
            explorer.choose(network="three")
        with pytest.raises(ValueError, match="space must be one of masks"):
            explorer.choose(space="answers")
        with pytest.raises(ValueError, match="zoom must be one of"):
            explorer.choose(zoom="left")
        with pytest.raises(ValueError, match="symmetric and 0"):
            DiversityMap(NETS, {"overlap": np.ones((3, 3))})
        with pytest.raises(ValueError, match="a group for each of 3 networks, got 1"):
            DiversityMap(NETS, groups=["a"])
        with pytest.raises(ValueError, match="the same layers"):
            DiversityMap({**NETS, "other": sk.random_topology({"fc1": (3, 4)}, 0.5)})

    def test_a_notebook_gets_a_still(self):
        assert set(DiversityMap(NETS, groups=["a", "a", "b"])._repr_mimebundle_()) >= MIME_TYPES
