"""Models: their sizes are the published ones, their parts have names, and all are built alike."""

import inspect
import math
from collections import Counter

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

from sparsekit.layers import left_dense, shapes_of, sparsify, topology_of
from sparsekit.models import build
from sparsekit.models.bottleneck import Bottleneck
from sparsekit.models.resnet import BasicBlock, PadShortcut
from sparsekit.models.vit import Attention, TransformerBlock, waves
from sparsekit.models.wide_resnet import WideBlock
from sparsekit.rules import RigL
from sparsekit.topology.selection import random_topology
from sparsekit.train import train_step
from sparsekit.utils import registry

MODELS = [name for name in registry.names("model") if name != "gpt"]  # it reads tokens, so test_text.py tests it
CIFAR = (3, 32, 32)
SMALL = (3, 8, 8)
LEAST = {  # smallest height and width of an image
    "small-cnn": 4,
    "resnet20": 4,
    "resnet32": 4,
    "resnet56": 4,
    "resnet104": 4,
    "resnet110": 4,
    "resnet18": 8,
    "resnet50": 8,
    "wide-resnet": 4,
    "mobilenet": 16,
    "vgg16": 32,
    "vgg16-small": 32,
    "vgg19": 32,
    "vit": 4,
}
# Deeper than resnet20 and vgg16-small, and made of the same parts.
ALIKE = {"resnet32", "resnet56", "resnet104", "resnet110", "vgg16", "vgg19"}
# What is the same at every size is tested with small ones.
FEWER = {
    **{f"resnet{depth}": {"width": 4} for depth in (18, 50, 56, 104, 110)},
    "mobilenet": {"width": 4},
    "wide-resnet": {"depth": 10, "width": 1},
    "vgg16": {"width": 8, "hidden": (16,)},
    "vgg16-small": {"width": 8, "hidden": (16,)},
    "vgg19": {"width": 8, "hidden": (16,)},
    "vit": {"dim": 16, "depth": 2, "heads": 2, "head_width": 4, "hidden": 8},
}


def count(model: nn.Module, dimensions: tuple[int, ...] = (1, 2, 4)) -> int:
    """Number of parameters in tensors with these numbers of dimensions: 2 linear, 4 convolution, 1 all others."""
    return sum(tensor.numel() for tensor in model.parameters() if tensor.dim() in dimensions)


def small(name: str, num_classes: int = 2) -> tuple[nn.Module, tuple[int, ...]]:
    """A small model of this name and the shape of its inputs."""
    shape = (3, *[max(8, LEAST.get(name, 0))] * 2)
    return build(name, input_shape=shape, num_classes=num_classes, **FEWER.get(name, {})), shape


# --------------------------------------------------------------------------------------------------------- every model


def test_all_named_models_are_registered_and_name_their_source():
    assert set(MODELS) >= {"mlp", *LEAST}
    for name in MODELS:
        assert registry.source_of(registry.get("model", name)), name


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_gives_one_number_per_class_and_a_gradient_for_every_parameter(name: str):
    torch.manual_seed(0)
    model, shape = small(name, num_classes=7)
    outputs = model(torch.randn(4, *shape))
    assert outputs.shape == (4, 7)
    outputs.square().sum().backward()
    for parameter, tensor in model.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", MODELS)
def test_the_same_torch_seed_builds_the_same_model(name: str):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(small(name)[0].parameters())

    first = weights(0)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


@pytest.mark.parametrize("name", MODELS)
def test_every_activation_is_a_module_that_runs_once(name: str):
    model, shape = small(name)
    runs: Counter[str] = Counter()
    kinds = nn.ReLU | nn.GELU | nn.Softmax
    activations = {key: module for key, module in model.named_modules() if isinstance(module, kinds)}
    for key, module in activations.items():
        module.register_forward_hook(lambda *_, key=key: runs.update([key]))
    model.eval()(torch.zeros(2, *shape))
    assert activations
    assert runs == Counter(dict.fromkeys(activations, 1))


