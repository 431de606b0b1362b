"""Linear layers for inference: compressed rows, several products, the fastest of which is measured."""

import copy
import itertools

import jaxtyping
import pytest
import torch
from helpers import STORAGES, batch_for, made, mlp, random_layer
from torch import nn

import sparsekit as sk
from sparsekit.layers import products
from sparsekit.layers.condensed import CondensedLinear, condense
from sparsekit.layers.products import PRODUCTS, SIZES
from sparsekit.rules import SRSTE, SRigL
from sparsekit.rules.initial import prepare_layers
from sparsekit.topology import LayerTopology, Topology

every_product = pytest.mark.parametrize("product", PRODUCTS)


def regular(plain: nn.Module, density: float = 0.3, storage: str = "masked") -> nn.Module:
    drawn = sk.random_topology(sk.shapes_of(plain), density, seed=0)
    return sk.sparsify(
        plain, SRigL(stop=9).initial_topology(drawn, torch.Generator().manual_seed(0)), storage, init="dense"
    )


def uneven(storage: str = "masked") -> nn.Module:
    plain = mlp(6, 20, 20, 3)
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=1), storage, init="dense")


@every_product
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", [(8, 6), (2, 3, 6), (1, 6), (6,), (0, 6)])
@pytest.mark.parametrize("make", [regular, uneven], ids=["of constant fan-in", "of any fan-in"])
def test_a_condensed_network_gives_what_the_sparse_one_gives(make, storage, shape, product):
    model = make(mlp(6, 20, 20, 3), storage=storage) if make is regular else make(storage)
    model.eval()
    small = condense(model, product=product)
    inputs = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(small(inputs), model(inputs), rtol=1e-12, atol=1e-14)
    if product != "dense":
        assert all(isinstance(small[place], CondensedLinear) for place in (0, 2, 4))


@every_product
def test_neurons_that_were_given_up_give_their_bias(product):
    layer = LayerTopology((3, 6), torch.tensor([0, 1, 13, 14]))
    model = sk.sparsify(nn.Sequential(nn.Linear(6, 3)).double(), {"0": layer}, init="dense")
    small = condense(model, product=product)
    inputs = batch_for((6,))[0]
    torch.testing.assert_close(small(inputs), model(inputs))
    assert torch.equal(small(inputs)[:, 1], small[0].bias[1].expand(8))


def test_positions_take_an_int32_each():
    small = condense(uneven(), product="bags")[0]
    assert (small.inputs.dtype, small.pointers.dtype) == (torch.int32, torch.int32)
    assert small.inputs.shape == small.values.shape


def test_without_a_bias_they_give_nothing():
    model = sk.sparsify(
        made(lambda: nn.Sequential(nn.Linear(6, 3, bias=False))),
        {"0": LayerTopology((3, 6), torch.tensor([0, 1]))},
        init="dense",
    )
    assert condense(model, product="bags")(batch_for((6,))[0])[:, 1:].count_nonzero() == 0


def test_masked_convolutions_become_plain_and_csr_ones_stay():
    plain = made(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 8)))
    topology = Topology({"0": random_layer((4, 2, 3, 3), 20), "3": random_layer((8, 64), 50)})
    images = batch_for((2, 6, 6))[0]
    names = {"masked": "Conv2d BatchNorm2d", "csr": "SparseConv2d FeatureMajorBatchNorm2d"}
    for storage, expected in names.items():
        model = sk.sparsify(plain, topology, storage, init="dense").eval()
        small = condense(model, product="bags")
        assert [type(module).__name__ for module in small] == [*expected.split(), "Flatten", "CondensedLinear"]
        torch.testing.assert_close(small(images), model(images))
    with pytest.raises(ValueError, match=r"must be linear, got .*\. Use densify"):
        CondensedLinear(sk.sparse_layers(model)["0"])


def test_of_a_layer_that_trains_more_than_it_uses_only_what_is_used_counts():
    plain = mlp(8, 20, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 1.0), init="dense")
    prepare_layers(SRSTE(stop=9), model, plain=plain)
    small, inputs = condense(model, product="bags"), batch_for((8,))[0]
    assert isinstance(small[0], CondensedLinear)
    torch.testing.assert_close(small(inputs), model(inputs))


def test_condensing_leaves_the_model_as_it_was():
    model = uneven()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    condense(model, product="bags")
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# --- nothing that a product derives is out of date -----------------------------------------------------------------

CHANGES = {
    "values written": lambda small: small.values.mul_(2),
    "another state": lambda small: small.load_state_dict(condense(other_values(), product="bags")[0].state_dict()),
    "columns written": lambda small: small.inputs.copy_(other_columns(small)),
    "another type": lambda small: small.float().double(),
}


def other_columns(small: CondensedLinear) -> torch.Tensor:
    """As many columns in each row, the last ones in order, as the kernels need them."""
    counts = small.pointers.diff().tolist()
    return torch.cat([torch.arange(small.in_features - count, small.in_features) for count in counts])


def other_values() -> nn.Module:
    model = uneven()
    with torch.no_grad():
        model[0].param.mul_(3)
    return model


@every_product
@pytest.mark.parametrize("change", CHANGES)
def test_a_product_follows_every_change_of_the_arrays(change, product):
    layer = sk.sparse_layers(uneven())["0"]
    small, inputs = CondensedLinear(layer, product), batch_for((6,))[0]
    small(inputs)
    CHANGES[change](small)
    expected = nn.functional.linear(inputs, dense_of(small), small.bias)
    torch.testing.assert_close(small(inputs), expected)


