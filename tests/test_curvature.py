"""Curvature on the support: equal to the Hessian that autograd forms, masked; exact where the loss is a quadratic."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import STORAGES, batch_for, made, mlp, small_conv_net, sparse
from torch import Tensor, nn

import sparsekit as sk
from sparsekit import analysis
from sparsekit.analysis.landscape.curvature import Eigenvalue, Hessian
from sparsekit.analysis.landscape.weight_vectors import support_of, vector_of
from sparsekit.topology import LayerTopology, Topology

PLACES = torch.tensor([0, 2, 3, 6, 7])


def half_squares(outputs: Tensor, signs: Tensor) -> Tensor:
    return (signs * outputs.square()).mean() / 2


def quadratic(*, negative: float = 0.0) -> tuple[nn.Module, list, Tensor]:
    """A layer of eight weights, data in two batches of other sizes, and Q with loss = w Q w / 2."""
    torch.manual_seed(0)
    inputs, signs = torch.randn(30, 8, dtype=torch.float64), torch.ones(30, 1, dtype=torch.float64)
    signs[:10] = -negative if negative else 1.0
    layer = nn.Sequential(nn.Linear(8, 1, bias=False)).double()
    q = inputs.T @ (signs * inputs) / 30
    return layer, [(inputs[:10], signs[:10]), (inputs[10:], signs[10:])], q


def masked(model: nn.Module, places: Tensor = PLACES, storage: str = "masked") -> nn.Module:
    return sk.sparsify(model, Topology({"0": LayerTopology((1, 8), places)}), storage, init="dense")


def whole_hessian(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The Hessian by all parameters of the plain network, as autograd forms it."""
    plain = sk.densify(model)
    shapes = {name: (w.shape, w.numel()) for name, w in plain.named_parameters()}

    def loss(vector: Tensor) -> Tensor:
        parts = zip(shapes.items(), vector.split([size for _, size in shapes.values()]), strict=True)
        weights = {name: part.view(shape) for (name, (shape, _)), part in parts}
        return nn.functional.cross_entropy(torch.func.functional_call(plain, weights, batch[0]), batch[1])

    return torch.autograd.functional.hessian(loss, vector_of(model))


class TestQuadraticLoss:
    @pytest.mark.parametrize("storage", STORAGES)
    def test_the_top_eigenvalue_and_the_trace_are_those_of_the_masked_submatrix(self, storage):
        layer, batches, q = quadratic()
        part = q[PLACES][:, PLACES]
        net = masked(layer, storage=storage)
        top = analysis.top_eigenvalue(net, batches, half_squares, tolerance=1e-9)
        assert top.value == pytest.approx(float(torch.linalg.eigvalsh(part)[-1]), rel=1e-9)
        assert top.is_converged
        trace = analysis.hessian_trace(net, batches, half_squares, probes=400)
        assert trace.mean == pytest.approx(float(part.trace()), abs=4 * trace.error)
        assert 0 < trace.error < 0.05 * trace.mean

    def test_a_smaller_support_never_has_a_larger_top_eigenvalue(self):
        layer, batches, _ = quadratic()
        tops = [
            float(analysis.top_eigenvalue(masked(layer, PLACES[:size]), batches, half_squares)) for size in range(1, 6)
        ]
        assert tops == sorted(tops)
        assert tops[-1] <= float(analysis.top_eigenvalue(layer, batches, half_squares)) + 1e-9

    def test_a_negative_eigenvalue_of_larger_size_is_not_taken_for_the_top(self):
        layer, batches, q = quadratic(negative=9.0)
        values = torch.linalg.eigvalsh(q)
        assert -values[0] > values[-1] > 0
        found = analysis.top_eigenvalue(layer, batches, half_squares, tolerance=1e-9)
        assert found.value == pytest.approx(float(values[-1]), rel=1e-9)

    def test_the_spectrum_has_the_trace_and_the_eigenvalues(self):
        layer, batches, q = quadratic()
        spectrum = analysis.hessian_spectrum(layer, batches, half_squares, probes=40)
        assert spectrum["weight"].sum() == pytest.approx(1)
        for _, probe in spectrum.groupby("probe"):
            assert probe["eigenvalue"].to_numpy() == pytest.approx(torch.linalg.eigvalsh(q).numpy())
        # Probe by probe the same numbers as the trace's own.
        trace = analysis.hessian_trace(layer, batches, half_squares, probes=40)
        weighted = (spectrum["eigenvalue"] * spectrum["weight"]).sum() * 8
        assert weighted == pytest.approx(trace.mean)

    def test_few_products_give_a_value_from_below_that_says_how_sure_it_is(self):
        layer, batches, q = quadratic()
        true = torch.linalg.eigvalsh(q)
        found = analysis.top_eigenvalue(layer, batches, half_squares, most=2, tolerance=1e-9)
        assert found == Eigenvalue(value=found.value, residual=found.residual, products=2, is_converged=False)
        assert found.value < float(true[-1])
        assert float((true - found.value).abs().min()) <= found.residual

    def test_a_straight_loss_has_no_curvature(self):
        net = nn.Linear(3, 1, bias=False)
        found = analysis.top_eigenvalue(net, [(torch.ones(2, 3), torch.ones(2, 1))], lambda out, _: out.mean())
        assert (found.value, found.is_converged) == (0.0, True)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("make", "shape"), [(lambda: mlp(5, 6, 3), (5,)), (small_conv_net, (2, 6, 6))])
