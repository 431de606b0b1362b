"""Runs that begin from a saved state, at a later step, or stop early. The rest is what it would have been."""

from dataclasses import replace

import pytest
import torch
from test_resume import DROPOUT_SET, RIGL, Killed, assert_same_run, dies_after_step, dies_between_metrics_and_checkpoint
from test_resume import _dropout_model as _dropout_model  # a fixture that every test here uses
from training_helpers import same

from sparsekit.experiments import build_model, load_initial_state, load_model, run, save_initial_state
from sparsekit.experiments.initial_state import INITIAL_STATES
from sparsekit.layers import densify, shapes_of, sparsify, topology_of
from sparsekit.rules import Static
from sparsekit.schedules import Constant
from sparsekit.topology.selection import random_topology
from sparsekit.train import load_checkpoint

SHAPE = {"input_shape": (1, 8, 8), "num_classes": 10}
STATIC = replace(RIGL, rule=Static(), recipe="static")
DENSE = replace(STATIC, density=1.0, recipe="dense")


def ticket(seed=0, density=0.2, storage="csr"):
    """A sparse model that no experiment draws by itself, with running statistics of its own."""
    model = build_model(replace(DENSE, seed=99), **SHAPE)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(0.5)
    return sparsify(model, random_topology(shapes_of(model), density, seed=seed), storage, init="dense")


# --- until --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", [RIGL, DROPOUT_SET], ids=["rigl", "set"])
@pytest.mark.parametrize("stops", [(1, 4), (3,), (8, 9, 100)])
def test_a_run_that_is_stopped_and_called_again_ends_as_one_that_was_not(experiment, stops, tmp_path):
    whole = run(experiment, tmp_path / "whole", progress=False)
    for stop in stops:
        history = run(experiment, tmp_path / "parts", progress=False, until=stop)
        assert len(history.values("train loss")) == min(stop, 9)
        assert load_checkpoint(history.folder / "checkpoint.pt")["step"] == min(stop, 9)
    assert_same_run(run(experiment, tmp_path / "parts", progress=False), whole)


def test_a_run_that_is_beyond_that_step_stays_as_it_is(tmp_path):
    run(RIGL, tmp_path, progress=False, until=5)
    assert len(run(RIGL, tmp_path, progress=False, until=2).values("train loss")) == 5


def test_a_run_until_no_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="until must be at least 1 or None, got 0. Leave it out"):
        run(RIGL, tmp_path / "runs", progress=False, until=0)
    with pytest.raises(TypeError, match="until"):
        run(RIGL, tmp_path / "runs", progress=False, until=2.5)
    assert not (tmp_path / "runs").exists()


# --- saved states -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved_in", ["masked", "csr"])
@pytest.mark.parametrize("loaded_in", ["masked", "csr"])
def test_a_saved_state_is_loaded_bit_for_bit_in_either_storage(saved_in, loaded_in, tmp_path):
    model = ticket(storage=saved_in)
    other = ticket(seed=1, density=0.5, storage=loaded_in)
    load_initial_state(tmp_path, save_initial_state(tmp_path, model), other)
    assert topology_of(other) == topology_of(model)
    assert same(densify(other).state_dict(), densify(model).state_dict())


def test_a_state_is_named_by_what_it_is_and_kept_once(tmp_path):
    name = save_initial_state(tmp_path, ticket())
    file = tmp_path / INITIAL_STATES / f"{name}.safetensors"
    before = file.stat().st_mtime_ns
    assert save_initial_state(tmp_path, ticket()) == name
    assert file.stat().st_mtime_ns == before
    changed = ticket()
    changed.bn1.running_mean[0] += 1
    assert save_initial_state(tmp_path, changed) != name
    assert len(list((tmp_path / INITIAL_STATES).iterdir())) == 2


def test_layers_that_share_a_tensor_can_be_kept(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].bias = model[0].bias
    load_initial_state(tmp_path, save_initial_state(tmp_path, model), model)


def test_a_damaged_state_and_that_of_another_model_are_refused(tmp_path):
    name = save_initial_state(tmp_path, ticket())
    with pytest.raises(ValueError, match=f"the state {name} must be that of a model like this one, got another: "):
        load_initial_state(tmp_path, name, torch.nn.Linear(2, 2))
    file = tmp_path / INITIAL_STATES / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="must hold the state it is named after, got another. Make it anew"):
        load_initial_state(tmp_path, name, ticket())


