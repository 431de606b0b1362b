"""The visible training loop: what one step does, in which order, and what it leaves untouched when it fails."""

import copy
import functools
import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from training_helpers import (
    OPTIMIZERS,
    RULES,
    STORAGES,
    batches_of,
    is_clean,
    largest_difference,
    optimizer_is_clean,
    pictures_of,
    plain_cnn,
    plain_mlp,
    same,
    sparse,
    states,
    tiny,
    train,
)

from sparsekit.layers import sparse_layers, sparsify, topology_of
from sparsekit.rewiring.capture import views
from sparsekit.rewiring.update import rewire
from sparsekit.rules import SET, DropGrow, RigL, Static
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import topk_indices
from sparsekit.train import StepStats, backward, train_step, training
from sparsekit.utils.seeds import generator

both_storages = pytest.mark.parametrize("storage", STORAGES)
BATCH = batches_of(1)[0]


def step_once(model, optimizer, rule, batch=BATCH, *, step=0, loss_fn=cross_entropy, **settings):
    return train_step(model, optimizer, batch, loss_fn, rule, step, generator(0, "rewire", step), **settings)


def trained(storage, *, optimizer="sgd", dtype=torch.float32):
    return copy.deepcopy(_trained(storage, optimizer, dtype))


@functools.cache
def _trained(storage, optimizer, dtype):
    model = tiny(storage, dtype=dtype)
    made = OPTIMIZERS[optimizer](model.parameters())
    train(model, made, batches_of(3, dtype=dtype), Static())
    return model, made


def kept_values(model, topology):
    return {n: layer.values()[topology[n].position_of(layer.indices) >= 0] for n, layer in sparse_layers(model).items()}


# --- order ------------------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rewiring_step_of_rigl_updates_no_weight_and_counts_no_optimizer_step(storage, optimizer):
    model, made = trained(storage, optimizer=optimizer)
    biases = [layer.bias.detach().clone() for layer in sparse_layers(model).values()]
    before, old = copy.deepcopy(model), topology_of(model)
    bias_states = copy.deepcopy([made.state[layer.bias] for layer in sparse_layers(model).values()])
    _, change = step_once(model, made, RULES["rigl"])
    assert change.num_grown > 0
    stayed = topology_of(model) & old
    assert same(kept_values(model, stayed), kept_values(before, stayed))
    assert same(biases, [layer.bias.detach() for layer in sparse_layers(model).values()])
    assert same(bias_states, [made.state[layer.bias] for layer in sparse_layers(model).values()])


@both_storages
def test_a_rewiring_step_of_set_updates_the_weights_and_then_rewires_by_the_new_ones(storage):
    model, made = trained(storage)
    by_hand, its_optimizer = copy.deepcopy((model, made))
    step_once(model, made, RULES["set"])
    backward(by_hand, BATCH, cross_entropy)
    its_optimizer.step()
    rewire(by_hand, RULES["set"].propose(views(by_hand), 0, generator(0, "rewire", 0)), its_optimizer)
    assert same(states(model, made), states(by_hand, its_optimizer))


@both_storages
def test_a_step_on_which_no_rule_is_due_is_the_optimizers_plain_step(storage):
    model, made = trained(storage)
    by_hand, its_optimizer = copy.deepcopy((model, made))
    _, change = step_once(model, made, RULES["rigl"], step=1)
    cross_entropy(by_hand(BATCH[0]), BATCH[1]).backward()
    its_optimizer.step()
    assert change is None
    assert same(states(model, made), states(by_hand, its_optimizer))


class Spy(Static):
    """Proposes nothing new and notes what it was shown."""

    needs_gradients, replaces_step = True, True
    shown: list = []  # noqa: RUF012

    def is_due(self, step):
        return True

    def propose(self, views, step, generator):
        everywhere = {n: v.grad_at(torch.arange(v.topology.size)) for n, v in views.items()}
        self.shown.append({n: (v.values.clone(), v.grads.clone(), everywhere[n]) for n, v in views.items()})
        return super().propose(views, step, generator)


