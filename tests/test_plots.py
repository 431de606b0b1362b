"""Figures: what they show, that they can be read, and that they leave no trace."""

import ast
import base64
import copy
import dataclasses
import functools
import io
import itertools
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from sparsekit import analysis, plots
from sparsekit.plots import canvas, colours
from sparsekit.plots.palette import LIGHT
from sparsekit.rules import Static
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology
from sparsekit.tricks import Soft
from sparsekit.utils import registry
from sparsekit.utils.registry import names

SHAPES = {"first": (20, 16), "conv": (6, 4, 3, 3), "last": (5, 20)}
NETS = [random_topology(SHAPES, 0.2, seed=seed) for seed in range(4)]


def runs(methods: tuple[str, ...] = ("rigl", "static"), seeds: int = 3) -> pd.DataFrame:
    rows = [
        {"step": step, "epoch": step // 10, "name": name, "value": step / 100 + seed / 50, "method": m, "seed": seed}
        for m, seed, step in itertools.product(methods, range(seeds), range(0, 50, 5))
        for name in ("test accuracy", "train loss")
    ]
    return pd.DataFrame(rows)


def finals() -> pd.DataFrame:
    rows = itertools.product(("rigl", "static"), (0.1, 0.05, 0.01), range(3))
    return pd.DataFrame(
        [{"method": m, "density": d, "seed": s, "accuracy": 0.9 + d / 10 + s / 100} for m, d, s in rows]
    )


def effective() -> pd.DataFrame:
    rows = itertools.product(("uniform", "er"), (0.1, 0.05, 0.01))
    return pd.DataFrame([{"method": m, "nominal": d, "effective": d**1.2} for m, d in rows])


def sampling() -> analysis.Guidance:
    layers = [LayerTopology((4, 6), torch.tensor(indices)) for indices in ([0, 7, 20], [1, 2, 10, 23], [2, 3, 23])]
    inputs, outputs = torch.arange(1, 7) / 21, torch.tensor([0.1, 0.2, 0.3, 0.4])
    topology, candidates, best = layers
    return analysis.Guidance(topology=topology, inputs=inputs, outputs=outputs, candidates=candidates, best=best)


def seconds() -> pd.DataFrame:
    return pd.DataFrame({"dense": [0.004] * 3, "csr": [0.006, 0.002, 0.001]}, index=[1.0, 0.5, 0.1])


def collapse() -> pd.DataFrame:
    """Return two scores on two layers at three densities. In the last one, one of them has emptied its second layer."""
    counts = {"snip": [(20, 12), (9, 3), (4, 0)], "synflow": [(20, 12), (8, 6), (2, 2)]}
    rows = [
        (score, density, layer, size, count, count if pair[1] else 0)
        for score, pairs in counts.items()
        for density, pair in zip((1.0, 0.5, 0.125), pairs, strict=True)
        for layer, size, count in zip(("first", "last"), (20, 12), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=["score", "density", "layer", "size", "kept", "effective"])


def hills() -> analysis.Surface:
    x, y = np.linspace(-1, 2, 7), np.linspace(-1, 1, 5)
    loss = 0.1 + x**2 + y[:, None] ** 2
    places = {
        "a": analysis.PlanePoint(x=0.0, y=0.0),
        "mean": analysis.PlanePoint(x=1.0, y=0.5, residual=1.0, share=0.4),
    }
    return analysis.Surface(x, y, loss, 1 / (1 + loss), places)


def path_table() -> pd.DataFrame:
    return pd.DataFrame({"position": [0, 0.5, 1], "loss": [1.0, 3, 2], "accuracy": [0.9, 0.5, 0.8], "connections": 4})


SPECTRUM = pd.DataFrame({"probe": 0, "eigenvalue": [0.0, 1.0, 5.0], "weight": [0.9, 0.09, 0.01]})
RELIABILITY = analysis.reliability(torch.arange(12.0).view(6, 2) * 0.3 - 2, torch.tensor([0, 1] * 3), bins=5)
DISTANCES = 1 - analysis.topology_similarity_matrix(NETS)[0]


def signals() -> dict[str, pd.DataFrame]:
    column = {"output_std": [1.0, 0.1, 0.01]}
    return {name: pd.DataFrame(column, index=["fc1", "fc2", "head"]) for name in ("unscaled", "scaled")}


def effects() -> pd.DataFrame:
    rows = {"neurons": (0.02, 0.01, 0.03), "skips": (0.0, -0.02, 0.02), "neurons x skips": (-0.03, -0.04, -0.01)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["effect", "low", "high"])


SAMPLING, SECONDS, COLLAPSE = sampling(), seconds(), collapse()
DRAWS = torch.Generator().manual_seed(0)
SCORES = {key: {name: torch.rand(shape, generator=DRAWS) for name, shape in SHAPES.items()} for key in "ab"}
FIGURES = {
    "masks": (plots.plot_masks, (NETS[0],), {}),
    "changed masks": (plots.plot_masks, (NETS[0],), {"before": NETS[1]}),
    "layer densities": (plots.plot_layer_densities, (NETS[0],), {}),
    "densities of several": (plots.plot_layer_densities, ({"er": NETS[0], "erk": NETS[1]},), {}),
    "fan-in": (plots.plot_fan_histogram, (NETS[0]["first"],), {}),
    "fan-out": (plots.plot_fan_histogram, (NETS[0]["conv"],), {"side": "fan_out"}),
    "input map": (plots.plot_input_map, (NETS[0]["first"], (4, 4)), {}),
    "curves": (plots.plot_curves, (runs(),), {}),
    "loss by epoch": (plots.plot_curves, (runs(),), {"name": "train loss", "x": "epoch"}),
    "accuracy": (plots.plot_accuracy_density, (finals(),), {}),
    "churn": (plots.plot_churn, (analysis.churn(NETS),), {"fractions": [0.3, 0.2, 0.1]}),
    "survival": (plots.plot_survival, (analysis.survival(NETS),), {"fractions": [0.3, 0.2, 0.1]}),
    "ages": (plots.plot_ages, (analysis.ages(NETS),), {}),
    "exploration": (plots.plot_exploration, (analysis.exploration(NETS),), {"expected": [0.2, 0.3, 0.4, 0.5]}),
    "explorations": (plots.plot_exploration, ({"set": analysis.exploration(NETS)},), {}),
    "comparison": (plots.plot_comparison_matrix, analysis.topology_similarity_matrix(NETS), {"names": list("abcd")}),
    "effective": (plots.plot_effective_density, (effective(),), {}),
    "guidance": (plots.plot_guidance, (SAMPLING,), {}),
    "sampled ratio": (plots.plot_sampled_ratio, (analysis.sampled_ratios(1.0, (0.1, 0.5)),), {}),
    "recall": (plots.plot_recall, (finals().assign(recall=0.3),), {}),
    "step times": (plots.plot_step_times, (SECONDS,), {}),
    "update times": (plots.plot_update_times, (SECONDS.set_axis([64, 128, 256]),), {}),
    "scores": (plots.plot_scores, (SCORES, {"a": NETS[0], "b": NETS[1]}), {"layer": "first"}),
    "layer collapse": (plots.plot_layer_collapse, (COLLAPSE,), {"score": "snip"}),
    "collapse map": (plots.plot_collapse_map, (COLLAPSE,), {}),
    "useful connections": (plots.plot_useful, (COLLAPSE,), {}),
    "soft units": (plots.plot_soft_units, ([Soft("pswish", beta) for beta in (1.0, 3.0, 20.0)],), {}),
    "signals": (plots.plot_signals, (signals(),), {}),
    "effects": (plots.plot_effects, (effects(),), {}),
    "flops": (plots.plot_flops, (analysis.training_flops_table(analysis.Pass(dense=1.0, sparse=0.02)),), {}),
    "matrix": (plots.plot_matrix, (DISTANCES,), {"measure": "1 - IoU"}),
    "map": (
        plots.plot_map,
        (analysis.classical_mds(DISTANCES),),
        {"names": list("abcd"), "groups": list("xxyy"), "chosen": 1},
    ),
    "tree": (plots.plot_tree, (DISTANCES,), {"names": list("abcd")}),
    "reliability": (plots.plot_reliability, (RELIABILITY,), {"title": "a"}),
    "barriers": (plots.plot_barriers, ({"straight": path_table()},), {}),
    "surface": (plots.plot_surface, (hills(),), {"tracks": {"bent": np.array([[0, 0], [1, 0.5]])}, "cut": 0.3}),
    "surface 3d": (plots.plot_surface_3d, (hills(),), {"tracks": {"bent": np.array([[0, 0], [1, 0.5]])}, "cut": 0.3}),
    "cut": (plots.plot_cut, (hills(),), {"of": "accuracy"}),
    "spectrum": (plots.plot_spectrum, ({"a": SPECTRUM, "b": SPECTRUM},), {}),
}
WITHOUT_AXES = {"masks", "changed masks", "scores"}


def plot_of(name: str, ax=None):
    function, data, settings = FIGURES[name]
    return function(*data, ax=ax, **settings) if ax is not None else function(*data, **settings)


def pixels(figure: Figure) -> np.ndarray:
    painter = FigureCanvasAgg(figure)
    painter.draw()
    return np.asarray(painter.buffer_rgba())[..., :3]


@functools.cache
def image_of(name: str) -> np.ndarray:
    return pixels(plot_of(name).figure)


def spread_of(line) -> tuple[float, float]:
    """Return mean and variance of a distribution drawn as a line."""
    values, weights = line.get_xdata(), line.get_ydata()
    mean = np.average(values, weights=weights)
    return mean, np.average((values - mean) ** 2, weights=weights)


def heights(ax) -> list[float]:
    """Return how high the band of the first line is at each of its points."""
    band = ax.collections[0].get_paths()[0].vertices
    return [np.ptp(band[band[:, 0] == x][:, 1]) for x in ax.lines[0].get_xdata()]


def labels(ax) -> list[str]:
    """Return the names in the legend, or at the lines' ends."""
    return [text.get_text() for text in (ax.get_legend().get_texts() if ax.get_legend() else ax.texts)]


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_it_makes_a_figure_of_its_own_that_shows_something(self, name):
        image = image_of(name)
        packed = image.astype(np.uint32) @ np.array([1, 256, 65_536], dtype=np.uint32)  # a number for each colour
        assert len(np.unique(packed)) > 2

    def test_it_draws_on_the_axes_that_it_is_given(self, name):
        kind = {"projection": "3d"} if name.endswith("3d") else {}
        ax = Figure(figsize=(6, 4)).subplots(subplot_kw=kind)
        assert plot_of(name, ax) is ax
        assert ax.has_data()

    def test_its_axes_are_named_and_its_text_is_large_enough_to_read(self, name):
        ax = plot_of(name)
        if name not in WITHOUT_AXES:
            assert ax.get_xlabel()
            assert ax.get_ylabel()
            sizes = [ax.xaxis.label.get_size(), *(tick.get_size() for tick in ax.get_xticklabels())]
            assert min(sizes) * canvas.PIXELS / 72 >= 12  # pixels of the screen
        assert all(text.get_size() >= 8 for text in ax.texts)

    def test_nothing_is_cut_off_at_the_edge_of_the_figure(self, name):
        image = image_of(name)
        for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
            assert (edge == image[0, 0]).all()

    def test_a_notebook_shows_the_whole_figure_where_a_cell_ends_in_it(self, name):
        ax = plot_of(name)
        formats, metadata = DisplayFormatter().format(ax)
        width, height = PIL.Image.open(io.BytesIO(base64.b64decode(formats["image/png"]))).size
        shown = tuple(round(100 * side) for side in ax.figure.get_size_inches())
        assert (width / 2, height / 2) == pytest.approx(shown, abs=1)
        assert tuple(metadata["image/png"].values()) == shown
        assert formats["text/plain"].startswith("<figure: ")
        assert formats["image/svg+xml"].startswith("<svg ")

    def test_it_leaves_no_trace_in_matplotlib(self, name):
        before = dict(matplotlib.rcParams)
        plot_of(name)
        assert dict(matplotlib.rcParams) == before
        if "matplotlib.pyplot" in sys.modules:
            assert not sys.modules["matplotlib.pyplot"].get_fignums()

    def test_it_leaves_its_data_as_they_were(self, name):
        _, data, _ = FIGURES[name]
        before = copy.deepcopy(data)
        plot_of(name)
        for now, then in zip(data, before, strict=True):
            assert same(now, then)


def same(first, second) -> bool:
    if isinstance(first, pd.DataFrame):
        return first.equals(second)
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if dataclasses.is_dataclass(first):
        return all(same(value, getattr(second, name)) for name, value in vars(first).items())
    if isinstance(first, dict):
        return all(same(first[key], second[key]) for key in first)
    return np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second


def test_no_module_of_the_plots_touches_pyplot_or_the_global_settings():
    for file in Path(plots.__file__).parent.glob("*.py"):
        code = ast.unparse(ast.parse(file.read_text(encoding="utf-8")).body[1:])  # without the docstring
        assert "pyplot" not in code
        assert "rcParams" not in code


class TestMasks:
    @pytest.mark.parametrize("zoom", [1, 3])
    def test_every_position_is_exactly_so_many_pixels_on_the_screen(self, zoom):
        ax = plots.plot_masks(NETS[0], zoom=zoom)
        for text in list(ax.texts):  # which is in ink, too
            text.remove()
        image = pixels(ax.figure)
        ink, paper = (np.round(255 * np.array(to_rgb(c))) for c in (colours.INK, colours.PAPER))
        assert (image == ink).all(-1).sum() == NETS[0].count * zoom**2
        assert (image == paper).all(-1).sum() == (NETS[0].size - NETS[0].count) * zoom**2

    def test_grown_and_dropped_connections_have_colours_of_their_own(self):
        before = LayerTopology((1, 4), torch.tensor([0, 1]))
        now = LayerTopology((1, 4), torch.tensor([1, 2]))
        image = plots.mask_image(now, before) / 255
        expected = [colours.DROPPED, colours.KEPT, colours.GROWN, colours.PAPER]
        assert image[0] == pytest.approx(np.array([to_rgb(colour) for colour in expected]), abs=0.003)

    def test_a_row_of_the_image_is_an_output(self):
        image = plots.mask_image(LayerTopology((2, 1, 1, 3), torch.tensor([3, 4, 5])))
        assert image.shape == (2, 3, 3)
        assert len(np.unique(image[1], axis=0)) == 1
        assert (image[0] != image[1]).any()

    def test_layers_continue_in_the_next_row_where_the_width_ends(self):
        narrow = plots.plot_masks(NETS[0], zoom=2, width=100).figure
        wide = plots.plot_masks(NETS[0], zoom=2, width=2000).figure
        assert narrow.get_figheight() > wide.get_figheight()
        assert narrow.get_figwidth() < wide.get_figwidth()

    def test_impossible_figures_are_refused(self):
        with pytest.raises(ValueError, match="at least one layer"):
            plots.plot_masks(Topology())
        with pytest.raises(ValueError, match="at least 1 screen pixel"):
            plots.plot_masks(NETS[0], zoom=0)
        with pytest.raises(ValueError, match="same layers"):
            plots.plot_masks(NETS[0], before=Topology({"first": NETS[0]["first"]}))


class TestLayers:
    def test_bars_are_as_high_as_the_compression(self):
        ax = plots.plot_layer_densities(NETS[0])
        expected = [layer.size / layer.count for layer in NETS[0].values()]
        assert [bar.get_height() for bar in ax.patches] == pytest.approx(expected)
        assert ax.get_yscale() == "log"

    def test_an_empty_layer_is_hatched_and_said_to_be_empty(self):
        net = Topology({"a": LayerTopology((2, 2), torch.tensor([], dtype=torch.int64)), "b": NETS[0]["first"]})
        ax = plots.plot_layer_densities(net)
        assert ax.patches[0].get_hatch()
        assert ax.texts[0].get_text() == "empty"

    def test_no_topology_is_refused(self):
        for nothing in ({}, Topology(), {"er": Topology()}):
            with pytest.raises(ValueError, match="at least one topology"):
                plots.plot_layer_densities(nothing)

    def test_every_unit_stands_in_one_bar_and_the_line_is_of_the_same_size(self):
        layer = random_topology({"fc": (400, 300)}, 0.1)["fc"]
        ax = plots.plot_fan_histogram(layer)
        assert sum(bar.get_height() for bar in ax.patches) == 400
        assert ax.lines[0].get_ydata().sum() == pytest.approx(400, rel=0.02)

    @pytest.mark.parametrize("density", [0.02, 0.3, 0.8, 1.0])
    @pytest.mark.parametrize(("shape", "side"), [((400, 300), "fan_in"), ((60, 20, 3, 3), "fan_out")])
    def test_the_line_is_what_random_topologies_give_on_average_at_every_density(self, density, shape, side):
        layers = [random_topology({"fc": shape}, density, seed=seed)["fc"] for seed in range(20)]
        fans = torch.cat([layer.fan_in() if side == "fan_in" else analysis.unit_fan_out(layer) for layer in layers])
        line = plots.plot_fan_histogram(layers[0], side=side).lines[0]
        mean, variance = spread_of(line)
        assert mean == pytest.approx(float(fans.double().mean()), rel=0.02)
        assert variance == pytest.approx(float(fans.double().var()), rel=0.3, abs=0.1)
        assert line.get_label() == "random topology (expected)"

    def test_at_low_density_the_line_is_nearly_a_poisson_distribution(self):
        mean, variance = spread_of(plots.plot_fan_histogram(random_topology({"fc": (2000, 900)}, 0.01)["fc"]).lines[0])
        assert variance == pytest.approx(mean, rel=0.05)

    def test_a_layer_without_connections_can_be_looked_at(self):
        empty = LayerTopology((3, 4), torch.tensor([], dtype=torch.int64))
        assert plots.plot_fan_histogram(empty).texts[0].get_text() == "no connections"

    def test_the_input_map_sums_colour_channels(self):
        layer = LayerTopology((2, 12), torch.tensor([0, 4, 8, 12, 3]).sort().values)  # pixel 0 of 3 channels, 3
        ax = plots.plot_input_map(layer, (3, 2, 2))
        assert ax.images[0].get_array().tolist() == [[4, 0], [0, 1]]

    def test_an_image_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="must have 16 pixels"):
            plots.plot_input_map(NETS[0]["first"], (5, 5))

    def test_an_unknown_side_is_refused(self):
        with pytest.raises(ValueError, match="'fan_in' or 'fan_out'"):
            plots.plot_fan_histogram(NETS[0]["first"], side="in")


class TestScores:
    def test_scores_are_shown_as_ranks_in_the_whole_network_above_what_is_kept(self):
        scores = {"big": torch.tensor([[3.0, 2.5]]), "small": torch.tensor([[2.0, 0.0]])}
        topologies = Topology({"big": LayerTopology((1, 2), torch.tensor([0])), "small": LayerTopology.full((1, 2))})
        ax = plots.plot_scores({"mine": scores}, {"mine": topologies}, layer="small", zoom=5)
        image = np.asarray(ax.images[0].get_array())
        ranks = plots.rank_image(torch.tensor([[0.25, 0.0]]))[0]
        for colour, count in ((ranks[0], 25), (ranks[1], 25), (255 * np.array(to_rgb(colours.INK)), 50)):
            assert (image[..., :3] == np.round(colour)).all(-1).sum() == count
        assert [text.get_text() for text in ax.texts] == ["mine", "score, as a rank", "keeps 2 of 2"]
        assert repr(ax) == "<figure: scores of small, and what they keep>"

    def test_methods_without_masks_and_layers_that_are_not_there_are_refused(self):
        one, net = {"a": SCORES["a"]}, {"a": NETS[0]}
        for scores, topologies, layer in (({}, {}, "first"), (one, {}, "first"), (one, net, "x")):
            with pytest.raises(ValueError, match="must have scores and connections of layer"):
                plots.plot_scores(scores, topologies, layer=layer)

    def test_every_layer_has_a_line_and_an_empty_one_stands_at_the_bottom(self):
        ax = plots.plot_layer_collapse(COLLAPSE, score="snip")
        lines = {line.get_label(): line for line in ax.lines}
        assert lines["first"].get_xdata().tolist() == [1, 2, 8]
        assert lines["last"].get_ydata().tolist() == [12, 3, 0.5]
        assert ax.yaxis.get_major_formatter()(0.5) == "none"
        assert ax.get_title("left") == "snip: no layer is empty up to 2×, then last"
        other = plots.plot_layer_collapse(COLLAPSE, score="synflow")
        assert other.get_title("left") == "synflow: no layer loses its last connection"

    def test_hollow_markers_are_those_on_a_path(self):
        ax = plots.plot_layer_collapse(COLLAPSE, score="snip")
        hollow = [line for line in ax.lines if line.get_markerfacecolor() == LIGHT["paper"]]
        assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in hollow] == [([8], [0.5]), ([], [])]

    def test_the_map_has_a_strip_for_each_layer_and_a_cross_where_it_is_empty(self):
        ax = plots.plot_collapse_map(COLLAPSE)
        image = np.asarray(ax.images[0].get_array())
        assert ax.collections[0].get_offsets().tolist() == [[2, 1]]
        assert image.shape == (2 + 1 + 2, 3, 4)
        assert (image[2, :, 3] == 0).all()  # between two scores
        white = (np.abs(image[..., :3] - np.array(to_rgb(colours.PAPER))) < 1e-9).all(-1) & (image[..., 3] == 1)
        assert np.argwhere(white).tolist() == [[1, 2]]
        whole = plots.rank_image(torch.tensor([[1.0]]))[0, 0] / 255
        assert image[0, 0, :3] == pytest.approx(whole, abs=0.005)

    def test_the_share_on_a_path_has_the_colour_of_its_score(self):
        ax = plots.plot_useful(COLLAPSE)
        assert {line.get_label(): line.get_color() for line in ax.lines} == {
            "snip": colours.VERMILLION,
            "synflow": colours.BLUE,
        }
        assert ax.lines[0].get_ydata()[::-1].tolist() == [1, 1, 0]

    def test_other_tables_and_scores_are_refused(self):
        with pytest.raises(ValueError, match="one of snip, synflow, got 'grasp'"):
            plots.plot_layer_collapse(COLLAPSE, score="grasp")
        for plot in (plots.plot_collapse_map, plots.plot_useful):
            with pytest.raises(ValueError, match="without kept"):
                plot(COLLAPSE.drop(columns="kept"))


