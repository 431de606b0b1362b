"""All methods under one protocol: a table of accuracy, time, arithmetic and memory, in which nothing is done twice.

Methods are the rules, the scores before training, and what is registered under the kind `"method"`.
"""

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sparsekit import datasets
from sparsekit.analysis.costs.forward_flops import forward_flops
from sparsekit.analysis.costs.memory import memory_bytes
from sparsekit.analysis.costs.training_flops import Pass, training_flops
from sparsekit.experiments import Experiment, build_model, run_all
from sparsekit.experiments.population import populations_of
from sparsekit.experiments.recipes import recipe_named
from sparsekit.experiments.record import own_definitions
from sparsekit.experiments.sweeps.workers import in_order
from sparsekit.layers.base import STATE
from sparsekit.rules.initial import why_dense
from sparsekit.train import History, load_checkpoint
from sparsekit.utils.files import read_json, write_json
from sparsekit.utils.registry import facts_of, get, names

COST_FILE = "cost.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one run gave.

    Args:
        method: a rule's name, a score's (whose mask is trained as it is), or `"dense"`.
        target_density: the density that the caller asked for.
        seed: of the run.
        accuracy: on the test split at the end, 0 to 1.
        density: of the connections used in the end. For some methods this is an outcome.
        seconds: of training, on this machine. NaN where the run was begun before and nobody took its time.
        flops: operations of the whole training and of a score before it, over those of dense training. NaN for a rule
            (`Rule.training_flops`) or a score (`Score.passes`) that does not say.
        bytes: of values, momentum and indices of the sparse layers, at their largest, and of the rule's state in the
            end.
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
    """Return the names of all methods: dense and its like, every rule, and every score before training.

    Building blocks and controls, registered with `is_method=False`, are left out.

    Example:
        >>> [name for name in methods() if name.startswith("s")]
        ['s-ste', 'set', 'set-itop', 'snfs', 'sr-ste', 'srigl', 'static', 'str', 'snip', 'synflow']
    """
    kinds = ("method", "rule", "score")
    return [name for kind in kinds for name in names(kind) if facts_of(kind, name).is_method]


def experiment_of(
    method: str, recipe: str, density: float, seed: int, *, root: Path | None = None, **settings: Any
) -> Experiment:
    """Return the experiment that trains a method under a recipe's protocol.

    Args:
        method: one of `methods()`.
        recipe: the protocol, by its name or by that of a data set.
        density: share of the weights that exist.
        seed: of everything random.
        root: the data folder, for a data set without a recipe.
        settings: other arguments of the recipe, for example `epochs`.

    Raises:
        ValueError: if there is no such method. The message lists the known ones.
    """
    if method not in methods():
        raise ValueError(f"method must be one of {', '.join(methods())}, got {method!r}. Choose one of them")
    make = recipe_named(recipe, root)
    if method in names("method"):
        return get("method", method)(make, density=density, seed=seed, **settings)
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
    client: Any = None,
    **settings: Any,
) -> Iterator[Cell]:
    """Train every method at every density with every seed, and yield what each run gave. Finished runs are read.

    Seeds of a method that can be trained at once are a population (see `run_all`), and each run's seconds are its share
    of the population's time then. So seconds of methods compare where both, or neither, are trained at once.

    Args:
        recipe: the protocol, by its name or by that of a data set.
        chosen: methods, or all if None.
        densities: shares of the weights that exist.
        seeds: how many, from 0.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        client: a Dask client or an executor, whose workers train methods side by side (see `sweeps.local_client`). The
            seeds of a method stay together, so the numbers are the same. None trains here, one after the other.
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
    experiments = [
        experiment_of(method, recipe, density, seed, root=root, **settings) for method, density, seed in plan
    ]
    for rule in {id(experiment.rule): experiment.rule for experiment in experiments}.values():
        training_flops(rule, Pass(dense=1.0, sparse=1.0))  # what cannot say its cost is refused before training
    parts = [slice(start, start + seeds) for start in range(0, len(plan), max(1, seeds))]
    folder, groups = Path(folder).resolve(), [experiments[part] for part in parts]
    trained = in_order(partial(_train, folder=folder, root=root), groups, client, own_definitions(experiments))
    for part, group, _ in zip(parts, groups, trained if client else groups, strict=True):
        results = _timed_runs(group, folder, root)
        for (method, density, _), experiment in zip(plan[part], group, strict=True):
            yield _cell(method, density, experiment, *results[experiment.folder_name], root)


def table_of(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return one row per method and target density: mean accuracy and its standard error, and median costs.

    Columns: `method`, `target_density`, `accuracy`, `error`, `seeds`, `density`, `seconds`, `flops`, `bytes`. The best
    of each density comes first. The standard error of a single run is NaN.
    """
    groups: dict[tuple[float, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.target_density, cell.method), []).append(cell)
    rows = [_row(method, target, group) for (target, method), group in groups.items()]
    return pd.DataFrame(rows).sort_values(["target_density", "accuracy"], ascending=False, ignore_index=True)


