"""Parts make the whole: gradients of micro-batches, means over batches and accuracies, whatever a loss weighs."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_helpers import CLASSES, FEATURES, STORAGES, largest_difference, plain_mlp, sparse, tiny

from sparsekit.analysis.landscape.curvature import Hessian
from sparsekit.evaluation.measuring import evaluate
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rules import RigL, Static
from sparsekit.schedules import Constant
from sparsekit.scores import SNIP, GraSP, Taylor, score_whole
from sparsekit.train import backward, fit, train_step, training
from sparsekit.tricks import Distillation, LabelSmoothing, TrickContext, begin, loss_at
from sparsekit.utils.seeds import generator
from sparsekit.widgets import live_training

both_storages = pytest.mark.parametrize("storage", STORAGES)
WEIGHTS = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
PAD = -100
# In three parts of 3, 3 and 2 samples, no label of the last counts.
LABELS = torch.tensor([0, PAD, PAD, 1, 2, 0, PAD, PAD])
INPUTS = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
REAL = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
YES = (REAL > 0).double()
SOFT = REAL.softmax(1)


def guarded(outputs, labels):
    """What many write by hand: the mean over what counts, and 0 where nothing does."""
    counts = labels != PAD
    each = F.cross_entropy(outputs, labels, reduction="none")
    return each.sum() / counts.sum().clamp(min=1)


def tokens_last(outputs, labels):
    return F.cross_entropy(outputs.flatten(0, -2), labels.flatten(), weight=WEIGHTS)


class Focal(nn.Module):
    """A loss of a user's own, that says its weight."""

    def batch_weight(self, labels):
        return (labels != PAD).sum()

    def forward(self, outputs, labels):
        surprise = F.cross_entropy(outputs, labels, reduction="none")
        return ((1 - (-surprise).exp()) ** 2 * surprise).sum() / self.batch_weight(labels)


class Twice(nn.CrossEntropyLoss):
    """A subclass computes something else than its parent."""

    def forward(self, outputs, labels):
        return 2 * F.cross_entropy(outputs, labels, reduction="sum") / len(labels)


LOSSES = {
    "padding": (F.cross_entropy, LABELS),
    "class weights": (nn.CrossEntropyLoss(WEIGHTS), LABELS),
    "class weights in a partial": (partial(F.cross_entropy, weight=WEIGHTS), LABELS),
    "a partial of a module": (partial(nn.CrossEntropyLoss(WEIGHTS)), LABELS),
    "an ignored class": (nn.CrossEntropyLoss(ignore_index=2), LABELS.clamp(0)),
    "all of it, smoothed": (nn.CrossEntropyLoss(WEIGHTS, ignore_index=0, label_smoothing=0.3), LABELS.clamp(0)),
    "a class of weight zero": (partial(F.cross_entropy, weight=torch.tensor([0.0, 1, 1]).double()), LABELS.clamp(0)),
    "probabilities": (nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.2), SOFT),
    "log-likelihood": (nn.NLLLoss(WEIGHTS), LABELS),
    "squares": (F.mse_loss, REAL),
    "binary": (nn.BCEWithLogitsLoss(), YES),
    "binary, weighted by class": (nn.BCEWithLogitsLoss(WEIGHTS, pos_weight=2 * WEIGHTS), YES),
    "a sum": (partial(F.cross_entropy, reduction="sum"), LABELS),
    "a sum, said as long ago": (partial(F.cross_entropy, size_average=False, reduce=True, reduction="sum"), LABELS),
    "a function nobody knows": (lambda outputs, labels: F.cross_entropy(outputs, labels, weight=WEIGHTS), LABELS),
    "a guarded function": (guarded, LABELS),
    "margins": (lambda outputs, labels: F.multi_margin_loss(outputs, labels), LABELS.clamp(0)),
    "tokens": (tokens_last, LABELS),
    "a loss that says its weight": (Focal(), LABELS),
    "a subclass": (Twice(), LABELS),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def gradients(loss_fn, batch, model=None, **how):
    model = model or tiny(dtype=torch.float64)
    stats, _ = backward(model, batch, loss_fn, **how)
    return stats, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@every_loss
