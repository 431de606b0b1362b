"""The arithmetic of sparse layers, against dense torch."""

import pytest
import torch
import torch.nn.functional as F
from helpers import random_layer
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit.kernels import (
    Structure,
    backend,
    functions,
    sampled_outer,
    sparse_conv2d,
    sparse_linear,
    spmm,
    spmm_transposed,
    unfold_columns,
)
from sparsekit.topology import LayerTopology

DTYPES = [torch.float32, torch.float64]
UNFOLD = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}


@pytest.fixture(params=["compiled", "reference"], autouse=True)
def kernels(request, monkeypatch):
    """Every test runs with both sets of kernels."""
    monkeypatch.setattr(backend, "is_fast", backend.is_fast if request.param == "compiled" else lambda x: False)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def problems(draw):
    """A topology (empty and full ones included), its values, and activations on both sides, in any memory layout."""
    rows, cols, num = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 7))
    count = draw(st.one_of(st.sampled_from([0, rows * cols]), st.integers(0, rows * cols)))
    seed, dtype, contiguous = draw(st.integers(0, 99)), draw(st.sampled_from(DTYPES)), draw(st.booleans())
    topology = random_layer((rows, cols), count, seed)
    values = torch.randn(count, dtype=dtype, generator=seeded(seed))
    x, g = (torch.randn(num, side, dtype=dtype, generator=seeded(seed + 1)).T for side in (cols, rows))
    return topology, values, *((x.contiguous(), g.contiguous()) if contiguous else (x, g))


def dense(topology: LayerTopology, values: torch.Tensor) -> torch.Tensor:
    return values.new_zeros(topology.size).index_copy(0, topology.indices, values).view(topology.shape)


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5 if got.dtype == torch.float32 else 1e-12, atol=1e-5)


@given(problems())
@settings(max_examples=80)
def test_sparse_times_dense_is_what_dense_torch_gives(problem):
    topology, values, x, g = problem
    structure, weight = Structure(topology), dense(topology, values)
    close(spmm(values, structure, x), weight @ x)
    close(spmm_transposed(values, structure, g), weight.T @ g)


@given(problems(), st.integers(0, 99))
@settings(max_examples=80)
def test_the_sampled_outer_product_is_the_dense_one_at_those_positions(problem, seed):
    topology, _, x, g = problem
    wanted = (g @ x.T).flatten()
    close(sampled_outer(x, g, topology.rows, topology.cols), wanted[topology.indices])
    # Only rows must be in order: columns may come in any.
    order = torch.argsort(topology.rows + 0.5 * torch.rand(topology.count, generator=seeded(seed)))
    close(sampled_outer(x, g, topology.rows[order], topology.cols[order]), wanted[topology.indices[order]])


@pytest.mark.parametrize("count", [1, 20, 300, 1199, 1200])
def test_gathering_and_cutting_out_of_blocks_give_the_same(count):
    topology = random_layer((40, 30), count)
    x, g = torch.randn(30, 5, generator=seeded(0)).double(), torch.randn(40, 5, generator=seeded(1)).double()
    close(sampled_outer(x, g, topology.rows, topology.cols), (g @ x.T).flatten()[topology.indices])


@given(problems(), st.booleans())
@settings(max_examples=50)
def test_a_sparse_linear_layer_and_its_gradients_are_the_dense_ones(problem, with_bias):
    topology, values, x, g = problem
    bias = torch.arange(topology.num_outputs, dtype=values.dtype) if with_bias else None
    inputs = [tensor.clone().requires_grad_() for tensor in (x.T, values)]
    y = sparse_linear(inputs[0], inputs[1], Structure(topology), bias)
    wanted = F.linear(inputs[0], dense(topology, inputs[1]), bias)
    close(y, wanted)
    for got, expected in zip(
        torch.autograd.grad(y, inputs, g.T), torch.autograd.grad(wanted, inputs, g.T), strict=True
    ):
        close(got, expected)


