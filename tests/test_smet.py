"""SMET is SET under Adam with own step counts, a ramp that does not decay, and a learning rate that is divided once."""

import pytest
import torch
from torch import nn

from sparsekit.experiments import recipes
from sparsekit.experiments.experiment import build_model, build_optimizer
from sparsekit.experiments.smet import smet
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.update import rewire
from sparsekit.rules import settings_of
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train import training
from sparsekit.train.step_counts import RAMP


def made(density: float = 0.1, **settings):
    experiment = smet(recipes.digits_small, density=density, **settings)
    model = build_model(experiment, input_shape=(64,), num_classes=10)
    return experiment, model, build_optimizer(experiment, model)


def test_smet_is_a_setting_of_parts_that_exist():
    experiment, model, _ = made()
    assert (
        experiment.rule
        == recipes.digits_small(rule="set", density=0.1, rule_settings={"every": 100, "drop_fraction": 0.2}).rule
    )
    assert {name: layer.density for name, layer in topology_of(model).items()} == pytest.approx(
        dict.fromkeys(topology_of(model), 0.1), abs=0.001
    )
    assert "every" in settings_of("set")
    assert smet(recipes.digits_small, density=0.1, allocation="erk", seed=3).seed == 3


def test_the_ramp_shortens_updates_and_leaves_the_stored_momentum():
    """The released code multiplies the momentum by `age / 100` at every step, so it decays as the product of them."""
    _, model, optimizer = made()
    layer = sparse_layers(model)["fc2"]
    for _ in range(3):  # a newcomer is one whose layer is older than itself
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    grown = layer.topology.missing()[:1]
    positions = torch.cat([layer.topology.indices[1:], grown]).sort().values
    rewire(model, Topology({**topology_of(model), "fc2": LayerTopology(layer.shape, positions)}), optimizer)
    at, moves = int(grown), []
    for _ in range(12):
        before = float(layer.param.detach().flatten()[at])
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        moves.append((before - float(layer.param.detach().flatten()[at])) / optimizer.param_groups[0]["lr"])
    assert moves == pytest.approx([step / RAMP for step in range(1, 13)], rel=0.01)
    momentum = float(optimizer.state[layer.param]["exp_avg"].flatten()[at])
    assert momentum == pytest.approx(1 - 0.9**12, rel=1e-4)
    decayed = 0.0
    for step in range(1, 13):
        decayed = (0.9 * decayed + 0.1) * step / RAMP
    assert decayed < 0.05 * momentum  # which is what the released code would have


def test_the_learning_rate_is_divided_by_the_density_once_whatever_the_number_of_parameters():
    experiment, model, optimizer = made(density=0.1)
    schedule = experiment.learning_rate_over(8)
    assert schedule(0) == pytest.approx(5e-3)
    assert smet(recipes.digits_small, density=0.5).learning_rate_over(8)(0) == pytest.approx(1e-3)
    draws = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 64, generator=draws), torch.randint(10, (8,), generator=draws)) for _ in range(8)]
    steps = training(
        model, optimizer, batches, nn.functional.cross_entropy, experiment.rule, seed=0, learning_rate=schedule
    )
    assert len(list(model.parameters())) > 3
    for step, _, _ in steps:
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([schedule(step)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.0}, "density must"),
        ({"density": 0.1, "learning_rate": 0.0}, r"learning_rate must be above 0, got 0\.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        smet(recipes.digits_small, **settings)