def dense_of(small: CondensedLinear) -> torch.Tensor:
    dense = torch.zeros(len(small.bias), small.in_features, dtype=small.values.dtype)
    for row, (first, last) in enumerate(itertools.pairwise(small.pointers.tolist())):
        for at in range(first, last):
            dense[row, small.inputs[at]] = small.values[at]
    return dense


# --- which product is chosen ----------------------------------------------------------------------------------------


def test_each_batch_is_computed_by_what_was_fastest_at_its_size(monkeypatch):
    called = []
    for name in PRODUCTS:
        monkeypatch.setitem(PRODUCTS, name, lambda rows, x, bias, name=name: called.append(name) or x @ rows.dense().T)
    chosen = dict(zip(SIZES, PRODUCTS, strict=True))
    small = CondensedLinear(sk.sparse_layers(uneven())["0"], chosen)
    for size in (1, 5, 64, 65):
        small(torch.zeros(size, 6, dtype=torch.float64))
    assert called == list(PRODUCTS)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_fastest_is_measured_once_and_kept(monkeypatch, own_cache):
    measured = []

    def fake(steps, effort):
        measured.append(list(steps))
        return {name: 1.0 + (not name.startswith("bags")) for name in steps}

    monkeypatch.setattr("sparsekit.layers.products.least_seconds", fake)
    first, again = condense(uneven()), condense(uneven())
    assert len(measured) == 3  # layers of different shapes
    assert {"bags 1", "kernels 64", "dense 512"} <= set(measured[0])
    assert first[0].products == again[0].products == dict.fromkeys(SIZES, "bags")


def test_where_the_dense_product_always_wins_the_layer_is_a_plain_one(monkeypatch, own_cache):
    monkeypatch.setattr(
        "sparsekit.layers.products.least_seconds",
        lambda steps, effort: {name: 1.0 + ("dense" not in name) for name in steps},
    )
    assert type(condense(uneven())[0]) is nn.Linear


def test_a_product_that_this_build_of_torch_lacks_is_left_out(monkeypatch, own_cache):
    def lacking(rows, x, bias):
        raise RuntimeError("Calling addmm on a sparse CPU tensor requires Linux platform")

    seen = []
    monkeypatch.setitem(PRODUCTS, "torch-csr", lacking)
    monkeypatch.setattr(
        "sparsekit.layers.products.least_seconds",
        lambda steps, effort: seen.append(set(steps)) or dict.fromkeys(steps, 1),
    )
    condense(uneven())
    assert len(seen) == 3
    assert not any("torch-csr" in name for names in seen for name in names)


def test_the_fastest_product_gives_what_the_sparse_network_gives(own_cache, monkeypatch):
    monkeypatch.setattr(products, "EFFORT", products.Effort(rounds=1, min_rounds=1, sample_seconds=1e-6))
    plain = mlp(6, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=1), init="dense").eval()
    small = condense(model)
    for size in (1, 3):
        inputs = batch_for((6,), size=size)[0]
        torch.testing.assert_close(small(inputs), model(inputs))


# --- other code ------------------------------------------------------------------------------------------------------


def test_an_unknown_product_and_a_wrong_input_get_a_sentence():
    with pytest.raises(ValueError, match=r"product must be one of fastest, bags, .*, got 'gpu'\. Choose"):
        condense(uneven(), product="gpu")
    with pytest.raises(ValueError, match=r"product must be one of bags, .*, got gpu\. Choose"):
        CondensedLinear(sk.sparse_layers(uneven())["0"], "gpu")
    with pytest.raises(ValueError, match=r"the input must have 6 features, got 5\. Give"):
        condense(uneven(), product="bags")(torch.zeros(2, 5, dtype=torch.float64))


@every_product
def test_what_is_traced_or_copied_gives_the_same(product, tmp_path):
    model = condense(uneven(), product=product)
    inputs, others = (batch_for((6,), seed=seed)[0] for seed in (0, 1))
    with torch.no_grad():
        model(inputs)
        exported = torch.export.export(model, (inputs,)).module()
        torch.testing.assert_close(exported(others), model(others))
        torch.save(model, tmp_path / "model.pt")
        again = torch.load(tmp_path / "model.pt", weights_only=False)
        for same in (copy.deepcopy(model), again):
            torch.testing.assert_close(same(others), model(others))


def test_a_compiled_network_computes_with_its_connections(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # torch cannot look through the tests' type checks
    model, inputs = condense(uneven(), product="torch-csr"), batch_for((6,))[0]
    graphs = []
    compiled = torch.compile(model, backend=lambda graph, _: graphs.append(str(graph.graph)) or graph, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs), model(inputs))
    assert "embedding_bag" in graphs[0]


def test_to_plain_gives_the_plain_layer():
    small, inputs = condense(uneven(), product="bags"), batch_for((6,))[0]
    plain = small[0].to_plain()
    assert (type(plain), plain.training) == (nn.Linear, False)
    torch.testing.assert_close(plain(inputs), small[0](inputs))


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "make", [lambda: uneven("masked"), lambda: uneven("csr"), lambda: condense(uneven(), product="bags")]
)
def test_quantization_is_refused_with_a_sentence_and_takes_the_plain_network(make):
    model = make().float().eval()
    with pytest.raises(TypeError, match=r"must have plain layers, got a sparse one, .*\. Use sparsekit\.densify"):
        torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not any(hasattr(module, "qconfig") for module in model.modules())


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_the_densified_network_is_quantized():
    model, inputs = uneven().float().eval(), batch_for((6,))[0].float()
    small = torch.ao.quantization.quantize_dynamic(sk.densify(model), {nn.Linear}, dtype=torch.qint8)
    assert "dynamic" in type(small[0]).__module__
    torch.testing.assert_close(small(inputs), model(inputs), rtol=0.1, atol=0.05)
