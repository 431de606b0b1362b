"""Layer collapse: what scores keep of each layer, when one is empty, and which sums are the same in all layers."""

import dataclasses
from itertools import pairwise

import pandas as pd
import pytest
import torch
from helpers import made
from torch import nn

import sparsekit as sk
from sparsekit import analysis
from sparsekit.analysis.dynamics.score_collapse import COLUMNS
from sparsekit.scores import SNIP, GraSP, Magnitude, SynFlow, make_score, prune, prune_each, score_whole
from sparsekit.topology import LayerTopology, Topology

DENSITIES = (1.0, 0.3, 0.05)


def mlp(*widths: int, bias: bool = True, seed: int = 0) -> nn.Sequential:
    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return made(build, seed)


def batch(width: int, classes: int, *, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(size, width, generator=draws, dtype=torch.float64), torch.arange(size) % classes


# --- many densities at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sk.names("score"))
def test_many_densities_at_once_give_the_masks_that_each_gives_alone(name):
    model, few = mlp(6, 20, 15, 3), [batch(6, 3)]
    score = dataclasses.replace(make_score(name), rounds=1 if name != "force" else 3, min_per_layer=0)
    together = list(prune_each(model, score, DENSITIES, batches=few, seed=4))
    assert together == [prune(model, score, density, batches=few, seed=4) for density in DENSITIES]


def test_a_score_of_one_round_is_taken_once_and_one_of_many_rounds_anew():
    calls = []

    class Counting(Magnitude):
        def __call__(self, *args, **settings):
            calls.append(1)
            return super().__call__(*args, **settings)

    for rounds, wanted in ((1, 1), (2, 6)):
        calls.clear()
        list(prune_each(mlp(6, 20, 3), Counting(rounds=rounds), DENSITIES))
        assert len(calls) == wanted


def test_the_score_of_the_whole_network_is_what_one_round_ranks():
    model, few = mlp(6, 20, 3), [batch(6, 3)]
    scores = score_whole(model, SNIP(), batches=few)
    assert sk.keep_top_global(scores, round(0.3 * 180)) == prune(model, SNIP(), 0.3, batches=few)
    assert set(score_whole(model, SNIP(), batches=few, exclude=("last",))) == {"0"}


def test_an_impossible_density_among_many_is_refused():
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\]"):
        list(prune_each(mlp(6, 20, 3), Magnitude(), (0.5, 0.0)))


# --- the table ------------------------------------------------------------------------------------------------------


def test_prunings_come_density_by_density_with_every_score_at_each():
    model, few = mlp(6, 20, 3), [batch(6, 3)]
    scores = {"size": Magnitude(), "grasp": GraSP()}
    found = list(analysis.prunings(model, scores, DENSITIES, batches=iter(few)))
    assert [(one.density, one.score) for one in found] == [(d, name) for d in DENSITIES for name in scores]
    assert found[3].topology == prune(model, GraSP(), 0.3, batches=few)


def cut() -> analysis.Pruning:
    """Two connections on a path, one into a unit that nobody reads; the last layer has one, the middle one none."""
    places = {"a": ((2, 2), [0, 1, 2]), "b": ((1, 2), [0])}
    net = {name: LayerTopology(shape, torch.tensor(found)) for name, (shape, found) in places.items()}
    return analysis.Pruning(score="mine", density=0.5, topology=Topology(net))


def test_the_table_counts_what_is_kept_and_what_lies_on_a_path():
    table = analysis.collapse_table([cut()])
    assert list(table) == list(COLUMNS)
    assert table.to_numpy().tolist() == [["mine", 0.5, "a", 4, 3, 2], ["mine", 0.5, "b", 2, 1, 1]]
    assert cut().useful == 3 / 4
    assert cut().empty == []


def test_a_network_without_connections_has_nothing_of_use():
    none = {"a": LayerTopology((2, 2), torch.tensor([], dtype=torch.int64))}
    one = analysis.Pruning(score="mine", density=0.01, topology=Topology(none))
    assert (one.useful, one.empty) == (0, ["a"])
    assert list(analysis.collapse_table([])) == list(COLUMNS)


