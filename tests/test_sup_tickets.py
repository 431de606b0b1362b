"""Cheap tickets: exact split, triangles, large rewirings at the start of cycles, tickets where the rate is low."""

import importlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rule_helpers import rule_of
from test_resume import Killed
from training_helpers import STORAGES, batches_of, same, tiny, train

from sparsekit import datasets
from sparsekit.evaluation.measuring import evaluate
from sparsekit.experiments import Experiment, load_model, run, work
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.experiments.sup_tickets import (
    Split,
    SupTickets,
    ordinary_part,
    plan,
    run_all_sup_tickets,
    run_controls,
    run_sup_tickets,
    split_epochs,
    superpositions,
)
from sparsekit.layers import sparse_layers
from sparsekit.models import build
from sparsekit.rewiring.journal import Journal
from sparsekit.rules import GMP, GSE, SET, DeepR, GraNet, RigL, SRigL, Static
from sparsekit.rules.cycles import Cycles
from sparsekit.rules.parts import PARTS, HasGradientPenalty, part_of
from sparsekit.schedules import Constant, Joined, Linear, Triangular
from sparsekit.tickets import superpose
from sparsekit.train import load_checkpoint
from sparsekit.tricks import GhostNeurons, GhostSkips, LabelSmoothing
from sparsekit.utils.settings import from_plain, to_plain

COLLECT = importlib.import_module("sparsekit.experiments.sup_tickets.collect")

# Three steps an epoch, and batch norm, so that refreshing its statistics matters.
NET = Experiment(
    recipe="tiny",
    data="digits",
    data_settings={"flat": False},
    model="small-cnn",
    model_settings={"widths": (6, 8)},
    density=0.3,
    rule=RigL(every=2, stop=5, drop_fraction=0.5),
    epochs=6,
    batch_size=500,
)
SUP = SupTickets(experiment=NET, cycle_rate=0.7, cycle_epochs=2, low=0.02, high=0.1)
BASES = {
    "rigl": NET.rule,
    "set": SET(every=2, stop=5),
    "gse": GSE(every=2, stop=5),
    "granet": GraNet(every=2, stop=5, final=0.3),
    "gmp": GMP(every=2, stop=5, final=0.3),
    "static": Static(),
}


# --- the split of the epochs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((250, 0.1, 8), (226, 3)),
        ((160, 0.2, 8), (128, 4)),
        ((100, 0.1, 8), (92, 1)),
        ((250, 0.1, 30), (250, 0)),
        ((100, 0.29, 29), (71, 1)),  # 100 * 0.29 is 28.999... in floating point
        ((60, 0.2, 4), (48, 3)),
        ((10, 0.0, 1), (10, 0)),
    ],
)
def test_epochs_are_split_exactly(arguments, expected):
    assert split_epochs(*arguments) == Split(*expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((112, 12 / 112, 6), (100, 2)),
        ((60, 1 / 3, 4), (40, 5)),
        ((100, 0.29, 29), (71, 1)),
        ((100, 0.29, 1), (71, 29)),
        ((50, 1 - 0.8, 5), (40, 2)),
        ((90, 3 * 0.1, 9), (63, 3)),
        ((1000, 0.1239, 124), (1000, 0)),
    ],
)
def test_a_rate_that_is_no_short_decimal_loses_no_cycle(arguments, expected):
    assert split_epochs(*arguments) == Split(*expected)


@given(epochs=st.integers(2, 500), cycles=st.integers(1, 20), cycle=st.integers(1, 30))
def test_the_share_that_some_cycles_take_gives_just_these(epochs, cycles, cycle):
    if cycles * cycle < epochs:
        assert split_epochs(epochs, cycles * cycle / epochs, cycle) == Split(epochs - cycles * cycle, cycles)


