"""Kinds of layers: matrices in any module become sparse, and everything that holds for sparse layers holds for them."""

import copy
import io
import math
import pickle

import pytest
import torch
from helpers import counts_of, made
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS, Attending, First, ManyExperts, TiedHead, Turned, numbers, unchecked, words
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.layers import LeftDenseWarning, MaskedMatrix, matrices_of
from sparsekit.layers.entries import masks_of
from sparsekit.layers.matrices import kind_of
from sparsekit.rules import DropGrow, make_rule
from sparsekit.tickets import Ticket
from sparsekit.topology import LayerTopology, Topology

every_kind = pytest.mark.parametrize("kind", KINDS)
pytestmark = pytest.mark.filterwarnings("ignore:left dense:sparsekit.layers.LeftDenseWarning")


@pytest.fixture(autouse=True, scope="module")
def _kinds_of_these_tests():
    """Say where the matrices of this file's own modules lie."""
    sk.register_kind(Turned)(lambda module, name, weight: {"": weight.T})
    experts = lambda module, name, weight: {str(n): x.T for n, x in enumerate(weight)} if weight.dim() == 3 else {}  # noqa: E731
    sk.register_kind(ManyExperts)(experts)


def plain_of(kind: str) -> tuple[nn.Module, Tensor]:
    make, inputs, _ = KINDS[kind]
    return made(make), inputs()


def shapes(kind: str, model: nn.Module) -> dict[str, tuple[int, ...]]:
    return sk.shapes_of(model, include=KINDS[kind][2])


def sparse_of(kind: str, density: float = 0.4, init: str = "dense") -> tuple[nn.Module, nn.Module, Tensor]:
    """A plain model, the same one sparse, and their input."""
    plain, x = plain_of(kind)
    return plain, sk.sparsify(plain, sk.random_topology(shapes(kind, plain), density), init=init), x


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - 1).square().mean()


def with_zeros(plain: nn.Module, topology: Topology) -> nn.Module:
    new = copy.deepcopy(plain)
    for name, layer in topology.items():
        matrices_of(new)[name].restrict(layer)
    return new


