"""Feature-major activations: the same numbers in another order of memory, through whole networks."""

import copy
import sys

import jaxtyping
import pytest
import torch
from helpers import random_layer, random_numbers, times_as_long
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sparsekit as sk
from sparsekit.kernels import backend
from sparsekit.kernels.batch_norm import batch_norm
from sparsekit.kernels.cpu import norms, transpose
from sparsekit.kernels.layout import batch_major, feature_major, in_layout, is_feature_major, layout_of, rows_of
from sparsekit.layers.companions import COMPANIONS, FusedReLU, unfuse_relus
from sparsekit.layers.fusing import fuse_relus
from sparsekit.models.resnet import BasicBlock, PadShortcut, resnet20
from sparsekit.models.small_cnn import small_cnn

# --- the memory format -----------------------------------------------------------------------------------------------

sides = st.integers(1, 37)


@given(st.one_of(st.tuples(sides, sides), st.tuples(sides, sides, sides, sides)), st.sampled_from(["f4", "f8"]))
@settings(max_examples=60)
def test_any_tensor_survives_the_way_there_and_back(shape, kind):
    x = random_numbers(*shape, dtype=torch.float32 if kind == "f4" else torch.float64)
    for source in (x, x.transpose(0, -1).contiguous().transpose(0, -1), x.to(memory_format=torch.preserve_format)):
        there = feature_major(source)
        assert is_feature_major(there)
        assert there.shape == x.shape
        assert torch.equal(there, x)
        assert torch.equal(in_layout(rows_of(there), "contiguous"), x)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_images_come_from_and_go_to_both_formats_of_torch(threads):
    torch.set_num_threads(threads)
    try:
        x = random_numbers(35, 18, 7, 5)
        last = x.to(memory_format=torch.channels_last)
        assert (layout_of(x), layout_of(last), layout_of(feature_major(x))) == ("contiguous", "channels-last", "rows")
        for source in (x, last, x[:, :, ::2]):
            assert torch.equal(feature_major(source), source)
        for layout in ("contiguous", "channels-last"):
            back = in_layout(rows_of(x), layout)
            assert torch.equal(back, x)
            assert layout_of(back) == layout
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(64, 32, 32, 40), (65, 37, 31, 33), (48, 60_000), (4099, 531)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_tensors_which_go_past_the_caches_arrive_whole(shape, threads, dtype):
    numbers = torch.arange(torch.Size(shape).numel() + 1, dtype=dtype)
    assert numbers.nbytes >= transpose.STREAMED
    torch.set_num_threads(threads)
    try:
        for x in (numbers[:-1].view(shape), numbers[1:].view(shape)):  # the second begins between two cache lines
            rows = rows_of(x)
            assert torch.equal(feature_major(x), x)
            for layout in ("contiguous", "channels-last")[: x.dim() // 2]:
                assert torch.equal(in_layout(rows, layout), x)
    finally:
        torch.set_num_threads(1)


def test_the_gradient_of_a_conversion_has_the_format_of_its_input():
    x = random_numbers(6, 5, 4, 3).requires_grad_()
    g = random_numbers(6, 5, 4, 3, seed=1)
    feature_major(x).backward(feature_major(g))
    assert torch.equal(x.grad, g)
    assert x.grad.is_contiguous()


@pytest.mark.parametrize("shape", [(37, 20), (6, 5, 4, 3)])
def test_the_way_back_is_contiguous_and_differentiable(shape):
    x = feature_major(random_numbers(*shape)).requires_grad_()
    y = batch_major(x)
    assert y.is_contiguous()
    assert torch.equal(y, x)
    g = random_numbers(*shape, seed=1)
    batch_major(x).relu_().backward(g)  # in place
    assert torch.equal(x.grad, g * (x > 0))
    assert torch.equal(batch_major(y), y)


def test_other_numbers_of_dimensions_are_refused():
    with pytest.raises(ValueError, match="batch, features"):
        feature_major(torch.zeros(3))


# --- batch norm ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(33, 5), (20, 3, 4, 6), (6, 3, 3, 5), (2, 1, 1, 1)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_batch_norm_and_its_gradients_are_those_of_torch(shape, relu, threads):
    torch.set_num_threads(threads)
    try:
        x = (3 + 2 * random_numbers(*shape)).requires_grad_()
        weight, bias = (1 + random_numbers(shape[1], seed=seed).abs() for seed in (1, 2))
        weight.requires_grad_(), bias.requires_grad_()
        y, mean, variance = batch_norm(feature_major(x), weight, bias, eps=1e-5, relu=relu)
        wanted = nn.functional.batch_norm(x, None, None, weight, bias, training=True)
        wanted = wanted.relu() if relu else wanted
        others = [dim for dim in range(x.dim()) if dim != 1]
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(mean, x.mean(others))
        torch.testing.assert_close(variance, x.var(others, correction=0))
        g = random_numbers(*shape, seed=3)
        inputs = [x, weight, bias]
        for got, expected in zip(
            torch.autograd.grad(y, inputs, g), torch.autograd.grad(wanted, inputs, g), strict=True
        ):
            torch.testing.assert_close(got, expected)
    finally:
        torch.set_num_threads(1)


def test_a_large_mean_does_not_swallow_a_small_variance():
    x = feature_major(1e4 + 1e-1 * random_numbers(64, 3, 4, 4, dtype=torch.float64).float())
    y, _, variance = batch_norm(x, torch.ones(3), torch.zeros(3), eps=0.0)
    torch.testing.assert_close(variance, x.double().var((0, 2, 3), correction=0).float(), rtol=1e-3, atol=0)
    assert float(y.std()) == pytest.approx(1, abs=0.01)


def test_the_sums_of_a_batch_norm_are_taken_in_vector_registers():
    """They read what a copy reads; number by number they took seven times as long."""
    x = torch.randn(1024, 16, 128)
    y = torch.empty_like(x)
    assert times_as_long(lambda _: norms.moments(x), lambda: y.copy_(x), turns=9) < 3


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_norm_in_a_csr_model_does_what_it_did_before(norm, momentum):
    shape = (9, 4) if norm is nn.BatchNorm1d else (9, 4, 3, 5)
    plain = norm(4, momentum=momentum).double()
    quick = copy.deepcopy(plain)
    quick.__class__ = COMPANIONS[norm]
    for step in range(3):
        x = random_numbers(*shape, seed=step)
        torch.testing.assert_close(quick(feature_major(x)), plain(x))
    torch.testing.assert_close(quick.state_dict(), plain.state_dict())
    plain.eval(), quick.eval()
    y = quick(feature_major(x))
    torch.testing.assert_close(y, plain(x))
    assert is_feature_major(y)


def test_a_norm_of_a_single_number_per_channel_is_refused_as_torch_does():
    quick = nn.BatchNorm2d(3)
    quick.__class__ = COMPANIONS[nn.BatchNorm2d]
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        quick(feature_major(torch.randn(1, 3, 1, 1)))


@pytest.mark.parametrize("name", ["linear", "conv", "norm", "conversion"])
def test_what_comes_out_may_be_changed_in_place(name):
    """As `nn.ReLU(inplace=True)` does in every torchvision network."""
    layers = {
        "linear": lambda: sk.sparsify(
            nn.Sequential(nn.Linear(6, 4)), {"0": random_layer((4, 6), 9)}, "csr", init="dense"
        ),
        "conv": lambda: sk.sparsify(
            nn.Sequential(nn.Conv2d(2, 3, 1)), {"0": random_layer((3, 2, 1, 1), 4)}, "csr", init="dense"
        ),
        "norm": lambda: sk.sparsify(
            nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)),
            {"0": random_layer((3, 2, 1, 1), 4)},
            "csr",
            init="dense",
        ),
        "conversion": lambda: feature_major,
    }
    layer = layers[name]()
    x = (
        random_numbers(5, 6, dtype=torch.float32)
        if name == "linear"
        else random_numbers(5, 2, 3, 3, dtype=torch.float32)
    )
    x.requires_grad_()
    wanted = layer(x).relu()
    wanted.sum().backward()
    gradient, x.grad = x.grad.clone(), None
    y = layer(x)
    nn.functional.relu(y, inplace=True).sum().backward()
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(x.grad, gradient)


