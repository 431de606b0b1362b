"""What a rule sees, and how a topology changes."""

import copy

import pytest
import torch
from helpers import (
    LAYERS,
    MODELS,
    OPTIMIZERS,
    STORAGES,
    batch_for,
    capture,
    dense_gradients,
    made,
    mlp,
    off_topology,
    random_layer,
    small_conv_net,
    sparse,
)
from torch import nn

import sparsekit as sk
from sparsekit.kernels import Structure
from sparsekit.kernels.functions import conv2d_gradient_at, linear_gradient_at
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.topology import LayerTopology, Topology

both_storages = pytest.mark.parametrize("storage", STORAGES)
every_optimizer = pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def elsewhere(model: nn.Module, factor: float = 1.0, seed: int = 7) -> dict[str, LayerTopology]:
    """Other connections for every layer, so many times as many."""
    return {
        name: random_layer(layer.shape, min(layer.size, round(factor * layer.count)), seed)
        for name, layer in sk.topology_of(model).items()
    }


def stepped(model: nn.Module, make_optimizer, shape, steps: int = 2) -> torch.optim.Optimizer:
    """An optimizer that has trained the model a little, so that all its tensors hold something."""
    optimizer = make_optimizer(model.parameters())
    for seed in range(steps):
        inputs, labels = batch_for(shape, seed=seed)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def tensors_of(optimizer: torch.optim.Optimizer, layer) -> dict[str, torch.Tensor]:
    """The weight and every optimizer tensor that goes with it, connection by connection."""
    state = optimizer.state[layer.param]
    like_param = {key: value for key, value in state.items() if value is not None and value.shape == layer.param.shape}
    return {"value": layer.values()} | {key: layer.unpack(value) for key, value in like_param.items()}


# --- rewire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("factor", [1.0, 0.5, 1.7])
@every_optimizer
@both_storages
def test_values_and_optimizer_tensors_move_with_their_connection(storage, make_optimizer, factor, make, shape):
    model = sparse(make(), storage)
    optimizer = stepped(model, make_optimizer, shape)
    old = sk.topology_of(model)
    before = {name: tensors_of(optimizer, layer) for name, layer in sk.sparse_layers(model).items()}
    parameters = list(model.parameters())
    new = elsewhere(model, factor)
    change = sk.rewire(model, new, optimizer)
    assert sk.topology_of(model) == Topology(new)
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
    for name, layer in sk.sparse_layers(model).items():
        after = tensors_of(optimizer, layer)
        assert after.keys() == before[name].keys()
        assert len(after) > 1, "the optimizer keeps something for this weight"
        place = old[name].position_of(new[name].indices)
        for key, now in after.items():
            assert torch.equal(now[place >= 0], before[name][key][place[place >= 0]]), key
            assert not now[place < 0].any(), key
        assert torch.equal(change.grown[name], (new[name] - old[name]).indices)
        assert torch.equal(change.dropped[name], (old[name] - new[name]).indices)
        assert layer.param.grad is None
        if storage == "masked":
            state = [value for value in optimizer.state[layer.param].values() if torch.is_tensor(value)]
            for tensor in [layer.param, *(value for value in state if value.shape == layer.param.shape)]:
                assert not off_topology(layer, tensor.detach()).any()


def test_what_somebody_wrote_beside_the_topology_of_a_masked_layer_does_not_come_to_life():
    model = sparse(mlp(6, 3), "masked")
    optimizer = stepped(model, OPTIMIZERS["momentum"], (6,))
    momentum = optimizer.state[model[0].param]["momentum_buffer"]
    for tensor in (model[0].param.data, momentum):
        tensor[~model[0].mask] = 7.0
    sk.rewire(model, elsewhere(model), optimizer)
    for tensor in (model[0].param.data, optimizer.state[model[0].param]["momentum_buffer"]):
        assert not (tensor == 7.0).any()


