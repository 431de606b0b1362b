"""Circuits: planted ones are found, ablation is by the mean, and few weights remain where only the largest may."""

import copy
from itertools import pairwise

import pandas as pd
import pytest
import torch
from helpers import sparse
from pages import run_only_block
from torch import nn
from torch.nn.functional import cross_entropy

from sparsekit import analysis, plots
from sparsekit.analysis.behaviour.circuits import means_of, modules_in
from sparsekit.models import build
from sparsekit.models.gpt import gpt
from sparsekit.plots.palette import LIGHT
from sparsekit.rules import keep_largest_weights
from sparsekit.rules.largest_after_step import largest
from sparsekit.schedules import Cosine


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(units: tuple[int, ...], *, hidden: int = 16, noise: float = 1e-4) -> nn.Sequential:
    """Return a network whose output is the sum of some hidden units, and of nearly nothing from the others."""
    model = nn.Sequential(nn.Linear(hidden, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(hidden))
        model[2].weight.copy_(noise * torch.randn(1, hidden, generator=draws(1)))
        model[2].weight[0, list(units)] = 1.0
    return model


def squared(model: nn.Module, inputs: torch.Tensor):
    """Return the loss of outputs against what the whole model gives."""
    target = model(inputs).detach()
    return lambda outputs: (outputs - target).square().mean()


@pytest.mark.parametrize("units", [(3,), (0, 15), (2, 5, 7, 11)])
def test_a_planted_circuit_is_found_exactly(units):
    model, inputs = planted(units), torch.randn(200, 16, generator=draws(2))
    circuit = analysis.find_circuit(model, inputs, squared(model, inputs), ["1"], limit=1e-3)
    assert circuit.nodes["1"].nonzero().squeeze(1).tolist() == list(units)
    assert circuit.num_nodes == len(units)
    assert circuit.loss <= 1e-3
    assert circuit.whole_loss == 0


def test_the_rest_of_a_planted_circuit_does_nothing():
    model, inputs = planted((2, 5)), torch.randn(200, 16, generator=draws(2))
    loss = squared(model, inputs)
    circuit = analysis.find_circuit(model, inputs, loss, ["1"], limit=1e-3)
    without = analysis.circuit_loss(model, inputs, loss, circuit.complement(), circuit.means)
    nothing = analysis.circuit_loss(model, inputs, loss, {"1": torch.zeros(16, dtype=torch.bool)}, circuit.means)
    assert without == pytest.approx(nothing, rel=0.01)
    assert without > 0.5


def test_a_larger_limit_never_asks_for_more_nodes():
    model, inputs = planted((1, 4, 9), noise=0.1), torch.randn(300, 16, generator=draws(2))
    loss = squared(model, inputs)
    counts = [analysis.find_circuit(model, inputs, loss, ["1"], limit=limit).num_nodes for limit in (1e-3, 1e-2, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_a_search_draws_nothing():
    model, inputs = planted((1, 4), noise=0.1), torch.randn(100, 16, generator=draws(2))
    first, second = (
        analysis.find_circuit(model, inputs, squared(model, inputs), ["0", "1"], limit=1e-2) for _ in range(2)
    )
    assert all(torch.equal(first.nodes[name], second.nodes[name]) for name in ("0", "1"))


def test_all_nodes_are_the_network_itself():
    model = build("gpt", input_shape=(6,), num_classes=9, dim=8, depth=2, heads=2)
    tokens = torch.randint(9, (5, 6), generator=draws())
    labels = torch.randint(9, (5, 6), generator=draws(1))
    names = modules_in(analysis.gpt_wiring(model))
    means = means_of(model, tokens, names)
    everything = {name: torch.ones_like(mean, dtype=torch.bool) for name, mean in means.items()}
    loss = analysis.circuit_loss(model, tokens, lambda outputs: cross_entropy(outputs, labels), everything, means)
    assert loss == pytest.approx(cross_entropy(model(tokens), labels).item(), abs=1e-6)


def test_ablated_nodes_have_their_mean_over_samples_and_positions():
    model, inputs = nn.Sequential(nn.Identity(), nn.Linear(3, 2)), torch.randn(4, 5, 3, generator=draws())
    means = means_of(model, inputs, ["0"])
    assert torch.allclose(means["0"], inputs.reshape(20, 3).mean(0))
    by_hand = inputs.clone()
    by_hand[..., 1] = inputs[..., 1].mean()
    inside = {"0": torch.tensor([True, False, True])}
    loss = analysis.circuit_loss(model, inputs, torch.sum, inside, means)
    assert loss == pytest.approx(model[1](by_hand).sum().item(), rel=1e-5)


def test_a_search_leaves_the_model_as_it_was():
    model, inputs = planted((1, 4)).train(), torch.randn(50, 16, generator=draws(2))
    model[0].weight.grad = torch.ones(16, 16)
    before, grad = copy.deepcopy(model.state_dict()), model[0].weight.grad.clone()
    analysis.find_circuit(model, inputs, squared(model, inputs), ["1"], limit=1e-2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, grad)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_what_cannot_be_searched_gets_a_sentence():
    model, inputs = planted((1,)), torch.ones(2, 16)
    with pytest.raises(ValueError, match="modules must be among those of the model, got 'fc9'"):
        analysis.find_circuit(model, inputs, torch.sum, ["fc9"], limit=1.0)
    with pytest.raises(ValueError, match="limit must be at least the loss of the whole model"):
        analysis.find_circuit(model, inputs, torch.sum, ["1"], limit=-5.0)
    with pytest.raises(ValueError, match="limit must be at least"):
        analysis.find_circuit(model, inputs, torch.sum, ["1"], limit=float("nan"))


def test_every_matrix_of_a_gpt_has_its_wires():
    model = gpt(input_shape=(6,), num_classes=9, dim=8, depth=2, heads=2, tied=False)
    wiring = analysis.gpt_wiring(model)
    matrices = {name.removesuffix(".weight") for name, value in model.named_parameters() if value.dim() > 1}
    assert set(wiring) == matrices - {"embed.positions"}
    for name, (source, target) in wiring.items():
        weight = model.get_submodule(name).weight
        outputs, inputs = reversed(weight.shape) if name == "embed.tokens" else weight.shape
        for end, width in ((source, inputs), (target, outputs)):
            if end not in ("tokens", "answers"):
                shown = means_of(model, torch.zeros(1, 6, dtype=torch.int64), [end])
                assert len(shown[end]) == width


def test_edges_are_the_weights_between_nodes_of_the_circuit():
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [4, 0, 0]]))
        model[1].weight.copy_(torch.tensor([[5.0, 6, 0], [0, 7, 8]]))
    nodes = {"tokens": torch.tensor([True, True, True, False]), "embed": torch.tensor([True, False, True])}
    edges = analysis.edges_of(model, nodes, {"0": ("tokens", "embed"), "1": ("embed", "out")})
    assert sorted(edges["weight"]) == [1, 3, 5, 8]
    row = edges[edges["weight"] == 8].iloc[0]
    assert (row["source"], row["source_channel"], row["target"], row["target_channel"]) == ("embed", 2, "out", 1)