@given(epochs=st.integers(1, 500), percent=st.integers(0, 99), cycle=st.integers(1, 60))
def test_a_split_uses_up_all_epochs_and_never_more_than_the_rate(epochs, percent, cycle):
    try:
        split = split_epochs(epochs, percent / 100, cycle)
    except ValueError:
        return
    assert split.pretraining + split.cycles * cycle == epochs
    assert 100 * split.cycles * cycle <= epochs * percent < 100 * (split.cycles + 1) * cycle


@pytest.mark.parametrize(("arguments", "said"), [((0, 0.1, 8), "at least 1"), ((10, 1.0, 8), "cycle_rate must lie")])
def test_a_split_of_nothing_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        split_epochs(*arguments)


# --- the learning rate ------------------------------------------------------------------------------------------


def test_the_rate_climbs_and_falls_back_within_each_cycle():
    rate = Joined(Constant(0.1), at=100, then=Triangular(0.001, 0.005, cycle=8))
    rates = [round(rate(step), 6) for step in (99, *range(100, 109))]
    assert rates == [0.1, 0.001, 0.002, 0.003, 0.004, 0.005, 0.004, 0.003, 0.002, 0.001]


def test_the_first_of_joined_schedules_lasts_up_to_the_joint():
    rate = Joined(Linear(1.0), at=10, then=Linear(1.0)).lasting(30)
    assert [rate(step) for step in (0, 5, 10, 20, 30)] == [1, 0.5, 1, 0.5, 0]
    assert from_plain(json.loads(json.dumps(to_plain(rate)))) == rate
    with pytest.raises(ValueError, match="step 1 or later"):
        Joined(Constant(1.0), at=0, then=Constant(1.0))


def test_the_plan_is_the_authors_schedule_in_steps():
    sup = SupTickets(experiment=digits_mlp(epochs=250))
    experiment, ends = plan(sup, 1197)
    steps = 19
    rate = experiment.learning_rate
    assert ends == [226 * steps, 234 * steps, 242 * steps, 250 * steps]
    rates = [rate(epoch * steps) for epoch in (0, 112, 113, 168, 169, 225, 226, 228, 230, 232)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001, 0.003, 0.005, 0.003])
    assert rate(234 * steps - 1) == pytest.approx(0.001, rel=0.06)  # the ticket is taken in the trough
    assert isinstance(experiment.rule, Cycles)


def test_a_collection_without_cycles_is_the_ordinary_training():
    sup = replace(SUP, cycle_rate=0.1, cycle_epochs=4, low=None, high=None)
    experiment, ends = plan(sup, 1197)
    assert ends == [18]
    assert experiment.rule == NET.rule


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"low": 0.05, "high": 0.0001}, "low must be below high"),  # the defaults of the authors' code
        ({"low": 0.05, "high": 0.05}, "low must be below high"),
        ({"low": 0.0}, "low must be above 0"),
        ({"explore": 1.5}, "explore must lie"),
        ({"cycle_rate": 0.99, "cycle_epochs": 1, "experiment": replace(NET, epochs=1)}, None),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, said):
    if said is None:
        assert replace(SUP, **changes).split == Split(1, 0)
        return
    with pytest.raises(ValueError, match=said):
        replace(SUP, **changes)


def test_only_experiments_and_collections_are_taken():
    with pytest.raises(TypeError, match="Experiment"):
        SupTickets(experiment=NET.rule)
    with pytest.raises(TypeError, match="SupTickets"):
        run_sup_tickets(NET)


def test_a_trough_that_lies_above_the_peak_is_refused_where_only_the_plan_can_tell():
    with pytest.raises(ValueError, match="must rise from above 0"):
        plan(replace(SUP, low=None, high=0.0001), 1197)


@pytest.mark.parametrize("trick", [GhostNeurons(stop=18), GhostSkips(stop=7), GhostNeurons()])
def test_ghosts_that_would_be_in_a_ticket_are_refused(trick):
    """The last ends where tricks usually do, after 0.4 of 18 steps."""
    sup = replace(SUP, experiment=replace(NET, tricks=(trick,)))
    with pytest.raises(ValueError, match=r"gone when the first ticket is taken, at step 6, got stop=(18|7)\. Give it"):
        plan(sup, 1197)


