"""Models: their sizes are the published ones, their parts have names, and all are built alike."""

from collections import Counter

import pytest
import torch
from torch import nn

from sparsekit import registry
from sparsekit.models import build
from sparsekit.models.resnet import BasicBlock, PadShortcut

MODELS = registry.names("model")
FAMILIES = ("mlp", "small-cnn", "resnet20", "resnet32", "resnet56", "resnet18")
CIFAR = (3, 32, 32)
SMALL = (3, 8, 8)  # the least side that ResNet-18 takes


def count(model: nn.Module, dimensions: tuple[int, ...] = (1, 2, 4)) -> int:
    """Number of parameters in tensors with these numbers of dimensions: 2 linear, 4 convolution, 1 all others."""
    return sum(tensor.numel() for tensor in model.parameters() if tensor.dim() in dimensions)


# --------------------------------------------------------------------------------------------------------- every model


def test_all_named_models_are_registered_and_name_their_source():
    assert set(MODELS) >= set(FAMILIES)
    for name in MODELS:
        assert registry.source_of(registry.get("model", name)), name


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_gives_one_number_per_class_and_a_gradient_for_every_parameter(name: str):
    torch.manual_seed(0)
    model = build(name, input_shape=SMALL, num_classes=7)
    outputs = model(torch.randn(4, *SMALL))
    assert outputs.shape == (4, 7)
    outputs.square().sum().backward()
    for parameter, tensor in model.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", MODELS)
def test_the_same_torch_seed_builds_the_same_model(name: str):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(name, input_shape=SMALL, num_classes=2).parameters())

    first = weights(0)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


@pytest.mark.parametrize("name", MODELS)
def test_every_activation_is_a_module_that_runs_once(name: str):
    model = build(name, input_shape=SMALL, num_classes=2).eval()
    runs: Counter[str] = Counter()
    activations = {key: module for key, module in model.named_modules() if isinstance(module, nn.ReLU)}
    for key, module in activations.items():
        module.register_forward_hook(lambda *_, key=key: runs.update([key]))
    model(torch.zeros(2, *SMALL))
    assert activations
    assert runs == Counter(dict.fromkeys(activations, 1))
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(activations) == len(weighted) - len(shortcuts) - 1  # all but the shortcuts and the head


@pytest.mark.parametrize("name", MODELS)
def test_the_last_layer_is_called_head(name: str):
    model = build(name, input_shape=SMALL, num_classes=5)
    assert list(model.named_children())[-1] == ("head", model.head)
    assert model.head.out_features == 5


@pytest.mark.parametrize("name", MODELS)
def test_a_single_class_is_refused(name: str):
    with pytest.raises(ValueError, match=r"num_classes must be at least 2, got 1; give Dataset.num_classes"):
        build(name, input_shape=SMALL, num_classes=1)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "mlp"])
@pytest.mark.parametrize("shape", [(64,), (8, 8), (0, 8, 8)])
def test_convolutions_refuse_what_is_no_image(name: str, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"input_shape must be \(channels, height, width\), got .*; load images"):
        build(name, input_shape=shape, num_classes=2)


@pytest.mark.parametrize(("name", "least"), [("small-cnn", 4), ("resnet20", 4), ("resnet18", 8)])
def test_images_that_would_vanish_are_refused(name: str, least: int):
    build(name, input_shape=(1, least, least), num_classes=2)
    with pytest.raises(ValueError, match=rf"at least {least} pixels, got \(1, {least - 1}, 32\); enlarge"):
        build(name, input_shape=(1, least - 1, 32), num_classes=2)


def test_unknown_models_and_settings_are_refused():
    with pytest.raises(ValueError, match=r"mlp, resnet18.*got 'resnet1000'"):
        build("resnet1000", input_shape=CIFAR, num_classes=10)
    with pytest.raises(TypeError, match="depth"):
        build("mlp", input_shape=(4,), num_classes=2, depth=3)


# ----------------------------------------------------------------------------------------------------------------- mlp


def test_the_default_mlp_on_digits_has_84480_weights():
    model = build("mlp", input_shape=(64,), num_classes=10)
    assert count(model, (2,)) == 64 * 256 + 256 * 256 + 256 * 10 == 84_480
    assert count(model, (1,)) == 256 + 256 + 10


def test_lenet_300_100_has_266200_weights():
    model = build("mlp", input_shape=(1, 28, 28), num_classes=10, hidden=(300, 100), bias=False)
    assert count(model) == 784 * 300 + 300 * 100 + 100 * 10 == 266_200


def test_the_parts_of_an_mlp_are_numbered():
    model = build("mlp", input_shape=(4,), num_classes=2, hidden=(5, 6))
    assert [name for name, _ in model.named_children()] == ["flatten", "fc1", "relu1", "fc2", "relu2", "head"]


def test_an_mlp_without_hidden_layers_is_linear():
    model = build("mlp", input_shape=(2, 3), num_classes=2, hidden=())
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(model(x), x.flatten(1) @ model.head.weight.T + model.head.bias)