def rows(*counts: tuple[float, int, int]) -> pd.DataFrame:
    """Density, kept and effective of the second of two layers; the first is always whole."""
    table = [("mine", d, "a", 9, 9, min(9, effective)) for d, _, effective in counts]
    return pd.DataFrame([*table, *(("mine", d, "b", 9, kept, eff) for d, kept, eff in counts)], columns=COLUMNS)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([(1.0, 9, 9), (0.5, 4, 4), (0.25, 1, 1)], [4.0, 4.0, ""]),
        ([(0.25, 0, 0), (1.0, 9, 9), (0.5, 4, 4)], [2.0, 2.0, "b"]),  # in any order
        ([(1.0, 9, 9), (0.5, 4, 0), (0.25, 2, 0)], [4.0, 1.0, ""]),  # all layers have some, but no path is left
        ([(1.0, 9, 9), (0.5, 0, 0), (0.25, 1, 1)], [1.0, 1.0, "b"]),  # what comes back later does not count
        ([(1.0, 0, 0)], [0.0, 0.0, "b"]),
    ],
)
def test_the_critical_compression_is_the_last_before_anything_is_lost(counts, wanted):
    assert analysis.critical_compression(rows(*counts)).loc["mine"].tolist() == wanted


def test_a_table_of_something_else_is_refused():
    with pytest.raises(ValueError, match="without density, effective"):
        analysis.critical_compression(rows((1.0, 9, 9)).drop(columns=["density", "effective"]))


def test_more_rounds_of_synflow_shrink_the_network_further():
    model = mlp(20, 100, 100, 100, 10, bias=False)
    scores = {f"{rounds}": SynFlow(rounds=rounds, min_per_layer=0) for rounds in (1, 4, 16)}
    densities = [0.5**halving for halving in (0, 6, 8, 9, 10)]
    found = analysis.prunings(model, scores, densities, batches=[batch(20, 10)])
    furthest = analysis.critical_compression(analysis.collapse_table(found))["compression"]
    assert furthest["1"] < furthest["4"] <= furthest["16"]
    assert furthest["16"] == 2**10


# --- ranks ----------------------------------------------------------------------------------------------------------


def test_ranks_are_taken_in_the_whole_network_and_equal_scores_have_equal_ones():
    ranks = analysis.score_ranks({"a": torch.tensor([[-1.0, 3.0], [3.0, 9.0]]), "b": torch.tensor([[0.5]])})
    assert ranks["a"].tolist() == [[0.0, pytest.approx(0.4)], [pytest.approx(0.4), pytest.approx(0.8)]]
    assert ranks["b"].tolist() == [[pytest.approx(0.2)]]


# --- conservation ---------------------------------------------------------------------------------------------------


def spread(column: pd.Series) -> float:
    return float((column.max() - column.min()) / column.abs().mean())


@pytest.mark.parametrize("seed", range(3))
def test_without_biases_signed_sums_are_the_same_in_all_layers_and_those_of_snip_are_not(seed):
    table = analysis.conservation_table(mlp(6, 30, 20, 10, 3, bias=False, seed=seed).float(), [batch(6, 3)])
    assert spread(table["signed"]) < 1e-9
    assert spread(table["synflow"]) < 1e-9
    assert spread(table["snip"]) > 0.1


def test_biases_break_the_signed_sums_and_synflow_leaves_them_out():
    model = mlp(6, 30, 20, 10, 3)
    nn.init.normal_(model[0].bias)
    table = analysis.conservation_table(model, [batch(6, 3)])
    assert spread(table["signed"]) > 0.1
    assert spread(table["synflow"]) < 1e-9


def test_the_sums_are_those_of_the_scores():
    model, few = mlp(6, 20, 3), [batch(6, 3)]
    table = analysis.conservation_table(model, few)
    for name, column in ((SNIP(), "snip"), (SynFlow(), "synflow")):
        sums = {layer: float(score.sum()) for layer, score in score_whole(model, name, batches=few).items()}
        assert table[column].to_dict() == pytest.approx(sums)
    with pytest.raises(ValueError, match="must see examples"):
        analysis.conservation_table(model, [])
