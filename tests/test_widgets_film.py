"""A film of a run decodes every frame from what is sent, and every number in it is right."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsekit.analysis.dynamics.evolution import churn
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct, random_topology
from sparsekit.widgets import TopologyFilm, colours
from sparsekit.widgets.film import frame_rgba
from sparsekit.widgets.mask_deltas import film_of, read_gaps, write_gaps

SHAPES = {"fc": (30, 21), "conv": (6, 3, 3, 3)}


def recorded(rewirings: int = 6, *, seed: int = 0) -> Journal:
    """A run that exchanges 30 % of each layer every 50 steps, and grows a little at the third rewiring."""
    generator = torch.Generator().manual_seed(seed)
    journal = Journal(random_topology(SHAPES, 0.2, seed=seed))
    for number in range(rewirings):
        dropped, grown = {}, {}
        for name, layer in journal[number].items():
            count = layer.count * 3 // 10
            dropped[name] = layer.indices[draw_distinct(layer.count, count, generator)]
            more = count + (5 if number == 2 else 0)
            grown[name] = layer.missing_at(draw_distinct(layer.size - layer.count, more, generator))
        journal.add(50 * (number + 1), TopologyUpdate(dropped, grown))
    return journal


@pytest.fixture(scope="module")
def journal():
    return recorded()


@given(st.lists(st.integers(0, 2**34), unique=True, max_size=50).map(sorted), st.binary(max_size=4))
def test_gaps_give_back_the_positions(positions, rest):
    data = write_gaps(np.array(positions, dtype=np.int64))
    decoded, num_bytes = read_gaps(data + rest, len(positions))
    assert decoded.tolist() == positions
    assert num_bytes == len(data)


def test_neighbours_cost_a_byte_each():
    assert len(write_gaps(np.arange(1000))) == 1000
    assert len(write_gaps(np.array([127, 127 + 129]))) == 1 + 2  # gaps of 127 and 128 positions


def test_every_frame_can_be_made_from_what_is_sent(journal):
    film = TopologyFilm(journal)
    for number, topology in enumerate(journal.topologies()):
        for name, layer in topology.items():
            assert np.array_equal(film.films[name].mask(number).reshape(-1), layer.mask().reshape(-1).numpy())


def test_what_is_sent_is_what_the_film_is_made_of(journal):
    film = TopologyFilm(journal)
    for message, (name, layer) in zip(film.layers, film.films.items(), strict=True):
        assert (message["name"], message["base"], message["gaps"]) == (name, layer.base.rows.tobytes(), layer.gaps)
        assert (message["rows"], message["cols"]) == (layer.base.shape[0], layer.base.num_inputs)
        assert message["delta_sizes"] == list(layer.delta_sizes)


def test_a_film_is_smaller_than_its_frames():
    journal = Journal(random_topology({"fc": (256, 256)}, 0.05))
    generator = torch.Generator().manual_seed(0)
    for number in range(20):
        layer = journal[number]["fc"]
        dropped = layer.indices[draw_distinct(layer.count, layer.count * 3 // 10, generator)]
        grown = layer.missing_at(draw_distinct(layer.size - layer.count, len(dropped), generator))
        journal.add(number, TopologyUpdate({"fc": dropped}, {"fc": grown}))
    assert TopologyFilm(journal).nbytes < 21 * 256 * 256 / 8 / 3


def test_born_kept_and_dropped_are_counted(journal):
    film = TopologyFilm(journal)
    for name, layer in film.films.items():
        path = [topology[name] for topology in journal.topologies()]
        assert layer.counts[0].tolist() == [0, path[0].count, 0]
        for counts, (old, new) in zip(layer.counts[1:], itertools.pairwise(path), strict=True):
            assert counts.tolist() == [(new - old).count, (new & old).count, (old - new).count]


def test_a_connection_that_regrew_at_once_was_kept():
    layers = [LayerTopology((2, 2), torch.tensor([0, 1])), LayerTopology((2, 2), torch.tensor([0, 1]))]
    film = film_of(layers)
    assert film.counts[1].tolist() == [0, 2, 0]
    assert film.delta_sizes == (0,)


def test_the_caption_tells_step_counts_and_churn(journal):
    film = TopologyFilm(journal)
    expected = churn(journal.topologies())["fc"].iloc[2]
    born, kept, dropped = film.films["fc"].counts[3].tolist()
    assert film.layers[0]["captions"][3] == (
        f"Rewiring 3 of 6 at step 150: {born} born, {kept} kept, {dropped} dropped. "
        f"There are now {born + kept} connections, and the churn is {100 * expected:.1f} %."
    )
    assert born == dropped + 5  # so that mixing them up is seen
    assert film.layers[0]["captions"][0].startswith("Before the first rewiring there are ")


def test_histograms_hold_every_unit_and_its_connections(journal):
    film = TopologyFilm(journal)
    for number, topology in enumerate(journal.topologies()):
        fan_in = topology["conv"].fan_in().tolist()
        fan_out = topology["conv"].fan_out().view(3, -1).sum(1).tolist()  # per input channel
        for histogram, fans in ((film.films["conv"].fan_in, fan_in), (film.films["conv"].fan_out, fan_out)):
            bars = [sum(fan // histogram.width == bar for fan in fans) for bar in range(histogram.units.shape[1])]
            assert histogram.units[number].tolist() == bars
            assert histogram.highest >= max(bars)


def test_many_different_fans_share_a_few_bars():
    dense, empty = LayerTopology.full((4, 300)), LayerTopology((4, 300), torch.empty(0, dtype=torch.int64))
    histogram = film_of([empty, dense]).fan_in
    assert histogram.units.shape[1] <= 24
    assert histogram.units[1].nonzero()[0].tolist() == [300 // histogram.width]


def test_the_still_shows_what_the_rewiring_did(journal):
    film = TopologyFilm(journal).films["fc"]
    image = frame_rgba(film, 2)[..., :3]
    counts = [
        int((image == colours.rgb(colour)).all(axis=2).sum())
        for colour in (colours.BORN, colours.KEPT, colours.DROPPED)
    ]
    assert counts == film.counts[2].tolist()


def test_nothing_is_born_or_dropped_before_the_first_rewiring(journal):
    film = TopologyFilm(journal).films["fc"]
    image = frame_rgba(film, 0)[..., :3]
    assert not (image == colours.rgb(colours.BORN)).all(axis=2).any()
    assert int((image == colours.rgb(colours.KEPT)).all(axis=2).sum()) == film.counts[0, 1]


def test_a_run_without_rewirings_is_a_film_of_one_frame():
    film = TopologyFilm(Journal(random_topology(SHAPES, 0.2)))
    assert film.sentence().startswith("Film of 0 rewirings, layer fc. Before the first rewiring")
    assert film.snapshot()[:4] == b"\x89PNG"


def test_an_empty_layer_can_be_filmed():
    nothing = Topology({"fc": LayerTopology((3, 4), torch.empty(0, dtype=torch.int64))})
    journal = Journal(nothing)
    journal.add(1, TopologyUpdate({"fc": torch.tensor([], dtype=torch.int64)}, {"fc": torch.tensor([5])}))
    journal.add(2, TopologyUpdate({"fc": torch.tensor([5])}, {"fc": torch.tensor([], dtype=torch.int64)}))
    captions = TopologyFilm(journal).layers[0]["captions"]
    assert "the churn is 100 %" in captions[1]
    assert captions[2].endswith("There are now 0 connections, and the churn is –.")


def test_a_rewiring_outside_the_run_is_refused(journal):
    film = TopologyFilm(journal)
    with pytest.raises(ValueError, match=r"\[0, 6\], got 7"):
        film.rewiring = 7
    with pytest.raises(ValueError, match=r"\[0, 6\], got -1"):
        TopologyFilm(journal, rewiring=-1)


def test_only_the_chosen_layers_are_sent(journal):
    assert [layer["name"] for layer in TopologyFilm(journal, layers=["conv"]).layers] == ["conv"]
    with pytest.raises(ValueError, match="some of fc, conv"):
        TopologyFilm(journal, layers=["head"])


def test_a_film_is_shown_as_widget_image_and_sentence(journal):
    bundle = TopologyFilm(journal, rewiring=2)._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert bundle["text/plain"].startswith("Film of 6 rewirings, layer fc. Rewiring 2 of 6 at step 100: ")
