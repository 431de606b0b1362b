"""Experiments: one frozen value that survives JSON, refuses nonsense early, and names its folder for good."""

import dataclasses
import json
from dataclasses import replace

import pytest
import torch
from training_helpers import same, states

from sparsekit import datasets
from sparsekit.experiments import Experiment, build_model, build_optimizer, read_experiment, run
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rules import SET, DropGrow, RigL, Static, make_rule
from sparsekit.rules.initial import initial_topology, samples_anew
from sparsekit.schedules import Constant, Cosine, Cubic, Linear, Piecewise, Warmup
from sparsekit.scores import SNIP, Magnitude
from sparsekit.topology.selection import random_topology
from sparsekit.tricks import GhostNeurons
from sparsekit.utils import registry
from sparsekit.utils.settings import from_plain, to_plain

SMALL = Experiment(
    recipe="small",
    data="mnist1d",
    data_settings={"num_train": 40, "num_test": 20},
    model_settings={"hidden": (12,)},
    density=0.2,
    epochs=1,
    batch_size=16,
)

VARIANTS = {
    "defaults": Experiment(),
    "small": SMALL,
    "rigl": replace(SMALL, rule=RigL(stop=10)),
    "set": replace(SMALL, rule=SET(stop=10, drop_fraction=Linear(0.5, 0.1))),
    "gmp": replace(SMALL, rule=DropGrow(stop=9, density=Cubic(1.0, 0.1), drop_fraction=Constant(0.0), scope="global")),
    "adam": replace(SMALL, optimizer="adamw", optimizer_settings={"betas": (0.9, 0.99)}),
    "rate": replace(SMALL, learning_rate=Warmup(Piecewise(0.1, (3, 5)), steps=2)),
    "everything": replace(
        SMALL, exclude=("last",), storage="csr", autocast="bfloat16", micro_batches=2, label_smoothing=0.1
    ),
}


def build(experiment):
    return build_model(experiment, input_shape=(40,), num_classes=10)


# --- what decides the first topology ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.names("rule"))
@pytest.mark.parametrize("settings", [{"score": Magnitude()}, {"shuffle": True}], ids=["score", "shuffle"])
def test_a_score_or_a_control_decides_where_a_training_begins_or_is_refused(name, settings):
    rule = make_rule(name, total_steps=20)
    at_random = build(replace(SMALL, rule=rule))
    if samples_anew(rule) or topology_of(at_random).density == 1:
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be left out where it cannot act"):
            replace(SMALL, rule=rule, **settings)
    else:
        scored = replace(SMALL, rule=rule, **settings)
        data = datasets.load("mnist1d", num_train=40, num_test=20)
        scored = replace(scored, score_samples=1)
        model = build_model(scored, input_shape=data.shape, num_classes=10, data=data)
        assert topology_of(model) != topology_of(at_random)


@pytest.mark.parametrize("name", registry.names("rule"))
def test_a_rule_says_so_where_it_draws_every_position_anew(name):
    rule = make_rule(name, total_steps=20)
    counts = {"fc": (8, 8)}
    firsts = [
        initial_topology(rule, random_topology(counts, 0.5, seed=seed), torch.Generator().manual_seed(0))["fc"]
        for seed in (0, 1)
    ]
    assert (firsts[0] == firsts[1]) == samples_anew(rule)


@pytest.mark.parametrize("settings", [{"score": Magnitude()}, {"shuffle": True}], ids=["score", "shuffle"])
def test_a_saved_state_leaves_a_score_nothing_to_say(settings):
    with pytest.raises(ValueError, match="must be left out .* init_from abc, which brings a topology of its own"):
        replace(SMALL, init_from="abc", **settings)


def test_all_weights_leave_a_score_nothing_to_say():
    with pytest.raises(ValueError, match=r"score must be left out .* density 1.0 and Static: all weights exist"):
        Experiment(density=1.0, score=SNIP())
    assert Experiment(density=1.0, score=SNIP(), rule=make_rule("granet", total_steps=20)).score == SNIP()


