"""Which law do losses follow when networks grow and empty? We train 24 small ones and fit six numbers.

Four widths at six densities train, the sparse ones of a width at once. We print the runs, the law, the density at
which a fixed number of connections has the lowest loss, and how far the law is off. Each number of the law has a
standard error, which is that of the jackknife: we fit again without each network. With several seeds the loss is their
mean. We keep every run, so an interrupted measurement resumes where it was.

    python studies/scaling.py mnist1d-mlp --seeds 3 --epochs 20
    python studies/scaling.py mnist1d-mlp --rule static --figure scaling.png
"""

import argparse
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from sparsekit.analysis import ScalingLaw, fit_scaling_law
from sparsekit.experiments import run_all
from sparsekit.plots import plot_scaling, subplots
from sparsekit.train.history import History
from sparsekit.utils.registry import get

WIDTHS, DENSITIES = (32, 64, 128, 256), (0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
STARTS = 10  # of each fit for the errors


def losses_of(options: argparse.Namespace) -> pd.DataFrame:
    """Train all networks and return a row for each size and density, with the mean test loss of its seeds."""
    make, cells = get("recipe", options.recipe), list(product(options.widths, options.densities, range(options.seeds)))
    settings = {"rule": options.rule} | ({"epochs": options.epochs} if options.epochs else {})
    experiments = [
        make(**settings, density=density, seed=seed, model_settings={"hidden": (width, width)})
        for width, density, seed in cells
    ]
    histories = run_all(experiments, options.folder, progress=False)
    rows = [(width, *row_of(history, density)) for (width, density, _), history in zip(cells, histories, strict=True)]
    runs = pd.DataFrame(rows, columns=["width", "connections", "density", "loss"])
    return pd.DataFrame(runs.groupby(["width", "connections", "density"], as_index=False)[["loss"]].mean())


def row_of(history: History, density: float) -> tuple[int, float, float]:
    """Return connections, density and test loss of one run."""
    return history.journal[-1].count, density, history.last("test loss")


def standard_errors(runs: pd.DataFrame) -> dict[str, float]:
    """Return the jackknife's standard error of each number of the law: how it varies where one network is left out."""
    laws = pd.DataFrame([asdict(fit_scaling_law(runs.drop(index=row), starts=STARTS)[0]) for row in runs.index])
    spread = (laws - laws.mean()).pow(2).sum() * (len(laws) - 1) / len(laws)
    return {str(name): float(value) for name, value in spread.pow(0.5).items()}


def lines_of(law: ScalingLaw, runs: pd.DataFrame) -> list[str]:
    """Return each number of the law with its error."""
    errors = standard_errors(runs)
    return [f"{name} {value:.3g} ± {errors[name]:.2g}" for name, value in asdict(law).items()]


def main() -> None:
    """Print the runs and the law."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", nargs="?", default="mnist1d-mlp", help="of an MLP")
    parser.add_argument("--rule", default="rigl")
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS), help="of both hidden layers")
    parser.add_argument("--densities", nargs="+", type=float, default=list(DENSITIES))
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--epochs", type=int, help="of each training, or as many as the recipe says")
    parser.add_argument("--folder", type=Path, default=Path("runs/scaling"), help="where the runs are saved")
    parser.add_argument("--figure", type=Path, help="where the figure is saved, such as scaling.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = losses_of(options)
    print(runs.to_string(index=False, float_format="{:.3f}".format), flush=True)
    law, error = fit_scaling_law(runs)
    print("", *lines_of(law, runs), sep="\n")
    print(f"The law is off by {error:.1%} (root mean square of {len(runs)} networks).")
    print(f"A fixed number of connections does best at density {law.best_density():.2f}.")
    if options.figure:
        figure, (ax,) = subplots()
        plot_scaling(runs, law, ax)
        figure.savefig(options.figure)


if __name__ == "__main__":
    main()
