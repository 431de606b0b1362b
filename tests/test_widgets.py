"""Masks in notebooks are sent, counted and drawn without a browser, and none is needed here."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from sparsekit.analysis.structure.metrics import layer_table
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import allocate
from sparsekit.topology.selection import keep_top_per_layer, random_topology
from sparsekit.widgets import LayerTable, MaskExplorer, MaskTiles, RankedScores, colours, mask_encoding, rendering
from sparsekit.widgets.base import STATIC
from sparsekit.widgets.sharing import write_state

SHAPES = {"fc1": (24, 13), "conv": (8, 3, 3, 3), "head": (10, 24)}


@pytest.fixture
def scores():
    """Make two scores for a small network, of which "even" has many equal ones."""
    generator = torch.Generator().manual_seed(0)
    return {
        "random": {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()},
        "even": {name: torch.randint(3, shape, generator=generator).float() for name, shape in SHAPES.items()},
    }


def unpack(widget: MaskTiles) -> dict[str, np.ndarray]:
    """Read the masks back from exactly what the browser gets."""
    raw, masks, start = np.frombuffer(widget.bits, np.uint8), {}, 0
    for tile in widget.layers:
        stride = -(-tile["cols"] // 8)
        rows = raw[start : start + tile["rows"] * stride].reshape(tile["rows"], stride)
        masks[tile["name"]] = np.unpackbits(rows, axis=1)
        start += rows.size
    assert start == raw.size
    return masks


def count_colour(png: bytes, colour: str) -> int:
    """Count the pixels of one colour in a PNG."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return int((pixels == colours.rgb(colour)).all(axis=2).sum())


# --- what is sent ---------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 40), st.integers(0, 99))
def test_packed_rows_give_back_the_mask(rows, cols, seed):
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.3
    packed = mask_encoding.pack((rows, cols), mask)
    assert packed.rows.shape == (rows, -(-cols // 8))
    assert np.array_equal(packed.mask(), mask)


def test_the_first_position_is_the_most_significant_bit():
    layer = LayerTopology((2, 9), torch.tensor([0, 8, 16]))
    assert mask_encoding.pack_layer(layer).rows.tolist() == [[0b10000000, 0b10000000], [0b00000001, 0]]


def test_the_browser_gets_every_connection_and_no_other():
    topology = random_topology(SHAPES, 0.2)
    for name, bits in unpack(MaskTiles(topology)).items():
        layer = topology[name]
        expected = layer.mask().reshape(layer.num_outputs, -1).numpy()
        assert np.array_equal(bits[:, : layer.num_inputs], expected)
        assert not bits[:, layer.num_inputs :].any()  # what fills up a row is no connection


def test_a_convolution_is_shown_as_a_matrix_of_outputs_by_inputs():
    tile = MaskTiles(random_topology(SHAPES, 0.2)).layers[1]
    assert (tile["rows"], tile["cols"]) == (8, 27)


def test_packed_rows_give_back_the_topology():
    topology = random_topology(SHAPES, 0.2)
    assert Topology({name: bits.topology() for name, bits in mask_encoding.pack_topology(topology).items()}) == topology


def test_names_and_bits_come_in_one_message(monkeypatch):
    widget, messages = MaskTiles(random_topology(SHAPES, 0.2)), []
    monkeypatch.setattr(MaskTiles, "send_state", lambda self, key=None: messages.append(set(key)))
    widget.show(random_topology({"other": (5, 5)}, 0.2))
    assert messages == [{"layers", "bits", "captions", "alt"}]


# --- what is counted ------------------------------------------------------------------------------


@given(st.integers(0, 99), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_the_numbers_beside_the_masks_are_those_of_the_analysis(seed, density):
    topology = random_topology({"fc": (12, 9), "conv": (6, 4, 3, 3)}, density, seed=seed)
    table = layer_table(topology)
    for facts in mask_encoding.all_facts(mask_encoding.pack_topology(topology)):
        row = table.loc[facts.name]
        numbers = (facts.count, facts.density, facts.min_fan_in, facts.dead_outputs, facts.dead_inputs)
        expected = (row["count"], row["density"], row["fan_in_min"], row["dead_outputs"], row["dead_inputs"])
        assert numbers == pytest.approx(expected)


def test_dead_units_are_counted_by_hand():
    mask = torch.zeros(3, 2, 2, 2, dtype=torch.bool)
    mask[0, 1, 0, 1] = mask[0, 1, 1, 1] = mask[2, 1, 0, 0] = True  # output 1 and input channel 0 stay unused
    facts = mask_encoding.facts_of("conv", mask_encoding.pack_layer(LayerTopology.of_mask(mask)))
    assert (facts.count, facts.min_fan_in, facts.dead_outputs, facts.dead_inputs) == (3, 0, 1, 1)


def test_the_table_has_a_row_per_layer_and_their_sum():
    facts = [mask_encoding.LayerFacts("a", (10, 20), 20, 1, 0, 3), mask_encoding.LayerFacts("b", (5, 10), 0, 0, 5, 10)]
    assert mask_encoding.table_rows(facts) == [
        ["a", "10 × 20", "20", "10.0 %", "10.0×", "1", "0", "3"],
        ["b", "5 × 10", "0", "0 %", "–", "0", "5", "10"],
        ["Network", "", "20", "8.0 %", "12.5×", "0", "5", "13"],
    ]


def test_a_network_without_sparse_layers_says_so():
    widget = MaskTiles(Topology())
    assert widget.sentence() == "There are no sparse layers."
    assert widget.snapshot()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1, "100 %"), (0.005, "0.50 %"), (0.5, "50.0 %"), (0.9995, "99.95 %")]
)
def test_a_share_is_never_rounded_to_nothing_or_everything(share, text):
    assert mask_encoding.percent(share) == text