# --- JSON and folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_experiment_survives_json_with_its_folder_name(variant):
    experiment = VARIANTS[variant]
    back = from_plain(json.loads(json.dumps(to_plain(experiment))))
    assert back == experiment
    assert back.folder_name == experiment.folder_name


def test_a_run_folder_gives_its_experiment_back(tmp_path):
    experiment = replace(VARIANTS["everything"], rule=RigL(stop=2, every=1))
    history = run(experiment, tmp_path, progress=False)
    assert history.folder == tmp_path / experiment.folder_name
    assert read_experiment(history.folder) == experiment
    assert {file.name for file in history.folder.iterdir()} == {
        "experiment.json",
        "metrics.jsonl",
        "journal",
        "checkpoint.pt",
        "code.txt",
    }


def test_different_settings_get_different_folders():
    changed = [replace(SMALL, **{f.name: other_value(f.name)}) for f in dataclasses.fields(SMALL)]
    names = {experiment.folder_name for experiment in [SMALL, *changed]}
    assert len(names) == len(changed) + 1


def other_value(name):
    return {
        "recipe": "other",
        "data": "digits",
        "data_settings": {"num_train": 41},
        "augment": True,
        "model": "small-cnn",
        "model_settings": {"hidden": (13,)},
        "density": 0.3,
        "allocation": "uniform",
        "exclude": ("last",),
        "score": SNIP(),
        "score_samples": 3,
        "shuffle": True,
        "rule": RigL(stop=10),
        "storage": "csr",
        "init": "gse",
        "optimizer": "adam",
        "optimizer_settings": {"momentum": 0.5},
        "step_count": "own",
        "learning_rate": Cosine(0.2),
        "label_smoothing": 0.1,
        "tricks": (GhostNeurons(),),
        "epochs": 2,
        "batch_size": 17,
        "micro_batches": 2,
        "autocast": "bfloat16",
        "seed": 1,
        "init_from": "0123456789abcdef",
        "first_step": 1,
        "test_last": 1,
    }[name]


def test_settings_of_rules_and_schedules_get_different_folders_too():
    rules = [
        RigL(stop=10),
        RigL(stop=11),
        RigL(stop=10, every=7),
        RigL(stop=10, drop_fraction=0.2),
        SET(stop=10),
        Static(),
    ]
    assert len({replace(SMALL, rule=rule).folder_name for rule in rules}) == len(rules)


def test_the_same_settings_in_another_order_or_as_a_list_get_the_same_folder():
    first = replace(SMALL, optimizer_settings={"weight_decay": 0.2, "momentum": 0.9}, model_settings={"hidden": (5, 6)})
    second = replace(
        SMALL, optimizer_settings={"momentum": 0.9, "weight_decay": 0.2}, model_settings={"hidden": [5, 6]}
    )
    assert first.folder_name == second.folder_name


def with_a_new_setting(cls):
    """Return the class as a later version of this package might have it."""
    return dataclasses.make_dataclass(cls.__name__, [("new_setting", int, 7)], bases=(cls,), frozen=True, kw_only=True)


@pytest.mark.parametrize("kind_and_name", [("experiment", "experiment"), ("rule", "drop-grow"), ("schedule", "cosine")])
def test_a_new_setting_with_a_default_renames_no_old_folder(kind_and_name, monkeypatch):
    kind, name = kind_and_name
    old = replace(SMALL, rule=RigL(stop=10, drop_fraction=0.2))
    old_name = old.folder_name
    later = with_a_new_setting(registry.get(kind, name))
    monkeypatch.setitem(registry._registered[kind], name, later)
    drop_fraction = registry.get("schedule", "cosine")(0.2, 0.0)
    rule = registry.get("rule", "drop-grow")(stop=10, drop_fraction=drop_fraction)
    fields = {f.name: getattr(old, f.name) for f in dataclasses.fields(old)}
    new = registry.get("experiment", "experiment")(**{**fields, "rule": rule})
    assert new.folder_name == old_name


