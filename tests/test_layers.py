"""Sparse layers in two storages, and the way to and from plain models."""

import copy
import pickle
import warnings

import pytest
import torch
from helpers import (
    LAYERS,
    MODELS,
    STORAGES,
    batch_for,
    dense_gradients,
    made,
    mlp,
    random_layer,
    small_conv_net,
    sparse,
)
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import resnet18

import sparsekit as sk
from sparsekit.layers import LeftDenseWarning, MaskedConv2d, MaskedLinear, SparseConv2d, SparseLayer, SparseLinear
from sparsekit.topology import LayerTopology, Topology

both_storages = pytest.mark.parametrize("storage", STORAGES)
every_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


def of(storage: str, make, density: float = 0.4) -> tuple[nn.Module, nn.Module]:
    """A plain model whose missing connections are zeros, and the same model sparse."""
    plain = made(make)
    layer = sparse(plain, storage, density)
    return sk.densify(layer), layer


def x_like(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return batch_for(shape[1:], shape[0], seed)[0]


def same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


# --- what a layer computes -------------------------------------------------------------------------------------------


@every_layer
@both_storages
def test_a_sparse_layer_computes_what_the_plain_one_with_zeros_does(storage, make, shape):
    plain, layer = of(storage, make)
    x = x_like(shape)
    assert 0 < layer.topology.count < layer.topology.size
    same(layer(x), plain(x))
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer(first).pow(2).sum().backward()
    plain(second).pow(2).sum().backward()
    same(first.grad, second.grad)
    same(layer.grads(), plain.weight.grad.flatten()[layer.topology.indices])
    if plain.bias is not None:
        same(layer.bias.grad, plain.bias.grad)


@both_storages
def test_the_density_counts_biases_norms_and_layers_left_dense_as_they_are(storage):
    plain = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    model = sk.sparsify(plain, {"0": random_layer((6, 4), 6)}, storage, init="dense")
    others = 6 + 2 * 6 + 6 * 2 + 2
    assert sk.density_of(model) == (6 + others) / (24 + others)
    assert sk.density_of(plain) == 1


@both_storages
@pytest.mark.parametrize("count", [0, 1, 35])
def test_empty_full_and_one_connection_layers_work(storage, count):
    plain = made(lambda: nn.Linear(7, 5))
    layer = sk.sparsify(plain, {"": random_layer((5, 7), count)}, storage, init="dense")
    x = x_like((4, 7))
    y = layer(x)
    same(y, sk.densify(layer)(x))
    y.sum().backward()
    assert layer.grads().shape == layer.values().shape == (count,)


@pytest.mark.parametrize("name", ["linear", "linear on sequences", "conv", "same", "groups", "circular"])
@both_storages
def test_a_batch_of_nobody_gives_outputs_for_nobody_and_zero_gradients(storage, name):
    make, shape = LAYERS[name]
    plain, layer = of(storage, make)
    x = torch.zeros(0, *shape[1:]).double().requires_grad_()
    y = layer(x)
    assert y.shape == plain(x).shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not layer.grads().any()


@both_storages
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Linear(7, 5), (4, 6)),
        (lambda: nn.Linear(7, 5), ()),
        (lambda: nn.Conv2d(3, 4, 3), (2, 4, 6, 6)),
        (lambda: nn.Conv2d(3, 4, 3), (2, 3)),
        (lambda: nn.Conv2d(3, 4, 3), (2, 2, 3, 6, 6)),
        (lambda: nn.Conv2d(4, 4, 3, groups=2), (2, 2, 6, 6)),
    ],
)
def test_inputs_of_the_wrong_shape_give_an_error_that_says_so(storage, make, shape):
    _, layer = of(storage, make)
    with pytest.raises((ValueError, RuntimeError), match=r"features|shape|[Ee]xpected|must be|1D"):
        layer(torch.zeros(shape).double())