class TestTraining:
    def test_the_line_is_the_mean_over_seeds_and_the_band_one_standard_error(self):
        ax = plots.plot_curves(runs(("rigl",)))
        rows = runs(("rigl",)).query("name == 'test accuracy'").groupby("step")["value"]
        assert ax.lines[0].get_ydata() == pytest.approx(rows.mean().to_numpy())
        band = ax.collections[0].get_paths()[0].vertices
        at_zero = band[band[:, 0] == 0][:, 1]
        assert np.ptp(at_zero) == pytest.approx(2 * rows.sem().iloc[0])

    def test_one_seed_has_a_line_and_no_band_around_it(self):
        ax = plots.plot_curves(runs(("rigl",), seeds=1).drop(columns=["method", "seed"]))
        vertices = ax.collections[0].get_paths()[0].vertices
        assert np.isfinite(vertices).all()
        assert ax.get_legend() is None

    def test_the_steps_of_an_epoch_are_no_runs_of_their_own(self):
        one = plots.plot_curves(runs(("rigl",), seeds=1), name="train loss", x="epoch")
        mean = one.lines[0].get_ydata()
        assert mean == pytest.approx([0.025, 0.125, 0.225, 0.325, 0.425])  # of steps 0 and 5, 10 and 15, ...
        assert heights(one) == pytest.approx([0] * 5)  # one run has no spread
        three = plots.plot_curves(runs(("rigl",), seeds=3), name="train loss", x="epoch")
        assert heights(three) == pytest.approx([2 * 0.02 / np.sqrt(3)] * 5)  # seeds lie 0.02 apart

    def test_seeds_with_more_steps_in_an_epoch_weigh_no_more(self):
        rows = [("a", 0, 1.0), ("a", 0, 1.0), ("a", 0, 1.0), ("a", 1, 3.0)]
        table = pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(name="loss", epoch=0, step=0)
        assert plots.plot_curves(table, name="loss", x="epoch").lines[0].get_ydata() == pytest.approx([2.0])

    def test_methods_that_share_a_line_keep_their_runs_apart(self):
        table = runs(("rigl", "static"), seeds=1).assign(task="digits")
        table.loc[table["method"] == "static", "value"] += 0.1
        ax = plots.plot_curves(table, by="task")
        assert heights(ax) == pytest.approx([0.1] * 10)  # two runs 0.1 apart have a standard error of 0.05

    def test_the_legend_says_how_many_seeds(self):
        assert labels(plots.plot_curves(runs())) == ["rigl, 3 seeds", "static, 3 seeds"]

    def test_a_number_that_was_not_measured_is_refused_with_those_that_were(self):
        with pytest.raises(ValueError, match="one of test accuracy, train loss, got 'speed'"):
            plots.plot_curves(runs(), name="speed")

    def test_a_table_without_the_columns_is_refused(self):
        with pytest.raises(ValueError, match="none named density, accuracy"):
            plots.plot_accuracy_density(runs())

    def test_sparser_is_to_the_right(self):
        left, right = plots.plot_accuracy_density(finals()).get_xlim()
        assert left > right

    def test_a_density_of_zero_is_refused(self):
        with pytest.raises(ValueError, match="above 0"):
            plots.plot_accuracy_density(finals().assign(density=0.0))


