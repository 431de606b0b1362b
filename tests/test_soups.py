"""Soups over the levels of a lottery: copies of one ticket are averaged, and the next level prunes their average."""

from dataclasses import replace

import pytest
import torch
from test_lottery import DENSE
from training_helpers import same

from sparsekit import datasets
from sparsekit.evaluation import evaluate
from sparsekit.experiments import Experiment, load_model
from sparsekit.experiments.lottery import Lottery, run_lottery, run_soups
from sparsekit.models import build
from sparsekit.tickets import Ticket, accuracy_on, superpose

MLP = Experiment(recipe="dense", model_settings={"hidden": (16,)}, density=1.0, epochs=3, batch_size=400, init="dense")
SMS = Lottery(experiment=MLP, levels=2, prune=0.5, rewind="finetune", finetune_rate=0.05)
SWAMP = Lottery(experiment=MLP, levels=2, prune=0.5, rewind_step=3)


def dense_of(ticket: Ticket) -> dict[str, torch.Tensor]:
    """Return the dense weights of a ticket, zero where there is no connection."""
    plain = {name: torch.zeros(layer.size) for name, layer in ticket.topology.items()}
    return {name: x.index_copy(0, ticket.topology[name].indices, ticket.values[name]) for name, x in plain.items()}


def strongest(weights: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Return which of all weights have the largest magnitudes."""
    flat = torch.cat([weight.abs() for weight in weights.values()])
    least = flat.sort(descending=True).values[count - 1]
    return {name: weight.abs() >= least for name, weight in weights.items()}


@pytest.fixture(scope="module")
def cooked(tmp_path_factory):
    """Sparse model soups of two copies, carried out once."""
    return run_soups(SMS, tmp_path_factory.mktemp("soups"), copies=2, progress=False)


def test_copies_share_connections_and_start_and_differ_in_the_order_of_the_data(cooked):
    for soup in cooked:
        assert all(copy.topology == soup.start.topology for copy in soup.copies)
        assert not same(soup.copies[0].state(), soup.copies[1].state())
    size = 64 * 16 + 16 * 10
    assert [soup.ticket.count for soup in cooked] == [size // 2, size // 4]


def test_the_average_is_the_mean_of_the_copies_and_the_next_level_prunes_it(cooked):
    first, second = cooked
    weights = [dense_of(copy) for copy in first.copies]
    mean = {name: (weights[0][name] + weights[1][name]) / 2 for name in weights[0]}
    for name, weight in dense_of(first.ticket).items():
        torch.testing.assert_close(weight, mean[name])
    for name, mask in strongest(mean, second.start.count).items():
        assert torch.equal(second.start.topology[name].mask().flatten(), mask)
        torch.testing.assert_close(dense_of(second.start)[name], mean[name] * mask)  # it continues from the average


def test_one_copy_is_the_lottery_itself(tmp_path):
    """Its runs are read, so nothing is trained anew."""
    history = run_lottery(SMS, tmp_path, progress=False)
    soups = run_soups(SMS, tmp_path, copies=1, progress=False)
    for ticket, soup in zip(history.tickets(), soups, strict=True):
        assert same(ticket.state(), soup.ticket.state())
        assert ticket.step == soup.ticket.step == 9
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("dense")]) == 3


def test_swamp_rewinds_and_averages_along_each_training(tmp_path):
    soups = run_soups(SWAMP, tmp_path, copies=2, last=2, progress=False)
    values = [dense_of(soup.start) for soup in soups]
    for name, weight in values[1].items():  # both levels begin with the values of step 3
        at = soups[1].start.topology[name].mask().flatten() & soups[0].start.topology[name].mask().flatten()
        assert torch.equal(weight[at], values[0][name][at])
    folders = [path for path in tmp_path.iterdir() if path.name.startswith("dense-level-1-last-2")]
    ends = [Ticket.of(load_model(path), step=9) for path in folders]
    assert {tuple(sorted(one.name for one in (path / "tickets").iterdir())) for path in folders} == {
        ("ticket-000000006.safetensors", "ticket-000000009.safetensors")
    }
    mean = superpose(ends)
    assert not same(mean.values, soups[0].ticket.values)  # the copies are averages of epochs, and not their ends
    again = run_soups(SWAMP, tmp_path, copies=2, last=2, progress=False)
    assert all(same(a.ticket.state(), b.ticket.state()) for a, b in zip(soups, again, strict=True))


def test_a_greedy_soup_asks_the_measure_alone_which_copies_to_take(tmp_path):
    asked = []

    def measure(ticket: Ticket) -> float:
        asked.append(ticket)
        return -len(asked)  # each one is worse than the one before, so the first copy stays alone

    (soup,) = run_soups(replace(SMS, levels=1), tmp_path, copies=2, measure=measure, progress=False)
    assert len(asked) == 3
    assert same(soup.ticket.values, soup.copies[0].values)


def test_batch_norm_of_a_soup_has_the_statistics_of_its_own_weights(tmp_path):
    lottery = Lottery(experiment=replace(DENSE, epochs=1), levels=1, prune=0.5, rewind="rate")
    (soup,) = run_soups(lottery, tmp_path, copies=2, progress=False)
    data = datasets.load("digits", flat=False)
    train = [(data.prepare(inputs), labels) for inputs, labels in datasets.batches_in_order(data.train, 1000)]
    model = soup.ticket.model_like(build("small-cnn", input_shape=(1, 8, 8), num_classes=10, widths=(6, 8)))
    stale = superpose(soup.copies).model_like(model)
    fresh = evaluate(stale, train, refresh_with=train)
    assert evaluate(model, train) == fresh != evaluate(stale, train)
    assert accuracy_on(model, train, refresh_with=train)(superpose(soup.copies)) == fresh.accuracy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 0}, "copies must be at least 1, got 0"),
        ({"last": 0}, "last must be at least 1, got 0"),
        ({"last": 3}, "last must be at most the 2 epochs that a level trains, got 3"),
    ],
)
def test_soups_that_make_no_sense_are_refused_before_anything_is_trained(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_soups(SWAMP, tmp_path, **settings, progress=False)
    assert not list(tmp_path.iterdir())