def test_products_are_those_of_the_whole_hessian_on_the_support(make, shape, storage):
    model, batch = sparse(make(), storage), batch_for(shape)
    support = support_of(model)
    expected = whole_hessian(model, batch)[support][:, support]
    hessian = Hessian(model, [batch])
    assert hessian.size == len(expected) < len(support)
    vector = torch.randn(hessian.size, dtype=torch.float64)
    torch.testing.assert_close(hessian @ vector, expected @ vector)
    halves = [(batch[0][:3], batch[1][:3]), (batch[0][3:], batch[1][3:])]
    torch.testing.assert_close(Hessian(model, halves) @ vector, expected @ vector)
    values = torch.linalg.eigvalsh(expected)
    assert analysis.top_eigenvalue(model, [batch]).value == pytest.approx(float(values[-1]), rel=1e-3)


class ByHand(nn.Module):
    """Attention of a user's own: three layers, torch's fused function, masks and groups of heads."""

    def __init__(self, **how):
        super().__init__()
        self.how, self.parts = how, nn.ModuleList(nn.Linear(4, 8) for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in self.parts)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, **self.how)
        return self.head(seen.transpose(1, 2).flatten(2).mean(1))


def encoder(**how) -> nn.Module:
    """Two encoder layers of torch's own, then a head."""
    block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, **how)
    return nn.Sequential(nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(12, 3))


ATTENTIONS = {
    "function": ByHand,
    "function, causal": lambda: ByHand(is_causal=True),
    "function, masked": lambda: ByHand(attn_mask=torch.eye(3, dtype=torch.bool)),
    "function, biased": lambda: ByHand(attn_mask=torch.arange(9.0).double().view(3, 3), scale=0.3),
    "encoder": encoder,
    "encoder, norms first": lambda: encoder(norm_first=True, activation="gelu"),
}


def by_differences(model: nn.Module, batch: tuple[Tensor, Tensor], vector: Tensor) -> Tensor:
    """`H v` from two gradients beside the network; no second derivative is taken."""
    steps = []
    for side in (1e-5, -1e-5):
        moved = analysis.network_at(model, vector_of(model) + side * vector)
        loss = nn.functional.cross_entropy(moved(batch[0]), batch[1])
        steps.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(moved.parameters()))]))
    return (steps[0] - steps[1]) / 2e-5


