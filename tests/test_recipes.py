"""Recipes: every one gives a complete experiment whose rule fits the training's length."""

import inspect

import pytest
from training_helpers import same

from sparsekit import datasets
from sparsekit.datasets import count_batches
from sparsekit.experiments import Experiment, build_model, build_optimizer, recipes, run
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rules import DropGrow, RigL, Static, make_rule
from sparsekit.rules.initial import why_dense
from sparsekit.schedules import Constant, Piecewise
from sparsekit.utils.registry import get, names, source_of, summary_of

NAMES = names("recipe")
WITHOUT_FILES = (
    "digits-mlp",
    "digits-small",
    "fashion-mini-cnn",
    "fashion-mini-mlp",
    "micro-gpt",
    "mnist1d-mlp",
    "tiny-gpt",
    "tiny-gpt-bpe",
)
# Training examples of each data set, which a recipe must know to turn epochs into steps before the data are loaded.
CIFAR = [name for name in NAMES if name.startswith("cifar10")]
NUM_TRAIN = {
    "digits": 1197,
    "mnist1d": 4000,
    "fashion-mini": 5000,
    "cifar10": 50_000,
    "kjv-char": 13_410,
    "kjv-bpe": 5770,
}
every_recipe = pytest.mark.parametrize("name", NAMES)


def make(name, **settings):
    return get("recipe", name)(**settings)


def steps_of(experiment):
    return experiment.epochs * count_batches(num_train_of(experiment), experiment.batch_size)


def num_train_of(experiment):
    return experiment.data_settings.get("num_train", NUM_TRAIN[experiment.data])


@every_recipe
def test_a_recipe_is_a_complete_experiment_under_its_own_name(name):
    experiment = make(name)
    assert isinstance(experiment, Experiment)
    assert experiment.recipe == name
    assert summary_of(get("recipe", name))
    assert source_of(get("recipe", name))


@every_recipe
def test_a_recipe_is_also_a_name_of_the_package(name):
    assert get("recipe", name) is getattr(recipes, name.replace("-", "_"))


@every_recipe
@pytest.mark.parametrize("rule", ["rigl", "set"])
def test_a_named_rule_stops_after_three_quarters_of_the_steps(name, rule):
    for settings in ({}, {"epochs": 3}, {"epochs": 3, "batch_size": 100}):
        experiment = make(name, rule=rule, **settings)
        assert experiment.rule.stop == int(0.75 * steps_of(experiment))


@every_recipe
@pytest.mark.parametrize("rule", [*names("rule"), "dense"])
def test_every_rule_can_be_named_in_every_recipe(name, rule):
    rule_value = None if rule == "dense" else make_rule(rule, total_steps=100)
    if rule_value and why_dense(rule_value) and make(name, rule="set").storage == "csr":
        with pytest.raises(ValueError, match="needs storage masked, got csr"):
            make(name, rule=rule)
    else:
        assert isinstance(make(name, rule=rule), Experiment)


def test_steps_are_those_of_the_training_examples_that_are_drawn():
    few = recipes.mnist1d_mlp(rule="rigl", epochs=40, data_settings={"num_train": 250})
    data = datasets.load(few.data, **few.data_settings)
    assert few.rule.stop == 3 * 40 * count_batches(len(data.train), few.batch_size) // 4


@every_recipe
def test_dense_is_density_1_without_a_rule(name):
    dense = make(name, rule="dense", density=0.1)
    assert (dense.density, dense.rule) == (1.0, Static())
    assert dense == make(name, rule=Static(), density=1.0)
    assert dense.folder_name == make(name, rule=Static(), density=1.0).folder_name


def test_dense_trains_as_density_1_and_counts_as_such(tmp_path):
    histories = [
        run(make("digits-mlp", epochs=1, batch_size=400, rule=rule, density=1.0), tmp_path / rule, progress=False)
        for rule in ("dense", "static")
    ]
    assert same(*[[tuple(row) for row in history.rows] for history in histories])
    assert histories[0].last("density") == 1.0


@every_recipe
def test_settings_of_the_named_rule_are_passed_on_and_unknown_ones_refused(name):
    assert make(name, rule="rigl", rule_settings={"every": 7, "stop": 11}).rule == RigL(every=7, stop=11)
    with pytest.raises(ValueError, match=r"settings of rigl must be among .*every.*, got colour"):
        make(name, rule="rigl", rule_settings={"colour": 1})


