"""AC/DC, and S-STE with the flip rate: what trains densely, uses few weights, and ends sparse."""

import copy
import itertools

import pytest
import torch
from helpers import OPTIMIZERS, batch_for, made, mlp, train
from torch import Tensor, nn
from training_helpers import same

import sparsekit as sk
from sparsekit.analysis import flip_rate
from sparsekit.layers import active_topology
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import ACDC, SRSTE, SSTE
from sparsekit.rules.initial import prepare_layers
from sparsekit.rules.s_ste import SoftNOfM, group_thresholds
from sparsekit.topology import LayerTopology, Topology


def begun(rule, *widths: int) -> nn.Module:
    plain = made(lambda: mlp(*widths))
    full = Topology({name: LayerTopology.full(shape) for name, shape in sk.shapes_of(plain).items()})
    model = sk.sparsify(plain, full, init="dense")
    prepare_layers(rule, model, plain=plain)
    return model


def followed(rule, steps: int, *widths: int):
    """Train step by step, and yield the step and the model after it."""
    model = begun(rule, *widths)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(steps):
        train(model, optimizer, rule, (widths[0],), steps=1, first=step)
        yield step, model


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- AC/DC ------------------------------------------------------------------------------------------------------------


def test_ac_dc_alternates_dense_and_sparse_phases_and_ends_sparse():
    rule = ACDC(stop=20, phases=5, final=0.1)
    counts = [sk.topology_of(model).count for _, model in followed(rule, 26, 8, 20, 3)]
    assert counts == [220] * 4 + [22] * 4 + [220] * 4 + [22] * 4 + [220] * 4 + [22] * 6


def test_ac_dc_keeps_the_largest_magnitudes_of_the_whole_network_and_a_connection_of_each_layer():
    views = {
        "a": LayerView(name="a", topology=LayerTopology.full((2, 2)), values=torch.tensor([5.0, -4.0, 0.3, 2.0])),
        "b": LayerView(name="b", topology=LayerTopology.full((2, 2)), values=torch.tensor([0.1, 0.2, -0.2, 0.1])),
    }
    sparse = ACDC(stop=9, phases=1, final=0.5).propose(views, 9, draws())
    assert {name: layer.indices.tolist() for name, layer in sparse.items()} == {"a": [0, 1, 3], "b": [1]}
    dense = ACDC(stop=9, phases=3, final=0.5).propose(views, 6, draws())
    assert dense.count == 8


def test_what_returns_in_a_dense_phase_starts_at_zero():
    rule, before, seen = ACDC(stop=12, phases=3, final=0.2), None, 0
    for step, model in followed(rule, 9, 6, 12, 3):
        layer = sk.sparse_layers(model)["0"]
        if step == 8:  # the dense phase began at this step, after whose update gradients have not come yet
            assert before is not None
            outside = ~before.mask()
            seen = int(outside.sum())
            assert not layer.dense_weight()[outside].any()
        before = layer.topology
    assert seen > 50


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("attached", [False, True])
def test_after_a_change_of_phases_the_optimizer_is_as_a_new_one_is(name, attached):
    rule, widths = ACDC(stop=9, phases=3, final=0.3), (6, 12, 3)
    model = begun(rule, *widths)
    optimizer = OPTIMIZERS[name](model.parameters())
    if attached:
        sk.attach(model, optimizer, rule)
        loop(model, optimizer, range(4))  # the first sparse phase begins at step 3
    else:
        train(model, optimizer, rule, (6,), steps=4)
    assert sk.topology_of(model).density == pytest.approx(0.3, abs=0.01)
    again = copy.deepcopy(model)
    for one, trained_by in ((model, optimizer), (again, OPTIMIZERS[name](again.parameters()))):
        loop(one, trained_by, range(4, 6))
    assert same(model.state_dict(), again.state_dict())


def test_the_optimizer_may_keep_its_state_and_then_survivors_move_on_by_their_momentum():
    weights = []
    for resets in (True, False):
        rule = ACDC(stop=9, phases=3, final=0.3, resets_optimizer=resets)
        weights += [sk.sparse_layers(model)["0"].dense_weight() for step, model in followed(rule, 5, 6, 12, 3)][-1:]
    assert torch.equal(weights[0] != 0, weights[1] != 0)
    assert not torch.equal(*weights)


