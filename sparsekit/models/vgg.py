"""VGG-16 and VGG-19 for small images, with batch norm, and VGG-16 with a quarter of every width."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.models.initial import he_initialised
from sparsekit.utils.registry import register

VGG16 = (2, 2, 3, 3, 3)  # convolutions before each pooling: Simonyan and Zisserman (2015), table 1, column D
VGG19 = (2, 2, 4, 4, 4)  # column E
FACTORS = (1, 2, 4, 8, 8)  # times the width of the first; table 1: 64, 128, 256, 512, 512
WIDTH = 64
HIDDEN = (
    512,
    512,
)  # as in the released code of GSE, arXiv:2401.06898; the original has 4,096 twice, for 7 x 7 pictures
LEAST_SIDE = 32  # pixels that five halvings reduce to one


@register("model", "vgg16")
def vgg16(
    *, input_shape: tuple[int, ...], num_classes: int, width: int = WIDTH, hidden: tuple[int, ...] = HIDDEN
) -> nn.Sequential:
    """VGG-16 for small images: 13 convolutions 3 x 3 with batch norm, then 3 linear layers; 15.2 million parameters.

    Modules: `conv1`, `bn1`, `relu1`, ..., `conv13`, `bn13`, `relu13`, among them `pool1` to `pool5`, each of which
    halves the picture; `mean` (over what is left of it), `flatten`, `fc1`, `relu14`, `fc2`, `relu15`, `head`.
    Convolutions have no bias, since batch norm would remove it.
    Source: Simonyan and Zisserman (2015), arXiv:1409.1556, table 1, column D; batch norm of Ioffe and Szegedy (2015),
    arXiv:1502.03167.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first convolution; the others have up to eight times as many.
        hidden: width of each linear layer before the last.

    Raises:
        ValueError: if the input is no image or too small, a width is below 1, or there are fewer than two classes.

    Example:
        >>> model = vgg16(input_shape=(3, 32, 32), num_classes=10, width=4, hidden=())
        >>> sum(isinstance(module, nn.Conv2d) for module in model), model.head.in_features
        (13, 32)
    """
    return _vgg(VGG16, input_shape, num_classes, width=width, hidden=hidden)


@register("model", "vgg16-small")
def vgg16_small(
    *, input_shape: tuple[int, ...], num_classes: int, width: int = WIDTH // 4, hidden: tuple[int, ...] = HIDDEN
) -> nn.Sequential:
    """VGG-16 with a quarter of the channels, 16 to 128, and the same linear layers; 1.3 million parameters.

    Modules as in `vgg16`.
    Source: the network of the released code of GSE, arXiv:2401.06898; after Simonyan and Zisserman (2015),
    arXiv:1409.1556.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first convolution; the others have up to eight times as many.
        hidden: width of each linear layer before the last.

    Raises:
        ValueError: if the input is no image or too small, a width is below 1, or there are fewer than two classes.
    """
    return _vgg(VGG16, input_shape, num_classes, width=width, hidden=hidden)


@register("model", "vgg19")
def vgg19(
    *, input_shape: tuple[int, ...], num_classes: int, width: int = WIDTH, hidden: tuple[int, ...] = HIDDEN
) -> nn.Sequential:
    """VGG-19 for small images: as `vgg16` with 16 convolutions; 20.6 million parameters.

    Source: Simonyan and Zisserman (2015), arXiv:1409.1556, table 1, column E.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first convolution; the others have up to eight times as many.
        hidden: width of each linear layer before the last.

    Raises:
        ValueError: if the input is no image or too small, a width is below 1, or there are fewer than two classes.
    """
    return _vgg(VGG19, input_shape, num_classes, width=width, hidden=hidden)


def _vgg(
    stages: tuple[int, ...], input_shape: tuple[int, ...], num_classes: int, *, width: int, hidden: tuple[int, ...]
) -> nn.Sequential:
    check_classes(num_classes)
    check_image(input_shape, LEAST_SIDE)
    check_positive(width=width, hidden=min(hidden, default=1))
    modules = _convolutions(
        input_shape[0], [(number, width * factor) for number, factor in zip(stages, FACTORS, strict=True)]
    )
    modules |= {"mean": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    widths = (width * FACTORS[-1], *hidden)
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        modules[f"fc{number}"] = nn.Linear(inputs, outputs)
        modules[f"relu{sum(stages) + number}"] = nn.ReLU()
    modules["head"] = nn.Linear(widths[-1], num_classes)
    return he_initialised(nn.Sequential(modules))


def _convolutions(channels: int, stages: list[tuple[int, int]]) -> OrderedDict[str, nn.Module]:
    """Return stages of `(number of convolutions, channels)`, a pooling behind each."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for stage, (count, width) in enumerate(stages, start=1):
        for _ in range(count):
            number += 1
            modules[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            modules[f"bn{number}"] = nn.BatchNorm2d(width)
            modules[f"relu{number}"] = nn.ReLU()
            channels = width
        modules[f"pool{stage}"] = nn.MaxPool2d(2)
    return modules