@both_storages
def test_a_rule_is_shown_the_values_and_gradients_of_this_step_at_all_positions(storage):
    model, made = trained(storage, dtype=torch.float64)
    batch = batches_of(1, dtype=torch.float64)[0]
    plain = plain_mlp().double()
    for name, layer in sparse_layers(model).items():
        plain.get_submodule(name).weight.data = layer.dense_weight()
        plain.get_submodule(name).bias.data = layer.bias.detach().clone()
    cross_entropy(plain(batch[0]), batch[1]).backward()
    step_once(model, made, Spy(), batch)
    for name, (values, grads, everywhere) in Spy.shown.pop().items():
        layer, dense = sparse_layers(model)[name], plain.get_submodule(name)
        assert torch.equal(values, layer.values())
        torch.testing.assert_close(everywhere, dense.weight.grad.flatten(), rtol=0, atol=1e-14)
        torch.testing.assert_close(grads, dense.weight.grad.flatten()[layer.indices], rtol=0, atol=1e-14)


# --- what comes out ---------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_negative_weights_are_trained_as_positive_ones_are(storage, rule):
    """Some released code forgets an absolute value where it masks gradients, and freezes all that are negative."""
    model = sparse(plain_mlp(), storage, density=0.8)  # so dense that hardly a unit is silent
    before = {name: layer.values().clone() for name, layer in sparse_layers(model).items()}
    kept = topology_of(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), batches_of(4), rule)
    for negative in (True, False):
        moved = []
        for name, layer in sparse_layers(model).items():
            stayed = (layer.topology & kept[name]).indices
            old, new = before[name][kept[name].position_of(stayed)], layer.values()[layer.topology.position_of(stayed)]
            moved.append((old != new)[(old < 0) == negative])
        assert torch.cat(moved).double().mean() > 0.9


@both_storages
def test_a_step_gives_plain_numbers_and_leaves_no_gradient_behind(storage):
    model, made = trained(storage)
    outputs = model(BATCH[0]).detach()
    stats, change = step_once(model, made, RULES["rigl"])
    expected = float(cross_entropy(outputs, BATCH[1]))
    assert stats == StepStats(loss=expected, correct=int((outputs.argmax(1) == BATCH[1]).sum()), count=8)
    assert (type(stats.loss), type(stats.correct), type(stats.count)) == (float, float, int)
    assert all(p.grad is None for p in model.parameters())
    assert all(not t.requires_grad for part in (change.dropped, change.grown) for t in part.values())
    assert is_clean(model)


def test_every_step_draws_from_a_stream_of_its_own_whatever_came_before():
    seen = {}

    class Listening(Static):
        def is_due(self, step):
            return True

        def propose(self, views, step, generator):
            seen[step] = generator.initial_seed()
            return super().propose(views, step, generator)

    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in training(model, optimizer, batches_of(3), cross_entropy, Listening(), seed=7, first_step=4):
        pass
    assert seen == {step: generator(7, "rewire", step).initial_seed() for step in (4, 5, 6)}


@both_storages
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rule", RULES)
def test_the_budget_is_exact_and_nothing_lives_off_the_topology_after_every_step(storage, rule, optimizer):
    model = tiny(storage)
    made = OPTIMIZERS[optimizer](model.parameters())
    counts = {name: layer.count for name, layer in topology_of(model).items()}
    walk = training(model, made, batches_of(11), cross_entropy, RULES[rule])
    rewired = [step for step, _, change in walk if check_step(model, made, counts) and change is not None]
    assert rewired == [0, 2, 4, 6, 8]


def check_step(model, optimizer, counts) -> bool:
    assert {name: layer.count for name, layer in topology_of(model).items()} == counts
    assert is_clean(model)
    assert optimizer_is_clean(model, optimizer)
    return True


@both_storages
def test_a_fraction_of_zero_leaves_the_topology_as_it_is(storage):
    model, made = trained(storage)
    before = topology_of(model)
    changes = train(model, made, batches_of(6), SET(every=2, stop=None, drop_fraction=Constant(0.0)))
    assert len(changes) == 3
    assert topology_of(model) == before


@both_storages
def test_frozen_layers_keep_their_topology_and_values(storage):
    model = tiny(storage)
    model[3].param.requires_grad_(False)
    made = OPTIMIZERS["sgd"](p for p in model.parameters() if p.requires_grad)
    before = states(model[3])
    changes = train(model, made, batches_of(3), RULES["rigl"])
    assert same(before[0]["indices"].long(), model[3].indices)
    assert same(before[0][model[3].param_name], model[3].param)
    assert all(change.grown.keys() == {"0", "5"} for _, change in changes)