@pytest.mark.parametrize("name", MODELS)
def test_no_activation_is_called_as_a_function(name: str, monkeypatch: pytest.MonkeyPatch):
    """A trick that replaces modules would miss it."""
    model, shape = small(name)
    for module in model.modules():
        if isinstance(module, nn.ReLU | nn.GELU | nn.Softmax):
            monkeypatch.setattr(module, "forward", lambda x: x)
    called = {"relu", "gelu", "softmax", "scaled_dot_product_attention", "relu_"}
    for owner in (torch, nn.functional, torch.Tensor):
        for function in called & set(dir(owner)):
            monkeypatch.setattr(owner, function, lambda *_, function=function, **__: pytest.fail(function))
    model(torch.zeros(2, *shape))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vit"])
def test_a_relu_stands_between_any_two_layers(name: str):
    model, _ = small(name)
    weighted = {key for key, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    shortcuts = {key for key in weighted if "shortcut" in key}
    assert len(relus) == len(weighted - shortcuts) - 1  # behind all but the head


@pytest.mark.parametrize("name", MODELS)
def test_the_last_layer_is_called_head(name: str):
    model, _ = small(name, num_classes=5)
    assert list(model.named_children())[-1] == ("head", model.head)
    assert model.head.out_features == 5


@pytest.mark.parametrize("name", MODELS)
def test_a_single_class_is_refused(name: str):
    with pytest.raises(ValueError, match=r"num_classes must be at least 2, got 1. Give Dataset.num_classes"):
        small(name, num_classes=1)


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("shape", [(64,), (8, 8), (0, 8, 8)])
def test_convolutions_refuse_what_is_no_image(name: str, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"input_shape must be \(channels, height, width\), got .*. Load images"):
        build(name, input_shape=shape, num_classes=2)


@pytest.mark.parametrize(("name", "least"), [(name, least) for name, least in LEAST.items() if name != "vit"])
def test_images_that_would_vanish_are_refused(name: str, least: int):
    model = build(name, input_shape=(1, least, least), num_classes=2, **FEWER.get(name, {})).eval()
    assert model(torch.zeros(1, 1, least, least)).isfinite().all()
    with pytest.raises(ValueError, match=rf"at least {least} pixels, got \(1, {least - 1}, 32\). Enlarge"):
        build(name, input_shape=(1, least - 1, 32), num_classes=2)


@pytest.mark.parametrize("name", LEAST)
def test_larger_images_that_are_not_square_are_taken(name: str):
    shape = (1, 2 * max(8, LEAST[name]), 3 * max(8, LEAST[name]))
    model = build(name, input_shape=shape, num_classes=3, **FEWER.get(name, {})).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 3)


# ------------------------------------------------------------------------------------------------------ sparse versions


