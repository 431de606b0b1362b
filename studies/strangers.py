"""May networks of other seeds be averaged once their hidden units are in the same order?

Pairs of networks train from other seeds. We superpose the two of a pair as they are, and again after the second has the
order of units that is nearest to the first (`rebasin`), by values and by topology alone. The table has test accuracies
and how many connections the two share (intersection over union). The verdicts compare pair by pair. We keep every run,
so an interrupted measurement resumes where it was.

    python studies/strangers.py mnist1d-mlp --density 0.05 --pairs 6
    python studies/strangers.py digits-mlp --density 0.02 --pairs 6
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from sparsekit import datasets
from sparsekit.analysis import assess_claim, iou
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.evaluation.measuring import evaluate
from sparsekit.experiments import load_model, run_all
from sparsekit.tickets import Ticket, rebasin, superpose
from sparsekit.utils.registry import get


def networks_of(options: argparse.Namespace) -> list[nn.Module]:
    """Train two networks for each pair."""
    settings = {"rule": options.rule, "density": options.density} | (
        {"epochs": options.epochs} if options.epochs else {}
    )
    seeds = range(options.first_seed, options.first_seed + 2 * options.pairs)
    experiments = [get("recipe", options.recipe)(**settings, seed=seed) for seed in seeds]
    histories = run_all(experiments, options.folder, progress=False)
    return [load_model(history.folder) for history in histories if history.folder is not None]


def measured(first: nn.Module, second: nn.Module, data: datasets.Dataset) -> dict[str, float]:
    """Return the accuracies of a pair's members and of its superpositions, and what the members share."""
    ours, theirs = (Ticket.of(model, step=0) for model in (first, second))
    others = {"as they are": theirs} | {
        f"by {by}": rebasin(theirs, ours, first, by=by) for by in ("values", "topology")
    }
    row = {"mean member": (accuracy(first, data) + accuracy(second, data)) / 2}
    for name, other in others.items():
        row[name] = accuracy(superpose([ours, other]).model_like(first), data)
        row[f"shared, {name}"] = iou(ours.topology, other.topology).value
    return row


def accuracy(model: nn.Module, data: datasets.Dataset) -> float:
    """Return the test accuracy of a network, whose batch norm (if any) is measured anew."""
    test, train = ([(data.prepare(split.inputs), split.labels)] for split in (data.test, data.train))
    return evaluate(model, test, refresh_with=train).accuracy


def verdicts(pairs: Mapping[str, list[float]]) -> list[Claim]:
    """Return what the pairs say about three claims."""
    claims = [
        ("order by values beats none", "by values", "as they are", 0.0),
        ("order by topology beats none", "by topology", "as they are", 0.0),
        ("in order, the average loses less than a point to its members", "by values", "mean member", -0.01),
    ]
    return [assess_claim(text, pairs[one], pairs[other], above=above) for text, one, other, above in claims]


def main() -> None:
    """Print a row for each pair, their mean and the verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", nargs="?", default="mnist1d-mlp")
    parser.add_argument("--rule", default="rigl")
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--pairs", type=int, default=6, help="how many")
    parser.add_argument("--first-seed", type=int, default=1100)
    parser.add_argument("--epochs", type=int, help="of each training, or as many as the recipe says")
    parser.add_argument("--folder", type=Path, default=Path("runs/strangers"), help="where the runs are saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = networks_of(options)
    data = datasets.load(get("recipe", options.recipe)().data)
    rows = [measured(*networks[number : number + 2], data) for number in range(0, len(networks), 2)]
    percent = 100 * pd.DataFrame(rows)
    print(percent.round(2).to_string(index=False))
    print(pd.DataFrame({"mean": percent.mean(), "sem": percent.sem()}).round(2).T.to_string())
    print(*verdicts({name: [row[name] for row in rows] for name in rows[0]}), sep="\n")


if __name__ == "__main__":
    main()
