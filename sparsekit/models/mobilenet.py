"""MobileNet (version 1) for small images: it filters each channel by itself, then mixes the channels."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.models.initial import he_initialised
from sparsekit.utils.registry import register

WIDTH = 32
# Channels of each pair as a multiple of the first convolution's, and stride: Howard et al. (2017), table 1.
PAIRS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))
LEAST_SIDE = 16  # pixels that four halvings reduce to one


@register("model", "mobilenet")
def mobilenet(*, input_shape: tuple[int, ...], num_classes: int, width: int = WIDTH) -> nn.Sequential:
    """MobileNet for small images: a 3 x 3 stem with stride 1, then 13 pairs of convolutions, 3.2 million parameters.

    Modules: `conv1`, `bn1`, `relu1`, then per pair `pair1.depthwise` (3 x 3, one filter a channel), `pair1.bn1`,
    `pair1.relu1`, `pair1.pointwise` (1 x 1), `pair1.bn2`, `pair1.relu2`, ..., `pool`, `flatten`, `head`. The depthwise
    layers hold 1.4 % of the weights. The stem of the ImageNet network would halve a 32 x 32 image once more.
    Source: Howard et al. (2017), arXiv:1704.04861, table 1.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels of the first convolution. The others have up to 32 times as many.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.

    Example:
        >>> sum(weight.numel() for weight in mobilenet(input_shape=(3, 32, 32), num_classes=10).parameters())
        3217226
    """
    check_classes(num_classes)
    check_image(input_shape, LEAST_SIDE)
    check_positive(width=width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(width), relu1=nn.ReLU()
    )
    widths = [width, *(width * factor for factor, _ in PAIRS)]
    for number, ((inputs, outputs), (_, stride)) in enumerate(zip(pairwise(widths), PAIRS, strict=True), start=1):
        modules[f"pair{number}"] = _pair(inputs, outputs, stride)
    modules |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], num_classes)}
    return he_initialised(nn.Sequential(modules))


def _pair(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a depthwise separable convolution: one filter for each channel, then a mixture of channels."""
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
            bn1=nn.BatchNorm2d(inputs),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(inputs, outputs, 1, bias=False),
            bn2=nn.BatchNorm2d(outputs),
            relu2=nn.ReLU(),
        )
    )