def test_ghosts_that_end_with_the_ordinary_training_are_in_no_ticket(tmp_path):
    tricks = (GhostNeurons(stop=6), GhostSkips(stop=6), LabelSmoothing())  # what is no ghost may continue
    collection = run_sup_tickets(replace(SUP, experiment=replace(NET, tricks=tricks)), tmp_path, progress=False)
    data = datasets.load("digits", flat=False)
    test = [(data.prepare(x), y) for x, y in datasets.batches_in_order(data.test, 1000)]
    plain = load_model(collection.history.folder)
    for one in collection.tickets:
        assert evaluate(one.model_like(plain), test).accuracy == one.accuracy


# --- the rule ---------------------------------------------------------------------------------------------------


def test_the_base_continues_within_cycles_only_where_it_may():
    rule = Cycles(base=RigL(every=3, stop=None, drop_fraction=Constant(0.1)), after=10, length=5)
    assert [step for step in range(21) if rule.is_due(step)] == [0, 3, 6, 9, 10, 15, 20]
    assert [step for step in range(21) if replace(rule, freeze=False).is_due(step)] == [
        *(0, 3, 6, 9, 10, 12, 15, 18),
        20,
    ]
    assert [step for step in range(21) if replace(rule, explore=0.0).is_due(step)] == [0, 3, 6, 9]
    assert [step for step in range(21) if rule.ends_at(step)] == [9, 14, 19]


def test_cycles_survive_json_and_take_everything_else_from_the_base():
    base = GSE(every=2, stop=5, probe_batches=3)
    rule = Cycles(base=base, after=10, length=5)
    assert from_plain(json.loads(json.dumps(to_plain(rule)))) == rule
    for name in ("needs_gradients", "replaces_step", "probe_batches", "every_step"):
        assert getattr(rule, name) == getattr(base, name)
    for part in PARTS:
        assert (part_of(rule, part) is None) == (part_of(base, part) is None)
    assert part_of(Cycles(base=DeepR(stop=9), explore=0.0), HasGradientPenalty)
    assert part_of(rule, HasGradientPenalty) is None
    with pytest.raises(AttributeError, match="'Cycles' object has no attribute 'every'"):
        rule.every  # noqa: B018
    assert Cycles(base=rule_of("snfs", every=2), explore=0.5).needs_dense


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cycles(base=DeepR(stop=9)), "must have a drop_fraction to explore with, got DeepR"),
        (lambda: Cycles(base=GMP(stop=2000, final=0.1), after=100), "the density must have arrived"),
        (lambda: Cycles(base=RigL(stop=9), length=1), "length 2"),
        (lambda: Cycles(base=RigL(stop=9), explore=-0.1), "explore must lie"),
    ],
)
def test_rules_that_cannot_cycle_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_rules_of_their_own_explore_too():
    assert Cycles(base=SRigL(stop=90), after=100).explores_at(100)
    assert not Cycles(base=Static(), after=100).explores_at(100)


@pytest.mark.parametrize("storage", STORAGES)
def test_where_growing_comes_first_a_cycle_begins_without_what_was_dropped_and_with_zeros(storage):
    rule = Cycles(base=RigL(every=2, stop=3, drop_fraction=0.3, allow_regrowth=False), after=5, length=3)
    model = tiny(storage)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    changes = dict(train(model, optimizer, batches_of(6), rule))
    assert list(changes) == [0, 2, 5]
    for name, layer in sparse_layers(model).items():
        dropped, grown = changes[5].dropped[name], changes[5].grown[name]
        assert len(grown) == len(dropped) == layer.topology.count // 2
        assert (layer.topology.position_of(dropped) < 0).all()
        assert not layer.values()[layer.topology.position_of(grown)].any()


