"""Fully connected networks."""

import math
from collections import OrderedDict
from itertools import pairwise

from torch import nn

from sparsekit.models.checks import check_classes
from sparsekit.utils.registry import register


@register("model", "mlp")
def mlp(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    hidden: tuple[int, ...] = (256, 256),
    bias: bool = True,
) -> nn.Sequential:
    """A multi-layer perceptron: fully connected layers with ReLU between them.

    Modules: `flatten`, `fc1`, `relu1`, `fc2`, `relu2`, ..., `head`. Weights are initialised as torch does it, uniformly
    with variance `1 / (3 fan_in)`.
    Source: LeCun et al. (1998), "Gradient-based learning applied to document recognition", section III.C.2, where
    `hidden=(300, 100)` is known as LeNet-300-100. The ReLU is Nair and Hinton (2010)'s, the default widths are ours.

    Args:
        input_shape: of one example, which may have any shape and is flattened.
        num_classes: number of outputs.
        hidden: width of each hidden layer. Without any you get logistic regression.
        bias: whether every layer adds one.

    Raises:
        ValueError: if a width or a side of the input is below 1, or there are fewer than two classes.

    Example:
        >>> model = mlp(input_shape=(1, 8, 8), num_classes=10)
        >>> sum(weight.numel() for weight in model.parameters() if weight.dim() == 2)
        84480
    """
    check_classes(num_classes)
    widths = (math.prod(input_shape), *hidden)
    if min(widths) < 1:
        raise ValueError(f"every width must be at least 1, got {widths} from the input on. Raise or remove the others")
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        modules[f"fc{number}"] = nn.Linear(inputs, outputs, bias=bias)
        modules[f"relu{number}"] = nn.ReLU()
    modules["head"] = nn.Linear(widths[-1], num_classes, bias=bias)
    return nn.Sequential(modules)
