"""The kernels as operators: right in every way that torch can check, in whole graphs, and never compiled anew."""

import gc
import subprocess
import sys

import pytest
import torch
from helpers import random_layer

from sparsekit.kernels import Structure, operators, sparse_conv2d, sparse_linear
from sparsekit.kernels.operators import Traced

UNFOLD = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}


def linear_arguments(count: int, dtype: torch.dtype = torch.float64):
    layer = random_layer((4, 5), count)
    x, values, bias = (torch.randn(size, dtype=dtype, requires_grad=True) for size in ((3, 5), count, 4))
    return (x, values, bias), layer


def conv2d_arguments(groups: int, count: int):
    layer = random_layer((4, 4 // groups, 3, 2), count)
    x, values, bias = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((3, 4, 6, 5), count, 4))
    return (x, values, bias), layer


@pytest.mark.parametrize("count", [0, 1, 9, 20])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_linear_operator_computes_what_its_function_does_with_right_gradients(count, with_bias):
    (x, values, bias), layer = linear_arguments(count)
    bias = bias if with_bias else None
    traced = Traced(layer.indices, layer.shape, 1)
    assert torch.autograd.gradcheck(lambda x, values: operators.linear(x, values, bias, traced), (x, values))
    torch.testing.assert_close(
        operators.linear(x, values, bias, traced), sparse_linear(x, values, Structure(layer), bias), rtol=0, atol=0
    )


@pytest.mark.parametrize(("groups", "count"), [(1, 0), (1, 17), (2, 48)])
def test_the_convolution_computes_what_its_function_does_with_right_gradients(groups, count):
    (x, values, bias), layer = conv2d_arguments(groups, count)
    traced = Traced(layer.indices, layer.shape, groups)
    assert torch.autograd.gradcheck(lambda x, v, b: operators.conv2d(x, v, b, traced, UNFOLD), (x, values, bias))
    y = operators.conv2d(x, values, bias, traced, UNFOLD)
    wanted = sparse_conv2d(x, values, Structure(layer, groups), bias, UNFOLD)
    torch.testing.assert_close(y, wanted, rtol=0, atol=0)


def test_positions_are_checked_before_a_kernel_reads_them():
    (x, values, _), layer = linear_arguments(9)
    for wrong in (layer.indices.flip(0), layer.indices + 20, layer.indices - 21):
        with pytest.raises(ValueError, match="positions"):
            operators._linear(x, values, None, wrong, layer.shape)


def test_what_does_not_fit_the_positions_is_refused_before_a_kernel_reads_it():
    (x, values, bias), layer = linear_arguments(9)
    settings, y = (layer.indices, layer.shape), torch.zeros(3, 4, dtype=torch.float64)
    for wrong in [(x[:, :4], values, bias), (x[0], values, bias), (x, values[:8], bias), (x, values, bias[:3])]:
        with pytest.raises(ValueError, match="must"):
            operators._linear(*wrong, *settings)
    for wrong in [(y[:, :3], x, values), (y[:2], x, values), (y.float(), x, values), (y, x[:, :4], values)]:
        with pytest.raises(ValueError, match="must"):
            operators._linear_backward(*wrong, *settings, True)


def test_what_does_not_fit_a_convolution_is_refused_before_a_kernel_reads_it():
    (x, values, bias), layer = conv2d_arguments(2, 17)
    settings = layer.indices, layer.shape, 2, [side for pair in UNFOLD.values() for side in pair]
    y = operators._conv2d(x, values, bias, *settings).detach()
    for wrong in [(x[:, :2], values, bias), (x[0], values, bias), (x, values[:8], bias), (x, values, bias[:3])]:
        with pytest.raises(ValueError, match="must"):
            operators._conv2d(*wrong, *settings)
    for wrong in [(y[:, :3], x, values), (y[..., :1], x, values), (y.float(), x, values), (y, x[:, :2], values)]:
        with pytest.raises(ValueError, match="must"):
            operators._conv2d_backward(*wrong, *settings, True)


def test_index_arrays_are_made_once_and_again_only_where_positions_have_changed():
    indices = random_layer((4, 5), 9).indices.clone()
    first = operators._structure(indices, (4, 5))
    assert operators._structure(indices, (4, 5)) is first
    assert operators._structure(indices, (5, 4)) is not first
    indices.copy_(torch.arange(9))
    assert operators._structure(indices, (4, 5)).topology.indices.tolist() == list(range(9))


class Forgetful(dict):
    """As if another thread had something else to keep, each time."""

    def __setitem__(self, key, value) -> None:
        pass


def test_index_arrays_that_another_thread_has_thrown_away_are_still_in_hand(monkeypatch):
    monkeypatch.setattr(operators, "_structures", Forgetful())
    layer = random_layer((4, 5), 9)
    assert operators._structure(layer.indices, layer.shape).topology == layer


def test_index_arrays_go_with_the_positions():
    gc.collect()  # what other tests have left
    before = len(operators._structures)
    indices = random_layer((4, 5), 9).indices.clone()
    operators._structure(indices, (4, 5))
    assert len(operators._structures) == before + 1
    del indices
    gc.collect()
    assert len(operators._structures) == before


CHECKING = """
import torch
from torch.library import opcheck
from sparsekit.kernels import operators

def random(*shape):
    return torch.randn(shape, requires_grad=True)

for count, bias, picture in [(9, random(4), False), (17, None, True)]:
    values, indices = random(count), torch.arange(count)
    if picture:
        name, x, settings = "conv2d", random(3, 4, 6, 5), ([4, 2, 3, 2], 2, [3, 2, 2, 1, 1, 0, 1, 2])
    else:
        name, x, settings = "linear", random(3, 5), ([4, 5],)
    forward, backward = getattr(operators, f"_{name}"), getattr(operators, f"_{name}_backward")
    y = forward(x, values, bias, indices, *settings).detach()
    opcheck(forward, (x, values, bias, indices, *settings))
    for needs_input in (True, False):
        opcheck(backward, (torch.ones_like(y), x.detach(), values.detach(), indices, *settings, needs_input))
    print("checked")
"""

COMPILING = """
import copy, pytest, warnings, torch, sparsekit as sk
from sparsekit.models.small_cnn import small_cnn
warnings.simplefilter("error", UserWarning)
torch.manual_seed(0)
x, y = torch.rand(16, 1, 8, 8), torch.randint(3, (16,))

def trained(model, forward):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    attached = sk.attach(model, optimizer, sk.rules.RigL(every=4, stop=30))
    for step in range(20):
        if step == 2:  # what has been compiled serves all later steps and topologies
            torch.compiler.set_stance("fail_on_recompile")
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(forward(x), y).backward()
        optimizer.step()
    attached.detach()
    torch.compiler.set_stance("default")
    assert len(attached.journal) > 3
    return model

for storage in ("csr", "masked"):
    plain = small_cnn(input_shape=(1, 8, 8), num_classes=3, widths=(14, 15))
    eager = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=0), storage, init="dense")
    same = copy.deepcopy(eager)
    compiled = torch.compile(same, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(trained(same, compiled).state_dict(), trained(eager, eager).state_dict())
    print(storage, torch._dynamo.utils.counters["stats"].pop("unique_graphs"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), eager(x))
    torch._dynamo.utils.counters.clear()

batch = {0: torch.export.Dim.DYNAMIC}
csr = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=0), "csr", init="dense").eval()
exported = torch.export.export(csr, (x,), dynamic_shapes=(batch,)).module()
torch.testing.assert_close(exported(x[:5]), csr(x[:5]))
print("exported")

sk.kernels.backend.HAS_NUMBA = False
warnings.simplefilter("ignore")
torch._dynamo.reset()
torch.testing.assert_close(torch.compile(csr, backend="aot_eager")(x), csr(x))
torch._dynamo.reset()
with pytest.raises(torch._dynamo.exc.Unsupported, match="without Numba csr layers cannot be traced"):
    torch.compile(csr, backend="aot_eager", fullgraph=True)(x)
print("refused")
"""


def output_of(script: str) -> list[str]:
    """Run in a process of its own: the type checks of the other tests are nothing that can be traced."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.split()


def test_schemas_gradients_and_fakes_are_as_torch_wants_them():
    assert output_of(CHECKING) == ["checked"] * 2


def test_torch_compile_takes_sparse_models_in_whole_and_once():
    assert output_of(COMPILING) == ["csr", "1", "masked", "1", "exported", "refused"]
