"""Scores of trained networks: what the papers' formulas give when they are written out, and exact budgets."""

import pytest
import torch
from helpers import made, mlp
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.scores import LAMP, RIA, Wanda, prune, score_whole, sparsegpt
from sparsekit.scores.inputs import ranks_in_groups
from sparsekit.scores.sparsegpt import prune_rows


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labelled(inputs: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, torch.arange(len(inputs)) % 3


def of_weight(weight: list) -> nn.Sequential:
    matrix = torch.tensor(weight, dtype=torch.float64)
    layer = nn.Linear(matrix.shape[1], matrix.shape[0]).double()
    layer.weight = nn.Parameter(matrix)
    return nn.Sequential(layer)


# --- LAMP -------------------------------------------------------------------------------------------------------------


def test_lamp_divides_each_square_by_itself_and_all_larger_ones():
    scores = score_whole(of_weight([[3.0, -1.0], [2.0, 0.0]]), LAMP())["0"]
    torch.testing.assert_close(scores, torch.tensor([[1.0, 1 / 14], [4 / 13, 0.0]], dtype=torch.float64))


def test_lamp_keeps_layers_alive_whatever_their_scale_where_magnitude_empties_them():
    model = made(lambda: nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 3)))
    kept = prune(model, LAMP(), 0.2)
    with torch.no_grad():
        model[2].weight.mul_(1e-4)
    assert prune(model, LAMP(), 0.2) == kept
    assert prune(model, sk.scores.Magnitude(), 0.2)["2"].count == 1


# --- Wanda and RIA ----------------------------------------------------------------------------------------------------


def test_wanda_weighs_by_the_norm_of_the_input_and_compares_within_an_output():
    # Norms of the inputs are 1 and 10, so the small weights of the second column win in every row.
    model = of_weight([[3.0, 1.0], [0.4, 0.1], [-9.0, 1.0]])
    batch = labelled(torch.tensor([[0.6, 6.0], [0.8, 8.0]], dtype=torch.float64))
    importance = Wanda().importance(view_of(model, [batch]))["0"]
    torch.testing.assert_close(importance, torch.tensor([[3.0, 10], [0.4, 1.0], [9, 10]], dtype=torch.float64))
    assert score_whole(model, Wanda(), batches=[batch])["0"].tolist() == [[0.5, 1.0]] * 3
    assert prune(model, Wanda(), 0.5, batches=[batch])["0"].indices.tolist() == [1, 3, 5]


def view_of(model: nn.Module, batches: list) -> sk.scores.ScoreView:
    full = sk.Topology({name: sk.LayerTopology.full(shape) for name, shape in sk.shapes_of(model).items()})
    return sk.scores.ScoreView(model=model, topology=full, generator=torch.Generator(), batches=batches)


def test_ria_is_the_share_of_both_units_times_the_root_of_the_norm():
    model = made(lambda: mlp(5, 7, 3))
    inputs = [numbers(4, 5), numbers(9, 5, seed=1)]
    importance = RIA().importance(view_of(model, [labelled(x) for x in inputs]))
    for name, x in (("0", torch.cat(inputs)), ("2", model[:2](torch.cat(inputs)).detach())):
        weight = model.get_submodule(name).weight.detach().abs()
        dense = torch.zeros_like(weight)
        for output in range(len(weight)):
            for input in range(weight.shape[1]):
                share = weight[output, input] / weight[:, input].sum() + weight[output, input] / weight[output].sum()
                dense[output, input] = share * x[:, input].norm() ** 0.5
        torch.testing.assert_close(importance[name], dense)


def test_inputs_of_a_grouped_convolution_are_those_of_its_own_channels():
    model = made(lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.Flatten()))
    x = numbers(2, 4, 5, 5)
    importance = Wanda().importance(view_of(model, [labelled(x)]))["0"]
    columns = nn.functional.unfold(x, 3, padding=1).transpose(0, 1).flatten(1).norm(dim=1).view(2, 1, 2, 3, 3)
    torch.testing.assert_close(importance, model[0].weight.detach().abs() * columns.expand(2, 3, 2, 3, 3).flatten(0, 1))


@pytest.mark.parametrize("score", [Wanda(group=4), RIA(group=4)])
def test_two_of_four_are_left_of_every_group(score):
    model, batch = made(lambda: mlp(8, 12, 4)), labelled(numbers(6, 8))
    for layer in prune(model, score, 0.5, batches=[batch]).values():
        assert (layer.mask().unflatten(1, (-1, 4)).sum(-1) == 2).all()


