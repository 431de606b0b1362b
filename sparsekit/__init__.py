"""sparsekit: teach, train and analyse sparse neural networks.

Three ways in, least new ideas first: `attach` for a loop of your own, `train_step` for a loop you can see, and
`run(recipes.digits_mlp(...))` for a whole experiment. Every name is imported when it is first used, so that
`import sparsekit` and the command line's help are fast.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsekit import (
        analysis,
        datasets,
        kernels,
        layers,
        models,
        plots,
        rules,
        schedules,
        scores,
        tickets,
        topology,
        train,
        tricks,
        widgets,
    )
    from sparsekit.evaluation import Adaptor, evaluate, predictions, refresh_batch_norm
    from sparsekit.experiments import Experiment, load_model, read_run, recipes, run, run_all
    from sparsekit.experiments.lottery import Lottery, run_control, run_lottery
    from sparsekit.experiments.sup_tickets import SupTickets, run_sup_tickets
    from sparsekit.experiments.sweeps import sweep
    from sparsekit.kernels import batch_major, feature_major
    from sparsekit.layers import (
        active_topology,
        averaged,
        condense,
        coverage,
        densify,
        density_of,
        export,
        from_pruned,
        fuse_relus,
        left_dense,
        register_kind,
        shapes_of,
        sparse_layers,
        sparsify,
        topology_of,
    )
    from sparsekit.rewiring import Journal, TopologyUpdate, capture_io, rewire, views
    from sparsekit.tickets import Ticket, TicketBook, superpose
    from sparsekit.topology import (
        LayerTopology,
        Topology,
        keep_top_global,
        keep_top_per_layer,
        random_topology,
        shuffled,
    )
    from sparsekit.train import History, attach, backward, fit, own_step_counts, train_step, training
    from sparsekit.utils.registry import names, register
    from sparsekit.utils.seeds import generator

__version__ = "0.6.0"

_HOMES = {
    "evaluation": "Adaptor evaluate predictions refresh_batch_norm",
    "experiments": "Experiment load_model read_run recipes run run_all",
    "experiments.lottery": "Lottery run_control run_lottery",
    "experiments.sup_tickets": "SupTickets run_sup_tickets",
    "experiments.sweeps": "sweep",
    "kernels": "batch_major feature_major",
    "layers": "averaged condense coverage densify density_of export from_pruned fuse_relus left_dense register_kind "
    "shapes_of sparse_layers sparsify topology_of active_topology",
    "rewiring": "Journal TopologyUpdate capture_io rewire views",
    "tickets": "Ticket TicketBook superpose",
    "topology": "LayerTopology Topology keep_top_global keep_top_per_layer random_topology shuffled",
    "train": "History attach backward fit own_step_counts train_step training",
    "utils.registry": "names register",
    "utils.seeds": "generator",
}
_HOME_OF = {name: module for module, listed in _HOMES.items() for name in listed.split()}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        home = importlib.import_module(f"sparsekit.{_HOME_OF[name]}")
        globals()[name] = thing = getattr(home, name)
        return thing
    if not name.startswith("_") and name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"sparsekit.{name}")
    raise AttributeError(f"module 'sparsekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Adaptor",
    "Experiment",
    "History",
    "Journal",
    "LayerTopology",
    "Lottery",
    "SupTickets",
    "Ticket",
    "TicketBook",
    "Topology",
    "TopologyUpdate",
    "active_topology",
    "analysis",
    "attach",
    "averaged",
    "backward",
    "batch_major",
    "capture_io",
    "condense",
    "coverage",
    "datasets",
    "densify",
    "density_of",
    "evaluate",
    "export",
    "feature_major",
    "fit",
    "from_pruned",
    "fuse_relus",
    "generator",
    "keep_top_global",
    "keep_top_per_layer",
    "kernels",
    "layers",
    "left_dense",
    "load_model",
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
    "register_kind",
    "rewire",
    "rules",
    "run",
    "run_all",
    "run_control",
    "run_lottery",
    "run_sup_tickets",
    "schedules",
    "scores",
    "shapes_of",
    "shuffled",
    "sparse_layers",
    "sparsify",
    "superpose",
    "sweep",
    "tickets",
    "topology",
    "topology_of",
    "train",
    "train_step",
    "training",
    "tricks",
    "views",
    "widgets",
]