@pytest.mark.parametrize("storage", ["masked", "csr"])
@pytest.mark.parametrize("name", sorted(set(MODELS) - ALIKE))
def test_every_model_can_be_sparse_as_a_whole_and_takes_a_step_with_a_rewiring(name: str, storage: str):
    """Nothing is left dense: a warning would be an error here."""
    torch.manual_seed(0)
    plain, shape = small(name)
    model = sparsify(plain, random_topology(shapes_of(plain), 0.3), storage, init="dense")
    assert {key for key, tensor in plain.named_parameters() if tensor.dim() > 1} == {
        f"{key}.weight" for key in topology_of(model)
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    before = topology_of(model)
    draws = torch.Generator().manual_seed(0)
    batch = (torch.randn(4, *shape), torch.arange(4) % 2)
    for step in range(2):
        stats, _ = train_step(model, optimizer, batch, cross_entropy, RigL(every=1, stop=1), step, draws)
        assert math.isfinite(stats.loss)
    assert topology_of(model).count == before.count
    assert topology_of(model) != before


@pytest.mark.parametrize("name", sorted(set(MODELS) - ALIKE))
def test_both_storages_of_a_model_give_the_same_outputs(name: str):
    torch.manual_seed(0)
    plain, shape = small(name)
    topology = random_topology(shapes_of(plain), 0.3)
    x = torch.randn(3, *shape, dtype=torch.float64)
    masked, csr = (sparsify(plain.double(), topology, storage, init="dense").eval()(x) for storage in ("masked", "csr"))
    torch.testing.assert_close(masked, csr, atol=1e-9, rtol=1e-9)
    assert masked.std() > 0


@pytest.mark.parametrize("name", [name for name in LEAST if name not in ("small-cnn", "vit")])
def test_the_width_of_a_network_for_images_can_be_chosen(name: str):
    with torch.device("meta"):
        usual, wide = (
            build(name, input_shape=CIFAR, num_classes=10, **settings)
            for settings in (
                {},
                {"width": 2 * inspect.signature(registry.get("model", name)).parameters["width"].default},
            )
        )
    assert 3 < count(wide, (4,)) / count(usual, (4,)) < 4
    with pytest.raises(ValueError, match="width must be at least 1, got 0. Raise it"):
        build(name, input_shape=CIFAR, num_classes=10, width=0)


def test_unknown_models_and_settings_are_refused():
    with pytest.raises(ValueError, match=r"mlp, mobilenet, .*got 'resnet1000'"):
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
    with pytest.raises(ValueError, match=r"every width must be at least 1, got \(4, 0\) from the input on. Raise"):
        build("mlp", input_shape=(4,), num_classes=2, hidden=(0,))


# ----------------------------------------------------------------------------------------------------------- small CNN


def test_the_small_cnn_has_the_size_worked_out_by_hand():
    model = build("small-cnn", input_shape=(1, 28, 28), num_classes=10)
    assert count(model, (4,)) == 9 * (1 * 16 + 16 * 32 + 32 * 64) == 23_184
    assert count(model, (2,)) == 640
    assert count(model, (1,)) == 2 * (16 + 32 + 64) + 10


def test_the_small_cnn_halves_the_image_twice():
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
        with pytest.raises(ValueError, match=r"one positive width per convolution, got .*. Try \(16, 32, 64\)"):
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
        # Worked out by hand with n = 17. He et al. (2016), table 6, gives 1.7 million for the last.
        ("resnet104", 1_622_448, 1_630_746),
        ("resnet110", 1_719_216, 1_727_962),
    ],
)
def test_resnets_have_the_published_sizes(name: str, convolutions: int, total: int):
    model = build(name, input_shape=CIFAR, num_classes=10)
    assert count(model, (4,)) == convolutions
    assert count(model) == total


def test_resnet56_has_as_many_maskable_weights_as_in_the_code_of_gse():
    assert count(build("resnet56", input_shape=CIFAR, num_classes=10), (2, 4)) == 848_944


@pytest.mark.parametrize("depth", [18, 20, 32, 50, 56, 104, 110])
def test_the_number_in_a_resnets_name_counts_its_layers_but_for_shortcuts(depth: int):
    assert layers_of(build(f"resnet{depth}", input_shape=SMALL, num_classes=10)) == depth


def layers_of(model: nn.Module) -> int:
    """Number of linear layers and convolutions, without those of shortcuts."""
    layers = [key for key, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return sum("shortcut" not in key for key in layers)


@pytest.mark.parametrize(("name", "first", "stages"), [("resnet20", 16, 3), ("resnet18", 64, 4), ("resnet50", 256, 4)])
def test_stages_halve_the_image_and_double_the_channels(name: str, first: int, stages: int):
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


def test_a_bottleneck_with_a_silent_last_convolution_passes_its_input_on():
    block = Bottleneck(8, 8, stride=1, shortcut=nn.Identity()).eval()
    nn.init.zeros_(block.conv3.weight)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x.relu())
    assert block.conv2.weight.shape == (2, 2, 3, 3)


def weights_of(model: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of all parameters but the stem's, in order of size."""
    shapes = [tuple(parameter.shape) for key, parameter in model.named_parameters() if key != "conv1.weight"]
    return sorted(shapes)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_all_but_the_stem_of_the_larger_resnets_is_as_in_torchvision(name: str):
    with torch.device("meta"):
        reference = getattr(torchvision.models, name)(num_classes=10)
    model = build(name, input_shape=CIFAR, num_classes=10)
    assert weights_of(model) == weights_of(reference)
    assert (model.conv1.weight.shape, reference.conv1.weight.shape) == ((64, 3, 3, 3), (64, 3, 7, 7))


def test_resnet50_computes_what_torchvisions_does_behind_its_stem():
    torch.manual_seed(0)
    model, reference = build("resnet50", input_shape=SMALL, num_classes=10), torchvision.models.resnet50(num_classes=10)
    reference.conv1, reference.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    # Both hold the same parts in the same order.
    for own, theirs in zip(model.state_dict().values(), reference.state_dict().values(), strict=True):
        theirs.copy_(own)
    x = torch.randn(2, *SMALL)
    torch.testing.assert_close(reference.eval()(x), model.eval()(x))


# ------------------------------------------------------------------------------------------------------- wide ResNets


@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [(16, 8, 11.0), (16, 10, 17.1), (28, 10, 36.5)],
)
def test_wide_resnets_have_the_published_sizes_and_depths(depth: int, width: int, millions: float):
    with torch.device("meta"):
        model = build("wide-resnet", input_shape=CIFAR, num_classes=10, depth=depth, width=width)
    assert count(model) / 1e6 == pytest.approx(millions, abs=0.05)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == depth


