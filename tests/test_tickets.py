"""Tickets are values that fit in files, go into any model of the same layers, and superpose within an exact budget."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import TiedHead
from torch import nn
from training_helpers import plain_mlp, same, tiny

from sparsekit.layers import shapes_of, sparse_layers, sparsify, topology_of
from sparsekit.models import build
from sparsekit.rules import RigL
from sparsekit.rules.initial import prepare_layers
from sparsekit.tickets import (
    Ticket,
    TicketBook,
    ema_weights,
    greedy_interpolation,
    greedy_soup,
    lottery_pool,
    read_ticket,
    superpose,
    write_ticket,
)
from sparsekit.topology import LayerTopology, Topology, random_topology

STORAGES = ("masked", "csr")


def ticket(row: list[float], *, step: int = 0, rest: dict | None = None, also: tuple[int, ...] = ()) -> Ticket:
    """Return a ticket of one layer, zeros missing. `also` names positions that are connections of value 0."""
    weight = torch.tensor([row], dtype=torch.float64)
    exists = weight != 0
    exists[0, list(also)] = True
    layer = LayerTopology.of_mask(exists)
    values = {"fc": weight.flatten()[layer.indices]}
    return Ticket(topology=Topology({"fc": layer}), values=values, rest=rest or {}, step=step)


def weight_of(one: Ticket, name: str = "fc") -> list[float]:
    """Return the dense weight of a ticket's layer, in a row."""
    layer = one.topology[name]
    return torch.zeros(layer.size, dtype=torch.float64).index_copy(0, layer.indices, one.values[name].double()).tolist()


def random_ticket(seed: int, count: int = 30, shapes: tuple = ((6, 8), (4, 6))) -> Ticket:
    """Return a random ticket of two layers with so many connections in all."""
    draws = torch.Generator().manual_seed(seed)
    sizes = [math.prod(shape) for shape in shapes]
    chosen = torch.randperm(sum(sizes), generator=draws)[: count - 2]
    flags = torch.zeros(sum(sizes), dtype=torch.bool)
    flags[chosen] = True
    for first in (0, sizes[0]):  # every layer has some
        flags[first + int(flags[first:].logical_not().nonzero()[0])] = True
    parts = flags.split(sizes)
    layers = {f"fc{i}": LayerTopology.of_mask(p.view(s)) for i, (p, s) in enumerate(zip(parts, shapes, strict=True))}
    values = {name: torch.randn(layer.count, generator=draws) for name, layer in layers.items()}
    rest = {"bias": torch.randn(4, generator=draws), "batches": torch.tensor(seed)}
    return Ticket(topology=Topology(layers), values=values, rest=rest, step=seed)


# --- averaging, worked out by hand -------------------------------------------------------------------------------


THREE = [ticket([3.0, 0.0]), ticket([0.0, 2.0]), ticket([0.0, 2.0])]
FOUR = [ticket([1.0, 0, 2.0, 0]), ticket([0, 4.0, 2.0, 0]), ticket([0, 0, 2.0, 3.0])]


@pytest.mark.parametrize(
    ("tickets", "options", "expected"),
    [
        (THREE, {}, [0, 4 / 3]),
        (THREE, {"prune": "each"}, [1, 0]),
        (THREE, {"prune": "never"}, [1, 4 / 3]),
        (FOUR, {}, [0, 4 / 3, 2, 0]),
        (FOUR, {"prune": "never"}, [1 / 3, 4 / 3, 2, 1]),
        (FOUR, {"average": "active", "prune": "never"}, [1, 4, 2, 3]),
        (FOUR, {"average": "active"}, [0, 4, 0, 3]),
        (THREE, {"average": "active", "prune": "each"}, [3, 0]),
        (THREE, {"weights": [3, 1, 0]}, [9 / 4, 0]),
        (THREE, {"weights": ema_weights(3)}, [0, 3 / 2]),
        (THREE, {"density": 1.0}, [1, 4 / 3]),
    ],
)
def test_averages_are_those_worked_out_by_hand(tickets, options, expected):
    assert weight_of(superpose(tickets, **options)) == pytest.approx(expected)