def trained(model: nn.Module, x: Tensor, rule, steps: int, optimizer=None):
    """Take so many steps by a rule, and return the optimizer and what was attached to it."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.01)
    attached = sk.attach(model, optimizer, rule, seed=0)
    for _ in range(steps):
        loss_of(model, x).backward()
        optimizer.step()
        optimizer.zero_grad()
    attached.detach()
    return optimizer, attached


def off_topology(model: nn.Module) -> list[Tensor]:
    """The numbers that parameters hold where there is no connection."""
    return [model.get_parameter(name).detach().clone()[~mask] for name, mask in masks_of(model).items()]


# --- what a layer computes -------------------------------------------------------------------------------------------


@every_kind
def test_at_density_one_the_function_is_the_same(kind):
    plain, sparse, x = sparse_of(kind, 1.0)
    torch.testing.assert_close(sparse(x), plain(x), rtol=0, atol=1e-12)
    assert list(sk.topology_of(sparse)) == list(shapes(kind, plain))
    assert sk.density_of(sparse) == 1


@every_kind
def test_a_sparse_model_computes_and_learns_as_the_plain_one_with_zeros(kind):
    plain, sparse, x = sparse_of(kind)
    topology = sk.topology_of(sparse)
    zeroed = with_zeros(plain, topology)
    torch.testing.assert_close(sparse(x), zeroed(x), rtol=0, atol=1e-12)
    assert not torch.equal(sparse(x), plain(x))
    loss_of(sparse, x).backward()
    loss_of(zeroed, x).backward()
    for name, layer in sk.sparse_layers(sparse).items():
        expected = matrices_of(zeroed)[name]
        expected = expected.of(expected.param.grad).flatten()[layer.topology.indices]
        torch.testing.assert_close(layer.grads(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(sk.densify(sparse)(x), zeroed(x), rtol=0, atol=1e-12)


@every_kind
def test_densify_gives_back_the_class_and_the_names(kind):
    plain, sparse, _ = sparse_of(kind)
    dense = sk.densify(sparse)
    assert list(dense.state_dict()) == list(plain.state_dict())
    assert [type(x) for x in dense.modules()] == [type(x) for x in plain.modules()]
    assert not sk.sparse_layers(dense)


@every_kind
def test_empty_layers_are_safe(kind):
    plain, x = plain_of(kind)
    empty = {
        name: LayerTopology(shape, torch.zeros(0, dtype=torch.long)) for name, shape in shapes(kind, plain).items()
    }
    sparse = sk.sparsify(plain, empty, init="fan-in")
    loss_of(sparse, x).backward()
    assert sparse(x).isfinite().all()
    assert all(layer.values().numel() == 0 for layer in sk.sparse_layers(sparse).values())
    trained(sparse, x, make_rule("set", total_steps=4), 4)
    assert sk.topology_of(sparse).count == 0


@every_kind
def test_the_density_that_was_asked_for_is_that_of_the_layers(kind):
    plain, sparse, _ = sparse_of(kind, 0.3)
    assert sk.topology_of(sparse).count == round(0.3 * sk.topology_of(sparse).size)
    exist = sum(x.numel() for x in plain.parameters()) - sk.topology_of(sparse).size + sk.topology_of(sparse).count
    assert sk.density_of(sparse) == pytest.approx(exist / sum(x.numel() for x in plain.parameters()))
    assert f"density {sk.topology_of(sparse).density:.4g}" in str(sk.coverage(sparse))


@every_kind
def test_initial_weights_fit_the_fan_in_of_each_output(kind):
    plain, sparse, _ = sparse_of(kind, init="fan-in")
    for name, layer in sk.sparse_layers(sparse).items():
        drawn = matrices_of(plain)[name].value.detach().flatten()[layer.topology.indices]
        inputs = math.prod(layer.shape[1:])
        factors = (inputs / layer.topology.fan_in().clamp(min=1)).sqrt()[layer.topology.rows]
        torch.testing.assert_close(layer.values(), drawn * factors)
    fitted = sk.layers.fit_to_fan_in(sk.sparsify(plain, sk.topology_of(sparse), init="dense"))
    assert all(torch.equal(a, b) for a, b in zip(fitted.parameters(), sparse.parameters(), strict=True))
    plainly = sk.layers.fit_to_fan_in(copy.deepcopy(plain), sk.topology_of(sparse))
    again = sk.sparsify(plainly, sk.topology_of(sparse), init="dense")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), sparse.parameters(), strict=True))


# --- rewiring --------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("grow", ["set", "rigl", "gse"])
def test_twenty_rewirings_keep_every_budget_and_every_missing_weight_at_zero(kind, grow):
    _, sparse, x = sparse_of(kind, 0.5)
    before = sk.topology_of(sparse)
    rule = make_rule(grow, total_steps=40, every=1, stop=19)
    _, attached = trained(sparse, x, rule, 24)
    after = sk.topology_of(sparse)
    assert attached.journal.steps == list(range(20))
    assert counts_of(after) == counts_of(before)
    assert after != before
    assert not any(part.any() for part in off_topology(sparse))


@every_kind
def test_gradients_of_missing_connections_are_those_of_the_dense_weight(kind):
    _, sparse, x = sparse_of(kind)
    with sk.capture_io(sparse) as captured:
        loss_of(sparse, x).backward()
    plain = sk.densify(sparse)
    loss_of(plain, x).backward()
    for name, layer in sk.sparse_layers(sparse).items():
        matrix = matrices_of(plain)[name]
        expected = matrix.of(matrix.param.grad).flatten()
        torch.testing.assert_close(captured[name].grad_at(torch.arange(layer.topology.size)), expected)
        inputs, outputs = captured[name].magnitudes()
        bound = outputs.unsqueeze(1) * inputs
        assert (expected.view(bound.shape).abs() <= bound * (1 + 1e-9) + 1e-12).all()
    kept = [model.grad for model in sparse.parameters() if model.grad is not None]
    assert not any(sparse.get_parameter(name).grad[~mask].any() for name, mask in masks_of(sparse).items())
    assert kept


@every_kind
def test_optimizer_state_moves_with_the_connections_of_one_matrix_only(kind):
    _, sparse, x = sparse_of(kind, 0.5)
    optimizer, _ = trained(sparse, x, make_rule("static", total_steps=10), 2)
    name, layer = next(iter(sk.sparse_layers(sparse).items()))
    others = {key: other.values() for key, other in sk.sparse_layers(sparse).items() if key != name}
    before, values, moments = layer.topology, layer.values(), layer.unpack(optimizer.state[layer.param]["exp_avg"])
    new = LayerTopology(layer.shape, layer.topology.missing()[: before.count]) | before
    dropped = LayerTopology(layer.shape, before.indices[:1])
    sk.rewire(sparse, {name: new - dropped}, optimizer)
    stay = layer.topology.position_of(before.indices[1:])
    torch.testing.assert_close(layer.values()[stay], values[1:], rtol=0, atol=0)
    torch.testing.assert_close(layer.unpack(optimizer.state[layer.param]["exp_avg"])[stay], moments[1:], rtol=0, atol=0)
    assert layer.values().count_nonzero() == values[1:].count_nonzero()
    assert all(torch.equal(x.values(), others[key]) for key, x in sk.sparse_layers(sparse).items() if key != name)


@pytest.mark.parametrize("kind", ["LSTM", "experts", "MultiheadAttention"])
@pytest.mark.parametrize("name", ["top-kast", "str", "snfs", "deepr", "dsr", "gmp", "srigl"])
def test_rules_with_parts_of_their_own_train_matrices_too(kind, name):
    plain, x = plain_of(kind)
    rule = make_rule(name, total_steps=12)
    density = sk.rules.initial_density(rule, 0.5)
    topology = sk.rules.initial_topology(rule, sk.random_topology(shapes(kind, plain), density), sk.generator(0))
    sparse = sk.sparsify(plain, topology, init="dense")
    sk.rules.prepare_layers(rule, sparse, plain=plain, sampled=topology)
    first = float(loss_of(sparse, x).detach())
    trained(sparse, x, rule, 12)
    assert float(loss_of(sparse, x).detach()) < first
    torch.testing.assert_close(sk.densify(sparse)(x), sparse(x))


# --- saving, copying, loading ----------------------------------------------------------------------------------------


RIGL = DropGrow(every=2, stop=20)


@every_kind
def test_a_resumed_training_ends_bit_for_bit_where_it_would_have(kind, tmp_path):
    _, whole, x = sparse_of(kind)
    _, resumed, _ = sparse_of(kind)
    trained(whole, x, RIGL, 8)
    optimizer, _ = trained(resumed, x, RIGL, 4)
    sk.train.save_checkpoint(tmp_path / "at_4.pt", resumed, optimizer, step=4)
    _, fresh, _ = sparse_of(kind, 0.6)
    new = torch.optim.Adam(fresh.parameters(), lr=0.01)
    sk.train.restore(sk.train.load_checkpoint(tmp_path / "at_4.pt"), fresh, new)
    trained(fresh, x, RIGL, 4, new)
    assert sk.topology_of(fresh) == sk.topology_of(whole)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), whole.parameters(), strict=True))


@every_kind
def test_copies_and_files_of_the_whole_model_are_models_of_their_own(kind):
    _, sparse, x = sparse_of(kind)
    file = io.BytesIO()
    torch.save(sparse, file)
    file.seek(0)
    for new in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse)), torch.load(file, weights_only=False)):
        assert torch.equal(new(x), sparse(x))
        before = sparse(x)
        trained(new, x, make_rule("set", total_steps=4, every=1), 2)
        assert torch.equal(sparse(x), before)
        assert not torch.equal(new(x), before)


@every_kind
def test_a_plain_model_s_state_can_be_loaded_and_what_is_off_the_topology_is_left_out_aloud(kind):
    plain, sparse, x = sparse_of(kind)
    other = made(KINDS[kind][0], seed=5)
    with pytest.warns(UserWarning, match="loaded values lie off the topology"):
        sparse.load_state_dict(other.state_dict())
    torch.testing.assert_close(sparse(x), with_zeros(other, sk.topology_of(sparse))(x))
    for layer in sk.sparse_layers(sparse).values():  # or what lies off the topology would come back when it grows
        assert torch.equal(layer.param, layer.param * layer.mask)
    fitting = sk.densify(sparse).state_dict()
    sparse.load_state_dict(fitting)  # a warning would be an error
    plain.load_state_dict({key: value for key, value in sparse.state_dict().items() if key in fitting})
    assert torch.equal(plain(x), sparse(x))


@every_kind
def test_tickets_and_averages_hold_the_model(kind):
    plain, sparse, x = sparse_of(kind)
    ticket = Ticket.of(sparse, step=0)
    assert ticket.count == sk.topology_of(sparse).count
    other = sk.sparsify(plain, sk.random_topology(shapes(kind, plain), 0.7, seed=3), init="dense")
    for model in (other, plain):
        if KINDS[kind][2] and model is plain:
            continue  # a plain model has no such layers unless they are asked for
        torch.testing.assert_close(ticket.model_like(model)(x), sparse(x))
    average = sk.averaged(sparse, decay=0.5)
    average.update_parameters(sparse)
    torch.testing.assert_close(average(x), sparse(x))
    torch.testing.assert_close(average.projected(sparse)(x), sparse(x))


def test_writing_to_a_weight_writes_to_its_connections():
    for model in (sparse_of("transposed")[1], sparse_of("LSTM")[1].module, sparse_of("experts")[1]):
        name, mask = next(iter(masks_of(model).items()))
        nn.init.constant_(getattr(model, name), 3.0)
        assert torch.equal(model._parameters[name] == 3, mask)
        with torch.no_grad():
            getattr(model, name).data.mul_(2)
        assert torch.equal(model._parameters[name] == 6, mask)
        with pytest.raises(ValueError, match="must be zero where the layer has no connections"):
            setattr(model, name, nn.Parameter(torch.ones_like(mask, dtype=torch.float64)))
        setattr(model, name, nn.Parameter(mask.double()))
        assert torch.equal(model._parameters[name], mask.double())


def test_a_module_that_draws_its_weights_again_fits_them_to_the_fan_in():
    model = sparse_of("LSTM")[1].module
    model.reset_parameters()
    masks = masks_of(model)
    assert all(not model._parameters[name][~mask].any() for name, mask in masks.items())
    reach = 1 / math.sqrt(6)  # of what torch draws for this LSTM
    layer = sk.sparse_layers(model)["weight_ih_l0"]
    factors = (5 / layer.topology.fan_in().clamp(min=1)).sqrt()[layer.topology.rows]
    assert (layer.values().abs() <= reach * factors).all()
    assert (layer.values().abs() > reach).any()


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_moving_a_model_to_another_type_keeps_its_connections():
    _, sparse, x = sparse_of("LSTM")
    before = sk.topology_of(sparse)
    half = copy.deepcopy(sparse).float()
    assert sk.topology_of(half) == before
    torch.testing.assert_close(half(x.float()).double(), sparse(x), rtol=1e-4, atol=1e-5)


# --- which matrices there are ----------------------------------------------------------------------------------------


def test_a_layer_has_the_name_of_its_module_or_of_its_parameter_if_there_are_several():
    assert list(sk.shapes_of(Attending())) == [
        "attention.in_proj_weight.query",
        "attention.in_proj_weight.key",
        "attention.in_proj_weight.value",
        "attention.out_proj",
    ]
    assert sk.shapes_of(Turned(6, 5)) == {"": (5, 6)}
    assert list(sk.shapes_of(ManyExperts(2, 6, 5))) == ["up.0", "up.1", "down.0", "down.1"]
    assert sk.shapes_of(nn.ConvTranspose2d(4, 6, 3, groups=2)) == {"": (6, 2, 3, 3)}


def test_embeddings_and_tied_weights_are_sparse_on_request_only():
    model = TiedHead()
    assert list(sk.shapes_of(model)) == ["hidden"]
    assert list(sk.shapes_of(model, include=("embeddings", "tied"))) == ["words", "hidden"]
    assert list(sk.shapes_of(model, include=("words",))) == ["words", "hidden"]
    assert list(sk.shapes_of(model, include=("embeddings",))) == ["hidden"]
    assert "include=('embeddings', 'tied')" in sk.left_dense(model)["words.weight"]
    with pytest.raises(ValueError, match="include must name layers, or embeddings, tied, got nothing"):
        sk.shapes_of(model, include=("nothing",))
    with unchecked(), pytest.raises(TypeError, match="include must be a tuple of layer names, got 'words'"):
        sk.shapes_of(model, include="words")


def test_tied_weights_stay_one_weight():
    _, sparse, _ = sparse_of("tied head")
    assert sparse.words._parameters["weight"] is sparse.head._parameters["weight"]
    assert torch.equal(sparse.words.weight.read(), sparse.head.weight.read())
    assert len(sk.sparse_layers(sparse)) == 2
    dense = sk.densify(sparse)
    assert dense.words.weight is dense.head.weight


def test_what_is_left_dense_is_said_in_one_sentence():
    model = nn.Sequential(nn.Embedding(5, 20), nn.Linear(20, 19), nn.Linear(19, 20, bias=False))
    model.register_parameter("token", nn.Parameter(torch.ones(1, 1, 40)))
    with pytest.warns(LeftDenseWarning) as caught:
        sparse = sk.sparsify(model, sk.random_topology(sk.shapes_of(model), 0.1), init="dense")
    (said,) = {str(one.message) for one in caught}
    assert said == (
        "left dense: 1 Sequential token (4.44 %), 1 embedding table (11.1 %). 84.4 % of the weights are sparse. See "
        "left_dense(model)"
    )
    assert str(sk.coverage(sparse)).startswith("84.4 % of the weights are in sparse layers of density 0.1, and ")


def test_a_layer_that_the_topology_leaves_out_counts_as_dense():
    model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
    sparse = sk.sparsify(model, {"0": LayerTopology.full((4, 4))}, init="dense")
    assert sk.coverage(sparse).left == {"layer that the topology leaves out": (2, pytest.approx(128 / 144))}
    assert sk.coverage(model).share == 1


def test_a_matrix_may_be_sparse_while_others_in_its_parameter_are_not():
    plain, x = plain_of("experts")
    chosen = {"up.1": LayerTopology.full((5, 6)) - LayerTopology((5, 6), torch.tensor([3, 8]))}
    sparse = sk.sparsify(plain, chosen, init="dense")
    assert list(sk.topology_of(sparse)) == ["up.1"]
    assert sk.density_of(sparse) == 1 - 2 / sum(p.numel() for p in plain.parameters())
    assert (~masks_of(sparse)["up"]).sum() == 2
    torch.testing.assert_close(Ticket.of(sparse, step=0).model_like(plain)(x), sparse(x))


def test_in_storage_csr_the_other_kinds_are_masked():
    plain = made(lambda: nn.Sequential(nn.Linear(5, 5), First(nn.LSTM(5, 6))))
    sparse = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), "csr", init="dense")
    kinds = {name: layer.storage for name, layer in sk.sparse_layers(sparse).items()}
    assert kinds == {"0": "csr", "1.module.weight_ih_l0": "masked", "1.module.weight_hh_l0": "masked"}
    x = numbers(3, 5)()
    before = sk.topology_of(sparse)
    trained(sparse, x, make_rule("rigl", total_steps=8, every=1), 4)
    assert counts_of(sk.topology_of(sparse)) == counts_of(before)


def test_the_kind_of_the_nearest_class_counts():
    class Own(nn.LSTM):
        pass

    assert kind_of(Own(2, 3)) is kind_of(nn.LSTM(2, 3))
    sk.register_kind(Own)(lambda module, name, weight: {"": weight} if name == "weight_hh_l0" else {})
    assert sk.shapes_of(Own(2, 3)) == {"": (12, 3)}
    assert len(sk.shapes_of(nn.LSTM(2, 3))) == 2


def test_kinds_that_compute_or_repeat_are_refused_by_name():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

    for split, error, message in [
        (lambda module, name, weight: {"": weight.repeat(2, 1)}, ValueError, "must give each entry of weight once"),
        (lambda module, name, weight: {"": weight.flatten()}, TypeError, "must return matrices"),
        (lambda module, name, weight: weight, TypeError, "what the kind of Odd returns must be a Mapping"),
    ]:
        sk.register_kind(Odd)(split)
        with pytest.raises(error, match=message):
            sk.sparsify(Odd(), sk.random_topology(sk.shapes_of(Odd()), 0.5), init="dense")
    with unchecked(), pytest.raises(TypeError, match="a kind must be of a class of modules, got 3"):
        sk.register_kind(3)


def test_a_model_on_the_meta_device_gets_initial_weights_for_its_connections():
    with torch.device("meta"):
        model = nn.Sequential(First(nn.LSTM(5, 6, bias=False, batch_first=True)), nn.Linear(6, 2))
    sparse = sk.sparsify(model, sk.random_topology(sk.shapes_of(model), 0.5), init="fan-in")
    assert sparse(torch.ones(2, 3, 5)).isfinite().all()
    assert not any(part.any() for part in off_topology(sparse))


@settings(deadline=None, max_examples=25)
@given(
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel=st.integers(1, 3),
    density=st.floats(0.01, 1),
)
def test_transposed_convolutions_of_any_shape_are_masked_output_by_output(groups, inputs, outputs, kernel, density):
    plain = made(lambda: nn.ConvTranspose2d(groups * inputs, groups * outputs, kernel, groups=groups, bias=False))
    size = groups * outputs * inputs * kernel**2
    topology = sk.random_topology(sk.shapes_of(plain), max(density, 1 / size))
    sparse = sk.sparsify(plain, topology, init="dense")
    assert topology[""].shape == (groups * outputs, inputs, kernel, kernel)
    x = torch.ones(1, groups * inputs, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(sparse(x), with_zeros(plain, topology)(x))
    silent = topology[""].fan_in() == 0
    assert not sparse(x)[0, silent].any()


def test_a_matrix_is_used_by_its_module_and_not_called():
    layer = sk.sparse_layers(sparse_of("GRU")[1])["module.weight_ih_l0"]
    assert isinstance(layer, MaskedMatrix)
    with pytest.raises(TypeError, match="must be used by its module, got a call of weight_ih_l0 alone"):
        layer(torch.ones(1, 5))
    with pytest.raises(ValueError, match="inputs and outputs of this layer must be seen here"):
        layer.kind.input_matrix(words(1, 5)())