def test_a_wide_block_adds_its_input_before_any_activation():
    block = WideBlock(2, 2, stride=1).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("depth", [4, 20])
def test_wide_resnets_that_cannot_be_are_refused(depth: int):
    with pytest.raises(ValueError, match=rf"depth must be 6 n \+ 4 with n at least 1, got {depth}. Try 16 or 28"):
        build("wide-resnet", input_shape=CIFAR, num_classes=10, depth=depth)


# ---------------------------------------------------------------------------------------------------------------- VGG


def test_vgg16_small_has_as_many_maskable_weights_as_in_the_code_of_gse():
    assert count(build("vgg16-small", input_shape=CIFAR, num_classes=10), (2, 4)) == 1_252_528


def test_the_small_vgg16_is_vgg16_with_a_quarter_of_its_width():
    small_one = build("vgg16-small", input_shape=CIFAR, num_classes=10)
    assert shapes_of(small_one) == shapes_of(build("vgg16", input_shape=CIFAR, num_classes=10, width=16))


@pytest.mark.parametrize(("name", "convolutions"), [("vgg16", 14_710_464), ("vgg19", 20_018_880)])
def test_the_convolutions_of_a_vgg_are_torchvisions_without_their_biases(name: str, convolutions: int):
    with torch.device("meta"):
        reference = getattr(torchvision.models, f"{name}_bn")().features
        model = build(name, input_shape=CIFAR, num_classes=10)
    kernels = [tuple(module.weight.shape) for module in reference if isinstance(module, nn.Conv2d)]
    assert [shape for shape in shapes_of(model).values() if len(shape) == 4] == kernels
    assert count(model, (4,)) == count(reference, (4,)) == convolutions


@pytest.mark.parametrize("depth", [16, 19])
def test_the_number_in_a_vggs_name_counts_its_layers(depth: int):
    model, _ = small(f"vgg{depth}")
    assert layers_of(model) + 1 == depth  # built with one hidden layer instead of two


def test_a_vgg_refuses_a_linear_layer_of_no_width():
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0. Raise it"):
        build("vgg16", input_shape=CIFAR, num_classes=2, hidden=(8, 0))


def test_a_vgg_halves_the_image_five_times_and_averages_what_is_left():
    model = build("vgg16", input_shape=(3, 64, 96), num_classes=4, width=2, hidden=())
    assert model[:-3](torch.zeros(2, 3, 64, 96)).shape == (2, 16, 2, 3)
    assert model[:-2](torch.zeros(2, 3, 64, 96)).shape == (2, 16, 1, 1)


# ---------------------------------------------------------------------------------------------------------- MobileNet


def test_mobilenet_has_the_published_size():
    with torch.device("meta"):
        sizes = [count(build("mobilenet", input_shape=CIFAR, num_classes=classes)) for classes in (10, 1000)]
    assert sizes == [3_217_226, 4_231_976]  # Howard et al. (2017), table 8: 4.2 million for a thousand classes


def test_a_pair_of_mobilenet_filters_each_channel_by_itself_and_then_mixes():
    model = build("mobilenet", input_shape=CIFAR, num_classes=10)
    assert model.pair2.depthwise.weight.shape == (64, 1, 3, 3)
    assert model.pair2.pointwise.weight.shape == (128, 64, 1, 1)
    sides = [model[: 3 + number](torch.zeros(1, *CIFAR)).shape[-1] for number in range(14)]
    assert sides == [32, 32, 16, 16, 8, 8, *[4] * 6, 2, 2]


# ----------------------------------------------------------------------------------------------------------------- ViT


