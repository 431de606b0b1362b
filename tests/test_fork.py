"""What runs have in common is trained once. A forked run ends bit for bit as one that trained everything itself."""

import importlib
import threading
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_resume import Killed, assert_same_run, register
from training_helpers import same

from sparsekit import datasets
from sparsekit.experiments import Experiment, fork, load_model, read_run, run, work
from sparsekit.experiments.initial_state import INITIAL_STATES
from sparsekit.experiments.lottery import Lottery, run_lottery
from sparsekit.experiments.sup_tickets import (
    SupTickets,
    ordinary_part,
    plan,
    run_all_sup_tickets,
    run_controls,
    run_sup_tickets,
)
from sparsekit.rules import GMP, GSE, SET, SNFS, DeepR, RigL, Static, TopKAST
from sparsekit.rules.cycles import Cycles
from sparsekit.schedules import Constant, Cosine
from sparsekit.tickets import Ticket
from sparsekit.train import load_checkpoint
from sparsekit.tricks import GhostNeurons, LabelSmoothing

FORK = importlib.import_module("sparsekit.experiments.fork")
NUM_TRAIN = 1197
# Three steps an epoch. The first six steps are the ordinary part, and two cycles of three steps follow.
NET = Experiment(
    recipe="forked",
    data="digits",
    model_settings={"hidden": (12,)},
    density=0.2,
    rule=RigL(every=2, stop=5, drop_fraction=0.5),
    epochs=4,
    batch_size=500,
)
SUP = SupTickets(experiment=NET, cycle_rate=0.5, cycle_epochs=1, low=0.02, high=0.1)
STEP = 6
ARMS = {
    "rigl": {},
    "set, adam with step counts": {"rule": SET(every=2, stop=5), "optimizer": "adam", "step_count": "own"},
    "gse in csr": {"rule": GSE(every=2, stop=5), "storage": "csr"},
    "static with a cosine": {"rule": Static(), "learning_rate": Cosine(0.1, 0.01)},
    "a density that falls": {"rule": GMP(every=2, stop=5, final=0.2)},
    "state": {"rule": SNFS(every=2, stop=5)},
    "forward masks": {"rule": TopKAST(every=2, stop=5)},
    "gradient penalty": {"rule": DeepR(every=1, stop=5)},
    "ghosts, labels and dropout": {
        "tricks": (GhostNeurons(stop=4), LabelSmoothing(stop=5)),
        "model": "mlp-with-dropout",
    },
}


@pytest.fixture(autouse=True)
def _dropout_model_and_digits_at_hand(monkeypatch):
    register(monkeypatch)
    monkeypatch.setattr(datasets, "load_any", lambda *_, **settings: DIGITS[settings.get("flat", True)])


DIGITS = {flat: datasets.load("digits", flat=flat) for flat in (True, False)}  # loading them takes longest here


def sup_of(name: str) -> SupTickets:
    sup = replace(SUP, experiment=replace(NET, **ARMS[name]))
    explores = name in ("forward masks", "gradient penalty")  # these rules exchange no share of the connections
    return replace(sup, explore=0.0) if explores else sup


def common_of(sup: SupTickets) -> Experiment:
    common = ordinary_part(sup, NUM_TRAIN)
    assert common is not None
    return common


@pytest.fixture
def trained(monkeypatch):
    """The folder and number of each step that is trained, in order."""
    steps = []

    def counting(self, *args, whole=work.Work._epoch, **settings):
        for postfix in whole(self, *args, **settings):
            steps.append((self.folder.name, self.done))
            yield postfix

    monkeypatch.setattr(work.Work, "_epoch", counting)
    return steps


# --- forked and unforked runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
def test_a_forked_run_is_the_unforked_one(name, tmp_path):
    sup = sup_of(name)
    experiment, ends = plan(sup, NUM_TRAIN)
    common = run(common_of(sup), tmp_path / "forked", progress=False)
    folder = fork(common.folder, experiment, tmp_path / "forked", step=STEP)
    forked, whole = (run(experiment, tmp_path / place, progress=False) for place in ("forked", "whole"))
    assert forked.folder == folder
    assert_same_run(forked, whole)
    assert ends == [6, 9, 12]


