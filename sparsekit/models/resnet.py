"""Residual networks for small images: He et al.'s CIFAR family (ResNet-20 to 110) and ResNet-18 with a small stem."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.models.initial import he_initialised
from sparsekit.utils.registry import register

CIFAR_WIDTH = 16  # He et al. (2016), section 4.2: 16, 32, 64
RESNET18_WIDTH = 64  # He et al. (2016), table 1: 64, 128, 256, 512

Shortcut = Callable[[int, int, int], nn.Module]
Block = Callable[..., nn.Module]  # (inputs, outputs, *, stride, shortcut)


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
        # Dimensions in the order of memory: padding, and the gradients of both, keep the order in which they find them.
        order = sorted(range(4), key=lambda dim: -x.stride(dim))
        margins = [(self.before, self.after) if dim == 1 else (0, 0) for dim in reversed(order)]
        steps = [slice(None, None, self.stride if dim > 1 else None) for dim in order]
        small = x.permute(order)[tuple(steps)]
        return functional.pad(small, sum(margins, ())).permute([order.index(dim) for dim in range(4)])


class BasicBlock(nn.Module):
    """Two convolutions 3 x 3 whose result is added to the block's own input.

    `relu2(bn2(conv2(relu1(bn1(conv1(x))))) + shortcut(x))`
    Source: He et al. (2016), arXiv:1512.03385, figure 2.
    """

    adds_in_norm = False  # `sk.fuse_relus` sets it in sparse networks: the same in fewer passes over memory

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
        added = self.shortcut(x)  # first, so that its gradient comes last and is added to the other one in place
        inner = self.relu1(self.bn1(self.conv1(x)))
        if self.adds_in_norm:
            return self.relu2(self.bn2(self.conv2(inner), added=added))
        return self.relu2(self.bn2(self.conv2(inner)) + added)


@register("model", "resnet20")
def resnet20(*, input_shape: tuple[int, ...], num_classes: int, width: int = CIFAR_WIDTH) -> nn.Sequential:
    """ResNet-20: 3 stages of 3 blocks with 16, 32 and 64 channels, about 0.27 million parameters.

    Modules: `conv1`, `bn1`, `relu1`, `stage1.0.conv1`, ..., `stage3.2.bn2`, `pool`, `flatten`, `head`.
    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 3, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage; the others double it.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.

    Example:
        >>> sum(weight.numel() for weight in resnet20(input_shape=(3, 32, 32), num_classes=10).parameters())
        269722
    """
    return _cifar_resnet(input_shape, num_classes, width=width, blocks=3)


@register("model", "resnet32")
def resnet32(*, input_shape: tuple[int, ...], num_classes: int, width: int = CIFAR_WIDTH) -> nn.Sequential:
    """ResNet-32: as ResNet-20 with 5 blocks a stage, about 0.46 million parameters.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 5, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage; the others double it.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
    """
    return _cifar_resnet(input_shape, num_classes, width=width, blocks=5)


@register("model", "resnet56")
def resnet56(*, input_shape: tuple[int, ...], num_classes: int, width: int = CIFAR_WIDTH) -> nn.Sequential:
    """ResNet-56: as ResNet-20 with 9 blocks a stage, about 0.85 million parameters.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 9, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage; the others double it.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
    """
    return _cifar_resnet(input_shape, num_classes, width=width, blocks=9)


@register("model", "resnet104")
def resnet104(*, input_shape: tuple[int, ...], num_classes: int, width: int = CIFAR_WIDTH) -> nn.Sequential:
    """ResNet-104: as ResNet-20 with 17 blocks a stage, about 1.6 million parameters.

    Named in ToST (ICML 2022), whose code does not contain it; we take it for the member of He et al.'s CIFAR family of
    that depth, `6 n + 2` layers.
    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 17, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage; the others double it.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
    """
    return _cifar_resnet(input_shape, num_classes, width=width, blocks=17)


@register("model", "resnet110")
def resnet110(*, input_shape: tuple[int, ...], num_classes: int, width: int = CIFAR_WIDTH) -> nn.Sequential:
    """ResNet-110: as ResNet-20 with 18 blocks a stage, about 1.7 million parameters.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = 18, shortcuts of option A).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage; the others double it.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
    """
    return _cifar_resnet(input_shape, num_classes, width=width, blocks=18)


@register("model", "resnet18")
def resnet18(*, input_shape: tuple[int, ...], num_classes: int, width: int = RESNET18_WIDTH) -> nn.Sequential:
    """ResNet-18 for small images: a 3 x 3 stem with stride 1 and no max-pooling, about 11 million parameters.

    4 stages of 2 blocks with 64 to 512 channels; where the shape changes, the shortcut is a convolution 1 x 1 with
    batch norm. The stem of the ImageNet network would shrink a 32 x 32 image to 8 x 8 before the first block.
    Source: He et al. (2016), arXiv:1512.03385, table 1 and section 4.1 (shortcuts of option B).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage; the others double it.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
    """
    return residual_network(input_shape, num_classes, width=width, blocks=(2, 2, 2, 2), shortcut=project)


def residual_network(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int,
    blocks: tuple[int, ...],
    shortcut: Shortcut,
    block: Block = BasicBlock,
    expansion: int = 1,
) -> nn.Sequential:
    """Return a residual network with a 3 x 3 stem: `conv1`, `bn1`, `relu1`, `stage1`, ..., `pool`, `flatten`, `head`.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first convolution and stage; each further stage doubles them and halves the picture.
        blocks: number of blocks of each stage.
        shortcut: `(inputs, outputs, stride) -> module`, for blocks that change the shape.
        block: `(inputs, outputs, *, stride, shortcut) -> module`.
        expansion: how many times the width leaves a block.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
    """
    check_classes(num_classes)
    check_image(input_shape, least_side=2 ** (len(blocks) - 1))
    check_positive(width=width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu1=nn.ReLU(),
    )
    widths = [expansion * width * 2**stage for stage in range(len(blocks))]
    for number, (inputs, outputs) in enumerate(pairwise((width, *widths)), start=1):
        strides = (1 if number == 1 else 2, *[1] * (blocks[number - 1] - 1))
        modules[f"stage{number}"] = _stage(inputs, outputs, strides, shortcut, block)
    modules |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], num_classes)}
    return he_initialised(nn.Sequential(modules))


def project(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return the shortcut with parameters ("option B"): a convolution 1 x 1 and batch norm."""
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), bn=nn.BatchNorm2d(outputs))
    )


def _cifar_resnet(input_shape: tuple[int, ...], num_classes: int, *, width: int, blocks: int) -> nn.Sequential:
    return residual_network(input_shape, num_classes, width=width, blocks=(blocks,) * 3, shortcut=PadShortcut)


def _stage(inputs: int, outputs: int, strides: tuple[int, ...], shortcut: Shortcut, block: Block) -> nn.Sequential:
    """Return blocks of one width, of which the first may change the shape."""
    sizes = pairwise((inputs, *[outputs] * len(strides)))
    return nn.Sequential(
        *(
            block(before, after, stride=stride, shortcut=_shortcut(before, after, stride, shortcut))
            for (before, after), stride in zip(sizes, strides, strict=True)
        )
    )


def _shortcut(inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> nn.Module:
    return shortcut(inputs, outputs, stride) if stride != 1 or inputs != outputs else nn.Identity()
