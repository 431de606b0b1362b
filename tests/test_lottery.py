"""Lottery tickets: exact counts, nested masks, values bit for bit those of the step gone back to, and controls."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from unittest.mock import Mock

import pytest
import torch
from test_resume import Killed, assert_same_run
from torch import nn
from training_helpers import same

from sparsekit.experiments import Experiment, build_model, load_model, run, work
from sparsekit.experiments.initial_state import INITIAL_STATES
from sparsekit.experiments.lottery import CONTROLS, Lottery, run_control, run_lottery
from sparsekit.experiments.lottery.levels import InitialState, LotteryRuns, largest
from sparsekit.layers import densify, sparse_layers, sparsify, topology_of
from sparsekit.rules import SET
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train import load_checkpoint
from sparsekit.tricks import GhostSkips, RescaledInit, ghosts_of
from sparsekit.utils.settings import from_plain, to_plain

# Three steps an epoch, nine in all. Batch norm and no dropout, so every number follows from weights and data.
DENSE = Experiment(
    recipe="dense",
    data="digits",
    data_settings={"flat": False},
    augment=True,
    model="small-cnn",
    model_settings={"widths": (6, 8)},
    density=1.0,
    epochs=3,
    batch_size=500,
)
SIZE = 9 * (1 * 6 + 6 * 8) + 8 * 10
LOTTERY = Lottery(experiment=DENSE, levels=3, prune=0.2, rewind_step=2)
VARIANTS = {
    "weights": LOTTERY,
    "original": replace(LOTTERY, rewind_step=0),
    "rate": replace(LOTTERY, rewind="rate"),
    "finetune": replace(LOTTERY, rewind="finetune", finetune_rate=0.01),
    "csr": replace(LOTTERY, experiment=replace(DENSE, storage="csr")),
    "without the head": replace(LOTTERY, experiment=replace(DENSE, exclude=("last",))),
}
every_variant = pytest.mark.parametrize("name", VARIANTS)
STEPS = 9


@pytest.fixture(scope="module")
def won(tmp_path_factory):
    """Each lottery carried out once."""
    histories = {}

    def get(name):
        if name not in histories:
            histories[name] = run_lottery(VARIANTS[name], tmp_path_factory.mktemp("lottery"), progress=False)
        return histories[name]

    return get


def begun_with(history):
    """The model that a run began with, as kept."""
    experiment = work.read_experiment(history.folder)
    model = build_model(experiment, input_shape=(1, 8, 8), num_classes=10)
    if experiment.init_from is not None:
        from sparsekit.experiments import load_initial_state

        load_initial_state(history.folder.parent, experiment.init_from, model)
    return model


def after(experiment, step, folder):
    """The model after so many steps of an experiment, trained here once more."""
    if step == 0:
        return build_model(experiment, input_shape=(1, 8, 8), num_classes=10)
    return load_model(run(experiment, folder, progress=False, until=step).folder)


def cut(state, topology):
    """Remove from a plain model's state what is not in a topology."""
    for name, layer in topology.items():
        state[f"{name}.weight"] = state[f"{name}.weight"].masked_fill(~layer.mask(), 0)


def plain_weight(model, name):
    layer = model.get_submodule(name)
    return layer.dense_weight() if name in sparse_layers(model) else layer.weight.detach()


# --- the value ----------------------------------------------------------------------------------------------------


@every_variant
def test_a_lottery_survives_json(name):
    assert from_plain(json.loads(json.dumps(to_plain(VARIANTS[name])))) == VARIANTS[name]


def test_densities_are_the_published_ones():
    published = [0.8, 0.64, 0.512, 0.4096, 0.32768, 0.262144, 0.209715, 0.167772]
    lottery = Lottery(experiment=DENSE)
    assert [lottery.density_at(level) for level in range(1, 9)] == pytest.approx(published, abs=5e-7)
    assert lottery.density_at(16) == pytest.approx(0.028147, abs=5e-7)


