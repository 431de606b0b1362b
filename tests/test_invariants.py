"""The nine universal invariants of sparse training, for storages, layers, optimizers and rules."""

import copy

import pytest
import torch
from helpers import LAYERS, MODELS, OPTIMIZERS, STORAGES, batch_for, counts_of, made, mlp, off_topology, sparse, train
from torch import nn

import sparsekit as sk
from sparsekit.rules import SET, RigL, Static
from sparsekit.schedules import Constant, Cubic
from sparsekit.topology import LayerTopology

both_storages = pytest.mark.parametrize("storage", STORAGES)
every_model = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
every_optimizer = pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
every_rule = pytest.mark.parametrize("make_rule", [SET, RigL], ids=["set", "rigl"])

# A convolution of every kind, as a network for images.
CONVOLUTIONS = {name: value for name, value in LAYERS.items() if len(value[1]) == 4}


def rewiring(make_rule, **more):
    return make_rule(**{"stop": 100, "every": 2, "drop_fraction": 0.4, **more})


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> list[torch.Tensor]:
    return [value for value in optimizer.state[parameter].values() if torch.is_tensor(value) and value.dim()]


@every_model
@every_optimizer
@every_rule
@both_storages
def test_nothing_lives_off_the_topology_and_counts_are_exact_after_every_step(
    storage, make_rule, make_optimizer, make, shape
):
    model = sparse(make(), storage)
    optimizer = make_optimizer(model.parameters())
    counts = counts_of(sk.topology_of(model))
    for step in range(4):
        train(model, optimizer, rewiring(make_rule), shape, steps=1, first=step)
        assert counts_of(sk.topology_of(model)) == counts
        for layer in sk.sparse_layers(model).values():
            if storage == "csr":
                assert layer.param.shape == layer.packed_shape(layer.topology)
                assert all(tensor.shape == layer.param.shape for tensor in optimizer_tensors(optimizer, layer.param))
                continue
            assert (layer.mask.dtype, layer.mask.device) == (torch.bool, layer.param.device)
            assert torch.equal(layer.mask.flatten().nonzero().flatten(), layer.indices)
            for tensor in (layer.param.detach(), *optimizer_tensors(optimizer, layer.param)):
                assert not off_topology(layer, tensor).any()


