"""Facts on scores before training: which layers lose their connections, and whether positions matter."""

import math
from collections.abc import Iterator, Mapping

from torch import nn

from sparsekit import datasets, models
from sparsekit.analysis import assess_claim, collapse_table, conservation_table, critical_compression, prunings
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.scores import SNIP, GraSP, Magnitude, Score, SynFlow
from sparsekit.utils.seeds import generator, seeded_rng

POWERS = [step / 4 for step in range(1, 15)]  # of ten: compressions from 1.8 to 3,162
DEEP = "untrained MLP 64-100x5-10, ten digits of each class, compressions 10^0.25 to 10^3.5"


def deep_mlp(seed: int, *, bias: bool = True) -> nn.Module:
    """Return the untrained network that the facts of this page prune: six layers, five of them of 100 units."""
    with seeded_rng(generator(seed, "claims", "model")):
        return models.build("mlp", input_shape=(64,), num_classes=10, hidden=(100,) * 5, bias=bias)


def lasting(scores: Mapping[str, Score], trials: Trials) -> dict[str, list[float]]:
    """Return the power of ten of the compression up to which each score leaves every layer a connection, by seed."""
    powers: dict[str, list[float]] = {name: [] for name in scores}
    data = datasets.load("digits", root=trials.root)
    for seed in trials.seeds:
        few = datasets.few_per_class(data, 10, seed=seed)
        densities = [10.0**-power for power in POWERS]
        table = collapse_table(prunings(deep_mlp(seed), scores, densities, batches=[few], seed=seed))
        compressions = critical_compression(table)["compression"].to_dict()
        for name, so_far in powers.items():
            so_far.append(math.log10(max(1.0, compressions[name])))
    return powers


@fact(10, setting=DEEP, minutes=1, trains=False)
def one_shot_scores_empty_layers(trials: Trials) -> Iterator[Claim]:
    """One-shot scores empty a layer at a compression at which SynFlow in 100 rounds does not.

    Source: Tanaka et al. (2020), arXiv:2006.05467, for SynFlow, and the order of failing is our prediction.
    """
    scores = {"SynFlow": SynFlow(min_per_layer=0), "SNIP": SNIP(min_per_layer=0)}
    scores |= {"magnitude": Magnitude(min_per_layer=0), "GraSP": GraSP(min_per_layer=0)}
    powers = lasting(scores, trials)
    for name in ("SNIP", "magnitude", "GraSP"):
        text = f"SynFlow keeps every layer alive at higher compression than {name}"
        yield assess_claim(text, powers["SynFlow"], powers[name], unit="powers of ten")


@fact(11, setting="untrained MLP 64-100x5-10, double precision", minutes=0.1, trains=False)
def flow_is_conserved(trials: Trials) -> Iterator[Claim | Exact]:
    """SynFlow's scores have one sum in every layer, and biases break the law for gradient times weight.

    Source: Tanaka et al. (2020), arXiv:2006.05467, theorems 1 and 2.
    """
    data, spreads = datasets.load("digits", root=trials.root), []
    for seed in trials.seeds:
        few = datasets.few_per_class(data, 10, seed=seed)
        plain, biased = (conservation_table(deep_mlp(seed, bias=bias), [few]) for bias in (False, True))
        spreads.append([_spread(plain["synflow"]), _spread(plain["signed"]), _spread(biased["signed"])])
    for column, name in enumerate(("SynFlow's sums", "the signed sums without biases")):
        worst = max(row[column] for row in spreads)
        yield Exact(text=f"{name} differ by nothing", predicted=0.0, measured=worst, tolerance=1e-8)
    with_biases = [row[2] for row in spreads]
    text = "the signed sums differ with biases"
    yield assess_claim(text, with_biases, [0.0] * len(with_biases), unit="of the mean sum")


def _spread(sums) -> float:
    """Return the largest minus the smallest, as a share of the mean magnitude."""
    return float((sums.max() - sums.min()) / sums.abs().mean())


@fact(12, setting=DEEP, minutes=1, trains=False)
def synflow_needs_rounds(trials: Trials) -> Iterator[Claim]:
    """SynFlow in a single round empties a layer early, and lasts the longer the more rounds it has.

    Source: Tanaka et al. (2020), arXiv:2006.05467, section 6.
    """
    powers = lasting({str(rounds): SynFlow(rounds=rounds, min_per_layer=0) for rounds in (1, 2, 5, 20, 100)}, trials)
    for more, fewer in (("2", "1"), ("5", "2"), ("20", "5"), ("100", "20"), ("100", "1")):
        text = f"SynFlow in {more} rounds lasts longer than in {fewer}"
        yield assess_claim(text, powers[more], powers[fewer], unit="powers of ten")


@fact(13, setting="digits-mlp, density 0.05, static mask, 60 epochs", minutes=3)
def positions_matter_little(trials: Trials) -> Iterator[Claim]:
    """Of a mask before training the layers' densities matter, and the positions within a layer hardly.

    Source: Frankle et al. (2021), arXiv:2009.08576, section 5, from memory.
    """
    for name in ("snip", "grasp", "synflow"):
        ours = trials.accuracies(digits_mlp, rule="static", score=name, density=0.05)
        mixed = trials.accuracies(digits_mlp, rule="static", score=name, density=0.05, shuffle=True)
        yield assess_claim(f"{name} shuffled within layers loses less than a point", mixed, ours, above=-0.01)
