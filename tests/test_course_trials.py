"""Exercises that experiment: what they measure decides, and what they measure is what the notebooks say."""

import pytest
import torch

from sparsekit.experiments.course import arena, cycles, lotteries
from sparsekit.experiments.course.cycles import mixed_with, own_survivors
from sparsekit.experiments.course.swapped import Pair, with_swapped
from sparsekit.experiments.course.tasks import beyond_trials, exercise, exercises, landscape_trials, ticket_trials
from sparsekit.experiments.course.tasks.trials import Trial
from sparsekit.layers import sparsify
from sparsekit.models import build
from sparsekit.tickets import Ticket, superpose
from sparsekit.topology import LayerTopology, Topology

TRIALS = [one for one in exercises() if isinstance(one, Trial)]


def ticket(positions: list[int], values: float | list[float] = 1.0, accuracy: float = 0.9) -> Ticket:
    """Return a ticket of one layer of 4 × 5, with connections of these values at some positions."""
    mask, linear = torch.zeros(20, dtype=torch.bool), torch.nn.Linear(5, 4)
    mask[positions] = True
    linear.weight.data.view(-1)[positions] = torch.as_tensor(values)
    topology = Topology({"0": LayerTopology.of_mask(mask.view(4, 5))})
    model = sparsify(torch.nn.Sequential(linear), topology, init="dense")
    return Ticket.of(model, step=0, accuracy=accuracy)


@pytest.fixture
def measured(monkeypatch):
    """Let the trials read from a table what they would train for."""
    monkeypatch.setattr(lotteries, "accuracy_of_tickets", lambda counts: 80 + 3 * len(counts))
    monkeypatch.setattr(lotteries, "accuracy_of_shuffled", lambda counts: 95 - 3 * len(counts))
    pairs = {2: Pair(91, 91, 0.5), 48: Pair(91, 91, 20)}
    monkeypatch.setattr(landscape_trials, "pair_with_swapped", pairs.__getitem__)
    monkeypatch.setattr(landscape_trials, "_smoothed", lambda amount: 85.0 if amount < 0.5 else 60.0)
    monkeypatch.setattr(landscape_trials, "_leap", lambda strength: (0.2, 0.2 + strength / 2))
    monkeypatch.setattr(landscape_trials, "_milliseconds", lambda density: (10.0, 40 * density))
    monkeypatch.setattr(beyond_trials, "_cut_and_mended", lambda density: (800 * density, 85 + 100 * density))
    monkeypatch.setattr(beyond_trials, "_verdict", lambda seeds: (seeds > 4, f"from {seeds} seeds"))
    monkeypatch.setattr(landscape_trials, "_accuracy_of", lambda rule: 91.0 if rule.every < 400 else 80.0)


# --- what is right, and what is told to those who are wrong -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("sturdy_level", 2, 4, "reads 92.0 of 100, and a shuffled mask 83.0 (means of 3)."),
        ("patient_levels", 3, 1, "after 1 levels reads 83.0 of 100"),
        (
            "swapped_units",
            48,
            2,
            "network and copy read 91.0 and 91.0 of 100. Between them the error rises by 0.5 points",
        ),
        ("harmless_units", 2, 48, "the error rises by 20.0 points"),
        ("harmful_smoothing", 0.9, 0.1, "it reads 85.0 of 100, and 85.0 without"),
        ("gentle_strength", 0.1, 0.8, "from 0.20 to 0.60 nats, a leap of 0.40."),
        ("no_gain_density", 0.5, 0.01, "csr takes 0.4 ms on this machine, and dense 10.0 ms."),
        ("affordable_every", 150, 25, "costs 24.4% more operations than a fixed mask, and reads 91.0 of 100"),
        ("asked_density", 0.15, 0.4, "With density 0.4 in the sparse layers 57.5% of all parameters exist."),
        ("mendable_density", 0.07, 0.1, "With 10 % of its weights it reads 80.0 of 100 after the cut, and 95.0"),
        ("mendable_density", 0.05, 0.03, "it reads 24.0 of 100 after the cut, and 88.0 after fine-tuning"),
        ("checkpoint_every", 57, 5, "With a checkpoint every 5 steps a run takes 91% longer"),
        ("checkpoint_every", 40, 400, "With a checkpoint every 400 steps a run takes 84% longer"),
        ("telling_seeds", 8, 3, "From 3 seeds"),
        ("affordable_every", 200, 500, "costs 1.3% more operations than a fixed mask, and reads 80.0 of 100"),
    ],
)
def test_a_trial_tells_what_it_measured(measured, name, good, bad, said):
    assert exercise(name).check(good)
    verdict = exercise(name).check(bad)
    assert verdict.state == "wrong"
    assert said in verdict.message


