"""Maps and landscapes show what their controls say, and follow them at once."""

import io
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from test_plots import hills

import sparsekit as sk
from sparsekit import analysis
from sparsekit.plots.colours import VERMILLION
from sparsekit.widgets import DiversityMap, LandscapeExplorer

SHAPES = {"fc1": (12, 16), "head": (4, 12)}
NETS = {name: sk.random_topology(SHAPES, 0.3, seed=seed) for seed, name in enumerate(("zero", "one", "two"))}
ANSWERS = np.array([[0, 0.1, 0.9], [0.1, 0, 0.8], [0.9, 0.8, 0]])
MIME_TYPES = {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}
RING = np.round(255 * np.array(to_rgb(VERMILLION)))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(png: bytes) -> np.ndarray:
    """Rows and columns of the pixels that have the colour of what moves."""
    return np.argwhere((np.abs(pixels(png) - RING) < 12).all(-1))


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class TestLandscapeExplorer:
    def test_the_cut_moves_up_with_its_slider_and_the_words_go_along(self):
        explorer = LandscapeExplorer(hills())
        heights = []
        for row in (0, 2, 4):
            explorer.choose(cut=row)
            left = coloured(explorer.image.value)
            left = left[left[:, 1] < 400]
            heights.append(left[:, 0].mean())
            low, high = hills().loss[row].min(), hills().loss[row].max()
            assert f"The cut at {hills().y[row]:.2f} lies between {low:.3g} and {high:.3g}" in repr(explorer)
            assert explorer.words.values["words"] == repr(explorer) == explorer.snapshot().alt
        assert heights == sorted(heights, reverse=True)  # rows of pixels count from the top

    @pytest.mark.parametrize("view", ["contours", "landscape"])
    @pytest.mark.parametrize("of", ["loss", "accuracy"])
    def test_every_view_has_an_image_of_its_own_and_returns_as_it_was(self, view, of):
        explorer = LandscapeExplorer(hills(), {"bent": np.array([[0.0, 0.0], [1.0, 0.5]])})
        first = explorer.image.value
        explorer.choose(view=view, of=of, cut=1)
        assert repr(explorer).startswith(f"The {of} on the plane goes from")
        assert explorer.image.value != first
        explorer.choose(view="contours", of="loss", cut=2)
        assert explorer.image.value == first

    def test_networks_off_the_plane_are_named(self):
        assert repr(LandscapeExplorer(hills())).endswith(". Some networks lie off the plane: mean 40 % of the distance")

    def test_the_slider_is_followed_within_a_tenth_of_a_second(self):
        for view in ("contours", "landscape"):
            explorer = LandscapeExplorer(hills(), view=view)
            times = [seconds(lambda row=row: explorer.choose(cut=row)) for row in (0, 4, 1, 3)]  # noqa: B023
            assert min(times) < 0.1  # the fastest, because others may share the machine with something else

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"view": "map"}, "one of contours, landscape, got 'map'"),
            ({"of": "height"}, "one of loss, accuracy"),
            ({"cut": 5}, "a row from 0 to 4, got 5"),
        ],
    )
    def test_what_is_not_there_is_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            LandscapeExplorer(hills()).choose(**values)

    def test_its_controls_have_names_and_a_notebook_gets_a_still(self):
        explorer = LandscapeExplorer(hills())
        assert [field["label"] for field in explorer.controls.fields] == ["View", "Measure", "Cut"]
        assert set(explorer._repr_mimebundle_()) >= MIME_TYPES


class TestDiversityMap:
    def test_the_masks_are_those_of_the_network_that_is_chosen(self):
        explorer = DiversityMap(NETS, {"answers": ANSWERS})
        for name, topology in NETS.items():
            explorer.choose(network=name)
            assert {layer: bits.topology() for layer, bits in explorer.masks.packed_masks.items()} == dict(topology)
            size = f"{topology.count} of {topology.size} connections"
            assert re.match(rf"Network {name} has {size}\. By masks, \w+ is nearest, at a distance of", repr(explorer))
            assert explorer.words.values["words"] == repr(explorer) == explorer.snapshot().alt

    def test_the_ring_stands_where_the_map_has_the_network(self):
        explorer = DiversityMap(NETS)
        rings = []
        for name in NETS:
            explorer.choose(network=name)
            rings.append(coloured(explorer.image.value).mean(0))
        points = explorer.maps["masks"].points
        for (one, other), (p, q) in zip(pairwise(rings), pairwise(points), strict=True):
            shift = other - one
            # Right on the map is right in the image, and up is up.
            assert np.sign(shift[1]) == np.sign(q[0] - p[0])
            assert np.sign(-shift[0]) == np.sign(q[1] - p[1])

    def test_another_space_has_another_nearest_network(self):
        explorer = DiversityMap(NETS, {"answers": ANSWERS})
        explorer.choose(network="two", space="answers")
        assert repr(explorer).endswith("By answers, one is nearest, at a distance of 0.8")
        before = explorer.image.value
        explorer.choose(space="masks")
        assert explorer.image.value != before
        expected = 1 - analysis.iou(NETS["two"], NETS["one"]).value
        assert explorer.distances["masks"][2, 1] == pytest.approx(expected)

    def test_walking_takes_less_than_a_tenth_of_a_second(self):
        explorer = DiversityMap(NETS)
        times = [seconds(lambda name=name: explorer.choose(network=name)) for name in ("two", "zero", "one")]
        assert min(times) < 0.1

    def test_one_network_has_a_map_and_none_has_not(self):
        assert repr(DiversityMap({"only": NETS["one"]})) == "Network only has 72 of 240 connections"
        with pytest.raises(ValueError, match="at least one network"):
            DiversityMap({})

    def test_unknown_networks_and_matrices_are_refused(self):
        explorer = DiversityMap(NETS)
        with pytest.raises(ValueError, match="network must be one of zero, one, two, got 'three'"):
            explorer.choose(network="three")
        with pytest.raises(ValueError, match="space must be one of masks"):
            explorer.choose(space="answers")
        with pytest.raises(ValueError, match="symmetric and 0"):
            DiversityMap(NETS, {"overlap": np.ones((3, 3))})

    def test_its_controls_have_names_and_a_notebook_gets_a_still(self):
        explorer = DiversityMap(NETS, groups=["a", "a", "b"])
        assert [field["label"] for field in explorer.controls.fields] == ["Network", "Distances"]
        assert set(explorer._repr_mimebundle_()) >= MIME_TYPES