def test_folder_names_stay_what_they_are():
    """If this fails, every run that anybody has made will be made again."""
    assert Experiment(init="dense").folder_name == "experiment-44136fa355"  # as when this was the only choice
    assert replace(SMALL, rule=RigL(stop=10), init="dense").folder_name == "small-850d2f3d9a"
    assert Experiment().folder_name == "experiment-9f74ee5e83"


def test_an_experiment_of_an_unregistered_rule_says_what_to_do():
    @dataclasses.dataclass(frozen=True)
    class Mine(Static):
        pass

    with pytest.raises(TypeError, match="Mine must be registered to be written as JSON. Decorate it"):
        _ = replace(SMALL, rule=Mine()).folder_name


# --- refusals ---------------------------------------------------------------------------------------------------

WRONG = {
    "learning rate among the optimizer's settings": (
        {"optimizer_settings": {"lr": 0.2}},
        "given as learning_rate, got lr=0.2",
    ),
    "density 0": ({"density": 0.0}, r"density must lie in \(0, 1\], got 0.0"),
    "density 1.5": ({"density": 1.5}, r"density must lie in \(0, 1\], got 1.5"),
    "data": ({"data": "nothing"}, "data must be one of .*digits.*, got 'nothing'"),
    "model": ({"model": "nothing"}, "model must be one of .*mlp.*, got 'nothing'"),
    "optimizer": ({"optimizer": "nothing"}, "optimizer must be one of .*sgd.*, got 'nothing'"),
    "allocation": ({"allocation": "nothing"}, "allocation must be one of .*erk.*, got 'nothing'"),
    "storage": ({"storage": "nothing"}, "storage must be one of masked, csr, got 'nothing'"),
    "autocast": ({"autocast": "int8"}, "autocast must be bfloat16, float16 or None, got 'int8'"),
    "epochs": ({"epochs": 0}, r"Experiment.epochs must lie in \[1, inf\], got 0"),
    "batch size": ({"batch_size": 0}, "Experiment.batch_size must lie in"),
    "micro-batches": ({"micro_batches": 0}, "Experiment.micro_batches must lie in"),
    "label smoothing": ({"label_smoothing": 1.5}, "Experiment.label_smoothing must lie in"),
}


@pytest.mark.parametrize("what", WRONG)
def test_nonsense_is_refused_when_the_experiment_is_made(what):
    settings, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **settings)


@pytest.mark.parametrize(
    "settings", [{"rule": "rigl"}, {"learning_rate": 0.1}, {"epochs": 2.5}, {"batch_size": 16.0}, {"seed": "0"}]
)
def test_settings_of_the_wrong_kind_are_refused_when_the_experiment_is_made(settings):
    with pytest.raises(TypeError, match=next(iter(settings))):
        replace(SMALL, **settings)


LATE = {
    "unknown model setting": {"model_settings": {"width": 3}},
    "unknown data setting": {"data_settings": {"colour": 3}},
    "unknown optimizer setting": {"optimizer_settings": {"rate": 3}},
    "optimizer without momentum": {"optimizer": "adam", "optimizer_settings": {"momentum": 0.9}},
    "rule that ends after the training": {"rule": SET(stop=1000)},
    "network for pictures": {"model": "small-cnn", "model_settings": {}},
    "excluded layer that is not there": {"exclude": ("nothing",)},
    "all layers excluded": {"exclude": ("fc1", "head")},
    "more micro-batches than the last batch holds": {"micro_batches": 9},
    "augmented numbers": {"augment": True},
    "data that lie nowhere": {"data": "cifar10", "data_settings": {}},
}


