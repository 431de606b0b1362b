"""Batches and outputs of other forms: one adaptor for all that trains and measures, and a good error without it."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import CLASSES, FEATURES, STORAGES, batches_of, plain_mlp, same, sparse, states

import sparsekit as sk
from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.measuring import evaluate, predictions, refresh_batch_norm
from sparsekit.layers import topology_of
from sparsekit.rules import RigL, Static
from sparsekit.train import backward, fit, train_step, training
from sparsekit.utils.seeds import generator
from sparsekit.widgets import live_training

both_storages = pytest.mark.parametrize("storage", STORAGES)
PLAIN = batches_of(4, dtype=torch.float64)


@dataclass
class Answer:
    """As transformers' models answer, and as no tensor."""

    logits: torch.Tensor
    hidden: torch.Tensor | None = None


class Network(nn.Module):
    """Takes its features in two parts, and answers in some form."""

    def __init__(self, form):
        super().__init__()
        self.body, self.form = plain_mlp().double(), form

    def forward(self, left, right):
        logits = self.body(torch.cat([left, right], 1))
        return {"tensor": logits, "tuple": (logits, right), "dict": {"logits": logits}, "own": Answer(logits)}[
            self.form
        ]


OUTPUTS = {
    "tensor": lambda outputs: outputs,
    "tuple": lambda outputs: outputs[0],
    "dict": lambda outputs: outputs["logits"],
    "own": lambda outputs: outputs.logits,
}


def halves(x):
    return x[:, :2], x[:, 2:]


# by name: how a batch looks, and how a pair is made of it
BATCHES = {
    "named": (
        lambda x, y: dict(zip(("left", "right", "labels"), (*halves(x), y), strict=True)),
        lambda b: ({name: b[name] for name in ("left", "right")}, b["labels"]),
    ),
    "in a row": (lambda x, y: (*halves(x), y), lambda b: (b[:-1], b[-1])),
    "a list of a pair": (lambda x, y: [list(halves(x)), y], lambda b: b),
    "numpy": (
        lambda x, y: (*(part.numpy() for part in halves(x)), y.numpy()),
        lambda b: (tuple(map(torch.from_numpy, b[:-1])), torch.from_numpy(b[-1])),
    ),
}


def trained(how, model, batches, **settings):
    optimizer, rule = torch.optim.SGD(model.parameters(), lr=0.1), RigL(every=2, stop=9, drop_fraction=0.5)
    if how == "fit":
        fit(model, optimizer, batches, rule, epochs=1, test_batches=batches, progress=False, **settings)
    elif how == "live":
        list(live_training(model, optimizer, batches, cross_entropy, rule, steps=len(batches), **settings))
    else:
        list(training(model, optimizer, batches, cross_entropy, rule, **settings))
    return states(model)


FORMS = list(zip(["fit", "live", "training", "fit"], BATCHES, OUTPUTS, strict=True))


@both_storages
@pytest.mark.parametrize(("how", "batch", "outputs"), FORMS)
def test_an_adaptor_trains_as_plain_pairs_do(how, batch, outputs, storage):
    make, read = BATCHES[batch]
    adaptor = Adaptor(batch=read, outputs=OUTPUTS[outputs])
    plain = trained(how, sparse(Network("tensor"), storage), [(halves(x), y) for x, y in PLAIN])
    found = trained(how, sparse(Network(outputs), storage), [make(x, y) for x, y in PLAIN], adaptor=adaptor)
    assert same(found, plain)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("micro_batches", [2, 3])
def test_batches_of_all_forms_are_split_into_micro_batches(batch, micro_batches):
    make, read = BATCHES[batch]
    adaptor = Adaptor(batch=read, outputs=OUTPUTS["dict"])
    found = []
    for parts in (1, micro_batches):
        model = sparse(Network("dict"))
        trained("training", model, [make(x, y) for x, y in PLAIN], adaptor=adaptor, micro_batches=parts)
        found.append(model)
    assert topology_of(found[0]) == topology_of(found[1])
    torch.testing.assert_close(dict(found[0].named_parameters()), dict(found[1].named_parameters()))