@both_storages
def test_with_every_connection_present_training_is_dense_training(storage):
    plain = plain_mlp()
    full = Topology({name: LayerTopology.full(shape) for name, shape in topology_of(sparse(plain)).shapes.items()})
    model = sparsify(plain, full, storage, init="dense")
    for one in (plain, model):
        train(one, OPTIMIZERS["adamw"](one.parameters()), batches_of(10), Static())
    dense = [plain.get_submodule(name).weight.detach() for name in full]
    ours = [layer.dense_weight() for layer in sparse_layers(model).values()]
    if storage == "masked":
        assert same(dense, ours)
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rule", RULES)
def test_both_storages_follow_the_same_trajectory(rule, optimizer):
    models = [tiny(storage, dtype=torch.float64) for storage in STORAGES]
    for model in models:
        train(model, OPTIMIZERS[optimizer](model.parameters()), batches_of(10, dtype=torch.float64), RULES[rule])
    assert topology_of(models[0]) == topology_of(models[1])
    assert largest_difference(*models) < 1e-12


# --- micro-batches ----------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("micro_batches", [3, 8])
def test_micro_batches_give_the_weights_and_topology_of_one_large_batch(storage, rule, micro_batches):
    models = [tiny(storage, dtype=torch.float64) for _ in range(2)]
    for model, parts in zip(models, (1, micro_batches), strict=True):
        batches = batches_of(5, dtype=torch.float64)
        train(model, OPTIMIZERS["sgd"](model.parameters()), batches, RULES[rule], micro_batches=parts)
    assert topology_of(models[0]) == topology_of(models[1])
    assert largest_difference(*models) < 1e-12


@both_storages
def test_micro_batches_count_every_sample_once(storage):
    model, _ = trained(storage, dtype=torch.float64)
    batch = batches_of(1, size=7, dtype=torch.float64)[0]
    whole, _ = backward(model, batch, cross_entropy)
    parts, _ = backward(model, batch, cross_entropy, micro_batches=3)
    assert (parts.correct, parts.count) == (whole.correct, 7)
    assert parts.loss == pytest.approx(whole.loss, abs=1e-12)


@both_storages
def test_micro_batches_of_a_convolution_grow_what_one_large_batch_grows(storage):
    grown = []
    for parts in (1, 4):
        model = sparse(plain_cnn().double(), storage)
        model[1].eval()  # batch statistics differ between micro-batches by nature
        made = OPTIMIZERS["sgd"](model.parameters())
        grown.append(train(model, made, pictures_of(4, dtype=torch.float64), RULES["rigl"], micro_batches=parts))
    assert same([change.grown for _, change in grown[0]], [change.grown for _, change in grown[1]])


# --- failures ---------------------------------------------------------------------------------------------------


def with_nan_at(row):
    inputs, labels = batches_of(1)[0]
    inputs = inputs.clone()
    inputs[row, 0] = math.nan
    return inputs, labels


FAILURES = {
    "NaN input": (with_nan_at(0), {}, FloatingPointError),
    "NaN in the last micro-batch": (with_nan_at(7), {"micro_batches": 4}, FloatingPointError),
    "infinite loss": (BATCH, {"loss_fn": lambda x, y: cross_entropy(x, y) + math.inf}, FloatingPointError),
    "label too high": ((BATCH[0], torch.tensor([0, 1, 2, 0, 1, 2, 0, 3])), {}, ValueError),
    "label in the last micro-batch": ((BATCH[0], torch.tensor([0] * 7 + [3])), {"micro_batches": 4}, ValueError),
    "negative label": ((BATCH[0], torch.tensor([0] * 7 + [-1])), {}, ValueError),
    "wrong width": ((torch.zeros(8, 5), BATCH[1]), {}, (ValueError, RuntimeError)),
    "one number per sample": ((torch.zeros(8), BATCH[1]), {}, (ValueError, RuntimeError)),
    "no sample": ((BATCH[0][:0], BATCH[1][:0]), {}, ValueError),
    "more micro-batches than samples": (BATCH, {"micro_batches": 9}, ValueError),
    "no micro-batch": (BATCH, {"micro_batches": 0}, ValueError),
}


