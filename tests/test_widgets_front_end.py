"""Node runs the browser's half, which reads back exactly what Python packed. Without node the tests skip aloud."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch

from sparsekit.plots.palette import DARK, LIGHT
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.topology.selection import draw_distinct, random_topology
from sparsekit.widgets import Curve, MaskExplorer, MaskTiles, TopologyFilm, colours, mask_encoding, score_explorer
from sparsekit.widgets.base import STATIC, FrontEndWidget, load_script, load_style
from sparsekit.widgets.film import frame_rgba
from sparsekit.widgets.frames import key_of
from sparsekit.widgets.mask_deltas import write_gaps
from sparsekit.widgets.sharing import read_state

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
EXPLORER = ("chart", "copy_code", "layer_rows")  # what travels in front of every explorer's module


@pytest.fixture
def node(tmp_path):
    """Run lines of JavaScript over a widget's module, with `data` as input and `say(value)` as answer."""

    def run(script: str | tuple[str, ...], data: object, lines: str) -> object:
        module = script if isinstance(script, str) else load_script(*script)
        (tmp_path / "module.mjs").write_text(module, encoding="utf-8")
        (tmp_path / "data.json").write_text(json.dumps(data), encoding="utf-8")
        (tmp_path / "test.mjs").write_text(
            "import * as m from './module.mjs';\nimport { readFileSync } from 'node:fs';\n"
            "const data = JSON.parse(readFileSync('data.json', 'utf8'));\n"
            "const bytes = text => new Uint8Array(Buffer.from(text, 'base64'));\n"
            f"const say = value => console.log(JSON.stringify(value));\n{lines}\n",
            encoding="utf-8",
        )
        result = subprocess.run([NODE, "test.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def journal():
    journal, generator = Journal(random_topology({"fc": (13, 21), "wide": (3, 400)}, 0.2)), torch.Generator()
    for number in range(5):
        dropped, grown = {}, {}
        for name, layer in journal[number].items():
            dropped[name] = layer.indices[draw_distinct(layer.count, layer.count // 3, generator)]
            grown[name] = layer.missing_at(draw_distinct(layer.size - layer.count, layer.count // 4, generator))
        journal.add(10 * number, TopologyUpdate(dropped, grown))
    return journal


def front_ends(base=FrontEndWidget):
    """Return every widget class that has a script."""
    return [
        one
        for child in base.__subclasses__()
        for one in (child, *front_ends(child))
        if isinstance(getattr(one, "_esm", None), str)
    ]


@pytest.mark.parametrize("widget", front_ends(), ids=lambda widget: widget.__name__)
def test_every_script_is_one_that_a_browser_can_read(node, widget):
    assert node(widget._esm, None, "say(typeof m.default.render);") == "function"


def test_every_script_belongs_to_a_widget():
    scripts = "".join(widget._esm for widget in front_ends())
    assert [path.name for path in STATIC.glob("*.js") if path.read_text(encoding="utf-8") not in scripts] == []


@pytest.mark.parametrize("shape", [(5, 8), (5, 13), (7, 3), (1, 64), (9, 1)])
def test_the_browser_paints_one_pixel_per_position(node, shape):
    topology = random_topology({"fc": shape}, 0.4)
    widget = MaskTiles(topology)
    painted = node(
        ("shared", "mask_tiles"),
        {"bits": text_of(widget.bits), "rows": shape[0], "cols": shape[1]},
        "const pixels = new Uint32Array(data.rows * data.cols);"
        "m.paintRows(pixels, bytes(data.bits), data.rows, data.cols, m.byteTable(0, 1)); say([...pixels]);",
    )
    assert painted == topology["fc"].mask().reshape(-1).int().tolist()


def test_colours_are_stored_as_a_canvas_stores_them(node):
    stored = node(("shared",), colours.INK, "say([...new Uint8Array(new Uint32Array([m.rgba(data)]).buffer)]);")
    assert stored == [22, 25, 29, 255]


def test_bytes_inside_a_larger_message_start_at_their_offset(node):
    lines = "say([...m.bytesOf(new DataView(new Uint8Array([9, 9, 1, 2, 3, 9]).buffer, 2, 3))]);"
    assert node(("shared",), None, lines) == [1, 2, 3]


WALK = """const walker = m.makeWalker(bytes(data.base), bytes(data.gaps), data.delta_sizes, data.rows, data.cols);
say(data.visits.map(frame => [...walker.goTo(frame)]));"""


@pytest.mark.parametrize("visits", [[0, 1, 2, 3, 4, 5], [5, 0, 3, 3, 1, 4]])
def test_the_browser_makes_every_frame_forwards_and_backwards(node, journal, visits):
    for layer in TopologyFilm(journal).layers:
        data = {key: text_of(value) if isinstance(value, bytes) else value for key, value in layer.items()}
        masks = node(("shared", "mask_deltas", "film"), {**data, "visits": visits}, WALK)
        expected = [journal[number][layer["name"]].mask().reshape(-1).int().tolist() for number in visits]
        assert masks == expected


PAINT = """const walker = m.makeWalker(bytes(data.base), bytes(data.gaps), data.delta_sizes, data.rows, data.cols);
const pixels = new Uint32Array(data.rows * data.cols);
m.paintFrame(pixels, walker, data.frame, { paper: 0, kept: 1, born: 2, dropped: 3 }, data.shows);
say([...pixels]);"""


@pytest.mark.parametrize("frame", [0, 1, 5])
def test_the_browser_colours_a_frame_as_the_still_does(node, journal, frame):
    film = TopologyFilm(journal)
    data = {key: text_of(value) if isinstance(value, bytes) else value for key, value in film.layers[0].items()}
    shows = {"born": True, "kept": True, "dropped": True}
    kinds = node(("shared", "mask_deltas", "film"), {**data, "frame": frame, "shows": shows}, PAINT)
    table = [colours.rgb(colour) for colour in (colours.PAPER, colours.KEPT, colours.BORN, colours.DROPPED)]
    still = frame_rgba(film.films["fc"], frame)[..., :3].reshape(-1, 3)
    assert [table[kind] for kind in kinds] == [tuple(pixel) for pixel in still.tolist()]


@pytest.mark.parametrize(("halvings", "text"), [(0, "0.0 %"), (6, "98.4 %"), (7, "99.22 %"), (12, "99.98 %")])
def test_a_slider_of_halvings_says_the_sparsity_that_is_left(node, halvings, text):
    assert node(("shared", "controls"), halvings, "say(m.formats.halvings(data));") == text


@pytest.mark.parametrize(("hidden", "number"), [("kept", 1), ("born", 2), ("dropped", 3)])
def test_each_kind_of_connection_can_be_switched_off(node, journal, hidden, number):
    data = {
        key: text_of(value) if isinstance(value, bytes) else value
        for key, value in TopologyFilm(journal).layers[0].items()
    }
    shows = {kind: kind != hidden for kind in ("born", "kept", "dropped")}
    kinds = node(("shared", "mask_deltas", "film"), {**data, "frame": 2, "shows": shows}, PAINT)
    assert set(kinds) == {0, 1, 2, 3} - {number}


def test_the_browser_reads_the_points_of_every_line(node):
    chart = Curve("loss")
    chart.show({"train": ([0, 1, 2], [3.0, 2.0, 1.5]), "test": ([2], [1.75])})
    lines = "say(m.linesOf(bytes(data.points), data.series).map(line => [line.name, [...line.xs], [...line.ys]]));"
    lines_drawn = node(("shared", "curve"), {"points": text_of(chart.points), "series": chart.series}, lines)
    assert lines_drawn == [["train", [0, 1, 2], [3.0, 2.0, 1.5]], ["test", [2], [1.75]]]


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 5, 3], [1, 5]), ([2, 2], [1.5, 2.5]), ([], [0, 1]), ([None, 4, 6], [4, 6])]
)
def test_an_axis_holds_every_number_and_has_room(node, values, expected):
    lines = "say(m.rangeOf([data.map(value => value ?? NaN)]));"
    assert node(("shared", "curve"), values, lines) == expected


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [(0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 150, 6, [0, 50, 100, 150]), (-1, 1, 4, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round_numbers(node, low, high, count, expected):
    assert node(("shared",), [low, high, count], "say(m.ticks(...data));") == expected


def test_tiles_carry_as_many_bytes_as_the_browser_expects():
    widget = MaskTiles(random_topology({"a": (5, 13), "b": (4, 2, 3, 3)}, 0.5))
    expected = sum(tile["rows"] * int(np.ceil(tile["cols"] / 8)) for tile in widget.layers)
    assert len(widget.bits) == expected == len(mask_encoding.join_rows(widget.packed_masks))


def test_the_browser_reads_positions_and_half_floats_that_python_wrote(node):
    places, values = np.array([0, 5, 6, 300, 70_000]), np.array([0.5, -1e-5, 65504, 0, np.inf], dtype=np.float16)
    data = {"gaps": text_of(write_gaps(places)), "halves": text_of(values.tobytes())}
    lines = "say([[...m.positions(bytes(data.gaps), 5)], [...m.halves(bytes(data.halves), 5)].map(String)]);"
    read, numbers = node(("shared",), data, lines)
    assert read == places.tolist()
    assert [float(number.replace("Infinity", "inf")) for number in numbers] == values.astype(float).tolist()


def test_hints_are_offered_one_by_one_and_the_last_is_named(node):
    said = node(
        ("shared", "card"), [[0, 3], [1, 3], [2, 3], [3, 3], [0, 1], [0, 0]], "say(data.map(x => m.hintLabel(...x)))"
    )
    assert said == ["Give me a hint", "Another hint", "The last hint", "", "Give me a hint", ""]


def test_a_row_of_a_question_says_what_it_is_only_after_the_choice(node):
    cases = [[1, -1, 1], [0, 0, -1], [0, 0, 1], [1, 0, 1], [1, 1, 1], [2, 0, 1]]
    said = node(("shared", "predict"), cases, "say(data.map(x => m.roleOf(...x)))")
    assert said == ["", "your guess", "your guess", "so it is", "your guess, and so it is", ""]


def test_style_sheet_and_figures_have_one_palette():
    style = load_style()
    light, dark = (dict(re.findall(r"--sk-(\w+):\s*(#\w{6});", part)) for part in style.split("body[data-jp", 1))
    assert light == dict(LIGHT)
    assert dark == dict(DARK)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_that_says_something_stands_out_from_its_paper(palette):
    least = {name: 2.7 if name == "set" else 3 for name in set(palette) - {"paper", "surface", "faint", "line"}}
    ratios = {name: colours.contrast(palette[name], palette["paper"]) for name in least}
    assert all(ratios[name] >= least[name] for name in least), ratios  # SET also has a marker and a label in ink


# --- explorers ----------------------------------------------------------------------------------------------------

MASKS = ("shared", *EXPLORER, "input_map", "mask_explorer")
KEEP = """const all = m.integers(bytes(data.counts));
const counts = m.countsAt(all, data.stops, data.layers.length, data.allocation, data.stop);
const ranks = m.cut(m.integers(bytes(data.ranks)), data.layers);
const kept = ranks.map((layer, index) => m.makeKept(layer, data.layers[index]));
const moved = [3, 60, 1, 0, 40].map(count => kept[0].moveTo(count).length); // up and down, and then where it must be
kept.forEach((one, index) => one.moveTo(counts[index]));
say([kept.map(one => [...one.isKept]), kept.map(one => one.facts()),
  [...kept[0].readers], [...m.readersOf(kept[0].isKept, data.layers[0], 2)],
  moved, kept.map((one, index) => m.countLayer(one.isKept, data.layers[index]))]);"""


@pytest.mark.parametrize("allocation", ["erk", "uniform"])
def test_the_browser_keeps_and_counts_exactly_what_python_does(node, allocation):
    shapes = {"fc": (12, 16), "conv": (6, 4, 3, 3)}
    explorer = MaskExplorer(
        {
            "even": {
                name: torch.arange(shape[0] * 16 % 7 + 1).repeat(300)[: np.prod(shape)].reshape(shape).float()
                for name, shape in shapes.items()
            }
        },
        density=0.07,
    )
    explorer.choose(allocation=allocation)
    data = {
        "counts": text_of(explorer.counts),
        "ranks": text_of(explorer.ranks[0]["bytes"]),
        "layers": explorer.layers,
        "stops": len(explorer.densities),
        "stop": explorer.densities.index(0.07),
        "allocation": explorer.allocations.index(allocation),
    }
    kept, counted, readers, of_row, moved, recounted = node(MASKS, data, KEEP)
    assert moved == [3, 57, 59, 1, 40]
    assert counted == recounted
    topology = explorer.topology
    assert kept == [layer.mask().flatten().int().tolist() for layer in topology.values()]
    facts = [(one.count, one.min_fan_in, one.dead_outputs, one.dead_inputs) for one in explorer.facts]
    assert [(one["count"], one["least"], one["deadOutputs"], one["deadInputs"]) for one in counted] == facts
    assert readers == topology["fc"].mask().sum(0).tolist()
    assert of_row == topology["fc"].mask()[2].int().tolist()


def test_the_title_says_what_is_left_and_what_reads_nothing(node):
    lines = """say([m.titleOf(2662, 266200, 0.354, null), m.titleOf(2662, 266200, null, null),
      m.titleOf(2662, 266200, null, { count: 3, of: 10, name: 'head' })]);"""
    assert node(MASKS, None, lines) == [
        "2,662 of 266,200 connections classify 35.4 % correctly",
        "2,662 of 266,200 connections are left",
        "2,662 of 266,200 connections are left, and 3 of 10 outputs of head read nothing",
    ]


def test_a_logarithmic_curve_gives_few_connections_as_much_room_as_many(node):
    lines = "say([[0.1, 0.01].map(x => m.shareOf(x, [1, 0.001], true)), m.nearestStop(data, [1, 0.001], 0.66, true)]);"
    shares, stop = node(("shared", "chart"), [1, 0.1, 0.02, 0.01, 0.001], lines)
    assert shares == pytest.approx([1 / 3, 2 / 3])
    assert stop == 3


@pytest.mark.parametrize("is_log", [False, True])
def test_where_the_reader_drags_is_found_on_every_axis(node, is_log):
    ends = [1000, 8] if is_log else [0, 855]
    lines = "say(data.values.map(v => m.unshare(m.shareOf(v, data.ends, data.log), data.ends, data.log)));"
    values = [ends[0], 300, 40, ends[1]]
    back = node(("shared", "chart"), {"values": values, "ends": ends, "log": is_log}, lines)
    assert back == pytest.approx(values)
    lines = "say([m.unshare(-1, data, false), m.unshare(2, data, false)]);"
    assert node(("shared", "chart"), ends, lines) == ends


def test_labels_move_apart_and_stay_above_the_axis(node):
    assert node(("shared",), None, "say(m.spread([50, 50, 100, 99], 15, 100));") == [50, 65, 100, 85]


def test_a_copied_state_is_read_by_python_as_it_was_written(node):
    values = {"density": 0.013, "score": "at the start, 100 %", "halving": 8}
    (state, code) = node(
        ("shared", "copy_code"), values, "say([m.stateText(data), m.codeOf('Explorer(state=\"{state}\")', data)]);"
    )
    assert read_state(state, {"density": 1.0, "score": "", "halving": 0}) == values
    assert code == f'Explorer(state="{state}")'


def test_the_browser_reads_which_connections_lie_on_a_path(node):
    topology = random_topology({"a": (5, 7), "b": (3, 5)}, 0.4)
    part = random_topology({"a": (5, 7), "b": (3, 5)}, 0.2, seed=1) & topology
    bits = bytes(7) * 2 + score_explorer.planes(topology) + score_explorer.planes(part)
    module = ("shared", *EXPLORER, "score_explorer")
    kinds = node(module, text_of(bits), "say([...m.kindsAt(bytes(data), 50, 1)]);")
    masks = [torch.cat([layer.mask().flatten().int() for layer in one.values()]) for one in (topology, part)]
    assert kinds == sum(masks).tolist()


def test_a_position_is_a_candidate_from_its_first_draw_on(node):
    lines = """const first = m.firstDraws(data, 5);
    say([[...m.candidateKinds(first, [2], 2)], m.recallAfter(first, [1, 4], 2), m.recallAfter(first, [1, 4], 4)]);"""
    module = ("shared", *EXPLORER, "guidance_explorer")
    assert node(module, [1, 2, 1, 4], lines) == [[0, 2, 1, 0, 0], 0.5, 1]


def test_an_axis_of_a_running_training_begins_at_zero_and_never_shrinks(node):
    module = ("shared", "curve")
    lines = (
        "say([m.growingEnds([[2.3, 1.1]], null), m.growingEnds([[0.4]], [0, 3]), m.growingEnds([[-1, 2]], [0, 3])]);"
    )
    assert node(module, None, lines) == [[0, 3], [0, 3], [-1, 3]]


def test_a_smooth_line_keeps_a_level_and_lies_between_its_points(node):
    values = [1.0] * 10 + [None] + [0.5, 1.0] * 30
    smooth = node(("shared", "curve"), values, "say([...m.smoothed(data.map(v => v ?? NaN))]);")
    assert smooth[:10] == pytest.approx([1.0] * 10)
    assert smooth[10] is None
    assert all(0.5 < value < 1 for value in smooth[12:])


def test_a_rewired_layer_shows_what_was_born_and_what_was_dropped(node):
    lines = """const pixels = new Uint32Array(4);
    m.paintChange(pixels, new Uint8Array([0b11000000]), new Uint8Array([0b10100000]), 1, 4, [0, 1, 2, 3]);
    say([...pixels]);"""
    assert node(("shared", "mask_tiles"), None, lines) == [1, 2, 3, 0]


@pytest.mark.parametrize("values", [{"power": 2.0, "colour": "red"}, {"b": 0.25, "a": True}, {"level": 4}])
def test_browser_and_python_name_a_setting_alike(node, values):
    assert node(("shared", "frames"), values, "say(m.keyOfValues(data));") == key_of(values)