@pytest.mark.parametrize("what", LATE)
def test_settings_that_do_not_fit_each_other_leave_no_folder_behind(what, tmp_path):
    with pytest.raises((ValueError, TypeError, FileNotFoundError)):
        run(replace(SMALL, **LATE[what]), tmp_path / "runs", root=tmp_path, progress=False)
    assert not (tmp_path / "runs").exists()


def test_checkpoints_every_0_steps_are_refused_and_leave_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="checkpoint_steps must be at least 1 or None, got 0"):
        run(SMALL, tmp_path / "runs", progress=False, checkpoint_steps=0)
    assert not (tmp_path / "runs").exists()


# --- models and optimizers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["masked", "csr"])
@pytest.mark.parametrize("rule", [Static(), RigL(stop=10)])
def test_the_dense_draw_is_the_same_at_every_density_and_for_every_rule(storage, rule):
    dense = build(replace(SMALL, density=1.0))
    for density in (0.1, 0.5):
        model = build(replace(SMALL, density=density, storage=storage, rule=rule, init="dense"))
        for name, layer in sparse_layers(model).items():
            plain = dense.get_submodule(name)
            assert same(layer.values(), plain.weight.detach().flatten()[layer.indices])
            assert same(layer.bias, plain.bias)


def test_density_1_without_a_rule_is_the_plain_network_and_with_one_a_full_topology():
    assert not sparse_layers(build(replace(SMALL, density=1)))
    full = build(replace(SMALL, density=1.0, rule=RigL(stop=10)))
    assert topology_of(full).density == 1


def test_the_seed_decides_initialisation_and_topology():
    one, again, other = (build(replace(SMALL, seed=seed)) for seed in (0, 0, 1))
    assert same(states(one), states(again))
    assert topology_of(one) != topology_of(other)
    assert not same(one[1].bias, other[1].bias)


def test_allocation_exclusion_and_storage_reach_the_model():
    model = build(replace(SMALL, exclude=("last",), allocation="uniform", storage="csr"))
    assert [(name, layer.storage) for name, layer in sparse_layers(model).items()] == [("fc1", "csr")]
    assert topology_of(model).density == pytest.approx(0.2, abs=0.002)


def test_a_shuffled_experiment_begins_with_as_many_connections_in_each_layer_at_other_positions():
    unshuffled, shuffled = (topology_of(build(replace(SMALL, shuffle=shuffle))) for shuffle in (False, True))
    assert [layer.count for layer in shuffled.values()] == [layer.count for layer in unshuffled.values()]
    assert (shuffled & unshuffled).count < 0.5 * unshuffled.count


def test_building_leaves_torchs_random_state_alone():
    before = torch.get_rng_state()
    model = build(SMALL)
    build_optimizer(SMALL, model)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_optimizer_has_its_settings_and_trains_every_parameter():
    model = build(SMALL)
    optimizer = build_optimizer(VARIANTS["adam"], model)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


# --- rules by name ----------------------------------------------------------------------------------------------


def test_a_named_rule_stops_after_three_quarters_of_the_training():
    assert make_rule("rigl", total_steps=1000).stop == 750
    assert make_rule("set", total_steps=1000, stop=10).stop == 10


def test_unknown_settings_of_a_rule_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"settings of rigl must be among .*every.*scope.*, got colour, width"):
        make_rule("rigl", total_steps=10, width=1, colour=2)
    with pytest.raises(ValueError, match=r"settings of static must be among \(none\), got every"):
        make_rule("static", total_steps=10, every=3)


def test_unknown_rules_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"rule must be one of .*rigl.*, got 'nothing'"):
        make_rule("nothing", total_steps=10)


def test_each_optimizer_has_its_usual_learning_rate_unless_one_is_given():
    rates = {name: Experiment(optimizer=name).learning_rate_over(10)(0) for name in ("sgd", "adam", "adagrad")}
    assert rates == {"sgd": 0.1, "adam": 1e-3, "adagrad": 1e-2}
    assert Experiment(optimizer="adam", learning_rate=Constant(0.3)).learning_rate_over(10)(9) == 0.3
