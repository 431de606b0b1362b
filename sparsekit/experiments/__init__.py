"""Whole studies: an experiment is a value, recipes make one, and a study consists of many."""

from sparsekit.experiments import recipes
from sparsekit.experiments.branch import branch
from sparsekit.experiments.experiment import Experiment, build_model, build_optimizer
from sparsekit.experiments.fork import fork
from sparsekit.experiments.initial_state import load_initial_state, save_initial_state
from sparsekit.experiments.load import load_model
from sparsekit.experiments.population import follow, run_all, run_population
from sparsekit.experiments.ranks import run_on_ranks
from sparsekit.experiments.record import read_experiment, read_run
from sparsekit.experiments.run import run
from sparsekit.experiments.writing import continue_text

__all__ = [
    "Experiment",
    "branch",
    "build_model",
    "build_optimizer",
    "continue_text",
    "follow",
    "fork",
    "load_initial_state",
    "load_model",
    "read_experiment",
    "read_run",
    "recipes",
    "run",
    "run_all",
    "run_on_ranks",
    "run_population",
    "save_initial_state",
]
