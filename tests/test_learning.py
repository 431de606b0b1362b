"""Slow: sparse networks learn, far better than chance, over several seeds and from end to end."""

from statistics import mean

import pytest

from sparsekit.experiments import run
from sparsekit.experiments.recipes import digits_mlp

pytestmark = pytest.mark.slow
SEEDS = (0, 1)
CHANCE = 0.1
# A tenth of the recipe's usual time would not do: thin networks set out slowly from a dense initialisation.
EPOCHS = 16


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory):
    """Test accuracy of a short training on digits, mean over the seeds."""

    def of(rule, density, **settings):
        settings = {"epochs": EPOCHS, **settings}
        experiments = [digits_mlp(rule=rule, density=density, seed=seed, **settings) for seed in SEEDS]
        folder = tmp_path_factory.mktemp("learning")
        return mean(run(experiment, folder, progress=False).last("test accuracy") for experiment in experiments)

    return of


@pytest.mark.parametrize("rule", ["static", "set", "rigl"])
def test_one_weight_in_ten_learns_digits(accuracy, rule):
    assert accuracy(rule, 0.1) > 8 * CHANCE


def test_one_weight_in_ten_learns_digits_in_csr_storage_too(accuracy):
    assert accuracy("rigl", 0.1, storage="csr", model_settings={"hidden": (100,)}) > 8 * CHANCE


def test_one_weight_in_twenty_is_far_better_than_chance(accuracy):
    assert accuracy("rigl", 0.05) > 4 * CHANCE


def test_all_weights_learn_in_a_third_of_the_time(accuracy):
    assert accuracy("dense", 1.0, epochs=5) > 9 * CHANCE
