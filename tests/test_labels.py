"""Label smoothing and distillation keep identities of the losses, and a teacher stays as it is."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div
from training_helpers import batches_of, plain_mlp, same, sparse, states
from trick_helpers import train

from sparsekit.experiments import Experiment, run
from sparsekit.schedules import Constant, Linear
from sparsekit.tricks import Distillation, LabelSmoothing, TrickContext, begin, loss_at, spread_of


def logits(classes, *, seed=0):
    draws = torch.Generator().manual_seed(seed)
    outputs = torch.randn(8, classes, generator=draws, dtype=torch.float64) * 3
    return outputs, torch.randint(classes, (8,), generator=draws)


# --- smoothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "spread"), [(10, 0.11111111), (100, 0.10101010)])
def test_both_conventions_convert_by_the_golden_numbers(classes, spread):
    assert spread_of(0.1, classes) == pytest.approx(spread)
    assert spread_of(0.1, classes, "all") == 0.1


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("convention", ["others", "all"])
def test_the_smoothed_loss_is_that_of_the_smoothed_target(convention, classes):
    outputs, labels = logits(classes)
    hot = nn.functional.one_hot(labels, classes).double()
    among = (1 - hot) * 0.1 / (classes - 1) if convention == "others" else 0.1 / classes
    target = 0.9 * hot + among
    loss = LabelSmoothing(convention=convention, stop=1).loss(cross_entropy, nn.Module(), 0)
    torch.testing.assert_close(loss(outputs, labels), cross_entropy(outputs, target))
    same_in_torch = cross_entropy(outputs, labels, label_smoothing=spread_of(0.1, classes, convention))
    torch.testing.assert_close(loss(outputs, labels), same_in_torch)


def test_smoothing_follows_its_schedule_and_ends_with_the_loss_itself():
    trick = LabelSmoothing(amount=Linear(0.2, 0.0), stop=4)
    assert [trick.amount_at(step) for step in range(6)] == pytest.approx([0.2, 0.15, 0.1, 0.05, 0, 0])
    assert trick.loss(cross_entropy, nn.Module(), 4) is cross_entropy
    assert trick.loss(cross_entropy, nn.Module(), 3) is not cross_entropy


def test_smoothing_lasts_to_the_end_unless_told():
    (trick,) = Experiment(tricks=(LabelSmoothing(),)).tricks_over(100)
    assert trick.stop == 100


def test_the_trick_trains_as_torchs_own_smoothing_does(tmp_path):
    settings = {"data": "digits", "density": 0.2, "epochs": 1, "batch_size": 400}
    trick = run(Experiment(tricks=(LabelSmoothing(convention="all"),), **settings), tmp_path, progress=False)
    torchs = run(Experiment(label_smoothing=0.1, **settings), tmp_path, progress=False)
    assert trick.values("train loss") == pytest.approx(torchs.values("train loss"), rel=1e-5)


def test_labels_are_smoothed_once():
    with pytest.raises(ValueError, match=r"labels must be smoothed once, got label_smoothing=0.1 and"):
        Experiment(label_smoothing=0.1, tricks=(LabelSmoothing(),))


def test_wrong_settings_of_smoothing_are_refused():
    with pytest.raises(ValueError, match="convention must be one of others, all, got 'some'"):
        spread_of(0.1, 10, "some")
    with pytest.raises(ValueError, match="at least two classes to share among, got 1"):
        spread_of(0.1, 1)
    with pytest.raises(ValueError, match=r"the amount must lie in \[0, 1\], got 1.5 at step 0"):
        LabelSmoothing(amount=Constant(1.5), stop=3).amount_at(0)


# --- a teacher --------------------------------------------------------------------------------------------------


def taught(**settings):
    trick = Distillation(teacher="it", **{"stop": 5, **settings})
    teacher = plain_mlp(seed=7)
    return trick, teacher, TrickContext(load={"it": teacher}.__getitem__)


def test_the_loss_is_the_mixture_of_the_formula():
    trick, teacher, context = taught(share=Constant(0.3), temperature=2.0)
    model = begin(sparse(plain_mlp()), [trick], context)
    x, labels = batches_of(1)[0]
    outputs = model(x)
    mixture = 0.7 * cross_entropy(outputs, labels) + 0.3 * 4 * kl_div(
        (outputs / 2).log_softmax(1), (teacher(x) / 2).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(loss_at([trick], cross_entropy, model, 0)(outputs, labels), mixture)


def test_a_network_that_is_its_own_teacher_has_nothing_to_learn_from_it():
    model = plain_mlp()
    trick = Distillation(teacher="itself", share=Constant(1.0), stop=3)
    begin(model, [trick], TrickContext(load=lambda _: copy.deepcopy(model)))
    x, labels = batches_of(1)[0]
    loss = trick.loss(cross_entropy, model, 0)(model(x), labels)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)


def test_a_teacher_is_no_part_of_the_network_and_learns_nothing():
    trick, teacher, context = taught()
    before = states(teacher)
    model = begin(sparse(plain_mlp()), [trick], context)
    assert list(model.state_dict()) == list(sparse(plain_mlp()).state_dict())
    assert len(list(model.parameters())) == len(list(sparse(plain_mlp()).parameters()))
    model, _ = trained(model, trick)
    assert same(states(teacher), before)
    assert not vars(model).get("_teacher")
    assert not model._forward_pre_hooks


def test_a_taught_network_gets_nearer_to_its_teacher():
    trick, teacher, context = taught(share=Constant(1.0), stop=40)
    x, _ = batches_of(1, seed=3)[0]
    model = begin(sparse(plain_mlp(), density=0.6), [trick], context)
    before = (model(x).softmax(1) - teacher(x).softmax(1)).abs().mean()
    trained(model, trick, count=40)
    assert (model(x).softmax(1) - teacher(x).softmax(1)).abs().mean() < before / 2


def trained(model, trick, count=6):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return train(model, [trick], batches_of(count), optimizer=optimizer)


def test_without_a_name_or_a_way_to_load_there_is_no_teacher():
    with pytest.raises(ValueError, match="needs a teacher, got no name. Give teacher="):
        Distillation(stop=3).apply(plain_mlp())
    with pytest.raises(ValueError, match=r"the teacher 'it' must be loaded, got no way to. Give TrickContext"):
        Distillation(teacher="it", stop=3).apply(plain_mlp())
    with pytest.raises(ValueError, match="must be applied before step 0, got a network without teacher"):
        Distillation(teacher="it", stop=3).loss(cross_entropy, plain_mlp(), 0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        Distillation(temperature=0.0)


def test_a_run_without_its_teacher_is_refused_and_makes_no_folder(tmp_path):
    experiment = Experiment(tricks=(Distillation(teacher="nobody"),), epochs=1)
    with pytest.raises(FileNotFoundError, match="nobody"):
        run(experiment, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
