"""Which law do losses follow when networks grow and empty? We train 24 small ones and fit six numbers.

Four widths at six densities train, the sparse ones of a width at once. We print the runs, the law, the density at
which a fixed number of connections has the lowest loss, and how far the law is off. With several seeds the loss is
their mean. We keep every run, so an interrupted measurement resumes where it was.

    python studies/scaling.py mnist1d-mlp --seeds 3 --epochs 20
    python studies/scaling.py mnist1d-mlp --rule static --figure scaling.png
"""

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from sparsekit.analysis import fit_scaling_law
from sparsekit.experiments import run_all
from sparsekit.plots import plot_scaling, subplots
from sparsekit.train.history import History
from sparsekit.utils.registry import get

WIDTHS, DENSITIES = (32, 64, 128, 256), (0.05, 0.1, 0.2, 0.35, 0.6, 1.0)


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
    print(f"\n{law}\nThe law is off by {error:.1%} (root mean square of {len(runs)} networks).")
    print(f"A fixed number of connections does best at density {law.best_density():.2f}.")
    if options.figure:
        figure, (ax,) = subplots()
        plot_scaling(runs, law, ax)
        figure.savefig(options.figure)


if __name__ == "__main__":
    main()
