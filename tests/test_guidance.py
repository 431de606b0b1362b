"""What a sampling found: numbers that agree with what the rule really does."""

import math

import pytest
import torch
from helpers import MODELS, STORAGES, batch_for, capture, dense_gradients, random_layer, sparse

import sparsekit as sk
from sparsekit.analysis.dynamics.guidance import (
    growth_recall,
    guidance,
    guidance_table,
    network_recall,
    relative_entropy,
    sample_counts,
    sampled_ratio_expected,
    sampled_ratios,
)
from sparsekit.rewiring.capture import LayerIO, LayerView
from sparsekit.rules import AllMissing, GraBo, GraEst, Guided, SynFlow, Uniform

NETS = {(model, storage): (*MODELS[model], storage) for model in MODELS for storage in STORAGES}
every_net = pytest.mark.parametrize(("make", "shape", "storage"), NETS.values(), ids=map("-".join, NETS))


class OnFirst(Guided):
    """All weight on one place."""

    def guide(self, view, generator):
        inputs, outputs = (torch.zeros(n) for n in (view.topology.num_inputs, view.topology.num_outputs))
        inputs[0] = outputs[0] = 1
        return inputs[None], outputs


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(make, shape, storage):
    model, x = sparse(make(), storage), batch_for(shape)[0]
    return model, x, sk.views(model, capture(model, x))


@every_net
@pytest.mark.parametrize("guide", [Uniform, GraBo, GraEst, SynFlow])
def test_what_is_counted_is_what_a_rewiring_considers(make, shape, storage, guide):
    for view in seen(make, shape, storage)[2].values():
        for candidates in (guide(), guide(subset=0.5, sampler="exact"), guide(subset=math.inf)):
            found = sample_counts(view, candidates, draws(3))
            parts = candidates(view, view.topology, 0, draws(3))
            assert found.candidates == sum(part.numel() for part in parts)
            assert found.candidates <= found.distinct <= found.draws
            assert found.ratio == found.candidates / view.topology.count


def test_draws_that_all_fall_on_one_place_are_all_but_one_duplicates():
    topology = random_layer((10, 20), 50)
    found = sample_counts(LayerView(name="", topology=topology, values=torch.ones(50)), OnFirst(), draws())
    assert (found.draws, found.distinct) == (50, 1)
    assert found.duplicates == pytest.approx(0.98)


def test_the_expected_ratio_is_the_golden_one_and_duplicates_come_as_often_as_chance_says():
    for subset, expected in zip((0.25, 0.5, 1, 1.5, 2), (0.169, 0.325, 0.605, 0.845, 1.053), strict=True):
        assert sampled_ratio_expected(0.3, subset) == pytest.approx(expected, abs=6e-4)
    assert sampled_ratio_expected(1.0) == 0
    topology = random_layer((400, 500), 40_000)
    found = sample_counts(LayerView(name="", topology=topology, values=torch.ones(40_000)), Uniform(), draws())
    assert found.ratio == pytest.approx(sampled_ratio_expected(0.2), abs=0.01)
    assert found.duplicates == pytest.approx(1 - (1 - math.exp(-0.2)) / 0.2, abs=0.01)


