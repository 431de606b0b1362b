"""How accurate are Static, SET, RigL, GSE and dense training? Mean, standard error and seeds, as a table.

We keep every run, so an interrupted measurement resumes where it was, and a finished one is only read. The seeds of a
method train at once, and the time is each one's share.

    python studies/accuracy.py digits-mlp mnist1d-mlp --densities 0.05 0.02 --seeds 10 --init fan-in dense
    python studies/accuracy.py digits-mlp --rules static set rigl gse gse-grabo gse-graest --fraction 0.3
"""

import argparse
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from sparsekit.experiments import Experiment, run_all
from sparsekit.rules import GraBo, GraEst
from sparsekit.utils.registry import get

RULES = ("static", "set", "rigl")
# These methods are a registered rule with settings of their own.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gse-grabo": ("gse", {"candidates": GraBo()}),
    "gse-graest": ("gse", {"candidates": GraEst()}),
}


def measured(experiments: list[Experiment], folder: Path) -> tuple[list[float], float | None]:
    """Return the runs' test accuracies, and the seconds of each where all were trained just now."""
    is_new = not any((folder / experiment.folder_name).exists() for experiment in experiments)
    start = time.perf_counter()
    histories = run_all(experiments, folder, progress=False)
    seconds = (time.perf_counter() - start) / len(experiments)
    return [history.last("test accuracy") for history in histories], seconds if is_new else None


def settings_of_method(method: str, fraction: float | None) -> dict[str, Any]:
    """Return a recipe's `rule` and `rule_settings` for a method, with a common fraction where it exchanges any."""
    rule, settings = VARIANTS.get(method, (method, {}))
    if fraction is not None and rule not in ("static", "dense"):
        settings = {**settings, "drop_fraction": fraction}
    return {"rule": rule, "rule_settings": settings}


def row(options: argparse.Namespace, recipe: str, init: str, rule: str, density: float) -> str:
    """Train every seed of one method and return its line of the table."""
    make, settings = get("recipe", recipe), settings_of_method(rule, options.fraction)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    shares, seconds = measured(
        [make(**settings, density=density, seed=seed, init=init) for seed in seeds], options.folder
    )
    accuracies = [100 * accuracy for accuracy in shares]
    error = statistics.stdev(accuracies) / math.sqrt(len(accuracies)) if len(accuracies) > 1 else math.nan
    took = "(read)" if seconds is None else f"{seconds:.1f}"
    shown = "1" if rule == "dense" else f"{density:g}"
    figures = f"{statistics.mean(accuracies):.2f} ± {error:.2f} | {len(accuracies)} | {took}"
    return f"| {recipe} | {init} | {rule} | {shown} | {figures} |"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=["digits-mlp", "mnist1d-mlp"])
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument(
        "--fraction", type=float, help="share exchanged at first, the same for all, or else each its own"
    )
    parser.add_argument("--densities", nargs="+", type=float, default=[0.05, 0.02])
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--init", nargs="+", default=["fan-in"], help="initial weights: fan-in, dense or both")
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"), help="where the runs are saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| recipe | initial weights | rule | density | test accuracy, % (mean ± s.e.) | seeds | s/run |",
        "|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for recipe, init in product(options.recipes, options.init):
        methods = [(rule, density) for density in options.densities for rule in options.rules]
        for rule, density in [*methods, *([("dense", 1.0)] if init == "fan-in" else [])]:
            print(row(options, recipe, init, rule, density), flush=True)


if __name__ == "__main__":
    main()
