"""A rule in a loop of one's own: one line, and everything that people do around an optimizer keeps working."""

import copy
import warnings
from dataclasses import replace

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
    states,
    tiny,
    train,
)

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rules import SET, RigL, Static
from sparsekit.schedules import Constant, Linear
from sparsekit.train import attach
from sparsekit.train.attach import STEP_KEY

both_storages = pytest.mark.parametrize("storage", STORAGES)
both_rules = pytest.mark.parametrize("rule", RULES)


def made(storage, optimizer="sgd"):
    model = tiny(storage)
    return model, OPTIMIZERS[optimizer](model.parameters())


def go(model, optimizer, batches, *, between=None, to_none=True):
    """The loop of somebody who knows nothing of this package."""
    for inputs, labels in batches:
        optimizer.zero_grad(set_to_none=to_none)
        cross_entropy(model(inputs), labels).backward()
        if between:
            between()
        optimizer.step()
    optimizer.zero_grad(set_to_none=to_none)


def bare(*things):
    """States without the step count, which only `attach` keeps."""
    copies = states(*things)
    for group in copies[1]["param_groups"]:
        group.pop(STEP_KEY, None)
    return copies


# --- the same as the visible loop -------------------------------------------------------------------------------


@both_storages
@both_rules
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_attach_does_bit_for_bit_what_the_visible_loop_does(storage, rule, optimizer):
    visible, attached = made(storage, optimizer), made(storage, optimizer)
    changes = train(*visible, batches_of(10), RULES[rule])
    handle = attach(*attached, RULES[rule], seed=0)
    go(*attached, batches_of(10))
    assert same(bare(*attached), bare(*visible))
    assert handle.step == 10
    assert handle.journal.steps == [step for step, _ in changes] == [0, 2, 4, 6, 8]
    assert handle.journal[-1] == topology_of(visible[0])
    assert all(
        same([a.dropped, a.grown], [b.dropped, b.grown])
        for (_, a), (_, b) in zip(handle.journal.entries, changes, strict=True)
    )


@both_storages
@both_rules
@pytest.mark.parametrize("how", ["positional", "keyword"])
def test_closures_give_what_a_loop_without_them_gives(storage, rule, how):
    plain, closed = made(storage), made(storage)
    attach(*plain, RULES[rule])
    go(*plain, batches_of(5))
    attach(*closed, RULES[rule])
    model, optimizer = closed
    for inputs, labels in batches_of(5):

        def closure(inputs=inputs, labels=labels):
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), labels)
            loss.backward()
            return loss

        loss = optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)
        assert loss.requires_grad
        del loss
    optimizer.zero_grad()
    assert same(states(*closed), states(*plain))


@both_rules
def test_clipping_sees_the_gradients_of_existing_connections_only(rule):
    norms = {}
    for storage in STORAGES:
        model, optimizer = made(storage)
        attach(model, optimizer, RULES[rule])
        norms[storage] = []
        go(
            model,
            optimizer,
            batches_of(5),
            between=lambda m=model, s=storage: norms[s].append(float(nn.utils.clip_grad_norm_(m.parameters(), 0.1))),
        )
        assert is_clean_after(model, optimizer)
    assert norms["masked"] == pytest.approx(norms["csr"], rel=1e-4)


def is_clean_after(model, optimizer):
    return is_clean_but_capturing(model) and optimizer_is_clean(model, optimizer)


def is_clean_but_capturing(model):
    layers = [layer for layer in sparse_layers(model).values() if layer.storage == "masked"]
    return all(not layer.param[~layer.topology.mask()].any() for layer in layers)


def test_no_gradient_off_the_topology_is_ever_left_in_a_parameter():
    model, optimizer = made("masked")
    attach(model, optimizer, RULES["rigl"])
    off = []
    between = lambda: off.extend(bool(x.param.grad[~x.topology.mask()].any()) for x in sparse_layers(model).values())  # noqa: E731
    go(model, optimizer, batches_of(5), between=between)
    assert off == [False] * 15


@both_storages
@both_rules
def test_learning_rate_schedulers_work_and_warn_of_nothing(storage, rule):
    scheduled, by_hand = made(storage), made(storage)
    attach(*scheduled, RULES[rule])
    scheduler = torch.optim.lr_scheduler.LinearLR(scheduled[1], 1.0, 0.0, total_iters=6)
    rate = Linear(0.1, 0.0, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in batches_of(6):
            go(*scheduled, [batch])
            scheduler.step()
    attach(*by_hand, RULES[rule])
    for step, batch in enumerate(batches_of(6)):
        by_hand[1].param_groups[0]["lr"] = rate(step)
        go(*by_hand, [batch])
    first, second = ([layer.values() for layer in sparse_layers(model).values()] for model, _ in (scheduled, by_hand))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-7)
    assert topology_of(scheduled[0]) == topology_of(by_hand[0])


