"""Sign-In: products of trained factors are as a dense transcription has them, in any storage, and signs can change."""

import pytest
import torch
from helpers import STORAGES, mlp
from torch import nn
from training_helpers import same

import sparsekit as sk
from sparsekit.train import training
from sparsekit.tricks import SignIn, begin, set_step
from sparsekit.tricks.sign_in import SCALE, inner_scale

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}
BETA, EVERY = 0.5, 3
X = torch.randn(12, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
Y = torch.arange(12) % 3


def sparse(storage: str = "masked", density: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    plain = mlp(6, 8, 3).double()
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density, seed=1), storage, init="dense")


def trained(model: nn.Module, make, steps: int, rule=None, **settings) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Train with the trick, which does not end yet."""
    tricks = [SignIn(**{"beta": BETA, "every": EVERY, "stop": 100, **settings})]
    optimizer = make(begin(model, tricks).parameters())
    steps_ = training(
        model, optimizer, [(X, Y)] * steps, nn.functional.cross_entropy, rule or sk.rules.Static(), tricks=tricks
    )
    for _ in steps_:
        pass
    return model, optimizer


def balanced(weight: torch.Tensor) -> torch.Tensor:
    """The scale by another formula: `sqrt(beta) cosh u` times `sqrt(beta) sinh u` is `beta sinh(2u) / 2`."""
    return BETA**0.5 * (torch.asinh(2 * weight / BETA) / 2).cosh()


def transcribed(make, steps: int) -> list[torch.Tensor]:
    """The method as it is written down: dense factors under a mask, trained by autograd, and balanced in between."""
    layers = [*sk.sparse_layers(sparse()).values()]
    masks, biases = [x.mask.double() for x in layers], [nn.Parameter(x.bias.detach().clone()) for x in layers]
    scales = [nn.Parameter(balanced(x.dense_weight())) for x in layers]
    factors = [nn.Parameter(x.dense_weight() / m.detach()) for x, m in zip(layers, scales, strict=True)]
    optimizer = make([*scales, *factors, *biases])
    for step in range(steps):
        first, second = (mask * m * w for mask, m, w in zip(masks, scales, factors, strict=True))
        nn.functional.cross_entropy((X @ first.T + biases[0]).tanh() @ second.T + biases[1], Y).backward()
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % EVERY == 0:
            for m, w in zip(scales, factors, strict=True):
                product = (m * w).detach()
                m.data = balanced(product)
                w.data = product / m.data
    return [(mask * m * w).detach() for mask, m, w in zip(masks, scales, factors, strict=True)]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_those_of_the_dense_transcription(name, storage):
    model, _ = trained(sparse(storage), OPTIMIZERS[name], 10)
    plain, _ = trained(sparse(storage), OPTIMIZERS[name], 0)
    for layer, first, weight in zip(
        sk.sparse_layers(model).values(),
        sk.sparse_layers(plain).values(),
        transcribed(OPTIMIZERS[name], 10),
        strict=True,
    ):
        torch.testing.assert_close(layer.dense_weight().detach(), weight, rtol=1e-9, atol=1e-11)
        assert (weight - first.dense_weight()).abs().max() > 0.01


def test_the_inner_scale_is_positive_balances_by_beta_and_leaves_the_product():
    weight = torch.tensor([-3.0, -1e-4, 0.0, 0.2, 50.0], dtype=torch.float64)
    for beta in (1e-3, 1.0, 20.0):
        scale = inner_scale(weight, beta)
        assert (scale > 0).all()
        torch.testing.assert_close(scale.square() - (weight / scale).square(), torch.full_like(weight, beta))


def descend(beta: float, steps: int = 400) -> float:
    """Draw a weight of 0.5 towards -1 by small steps, without a reset, and return where it ends."""
    model = sk.sparsify(nn.Sequential(nn.Linear(1, 1, bias=False)), sk.random_topology({"0": (1, 1)}, 1.0))
    layer = sk.sparse_layers(model)["0"]
    with torch.no_grad():
        layer.write(torch.tensor([0.5]))
    tricks = [SignIn(beta=beta, every=1000, stop=1000)]
    optimizer = torch.optim.SGD(begin(model, tricks).parameters(), lr=0.01)
    set_step(model, tricks, 0, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.ones(1, 1)) + 1).square().sum().backward()
        optimizer.step()
    return float(layer.values())


def test_a_sign_changes_if_beta_is_well_above_zero_and_does_not_where_both_factors_vanish_together():
    assert descend(1.0) == pytest.approx(-1, abs=0.05)
    assert 0 < descend(1e-12) < 0.01


def test_others_see_the_product_and_its_gradient_between_steps():
    model, tricks = sparse(), [SignIn(stop=9)]
    optimizer = torch.optim.SGD(begin(model, tricks).parameters(), lr=0.1)
    layer = sk.sparse_layers(model)["0"]
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(layer.values().clone()))  # before the trick's own
    set_step(model, tricks, 0, optimizer)
    nn.functional.cross_entropy(model(X), Y).backward()
    before, gradient = layer.values().clone(), layer.param.grad.clone()
    optimizer.step()
    assert torch.equal(layer.param.grad, gradient)
    assert torch.equal(seen[0], layer.values())
    scale = inner_scale(before, 1.0)
    factor, slope = before / scale, layer.unpack(gradient)
    torch.testing.assert_close(
        layer.values(), (scale - 0.1 * slope * factor) * (factor - 0.1 * slope * scale), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_a_grown_connection_begins_with_a_balanced_scale_and_the_others_continue(storage):
    rule = sk.rules.SET(stop=99, every=4, start=4, drop_fraction=0.3, replaces_step=False)
    model, _ = trained(sparse(storage), OPTIMIZERS["momentum"], 4, every=100)
    after, _ = trained(sparse(storage), OPTIMIZERS["momentum"], 5, rule, every=100)
    layers = zip(sk.sparse_layers(model).values(), sk.sparse_layers(after).values(), strict=True)
    for old, new in layers:
        scale = new._parameters[SCALE].detach()
        grown = (new.topology - old.topology).indices
        assert grown.numel()
        assert scale[grown].tolist() == pytest.approx([BETA**0.5] * grown.numel())
        assert scale[new.topology.missing()].unique().numel() <= 1 + (old.topology - new.topology).count


def test_a_scale_of_zero_loses_nothing():
    model, tricks = sparse(), [SignIn(stop=9, beta=BETA)]
    optimizer = torch.optim.SGD(begin(model, tricks).parameters(), lr=0.125)
    set_step(model, tricks, 0, optimizer)
    layer = sk.sparse_layers(model)["0"]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    # A step that brings a scale to 0 exactly: both factors are 1, and so is rate times gradient.
    with torch.no_grad():
        layer.write(torch.full_like(layer.values(), 1.0))
        layer._parameters[SCALE].fill_(1.0)
        layer.param.grad = layer.pack(layer.topology, torch.full_like(layer.values(), 8.0))
    optimizer.step()
    assert not layer.values().any()
    assert layer._parameters[SCALE].tolist() == pytest.approx([BETA**0.5] * layer.topology.size)


def test_the_end_changes_no_weight():
    model, optimizer = trained(sparse(), OPTIMIZERS["adamw"], 5)
    before = {name: x.clone() for name, x in model.state_dict().items() if SCALE not in name}
    set_step(model, [SignIn(stop=5)], 5, optimizer)
    assert same(model.state_dict(), before)
    assert not any(SCALE in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(("given", "says"), [({"beta": 0.0}, "beta must be above 0"), ({"every": 0}, "every")])
def test_settings_out_of_range_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        SignIn(**given)