@both_storages
def test_the_plain_names_of_a_layers_arguments_still_work(storage):
    plain, layer = of(storage, lambda: nn.Linear(7, 5))
    x = x_like((4, 7))
    same(layer(input=x), plain(input=x))


def test_csr_layers_stay_in_the_precision_of_their_values_under_autocast():
    _, layer = of("csr", lambda: nn.Linear(7, 5))
    layer = layer.float()
    x = torch.randn(3, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), layer(x.bfloat16().float())) is False
        assert layer(x).dtype == torch.float32
    assert torch.equal(layer(x.bfloat16()), layer(x.bfloat16().float()))


# --- what a layer holds ----------------------------------------------------------------------------------------------


@every_layer
def test_each_storage_has_its_class_parameter_and_size(make, shape):
    plain, masked = of("masked", make)
    _, csr = of("csr", make)
    assert type(masked) is (MaskedLinear if isinstance(plain, nn.Linear) else MaskedConv2d)
    assert type(csr) is (SparseLinear if isinstance(plain, nn.Linear) else SparseConv2d)
    assert masked.param.shape == plain.weight.shape
    assert csr.param.shape == (csr.topology.count, *([1] * (plain.weight.dim() - 1)))
    assert masked.topology == csr.topology
    assert masked.mask.dtype == torch.bool
    assert masked.mask.device == masked.param.device == masked.indices.device
    assert not masked.param[~masked.mask].any()
    same(masked.values(), csr.values())
    same(masked.dense_weight(), csr.dense_weight())
    same(csr.dense_weight(), plain.weight)


@every_layer
@both_storages
def test_parameters_come_in_the_order_of_the_plain_layer(storage, make, shape):
    """An optimizer's saved state knows parameters by their order only."""
    plain, layer = of(storage, make)
    wanted = [{"weight": layer.param_name}.get(name, name) for name, _ in plain.named_parameters()]
    assert [name for name, _ in layer.named_parameters()] == wanted


@both_storages
def test_what_a_layer_gives_away_is_a_copy(storage):
    _, layer = of(storage, lambda: nn.Linear(7, 5))
    before = layer.values()
    layer.values().zero_()
    layer.dense_weight().zero_()
    layer(x_like((4, 7))).sum().backward()
    layer.grads().zero_()
    assert torch.equal(layer.values(), before)
    assert layer.grads().any()


@both_storages
def test_there_are_no_gradients_before_any_backward_pass(storage):
    assert of(storage, lambda: nn.Linear(7, 5))[1].grads() is None


@both_storages
def test_a_layer_prints_its_shape_and_density(storage):
    layer = sk.sparsify(nn.Linear(20, 50), {"": random_layer((50, 20), 250)}, storage, init="dense")
    assert repr(layer).endswith("Linear((50, 20), density 0.2500 (250 connections))")


# --- sparsify and densify --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
@both_storages
def test_sparsify_makes_a_new_model_and_leaves_the_old_one_alone(storage, make, shape):
    model = make()
    before = copy.deepcopy(model.state_dict())
    net = sparse(model, storage)
    batch_for(shape)
    net(batch_for(shape)[0]).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
@both_storages
def test_densify_gives_plain_layers_with_zeros_and_undoes_sparsify(storage, make, shape):
    model = make()
    net = sparse(model, storage)
    plain = sk.densify(net)
    assert not sk.sparse_layers(plain)
    assert [type(module) for module in plain.modules()] == [type(module) for module in model.modules()]
    assert list(plain.state_dict()) == list(model.state_dict())
    same(plain(batch_for(shape)[0]), net(batch_for(shape)[0]))
    full = sk.sparsify(
        model, {name: LayerTopology.full(s) for name, s in sk.shapes_of(model).items()}, storage, init="dense"
    )
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in sk.densify(full).state_dict().items())


@both_storages
def test_converting_a_model_draws_no_random_numbers(storage):
    model = small_conv_net()
    topology = sk.random_topology(sk.shapes_of(model), 0.3)
    before = torch.get_rng_state()
    sk.densify(sk.sparsify(model, topology, storage, init="dense"))
    assert torch.equal(torch.get_rng_state(), before)