@pytest.mark.parametrize("micro_batches", [3, 8])
def test_micro_batches_have_the_gradient_of_the_whole_batch(name, micro_batches):
    loss_fn, labels = LOSSES[name]
    whole, gradient = gradients(loss_fn, (INPUTS, labels))
    stats, found = gradients(loss_fn, (INPUTS, labels), micro_batches=micro_batches)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-12)
    assert stats.loss == pytest.approx(whole.loss, rel=1e-9)
    assert (stats.correct, stats.count) == pytest.approx((whole.correct, whole.count), nan_ok=True)


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, pictures):
        return self.conv(pictures)


@pytest.mark.parametrize("form", ["torch's", "mine"])
def test_void_pixels_count_neither_in_the_gradient_of_parts_nor_in_the_accuracy(form):
    draws = torch.Generator().manual_seed(3)
    pictures = torch.randn(4, 2, 5, 5, generator=draws, dtype=torch.float64)
    labels = torch.randint(3, (4, 5, 5), generator=draws)
    labels[0, :4], labels[3] = 255, 255
    loss_fn = partial(F.cross_entropy, ignore_index=255, weight=WEIGHTS)
    if form == "mine":
        loss_fn = partial(lambda known, outputs, y: known(outputs, y), loss_fn)
    model = Segmenter().double()
    _, gradient = gradients(loss_fn, (pictures, labels), copy.deepcopy(model))
    stats, found = gradients(loss_fn, (pictures, labels), copy.deepcopy(model), micro_batches=4)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        outputs = model(pictures)
    met, counts = outputs.argmax(1) == labels, labels != 255
    assert (stats.correct, stats.count) == (int(met.sum()), int(counts.sum()))
    batches = [(pictures[:1], labels[:1]), (pictures[1:], labels[1:])]
    measured = evaluate(model, batches, loss_fn)
    assert measured.accuracy == pytest.approx(int(met.sum()) / int(counts.sum()))
    assert measured.loss == pytest.approx(float(loss_fn(outputs, labels)), rel=1e-9)


@both_storages
def test_micro_batches_with_padding_grow_and_train_as_the_whole_batch(storage):
    models = [tiny(storage, dtype=torch.float64) for _ in range(2)]
    for model, parts in zip(models, (1, 3), strict=True):
        optimizer, rule = torch.optim.SGD(model.parameters(), lr=0.1), RigL(every=2, stop=9, drop_fraction=0.5)
        for step in range(5):
            draws, loss_fn = generator(0, "rewire", step), nn.CrossEntropyLoss(WEIGHTS)
            train_step(model, optimizer, (INPUTS, LABELS), loss_fn, rule, step, draws, micro_batches=parts)
    assert topology_of(models[0]) == topology_of(models[1])
    assert largest_difference(*models) < 1e-12


def test_single_precision_and_halves_find_out_a_loss_too():
    model, batch = tiny(), (INPUTS.float(), LABELS)
    turned = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    loss_fn = lambda outputs, labels: F.cross_entropy(outputs @ turned, labels, weight=WEIGHTS.float())  # noqa: E731
    for autocast, error in ((None, 1e-5), (torch.bfloat16, 3e-2)):
        _, gradient = gradients(loss_fn, batch, copy.deepcopy(model), autocast=autocast)
        _, found = gradients(loss_fn, batch, copy.deepcopy(model), autocast=autocast, micro_batches=3)
        assert (found - gradient).norm() < error * gradient.norm()


def spread(outputs, labels):
    return F.cross_entropy(outputs, labels) + outputs.var(0, correction=0).sum()


def root(outputs, labels):
    return F.mse_loss(outputs, labels).sqrt()


class Remembering:
    """A loss with a memory: what it gave last goes into the next."""

    last = 0.0

    def __call__(self, outputs, labels):
        loss = F.cross_entropy(outputs, labels) * (1 + self.last)
        self.last = float(loss.detach())
        return loss


