"""Measuring: right numbers, and a model that is bit for bit what it was."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import (
    CLASSES,
    STORAGES,
    batches_of,
    pictures_of,
    plain_cnn,
    plain_mlp,
    same,
    sparse,
    states,
    tiny,
)

from sparsekit.evaluation.measuring import Evaluation, evaluate, num_correct, predictions, refresh_batch_norm
from sparsekit.layers import densify, topology_of

both_storages = pytest.mark.parametrize("storage", STORAGES)


def cnn_with_dropout(storage="masked"):
    model = sparse(plain_cnn(), storage)
    model.insert(4, nn.Dropout(0.5))
    model[1].eval()  # a reader froze this module's statistics
    return model


MEASUREMENTS = {
    "evaluate": lambda model: evaluate(model, pictures_of(3)),
    "evaluate with fresh statistics": lambda model: evaluate(model, pictures_of(3), refresh_with=pictures_of(2)),
    "predictions": lambda model: predictions(model, pictures_of(3)),
}


@both_storages
@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_measuring_changes_nothing_in_the_model_nor_in_the_random_state(storage, measurement):
    model = cnn_with_dropout(storage)
    before, modes = states(model), [module.training for module in model.modules()]
    topology, random = topology_of(model), torch.get_rng_state()
    MEASUREMENTS[measurement](model)
    assert same(states(model), before)
    assert [module.training for module in model.modules()] == modes
    assert topology_of(model) == topology
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("measure", [evaluate, predictions])
def test_modes_regrow_when_measuring_fails(measure):
    model = cnn_with_dropout()
    modes = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError):
        measure(model, [(torch.zeros(2, 9), torch.zeros(2).long())])
    assert [module.training for module in model.modules()] == modes


def test_loss_and_accuracy_are_those_worked_out_by_hand():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.eye(2)
    batches = [
        (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])),
        (torch.tensor([[3.0, 0.0]]), torch.tensor([0])),
    ]
    measured = evaluate(model, batches)
    by_sample = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(1)), math.log(1 + math.exp(-3))]
    assert measured.loss == pytest.approx(sum(by_sample) / 3, abs=1e-6)
    assert (measured.accuracy, measured.count) == (2 / 3, 3)


def test_batches_of_different_sizes_weigh_by_their_samples():
    model = plain_mlp()
    inputs, labels = batches_of(1, size=10)[0]
    whole = evaluate(model, [(inputs, labels)])
    parts = evaluate(model, [(inputs[:7], labels[:7]), (inputs[7:], labels[7:])])
    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, abs=1e-6)


def test_dropout_is_off_and_own_losses_are_used():
    model = plain_mlp(dropout=0.9).train()
    twice = [evaluate(model, batches_of(2), lambda outputs, labels: (outputs**2).mean()) for _ in range(2)]
    outputs = torch.cat([model.eval()(x) for x, _ in batches_of(2)])
    assert twice[0] == twice[1]
    assert twice[0].loss == pytest.approx(float((outputs.detach() ** 2).mean()), abs=1e-6)


@both_storages
def test_predictions_are_the_outputs_and_labels_in_order(storage):
    model, batches = tiny(storage), batches_of(3, size=5)
    outputs, labels = predictions(model, batches)
    assert outputs.shape == (15, CLASSES)
    assert torch.equal(labels, torch.cat([y for _, y in batches]))
    assert same(outputs[5:10], model(batches[1][0]).detach())
    assert not outputs.requires_grad


def test_a_sparse_model_measures_as_its_plain_copy():
    model = tiny("csr")
    one, other = evaluate(model, batches_of(2)), evaluate(densify(model), batches_of(2))
    assert one.loss == pytest.approx(other.loss, abs=1e-5)


@pytest.mark.parametrize("measure", [evaluate, predictions])
@pytest.mark.parametrize("nothing", [list, lambda: iter(())])
def test_no_batch_is_an_error(measure, nothing):
    with pytest.raises(ValueError, match="got none. Check the data set or the loader"):
        measure(plain_mlp(), nothing())


def test_a_batch_without_samples_is_an_error_too():
    with pytest.raises(ValueError, match="at least one sample, got none"):
        evaluate(plain_mlp(), [(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))])


# --- batch norm -------------------------------------------------------------------------------------------------


def test_refreshed_statistics_are_the_mean_and_deviation_of_the_pass():
    model = nn.Sequential(nn.BatchNorm1d(2))
    first, second = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[4.0, 1.0], [6.0, 5.0]])
    refresh_batch_norm(model, [(first, torch.zeros(2)), (second, torch.zeros(2))])
    torch.testing.assert_close(model[0].running_mean, torch.stack([first, second]).mean((0, 1)))
    torch.testing.assert_close(model[0].running_var, torch.stack([first.var(0), second.var(0)]).mean(0))


def test_old_statistics_leave_no_trace():
    models = [plain_cnn() for _ in range(2)]
    models[1][1].running_mean.fill_(1e3)
    for model in models:
        refresh_batch_norm(model, pictures_of(2))
    assert same(states(models[0]), states(models[1]))


def test_refreshing_keeps_weights_modes_momentum_and_the_random_state():
    model = cnn_with_dropout()
    weights, modes = copy.deepcopy(list(model.parameters())), [module.training for module in model.modules()]
    momentum, random = model[1].momentum, torch.get_rng_state()
    refresh_batch_norm(model, pictures_of(2))
    assert same(weights, list(model.parameters()))
    assert [module.training for module in model.modules()] == modes
    assert model[1].momentum == momentum
    assert torch.equal(torch.get_rng_state(), random)


def test_refreshing_with_nothing_is_an_error_and_leaves_the_old_statistics():
    model = plain_cnn()
    model(pictures_of(1)[0][0])
    before = states(model)
    with pytest.raises(ValueError, match="needs at least one batch, got none"):
        refresh_batch_norm(model, iter(()))
    assert same(states(model), before)


def test_models_without_batch_norm_need_no_batch():
    refresh_batch_norm(plain_mlp(), iter(()))


def test_refresh_with_measures_with_the_statistics_of_these_batches():
    model = plain_cnn()
    model[1].running_mean.fill_(1e3)
    by_hand = copy.deepcopy(model)
    refresh_batch_norm(by_hand, pictures_of(2))
    assert evaluate(model, pictures_of(3), refresh_with=pictures_of(2)) == evaluate(by_hand, pictures_of(3))
    assert evaluate(model, pictures_of(3)) != evaluate(by_hand, pictures_of(3))


def test_an_evaluation_is_a_plain_value():
    measured = evaluate(plain_mlp(), batches_of(1), cross_entropy)
    assert isinstance(measured, Evaluation)
    assert (type(measured.loss), type(measured.accuracy), type(measured.count)) == (float, float, int)


NONE = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize(
    ("outputs", "labels", "right"),
    [
        (torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]), (1.0, 2)),
        (torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]).view(2, 1, 1).expand(2, 4, 4), (16.0, 32)),  # a label per pixel
        (torch.zeros(0, 3), NONE, (0.0, 0)),
    ],
)
def test_every_label_counts_once(outputs, labels, right):
    assert num_correct(outputs, labels) == right


def test_labels_that_are_no_classes_have_no_accuracy():
    assert math.isnan(num_correct(torch.zeros(4, 1), torch.zeros(4, 1))[0])
    assert math.isnan(num_correct(torch.zeros(4, 2), torch.zeros(4))[0])