def test_the_vit_has_the_settings_of_the_code_of_gse():
    model = build("vit", input_shape=CIFAR, num_classes=10)
    assert shapes_of(model)["embed.patches"] == (512, 3, 4, 4)
    assert shapes_of(model)["block4.fc1"] == (256, 512)
    assert model.block1.attention.heads == 6
    assert [name for name, _ in model.named_children()] == [
        *["embed", "block1", "block2", "block3", "block4", "norm", "pool", "head"]
    ]


def test_the_vit_has_torchvisions_size_but_for_the_class_token_the_positions_and_the_biases_of_attention():
    with torch.device("meta"):
        reference = torchvision.models.VisionTransformer(
            image_size=32, patch_size=4, num_layers=4, num_heads=8, hidden_dim=512, mlp_dim=256, num_classes=10
        )
    token_and_positions, biases = 512 + 65 * 512, 4 * 4 * 512
    assert count(build("vit", input_shape=CIFAR, num_classes=10, heads=8)) == (
        sum(p.numel() for p in reference.parameters()) - token_and_positions - biases
    )


def test_a_transformer_block_computes_what_torchvisions_does():
    torch.manual_seed(0)
    block = TransformerBlock(16, heads=2, head_width=8, hidden=12)
    reference = torchvision.models.vision_transformer.EncoderBlock(2, 16, 12, 0.0, 0.0)
    own = block.attention
    with torch.no_grad():
        reference.self_attention.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        reference.self_attention.in_proj_bias.zero_()
        reference.self_attention.out_proj.weight.copy_(own.output.weight)
        reference.self_attention.out_proj.bias.zero_()
    for theirs, ours in ((0, "fc1"), (3, "fc2")):
        reference.mlp[theirs].load_state_dict(block.get_submodule(ours).state_dict())
    reference.ln_1.eps = reference.ln_2.eps = block.norm1.eps
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(block(x), reference(x))


def test_nothing_of_the_vit_is_left_dense_and_its_positions_are_not_learned():
    model, _ = small("vit")
    assert left_dense(model) == {}
    assert "embed.position" not in {**dict(model.named_parameters()), **model.state_dict()}


def test_attention_whose_queries_are_silent_averages_over_the_patches():
    attention = Attention(4, heads=2, head_width=2)
    nn.init.zeros_(attention.query.weight)
    x = torch.randn(1, 3, 4)
    everywhere = attention.output(attention.value(x.mean(1, keepdim=True))).expand(1, 3, 4)
    torch.testing.assert_close(attention(x), everywhere)


def test_every_place_has_a_position_of_its_own_and_near_positions_are_more_alike():
    places = waves(8, 8, 512)
    distances = torch.cdist(places, places) + 100 * torch.eye(64)
    assert distances.min() > 0.1
    assert set(distances[0].argsort()[:2].tolist()) == {1, 8}  # the neighbours to the right and below
    assert torch.equal(waves(1, 8, 512), places[:8])


def test_the_first_half_of_a_position_is_its_columns_and_the_second_its_rows():
    """As in the code that GSE took its transformer from: sin(x), cos(x), sin(y), cos(y)."""
    first, second = waves(2, 3, 8).view(2, 3, 8).split(4, dim=2)
    assert torch.equal(first[0], first[1])
    assert torch.equal(second[:, 0], second[:, 2])
    assert len(first[0].unique(dim=0)) == 3
    assert len(second[:, 0].unique(dim=0)) == 2


def test_patches_are_read_row_by_row_with_their_positions():
    model = build("vit", input_shape=(1, 4, 8), num_classes=2, patch=4, dim=8, depth=1)
    x = torch.zeros(1, 1, 4, 8)
    x[..., 4:] = 1
    tokens = model.embed(x) - model.embed.position
    torch.testing.assert_close(tokens[0, 0], model.embed.patches.bias)
    torch.testing.assert_close(tokens[0, 1], model.embed.patches.bias + model.embed.patches.weight.sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 5}, r"patch must divide height and width, got 5 for \(3, 32, 32\). Crop"),
        ({"dim": 10}, "dim must be a multiple of 4, .*, got 10. Try 512"),
        ({"heads": 0}, "heads must be at least 1, got 0. Raise it"),
        ({"patch": 0}, "patch must be at least 1, got 0. Raise it"),
    ],
)
def test_a_vit_that_cannot_be_is_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build("vit", input_shape=CIFAR, num_classes=10, **settings)