# --- poolings --------------------------------------------------------------------------------------------------------

POOLS = [
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((2, 3)),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d((1, 2), dilation=2),
    nn.AvgPool2d(2),
    nn.AvgPool2d(3, stride=2, padding=1),
    nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_a_pooling_and_its_gradient_are_those_of_torch(pool):
    quick = copy.deepcopy(pool)
    quick.__class__ = COMPANIONS[type(pool)]
    # Whole numbers, so that some are equal: the first of them must get the gradient.
    x = random_numbers(5, 3, 8, 7).round().requires_grad_()
    y, wanted = quick(feature_major(x)), pool(x)
    torch.testing.assert_close(y, wanted)
    g = random_numbers(*wanted.shape, seed=1)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, g)[0] for out in (y, wanted)))


# --- whole networks --------------------------------------------------------------------------------------------------


def nets():
    return {
        "small-cnn": small_cnn(input_shape=(1, 9, 9), num_classes=4, widths=(3, 5)),
        "resnet20": resnet20(input_shape=(3, 8, 8), num_classes=4),
        "mlp with norm": nn.Sequential(nn.Flatten(), nn.Linear(27, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)),
    }


def both(name: str, fused: bool = False) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    plain = nets()[name].double()
    topology = sk.random_topology(sk.shapes_of(plain), 0.4, seed=0)
    masked, csr = (sk.sparsify(plain, topology, storage, init="dense") for storage in ("masked", "csr"))
    if fused:
        jaxtyping.config.update("jaxtyping_disable", True)  # what is traced are no tensors
        try:
            assert fuse_relus(csr) > 0
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)
    shape = {"small-cnn": (1, 9, 9), "resnet20": (3, 8, 8), "mlp with norm": (27,)}[name]
    return masked, csr, random_numbers(6, *shape)


