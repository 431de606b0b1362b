"""Facts on initial weights of sparse networks."""

from collections.abc import Iterator

from sparsekit.analysis import assess_claim
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.experiments.claims.base import Fact, Trials, fact
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.tricks import RescaledInit


@fact(27, setting="digits-mlp, static mask at density 0.02 and 0.01, 60 epochs", minutes=3)
def weights_must_fit_the_fan_in(trials: Trials) -> Iterator[Claim]:
    """Initial weights must fit the true fan-in of a sparse layer, and a learnt scale repairs those that do not.

    Source: Evci et al. (2022), arXiv:2010.03533, and ToST, Jaiswal et al. (2022), ICML, for the learnt scale.
    """
    for density in (0.02, 0.01):
        fitted, dense = (
            trials.accuracies(digits_mlp, rule="static", density=density, init=init) for init in ("fan-in", "dense")
        )
        rescaled = trials.accuracies(digits_mlp, rule="static", density=density, init="dense", tricks=(RescaledInit(),))
        yield assess_claim(f"weights drawn for the true fan-in beat the dense draw, density {density}", fitted, dense)
        yield assess_claim(f"learnt scales improve the dense draw, density {density}", rescaled, dense)
        text = f"weights drawn for the true fan-in beat learnt scales, density {density}"
        yield assess_claim(text, fitted, rescaled)


@fact(28, setting="digits-mlp, static mask, density 0.02, dense draw, 60 epochs", minutes=3)
def scales_must_be_learnt_on_the_mask(trials: Trials) -> Iterator[Claim]:
    """Scales must be learnt on the masked network, because the released code's step ahead is that of a dense one.

    Source: read in the released code of ToST, Jaiswal et al. (2022), ICML. Its effect is our prediction.
    """
    masked, published = (
        trials.accuracies(
            digits_mlp, rule="static", density=0.02, init="dense", tricks=(RescaledInit(variant=variant),)
        )
        for variant in ("masked", "published")
    )
    yield assess_claim("scales learnt with masked gradients beat the published ones", masked, published)


FROZEN_NEGATIVES = Fact(
    number=29,
    text="A mistake in a sign freezes all negative weights, and the network still learns, but less well.",
    source="read in the released code of ToST. Its effect is our prediction.",
    setting="digits-mlp, density 0.05, negative weights frozen, 60 epochs",
    minutes=2,
    lacks="a rule that freezes the negative weights, about twenty lines",
)