def test_a_run_without_its_state_says_where_it_must_lie_and_leaves_no_folder_behind(tmp_path):
    experiment = replace(STATIC, init_from="0123456789abcdef")
    with pytest.raises(FileNotFoundError, match=r"must lie at .*0123456789abcdef.safetensors, got none. Copy it"):
        run(experiment, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


# --- runs from them -----------------------------------------------------------------------------------------------


def test_a_run_begins_with_the_topology_and_the_values_of_its_state(tmp_path, monkeypatch):
    model = ticket()
    experiment = replace(STATIC, init_from=save_initial_state(tmp_path, model))
    begun = []
    patch_training(monkeypatch, lambda trained: begun.append((topology_of(trained), densify(trained).state_dict())))
    history = run(experiment, tmp_path, progress=False)
    assert begun[0][0] == topology_of(model) == history.journal.initial
    assert same(begun[0][1], densify(model).state_dict())


def patch_training(monkeypatch, look):
    """Look at the model before it is trained for the first time."""
    from sparsekit.experiments import work

    def looking(model, *args, whole=work.training, **kwargs):
        look(model)
        return whole(model, *args, **kwargs)

    monkeypatch.setattr(work, "training", looking)


def test_the_first_step_decides_the_data_the_learning_rate_and_what_is_recorded(tmp_path, monkeypatch):
    from sparsekit.experiments import work

    calls = {}

    def training(model, optimizer, batches, *args, seed, first_step, learning_rate, whole=work.training, **kwargs):
        batches = list(batches)
        calls.setdefault(first_step, ([x for x, _ in batches], learning_rate))
        yield from whole(
            model,
            optimizer,
            batches,
            *args,
            seed=seed,
            first_step=first_step,
            learning_rate=learning_rate,
            **kwargs,
        )

    monkeypatch.setattr(work, "training", training)
    run(STATIC, tmp_path, progress=False)
    whole = dict(calls)
    calls.clear()
    late = run(
        replace(STATIC, init_from=save_initial_state(tmp_path, ticket()), first_step=4), tmp_path, progress=False
    )
    assert list(calls) == [4, 6]
    assert same(calls[4][0], whole[3][0][1:])  # three batches an epoch: the second of the second epoch
    assert same(calls[6][0], whole[6][0])
    assert [calls[4][1](step) for step in range(9)] == [whole[0][1](step) for step in range(9)]
    assert [row.step for row in late.rows if row.name == "train loss"] == [4, 5, 6, 7, 8]
    assert [row.step for row in late.rows if row.name == "test accuracy"] == [5, 8], "nothing is taken over"


def test_the_accuracy_of_what_a_run_began_from_is_none_of_its_own(tmp_path):
    """In the released code of ToST the best accuracy is that of the checkpoint the mask was taken from."""
    good = run(replace(STATIC, augment=False, epochs=4, batch_size=20), tmp_path, progress=False)
    start = save_initial_state(tmp_path, load_model(good.folder))
    spoiling = replace(STATIC, augment=False, epochs=2, init_from=start, learning_rate=Constant(2.0))
    history = run(spoiling, tmp_path, progress=False)
    accuracies = history.values("test accuracy")
    assert len(accuracies) == spoiling.epochs
    assert max(accuracies) < good.last("test accuracy")
    assert {row.step for row in history.rows} == set(range(6))


@pytest.mark.parametrize("death", [dies_after_step(5), dies_after_step(8), dies_between_metrics_and_checkpoint(6)])
@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_a_run_from_a_state_that_was_killed_ends_as_one_that_was_not(death, storage, tmp_path):
    experiments = []
    for folder in ("whole", "killed"):
        name = save_initial_state(tmp_path / folder, ticket())
        experiments.append(replace(RIGL, storage=storage, init_from=name, first_step=4))
    assert experiments[0] == experiments[1]
    whole = run(experiments[0], tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as monkeypatch:
        death(monkeypatch)
        with pytest.raises(Killed):
            run(experiments[1], tmp_path / "killed", progress=False, checkpoint_steps=2)
    assert_same_run(run(experiments[1], tmp_path / "killed", progress=False), whole)


def test_a_finished_run_needs_its_state_no_more(tmp_path):
    experiment = replace(STATIC, init_from=save_initial_state(tmp_path, ticket()))
    history = run(experiment, tmp_path, progress=False)
    for file in (tmp_path / INITIAL_STATES).iterdir():
        file.unlink()
    assert run(experiment, tmp_path, progress=False).rows == history.rows
    assert topology_of(load_model(history.folder)) == topology_of(ticket())


def test_a_first_step_after_the_end_is_refused_and_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="first_step must lie before the end, got 9 and 9 steps. Choose an earlier"):
        run(replace(STATIC, first_step=9), tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match=r"Experiment.first_step must lie in \[0, inf\], got -1"):
        replace(STATIC, first_step=-1)