def markdown_of(table: pd.DataFrame) -> str:
    """Return the table as Markdown, in per cent and kilobytes."""
    lines = [
        "| density | method | test accuracy, % | seeds | density reached | s/run (a share where seeds train at once) "
        "| training FLOPs, of dense | kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        error = "" if math.isnan(row["error"]) else f" ± {100 * row['error']:.2f}"
        accuracy = f"{100 * row['accuracy']:.2f}{error}"
        seconds, flops = _or_dash(row["seconds"], 1), _or_dash(row["flops"], 3)
        costs = f"{row['density']:.4g} | {seconds} | {flops} | {row['bytes'] / 1000:.0f}"
        method = row["method"].replace("|", r"\|")
        lines.append(f"| {row['target_density']:g} | {method} | {accuracy} | {row['seeds']} | {costs} |")
    return "\n".join(lines) + "\n"


def _row(method: str, target: float, cells: Sequence[Cell]) -> dict[str, Any]:
    accuracies = [cell.accuracy for cell in cells]
    error = statistics.stdev(accuracies) / math.sqrt(len(cells)) if len(cells) > 1 else math.nan
    medians = {
        name: _median(getattr(cell, name) for cell in cells) for name in ("density", "seconds", "flops", "bytes")
    }
    mean = statistics.fmean(accuracies)
    row = {"method": method, "target_density": target, "accuracy": mean, "error": error, "seeds": len(cells)}
    return row | medians


def _median(numbers: Iterable[float]) -> float:
    """Median of the numbers that are not NaN, or NaN if all are."""
    numbers = [number for number in numbers if not math.isnan(number)]
    return statistics.median(numbers) if numbers else math.nan


def _or_dash(number: float, digits: int) -> str:
    return "-" if math.isnan(number) else f"{number:.{digits}f}"


def _train(experiments: Sequence[Experiment], folder: Path, root: Path | None) -> None:
    """Carry out experiments in a worker. They are read here afterwards, because histories are large."""
    _timed_runs(experiments, folder, root)


def _timed_runs(experiments: Sequence[Experiment], folder: Path, root: Path | None) -> dict[str, tuple[History, float]]:
    """Carry out experiments, or read them, and return history and seconds of training by the name of the run folder."""
    results = {}
    for group in populations_of(experiments):
        begun = {one.folder_name for one in group if _is_begun(folder / one.folder_name)}
        start = time.perf_counter()
        histories = run_all(group, folder, root=root, progress=False)
        share = (time.perf_counter() - start) / max(1, len(group) - len(begun))
        for experiment, history in zip(group, histories, strict=True):
            name = experiment.folder_name
            results[name] = history, _seconds(folder / name, None if name in begun else share)
    return results


def _is_begun(run_folder: Path) -> bool:
    return run_folder.exists() and any(run_folder.iterdir())


def _seconds(run_folder: Path, measured: float | None) -> float:
    """Return the seconds that a run's folder keeps, or keep these. What an earlier session took nobody can know."""
    if not (run_folder / COST_FILE).exists():
        write_json(run_folder / COST_FILE, {"seconds": measured})
    seconds = read_json(run_folder / COST_FILE, remedy="delete it, and the seconds are unknown")["seconds"]
    return math.nan if seconds is None else seconds


def _cell(
    method: str, density: float, experiment: Experiment, history: History, seconds: float, root: Path | None
) -> Cell:
    data = datasets.load(experiment.data, root=root, **experiment.data_settings)
    model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)
    by_layer = forward_flops(model, data.prepare(data.test.inputs[:1]))["dense"].to_dict()
    return Cell(
        method=method,
        target_density=density,
        seed=experiment.seed,
        accuracy=history.last("test accuracy"),
        density=history.last("density"),
        seconds=seconds,
        flops=_flops(experiment, history, by_layer) + _one_off(experiment, data),
        bytes=_bytes(experiment, history, model),
    )


def _flops(experiment: Experiment, history: History, by_layer: Mapping[str, float]) -> float:
    """Operations of training, over those of dense training: the rule's formula at the mean density over the steps."""
    if not history.journal.initial:  # the network has no sparse layer
        return 1.0
    dense, trained = sum(by_layer.values()), _mean_flops(history, by_layer)
    # Where fewer connections are used than trained, the forward pass costs their share.
    column = "density used" if any(row.name == "density used" for row in history.rows) else "density"
    share = statistics.fmean(history.values(column)) / statistics.fmean(history.values("density"))
    cost = Pass(dense=dense, sparse=min(dense, trained * share), backward=min(dense, trained))
    return training_flops(experiment.rule, cost) / training_flops("dense", cost)


def _one_off(experiment: Experiment, data: datasets.Dataset) -> float:
    """Operations of the score before training, over those of dense training, which sees every example each epoch."""
    if experiment.score is None or experiment.density == 1:  # of all weights none is chosen
        return 0.0
    samples = experiment.score_samples * data.num_classes
    return experiment.score.flops(1.0, samples=samples) / (3 * experiment.epochs * len(data.train))


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
    """Bytes of the sparse layers and an optimizer value each (all weights where a rule needs them), and its state."""
    largest = max(history.journal.topologies(), key=lambda topology: topology.count)
    if not largest:
        return 8 * sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    column = "dense" if why_dense(experiment.rule) else "csr"
    sizes = memory_bytes(largest, optimizer_values=1)
    return int(sizes[["dense", column]].min(axis=1).sum()) + _bytes_of_state(history)


def _bytes_of_state(history: History) -> int:
    """Bytes of what the rule keeps with the layers, as the last checkpoint has them."""
    assert history.folder is not None
    state = load_checkpoint(history.folder / "checkpoint.pt")["model"]
    return sum(x.numel() * x.element_size() for name, x in state.items() if name.rpartition(".")[2].startswith(STATE))
