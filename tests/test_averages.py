"""Averages of weights: what averaging codes of others do to sparse models, and what `averaged` does."""

import copy

import pytest
import torch
from helpers import STORAGES
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.testing import assert_close as same

import sparsekit as sk
from sparsekit.layers import sparse_layers

both_storages = pytest.mark.parametrize("storage", STORAGES)
DECAY = 0.9


def model_of(storage):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=1), storage, init="dense")


X = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def steps(model, updates, *, rewired):
    """Train for some steps, telling `updates` after each one; return the densified models after each of them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    plains = []
    for number in range(7):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), torch.arange(8) % 3).backward()
        optimizer.step()
        if rewired and number in (2, 4):
            sk.rewire(model, sk.random_topology(sk.shapes_of(model), 0.3, seed=number), optimizer)
        for update in updates:
            update(model)
        plains.append(sk.densify(model))
    return plains


def average_of(plains, decay=None):
    """The average of dense models, by hand: parameters only, the last one's buffers."""
    mean = copy.deepcopy(plains[0])
    with torch.no_grad():
        for number, plain in enumerate(plains[1:], start=1):
            share = 1 / (number + 1) if decay is None else 1 - decay
            for one, other in zip(mean.parameters(), plain.parameters(), strict=True):
                one += share * (other - one)
    for one, other in zip(mean.buffers(), plains[-1].buffers(), strict=True):
        one.copy_(other)
    return mean.eval()


def walk(pairs):
    for mine, theirs in pairs:
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - DECAY)
        else:
            mine.copy_(DECAY * mine + (1 - DECAY) * theirs)


class ByParameters:
    """An EMA class as people write it: a copy, and a loop over parameters."""

    def __init__(self, model):
        self.module = copy.deepcopy(model)

    @torch.no_grad()
    def update_parameters(self, model):
        walk(zip(self.module.parameters(), model.parameters(), strict=True))
        for mine, theirs in zip(self.module.modules(), model.modules(), strict=True):
            if isinstance(mine, nn.BatchNorm2d):
                mine.load_state_dict({**theirs.state_dict(), **dict(mine.named_parameters())})


class ByState(ByParameters):
    """The same over the `state_dict`, as timm's first EMA does it, whole numbers included."""

    @torch.no_grad()
    def update_parameters(self, model):
        walk(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))


class ByData(ByParameters):
    """The same past autograd, as momentum encoders do it: new data for each parameter, buffers copied."""

    def update_parameters(self, model):
        for mine, theirs in zip(self.module.parameters(), model.parameters(), strict=True):
            mine.data = mine.data * DECAY + theirs.data * (1 - DECAY)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.data.copy_(theirs.data)


class ByName(ByParameters):
    """The same by the names of the parameters."""

    def update_parameters(self, model):
        for name, mine in self.module.named_parameters():
            mine.data.lerp_(model.get_parameter(name).data, 1 - DECAY)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


EMA = get_ema_multi_avg_fn(DECAY)
OTHERS = {
    "equal weights": AveragedModel,
    "equal weights, buffers too": lambda model: AveragedModel(model, use_buffers=True),
    "EMA": lambda model: AveragedModel(model, multi_avg_fn=EMA),
    "EMA, buffers too": lambda model: AveragedModel(model, multi_avg_fn=EMA, use_buffers=True),
    "by parameters": ByParameters,
    "by state": ByState,
    "by data": ByData,
    "by name": ByName,
}


def starts_from(average, plains, start):
    """Averages that begin with a copy count the untrained model as their first; torch's begin with the first update."""
    return [start, *plains] if isinstance(average, ByParameters) else plains


@pytest.mark.parametrize("name", OTHERS)
@both_storages
def test_where_no_topology_changes_every_average_is_that_of_the_dense_weights(storage, name):
    model = model_of(storage)
    start = sk.densify(model)
    average = OTHERS[name](model)
    plains = starts_from(average, steps(model, [average.update_parameters], rewired=False), start)
    found = sk.densify(average.module)
    expected = average_of(plains, None if "equal" in name else DECAY)
    for (key, one), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        same(one, other, msg=f"{key} of {name}", rtol=1e-4, atol=1e-6)
    assert sk.topology_of(average.module) == sk.topology_of(model)