def test_several_probes_of_another_form_are_looked_at():
    make, read = BATCHES["named"]
    adaptor, rule = (
        Adaptor(batch=read, outputs=OUTPUTS["own"]),
        RigL(every=2, stop=9, drop_fraction=0.5, probe_batches=2),
    )
    models = [sparse(Network("own")) for _ in range(2)]
    for model, loss_fn in zip(models, (cross_entropy, lambda x, y: cross_entropy(x, y)), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        list(training(model, optimizer, [make(x, y) for x, y in PLAIN], loss_fn, rule, adaptor=adaptor))
    assert topology_of(models[0]) == topology_of(models[1]) != topology_of(sparse(Network("own")))


@pytest.mark.parametrize("batch", BATCHES)
def test_an_adaptor_measures_as_plain_pairs_do(batch):
    make, read = BATCHES[batch]
    adaptor = Adaptor(batch=read, outputs=OUTPUTS["tuple"])
    plain, model = [(halves(x), y) for x, y in PLAIN], Network("tuple")
    batches = [make(x, y) for x, y in PLAIN]
    assert evaluate(model, batches, adaptor=adaptor) == evaluate(Network("tensor"), plain)
    assert same(predictions(model, batches, adaptor=adaptor), predictions(Network("tensor"), plain))


def test_batch_norm_sees_all_inputs_of_a_batch():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(FEATURES, dtype=torch.float64)

        def forward(self, left, right):
            return {"logits": self.norm(torch.cat([left, right], 1))}

    make, read = BATCHES["named"]
    model, alone = Normed(), nn.BatchNorm1d(FEATURES, dtype=torch.float64)
    refresh_batch_norm(model, [make(x, y) for x, y in PLAIN], adaptor=Adaptor(batch=read))
    refresh_batch_norm(alone, PLAIN)
    assert same(states(model.norm), states(alone))
    assert model.norm.training


# --- errors without one -----------------------------------------------------------------------------------------


def made():
    model = sparse(Network("tensor"))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


USES = {
    "train_step": lambda batch: train_step(*made(), batch, cross_entropy, Static(), 0, generator(0)),
    "backward": lambda batch: backward(made()[0], batch, cross_entropy),
    "training": lambda batch: list(training(*made(), [batch], cross_entropy, Static())),
    "probes": lambda batch: train_step(
        *made(), (halves(PLAIN[0][0]), PLAIN[0][1]), cross_entropy, RigL(stop=9), 0, generator(0), probes=[batch]
    ),
    "fit": lambda batch: fit(*made(), [batch], epochs=1, progress=False),
    "live": lambda batch: list(live_training(*made(), [batch], cross_entropy, Static(), steps=1)),
    "evaluate": lambda batch: evaluate(made()[0], [batch]),
    "predictions": lambda batch: predictions(made()[0], [batch]),
    "scores": lambda batch: sk.scores.score_whole(Network("tensor"), sk.scores.SNIP(), batches=[batch]),
}
SAID = {
    "named": r"pairs of inputs and labels, got dict. Take the pair out of each.*adaptor=Adaptor\(batch=lambda b:",
    "in a row": r"inputs and labels, got tuple of 3. .*adaptor=Adaptor\(batch=lambda b: \(b\[:-1\], b\[-1\]\)\)",
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("batch", SAID)
def test_batches_that_are_no_pairs_are_told_of_the_adaptor(use, batch):
    with pytest.raises(TypeError, match=SAID[batch]):
        USES[use](BATCHES[batch][0](*PLAIN[0]))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("which", [0, 1])
def test_numpy_arrays_are_told_how_to_become_tensors(use, which):
    (x, y), arrays = PLAIN[0], [part.numpy() for part in PLAIN[0]]
    batch = (halves(arrays[0]), y) if which == 0 else (halves(x), arrays[1])
    with pytest.raises(TypeError, match=r"must be tensors, got numpy arrays. Give adaptor=.*torch.from_numpy"):
        USES[use](batch)


@pytest.mark.parametrize("form", ["tuple", "dict", "own"])
def test_outputs_that_the_loss_does_not_take_are_told_of_the_adaptor(form):
    model, batch = Network(form), (halves(PLAIN[0][0]), PLAIN[0][1])
    said = r"must understand the model's outputs, got (tuple|dict of logits|Answer). Give adaptor=Adaptor\(outputs="
    with pytest.raises(TypeError, match=said):
        backward(model, batch, cross_entropy)
    with pytest.raises(TypeError, match=said):
        evaluate(model, [batch])
    assert all(p.grad is None for p in model.parameters())


def test_a_list_of_numbers_is_no_tensor_of_labels_for_torch():
    with pytest.raises(TypeError, match="cross_entropy"):
        backward(made()[0], (halves(PLAIN[0][0]), PLAIN[0][1].tolist()), cross_entropy)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_a_loss_of_ones_own_may_take_outputs_of_any_form_and_there_is_no_accuracy(micro_batches):
    def loss_fn(outputs, labels):
        return cross_entropy(outputs["logits"], labels["class"]) + outputs["logits"].square().mean()

    batches = [(halves(x), {"class": y}) for x, y in PLAIN]
    model, plain = Network("dict"), Network("tensor")
    stats, _ = backward(model, batches[0], loss_fn, micro_batches=micro_batches)
    wanted, _ = backward(plain, (halves(PLAIN[0][0]), PLAIN[0][1]), lambda o, y: loss_fn({"logits": o}, {"class": y}))
    assert stats.loss == pytest.approx(wanted.loss)
    assert math.isnan(stats.accuracy)
    assert stats.count == 8
    gradients = zip(model.parameters(), plain.parameters(), strict=True)
    assert all(torch.allclose(one.grad, other.grad, rtol=1e-9) for one, other in gradients)
    measured = evaluate(model, batches, loss_fn)
    inputs, labels = (torch.cat(parts) for parts in zip(*PLAIN, strict=True))
    whole = loss_fn(model(*halves(inputs)), {"class": labels})
    assert measured.loss == pytest.approx(float(whole.detach()))
    assert math.isnan(measured.accuracy)


def test_what_has_not_a_row_per_sample_cannot_be_split():
    class Biased(Network):
        def forward(self, left, right, bias):
            return super().forward(left, right) + bias

    (x, y), bias = PLAIN[0], torch.zeros(CLASSES, dtype=torch.float64)
    whole, _ = backward(Biased("tensor"), ((*halves(x), bias), y), cross_entropy)
    with pytest.raises(ValueError, match=r"one row per sample, got 3 rows and 8 samples. Use micro_batches=1, or let"):
        backward(Biased("tensor"), ((*halves(x), bias), y), cross_entropy, micro_batches=2)
    scalar, _ = backward(Biased("tensor"), ((*halves(x), bias[0]), y), cross_entropy, micro_batches=2)
    assert scalar.loss == pytest.approx(whole.loss)


def test_numpy_numbers_are_no_tensors_either():
    with pytest.raises(TypeError, match="must be tensors, got numpy arrays"):
        Adaptor().pair((torch.zeros(2), np.float64(1)))


def test_what_holds_tensors_of_its_own_is_not_handed_whole_to_every_part():
    class Batch(dict):
        """As transformers' tokenizers give."""

    x, y = PLAIN[0]
    with pytest.raises(ValueError, match=r"one row per sample, got Batch of x, in which none is seen. Use micro_b"):
        backward(Network("tensor"), ((Batch(x=x),), y), cross_entropy, micro_batches=2)