# --- collecting -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Each collection carried out once, in either storage."""
    collections = {}

    def get(name, storage="masked", **changes):
        key = (name, storage, *changes.items())
        if key not in collections:
            experiment = replace(NET, rule=BASES[name], storage=storage)
            sup = replace(SUP, experiment=experiment, **changes)
            collections[key] = run_sup_tickets(sup, tmp_path_factory.mktemp("sup"), progress=False)
        return collections[key]

    return get


@pytest.mark.parametrize("name", BASES)
def test_a_ticket_is_taken_before_the_first_cycle_and_after_each(collected, name):
    collection = collected(name)
    assert collection.book.steps == [6, 12, 18]
    counts = {one.count for one in collection.tickets}
    assert len(counts) == 1
    assert counts == {round(0.3 * collection.tickets[0].topology.size)}


@pytest.mark.parametrize("name", [name for name in BASES if name != "static"])
def test_each_cycle_begins_with_one_large_rewiring_and_then_keeps_its_topology(collected, name):
    journal = collected(name).history.journal
    late = [(step, change) for step, change in journal.entries if step > 5]
    assert [step for step, _ in late] == [6, 12]
    for _, change in late:
        # At most the share 0.5 of each layer. What is dropped may regrow at once.
        sizes = {n: layer.count for n, layer in journal[-1].items()}
        exchanged = {n: x.numel() for n, x in change.grown.items()}
        assert all(exchanged[n] <= math.ceil(0.5 * sizes[n]) for n in sizes)
        assert sum(exchanged.values()) > 0


def test_set_explores_at_random_and_rigl_by_gradients(collected):
    """In the authors' code both are RigL."""
    topologies = [collected(name).tickets[1].topology for name in ("set", "rigl")]
    assert topologies[0] != topologies[1]
    assert not Cycles(base=BASES["set"]).needs_gradients
    assert Cycles(base=BASES["rigl"]).needs_gradients


def test_a_topology_that_is_not_frozen_keeps_changing_within_the_cycles(tmp_path):
    """As in the authors' commands for ImageNet."""
    unfrozen = replace(NET, rule=RigL(every=2, stop=None, drop_fraction=Constant(0.3)))
    collection = run_sup_tickets(replace(SUP, experiment=unfrozen, freeze=False), tmp_path, progress=False)
    late = {step: change for step, change in collection.history.journal.entries if step > 5}
    assert list(late) == [6, 8, 10, 12, 14, 16]
    assert all(sum(grown.numel() for grown in change.grown.values()) > 0 for change in late.values())
    assert len({one.count for one in collection.tickets}) == 1


def test_a_rule_that_has_stopped_cannot_continue_within_cycles():
    """Named rules stop after three quarters of the training."""
    with pytest.raises(
        ValueError, match=r"must continue in the cycles, after step 6, got stop=5\. Make it with stop=None"
    ):
        plan(replace(SUP, freeze=False), 1197)
    plan(replace(SUP, freeze=False, experiment=replace(NET, rule=Static())), 1197)
    plan(replace(SUP, freeze=False, cycle_rate=0.1, cycle_epochs=4), 1197)  # no cycles


def test_without_exploration_all_tickets_have_one_topology_and_other_values(collected):
    tickets = collected("rigl", explore=0.0).tickets
    assert tickets[0].topology == tickets[1].topology == tickets[2].topology
    assert not same(dict(tickets[0].values), dict(tickets[2].values))
    static = collected("static").tickets
    assert static[0].topology == static[2].topology


def test_the_union_stays_within_its_bound(collected):
    for name in BASES:
        tickets = collected(name).tickets
        union = tickets[0].topology
        for cycle, one in enumerate(tickets[1:], 1):
            union = union | one.topology
            assert union.count <= tickets[0].count * (1 + 0.5 * cycle)


