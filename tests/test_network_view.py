"""The living network: what Python records and sends, and what the browser computes from it, which equals torch."""

import itertools
import json

import numpy as np
import pytest
import torch
import traitlets
from test_widgets_front_end import NODE, node, text_of  # noqa: F401  # a fixture
from torch import nn

import sparsekit as sk
from sparsekit.experiments.recipes import digits_small
from sparsekit.widgets import NetworkFilm, NetworkView, Run, film_of, live_training
from sparsekit.widgets.network_frames import frame_of, matrices, on_paths, outputs_of, shapes_of_chain, starts_of
from sparsekit.widgets.network_order import order_of_units
from sparsekit.widgets.network_view import PARTS, SCRIPTS

in_node = pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
ALL = ("shared", "copy_code", *SCRIPTS, *PARTS)


def small_data(num_inputs: int = 12, num_classes: int = 4, count: int = 40) -> sk.datasets.Dataset:
    draws = torch.Generator().manual_seed(1)
    inputs = torch.rand(count, num_inputs, generator=draws)
    labels = torch.randint(num_classes, (count,), generator=draws)
    split = sk.datasets.Split(inputs=inputs, labels=labels)
    return sk.datasets.Dataset(
        name="mine", train=split, test=split, classes=tuple("abcdefgh"[:num_classes]), source="made up"
    )


def network(*hidden: int, density: float = 0.5, bias: bool = True, num_inputs: int = 12) -> nn.Module:
    torch.manual_seed(0)
    model = sk.models.build("mlp", input_shape=(num_inputs,), num_classes=4, hidden=hidden, bias=bias)
    if density == 1:
        return model
    return sk.sparsify(model, sk.random_topology(sk.shapes_of(model), density, seed=0))


NETWORKS = {
    "two hidden layers": lambda: network(9, 7),
    "one hidden layer without biases": lambda: network(8, bias=False),
    "dense and deep": lambda: network(6, 5, 4, density=1),
}


@pytest.fixture(scope="module")
def film() -> NetworkFilm:
    """A film of a network that is rewired three times."""
    film, rule = NetworkFilm(network(9, 7), small_data()), sk.rules.SET(stop=40, every=6)
    optimizer = torch.optim.SGD(film.model.parameters(), lr=0.1)
    batches = itertools.repeat((film.data.train.inputs, film.data.train.labels), 20)
    for _ in film.record(sk.training(film.model, optimizer, batches, nn.functional.cross_entropy, rule)):
        pass
    return film


def test_a_film_has_a_frame_just_before_each_rewiring_and_one_of_the_end(film):
    assert [frame.step for frame in film.frames] == [0, 6, 12, 18, 20]
    assert [frame.rewiring for frame in film.frames] == [0, 1, 2, 3, 4]
    assert len({frame.count for frame in film.frames}) == 1
    last = frame_of(film.model)
    assert np.array_equal(film.frames[-1].values, last.values)
    grown = set(film.frames[2].positions.tolist()) - set(film.frames[1].positions.tolist())
    values = dict(zip(film.frames[2].positions.tolist(), film.frames[2].values.tolist(), strict=True))
    assert grown
    assert any(values[position] != 0 for position in grown)  # they have had time to learn, where a path crosses them


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_frame_computes_what_the_network_does(make):
    model, inputs = make(), torch.rand(16, 12)
    outputs = outputs_of(shapes_of_chain(model), frame_of(model), inputs.numpy())
    assert np.allclose(outputs, model(inputs).detach().numpy(), atol=1e-5)


def test_a_film_of_an_experiment_ends_with_the_network_of_its_run(tmp_path):
    experiment = digits_small(rule="rigl", density=0.05, epochs=1, rule_settings={"every": 5})
    film, history = film_of(experiment), sk.run(experiment, tmp_path, progress=False)
    assert np.array_equal(film.frames[-1].values, frame_of(sk.load_model(history.folder)).values)
    assert film.frames[-1].accuracy == history.last("test accuracy")
    view = NetworkView.of_run(history.folder)
    assert view.film.frames[-1].accuracy == history.last("test accuracy")
    assert view.facts["image"] == [8, 8]


def test_a_long_film_keeps_its_length_in_bounds():
    film = NetworkFilm(network(3), small_data(), every=1)
    for _ in film.record(range(1000)):
        pass
    steps = [frame.step for frame in film.frames]
    assert len(film) <= 240
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, 1000)


def test_a_loop_that_is_left_early_still_has_its_last_frame():
    film = NetworkFilm(network(3), small_data())
    for step in film.record(range(100)):
        if step == 9:
            break
    assert film.frames[-1].step == 10


