"""Small experiments check facts about masks, and say whether each is reproduced, contradicted or undecided.

We keep the runs, so an interrupted measurement resumes where it was. Accuracies are test accuracies on digits.

    python benchmarks/facts.py allocation collapse interval --seeds 10
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

import sparsekit as sk
from sparsekit.analysis import assess_claim
from sparsekit.analysis.structure.chain_paths import effective_density
from sparsekit.experiments import Experiment
from sparsekit.experiments.lottery import Lottery, run_control, run_lottery
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.rules import SETITOP, RigLITOP
from sparsekit.schedules import Constant
from sparsekit.scores import SNIP, GraSP, Magnitude, SynFlow, prune

Accuracy = Callable[[Experiment], float]


def rewiring(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """Rewiring beats a fixed random mask, and most where fewest connections are left (fact 1)."""
    gaps = {}
    for density in (0.2, 0.1, 0.05, 0.02, 0.01):
        for rule in ("set", "rigl", "gse"):
            ours = [accuracy(digits_mlp(rule=rule, density=density, seed=seed)) for seed in range(seeds)]
            fixed = [accuracy(digits_mlp(rule="static", density=density, seed=seed)) for seed in range(seeds)]
            gaps[rule, density] = [one - other for one, other in zip(ours, fixed, strict=True)]
            yield str(assess_claim(f"{rule} beats static at density {density}", ours, fixed))
    for rule in ("set", "rigl", "gse"):
        yield str(assess_claim(f"{rule}'s gain is larger at 2 % than at 20 %", gaps[rule, 0.02], gaps[rule, 0.2]))


def allocation(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """The allocation of connections matters more than where they grow, at 2 % (fact 2)."""
    found = {
        (rule, shared): [
            accuracy(digits_mlp(rule=rule, density=0.02, seed=seed, allocation=shared)) for seed in range(seeds)
        ]
        for rule in ("set", "rigl", "gse")
        for shared in ("er", "uniform")
    }
    for rule in ("set", "rigl", "gse"):
        yield str(assess_claim(f"{rule}: ER beats uniform", found[rule, "er"], found[rule, "uniform"]))
    by_allocation = [a - b for a, b in zip(found["rigl", "er"], found["rigl", "uniform"], strict=True)]
    by_rule = [abs(a - b) for a, b in zip(found["rigl", "er"], found["gse", "er"], strict=True)]
    yield str(assess_claim("ER against uniform (RigL) is more than RigL against GSE (ER)", by_allocation, by_rule))


def collapse(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """One-shot scores empty layers, but SynFlow in many rounds does not (facts 10 and 12, without training)."""
    scores = {"magnitude": Magnitude(), "snip": SNIP(), "grasp": GraSP()}
    scores |= {f"synflow, {rounds} rounds": SynFlow(rounds=rounds) for rounds in (1, 2, 5, 20, 100)}
    for name, score in scores.items():
        first = [_first_collapse(replace(score, min_per_layer=0), seed) for seed in range(seeds)]
        yield f"{name}: a layer is empty from compression {min(first):g} to {max(first):g} on ({seeds} seeds)"


def _first_collapse(score: sk.scores.Score, seed: int) -> float:
    """Return the smallest compression, in steps of the square root of ten, that empties a layer of a 6-layer MLP."""
    torch.manual_seed(seed)
    model = sk.models.build("mlp", input_shape=(64,), num_classes=10, hidden=(100,) * 5)
    few = sk.datasets.few_per_class(sk.datasets.load("digits"), 10, seed=seed)
    for compression in (10.0**power for power in (0.5, 1, 1.5, 2, 2.5, 3, 3.5)):
        kept = prune(model, score, 1 / compression, batches=[few], seed=seed)
        if min(layer.count for layer in kept.values()) == 0:
            return compression
    return float("inf")


def conservation(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """SynFlow's scores have one sum in every layer, without biases (fact 11, without training)."""
    for bias in (False, True):
        torch.manual_seed(0)
        model = sk.models.build("mlp", input_shape=(64,), num_classes=10, hidden=(100,) * 5, bias=bias).double()
        for parameter in model.parameters():
            parameter.data.abs_()
        flow = nn.Sequential(*[module for module in model if not isinstance(module, nn.ReLU)])
        flow(torch.ones(1, 64, dtype=torch.float64)).sum().backward()
        sums = [(p.grad * p).sum().item() for p in model.parameters() if p.dim() == 2 and p.grad is not None]
        yield f"bias={bias}: sums of layers differ by {max(sums) / min(sums) - 1:.1e} of the smallest"


