"""`fit` and its history: any source of batches, and numbers that can be asked for by name."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from training_helpers import OPTIMIZERS, RULES, STORAGES, batches_of, plain_mlp, same, states, tiny, train

from sparsekit.evaluation.measuring import evaluate
from sparsekit.layers import topology_of
from sparsekit.rules import Static
from sparsekit.schedules import Constant
from sparsekit.train import History, Row, fit

both_storages = pytest.mark.parametrize("storage", STORAGES)
STEP_NAMES = ["train loss", "train accuracy"]
EPOCH_NAMES = ["test loss", "test accuracy", "density", "density of all parameters"]


def made(storage="masked"):
    model = tiny(storage)
    return model, OPTIMIZERS["sgd"](model.parameters())


def loader():
    inputs, labels = (torch.cat(part) for part in zip(*batches_of(4), strict=True))
    return DataLoader(TensorDataset(inputs, labels), batch_size=8)


SOURCES = {
    "list": lambda: batches_of(4),
    "tuple": lambda: tuple(batches_of(4)),
    "DataLoader": loader,
    "function of the epoch": lambda: lambda epoch: iter(batches_of(4)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_of_batches_gives_what_the_visible_loop_gives(source):
    visible, fitted = made(), made()
    changes = train(*visible, batches_of(4) * 2, RULES["rigl"])
    history = fit(*fitted, SOURCES[source](), RULES["rigl"], epochs=2, progress=False)
    assert same(states(*fitted), states(*visible))
    assert history.journal.steps == [step for step, _ in changes]
    assert history.journal[-1] == topology_of(fitted[0])


def test_a_function_is_asked_for_the_batches_of_each_epoch():
    asked = []
    fit(*made(), lambda epoch: asked.append(epoch) or batches_of(1), epochs=3, progress=False)
    assert asked == [0, 1, 2]


def test_a_generator_that_is_exhausted_is_an_error_that_says_what_to_give():
    with pytest.raises(ValueError, match="at least one batch, got none in epoch 1. Give a loader or list"):
        fit(*made(), iter(batches_of(2)), epochs=2, progress=False)


def test_an_empty_loader_is_an_error():
    with pytest.raises(ValueError, match="got none in epoch 0"):
        fit(*made(), [], epochs=1, progress=False)


@both_storages
def test_settings_reach_the_loop(storage):
    visible, fitted = made(storage), made(storage)
    for group in visible[1].param_groups:
        group["lr"] = 0.03
    train(*visible, batches_of(4), RULES["rigl"], micro_batches=2, autocast=torch.bfloat16)
    settings = {"learning_rate": Constant(0.03), "micro_batches": 2, "autocast": torch.bfloat16}
    fit(*fitted, batches_of(4), RULES["rigl"], epochs=1, progress=False, **settings)
    assert same(states(fitted[0]), states(visible[0]))


def test_the_seed_decides_what_the_rule_draws():
    first, same_seed, other = ([made(), seed] for seed in (1, 1, 2))
    for pair, seed in (first, same_seed, other):
        fit(*pair, batches_of(1), RULES["set"], epochs=1, seed=seed, progress=False)
    assert topology_of(first[0][0]) == topology_of(same_seed[0][0])
    assert topology_of(first[0][0]) != topology_of(other[0][0])


def test_the_history_holds_every_step_and_the_test_set_after_every_epoch():
    model, optimizer = made()
    history = fit(model, optimizer, batches_of(3), epochs=2, test_batches=batches_of(2, seed=1), progress=False)
    epoch = STEP_NAMES * 3 + EPOCH_NAMES
    assert [row.name for row in history.rows] == epoch * 2
    assert [(row.step, row.epoch) for row in history.rows if row.name == "test loss"] == [(2, 0), (5, 1)]
    assert [row.step for row in history.rows if row.name == "train loss"] == [0, 1, 2, 3, 4, 5]
    measured = evaluate(model, batches_of(2, seed=1))
    assert history.last("test accuracy") == measured.accuracy
    assert history.last("density") == topology_of(model).density


def test_a_plain_model_trains_as_without_a_rule_and_counts_as_dense():
    models = [plain_mlp() for _ in range(2)]
    for model, rule in zip(models, (None, Static()), strict=True):
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        history = fit(model, optimizer, batches_of(3), rule, epochs=1, test_batches=batches_of(1), progress=False)
        assert history.last("density") == 1.0
        assert len(history.journal) == 0
    assert same(states(models[0]), states(models[1]))


def test_a_loss_that_is_not_finite_stops_the_training():
    bad = [*batches_of(2), (torch.full((8, 6), torch.nan), torch.zeros(8, dtype=torch.int64))]
    with pytest.raises(FloatingPointError, match="the loss must be finite"):
        fit(*made(), bad, epochs=1, progress=False)


def test_dropout_is_on_in_training_even_if_the_model_came_in_evaluation_mode():
    model, optimizer = made()
    fit(model.eval(), optimizer, batches_of(1), epochs=1, test_batches=batches_of(1), progress=False)
    assert all(module.training for module in model.modules())


# --- history ----------------------------------------------------------------------------------------------------

ROWS = [Row(0, 0, "train loss", 2.0), Row(1, 0, "train loss", 1.5), Row(1, 0, "density", 0.1)]


def test_a_history_is_a_table_with_one_row_a_number():
    frame = History(list(ROWS)).frame()
    assert list(frame.columns) == ["step", "epoch", "name", "value"]
    assert frame[frame.name == "train loss"].value.tolist() == [2.0, 1.5]
    assert list(History().frame().columns) == ["step", "epoch", "name", "value"]


def test_numbers_can_be_asked_for_by_name():
    history = History(list(ROWS))
    assert history.values("train loss") == [2.0, 1.5]
    assert history.last("train loss") == 1.5


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="must be one of density, train loss, got 'accuracy'"):
        History(list(ROWS)).last("accuracy")
    with pytest.raises(ValueError, match=r"must be one of \(nothing measured\)"):
        History().last("accuracy")