def test_large_weights_stay_float32():
    model = network(3, density=1)
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    assert frame_of(model).rounded().values.dtype == np.float32
    assert frame_of(network(3)).rounded().values.dtype == np.float16


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(12, 4), "chain of two or more linear layers"),
        (nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4)), "ReLU between any two"),
        (nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(6, 4)), "chain"),
        (nn.Sequential(nn.Linear(12, 600), nn.ReLU(), nn.Linear(600, 4)), "at most 6,000 connections"),
        (nn.Sequential(nn.Linear(13, 5), nn.ReLU(), nn.Linear(5, 4)), "must take 12 inputs"),
    ],
)
def test_a_network_that_cannot_be_drawn_is_refused(model, said):
    with pytest.raises(ValueError, match=said):
        NetworkView(model, small_data())


def test_other_wrong_inputs_are_refused():
    with pytest.raises(TypeError, match="needs the data"):
        NetworkView(network(3))
    with pytest.raises(ValueError, match="at least one network"):
        NetworkView({})
    with pytest.raises(ValueError, match="same examples"):
        NetworkView({"a": NetworkFilm(network(3), small_data()), "b": NetworkFilm(network(3), small_data(count=30))})
    with pytest.raises((ValueError, traitlets.TraitError), match="the state must be as in"):
        NetworkView(network(3), small_data(), state="step=now")
    with pytest.raises(ValueError, match="without tricks"):
        film_of(digits_small(tricks=(sk.tricks.LabelSmoothing(),)))


def test_the_sentence_counts_what_lies_on_no_path(film):
    last = film.frames[-1]
    idle = int((~on_paths(film.shapes, last)).sum())
    effective = sk.analysis.effective_topology(sk.topology_of(film.model)).count
    assert idle == last.count - effective
    view = NetworkView({"one": film, "two": network(3)}, film.data)
    assert f"{idle} connections lie on no path" in view.sentence()
    assert "Another is two." in view.sentence()
    assert view.snapshot().startswith(b"\x89PNG")


def test_a_live_run_sends_new_frames_and_the_whole_film_in_the_end():
    film = NetworkFilm(network(9, 7), small_data(), every=5)
    optimizer = torch.optim.SGD(film.model.parameters(), lr=0.1)
    batches = itertools.repeat((film.data.train.inputs, film.data.train.labels))
    steps = live_training(
        film.model, optimizer, batches, nn.functional.cross_entropy, sk.rules.SET(stop=20, every=4), steps=20
    )
    run = Run(film.record(steps), total=20)
    view, messages = NetworkView(film, run=run), []
    view.observe(lambda change: messages.append(len(change.new)), "frame")
    run.wait(timeout=60)
    assert messages
    assert max(messages) < 8000
    assert view.networks[0]["film"] == film.encode()
    assert film.frames[-1].step == 20


def test_the_order_keeps_every_unit_and_moves_neighbours_together():
    model = network(9, 7)
    shapes, frame = shapes_of_chain(model), frame_of(model)
    order = order_of_units(shapes, frame)
    assert sorted(itertools.chain(*order)) == list(range(12 + 9 + 7 + 4))
    assert order[0] == list(range(12))
    assert length_of_lines(shapes, frame, order) < 0.8 * length_of_lines(shapes, frame, [sorted(one) for one in order])


def length_of_lines(shapes, frame, order) -> float:
    """Return how far, weighted by magnitude, the lines run across the columns."""
    across = [np.empty(len(one)) for one in order]
    for column, units in enumerate(order):
        across[column][np.array(units) - min(units)] = (np.arange(len(units)) + 0.5) / len(units)
    return sum(
        (np.abs(weight) * np.abs(across[layer + 1][:, None] - across[layer][None])).sum()
        for layer, weight in enumerate(matrices(shapes, frame))
    )


def test_a_cell_continues_with_the_network_that_the_reader_sees(film):
    view = NetworkView(film)
    assert view.current_frame().accuracy == film.frames[-1].accuracy
    layer, unit = divmod(int(film.frames[-1].positions[0]), 12)[0], 3
    view.kept, view.cut_units, view.cut_links = 40, [[1, unit]], [[0, layer, int(film.frames[-1].positions[0]) % 12]]
    left = view.current_frame()
    first, second, _ = matrices(film.shapes, left)
    assert not first[unit].any()
    assert not second[:, unit].any()
    assert film.frames[-1].positions[0] not in left.positions
    assert left.count <= 40
    assert NetworkView(film, state="step=6").current_frame().step == 6


# --- the browser's half ---------------------------------------------------------------------------------------------


def sent(view: NetworkView) -> dict:
    one = view.networks[0]
    return {"shapes": one["shapes"], "film": text_of(one["film"]), "order": one["order"]}


