"""The record of every rewiring."""

import itertools
import weakref

import pytest
import torch
from helpers import random_layer
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.schedules import Cosine
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct, random_topology

# In no alphabetical order, with names that a file format could stumble over.
SHAPES = {"z.conv": (4, 2, 3, 3), "": (5, 6), "a/b grown": (300, 300), "wide": (2, 40_000_000)}


def topologies(number: int, seed: int = 0) -> list[Topology]:
    return [
        Topology({name: random_layer(shape, 3 + step, seed + step) for name, shape in SHAPES.items()})
        for step in range(number)
    ]


def recorded(journal: Journal, states: list[Topology], *, every: int = 10) -> Journal:
    for number, (old, new) in enumerate(itertools.pairwise(states), 1):
        journal.add(number * every, TopologyUpdate.between(old, new))
    return journal


def test_every_state_can_be_read_back_in_memory_and_from_the_file(tmp_path):
    states = topologies(5)
    written = recorded(Journal.create(tmp_path / "journal", states[0]), states)
    for journal in (written, Journal.read(tmp_path / "journal")):
        assert journal.steps == [10, 20, 30, 40]
        assert len(journal) == 4
        assert list(journal.topologies()) == states
        assert [journal[number] for number in range(5)] == states
        assert journal[-1] == states[-1]
        assert journal[-5] == states[0]
        assert [list(state) for state in journal.topologies()] == [list(SHAPES)] * 5
        for number in (5, -6):
            with pytest.raises(IndexError, match=r"must lie in \[0, 4\], got"):
                journal[number]


@given(st.integers(1, 4), st.integers(0, 2**20))
@settings(max_examples=15)
def test_any_topologies_survive_the_file(tmp_path_factory, number, seed):
    path = tmp_path_factory.mktemp("journal") / "journal"
    states = topologies(number, seed)
    recorded(Journal.create(path, states[0]), states)
    assert list(Journal.read(path).topologies()) == states


def test_empty_and_full_layers_and_changes_of_some_layers_survive_the_file(tmp_path):
    start = Topology({"a": LayerTopology.full((3, 4)), "b": random_layer((2, 2), 0)})
    journal = Journal.create(tmp_path / "journal", start)
    journal.add(0, TopologyUpdate({}, {}))
    journal.add(1, TopologyUpdate.between(start, {"a": random_layer((3, 4), 0)}))
    read = Journal.read(tmp_path / "journal")
    assert read[1] == start
    assert read[2] == Topology({"a": random_layer((3, 4), 0), "b": start["b"]})


def test_steps_must_come_in_order():
    journal = recorded(Journal(topologies(1)[0]), topologies(3))
    for step in (20, 3):
        with pytest.raises(ValueError, match=f"rewirings must come in order, got step {step} after 20"):
            journal.add(step, TopologyUpdate({}, {}))
    assert len(journal) == 2


@pytest.mark.parametrize("lost", [1, 5, 11, 12, 30])
def test_a_record_that_a_crash_cut_off_is_left_out_and_written_over(tmp_path, lost):
    path = tmp_path / "journal"
    states = topologies(4)
    recorded(Journal.create(path, states[0]), states)
    path.write_bytes(path.read_bytes()[:-lost])
    journal = Journal.read(path)
    assert list(journal.topologies()) == states[:3]
    journal.add(30, TopologyUpdate.between(states[2], states[3]))
    assert list(journal.topologies()) == list(Journal.read(path).topologies()) == states


@pytest.mark.parametrize("place", [0, 7, 8, 11, 12, 15, 16, 20, -1])
def test_a_damaged_record_is_refused_and_not_taken_for_one_that_was_cut_off(tmp_path, place):
    path = tmp_path / "journal"
    states = topologies(3)
    journal = recorded(Journal.create(path, states[0]), states[:2])
    size = path.stat().st_size
    journal.add(99, TopologyUpdate.between(states[1], states[2]))
    data = bytearray(path.read_bytes())
    data[size + place] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"journal must hold its records as they were written, got a damaged one"):
        Journal.read(path)