def penalised(outputs, labels):
    return F.cross_entropy(outputs, labels, reduction="sum") + 3.0


NO_MEANS = {"spread": (spread, LABELS.clamp(0)), "root": (root, REAL), "memory": (Remembering(), LABELS)}
NO_MEANS |= {"penalty": (penalised, LABELS), "norm": (lambda x, _: x.square().mean().sqrt(), REAL)}


@pytest.mark.parametrize("name", NO_MEANS)
@pytest.mark.parametrize("micro_batches", [2, 8])
def test_what_is_no_weighted_mean_is_refused_in_parts_and_told_what_to_say(name, micro_batches):
    loss_fn, labels = NO_MEANS[name]
    model = tiny(dtype=torch.float64)
    with pytest.raises(ValueError, match=r"must say what a batch weighs, got .*batch_weight, a function of the labels"):
        backward(model, (INPUTS, labels), loss_fn, micro_batches=micro_batches)
    assert all(p.grad is None for p in model.parameters())


def test_weights_of_the_samples_of_a_whole_batch_cannot_be_used_in_parts():
    by_sample = torch.rand(8, dtype=torch.float64)

    def loss_fn(outputs, labels):
        return (by_sample * F.cross_entropy(outputs, labels, reduction="none")).mean()

    with pytest.raises(
        ValueError, match="loss_fn must say what a batch weighs, got an error when it was computed for 4"
    ):
        backward(tiny(dtype=torch.float64), (INPUTS, LABELS), loss_fn, micro_batches=2)


def test_outputs_that_cannot_be_looked_into_are_refused_in_parts():
    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tiny(dtype=torch.float64)

        def forward(self, inputs):
            return type("Outputs", (), {"logits": self.body(inputs)})()

    loss_fn = lambda outputs, labels: F.cross_entropy(outputs.logits, labels)  # noqa: E731
    _, gradient = gradients(loss_fn, (INPUTS, LABELS), Closed())
    with pytest.raises(ValueError, match="got outputs in which no tensor was found"):
        backward(Closed(), (INPUTS, LABELS), loss_fn, micro_batches=3)
    loss_fn.batch_weight = lambda labels: (labels != PAD).sum()
    with pytest.raises(ValueError, match="got outputs in which no tensor was found"):
        backward(Closed(), (INPUTS, LABELS), loss_fn, micro_batches=3)  # its last part is left out, but from what?
    _, found = gradients(loss_fn, (INPUTS, LABELS), Closed(), micro_batches=2)
    torch.testing.assert_close(found, gradient)


def test_a_flat_loss_tells_nothing_and_is_refused():
    with pytest.raises(ValueError, match="got a part whose loss is flat"):
        backward(tiny(), (INPUTS.float(), LABELS.clamp(0)), lambda x, y: x.clamp(1e6, 1e7).mean(), micro_batches=2)


@pytest.mark.parametrize("loss_fn", [F.cross_entropy, lambda x, y: F.cross_entropy(x, y)])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_batch_in_which_no_label_counts_is_an_error_that_says_so(loss_fn, micro_batches):
    with pytest.raises(FloatingPointError, match=r"[Ll]eave out batches (without labels|in which no label counts)"):
        backward(tiny(dtype=torch.float64), (INPUTS, torch.full((8,), PAD)), loss_fn, micro_batches=micro_batches)


def test_a_loss_of_many_numbers_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"a single number, got a tensor of shape \(8,\). Use reduction='mean'"):
        backward(tiny(), (INPUTS.float(), LABELS), partial(F.cross_entropy, reduction="none"))


