"""Tickets in the browser are superposed, counted and mixed as in Python, and the film shows the run's own moments."""

import dataclasses

import numpy as np
import pytest
import torch
from test_plots import hills
from test_sup_tickets import SUP
from test_ticket_lab import batch, net, tickets
from test_widgets_front_end import NODE, node, text_of  # noqa: F401  # a fixture
from test_widgets_landscape import ANSWERS, NETS

from sparsekit.experiments import load_model
from sparsekit.experiments.sup_tickets import cycle_moments, plan, run_sup_tickets
from sparsekit.schedules import Triangular
from sparsekit.tickets import Ticket, superpose
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology
from sparsekit.widgets import CollectionFilm, DiversityMap, LandscapeExplorer, TicketLab
from sparsekit.widgets.ticket_encoding import encode_tickets, matrix_shapes
from sparsekit.widgets.ticket_stills import Survival, kind_names

in_node = pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
KEPT = "say([...union.at].filter((_, e) => kept[e]));"
SHAPES = {"a": (9, 14), "conv": (4, 3, 3, 3), "head": (5, 9)}
READ = """const raw = data.tickets.map(one => ({ ...one, gaps: bytes(one.gaps), values: bytes(one.values) }));
const tickets = m.readTickets(raw), union = m.unionOf(tickets, data.shapes);
"""


def ticket(seed: int, density: float = 0.3, shapes: dict | None = None) -> Ticket:
    topology = random_topology(shapes or SHAPES, density, seed=seed)
    source = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(layer.count, generator=source) for name, layer in topology.items()}
    return Ticket(topology=topology, values=values, rest={}, step=10 * (seed + 1))


def sent(several: list[Ticket], **more: object) -> dict:
    encoded = [
        {k: text_of(v) if isinstance(v, bytes) else v for k, v in one.items()} for one in encode_tickets(several)
    ]
    return {"tickets": encoded, "shapes": matrix_shapes(several[0].topology), **more}


def places(topology: Topology) -> list[int]:
    starts = np.cumsum([0, *(layer.size for layer in topology.values())])
    return [int(at) + int(s) for layer, s in zip(topology.values(), starts, strict=False) for at in layer.indices]


@in_node
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.5, 0.3], [1, 0, 0.5], [0, 1, 0]])
def test_the_browser_superposes_as_python_does(node, weights):  # noqa: F811
    several = [ticket(seed) for seed in range(3)]
    lines = "const kept = m.superpose(union, data.weights, tickets[0].at.length);" + KEPT
    kept = node(("shared", "tickets"), sent(several, weights=weights), READ + lines)
    assert kept == places(superpose(several, weights=weights).topology)


@in_node
def test_of_equal_averages_the_browser_keeps_the_same_and_no_layer_goes_empty(node):  # noqa: F811
    def one(*at: int, value: float) -> Ticket:
        layers = {"a": LayerTopology((2, 4), torch.tensor(at)), "b": LayerTopology((1, 2), torch.tensor([0]))}
        return Ticket(
            topology=Topology(layers),
            values={"a": torch.full((len(at),), value), "b": torch.tensor([0.001])},
            rest={},
            step=int(at[0]),
        )

    several = [one(0, 1, 2, value=1.0), one(3, 4, 5, value=-1.0)]
    lines = "const kept = m.superpose(union, [1, 1], 4);" + KEPT
    assert (
        node(("shared", "tickets"), sent(several), READ + lines) == places(superpose(several).topology) == [0, 1, 2, 8]
    )


@in_node
@pytest.mark.parametrize("num", [2, 3, 5])
def test_the_browser_counts_survivors_as_the_still_does(node, num):  # noqa: F811
    several = [ticket(seed) for seed in range(num)]
    lines = "const kept = m.superpose(union, tickets.map(() => 1), tickets[0].at.length);"
    counts = node(
        ("shared", "tickets"), sent(several), READ + lines + "say(m.countKinds(union, kept, tickets.length));"
    )
    expected = Survival.of(several, superpose(several))
    assert (tuple(counts["all"]), tuple(counts["stay"])) == (expected.whole, expected.stay)
    assert sum(expected.stay) == several[0].count
    names = node(
        ("shared", "tickets"), num, "say(m.kindNames(data, Array.from({ length: data }, (_, k) => `ticket ${k}`)));"
    )
    assert names == kind_names(num)


