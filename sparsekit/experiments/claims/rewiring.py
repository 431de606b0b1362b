"""Facts on rewiring: what it is worth, when, and what a careless implementation does."""

import statistics
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from sparsekit.analysis import assess_claim
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import Fact, Trials, fact
from sparsekit.experiments.recipes import digits_mlp, mnist1d_mlp
from sparsekit.rules import GMP, GraNet
from sparsekit.train import History
from sparsekit.utils.seeds import generator

HARDLY = -0.003  # a loss of 0.3 points
MORE_EXAMPLES = {"num_test": 10_000}  # of MNIST-1D, which costs nothing and makes accuracies three times as exact
BUDGET = 4000  # connections, whatever the width


@fact(1, setting="digits-mlp at density 0.2, 0.05, 0.02 and 0.01, 60 epochs", minutes=12)
def rewiring_beats_a_fixed_mask(trials: Trials) -> Iterator[Claim]:
    """Rewiring beats a fixed random mask, and most where fewest connections are left.

    Source: figure 6 of the supplement of GSE, arXiv:2401.06898, measured from the drawing (36.6 to 49.7 and 52.8).
    """
    gains = {}
    for density in (0.2, 0.05, 0.02, 0.01):
        fixed = trials.accuracies(digits_mlp, rule="static", density=density)
        for rule in ("set", "rigl", "gse"):
            ours = trials.accuracies(digits_mlp, rule=rule, density=density)
            gains[rule, density] = [one - other for one, other in zip(ours, fixed, strict=True)]
            yield assess_claim(f"{rule} beats a fixed mask at density {density}", ours, fixed)
    for rule in ("set", "rigl", "gse"):
        text = f"{rule} gains more at density 0.02 than at 0.2"
        yield assess_claim(text, gains[rule, 0.02], gains[rule, 0.2])


@fact(8, setting=f"mnist1d-mlp, {BUDGET} connections at hidden widths 64, 128, 256 and 512, RigL and static", minutes=8)
def wider_and_sparser_is_better(trials: Trials) -> Iterator[Claim]:
    """With as many connections a wider and sparser network is better, until it is wide enough.

    Source: table of widths in the supplement of GSE, arXiv:2401.06898 (ResNet-56: 70.1 to 74.2).
    """
    for rule in ("rigl", "static"):
        by_width = {width: _of_width(trials, rule, width) for width in (64, 128, 256, 512)}
        for wide, narrow in ((128, 64), (256, 128), (512, 256)):
            yield assess_claim(f"{rule}: width {wide} beats {narrow}", by_width[wide], by_width[narrow])


def _of_width(trials: Trials, rule: str, width: int) -> list[float]:
    size = width * (40 + width + 10)
    return trials.accuracies(
        mnist1d_mlp,
        rule=rule,
        density=BUDGET / size,
        model_settings={"hidden": (width, width)},
        data_settings=MORE_EXAMPLES,
    )


@fact(9, setting="digits-mlp at density 0.02 and dense, 30, 60 and 120 epochs", minutes=6)
def longer_training_helps_sparse_networks(trials: Trials) -> Iterator[Claim]:
    """Sparse networks still gain from longer training when dense ones gain nothing.

    Source: table 3 of the supplement of GSE, arXiv:2401.06898, and Evci et al. (2020), arXiv:1911.11134.
    """
    runs = {}
    for epochs in (30, 60, 120):
        runs["rigl", epochs] = trials.accuracies(digits_mlp, rule="rigl", density=0.02, epochs=epochs)
        runs["dense", epochs] = trials.accuracies(digits_mlp, rule="dense", epochs=epochs)
    for long, short in ((60, 30), (120, 60)):
        sparse, dense = ([a - b for a, b in zip(runs[rule, long], runs[rule, short], strict=True)] for rule in RULES)
        yield assess_claim(f"RigL gains from {long} epochs instead of {short}", sparse, [0.0] * len(sparse))
        yield assess_claim(f"RigL gains more than dense from {long} epochs instead of {short}", sparse, dense)