class TestEvolution:
    def test_blind_dropping_is_the_product_of_what_each_rewiring_keeps(self):
        ax = plots.plot_survival(analysis.survival(NETS[:3]), fractions=[0.5, 0.2])
        assert ax.lines[-1].get_ydata().tolist() == pytest.approx([1, 0.5, 0.4])

    def test_a_fraction_for_every_rewiring_is_needed(self):
        with pytest.raises(ValueError, match="one drop fraction per rewiring, got 2"):
            plots.plot_churn(analysis.churn(NETS), fractions=[0.1, 0.1])

    def test_ages_add_up_to_all_connections(self):
        ax = plots.plot_ages(analysis.ages(NETS, starts=[0, 50, 100, 150]), unit="steps")
        assert max(bar.get_y() + bar.get_height() for bar in ax.patches) <= 1
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)

    def test_ages_of_nothing_are_refused(self):
        with pytest.raises(ValueError, match="at least one connection"):
            plots.plot_ages({})

    def test_methods_keep_their_colours(self):
        tables = {"rigl": analysis.exploration(NETS), "gse": analysis.exploration(NETS)}
        ax = plots.plot_exploration(tables)
        assert [line.get_color() for line in ax.lines] == [colours.VERMILLION, colours.BLUE]

    def test_no_table_is_refused(self):
        with pytest.raises(ValueError, match="at least one table"):
            plots.plot_exploration({})


