"""Wrapped diagonals: every position lies on one, factors sharpen with the temperature, and the best are frozen."""

import math

import pytest
import torch
from torch import nn
from training_helpers import same

from sparsekit.layers import from_pruned, topology_of
from sparsekit.layers.diagonal import DiagonalLinear, diagonals_at, wrapped_diagonals

SHAPES = [(4, 7), (7, 4), (5, 5), (1, 3)]
every_shape = pytest.mark.parametrize(("outputs", "inputs"), SHAPES)


def layer_of(outputs: int, inputs: int, density: float = 0.4) -> DiagonalLinear:
    """Return a layer whose scores are no two alike."""
    torch.manual_seed(0)
    layer = DiagonalLinear(inputs, outputs, density=density)
    with torch.no_grad():
        layer.scores.copy_(torch.randn(len(layer.scores)))
    return layer


def dense_weight(layer: DiagonalLinear) -> torch.Tensor:
    """The weight of the paper, written down diagonal by diagonal."""
    outputs, inputs = layer.out_features, layer.in_features
    weight, scores = torch.zeros(outputs, inputs), layer.scores.detach() / layer.temperature
    for d in range(max(outputs, inputs)):
        factor = min(layer.count * math.exp(scores[d]) / sum(math.exp(one) for one in scores), 1)
        for t in range(min(outputs, inputs)):
            row, column = (t, (t + d) % inputs) if inputs >= outputs else ((t + d) % outputs, t)
            weight[row, column] += factor * layer.values.detach()[d, t]
    return weight


@every_shape
@pytest.mark.parametrize("progress", [0.0, 0.5, 0.9])
def test_the_weight_is_the_sum_of_all_diagonals_times_their_factors(outputs, inputs, progress):
    layer = layer_of(outputs, inputs)
    layer.set_progress(progress)
    torch.testing.assert_close(layer.weight().detach(), dense_weight(layer))


@every_shape
def test_diagonals_have_every_position_once_and_a_transposed_one_is_a_diagonal(outputs, inputs):
    diagonal, entry = wrapped_diagonals(outputs, inputs)
    longer, shorter = max(outputs, inputs), min(outputs, inputs)
    pairs = {(int(d), int(t)) for d, t in zip(diagonal.flatten(), entry.flatten(), strict=True)}
    assert pairs == {(d, t) for d in range(longer) for t in range(shorter)}
    turned = wrapped_diagonals(inputs, outputs)[0].T
    for d in range(longer):
        assert len(turned[diagonal == d].unique()) == 1


@pytest.mark.parametrize(
    ("density", "inputs", "outputs", "count"), [(0.1, 64, 256, 26), (0.1, 10, 10, 1), (1.0, 3, 5, 5), (0.001, 8, 8, 1)]
)
def test_the_number_of_diagonals_is_rounded_up(density, inputs, outputs, count):
    assert diagonals_at(density, inputs, outputs) == count


def test_the_temperature_falls_along_a_cosine_and_lets_the_best_win():
    layer, seen = layer_of(8, 8, density=0.25), []
    for progress in (-1.0, 0.0, 0.5, 1.0, 2.0):
        layer.set_progress(progress)
        seen.append(float(layer.temperature))
    assert seen == pytest.approx([5, 5, 2.525, 0.05, 0.05])
    with torch.no_grad():
        layer.scores.copy_(torch.tensor([3.0, 3.0, 0, 0, 0, 0, 0, 0]))
    assert layer.factors.tolist() == pytest.approx([1, 1, *6 * [0]], abs=1e-6)
    layer.set_progress(0)
    assert 0.1 < float(layer.factors[2].detach()) < float(layer.factors[0].detach()) < 0.6


def test_freezing_keeps_the_best_diagonals_with_factor_one():
    layer = layer_of(6, 9, density=0.3)
    layer.set_progress(0.5)
    best = layer.scores.topk(layer.count).indices
    full = layer.values.detach()[layer.diagonal, layer.entry]
    layer.freeze()
    torch.testing.assert_close(layer.weight().detach(), full * torch.isin(layer.diagonal, best))
    assert layer.topology().count == layer.count * 6 == math.ceil(0.3 * 9) * 6
    state = {name: x.clone() for name, x in layer.state_dict().items()}
    layer.freeze()
    assert same(layer.state_dict(), state)


def test_freezing_changes_nothing_where_the_winners_have_won():
    layer = layer_of(6, 9, density=0.3)
    with torch.no_grad():
        layer.scores.copy_(torch.tensor([5.0, 0, 5, 0, 0, 5, 0, 0, 0]))
    layer.set_progress(1.0)
    before = layer.weight().detach()
    layer.freeze()
    torch.testing.assert_close(layer.weight().detach(), before)


@pytest.mark.parametrize(("outputs", "inputs"), [(60, 200), (200, 60)])
def test_at_first_the_weight_has_the_range_of_a_dense_layer(outputs, inputs):
    torch.manual_seed(0)
    layer = DiagonalLinear(inputs, outputs, density=0.1)
    reach = 1 / math.sqrt(inputs)
    for tensor in (layer.weight(), layer.bias):
        assert 0.9 * reach < float(tensor.detach().abs().max()) <= 1.0001 * reach


def test_scores_of_a_small_network_part_before_they_are_frozen():
    """With a range that fits the frozen layer all factors stayed near K / l, and nothing was chosen."""
    torch.manual_seed(0)
    layers = [
        DiagonalLinear(20, 40, density=0.1),
        DiagonalLinear(40, 40, density=0.1),
        DiagonalLinear(40, 4, density=0.1),
    ]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.randn(64, 20), torch.arange(64) % 4
    for step in range(150):
        for layer in layers:
            layer.set_progress(step / 150)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert all(float(layer.factors.detach().max()) > 0.9 for layer in layers)


def test_values_scores_and_bias_learn_before_freezing_and_scores_do_not_afterwards():
    layer = layer_of(6, 9)
    x = torch.randn(4, 9)
    layer(x).square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in layer.parameters())
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight(), layer.bias))
    layer.freeze()
    layer.zero_grad()
    layer(x).square().sum().backward()
    assert layer.scores.grad is None
    assert torch.equal(layer.values.grad.any(1), layer.chosen)


def test_a_frozen_layer_becomes_a_sparse_one():
    torch.manual_seed(0)
    layer = layer_of(6, 9, density=0.3)
    layer.freeze()
    sparse = from_pruned(nn.Sequential(layer.to_linear()))
    x = torch.randn(3, 9)
    torch.testing.assert_close(sparse(x), layer(x))
    assert topology_of(sparse)["0"] == layer.topology()


def test_a_frozen_layer_survives_its_state():
    layer = layer_of(6, 9)
    layer.set_progress(0.3)
    layer.freeze()
    again = DiagonalLinear(9, 6, density=0.4)
    again.load_state_dict(layer.state_dict())
    x = torch.randn(3, 9)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize(
    ("inputs", "density", "message"), [(0, 0.1, "in_features must be at least 1, got 0"), (4, 0.0, "density must")]
)
def test_layers_that_cannot_be_are_refused(inputs, density, message):
    with pytest.raises(ValueError, match=message):
        DiagonalLinear(inputs, 4, density=density)