@pytest.mark.parametrize("name", nets())
@pytest.mark.parametrize("fused", [False, True])
def test_a_whole_csr_network_follows_the_masked_one(name, fused):
    masked, csr, x = both(name, fused)
    for model in (masked, csr):
        model.train()
    for _ in range(2):
        outputs = [model(x) for model in (masked, csr)]
        torch.testing.assert_close(*outputs)
        for model, y in zip((masked, csr), outputs, strict=True):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(y, torch.arange(6) % 4).backward()
            optimizer.step()
    masked.eval(), csr.eval()
    torch.testing.assert_close(masked(x), csr(x))


@pytest.mark.parametrize("name", nets())
def test_densify_gives_torch_s_own_modules_back(name):
    masked, csr, x = both(name, fused=True)
    plain = sk.densify(csr)
    assert not any(type(module) in {*COMPANIONS.values(), FusedReLU} for module in plain.modules())
    assert [type(module) for module in plain.modules()] == [type(module) for module in sk.densify(masked).modules()]
    torch.testing.assert_close(plain(x), csr(x))


def test_activations_stay_feature_major_from_one_csr_layer_to_the_next():
    _, csr, x = both("resnet20")
    seen = {}
    for name, module in csr.named_modules():
        if not list(module.children()) and name not in ("flatten", "head"):
            module.register_forward_hook(lambda _, __, y, name=name: seen.update({name: is_feature_major(y)}))
    csr(x)
    assert len(seen) > 50
    assert all(seen.values()), [name for name, is_so in seen.items() if not is_so]