# --- the explorer ---------------------------------------------------------------------------------


@given(st.sampled_from(["uniform", "er", "erk"]), st.floats(0.01, 1.0), st.sampled_from(["random", "even"]))
def test_ranking_once_keeps_what_sorting_every_time_keeps(allocation, density, score):
    generator = torch.Generator().manual_seed(0)
    scores = {
        "random": {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()},
        "even": {name: torch.randint(3, shape, generator=generator).float() for name, shape in SHAPES.items()},
    }
    expected = keep_top_per_layer(scores[score], allocate(SHAPES, density, allocation))
    assert RankedScores(scores).topology_at(density, allocation, score) == expected


def test_the_browser_s_choice_is_the_topology(scores):
    explorer = MaskExplorer(scores, density=0.1, allocation="uniform", score="random")
    explorer.choice = {"density": 0.25, "allocation": "uniform", "score": "random"}  # as a message of the browser does
    assert explorer.density == 0.25
    assert explorer.topology == explorer.masks_at(0.25, "uniform", "random")


def test_the_browser_gets_a_rank_for_every_position_and_counts_for_every_stop(scores):
    explorer = MaskExplorer(scores, density=0.037)
    (ranks, counts), size = (np.frombuffer(one, "<i4") for one in (explorer.ranks[1]["bytes"], explorer.counts)), 768
    assert ranks.shape == (size,)
    counts = counts.reshape(len(explorer.allocations), len(explorer.densities), len(SHAPES))
    chosen = counts[explorer.allocations.index("erk"), explorer.densities.index(0.037)]
    assert dict(zip(SHAPES, chosen.tolist(), strict=True)) == allocate(SHAPES, 0.037, "erk")
    kept = np.split(ranks, np.cumsum([math.prod(shape) for shape in SHAPES.values()])[:-1])
    masks = {name: rank < count for (name, rank, count) in zip(SHAPES, kept, chosen, strict=True)}
    topology = explorer.masks_at(0.037, "erk", "even")
    assert all(np.array_equal(masks[name], topology[name].mask().flatten().numpy()) for name in SHAPES)


def test_every_density_that_is_asked_for_becomes_a_stop(scores):
    explorer = MaskExplorer(scores)
    explorer.choose(density=0.123456)
    assert 0.123456 in explorer.densities
    assert explorer.densities == sorted(explorer.densities, reverse=True)
    assert len(explorer.counts) == 4 * len(explorer.allocations) * len(explorer.densities) * len(SHAPES)


def test_accuracy_is_measured_once_for_every_choice(scores):
    asked = []
    explorer = MaskExplorer(scores, density=0.5, accuracy=lambda topology: asked.append(topology) or topology.density)
    explorer.choose(density=0.1)
    explorer.choose(density=0.5)
    assert [one.count for one in asked] == [384, 77]
    assert explorer.accuracy == 0.5
    assert repr(explorer).endswith("It classifies 50.0% correctly.")


def test_an_accuracy_that_fails_is_said_in_the_figure_and_the_masks_follow(scores):
    explorer = MaskExplorer(scores, density=0.5, accuracy=lambda topology: 1 / (topology.count - 77))
    explorer.choose(density=0.1)
    assert explorer.problem == "ZeroDivisionError: division by zero"
    assert (explorer.topology.count, explorer.accuracy) == (77, None)
    explorer.choose(density=0.2)
    assert explorer.problem == ""


def test_another_allocation_or_score_gives_other_masks(scores):
    explorer = MaskExplorer(scores, density=0.2)
    masks = [explorer.topology]
    explorer.choose(allocation="uniform")
    masks.append(explorer.topology)
    explorer.choose(score="even")
    masks.append(explorer.topology)
    assert masks[0] != masks[1] != masks[2]


def test_settings_that_cannot_be_are_refused_and_the_masks_stay(scores):
    explorer = MaskExplorer(scores, density=0.1)
    for settings, message in (({"density": 0.0}, r"lie in \(0, 1\]"), ({"score": "best"}, "random, even")):
        with pytest.raises(ValueError, match=message):
            explorer.choose(**settings)
    assert (explorer.density, explorer.choice["score"]) == (0.1, "random")