def test_an_mlp_refuses_layers_of_no_width():
    with pytest.raises(ValueError, match=r"every width must be at least 1, got \(4, 0\) from the input on; raise"):
        build("mlp", input_shape=(4,), num_classes=2, hidden=(0,))


# ----------------------------------------------------------------------------------------------------------- small CNN


def test_the_small_cnn_has_the_size_worked_out_by_hand():
    model = build("small-cnn", input_shape=(1, 28, 28), num_classes=10)
    assert count(model, (4,)) == 9 * (1 * 16 + 16 * 32 + 32 * 64) == 23_184
    assert count(model, (2,)) == 640
    assert count(model, (1,)) == 2 * (16 + 32 + 64) + 10


def test_the_small_cnn_halves_the_picture_twice():
    model = build("small-cnn", input_shape=(1, 28, 28), num_classes=10)
    sides = []
    for number in (1, 2, 3):
        model.get_submodule(f"relu{number}").register_forward_hook(lambda *parts: sides.append(parts[-1].shape[-1]))
    model(torch.zeros(2, 1, 28, 28))
    assert sides == [28, 14, 7]


def test_the_small_cnn_learns_to_tell_a_batch_apart():
    torch.manual_seed(0)
    model = build("small-cnn", input_shape=(1, 8, 8), num_classes=4, widths=(8, 8, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 4
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.9


def test_the_small_cnn_refuses_no_or_empty_layers():
    for widths in ((), (16, 0)):
        with pytest.raises(ValueError, match=r"one positive width per convolution, got .*; \(16, 32, 64\) is usual"):
            build("small-cnn", input_shape=(1, 8, 8), num_classes=2, widths=widths)


# ------------------------------------------------------------------------------------------------------------- ResNets


@pytest.mark.parametrize(
    ("name", "convolutions", "total"),
    [
        # He et al. (2016), table 6, gives 0.27, 0.46 and 0.85 million.
        ("resnet20", 267_696, 269_722),
        ("resnet32", 461_232, 464_154),
        ("resnet56", 848_304, 853_018),
        # The convolutions as counted in the released code of ToST.
        ("resnet18", 11_159_232, 11_173_962),
    ],
)
def test_resnets_have_the_published_sizes(name: str, convolutions: int, total: int):
    model = build(name, input_shape=CIFAR, num_classes=10)
    assert count(model, (4,)) == convolutions
    assert count(model) == total


def test_resnet56_has_as_many_maskable_weights_as_in_the_code_of_gse():
    assert count(build("resnet56", input_shape=CIFAR, num_classes=10), (2, 4)) == 848_944


@pytest.mark.parametrize(("name", "depth"), [("resnet20", 20), ("resnet32", 32), ("resnet56", 56), ("resnet18", 18)])
def test_the_number_in_a_resnets_name_counts_its_layers_but_for_shortcuts(name: str, depth: int):
    model = build(name, input_shape=SMALL, num_classes=10)
    layers = [
        m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and getattr(m, "kernel_size", 0) != (1, 1)
    ]
    assert len(layers) == depth


@pytest.mark.parametrize(("name", "first", "stages"), [("resnet20", 16, 3), ("resnet18", 64, 4)])
def test_stages_halve_the_picture_and_double_the_channels(name: str, first: int, stages: int):
    model = build(name, input_shape=CIFAR, num_classes=10).eval()
    shapes = []
    for number in range(1, stages + 1):
        stage = model.get_submodule(f"stage{number}")
        stage.register_forward_hook(lambda *parts: shapes.append(tuple(parts[-1].shape[1:])))
    model(torch.zeros(1, *CIFAR))
    assert shapes == [(first * 2**i, 32 // 2**i, 32 // 2**i) for i in range(stages)]


def test_the_parts_of_a_resnet_can_be_named():
    model = build("resnet20", input_shape=SMALL, num_classes=10)
    names = ["conv1", "bn1", "relu1", "stage1", "stage2", "stage3", "pool", "flatten", "head"]
    assert [name for name, _ in model.named_children()] == names
    assert isinstance(model.get_submodule("stage3.2.conv2"), nn.Conv2d)


def test_the_shortcut_without_parameters_takes_every_second_pixel_and_adds_empty_channels():
    shortcut = PadShortcut(1, 3, 2)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    empty = [[0, 0], [0, 0]]
    assert shortcut(x).tolist() == [[empty, [[0, 2], [8, 10]], empty]]
    assert not list(shortcut.parameters())


def test_a_block_with_silent_convolutions_passes_its_input_on():
    block = BasicBlock(2, 2, stride=1, shortcut=nn.Identity()).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(block(x), x.relu())


def test_convolutions_of_a_resnet_start_with_variance_2_over_fan_in():
    torch.manual_seed(0)
    weight = build("resnet20", input_shape=CIFAR, num_classes=10).get_submodule("stage3.0.conv1").weight
    assert weight.var().item() == pytest.approx(2 / (32 * 9), rel=0.05)  # 18,432 draws: one deviation is 1 %
