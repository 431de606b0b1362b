"""Residual networks for small images: He et al.'s CIFAR family (ResNet-20, 32, 56) and ResNet-18 with a small stem."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.models.checks import check_classes, check_image
from sparsekit.registry import register

CIFAR_WIDTHS = (16, 32, 64)  # He et al. (2016), section 4.2
RESNET18_WIDTHS = (64, 128, 256, 512)  # He et al. (2016), table 1

Shortcut = Callable[[int, int, int], nn.Module]


class PadShortcut(nn.Module):
    """The shortcut without parameters ("option A"): every `stride`-th pixel, and zeros for the new channels.

    The paper does not say where the zeros go; half before and half after, as is usual.
    Source: He et al. (2016), arXiv:1512.03385, sections 3.3 and 4.2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return the input at the shape of the block's output, in the same memory format."""
        # Dimensions in the order of memory: padding gives them back in the order in which it found them.
        order = sorted(range(4), key=lambda dim: -x.stride(dim))
        margins = [(self.before, self.after) if dim == 1 else (0, 0) for dim in reversed(order)]
        small = x[:, :, :: self.stride, :: self.stride].permute(order)
        return functional.pad(small, sum(margins, ())).permute([order.index(dim) for dim in range(4)])


class BasicBlock(nn.Module):
    """Two convolutions 3 x 3 whose result is added to the block's own input.

    `relu2(bn2(conv2(relu1(bn1(conv1(x))))) + shortcut(x))`
    Source: He et al. (2016), arXiv:1512.03385, figure 2.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, shortcut: nn.Module):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return the block's output."""
        inner = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(x))


@register("model", "resnet20")
def resnet20(*, input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """ResNet-20: 3 stages of 3 blocks with 16, 32 and 64 channels, about 0.27 million parameters.

    Modules: `conv1`, `bn1`, `relu1`, `stage1.0.conv1`, ..., `stage3.2.bn2`, `pool`, `flatten`, `head`.
    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 3, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.

    Raises:
        ValueError: if the input is no image or too small, or there are fewer than two classes.

    Example:
        >>> sum(weight.numel() for weight in resnet20(input_shape=(3, 32, 32), num_classes=10).parameters())
        269722
    """
    return _resnet(input_shape, num_classes, widths=CIFAR_WIDTHS, blocks=3, shortcut=PadShortcut)


@register("model", "resnet32")
def resnet32(*, input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """ResNet-32: as ResNet-20 with 5 blocks a stage, about 0.46 million parameters.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 5, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.

    Raises:
        ValueError: if the input is no image or too small, or there are fewer than two classes.
    """
    return _resnet(input_shape, num_classes, widths=CIFAR_WIDTHS, blocks=5, shortcut=PadShortcut)


@register("model", "resnet56")
def resnet56(*, input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """ResNet-56: as ResNet-20 with 9 blocks a stage, about 0.85 million parameters.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 9, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.

    Raises:
        ValueError: if the input is no image or too small, or there are fewer than two classes.
    """
    return _resnet(input_shape, num_classes, widths=CIFAR_WIDTHS, blocks=9, shortcut=PadShortcut)


@register("model", "resnet18")
def resnet18(*, input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """ResNet-18 for small images: a 3 x 3 stem with stride 1 and no max-pooling, about 11 million parameters.

    4 stages of 2 blocks with 64 to 512 channels; where the shape changes, the shortcut is a convolution 1 x 1 with
    batch norm. The stem of the ImageNet network would shrink a 32 x 32 image to 8 x 8 before the first block.
    Source: He et al. (2016), arXiv:1512.03385, table 1 and section 4.1 (shortcuts of option B).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.

    Raises:
        ValueError: if the input is no image or too small, or there are fewer than two classes.
    """
    return _resnet(input_shape, num_classes, widths=RESNET18_WIDTHS, blocks=2, shortcut=_project)


def _resnet(
    input_shape: tuple[int, ...], num_classes: int, *, widths: tuple[int, ...], blocks: int, shortcut: Shortcut
) -> nn.Sequential:
    check_classes(num_classes)
    check_image(input_shape, least_side=2 ** (len(widths) - 1))  # every stage but the first halves the picture
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(widths[0]),
        relu1=nn.ReLU(),
    )
    for number, (inputs, outputs) in enumerate(pairwise((widths[0], *widths)), start=1):
        modules[f"stage{number}"] = _stage(inputs, outputs, blocks, shortcut, stride=1 if number == 1 else 2)
    modules |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], num_classes)}
    return _initialised(nn.Sequential(modules))


def _stage(inputs: int, outputs: int, blocks: int, shortcut: Shortcut, *, stride: int) -> nn.Sequential:
    """Return blocks of one width, of which the first changes the shape."""
    changes = stride != 1 or inputs != outputs
    first = BasicBlock(
        inputs, outputs, stride=stride, shortcut=shortcut(inputs, outputs, stride) if changes else nn.Identity()
    )
    others = (BasicBlock(outputs, outputs, stride=1, shortcut=nn.Identity()) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


def _project(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return the shortcut with parameters ("option B")."""
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), bn=nn.BatchNorm2d(outputs))
    )


@torch.no_grad()
def _initialised(model: nn.Sequential) -> nn.Sequential:
    """Give every convolution normal weights of variance `2 / fan_in`, which section 4.2 asks for."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model