def test_tickets_of_a_collection_are_those_of_an_unforked_run(tmp_path):
    collection = run_sup_tickets(SUP, tmp_path, progress=False)
    experiment, ends = plan(SUP, NUM_TRAIN)
    for end, ticket in zip(ends, collection.tickets, strict=True):
        whole = run(experiment, tmp_path / "whole", progress=False, until=end)
        state = Ticket.of(load_model(whole.folder), step=end).state()
        assert same(ticket.state(), state)
        assert ticket.accuracy == whole.last("test accuracy")
    assert same(
        load_checkpoint(collection.history.folder / "checkpoint.pt"), load_checkpoint(whole.folder / "checkpoint.pt")
    )


def test_the_ordinary_part_is_trained_once_for_all_cycles(tmp_path, trained):
    longer = replace(SUP, experiment=replace(NET, epochs=6), cycle_rate=2 / 3, cycle_epochs=2)
    arms = [SUP, replace(SUP, explore=0.0), replace(SUP, low=0.01, high=0.2), longer]
    for sup in arms:
        run_sup_tickets(sup, tmp_path, progress=False)
    run_controls(SUP, tmp_path, strangers=0, progress=False)
    early = [folder for folder, step in trained if step <= STEP]
    assert early == [common_of(SUP).folder_name] * STEP
    assert len(trained) == STEP + 3 * 6 + 12


def test_a_stranger_has_an_ordinary_part_of_its_own(tmp_path, trained):
    run_controls(replace(SUP, explore=0.0), tmp_path, strangers=2, progress=False)
    assert len(trained) == 2 * (STEP + 6)


OUTLIVING = {
    "no cycles": replace(SUP, cycle_rate=0.1),
    "rule": replace(SUP, freeze=False, experiment=replace(NET, rule=RigL(every=2, stop=8))),
    "trick": replace(SUP, experiment=replace(NET, tricks=(LabelSmoothing(stop=8),))),
}


@pytest.mark.parametrize("name", OUTLIVING)
def test_what_outlives_the_ordinary_part_is_trained_as_one_run(name, tmp_path, trained):
    assert ordinary_part(OUTLIVING[name], NUM_TRAIN) is None
    collection = run_sup_tickets(OUTLIVING[name], tmp_path, progress=False)
    assert [step for _, step in trained] == list(range(1, 13))
    assert len(collection.tickets) == len(plan(OUTLIVING[name], NUM_TRAIN)[1])


def test_a_collection_that_was_begun_without_a_fork_continues(tmp_path, trained):
    experiment, _ = plan(SUP, NUM_TRAIN)
    run(experiment, tmp_path, progress=False, until=4)
    run_sup_tickets(SUP, tmp_path, progress=False)
    assert {folder for folder, _ in trained} == {experiment.folder_name}


def test_a_run_that_cannot_end_is_refused_before_its_folder_is_made(tmp_path):
    common = replace(NET, rule=Static(), learning_rate=Constant(0.1))
    folder = run(common, tmp_path, progress=False, until=4).folder
    child = replace(common, rule=RigL(every=2, stop=99))
    with pytest.raises(ValueError, match="the rule must end within the training, got stop=99 and 12 steps"):
        fork(folder, child, tmp_path, step=4)
    assert not (tmp_path / child.folder_name).exists()


# --- interruptions and damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 3])
def test_a_process_that_dies_during_the_fork_leaves_nothing_or_a_whole_beginning(at, tmp_path, monkeypatch):
    experiment, _ = plan(SUP, NUM_TRAIN)
    common = run(common_of(SUP), tmp_path, progress=False)
    writes = []

    def dying(*args, whole):
        if len(writes) == at:
            raise Killed
        writes.append(args)
        return whole(*args)

    with monkeypatch.context() as patch:
        for name in ("write_rows", "write_bytes", "write_experiment"):
            patch.setattr(FORK, name, partial(dying, whole=getattr(FORK, name)))
        with pytest.raises(Killed):
            fork(common.folder, experiment, tmp_path, step=STEP)
    assert not (tmp_path / experiment.folder_name / "checkpoint.pt").exists()
    if at == 1:  # whoever does not fork again begins anew
        fork(common.folder, experiment, tmp_path, step=STEP)
    assert_same_run(run(experiment, tmp_path, progress=False), run(experiment, tmp_path / "whole", progress=False))


