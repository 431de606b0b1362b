"""A convolutional network that trains in a minute on a laptop."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from sparsekit.models.checks import check_classes, check_image
from sparsekit.utils.registry import register

KERNEL = 3  # pixels, the smallest that sees a neighbour on each side
LEAST_SIDE = 4  # pixels that two halvings reduce to one


@register("model", "small-cnn")
def small_cnn(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    widths: tuple[int, ...] = (16, 32, 64),
) -> nn.Sequential:
    """Convolutions 3 x 3, each with batch norm and ReLU, the first at full size and the others with stride 2.

    Modules: `conv1`, `bn1`, `relu1`, `conv2`, ..., `pool` (mean over the image), `flatten`, `head`. Convolutions have
    no bias, since batch norm would remove it. Weights are initialised as torch does it.
    Source: sparsekit's own standard set-up for fast experiments, an all-convolutional network in the manner of
    Springenberg et al. (2015), arXiv:1412.6806.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        widths: channels of each convolution.

    Raises:
        ValueError: if the input is no image or too small, or a width is below 1.

    Example:
        >>> model = small_cnn(input_shape=(1, 28, 28), num_classes=10)
        >>> sum(weight.numel() for weight in model.parameters())
        24058
    """
    check_classes(num_classes)
    check_image(input_shape, least_side=LEAST_SIDE)
    if not widths or min(widths) < 1:
        raise ValueError(f"widths must name one positive width per convolution, got {widths}. Try (16, 32, 64)")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(pairwise((input_shape[0], *widths)), start=1):
        stride = 1 if number == 1 else 2
        modules[f"conv{number}"] = nn.Conv2d(inputs, outputs, KERNEL, stride=stride, padding=1, bias=False)
        modules[f"bn{number}"] = nn.BatchNorm2d(outputs)
        modules[f"relu{number}"] = nn.ReLU()
    modules |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], num_classes)}
    return nn.Sequential(modules)