RULES = ("rigl", "dense")


@fact(21, setting="formula, 5 steps from density 0.5 to 0.05", minutes=0.1, trains=False)
def granet_stops_a_step_early(trials: Trials) -> Iterator[Exact]:
    """GraNet's released code leaves out the last step of its schedule, so 0.0536 is left of 0.05.

    Source: read in the released code of Sup-tickets and GraNet, and derived from the cubic schedule.
    """
    rule = GraNet(stop=5, every=1, initial=0.5, final=0.05)
    reached = {step: rule.density_at(step) or 0.0 for step in (4, 5)}
    text = "density at the last step but one, where the released code ends"
    yield Exact(text=text, predicted=0.0536, measured=reached[4], tolerance=1e-9)
    text = "density where this package ends"
    yield Exact(text=text, predicted=0.05, measured=reached[5], tolerance=1e-9)


@fact(34, setting="mnist1d-mlp with 250 to 2000 training examples, density 0.1, the same learning rate", minutes=6)
def sparse_wins_on_few_samples(trials: Trials) -> Iterator[Claim]:
    """On few training examples SET is at least as good as dense training, and better than a fixed mask.

    Source: the repository of SET, arXiv:1707.04780, on Fashion-MNIST, where learning rates differed.
    """
    for examples in (250, 500, 1000, 2000):
        few = replace(mnist1d_mlp, num_train=examples, epochs=40 * 1000 // examples)
        settings = {"data_settings": {**MORE_EXAMPLES, "num_train": examples}}
        ours = trials.accuracies(few, rule="set", density=0.1, **settings)
        dense = trials.accuracies(few, rule="dense", **settings)
        fixed = trials.accuracies(few, rule="static", density=0.1, **settings)
        yield assess_claim(f"SET beats dense with {examples} examples", ours, dense)
        yield assess_claim(f"SET beats a fixed mask with {examples} examples", ours, fixed)


@fact(37, setting="Adam's formula. Then digits-mlp, density 0.05, RigL with Adam, 60 epochs", minutes=2)
def state_at_growth_matters_for_adam(trials: Trials) -> Iterator[Claim | Exact]:
    """Under Adam a grown connection's first step is 3.16 learning rates long, unless it has a step count of its own.

    Source: derived from Adam's update at a late step, with both moments at 0.
    """
    yield Exact(text="first step in learning rates", predicted=3.162, measured=_first_step(), tolerance=0.01)
    shared, own = (
        trials.accuracies(digits_mlp, rule="rigl", density=0.05, optimizer="adam", step_count=count)
        for count in ("shared", "own")
    )
    yield assess_claim("a step count of its own beats the shared one", own, shared)


def _first_step() -> float:
    """Return how far a weight moves whose moments are 0 at a late step of Adam, in learning rates."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    optimizer.state[weight] = {"step": torch.tensor(1e6), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
    weight.grad = torch.full((1,), 0.5)
    optimizer.step()
    return abs(float(weight.detach()))


@fact(41, setting="digits-mlp at density 0.05 and 0.02, 60 epochs", minutes=4)
def constant_fan_in_is_free(trials: Trials) -> Iterator[Claim]:
    """A constant fan-in costs no accuracy, and giving up neurons does no harm at high sparsity.

    Source: Lasby et al. (2023), arXiv:2305.02299 (SRigL), from its code and abstract.
    """
    for density in (0.05, 0.02):
        theirs = trials.accuracies(digits_mlp, rule="rigl", density=density)
        by_saliency = {saliency: _srigl(trials, density, saliency) for saliency in (0.0, 0.3, 0.6)}
        text = f"SRigL loses less than 0.3 points against RigL, density {density}"
        yield assess_claim(text, by_saliency[0.3], theirs, above=HARDLY)
        for saliency in (0.3, 0.6):
            text = f"giving up neurons below {saliency} loses less than 0.3 points, density {density}"
            yield assess_claim(text, by_saliency[saliency], by_saliency[0.0], above=HARDLY)


def _srigl(trials: Trials, density: float, saliency: float) -> list[float]:
    return trials.accuracies(digits_mlp, rule="srigl", density=density, rule_settings={"saliency": saliency})


@fact(42, setting="mnist1d-mlp, density 0.02, 40 epochs", minutes=3)
def gradual_pruning_wins_and_dips(trials: Trials) -> Iterator[Claim | Exact]:
    """Gradual pruning beats rewiring at 98 %, but its accuracy dips as the final sparsity arrives.

    Source: figure 6 of the supplement of GSE, arXiv:2401.06898, and its text for the dip.
    """
    histories = trials.histories(mnist1d_mlp, rule="gmp", density=0.02, data_settings=MORE_EXAMPLES)
    pruned = [history.last("test accuracy") for history in histories]
    for rule in ("rigl", "gse"):
        theirs = trials.accuracies(mnist1d_mlp, rule=rule, density=0.02, data_settings=MORE_EXAMPLES)
        yield assess_claim(f"gradual pruning beats {rule}", pruned, theirs)
    before, at_end = zip(*map(_around_the_end, histories), strict=True)
    yield assess_claim("accuracy dips as the final density arrives", before, at_end)
    rule = GMP(stop=10_000, every=1, final=0.02)
    mean = statistics.fmean(rule.density_at(step) or 0.0 for step in range(10_000))
    text = "operations of a training that prunes to its end, in dense ones"
    yield Exact(text=text, predicted=1 - 0.75 * 0.98, measured=mean, tolerance=1e-3)


def _around_the_end(history: History) -> tuple[float, float]:
    """Return the best accuracy while the density fell, and the accuracy of the first epoch at the final density."""
    densities, accuracies = history.values("density"), history.values("test accuracy")
    arrived = densities.index(min(densities))
    return max(accuracies[: arrived or 1]), accuracies[arrived]


@fact(48, setting="a layer of 64 x 64, SGD with momentum 0.9 and Adam, one step", minutes=0.1, trains=False)
def unmasked_state_revives_weights(trials: Trials) -> Iterator[Exact]:
    """Where the gradient is masked but the optimizer state is not, pruned weights leave 0 at the next step.

    Source: our derivation, and an invariant that this package tests.
    """
    for name, masked, predicted in (("sgd", False, 1.0), ("sgd", True, 0.0), ("adam", False, 1.0), ("adam", True, 0.0)):
        measured = statistics.fmean(_revived(name, seed, masked=masked) for seed in trials.seeds)
        text = f"share of pruned weights that {name} revives, {'with' if masked else 'without'} masked state"
        yield Exact(text=text, predicted=predicted, measured=measured, tolerance=0.01)


def _revived(optimizer_name: str, seed: int, *, masked: bool) -> float:
    """Return which share of the pruned weights is not 0 after one more step with masked gradients."""
    draws = generator(seed, "claims", "revived")
    weight = nn.Parameter(torch.randn(64, 64, generator=draws))
    make = {"sgd": lambda: torch.optim.SGD([weight], lr=0.1, momentum=0.9), "adam": lambda: torch.optim.Adam([weight])}
    optimizer, mask = make[optimizer_name](), torch.rand(64, 64, generator=draws) < 0.1
    for is_pruned in (False, True):
        weight.grad = torch.randn(64, 64, generator=draws)
        if is_pruned:
            weight.data *= mask
            weight.grad *= mask
            for entry in optimizer.state[weight].values() if masked else ():
                if isinstance(entry, torch.Tensor) and entry.shape == mask.shape:
                    entry *= mask
        optimizer.step()
    return float((weight.detach()[~mask] != 0).double().mean())


RELEASED = Fact(
    number=20,
    text='"SET" in the repository of Sup-tickets is RigL, because the option for random growth is ignored.',
    source="read in the released code of Sup-tickets, arXiv:2205.15322.",
    setting="the released code, growth random against gradient, masks after one rewiring",
    minutes=1,
    trains=False,
    lacks="the released code itself, which this package does not contain",
    decides="python main.py --growth random, and --growth gradient, in the repository of Sup-tickets",
)