OPEN = """const chain = m.chainOf(data.shapes), frames = m.readFrames(bytes(data.film));
const last = frames.at(-1), links = m.linksOf(chain, last, frames.at(-2));
"""


@in_node
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_forward_pass_in_the_browser_equals_torch(node, make):  # noqa: F811
    model, data = make(), small_data()
    view = NetworkView(model, data)
    lines = """const { inputs, count } = data, rows = new Float32Array(inputs.length);
    for (let n = 0; n < count; n++) for (let k = 0; k < 12; k++) rows[k * count + n] = inputs[n * 12 + k];
    const act = m.forward(chain, links, last.biases, rows, count);
    const examples = { inputs: rows, labels: data.labels, count };
    say([[...act.slice(chain.outputs * count)], m.accuracyOf(chain, links, last.biases, examples), last.accuracy]);"""
    inputs, labels = data.test.inputs, data.test.labels
    given = {**sent(view), "inputs": inputs.flatten().tolist(), "labels": labels.tolist(), "count": len(inputs)}
    logits, accuracy, stored = node(ALL, given, OPEN + lines)
    expected = model(inputs).detach()
    assert np.abs(np.array(logits).reshape(4, -1).T - expected.numpy()).max() < 1e-5
    assert accuracy == pytest.approx(float((expected.argmax(1) == labels).float().mean()))
    assert stored == pytest.approx(accuracy)


@in_node
def test_a_cut_unit_gives_nothing_and_a_cut_line_is_a_zero(node):  # noqa: F811
    model, inputs = network(9, 7), torch.rand(12)
    view = NetworkView(model, small_data())
    lines = """const input = Float32Array.from(data.input), unit = chain.first[1] + 2, gone = links[5];
    const run = (list, cut) => [...m.forward(chain, list, last.biases, input, 1, cut).slice(chain.outputs)];
    say([run(links, new Set([unit])), run(links.filter(link => link !== gone)), gone.at]);"""
    without_unit, without_line, at = node(ALL, {**sent(view), "input": inputs.tolist()}, OPEN + lines)
    weights = matrices(view.film.shapes, frame_of(model))
    hidden = model.relu1(model.fc1(inputs))
    hidden[2] = 0
    assert np.allclose(without_unit, model.head(model.relu2(model.fc2(hidden))).tolist(), atol=1e-5)
    weights[0].ravel()[at] = 0
    hidden = torch.relu(torch.from_numpy(weights[0]) @ inputs + model.fc1.bias)
    assert np.allclose(without_line, model.head(model.relu2(model.fc2(hidden))).tolist(), atol=1e-5)


@in_node
def test_the_browser_reads_every_frame_and_what_is_new_in_it(node, film):  # noqa: F811
    lines = """const born = frames.map((f, k) => m.linksOf(chain, f, frames[k - 1]).filter(link => link.born));
    say(frames.map((f, k) => [f.step, f.rewiring, [...f.at], born[k].map(link => link.at)]));"""
    read = node(ALL, sent(NetworkView(film)), OPEN + lines)
    previous = None
    for frame, (step, rewiring, positions, born) in zip(film.frames, read, strict=True):
        assert (step, rewiring, positions) == (frame.step, frame.rewiring, frame.positions.tolist())
        is_new = previous is not None and previous.rewiring != rewiring
        assert set(born) == (set(positions) - set(previous.positions.tolist()) if is_new else set())
        previous = frame


@in_node
def test_the_browser_finds_the_same_paths_and_fields(node):  # noqa: F811
    model = network(9, 7, density=0.25)
    view, shapes = NetworkView(model, small_data()), shapes_of_chain(model)
    lines = """const on = m.onPaths(chain, links), unit = chain.first[2] + 3;
    say([links.map(l => Boolean(on[l.from] && on[l.to])), [...m.receptiveField(chain, links, unit)],
      [...m.pathsThrough(links, { unit }).lines].map(l => l.at).sort((a, b) => a - b)]);"""
    alive, field, through = node(ALL, sent(view), OPEN + lines)
    frame, (first, second, last) = frame_of(model), matrices(shapes, frame_of(model))
    assert alive == on_paths(shapes, frame).tolist()
    assert np.allclose(field, second[3] @ first, atol=1e-5)
    starts = starts_of(shapes)
    expected = {starts[1] + 3 * 9 + k for k in np.flatnonzero(second[3])}
    expected |= {12 * unit + k for unit in np.flatnonzero(second[3]) for k in np.flatnonzero(first[unit])}
    expected |= {starts[2] + 7 * unit + 3 for unit in np.flatnonzero(last[:, 3])}
    assert through == sorted(expected)


