"""Facts on the tricks of ToST: ghosts, their removal and their cost, and softer labels."""

import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from sparsekit import models
from sparsekit.analysis import assess_claim, ghost_cost
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.recipes import mnist1d_mlp
from sparsekit.layers import shapes_of, sparsify
from sparsekit.schedules import Constant
from sparsekit.topology import random_topology
from sparsekit.train import History
from sparsekit.tricks import GhostNeurons, GhostSkips, LabelSmoothing, RescaledInit, Trick, begin
from sparsekit.tricks.ghost_neurons import Soft
from sparsekit.utils.seeds import generator

MORE_EXAMPLES = {"num_test": 10_000}  # of MNIST-1D, which costs nothing and makes accuracies three times as exact
TRICKS: dict[str, Trick] = {
    "ghost neurons": GhostNeurons(),
    "ghost skips": GhostSkips(),
    "rescaled initialisation": RescaledInit(),
    "label smoothing": LabelSmoothing(),
}


@fact(23, setting="ResNet-18 for images of 32 x 32, density 0.02, counted", minutes=0.5, trains=False)
def ghost_skips_cost_more_than_the_network(trials: Trials) -> Iterator[Exact]:
    """Ghost skips that stay dense have 5.5 times the weights of the sparse network at 98 %.

    Source: counted in the released code of ToST (1,220,608 against 223,185).
    """
    model = models.build("resnet18", input_shape=(3, 32, 32), num_classes=10)
    sparse = sparsify(model, random_topology(shapes_of(model), 0.02, seed=0))
    cost = ghost_cost(begin(sparse, [GhostSkips(way="branch", stop=10)]), torch.zeros(1, 3, 32, 32))
    yield Exact(text="weights of ghost skips", predicted=1_220_608, measured=cost.weights, tolerance=0.0)
    text = "ghost weights for each connection of the network"
    yield Exact(text=text, predicted=5.5, measured=cost.share, tolerance=0.05)


@fact(24, setting="mnist1d-mlp, static random mask at density 0.02 and 0.1, 40 epochs", minutes=6)
def tricks_help_most_at_high_sparsity(trials: Trials) -> Iterator[Claim]:
    """Each trick of ToST helps a sparse network, and most at high sparsity.

    Source: abstract of ToST, Jaiswal et al. (2022), ICML. Its tables could not be consulted.
    """
    for name, trick in TRICKS.items():
        gains = {}
        for density in (0.02, 0.1):
            helped, plain = (_with_tricks(trials, density, tricks) for tricks in ((trick,), ()))
            gains[density] = [one - other for one, other in zip(helped, plain, strict=True)]
            yield assess_claim(f"{name}: helps at density {density}", helped, plain)
        yield assess_claim(f"{name}: helps more at density 0.02 than at 0.1", gains[0.02], gains[0.1])


def _with_tricks(trials: Trials, density: float, tricks: tuple[Trick, ...]) -> list[float]:
    return trials.accuracies(mnist1d_mlp, rule="static", density=density, tricks=tricks, data_settings=MORE_EXAMPLES)


@fact(25, setting="mnist1d-mlp, static mask, density 0.05, ghost skips until half of 40 epochs", minutes=2)
def abrupt_removal_costs(trials: Trials) -> Iterator[Claim]:
    """Ghost skips that are weakened before they are removed do no harm, and an abrupt removal does.

    Source: our prediction, as the released code of ToST removes nothing.
    """
    jumps, ends = {}, {}
    for name, trick in (("annealed", GhostSkips()), ("abrupt", GhostSkips(strength=Constant(1.0)))):
        histories = trials.histories(
            mnist1d_mlp, rule="static", density=0.05, tricks=(trick,), data_settings=MORE_EXAMPLES
        )
        jumps[name] = [_largest_jump(history) for history in histories]
        ends[name] = [history.last("test accuracy") for history in histories]
    text = "the test loss jumps higher where skips are removed at full strength"
    yield assess_claim(text, jumps["abrupt"], jumps["annealed"], unit="of loss")
    yield assess_claim("annealed skips end better than those removed at once", ends["annealed"], ends["abrupt"])


def _largest_jump(history: History) -> float:
    losses = history.values("test loss")
    return max((after - before for before, after in itertools.pairwise(losses)), default=0.0)


@fact(26, setting="a grid of 400,001 points from -20 to 20", minutes=0.1, trains=False)
def smooth_units_differ_by_a_constant(trials: Trials) -> Iterator[Exact]:
    """PSwish of sharpness beta lies at most 0.278465 / beta from the ReLU.

    Source: found numerically.
    """
    grid = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    for beta in (1.0, 2.0, 20.0):
        measured = float((Soft("pswish", beta)(grid) - grid.relu()).abs().max())
        text = f"largest distance from the ReLU, beta {beta:g}"
        yield Exact(text=text, predicted=0.278465 / beta, measured=measured, tolerance=1e-6)


@fact(30, setting="random outputs of 64 examples and 10 classes, then mnist1d-mlp, RigL, density 0.1", minutes=2)
def conventions_of_label_smoothing(trials: Trials) -> Iterator[Claim | Exact]:
    """Taking 0.1 from the true class of ten is torch's label smoothing of 0.1111, and accuracy hardly changes.

    Source: our derivation. That RigL gains nothing from it is read in the repository of ToST (73.07 against 73.4).
    """
    draws = generator(trials.seeds[0], "claims", "labels")
    outputs, labels = torch.randn(64, 10, generator=draws).double(), torch.randint(10, (64,), generator=draws)
    cross_entropy = nn.functional.cross_entropy
    ours = LabelSmoothing(stop=10).loss(cross_entropy, nn.Identity(), 0)(outputs, labels)
    torchs = partial(cross_entropy, label_smoothing=1 / 9)(outputs, labels)
    yield Exact(text="loss of the two conventions", predicted=float(torchs), measured=float(ours), tolerance=1e-12)
    smooth, plain = (
        trials.accuracies(mnist1d_mlp, rule="rigl", density=0.1, tricks=tricks, data_settings=MORE_EXAMPLES)
        for tricks in ((LabelSmoothing(),), ())
    )
    yield assess_claim("label smoothing helps RigL at density 0.1", smooth, plain)
