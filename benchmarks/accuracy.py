"""How accurate are Static, SET, RigL, GSE and dense training? Mean, standard error and seeds, as a table.

We keep every run, so an interrupted measurement resumes where it was, and a finished one is only read.

    python benchmarks/accuracy.py digits-mlp mnist1d-mlp --densities 0.05 0.02 --seeds 10
    python benchmarks/accuracy.py digits-mlp --rules static set rigl gse gse-grabo gse-graest --fraction 0.3
"""

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from sparsekit.experiments import Experiment, run
from sparsekit.rules import GraBo, GraEst
from sparsekit.utils.registry import get

RULES = ("static", "set", "rigl")
# These methods are a registered rule with settings of their own.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gse-grabo": ("gse", {"candidates": GraBo()}),
    "gse-graest": ("gse", {"candidates": GraEst()}),
}


def measured(experiment: Experiment, folder: Path) -> tuple[float, float | None]:
    """Return a run's test accuracy, and its seconds where it was trained just now."""
    is_finished = (folder / experiment.folder_name).exists()
    start = time.perf_counter()
    accuracy = run(experiment, folder, progress=False).last("test accuracy")
    return accuracy, None if is_finished else time.perf_counter() - start


def settings_of_method(method: str, fraction: float | None) -> dict[str, Any]:
    """Return a recipe's `rule` and `rule_settings` for a method, with a common fraction where it exchanges any."""
    rule, settings = VARIANTS.get(method, (method, {}))
    if fraction is not None and rule not in ("static", "dense"):
        settings = {**settings, "drop_fraction": fraction}
    return {"rule": rule, "rule_settings": settings}


def row(recipe: str, rule: str, density: float, seeds: int, folder: Path, fraction: float | None) -> str:
    """Train every seed of one method and return its line of the table."""
    make, settings = get("recipe", recipe), settings_of_method(rule, fraction)
    found = [measured(make(**settings, density=density, seed=seed), folder) for seed in range(seeds)]
    accuracies = [100 * accuracy for accuracy, _ in found]
    seconds = [time_taken for _, time_taken in found if time_taken is not None]
    error = statistics.stdev(accuracies) / math.sqrt(seeds) if seeds > 1 else math.nan
    took = f"{statistics.median(seconds):.1f}" if seconds else "(read)"
    shown = "1" if rule == "dense" else f"{density:g}"
    return f"| {recipe} | {rule} | {shown} | {statistics.mean(accuracies):.2f} ± {error:.2f} | {seeds} | {took} |"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=["digits-mlp", "mnist1d-mlp"])
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument(
        "--fraction", type=float, help="share exchanged at first, the same for all, or else each its own"
    )
    parser.add_argument("--densities", nargs="+", type=float, default=[0.05, 0.02])
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0")
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"), help="where the runs are saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| recipe | rule | density | test accuracy, % (mean ± s.e.) | seeds | s/run (median) |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    for recipe in options.recipes:
        methods = [(rule, density) for density in options.densities for rule in options.rules] + [("dense", 1.0)]
        for rule, density in methods:
            print(row(recipe, rule, density, options.seeds, options.folder, options.fraction), flush=True)


if __name__ == "__main__":
    main()