@pytest.mark.parametrize("score", [Wanda(), RIA()])
def test_every_output_keeps_as_many(score):
    kept = prune(made(lambda: mlp(8, 12, 4)), score, 0.25, batches=[labelled(numbers(6, 8))])
    assert {name: set(layer.fan_in().tolist()) for name, layer in kept.items()} == {"0": {2}, "2": {3}}


def test_ranks_of_a_convolution_compare_channels_and_ties_go_to_the_lower_position():
    assert ranks_in_groups(torch.zeros(1, 3), 0).tolist() == [[1.0, pytest.approx(2 / 3), pytest.approx(1 / 3)]]
    scores = numbers(2, 4, 3, 3)
    best = ranks_in_groups(scores, 2) == 1
    assert torch.equal(best, sk.topology.selection.n_of_m_mask(scores, 1, 2))


# --- SparseGPT --------------------------------------------------------------------------------------------------------


def written_out(weight: Tensor, hessian: Tensor, kept: Tensor, damping: float) -> Tensor:
    """Remove one column after the other, and repair all later ones by the inverse of what is left of the matrix."""
    weight, matrix = weight.clone(), hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian)).double()
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(matrix[column:, column:])
        lost = weight[:, column] * ~kept[:, column] / inverse[0, 0]
        weight[:, column:] -= lost[:, None] * inverse[0]
    return weight


@pytest.mark.parametrize("block", [3, 5, 128])
@pytest.mark.parametrize("density", [0.3, 0.7])
def test_sparsegpt_repairs_as_the_inverses_written_out_do(block, density):
    weight, x = numbers(6, 10), numbers(10, 40, seed=1)
    hessian = x @ x.T
    pruned = prune_rows(weight, hessian, density, block=block)
    assert int((pruned != 0).sum()) == round(density * 60)
    torch.testing.assert_close(pruned, written_out(weight, hessian, pruned != 0, 0.01), rtol=1e-9, atol=1e-9)


def test_the_first_block_loses_what_costs_least():
    weight, x = numbers(6, 10), numbers(10, 40, seed=1)
    matrix = x @ x.T + 0.01 * (x @ x.T).diagonal().mean() * torch.eye(10).double()
    costs = torch.stack([weight[:, j] ** 2 / torch.linalg.inv(matrix[j:, j:])[0, 0] for j in range(10)], dim=1)
    pruned = prune_rows(weight, x @ x.T, 0.5)
    assert costs[pruned != 0].min() > costs[pruned == 0].max()


def test_sparsegpt_keeps_two_of_four_and_leaves_out_inputs_that_are_always_zero():
    x = numbers(8, 30)
    x[2] = 0
    pruned = prune_rows(numbers(5, 8), x @ x.T, 0.5, group=4)
    assert ((pruned != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all()
    assert not pruned[:, 2].any()
    assert pruned.isfinite().all()


def test_a_repaired_network_answers_more_like_the_dense_one_than_a_pruned_one():
    model, inputs = made(lambda: nn.Sequential(nn.Linear(12, 9))), numbers(64, 12) @ numbers(12, 12, seed=3)
    wanted = model(inputs)
    repaired = sparsegpt(model, 0.5, batches=[labelled(inputs)])
    by_wanda = sk.sparsify(model, prune(model, Wanda(), 0.5, batches=[labelled(inputs)]), init="dense")
    assert (repaired(inputs) - wanted).square().mean() < 0.7 * (by_wanda(inputs) - wanted).square().mean()
    assert torch.equal(sparsegpt(model, 1.0, batches=[labelled(inputs)])(inputs), wanted)


def test_convolutions_and_attention_are_pruned_to_the_density_and_the_model_stays_as_it_was():
    convs = made(lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)))
    words = made(lambda: nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True))
    for model, inputs in ((convs, numbers(5, 4, 5, 5)), (words, numbers(3, 4, 8))):
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        pruned = sparsegpt(model, 0.5, batches=[labelled(inputs)])
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
        for name, matrix in sk.layers.matrices_of(pruned).items():
            assert int((matrix.value != 0).sum()) == matrix.value.numel() // 2, name
        assert sk.topology_of(sk.from_pruned(pruned)).count == sum(
            matrix.value.numel() // 2 for matrix in sk.layers.matrices_of(pruned).values()
        )


@pytest.mark.parametrize(
    ("given", "says"),
    [({"group": 5}, "multiple of group"), ({"damping": 0.0}, "damping must be above 0"), ({"block": 0}, "block must")],
)
def test_numbers_out_of_range_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        sparsegpt(mlp(4, 3), 0.5, batches=[labelled(numbers(3, 4).float())], **given)
    with pytest.raises(ValueError, match="needs a plain model, got a sparse one"):
        sparsegpt(sk.sparsify(mlp(4, 3), {"0": sk.LayerTopology.full((3, 4))}), 0.5, batches=[])