@pytest.mark.parametrize("factor", [1.0, 0.5, 1.7])
@every_optimizer
@both_storages
def test_a_rewired_model_continues_learning_with_the_same_optimizer(storage, make_optimizer, factor):
    model = sparse(mlp(6, 8, 3), storage)
    optimizer = stepped(model, make_optimizer, (6,))
    sk.rewire(model, elsewhere(model, factor), optimizer)
    before = {name: layer.values() for name, layer in sk.sparse_layers(model).items()}
    inputs, labels = batch_for((6,), seed=9)
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
    for name, layer in sk.sparse_layers(model).items():
        moved = layer.values() != before[name]
        assert moved[layer.grads() != 0].all(), name
        assert moved.any(), name
        assert torch.equal(layer.dense_weight() != 0, layer.topology.mask() & (layer.dense_weight() != 0))


@both_storages
def test_gradients_of_the_old_topology_are_cleared_and_those_of_other_layers_stay(storage):
    model = sparse(mlp(6, 8, 8, 3), storage)
    model(batch_for((6,))[0]).sum().backward()
    sk.rewire(model, {"2": elsewhere(model)["2"]})
    assert [layer.grads() is None for layer in sk.sparse_layers(model).values()] == [False, True, False]


@every_optimizer
@both_storages
def test_layers_that_are_not_named_or_not_changed_are_left_alone(storage, make_optimizer):
    model = sparse(mlp(6, 8, 8, 3), storage)
    optimizer = stepped(model, make_optimizer, (6,))
    before = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    change = sk.rewire(model, {"0": sk.topology_of(model)["0"]}, optimizer)
    assert (change.num_dropped, change.num_grown) == (0, 0)
    sk.rewire(model, {"2": elsewhere(model)["2"]}, optimizer)
    after = model.state_dict(), optimizer.state_dict()
    for key in (key for key in before[0] if not key.startswith("2.")):
        assert torch.equal(after[0][key], before[0][key])
    for number in (0, 1, 3, 4, 5):
        then, now = before[1]["state"][number], after[1]["state"][number]
        assert all(torch.equal(torch.as_tensor(now[key]), torch.as_tensor(then[key])) for key in then)


@both_storages
def test_a_layer_may_be_emptied_filled_and_cut_down_to_one_connection(storage):
    model = sparse(mlp(6, 8, 3), storage)
    optimizer = stepped(model, OPTIMIZERS["adam"], (6,))
    for count in (0, 48, 1, 0, 5):
        sk.rewire(model, {"0": random_layer((8, 6), count)}, optimizer)
        inputs, labels = batch_for((6,))
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert model[0].topology.count == model[0].values().numel() == count


@both_storages
def test_infinite_values_of_dropped_connections_do_not_regrow_as_no_numbers(storage):
    model = sparse(mlp(6, 8, 3), storage)
    full = sk.topology_of(model)
    with torch.no_grad():
        model[0].param[model[0].param != 0] = torch.inf
    sk.rewire(model, elsewhere(model, seed=3))
    sk.rewire(model, full)
    assert not model[0].values().isnan().any()


@both_storages
def test_a_rewiring_that_does_not_fit_changes_nothing(storage):
    model = sparse(mlp(6, 8, 3), storage)
    before = sk.topology_of(model)
    good = elsewhere(model)
    with pytest.raises(ValueError, match="layers to rewire must be among 0, 2, got '1'"):
        sk.rewire(model, {"0": good["0"], "1": good["0"]})
    with pytest.raises(ValueError, match=r"2: the new topology must have shape \(3, 8\), got \(8, 6\)"):
        sk.rewire(model, {"0": good["0"], "2": good["0"]})
    assert sk.topology_of(model) == before
    with pytest.raises(ValueError, match=r"must be among \(none\), got '0'"):
        sk.rewire(mlp(6, 3), {"0": random_layer((3, 6), 2)})


