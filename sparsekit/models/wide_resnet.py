"""Wide residual networks: fewer layers than ResNet, many times the channels, activations before convolutions."""

from collections import OrderedDict
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.models.initial import he_initialised
from sparsekit.utils.registry import register

WIDTHS = (16, 32, 64)  # Zagoruyko and Komodakis (2016), table 1. All but the stem's 16 are multiplied
LEAST_SIDE = 4  # pixels that two halvings reduce to one


class WideBlock(nn.Module):
    """Two convolutions 3 x 3, each after batch norm and ReLU, added to the block's own input.

    It computes `conv2(relu2(bn2(conv1(relu1(bn1(x)))))) + x`. Where the shape changes, a convolution 1 x 1 takes the
    place of `x`. It reads what comes out of the first ReLU, as in the authors' code.
    Source: Zagoruyko and Komodakis (2016), arXiv:1605.07146, figure 1 (c). The order is that of He et al. (2016),
    arXiv:1603.05027.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return the block's output."""
        active = self.relu1(self.bn1(x))
        inner = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))


@register("model", "wide-resnet")
def wide_resnet(*, input_shape: tuple[int, ...], num_classes: int, depth: int = 28, width: int = 10) -> nn.Sequential:
    """A wide ResNet, WRN-depth-width: 3 stages of `(depth - 4) / 6` blocks with `16, 32, 64` times `width` channels.

    WRN-28-10 has 36.5 million parameters, WRN-16-8 has 11.0. Modules: `conv1`, `stage1.0.bn1`, ..., `stage3.3.conv2`,
    `bn`, `relu`, `pool`, `flatten`, `head`.
    Source: Zagoruyko and Komodakis (2016), arXiv:1605.07146, table 1, without dropout.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        depth: number of convolutions, the three of shortcuts among them: `6 n + 4`.
        width: how many times the channels of the thin network.

    Raises:
        ValueError: if the input is no image or too small, there are fewer than two classes, or no network has this
            depth or width.

    Example:
        >>> model = wide_resnet(input_shape=(3, 32, 32), num_classes=10, depth=16, width=1)
        >>> len(model.stage1), sum(weight.numel() for weight in model.parameters())
        (2, 175066)
    """
    check_classes(num_classes)
    check_image(input_shape, LEAST_SIDE)
    check_positive(width=width)
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth must be 6 n + 4 with n at least 1, got {depth}. Try 16 or 28")
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[0], WIDTHS[0], 3, padding=1, bias=False)
    )
    widths = (WIDTHS[0], *(width * channels for channels in WIDTHS))
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        modules[f"stage{number}"] = _stage(inputs, outputs, depth // 6, stride=1 if number == 1 else 2)
    modules |= {"bn": nn.BatchNorm2d(widths[-1]), "relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1)}
    modules |= {"flatten": nn.Flatten(), "head": nn.Linear(widths[-1], num_classes)}
    return he_initialised(nn.Sequential(modules))


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    others = (WideBlock(outputs, outputs, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(WideBlock(inputs, outputs, stride=stride), *others)