WRONG = {
    "levels": ({"levels": 0}, "levels must be at least 1, got 0. Raise it"),
    "step": ({"rewind_step": -1}, "rewind_step must be at least 0, got -1. Raise it"),
    "prune nothing": ({"prune": 0.0}, "prune must lie between 0 and 1, got 0.0. For example, 0.2 removes"),
    "prune all": ({"prune": 1.0}, "prune must lie between 0 and 1, got 1.0. For example, 0.2 removes"),
    "rewind": ({"rewind": "back"}, "rewind must be one of weights, rate, finetune, got 'back'. Choose"),
    "no rate": ({"rewind": "finetune"}, "finetune_rate must be given with .* only then, got None with 'finetune'"),
    "a rate": ({"finetune_rate": 0.1}, "finetune_rate must be given with .* only then, got 0.1 with 'weights'"),
    "sparse": ({"experiment": replace(DENSE, density=0.5)}, "the experiment must be dense, got density 0.5, Static"),
    "rule": (
        {"experiment": replace(DENSE, rule=SET(stop=9))},
        "must be dense, got density 1.0, DropGrow, score None and init_from None",
    ),
    "start": (
        {"experiment": replace(DENSE, init_from="0123")},
        "the experiment must be dense, got .* and init_from 0123. Make",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_lottery_that_makes_no_sense_is_refused(what):
    settings, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        replace(LOTTERY, **settings)


@pytest.mark.parametrize("settings", [{"levels": 2.0}, {"rewind_step": "2"}, {"experiment": "digits-mlp"}])
def test_settings_of_the_wrong_kind_are_refused(settings):
    with pytest.raises(TypeError, match=next(iter(settings))):
        replace(LOTTERY, **settings)


LATE = {
    "step after the end": (replace(LOTTERY, rewind_step=9), "rewind_step must lie before the end, got 9 and 9 steps"),
    "too few connections": (replace(LOTTERY, levels=30), "a connection for each of 3 layers, got 1 at level 30. Lower"),
}


@pytest.mark.parametrize("what", LATE)
def test_what_cannot_be_carried_out_to_the_end_is_not_begun(what, tmp_path):
    lottery, message = LATE[what]
    with pytest.raises(ValueError, match=message):
        run_lottery(lottery, tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_only_lotteries_are_run(tmp_path):
    with pytest.raises(TypeError, match="Lottery"):
        run_lottery(DENSE, tmp_path, progress=False)


# --- levels -------------------------------------------------------------------------------------------------------


@every_variant
def test_counts_are_exact_and_masks_nested(name, won):
    topologies = won(name).topologies
    size = SIZE - 80 * (name == "without the head")
    assert [topology.count for topology in topologies] == [size] + [round(size * 0.8**level) for level in (1, 2, 3)]
    for larger, smaller in pairwise(topologies):
        assert (smaller - larger).count == 0
    assert [topology_of(load_model(h.folder)) for h in won(name).levels[1:]] == topologies[1:]


def test_counts_do_not_drift_by_rounding_over_many_levels(tmp_path):
    lottery = Lottery(experiment=replace(DENSE, epochs=1, batch_size=1197), levels=12)
    history = run_lottery(lottery, tmp_path, progress=False)
    assert [topology.count for topology in history.topologies] == [round(SIZE * 0.8**level) for level in range(13)]


@every_variant
def test_level_0_is_the_plain_dense_run(name, won, tmp_path):
    assert_same_run(won(name).levels[0], run(VARIANTS[name].experiment, tmp_path, progress=False))


@every_variant
def test_the_connections_with_the_largest_values_at_the_end_of_the_level_before_are_kept(name, won):
    history = won(name)
    for before, ticket, earlier in zip(history.levels, history.topologies[1:], history.topologies, strict=False):
        trained = load_model(before.folder)
        inside, outside = [], []
        for layer, topology in ticket.items():
            weight = plain_weight(trained, layer).flatten().abs()
            inside.append(weight[topology.indices])
            outside.append(weight[(earlier[layer] - topology).indices])
        # One ranking over all layers. No layer here is so small that its last connection had to be kept.
        assert torch.cat(inside).min() >= torch.cat(outside).max()


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_a_connection_of_value_0_is_kept_before_one_that_does_not_exist(storage):
    plain = nn.Sequential(nn.Linear(3, 2))
    plain[0].weight.data.copy_(torch.tensor([[9.0, 0.0, -0.0], [0.0, -8.0, 0.0]]))
    model = sparsify(plain, {"0": LayerTopology((2, 3), torch.tensor([2, 3, 4]))}, storage, init="dense")
    assert [largest(model, count, ())["0"].indices.tolist() for count in (3, 2, 1)] == [[2, 3, 4], [2, 4], [4]]


@pytest.mark.parametrize("name", ["weights", "original", "csr", "without the head"])
def test_rewound_values_and_statistics_are_bit_for_bit_those_of_the_step(name, won, tmp_path):
    lottery, history = VARIANTS[name], won(name)
    rewound = after(lottery.experiment, lottery.rewind_step, tmp_path)
    for level in history.levels[1:]:
        begun = begun_with(level)
        expected = densify(rewound).state_dict()
        cut(expected, topology_of(begun))
        assert same(expected, densify(begun).state_dict())
    assert lottery.rewind_step == 0 or rewound.bn1.running_mean.abs().sum() > 0


@pytest.mark.parametrize("name", ["rate", "finetune"])
def test_learning_rate_rewinding_and_fine_tuning_keep_the_trained_values(name, won):
    history = won(name)
    for before, level in pairwise(history.levels):
        expected, begun = densify(load_model(before.folder)).state_dict(), begun_with(level)
        cut(expected, topology_of(begun))
        assert same(expected, densify(begun).state_dict())


@every_variant
def test_levels_continue_from_the_step_with_a_new_optimizer(name, won):
    lottery = VARIANTS[name]
    for level in won(name).levels[1:]:
        steps = [row.step for row in level.rows if row.name == "train loss"]
        assert steps == list(range(lottery.rewind_step, STEPS))
        experiment = work.read_experiment(level.folder)
        rate = Constant(0.01) if name == "finetune" else lottery.experiment.learning_rate
        assert replace(
            experiment, recipe="dense", density=1.0, init_from=None, first_step=0, learning_rate=None
        ) == replace(lottery.experiment, learning_rate=None)
        assert experiment.learning_rate == rate


def test_levels_that_begin_while_ghosts_live_rewind_the_network_and_get_new_ghosts(tmp_path):
    tricks = (RescaledInit(iterations=2), GhostSkips(way="branch", stop=5))
    resnet = {"augment": False, "model": "resnet20", "model_settings": {"width": 2}, "epochs": 1, "batch_size": 200}
    experiment = replace(DENSE, **resnet, tricks=tricks)
    history = run_lottery(replace(LOTTERY, experiment=experiment, levels=1), tmp_path, progress=False)
    rewound, begun = begun_with(history.levels[1]), after(experiment, 2, tmp_path / "again")
    assert ghosts_of(begun)  # two steps in, level 0 has its branches
    assert not ghosts_of(rewound)
    assert not ghosts_of(load_model(history.levels[1].folder))
    for name, layer in sparse_layers(rewound).items():
        mask = layer.topology.mask()
        assert torch.equal(layer.dense_weight()[mask], begun.get_submodule(name).weight[mask])
    shutil.copytree(tmp_path / INITIAL_STATES, tmp_path / "third" / INITIAL_STATES)
    first = run(work.read_experiment(history.levels[1].folder), tmp_path / "third", progress=False, until=3)
    assert ghosts_of(load_model(first.folder))  # and so has level 1 after its first step


def test_momentum_begins_anew_after_rewinding(won, monkeypatch, tmp_path):
    """The first update of a level is a plain gradient step."""
    states = []

    def looking(model, optimizer, *args, whole=work.training, **kwargs):
        states.append((kwargs["first_step"], dict(optimizer.state)))
        return whole(model, optimizer, *args, **kwargs)

    monkeypatch.setattr(work, "training", looking)
    run_lottery(replace(LOTTERY, levels=1), tmp_path, progress=False)
    # Level 0 continues from this step with its momentum, and level 1 begins there without.
    assert [bool(state) for step, state in states if step == 2] == [True, False]


def test_one_shot_pruning_is_a_lottery_of_one_level(tmp_path):
    lottery = Lottery(experiment=DENSE, levels=1, prune=1 - 0.05, rewind="rate")
    history = run_lottery(lottery, tmp_path, progress=False)
    assert history.topologies[1].count == round(0.05 * SIZE)
    assert len(history.levels) == 2


def test_the_table_has_a_row_for_each_level(won):
    frame = won("weights").frame()
    assert list(frame.columns) == ["density", "test accuracy", "folder"]
    assert frame["density"].tolist() == [topology.density for topology in won("weights").topologies]
    assert frame["test accuracy"].tolist() == [level.last("test accuracy") for level in won("weights").levels]
    assert [path.name.rpartition("-")[0] for path in frame["folder"]] == [
        "dense",
        *(f"dense-level-{level}" for level in (1, 2, 3)),
    ]


# --- interruptions ------------------------------------------------------------------------------------------------


def files_of(folder):
    """All that a lottery has written, but for what the code was."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("code.txt", "checkpoint.pt")
    }


def test_a_lottery_that_is_killed_at_every_step_ends_as_one_that_was_not(won, tmp_path):
    def dying(*args, whole=work.training, **kwargs):
        for number, (step, stats, change) in enumerate(whole(*args, **kwargs)):
            if number == 1:  # one step is saved, the next one is not
                raise Killed
            yield step, stats, change

    deaths = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "training", dying)
        while True:
            try:
                history = run_lottery(LOTTERY, tmp_path, progress=False, checkpoint_steps=1)
                break
            except Killed:
                deaths += 1
    assert deaths > 15
    assert_all_same(history, won("weights"), tmp_path)


def test_a_lottery_killed_between_metrics_and_checkpoint_ends_as_one_that_was_not(won, tmp_path):
    for last in (3, 6, 9):
        with pytest.MonkeyPatch.context() as patch:

            def dying(path, *args, step, whole=work.save_checkpoint, last=last, **kwargs):
                if step >= last and "level-2" in str(path):
                    raise Killed
                whole(path, *args, step=step, **kwargs)

            patch.setattr(work, "save_checkpoint", dying)
            with pytest.raises(Killed):
                run_lottery(LOTTERY, tmp_path, progress=False)
    assert_all_same(run_lottery(LOTTERY, tmp_path, progress=False), won("weights"), tmp_path)


def assert_all_same(history, whole, folder):
    for level, expected in zip(history.levels, whole.levels, strict=True):
        assert_same_run(level, expected)
    assert files_of(folder) == files_of(whole.levels[0].folder.parent)


def test_finished_levels_are_read_and_not_trained_again(won, monkeypatch):
    whole = won("weights")
    folder = whole.levels[0].folder.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(work, "training", lambda *_, **__: pytest.fail("trained again"))
    again = run_lottery(LOTTERY, folder, progress=False)
    assert [level.rows for level in again.levels] == [level.rows for level in whole.levels]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_more_levels_continue_where_fewer_ended_and_lotteries_share_their_dense_run(won, tmp_path):
    run_lottery(replace(LOTTERY, levels=1), tmp_path, progress=False)
    run_lottery(replace(VARIANTS["original"], levels=1), tmp_path, progress=False)
    dense = [path for path in tmp_path.iterdir() if path.name.startswith("dense-") and "level" not in path.name]
    assert len(dense) == 1
    history = run_lottery(LOTTERY, tmp_path, progress=False)
    for level, expected in zip(history.levels, won("weights").levels, strict=True):
        assert_same_run(level, expected)


# --- controls -----------------------------------------------------------------------------------------------------


def control(kind, won, **settings):
    whole = won("weights")
    history = run_control(LOTTERY, kind, whole.levels[0].folder.parent, level=2, progress=False, **settings)
    return history, begun_with(history), begun_with(whole.levels[2])


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_is_a_training_of_its_own_with_the_ticket_s_counts(kind, won):
    history, begun, ticket = control(kind, won)
    assert history.folder.name.startswith(f"dense-level-2-{kind}-")
    counts = [{name: layer.count for name, layer in topology_of(model).items()} for model in (begun, ticket)]
    assert counts[0] == counts[1]
    assert len(history.values("train loss")) == (STEPS if kind.startswith("reinit") else STEPS - 2)
    assert load_checkpoint(history.folder / "checkpoint.pt")["step"] == STEPS


@pytest.mark.parametrize("kind", ["reinit", "shuffle"])
def test_another_seed_gives_another_control(kind, won):
    folders = {control(kind, won, seed=seed)[0].folder for seed in (0, 0, 1)}
    assert len(folders) == 2


def test_reinitialisation_keeps_the_connections_and_draws_all_values_anew(won):
    _, begun, ticket = control("reinit", won)
    assert topology_of(begun) == topology_of(ticket)
    for name, layer in sparse_layers(begun).items():
        initial = build_model(DENSE, input_shape=(1, 8, 8), num_classes=10).get_submodule(name).weight
        assert not torch.isin(layer.values(), ticket.get_submodule(name).values()).any()
        assert not torch.isin(layer.values(), initial).any()
    assert begun.bn1.running_mean.abs().sum() == 0


@pytest.mark.parametrize("kind", ["reinit", "shuffle"])
def test_a_control_that_fits_the_fan_in_differs_by_the_scale_of_each_output_alone(kind, won):
    _, drawn, _ = control(kind, won)
    _, fitted, _ = control(f"{kind}-fan-in", won)
    assert topology_of(fitted) == topology_of(drawn)
    for name, layer in sparse_layers(fitted).items():
        factors = (layer.topology.num_inputs / layer.topology.fan_in()[layer.topology.rows]).sqrt()
        torch.testing.assert_close(layer.values(), sparse_layers(drawn)[name].values() * factors)


def test_shuffling_moves_the_connections_and_gives_them_the_values_of_their_new_positions(won, tmp_path):
    _, begun, ticket = control("shuffle", won)
    assert topology_of(begun) != topology_of(ticket)
    rewound = after(DENSE, 2, tmp_path)
    for name, layer in sparse_layers(begun).items():
        assert same(layer.values(), rewound.get_submodule(name).weight.detach().flatten()[layer.indices])
    assert same(begun.bn1.state_dict(), ticket.bn1.state_dict())


def test_shuffling_within_outputs_or_inputs_keeps_their_numbers(won):
    for kind, degrees in (("shuffle-outputs", "fan_in"), ("shuffle-inputs", "fan_out")):
        _, begun, ticket = control(kind, won)
        assert topology_of(begun) != topology_of(ticket)
        for name, layer in topology_of(begun).items():
            assert torch.equal(getattr(layer, degrees)(), getattr(topology_of(ticket)[name], degrees)())


def test_signs_are_those_of_the_ticket_and_sizes_one_number_a_layer(won):
    _, begun, ticket = control("signs", won)
    assert topology_of(begun) == topology_of(ticket)
    initial = build_model(DENSE, input_shape=(1, 8, 8), num_classes=10)
    for name, layer in sparse_layers(begun).items():
        expected = ticket.get_submodule(name).values().sign() * initial.get_submodule(name).weight.detach().std()
        assert torch.equal(layer.values(), expected)
    assert same(begun.bn1.state_dict(), ticket.bn1.state_dict())
    assert isinstance(begun.head, nn.Module)
    assert same(begun.head.bias, ticket.head.bias)


def test_signs_that_changed_in_training_are_those_after_it():
    """Of a ticket that is rewound to a later step than the first, at which its weights have other signs."""
    initial, later = (nn.Sequential(nn.Linear(4, 3)) for _ in range(2))
    later[0].weight.data = -initial[0].weight.detach()
    runs = Mock(spec=LotteryRuns)
    runs.lottery, runs.initial.return_value = LOTTERY, initial
    ticket = InitialState(Topology({"0": LayerTopology.full((3, 4))}), later, 5)
    begun = CONTROLS["signs"](runs, ticket, 0).plain
    assert torch.equal(begun[0].weight, later[0].weight.sign() * initial[0].weight.std())


def test_a_control_trains_what_is_missing_before_its_level_but_not_the_level_itself(tmp_path):
    history = run_control(replace(LOTTERY, rewind_step=0), "signs", tmp_path, level=2, progress=False)
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir() if path.name != INITIAL_STATES)
    assert names == ["dense", "dense-level-1", "dense-level-2-signs"]
    assert history.last("density") == pytest.approx(0.64, abs=0.001)


@pytest.mark.parametrize(
    ("lottery", "kind", "level", "message"),
    [
        (LOTTERY, "sign", 1, "control must be one of reinit, reinit-fan-in, shuffle, .*signs, got 'sign'. Choose"),
        (LOTTERY, "signs", 0, "level must lie in 1 to 3, the lottery's levels, got 0. Level 0 has no ticket"),
        (LOTTERY, "signs", 4, "level must lie in 1 to 3, the lottery's levels, got 4. Level 0 has no ticket"),
        (VARIANTS["rate"], "signs", 1, "so rewind must be 'weights', got 'rate'. Use replace"),
    ],
)
def test_controls_that_do_not_exist_are_refused_before_anything_is_trained(lottery, kind, level, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_control(lottery, kind, tmp_path / "runs", level=level, progress=False)
    assert not (tmp_path / "runs").exists()