def loop(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Train in a loop of ones own."""
    for step in steps:
        x, y = batch_for((6,), seed=step)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stop": 9, "phases": 4}, "phases must be odd"),
        ({"stop": None}, "must know when it compresses"),
        ({"stop": 9, "final": 0.0}, "density"),
    ],
)
def test_ac_dc_must_end_sparse(given, says):
    with pytest.raises(ValueError, match=says):
        ACDC(**given)


# --- S-STE ------------------------------------------------------------------------------------------------------------


def dense_soft(weight: Tensor, beta: float) -> Tensor:
    """The formula as it is written, for 2 of 4 and a width that 4 divides."""
    used = torch.zeros_like(weight)
    for row, first in itertools.product(range(len(weight)), range(0, weight.shape[1], 4)):
        group = weight[row, first : first + 4]
        second_smallest = group.abs().sort().values[1]
        used[row, first : first + 4] = beta * group.sign() * (group.abs() - second_smallest).clamp_min(0)
    return used


def whole(weight: Tensor) -> Tensor:
    return torch.ones_like(weight, dtype=torch.bool)


def test_s_ste_uses_what_is_above_the_second_smallest_of_four_scaled_by_least_squares():
    weight = torch.randn(5, 12, generator=draws(), dtype=torch.float64)
    mask = SoftNOfM(2, 4, (5, 12)).double()
    used = mask(weight, whole(weight))
    scales = torch.linspace(0, 6, 6001, dtype=torch.float64)
    errors = torch.stack([(weight - dense_soft(weight, float(scale))).square().sum() for scale in scales[::10]])
    assert float(mask.beta) == pytest.approx(float(scales[::10][errors.argmin()]), abs=0.01)
    torch.testing.assert_close(used, dense_soft(weight, float(mask.beta)))
    first = mask.beta.clone()
    torch.testing.assert_close(mask(3 * weight, whole(weight)), dense_soft(3 * weight, float(first)))
    assert torch.equal(mask.beta, first), "the scale is fixed at the start"


def test_the_scale_of_few_of_many_makes_steps_of_what_is_used_longer():
    """That is why 1 of 50 is unstable at the learning rate of the others. The formulas are the same as for 2 of 4."""
    scales = {}
    for n, m in ((2, 4), (1, 50)):
        weight = 2 * torch.rand(60, 200, generator=draws(), dtype=torch.float64) - 1
        mask = SoftNOfM(n, m, (60, 200)).double()
        used = mask(weight, whole(weight))
        step = 1e-6 * weight.sign() * (used != 0)  # which lengthens what is used, and no threshold
        moved = (mask(weight + step, whole(weight)) - used).abs()[used != 0] / 1e-6
        scales[m] = float(mask.beta)
        assert moved.tolist() == pytest.approx([scales[m]] * len(moved), rel=1e-6)
    assert 1.5 < scales[4] < 3
    assert scales[50] > 10


def test_what_is_used_does_not_jump_where_two_weights_exchange_their_ranks():
    mask = SoftNOfM(2, 4, (1, 4)).double()
    path = [torch.tensor([[3.0, 2.0, 2.0 + shift, 1.0]], dtype=torch.float64) for shift in (-1e-9, 1e-9)]
    before, after = (mask(weight, whole(weight)) for weight in path)
    assert (before != 0).tolist() != (after != 0).tolist()
    assert (before - after).abs().max() < 1e-8


def test_gradients_go_to_every_weight_as_they_are():
    weight = torch.randn(2, 8, generator=draws(), requires_grad=True)
    (SoftNOfM(2, 4, (2, 8))(weight, whole(weight)) * torch.arange(16.0).view(2, 8)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(16.0).view(2, 8))


def test_short_groups_and_convolutions_lose_what_n_of_m_loses():
    weight = torch.randn(3, 6, 2, 2, generator=draws(), dtype=torch.float64)
    used = SoftNOfM(2, 4, (3, 6, 2, 2)).double()(weight, whole(weight))
    assert torch.equal(used != 0, sk.topology.selection.n_of_m_mask(weight.abs(), 2, 4))
    assert group_thresholds(torch.ones(1, 3), 3, 3).tolist() == [[0.0]]


def test_the_function_stays_where_unused_weights_are_dropped_for_good():
    rule = SSTE(stop=6)
    *_, (_, model) = followed(rule, 6, 8, 12, 4)
    last = copy.deepcopy(model)
    x = batch_for((8,))[0]
    wanted = model.train()(x)
    views = sk.views(last)
    sk.rewire(last, rule.propose(views, 6, draws()))
    assert sk.topology_of(last).density == pytest.approx(0.5)
    torch.testing.assert_close(last.eval()(x), wanted, rtol=1e-12, atol=1e-12)


def test_s_ste_trains_all_weights_and_ends_with_two_of_four():
    for step, model in followed(SSTE(stop=9), 12, 8, 12, 4):
        assert sk.topology_of(model).density == pytest.approx(1.0 if step < 9 else 0.5)
        if step < 9:
            assert active_topology(model).density == pytest.approx(0.5)
        else:  # what falls below the last threshold is zero
            assert (active_topology(model) - sk.topology_of(model)).count == 0


# --- how often masks flip ---------------------------------------------------------------------------------------------


def test_the_flip_rate_is_the_share_of_positions_that_change():
    constant = LayerTopology((1, 2), torch.tensor([0]))
    path = [
        Topology({"a": LayerTopology((2, 3), torch.tensor(positions, dtype=torch.int64)), "b": constant})
        for positions in ([0, 1], [1, 4, 5], [])
    ]
    rates = flip_rate(path)
    assert rates["a"].tolist() == pytest.approx([3 / 6, 3 / 6])
    assert rates["b"].tolist() == [0, 0]
    assert rates["network"].tolist() == pytest.approx([3 / 8, 3 / 8])


def test_masks_flip_in_training_and_come_to_rest_where_it_stops():
    path = [active_topology(model) for _, model in followed(SRSTE(stop=20), 24, 8, 16, 4)]
    rates = flip_rate(path)["network"]
    assert rates[:10].sum() > 0
    assert rates.iloc[-3:].tolist() == [0, 0, 0]
