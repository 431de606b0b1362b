"""In which cycles do new connections grow, and does the superposition pay for it? We try several, on seeds of our own.

All arms share the ordinary part of a training, so an arm costs its cycles only. An arm is named by the epochs of a
cycle, its highest learning rate, and the share of the connections that it exchanges. The table has the median magnitude
of new connections over that of the kept ones, and the superposition's accuracy minus that of its rivals in points.
We keep every collection, so an interrupted search resumes where it was.

    python studies/search_cycles.py mnist1d-mlp --seeds 2 --first-seed 800
    python studies/search_cycles.py mnist1d-mlp --arms 12:0.2:0.2 --seeds 10 --first-seed 900
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd

from sparsekit import datasets
from sparsekit.experiments import load_model
from sparsekit.experiments.sup_tickets import (
    SupTickets,
    SupTicketsHistory,
    assess_superposition,
    grown_magnitudes,
    run_all_sup_tickets,
    sup_tickets_of,
    superpositions,
)
from sparsekit.experiments.sup_tickets.controls import STILL

ARMS = ("6:0.1:0.5", "6:0.1:0.2", "6:0.2:0.2", "6:0.3:0.2", "12:0.1:0.2", "12:0.2:0.2", "12:0.3:0.2", "20:0.2:0.2")
CYCLES, ORDINARY = 5, 100


@dataclass(frozen=True)
class Arm:
    """This is one setting that is tried."""

    cycle_epochs: int
    high: float
    explore: float

    @classmethod
    def read(cls, text: str) -> "Arm":
        """Return the arm that a text such as 12:0.2:0.2 names."""
        epochs, high, explore = text.split(":")
        return cls(int(epochs), float(high), float(explore))

    def collection(self, recipe: str, seed: int, *, explore: float | None = None) -> SupTickets:
        """Return what is collected for a seed, with the arm's own exploration or another."""
        in_cycles = CYCLES * self.cycle_epochs
        return sup_tickets_of(
            recipe,
            seed=seed,
            epochs=ORDINARY + in_cycles,
            cycle_rate=in_cycles / (ORDINARY + in_cycles),
            cycle_epochs=self.cycle_epochs,
            explore=self.explore if explore is None else explore,
            high=self.high,
        )


def measured(arm: Arm, recipe: str, seeds: Sequence[int], folder: Path) -> dict[str, str]:
    """Return an arm's row of the table."""
    explored = collect([arm.collection(recipe, seed) for seed in seeds], folder)
    still = collect([arm.collection(recipe, seed, explore=0.0) for seed in seeds], folder)
    tables = [table_of(*pair) for pair in zip(explored, still, strict=True)]
    grown = fmean(grown_magnitudes(one.tickets).ratio for one in explored)
    row = {"cycle": f"{arm.cycle_epochs} epochs up to {arm.high:g}", "exchanged": f"{arm.explore:.0%}"}
    row |= {"new / kept": f"{grown:.2f}", "superposed": f"{100 * mean_of(tables, 'superposed'):.1f}"}
    verdicts = assess_superposition(tables) if len(tables) > 1 else []
    for verdict in verdicts:
        rival = verdict.text.removeprefix("the superposition beats ")
        row[f"minus {rival}"] = f"{100 * verdict.mean:+.1f} ± {100 * verdict.error:.1f} (t {verdict.t:.1f})"
    return row


def collect(sups: Sequence[SupTickets], folder: Path) -> list[SupTicketsHistory]:
    """Collect the tickets of all seeds at once."""
    return run_all_sup_tickets(sups, folder, progress=False)


def table_of(explored: SupTicketsHistory, still: SupTicketsHistory) -> pd.DataFrame:
    """Return the accuracies of a seed's tickets and superpositions, with those of plain averaging."""
    assert explored.history.folder is not None
    experiment = explored.sup.experiment
    data = datasets.load(experiment.data, **experiment.data_settings)
    model = load_model(explored.history.folder)
    return superpositions(explored.tickets, model, data, controls={STILL: still.tickets})


def mean_of(tables: Sequence[pd.DataFrame], network: str) -> float:
    """Return a network's mean accuracy over the seeds, 0 to 1."""
    return fmean(float(table.at[network, "accuracy"]) for table in tables)


def main() -> None:
    """Try every arm and print a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="mnist1d-mlp")
    parser.add_argument("--arms", nargs="+", default=ARMS, help="EPOCHS:HIGH:EXPLORE, epochs being those of a cycle")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--first-seed", type=int, default=800)
    parser.add_argument("--folder", type=Path, default=Path("runs/search_cycles"))
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for number, arm in enumerate(map(Arm.read, options.arms)):
        row = measured(arm, options.recipe, seeds, options.folder)
        if not number:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(row.values())} |", flush=True)


if __name__ == "__main__":
    main()