# --- means over batches -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@every_loss
@pytest.mark.parametrize("size", [1, 3])
def test_a_mean_loss_and_an_accuracy_do_not_depend_on_the_batch_size(name, size):
    loss_fn, labels = LOSSES[name]
    model = plain_mlp().double()
    measured = evaluate(model, list(zip(INPUTS.split(size), labels.split(size), strict=True)), loss_fn)
    outputs = model(INPUTS).detach()
    assert measured.loss == pytest.approx(float(loss_fn(outputs, labels)), rel=1e-9)
    if labels.is_floating_point():
        assert math.isnan(measured.accuracy)
    else:
        counts = (labels != PAD) & (labels != getattr(loss_fn, "ignore_index", PAD))
        met = (outputs.argmax(1) == labels)[counts]
        assert (measured.accuracy, measured.count) == (pytest.approx(float(met.double().mean())), int(counts.sum()))


def test_a_loss_that_remembers_is_not_averaged():
    batches = list(zip(INPUTS.split(4), LABELS.split(4), strict=True))
    with pytest.raises(ValueError, match="got another loss when the first batch was measured again"):
        evaluate(plain_mlp().double(), batches, Remembering())


def test_a_measure_that_is_a_plain_number_is_averaged_too():
    batches = list(zip(INPUTS.split(3), REAL.split(3), strict=True))
    measured = evaluate(plain_mlp().double(), batches, lambda x, y: float((x - y).abs().mean()))
    assert measured.loss == pytest.approx(evaluate(plain_mlp().double(), batches, F.l1_loss).loss)


class Told(dict):
    """Outputs of a model that takes its own loss, as those of transformers do."""


@pytest.mark.parametrize("form", [dict, Told], ids=["dict", "of a class of its own"])
def test_a_loss_that_the_model_has_taken_itself_must_say_what_a_batch_weighs(form):
    class Model(nn.Module):
        def forward(self, x, labels):
            return form(loss=F.cross_entropy(x[:, :CLASSES], labels))

    def told(outputs, labels):
        return outputs["loss"]

    batches = [((x, y), y) for x, y in zip(INPUTS.split(3), LABELS.split(3), strict=True)][:2]
    with pytest.raises(ValueError, match=r"the loss told must say what a batch weighs.* Set told.batch_weight"):
        evaluate(Model(), batches, told)
    told.batch_weight = lambda labels: (labels != PAD).sum()
    whole = F.cross_entropy(INPUTS[:6, :CLASSES], LABELS[:6])
    assert evaluate(Model(), batches, told).loss == pytest.approx(float(whole))


def test_outputs_are_not_kept_without_end(monkeypatch):
    monkeypatch.setattr("sparsekit.evaluation.losses.mean.MOST_KEPT", 200)
    batches = list(zip(INPUTS.split(2), LABELS.split(2), strict=True))
    with pytest.raises(
        ValueError, match="got more than 200 bytes of outputs to average over. Set guarded.batch_weight"
    ):
        evaluate(plain_mlp().double(), batches, guarded)
    evaluate(plain_mlp().double(), batches, nn.CrossEntropyLoss(WEIGHTS))


def test_sentences_of_several_lengths_need_a_loss_that_is_known():
    batches = [(torch.randn(2, 3, n), torch.zeros(2, n).long()) for n in (4, 5)]
    model = nn.Identity()
    assert evaluate(model, batches).loss == pytest.approx(
        (4 * float(F.cross_entropy(*batches[0])) + 5 * float(F.cross_entropy(*batches[1]))) / 9, rel=1e-5
    )
    with pytest.raises(ValueError, match="got outputs of several shapes to average over"):
        evaluate(model, batches, lambda x, y: F.cross_entropy(x, y))


@pytest.mark.parametrize("loss_fn", [F.cross_entropy, Focal(), nn.CrossEntropyLoss(WEIGHTS)])
def test_a_data_set_in_which_no_label_counts_is_an_error(loss_fn):
    with pytest.raises(ValueError, match="at least one label that counts, got none"):
        evaluate(plain_mlp().double(), [(INPUTS, torch.full((8,), PAD))], loss_fn)


