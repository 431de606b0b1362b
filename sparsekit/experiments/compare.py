"""All methods under one protocol: a table of accuracy, time, arithmetic and memory; nothing is done twice."""

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sparsekit import datasets
from sparsekit.analysis.costs.forward_flops import forward_flops
from sparsekit.analysis.costs.memory import memory_bytes
from sparsekit.analysis.costs.training_flops import PASSES_OF_SCORE, Pass, one_off_flops, training_flops
from sparsekit.experiments import Experiment, build_model, run
from sparsekit.layers.base import STATE
from sparsekit.rules.initial import why_dense
from sparsekit.train import History, load_checkpoint
from sparsekit.utils.files import read_json, write_json
from sparsekit.utils.registry import get, names

# The recipe that trains each data set in the shortest time.
RECIPE_OF = {
    "digits": "digits-mlp",
    "mnist1d": "mnist1d-mlp",
    "fashion-mini": "fashion-mini-cnn",
    "cifar10": "cifar10-resnet20",
}
# Building blocks and controls that are no methods of their own: `random` scores draw what `static` draws.
NOT_METHODS = {"drop-grow", "random"}
COST_FILE = "cost.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one run gave.

    Args:
        method: a rule's name, a score's (whose mask is trained as it is), or `"dense"`.
        target_density: the density that the caller asked for.
        seed: of the run.
        accuracy: on the test split at the end, 0 to 1.
        density: of the connections used in the end; for some methods an outcome.
        seconds: of training, on this machine; NaN where the run was begun before and nobody took its time.
        flops: operations of the whole training, over those of dense training; with those of a score before it. NaN
            for a rule that does not say (`Rule.training_flops`), or a score that `one_off_flops` does not know.
        bytes: of values, momentum and indices of the sparse layers, at their largest, and of what the rule remembers
            about them in the end.
    """

    method: str
    target_density: float
    seed: int
    accuracy: float
    density: float
    seconds: float
    flops: float
    bytes: int


def methods() -> list[str]:
    """Return the names of all methods: dense, every rule, and every score before training.

    Example:
        >>> [name for name in methods() if name.startswith("s")]
        ['set', 'set-itop', 'snfs', 'sr-ste', 'srigl', 'static', 'str', 'snip', 'synflow']
    """
    rules, scores = (sorted(set(names(kind)) - NOT_METHODS) for kind in ("rule", "score"))
    return ["dense", *rules, *scores]


def recipe_for(data: str) -> str:
    """Return the recipe that trains a data set in the shortest time.

    Raises:
        ValueError: if there is none; the message lists the data sets that have one.
    """
    if data not in RECIPE_OF:
        raise ValueError(f"data must be one of {', '.join(RECIPE_OF)}, got {data!r}; or name a recipe")
    return RECIPE_OF[data]


def experiment_of(method: str, recipe: str, density: float, seed: int, **settings: Any) -> Experiment:
    """Return the experiment that trains a method under a recipe's protocol.

    Raises:
        ValueError: if there is no such method; the message lists the known ones.
    """
    if method not in methods():
        raise ValueError(f"method must be one of {', '.join(methods())}, got {method!r}; choose one of them")
    make = get("recipe", recipe)
    if method in names("score"):
        return make(rule="static", score=method, density=density, seed=seed, **settings)
    return make(rule=method, density=density, seed=seed, **settings)


def compare(
    recipe: str,
    chosen: Sequence[str] | None = None,
    *,
    densities: Iterable[float] = (0.05,),
    seeds: int = 5,
    folder: str | Path = "runs/compare",
    root: Path | None = None,
    **settings: Any,
) -> Iterator[Cell]:
    """Train every method at every density with every seed, and yield what each run gave; finished runs are read.

    Args:
        recipe: the protocol, by name.
        chosen: methods; all if None.
        densities: shares of the weights that exist.
        seeds: how many, from 0.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        settings: fields of `Experiment` that all have in common, for example `epochs`.

    Raises:
        ValueError: if a name is unknown, or a setting does not fit.
        TypeError: if the operations that a rule of your own says are no number.
    """
    plan = [
        (method, density, seed)
        for density in densities
        for method in (methods() if chosen is None else chosen)
        for seed in range(seeds)
    ]
    experiments = [experiment_of(method, recipe, density, seed, **settings) for method, density, seed in plan]
    for rule in {id(experiment.rule): experiment.rule for experiment in experiments}.values():
        training_flops(
            rule, Pass(dense=1.0, sparse=1.0)
        )  # what cannot say its cost had better be known before training
    for (method, density, seed), experiment in zip(plan, experiments, strict=True):
        history, seconds = _timed_run(experiment, Path(folder), root)
        yield _cell(method, density, seed, experiment, history, seconds, root)


def table_of(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return one row per method and target density: mean accuracy and its standard error, and median costs.

    Columns: `method`, `target_density`, `accuracy`, `error`, `seeds`, `density`, `seconds`, `flops`, `bytes`. The best
    of each density comes first. The standard error of a single run is NaN.
    """
    groups: dict[tuple[float, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.target_density, cell.method), []).append(cell)
    rows = [_row(method, target_density, group) for (target_density, method), group in groups.items()]
    return pd.DataFrame(rows).sort_values(["target_density", "accuracy"], ascending=False, ignore_index=True)