@both_storages
def test_a_topology_taken_before_a_rewiring_stays_what_it_was(storage):
    model = sparse(mlp(6, 8, 3), storage)
    before = sk.topology_of(model)
    positions = {name: layer.indices.clone() for name, layer in before.items()}
    sk.rewire(model, elsewhere(model))
    assert all(torch.equal(layer.indices, positions[name]) for name, layer in before.items())


def test_the_public_names_are_functions_although_modules_are_called_the_same():
    assert sk.rewire is __import__("sparsekit.rewiring.update", fromlist=["rewire"]).rewire
    assert all(callable(getattr(sk, name)) for name in ("rewire", "evaluate", "views", "capture_io", "train_step"))
    assert set(sk.__all__) <= set(dir(sk))


# --- changes ---------------------------------------------------------------------------------------------------------


def test_a_change_turns_the_old_topology_into_the_new_one_and_counts_itself():
    old = Topology({"a": random_layer((5, 6), 8, 1), "b": random_layer((3, 5), 4, 1), "c": random_layer((2, 2), 2)})
    new = Topology({"a": random_layer((5, 6), 11, 2), "b": random_layer((3, 5), 0)})
    change = TopologyUpdate.between(old, new)
    assert change.apply(old) == Topology({**new, "c": old["c"]})
    assert change.num_grown == (new["a"] - old["a"]).count
    assert change.num_dropped == (old["a"] - new["a"]).count + 4
    assert TopologyUpdate({}, {}).apply(old) == old