class TestComparing:
    def test_cells_say_how_many_times_the_baseline_they_are(self):
        values, baselines = np.array([[1.0, 0.3], [0.3, 1.0]]), np.full((2, 2), 0.1)
        cells = [text.get_text() for text in plots.plot_comparison_matrix(values, baselines).texts]
        assert cells == ["1", "0.30\n3.0×", "0.30\n3.0×", "1"]

    def test_the_baseline_is_marked_on_the_colour_bar(self):
        values, baselines = analysis.topology_similarity_matrix(NETS)
        figure = plots.plot_comparison_matrix(values, baselines).figure
        marks = [line.get_ydata()[0] for line in figure.axes[1].lines]
        assert marks[-1] == pytest.approx(baselines.mean())

    def test_matrices_of_another_size_are_refused(self):
        with pytest.raises(ValueError, match="each pair of 3 names"):
            plots.plot_comparison_matrix(np.eye(2), np.eye(2), names=["a", "b", "c"])

    def test_a_table_without_effective_densities_is_refused(self):
        with pytest.raises(ValueError, match="none named effective"):
            plots.plot_effective_density(effective().drop(columns="effective"))


class TestCosts:
    def test_the_cheapest_method_is_at_the_top_and_static_training_is_marked(self):
        table = analysis.training_flops_table(analysis.Pass(dense=1.0, sparse=0.01), ["rigl", "dense", "static"])
        ax = plots.plot_flops(table)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["dense", "rigl", "static"]
        assert ax.lines[0].get_xdata()[0] == pytest.approx(0.01)
        assert ax.get_xscale() == "log"

    def test_methods_of_like_cost_stand_on_a_linear_axis_from_zero(self):
        table = analysis.training_flops_table(analysis.Pass(dense=1.0, sparse=0.2), ["rigl", "dense"])
        ax = plots.plot_flops(table)
        assert (ax.get_xscale(), ax.get_xlim()[0]) == ("linear", 0)

    def test_a_table_without_costs_is_refused(self):
        with pytest.raises(ValueError, match="column relative_to_dense"):
            plots.plot_flops(pd.DataFrame())