def test_gradients_stay_feature_major_through_a_shortcut_that_skips_pixels():
    x = feature_major(random_numbers(2, 4, 6, 6)).requires_grad_()
    y = PadShortcut(4, 8, 2)(x)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert is_feature_major(gradient)
    wanted = torch.zeros(2, 4, 6, 6, dtype=x.dtype)
    wanted[:, :, ::2, ::2] = 1
    assert torch.equal(gradient, wanted)


@pytest.mark.parametrize("name", ["BasicBlock", "PadShortcut", "Linear"])
def test_gradients_of_several_readers_are_added_in_place(name):
    block, x = {
        "BasicBlock": (BasicBlock(4, 4, stride=1, shortcut=nn.Identity()), random_numbers(2, 4, 6, 6).float()),
        "PadShortcut": (BasicBlock(4, 8, stride=2, shortcut=PadShortcut(4, 8, 2)), random_numbers(2, 4, 6, 6).float()),
        "Linear": (nn.Sequential(nn.Linear(8, 8)), random_numbers(5, 8).float()),
    }[name]
    csr = sk.sparsify(block, sk.random_topology(sk.shapes_of(block), 0.5), "csr", init="dense")
    fuse_relus(csr)
    read = feature_major(x).requires_grad_() * 1
    z = read.sin().sum() + csr(read).sum()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        z.backward()
    sums = [event.name for event in profiler.events() if event.input_shapes[:2] == [list(x.shape)] * 2]
    assert "aten::add_" in sums
    assert "aten::add" not in sums


class Residual(nn.Module):
    """A residual block of somebody else's: nothing says that its batch norm may add."""

    def __init__(self):
        super().__init__()
        self.fc, self.bn, self.relu = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.fc(x)) + x)


def test_residual_blocks_add_in_their_last_norm_where_they_can():
    _, csr, _ = both("resnet20", fused=True)
    blocks = [module for module in csr.modules() if isinstance(module, BasicBlock)]
    assert len(blocks) == 9
    assert all(block.adds_in_norm and block.bn2.relu and type(block.relu2) is FusedReLU for block in blocks)
    unfuse_relus(csr)
    assert not any(block.adds_in_norm or block.bn2.relu or type(block.relu2) is FusedReLU for block in blocks)

    plain = nn.Sequential(Residual())
    assert fuse_relus(sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), "csr", init="dense")) == 0


def test_a_block_with_a_forward_of_its_own_adds_by_itself():
    class Own(BasicBlock):
        def forward(self, x):
            inner = self.relu1(self.bn1(self.conv1(x)))
            return self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(x))

    plain = nn.Sequential(Own(4, 4, stride=1, shortcut=nn.Identity()))
    masked, csr = (
        sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), storage, init="dense")
        for storage in ("masked", "csr")
    )
    assert fuse_relus(csr) == 1  # the first batch norm and its ReLU
    x = random_numbers(2, 4, 6, 6).float()
    torch.testing.assert_close(masked(x), csr(x), check_stride=False)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4, 2)])
@pytest.mark.parametrize("relu", [False, True])
def test_what_a_norm_adds_gets_torch_s_values_and_gradients(shape, relu):
    inputs = [
        random_numbers(*shape),
        random_numbers(3),
        random_numbers(3),
        random_numbers(*shape),
        random_numbers(*shape),
    ]
    x, weight, bias, added, g = (tensor.requires_grad_() for tensor in inputs)

    def of_torch(x, weight, bias, added):
        y = nn.functional.batch_norm(x, None, None, weight, bias, training=True) + added
        return y.relu() if relu else y

    def ours(x, weight, bias, added):
        return batch_norm(feature_major(x), weight, bias, eps=1e-5, relu=relu, added=feature_major(added))[0]

    results = [call(x, weight, bias, added) for call in (of_torch, ours)]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(y, (x, weight, bias, added), g) for y in results]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("added", [torch.randn(1, 3, 1, 1), torch.randn(6, 3, 4, 4).double()])