@pytest.mark.parametrize("file", ["checkpoint.pt", "metrics.jsonl", "journal", "experiment.json"])
def test_a_damaged_parent_is_refused_and_nothing_is_written(file, tmp_path):
    experiment, _ = plan(SUP, NUM_TRAIN)
    common = run(common_of(SUP), tmp_path, progress=False)
    data = bytearray((common.folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (common.folder / file).write_bytes(data)
    with pytest.raises(ValueError, match=file):
        fork(common.folder, experiment, tmp_path, step=STEP)
    assert not (tmp_path / experiment.folder_name).exists()


def test_a_forked_run_needs_its_parent_no_more(tmp_path, trained):
    whole = run_sup_tickets(SUP, tmp_path / "whole", progress=False)
    experiment, _ = plan(SUP, NUM_TRAIN)
    common = run(common_of(SUP), tmp_path, progress=False)
    fork(common.folder, experiment, tmp_path, step=STEP)
    common.folder.rename(tmp_path / "gone")
    fork(common.folder, experiment, tmp_path, step=STEP)  # it has begun, so nothing happens
    del trained[:]
    collection = run_sup_tickets(SUP, tmp_path, progress=False)
    assert [step for _, step in trained] == list(range(STEP + 1, 13))
    assert [same(a.state(), b.state()) for a, b in zip(collection.tickets, whole.tickets, strict=True)] == [True] * 3


def test_two_that_fork_the_same_at_once_write_one_beginning(tmp_path, trained):
    arms = [SUP, SUP, replace(SUP, explore=0.0)]
    threads = [
        threading.Thread(target=run_sup_tickets, args=(sup, tmp_path), kwargs={"progress": False}) for sup in arms
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(trained) == len(set(trained)) == STEP + 2 * 6
    experiment, _ = plan(SUP, NUM_TRAIN)
    history = read_run(tmp_path / experiment.folder_name)
    assert history.rows == run(experiment, tmp_path / "whole", progress=False).rows


# --- what does not agree ------------------------------------------------------------------------------------------

DIFFERING = {
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 400},
    "density": {"density": 0.3},
    "data_settings": {"data_settings": {"flat": False}},
    "rule": {"rule": SET(every=2, stop=5)},
    "learning_rate": {"learning_rate": Constant(0.05)},
    "tricks": {"tricks": (LabelSmoothing(stop=5),)},
    "epochs": {"epochs": 1, "rule": NET.rule},
}


@pytest.mark.parametrize("name", DIFFERING)
def test_runs_that_differ_before_the_fork_are_refused_by_name(name, tmp_path):
    common = replace(NET, learning_rate=Constant(0.1), epochs=2)
    child = replace(common, recipe="child", **DIFFERING[name])
    if name == "epochs":
        common, child = (replace(one, rule=Static()) for one in (common, child))
    folder = run(common, tmp_path, progress=False).folder
    with pytest.raises(ValueError, match=f"must agree up to step 6 .* got {name} "):
        fork(folder, child, tmp_path, step=STEP)
    assert not (tmp_path / child.folder_name).exists()


def test_cycles_that_begin_before_the_fork_do_not_agree(tmp_path):
    common = replace(NET, learning_rate=Constant(0.1), epochs=2)
    folder = run(common, tmp_path, progress=False).folder
    for after in (5, 6):
        child = replace(common, rule=Cycles(base=NET.rule, after=after, length=2), epochs=4)
        if after < STEP:
            with pytest.raises(ValueError, match="got rule"):
                fork(folder, child, tmp_path, step=STEP)
        else:
            assert (fork(folder, child, tmp_path, step=STEP) / "checkpoint.pt").exists()


def test_a_parent_elsewhere_or_missing_is_refused(tmp_path):
    common = replace(NET, learning_rate=Constant(0.1))
    child = replace(common, recipe="child")
    folder = run(common, tmp_path, progress=False, until=4).folder
    with pytest.raises(ValueError, match=r"stand at step 3 to be forked there, got .* at step 4\. Train"):
        fork(folder, child, tmp_path, step=3)
    with pytest.raises(ValueError, match="from another one"):
        fork(folder, common, tmp_path, step=4)
    with pytest.raises(TypeError, match="step"):
        fork(folder, child, tmp_path, step=4.0)
    with pytest.raises(TypeError, match="experiment"):
        fork(folder, "child", tmp_path, step=4)
    with pytest.raises(FileNotFoundError, match="experiment.json"):
        fork(tmp_path / "nowhere", child, tmp_path, step=4)
    assert not (tmp_path / child.folder_name).exists()


# --- lotteries ----------------------------------------------------------------------------------------------------

LOTTERY = Lottery(experiment=replace(NET, density=1.0, rule=Static()), levels=1, prune=0.5, rewind_step=4)


def test_a_lottery_trains_nothing_twice(tmp_path, trained):
    run_lottery(LOTTERY, tmp_path, progress=False)
    assert len(trained) == len(set(trained)) == 12 + 8
    steps = [step for folder, step in trained if folder == LOTTERY.experiment.folder_name]
    assert steps == list(range(1, 13))


def test_a_lottery_after_a_finished_level_0_trains_its_first_steps_again(tmp_path, trained):
    run(LOTTERY.experiment, tmp_path / "late", progress=False)
    late, early = (run_lottery(LOTTERY, tmp_path / name, progress=False) for name in ("late", "early"))
    assert len(trained) == 12 + 4 + 8 + 12 + 8
    for a, b in zip(late.levels, early.levels, strict=True):
        assert_same_run(a, b)
    states = [
        tmp_path / name / INITIAL_STATES / "step-4" / LOTTERY.experiment.folder_name for name in ("late", "early")
    ]
    assert same(*(load_checkpoint(folder / "checkpoint.pt") for folder in states))


def test_a_lottery_killed_between_its_stop_and_the_fork_trains_nothing_twice(tmp_path, trained, monkeypatch):
    def dying(*_args, **_settings):
        raise Killed

    levels = importlib.import_module("sparsekit.experiments.lottery.levels")
    with monkeypatch.context() as patch:
        patch.setattr(levels, "fork", dying)
        with pytest.raises(Killed):
            run_lottery(LOTTERY, tmp_path, progress=False)
    run_lottery(LOTTERY, tmp_path, progress=False)
    assert len(set(trained)) == len(trained) == 12 + 8


def test_several_collections_at_once_are_those_of_each_alone(tmp_path):
    sups = [replace(SUP, experiment=replace(NET, seed=seed)) for seed in (0, 1)]
    arms = [*sups, replace(sups[0], explore=0.0)]
    together = run_all_sup_tickets(arms, tmp_path / "together", progress=False)
    for sup, collected in zip(arms, together, strict=True):
        alone = run_sup_tickets(sup, tmp_path / "alone", progress=False)
        assert collected.sup == sup
        assert [ticket.step for ticket in collected.tickets] == [ticket.step for ticket in alone.tickets]
        for one, other in zip(collected.tickets, alone.tickets, strict=True):
            assert one.topology == other.topology
            for name in one.topology:
                torch.testing.assert_close(one.values[name], other.values[name], rtol=1e-4, atol=1e-6)
    again = run_all_sup_tickets(arms, tmp_path / "together", progress=False)
    assert [one.tickets[-1].step for one in again] == [one.tickets[-1].step for one in together]
    with pytest.raises(ValueError, match="at least one collection, got none"):
        run_all_sup_tickets([], tmp_path)
    with pytest.raises(TypeError, match="sups|collections"):
        run_all_sup_tickets(arms[0], tmp_path)