@pytest.mark.parametrize("make", ATTENTIONS.values(), ids=ATTENTIONS)
def test_products_through_attention_are_those_of_finite_differences(make):
    model, batch = made(make), batch_for((3, 4))
    hessian = Hessian(model, [batch])
    vector = torch.randn(hessian.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hessian @ vector, by_differences(model, batch, vector), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("storage", STORAGES)
def test_curvature_of_a_sparse_network_with_attention_is_that_of_its_whole_hessian(storage):
    model, batch = sparse(made(ByHand), storage), batch_for((3, 4))
    support, vector = support_of(model), torch.zeros(len(support_of(model)), dtype=torch.float64)
    hessian = Hessian(model, [batch])
    rows = []
    for place in support.nonzero().flatten().tolist()[:6]:
        vector.zero_()[place] = 1.0
        rows.append(by_differences(model, batch, vector)[support])
    torch.testing.assert_close(
        torch.stack([hessian @ unit for unit in torch.eye(hessian.size, dtype=torch.float64)[:6]]),
        torch.stack(rows),
        rtol=1e-5,
        atol=1e-7,
    )
    assert analysis.hessian_trace(model, [batch], probes=2).probes == 2
    assert np.isfinite(float(analysis.top_eigenvalue(model, [batch], most=3)))


def test_second_derivatives_leave_the_choice_of_attention_as_it_was_for_all_threads():
    asked = []

    class Asking(ByHand):
        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as other:  # what another thread would use at this moment
                asked.append(other.submit(fused_is_on).result())
            return super().forward(x)

    Hessian(made(Asking), [batch_for((3, 4))]) @ torch.ones(147, dtype=torch.float64)
    assert asked == [True]
    assert fused_is_on()


def fused_is_on() -> bool:
    return torch.backends.cuda.flash_sdp_enabled() and torch.backends.mha.get_fastpath_enabled()


def test_an_operation_without_a_second_derivative_is_named():
    model = nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 3))
    batch = (torch.tensor([[1, 2], [3, 4]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="must have a second derivative here, got one without: .*embedding_bag"):
        analysis.top_eigenvalue(model, [batch])
    model[0].requires_grad_(False)
    assert np.isfinite(float(analysis.top_eigenvalue(model, [batch])))


def test_looking_at_a_model_leaves_it_as_it_was():
    model = sparse(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)), "csr").train()
    model[0].param.grad = torch.ones_like(model[0].param)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    batch = (torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3)
    looks = (analysis.top_eigenvalue, analysis.hessian_trace, analysis.hessian_spectrum)
    first, second = ([look(model, [batch]) for look in looks] for _ in range(2))
    assert first[:2] == second[:2]  # no dropout, and the same draws
    assert first[2].equals(second[2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch.equal(model[0].param.grad, torch.ones_like(model[0].param))
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_parameters_do_not_count():
    model, batch = mlp(5, 6, 3), batch_for((5,))
    whole = whole_hessian(model, batch)[36:, 36:]
    model[0].requires_grad_(False)
    hessian = Hessian(model, [batch])
    assert hessian.size == 21
    assert float(analysis.top_eigenvalue(model, [batch])) == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]))


def test_single_precision_is_enough_for_thirty_steps():
    model, batch = mlp(5, 12, 3), batch_for((5,), size=40)
    exact = analysis.hessian_spectrum(model, [batch], probes=1)
    single = analysis.hessian_spectrum(model.float(), [(batch[0].float(), batch[1])], probes=1)
    assert single["eigenvalue"].max() == pytest.approx(exact["eigenvalue"].max(), rel=1e-4)
    assert np.average(single["eigenvalue"], weights=single["weight"]) == pytest.approx(
        np.average(exact["eigenvalue"], weights=exact["weight"]), rel=1e-4
    )


@pytest.mark.parametrize(
    ("look", "settings", "said"),
    [
        (analysis.top_eigenvalue, {"most": 0}, "most must be at least 1"),
        (analysis.hessian_trace, {"probes": 1}, "probes must be at least 2"),
        (analysis.hessian_spectrum, {"steps": 0}, "steps must be at least 1"),
        (analysis.hessian_spectrum, {"probes": 0}, "probes must be at least 1"),
    ],
)
def test_counts_that_give_nothing_are_refused(look, settings, said):
    with pytest.raises(ValueError, match=said):
        look(mlp(5, 3), [batch_for((5,))], **settings)


def test_no_data_and_nothing_to_train_are_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        Hessian(mlp(5, 3), [])
    with pytest.raises(ValueError, match="at least one parameter that is trained"):
        Hessian(mlp(5, 3).requires_grad_(False), [batch_for((5,))])
