"""What an optimizer keeps of a connection that has just grown: what it starts any new weight with."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from training_helpers import OPTIMIZERS, RULES, STORAGES, batches_of, same, states, tiny, train, values_of

from sparsekit.layers import sparse_layers, sparsify, topology_of
from sparsekit.rewiring.optimizer_state import chain, fresh_state
from sparsekit.rewiring.update import rewire
from sparsekit.rules import SET
from sparsekit.topology import LayerTopology
from sparsekit.train import attach

both_storages = pytest.mark.parametrize("storage", STORAGES)
optim = torch.optim
PER_WEIGHT = {  # all of torch's that treat each weight by itself, in every way they can be built
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adam, amsgrad": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "adam, foreach": lambda p: optim.Adam(p, lr=0.1, foreach=True),
    "adam, fused": lambda p: optim.Adam(p, lr=0.1, fused=True),
    "adam, rate in a tensor": lambda p: optim.Adam(p, lr=torch.tensor(0.1)),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
    "nadam": lambda p: optim.NAdam(p, lr=0.1),
    "radam": lambda p: optim.RAdam(p, lr=0.1),
    "adamax": lambda p: optim.Adamax(p, lr=0.1, eps=0.01),
    "adadelta": lambda p: optim.Adadelta(p, lr=0.1),
    "asgd": lambda p: optim.ASGD(p, lr=0.1, t0=1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "rprop": lambda p: optim.Rprop(p, lr=0.1),
    "rprop, foreach": lambda p: optim.Rprop(p, lr=0.1, foreach=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5, weight_decay=0.1),
    "adagrad, fused": lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5, fused=True),
}
NOT_ZERO = {"step_size": 0.1, "sum": 0.5}


def line(storage, *positions):
    """A layer of one output and four inputs, all ones, with connections at these positions."""
    plain = nn.Linear(4, 1, bias=False)
    plain.weight.data.fill_(1.0)
    return sparsify(nn.Sequential(plain), {"0": LayerTopology((1, 4), torch.tensor(positions))}, storage, init="dense")


def step(model, optimizer, *, gradient=1.0):
    optimizer.zero_grad()
    (model(torch.full((1, 4), gradient))).sum().backward()
    optimizer.step()


def per_weight(model, optimizer):
    layer = model[0]
    entries = optimizer.state[layer.param].items()
    return {key: layer.unpack(x).flatten() for key, x in entries if torch.is_tensor(x) and x.shape == layer.param.shape}


@both_storages
@pytest.mark.parametrize("name", PER_WEIGHT)
def test_a_grown_connection_has_the_state_of_a_new_weight(storage, name):
    model = line(storage, 0, 1)
    optimizer = PER_WEIGHT[name](model.parameters())
    for _ in range(3):
        step(model, optimizer)
    before = per_weight(model, optimizer)
    rewire(model, {"0": LayerTopology((1, 4), torch.tensor([1, 2, 3]))}, optimizer)
    after = per_weight(model, optimizer)
    assert after.keys() == before.keys()
    assert after
    for key, now in after.items():
        assert now[0] == before[key][1], key
        assert now[1:].tolist() == pytest.approx(2 * [NOT_ZERO.get(key, 0.0)]), key
    step(model, optimizer)
    assert (model[0].values()[1:] != 0).all(), "it is trained"


@both_storages
def test_a_grown_connection_starts_with_the_settings_of_its_own_group_at_this_time(storage):
    model = line(storage, 0, 1)
    optimizer = optim.Rprop(
        [{"params": [nn.Parameter(torch.ones(1))]}, {"params": model.parameters(), "lr": 0.3}], lr=1
    )
    step(model, optimizer)
    optimizer.param_groups[1]["lr"] = 0.2
    rewire(model, {"0": LayerTopology((1, 4), torch.tensor([0, 3]))}, optimizer)
    assert per_weight(model, optimizer)["step_size"].tolist() == pytest.approx([0.3, 0.2])


class Own(optim.Optimizer):
    """Keeps a gain, buffers in a dict and a list, and a copy of the weights in double precision."""

    def __init__(self, params, rate=0.1):
        super().__init__(params, {})
        self.rate = rate  # not among its defaults

    @torch.no_grad()
    def step(self, closure=None):
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[p]
            if not state:
                state["gain"] = torch.ones_like(p)
                state["buffers"] = {0.9: torch.zeros_like(p), 0.99: torch.full_like(p, 2.0)}
                state["listed"] = [torch.zeros_like(p), torch.full_like(p, 3.0)]
                state["copy"] = p.detach().double().clone()
            for beta, buffer in state["buffers"].items():
                buffer.mul_(beta).add_(p.grad)
            state["gain"].mul_(0.5)
            state["listed"][1].mul_(0.5)
            state["copy"].sub_(self.rate * state["gain"] * state["buffers"][0.9])
            p.copy_(state["copy"])


@both_storages
def test_an_optimizer_of_ones_own_is_asked_too_whatever_it_keeps(storage):
    model = line(storage, 0, 1)
    optimizer = Own(model.parameters())
    step(model, optimizer)
    layer = model[0]
    rewire(
        model, {"0": LayerTopology((1, 4), torch.tensor([1, 2]))}, optimizer, lambda _, at: torch.full((len(at),), 7.0)
    )
    state = optimizer.state[layer.param]
    found = {
        "gain": state["gain"],
        "fast": state["buffers"][0.9],
        "slow": state["buffers"][0.99],
        "first": state["listed"][0],
        "second": state["listed"][1],
        "copy": state["copy"],
    }
    found = {key: layer.unpack(tensor).flatten().tolist() for key, tensor in found.items()}
    assert found == {
        "gain": [0.5, 1.0],
        "fast": [1.0, 0.0],
        "slow": [pytest.approx(2.98), 2.0],
        "first": [0.0, 0.0],
        "second": [1.5, 3.0],
        "copy": [pytest.approx(0.95), 7.0],
    }
    assert state["copy"].dtype == torch.float64


@both_storages
def test_state_that_a_new_weight_does_not_have_starts_at_zero_with_it_or_is_refused(storage):
    model = line(storage, 0, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(model, optimizer)
    layer = model[0]
    optimizer.state[layer.param]["slow"] = layer.param.detach().clone()
    before = states(model, optimizer)
    new = {"0": LayerTopology((1, 4), torch.tensor([1, 2]))}
    with pytest.raises(ValueError, match="got 'slow', which a fresh weight does not have, and connections that do not"):
        rewire(model, new, optimizer, lambda _, at: torch.ones(len(at)))
    assert same(states(model, optimizer), before)
    rewire(model, new, optimizer)
    assert layer.unpack(optimizer.state[layer.param]["slow"]).flatten().tolist() == [pytest.approx(0.9), 0.0]


class NeedsMore(optim.SGD):
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("no closure")
        return super().step(closure)


def test_an_optimizer_that_cannot_be_asked_is_refused_and_nothing_changes():
    model = tiny("csr")
    optimizer = NeedsMore(model.parameters(), lr=0.1, momentum=0.9)
    inputs, labels = batches_of(1)[0]

    def closure():
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    before, gradient = states(model, optimizer), model[0].param.grad.clone()
    smaller = {name: LayerTopology(x.shape, x.indices[1:]) for name, x in topology_of(model).items()}
    with pytest.raises(ValueError, match=r"got NeedsMore, which fails there \(RuntimeError: no closure\)"):
        rewire(model, smaller, optimizer)
    assert same(states(model, optimizer), before)
    assert same(model[0].param.grad, gradient)


def test_asking_changes_neither_the_optimizer_nor_the_weights_and_calls_no_hook():
    model = tiny()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    scheduler = optim.lr_scheduler.ConstantLR(optimizer, 1.0)  # replaces optimizer.step
    train(model, optimizer, batches_of(2), RULES["set"])
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    hook = register_optimizer_step_post_hook(lambda *_: calls.append("any"))
    before, attributes, random = states(model, optimizer), set(vars(optimizer)), torch.get_rng_state()
    fresh_state(optimizer, model[0].param)
    hook.remove()
    assert same(states(model, optimizer), before)
    assert set(vars(optimizer)) == attributes
    assert calls == []
    assert torch.equal(torch.get_rng_state(), random)
    assert chain(optimizer) == [optimizer]
    del scheduler


@both_storages
@pytest.mark.parametrize("name", ["rprop", "adagrad"])
def test_attach_follows_a_rewiring_by_hand_with_the_state_of_new_weights(storage, name):
    model = line(storage, 0, 1)
    optimizer = PER_WEIGHT[name](model.parameters())
    attach(model, optimizer, SET(every=100, start=50, stop=90))
    step(model, optimizer)
    rewire(model, {"0": LayerTopology((1, 4), torch.tensor([1, 2]))})
    step(model, optimizer, gradient=0.0)
    key = {"rprop": "step_size", "adagrad": "sum"}[name]
    assert per_weight(model, optimizer)[key][1] == pytest.approx(NOT_ZERO[key])


@both_storages
@pytest.mark.parametrize("name", ["rprop", "adagrad", "adamax"])
def test_a_saved_state_continues_bit_for_bit_after_rewirings(storage, name, tmp_path):
    whole = tiny(storage)
    optimizer = PER_WEIGHT[name](whole.parameters())
    train(whole, optimizer, batches_of(4), RULES["set"])
    torch.save(states(whole, optimizer), tmp_path / "saved.pt")
    again = tiny(storage, seed=3)
    its = PER_WEIGHT[name](again.parameters())
    for thing, state in zip((again, its), torch.load(tmp_path / "saved.pt", weights_only=True), strict=True):
        thing.load_state_dict(state)
    for model, one in ((whole, optimizer), (again, its)):
        train(model, one, batches_of(7)[4:], RULES["set"], first_step=4)
    assert same(states(again, its), states(whole, optimizer))


@pytest.mark.parametrize("name", PER_WEIGHT)
def test_both_storages_learn_the_same_numbers_over_rewirings(name):
    found = []
    for storage in STORAGES:
        model = tiny(storage, dtype=torch.float64)
        train(model, PER_WEIGHT[name](model.parameters()), batches_of(6, dtype=torch.float64), RULES["set"])
        found.append([values_of(model), copy.deepcopy(topology_of(model))])
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-7, atol=1e-9)
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Rprop", "Adagrad", "RMSprop"])
def test_an_optimizer_whose_steps_can_be_differentiated_is_asked_as_any_other(name):
    weight = nn.Parameter(torch.ones(3))
    made = getattr(optim, name)
    usual, other = (made([weight], lr=0.25, differentiable=on) for on in (False, True))
    assert same(fresh_state(other, weight), fresh_state(usual, weight))


def test_a_fresh_weight_is_asked_for_in_the_form_of_the_layer():
    """Optimizers that treat matrices differently from vectors are asked what they do with matrices."""
    layer = sparse_layers(line("masked", 0, 1))["0"]
    asked = fresh_state(optim.Adafactor([layer.param]), layer.param)
    assert {"row_var", "col_var"} <= set(asked)