@both_storages
def test_training_mode_dtype_and_frozen_parameters_are_kept_both_ways(storage):
    model = mlp(6, 8, 3).half().eval()
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    net = sparse(model, storage)
    for converted in (net, sk.densify(net)):
        assert not any(module.training for module in converted.modules())
        assert {parameter.dtype for parameter in converted.parameters()} == {torch.float16}
        frozen = {name for name, parameter in converted.named_parameters() if not parameter.requires_grad}
        assert frozen == {"0." + (net[0].param_name if converted is net else "weight"), "2.bias"}


@both_storages
def test_layers_that_the_topology_does_not_name_stay_plain(storage):
    model = mlp(6, 8, 8, 3)
    shapes = sk.shapes_of(model, exclude=("first", "2"))
    assert shapes == {"4": (3, 8)}
    net = sk.sparsify(model, sk.random_topology(shapes, 0.5), storage, init="dense")
    assert [type(net[place]) for place in (0, 2)] == [nn.Linear, nn.Linear]
    assert list(sk.sparse_layers(net)) == list(sk.topology_of(net)) == ["4"]


@both_storages
def test_a_bare_layer_is_a_model_whose_layer_has_the_empty_name(storage):
    layer = nn.Linear(7, 5)
    assert sk.shapes_of(layer) == {"": (5, 7)}
    assert sk.shapes_of(layer, exclude=("last",)) == {}
    net = sparse(layer, storage)
    assert isinstance(net, SparseLayer)
    assert list(sk.topology_of(net)) == [""]
    assert type(sk.densify(net)) is nn.Linear
    copy.deepcopy(net).load_state_dict(net.state_dict())


@both_storages
def test_a_layer_used_in_two_positions_is_one_sparse_layer_used_in_two_positions(storage):
    shared = nn.Linear(6, 6)
    model = made(lambda: nn.Sequential(shared, nn.Tanh(), nn.ModuleDict({"again": shared})["again"], nn.Linear(6, 2)))
    net = sparse(model, storage)
    assert list(sk.shapes_of(model)) == list(sk.topology_of(net)) == ["0", "3"]
    assert net[0] is net[2]
    plain = sk.densify(net)
    assert plain[0] is plain[2]
    x = x_like((4, 6))
    same(net(x), plain(x))
    wanted = dense_gradients(net, x)
    net(x).pow(2).sum().div(2).backward()
    same(net[0].grads(), wanted["0"][net[0].topology.indices])
    net.load_state_dict(copy.deepcopy(net.state_dict()))


@both_storages
def test_biases_shared_by_two_layers_stay_shared(storage):
    model = mlp(6, 6, 6)
    model[2].bias = model[0].bias
    net = sparse(model, storage)
    assert net[2].bias is net[0].bias
    plain = sk.densify(net)
    assert plain[2].bias is plain[0].bias
    assert plain[0].bias is not net[0].bias
    assert net[0].bias is not model[0].bias


def test_sparsify_refuses_what_does_not_fit():
    model = mlp(6, 8, 3)
    for topology, message in [
        ({"1": random_layer((8, 6), 3)}, r"must name layers among 0, 2, got '1': no layer with a weight matrix"),
        ({"0": random_layer((6, 8), 3)}, r"0: the topology must have the weight's shape \(8, 6\), got \(6, 8\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            sk.sparsify(model, topology, init="dense")
    with pytest.raises(ValueError, match="storage must be one of masked, csr, auto, got 'coo'. Choose one of them"):
        sk.sparsify(model, {}, "coo", init="dense")
    with pytest.raises(ValueError, match="sparsify takes a plain model, got one with sparse layers. Call densify"):
        sk.sparsify(sparse(model, "csr"), {}, init="dense")
    with pytest.raises(ValueError, match="exclude must name layers among 0, 2, first and last, got 7, fc"):
        sk.shapes_of(model, exclude=("fc", "7"))


# --- bring your own model --------------------------------------------------------------------------------------------


@both_storages
def test_a_resnet_of_torchvision_works_as_it_is(storage):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(num_classes=10).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftDenseWarning)
        net = sparse(model, storage, density=0.05)
    assert len(sk.topology_of(net)) == 21
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net(x), sk.densify(net)(x), rtol=1e-4, atol=1e-4)


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y = x + self.attention(x, x, x)[0]
        return self.head(self.encoder(y).mean(1))


