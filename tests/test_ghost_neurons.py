"""With ghost neurons every ReLU, however it is called, is soft for a while and then the ReLU again, bit for bit."""

import copy
import re

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from training_helpers import STORAGES, batches_of, pictures_of, plain_cnn, plain_mlp, same, sparse, states
from trick_helpers import Functional, Overwriting, Undecided, kinds_of, seeded, train, train_with

from sparsekit import models
from sparsekit.layers import fuse_relus
from sparsekit.schedules import Constant, Geometric
from sparsekit.tricks import GhostNeurons, Soft, find_relus, ghosts_of

X = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
MODELS = {
    "modules": (plain_mlp, lambda: batches_of(1)[0][0]),
    "functions": (Functional, lambda: batches_of(1)[0][0]),
    "untraceable": (Undecided, lambda: batches_of(1)[0][0]),
    "in place, read again": (Overwriting, lambda: batches_of(1)[0][0]),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), lambda: torch.randn(3, 2, 6)),
    "torchvision resnet": (
        lambda: torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], 3),
        lambda: torch.randn(2, 3, 32, 32),
    ),
    "torchvision densenet": (
        lambda: torchvision.models.DenseNet(4, (1, 1), 8, num_classes=3),
        lambda: torch.randn(2, 3, 32, 32),
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


# --- the units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 20.0])
@pytest.mark.parametrize("unit", ["pswish", "mish", "gelu"])
def test_the_largest_distance_from_the_relu_is_the_gap(unit, beta):
    soft = Soft(unit, beta)
    assert float((soft(X) - X.relu()).abs().max()) == pytest.approx(soft.gap, abs=2e-6)


def test_pswish_has_its_golden_gap_at_its_golden_position():
    for beta in (1.0, 3.0, 20.0):
        distance = (Soft("pswish", beta)(X) - X.relu()).abs()
        assert float(distance.max()) == pytest.approx(0.278465 / beta, abs=1e-6)
        assert abs(float(X[distance.argmax()])) == pytest.approx(1.27846 / beta, abs=1e-4)
    assert Soft("pswish", 20.0).gap < 0.014


def test_pswish_at_beta_0_is_half_the_input_and_at_a_large_beta_the_relu():
    torch.testing.assert_close(Soft("pswish", 0.0)(X), X / 2)
    assert float((Soft("pswish", 1e6)(X) - X.relu()).abs().max()) < 1e-6


@pytest.mark.parametrize("beta", [0.0, 1.0, 7.0])
def test_pswish_has_slope_one_half_and_curvature_beta_over_2_at_zero(beta):
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Soft("pswish", beta)(x), x, create_graph=True)
    assert slope.item() == 0.5
    assert torch.autograd.grad(slope, x)[0].item() == pytest.approx(beta / 2)


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_slope_of_pswish_is_the_formula(beta):
    x = X.clone().requires_grad_()
    gate = torch.sigmoid(beta * X)
    Soft("pswish", beta)(x).sum().backward()
    torch.testing.assert_close(x.grad, gate + beta * X * gate * (1 - gate))


@pytest.mark.parametrize(("unit", "torchs"), [("pswish", nn.SiLU()), ("mish", nn.Mish()), ("gelu", nn.GELU())])
def test_at_beta_1_the_units_are_swish_mish_and_gelu(unit, torchs):
    torch.testing.assert_close(Soft(unit, 1.0)(X), torchs(X))


def test_beta_goes_from_1_to_20_by_equal_factors():
    trick = GhostNeurons(stop=4)
    assert [trick.soft_at(step).beta for step in range(5)] == pytest.approx([20 ** (step / 4) for step in range(5)])


# --- where the ReLUs are ----------------------------------------------------------------------------------------


def test_relus_are_listed_name_by_name():
    relus = find_relus(nn.Sequential(nn.ReLU(), Functional(), nn.ReLU6(), nn.GELU(), nn.RNN(2, 2, nonlinearity="relu")))
    assert relus.modules == ("0",)
    assert relus.callers == {"1": 3}
    assert set(relus.others) == {"2", "3", "4"}
    assert "recurrent kernel" in relus.others["4"]
    assert str(relus).startswith("modules: 0 | calls: 1 (3) | not replaced: 2 (ReLU6 is no ReLU), 3 (GELU is no ReLU)")


class Calling(nn.Module):
    """Activations as functions and as methods, none of which is a ReLU."""

    def forward(self, x):
        return functional.gelu(x) + functional.relu6(x, inplace=True) + x.clamp_(min=0) + torch.clamp(x, 0, 6)


def test_activations_that_are_called_as_functions_and_are_no_relu_are_named():
    model = nn.Sequential(nn.Linear(2, 2), Calling())
    listing = "calls: none | not replaced: 1 (calls gelu and relu6 and clamp: no ReLU)"
    assert str(find_relus(model)).endswith(listing)
    with pytest.raises(ValueError, match=re.escape(f"{listing}). Leave the trick out")):
        GhostNeurons(stop=3).apply(model)


def test_what_calls_relu_and_others_is_replaced_and_named():
    class Both(nn.Module):
        def forward(self, x):
            return torch.relu(x) + torch.tanh(x)

    relus = find_relus(Both())
    assert (relus.callers, relus.others) == ({"": 1}, {"": "calls tanh: no ReLU"})