# --- the largest weights after every step -----------------------------------------------------------------------------


def counts(model: nn.Module) -> list[int]:
    return [int(parameter.count_nonzero()) for parameter in model.parameters() if parameter.dim() > 1]


def trained(model: nn.Module, density, *, steps: int = 12, first_step: int = 0):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, eps=1e-4)
    handle = keep_largest_weights(model, optimizer, density, first_step=first_step)
    history = []
    for step in range(steps):
        inputs = torch.randn(16, 8, generator=draws(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        history.append(counts(model))
    return handle, optimizer, history


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 4))


def test_every_matrix_has_its_share_of_weights_after_every_step():
    _, _, history = trained(net(), lambda step: 0.25)
    assert history == [[20, 10]] * 12


def test_the_share_falls_along_a_schedule_and_one_weight_stays():
    schedule = Cosine(1.0, 0.001).lasting(10)
    _, _, history = trained(net(), schedule)
    assert history[0] == [80, 40]
    assert history[-1] == [1, 1]
    assert all(later <= earlier for one, two in pairwise(history) for earlier, later in zip(one, two, strict=True))


def test_a_resumed_training_continues_the_schedule():
    _, _, history = trained(net(), lambda step: 1.0 if step < 5 else 0.1, first_step=5)
    assert history[0] == [8, 4]


