"""ResNet-50 for small images: residual blocks that work in a quarter of their channels."""

from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.models.resnet import project, residual_network
from sparsekit.utils.registry import register

EXPANSION = 4  # He et al. (2016), section 4.1: channels that leave a block per channel within it
WIDTH = 64  # He et al. (2016), table 1: 64, 128, 256, 512 within the blocks
BLOCKS = (3, 4, 6, 3)  # He et al. (2016), table 1


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3 and 1 x 1, the first two with a quarter of the channels, added to the block's input.

    It computes `relu3(bn3(conv3(relu2(bn2(conv2(relu1(bn1(conv1(x)))))))) + shortcut(x))`. The 3 x 3 convolution has
    the stride, as in torchvision. At the first 1 x 1 a stride would skip three quarters of the input.
    Source: He et al. (2016), arXiv:1512.03385, figure 5.
    """

    adds_in_norm = False  # `sk.fuse_relus` sets it in sparse networks, for the same result in fewer passes over memory

    def __init__(self, inputs: int, outputs: int, *, stride: int, shortcut: nn.Module):
        super().__init__()
        width = outputs // EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut
        self.relu3 = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return the block's output."""
        narrow = self.relu1(self.bn1(self.conv1(x)))
        narrow = self.relu2(self.bn2(self.conv2(narrow)))
        if self.adds_in_norm:
            return self.relu3(self.bn3(self.conv3(narrow), added=self.shortcut(x)))
        return self.relu3(self.bn3(self.conv3(narrow)) + self.shortcut(x))


@register("model", "resnet50")
def resnet50(*, input_shape: tuple[int, ...], num_classes: int, width: int = WIDTH) -> nn.Sequential:
    """ResNet-50 for small images: a 3 x 3 stem with stride 1 and no max-pooling, about 23.5 million parameters.

    It has 4 stages of 3, 4, 6 and 3 bottleneck blocks with 256 to 2048 channels. Where the shape changes, the shortcut
    is a convolution 1 x 1 with batch norm. Apart from the stem it is torchvision's `resnet50`.
    Source: He et al. (2016), arXiv:1512.03385, table 1 and section 4.1 (shortcuts of option B).

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        width: channels within the blocks of the first stage, which each further stage doubles.

    Raises:
        ValueError: if the input is no image or too small, the width is below 1, or there are fewer than two classes.

    Example:
        >>> sum(weight.numel() for weight in resnet50(input_shape=(3, 32, 32), num_classes=10).parameters())
        23520842
    """
    return residual_network(
        input_shape,
        num_classes,
        width=width,
        blocks=BLOCKS,
        shortcut=project,
        block=Bottleneck,
        expansion=EXPANSION,
    )