def shuffling(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """Which positions a score before training keeps matters little beside how many in each layer (fact 13)."""
    for name in ("snip", "grasp", "synflow"):
        ours, mixed = [], []
        for seed in range(seeds):
            scored = digits_mlp(rule="static", score=name, density=0.05, seed=seed)
            ours.append(accuracy(scored))
            mixed.append(accuracy(replace(scored, shuffle=True)))
        yield str(
            assess_claim(
                f"{name} shuffled within layers is hardly worse (by less than 1 point)", mixed, ours, above=-0.01
            )
        )


def interval(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """Accuracy follows exploration until connections get too little time (fact 31)."""
    for make in (SETITOP, RigLITOP):
        by_interval = {}
        for every in (2, 5, 10, 25, 50, 100, 250):
            rule = make(stop=1139, every=every, drop_fraction=Constant(0.5))
            by_interval[every] = [accuracy(digits_mlp(rule=rule, density=0.05, seed=seed)) for seed in range(seeds)]
            mean = sum(by_interval[every]) / seeds
            yield f"{make.__name__}, every {every}: {100 * mean:.2f} %"
        best = max(by_interval, key=lambda every: sum(by_interval[every]))
        for end in (2, 250):
            if best != end:
                yield str(
                    assess_claim(
                        f"{make.__name__}: every {best} beats every {end}", by_interval[best], by_interval[end]
                    )
                )


def tickets(folder: Path, seeds: int) -> Iterable[str]:
    """The initial weights of a ticket are worth more than new ones, below a tenth of the weights (fact 44)."""
    levels = (6, 8)
    found: dict[tuple[str, int], list[float]] = {}
    for seed in range(seeds):
        lottery = Lottery(experiment=digits_mlp(rule="dense", seed=seed), levels=8, prune=0.4)
        drawn = run_lottery(lottery, folder, progress=False)
        for level in levels:
            found.setdefault(("ticket", level), []).append(drawn.levels[level].last("test accuracy"))
            for control in ("reinit", "shuffle", "signs"):
                one = run_control(lottery, control, folder, level=level, progress=False)
                found.setdefault((control, level), []).append(one.last("test accuracy"))
    for level in levels:
        for control in ("reinit", "shuffle", "signs"):
            text = f"the ticket beats {control} at density {0.6**level:.3f}"
            yield str(assess_claim(text, found["ticket", level], found[control, level]))


def useless(accuracy: Accuracy, seeds: int) -> Iterable[str]:
    """Most of a sparse random mask is useless, and Erdos-Renyi repairs much of it (fact 45, without training)."""
    shapes = {"fc1": (256, 64), "fc2": (256, 256), "head": (10, 256)}
    for shared in ("uniform", "er"):
        for density in (0.1, 0.05, 0.02, 0.01, 0.005):
            drawn = [sk.random_topology(shapes, density, allocation=shared, seed=seed) for seed in range(seeds)]
            mean = sum(effective_density(one) / one.density for one in drawn) / seeds
            yield f"{shared}, density {density}: {mean:.3f} of the connections lie on a path"


FACTS = {
    "rewiring": rewiring,
    "allocation": allocation,
    "collapse": collapse,
    "conservation": conservation,
    "shuffling": shuffling,
    "interval": interval,
    "useless": useless,
}


def _accuracy(folder: Path, experiment: Experiment) -> float:
    return sk.run(experiment, folder, progress=False).last("test accuracy")


def main() -> None:
    """Print what each fact's runs say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("facts", nargs="*", default=[*FACTS, "tickets"])
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0")
    parser.add_argument("--folder", type=Path, default=Path("runs/facts"), help="where the runs are saved")
    options = parser.parse_args()
    if unknown := set(options.facts) - {*FACTS, "tickets"}:
        parser.error(f"facts must be among {', '.join([*FACTS, 'tickets'])}, got {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    for name in options.facts:
        measure = (
            partial(tickets, options.folder)
            if name == "tickets"
            else partial(FACTS[name], partial(_accuracy, options.folder))
        )
        print(f"\n{((tickets if name == 'tickets' else FACTS[name]).__doc__ or '').strip()}")
        for line in measure(options.seeds):
            print(f"- {line}", flush=True)


if __name__ == "__main__":
    main()