def test_tickets_are_the_networks_of_those_steps(collected, tmp_path):
    """Training continues from the network itself, never from an average. Each ticket is what a plain run has then."""
    collection = collected("rigl")
    experiment, ends = plan(collection.sup, 1197)
    for end, one in zip(ends, collection.tickets, strict=True):
        history = run(experiment, tmp_path, until=end, progress=False)
        net = load_model(history.folder)
        assert all(same(layer.values(), one.values[name]) for name, layer in sparse_layers(net).items())
        assert one.accuracy == history.last("test accuracy")


def test_nothing_is_tested_before_the_first_ticket(collected):
    rows = collected("rigl").history.rows
    _, ends = plan(SUP, 1197)
    tested = [row.step + 1 for row in rows if row.name == "test accuracy"]
    assert tested == list(range(ends[0], ends[-1] + 1, 3))
    assert len([row for row in rows if row.name == "train loss"]) == ends[-1]


def test_a_collection_is_tested_more_often_where_the_experiment_says_so():
    longer = replace(SUP, experiment=replace(NET, test_last=6))
    assert plan(longer, 1197)[0].test_last == 6
    assert ordinary_part(longer, 1197).test_last == 2
    with pytest.raises(ValueError, match="test_last must be 5 at least.*got 4"):
        plan(replace(SUP, experiment=replace(NET, test_last=4)), 1197)


@pytest.mark.parametrize("name", ["rigl", "gse"])
def test_both_storages_collect_the_same_tickets(collected, name):
    for a, b in zip(collected(name).tickets, collected(name, "csr").tickets, strict=True):
        shared = sum((a.topology[n] & b.topology[n]).count for n in a.topology)
        # Both sum in another order, so a tie or a rounding may choose another connection in single precision.
        assert shared >= 0.98 * a.count


def test_no_cycles_give_the_pretrained_network(tmp_path):
    sup = replace(SUP, cycle_rate=0.1, cycle_epochs=4, low=None, high=None)
    collection = run_sup_tickets(sup, tmp_path, progress=False)
    (only,) = collection.tickets
    mixed = collection.superposed()
    assert mixed.topology == only.topology
    assert same(dict(mixed.values), dict(only.values))
    assert same(dict(mixed.rest), dict(only.rest))


@pytest.mark.parametrize(("storage", "at"), [("masked", 3), ("masked", 6), ("csr", 8), ("masked", 12)])
def test_killed_at_any_step_and_resumed_it_ends_the_same(collected, tmp_path, monkeypatch, storage, at):
    whole = collected("rigl", storage)
    kill_before(monkeypatch, at)
    with pytest.raises(Killed):
        run_sup_tickets(whole.sup, tmp_path, progress=False, checkpoint_steps=2)
    monkeypatch.undo()
    resumed = run_sup_tickets(whole.sup, tmp_path, progress=False, checkpoint_steps=2)
    for a, b in zip(resumed.tickets, whole.tickets, strict=True):
        assert same(a.state(), b.state())
        assert a.accuracy == b.accuracy
    last = [load_checkpoint(one.history.folder / "checkpoint.pt") for one in (resumed, whole)]
    assert same(last[0]["model"], last[1]["model"])


def kill_before(monkeypatch, step: int) -> None:
    """Stop the process where a step would begin."""
    training = work.training

    def dying(*args, **settings):
        for number, stats, change in training(*args, **settings):
            if number == step:
                raise Killed
            yield number, stats, change

    monkeypatch.setattr(work, "training", dying)


def test_a_finished_collection_is_read_and_not_trained_again(tmp_path, monkeypatch):
    first = run_sup_tickets(SUP, tmp_path, progress=False)
    kill_before(monkeypatch, 0)
    second = run_sup_tickets(SUP, tmp_path, progress=False)
    assert [one.step for one in second.tickets] == [one.step for one in first.tickets]
    assert second.history.rows == first.history.rows


