"""Facts on initial weights of sparse networks."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from sparsekit import datasets
from sparsekit.analysis import assess_claim
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.experiment import build_model
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.layers import sparse_layers
from sparsekit.schedules import Cosine
from sparsekit.train import fit
from sparsekit.tricks import RescaledInit

BATCH, EPOCHS = 64, 60  # those of the recipe digits-mlp


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


@fact(29, setting="MLP 64-256-256-10 on digits, static mask, density 0.05, 60 epochs without weight decay", minutes=2)
def frozen_negatives_still_learn(trials: Trials) -> Iterator[Claim]:
    """A mistake in a sign freezes all negative weights, and the network still learns, but less well.

    Source: read in the released code of ToST, Jaiswal et al. (2022), ICML. Its effect is our prediction.
    """
    frozen, free = ([_trained(trials, seed, freeze=freeze) for seed in trials.seeds] for freeze in (True, False))
    yield assess_claim("frozen negative weights cost accuracy", free, frozen)
    text = "with frozen negative weights the accuracy still exceeds a half"
    yield assess_claim(text, frozen, [0.5] * len(frozen))


def _trained(trials: Trials, seed: int, *, freeze: bool) -> float:
    """Return the accuracy of a sparse network whose negative weights may be frozen at their initial values."""
    data, epochs = datasets.load("digits", root=trials.root), trials.epochs or EPOCHS
    experiment = digits_mlp(rule="static", density=0.05, seed=seed)
    model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)
    for layer in sparse_layers(model).values() if freeze else ():
        layer.param.register_hook(partial(torch.mul, (layer.param.detach() >= 0).float()))
    history = fit(
        model,
        torch.optim.SGD(model.parameters(), momentum=0.9),
        lambda epoch: _prepared(data, datasets.batches(data.train, BATCH, seed=seed, epoch=epoch)),
        epochs=epochs,
        test_batches=list(_prepared(data, datasets.batches_in_order(data.test, len(data.test)))),
        learning_rate=Cosine(0.1, 0.0).lasting(epochs * datasets.count_batches(len(data.train), BATCH)),
        progress=False,
    )
    return history.last("test accuracy")


def _prepared(data: datasets.Dataset, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    return ((data.prepare(inputs), labels) for inputs, labels in batches)
