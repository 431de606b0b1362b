"""VGG-16 and VGG-19 for small images, with batch norm, and VGG-16 with a quarter of every width."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.models.families import Factory, member
from sparsekit.models.initial import he_initialised

VGG16 = (2, 2, 3, 3, 3)  # convolutions before each pooling: Simonyan and Zisserman (2015), table 1, column D
VGG19 = (2, 2, 4, 4, 4)  # column E
FACTORS = (1, 2, 4, 8, 8)  # times the width of the first. Table 1 has 64, 128, 256, 512, 512
WIDTH = 64
# Linear layers as in the released code of GSE, arXiv:2401.06898. The original has 4,096 twice, for 7 x 7 images.
HIDDEN = (512, 512)
LEAST_SIDE = 32  # pixels that five halvings reduce to one

DOC = """
Modules: `conv1`, `bn1`, `relu1`, ..., `conv{last}`, `bn{last}`, `relu{last}`, among them `pool1` to `pool5`, each of
which halves the image. Then come `mean` (over what remains of it), `flatten`, `fc1`, `relu{first}`, `fc2`,
`relu{second}` and `head`. Convolutions have no bias, since batch norm would remove it.
Source: {source}

Args:
    input_shape: `(channels, height, width)` of one example.
    num_classes: number of outputs.
    width: channels of the first convolution. The others have up to eight times as many.
    hidden: width of each linear layer before the last.

Raises:
    ValueError: if the input is no image or too small, a width is below 1, or there are fewer than two classes.
"""


def _vgg(name: str, stages: tuple[int, ...], summary: str, *, source: str, width: int = WIDTH) -> Factory:
    """Return the factory of one network, with its default width."""
    default = width

    def factory(
        *, input_shape: tuple[int, ...], num_classes: int, width: int = default, hidden: tuple[int, ...] = HIDDEN
    ) -> nn.Sequential:
        return _network(stages, input_shape, num_classes, width=width, hidden=hidden)

    last = sum(stages)
    return member(name, factory, summary, DOC.format(last=last, first=last + 1, second=last + 2, source=source))


vgg16 = _vgg(
    "vgg16",
    VGG16,
    "VGG-16 for small images: 13 convolutions 3 x 3 with batch norm, then 3 linear layers, 15.2 million parameters.",
    source="Simonyan and Zisserman (2015), arXiv:1409.1556, table 1, column D. Batch norm is that of Ioffe and\n"
    "Szegedy (2015), arXiv:1502.03167.",
)
vgg16_small = _vgg(
    "vgg16-small",
    VGG16,
    "VGG-16 with a quarter of the channels, 16 to 128, and the same linear layers: 1.3 million parameters.",
    source="the network of the released code of GSE, arXiv:2401.06898, after Simonyan and Zisserman (2015),\n"
    "arXiv:1409.1556.",
    width=WIDTH // 4,
)
vgg19 = _vgg(
    "vgg19",
    VGG19,
    "VGG-19 for small images: as `vgg16` with 16 convolutions, 20.6 million parameters.",
    source="Simonyan and Zisserman (2015), arXiv:1409.1556, table 1, column E.",
)


def _network(
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