@both_storages
@both_rules
def test_gradient_accumulation_gives_what_micro_batches_give(storage, rule):
    visible, attached = made(storage), made(storage)
    train(*visible, batches_of(6), RULES[rule], micro_batches=4)
    attach(*attached, RULES[rule])
    model, optimizer = attached
    for inputs, labels in batches_of(6):
        for x, y in zip(inputs.chunk(4), labels.chunk(4), strict=True):
            (cross_entropy(model(x), y) * 0.25).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert same(bare(*attached), bare(*visible))


# --- steps and backward passes that do not count ----------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("to_none", [True, False])
def test_a_backward_pass_that_was_thrown_away_does_not_spoil_the_next_rewiring(storage, to_none):
    straight, disturbed = made(storage), made(storage)
    attach(*straight, RULES["rigl"])
    go(*straight, batches_of(3))
    attach(*disturbed, RULES["rigl"])
    model, optimizer = disturbed
    for batch, waste in zip(batches_of(3), batches_of(3, seed=1), strict=True):
        cross_entropy(model(waste[0]), waste[1]).backward()
        go(model, optimizer, [batch], to_none=to_none)  # throws away what is there, sets it to zeros or to None
    assert same(states(*disturbed), states(*straight))


def scaled_loop(model, optimizer, batches, *, spoilt=(), scale=1024.0):
    """The usual loop of mixed precision; on the spoilt steps one gradient of the last layer is infinite."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000)
    for number, (inputs, labels) in enumerate(batches):
        hook = model[-1].bias.register_hook(lambda g: g * torch.inf) if number in spoilt else None
        optimizer.zero_grad()
        scaler.scale(cross_entropy(model(inputs), labels)).backward()
        scaler.step(optimizer)
        scaler.update()
        if hook is not None:
            hook.remove()
    optimizer.zero_grad()


SCALED = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    # Without momentum: torch's fused SGD leaves the buffer uninitialised when its very first step is skipped.
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.02, fused=True),
}


@both_storages
@both_rules
@pytest.mark.parametrize("optimizer", SCALED)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_step_that_the_scaler_skips_does_not_count_and_does_not_spoil_the_next_rewiring(
    storage, rule, optimizer, where
):
    batches, waste = batches_of(4), batches_of(1, seed=1)
    straight, skipping = tiny(storage), tiny(storage)
    its = SCALED[optimizer](straight.parameters())
    handle = attach(straight, its, RULES[rule])
    scaled_loop(straight, its, batches)
    other = SCALED[optimizer](skipping.parameters())
    skipped = attach(skipping, other, RULES[rule])
    scaled_loop(skipping, other, batches[:where] + waste + batches[where:], spoilt=[where])
    assert skipped.step == handle.step == 4
    assert skipped.journal.steps == handle.journal.steps == [0, 2]
    assert topology_of(skipping) == topology_of(straight)
    # The scale is halved by the skipped step: a power of two, so gradients agree bit for bit.
    assert same(states(skipping), states(straight))


@both_storages
def test_micro_batches_with_infinite_gradients_do_not_spoil_the_next_rewiring(storage):
    straight, disturbed = made(storage), made(storage)
    attach(*straight, RULES["rigl"])
    go(*straight, batches_of(2))
    attach(*disturbed, RULES["rigl"])
    model, optimizer = disturbed
    (good, labels), waste = batches_of(1)[0], batches_of(1, seed=1)[0]
    cross_entropy(model(waste[0]), waste[1]).backward()
    (cross_entropy(model(waste[0]), waste[1]) * torch.inf).backward()
    optimizer.zero_grad()
    go(model, optimizer, [(good, labels), batches_of(2)[1]])
    assert same(states(*disturbed), states(*straight))


# --- resuming ---------------------------------------------------------------------------------------------------


@both_storages
@both_rules
@pytest.mark.parametrize("order", ["load, then attach", "attach, then load"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_resumed_training_continues_bit_for_bit(storage, rule, order, steps, tmp_path):
    whole = made(storage, "adamw")
    attach(*whole, RULES[rule], seed=7)
    go(*whole, batches_of(8))
    first = made(storage, "adamw")
    attach(*first, RULES[rule], seed=7)
    go(*first, batches_of(8)[:steps])
    torch.save(states(*first), tmp_path / "saved.pt")
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)

    model = sparse(plain_mlp(seed=5), storage, seed=5)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    if order == "attach, then load":
        handle = attach(model, optimizer, RULES[rule], seed=7)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    if order == "load, then attach":
        handle = attach(model, optimizer, RULES[rule], seed=7)
    assert handle.step == steps
    go(model, optimizer, batches_of(8)[steps:])
    assert same(states(model, optimizer), states(*whole))
    assert handle.journal.steps == [step for step in (0, 2, 4, 6) if step >= steps]
    assert handle.journal[-1] == topology_of(model)


@pytest.mark.parametrize("start", [1, 3])
def test_a_state_loaded_after_attaching_prepares_the_rewiring_that_is_due_next(start):
    rule = RigL(every=2, start=start, stop=None, drop_fraction=Constant(0.5))
    first = made("csr")
    attach(*first, rule)
    go(*first, batches_of(start))
    second = made("csr")
    handle = attach(*second, rule)
    for thing, state in zip(second, states(*first), strict=True):
        thing.load_state_dict(state)
    go(*second, batches_of(2))
    assert handle.journal.steps == [start]


# --- the handle -------------------------------------------------------------------------------------------------


@both_storages
@both_rules
def test_after_detach_nothing_is_rewired_and_nothing_records(storage, rule):
    model, optimizer = made(storage)
    handle = attach(model, optimizer, RULES[rule])
    go(model, optimizer, batches_of(2))
    before = topology_of(model)
    handle.detach()
    go(model, optimizer, batches_of(5))
    assert topology_of(model) == before
    assert handle.step == 2
    assert is_clean(model)


@both_storages
def test_a_rule_can_be_attached_again_after_detach(storage):
    model, optimizer = made(storage)
    attach(model, optimizer, RULES["set"]).detach()
    handle = attach(model, optimizer, RULES["rigl"])
    go(model, optimizer, batches_of(1))
    assert handle.journal.steps == [0]


@both_storages
@pytest.mark.parametrize("old", [Static(), SET(every=50, stop=100), RigL(every=50, stop=100)])
def test_a_rule_that_replaces_another_is_prepared_for_the_very_next_step(storage, old):
    model, optimizer = made(storage)
    handle = attach(model, optimizer, old)
    go(model, optimizer, batches_of(2))
    handle.rule = RigL(every=2, stop=100)
    go(model, optimizer, batches_of(1))
    assert handle.journal.steps[-1] == 2


@both_storages
def test_a_rule_that_was_replaced_no_longer_records(storage):
    model, optimizer = made(storage)
    handle = attach(model, optimizer, RULES["rigl"])
    handle.rule = replace(handle.rule, start=5, stop=50)
    assert is_clean(model)
    go(model, optimizer, batches_of(5))
    assert handle.journal.steps == []


@both_storages
def test_copies_of_a_model_made_between_steps_record_nothing_for_the_original(storage):
    straight, copied = made(storage), made(storage)
    attach(*straight, RULES["rigl"])
    go(*straight, batches_of(1))
    attach(*copied, RULES["rigl"])
    twin = copy.deepcopy(copied[0])
    for inputs, labels in batches_of(2, seed=3):
        cross_entropy(twin(inputs), labels).backward()
    go(*copied, batches_of(1))
    assert same(states(*copied), states(*straight))


@both_storages
def test_measuring_between_steps_does_not_disturb_the_rewiring(storage):
    straight, measured = made(storage), made(storage)
    attach(*straight, RULES["rigl"])
    go(*straight, batches_of(3))
    attach(*measured, RULES["rigl"])
    for batch in batches_of(3):
        with torch.no_grad():
            measured[0](batches_of(1, seed=9)[0][0])
        go(*measured, [batch])
    assert same(states(*measured), states(*straight))


# --- refusals ---------------------------------------------------------------------------------------------------


def test_a_plain_model_is_refused():
    model = plain_mlp()
    with pytest.raises(ValueError, match="attach needs a model with sparse layers, got none. Call sparsify"):
        attach(model, torch.optim.SGD(model.parameters()), RULES["set"])


@both_storages
def test_an_optimizer_of_another_model_is_refused(storage):
    plain = plain_mlp()
    before_sparsify = torch.optim.SGD(plain.parameters())
    with pytest.raises(ValueError, match=r"Build it from model.parameters\(\) after sparsify"):
        attach(sparse(plain, storage), before_sparsify, RULES["set"])


@both_storages
def test_an_optimizer_that_leaves_out_a_sparse_layer_is_refused_unless_the_layer_is_frozen(storage):
    model = tiny(storage)
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[5].parameters()])
    with pytest.raises(ValueError, match="got none for 3. Build"):
        attach(model, optimizer, RULES["set"])
    model[3].requires_grad_(False)
    assert attach(model, optimizer, RULES["set"]).step == 0


@both_storages
def test_a_second_rule_on_the_same_optimizer_is_refused(storage):
    """Running a notebook's cell twice must not rewire twice a step."""
    model, optimizer = made(storage)
    attach(model, optimizer, RULES["set"])
    with pytest.raises(ValueError, match=r"already has a rule.*detach"):
        attach(model, optimizer, RULES["set"])