@pytest.mark.parametrize("training", [True, False])
@both_storages
def test_a_transformer_works_in_training_and_on_the_fast_path(storage, training):
    net = sparse(made(Attentive), storage).train(training)
    parts = ("in_proj_weight.query", "in_proj_weight.key", "in_proj_weight.value", "out_proj")
    attentions = [f"{name}.{part}" for name in ("attention", "encoder.self_attn") for part in parts]
    assert list(sk.topology_of(net)) == [*attentions, "encoder.linear1", "encoder.linear2", "head"]
    x = x_like((2, 5, 8))
    with torch.set_grad_enabled(training):
        same(net(x), sk.densify(net)(x))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6, bias=False), nn.Linear(6, 6))
    model[1].weight, model[2].weight = nn.Parameter(model[1].weight.data), nn.Parameter(torch.ones(6, 6))
    model.append(nn.Linear(6, 6))
    model[3].weight = model[2].weight
    return model


def embedded() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    model[1].weight = model[0].weight
    return model


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))


LEFT_DENSE = {
    "tied weights": (tied, {"2.weight": "tied", "3.weight": "tied"}),
    "a tied embedding": (embedded, {"0.weight": "tied", "1.weight": "tied"}),
    "an embedding": (
        lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)),
        {"0.weight": r"sparse on request, by shapes_of(model, include=('embeddings',))"},
    ),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)),
        dict.fromkeys(
            [f"0.parametrizations.weight.original{n}" for n in (0, 1)], "of no known kind, see register_kind"
        ),
    ),
    "a lazy layer": (lambda: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)), {"0.weight": "run one batch first"}),
}


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize(("make", "reasons"), LEFT_DENSE.values(), ids=LEFT_DENSE)
def test_weights_that_cannot_be_sparse_are_named_with_a_reason(make, reasons):
    model = make()
    left = sk.left_dense(model)
    assert list(left) == list(reasons)
    for name, part in reasons.items():
        assert part in left[name]
    shapes = sk.shapes_of(model)
    assert not {name.rpartition(".")[0] for name in reasons} & set(shapes)
    with pytest.warns(LeftDenseWarning, match=r"left dense: 1 .* % of the weights are sparse"):
        net = sk.sparsify(model, sk.random_topology(shapes, 0.5) if shapes else {}, "csr", init="dense")
    assert len(sk.topology_of(net)) == len(shapes)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (old_weight_norm, ["0.weight_g", "0.weight_v"]),
        (
            lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5), nn.Linear(4, 2)),
            ["0.weight_orig"],
        ),
    ],
    ids=["old weight norm", "torch's pruning"],
)
def test_a_model_that_cannot_be_copied_is_refused_with_the_way_out(make, names):
    model = make()
    assert list(sk.left_dense(model)) == names
    assert all("computed from others" in reason for reason in sk.left_dense(model).values())
    with pytest.raises(
        ValueError, match=r"must be one that can be copied, got one with .*\. Undo torch.nn.utils.prune"
    ):
        sk.sparsify(model, sk.random_topology(sk.shapes_of(model), 0.5), init="dense")


def test_a_tied_weight_is_sparse_where_a_topology_names_it():
    net = sk.sparsify(tied(), {"2": random_layer((6, 6), 3)}, init="dense")
    assert list(sk.topology_of(net)) == ["2"]
    assert int((sk.sparse_layers(net)["2"].dense_weight() != 0).sum()) == 3