@pytest.mark.parametrize("name", OTHERS)
@both_storages
def test_where_a_topology_changes_an_average_is_right_or_refused_by_name(storage, name):
    model = model_of(storage)
    average, start = OTHERS[name](model), sk.densify(model)
    refusals = []

    def update(model):
        refusals.extend(refusal_of(lambda: average.update_parameters(model)))

    plains = steps(model, [update], rewired=True)
    refusals.extend(refusal_of(lambda: average.module.eval()(X)))
    # Right are averages of masked layers that copy the positions.
    assert bool(refusals) != (storage == "masked" and name in ("equal weights", "EMA", "by data", "by name"))
    assert all("sparsekit.averaged(model)" in refusal for refusal in refusals)
    if not refusals:
        plains = starts_from(average, plains, start)
        expected = projected(average_of(plains, None if "equal" in name else DECAY), model)
        same(average.module(X), expected(X), rtol=1e-4, atol=1e-5)


def refusal_of(call) -> list[str]:
    try:
        call()
    except ValueError as error:
        return [str(error)]
    return []


@torch.no_grad()
def projected(plain, model):
    for key, layer in sk.topology_of(model).items():
        plain.get_submodule(key).weight.mul_(layer.mask())
    return plain


@pytest.mark.parametrize("what", ["called", "copied", "saved"])
def test_a_mixed_average_is_refused_wherever_it_would_be_used(what):
    model = model_of("csr")
    average = AveragedModel(model)
    steps(model, [average.update_parameters], rewired=True)
    use = {"called": lambda net: net(X), "copied": sk.densify, "saved": lambda net: net.state_dict()}[what]
    with pytest.raises(ValueError, match=r"must be taken over one topology, got a copy .* Use sparsekit.averaged"):
        use(average.module)


@both_storages
def test_averages_that_begin_after_the_last_rewiring_are_right(storage):
    """The usual way of SWA: a copy made at the start, fed at the end."""
    model = model_of(storage)
    average = AveragedModel(model)
    steps(model, [], rewired=True)
    plains = steps(model, [average.update_parameters], rewired=False)
    same(average.module.eval()(X), average_of(plains)(X), rtol=1e-4, atol=1e-5)


@both_storages
def test_copies_that_live_a_life_of_their_own_are_no_averages(storage):
    model = model_of(storage)
    trained, changed, loaded = (copy.deepcopy(model) for _ in range(3))
    steps(trained, [], rewired=True)
    steps(model, [], rewired=True)
    with torch.no_grad():
        for layer in sparse_layers(changed).values():
            layer.param.mul_(1.5)
    loaded.load_state_dict(model.state_dict())
    converted = copy.deepcopy(changed).double().float()
    for net in (trained, changed, loaded, copy.deepcopy(trained), converted):
        same(sk.densify(net).eval()(X), net.eval()(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decay", [None, DECAY])
@both_storages
def test_averaged_is_the_average_of_densified_weights(storage, decay):
    model = model_of(storage)
    average = sk.averaged(model, decay=decay)
    plains = steps(model, [average.update_parameters], rewired=True)
    expected = average_of(plains, decay)
    same(average.eval()(X), expected(X), rtol=1e-4, atol=1e-5)
    assert not sparse_layers(average)
    sparse = average.projected(model)
    assert sk.topology_of(sparse) == sk.topology_of(model)
    assert {layer.storage for layer in sparse_layers(sparse).values()} == {storage}
    same(sparse.eval()(X), projected(expected, model)(X), rtol=1e-4, atol=1e-5)


@both_storages
def test_averaged_works_with_what_torch_offers_for_averages(storage):
    model = model_of(storage)
    average = sk.averaged(model, decay=0.5)
    steps(model, [average.update_parameters], rewired=True)
    update_bn([X], average)
    again = sk.averaged(model, decay=0.5)
    again.load_state_dict(average.state_dict())
    same(again.eval()(X), average.eval()(X))
    assert int(again.n_averaged) == 7


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got"):
        sk.averaged(model_of("masked"), decay=decay)


@both_storages
def test_positions_keep_their_type_whatever_the_model_is_converted_to(storage):
    model = model_of(storage)
    topology = sk.topology_of(model)
    for convert in (nn.Module.half, nn.Module.bfloat16, nn.Module.double, lambda net: net.to(torch.float32)):
        assert sk.topology_of(convert(model)) == topology


def test_positions_saved_in_too_small_a_type_are_refused():
    model = model_of("csr")
    state = {key: x.bfloat16() if x.is_floating_point() else x for key, x in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="positions must be int64 or float64, got torch.bfloat16"):
        model.load_state_dict(state)


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_an_average_may_be_fed_and_projected_in_inference_mode(storage):
    plain = nn.Sequential(nn.Linear(6, 4))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), storage, init="dense")
    average = sk.averaged(model, decay=0.5)
    with torch.inference_mode():
        average.update_parameters(model)
        projected = average.projected(model)
    assert torch.equal(sk.densify(projected)[0].weight, sk.densify(model)[0].weight)
    projected(torch.ones(1, 6)).sum().backward()
