"""Layer norms and GELUs in csr models: torch's numbers in another order of memory, also for sequences of tokens."""

import copy

import pytest
import torch
from helpers import random_numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import unchecked
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.kernels.layer_norm import layer_norm
from sparsekit.layers.companions import COMPANIONS, FeatureMajorGELU, FeatureMajorLayerNorm

EPS = 1e-5


def features_first(x: Tensor) -> Tensor:
    """Return the same numbers with those of one feature beside each other in memory."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1)


def quick(plain: nn.Module) -> nn.Module:
    """Return the module as it is in a csr model."""
    one = copy.deepcopy(plain)
    one.__class__ = COMPANIONS[type(plain)]
    return one


def norm(width: int, dtype: torch.dtype = torch.float64, **how) -> nn.LayerNorm:
    one = nn.LayerNorm(width, dtype=dtype, **how)
    for seed, parameter in enumerate(one.parameters()):
        parameter.data = 1 + random_numbers(*parameter.shape, seed=seed, dtype=dtype)
    return one


def results(module: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of the input and of all parameters."""
    x = x.detach().requires_grad_()
    y = module(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *module.parameters()], g)]


# --- layer norms ------------------------------------------------------------------------------------------------------

shapes = st.one_of(st.tuples(st.integers(1, 600), st.integers(1, 40)), st.tuples(*[st.integers(1, 20)] * 3))


@given(shapes, st.booleans(), st.integers(1, 3))
@settings(max_examples=60)
def test_a_layer_norm_and_its_gradients_are_those_of_torch(shape, has_bias, threads):
    plain, x, g = norm(shape[-1], bias=has_bias), 3 + 2 * random_numbers(*shape), random_numbers(*shape, seed=1)
    torch.set_num_threads(threads)
    try:
        got = results(quick(plain), features_first(x), features_first(g))
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(got, results(plain, x, g))
    assert all(one.movedim(-1, 0).is_contiguous() for one in got[:2])


def test_in_float32_it_is_as_exact_as_torch_s():
    shape, exact = (900, 300), norm(300)
    x, g = 5 + random_numbers(*shape), random_numbers(*shape, seed=1)
    wanted = results(exact, x, g)
    plain = copy.deepcopy(exact).float()
    torchs = results(plain, x.float(), g.float())
    ours = results(quick(plain), features_first(x.float()), features_first(g.float()))
    for own, other, true in zip(ours, torchs, wanted, strict=True):
        assert (own - true).abs().max() < 4 * (other - true).abs().max()


def test_a_large_mean_does_not_swallow_a_small_variance():
    x = 1e4 + 1e-1 * random_numbers(70, 64)
    y = layer_norm(features_first(x.float()), torch.ones(64), torch.zeros(64), eps=0.0)
    assert y.std(1).sub(1).abs().max() < 0.02


def test_it_is_the_gradient_of_what_it_computes():
    weight, bias = random_numbers(4).requires_grad_(), random_numbers(4, seed=1).requires_grad_()
    x = features_first(random_numbers(5, 4, seed=2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: layer_norm(*inputs, eps=EPS), (x, weight, bias))


def test_a_gradient_in_any_format_is_taken():
    module, x, g = quick(norm(6)), features_first(random_numbers(3, 5, 6)), random_numbers(3, 5, 6, seed=1)
    wanted = results(module, x, g)
    torch.testing.assert_close(results(module, x, features_first(g)), wanted)
    repeated = random_numbers(3, 5, 1, seed=1).expand(3, 5, 6)
    torch.testing.assert_close(results(module, x, repeated), results(module, x, repeated.contiguous()))


def test_tensors_that_somebody_packs_in_between_are_read_in_their_layout():
    module, x, g = quick(norm(6)), features_first(random_numbers(15, 6)), random_numbers(15, 6, seed=1)
    wanted = results(module, x, g)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.contiguous().clone(), lambda x: x):
        torch.testing.assert_close(results(module, x, g), wanted)