def test_a_run_that_went_past_a_missing_ticket_is_refused_and_stays(tmp_path):
    collection = run_sup_tickets(SUP, tmp_path, progress=False)
    collection.book.path_of(12).unlink()
    with pytest.raises(ValueError, match="must stop for its ticket at step 12, got .* at step 18 without it"):
        run_sup_tickets(SUP, tmp_path, progress=False)
    assert collection.book.steps == [6, 18]
    assert len(Journal.read(collection.history.folder / "journal")) == len(collection.history.journal)


@pytest.mark.parametrize("other_collects", [True, False])
def test_a_run_that_another_process_continues_meanwhile_gives_no_wrong_ticket(
    collected, tmp_path, monkeypatch, other_collects
):
    """Between the end of `run` and the loading of the model, another process may save a later step."""
    whole, load = collected("rigl"), COLLECT.load_model

    def late(folder, **settings):
        monkeypatch.undo()
        if other_collects:
            run_sup_tickets(whole.sup, tmp_path, progress=False)
        else:
            run(plan(whole.sup, 1197)[0], tmp_path, progress=False)
        return load(folder, **settings)

    monkeypatch.setattr(COLLECT, "load_model", late)
    if other_collects:
        collection = run_sup_tickets(whole.sup, tmp_path, progress=False)
        assert all(same(a.state(), b.state()) for a, b in zip(collection.tickets, whole.tickets, strict=True))
    else:
        with pytest.raises(ValueError, match="must stop for its ticket at step 6, got .* at step 18 without it"):
            run_sup_tickets(whole.sup, tmp_path, progress=False)


def test_a_collection_survives_json(collected):
    sup = collected("rigl").sup
    assert from_plain(json.loads(json.dumps(to_plain(sup)))) == sup


# --- superposing what was collected -----------------------------------------------------------------------------


def test_every_superposition_is_measured_beside_its_controls(collected):
    collection = collected("rigl")
    data = datasets.load("digits", flat=False)
    model = load_model(collection.history.folder)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    table = superpositions(collection.tickets, model, data)
    assert same(model.state_dict(), before)
    assert table.loc["superposed", "connections"] == collection.tickets[0].count
    assert table.loc["mean, not pruned", "connections"] > collection.tickets[0].count
    assert table.loc["ensemble", "connections"] == sum(one.count for one in collection.tickets)
    singles = table.loc[["ticket 0", "ticket 1", "ticket 2"]]
    # Tickets are measured with their own statistics first: the same that the run has recorded.
    assert singles["accuracy, not refreshed"].tolist() == pytest.approx([one.accuracy for one in collection.tickets])
    assert table.loc["mean of tickets", "loss"] == pytest.approx(singles["loss"].mean())
    latest = superpositions(collection.tickets[1:], model, data)  # LAWA is of the later half, here two of three
    assert table.loc["LAWA"].equals(latest.loc["superposed"])
    # The ensemble is of the tickets as they were trained, in all columns.
    ensemble = table.loc["ensemble"]
    assert (ensemble["loss"], ensemble["accuracy"]) == tuple(
        ensemble[["loss, not refreshed", "accuracy, not refreshed"]]
    )
    # Jensen: the loss of the mean of outputs is at most the mean of the losses.
    assert table.loc["ensemble", "loss"] <= singles["loss, not refreshed"].mean()
    assert math.isfinite(table["loss"].sum())


def test_superpositions_are_measured_with_refreshed_batch_norm_and_without(collected):
    """Averaged weights with averaged statistics, and with their own: the first columns are the latter."""
    collection, data = collected("rigl"), datasets.load("digits", flat=False)
    model = load_model(collection.history.folder)
    train, test = (
        [(data.prepare(x), y) for x, y in datasets.batches_in_order(split, 1000)] for split in (data.train, data.test)
    )
    one = superpose(collection.tickets).model_like(model)
    fresh, stale = evaluate(one, test, refresh_with=train), evaluate(one, test)
    row = superpositions(collection.tickets, model, data).loc["superposed"]
    assert (row["loss"], row["accuracy"]) == (fresh.loss, fresh.accuracy)
    assert (row["loss, not refreshed"], row["accuracy, not refreshed"]) == (stale.loss, stale.accuracy)
    assert abs(fresh.loss - stale.loss) > 0.002