class TestColours:
    def test_no_two_methods_look_the_same(self):
        assert len(set(plots.STYLES.values())) == len(plots.STYLES)

    def test_every_score_before_training_has_a_colour_of_its_own_while_the_palette_has_one(self):
        colours_of = [style.colour for style in plots.styles_of(names("score")).values()]
        assert len(set(colours_of)) == min(len(names("score")), len(colours.PALETTE)) == 8

    def test_spelling_makes_no_difference(self):
        assert plots.style_of("Top_KAST") == plots.style_of("top-kast") == plots.STYLES["top-kast"]

    def test_an_unknown_method_has_one_style_in_every_session_and_no_known_one(self):
        assert plots.style_of("my new rule") == plots.Style(colour=colours.INK, marker="s", dashes="--")
        assert plots.style_of("my new rule") not in plots.STYLES.values()

    @given(
        st.lists(st.text(min_size=1, max_size=9), max_size=40),
        st.lists(st.sampled_from(sorted(plots.STYLES)), max_size=9),
    )
    @examples(max_examples=60, deadline=None)
    def test_no_two_methods_of_one_figure_look_alike_whatever_they_are_called(self, new, known):
        styles = plots.styles_of([*new, *known])
        spellings = {colours._spelled(name): style for name, style in styles.items()}
        assert len(set(spellings.values())) == len(spellings)
        assert {style.colour for style in spellings.values()} <= set(colours.PALETTE)
        assert plots.styles_of([*known, *reversed(new)]) == styles
        for name in known:
            assert styles[name] == plots.style_of(name)

    @pytest.mark.parametrize("known", [(), ("rigl", "set"), ("dense", "static", "snip", "grasp", "gse", "force")])
    def test_new_methods_have_colours_of_their_own_while_the_palette_has_some(self, known):
        shown = {plots.style_of(name).colour for name in known}
        for seed in range(20):
            new = [f"mine {seed} {number}" for number in range(len(colours.PALETTE) - len(shown))]
            styles = plots.styles_of([*known, *new])
            assert {styles[name].colour for name in new} == set(colours.PALETTE) - shown

    def test_a_figure_that_grows_keeps_the_styles_that_it_has(self):
        figure = Figure()
        left, right = figure.subplots(1, 2)
        first = colours.styles_on(left, ["mine", "rigl"])
        second = colours.styles_on(right, ["mine", *(f"other {number}" for number in range(6))])
        assert second["mine"] == first["mine"]
        assert len({style.colour for style in second.values()}) == 8

    def test_a_method_may_be_registered_with_a_colour_of_its_own(self, monkeypatch):
        monkeypatch.setitem(registry._registered["rule"], "mine", Static)
        monkeypatch.setitem(registry._facts, ("rule", "mine"), registry.Facts(colour="#123456"))
        assert plots.style_of("Mine").colour == "#123456"

    def test_numbered_things_begin_with_different_colours(self):
        first = [plots.numbered(number).colour for number in range(7)]
        assert len(set(first)) == 7
        assert first[:3] == [LIGHT[name] for name in ("plus", "minus", "third")]
        assert len({plots.numbered(number) for number in range(24)}) == 24

    @pytest.mark.parametrize("cones", ["all", "protan", "deutan", "tritan"])
    def test_colour_blind_readers_tell_any_two_families_apart(self, cones):
        """Simulated after Machado, Oliveira and Fernandes (2009), severity 1.0, in linear light."""
        simulated = [(CONES[cones] @ np.array(to_rgb(c)) ** 2.4).clip(0, 1) ** (1 / 2.4) for c in colours.PALETTE]
        # This is a tenth of an axis of the colour cube. The closest pair of this palette is 0.116 apart.
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(simulated, 2)) > 0.1

    def test_the_masks_have_the_colours_of_the_widgets(self):
        widgets = pytest.importorskip("sparsekit.widgets.colours")
        ours = (colours.PAPER, colours.INK, colours.KEPT, colours.GROWN, colours.DROPPED)
        assert ours == (widgets.PAPER, widgets.INK, widgets.KEPT, widgets.BORN, widgets.DROPPED)