@both_storages
def test_averaged_copies_follow_a_topology_that_is_written_into_their_buffers(storage):
    """`torch.optim.swa_utils` writes into the copy's buffers in place."""
    net = sparse(mlp(6, 8, 3), storage)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    x = x_like((4, 6))
    averaged(x)
    sk.rewire(net, {name: random_layer(t.shape, t.count, seed=9) for name, t in sk.topology_of(net).items()})
    averaged.update_parameters(net)
    assert sk.topology_of(averaged.module) == sk.topology_of(net)
    same(averaged(x), sk.densify(averaged)(x))


# --- copies and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
@both_storages
def test_copies_compute_the_same_and_live_their_own_life(storage, make, shape, copied):
    net = sparse(make(), storage)
    x = batch_for(shape)[0]
    before = net(x)
    twin = copied(net)
    assert torch.equal(twin(x), before)
    other = {name: random_layer(t.shape, t.count // 2, seed=5) for name, t in sk.topology_of(net).items()}
    sk.rewire(twin, other)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert sk.topology_of(twin) == Topology(other)
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("into", STORAGES)
@pytest.mark.parametrize("out_of", STORAGES)
@pytest.mark.parametrize("density", [0.4, 0.7])
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_a_state_loads_into_either_storage_whatever_its_topology_was(make, shape, assign, density, out_of, into):
    source, target = sparse(make(), out_of, seed=1), sparse(make(), into, density, seed=2)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(1)
    target(batch_for(shape)[0]).sum().backward()
    parameters = list(target.parameters())
    state = source.state_dict()
    before = {key: value.clone() for key, value in state.items()}
    assert target.load_state_dict(state, assign=assign) == ([], [])
    assert sk.topology_of(target) == sk.topology_of(source)
    x = batch_for(shape)[0]
    same(target(x), source(x))
    assert list(state) == list(before)
    assert all(torch.equal(state[key], before[key]) for key in before)
    if not assign:
        assert all(new is old for new, old in zip(target.parameters(), parameters, strict=True))
        torch.optim.SGD(target.parameters(), lr=0.1).step()
        for layer in sk.sparse_layers(target).values():
            assert torch.equal(layer.dense_weight() != 0, layer.topology.mask())
            assert layer.grads() is None, "gradients of other connections"
            if isinstance(layer, MaskedLinear | MaskedConv2d):
                assert not layer.param[~layer.mask].any()
        sk.rewire(target, {name: random_layer(t.shape, 3) for name, t in sk.topology_of(target).items()})
        assert all(torch.equal(source.state_dict()[key], before[key]) for key in before)


@both_storages
def test_a_sparse_checkpoint_goes_through_a_file_that_is_loaded_safely(storage, tmp_path):
    net = sparse(mlp(6, 8, 3), storage)
    torch.save(net.state_dict(), tmp_path / "state.pt")
    twin = sparse(mlp(6, 8, 3), storage, seed=4)
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert sk.topology_of(twin) == sk.topology_of(net)


@both_storages
def test_a_dense_checkpoint_says_how_many_of_its_values_are_left_out(storage):
    model = mlp(6, 8, 3)
    net = sparse(model, storage, density=0.25)
    left_out = 8 * 6 - sk.topology_of(net)["0"].count
    topology = net[0].topology
    state = {**sk.densify(net).state_dict(), "0.weight": torch.ones(8, 6)}
    with pytest.warns(UserWarning, match=rf"0.weight: {left_out} of 48 loaded values lie off the topology .* sparsify"):
        net.load_state_dict(state)
    assert net[0].values().tolist() == [1.0] * net[0].topology.count
    assert net[0].topology == topology


@both_storages
def test_a_dense_checkpoint_that_fits_the_topology_loads_silently(storage):
    net = sparse(mlp(6, 8, 3), storage)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(sk.densify(net).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("0.indices", torch.tensor([0.5]), r"0: positions must be int64 or float64, got torch.float32"),
        (
            "0.indices",
            torch.tensor([0.5, 2.0]).double(),
            r"0: positions of connections must be integers, got aver",
        ),
        ("0.indices", torch.tensor([3, 2, 1]), "0: positions must be strictly increasing"),
        ("0.indices", torch.tensor([48]), r"0: positions must lie in \[0, 48\), got 48 to 48"),
        ("0.packed_weight", torch.ones(3), r"0: there must be one value per connection, got 3 values for \d+"),
        ("0.weight", torch.ones(6, 8), r"0: the weight must have shape \(8, 6\), got \(6, 8\)"),
        ("0.bias", torch.ones(9), "size mismatch for 0.bias"),
    ],
)
@both_storages
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_layers_name(storage, key, value, message):
    net = sparse(mlp(6, 8, 3), storage)
    source = sparse(mlp(6, 8, 3), "masked" if key == "0.weight" else "csr")
    before = net[0].topology
    with pytest.raises(RuntimeError, match=message):
        net.load_state_dict({**source.state_dict(), key: value})
    if key != "0.bias":
        assert net[0].topology == before


@both_storages
def test_missing_and_foreign_keys_are_reported_as_ever(storage):
    net = sparse(mlp(6, 8, 3), storage)
    state = net.state_dict()
    kept = {key: value for key, value in state.items() if key != f"0.{net[0].param_name}"}
    with pytest.raises(RuntimeError, match=rf"Missing key.*0.{net[0].param_name}"):
        net.load_state_dict(kept)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*0.surprise"):
        net.load_state_dict({**state, "0.surprise": torch.ones(1)})


@both_storages
def test_a_model_changes_its_dtype_and_keeps_its_topology(storage):
    net = sparse(mlp(6, 8, 3), storage)
    topology = sk.topology_of(net)
    for convert, dtype in ((nn.Module.float, torch.float32), (lambda n: n.to(torch.float16), torch.float16)):
        assert convert(net)[0].param.dtype == dtype
        assert net[0].indices.dtype == torch.int64
        assert sk.topology_of(net) == topology
    x = x_like((4, 6))
    same(net.double()(x), sk.densify(net)(x))


@both_storages
def test_buffers_that_move_take_what_is_derived_from_them_along(storage):
    net = sparse(mlp(6, 8, 3), storage)
    net(x_like((4, 6)))
    moved = net.to("meta")
    assert moved[0].param.device.type == moved[0].indices.device.type == "meta"
    net = sparse(mlp(6, 8, 3), storage)
    derived = net[0].topology
    net[0].indices = net[0].indices.clone()
    assert net[0].topology is not derived
    assert net[0].topology == derived


# --- without dense weights -------------------------------------------------------------------------------------------


def test_a_model_without_dense_weights_gets_values_by_the_true_fan_in():
    with torch.device("meta"):
        plain = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 5))
    topology = sk.random_topology(sk.shapes_of(plain), 0.1, seed=0)
    for storage in ("csr", "masked"):
        torch.manual_seed(0)
        model = sk.sparsify(plain, topology, storage)
        layer = model[0]
        fan_in = topology["0"].fan_in()[topology["0"].rows]
        assert bool((layer.values().abs() <= (3 / fan_in).sqrt()).all())
        spread = (layer.values() * fan_in.sqrt()).std()  # of a uniform distribution of variance 1
        assert abs(float(spread) - 1) < 4 * 0.4 / layer.topology.count**0.5
        assert not bool(layer.bias.any())
        assert model(torch.rand(2, 400)).shape == (2, 5)


def test_a_layer_that_stays_on_the_meta_device_is_refused():
    with torch.device("meta"):
        plain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"of layers that the topology names, got 1.weight, 1.bias, 2.weight"):
        sk.sparsify(plain, {"0": LayerTopology.full((3, 4))})