@in_node
def test_the_relief_between_the_measured_mixtures_is_the_fitted_one(node):  # noqa: F811
    lab = TicketLab(tickets(), net(), test=batch(1), train=batch(2), parts=4)
    lines = "const relief = m.quadratic(data.weights, data.fitted); say(data.weights.map(relief));"
    table = lab.mixture_table
    assert node(("shared", "tickets", "ticket_lab"), table, lines) == pytest.approx(table["fitted"])
    lines = "say([[1, 1, 1], [0, 2, 2], [0.3, 0.3, 0.4]].map(row => m.nearestMix(data.weights, row)));"
    found = [table["weights"][k] for k in node(("shared", "tickets", "ticket_lab"), table, lines)]
    assert found[1] == [0, 0.5, 0.5]
    assert found[0] == found[2] == [0.25, 0.25, 0.5] or max(found[0]) == 0.5


@in_node
def test_a_point_in_the_triangle_has_shares_that_sum_to_one(node):  # noqa: F811
    corners = [[0, 0], [4, 0], [0, 4]]
    lines = "say([[0, 0], [4, 0], [1, 1], [2, 2]].map(([x, y]) => m.barycentric(data, x, y)));"
    shares = node(("shared", "tickets", "ticket_lab"), corners, lines)
    assert np.allclose(shares, [[1, 0, 0], [0, 1, 0], [0.5, 0.25, 0.25], [0, 0.5, 0.5]])


@in_node
def test_the_browser_reads_the_plane_between_its_points(node):  # noqa: F811
    surface = hills()
    explorer = LandscapeExplorer(surface)
    data = {"x": surface.x.tolist(), "y": surface.y.tolist(), "values": surface.loss.ravel().tolist()}
    lines = "say([[0, 0], [0.25, 0], [2, 1], [9, 9]].map(([x, y]) => m.valueAt(data, data.values, x, y)));"
    read = node(("shared", "tickets", "landscape_explorer"), data, lines)
    assert read == pytest.approx([0.1, 0.1 + 0.125, surface.loss[4, 6], surface.loss[4, 6]])
    lines = "say([[-1, 0, 9], [0.5, 0, 1], [1 / 0, 0, 1]].map(([v, ...range]) => m.badness(v, range, true)));"
    assert node(("shared", "tickets", "landscape_explorer"), None, lines) == [0, 0.5, 1]
    lines = "say([[1, 0, 0], [0, 1, 0], [0, 0, 1]].map(point => m.seen(point, 0, 0).map(v => Math.round(v))));"
    assert node(("shared", "tickets", "landscape_explorer"), None, lines) == [[0, 0, -1], [1, 0, 0], [0, 1, 0]]
    assert explorer.loss_range == [0.1, pytest.approx(surface.loss.max())]


@in_node
def test_the_map_finds_the_nearest_of_a_group_and_the_means(node):  # noqa: F811
    explorer = DiversityMap(NETS, {"answers": ANSWERS}, groups=["a", "a", "b"])
    data = {"distances": explorer.spaces[1]["distances"], "groups": explorer.groups}
    lines = """const means = m.meanDistances(data.distances, data.groups);
say([m.nearest(data.distances, 2, [0, 1, 2]), m.nearest(data.distances, 0, [0]), ...means]);"""
    assert node(("shared", "tickets", "diversity_map"), data, lines) == [1, None, 0.1, pytest.approx(0.85)]


@in_node
@pytest.mark.parametrize("name", ["collection_film", "ticket_lab", "landscape_explorer", "diversity_map"])
def test_every_module_about_tickets_is_one_that_a_browser_can_read(node, name):  # noqa: F811
    assert node(("shared", "tickets", name), None, "say(typeof m.default.render);") == "function"


# --- the film ---------------------------------------------------------------------------------------------------------

STORY = """const model = { get: name => data[name] };
data.moments = data.moments.map(one => ({ ...one, gaps: bytes(one.gaps), values: bytes(one.values) }));
const story = m.readStory(model);
"""


