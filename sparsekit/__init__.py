"""sparsekit: teach, train and analyse sparse neural networks.

Three ways in, least new ideas first: `attach` for a loop of your own, `train_step` for a loop you can see, and
`run(recipes.digits_mlp(...))` for a whole experiment. Every name is imported when it is first used, so that
`import sparsekit` and the command line's help are quick.
"""

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsekit import (
        allocation,
        analysis,
        datasets,
        journal,
        kernels,
        layers,
        lottery,
        models,
        plots,
        recipes,
        registry,
        rules,
        schedules,
        scores,
        seeds,
        selection,
        settings,
        sup_tickets,
        tickets,
        topology,
        train,
        tricks,
        widgets,
    )
    from sparsekit.adaptor import Adaptor
    from sparsekit.capture import capture_io, views
    from sparsekit.evaluate import evaluate, predictions, refresh_batch_norm
    from sparsekit.journal import Journal
    from sparsekit.kernels import batch_major, feature_major
    from sparsekit.layers import (
        averaged,
        condense,
        densify,
        density_of,
        fuse_relus,
        left_dense,
        shapes_of,
        sparse_layers,
        sparsify,
        topology_of,
        used_topology,
    )
    from sparsekit.lottery import Lottery, run_control, run_lottery
    from sparsekit.registry import names, register
    from sparsekit.rewire import Change, rewire
    from sparsekit.seeds import generator
    from sparsekit.selection import keep_top_overall, keep_top_per_layer, random_topology
    from sparsekit.shuffling import shuffled
    from sparsekit.sup_tickets import SupTickets, run_sup_tickets
    from sparsekit.tickets import Ticket, TicketBook, superpose
    from sparsekit.topology import LayerTopology, Topology
    from sparsekit.train import (
        Experiment,
        History,
        attach,
        backward,
        fit,
        load_model,
        own_step_counts,
        read_run,
        run,
        train_step,
        training,
    )

_HOMES = {
    "adaptor": "Adaptor",
    "evaluate": "evaluate predictions refresh_batch_norm",
    "journal": "Journal",
    "kernels": "batch_major feature_major",
    "layers": "averaged condense densify density_of fuse_relus left_dense shapes_of sparse_layers sparsify "
    "topology_of used_topology",
    "lottery": "Lottery run_control run_lottery",
    "registry": "names register",
    "capture": "capture_io views",
    "rewire": "Change rewire",
    "seeds": "generator",
    "selection": "keep_top_overall keep_top_per_layer random_topology",
    "shuffling": "shuffled",
    "sup_tickets": "SupTickets run_sup_tickets",
    "tickets": "Ticket TicketBook superpose",
    "topology": "LayerTopology Topology",
    "train": "Experiment History attach backward fit load_model own_step_counts read_run run train_step training",
}
_HOME_OF = {name: module for module, listed in _HOMES.items() for name in listed.split()}


def __getattr__(name: str) -> Any:
    # Names first: evaluate and rewire are modules too.
    if name in _HOME_OF:
        thing = getattr(importlib.import_module(f"sparsekit.{_HOME_OF[name]}"), name)
        globals()[name] = thing
        return thing
    if not name.startswith("_") and name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"sparsekit.{name}")
    raise AttributeError(f"module 'sparsekit' has no attribute {name!r}")


class _Package(ModuleType):
    """`evaluate` and `rewire` are also modules, which Python sets here when anything imports them: that is ignored."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Adaptor",
    "Change",
    "Experiment",
    "History",
    "Journal",
    "LayerTopology",
    "Lottery",
    "SupTickets",
    "Ticket",
    "TicketBook",
    "Topology",
    "allocation",
    "analysis",
    "attach",
    "averaged",
    "backward",
    "batch_major",
    "capture_io",
    "condense",
    "datasets",
    "densify",
    "density_of",
    "evaluate",
    "feature_major",
    "fit",
    "fuse_relus",
    "generator",
    "journal",
    "keep_top_overall",
    "keep_top_per_layer",
    "kernels",
    "layers",
    "left_dense",
    "load_model",
    "lottery",
    "models",
    "names",
    "own_step_counts",
    "plots",
    "predictions",
    "random_topology",
    "read_run",
    "recipes",
    "refresh_batch_norm",
    "register",
    "registry",
    "rewire",
    "rules",
    "run",
    "run_control",
    "run_lottery",
    "run_sup_tickets",
    "schedules",
    "scores",
    "seeds",
    "selection",
    "settings",
    "shapes_of",
    "shuffled",
    "sparse_layers",
    "sparsify",
    "sup_tickets",
    "superpose",
    "tickets",
    "topology",
    "topology_of",
    "train",
    "train_step",
    "training",
    "tricks",
    "used_topology",
    "views",
    "widgets",
]
