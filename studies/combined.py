"""Does the sum of the papers pay? We compare ToST, GSE and Sup-tickets together with each alone and each pair.

Tricks are ghost skips, the one part of ToST that helped by itself on masks this sparse (see tricks.py). We keep every
run, so an interrupted measurement resumes where it was.

    python studies/combined.py digits-mlp mnist1d-mlp --density 0.02 --seeds 5
"""

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from sparsekit import datasets
from sparsekit.analysis import assess_claim, factorial_design, factorial_effects
from sparsekit.evaluation.measuring import evaluate
from sparsekit.experiments import Experiment, load_model, run
from sparsekit.experiments.sup_tickets import SupTickets, run_sup_tickets
from sparsekit.tricks import GhostSkips
from sparsekit.utils.registry import get

PARTS = ("ToST", "GSE", "Sup-tickets")


def experiment_of(recipe: str, density: float, seed: int, epochs: int, chosen: frozenset[str], init: str) -> Experiment:
    """Return the training without cycles, with GSE or a fixed random topology, with ghosts or without."""
    return get("recipe", recipe)(
        rule="gse" if "GSE" in chosen else "static",
        density=density,
        seed=seed,
        epochs=epochs,
        init=init,
        tricks=(GhostSkips(),) if "ToST" in chosen else (),
    )


def accuracy_of(experiment: Experiment, chosen: frozenset[str], folder: Path) -> float:
    """Return the test accuracy of one combination, which is the superposition's where tickets are collected."""
    if "Sup-tickets" not in chosen:
        return run(experiment, folder, progress=False).last("test accuracy")
    found = run_sup_tickets(SupTickets(experiment=experiment, cycle_rate=0.2, cycle_epochs=4), folder, progress=False)
    assert found.history.folder is not None
    data = datasets.load(experiment.data, **experiment.data_settings)
    network = found.superposed().model_like(load_model(found.history.folder))
    test, train = ([(data.prepare(split.inputs), split.labels)] for split in (data.test, data.train))
    return evaluate(network, test, refresh_with=train).accuracy


def main() -> None:
    """Measure all eight combinations, and print accuracies, effects, and what is said of the sum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=["digits-mlp"])
    parser.add_argument("--density", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--init", default="fan-in", help="initial weights: fan-in or dense")
    parser.add_argument("--folder", type=Path, default=Path("runs/combined"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    combinations = list(factorial_design(list(PARTS)))
    for recipe in options.recipes:
        rows = []
        for chosen, seed in product(combinations, range(options.seeds)):
            experiment = experiment_of(recipe, options.density, seed, options.epochs, chosen, options.init)
            accuracy = accuracy_of(experiment, chosen, options.folder)
            rows.append({**{part: part in chosen for part in PARTS}, "seed": seed, "accuracy": accuracy})
        report(recipe, pd.DataFrame(rows), combinations)


def report(recipe: str, runs: pd.DataFrame, combinations: list[frozenset[str]]) -> None:
    """Print a recipe's tables and claims."""
    found = {
        chosen: runs[(runs[list(PARTS)] == [part in chosen for part in PARTS]).all(axis=1)]["accuracy"].tolist()
        for chosen in combinations
    }
    print(f"\n## {recipe}\n\n| parts | test accuracy, % | seeds |\n|---|---|---|")
    for chosen, accuracies in found.items():
        values = 100 * pd.Series(accuracies)
        name = " + ".join(part for part in PARTS if part in chosen) or "none (static)"
        print(f"| {name} | {values.mean():.2f} ± {values.sem():.2f} | {len(values)} |")
    print("\n" + (100 * factorial_effects(runs, list(PARTS))).round(2).to_string() + "\n")
    for part in PARTS:
        print(f"- {assess_claim(f'all three beat {part} alone', found[frozenset(PARTS)], found[frozenset([part])])}")


if __name__ == "__main__":
    main()