@in_node
def test_a_drawing_is_centred_fills_the_height_and_has_the_levels_of_the_data(node):  # noqa: F811
    lines = """const stroke = [[0.1, 0.1], [0.1, 0.4]], box = m.fitted([stroke]);
    const images = [box, m.WHOLE].map(one => [...m.rasterise([stroke], one, [8, 8])]);
    say([...images, m.fitted([[[0.5, 0.5]]]).scale]);"""
    fitted, whole, scale = (np.array(one) for one in node(ALL, None, lines))
    image = fitted.reshape(8, 8)
    assert set((fitted * 16).tolist()) <= set(range(17))
    assert (image[:, 3:5].sum(0) > 3).all()
    assert image[:, [0, 1, 6, 7]].sum() == 0
    assert (image.sum(1) > 0).all()
    assert whole.reshape(8, 8)[4:].sum() == 0
    assert scale < 8  # a dot does not fill the pad


@in_node
def test_a_state_is_read_as_it_was_written(node):  # noqa: F811
    state = {"network": 1, "step": 40, "kept": 30, "mode": "signal", "units": [[1, 17], [2, 3]], "links": [[0, 3, 12]]}
    drawn = [k / 16 for k in range(17)]
    lines = """const texts = data.map(state => m.writeState(state));
    const plain = state => ({ ...state, drawn: state.drawn && [...state.drawn] });
    say([texts, texts.map(text => plain(m.readState(text)))]);"""
    given = [{**state, "example": 7, "drawn": drawn}, {**state, "example": 7, "drawn": None, "kept": None, "units": []}]
    texts, read = node(ALL, given, lines)
    assert read == [{**state, "example": None, "drawn": drawn}, {**given[1]}]
    for text in texts:
        assert NetworkView(network(3), small_data(), state=text).state == text


@in_node
@pytest.mark.parametrize("hidden", [(5,), (70, 9), (6, 5, 4)], ids=str)
def test_every_unit_stands_on_the_stage_in_its_column(node, hidden):  # noqa: F811
    view = NetworkView(network(*hidden, num_inputs=36), small_data(num_inputs=36))
    lines = """const net = { chain, order: data.order, busy: m.onPaths(chain, links) };
    const names = ['a', 'b', 'a long name', 'd'];
    say([350, 560, 1200].flatMap(width => [[6, 6], null].map(image => {
      const g = m.layoutOf(net, { image, names }, width); return [g.width, g.height, g.tall, [...g.at], g.pad];
    })));"""
    for width, height, is_tall, at, pad in node(ALL, sent(view), OPEN + lines):
        points = np.array(at).reshape(-1, 2)
        assert (points >= 0).all()
        assert (points <= [width, height]).all()
        assert is_tall == (width < 520)
        columns = np.split(points[:, 1 if is_tall else 0], np.cumsum([36, *hidden]))
        middles = [column.mean() for column in columns]
        assert middles == sorted(middles)
        assert pad["w"] >= 150
        assert len({tuple(point) for point in points.round(2).tolist()}) == len(points)


@in_node
@pytest.mark.parametrize("uses", [False, True])
def test_a_crowd_is_drawn_in_classes_of_one_sign_and_strength(node, uses):  # noqa: F811
    view = NetworkView(network(30, 20, density=1), small_data())
    lines = (
        OPEN
        + """const act = Float32Array.from({ length: chain.total }, (_, unit) => (unit % 7) / 7);
    const scene = { links, allLinks: links, chain, act, onPath: m.onPaths(chain, links) };
    const { classes, idle } = m.classesOf(scene, false, data.uses);
    const size = link => Math.abs(link.weight) * (data.uses ? act[link.from] : 1);
    const facts = list => list.map(link => [link.layer, link.at, link.weight, size(link)]);
    say([classes.map(facts), idle.length, links.length]);"""
    )
    classes, idle, count = node(ALL, {**sent(view), "uses": uses}, lines)
    drawn = [one for lines_of_one in classes for one in lines_of_one]
    largest = {layer: max(size for where, _, _, size in drawn if where == layer) for layer in range(3)}
    assert idle == 0
    assert len(drawn) <= count == 12 * 30 + 30 * 20 + 20 * 4
    assert len({at for _, at, _, _ in drawn}) == len(drawn)
    for number, lines_of_one in enumerate(classes):
        for layer, _, weight, size in lines_of_one:
            assert (weight > 0) == bool(number % 2)
            assert min(23, int(24 * size / largest[layer] + 1e-9)) == number // 2


@in_node
def test_the_module_is_one_that_a_browser_can_read(node):  # noqa: F811
    assert node(ALL, json.loads("null"), "say(typeof m.default.render);") == "function"
