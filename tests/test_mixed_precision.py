"""bfloat16 and float16 where torch thinks them safe: training still works, and the csr storage stays in float32."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from training_helpers import (
    OPTIMIZERS,
    RULES,
    STORAGES,
    batches_of,
    is_clean,
    optimizer_is_clean,
    pictures_of,
    plain_cnn,
    sparse,
    tiny,
)

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.train import attach, backward, training

both_storages = pytest.mark.parametrize("storage", STORAGES)


@both_storages
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_training_in_bfloat16_learns_and_keeps_every_invariant(storage, rule, kind):
    model = tiny(storage) if kind == "mlp" else sparse(plain_cnn(), storage)
    batch = (batches_of if kind == "mlp" else pictures_of)(1, size=32)[0]
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    counts = {name: layer.count for name, layer in topology_of(model).items()}
    walk = training(model, optimizer, [batch] * 25, cross_entropy, RULES[rule], autocast=torch.bfloat16)
    losses = [stats.loss for _, stats, _ in walk]
    assert losses[-1] < 0.7 * losses[0]
    assert {name: layer.count for name, layer in topology_of(model).items()} == counts
    assert is_clean(model)
    assert optimizer_is_clean(model, optimizer)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def outputs_in(model, dtype):
    kinds = {}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, name=name: kinds.update({name: out.dtype}))
        for name, layer in sparse_layers(model).items()
    ]
    with torch.autocast("cpu", dtype=dtype):
        model(batches_of(1)[0][0])
    for hook in hooks:
        hook.remove()
    return set(kinds.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_csr_layers_compute_in_float32_and_masked_ones_in_the_lower_precision(dtype):
    assert outputs_in(tiny("csr"), dtype) == {torch.float32}
    assert outputs_in(tiny("masked"), dtype) == {dtype}


def test_csr_layers_lose_nothing_to_autocast():
    model, (inputs, labels) = tiny("csr"), batches_of(1)[0]
    exact, _ = backward(model, (inputs, labels), cross_entropy)
    grads = [layer.grads().clone() for layer in sparse_layers(model).values()]
    model.zero_grad()
    lower, _ = backward(model, (inputs, labels), cross_entropy, autocast=torch.bfloat16)
    assert lower == exact
    torch.testing.assert_close([layer.grads() for layer in sparse_layers(model).values()], grads, rtol=0, atol=0)


@both_storages
def test_gradients_at_all_positions_are_captured_in_float32(storage):
    model, (inputs, labels) = tiny(storage), batches_of(1)[0]
    model.double()
    _, exact = backward(model, (inputs.double(), labels), cross_entropy, capture=True)
    everywhere = {name: io.grad_at(torch.arange(io.layer.topology.size)) for name, io in exact.items()}
    model.zero_grad()
    model.float()
    _, lower = backward(model, (inputs, labels), cross_entropy, capture=True, autocast=torch.bfloat16)
    for name, io in lower.items():
        grads = io.grad_at(torch.arange(io.layer.topology.size))
        assert grads.dtype == torch.float32
        torch.testing.assert_close(grads.double(), everywhere[name], rtol=0.05, atol=2e-3)


@both_storages
def test_autocast_with_a_scaler_rewires_as_the_plain_loop_does(storage):
    """float16 needs loss scaling; the scores of growth do not care about the scale."""
    topologies = []
    for scale in (1.0, 256.0):
        model = tiny(storage)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        attach(model, optimizer, RULES["rigl"])
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for inputs, labels in batches_of(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = cross_entropy(model(inputs), labels)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        topologies.append(topology_of(model))
    assert topologies[0] == topologies[1]
