"""Protocol P1: do superposed cheap tickets beat the tickets, plain weight averaging, and the usual training?

We keep every collection, so an interrupted measurement resumes where it was. For each base rule we train cheap tickets
(large rewirings, `explore=0.5`) and the same cycles without rewiring (plain sparse weight averaging). Beside them stand
the rule's usual training of as many epochs, a dense one, and the last tickets of four other seeds. The script prints
tables and claims, and writes all rows.

    python studies/sup_tickets.py mnist1d-mlp --seeds 10 --first-seed 700
    python studies/sup_tickets.py digits-mlp --seeds 10
    python studies/sup_tickets.py fashion-mini-cnn --seeds 3 --bases static rigl
"""

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sparsekit import datasets
from sparsekit.analysis import assess_claim, barrier_matrix, disagreement, iou, js_divergence, outputs_of
from sparsekit.experiments import Experiment, load_model, run, run_all
from sparsekit.experiments.sup_tickets import (
    SupTickets,
    SupTicketsHistory,
    run_all_sup_tickets,
    run_sup_tickets,
    sup_tickets_of,
    superpositions,
)
from sparsekit.tickets import Ticket
from sparsekit.utils.registry import get

REFRESH_WITH = 5000  # training images, for the statistics of batch norms
FEW = 1000  # the same at each of the 66 points of a barrier matrix, which are tested on twice as many


def some(split: datasets.Split, most: int) -> datasets.Split:
    """Return the first examples, at most so many."""
    return split.take(min(most, len(split)))


class Protocol:
    """This says what is trained and measured for one recipe at one density."""

    def __init__(self, recipe: str, density: float | None, options: argparse.Namespace):
        self.recipe, self.folder, self.root, self.init = recipe, options.folder, options.root, options.init
        split = {"epochs": options.epochs, "cycle_rate": options.cycle_rate, "cycle_epochs": options.cycle_epochs}
        self.cycles: dict[str, Any] = {**split, "density": density, "low": options.low, "high": options.high}
        self.storage, self.first_seed = options.storage, options.first_seed
        experiment = self.collection("static", options.first_seed, 0.5).experiment
        self.density, self.epochs, self.data_settings = experiment.density, experiment.epochs, experiment.data_settings
        data = datasets.load(experiment.data, root=options.root, **experiment.data_settings)
        self.data = replace(data, train=some(data.train, REFRESH_WITH))  # each training loads its own
        self.strangers, self.usual_too = options.strangers, options.usual

    def collection(self, base: str, seed: int, explore: float) -> SupTickets:
        """Return what is collected, in the recipe's own setting where no other was asked for."""
        storage = {"storage": self.storage, "init": self.init}
        return sup_tickets_of(
            self.recipe, rule=base, seed=seed, explore=explore, root=self.root, **self.cycles, **storage
        )

    def seeds(self, count: int) -> range:
        """Return the seeds of a measurement, and those that only lend their last ticket."""
        return range(self.first_seed, self.first_seed + count)

    def train(self, bases: Sequence[str], seeds: int) -> None:
        """Train all collections and the usual trainings, as many at once as fit each other."""
        more = max(seeds, self.strangers)
        arms = [self.collection(base, seed, 0.5) for base in bases for seed in self.seeds(more)]
        arms += [self.collection(base, seed, 0.0) for base in bases if base != "static" for seed in self.seeds(seeds)]
        run_all_sup_tickets(arms, self.folder, root=self.root, progress=False)
        if self.usual_too:
            usual = [self.experiment(rule, seed) for rule in (*bases, "dense") for seed in self.seeds(seeds)]
            run_all(usual, self.folder, root=self.root, progress=False)

    def experiment(self, base: str, seed: int) -> Experiment:
        """Return the usual training of a base rule, as long as the collection."""
        settings = {} if base == "dense" else {"density": self.density, "storage": self.storage}
        settings |= {"epochs": self.epochs, "data_settings": self.data_settings, "init": self.init}
        return get("recipe", self.recipe)(rule=base, seed=seed, **settings)

    def collect(self, base: str, seed: int, explore: float) -> SupTicketsHistory:
        """Read the tickets of a collection, or train it."""
        return run_sup_tickets(self.collection(base, seed, explore), self.folder, root=self.root, progress=False)

    def usual(self, base: str, seed: int) -> float:
        """Return the test accuracy of the rule's usual training."""
        history = run(self.experiment(base, seed), self.folder, root=self.root, progress=False)
        return history.last("test accuracy")

    def measure(self, tickets: Sequence[Ticket], like: SupTicketsHistory, **about: Any) -> list[dict]:
        """Return a row for each network that can be made of some tickets."""
        assert like.history.folder is not None
        table = superpositions(tickets, load_model(like.history.folder, root=self.root), self.data)
        return [{**about, "network": name, **row} for name, row in table.iterrows()]

    def apart(self, tickets: Sequence[Ticket], like: SupTicketsHistory) -> dict[str, float]:
        """Say how different tickets are in connections, in answers, and in their positions in the landscape."""
        assert like.history.folder is not None
        model = load_model(like.history.folder, root=self.root)
        networks = [one.model_like(model) for one in tickets]
        splits = (some(self.data.test, 2 * FEW), some(self.data.train, FEW))
        batch, few = ([(self.data.prepare(split.inputs), split.labels)] for split in splits)
        outputs, _ = outputs_of(networks, batch)
        union = tickets[0].topology
        for one in tickets[1:]:
            union = union | one.topology
        pairs = torch.triu_indices(len(tickets), len(tickets), 1)
        barriers = barrier_matrix(networks, batch, of="error", refresh_with=few)
        matrices = {"disagreement": disagreement(outputs), "JS": js_divergence(outputs), "barrier, error": barriers}
        alike = [iou(a.topology, b.topology).value for a, b in pairwise(tickets)]
        return {
            "union density": union.density,
            "IoU of neighbours": sum(alike) / len(alike),
            **{name: float(torch.as_tensor(m)[pairs[0], pairs[1]].mean()) for name, m in matrices.items()},
        }


