"""A small vision transformer whose attention consists of linear layers, so that all of it can be sparse."""

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.models.checks import check_classes, check_image, check_positive
from sparsekit.utils.registry import register

HEAD_WIDTH = 64  # features of a head: Vaswani et al. (2017), section 3.2.2
LONGEST = 10_000.0  # longest wave of the positions, over 2 pi, in patches: Vaswani et al. (2017), section 3.5


class PatchEmbedding(nn.Module):
    """Cut images into square patches and give each its features, and its position.

    Positions are fixed sine and cosine waves over rows and columns, so there is no weight to learn or to keep dense.

    Raises:
        ValueError: if the patches do not fill the image, or the features cannot be shared among four kinds of waves.
    """

    position: Tensor

    def __init__(self, input_shape: tuple[int, ...], *, patch: int, dim: int):
        super().__init__()
        channels, height, width = input_shape
        if height % patch or width % patch:
            raise ValueError(
                f"patch must divide height and width, got {patch} for {tuple(input_shape)}. Crop the images"
            )
        if dim % 4:
            raise ValueError(f"dim must be a multiple of 4, for four kinds of waves, got {dim}. Try 512")
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch)
        # It is not saved, because it follows from the settings.
        self.register_buffer("position", waves(height // patch, width // patch, dim), persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Return the patches row by row."""
        return self.patches(x).flatten(2).transpose(1, 2) + self.position


def waves(height: int, width: int, dim: int) -> Float[Tensor, "n d"]:
    """Return the position of each patch, row by row: waves of its column, then of its row, slower and slower.

    Source: Beyer et al. (2022), arXiv:2205.01580, and its code. In one dimension it is that of Vaswani
    et al. (2017), arXiv:1706.03762, section 3.5.

    Example:
        >>> [round(number, 2) for number in waves(1, 2, 8)[1].tolist()]  # column 1, row 0
        [0.84, 0.0, 0.54, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    speeds = LONGEST ** -torch.linspace(0, 1, dim // 4)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [position.flatten()[:, None] * speeds for position in (columns, rows)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


class Attention(nn.Module):
    """Every patch looks at all patches, in several heads: `output(softmax(q k^T / sqrt(w)) v)`.

    Query, key, value and output are `nn.Linear`s without bias, unlike those of `nn.MultiheadAttention`, which reads its
    weights past any layer. (A key's bias changes nothing: it adds the same to all that is compared.)
    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.2.
    """

    def __init__(self, dim: int, *, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, heads * head_width, bias=False)
        self.key = nn.Linear(dim, heads * head_width, bias=False)
        self.value = nn.Linear(dim, heads * head_width, bias=False)
        self.softmax = nn.Softmax(dim=-1)
        self.output = nn.Linear(heads * head_width, dim, bias=False)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return what each patch gathers."""
        query, key, value = (self._per_head(layer(x)) for layer in (self.query, self.key, self.value))
        weights = self.softmax(self.compared(query, key))
        return self.output((weights @ value).transpose(1, 2).flatten(2))

    def compared(self, query: Float[Tensor, "b h n w"], key: Float[Tensor, "b h n w"]) -> Float[Tensor, "b h n n"]:
        """Return how well each query fits each key, before the softmax."""
        return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])

    def _per_head(self, x: Float[Tensor, "b n hw"]) -> Float[Tensor, "b h n w"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Attention, then two linear layers for each patch by itself, which both normalise their input and add to it.

    Source: Dosovitskiy et al. (2021), arXiv:2010.11929, equations 2 and 3.

    Args:
        dim: features of a patch.
        heads: of the attention.
        head_width: features of a head.
        hidden: width between the two linear layers.
        attention: makes the attention of its width and heads.
    """

    def __init__(
        self, dim: int, *, heads: int, head_width: int, hidden: int, attention: Callable[..., nn.Module] = Attention
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention(dim, heads=heads, head_width=head_width)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return the patches' new features. A sum takes the memory format of its first part, which layers choose."""
        x = self.attention(self.norm1(x)) + x
        return self.fc2(self.gelu(self.fc1(self.norm2(x)))) + x


class PatchMean(nn.Module):
    """Mean over the patches."""

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """Return one row of features per image."""
        return x.mean(1)


@register("model", "vit")
def vit(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    patch: int = 4,
    dim: int = 512,
    depth: int = 4,
    heads: int = 6,
    head_width: int = HEAD_WIDTH,
    hidden: int = 256,
) -> nn.Sequential:
    """A small vision transformer: patches of 4 x 4 pixels, 4 blocks of 6 heads, 4.2 million parameters.

    Modules: `embed`, `block1.norm1`, `block1.attention.query`, `key`, `value`, `softmax`, `output`, `block1.norm2`,
    `block1.fc1`, `gelu`, `fc2`, ..., `norm`, `pool` (mean over the patches), `head`. Weights are
    initialised as torch does it.
    Source: the settings are those of the released code of GSE, arXiv:2401.06898, the width of a head is ours. The fixed
    positions, and the mean in place of a class token, are those of Beyer et al. (2022), arXiv:2205.01580. The network
    is that of Dosovitskiy et al. (2021), arXiv:2010.11929.

    Args:
        input_shape: `(channels, height, width)` of one example.
        num_classes: number of outputs.
        patch: side of a patch in pixels, which must divide height and width.
        dim: features of a patch, a multiple of 4.
        depth: number of blocks.
        heads: of each attention.
        head_width: features of a head.
        hidden: width between the two linear layers of a block.

    Raises:
        ValueError: if the input is no image that such patches fill, a number is below 1, or there are fewer than two
            classes.

    Example:
        >>> model = vit(input_shape=(3, 32, 32), num_classes=10)
        >>> model.embed.position.shape
        torch.Size([64, 512])
    """
    check_classes(num_classes)
    check_image(input_shape, least_side=1)
    check_positive(depth=depth, heads=heads, head_width=head_width, hidden=hidden, patch=patch, dim=dim)
    modules: OrderedDict[str, nn.Module] = OrderedDict(embed=PatchEmbedding(input_shape, patch=patch, dim=dim))
    for number in range(1, depth + 1):
        modules[f"block{number}"] = TransformerBlock(dim, heads=heads, head_width=head_width, hidden=hidden)
    modules |= {"norm": nn.LayerNorm(dim), "pool": PatchMean(), "head": nn.Linear(dim, num_classes)}
    return nn.Sequential(modules)
