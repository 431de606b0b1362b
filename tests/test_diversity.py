"""How networks differ in what they answer: worked-out numbers, identities, and bounds that hold for any networks."""

import math

import numpy as np
import pytest
import torch
from helpers import batch_for, mlp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsekit import analysis
from sparsekit.analysis.behaviour.calibration import (
    best_temperature,
    brier,
    calibration_error,
    calibration_error_of_table,
    nll,
    reliability_of_confidences,
)
from sparsekit.analysis.behaviour.ensemble import ensemble_table
from sparsekit.analysis.behaviour.prediction_diversity import (
    disagreement_bounds,
    diversity_table,
    error_correlation,
    kappa,
    kl_divergence,
)

TWO = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]], dtype=torch.float64).log()


def drawn(seed: int, networks: int = 4, samples: int = 50, classes: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draw)
    outputs = torch.randn(networks, samples, classes, generator=draw)
    return outputs + 1.5 * torch.nn.functional.one_hot(labels, classes), labels


def accuracies(outputs: Tensor, labels: Tensor) -> list[float]:
    return (outputs.argmax(-1) == labels).double().mean(1).tolist()


class TestDivergence:
    def test_kl_and_js_have_the_values_worked_out_by_hand(self):
        kl, js = kl_divergence(TWO), analysis.js_divergence(TWO)
        assert kl == pytest.approx(np.array([[0, 0.510826], [0.368064, 0]]), abs=1e-6)
        assert js == pytest.approx(np.array([[0, 0.101749], [0.101749, 0]]), abs=1e-6)

    def test_js_is_at_most_ln_2_where_kl_is_infinite(self):
        sure = torch.tensor([[[0.0, -math.inf]], [[-math.inf, 0.0]]])
        assert kl_divergence(sure)[0, 1] == math.inf
        assert analysis.js_divergence(sure)[0, 1] == pytest.approx(math.log(2))

    @given(st.integers(0, 1000))
    def test_they_are_at_least_zero_and_zero_for_the_same_network(self, seed):
        outputs, _ = drawn(seed)
        outputs[1] = outputs[0] + 3.0  # other outputs, the same probabilities
        kl, js = kl_divergence(outputs), analysis.js_divergence(outputs)
        assert (kl >= 0).all()
        assert ((js >= 0) & (js <= math.log(2))).all()
        assert kl[0, 1] == pytest.approx(0, abs=1e-12)
        assert js == pytest.approx(js.T)
        assert np.diag(kl) == pytest.approx(0)


class TestDisagreement:
    def test_it_is_the_share_of_samples_and_nothing_more(self):
        chosen = torch.tensor([[0, 1, 2, 0], [0, 1, 0, 1], [2, 2, 1, 2]])
        found = analysis.disagreement(torch.nn.functional.one_hot(chosen).float())
        assert found.tolist() == [[0, 0.5, 1], [0.5, 0, 1], [1, 1, 0]]

    @given(st.integers(0, 1000))
    def test_it_keeps_the_bounds_that_the_accuracies_set(self, seed):
        outputs, labels = drawn(seed)
        least, most = disagreement_bounds(accuracies(outputs, labels))
        found = analysis.disagreement(outputs)
        assert (found >= least - 1e-12).all()
        assert (found <= most + 1e-12).all()

    def test_accuracies_that_are_no_shares_are_refused(self):
        with pytest.raises(ValueError, match=r"shares in \[0, 1\]"):
            disagreement_bounds([98.0])

    def test_errors_on_the_same_samples_correlate(self):
        chosen = torch.tensor([[0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 0, 0], [0, 0, 0, 0]])
        outputs, labels = torch.nn.functional.one_hot(chosen).double(), torch.zeros(4).long()
        found = error_correlation(outputs, labels)
        assert found[:3, :3] == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))
        assert np.isnan(found[3]).all()  # a network without errors

    def test_kappa_knows_what_chance_gives(self):
        chosen = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
        found = kappa(torch.nn.functional.one_hot(chosen).double())
        # The last agrees with the first on three samples in four; chance is 1/2 * 3/4 + 1/2 * 1/4.
        assert found[0] == pytest.approx([1, 0, -1, 0.5])

    def test_the_table_has_every_pair_and_the_numbers_of_the_matrices(self):
        outputs, labels = drawn(0, networks=3)
        table = diversity_table(outputs, labels, ["a", "b", "c"]).set_index(["first", "second"])
        assert list(table.index) == [("a", "b"), ("a", "c"), ("b", "c")]
        row, errors = table.loc["a", "c"], 1 - np.array(accuracies(outputs, labels))
        assert row["disagreement"] == analysis.disagreement(outputs)[0, 2]
        assert row["per_error"] == pytest.approx(row["disagreement"] / errors[[0, 2]].mean())
        assert (row["kl"], row["kl_back"]) == tuple(kl_divergence(outputs)[[0, 2], [2, 0]])
        assert row["least"] <= row["disagreement"] <= row["most"]
        with pytest.raises(ValueError, match="a name for each of 3 networks, got 1"):
            diversity_table(outputs, labels, ["a"])

    def test_outputs_are_those_of_every_network_on_the_same_samples(self):
        nets, batch = [mlp(4, 3), mlp(4, 6, 3)], batch_for((4,))
        outputs, labels = analysis.outputs_of(nets, [batch])
        assert torch.equal(outputs[1], nets[1](batch[0]))
        assert torch.equal(labels, batch[1])

    def test_samples_in_another_order_each_time_are_refused(self):
        class Shuffled(list):
            def __iter__(self):
                (inputs, labels), self[0] = self[0], (self[0][0].flip(0), self[0][1].flip(0))
                yield inputs, labels

        with pytest.raises(ValueError, match="in one order"):
            analysis.outputs_of([mlp(4, 3)] * 2, Shuffled([batch_for((4,))]))
        with pytest.raises(ValueError, match="at least one network"):
            analysis.outputs_of([], [batch_for((4,))])