def test_entropy_is_one_for_equal_weights_and_zero_for_a_single_one():
    assert relative_entropy(torch.full((7,), 0.3)) == pytest.approx(1)
    assert relative_entropy(torch.tensor([0.0, 2.0, 0.0])) == 0
    assert relative_entropy(torch.tensor([4.0, 4.0, 0.0, 0.0])) == pytest.approx(0.5)
    for useless in ([0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [3.0]):
        assert relative_entropy(torch.tensor(useless)) == 1


@every_net
def test_recall_is_the_share_of_the_largest_gradients_that_is_considered(make, shape, storage):
    model, x, views = seen(make, shape, storage)
    dense = dense_gradients(model, x)
    for name, view in views.items():
        missing = view.topology.missing()
        best = missing[dense[name][missing].abs().topk(4).indices]
        considered = torch.cat(list(GraBo()(view, view.topology, 4, draws(2))))
        expected = float(torch.isin(best, considered).double().mean())
        assert growth_recall(view, GraBo(), 4, draws(2)) == expected
        assert growth_recall(view, AllMissing(), 4, draws()) == 1
        assert growth_recall(view, AllMissing(), 10**6, draws()) == 1
        assert math.isnan(growth_recall(view, AllMissing(), 0, draws()))


@every_net
def test_the_table_has_a_row_for_each_layer_and_changes_nothing(make, shape, storage):
    model, _, views = seen(make, shape, storage)
    before = {name: view.topology for name, view in views.items()}
    table, again = (guidance_table(views, GraEst(subset=0.5), seed=1) for _ in range(2))
    assert table.equals(again)
    assert list(table.index) == list(views)
    assert list(table) == ["ratio", "expected", "duplicates", "input_entropy", "output_entropy", "recall"]
    assert table.map(lambda value: 0 <= value <= 1).all().all()
    assert {name: layer.topology for name, layer in sk.sparse_layers(model).items()} == before
    uniform = guidance_table(views, Uniform())
    assert uniform[["input_entropy", "output_entropy"]].to_numpy() == pytest.approx(1)


@every_net
@pytest.mark.parametrize("guide", [Uniform(), GraBo(subset=2.0), GraEst(), SynFlow(subset=math.inf)])
def test_what_is_shown_of_a_sampling_is_what_happened(make, shape, storage, guide):
    model, x, views = seen(make, shape, storage)
    dense, table = dense_gradients(model, x), guidance_table(views, guide, fraction=0.3, seed=4)
    for name, view in views.items():
        found = guidance(view, guide, fraction=0.3, seed=4)
        assert found.topology == view.topology
        assert found.candidates.count == round(table["ratio"][name] * view.topology.count)
        assert (found.candidates & view.topology).count == 0
        for weights, size in ((found.inputs, view.topology.num_inputs), (found.outputs, view.topology.num_outputs)):
            assert weights.shape == (size,)
            assert float(weights.sum()) == pytest.approx(1)
        sizes = dense[name].abs()
        sizes[view.topology.indices] = -1
        count = math.ceil(0.3 * view.topology.count)
        assert found.best.indices.tolist() == sizes.topk(count).indices.sort().values.tolist()
        assert found.recall == table["recall"][name]


def test_guides_from_which_nothing_can_be_drawn_are_shown_as_equal():
    view = LayerView(name="", topology=random_layer((4, 5), 3), values=torch.ones(3), io=Flat())
    found = guidance(view, Nowhere(subset=math.inf), fraction=0.0)
    assert found.inputs.tolist() == pytest.approx([0.2] * 5)
    assert found.outputs.tolist() == pytest.approx([0.25] * 4)
    assert math.isnan(found.recall)


class Nowhere(Guided):
    """No weight anywhere."""

    def guide(self, view, generator):
        return torch.zeros(1, view.topology.num_inputs), torch.full((view.topology.num_outputs,), math.nan)


class Flat(LayerIO):
    """A captured backward pass in which all gradients are alike."""

    def __init__(self):
        pass

    def grad_at(self, indices):
        return torch.ones(len(indices))


@every_net
def test_a_network_s_recall_counts_layers_by_what_they_grow(make, shape, storage):
    views = seen(make, shape, storage)[2]
    rows = [guidance(view, GraBo(), fraction=0.3, seed=1) for view in views.values()]
    hits, wanted = sum((row.best & row.candidates).count for row in rows), sum(row.best.count for row in rows)
    assert network_recall(views, GraBo(), fraction=0.3, seed=1) == pytest.approx(hits / wanted)
    assert network_recall(views, AllMissing(), fraction=0.3) == pytest.approx(1)
    assert math.isnan(network_recall({}, GraBo()))


def test_measured_ratios_agree_with_the_formula():
    table = sampled_ratios(2.0, (0.02, 0.2, 0.5))
    assert table.index.tolist() == [0.02, 0.2, 0.5]
    assert table["expected"].tolist() == [sampled_ratio_expected(density, 2.0) for density in table.index]
    assert table["measured"].tolist() == pytest.approx(table["expected"].tolist(), rel=0.05)
    assert not (table["measured"] == table["expected"]).any()