def film_data(film: CollectionFilm) -> dict:
    moments = [{k: text_of(v) if isinstance(v, bytes) else v for k, v in one.items()} for one in film.moments]
    names = ("shapes", "names", "steps", "ends", "rates", "accuracies")
    return {**{name: getattr(film, name) for name in names}, "moments": moments}


@in_node
def test_each_stop_of_the_film_has_a_title_with_its_number(node):  # noqa: F811
    several = [ticket(seed) for seed in range(3)]
    between = dataclasses.replace(several[1], step=15)
    film = CollectionFilm(several, Triangular(0.1, 1.0, cycle=10), moments=[between])
    assert film.steps == [10, 15, 20, 30]
    assert film.moment == 4
    titles = node(
        ("shared", "tickets", "collection_film"),
        film_data(film),
        STORY + "say(story.frames.map((_, k) => m.filmTitle(story, k)).concat(m.filmTitle(story, 4)));",
    )
    whole, stay = film.survival.whole, film.survival.stay
    assert titles[0] == f"Ticket 0 is the network before the cycles, with {several[0].count} connections"
    assert titles[1].startswith("In cycle 1, ")
    assert titles[2].startswith("Ticket 1 is taken: ")
    assert titles[4].startswith(f"Superposed: {100 * stay[2] / whole[2]:.0f} % of ticket 0's own connections survive, ")
    new = sum((several[0].topology[n].position_of(x.indices) < 0).sum() for n, x in several[2].topology.items())
    assert f": {int(new)} new connections have " in titles[3]


def test_the_film_says_who_survives_and_has_a_still():
    several = [ticket(seed) for seed in range(3)]
    film = CollectionFilm(several, Triangular(0.1, 1.0, cycle=10), accuracies=[0.5, 0.6, 0.7])
    whole, stay = film.survival.whole, film.survival.stay
    assert f"{stay[2]:,} of {whole[2]:,}, " in repr(film)
    assert film.snapshot().startswith(b"\x89PNG")
    assert {"image/png", "text/plain"} <= set(film._repr_mimebundle_())


@pytest.mark.parametrize(
    ("several", "said"),
    [
        (lambda: [ticket(0)], "at least two tickets, got 1"),
        (lambda: [dataclasses.replace(ticket(0), step=k) for k in range(31)], "at most 30 tickets, got 31"),
        (lambda: [ticket(1), ticket(0)], "in the order of their training, got steps"),
        (lambda: [ticket(0), ticket(1, 0.4)], "equally many connections, got"),
        (lambda: [ticket(0), ticket(1, shapes={**SHAPES, "head": (9, 5)})], "the same layers"),
    ],
)
def test_what_makes_no_film_is_refused(several, said):
    with pytest.raises(ValueError, match=said):
        CollectionFilm(several(), Triangular(0.1, 1.0, cycle=10))


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moments")
    return folder, cycle_moments(SUP, folder, per_cycle=3, progress=False)


def test_moments_are_the_networks_of_the_collection_bit_for_bit(moments, tmp_path):
    folder, networks = moments
    collected = run_sup_tickets(SUP, tmp_path, progress=False)
    _, ends = plan(SUP, 1197)
    assert [one.step for one in networks][::3] == ends
    for one, expected in zip(networks[::3], collected.tickets, strict=True):
        assert one.topology == expected.topology
        assert all(torch.equal(one.values[name], expected.values[name]) for name in expected.values)
    assert len(load_model(next(folder.glob("*moments*"))).state_dict()) > 0


def test_moments_that_are_there_are_read_and_a_missing_one_is_not_invented(moments):
    folder, networks = moments
    assert [one.step for one in cycle_moments(SUP, folder, per_cycle=3, progress=False)] == [o.step for o in networks]
    with pytest.raises(ValueError, match="Delete the folder to train anew"):
        cycle_moments(SUP, folder, per_cycle=2, progress=False)
    with pytest.raises(ValueError, match="at least 100 steps, got 6"):
        cycle_moments(SUP, folder, per_cycle=100, progress=False)