def markdown_of(table: pd.DataFrame) -> str:
    """Return the table as Markdown, in per cent and kilobytes."""
    lines = [
        "| density | method | test accuracy, % | seeds | density reached | s/run | training FLOPs, of dense | kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        error = "" if math.isnan(row["error"]) else f" ± {100 * row['error']:.2f}"
        accuracy = f"{100 * row['accuracy']:.2f}{error}"
        took, flops = _told(row["seconds"], 1), _told(row["flops"], 3)
        costs = f"{row['density']:.4g} | {took} | {flops} | {row['bytes'] / 1000:.0f}"
        method = row["method"].replace("|", r"\|")
        lines.append(f"| {row['target_density']:g} | {method} | {accuracy} | {row['seeds']} | {costs} |")
    return "\n".join(lines) + "\n"


def _row(method: str, target_density: float, cells: Sequence[Cell]) -> dict[str, Any]:
    accuracies = [cell.accuracy for cell in cells]
    error = statistics.stdev(accuracies) / math.sqrt(len(cells)) if len(cells) > 1 else math.nan
    medians = {
        name: _median(getattr(cell, name) for cell in cells) for name in ("density", "seconds", "flops", "bytes")
    }
    mean = statistics.fmean(accuracies)
    row = {"method": method, "target_density": target_density, "accuracy": mean, "error": error, "seeds": len(cells)}
    return row | medians


def _median(numbers: Iterable[float]) -> float:
    """Median of the numbers that are known, or NaN."""
    known = [number for number in numbers if not math.isnan(number)]
    return statistics.median(known) if known else math.nan


def _told(number: float, digits: int) -> str:
    return "-" if math.isnan(number) else f"{number:.{digits}f}"


def _timed_run(experiment: Experiment, folder: Path, root: Path | None) -> tuple[History, float]:
    """Run, or read, and return the history and the seconds of training, which the run's folder remembers."""
    place = folder / experiment.folder_name
    is_begun = place.exists() and any(place.iterdir())
    start = time.perf_counter()
    history = run(experiment, folder, root=root, progress=False)
    if not (place / COST_FILE).exists():
        # What an earlier session has trained took time that this one cannot know.
        seconds = None if is_begun else time.perf_counter() - start
        write_json(place / COST_FILE, {"seconds": seconds})
    seconds = read_json(place / COST_FILE, remedy="delete it, and the seconds are unknown")["seconds"]
    return history, math.nan if seconds is None else seconds


def _cell(
    method: str,
    target_density: float,
    seed: int,
    experiment: Experiment,
    history: History,
    seconds: float,
    root: Path | None,
) -> Cell:
    data = datasets.load(experiment.data, root=root, **experiment.data_settings)
    model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)
    by_layer = forward_flops(model, data.prepare(data.test.inputs[:1]))["dense"].to_dict()
    return Cell(
        method=method,
        target_density=target_density,
        seed=seed,
        accuracy=history.last("test accuracy"),
        density=history.last("density") if method != "dense" else 1.0,
        seconds=seconds,
        flops=_flops(method, experiment, history, by_layer) + _one_off(method, experiment, data),
        bytes=_bytes(experiment, history, model),
    )


def _flops(method: str, experiment: Experiment, history: History, by_layer: Mapping[str, float]) -> float:
    """Operations of training, over those of dense training: the rule's formula at the mean density over the steps."""
    if method == "dense":
        return 1.0
    dense, trained = sum(by_layer.values()), _mean_flops(history, by_layer)
    # Where fewer connections are used than trained, the forward pass costs their share.
    reached = "density used" if any(row.name == "density used" for row in history.rows) else "density"
    share = statistics.fmean(history.values(reached)) / statistics.fmean(history.values("density"))
    cost = Pass(dense=dense, sparse=min(dense, trained * share), backward=min(dense, trained))
    return training_flops(experiment.rule, cost) / training_flops("dense", cost)


def _one_off(method: str, experiment: Experiment, data: datasets.Dataset) -> float:
    """Operations of the score before training, over those of dense training, which sees every example each epoch."""
    if experiment.score is None or experiment.density == 1:  # of all weights none is chosen
        return 0.0
    if method not in PASSES_OF_SCORE:
        return math.nan
    samples = experiment.score_samples * data.num_classes
    once = one_off_flops(method, 1.0, samples=samples, rounds=experiment.score.rounds)
    return once / (3 * experiment.epochs * len(data.train))


def _mean_flops(history: History, by_layer: Mapping[str, float]) -> float:
    """Operations of a forward pass with the existing connections, averaged over the steps."""
    steps = len(history.values("train loss"))
    starts = [0, *(step + 1 for step in history.journal.steps), steps]
    total = 0.0
    for topology, first, last in zip(history.journal.topologies(), starts, starts[1:], strict=False):
        densities = {name: layer.density for name, layer in topology.items()}
        total += (last - first) * sum(flops * densities.get(name, 1.0) for name, flops in by_layer.items())
    return total / steps


def _bytes(experiment: Experiment, history: History, model: torch.nn.Module) -> int:
    """Bytes of the sparse layers and an optimizer value each (all weights where a rule needs them), and its notes."""
    largest = max(history.journal.topologies(), key=lambda topology: topology.count)
    if not largest:
        return 8 * sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    column = "dense" if why_dense(experiment.rule) else "csr"
    sizes = memory_bytes(largest, optimizer_values=1)
    return int(sizes[["dense", column]].min(axis=1).sum()) + _remembered(history)


def _remembered(history: History) -> int:
    """Bytes of what the rule remembers with the layers, as the last checkpoint has them."""
    assert history.folder is not None
    state = load_checkpoint(history.folder / "checkpoint.pt")["model"]
    return sum(x.numel() * x.element_size() for name, x in state.items() if name.rpartition(".")[2].startswith(STATE))
