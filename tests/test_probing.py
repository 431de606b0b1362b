"""Growth that looks at several batches: which ones, and what they leave behind (nothing)."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import (
    OPTIMIZERS,
    STORAGES,
    batches_of,
    pictures_of,
    plain_cnn,
    same,
    sparse,
    states,
    tiny,
)

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.capture import capture_io, views
from sparsekit.rules import GSE, SET, GraBo, RigL, Static
from sparsekit.train import attach, backward, fit, train_step, training
from sparsekit.utils.seeds import generator

both_storages = pytest.mark.parametrize("storage", STORAGES)
LOOKING = RigL(every=3, stop=9, drop_fraction=0.5, probe_batches=3)


def made(storage):
    model = tiny(storage, dtype=torch.float64)
    return model, OPTIMIZERS["sgd"](model.parameters())


def proposed_from(model, batches, rule, step):
    """What the rule says to the mean gradient over some batches."""
    with capture_io(model) as io:
        for x, y in batches:
            (cross_entropy(model(x), y) / len(batches)).backward()
    model.zero_grad()
    return rule.propose(views(model, io), step, generator(0, "rewire", step))


@both_storages
@pytest.mark.parametrize(
    "rule", [LOOKING, GSE(every=3, stop=9, candidates=GraBo(), probe_batches=3)], ids=["rigl", "gse"]
)
def test_growth_looks_at_the_batch_of_the_step_and_those_that_follow(storage, rule):
    model, optimizer = made(storage)
    batches = batches_of(8, dtype=torch.float64)

    def expected(step: int) -> list:
        """By all the batches that are there, of which there are fewer near the end, and by that of the step alone."""
        return [proposed_from(copy.deepcopy(model), batches[step : step + count], rule, step) for count in (3, 1)]

    by_all, alone = expected(0)
    for step, _, change in training(model, optimizer, batches, cross_entropy, rule):
        assert (change is not None) == (step in (0, 3, 6))
        if change is not None:
            assert topology_of(model) == by_all
            assert topology_of(model) != alone
        by_all, alone = expected(step + 1) if step + 1 in (3, 6) else (None, None)
    assert step == 7


@both_storages
def test_the_weights_are_updated_by_the_batch_of_the_step_alone(storage):
    model, optimizer = made(storage)
    alone, its = copy.deepcopy((model, optimizer))
    batches = batches_of(4, dtype=torch.float64)
    rule = replace(LOOKING, replaces_step=False)
    stats, change = train_step(model, optimizer, batches[0], cross_entropy, rule, 0, generator(0), probes=batches[1:])
    plain, _ = train_step(alone, its, batches[0], cross_entropy, Static(), 0, generator(0))
    assert stats == plain
    assert change.num_grown > 0
    for name, layer in sparse_layers(model).items():
        other = sparse_layers(alone)[name]
        stayed = (layer.topology & other.topology).indices
        found, wanted = (x.values()[x.topology.position_of(stayed)] for x in (layer, other))
        assert torch.equal(found, wanted)
        assert torch.equal(layer.bias, other.bias)


class Counted:
    """Batches that note which were asked for."""

    def __init__(self, batches):
        self.batches, self.asked = batches, 0

    def __iter__(self):
        for batch in self.batches:
            self.asked += 1
            yield batch


def test_the_stream_is_read_ahead_on_rewiring_steps_only_and_every_batch_is_trained_on_in_order():
    model, optimizer = made("masked")
    stream, asked, trained = Counted(batches_of(8, dtype=torch.float64)), [], []

    def noting_loss(outputs, labels):
        trained.append(labels)
        return cross_entropy(outputs, labels)

    noting_loss.batch_weight = len  # it need not be asked for what a batch weighs
    for _ in training(model, optimizer, stream, noting_loss, LOOKING):
        asked.append(stream.asked)
    assert asked == [3, 3, 3, 6, 6, 6, 8, 8]
    # On steps 0, 3 and 6 the probes come first.
    assert len(trained) == 8 + 3 + 3 + 2
    own = [*trained[3:6], *trained[9:12], *trained[14:]]
    assert all(torch.equal(labels, y) for labels, (_, y) in zip(own, stream.batches, strict=True))


def test_a_rule_that_needs_no_gradients_reads_nothing_ahead():
    model, optimizer = made("masked")
    stream = Counted(batches_of(3, dtype=torch.float64))
    rule = SET(every=2, stop=9, probe_batches=3)
    assert [stream.asked for _ in training(model, optimizer, stream, cross_entropy, rule)] == [1, 2, 3]


@both_storages
def test_probing_one_batch_is_not_probing(storage):
    """The batch itself as its only probe gives what the plain step gives."""
    (model, optimizer), (other, its) = made(storage), made(storage)
    batch = batches_of(1, dtype=torch.float64)[0]
    rule = replace(LOOKING, probe_batches=1)
    first = train_step(model, optimizer, batch, cross_entropy, rule, 0, generator(0))
    second = train_step(other, its, batch, cross_entropy, rule, 0, generator(0), probes=[batch])
    assert first[0] == second[0]
    assert same(states(model, optimizer), states(other, its))


@both_storages
def test_probes_leave_no_trace_in_gradients_and_running_statistics(storage):
    model = sparse(plain_cnn(), storage)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    alone = copy.deepcopy(model)
    batches = pictures_of(3)
    train_step(model, optimizer, batches[0], cross_entropy, LOOKING, 0, generator(0), probes=batches)
    backward(alone, batches[0], cross_entropy)
    norm, other = (next(m for m in x.modules() if isinstance(m, nn.BatchNorm2d)) for x in (model, alone))
    assert all(torch.equal(a, b) for a, b in zip(norm.buffers(), other.buffers(), strict=True))
    assert norm.num_batches_tracked == 1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_probe_that_fails_leaves_weights_and_statistics_as_they_were():
    model = sparse(plain_cnn(), "masked")
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    before = copy.deepcopy(model.state_dict())
    (x, y), good = pictures_of(2)
    bad = x * float("nan"), y
    with pytest.raises(FloatingPointError, match="the loss must be finite"):
        train_step(model, optimizer, good, cross_entropy, LOOKING, 0, generator(0), probes=[good, bad])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@both_storages
def test_micro_batches_of_probes_give_the_same_growth(storage):
    grown = []
    for parts in (1, 2):
        model, optimizer = made(storage)
        for _ in training(
            model, optimizer, batches_of(4, dtype=torch.float64), cross_entropy, LOOKING, micro_batches=parts
        ):
            pass
        grown.append(topology_of(model))
    assert grown[0] == grown[1]


def test_fit_looks_ahead_too():
    model, optimizer = made("csr")
    history = fit(model, optimizer, batches_of(4, dtype=torch.float64), LOOKING, epochs=2, progress=False)
    assert history.journal.steps == [0, 3, 6]


def test_a_loop_that_shows_one_batch_only_is_told_what_to_do():
    model, optimizer = made("masked")
    batch = batches_of(1, dtype=torch.float64)[0]
    with pytest.raises(ValueError, match="needs to see 3 batches on a rewiring step, got none as probes. Give"):
        train_step(model, optimizer, batch, cross_entropy, LOOKING, 0, generator(0))
    train_step(model, optimizer, batch, cross_entropy, LOOKING, 1, generator(0))  # nothing is due
    with pytest.raises(ValueError, match="can only see the batches of its step, got one that looks at 3. Use"):
        attach(model, optimizer, LOOKING)
    handle = attach(model, optimizer, replace(LOOKING, probe_batches=1))
    with pytest.raises(ValueError, match="can only see the batches of its step"):
        handle.rule = LOOKING
    assert handle.rule.probe_batches == 1