def test_magnitude_and_snip_part_where_the_notebook_says():
    task = exercise("parting_compression")
    assert task.check(64)
    assert "magnitude leaves 0 of 6 layers empty" in task.check(16).message
    assert "and SNIP has 0 connections on a path" in task.check(1024).message


def test_snip_masks_agree_the_more_examples_they_see():
    task = exercise("steady_examples")
    assert "from 5 examples of each class" in task.check(5).message
    assert task.check(40)
    (inputs, labels), (others, _) = ticket_trials._halves(3, seed=0)
    assert torch.bincount(labels).tolist() == [3] * 10
    assert not any((others == one).all(1).any() for one in inputs)


def test_cycles_are_assessed_by_new_connections_and_accuracy(monkeypatch):
    for newcomer, accuracy, is_right in ((0.1, 0.9, False), (0.5, 0.9, True), (0.5, 0.5, False)):
        last = ticket([0, 1, 9], [1.0, 1.0, newcomer], accuracy)
        monkeypatch.setattr(cycles, "tickets_of", lambda *_, last=last: ((ticket([0, 1, 2]), last, last),))
        assert bool(exercise("growing_rate").check(0.1)) is is_right
    monkeypatch.setattr(cycles, "tickets_of", lambda *_: ((ticket([0, 1]), ticket([0, 2]), ticket([0, 3])),))
    assert "visit 2.00 times as many positions" in exercise("wandering_explore").check(0.5).message


def test_an_average_is_compared_with_both_of_its_networks(monkeypatch):
    monkeypatch.setattr(cycles, "tickets_of", lambda *_: ((ticket([0]), ticket([0]), ticket([2])),))
    for accuracy, is_right in ((95.0, False), (89.5, False), (50.0, True)):
        monkeypatch.setattr(cycles, "accuracy_of", lambda ticket, accuracy=accuracy: accuracy)
        assert bool(exercise("parting_rate").check(1)) is is_right
    said = "ticket 0 reads 90.0 of 100, the last ticket 90.0, and their average 50.0"
    assert said in exercise("parting_rate").check(1).message


def test_a_weight_decides_who_is_heard(monkeypatch):
    tickets = ticket([0, 1, 2]), ticket([0, 1, 3]), ticket([0, 8, 9])
    assert own_survivors(tickets, mixed_with(tickets, 0.1)) == 0
    assert own_survivors(tickets, mixed_with(tickets, 1.0)) == 1
    assert own_survivors(tickets, superpose(list(tickets), prune="never")) == 1
    monkeypatch.setattr(cycles, "tickets_of", lambda *_: (tickets,))
    monkeypatch.setattr(cycles, "accuracy_of", lambda ticket: 95.0)
    assert not exercise("heard_weight").check(0.1)
    assert exercise("heard_weight").check(0.9)
    monkeypatch.setattr(cycles, "accuracy_of", lambda ticket: 90.5)
    assert not exercise("heard_weight").check(0.9)


@pytest.mark.parametrize("task", TRIALS, ids=lambda task: task.name)
def test_numbers_outside_and_what_is_no_number_measure_nothing(task, monkeypatch):
    for answer in (task.high + 1, -1, float("nan"), "0.3", True):
        verdict = task.check(answer)
        assert verdict.state == "wrong"
        assert "lies between" in verdict.message or "is a number, got" in verdict.message
    if task.whole:
        assert "is an integer, got 2.5." in task.check(2.5).message