@every_optimizer
@every_rule
@every_model
def test_both_storages_follow_the_same_trajectory_with_the_same_parameters(make, shape, make_rule, make_optimizer):
    nets = [sparse(make(), storage) for storage in STORAGES]
    optimizers = [make_optimizer(net.parameters()) for net in nets]
    parameters = [list(net.parameters()) for net in nets]
    start = sk.topology_of(nets[0])
    for step in range(5):
        for net, optimizer in zip(nets, optimizers, strict=True):
            train(net, optimizer, rewiring(make_rule, every=1), shape, steps=1, first=step)
        assert sk.topology_of(nets[0]) == sk.topology_of(nets[1])
        for masked, csr in zip(sk.sparse_layers(nets[0]).values(), sk.sparse_layers(nets[1]).values(), strict=True):
            torch.testing.assert_close(masked.values(), csr.values(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(masked.bias, csr.bias, rtol=1e-12, atol=1e-12)
    assert sk.topology_of(nets[0]) != start
    for net, optimizer, before in zip(nets, optimizers, parameters, strict=True):
        assert all(now is then for now, then in zip(net.parameters(), before, strict=True))
        assert all(now is then for now, then in zip(optimizer.param_groups[0]["params"], before, strict=True))


@pytest.mark.parametrize(("make", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@every_rule
def test_every_convolution_follows_the_same_trajectory_in_both_storages(make_rule, make, shape):
    def net(storage: str) -> nn.Module:
        conv = made(make)
        features = conv(torch.zeros(1, *shape[1:]).double()).numel()
        return sparse(made(lambda: nn.Sequential(copy.deepcopy(conv), nn.Flatten(), nn.Linear(features, 3))), storage)

    nets = [net(storage) for storage in STORAGES]
    for one in nets:
        train(one, OPTIMIZERS["momentum"](one.parameters()), rewiring(make_rule, every=1), shape[1:], steps=3)
    for masked, csr in zip(sk.sparse_layers(nets[0]).values(), sk.sparse_layers(nets[1]).values(), strict=True):
        assert masked.topology == csr.topology
        torch.testing.assert_close(masked.values(), csr.values(), rtol=1e-12, atol=1e-12)


@every_rule
@both_storages
def test_kept_weights_are_unchanged_and_grown_ones_and_their_momentum_are_zero(storage, make_rule):
    make, shape = MODELS["linear"]
    model = sparse(make(), storage)
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    rule = rewiring(make_rule, every=3, start=3, replaces_step=True)
    train(model, optimizer, rule, shape, steps=3)
    before = {name: (layer.topology, layer.values()) for name, layer in sk.sparse_layers(model).items()}
    (change,) = train(model, optimizer, rule, shape, steps=1, first=3)
    assert change.num_grown == change.num_dropped > 0
    for name, layer in sk.sparse_layers(model).items():
        old, values = before[name]
        position = old.position_of(layer.indices)
        momentum = layer.unpack(optimizer.state[layer.param]["momentum_buffer"])
        assert torch.equal(layer.values()[position >= 0], values[position[position >= 0]])
        assert not layer.values()[position < 0].any()
        assert not momentum[position < 0].any()
        assert momentum[position >= 0].any()


@every_rule
@both_storages
def test_the_same_seed_gives_the_same_masks_and_values_and_another_gives_others(storage, make_rule):
    make, shape = MODELS["linear"]

    def trained(seed: int) -> nn.Module:
        model = sparse(make(), storage, seed=seed)
        train(model, OPTIMIZERS["adam"](model.parameters()), rewiring(make_rule), shape, steps=7)
        return model

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert sk.topology_of(first) != sk.topology_of(other)


@every_rule
@both_storages
def test_the_topology_is_frozen_after_stop_and_values_keep_training(storage, make_rule):
    make, shape = MODELS["linear"]
    model = sparse(make(), storage)
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    rule = rewiring(make_rule, stop=4, drop_fraction=Constant(0.4))
    changes = train(model, optimizer, rule, shape, steps=5)
    assert [change is not None for change in changes] == [True, False, True, False, True]
    frozen, values = sk.topology_of(model), model[0].values()
    assert train(model, optimizer, rule, shape, steps=6, first=5) == [None] * 6
    assert sk.topology_of(model) == frozen
    assert not torch.equal(model[0].values(), values)


@every_rule
@every_model
@both_storages
def test_accumulating_over_micro_batches_grows_what_one_large_batch_does(storage, make, shape, make_rule):
    results = []
    for micro_batches in (1, 2, 8):
        model = sparse(make(), storage)
        optimizer = OPTIMIZERS["momentum"](model.parameters())
        for step in range(2):
            draws, batch = sk.generator(0, "rewire", step), batch_for(shape, seed=step)
            rule, loss = rewiring(make_rule, every=1), nn.functional.cross_entropy
            sk.train_step(model, optimizer, batch, loss, rule, step, draws, micro_batches=micro_batches)
        results.append(sk.topology_of(model))
    assert results[0] == results[1] == results[2]


@every_rule
@every_model
@both_storages
def test_a_fraction_of_zero_changes_no_connection(storage, make, shape, make_rule):
    model = sparse(make(), storage)
    before = sk.topology_of(model)
    rule = rewiring(make_rule, drop_fraction=Constant(0.0), every=1)
    changes = train(model, OPTIMIZERS["adam"](model.parameters()), rule, shape, steps=3)
    assert sk.topology_of(model) == before
    assert [change.num_grown + change.num_dropped for change in changes] == [0, 0, 0]


@every_model
@every_optimizer
@pytest.mark.parametrize("capture", [False, True])
def test_training_with_all_connections_is_dense_training_bit_for_bit(capture, make_optimizer, make, shape):
    plain = make().float()
    full = {name: LayerTopology.full(s) for name, s in sk.shapes_of(plain).items()}
    masked = sk.sparsify(plain, full, "masked", init="dense")
    optimizers = [make_optimizer(net.parameters()) for net in (plain, masked)]
    for seed in range(4):
        inputs, labels = batch_for(shape, seed=seed)
        for net, optimizer in zip((plain, masked), optimizers, strict=True):
            with sk.capture_io(net, enabled=capture):
                nn.functional.cross_entropy(net(inputs.float()), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    dense = sk.densify(masked)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), dense.parameters(), strict=True))


@every_rule
@both_storages
def test_clipping_sees_only_existing_connections_on_rewiring_steps_as_well(storage, make_rule):
    """The norm that clipping measures is that of the gradients the densified model has where connections exist."""
    make, shape = MODELS["linear"]
    model = sparse(make(), storage)
    for step in range(3):
        inputs, labels = batch_for(shape, seed=step)
        plain = sk.densify(model)
        nn.functional.cross_entropy(plain(inputs), labels).backward()
        masks = {f"{name}.weight": layer.mask() for name, layer in sk.topology_of(model).items()}
        parts = [p.grad * masks[name] if name in masks else p.grad for name, p in plain.named_parameters()]
        expected = torch.cat([part.flatten() for part in parts]).norm()
        with sk.capture_io(model) as io:
            nn.functional.cross_entropy(model(inputs), labels).backward()
        torch.testing.assert_close(nn.utils.clip_grad_norm_(model.parameters(), 0.1), expected, rtol=1e-12, atol=0)
        rule = rewiring(make_rule, every=1)
        sk.rewire(model, rule.propose(sk.views(model, io), step, sk.generator(step)))
        model.zero_grad()


@both_storages
def test_gradual_pruning_is_nested_monotone_and_arrives(storage):
    make, shape = MODELS["linear"]
    model = make()
    full = {name: LayerTopology.full(s) for name, s in sk.shapes_of(model).items()}
    model = sk.sparsify(model, full, storage, init="dense")
    optimizer = OPTIMIZERS["adam"](model.parameters())
    rule = SET(stop=8, every=3, drop_fraction=Constant(0.0), density=Cubic(1.0, 0.2), scope="global")
    states = [sk.topology_of(model)]
    for step in range(10):
        train(model, optimizer, rule, shape, steps=1, first=step)
        states.append(sk.topology_of(model))
        assert (states[-1] - states[-2]).count == 0
    assert states[-1].count == round(0.2 * states[0].size)
    assert len({state.count for state in states}) == 4


@both_storages
def test_static_training_ends_on_the_topology_it_began_with(storage):
    make, shape = MODELS["conv"]
    model = sparse(make(), storage)
    before = sk.topology_of(model)
    assert train(model, OPTIMIZERS["rmsprop"](model.parameters()), Static(), shape, steps=4) == [None] * 4
    assert sk.topology_of(model) == before


@both_storages
def test_frozen_layers_keep_their_topology_while_the_others_are_rewired(storage):
    model = mlp(6, 8, 8, 3)
    model[2].weight.requires_grad_(False)
    net = sparse(model, storage)
    before = sk.topology_of(net)
    values = net[2].values()
    trained = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    for make_rule in (SET, RigL):
        for scope in ("layer", "global"):
            train(net, trained, rewiring(make_rule, every=1, scope=scope), (6,), steps=3)
    after = sk.topology_of(net)
    assert after["2"] == before["2"]
    assert torch.equal(net[2].values(), values)
    assert after["0"] != before["0"]
    assert after.count == before.count
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert sk.views(net) == {}
