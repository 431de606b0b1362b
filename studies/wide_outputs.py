"""Can a laptop train a million classes? We measure memory, speed and recall of an output layer with fixed fan-in.

The task is made up. Every class has eight words, and a sample shows each of them or a random word in its stead. A few
classes are frequent, and most are rare (Zipf's law). First we measure what a step and a rewiring cost for several
numbers of classes. Then we train: static and rewired, and dense with the whole cross entropy where classes are few.
Chance is the share of the most frequent class.

    python studies/wide_outputs.py cost
    python studies/wide_outputs.py recall --classes 1000000 --steps 20000
    python studies/wide_outputs.py recall --classes 1000 --steps 2000 --dense --seeds 3
"""

import argparse
import math
import resource
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.analysis import log_log_slope
from sparsekit.layers import WideOutput
from sparsekit.rewiring.wide_output import rewire_output
from sparsekit.utils.seeds import generator, seeded_rng

WORDS, SHOWN, BATCH = 65_536, 8, 64  # in all, of a class, and samples of a batch
TESTED = 1024  # samples
NOISE = 0.5  # share of the words that are replaced


def batch_of(classes: int, size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return words and labels. Class c has a probability of `log((c + 2) / (c + 1)) / log(classes + 1)`."""
    exponents = torch.rand(size, generator=draws, dtype=torch.float64) * math.log(classes + 1)
    labels = (exponents.exp() - 1).long().clamp(max=classes - 1)
    numbers = labels.unsqueeze(1) * SHOWN + torch.arange(SHOWN)
    words = (numbers * 2_654_435_761 % 2**32) >> 16  # Knuth's multiplicative hash, to 16 bits
    noise = torch.randint(WORDS, words.shape, generator=draws)
    return torch.where(torch.rand(words.shape, generator=draws) < NOISE, noise, words), labels


def chance_of(classes: int) -> float:
    """Return the share of the most frequent class."""
    return math.log(2) / math.log(classes + 1)


class Network(nn.Module):
    """The sum of the words' features, rectified, below an output layer."""

    def __init__(self, output: nn.Module, features: int, seed: int):
        super().__init__()
        with seeded_rng(generator(seed, "words")):
            self.words = nn.EmbeddingBag(WORDS, features, mode="sum", sparse=True)
        self.output = output

    def forward(self, words: Tensor) -> Tensor:
        """Return the features."""
        return self.words(words).relu()


def network_of(options: argparse.Namespace, classes: int, seed: int, *, dense: bool = False) -> Network:
    """Return a new network."""
    draws = generator(seed, "output")
    if dense:
        with seeded_rng(draws):
            return Network(nn.Linear(options.features, classes), options.features, seed)
    output = WideOutput(options.features, classes, fan_in=options.fan_in, generator=draws)
    return Network(output, options.features, seed)


def loss_of(network: Network, words: Tensor, labels: Tensor, negatives: int, draws: torch.Generator) -> Tensor:
    """Return the loss of a batch, with all classes where the output is dense."""
    hidden, output = network(words), network.output
    if isinstance(output, WideOutput):
        return output.loss(hidden, labels, negatives, draws)
    return functional.cross_entropy(output(hidden), labels)


def step(network: Network, optimizer: torch.optim.Optimizer, classes: int, negatives: int, *seeds: int) -> None:
    """Train on one batch."""
    words, labels = batch_of(classes, BATCH, generator(seeds[0], "batch", *seeds[1:]))
    optimizer.zero_grad()
    loss_of(network, words, labels, negatives, generator(seeds[0], "negatives", *seeds[1:])).backward()
    optimizer.step()


@torch.no_grad()
def recall(network: Network, classes: int) -> float:
    """Return how often the class with the highest score is right, on samples that are the same for all networks."""
    network.eval()
    words, labels = batch_of(classes, TESTED, generator(0, "test"))
    hidden, output = network(words), network.output
    best = output.best(hidden)[:, 0] if isinstance(output, WideOutput) else output(hidden).argmax(1)
    network.train()
    return float((best == labels).double().mean())


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    begin = perf_counter()
    work()
    return perf_counter() - begin


def cost_of(options: argparse.Namespace, classes: int) -> dict[str, float]:
    """Return what a network with so many classes costs. A rewiring concerns all classes, which is the worst case."""
    network = network_of(options, classes, 0)
    output, optimizer = network.output, torch.optim.Adagrad(network.parameters(), lr=options.lr)
    assert isinstance(output, WideOutput)
    steps = [seconds(partial(step, network, optimizer, classes, options.negatives, 0, n)) for n in range(options.steps)]
    usual = seconds(lambda: rewire_output(output, options.drop, generator(0, "rewire"), optimizer))
    output.candidate_grads.normal_(generator=generator(0, "gains"))
    gibibyte = 2**20 if sys.platform == "linux" else 2**30  # getrusage counts kilobytes here, and bytes on a Mac
    words, _ = batch_of(classes, BATCH, generator(0, "best"))
    whole = seconds(lambda: rewire_output(output, options.drop, generator(0, "rewire"), optimizer))
    return {
        "classes": classes,
        "steps/s": 1 / float(pd.Series(steps).median()),
        "rewiring, touched (s)": usual,
        "rewiring, all (s)": whole,
        "best of one batch (s)": seconds(lambda: output.best(network(words))),
        "peak memory (GiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / gibibyte,
    }


def print_costs(options: argparse.Namespace) -> None:
    """Print the table of costs, from few classes to many, so that each peak is that of its row."""
    rows = pd.DataFrame([cost_of(options, classes) for classes in sorted(options.classes)])
    print(rows.to_string(index=False, float_format="{:.2f}".format))
    if len(rows) > 1:
        slope = log_log_slope(list(rows["classes"]), list(rows["rewiring, all (s)"]))
        print(f"The cost of a rewiring grows as the number of classes to the power of {slope:.2f}.")


def trained(options: argparse.Namespace, classes: int, seed: int, method: str) -> float:
    """Train one network, and return its recall."""
    network = network_of(options, classes, seed, dense=method == "dense")
    optimizer = torch.optim.Adagrad(network.parameters(), lr=options.lr)
    last = options.steps * 3 // 4  # as RigL, which stops after three quarters
    for number in range(1, options.steps + 1):
        step(network, optimizer, classes, options.negatives, seed, number)
        if method == "rewired" and number % options.every == 0 and number <= last:
            assert isinstance(network.output, WideOutput)
            fraction = options.drop * (1 - number / last)
            rewire_output(network.output, fraction, generator(seed, "rewire", number), optimizer)
    return recall(network, classes)


def print_recalls(options: argparse.Namespace) -> None:
    """Print how often the best class is right, for each method and seed."""
    methods = ["static", "rewired", *(["dense"] if options.dense else [])]
    for classes in options.classes:
        print(f"{classes:,} classes, chance {chance_of(classes):.1%}")
        for method in methods:
            recalls = [trained(options, classes, seed, method) for seed in range(options.seeds)]
            print(f"{method}: recall {' '.join(f'{value:.1%}' for value in recalls)}", flush=True)


def main() -> None:
    """Print costs or recalls."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=["cost", "recall"])
    parser.add_argument("--classes", nargs="+", type=int, default=[62_500, 250_000, 1_000_000])
    parser.add_argument("--features", type=int, default=256, help="below the output layer")
    parser.add_argument("--fan-in", type=int, default=32, help="connections of a class")
    parser.add_argument("--negatives", type=int, default=1000, help="classes drawn at each step")
    parser.add_argument("--steps", type=int, default=50, help="of each training")
    parser.add_argument("--every", type=int, default=200, help="steps between rewirings")
    parser.add_argument("--drop", type=float, default=0.3, help="share of the connections exchanged at a rewiring")
    parser.add_argument("--lr", type=float, default=0.1, help="of Adagrad")
    parser.add_argument("--dense", action="store_true", help="train a dense output layer as well")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.sparse.check_sparse_tensor_invariants.disable()  # as it is, said aloud, or torch warns
    print_costs(options) if options.part == "cost" else print_recalls(options)


if __name__ == "__main__":
    main()
