"""Which averages of networks within one budget beat the ticket of a lottery, and which beat superposed cheap tickets?

A lottery prunes an MLP on MNIST-1D in three levels. Beside its ticket stand sparse model soups, SWAMP, a lottery pool
over the levels, TIES and DARE merges of the last copies, and averages along the last training (SWA, EMA, LAWA). Greedy
ones choose on 2,000 examples that are neither trained on nor tested on. The table has test accuracies on 10,000
examples. We keep every run, so an interrupted measurement resumes where it was.

    python studies/soups.py --seeds 5
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from sparsekit import datasets
from sparsekit.analysis import assess_claim, ensemble, outputs_of
from sparsekit.evaluation import evaluate
from sparsekit.experiments import Experiment, build_model, load_model
from sparsekit.experiments.feed import steps_of_epoch
from sparsekit.experiments.lottery import Lottery, LotteryHistory, Soup, run_lottery, run_soups
from sparsekit.experiments.moments import take_moments
from sparsekit.experiments.recipes import mnist1d_mlp
from sparsekit.experiments.record import read_experiment
from sparsekit.experiments.sup_tickets import run_sup_tickets, sup_tickets_of
from sparsekit.tickets import Ticket, accuracy_on, dare, ema_weights, greedy_soup, lottery_pool, superpose, ties

TICKET, REWOUND, SUPERPOSED = "lottery ticket", "rewound ticket", "superposed cheap tickets"
HELD_OUT = {"seed": 43, "num_test": 2000}  # drawn like the data, and none of them
LATEST = 5  # epochs, which is a third of a training
STEPS = 63  # of an epoch


@dataclass(frozen=True)
class Study:
    """What is trained for each seed, and where it is kept."""

    epochs: int
    levels: int
    density: float
    copies: int
    tests: int
    folder: Path

    def lottery(self, seed: int, rewind: str) -> Lottery:
        """Return a lottery that ends at the density."""
        dense = mnist1d_mlp(rule="dense", seed=seed, epochs=self.epochs, data_settings={"num_test": self.tests})
        prune = 1 - self.density ** (1 / self.levels)
        # A rewound copy must have learned enough to stay in one basin with the others.
        step = 0 if rewind == "rate" else STEPS * self.epochs // 10
        return Lottery(experiment=dense, levels=self.levels, prune=prune, rewind=rewind, rewind_step=step)

    def networks(self, seed: int) -> dict[str, Ticket]:
        """Train everything of a seed, and return its networks by name."""
        lottery = self.lottery(seed, "rate")
        history = run_lottery(lottery, self.folder, progress=False)
        soups = run_soups(lottery, self.folder, copies=self.copies, progress=False)
        measure = accuracy_on(soups[-1].ticket.model_like(model_of(history)), self.held_out())
        tickets = history.tickets()
        return {
            TICKET: tickets[-1],
            "lottery pool": lottery_pool(tickets, measure).ticket,
            **merges(soups[-1], measure, seed),
            **self.along(history),
            **self.rewound(seed),
            **self.cheap(seed),
        }

    def held_out(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the examples to choose by."""
        split = datasets.load("mnist1d", **HELD_OUT).test
        return [(split.inputs, split.labels)]

    def along(self, history: LotteryHistory) -> dict[str, Ticket]:
        """Train the last level once more, and average the ends of its epochs."""
        folder = history.levels[-1].folder
        assert folder is not None
        last = read_experiment(folder)
        again = replace(last, recipe=f"{last.recipe}-moments")
        each = steps_of_epoch(again, datasets.load(again.data, **again.data_settings))
        steps = [each * epoch for epoch in range(1, again.epochs + 1)]
        book = list(take_moments(again, self.folder, steps, root=None, progress=False))
        return {
            "SWA, second half": superpose(book[len(book) // 2 :]),
            f"LAWA, last {LATEST} epochs": superpose(book[-LATEST:]),
            "EMA": superpose(book, weights=ema_weights(len(book))),
        }

    def rewound(self, seed: int) -> dict[str, Ticket]:
        """Return the ticket of a lottery that rewinds, and SWAMP's."""
        lottery = self.lottery(seed, "weights")
        history = run_lottery(lottery, self.folder, progress=False)
        swamp = run_soups(lottery, self.folder, copies=self.copies, last=LATEST, progress=False)
        return {REWOUND: history.tickets()[-1], "SWAMP": swamp[-1].ticket}

    def cheap(self, seed: int) -> dict[str, Ticket]:
        """Return the superposition of cheap tickets with RigL, and the same cycles without exploration."""
        sup = sup_tickets_of("mnist1d-mlp", seed=seed, density=self.density, data_settings={"num_test": self.tests})
        if self.epochs < sup.experiment.epochs // 10:  # a trial of this script
            sup = sup_tickets_of("mnist1d-mlp", seed=seed, epochs=4, cycle_rate=0.5, cycle_epochs=1)
        arms = {SUPERPOSED: sup, "cheap tickets without exploration, SWA": replace(sup, explore=0.0)}
        return {name: run_sup_tickets(arm, self.folder, progress=False).superposed() for name, arm in arms.items()}


def merges(soup: Soup, measure: Callable[[Ticket], float], seed: int) -> dict[str, Ticket]:
    """Return all that can be made of the copies of the last level."""
    copies, start = soup.copies, soup.start
    thin = {drop: [dare(one, start, drop=drop, generator=draws) for one in copies] for drop, draws in chances(seed)}
    return {
        **{f"copy {number}": copy for number, copy in enumerate(copies)},
        "soup": soup.ticket,
        "greedy soup": greedy_soup(copies, measure).ticket,
        "TIES, 20 % of the changes": ties(copies, start, keep=0.2),
        "TIES, all changes": ties(copies, start, keep=1.0),
        **{f"DARE, {drop:.0%} dropped": superpose(some) for drop, some in thin.items()},
        "DARE, 50% dropped, then TIES": ties(thin[0.5], start, keep=1.0),
    }


def chances(seed: int) -> list[tuple[float, torch.Generator]]:
    """Return chances to drop a change, each with its generator."""
    return [(drop, torch.Generator().manual_seed(seed)) for drop in (0.5, 0.9)]


def model_of(history: LotteryHistory) -> nn.Module:
    """Return the network of the last level."""
    folder = history.levels[-1].folder
    assert folder is not None
    return load_model(folder)


def measured(networks: dict[str, Ticket], model: nn.Module, data: datasets.Dataset) -> dict[str, float]:
    """Return the test accuracy of each network, the mean of the copies, and the accuracy of their ensemble."""
    test = [(data.prepare(data.test.inputs), data.test.labels)]
    row = {name: evaluate(one.model_like(model), test).accuracy for name, one in networks.items()}
    copies = [name for name in row if name.startswith("copy ")]
    outputs, labels = outputs_of([networks[name].model_like(model) for name in copies], test)
    together = float((ensemble(outputs).argmax(1) == labels).double().mean())
    mean = sum(row.pop(name) for name in copies) / len(copies)
    return {**row, "mean copy": mean, "ensemble of the copies": together}


def table_of(rows: Sequence[dict[str, float]]) -> str:
    """Return a Markdown table: accuracy in per cent, and the difference to both rivals in points, with t."""
    frame = pd.DataFrame(rows)
    lines = [
        "| network | accuracy, % | beats the lottery ticket | beats superposed cheap tickets |",
        "|---|---|---|---|",
    ]
    for name in frame:
        mean, error = 100 * frame[name].mean(), 100 * frame[name].sem()
        cells = [told(frame, str(name), rival) for rival in (TICKET, SUPERPOSED)]
        lines.append(f"| {name} | {mean:.2f} ± {error:.2f} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def told(frame: pd.DataFrame, name: str, rival: str) -> str:
    """Say whether a network beats another, over the seeds."""
    if name == rival:
        return "-"
    claim = assess_claim(f"{name} beats {rival}", frame[name].tolist(), frame[rival].tolist())
    return f"{claim.verdict}, {100 * claim.mean:+.2f} ± {100 * claim.error:.2f} (t = {claim.t:.1f})"


def main() -> None:
    """Train, measure, and print the table with its verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=1300)
    parser.add_argument("--epochs", type=int, default=15, help="of each training of a lottery")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--density", type=float, default=0.05, help="of the last level")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--tests", type=int, default=10_000, help="test examples")
    parser.add_argument("--folder", type=Path, default=Path("runs/soups"), help="where the runs are saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ("epochs", "levels", "density", "copies", "tests", "folder")
    study = Study(**{name: getattr(options, name) for name in names})
    data = datasets.load("mnist1d", num_test=options.tests)
    rows = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        networks = study.networks(seed)
        model = networks[TICKET].model_like(plain(study.lottery(seed, "rate").experiment, data))
        rows.append(measured(networks, model, data))
    print(table_of(rows))
    if len(rows) > 1:
        threshold = assess_claim("", [0.0] * len(rows), [0.0] * len(rows)).threshold
        print(f"\nn = {len(rows)} seeds, Student's threshold {threshold:.1f}")


def plain(experiment: Experiment, data: datasets.Dataset) -> nn.Module:
    """Return the dense network that an experiment begins with."""
    return build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)


if __name__ == "__main__":
    main()
