"""What people do to models beside training them step by step: keep losses, skip blocks, load the best, copy, save."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import (
    OPTIMIZERS,
    RULES,
    STORAGES,
    batches_of,
    is_clean,
    optimizer_is_clean,
    plain_mlp,
    same,
    sparse,
    tiny,
    train,
    values_of,
)

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.capture import capture_io, views
from sparsekit.rewiring.update import rewire
from sparsekit.rules import SET, RigL, Static
from sparsekit.schedules import Constant, Linear
from sparsekit.train import attach, fit

both_storages = pytest.mark.parametrize("storage", STORAGES)
both_rules = pytest.mark.parametrize("rule", RULES)
CHANGING = {
    "exchanged among layers": RigL(every=2, stop=20, scope="global", drop_fraction=Constant(0.4)),
    "fewer and fewer": RigL(every=2, stop=20, density=Linear(0.3, 0.1)),
}


def step(model, optimizer, batch):
    loss = cross_entropy(model(batch[0]), batch[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def weights_are_clean(model):
    layers = [layer for layer in sparse_layers(model).values() if layer.storage == "masked"]
    return not any(layer.param[~layer.topology.mask()].any() for layer in layers)


# --- losses that stay alive -------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("rule", CHANGING)
def test_layers_may_change_their_size_while_every_loss_is_kept(storage, rule):
    model = tiny(storage)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    attach(model, optimizer, CHANGING[rule], seed=0)
    before = topology_of(model)
    losses = [step(model, optimizer, batch) for batch in batches_of(9)]
    assert len(losses) == 9
    counts = [{name: layer.count for name, layer in one.items()} for one in (before, topology_of(model))]
    assert counts[0] != counts[1]
    assert is_clean(model)
    assert optimizer_is_clean(model, optimizer)


# --- layers that take no part -----------------------------------------------------------------------------------


class TwoHeads(nn.Module):
    def __init__(self, storage):
        super().__init__()
        self.trunk = sparse(plain_mlp(), storage)
        self.heads = nn.ModuleList([sparse(nn.Sequential(nn.Linear(3, 3)), storage, density=0.5) for _ in range(2)])
        self.turn = 0

    def forward(self, x):
        return self.heads[self.turn % 2](self.trunk(x))


@both_storages
def test_a_layer_that_takes_no_part_in_a_rewiring_step_keeps_its_topology(storage):
    model = TwoHeads(storage)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    attach(model, optimizer, RigL(every=1, stop=50, drop_fraction=Constant(0.4), replaces_step=False), seed=0)
    for batch in batches_of(4):
        before = topology_of(model)
        step(model, optimizer, batch)
        after = topology_of(model)
        resting = f"heads.{(model.turn + 1) % 2}.0"
        assert after[resting] == before[resting]
        assert after["trunk.0"] != before["trunk.0"]
        model.turn += 1


@both_storages
def test_growing_by_gradients_that_are_not_finite_is_an_error_that_says_so(storage):
    model = tiny(storage)
    with capture_io(model) as seen:
        (model(batches_of(1)[0][0]) * torch.inf).sum().backward()
    with pytest.raises((FloatingPointError, ValueError), match="gradients must be finite"):
        RULES["rigl"].propose(views(model, seen), 0, torch.Generator())


# --- optimizers that do not fit ---------------------------------------------------------------------------------


@both_storages
def test_fit_refuses_an_optimizer_of_the_model_before_sparsify(storage):
    plain = plain_mlp()
    optimizer = OPTIMIZERS["sgd"](plain.parameters())
    with pytest.raises(ValueError, match="must train every sparse layer .* after sparsify, which returns a new model"):
        fit(sparse(plain, storage), optimizer, batches_of(2), RULES["rigl"], epochs=1, progress=False)


def test_nothing_is_rewired_that_the_optimizer_does_not_train():
    model = tiny("masked")
    first, *others = sparse_layers(model).values()
    optimizer = OPTIMIZERS["sgd"]([layer.param for layer in others])
    before = topology_of(model)
    with pytest.raises(ValueError, match="got none for 0. Build"):
        train(model, optimizer, batches_of(1), RULES["set"])
    assert topology_of(model) == before
    assert first.param.grad is None


@pytest.mark.parametrize("name", ["LBFGS", "Muon"])
def test_optimizers_that_mix_weights_are_refused(name):
    model = sparse(nn.Sequential(nn.Linear(6, 4, bias=False)))
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    optimizer = getattr(torch.optim, name)(model.parameters())
    with pytest.raises(ValueError, match=f"must treat each weight by itself, got {name}"):
        attach(model, optimizer, RULES["set"])


# --- loading and rewiring by hand in the middle -----------------------------------------------------------------


@both_storages
@both_rules
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_loading_the_best_weights_in_mid_training_keeps_optimizer_and_journal_true(storage, rule, optimizer):
    model = tiny(storage)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    attached = attach(model, optimizer, RULES[rule], seed=0)
    batches = batches_of(9)
    step(model, optimizer, batches[0])
    best = copy.deepcopy(model.state_dict())
    for batch in batches[1:5]:
        step(model, optimizer, batch)
    model.load_state_dict(best)
    for batch in batches[5:]:
        step(model, optimizer, batch)
        assert weights_are_clean(model)
        assert optimizer_is_clean(model, optimizer)
        assert attached.journal[-1] == topology_of(model)
    assert all(
        state.shape in ((), layer.param.shape)
        for layer in sparse_layers(model).values()
        for state in optimizer.state[layer.param].values()
    )


@both_storages
def test_rewiring_by_hand_without_the_optimizer_is_followed(storage):
    model, other = tiny(storage), sparse(plain_mlp(), storage, seed=5)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    attached = attach(model, optimizer, RULES["set"], seed=0)
    for batch in batches_of(2):
        step(model, optimizer, batch)
    rewire(model, topology_of(other))
    step(model, optimizer, batches_of(1)[0])
    assert optimizer_is_clean(model, optimizer)
    assert attached.journal[-1] == topology_of(model)


# --- accumulation -----------------------------------------------------------------------------------------------


def dense_gradients(model, parts, *, clear=None):
    with capture_io(model) as seen:
        for inputs, labels in parts:
            if clear:
                clear()
            (cross_entropy(model(inputs), labels) / len(parts)).backward()
    return [io.grad_at(torch.arange(io.layer.topology.size)).clone() for io in seen.values()]


@both_storages
def test_micro_batches_add_up_where_a_layer_has_no_connection_at_all(storage):
    inputs, labels = batches_of(1, dtype=torch.float64)[0]
    parts = list(zip(inputs.chunk(2), labels.chunk(2), strict=True))
    found = []
    for batches in ([(inputs, labels)], parts):
        model = tiny(storage, dtype=torch.float64)
        last = topology_of(model)["5"]
        rewire(model, {"5": last - last})
        found.append(dense_gradients(model, batches))
    for whole, summed in zip(*found, strict=True):
        torch.testing.assert_close(summed, whole, rtol=0, atol=1e-12)


@both_storages
@pytest.mark.parametrize("to_none", [True, False])
def test_clearing_between_forward_and_backward_forgets_the_pass_before(storage, to_none):
    first, second = batches_of(2, dtype=torch.float64)
    found = []
    for batches in ([second], [first, second]):
        model = tiny(storage, dtype=torch.float64)
        with capture_io(model) as seen:
            for inputs, labels in batches:
                loss = cross_entropy(model(inputs), labels)
                model.zero_grad(set_to_none=to_none)
                loss.backward()
        found.append([io.grad_at(torch.arange(io.layer.topology.size)) for io in seen.values()])
    for alone, after in zip(*found, strict=True):
        torch.testing.assert_close(after, alone, rtol=0, atol=1e-12)


# --- copies and files while a backward pass is recorded ---------------------------------------------------------


@both_storages
def test_a_model_can_be_saved_and_copied_before_a_rewiring_step(storage):
    model = tiny(storage)
    attach(model, OPTIMIZERS["sgd"](model.parameters()), RULES["rigl"], seed=0)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (torch.load(file, weights_only=False), copy.deepcopy(model)):
        assert all(not layer._forward_hooks for layer in sparse_layers(other).values())
        assert same(values_of(other), values_of(model))
    assert all(layer._forward_hooks for layer in sparse_layers(model).values())


def test_hooks_of_the_reader_s_own_are_copied_along():
    model = tiny()
    model[0].register_forward_hook(print)
    attach(model, OPTIMIZERS["sgd"](model.parameters()), RULES["rigl"], seed=0)
    assert list(copy.deepcopy(model)[0]._forward_hooks.values()) == [print]


# --- a rule for nobody ------------------------------------------------------------------------------------------


def test_fit_refuses_a_rule_for_a_model_without_sparse_layers():
    model = plain_mlp()
    with pytest.raises(ValueError, match="needs sparse layers, got a model without. Call sparsify"):
        fit(model, OPTIMIZERS["sgd"](model.parameters()), batches_of(1), SET(stop=4), epochs=1, progress=False)
    fit(model, OPTIMIZERS["sgd"](model.parameters()), batches_of(1), Static(), epochs=1, progress=False)
