"""Do the tricks of ToST help sparse networks, each by itself and together? We run a 2^4 factorial with intervals.

Ghost neurons, ghost skips, rescaled initialisation and label smoothing are switched on and off, on any mask. Every
ghost is removed before the test accuracy counts. We keep the runs, so an interrupted measurement resumes where it was.

    python studies/tricks.py --data digits mnist1d --masks random snip synflow imp dense
    python studies/tricks.py --data mnist1d --densities 0.02 0.01 --init fan-in dense --first-seed 100 --seeds 6
    python studies/tricks.py --data fashion-mini-cnn --cells none neurons+labels --seeds 5
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from sparsekit.analysis import assess_claim, factorial_design, factorial_effects
from sparsekit.experiments import Experiment, load_model, read_experiment, run
from sparsekit.experiments.lottery import Lottery, run_lottery
from sparsekit.experiments.recipes import digits_mlp, fashion_mini_cnn, mnist1d_mlp
from sparsekit.train import History
from sparsekit.tricks import GhostNeurons, GhostSkips, LabelSmoothing, RescaledInit, Trick, ghosts_of

TRICKS: dict[str, Trick] = {
    "neurons": GhostNeurons(),
    "skips": GhostSkips(),
    "init": RescaledInit(),
    "labels": LabelSmoothing(),
}
RECIPES = {"digits": digits_mlp, "mnist1d": mnist1d_mlp, "fashion-mini-cnn": fashion_mini_cnn}
SCORES = {"random": None, "snip": "snip", "synflow": "synflow"}
MASKS = (*SCORES, "imp", "dense")
IMP_LEVELS = 4  # trainings on the way to the target density, each of which removes the same share
CLAIMS = {"neurons": "ghost neurons help", "skips": "ghost skips help"}
CLAIMS |= {"init": "the rescaled initialisation helps", "labels": "label smoothing helps"}


@dataclass(frozen=True)
class Plan:
    """This says what is to be measured, and where runs are saved.

    Args:
        cells: combinations of tricks.
        seeds: of the runs of each.
        epochs: of each run, where None means those of the recipe.
        folder: where runs are saved.
        init: initial weights, as in `Experiment`. Masks of a lottery rewind to those of the dense draw.
    """

    cells: tuple[frozenset[str], ...]
    seeds: range
    epochs: int | None
    folder: Path
    init: str = "fan-in"


def experiment_of(data: str, mask: str, density: float, seed: int, plan: Plan) -> Experiment:
    """Return the plain training on a mask."""
    settings: dict[str, Any] = {"init": plan.init} | ({} if plan.epochs is None else {"epochs": plan.epochs})
    make = RECIPES[data]
    if mask == "dense":
        return make(rule="dense", seed=seed, **settings)
    if mask == "imp":
        return _from_lottery(data, density, seed, plan)
    return make(rule="static", density=density, seed=seed, score=SCORES[mask], **settings)


def _from_lottery(data: str, density: float, seed: int, plan: Plan) -> Experiment:
    """Return a training on the mask of iterative magnitude pruning without tricks, from its initial weights."""
    dense = experiment_of(data, "dense", 1.0, seed, plan)
    lottery = Lottery(experiment=dense, levels=IMP_LEVELS, prune=1 - density ** (1 / IMP_LEVELS))
    last = run_lottery(lottery, plan.folder, progress=False).levels[-1]
    assert last.folder is not None
    return read_experiment(last.folder)


def measure(data: str, mask: str, density: float, plan: Plan) -> pd.DataFrame:
    """Train every cell with every seed, or read what is there, and return one row per run."""
    rows = []
    for seed in plan.seeds:
        plain = experiment_of(data, mask, density, seed, plan)
        for cell in plan.cells:
            tricks = tuple(trick for name, trick in TRICKS.items() if name in cell)
            accuracy = _accuracy(run(replace(plain, tricks=tricks), plan.folder, progress=False))
            rows.append({**{name: name in cell for name in TRICKS}, "seed": seed, "accuracy": accuracy})
    return pd.DataFrame(rows)


@cache
def _has_no_ghosts(folder: Path) -> bool:
    return not ghosts_of(load_model(folder))


def _accuracy(history: History) -> float:
    assert history.folder is not None
    assert _has_no_ghosts(history.folder)  # or the network that we measure is not the sparse one
    return history.last("test accuracy")


def report(data: str, mask: str, density: float, runs: pd.DataFrame) -> Iterator[str]:
    """Yield the tables in Markdown: each cell's accuracy, effects with intervals, and what is said of each claim."""
    at = "dense" if density == 1 else f"{mask}, density {density:g}"
    yield f"\n## {data}, {at}\n"
    yield from _cells(runs)
    if factors := _factors(runs):
        yield from _effects(factorial_effects(runs, factors))
        for name in factors:
            yield f"- {assess_claim(CLAIMS[name], _means(runs, name, True), _means(runs, name, False))}"