def test_scores_of_tokens_are_found_where_they_are_and_never_guessed():
    tokens = torch.tensor([[0, 1, PAD, PAD], [2, 2, 1, PAD]])
    last = F.one_hot(tokens.clamp(0), 5).float()

    def loss_fn(outputs, labels):
        return F.cross_entropy(outputs.flatten(0, 1), labels.flatten())

    measured = evaluate(nn.Identity(), [(last, tokens)], loss_fn)
    assert (measured.accuracy, measured.count) == (1.0, 5)
    as_many = last[..., :4]  # four tokens, four classes: which is which?
    assert math.isnan(evaluate(nn.Identity(), [(as_many, tokens)], loss_fn).accuracy)
    assert evaluate(nn.Identity(), [(as_many.mT, tokens)]).accuracy == 1.0


def test_a_single_output_is_no_score_of_a_class():
    model, labels = nn.Linear(FEATURES, 1).double(), LABELS.clamp(0, 1)
    loss_fn = lambda outputs, y: F.binary_cross_entropy_with_logits(outputs[:, 0], y.double())  # noqa: E731
    assert math.isnan(evaluate(model, [(INPUTS, labels)], loss_fn).accuracy)


@pytest.mark.parametrize("ages", [[3, 40], [1, 3, 40, 2], [7, 7]])
def test_numbers_that_are_no_classes_have_no_accuracy_but_a_loss(ages):
    labels = torch.tensor(ages * 4)[:8]
    loss_fn = lambda outputs, y: F.gaussian_nll_loss(outputs[:, 0], y.double(), outputs[:, 1].exp())  # noqa: E731
    measured = evaluate(nn.Linear(FEATURES, 2).double(), [(INPUTS, labels)], loss_fn)
    assert math.isnan(measured.accuracy)
    assert math.isfinite(measured.loss)


# --- what is told of a training ---------------------------------------------------------------------------------


def test_histories_and_live_panels_tell_accuracies_of_labels_that_count():
    model = tiny(dtype=torch.float64)
    with torch.no_grad():
        met = int((model(INPUTS).argmax(1) == LABELS).sum())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    history = fit(model, optimizer, [(INPUTS, LABELS)], epochs=1, test_batches=[(INPUTS, LABELS)], progress=False)
    assert history.values("train accuracy") == history.values("test accuracy") == [met / 4]
    (shown,) = live_training(model, optimizer, [(INPUTS, LABELS)], F.cross_entropy, Static(), steps=1)
    assert shown.metrics["accuracy"] == met / 4


def test_where_nothing_counts_an_accuracy_is_nan_and_no_error():
    model = tiny(dtype=torch.float64)
    stats, _ = backward(model, (INPUTS, torch.full((8,), PAD)), guarded)
    assert (stats.loss, stats.count) == (0.0, 0)
    assert math.isnan(stats.accuracy)


# --- several batches as one -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_fn", [nn.CrossEntropyLoss(WEIGHTS), LOSSES["a function nobody knows"][0]])
@both_storages
def test_probes_count_by_what_they_weigh(storage, loss_fn):
    rule = RigL(every=1, stop=9, drop_fraction=0.5, probe_batches=2)
    found = []
    for probes in ([(INPUTS, LABELS)], [(INPUTS[:3], LABELS[:3]), (INPUTS[3:], LABELS[3:])]):
        model = tiny(storage, dtype=torch.float64)
        optimizer = torch.optim.SGD(model.parameters())
        train_step(model, optimizer, (INPUTS, LABELS), loss_fn, rule, 0, generator(0), probes=probes)
        found.append(topology_of(model))
    assert found[0] == found[1] != topology_of(tiny(storage))


@pytest.mark.parametrize("name", ["class weights", "a function nobody knows", "squares"])
@pytest.mark.parametrize("score", [SNIP(), GraSP()])
def test_scores_do_not_depend_on_how_samples_are_put_into_batches(name, score):
    loss_fn, labels = LOSSES[name]
    parts = list(zip(INPUTS.split(3), labels.split(3), strict=True))
    model = plain_mlp().double()
    whole, several = (score_whole(model, score, batches=b, loss_fn=loss_fn) for b in ([(INPUTS, labels)], parts))
    for layer in whole:
        torch.testing.assert_close(several[layer], whole[layer], rtol=1e-7, atol=1e-14)