# --- what a rule sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
@both_storages
def test_grad_at_is_the_dense_gradient_at_every_position(storage, make, shape):
    layer = sparse(made(make), storage)
    batches = [batch_for(shape[1:], shape[0], seed)[0] for seed in range(3)]
    io = capture(layer, *batches)[""]
    wanted = dense_gradients(layer, *batches)[""]
    everywhere = torch.arange(layer.topology.size)
    for part in (everywhere, everywhere[::3], everywhere[5:6], everywhere[:0]):
        torch.testing.assert_close(io.grad_at(part), wanted[part], rtol=1e-10, atol=1e-10)
    rows = io.g().T @ io.x() if getattr(layer.kind, "groups", 1) == 1 else None
    if rows is not None:
        torch.testing.assert_close(rows.flatten(), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("ask", "shapes", "said"),
    [
        (linear_gradient_at, ((4, 6), (3, 5)), r"gradient must have its shape \(4, 5\)"),
        (linear_gradient_at, ((4, 6), (4, 4)), r"gradient must have its shape \(4, 5\)"),
        (linear_gradient_at, ((4, 7), (4, 5)), "must have 6 features"),
        (conv2d_gradient_at, ((4, 6, 3, 3), (3, 5, 3, 3)), r"gradient must have its shape \(4, 5, 3, 3\)"),
        (conv2d_gradient_at, ((4, 6, 3, 3), (4, 5, 3, 2)), r"gradient must have its shape \(4, 5, 3, 3\)"),
        (conv2d_gradient_at, ((4, 5, 3, 3), (4, 5, 3, 3)), "must have 6 features"),
    ],
)
@pytest.mark.parametrize("count", [2, 30])  # by single connections, and cut out of a product
def test_the_gradient_of_connections_is_not_read_beyond_what_came(ask, shapes, said, count):
    structure = Structure(random_layer((5, 6), count))
    unfold = {"unfold": {"kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}}
    with pytest.raises(ValueError, match=said):
        ask(*map(torch.ones, shapes), structure, **(unfold if ask is conv2d_gradient_at else {}))


@both_storages
def test_grad_at_is_the_dense_gradient_of_a_layer_used_twice(storage):
    shared = nn.Linear(6, 6)
    model = sparse(made(lambda: nn.Sequential(shared, nn.Tanh(), shared)), storage)
    batches = [batch_for((6,), 4, seed)[0] for seed in range(2)]
    got = capture(model, *batches)["0"].grad_at(torch.arange(36))
    torch.testing.assert_close(got, dense_gradients(model, *batches)["0"], rtol=1e-10, atol=1e-10)


@both_storages
def test_grad_at_is_the_dense_gradient_when_inputs_come_by_name(storage):
    layer = sparse(made(lambda: nn.Linear(6, 4)), storage)
    x = batch_for((6,), 4)[0]
    with sk.capture_io(layer) as io:
        layer(input=x).pow(2).sum().div(2).backward()
    torch.testing.assert_close(io[""].grad_at(torch.arange(24)), dense_gradients(layer, x)[""], rtol=1e-10, atol=1e-10)


@both_storages
def test_gradients_that_are_not_finite_are_forgotten(storage):
    model = sparse(mlp(6, 4), storage)
    good = batch_for((6,), 4)[0]
    io = capture(model, good / 0, good)["0"]
    wanted = dense_gradients(model, good)["0"]
    torch.testing.assert_close(io.grad_at(torch.arange(24)), wanted, rtol=1e-10, atol=1e-10)


@both_storages
def test_capturing_ends_with_its_block_and_leaves_no_trace(storage):
    model = sparse(mlp(6, 8, 3), storage)
    x = batch_for((6,))[0]
    io = capture(model, x)
    before = io["0"].grad_at(torch.arange(48))
    model(x * 3).sum().backward()
    assert torch.equal(io["0"].grad_at(torch.arange(48)), before)
    assert not any(module._forward_hooks for module in model.modules())
    if storage == "masked":
        assert not off_topology(model[0], model[0].param.grad).any()
    with sk.capture_io(model, enabled=False) as nothing:
        model(x).sum().backward()
    assert nothing == {}


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
@both_storages
def test_while_capturing_others_see_only_gradients_of_existing_connections(storage, make, shape):
    """`clip_grad_norm_` and the like: the same numbers with and without capture, after each of several backwards."""
    model, twin = (sparse(make(), storage) for _ in range(2))
    with sk.capture_io(model):
        for seed in range(3):
            inputs, labels = batch_for(shape, seed=seed)
            for net in (model, twin):
                nn.functional.cross_entropy(net(inputs), labels).backward()
            for (name, layer), other in zip(
                sk.sparse_layers(model).items(), sk.sparse_layers(twin).values(), strict=True
            ):
                torch.testing.assert_close(layer.param.grad, other.param.grad, rtol=1e-12, atol=1e-14)
                if storage == "masked":
                    assert not off_topology(layer, layer.param.grad).any(), name
    norms = [torch.nn.utils.clip_grad_norm_(net.parameters(), 1e-3) for net in (model, twin)]
    torch.testing.assert_close(*norms, rtol=1e-12, atol=0)


@both_storages
def test_views_show_copies_of_trained_layers_only(storage):
    model = small_conv_net()
    model[2].weight.requires_grad_(False)
    net = sparse(model, storage)
    seen = sk.views(net)
    assert list(seen) == ["0", "5"]
    seen["0"].values.zero_()
    assert net[0].values().any()
    assert seen["0"].topology == net[0].topology
    assert list(capture(net, batch_for((2, 6, 6))[0])) == ["0", "5"]


@both_storages
def test_asking_for_gradients_before_any_backward_pass_says_what_to_do(storage):
    model = sparse(mlp(6, 3), storage)
    with pytest.raises(ValueError, match="0: this rule needs gradients, got none. Call backward before"):
        _ = sk.views(model)["0"].grads
    with pytest.raises(ValueError, match=r"0: growing by gradient needs a captured backward pass, got none. Run"):
        sk.views(model)["0"].grad_at(torch.arange(2))
    with sk.capture_io(model) as io:
        pass
    for ask in (lambda: sk.views(model, io)["0"].grad_at(torch.arange(2)), io["0"].x, io["0"].g):
        with pytest.raises(ValueError, match="needs a captured backward pass, got none. Run forward"):
            ask()