@pytest.mark.parametrize("count", [0, 1, 15, 36, 72])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_sparse_convolution_and_its_gradients_are_the_dense_ones(count, groups):
    topology = random_layer((4, 12 // groups, 3, 2), min(count, 288 // groups))
    values = torch.randn(topology.count, generator=seeded(1)).double().requires_grad_()
    x = torch.randn(3, 12, 6, 7, generator=seeded(2)).double().requires_grad_()
    y = sparse_conv2d(x, values, Structure(topology, groups), torch.ones(4).double(), UNFOLD)
    weight = dense(topology, values)
    wanted = F.conv2d(x, weight, torch.ones(4).double(), (2, 1), (1, 0), (1, 2), groups)
    close(y, wanted)
    g = torch.randn(wanted.shape, generator=seeded(3)).double()
    grads, expected = (torch.autograd.grad(out, [x, values], g) for out in (y, wanted))
    close(grads[0], expected[0])
    close(grads[1], expected[1])


@pytest.mark.parametrize("numbers", [1, 700, 2**24])
def test_a_convolution_in_parts_of_samples_is_the_convolution(numbers, monkeypatch):
    monkeypatch.setattr(functions, "UNFOLDED_NUMBERS", numbers)
    topology = random_layer((4, 3, 3, 2), 20)
    values = torch.randn(20, generator=seeded(1)).double().requires_grad_()
    x = torch.randn(5, 3, 6, 7, generator=seeded(2)).double().requires_grad_()
    y = sparse_conv2d(x, values, Structure(topology), None, UNFOLD)
    wanted = F.conv2d(x, dense(topology, values), None, (2, 1), (1, 0), (1, 2))
    close(y, wanted)
    grads, expected = (torch.autograd.grad(out.pow(2).sum(), [x, values]) for out in (y, wanted))
    close(grads[0], expected[0])
    close(grads[1], expected[1])


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_only_gradients_that_are_wanted_are_computed(needs):
    topology = random_layer((4, 6), 9)
    x = torch.randn(5, 6, generator=seeded(1)).double().requires_grad_(needs[0])
    values = torch.randn(9, generator=seeded(2)).double().requires_grad_(needs[1])
    sparse_linear(x, values, Structure(topology), None).sum().backward()
    assert (x.grad is not None, values.grad is not None) == needs


def test_both_functions_pass_the_numerical_gradient_check():
    topology = random_layer((4, 6), 9)
    x = torch.randn(2, 3, 6, generator=seeded(1)).double().requires_grad_()
    values = torch.randn(9, generator=seeded(2)).double().requires_grad_()
    bias = torch.randn(4, generator=seeded(3)).double().requires_grad_()
    linear = Structure(topology)
    assert torch.autograd.gradcheck(lambda *args: sparse_linear(args[0], args[1], linear, args[2]), (x, values, bias))
    conv = Structure(LayerTopology((4, 1, 3, 2), topology.indices), groups=2)
    image = torch.randn(2, 2, 4, 5, generator=seeded(1)).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *args: sparse_conv2d(args[0], args[1], conv, args[2], UNFOLD), (image, values, bias)
    )


def test_a_gradient_that_shares_its_memory_is_read_correctly():
    """The gradient of a sum is one number seen many times: its strides are all zero."""
    topology = random_layer((4, 6), 9)
    x = torch.randn(5, 6, generator=seeded(1)).double().requires_grad_()
    values = torch.randn(9, generator=seeded(2)).double()
    sparse_linear(x, values, Structure(topology), None).sum().backward()
    close(x.grad, dense(topology, values).sum(0).expand(5, 6))


def test_the_structure_holds_rows_columns_and_where_groups_read():
    topology = LayerTopology((4, 2), torch.tensor([0, 3, 4, 7]))
    plain, grouped = Structure(topology), Structure(topology, groups=2)
    assert (plain.width, plain.num_rows, plain.cols.tolist()) == (2, 4, [0, 1, 0, 1])
    assert (grouped.width, grouped.num_rows, grouped.cols.tolist()) == (4, 4, [0, 1, 2, 3])
    assert unfold_columns(topology, 2).tolist() == [0, 1, 2, 3]
    assert grouped.row_pointers.tolist() == [0, 1, 2, 3, 4]
    assert plain.columns[0].tolist() == [0, 2, 4]
    assert plain.columns[1].tolist() == [0, 2, 1, 3]
    assert plain.columns[2].tolist() == [0, 2, 1, 3]