def test_batches_in_which_no_label_counts_are_left_out_of_scores():
    parts = list(zip(INPUTS.split(3), LABELS.split(3), strict=True))
    first, second = (score_whole(plain_mlp().double(), Taylor(), batches=b) for b in (parts, parts[:2]))
    assert all(torch.equal(first[layer], second[layer]) for layer in first)


@pytest.mark.parametrize("name", ["class weights", "a function nobody knows"])
def test_a_curvature_does_not_depend_on_how_samples_are_put_into_batches(name):
    loss_fn, labels = LOSSES[name]
    model = sparse(plain_mlp(), "masked").double()
    parts = list(zip(INPUTS.split(3), labels.split(3), strict=True))
    whole, several = (Hessian(model, batches, loss_fn) for batches in ([(INPUTS, labels)], parts))
    vector = torch.randn(whole.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(several @ vector, whole @ vector, rtol=1e-8, atol=1e-12)


# --- tricks -----------------------------------------------------------------------------------------------------


SMOOTHING = LabelSmoothing(stop=9)
TEACHER = Distillation(teacher="it", share=Constant(0.3), stop=9)


@pytest.mark.parametrize("name", ["padding", "class weights", "a loss that says its weight", "probabilities"])
@pytest.mark.parametrize("tricks", [(SMOOTHING,), (TEACHER,), (TEACHER, SMOOTHING), (SMOOTHING, TEACHER)])
def test_micro_batches_have_the_gradient_of_the_whole_batch_with_tricks_as_well(name, tricks):
    loss_fn, labels = LOSSES[name]
    found = []
    for parts in (1, 3):
        given = TrickContext(load=lambda _: plain_mlp(seed=7).double())
        model = begin(tiny(dtype=torch.float64), tricks, given)
        found.append(gradients(loss_at(tricks, loss_fn, model, 0), (INPUTS, labels), model, micro_batches=parts))
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-9, atol=1e-12)
    assert found[1][0].loss == pytest.approx(found[0][0].loss, rel=1e-9)
    assert found[1][0].count == found[0][0].count


@pytest.mark.parametrize("ignored", [PAD, 0])
def test_smoothed_labels_are_torchs_with_class_weights_and_padding_too(ignored):
    outputs, labels = REAL, LABELS if ignored == PAD else LABELS.clamp(0)
    loss_fn = nn.CrossEntropyLoss(WEIGHTS, ignore_index=ignored)
    smoothed = LabelSmoothing(convention="all", stop=3).loss(loss_fn, nn.Module(), 0)
    wanted = F.cross_entropy(outputs, labels, WEIGHTS, ignore_index=ignored, label_smoothing=0.1)
    torch.testing.assert_close(smoothed(outputs, labels), wanted)


def test_smoothing_leaves_out_what_a_loss_of_ones_own_passes_over():
    smoothed = LabelSmoothing(convention="all", stop=3).loss(guarded, nn.Module(), 0)
    wanted = F.cross_entropy(REAL, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(smoothed(REAL, LABELS), wanted)
    void = LabelSmoothing(stop=3).loss(lambda x, y: F.cross_entropy(x, y, ignore_index=255), nn.Module(), 0)
    with pytest.raises(ValueError, match="must know which labels do not count, got 255 with 3 classes"):
        void(REAL, LABELS.where(LABELS != PAD, 255))


def test_training_hands_micro_batches_and_tricks_on():
    results = []
    for parts in (1, 3):
        model = begin(tiny(dtype=torch.float64), [SMOOTHING])
        walk = training(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            [(INPUTS, LABELS)] * 3,
            nn.CrossEntropyLoss(WEIGHTS),
            Static(),
            micro_batches=parts,
            tricks=[SMOOTHING],
        )
        results.append(([stats.loss for _, stats, _ in walk], sparse_layers(model)["0"].values().clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-9)
    torch.testing.assert_close(results[0][1], results[1][1])