@pytest.mark.parametrize("rule", ["sr-ste", "dynamic-n-of-m"])
def test_a_pattern_comes_as_near_to_the_density_as_it_can_but_groups_that_are_given_win(rule):
    groups = {0.05: (1, 20), 0.34: (1, 3), 0.4: (2, 5), 0.72: (5, 7), 0.003: (1, 333)}
    for density, group in groups.items():
        pattern = make("digits-mlp", rule=rule, density=density).rule
        assert (pattern.n, pattern.m) == group
    chosen = make("digits-mlp", rule=rule, density=0.05, rule_settings={"n": 1, "m": 4}).rule
    assert (chosen.n, chosen.m) == (1, 4)
    half = make("digits-mlp", rule=rule, density=0.05, rule_settings={"m": 8}).rule
    assert (half.n, half.m) == (2, 8)


@every_recipe
@pytest.mark.parametrize("rule", [Static(), "dense"])
def test_settings_for_a_rule_that_is_made_already_are_refused(name, rule):
    with pytest.raises(ValueError, match=r"settings must come with a rule's name, got every with .*\. Use"):
        make(name, rule=rule, rule_settings={"every": 7})


@every_recipe
def test_a_rule_that_is_made_already_is_taken_as_it_is(name):
    rule = DropGrow(every=3, stop=9)
    assert make(name, rule=rule, density=0.03).rule is rule


OTHER = {
    "data_settings": {},
    "augment": False,
    "model_settings": {},
    "allocation": "uniform",
    "exclude": ("last",),
    "storage": "csr",
    "optimizer": "adamw",
    "optimizer_settings": {"momentum": 0.5},
    "learning_rate": Constant(0.01),
    "label_smoothing": 0.1,
    "batch_size": 50,
    "micro_batches": 2,
    "autocast": "bfloat16",
    "seed": 3,
    "epochs": 2,
    "density": 0.3,
}


@every_recipe
@pytest.mark.parametrize("field", OTHER)
def test_any_other_field_of_the_experiment_can_be_given(name, field):
    assert getattr(make(name, **{field: OTHER[field]}), field) == OTHER[field]


@every_recipe
def test_an_unknown_field_is_refused(name):
    with pytest.raises(TypeError, match="colour"):
        make(name, colour=3)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_a_recipe_knows_how_many_examples_its_data_set_has_and_builds_its_network(name):
    experiment = make(name)
    data = datasets.load(experiment.data, **experiment.data_settings)
    assert len(data.train) == num_train_of(experiment)
    model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)
    build_optimizer(experiment, model)
    assert topology_of(model).density == pytest.approx(experiment.density, abs=1e-4)


@pytest.mark.parametrize("name", CIFAR)
def test_a_recipe_on_cifar_knows_its_50_000_examples(name):
    experiment = make(name)
    try:
        data = datasets.load(experiment.data)
    except FileNotFoundError:
        pytest.skip(f"{experiment.data} does not lie here")
    assert len(data.train) == NUM_TRAIN[experiment.data]


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_recipes_divide_the_learning_rate_after_a_half_and_three_quarters(name):
    experiment = make(name, epochs=4)
    assert experiment.learning_rate == Piecewise(0.1, (782, 1173))
    assert steps_of(experiment) == 1564
    assert make(name, epochs=4, batch_size=256).learning_rate == Piecewise(0.1, (392, 588))


def test_every_recipe_says_what_its_settings_mean():
    for name in NAMES:
        recipe = get("recipe", name)
        documented = inspect.getdoc(recipe)
        assert all(f"{parameter}:" in documented for parameter in inspect.signature(recipe).parameters)


def test_the_wide_network_has_its_connections_per_neuron_and_trains_at_any_width(tmp_path):
    experiment = make("wide-mlp", width=512, epochs=1)
    model = build_model(experiment, input_shape=(1, 8, 8), num_classes=10)
    layers = topology_of(model)
    assert layers["fc2"].count / 512 == pytest.approx(20, rel=0.05)
    assert {layer.storage for layer in sparse_layers(model).values()} == {"csr"}
    history = run(experiment, tmp_path)
    assert history.values("test accuracy")[-1] > 0.5


def test_the_widest_network_needs_no_dense_weights():
    """65,536 x 65,536 weights alone would be 16 GiB."""
    experiment = make("wide-mlp")
    model = build_model(experiment, input_shape=(1, 8, 8), num_classes=10)
    assert topology_of(model)["fc2"].shape == (65_536, 65_536)
    assert sum(parameter.numel() for parameter in model.parameters()) < 3_000_000