def test_a_run_without_deaths_pays_for_its_checkpoints_only(monkeypatch):
    monkeypatch.setattr(beyond_trials, "DEATH_EVERY", 1e9)
    assert beyond_trials.steps_with_deaths(100, seed=0) == 2000 + 20 * 4
    assert beyond_trials.steps_with_deaths(1999, seed=0) == 2000 + 2 * 4


def test_fine_tuning_brings_back_what_a_cut_has_lost(monkeypatch):
    monkeypatch.setattr(beyond_trials, "TUNING_EPOCHS", 2)
    cut, mended = beyond_trials._cut_and_mended(0.05)
    assert 10 < cut < 70 < mended
    beyond_trials._cut_and_mended.cache_clear()


def test_a_verdict_about_rules_needs_seeds(monkeypatch):
    scores = {"SET": arena.Score((80.0, 82.0, 81.0)), "RigL": arena.Score((91.0, 91.5, 90.0))}
    monkeypatch.setattr(arena, "compete", lambda rules, seeds: scores)
    fits, said = beyond_trials._verdict(3)
    assert fits
    assert said.startswith("from 3 seeds RigL is ahead of SET by +9.8 ± ")
    assert said.endswith("which is reproduced.")
    beyond_trials._verdict.cache_clear()


# --- the experiments themselves, as short as they can be ----------------------------------------------------------


def test_a_lottery_in_memory_keeps_as_many_connections_as_it_says(monkeypatch):
    monkeypatch.setattr(lotteries, "EPOCHS", 1)
    counts = lotteries.counts_of_levels(2, 293)
    first, last = lotteries.tickets_after(counts[:1]), lotteries.tickets_after(counts)
    assert [one.count for one in (*first, *last)] == [1310] * 3 + [293] * 3
    assert all((after - before).count == 0 for before, after in zip(first, last, strict=True))
    assert 5 < lotteries.accuracy_of_shuffled(counts) <= 100
    assert 5 < lotteries.accuracy_of_tickets(counts) <= 100
    for cached in (lotteries.tickets_after, lotteries.accuracy_of_tickets, lotteries.accuracy_of_shuffled):
        cached.cache_clear()


def test_a_collection_in_memory_takes_three_tickets_of_each_seed(monkeypatch):
    monkeypatch.setattr(cycles, "EPOCHS", 4)
    monkeypatch.setattr(cycles, "CYCLE_EPOCHS", 1)
    collections = cycles.tickets_of(0.05, 0.5)
    assert [[one.step for one in tickets] for tickets in collections] == [[38, 57, 76]] * 3
    assert {one.count for tickets in collections for one in tickets} == {293}
    last = collections[0][2]
    assert cycles.accuracy_of(last) == pytest.approx(100 * last.accuracy)
    cycles.tickets_of.cache_clear()


def test_a_copy_with_units_in_another_order_computes_the_same():
    torch.manual_seed(0)
    network = build("mlp", input_shape=(8,), num_classes=3, hidden=(6, 6)).eval()
    inputs, other = torch.randn(5, 8), with_swapped(network, 6)
    assert torch.allclose(other(inputs), network(inputs), atol=1e-6)
    first, reordered, same = (one.fc1.weight for one in (network, other, with_swapped(network, 1)))
    assert torch.equal(first, same)
    assert not torch.equal(first, reordered)
    assert torch.equal(first.sort(0).values, reordered.sort(0).values)


def test_a_leap_is_measured_around_the_cut(monkeypatch):
    before, after = landscape_trials._leap(1.0)
    assert after > before + 0.5


def test_the_network_of_the_trials_is_that_of_the_notebook():
    model = ticket_trials._network((100, 100), 0)
    torch.manual_seed(0)
    theirs = build("mlp", input_shape=(64,), num_classes=10, hidden=(100, 100))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), theirs.parameters(), strict=True))