@pytest.mark.parametrize("version", [1, 3])
def test_a_journal_of_another_version_is_refused_by_that_reason(tmp_path, version):
    (tmp_path / "journal").write_bytes(f"sparsekit journal {version}\n".encode())
    with pytest.raises(ValueError, match=r"must be a 'sparsekit journal 2', got one of another version. Delete"):
        Journal.read(tmp_path / "journal")


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 a zip file", b"sparsekit junk 2\n"])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(ValueError, match=r"journal must be a journal written by sparsekit, got something else. Give"):
        Journal.read(tmp_path / "journal")


def test_a_journal_without_its_beginning_is_refused_and_a_missing_one_is_missing(tmp_path):
    journal = Journal.create(tmp_path / "journal", topologies(1)[0])
    journal.path.write_bytes(journal.path.read_bytes()[:30])
    with pytest.raises(ValueError, match=r"must begin with its initial topology, got none in .*. The file is damaged"):
        Journal.read(tmp_path / "journal")
    with pytest.raises(FileNotFoundError):
        Journal.read(tmp_path / "nothing")


def test_a_new_journal_replaces_an_old_one_and_leaves_nothing_beside_it(tmp_path):
    states = topologies(3)
    recorded(Journal.create(tmp_path / "journal", states[0]), states)
    Journal.create(tmp_path / "journal", states[2])
    assert list(Journal.read(tmp_path / "journal").topologies()) == states[2:]
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]


@pytest.mark.parametrize(("step", "left"), [(0, 0), (10, 0), (11, 1), (20, 1), (21, 2), (99, 3)])
def test_a_resumed_run_forgets_what_it_will_do_again(tmp_path, step, left):
    states = topologies(4)
    for journal in (
        recorded(Journal(states[0]), states),
        recorded(Journal.create(tmp_path / "journal", states[0]), states),
    ):
        journal.cut_at(step)
        assert list(journal.topologies()) == states[: left + 1]
    assert list(Journal.read(tmp_path / "journal").topologies()) == states[: left + 1]
    journal.add(99, TopologyUpdate.between(states[left], states[3]))
    assert Journal.read(tmp_path / "journal")[-1] == states[3]


def exchanged(layer: LayerTopology, share: float, draw: torch.Generator) -> LayerTopology:
    """The layer with so large a share of its connections moved to random free places."""
    count = min(int(share * layer.count), layer.size - layer.count)
    dropped = LayerTopology(layer.shape, layer.indices[draw_distinct(layer.count, count, draw)])
    grown = layer.missing_at(draw_distinct(layer.size - layer.count, count, draw))
    return (layer - dropped) | LayerTopology(layer.shape, grown)


def test_a_hundred_rewirings_take_less_than_a_megabyte(tmp_path):
    state = random_topology({"a": (300, 784), "b": (100, 300), "c": (10, 100)}, 0.05)
    journal = Journal.create(tmp_path / "journal", state)
    draw, drop_fraction = torch.Generator().manual_seed(0), Cosine(0.3, 0.0, 100)
    for step in range(100):
        new = Topology({name: exchanged(layer, drop_fraction(step), draw) for name, layer in state.items()})
        journal.add(step, TopologyUpdate.between(state, new))
        state = new
    assert (tmp_path / "journal").stat().st_size < 1_000_000
    assert Journal.read(tmp_path / "journal")[-1] == state


def test_walking_through_a_journal_holds_one_topology_at_a_time():
    states = topologies(20)
    journal = recorded(Journal(states[0]), states)
    del states
    alive = []
    for state in journal.topologies():
        alive.append(weakref.ref(state))
        assert sum(ref() is not None for ref in alive[1:]) <= 2


def test_a_journal_that_was_read_names_the_layers_in_the_order_of_the_network(tmp_path):
    shapes = {f"layer{number}": (3, 3) for number in (9, 2, 11, 1, 4, 30, 5)}
    first, second = (random_topology(shapes, 0.5, seed=seed) for seed in (0, 1))
    Journal.create(tmp_path / "journal", first).add(0, TopologyUpdate.between(first, second))
    _, update = Journal.read(tmp_path / "journal").entries[0]
    assert list(update.dropped) == list(update.grown) == list(shapes)