def test_what_stays_is_what_a_dense_transcription_keeps():
    model, by_hand = net(), net()
    trained(model, lambda step: 0.3)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.05, eps=1e-4)
    for step in range(12):
        optimizer.zero_grad()
        by_hand(torch.randn(16, 8, generator=draws(step))).square().mean().backward()
        optimizer.step()
        for parameter in by_hand.parameters():
            if parameter.dim() > 1:
                smallest = (
                    parameter.abs()
                    .flatten()
                    .sort(descending=True, stable=True)
                    .indices[round(0.3 * parameter.numel()) :]
                )
                parameter.data.view(-1)[smallest] = 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), by_hand.parameters(), strict=True))


def test_weights_at_zero_regrow():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    keep_largest_weights(model, optimizer, lambda step: 0.1)
    optimizer.step()
    first = model[0].weight != 0
    model[0].weight.grad = -10 * torch.ones_like(model[0].weight) * ~first
    optimizer.step()
    assert int(((model[0].weight != 0) & ~first).sum()) == 8


def test_biases_and_norms_stay_whole():
    model = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6))
    trained(model, lambda step: 0.1)
    assert all(int(value.count_nonzero()) == 6 for value in (model[0].bias, model[1].weight, model[1].bias))


def test_a_removed_handle_lets_all_weights_grow():
    model = net()
    handle, optimizer, _ = trained(model, lambda step: 0.1)
    handle.remove()
    model(torch.randn(16, 8, generator=draws())).square().mean().backward()
    optimizer.step()
    assert counts(model)[0] > 8


def test_equal_weights_are_kept_from_the_first_on():
    assert largest(torch.ones(2, 3), 4).flatten().tolist() == [True] * 4 + [False] * 2


def test_what_cannot_be_kept_sparse_gets_a_sentence():
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="plain and have matrices, got 2 sparse layers"):
        keep_largest_weights(sparse(net(), "masked"), optimizer, lambda step: 0.1)
    with pytest.raises(ValueError, match="and 0 matrices"):
        keep_largest_weights(nn.LayerNorm(4), optimizer, lambda step: 0.1)
    with pytest.raises(ValueError, match="density must"):
        keep_largest_weights(net(), optimizer, lambda step: 0.0)


# --- the figure ------------------------------------------------------------------------------------------------------


def test_a_drawn_circuit_has_a_line_for_each_weight_in_the_colour_of_its_sign():
    row = {
        "matrix": "a",
        "source": "tokens",
        "source_channel": 3,
        "target": "embed",
        "target_channel": 0,
        "weight": 1.5,
    }
    other = {**row, "source_channel": 1, "target_channel": 2, "weight": -0.5}
    ax = plots.plot_circuit(pd.DataFrame([row, other]), tokens=["a", "b", "c", "d"])
    solid = [line for line in ax.lines if line.get_linestyle() == "-" and line.get_linewidth() > 0.3]
    colours = {line.get_color() for line in solid}
    assert {LIGHT["plus"], LIGHT["minus"]} <= colours
    assert ax.get_title(loc="left") == "circuit of 2 weights between 4 nodes"


def test_an_empty_circuit_cannot_be_shown():
    with pytest.raises(ValueError, match="at least one weight, got none. Raise the limit"):
        plots.plot_circuit(
            pd.DataFrame(columns=["matrix", "source", "source_channel", "target", "target_channel", "weight"])
        )


def test_the_example_of_the_page_runs(capsys):
    run_only_block("circuits.md")
    assert "weights, loss" in capsys.readouterr().out