CONES = {
    "all": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def test_shares_are_written_with_no_more_digits_than_they_need():
    assert [canvas.in_percent(share) for share in (0.0, 0.0012, 0.05, 1 / 3)] == ["0 %", "0.12 %", "5 %", "33.3 %"]


class TestGuidance:
    def test_every_position_has_the_colour_of_what_became_of_it(self):
        image = np.asarray(plots.plot_guidance(SAMPLING).images[0].get_array())
        assert image.shape == (4, 6, 3)
        colour = {index: tuple(image[index // 6, index % 6]) for index in (0, 1, 2, 3, 5)}
        expected = dict.fromkeys((1, 2), LIGHT["faint"]) | {0: LIGHT["soft"]} | dict.fromkeys((3, 5), colours.PAPER)
        assert colour == {index: to_rgb(tone) for index, tone in expected.items()}

    def test_large_gradients_have_dots_where_they_were_sampled_and_rings_where_not(self):
        dots, rings = plots.plot_guidance(SAMPLING).collections
        assert dots.get_offsets().tolist() == [[2, 0], [5, 3]]
        assert rings.get_offsets().tolist() == [[3, 0]]
        assert not len(rings.get_facecolor())

    def test_the_legend_counts_them(self):
        assert labels(plots.plot_guidance(SAMPLING)) == [
            "connections: 3",
            "candidates: 4",
            "largest gradients, missed: 1",
            "found: 2",
        ]

    def test_the_bars_are_the_probabilities(self):
        top, right = plots.plot_guidance(SAMPLING).child_axes
        assert top.collections[0].get_datalim(top.transData).y1 == pytest.approx(6 / 21)
        assert right.collections[0].get_datalim(right.transData).x1 == pytest.approx(0.4)

    @pytest.mark.parametrize("plot", [plots.plot_sampled_ratio, plots.plot_recall])
    def test_tables_without_their_columns_are_refused(self, plot):
        with pytest.raises(ValueError, match="must have columns"):
            plot(pd.DataFrame({"other": [1]}))

    def test_methods_stand_at_their_mean_recall_and_accuracy(self):
        runs = pd.DataFrame({"method": ["a", "a", "b"], "recall": [0.2, 0.2, 1.0], "accuracy": [0.5, 0.7, 0.9]})
        ax = plots.plot_recall(runs)
        assert [text.get_text() for text in ax.texts] == ["a", "b"]
        assert [text.xy for text in ax.texts] == [pytest.approx((0.2, 0.6)), pytest.approx((1.0, 0.9))]


class TestTimes:
    def test_the_promise_is_the_dense_time_times_the_density(self):
        ax = plots.plot_step_times(SECONDS)
        lines = {line.get_label(): line for line in ax.lines}
        assert lines["promised by operations"].get_ydata().tolist() == pytest.approx([4.0, 2.0, 0.4])
        assert lines["csr"].get_xdata().tolist() == pytest.approx([0.0, 0.5, 0.9])
        assert lines["csr"].get_ydata().tolist() == pytest.approx([6.0, 2.0, 1.0])

    def test_a_break_even_is_marked_at_its_sparsity(self):
        ax = plots.plot_step_times(SECONDS, even=0.3)
        (mark,) = [line for line in ax.lines if line.get_label() == "break-even at 70 %"]
        assert list(mark.get_xdata()) == pytest.approx([0.7, 0.7])

    def test_times_without_a_dense_one_and_none_at_all_are_refused(self):
        with pytest.raises(ValueError, match="column dense"):
            plots.plot_step_times(SECONDS[["csr"]])
        with pytest.raises(ValueError, match="at least one width"):
            plots.plot_update_times(pd.DataFrame())


class TestTricks:
    def test_a_unit_is_drawn_as_it_is_and_its_gap_is_named(self):
        ax = plots.plot_soft_units([Soft("pswish", 1.0)])
        x, y = ax.lines[1].get_data()
        assert y == pytest.approx(x / (1 + np.exp(-x)), abs=1e-5)
        assert labels(ax) == ["ReLU", "pswish, beta 1: gap 0.278"]

    def test_signals_are_drawn_layer_by_layer_on_a_logarithmic_scale(self):
        ax = plots.plot_signals(signals())
        assert ax.get_yscale() == "log"
        assert list(ax.lines[0].get_ydata()) == [1.0, 0.1, 0.01]
        with pytest.raises(ValueError, match=r"must be tables with a column 'loudness', got unscaled, scaled"):
            plots.plot_signals(signals(), column="loudness")

    def test_an_interval_that_leaves_out_zero_stands_out(self):
        ax = plots.plot_effects(effects())
        intervals = {
            tuple(np.round(line.get_xdata(), 6).tolist()): line.get_color()
            for line in ax.lines
            if len(line.get_xdata()) == 2
        }
        assert intervals[1.0, 3.0] == intervals[-4.0, -1.0] == colours.INK
        assert intervals[-2.0, 2.0] == LIGHT["soft"]
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["neurons x skips", "skips", "neurons"]
        with pytest.raises(ValueError, match="must come from factorial_effects, got one without effect"):
            plots.plot_effects(effects().drop(columns="effect"))


# --- whatever users name things -------------------------------------------------------------------

FORMULA, HIDDEN = r"$\foo$", "_fc"
NAMED = Topology(dict(zip((FORMULA, HIDDEN, "a$b"), NETS[0].values(), strict=True)))
LATER = Topology(dict(zip(NAMED, NETS[1].values(), strict=True)))


def renamed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a table whose first two names in a column are odd ones."""
    first, second, *_ = dict.fromkeys(table[column])
    return table.assign(**{column: table[column].replace({first: FORMULA, second: HIDDEN})})


ODD_NAMES = {
    "masks": lambda: plots.plot_masks(NAMED),
    "layer densities": lambda: plots.plot_layer_densities(NAMED),
    "densities of several": lambda: plots.plot_layer_densities({FORMULA: NETS[0], HIDDEN: NETS[1]}),
    "curves": lambda: plots.plot_curves(renamed(runs(), "method")),
    "what is drawn": lambda: plots.plot_curves(runs().replace("train loss", FORMULA), name=FORMULA),
    "accuracy": lambda: plots.plot_accuracy_density(renamed(finals(), "method")),
    "churn": lambda: plots.plot_churn(analysis.churn([NAMED, LATER])),
    "survival": lambda: plots.plot_survival(analysis.survival([NAMED, LATER])),
    "ages": lambda: plots.plot_ages(analysis.ages([NAMED, LATER])),
    "exploration": lambda: plots.plot_exploration(analysis.exploration([NAMED, LATER])),
    "explorations": lambda: plots.plot_exploration(dict.fromkeys((FORMULA, HIDDEN), analysis.exploration(NETS))),
    "effective": lambda: plots.plot_effective_density(renamed(effective(), "method")),
    "recall": lambda: plots.plot_recall(renamed(finals().assign(recall=0.3), "method")),
    "step times": lambda: plots.plot_step_times(SECONDS.rename(columns={"csr": FORMULA})),
    "update times": lambda: plots.plot_update_times(SECONDS.set_axis([1, 2, 3]).rename(columns={"csr": FORMULA})),
    "scores": lambda: plots.plot_scores({FORMULA: {FORMULA: SCORES["a"]["first"]}}, {FORMULA: NAMED}, layer=FORMULA),
    "layer collapse": lambda: plots.plot_layer_collapse(renamed(COLLAPSE, "layer"), score="snip"),
    "collapse of a score": lambda: plots.plot_layer_collapse(renamed(COLLAPSE, "score"), score=FORMULA),
    "collapse map": lambda: plots.plot_collapse_map(renamed(COLLAPSE, "score")),
    "useful connections": lambda: plots.plot_useful(renamed(COLLAPSE, "score")),
    "signals": lambda: plots.plot_signals({FORMULA: signals()["unscaled"], HIDDEN: signals()["scaled"]}),
    "layers of signals": lambda: plots.plot_signals({"a": signals()["unscaled"].rename(index={"fc1": FORMULA})}),
    "effects": lambda: plots.plot_effects(effects().rename(index={"neurons": FORMULA})),
    "flops": lambda: plots.plot_flops(pd.DataFrame({"relative_to_dense": [0.5, 1.0]}, index=[FORMULA, "dense"])),
    "matrix": lambda: plots.plot_matrix(DISTANCES, names=[FORMULA, *"bcd"], measure=FORMULA),
    "comparison": lambda: plots.plot_comparison_matrix(
        *analysis.topology_similarity_matrix(NETS), names=[FORMULA, *"bcd"]
    ),
    "map": lambda: plots.plot_map(
        analysis.classical_mds(DISTANCES), names=[FORMULA, *"bcd"], groups=[FORMULA, HIDDEN, "x", "x"], space=FORMULA
    ),
    "tree": lambda: plots.plot_tree(DISTANCES, names=[FORMULA, *"bcd"], measure=FORMULA),
    "reliability": lambda: plots.plot_reliability(RELIABILITY, title=FORMULA),
    "barriers": lambda: plots.plot_barriers({FORMULA: path_table(), HIDDEN: path_table()}),
    "surface": lambda: plots.plot_surface(odd_hills(), tracks={FORMULA: np.array([[0, 0], [1, 0.5]])}),
    "surface 3d": lambda: plots.plot_surface_3d(odd_hills(), tracks={FORMULA: np.array([[0, 0], [1, 0.5]])}),
    "spectrum": lambda: plots.plot_spectrum({FORMULA: SPECTRUM, HIDDEN: SPECTRUM}),
    "superposition": lambda: plots.plot_superposition({"ticket 0": 0.8, FORMULA: 0.9}, [0]),
    "methods": lambda: plots.plot_methods(
        pd.DataFrame({"method": [FORMULA, "rigl"], "accuracy": [0.9, 0.8], "error": 0.01, "seeds": 3})
    ),
}


def odd_hills() -> analysis.Surface:
    return dataclasses.replace(hills(), points=dict(zip((FORMULA, HIDDEN), hills().points.values(), strict=True)))


ONE_NAME = {"what is drawn", "step times", "update times", "scores", "layers of signals", "effects", "flops", "matrix"}
ONE_NAME |= {"comparison", "tree", "reliability", "superposition", "methods", "collapse of a score"}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_shown_as_they_are_whatever_they_look_like(name):
    ax = ODD_NAMES[name]()
    pixels(ax.figure)
    written = [text.get_text() for text in ax.figure.findobj(matplotlib.text.Text)]
    written = [text for text in written if "mathdefault" not in text]  # powers of ten
    assert all(text.count("$") == text.count(r"\$") for text in written)
    assert FORMULA in " ".join(written).replace(r"\$", "$")
    assert name in ONE_NAME or HIDDEN in " ".join(written)


def test_bars_that_begin_at_0_are_not_said_to_begin_elsewhere():
    far, near = ({"ticket 0": 0.7, "superposed": low} for low in (0.1, 0.69))
    assert plots.plot_superposition(far, [0]).get_xlabel() == "test accuracy"
    assert plots.plot_superposition(near, [0]).get_xlabel() == "test accuracy (the axis does not begin at 0)"