def test_controls_are_collected_and_stand_in_the_table(tmp_path):
    sup = replace(SUP, experiment=replace(NET, epochs=4, seed=3))
    controls = run_controls(sup, tmp_path, strangers=2, progress=False)
    assert list(controls) == ["no exploration", "other seeds"]
    same_seed, other_seed = (
        run_sup_tickets(replace(sup, experiment=replace(sup.experiment, seed=seed)), tmp_path, progress=False).tickets
        for seed in (3, 4)
    )
    still = controls["no exploration"]
    assert still[0].topology == still[-1].topology  # no connection changes in its cycles
    assert same_seed[0].topology != same_seed[-1].topology
    assert [same(a.state(), b.state()) for a, b in zip(still, same_seed, strict=True)] == [True, False]
    last = [same_seed[-1].state(), other_seed[-1].state()]
    assert all(same(ticket.state(), state) for ticket, state in zip(controls["other seeds"], last, strict=True))

    data = datasets.load("digits", flat=False)
    model = same_seed[0].model_like(build("small-cnn", input_shape=(1, 8, 8), num_classes=10, widths=(6, 8)))
    table = superpositions(same_seed, model, data, controls=controls)
    for name, tickets in controls.items():
        alone = superpositions(tickets, model, data)
        for network in ("superposed", "ensemble"):
            assert table.loc[f"{network}, {name}"].equals(alone.loc[network])
    alone = superpositions(still, model, data)
    for average in ("EMA", "LAWA"):  # beside plain SWA, and for the one basin only
        assert table.loc[f"{average}, no exploration"].equals(alone.loc[average])
        assert f"{average}, other seeds" not in table.index
    plain = superpositions(same_seed, model, data)
    assert table.loc[plain.index].equals(plain)


def test_what_cannot_be_a_control_is_left_out_or_refused(tmp_path, monkeypatch):
    collected = []
    monkeypatch.setattr(
        importlib.import_module("sparsekit.experiments.sup_tickets.controls"),
        "run_sup_tickets",
        lambda sup, *_, **__: collected.append(sup) or SimpleNamespace(tickets=[]),
    )
    fixed = replace(SUP, experiment=replace(NET, rule=Static()))
    for sup in (fixed, replace(SUP, explore=0.0)):
        assert run_controls(sup, tmp_path, strangers=0) == {}
    assert collected == []
    with pytest.raises(ValueError, match="strangers must be 0 or at least 2, got 1"):
        run_controls(SUP, tmp_path, strangers=1)


def test_batch_norm_of_a_superposition_must_be_refreshed(collected):
    """Averaged statistics describe no network."""
    collection = collected("set")
    data = datasets.load("digits", flat=False)
    one = superpose(collection.tickets).model_like(load_model(collection.history.folder))
    train = list(datasets.batches_in_order(data.train, 1000))
    stale, fresh = evaluate(one, train), evaluate(one, train, refresh_with=train)
    assert fresh.loss < stale.loss


def test_tickets_of_one_run_average_well_and_those_of_other_seeds_do_not(tmp_path):
    """The contrast that validates averaging: one basin against three."""
    data = datasets.load("digits")
    torch.set_num_threads(1)
    experiments = [digits_mlp(density=0.2, epochs=20, seed=seed) for seed in range(3)]
    sups = [SupTickets(experiment=one, cycle_rate=0.2, cycle_epochs=2) for one in experiments]
    collections = run_all_sup_tickets(sups, tmp_path, progress=False)
    model = load_model(collections[-1].history.folder)
    together = superpositions(collections[-1].tickets, model, data)["accuracy"]
    apart = superpositions([collection.tickets[-1] for collection in collections], model, data)["accuracy"]
    assert together["superposed"] > together["mean of tickets"] - 0.02
    assert apart["superposed"] < apart["mean of tickets"] - 0.2