def test_an_input_that_changes_before_the_backward_pass_is_noticed():
    leaf = features_first(random_numbers(5, 6)).requires_grad_()
    x = leaf * 1
    y = quick(norm(6))(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_second_derivatives_are_refused_by_name():
    x = features_first(random_numbers(5, 6)).requires_grad_()
    y = quick(norm(6))(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="storage 'masked'"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("plain", "x"),
    [
        (norm(6), random_numbers(4, 5, 6)),  # the usual format
        (nn.LayerNorm((5, 6), dtype=torch.float64), features_first(random_numbers(4, 5, 6))),
        (nn.LayerNorm(6, elementwise_affine=False), features_first(random_numbers(4, 6))),
        (norm(6), features_first(random_numbers(0, 6))),
        (norm(6), random_numbers(6)),
        (norm(6, torch.bfloat16), features_first(random_numbers(4, 6, dtype=torch.bfloat16))),
        (norm(6), features_first(random_numbers(4, 5, 6))[:, ::2]),
    ],
    ids=["contiguous", "two dimensions", "no weight", "no sample", "one sample", "bfloat16", "a part"],
)
def test_other_inputs_go_to_torch_s_own(plain, x, monkeypatch):
    monkeypatch.setattr("sparsekit.layers.companions.layer_norm", None)
    assert torch.equal(quick(plain)(x), plain(x))


def test_another_width_or_type_is_refused_as_torch_does():
    for x in (features_first(random_numbers(4, 5)), features_first(random_numbers(4, 6, dtype=torch.float32))):
        with pytest.raises(RuntimeError) as wanted:
            norm(6)(x)
        with pytest.raises(RuntimeError) as got:
            quick(norm(6))(x)
        assert str(got.value) == str(wanted.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")  # which torch itself uses for `jvp`
@pytest.mark.parametrize("plain", [norm(6), nn.GELU()], ids=["norm", "gelu"])
def test_who_looks_into_every_operation_finds_torch_s(plain):
    one, x = quick(plain), features_first(random_numbers(4, 5, 6))
    with unchecked():
        torch.testing.assert_close(torch.func.vmap(one)(x), plain(x))
        for got, wanted in zip(*(torch.func.jvp(module, (x,), (x,)) for module in (one, plain)), strict=True):
            torch.testing.assert_close(got, wanted)
        compiled = torch.compile(one, backend="aot_eager")
        torch.testing.assert_close(compiled(x), plain(x))
        with torch.autocast("cpu"):
            assert torch.equal(one(x), plain(x))


# --- GELUs ------------------------------------------------------------------------------------------------------------


sides = st.lists(st.integers(1, 7), min_size=4, max_size=4)


@given(st.permutations(range(4)), sides, st.sampled_from(["none", "tanh"]))
@settings(max_examples=60)
def test_a_gelu_keeps_any_order_of_memory_and_its_numbers(order, shape, approximate):
    plain, g = nn.GELU(approximate), random_numbers(*shape, seed=1)
    x = random_numbers(*shape).permute(order).contiguous().permute(sorted(range(4), key=order.__getitem__))
    got = results(quick(plain), x, g)
    torch.testing.assert_close(got, results(plain, x, g))
    assert got[0].permute(order).is_contiguous()


def test_a_gelu_takes_tensors_whose_numbers_repeat():
    x = random_numbers(3, 1).expand(3, 4)
    torch.testing.assert_close(quick(nn.GELU())(x), nn.GELU()(x))


def test_what_comes_out_may_be_changed_in_place():
    for plain in (norm(6), nn.GELU()):
        x, y = features_first(random_numbers(4, 5, 6)).requires_grad_(), random_numbers(4, 5, 6).requires_grad_()
        quick(plain)(x).mul_(2).sum().backward()
        plain(y).mul_(2).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)


# --- whole networks ---------------------------------------------------------------------------------------------------


def language_models() -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a masked GPT, the same in csr, and tokens."""
    torch.manual_seed(0)
    plain = sk.models.build("gpt", input_shape=(7,), num_classes=11, dim=16, depth=2, heads=2).double()
    topology = sk.random_topology(sk.shapes_of(plain), 0.3)
    masked, csr = (sk.sparsify(plain, topology, storage=storage) for storage in ("masked", "csr"))
    return masked, csr, torch.randint(11, (5, 7))


def test_a_language_model_in_csr_learns_what_the_masked_one_learns():
    masked, csr, tokens = language_models()
    losses = []
    for model in (masked, csr):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(tokens), tokens)
            loss.backward()
            optimizer.step()
        losses.append(loss)
    torch.testing.assert_close(*losses)


def test_between_csr_layers_activations_stay_features_first():
    _, csr, tokens = language_models()
    seen = {}
    for name, module in csr.named_modules():
        if isinstance(module, (FeatureMajorLayerNorm, FeatureMajorGELU, sk.layers.SparseLayer)):
            module.register_forward_hook(
                lambda _, __, y, name=name: seen.update({name: y.movedim(-1, 0).is_contiguous()})
            )
    csr(tokens)
    assert [name for name, is_so in seen.items() if not is_so] == ["block1.norm1"]  # it reads the embedding
    assert len(seen) == 2 * 9 + 1


def test_densify_gives_torch_s_own_modules_back():
    masked, csr, tokens = language_models()
    plain = sk.densify(csr)
    assert not any(type(module) in COMPANIONS.values() for module in plain.modules())
    torch.testing.assert_close(plain(tokens), masked(tokens))