def test_the_browser_offers_every_allocation_score_and_preset(scores):
    explorer = MaskExplorer(scores)
    assert {"uniform", "er", "erk"} <= set(explorer.allocations)
    assert [one["name"] for one in explorer.ranks] == ["random", "even"]
    assert explorer.presets[1] == {"text": "Try 98 % ERK", "density": 0.02, "allocation": "erk"}


def test_a_copied_state_builds_the_same_explorer(scores):
    explorer = MaskExplorer(scores)
    explorer.choose(density=0.013, allocation="uniform", score="even")
    assert MaskExplorer(scores, state=write_state(explorer.choice)).topology == explorer.topology
    for state, message in (("densty=0.1", "must name some of density"), ("density=few", "density must be a number")):
        with pytest.raises(ValueError, match=message):
            MaskExplorer(scores, state=state)


def test_scores_of_different_networks_are_refused(scores):
    scores["even"].pop("head")
    with pytest.raises(ValueError, match="same layers and shapes"):
        MaskExplorer(scores)


def test_scores_that_are_no_numbers_are_refused(scores):
    scores["even"]["head"][0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        MaskExplorer(scores)


def test_no_scores_at_all_are_refused():
    with pytest.raises(ValueError, match="at least one score"):
        MaskExplorer({})


def test_an_unknown_score_is_refused_and_the_known_are_listed(scores):
    with pytest.raises(ValueError, match="random, even"):
        MaskExplorer(scores, score="magnitude")


# --- stills and sentences -------------------------------------------------------------------------


def test_a_still_has_one_dark_pixel_per_connection():
    topology = random_topology({"fc": (40, 50)}, 0.1)
    image = rendering.tile(mask_encoding.pack_layer(topology["fc"]))
    dark = (image[..., :3] == colours.rgb(colours.INK)).all(axis=2)
    assert np.array_equal(dark, topology["fc"].mask().numpy())


def test_the_explorers_still_grows_darker_with_density(scores):
    explorer = MaskExplorer(scores, density=0.1)
    few = count_colour(explorer.snapshot(), colours.INK)
    explorer.choose(density=0.6)
    assert count_colour(explorer.snapshot(), colours.INK) > 3 * few


def test_a_displayed_explorer_is_a_widget_an_image_and_a_sentence(scores):
    bundle = MaskExplorer(scores, density=0.1)._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"])[:4] == b"\x89PNG"
    assert bundle["text/plain"].startswith("90 % sparsity, erk, random scores: 3 layers have 77 of 768 connections (")


def test_the_same_settings_give_the_same_still_and_sentence(scores):
    first, second = MaskExplorer(scores), MaskExplorer(scores)
    assert first.snapshot() == second.snapshot()
    assert repr(first) == repr(second)
    assert not re.search(r"0x[0-9a-f]{6,}", repr(first))


def test_a_still_shows_itself_in_a_notebook():
    image = MaskTiles(random_topology(SHAPES, 0.2)).snapshot()
    assert DisplayFormatter().format(image)[0] == {"image/png": bytes(image), "text/plain": image.alt}


def test_a_table_reads_as_text():
    table = LayerTable()
    table.show([mask_encoding.LayerFacts("a", (10, 20), 20, 1, 0, 3)])
    assert "a  10 × 20  20  10.0 %" in table.sentence()
    assert table.caption == "1 layer has 20 of 200 connections (10.0 %, 10.0× fewer), 0 dead outputs and 3 dead inputs."
    assert table.snapshot().alt == table.sentence()


# --- looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "cols", "size"),
    [(64, 64, (256, 256)), (10, 256, (256, 30)), (256, 10, (30, 256)), (512, 4608, (256, 28)), (2, 2, (28, 28))],
)
def test_a_tile_is_as_large_as_it_can_be_read(rows, cols, size):
    width, height = mask_encoding.tile_size(rows, cols, 256)
    assert width <= 256 or width == cols
    assert (min(width, height) >= 28, (width, height)) == (True, size) or (rows, cols) == (512, 4608)


def test_masks_can_be_told_from_their_ground_by_everybody():
    assert colours.contrast(colours.INK, colours.PAPER) >= 7
    assert colours.contrast(colours.BORN, colours.PAPER) >= 3
    assert colours.contrast(colours.DROPPED, colours.PAPER) >= 3


def test_lines_differ_by_their_dashes_too():
    assert len(set(colours.DASHES)) == len(colours.DASHES) == len(colours.OKABE_ITO)


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_the_front_end_fetches_nothing(path):
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name that nobody fetches
    assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}/|\bimport\b|\bfetch\(|XMLHttpRequest|url\((?!#)", text)


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_every_script_is_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300  # as modules have at most


def test_no_widget_draws_with_pyplot_or_prints():
    sources = {path.name: path.read_text(encoding="utf-8") for path in STATIC.parent.glob("*.py")}
    shown_at_once = sources.pop("cards.py")  # which a reader's own call shows, in a notebook or as a printed sentence
    assert "matplotlib.pyplot" not in shown_at_once
    assert not [name for name, text in sources.items() if "matplotlib.pyplot" in text or "IPython.display" in text]
    assert [name for name, text in sources.items() if re.search(r"(?<![\w.])print\(", text)] == []
