"""sparsekit: teach, train and analyse sparse neural networks.

Three ways in, least new ideas first: `attach` for a loop of your own, `train_step` for a loop you can see, and
`run(recipes.digits_mlp(...))` for a whole experiment. Analysis, plots and widgets are imported when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sparsekit import datasets, models, rules
from sparsekit.evaluate import evaluate, predictions, refresh_batch_norm
from sparsekit.journal import Journal
from sparsekit.layers import densify, left_dense, shapes_of, sparse_layers, sparsify, topology_of
from sparsekit.registry import names, register
from sparsekit.rewire import Change, capture_io, rewire, views
from sparsekit.seeds import generator
from sparsekit.selection import keep_top_overall, keep_top_per_layer, random_topology
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train import (
    Experiment,
    History,
    attach,
    backward,
    fit,
    load_model,
    read_run,
    run,
    train_step,
    training,
)

if TYPE_CHECKING:
    from sparsekit import analysis, plots, recipes, widgets

# Imported on first use: they bring matplotlib, seaborn and ipywidgets with them.
_LATER = ("analysis", "plots", "recipes", "widgets")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"sparsekit.{name}")
    raise AttributeError(f"module 'sparsekit' has no attribute {name!r}")


__all__ = [
    "Change",
    "Experiment",
    "History",
    "Journal",
    "LayerTopology",
    "Topology",
    "analysis",
    "attach",
    "backward",
    "capture_io",
    "datasets",
    "densify",
    "evaluate",
    "fit",
    "generator",
    "keep_top_overall",
    "keep_top_per_layer",
    "left_dense",
    "load_model",
    "models",
    "names",
    "plots",
    "predictions",
    "random_topology",
    "read_run",
    "recipes",
    "refresh_batch_norm",
    "register",
    "rewire",
    "rules",
    "run",
    "shapes_of",
    "sparse_layers",
    "sparsify",
    "topology_of",
    "train_step",
    "training",
    "views",
    "widgets",
]
