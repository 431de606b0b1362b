"""Scores on batches and outputs of other people's models: dicts, losses that the model computes, and tuples."""

from dataclasses import dataclass

import pytest
import torch
from helpers import made
from kinds import First
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.scores import SNIP, GraSP, SynFlow, Taylor, prune, score_whole


@dataclass
class Output:
    """What transformers' models return, with attributes."""

    logits: Tensor
    loss: Tensor | None = None


class Classifier(nn.Module):
    """A model that takes inputs by name, and computes its loss when it gets labels."""

    def __init__(self, returns: str = "attributes"):
        super().__init__()
        self.first, self.rnn, self.last, self.returns = nn.Linear(4, 5), First(nn.RNN(5, 6)), nn.Linear(6, 3), returns

    def forward(self, x: Tensor, mask: Tensor | None = None, labels: Tensor | None = None):
        hidden = self.first(x)
        logits = self.last(self.rnn(hidden if mask is None else hidden * mask))
        if self.returns == "a tuple":
            return logits, hidden
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return Output(logits, loss) if self.returns == "attributes" else {"logits": logits, "loss": loss}


def batch(seed: int = 0, size: int = 6) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4, generator=draws, dtype=torch.float64)
    return {"x": x, "mask": torch.ones(size, 1), "labels": torch.randint(3, (size,), generator=draws)}


def pair(one: dict[str, Tensor]) -> tuple:
    return {key: x for key, x in one.items() if key != "labels"}, one["labels"]


class Logits(nn.Module):
    """The same model, which returns logits only."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.model(**inputs).logits


@pytest.mark.parametrize("score", [SNIP(), Taylor(), GraSP()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("returns", ["attributes", "a dict", "a tuple"])
def test_a_dict_batch_has_the_scores_of_its_pair(score, returns):
    model = made(lambda: Classifier(returns))
    plain = Logits(made(Classifier))
    found = score_whole(model, score, batches=[batch(0), batch(1, 3)])
    expected = score_whole(plain, score, batches=[pair(batch(0)), pair(batch(1, 3))])
    assert list(found) == ["first", "rnn.module.weight_ih_l0", "rnn.module.weight_hh_l0", "last"]
    for name, scores in found.items():
        torch.testing.assert_close(scores, expected[f"model.{name}"])


def test_synflow_needs_no_labels_and_sees_no_loss():
    class Straight(Classifier):
        def __init__(self):
            super().__init__()
            self.rnn = nn.Linear(5, 6)

    model = made(Straight)
    kept = prune(model, SynFlow(rounds=3), 0.3, batches=[batch()])
    assert kept.count == round(0.3 * kept.size)
    assert kept == prune(model, SynFlow(rounds=3), 0.3, batches=[pair(batch())])


def test_a_loss_of_the_model_counts_by_samples_where_there_are_no_labels():
    class OwnLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor):
            return Output(logits=x, loss=self.layer(x).square().mean())

    model = made(OwnLoss)
    whole, parts = [{"x": batch()["x"]}], [{"x": batch()["x"][:4]}, {"x": batch()["x"][4:]}]
    one, two = (score_whole(model, SNIP(), batches=batches)["layer"] for batches in (whole, parts))
    torch.testing.assert_close(one, two)


def test_an_adaptor_reads_any_other_batch():
    model = made(Classifier)
    adaptor = sk.Adaptor(batch=lambda one: ({"x": one[0]}, one[1]), outputs=lambda outputs: outputs.logits)
    one = batch()
    found = score_whole(model, GraSP(), batches=[(one["x"], one["labels"])], adaptor=adaptor)
    expected = score_whole(Logits(model), GraSP(), batches=[({"x": one["x"]}, one["labels"])])
    torch.testing.assert_close(found["first"], expected["model.first"])


def test_grasp_says_what_it_needs_where_it_sees_no_logits():
    class Words(Classifier):
        def forward(self, x: Tensor, mask: Tensor | None = None, labels: Tensor | None = None):
            return Output(super().forward(x).logits.view(2, 3, 3), None)

    with pytest.raises(ValueError, match="GraSP needs logits with a row per label, got a model that computes its own"):
        score_whole(made(Words), GraSP(), batches=[batch()])


def test_trained_matrices_can_be_scored_by_calibration_data():
    model = made(Classifier)
    sparse = sk.sparsify(model, sk.random_topology(sk.shapes_of(model), 0.5), init="dense")
    kept = prune(sk.densify(sparse), Taylor(), 0.2, batches=[batch(seed) for seed in range(3)])
    assert (kept - sk.topology_of(sparse)).count == 0
    assert kept.count == round(0.2 * kept.size)
