"""An output layer for very many classes: the sampled softmax, its gradients, and a rewiring class by class."""

import jaxtyping
import pytest
import torch
from pages import run_only_block
from torch.nn import functional

from sparsekit.layers import WideOutput
from sparsekit.layers.sampled_classes import sampled_classes
from sparsekit.layers.wide_output import blocks_of
from sparsekit.rewiring.wide_output import rewire_output

# torch's optimizers make sparse tensors, and since 2.13 torch warns once that it does not check them.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def output(classes: int = 50, *, features: int = 12, fan_in: int = 3, **settings) -> WideOutput:
    return WideOutput(features, classes, fan_in=fan_in, generator=draws(), **settings)


def dense_of(layer: WideOutput) -> torch.Tensor:
    """The weights of all classes, laid out by a loop."""
    dense = torch.zeros(layer.classes, layer.features)
    for row, (inputs, values) in enumerate(zip(layer.inputs.tolist(), layer.weight.tolist(), strict=True)):
        for position, value in zip(inputs, values, strict=True):
            dense[row, position] = value
    return dense


def batch(classes: int = 50, *, features: int = 12, size: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(size, features, generator=draws(1)), torch.randint(classes, (size,), generator=draws(2))


def test_every_class_has_its_own_connections_and_other_candidates():
    layer = output()
    both = torch.cat([layer.inputs, layer.candidates], dim=1)
    assert all(len(set(row)) == 6 for row in both.tolist())
    assert layer.topology.fan_in().tolist() == 50 * [3]
    assert torch.equal(layer.topology.mask(), dense_of(layer) != 0)


def test_all_scores_are_those_of_the_dense_layer():
    layer, (hidden, _) = output(), batch()
    layer.bias.data.normal_(generator=draws(3))
    torch.testing.assert_close(layer(hidden), hidden @ dense_of(layer).T + layer.bias.squeeze(1))


def test_with_all_classes_the_sampled_loss_is_the_whole_cross_entropy_with_the_same_gradients():
    layer, (hidden, labels) = output().double(), batch()
    layer.bias.data.normal_(generator=draws(3))
    hidden = hidden.double().requires_grad_()
    plain = dense_of(layer).double().requires_grad_()
    bias = layer.bias.detach().squeeze(1).requires_grad_()
    whole = functional.cross_entropy(hidden @ plain.T + bias, labels)
    expected = torch.autograd.grad(whole, [hidden, plain, bias])

    loss = layer.loss(hidden, labels, layer.classes, draws())
    loss.backward()
    torch.testing.assert_close(loss, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(hidden.grad, expected[0], rtol=0, atol=1e-6)
    of_connections = expected[1].gather(1, layer.inputs.long())
    torch.testing.assert_close(layer.weight.grad.to_dense(), of_connections, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.bias.grad.to_dense().squeeze(1), expected[2], rtol=0, atol=1e-6)
    of_candidates = expected[1].gather(1, layer.candidates.long())
    torch.testing.assert_close(layer.candidate_grads, of_candidates, rtol=0, atol=1e-6)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_sum_over_a_sample_has_the_mean_of_the_sum_over_all_classes(uniform):
    terms = torch.rand(30, generator=draws(4), dtype=torch.float64)
    labels, random = torch.tensor([4, 9, 4]), draws(5)
    sums = []
    for _ in range(2000):
        sample = sampled_classes(labels, 30, 12, random, uniform=uniform)
        sums.append((terms[sample.classes] / sample.log_probabilities.double().exp()).sum())
    estimates = torch.stack(sums)
    assert abs(estimates.mean() - terms.sum()) < 4 * estimates.std() / 2000**0.5
    assert estimates.std() > 0.1


def test_low_numbers_are_drawn_as_often_as_the_log_uniform_distribution_says():
    labels, random = torch.tensor([99]), draws(6)
    hits = sum(0 in sampled_classes(labels, 100, 1, random).classes for _ in range(4000))
    share = torch.tensor(2.0).log() / torch.tensor(101.0).log()  # of class 0
    assert abs(hits / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_classes_of_the_batch_are_in_the_sample_without_correction():
    labels = torch.tensor([40, 3, 40])
    sample = sampled_classes(labels, 50, 5, draws())
    assert torch.equal(sample.classes[sample.labels], labels)
    assert sample.log_probabilities[sample.labels].tolist() == [0, 0, 0]
    assert len(sample.classes.unique()) == len(sample.classes)
    assert (sample.log_probabilities <= 0).all()


@pytest.mark.parametrize("make", [torch.optim.Adagrad, torch.optim.SparseAdam, torch.optim.SGD])
def test_a_step_touches_the_rows_of_the_sample_only(make):
    layer, (hidden, labels) = output(500), batch(500)
    optimizer, before = make(layer.parameters(), lr=0.1), layer.weight.detach().clone()
    layer.loss(hidden, labels, 20, draws()).backward()
    touched = layer.weight.grad.coalesce().indices().squeeze(0)
    assert 7 <= len(touched) <= 27
    optimizer.step()
    changed = (layer.weight.detach() != before).any(dim=1).nonzero().squeeze(1)
    assert set(changed.tolist()) <= set(touched.tolist())
    assert set(labels.tolist()) <= set(changed.tolist())


def test_a_rewiring_swaps_the_weakest_connections_for_the_best_candidates_by_hand():
    layer = WideOutput(6, 2, fan_in=2, candidates=2, generator=draws())
    layer.inputs.copy_(torch.tensor([[0, 1], [2, 3]]))
    layer.candidates.copy_(torch.tensor([[4, 5], [0, 5]]))
    layer.weight.data.copy_(torch.tensor([[0.1, -0.9], [0.8, 0.2]]))
    layer.candidate_grads.copy_(torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
    assert rewire_output(layer, 0.5, draws()) == 1
    assert layer.inputs.tolist() == [[5, 1], [2, 3]]  # the second class took part in no step
    torch.testing.assert_close(layer.weight.data, torch.tensor([[0.0, -0.9], [0.8, 0.2]]))
    assert not {5, 1} & set(layer.candidates[0].tolist())
    assert layer.candidates[1].tolist() == [0, 5]
    assert not layer.candidate_grads.any()


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda weights: torch.optim.Adagrad(weights, lr=0.1, initial_accumulator_value=0.5), 0.5),
        (lambda weights: torch.optim.SparseAdam(weights, lr=0.1), 0.0),
    ],
)
def test_grown_connections_begin_with_the_state_that_the_optimizer_begins_with(make, first):
    layer, (hidden, labels) = output(), batch()
    optimizer = make(layer.parameters())
    layer.loss(hidden, labels, 50, draws()).backward()
    optimizer.step()
    before = layer.inputs.clone()
    rewire_output(layer, 0.4, draws(), optimizer)
    grown = layer.inputs != before
    assert grown.sum() == 50  # one of three connections of each class
    tensors = [x for x in optimizer.state[layer.weight].values() if torch.is_tensor(x) and x.shape == grown.shape]
    assert tensors
    assert all((state[grown] == first).all() and (state[~grown] != first).any() for state in tensors)
    assert (layer.weight[grown] == 0).all()


def test_rewirings_draw_each_missing_feature_as_often():
    counts = torch.zeros(12)
    for seed in range(40):
        layer = output()
        layer.candidate_grads.fill_(1.0)
        rewire_output(layer, 0.0, draws(seed))
        counts += torch.bincount(layer.candidates.long()[layer.inputs[:, 0] != 0].flatten(), minlength=12)
        assert not (layer.candidates.unsqueeze(2) == layer.inputs.unsqueeze(1)).any()
    missing = 40 * (1 - torch.nn.functional.one_hot(output().inputs.long(), 12).sum(1))[output().inputs[:, 0] != 0]
    expected = missing.sum(0) * 3 / 9
    assert ((counts - expected).abs() < 4 * expected.sqrt()).all()


def test_the_best_classes_come_from_all_blocks(monkeypatch):
    layer, (hidden, _) = output().eval(), batch()
    expected = layer(hidden).topk(4, dim=1).indices
    monkeypatch.setattr("sparsekit.layers.wide_output.BLOCK", 12 * 8)
    assert len(list(layer.blocks())) == 7
    assert torch.equal(layer.best(hidden, 4), expected)
    torch.testing.assert_close(layer(hidden).topk(4, dim=1).indices, expected)


def test_blocks_hold_every_class_once():
    assert torch.cat(list(blocks_of(20_001, 300))).tolist() == list(range(20_001))


def test_a_saved_layer_has_its_connections_and_candidates_again():
    layer, other = output(), WideOutput(12, 50, fan_in=3, generator=draws(9))
    other.load_state_dict(layer.state_dict())
    hidden, _ = batch()
    assert torch.equal(other(hidden), layer(hidden))
    assert torch.equal(other.candidates, layer.candidates)


def test_evaluation_and_layers_without_candidates_record_nothing():
    for layer in (output().eval(), output(candidates=0)):
        hidden, labels = batch()
        layer.loss(hidden, labels, 10, draws()).backward()
        assert not layer.candidate_grads.any()
        assert rewire_output(layer, 0.5, draws()) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: output(fan_in=7), "must be at most the 12 features, got 7 and 7"),
        (lambda: output(fan_in=0), "fan_in must be at least 1"),
        (lambda: output(classes=1), "classes must be at least 2"),
        (lambda: output(candidates=-1), "candidates must be at least 0"),
        (lambda: output()(torch.ones(3, 5)), r"must be of shape \(batch, 12\), got \(3, 5\)"),
        (lambda: output().loss(torch.ones(1, 12), torch.tensor([50]), 5, draws()), "classes from 0 to 49"),
        (lambda: output().loss(torch.ones(1, 12), torch.tensor([1]), 0, draws()), "negatives must be at least 1"),
        (lambda: output().best(torch.ones(1, 12), 51), "count must be 1 to 50, got 51"),
        (lambda: rewire_output(output(), 1.5, draws()), r"must lie in \[0, 1\], got 1.5"),
        (
            lambda: rewire_output(output(), 0.5, draws(), torch.optim.SGD(output().parameters(), lr=1.0)),
            "the optimizer must train this layer",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: output(fan_in=2.5), "fan_in must be an integer"),
        (lambda: output().loss(torch.ones(1, 12), torch.tensor([1.0]), 5, draws()), "1-D int64 tensor, got"),
        (lambda: output().loss(torch.ones(1, 12), [1], 5, draws()), "1-D int64 tensor, got list"),
        (lambda: rewire_output(torch.nn.Linear(2, 2), 0.5, draws()), "output must be a WideOutput"),
        (lambda: rewire_output(output(), "half", draws()), "drop_fraction must be a number"),
    ],
)
def test_what_is_of_another_type_is_refused_with_a_sentence(call, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checks in between
    with pytest.raises(TypeError, match=said):
        call()


def test_the_example_of_the_page_runs(capsys):
    run_only_block("wide_outputs.md")
    assert "torch.Size([32, " in capsys.readouterr().out
