"""Whole studies: an experiment is a value, recipes make one, and a study consists of many."""

from sparsekit.experiments import recipes
from sparsekit.experiments.experiment import Experiment, build_model, build_optimizer
from sparsekit.experiments.fork import fork
from sparsekit.experiments.initial_state import load_initial_state, save_initial_state
from sparsekit.experiments.population import run_all, run_population
from sparsekit.experiments.record import read_experiment, read_run
from sparsekit.experiments.run import load_model, run

__all__ = [
    "Experiment",
    "build_model",
    "build_optimizer",
    "fork",
    "load_initial_state",
    "load_model",
    "read_experiment",
    "read_run",
    "recipes",
    "run",
    "run_all",
    "run_population",
    "save_initial_state",
]