def test_a_function_held_as_an_attribute_is_found():
    assert find_relus(nn.TransformerEncoderLayer(4, 2)).callers == {"": 1}


def test_a_forward_that_cannot_be_traced_is_named():
    relus = find_relus(Undecided())
    assert relus.callers == {"": 0}
    assert "the model (found when it runs)" in str(relus)


def test_an_unreadable_forward_without_relu_is_named_as_unknown():
    class Odd(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    relus = find_relus(Odd())
    assert not relus.callers
    assert "must be traceable" in relus.others[""]


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.Tanh()),
        models.build("vit", input_shape=(3, 8, 8), num_classes=2, dim=8, depth=1, heads=1, head_width=4, hidden=8),
        torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 8, num_classes=2),
    ],
    ids=["tanh", "our vit", "torchvision's vit"],
)
def test_a_model_without_relus_is_refused_with_the_reason(model):
    before = kinds_of(model)
    with pytest.raises(ValueError, match=r"need ReLUs to stand in for, got none .* is no ReLU\).*Leave the trick out"):
        GhostNeurons(stop=3).apply(model)
    assert kinds_of(model) == before


# --- there and back ---------------------------------------------------------------------------------------------


@every_model
def test_outputs_are_soft_at_first_and_after_the_removal_those_of_the_plain_network(name):
    make, inputs = MODELS[name]
    model, x = seeded(make).eval(), seeded(inputs)
    before, kinds, keys = model(x), kinds_of(model), list(model.state_dict())
    trick = GhostNeurons(stop=10)
    trick.apply(model)
    assert list(model.state_dict()) == keys
    soft = model(x)
    assert not torch.equal(soft, before)
    trick.at(model, 9)
    assert (model(x) - before).abs().max() < (soft - before).abs().max()
    trick.at(model, 10)
    assert torch.equal(model(x), before)
    assert kinds_of(model) == kinds
    assert not ghosts_of(model)
    assert not any("forward" in vars(module) for module in model.modules())


@every_model
def test_every_relu_is_replaced_as_a_model_of_soft_units_shows(name):
    """At beta 0 a unit is a straight line, and so is the network."""
    make, inputs = MODELS[name]
    if name == "encoder layer":
        pytest.skip("attention is not linear")
    model, x = seeded(make).double().eval(), seeded(inputs).double()
    GhostNeurons(beta=Constant(0.0), stop=3).apply(model)
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            module.forward = nn.AvgPool2d(module.kernel_size, module.stride, module.padding).forward
    zero = model(torch.zeros_like(x))
    torch.testing.assert_close(model(2 * x) - zero, 2 * (model(x) - zero))


@every_model
def test_gradients_flow_through_soft_units(name):
    make, inputs = MODELS[name]
    model, x = seeded(make), seeded(inputs)
    GhostNeurons(stop=10).apply(model)
    model(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("storage", STORAGES)
def test_a_fused_network_is_fused_again(storage):
    model = sparse(plain_cnn(), storage).eval()
    fuse_relus(model)
    x = pictures_of(1)[0][0]
    before, kinds = model(x), kinds_of(model)
    trick = GhostNeurons(stop=2)
    trick.apply(model)
    assert not torch.equal(model(x), before)
    trick.at(model, 2)
    assert torch.equal(model(x), before)
    assert kinds_of(model) == kinds
    assert [vars(module).get("relu") for module in model.modules()].count(True) == (storage == "csr")


def test_a_copy_lives_by_itself():
    model = seeded(Functional)
    x = batches_of(1)[0][0]
    before = model(x)
    trick = GhostNeurons(stop=5)
    trick.apply(model)
    soft = model(x)
    clone = copy.deepcopy(model)
    trick.at(clone, 5)
    assert torch.equal(clone(x), before)
    assert torch.equal(model(x), soft)


def test_ghost_neurons_are_put_in_once_and_before_they_are_set():
    model = plain_mlp()
    with pytest.raises(ValueError, match="must be put in before step 0, got a model without. Call apply first"):
        GhostNeurons(stop=3).at(model, 0)
    GhostNeurons(stop=3).apply(model)
    with pytest.raises(ValueError, match="once, got one that has some"):
        GhostNeurons(stop=3).apply(model)


def test_wrong_settings_are_refused():
    with pytest.raises((ValueError, TypeError), match="unit"):
        GhostNeurons(unit="swosh")
    with pytest.raises(TypeError, match="beta"):
        GhostNeurons(beta=3)
    with pytest.raises(ValueError, match="stop must be at least 1 step or None, got 0"):
        GhostNeurons(stop=0)
    with pytest.raises(ValueError, match=r"must know when it ends, got stop=None"):
        GhostNeurons().at(plain_mlp(), 3)
    with pytest.raises(ValueError, match="both ends must be above 0"):
        Geometric(0.0, 1.0)


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_left_trains_on_exactly_as_a_plain_network(storage):
    batches = batches_of(9)
    ghosted = train_with(sparse(plain_mlp(), storage), [GhostNeurons(stop=5)], batches[:5])
    plain = sparse(plain_mlp(), storage)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    of_model, of_optimizer = states(*ghosted)
    plain.load_state_dict(of_model)
    optimizer.load_state_dict(of_optimizer)
    train(ghosted[0], [], batches[5:], optimizer=ghosted[1], first_step=5)
    train(plain, [], batches[5:], optimizer=optimizer, first_step=5)
    assert same(states(*ghosted), states(plain, optimizer))
