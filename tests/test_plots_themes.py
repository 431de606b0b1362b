"""Drawings of figures follow light and dark pages, and names at the ends of lines stay apart."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_plots import NETS, pixels, runs

from sparsekit import plots
from sparsekit.plots import canvas, naming, vector
from sparsekit.plots.palette import DARK, LIGHT


def drawing(ax) -> str:
    return vector.drawing_of(ax.figure, canvas.sentence_of(ax.figure))


def two_lines(ends: tuple[float, float] = (0.5, 0.52), ax=None):
    ax = canvas.axes_for(ax)
    for name, end in zip("ab", ends, strict=True):
        ax.plot([0, 1], [0, end], label=name)
    naming.name_lines(ax)
    return ax


def test_a_drawing_names_its_colours_and_brings_both_palettes():
    text = drawing(plots.plot_curves(runs()))
    assert "var(--rigl)" in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    for name in ("paper", "rigl", "static"):
        assert f"--{name}:{LIGHT[name]}" in style.partition("@media")[0]
        assert f"--{name}:{DARK[name]}" in style.partition("@media")[2]
    assert not re.search(r"(fill|stroke): #", text), "a colour that does not follow the theme"


def test_a_drawing_says_what_it_shows_and_is_the_same_every_time():
    ax = plots.titled(plots.plot_curves(runs()), 'RigL & Static end at "one" point')
    root = ET.fromstring(drawing(ax))
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'RigL & Static end at "one" point, of rigl, 3 seeds, static, 3 seeds'
    assert (root.get("width"), root.get("height")) == ("640", "400")
    assert drawing(ax) == drawing(ax)


def test_images_in_tones_of_grey_turn_over_on_dark_pages_and_coloured_ones_do_not():
    assert 'class="grey"' in drawing(plots.plot_masks(NETS[0]))
    _, (ax,) = plots.subplots()
    ax.imshow(np.eye(3), cmap="viridis")
    assert "<image" in drawing(ax)
    assert 'class="grey"' not in drawing(ax)


def test_light_surface_and_ink_become_the_dark_ones():
    slope, intercept = vector._to_night()
    for name in ("surface", "ink"):
        night = (slope * vector._channels(LIGHT[name]) / 255 + intercept).clip(0, 1)
        assert to_hex(night) == DARK[name]


def test_an_image_has_the_same_pixels_in_fewer_bytes():
    ax = plots.plot_masks(NETS[0], zoom=3)
    plain, small = io.BytesIO(), base64.b64decode(ax._repr_mimebundle_()[0]["image/png"])
    ax.figure.savefig(plain, format="png", dpi=200)
    images = [np.asarray(PIL.Image.open(file).convert("RGB")).astype(int) for file in (plain, io.BytesIO(small))]
    assert np.abs(images[0] - images[1]).max() <= 8
    assert len(small) < len(plain.getvalue())


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
@examples(max_examples=60, deadline=None)
def test_names_stay_apart_in_their_order_and_within_the_axes(places):
    found = naming.spread(places, 11.0, 0.0, 100.0)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 11.0 - 1e-6).all()
    assert min(found) >= -1e-6
    assert max(found) <= 100.0 + 1e-6
    assert naming.spread(found, 11.0, 0.0, 100.0) == pytest.approx(found)


def test_lines_that_end_at_the_right_edge_have_their_names_there():
    ax = two_lines()
    assert ax.get_legend() is None
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert {text.arrow_patch.get_edgecolor() for text in ax.texts} != {ax.texts[0].arrow_patch.get_edgecolor()}
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not boxes[0].overlaps(boxes[1])


@pytest.mark.parametrize("why", ["crowded", "ends early", "no room beside"])
def test_names_that_do_not_fit_stand_in_a_legend(why):
    ax = Figure().subplots(1, 2)[0] if why == "no room beside" else canvas.axes_for(None)
    for number in range(12 if why == "crowded" else 2):
        ax.plot([0, 1], [0, number], label=str(number))
    if why == "ends early":
        ax.set_xlim(0, 9)
    naming.name_lines(ax)
    assert ax.get_legend() is not None
    assert not ax.texts


def test_a_long_title_continues_in_the_next_line():
    _, (left, right) = plots.subplots(1, 2, width=6.0)
    sentence = "Connections that were drawn once and kept learn less than those that RigL rewires"
    assert plots.titled(left, sentence).get_title("left").replace("\n", " ") == sentence
    assert left.get_title("left").count("\n") >= 1
    assert "\n" not in plots.titled(right, "A short one").get_title("left")
    assert sentence in canvas.sentence_of(left.figure)


def test_maps_before_and_after_can_share_one_scale():
    _, (before, after) = plots.subplots(1, 2, width=9.0)
    for ax in (before, after):
        plots.plot_input_map(NETS[0]["first"], (4, 4), ax, high=3.0)
    assert {ax.images[0].get_clim() for ax in (before, after)} == {(0, 3.0)}


def test_curves_of_the_same_values_are_both_seen():
    table = runs()
    ax = plots.plot_curves(pd.concat([table, table.assign(method="other")]))
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == len(widths)


def test_a_title_above_masks_moves_no_pixel_of_them():
    without, titled = (plots.plot_masks(NETS[0], zoom=3) for _ in range(2))
    plots.titled(titled, "What is left")
    before, after = (pixels(ax.figure) for ax in (without, titled))
    assert after.shape[0] > before.shape[0]
    assert (after[-before.shape[0] :] == before).all()
