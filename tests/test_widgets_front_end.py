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
from sparsekit.widgets import Curve, MaskTiles, TopologyFilm, colours, mask_encoding
from sparsekit.widgets.base import STATIC, load_script, load_style
from sparsekit.widgets.film import frame_rgba
from sparsekit.widgets.mask_deltas import write_gaps

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
MODULES = ("controls", "curve", "film", "mask_tiles", "table")


@pytest.fixture
def node(tmp_path):
    """Run lines of JavaScript over a widget's module, with `data` as input and `say(value)` as answer."""

    def run(names: tuple[str, ...], data: object, lines: str) -> object:
        (tmp_path / "module.mjs").write_text(load_script(*names), encoding="utf-8")
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


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_one_that_a_browser_can_read(node, name):
    names = ("shared", "mask_deltas", name) if name == "film" else ("shared", name)
    assert node(names, None, "say(typeof m.default.render);") == "function"


def test_every_script_belongs_to_a_widget():
    others = {"shared", "mask_deltas", "branches", "evolution", "method_chart", "race", "small_graph"}
    assert {path.stem for path in STATIC.glob("*.js")} == {*MODULES, *others}


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
    assert stored == [18, 53, 91, 255]


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
    table = [colours.rgb(colour) for colour in (colours.PAPER, colours.INK, colours.BORN, colours.DROPPED)]
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
