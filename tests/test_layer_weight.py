"""`layer.weight` of a sparse layer: what other code reads there, and what becomes of what it writes."""

import copy

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from helpers import STORAGES
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close as same

import sparsekit as sk
from sparsekit.layers import DenseWeightWarning
from sparsekit.rewiring.capture import capture_io, views
from sparsekit.rules import GSE, GraBo, RigL

both_storages = pytest.mark.parametrize("storage", STORAGES)
read_on_purpose = pytest.mark.filterwarnings(f"ignore::{DenseWeightWarning.__module__}.{DenseWeightWarning.__name__}")
pytestmark = read_on_purpose


class ReadsWeights(nn.Module):
    """Computes with its layers' weights itself, ties a decoder to an encoder, and calls one layer as well."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.decoded = nn.Parameter(torch.zeros(8))

    def forward(self, x):
        hidden = F.relu(F.linear(x, self.a.weight, self.a.bias))
        back = F.linear(hidden, self.a.weight.t()) + self.decoded
        image = back.reshape(-1, 2, 2, 2)
        seen = F.conv2d(image, self.conv.weight, self.conv.bias, padding=1) + self.conv(image)
        return self.b(hidden + seen.flatten(1))


def pair(storage, seed=0):
    """A sparse model, and the dense one whose gradients are masked by hand."""
    torch.manual_seed(seed)
    dense = ReadsWeights()
    sparse = sk.sparsify(dense, sk.random_topology(sk.shapes_of(dense), 0.3, seed=seed), storage, init="dense")
    masks = {f"{name}.weight": layer.mask() for name, layer in sk.topology_of(sparse).items()}
    with torch.no_grad():
        for name, mask in masks.items():
            dense.get_parameter(name).mul_(mask)
    return sparse, dense, masks


def layer_of(storage, kind="linear", density=0.5):
    torch.manual_seed(0)
    plain = nn.Linear(6, 5) if kind == "linear" else nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density, seed=1), storage, init="dense")


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), torch.optim.AdamW])
@both_storages
def test_code_that_reads_weights_trains_as_a_dense_model_with_masked_gradients(storage, make):
    sparse, dense, masks = pair(storage)
    optimizers = make(sparse.parameters()), make(dense.parameters())
    begin = {name: layer.values().clone() for name, layer in sk.layers.sparse_layers(sparse).items()}
    for number in range(6):
        torch.manual_seed(number)
        x, y = torch.randn(5, 8), torch.randint(3, (5,))
        for model, optimizer in zip((sparse, dense), optimizers, strict=True):
            optimizer.zero_grad()
            (F.cross_entropy(model(x), y) + 0.01 * model.b.weight.square().sum()).backward()
            for name, mask in masks.items() if model is dense else ():
                dense.get_parameter(name).grad.mul_(mask)
            optimizer.step()
        same(sparse(x), dense(x), rtol=1e-4, atol=1e-5)
        same(sk.densify(sparse)(x), sparse(x), rtol=1e-4, atol=1e-5)
    for name, layer in sk.layers.sparse_layers(sparse).items():
        assert not layer.weight[~layer.topology.mask()].any()
        assert not torch.equal(layer.values(), begin[name])
    assert set(sparse.state_dict()) - set(dense.state_dict()) <= {
        f"{name}.{part}" for name in ("a", "b", "conv") for part in ("indices", "packed_weight")
    }


@both_storages
def test_growth_by_gradient_sees_weights_that_are_read(storage):
    """The gradient of a missing connection comes from calls of the layer and from reads of its weight alike."""
    sparse, dense, _ = pair(storage)
    x = torch.randn(5, 8)
    with capture_io(sparse) as io:
        sparse(x).square().sum().backward()
    dense(x).square().sum().backward()
    for name, seen in views(sparse, io).items():
        every = torch.arange(seen.topology.size)
        same(seen.grad_at(every), dense.get_parameter(f"{name}.weight").grad.flatten(), rtol=1e-4, atol=1e-5)
    new = RigL(every=1, stop=9).propose(views(sparse, io), 0, sk.generator(0))
    sk.rewire(sparse, new)
    same(sk.densify(sparse)(x), sparse(x), rtol=1e-4, atol=1e-5)


@both_storages
def test_growth_by_activations_refuses_what_it_cannot_see(storage):
    sparse, _, _ = pair(storage)
    with capture_io(sparse) as io:
        sparse(torch.randn(5, 8)).square().sum().backward()
    with pytest.raises(ValueError, match=r"(a|conv): what guides growth .* Call layer\(x\) there, or grow by gradient"):
        GSE(every=1, stop=9, candidates=GraBo()).propose(views(sparse, io), 0, sk.generator(0))


def test_a_csr_layer_says_once_that_its_dense_weight_is_computed():
    with pytest.warns(DenseWeightWarning, match="computed each time that layer.weight is read"):
        layer_of("csr").weight.sum()


@both_storages
def test_asking_for_shape_or_type_computes_nothing(storage, recwarn):
    layer = layer_of(storage)
    weight = layer.weight
    asked = weight.shape, weight.dtype, weight.device, weight.dim(), weight.numel(), weight.requires_grad, len(weight)
    assert asked == (torch.Size((5, 6)), torch.float32, torch.device("cpu"), 2, 30, True, 5)
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["linear", "conv"])
@both_storages
def test_initialisers_act_within_the_topology(storage, kind):
    for init in (nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.orthogonal_, nn.init.trunc_normal_):
        layer = layer_of(storage, kind)
        expected = torch.empty(layer.shape)
        torch.manual_seed(3)
        init(expected)
        torch.manual_seed(3)
        init(layer.weight)
        same(layer.weight, expected * layer.topology.mask())
        assert layer.param.count_nonzero() == layer.topology.count


WRITES = {
    "data": lambda weight: weight.data.normal_(0, 0.02),
    "part of data": lambda weight: weight.data[1:3].fill_(7.0),
    "one number": lambda weight: weight.data.__setitem__((0, slice(None)), 2.0),
    "view of a view": lambda weight: weight.data.view(-1)[::2].mul_(-1),
    "chunks": lambda weight: [part.fill_(i + 1.0) for i, part in enumerate(weight.data.chunk(2))],
    "copy": lambda weight: weight.data.copy_(torch.full(weight.shape, 0.5)),
    "detached": lambda weight: weight.detach().mul_(3.0),
    "whole data": lambda weight: setattr(weight, "data", torch.ones(weight.shape)),
    "a column": lambda weight: nn.init.constant_(weight[:, 0], 3.0),
    "out": lambda weight: torch.add(torch.ones(weight.shape), 1.0, out=weight),
    "augmented": lambda weight: weight.__imul__(2.0),
}


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("write", WRITES)
@both_storages
def test_what_is_written_goes_into_the_connections(storage, write, kind):
    layer = layer_of(storage, kind)
    expected = layer.dense_weight()
    torch.manual_seed(4)
    with torch.no_grad():
        WRITES[write](expected)
    torch.manual_seed(4)
    with torch.no_grad():
        WRITES[write](layer.weight)
    same(layer.dense_weight(), expected * layer.topology.mask())
    if storage == "masked":
        assert not layer.param[~layer.mask].any()


@both_storages
def test_writing_while_gradients_are_recorded_is_refused_as_for_every_parameter(storage):
    with pytest.raises(RuntimeError, match="must not be changed in place while gradients are recorded, got mul_"):
        layer_of(storage).weight.mul_(2.0)


@both_storages
def test_gradients_are_read_and_written_through_the_weight(storage):
    layer, x = layer_of(storage), torch.randn(4, 6)
    assert layer.weight.grad is None
    plain = layer.to_plain()
    plain(x).square().sum().backward()
    layer(x).square().sum().backward()
    expected = plain.weight.grad * layer.topology.mask()
    same(layer.weight.grad, expected, rtol=1e-4, atol=1e-5)
    layer.weight.grad.mul_(2.0)
    same(layer.grads(), 2 * expected.flatten()[layer.indices], rtol=1e-4, atol=1e-5)
    layer.weight.grad = None
    assert layer.param.grad is None
    loss = layer(x).square().sum()
    (grad,) = torch.autograd.grad(loss, [layer.weight])
    same(grad, expected, rtol=1e-4, atol=1e-5)


@both_storages
def test_gradients_by_the_weight_can_be_differentiated_again(storage):
    layer = layer_of(storage)
    weight = layer.weight
    (grad,) = torch.autograd.grad(weight.pow(3).sum(), weight, create_graph=True)
    same(grad, 3 * layer.dense_weight() ** 2)
    grad.sum().backward()
    same(layer.grads(), 6 * layer.values())


@both_storages
def test_the_weight_counts_as_a_parameter_and_is_found_by_its_name(storage):
    model = nn.Sequential(layer_of(storage))
    assert isinstance(model[0].weight, nn.Parameter)
    assert not isinstance(model[0].weight.detach(), nn.Parameter)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            model.get_parameter(name).mul_(2.0)
        same(model.get_parameter(name).detach().flatten().sum(), parameter.detach().sum())
    same(model[0].values(), 2 * layer_of(storage).values())


@both_storages
def test_a_model_that_holds_a_weight_outside_of_its_parameters_is_copied_with_it(storage):
    model = nn.Sequential(layer_of(storage))
    model.tied = [model[0].weight, model[0].weight.detach()[1]]
    new = copy.deepcopy(model)
    with torch.no_grad():
        new[0].param.mul_(2.0)
    same(new.tied[0], 2 * model[0].dense_weight())
    same(new.tied[1], 2 * model[0].dense_weight()[1])
    same(model.tied[0], model[0].dense_weight())


@both_storages
def test_freezing_by_the_weight_freezes_the_layer(storage):
    layer = layer_of(storage)
    layer.weight.requires_grad_(False)
    assert not layer.param.requires_grad
    layer.weight.requires_grad = True
    assert layer.param.requires_grad


@both_storages
def test_a_weight_is_copied_saved_and_shown_like_a_tensor(storage):
    weight = layer_of(storage).weight
    assert torch.equal(copy.deepcopy(weight), weight)
    assert repr(weight).startswith("tensor")
    assert type(weight * 1) is torch.Tensor
    assert weight.tolist() == weight.detach().numpy().tolist()


@both_storages
def test_a_new_weight_is_taken_if_it_is_zero_off_the_topology(storage):
    layer = layer_of(storage)
    new = torch.rand(5, 6) * layer.topology.mask()
    param = layer.param
    layer.weight = nn.Parameter(new)
    assert layer.param is param
    same(layer.dense_weight(), new)
    with pytest.raises(ValueError, match="a new weight must be zero where the layer has no connections, got 15 of 30"):
        layer.weight = nn.Parameter(torch.ones(5, 6))
    same(layer.dense_weight(), new)


REFUSED = {
    "parametrizations": lambda layer: parametrizations.weight_norm(layer),
    "spectral norm": lambda layer: parametrizations.spectral_norm(layer),
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "a hook": lambda layer: layer.weight.register_hook(lambda grad: grad),
    "an optimizer": lambda layer: torch.optim.SGD([layer.weight], 0.1),
    "a list of them": lambda layer: torch._foreach_mul_([layer.weight], 2.0),
    "a new parameter": lambda layer: nn.Parameter(layer.weight),
    "a new frozen parameter": lambda layer: nn.Parameter(layer.weight.data, requires_grad=False),
    "a parameter of another module": lambda layer: setattr(nn.ReLU(), "tied", layer.weight),
    "an operand without numbers": lambda layer: layer.weight.data.mul_(torch.ones((), device="meta")),
    "a tied layer": lambda layer: setattr(nn.Linear(6, 5), "weight", layer.weight),
}


@pytest.mark.parametrize("what", REFUSED)
@both_storages
def test_what_would_do_nothing_is_refused_and_leaves_the_layer_as_it_was(storage, what):
    layer = layer_of(storage)
    before = layer(torch.ones(1, 6))
    with pytest.raises((RuntimeError, TypeError, ValueError, AttributeError)):
        REFUSED[what](layer)
    same(layer(torch.ones(1, 6)), before)
    assert list(layer.state_dict()) == list(layer_of(storage).state_dict())


@pytest.mark.parametrize("kind", ["linear", "conv"])
@both_storages
def test_a_sparse_layer_answers_for_the_plain_one(storage, kind):
    layer, plain = layer_of(storage, kind), layer_of(storage, kind).to_plain()
    sizes = "in_channels out_channels kernel_size stride padding dilation groups padding_mode"
    names = {"linear": "in_features out_features", "conv": f"{sizes} transposed output_padding"}[kind].split()
    assert isinstance(layer, type(plain))
    assert {name: getattr(layer, name) for name in names} == {name: getattr(plain, name) for name in names}
    with pytest.raises(AttributeError):
        setattr(layer, names[0], 7)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@both_storages
def test_reset_parameters_draws_what_the_plain_layer_draws_for_the_real_fan_in(storage, kind):
    layer = layer_of(storage, kind)
    plain = layer.to_plain()
    for one in (layer, plain):
        torch.manual_seed(5)
        one.reset_parameters()
    factors = (layer.topology.num_inputs / layer.topology.fan_in()[layer.topology.rows]).sqrt()
    same(layer.values(), plain.weight.detach().flatten()[layer.indices] * factors)
    same(layer.bias, plain.bias)


def test_a_loop_over_plain_layers_finds_sparse_ones():
    sparse, _, _ = pair("csr")
    found = [m for m in sparse.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(found) == 3


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_codes_that_sort_parameters_by_dimension_see_both_storages_alike(kind):
    masked, csr = layer_of("masked", kind), layer_of("csr", kind)
    assert [p.dim() for p in masked.parameters()] == [p.dim() for p in csr.parameters()]


def test_decay_for_matrices_only_decays_csr_as_masked():
    ends = []
    for storage in STORAGES:
        layer = layer_of(storage)
        groups = [
            {"params": [p for p in layer.parameters() if p.dim() >= 2], "weight_decay": 0.5},
            {"params": [p for p in layer.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        layer(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        ends.append(torch.cat([layer.values(), layer.bias]))
    same(ends[0], ends[1])


# --- around the forward pass -------------------------------------------------------------------------------------


@both_storages
def test_a_rewiring_between_forward_and_backward_is_noticed(storage):
    for density in (0.5, 0.2):
        layer, x = layer_of(storage), torch.randn(4, 6, requires_grad=True)
        loss = layer(x).square().sum()
        shapes = {"": layer.shape}
        sk.rewire(layer, sk.random_topology(shapes, density, seed=7))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@both_storages
def test_validation_in_inference_mode_leaves_training_possible(storage):
    """As the first forward of all, and right after a rewiring done in it or outside."""
    model, _, _ = pair(storage)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(5, 8)
    for number in range(3):
        with torch.inference_mode():
            model(x)
            sk.topology_of(model)
            if number == 2:
                sk.rewire(model, sk.random_topology(sk.shapes_of(model), 0.3, seed=9), optimizer)
                model(x)
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        sk.rewire(model, sk.random_topology(sk.shapes_of(model), 0.3, seed=number), optimizer)
    same(sk.densify(model)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_csr_computes_half_precision_in_float32(kind, dtype):
    layer = layer_of("csr", kind)
    x = torch.randn(3, 6) if kind == "linear" else torch.randn(2, 4, 5, 5)
    half = copy.deepcopy(layer).to(dtype)
    x_half = x.to(dtype).requires_grad_()
    y = half(x_half)
    y.float().square().sum().backward()
    expected = (
        half.float().to_plain()(x_half.detach().float()) if False else copy.deepcopy(half).float()(x_half.float())
    )
    assert y.dtype == x_half.grad.dtype == dtype
    same(y.float(), expected, rtol=0.02, atol=0.02)
    assert half.param.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, inside jvp
@both_storages
def test_functions_of_torch_func_look_through_the_layers(storage):
    model = nn.Sequential(layer_of(storage), nn.Tanh())
    plain, x = sk.densify(model), torch.randn(3, 6)

    def loss(net, x):
        return net(x).square().sum()

    def by_func(net):
        parameters = dict(net.named_parameters())
        return torch.func.grad(lambda p: torch.func.functional_call(net, p, (x,)).square().sum())(parameters)

    same(torch.func.hessian(lambda x: loss(model, x))(x), torch.func.hessian(lambda x: loss(plain, x))(x))
    same(torch.func.vmap(model)(x), plain(x))
    grads, expected = by_func(model), by_func(plain)
    layer = model[0]
    found = grads[f"0.{layer.param_name}"]
    same(layer.unpack(found), expected["0.weight"].flatten()[layer.indices])
    same(grads["0.bias"], expected["0.bias"])


@both_storages
def test_ensembles_of_models_are_applied_at_once(storage):
    """As torch.func's tutorial does it, with equal topologies and with different ones."""
    models = [nn.Sequential(layer_of(storage), nn.Tanh()) for _ in range(3)]
    sk.rewire(models[1], sk.random_topology({"0": (5, 6)}, 0.5, seed=9))
    parameters, buffers = torch.func.stack_module_state(models)
    skeleton, x = copy.deepcopy(models[0]).to("meta"), torch.randn(3, 6)
    call = torch.func.vmap(lambda p, b: torch.func.functional_call(skeleton, (p, b), (x,)))
    same(call(parameters, buffers), torch.stack([model(x) for model in models]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own
@both_storages
def test_derivatives_forward_look_through_the_layers(storage):
    layer, x = layer_of(storage), torch.randn(3, 6)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    same(tangent, torch.ones(3, 6) @ layer.dense_weight().T)


def test_noise_on_all_parameters_is_not_saved_off_the_topology():
    layer = layer_of("masked")
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(vector + 1.0, layer.parameters())
    same(layer.state_dict()["weight"], layer.dense_weight())
    same(layer.state_dict()["weight"], layer.param.detach())


def test_second_derivatives_through_csr_are_refused_by_name():
    layer, x = layer_of("csr"), torch.randn(3, 6, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives must go through layers with storage 'masked'"):
        grad.square().sum().backward()
    masked = layer_of("masked")
    (grad,) = torch.autograd.grad(masked(x).tanh().sum(), x, create_graph=True)
    grad.square().sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "trace",
    [lambda net: torch.jit.trace(net, torch.ones(1, 6)), torch.fx.symbolic_trace],
    ids=["jit", "fx"],
)
def test_tracing_csr_is_refused_by_name(trace):
    net = nn.Sequential(layer_of("csr"))
    with pytest.raises(TypeError, match=r"traced by .* must go through plain layers, got a csr layer"):
        trace(net)
    x = torch.ones(1, 6)
    same(trace(sk.densify(net))(x), net(x))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@both_storages
def test_scripting_is_refused_by_name(storage):
    net = nn.Sequential(layer_of(storage))
    with pytest.raises(TypeError, match=r"torch.jit.script compiles must have plain layers, .* sparsekit.densify"):
        torch.jit.script(net)
    same(torch.jit.script(sk.densify(net))(torch.ones(1, 6)), net(torch.ones(1, 6)))


def test_weights_that_a_module_keeps_in_a_list_stay_dense():
    plain = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    plain.tied = {"decoder": [plain[0].weight]}
    assert list(sk.shapes_of(plain)) == ["1"]
    assert "tied" in sk.layers.left_dense(plain)["0.weight"]


def test_masked_layers_can_be_traced_before_their_first_use():
    masked = nn.Sequential(layer_of("masked"))
    x = torch.ones(1, 6)
    with pytest.warns((DeprecationWarning, FutureWarning), match="torch.jit.trace"):  # from torch 2.15 on
        traced = torch.jit.trace(masked, x)
    same(traced(x), masked(x))


class ReadsOneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.b(F.relu(F.linear(x, self.a.weight, self.a.bias)))


@both_storages
def test_torch_compiles_code_that_reads_weights(storage, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # torch's compiler cannot see through the checks
    plain, x = ReadsOneWeight(), torch.randn(5, 8)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=0), storage, init="dense")
    expected = model(x)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    same(compiled(x), expected)
    sk.rewire(model, sk.random_topology(sk.shapes_of(model), 0.3, seed=5))
    same(compiled(x), sk.densify(model)(x))


@pytest.mark.parametrize("conv", [False, True])
def test_a_second_derivative_of_layers_beside_a_csr_layer_never_leaves_its_part_out(conv):
    def layer():
        return nn.Conv2d(3, 3, 3, padding=1) if conv else nn.Linear(8, 8)

    plain = nn.Sequential(layer(), nn.Tanh(), layer(), nn.Tanh(), layer())
    model = sk.sparsify(
        plain, sk.random_topology({"2": tuple(plain[2].weight.shape)}, 0.4, seed=0), "csr", init="dense"
    )
    inputs = torch.randn(2, 3, 5, 5) if conv else torch.randn(5, 8)
    first, last = model[0].weight, model[4].weight
    gradient = torch.autograd.grad(model(inputs).square().sum(), first, create_graph=True)[0]
    for weight in (first, last):
        with pytest.raises(RuntimeError, match="second derivatives must go through layers with storage 'masked'"):
            torch.autograd.grad(gradient.square().sum(), weight, retain_graph=True)


def test_the_faster_storage_is_found_for_code_that_reads_weights():
    plain, x = ReadsWeights(), torch.randn(5, 8)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=0), "auto", example=x, init="dense")
    assert {sk.layers.sparse_layers(model)[name].storage for name in ("a", "conv", "b")} <= {"masked", "csr"}
    same(model(x), sk.densify(model)(x), rtol=1e-4, atol=1e-5)