@both_storages
@pytest.mark.parametrize("rule", [*RULES, "none"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_step_that_fails_leaves_everything_as_it_was(storage, failure, rule):
    batch, settings, error = FAILURES[failure]
    model, made = trained(storage)
    before = states(model, made)
    with pytest.raises(error):
        step_once(model, made, RULES.get(rule, Static()), batch, **settings)
    assert same(states(model, made), before)
    assert all(p.grad is None for p in model.parameters())
    assert is_clean(model)


@both_storages
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2, 0, 3], [-1, 1, 2, 0, 1, 2, 0, 0]])
def test_labels_out_of_range_are_named_with_the_range(storage, labels):
    model, made = trained(storage)
    with pytest.raises(ValueError, match=rf"labels must lie in \[0, 3\).*got {min(labels)} to {max(labels)}. Renumber"):
        step_once(model, made, Static(), (BATCH[0], torch.tensor(labels)))


@both_storages
def test_a_loss_that_is_not_a_number_is_named(storage):
    model, made = trained(storage)
    with pytest.raises(FloatingPointError, match="the loss must be finite, got nan. Lower the learning rate"):
        step_once(model, made, Static(), with_nan_at(0))


@both_storages
@pytest.mark.parametrize("rule", RULES)
def test_an_interrupted_step_leaves_no_trace_in_the_next_one(storage, rule):
    """A reader presses Stop in the middle of a backward pass and starts the cell again."""
    model, made = trained(storage)
    undisturbed, its_optimizer = copy.deepcopy((model, made))
    interrupt = model[0].bias.register_hook(_press_stop)
    with pytest.raises(KeyboardInterrupt):
        step_once(model, made, RULES[rule])
    interrupt.remove()
    for one, its in ((model, made), (undisturbed, its_optimizer)):
        step_once(one, its, RULES[rule])
    assert same(states(model, made), states(undisturbed, its_optimizer))


def _press_stop(_grad):
    raise KeyboardInterrupt


@both_storages
def test_growing_by_gradient_before_any_backward_pass_says_what_is_missing(storage):
    with pytest.raises(ValueError, match="growing by gradient needs a captured backward pass, got none"):
        RULES["rigl"].propose(views(tiny(storage)), 0, generator(0))


@both_storages
def test_asking_for_gradients_before_any_backward_pass_says_what_is_missing(storage):
    with pytest.raises(ValueError, match="this rule needs gradients, got none. Call backward"):
        _ = views(tiny(storage))["0"].grads


# --- documented surprises ---------------------------------------------------------------------------------------


@both_storages
def test_adams_first_step_of_a_freshly_grown_weight_late_in_training_is_3_16_times_the_learning_rate(storage):
    """Adam's step count is shared by the tensor, so its bias correction is over when the new weight begins at zero:
    the first moment is 0.1 g, the second 0.001 g^2, and 0.1 / sqrt(0.001) is 3.16."""
    learning_rate = 1e-3
    model = tiny(storage, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    batch = batches_of(1, dtype=torch.float64)[0]
    train(model, optimizer, [batch], Static())
    for state in optimizer.state.values():
        state["step"].fill_(10_000)
    _, change = step_once(model, optimizer, RigL(every=1, stop=None, drop_fraction=Constant(0.3)), batch)
    backward(model, batch, cross_entropy)
    layer, grown = sparse_layers(model)["0"], change.grown["0"]
    place = layer.topology.position_of(grown)
    assert bool((layer.values()[place] == 0).all())
    pulled = layer.grads()[place].abs() > 1e-4  # far above Adam's epsilon
    optimizer.step()
    steps = layer.values()[place][pulled].abs() / learning_rate
    torch.testing.assert_close(steps, torch.full_like(steps, 0.1 / math.sqrt(0.001)), rtol=1e-2, atol=0)
    assert pulled.any()


@both_storages
def test_scores_that_are_not_numbers_stop_the_rewiring(storage):
    model, _made = trained(storage)
    layer = sparse_layers(model)["0"]
    with torch.no_grad():
        layer.param.mul_(math.nan)
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        topk_indices(layer.values().abs(), 1)
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        RULES["set"].propose(views(model), 0, generator(0))


@both_storages
def test_a_density_schedule_is_followed_exactly_while_the_optimizer_lives(storage):
    model, made = trained(storage, optimizer="adamw")
    size = topology_of(model).size
    rule = DropGrow(
        every=2, stop=8, scope="global", density=Constant(0.2), drop_fraction=Constant(0.1), replaces_step=False
    )
    train(model, made, batches_of(6), rule)
    assert topology_of(model).count == round(0.2 * size)
    assert is_clean(model)
    assert optimizer_is_clean(model, made)