def test_what_a_norm_adds_may_be_of_another_shape_or_type_as_in_torch(train, added):
    norm = COMPANIONS[nn.BatchNorm2d](3).train(train)
    norm.relu = True
    x = feature_major(torch.randn(6, 3, 4, 4))
    wanted = (nn.functional.batch_norm(x, torch.zeros(3), torch.ones(3), training=train) + added).relu()
    torch.testing.assert_close(norm(x, added=added), wanted, check_stride=False)


def test_nan_passes_a_norm_that_adds_as_it_passes_torch_s_relu():
    x = feature_major(torch.randn(4, 2))
    added = torch.zeros(4, 2)
    added[1, 0] = torch.nan
    y, _, _ = batch_norm(x, torch.ones(2), torch.zeros(2), eps=1e-5, relu=True, added=feature_major(added))
    assert y.isnan().nonzero().tolist() == [[1, 0]]


def test_a_model_that_cannot_be_traced_is_left_unfused():
    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU())

        def forward(self, x):
            return self.net(x) if x.sum() > 0 else x

    plain = Choosy()
    assert fuse_relus(sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), "csr", init="dense")) == 0


def test_a_relu_that_is_used_twice_is_not_fused():
    relu = nn.ReLU()
    plain = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), relu, nn.Linear(3, 3), nn.BatchNorm1d(3), relu)
    assert fuse_relus(sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), "csr", init="dense")) == 0


# --- where the compiled kernels do not run ---------------------------------------------------------------------------


def test_without_numba_the_reference_runs_and_says_so_once(monkeypatch):
    backend._try_once.cache_clear()
    monkeypatch.setattr(backend, "HAS_NUMBA", False)
    try:
        layer = sk.sparsify(nn.Sequential(nn.Linear(6, 4)), {"0": random_layer((4, 6), 9)}, "csr", init="dense")
        with pytest.warns(backend.SlowKernelsWarning, match="Numba is not installed"):
            y = layer(torch.ones(2, 6))
        torch.testing.assert_close(y, layer(torch.ones(2, 6)))  # warnings are errors: the second time is silent
    finally:
        backend._try_once.cache_clear()


def test_where_numba_cannot_be_used_the_reference_runs_and_says_why_once(monkeypatch):
    backend._try_once.cache_clear()
    monkeypatch.setattr(backend, "HAS_NUMBA", True)  # and so again afterwards
    monkeypatch.setitem(sys.modules, "sparsekit.kernels.cpu.calls", None)
    monkeypatch.delattr("sparsekit.kernels.cpu.calls", raising=False)
    try:
        layer = sk.sparsify(nn.Sequential(nn.Linear(6, 4)), {"0": random_layer((4, 6), 9)}, "csr", init="dense")
        with pytest.warns(backend.SlowKernelsWarning, match=r"Numba cannot be used \(.*halted.*NUMBA_CACHE_DIR"):
            y = layer(torch.ones(2, 6))
        torch.testing.assert_close(y, layer(torch.ones(2, 6)))
    finally:
        backend._try_once.cache_clear()


def test_only_a_device_that_computes_without_compiled_kernels_is_told_of_and_once():
    backend._say_device.cache_clear()
    with pytest.warns(backend.SlowKernelsWarning, match="for CPUs, the layer is on cuda"):
        backend.say_where(torch.device("cuda"))
    backend.say_where(torch.device("cuda"))  # warnings are errors
    backend.say_where(torch.device("meta"))
    backend.say_where(torch.device("cpu"))
    backend._say_device.cache_clear()


def test_other_types_of_numbers_go_to_the_reference():
    assert not backend.is_fast(torch.zeros(2, dtype=torch.bfloat16))
    assert not backend.is_fast(torch.zeros(2, device="meta"))
    assert backend.is_fast(torch.zeros(2))
