"""Residual networks for small images: He et al.'s CIFAR family (ResNet-20 to 110) and ResNet-18 with a small stem."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.models.families import Factory, member
from sparsekit.models.initial import he_initialised
from sparsekit.utils.registry import register

CIFAR_WIDTH = 16  # He et al. (2016), section 4.2: 16, 32, 64
RESNET18_WIDTH = 64  # He et al. (2016), table 1: 64, 128, 256, 512

Shortcut = Callable[[int, int, int], nn.Module]
Block = Callable[..., nn.Module]  # (inputs, outputs, *, stride, shortcut)

CIFAR_DOC = """
The stages have 16, 32 and 64 channels. Modules: `conv1`, `bn1`, `relu1`, `stage1.0.conv1`, ..., `stage3.{last}.bn2`,
`pool`, `flatten`, `head`.
Source: He et al. (2016), arXiv:1512.03385, section 4.2 (n = {blocks}, shortcuts of option A).

Args:
    input_shape: `(channels, height, width)` of one example.
    num_classes: number of outputs.
    width: channels of the first stage, which each further stage doubles.

Raises:
    ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.
"""


class PadShortcut(nn.Module):
    """The shortcut without parameters ("option A"): every `stride`-th pixel, and zeros for the new channels.

    The paper does not say where the zeros go. Here half of them come before and half after, as is usual.
    Source: He et al. (2016), arXiv:1512.03385, sections 3.3 and 4.2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return the input at the shape of the block's output, in the same memory format."""
        # Dimensions in the order of memory, because padding and the gradients of both keep the order that they find.
        order = sorted(range(4), key=lambda dim: -x.stride(dim))
        margins = [(self.before, self.after) if dim == 1 else (0, 0) for dim in reversed(order)]
        steps = [slice(None, None, self.stride if dim > 1 else None) for dim in order]
        small = x.permute(order)[tuple(steps)]
        return functional.pad(small, sum(margins, ())).permute([order.index(dim) for dim in range(4)])


class BasicBlock(nn.Module):
    """Two convolutions 3 x 3 whose result is added to the block's own input.

    It computes `relu2(bn2(conv2(relu1(bn1(conv1(x))))) + shortcut(x))`.
    Source: He et al. (2016), arXiv:1512.03385, figure 2.
    """

    adds_in_norm = False  # `sk.fuse_relus` sets it in sparse networks, for the same result in fewer passes over memory

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


def _cifar_resnet(depth: int, millions: float, note: str = "") -> Factory:
    """Return the factory of one depth of He et al.'s CIFAR family."""
    blocks = (depth - 2) // 6  # 2 layers each in 3 stages, beside the stem and the head

    def factory(*, input_shape: tuple[int, ...], num_classes: int, width: int = CIFAR_WIDTH) -> nn.Sequential:
        return residual_network(input_shape, num_classes, width=width, blocks=(blocks,) * 3, shortcut=PadShortcut)

    summary = f"ResNet-{depth}: 3 stages of {blocks} blocks each, about {millions} million parameters."
    return member(f"resnet{depth}", factory, summary, note, CIFAR_DOC.format(blocks=blocks, last=blocks - 1))


resnet20 = _cifar_resnet(20, 0.27)
resnet32 = _cifar_resnet(32, 0.46)
resnet56 = _cifar_resnet(56, 0.85)
resnet104 = _cifar_resnet(
    104, 1.6, "ToST (ICML 2022) names it, but its code does not contain it. We take it for the member of this depth."
)
resnet110 = _cifar_resnet(110, 1.7)


@register("model", "resnet18")
def resnet18(*, input_shape: tuple[int, ...], num_classes: int, width: int = RESNET18_WIDTH) -> nn.Sequential:
    """ResNet-18 for small images: a 3 x 3 stem with stride 1 and no max-pooling, about 11 million parameters.

    It has 4 stages of 2 blocks with 64 to 512 channels. Where the shape changes, the shortcut is a convolution 1 x 1
    with batch norm. The stem of the ImageNet network would shrink a 32 x 32 image to 8 x 8 before the first block.
    Source: He et al. (2016), arXiv:1512.03385, table 1 and section 4.1 (shortcuts of option B).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first stage, which each further stage doubles.

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
        width: channels of the first convolution and stage. Each further stage doubles them and halves the image.
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
