"""Figures of landscapes and of diversity show the numbers of their data."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from test_plots import DISTANCES, RELIABILITY, SPECTRUM, hills, labels, path_table

from sparsekit import analysis, plots
from sparsekit.plots.palette import LIGHT


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


class TestMatrices:
    def test_every_cell_has_its_number_and_every_network_its_name(self):
        values = np.array([[0.0, 0.5], [0.25, 0.0]])
        ax = plots.plot_matrix(values, names=["a", "b"])
        assert texts(ax) == ["0", "0.5", "0.25", "0"]
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]

    def test_a_table_brings_its_names(self):
        ax = plots.plot_matrix(pd.DataFrame([[1.0, 2.0]], index=["fc1"], columns=["fc1", "head"]))
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["fc1", "head"]

    def test_another_number_of_names_is_refused(self):
        with pytest.raises(ValueError, match=r"for each of 3 names, got \(4, 4\)"):
            plots.plot_matrix(DISTANCES, names=list("abc"))
        with pytest.raises(ValueError, match="for each of 3 names"):
            plots.plot_tree(DISTANCES, names=list("abc"))


class TestMapsAndTrees:
    def test_points_lie_where_the_map_says_and_groups_have_a_look_each(self):
        projection = analysis.classical_mds(DISTANCES)
        ax = plots.plot_map(projection, names=list("abcd"), groups=list("xyxy"), chosen=3)
        first, second, ring = ax.collections
        assert np.asarray(first.get_offsets()) == pytest.approx(projection.points[[0, 2]])
        assert np.asarray(second.get_offsets()) == pytest.approx(projection.points[[1, 3]])
        assert np.asarray(ring.get_offsets()) == pytest.approx(projection.points[[3]])
        assert labels(ax) == ["x", "y"]
        assert texts(ax) == list("abcd")
        assert f"{100 * projection.share:.3g} % of the spread" in ax.get_title("left")

    def test_other_numbers_of_names_and_groups_are_refused(self):
        with pytest.raises(ValueError, match="for each of 4 networks, got 1 and 1"):
            plots.plot_map(analysis.classical_mds(DISTANCES), names=["a"])

    def test_the_tree_joins_at_the_distances(self):
        distances = np.array([[0, 5, 1, 5], [5, 0, 5, 2], [1, 5, 0, 5], [5, 2, 5, 0]], dtype=float)
        ax = plots.plot_tree(distances, names=list("abcd"))
        assert sorted(max(line.get_ydata()) for line in ax.lines) == [1, 2, 5]
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "c", "b", "d"]


class TestReliability:
    def test_bars_are_the_accuracies_of_bins_that_have_samples(self):
        ax = plots.plot_reliability(RELIABILITY, title="net")
        filled = RELIABILITY[RELIABILITY["count"] > 0]
        assert [bar.get_height() for bar in ax.patches] == filled["accuracy"].tolist()
        assert [bar.get_x() for bar in ax.patches] == filled["low"].tolist()
        assert ax.get_title("left").startswith("net: calibration error 0.")

    def test_no_samples_are_said(self):
        table = RELIABILITY.assign(count=0)
        assert texts(plots.plot_reliability(table)) == ["no samples"]


class TestLandscapes:
    def test_paths_are_their_values_above_the_line_between_their_ends(self):
        ax = plots.plot_barriers({"straight": path_table()})
        path, line = ax.lines
        assert path.get_ydata().tolist() == [1, 3, 2]
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 1], [1, 2])
        assert len(plots.plot_barriers({"straight": path_table()}, of="connections").lines) == 1
        with pytest.raises(ValueError, match="a column 'height'"):
            plots.plot_barriers({"straight": path_table()}, of="height")

    def test_networks_off_the_plane_are_hollow_and_say_how_far(self):
        ax = plots.plot_surface(hills(), tracks={"bent": np.array([[0, 0], [1, 0.5]])}, cut=0.3)
        track, a, mean, cut = ax.lines
        assert labels(ax) == ["bent", "a", "mean (40 % off)"]
        assert a.get_markerfacecolor() != LIGHT["surface"]
        assert mean.get_markerfacecolor() == LIGHT["surface"]
        assert (mean.get_xdata(), mean.get_ydata()) == ([1.0], [0.5])
        assert track.get_xdata().tolist() == [0, 1]
        assert cut.get_ydata() == [0.3, 0.3]

    def test_a_wide_range_of_losses_is_shown_by_its_logarithm_and_accuracy_never(self):
        assert isinstance(plots.plot_surface(hills()).collections[0].norm, LogNorm)
        assert plots.plot_cut(hills()).get_yscale() == "log"
        assert not isinstance(plots.plot_surface(hills(), of="accuracy").collections[0].norm, LogNorm)
        assert plots.plot_cut(hills(), of="accuracy").get_yscale() == "linear"

    def test_a_cut_is_the_row_nearest_to_it(self):
        surface = hills()
        ax = plots.plot_cut(surface, y=0.4)
        assert ax.lines[0].get_ydata().tolist() == surface.loss[3].tolist()
        assert ax.get_title("left") == "the cut at 0.50"

    def test_the_heights_of_the_landscape_are_those_of_the_surface(self):
        ax = plots.plot_surface_3d(hills())
        assert ax.get_zlabel() == "log10 of the loss"
        point = ax.lines[0].get_data_3d()
        assert [float(side[0]) for side in point] == pytest.approx([0, 0, np.log10(0.1)])
        with pytest.raises(ValueError, match="three-dimensional axes, got Axes"):
            plots.plot_surface_3d(hills(), Figure().subplots())

    def test_tracks_lie_on_the_landscape(self):
        surface = hills()
        track = np.array([[0, 0], [0.6, 0.1], [1, 0.5]])
        line = plots.plot_surface_3d(surface, tracks={"bent": track}).lines[0]
        x, y, height = (np.asarray(side) for side in line.get_data_3d())
        assert (x.tolist(), y.tolist()) == (track[:, 0].tolist(), track[:, 1].tolist())
        nearest = [(np.abs(surface.y - b).argmin(), np.abs(surface.x - a).argmin()) for a, b in track]
        assert height.tolist() == [np.log10(surface.loss[index]) for index in nearest]
        assert line.get_label() == "bent"

    def test_flat_surfaces_and_losses_without_bound_can_be_drawn(self):
        flat = hills()
        for value in (1.0, float("nan")):
            loss = np.full_like(flat.loss, value)
            plots.plot_surface(analysis.Surface(flat.x, flat.y, loss, flat.accuracy))
        spiked = flat.loss.copy()
        spiked[0, 0] = np.inf
        plots.plot_surface(analysis.Surface(flat.x, flat.y, spiked, flat.accuracy))

    def test_only_loss_and_accuracy_can_be_shown(self):
        for plot in (plots.plot_surface, plots.plot_surface_3d, plots.plot_cut):
            with pytest.raises(ValueError, match="'loss' or 'accuracy', got 'height'"):
                plot(hills(), of="height")

    def test_the_density_adds_up_to_one_and_has_its_bulk_where_the_weight_is(self):
        ax = plots.plot_spectrum(SPECTRUM)
        x, y = ax.lines[0].get_data()
        assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)
        assert x[np.argmax(y)] == pytest.approx(0, abs=0.05)
        assert torch.isfinite(torch.tensor(y)).all()