def _factors(runs: pd.DataFrame) -> list[str]:
    """Return the tricks of which effects can be told. There are none if cells are missing, or effects would mix."""
    varied = [name for name in TRICKS if len(set(runs[name])) == 2]
    found = {tuple(row[name] for name in varied) for row in runs.to_dict("records")}
    return varied if len(found) == 2 ** len(varied) and len(set(runs["seed"])) > 1 else []


def _cells(runs: pd.DataFrame) -> Iterator[str]:
    yield "| tricks | test accuracy, % | seeds |\n|---|---|---|"
    names = ["+".join(name for name in TRICKS if row[name]) or "none" for row in runs.to_dict("records")]
    for cell in dict.fromkeys(names):
        found = 100 * runs["accuracy"].to_numpy()[[name == cell for name in names]]
        error = found.std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else float("nan")
        yield f"| {cell} | {found.mean():.2f} ± {error:.2f} | {len(found)} |"


def _effects(table: pd.DataFrame) -> Iterator[str]:
    yield "\n| effect | points | 95 % interval |\n|---|---|---|"
    for name, row in (100 * table).iterrows():
        yield f"| {name} | {row['effect']:+.2f} | {row['low']:+.2f} to {row['high']:+.2f} |"
    yield ""


def _means(runs: pd.DataFrame, name: str, on: bool) -> list[float]:
    """Return the mean accuracy of each seed over all cells with a trick on, or off."""
    rows = [row for row in runs.to_dict("records") if row[name] == on]
    seeds = sorted({row["seed"] for row in rows})
    return [fmean(row["accuracy"] for row in rows if row["seed"] == seed) for seed in seeds]


def grows_with_sparsity(measured: dict[float, pd.DataFrame]) -> Iterator[str]:
    """Yield what is said of the claim that each trick helps most where fewest connections are left."""
    densest, sparsest = max(measured), min(measured)
    for name in _factors(measured[densest]) if densest != sparsest else []:
        gains = [_gains(measured[density], name) for density in (sparsest, densest)]
        yield f"- {assess_claim(f'{name}: more at density {sparsest:g} than at {densest:g}', *gains)}"


def _gains(runs: pd.DataFrame, name: str) -> list[float]:
    pairs = zip(_means(runs, name, True), _means(runs, name, False), strict=False)
    return [on - off for on, off in pairs]


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=RECIPES, default=["digits"])
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=["random"])
    parser.add_argument("--densities", nargs="+", type=float, default=[0.1, 0.05, 0.02, 0.01])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--init", nargs="+", default=["fan-in"], help="initial weights: fan-in, dense or both")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--cells", nargs="+", default=None, help="such as none neurons+labels, or all 16 if not given")
    parser.add_argument("--folder", type=Path, default=Path("runs/tricks"))
    return parser.parse_args(words)


def cells_of(names: Sequence[str] | None) -> tuple[frozenset[str], ...]:
    """Return the named combinations, or all."""
    if names is None:
        return tuple(factorial_design(list(TRICKS)))
    cells = [frozenset() if name == "none" else frozenset(name.split("+")) for name in names]
    if unknown := frozenset().union(*cells) - set(TRICKS):
        raise SystemExit(f"cells must name tricks among {', '.join(TRICKS)}, got {', '.join(sorted(unknown))}")
    return tuple(cells)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    wanted = parse(words)
    cells, seeds = cells_of(wanted.cells), range(wanted.first_seed, wanted.first_seed + wanted.seeds)
    for init, data, mask in product(wanted.init, wanted.data, wanted.masks):
        plan = Plan(cells, seeds, wanted.epochs, wanted.folder, init)
        measured = {}
        for density in wanted.densities if mask != "dense" else [1.0]:
            measured[density] = measure(data, mask, density, plan)
            title = mask if init == "fan-in" else f"{mask}, drawn for dense layers"
            print("\n".join(report(data, title, density, measured[density])), flush=True)
        print("\n".join(grows_with_sparsity(measured)), flush=True)


if __name__ == "__main__":
    main()