@both_storages
def test_costs_of_weights_that_are_read_are_named_as_those_of_dense_ones(storage):
    sparse, dense, _ = pair(storage)
    named = []
    for model in (sparse, dense):
        with pytest.warns(sk.analysis.NotCountedWarning) as caught:
            sk.analysis.forward_flops(model, torch.randn(5, 8))
        found = [str(one.message) for one in caught if one.category is sk.analysis.NotCountedWarning]
        named.append(found[0].replace("packed_weight", "weight"))
    assert named[0] == named[1]
    assert "a.weight" in named[0]


@both_storages
def test_paths_through_weights_that_are_read_are_counted_or_refused(storage):
    plain, x = ReadsOneWeight(), torch.randn(1, 8)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=0), storage, init="dense")
    same(sk.analysis.log10_num_paths_of_model(model, x), sk.analysis.log10_num_paths(sk.topology_of(model)))
    with pytest.raises(
        ValueError, match=r"sparse layers must be called .* weight of (Masked|Sparse)Linear.* layer\(x\)"
    ):
        sk.analysis.effective_topology_of_model(model, x)


@both_storages
def test_a_layer_without_memory_has_shapes_and_takes_a_state(storage):
    model, x = nn.Sequential(layer_of(storage)), torch.randn(3, 6)
    empty = copy.deepcopy(model).to("meta")
    assert empty(x.to("meta")).shape == (3, 5)
    assert empty[0].weight.T.shape == (6, 5)
    given = copy.deepcopy(empty)
    given.load_state_dict(model.state_dict(), assign=True)
    filled = empty.to_empty(device="cpu")
    filled[0].stored_indices.fill_(torch.nan)
    filled.load_state_dict(model.state_dict())
    for new in (given, filled):
        same(new(x), model(x))
        assert sk.topology_of(new) == sk.topology_of(model)


def test_values_without_positions_are_refused_and_short_positions_taken():
    model = nn.Sequential(layer_of("csr"))
    with pytest.raises(RuntimeError, match="values of connections must come with their positions, got packed_weight"):
        model.load_state_dict({name: parameter.detach() for name, parameter in model.named_parameters()}, strict=False)
    state = {key: x.int() if key.endswith("indices") else x for key, x in model.state_dict().items()}
    new = nn.Sequential(layer_of("csr", density=0.3))
    new.load_state_dict(state)
    same(new[0].dense_weight(), model[0].dense_weight())