def measured(protocol: Protocol, bases: Sequence[str], seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train everything and return the networks' rows, and how far apart the tickets are."""
    rows, distances = [], []
    protocol.train(bases, seeds)
    for base in bases:
        cheap = {seed: protocol.collect(base, seed, 0.5) for seed in protocol.seeds(max(seeds, protocol.strangers))}
        last = [collection.tickets[-1] for collection in cheap.values()]
        for seed in protocol.seeds(seeds):
            still = cheap[seed] if base == "static" else protocol.collect(base, seed, 0.0)
            sets = {"cheap tickets": cheap[seed].tickets, "no exploration": still.tickets}
            if protocol.strangers:
                own = seed - protocol.first_seed
                sets["other seeds"] = [last[(own + number) % len(last)] for number in range(protocol.strangers)]
            for name, tickets in sets.items():
                about = {"base": base, "seed": seed, "set": name}
                rows += protocol.measure(tickets, cheap[seed], **about)
                distances.append({**about, **protocol.apart(tickets, cheap[seed])})
            for name, rule in (("usual training", base), ("dense training", "dense")) if protocol.usual_too else ():
                one = {"set": name, "network": name, "accuracy": protocol.usual(rule, seed)}
                rows.append({"base": base, "seed": seed, **one})
    return pd.DataFrame(rows), pd.DataFrame(distances)


def claims(rows: pd.DataFrame, base: str) -> list[str]:
    """Assess what the paper says, and what validates the code."""
    own = rows[rows["base"] == base]
    accuracy = {key: part.sort_values("seed")["accuracy"].tolist() for key, part in own.groupby(["set", "network"])}
    best = accuracy["cheap tickets", "superposed"]
    rivals = {
        "the mean ticket": ("cheap tickets", "mean of tickets"),
        "the last ticket": ("cheap tickets", max(name for _, name in accuracy if re.fullmatch(r"ticket \d+", name))),
        "the pretrained ticket": ("cheap tickets", "ticket 0"),
        "the mean that is not pruned": ("cheap tickets", "mean, not pruned"),
        "the ensemble": ("cheap tickets", "ensemble"),
        "plain sparse averaging": ("no exploration", "superposed"),
        "the usual training": ("usual training", "usual training"),
        "dense training": ("dense training", "dense training"),
    }
    trained = {name: accuracy[key] for name, key in rivals.items() if key in accuracy}
    verdicts = [assess_claim(f"{base}: superposed beats {name}", best, other) for name, other in trained.items()]
    if ("other seeds", "superposed") in accuracy:
        alone, mixed = (accuracy["other seeds", name] for name in ("mean of tickets", "superposed"))
        verdicts.append(assess_claim(f"{base}: tickets of other seeds lose by superposing", alone, mixed))
    return list(map(str, verdicts))


def table_of(rows: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return mean and standard error over the seeds, as text."""
    grouped = rows.groupby(list(by), sort=False)[list(columns)]
    return grouped.agg(lambda values: told(values.mean(), values.sem(), digits=4))


def told(mean: float, error: float, *, digits: int) -> str:
    """Return a mean with its standard error, which a single seed lacks, or a dash for what was not measured."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")


SUMMARY = {  # maps what a line of the summary says to the networks it is about
    "ticket 0, the pretrained network": ("cheap tickets", "ticket 0"),
    "mean of the tickets": ("cheap tickets", "mean of tickets"),
    "**superposed** (mean, pruned once)": ("cheap tickets", "superposed"),
    "pruned after each ticket": ("cheap tickets", "pruned each time"),
    "active-only": ("cheap tickets", "active-only"),
    "EMA": ("cheap tickets", "EMA"),
    "LAWA": ("cheap tickets", "LAWA"),
    "mean, not pruned": ("cheap tickets", "mean, not pruned"),
    "ensemble of the tickets": ("cheap tickets", "ensemble"),
    "no exploration, superposed (SWA)": ("no exploration", "superposed"),
    "no exploration, EMA": ("no exploration", "EMA"),
    "no exploration, LAWA": ("no exploration", "LAWA"),
    "the rule's usual training": ("usual training", "usual training"),
    "dense training": ("dense training", "dense training"),
    "tickets of four seeds, superposed": ("other seeds", "superposed"),
    "tickets of four seeds, ensemble": ("other seeds", "ensemble"),
}


def summary(rows: pd.DataFrame, bases: Sequence[str]) -> str:
    """Return a Markdown table of test accuracies in per cent, a column per base rule."""
    grouped = (100 * rows.set_index(["base", "set", "network"])["accuracy"]).groupby(level=[0, 1, 2])
    mean, error = grouped.mean(), grouped.sem()
    lines = ["| network | " + " | ".join(bases) + " |", "|---|" + "---|" * len(bases)]
    there = {text: which for text, which in SUMMARY.items() if (bases[0], *which) in mean.index}
    for text, which in there.items():
        cells = [told(mean[base, *which], error[base, *which], digits=2) for base in bases]
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=["digits-mlp"])
    parser.add_argument("--bases", nargs="+", default=["static", "set", "rigl", "gse"])
    # What is not given is the recipe's own, see sparsekit/experiments/sup_tickets/of_recipe.py.
    parser.add_argument("--densities", nargs="+", type=float, default=[None])
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--init", default="fan-in", help="initial weights: fan-in or dense")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--cycle-rate", type=float, help="share of the epochs that are cycles")
    parser.add_argument("--cycle-epochs", type=int, help="of each cycle")
    parser.add_argument("--storage", default="masked", choices=["masked", "csr"])
    parser.add_argument(
        "--strangers", type=int, default=4, help="seeds whose last tickets are superposed, or 0 for none"
    )
    parser.add_argument("--usual", action=argparse.BooleanOptionalAction, default=True, help="usual trainings too")
    parser.add_argument("--low", type=float, help="learning rate at the ends of a cycle")
    parser.add_argument("--high", type=float, help="learning rate in the middle of a cycle")
    parser.add_argument("--folder", type=Path, default=Path("runs/sup-tickets"))
    parser.add_argument("--root", help="data folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for recipe in options.recipes:
        for density in options.densities:
            protocol = Protocol(recipe, density, options)
            rows, distances = measured(protocol, options.bases, options.seeds)
            rate = "" if options.high is None else f", learning rate {options.low} to {options.high}"
            print(f"\n## {recipe}, density {protocol.density:g}, {options.seeds} seeds{rate}\n", flush=True)
            print(
                table_of(rows, ["base", "set", "network"], ["accuracy", "accuracy, not refreshed", "loss"]).to_string()
            )
            print("\n" + summary(rows, options.bases))
            columns = ["union density", "IoU of neighbours", "disagreement", "JS", "barrier, error"]
            print("\n" + table_of(distances, ["base", "set"], columns).to_string() + "\n")
            for base in options.bases if options.seeds > 1 else ():
                print("\n".join(claims(rows, base)), flush=True)
            rows.to_csv(options.folder / f"{recipe}-{protocol.density:g}.csv", index=False)


if __name__ == "__main__":
    main()