def test_pruning_each_time_with_exponential_weights_is_the_running_average_of_the_authors():
    """`avg <- 0.5 ticket + 0.5 avg`, cut down to one connection each time."""
    running = [3.0, 0.0]
    for new in ([0.0, 2.0], [0.0, 2.0]):
        mixed = [0.5 * a + 0.5 * b for a, b in zip(running, new, strict=True)]
        running = [mixed[0], 0.0] if mixed[0] >= mixed[1] else [0.0, mixed[1]]
    assert weight_of(superpose(THREE, weights=ema_weights(3), prune="each")) == pytest.approx(running)


def test_a_connection_that_was_removed_starts_again_from_zero_when_active_ones_are_averaged():
    # After two tickets 4 beats 1. With the third the first connection regrows with 9, not with (1 + 9) / 2.
    tickets = [ticket([1.0, 0.0]), ticket([0.0, 4.0]), ticket([9.0, 0.0])]
    assert weight_of(superpose(tickets, average="active", prune="each")) == pytest.approx([9, 0])


@pytest.mark.parametrize("prune", ["once", "each"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_large_negative_averages_are_as_strong_as_positive_ones(prune, scope):
    some = [ticket([-5.0, 1, 2, 0]), ticket([-5.0, 0, 2, 3])]
    assert weight_of(superpose(some, prune=prune, scope=scope)) == [-5, 0, 2, 1.5]


def test_the_rest_is_averaged_and_counts_are_those_of_the_last():
    a = ticket([1.0, 0], rest={"bias": torch.tensor([1.0]), "num": torch.tensor(3)})
    b = ticket([1.0, 0], rest={"bias": torch.tensor([2.0]), "num": torch.tensor(5)}, step=7)
    mixed = superpose([a, b], weights=[1, 3])
    assert mixed.rest["bias"].tolist() == [1.75]
    assert mixed.rest["num"].item() == 5
    assert mixed.step == 7
    assert math.isnan(mixed.accuracy)


def test_weights_that_average_to_nothing_are_no_reason_to_miss_the_budget():
    """The authors' code compares with a threshold, which is 0 here, and keeps everything."""
    a, b = ticket([1.0, 2.0, 0, 0]), ticket([-1.0, -2.0, 0, 0])
    assert superpose([a, b]).count == 2
    opposite = [ticket([1.0, 1.0, 0, 0]), ticket([0, 0, 1.0, 1.0])]  # four equal averages for two connections
    assert superpose(opposite).topology["fc"].indices.tolist() == [0, 1]


def test_connections_of_value_zero_are_connections():
    grown = ticket([1.0, 0, 0, 0], also=(3,))
    assert grown.count == 2
    assert superpose([grown, grown]).topology == grown.topology


# --- what always holds -------------------------------------------------------------------------------------------

WAYS = st.fixed_dictionaries(
    {
        "average": st.sampled_from(["mean", "active"]),
        "prune": st.sampled_from(["once", "each"]),
        "scope": st.sampled_from(["global", "layer"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(options=WAYS, seeds=st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True), count=st.integers(4, 60))
def test_the_budget_is_exact_and_everything_lies_in_the_union(options, seeds, count):
    tickets = [random_ticket(seed, count) for seed in seeds]
    mixed = superpose(tickets, **options)
    union = tickets[0].topology
    for one in tickets[1:]:
        union = union | one.topology
    assert mixed.count == tickets[0].count
    assert (mixed.topology - union).count == 0
    assert all(layer.count for layer in mixed.topology.values())
    assert all(torch.isfinite(values).all() for values in mixed.values.values())


@settings(max_examples=30, deadline=None)
@given(options=WAYS, weights=st.lists(st.floats(0.01, 10), min_size=3, max_size=3))
def test_equal_tickets_superpose_to_themselves_bit_for_bit(options, weights):
    one = random_ticket(5)
    for mixed in (superpose([one] * 3, **options), superpose([one] * 3, weights=weights, **options)):
        assert mixed.topology == one.topology
        assert same(dict(mixed.values), dict(one.values))
        assert same(dict(mixed.rest), dict(one.rest))


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(4)), average=st.sampled_from(["mean", "active"]))
def test_the_order_does_not_matter_where_pruning_comes_once(order, average):
    tickets = [random_ticket(seed) for seed in range(4)]
    first = superpose(tickets, average=average)
    second = superpose([tickets[number] for number in order], average=average)
    assert first.topology == second.topology
    for name, values in first.values.items():
        torch.testing.assert_close(values, second.values[name])


def test_the_order_matters_where_pruning_comes_each_time():
    assert weight_of(superpose(THREE, prune="each")) != weight_of(superpose(THREE[::-1], prune="each"))


def test_without_pruning_it_is_the_plain_mean_of_the_dense_weights():
    tickets = [random_ticket(seed) for seed in range(3)]
    mixed = superpose(tickets, prune="never")
    for name in mixed.topology:
        mean = torch.tensor([weight_of(one, name) for one in tickets]).mean(0)
        torch.testing.assert_close(torch.tensor(weight_of(mixed, name)), mean, atol=1e-6, rtol=0)


def test_ranking_within_layers_keeps_the_first_tickets_shares():
    tickets = [random_ticket(seed) for seed in range(3)]
    counts = {name: layer.count for name, layer in tickets[0].topology.items()}
    assert {name: layer.count for name, layer in superpose(tickets, scope="layer").topology.items()} == counts


def test_plain_networks_are_averaged_without_any_pruning():
    a, b = (Ticket.of(plain_mlp(seed=seed), step=0) for seed in range(2))
    mixed = superpose([a, b])
    torch.testing.assert_close(mixed.rest["0.weight"], (a.rest["0.weight"] + b.rest["0.weight"]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "median"}, "average must be one of mean, active, got 'median'"),
        ({"prune": "twice"}, "prune must be one of"),
        ({"scope": "row"}, "scope must be one of"),
        ({"weights": [1.0]}, "one weight per ticket, 3, got 1"),
        ({"weights": [1.0, -1.0, 0.0]}, "finite and not negative"),
        ({"weights": [0.0, 0.0, 0.0]}, "one of them above 0"),
        ({"weights": [1.0, math.nan, 0.0]}, "finite and not negative"),
        ({"density": 0.0}, r"density must lie in \(0, 1\], got 0.0"),
        ({"density": 1.0}, "at most those of the union"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        superpose(FOUR[:1] * 3 if "density" in options else FOUR, **options)


def test_tickets_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="needs at least one ticket"):
        superpose([])
    with pytest.raises(ValueError, match="the same layers"):
        superpose([THREE[0], FOUR[0]])
    with pytest.raises(ValueError, match=r"same number of connections .* got \[1, 2\]"):
        superpose([ticket([1.0, 0, 0, 0]), FOUR[0]])
    assert superpose([ticket([1.0, 0, 0, 0]), FOUR[0]], density=0.5).count == 2


def test_exponential_weights_sum_to_one_and_refuse_nonsense():
    assert sum(ema_weights(5, 0.3)) == pytest.approx(1)
    for num, keep in ((0, 0.5), (3, 0.0), (3, 1.0)):
        with pytest.raises(ValueError, match="must"):
            ema_weights(num, keep)


# --- choosing by looking ----------------------------------------------------------------------------------------


def test_a_soup_takes_in_only_what_does_not_hurt():
    good, also, bad = ticket([1.0, 0, 2.0, 0]), ticket([3.0, 0, 2.0, 0]), ticket([0, 9.0, 0, 9.0])
    target = torch.tensor([2.0, 0, 2.0, 0])

    def measure(one):
        return -float((torch.tensor(weight_of(one)) - target).square().sum())

    soup = greedy_soup([bad, good, also], measure)
    assert soup.weights == [0, 0.5, 0.5]
    assert soup.value == measure(soup.ticket) == 0
    assert soup.value >= max(map(measure, [bad, good, also]))


def test_a_search_takes_in_what_makes_it_no_worse():
    """Algorithm 1 of the soups keeps an ingredient at equal accuracy, and so does the interpolation."""
    some = [ticket([1.0, 0, 2.0, 0]), ticket([3.0, 0, 2.0, 0]), ticket([2.0, 0, 5.0, 0])]
    soup = greedy_soup(some, lambda one: 0.5)
    assert soup.weights == pytest.approx([1 / 3] * 3)
    assert weight_of(soup.ticket) == pytest.approx([2, 0, 3, 0])
    assert greedy_interpolation(some, lambda one: 0.5, rates=[0.5]).weights == [0.25, 0.25, 0.5]


def test_interpolation_finds_the_best_rate_and_says_what_is_in_the_mix():
    a, b = ticket([1.0, 0, 2.0, 0]), ticket([3.0, 0, 2.0, 0])

    def measure(one):
        return -abs(weight_of(one)[0] - 1.6)

    result = greedy_interpolation([a, b], measure)
    assert result.weights == pytest.approx([0.7, 0.3])
    assert weight_of(result.ticket) == pytest.approx([1.6, 0, 2, 0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        greedy_interpolation([a, b], measure, rates=[1.0])


LEVELS = [ticket([1.0, 4.0, 2.0, 1.0]), ticket([1.0, 0, 2.0, 3.0]), ticket([3.0, 0, 2.0, 0]), ticket([0, 0, 9.0, 0])]


def test_a_lottery_pool_walks_from_its_level_to_the_neighbours_and_keeps_its_size():
    asked = []

    def measure(one):
        asked.append(weight_of(one))
        return float(len(asked))

    pool = lottery_pool(LEVELS, measure, level=2, rates=[0.5])
    # Beside (3, 0, 2, 0) the nearest are the denser one before it and the sparser one after it, then the densest.
    assert asked[0] == [3, 0, 2, 0]
    assert asked[1] == [2, 0, 2, 0]  # 1.5 of the last connection is too little
    assert asked[2] == [1, 0, 5.5, 0]
    assert asked[3] == [0, 2, 3.75, 0]
    assert pool.weights == pytest.approx([0.5, 0.125, 0.125, 0.25])
    assert pool.ticket.count == 2


def test_a_lottery_pool_keeps_its_ticket_where_no_neighbour_helps():
    pool = lottery_pool(LEVELS, lambda one: -abs(weight_of(one)[0] - 3), level=-2)
    assert weight_of(pool.ticket) == weight_of(LEVELS[2])
    assert pool.weights == [0, 0, 1, 0]
    for level in (4, -5):
        with pytest.raises(ValueError, match=f"level must be a position in 4 tickets, got {level}"):
            lottery_pool(LEVELS, lambda one: 0.0, level=level)
    with pytest.raises(ValueError, match="rates must be numbers between 0 and 1, at least one, got \\[\\]"):
        lottery_pool(LEVELS, lambda one: 0.0, rates=[])


def test_a_search_among_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one ticket"):
        greedy_soup([], lambda one: 0.0)


# --- into models and files --------------------------------------------------------------------------------------


def conv_net(storage: str) -> nn.Module:
    """A small CNN with batch norm in a storage, its statistics not those of the start."""
    from sparsekit.layers import shapes_of, sparsify
    from sparsekit.topology.selection import random_topology

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = build("small-cnn", input_shape=(1, 8, 8), num_classes=3, widths=(4, 6))
        net = sparsify(plain, random_topology(shapes_of(plain), 0.4, seed=1), storage, init="dense")
        net(torch.randn(5, 1, 8, 8))
    return net.eval()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("target", STORAGES)
def test_a_ticket_of_one_storage_goes_into_a_model_of_the_other(storage, target):
    net, other = conv_net(storage), conv_net(target)
    for layer in sparse_layers(other).values():
        layer.param.data.zero_()
    before = {name: x.clone() for name, x in other.state_dict().items()}
    loaded = Ticket.of(net, step=3).model_like(other)
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(loaded(x), net(x))
    assert topology_of(loaded) == topology_of(net)
    assert same(other.state_dict(), before)


def test_a_ticket_is_a_copy_that_training_does_not_change():
    net = tiny()
    one = Ticket.of(net, step=0)
    before, rest = ({name: x.clone() for name, x in part.items()} for part in (one.values, one.rest))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert same(dict(one.values), before)
    assert same(dict(one.rest), rest)
    inside = one.model_like(net)
    with torch.no_grad():
        for parameter in inside.parameters():
            parameter.add_(1)
    assert same(dict(one.values), before)
    assert same(dict(one.rest), rest)


def test_a_ticket_makes_a_plain_model_sparse():
    net = tiny()
    one = Ticket.of(net, step=0)
    assert topology_of(one.model_like(plain_mlp())) == one.topology


def test_the_state_of_a_rule_is_no_part_of_a_ticket():
    net = tiny()
    for layer in sparse_layers(net).values():
        layer.set_rule_state({"momentum": torch.ones(3)})
    one = Ticket.of(net, step=0)
    assert not [name for name in one.rest if "memory" in name]
    one.model_like(net)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="the layers it is of"):
        Ticket.of(tiny(), step=0).model_like(nn.Sequential(conv_net("masked")))


def test_one_value_per_connection():
    with pytest.raises(ValueError, match=r"shape \(1,\), one per connection, got shape \(2,\)"):
        Ticket(topology=THREE[0].topology, values={"fc": torch.zeros(2)}, rest={}, step=0)
    with pytest.raises(ValueError, match="got none"):
        Ticket(topology=THREE[0].topology, values={}, rest={}, step=0)


def test_a_ticket_survives_its_file_and_is_small(tmp_path):
    net = conv_net("masked")
    one = Ticket.of(net, step=12, accuracy=0.75)
    write_ticket(one, tmp_path / "sub" / "a.safetensors")
    back = read_ticket(tmp_path / "sub" / "a.safetensors")
    assert (back.step, back.accuracy) == (12, 0.75)
    assert back.topology == one.topology
    assert list(back.topology) == list(one.topology)
    assert same(dict(back.values), dict(one.values))
    assert same(dict(back.rest), dict(one.rest))
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.safetensors"]


def test_damaged_files_and_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "ticket-000000001.safetensors"
    with pytest.raises(FileNotFoundError, match="a ticket must exist"):
        read_ticket(path)
    write_ticket(Ticket.of(conv_net("csr"), step=1), path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="a damaged one"):
        read_ticket(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="must hold a 'sparsekit ticket 2', got 'another file'. Give"):
        read_ticket(path)


def test_a_book_collects_from_any_loop_and_lists_what_it_has(tmp_path):
    net, book = tiny(), TicketBook(tmp_path / "book")
    assert len(book) == 0
    assert list(book) == []
    for step in (20, 100, 3):
        with torch.no_grad():
            net.get_parameter("0.bias").fill_(step)
        book.add(net, step=step, accuracy=step / 100)
    again = TicketBook(tmp_path / "book")
    assert again.steps == [3, 20, 100]
    assert [one.rest["0.bias"][0].item() for one in again] == [3, 20, 100]
    assert again[-1].accuracy == 1
    assert [one.step for one in again[1:]] == [20, 100]
    assert again.frame()["connections"].tolist() == [again[0].count] * 3
    assert superpose(again).rest["0.bias"][0].item() == pytest.approx(41)
    book.add(net, step=20)
    assert len(again) == 3
    with pytest.raises(ValueError, match="at least 0, got -1"):
        book.add(net, step=-1)
    with pytest.raises(FileNotFoundError):
        again.at(4)


def test_a_book_leaves_the_model_and_its_rule_as_they_were(tmp_path):
    net = tiny()
    prepare_layers(RigL(stop=10), net)
    before = {name: x.clone() for name, x in net.state_dict().items()}
    TicketBook(tmp_path).add(net, step=0)
    assert same(net.state_dict(), before)
    assert net.training


# --- all that is in a network, of whatever type -----------------------------------------------------------------------


class Odd(nn.Module):
    """A buffer of every type, a parameter beside all layers, a name that rules use too, and extra states."""

    def __init__(self, number: float = 1.0, extra: object = None):
        super().__init__()
        self.layer, self.memory_cell = nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.tensor([number, 2 * number]), requires_grad=False)
        numbers = torch.tensor([[number, 3.0]])
        for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128):
            self.register_buffer(
                f"of_{str(dtype).rpartition(chr(46))[2]}", numbers.to(dtype) * (1j if dtype.is_complex else 1)
            )
        self.register_buffer("turned", (numbers * (1 + 2j)).conj())
        self.register_buffer("minus", (numbers * (1 + 2j)).conj().imag)
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.register_buffer("bytes", torch.tensor([[250], [3]], dtype=torch.uint8))
        self.register_buffer("seen", torch.tensor([True, False]))
        self.register_buffer("empty", torch.empty(0, 3))
        self.register_buffer("memory_bank", numbers.clone())
        self.register_buffer("memory_used", torch.tensor(int(number)))
        self.register_buffer("unsaved", torch.tensor(7.0), persistent=False)
        self.extra = extra

    def forward(self, x):
        return self.memory_cell(self.norm(self.layer(x)))

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


EXTRAS = {
    "nothing": None,
    "words and numbers": {"name": "a", 3: [1, 2.5, math.inf], "flag": True, "pair": (None, -7)},
    "tensors": {"deep": [{"x": torch.arange(3.0), "y": torch.tensor([1j], dtype=torch.complex128)}], "b": b"\x00\xff"},
    "a tensor": torch.tensor([1.0, 4.0]),
    "a state dict": nn.Linear(2, 1).state_dict(),
}


def odd(number: float = 1.0, extra: object = None, storage: str = "masked") -> nn.Module:
    from sparsekit.layers import sparsify

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(number))
        net = sparsify(
            Odd(number, extra), {"layer": LayerTopology((4, 4), torch.arange(0, 16, 3))}, storage, init="dense"
        )
        net.norm(torch.randn(5, 4) * number)
    sparse_layers(net)["layer"].set_rule_state({"trace": torch.ones(3)})
    return net


def assert_equal(one: object, other: object) -> None:
    """Equal in type, and in every number."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        [assert_equal(one[key], other[key]) for key in one]
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        [assert_equal(*pair) for pair in zip(one, other, strict=True)]
    else:
        assert one == other


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_a_network_with_tensors_of_every_type_and_extra_states_survives_its_ticket_and_its_file(
    extra, storage, tmp_path
):
    net = odd(2.0, extra, storage)
    one = Ticket.of(net, step=3)
    net.extra = "overwritten"
    write_ticket(one, tmp_path / "a.safetensors")
    for ticket in (one, read_ticket(tmp_path / "a.safetensors")):
        back = ticket.model_like(odd(1.0, {"other": 0}, "masked"))
        assert_equal(back.extra, extra)
        for name, tensor in odd(2.0, extra, "masked").state_dict().items():
            if not name.startswith("layer.state_") and name != "_extra_state":
                assert_equal(back.state_dict()[name], tensor)
        assert not back.scale.requires_grad
        assert back.norm.num_batches_tracked == 1
    assert_equal({**read_ticket(tmp_path / "a.safetensors").extra}, {**one.extra})


@pytest.mark.parametrize("storage", STORAGES)
def test_everything_outside_of_sparse_layers_is_averaged_or_is_the_same(storage):
    first, second = (
        odd(number, {"loss": number, "steps": int(number), "x": [torch.tensor([number])]}, storage)
        for number in (1.0, 4.0)
    )
    mixed = superpose([Ticket.of(first, step=0), Ticket.of(second, step=1)], weights=[1, 2])
    states = [net.state_dict() for net in (first, second)]
    names = {name for name in states[0] if not name.startswith("layer.") and name != "_extra_state"}
    assert set(mixed.rest) == names | {"layer.bias"}
    for name in names - {"order", "bytes", "seen", "empty"}:
        a, b = (state[name] for state in states)
        mean = b if not a.is_floating_point() and not a.is_complex() else (a.to(torch.complex128) + 2 * b) / 3
        torch.testing.assert_close(
            mixed.rest[name].to(mean.dtype), mean, rtol=5e-3 if a.dtype.itemsize == 2 else 1e-6, atol=1e-7
        )
        assert mixed.rest[name].dtype == a.dtype
    assert mixed.rest["memory_used"] == 4
    for name in ("order", "bytes", "seen", "empty"):
        assert torch.equal(mixed.rest[name], states[0][name])
    assert mixed.extra["_extra_state"]["loss"] == 3.0
    assert mixed.extra["_extra_state"]["steps"] == 4
    assert mixed.extra["_extra_state"]["x"][0].item() == 3.0
    back = mixed.model_like(first)
    torch.testing.assert_close(back.norm.running_var, mixed.rest["norm.running_var"])
    assert back.extra["steps"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.order.copy_(torch.tensor([0, 1, 2])), "order: tickets must agree .* tensors of torch.int64"),
        (lambda net: net.bytes.add_(1), "bytes: tickets must agree"),
        (lambda net: net.seen.logical_not_(), "seen: tickets must agree .* tensors of torch.bool"),
        (lambda net: setattr(net, "extra", {"name": "b"}), "_extra_state: tickets must agree .* of type str"),
        (lambda net: setattr(net, "extra", {"names": "a"}), "with the same layers, got others, in _extra_state"),
        (lambda net: setattr(net, "order", net.order.float()), "with the same layers, got others, in order"),
        (
            lambda net: setattr(net, "of_float64", net.of_float64.cfloat()),
            "with the same layers, got others, in of_float64",
        ),
    ],
)
def test_what_has_no_average_and_differs_is_refused_by_its_name(change, message):
    tickets = [Ticket.of(odd(extra={"name": "a"}), step=0)]
    net = odd(extra={"name": "a"})
    change(net)
    tickets.append(Ticket.of(net, step=1))
    for options in (
        superpose,
        lambda two: greedy_soup(two, lambda one: 0.0),
        lambda two: greedy_interpolation(two, lambda one: 0.0),
    ):
        with pytest.raises(ValueError, match=message):
            options(tickets)
    if "agree" in message:  # a ticket that is left out need not agree
        assert superpose(tickets, weights=[0, 1]).count == 6


def test_the_book_keeps_extra_states(tmp_path):
    book = TicketBook(tmp_path)
    book.add(odd(extra={"steps": 3}), step=1)
    book.add(odd(extra={"steps": 5}), step=2)
    assert [one.extra["_extra_state"] for one in book] == [{"steps": 3}, {"steps": 5}]
    assert superpose(book).extra["_extra_state"] == {"steps": 5}


def test_what_no_file_of_numbers_can_hold_is_refused_by_its_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"_extra_state: a ticket's file takes numbers, .* got set. Let get_extra_state"
    ):
        write_ticket(Ticket.of(odd(extra={"a": {1, 2}}), step=0), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    net = odd()
    net.register_buffer("graph", torch.eye(3).to_sparse())
    with pytest.raises(ValueError, match=r"graph: a ticket only takes dense arrays of numbers, got torch.sparse_coo"):
        Ticket.of(net, step=0)


def test_a_ticket_does_not_turn_one_kind_of_numbers_into_another():
    one, net = Ticket.of(odd(), step=0), odd()
    net.order = net.order.double()
    with pytest.raises(
        ValueError, match="order: a ticket needs a model with the same kinds of numbers, got torch.int64"
    ):
        one.model_like(net)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_model_that_is_a_single_layer_has_tickets_too(storage, tmp_path):
    from sparsekit.layers import sparsify

    net = sparsify(nn.Linear(4, 2), {"": LayerTopology((2, 4), torch.tensor([0, 5, 6]))}, storage, init="dense")
    one = Ticket.of(net, step=0)
    assert list(one.rest) == ["bias"]
    write_ticket(one, tmp_path / "a.safetensors")
    back = read_ticket(tmp_path / "a.safetensors").model_like(net)
    x = torch.randn(3, 4)
    assert torch.equal(back(x), net(x))
    assert superpose([one, one]).topology == one.topology


def test_tickets_of_tied_weights_hold_them_once_and_can_be_superposed(tmp_path):
    plain = TiedHead()
    shapes = shapes_of(plain, include=("embeddings", "tied"))
    nets = [sparsify(plain, random_topology(shapes, 0.3, seed=seed), init="dense") for seed in range(2)]
    tickets = [Ticket.of(net, step=step) for step, net in enumerate(nets)]
    assert set(tickets[0].rest) == {"hidden.bias"}
    write_ticket(tickets[1], tmp_path / "ticket")
    words = torch.tensor([[0, 3, 6]])
    for model in (plain, nets[0]):
        again = read_ticket(tmp_path / "ticket").model_like(model)
        assert torch.equal(again(words), nets[1](words))
    both = superpose(tickets)
    net = both.model_like(plain)
    assert net.words._parameters["weight"] is net.head._parameters["weight"]
    assert torch.equal(net.words.weight.read(), net.head.weight.read())
    assert topology_of(net) == both.topology