class TestEnsemble:
    @given(st.integers(0, 1000), st.floats(0.1, 30))
    def test_its_likelihood_is_at_least_the_mean_of_its_members(self, seed, scale):
        outputs, labels = drawn(seed)
        table = ensemble_table(outputs * scale, labels)
        assert table.loc["ensemble", "nll"] <= table.loc["mean", "nll"] + 1e-12
        assert table.loc["ensemble", "brier"] <= table.loc["mean", "brier"] + 1e-12

    def test_it_averages_probabilities_not_outputs(self):
        assert analysis.ensemble(TWO).exp() == pytest.approx(torch.tensor([[0.7, 0.3]]).numpy())
        of_outputs = TWO.mean(0).softmax(-1)
        assert float(of_outputs[0, 0]) == pytest.approx(0.75)

    def test_the_table_has_a_row_for_each_the_mean_the_best_and_the_whole(self):
        outputs, labels = drawn(1, networks=2)
        table = ensemble_table(outputs, labels, ["a", "b"])
        assert list(table.index) == ["a", "b", "mean", "best", "ensemble"]
        assert table.loc["best", "accuracy"] == table.loc[["a", "b"], "accuracy"].max()
        assert table.loc["best", "nll"] == table.loc[["a", "b"], "nll"].min()
        assert table.loc["a", "nll"] == pytest.approx(
            float(torch.nn.functional.cross_entropy(outputs[0], labels)), rel=1e-5
        )
        with pytest.raises(ValueError, match="at least one network"):
            analysis.ensemble(outputs[:0])


class TestCalibration:
    CONFIDENCE, RIGHT = torch.tensor([0.95, 0.95, 0.55, 0.65]), torch.tensor([True, False, True, True])

    def test_the_error_has_the_value_worked_out_by_hand(self):
        table = reliability_of_confidences(self.CONFIDENCE, self.RIGHT, bins=10)
        assert calibration_error_of_table(table) == pytest.approx(0.425)

    def test_there_are_fifteen_bins_not_fourteen(self):
        outputs, labels = drawn(0)
        table = analysis.reliability(outputs[0], labels)
        assert len(table) == 15
        assert table["count"].sum() == len(labels)
        assert table["high"].to_numpy() - table["low"].to_numpy() == pytest.approx(1 / 15)

    def test_edges_belong_to_the_bin_below_and_certainty_to_the_last(self):
        table = reliability_of_confidences(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([True] * 3), bins=2)
        assert table["count"].tolist() == [2, 1]

    def test_with_one_bin_it_is_the_calibration_error_of_table_the_means(self):
        outputs, labels = drawn(2)
        confidence = float(outputs[0].softmax(-1).amax(-1).mean())
        gap = abs(accuracies(outputs, labels)[0] - confidence)
        assert calibration_error(outputs[0], labels, bins=1) == pytest.approx(gap, abs=1e-6)

    def test_scaling_by_the_best_temperature_finds_the_true_scale(self):
        draw = torch.Generator().manual_seed(0)
        outputs = 2 * torch.randn(20_000, 4, generator=draw)
        labels = torch.multinomial(outputs.softmax(-1), 1, generator=draw).flatten()
        assert best_temperature(3 * outputs, labels) == pytest.approx(3, rel=0.03)
        before, after = (calibration_error(o, labels) for o in (3 * outputs, outputs))
        assert after < 0.02 < before

    def test_brier_of_a_sure_network_counts_its_errors_twice(self):
        sure = 1000 * torch.eye(3)
        assert brier(sure, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)

    def test_nothing_to_look_at_is_refused(self):
        with pytest.raises(ValueError, match="a bin and a sample at least"):
            calibration_error(torch.zeros(0, 3), torch.zeros(0).long())
        with pytest.raises(ValueError, match="a bin and a sample at least"):
            analysis.reliability(torch.zeros(2, 3), torch.zeros(2).long(), bins=0)


MEASURED = {
    "accuracy": lambda outputs, labels: ensemble_table(outputs, labels)["accuracy"].tolist(),
    "nll": lambda outputs, labels: nll(outputs[0], labels),
    "brier": lambda outputs, labels: brier(outputs[0], labels),
    "calibration": lambda outputs, labels: calibration_error(outputs[0], labels),
    "errors": error_correlation,
}


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("padding", [-100, 255])
def test_labels_that_are_no_class_count_in_no_measure(name, padding):
    outputs, labels = drawn(0)
    padded = labels.where(torch.arange(50) % 3 > 0, padding)
    counts = padded != padding
    assert MEASURED[name](outputs, padded) == pytest.approx(MEASURED[name](outputs[:, counts], labels[counts]))
