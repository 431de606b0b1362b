"""A small GPT, which predicts the next token, and whose attention consists of linear layers that can be sparse."""

from collections import OrderedDict
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.models.checks import check_classes, check_positive
from sparsekit.models.vit import LONGEST, Attention, TransformerBlock
from sparsekit.utils.registry import register

POSITIONS = ("rotary", "learned")
EMBEDDING_STD = 0.02  # of the initial embeddings: Radford et al. (2018), section 4.1


class TokenEmbedding(nn.Module):
    """Give each token its features, and add those of its position where positions are learned."""

    def __init__(self, num_tokens: int, dim: int, *, context: int, learned: bool):
        super().__init__()
        self.tokens = nn.Embedding(num_tokens, dim)
        self.positions = nn.Embedding(context, dim) if learned else None
        for table in self.children():
            nn.init.normal_(table.weight, std=EMBEDDING_STD)  # type: ignore[arg-type]

    def forward(self, x: Int64[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Return the features of each token."""
        features = self.tokens(x)
        return features if self.positions is None else features + self.positions.weight[: x.shape[1]]


class CausalAttention(Attention):
    """Every token looks at itself and those before it. Rotary positions turn queries and keys by their position."""

    later: Tensor
    angles: Tensor

    def __init__(self, dim: int, *, heads: int, head_width: int, context: int, rotary: bool):
        super().__init__(dim, heads=heads, head_width=head_width)
        later = torch.full((context, context), -torch.inf).triu(1)
        # They are not saved, because they follow from the settings.
        self.register_buffer("later", later, persistent=False)
        self.register_buffer("angles", rotations(context, head_width) if rotary else None, persistent=False)

    def compared(self, query: Float[Tensor, "b h n w"], key: Float[Tensor, "b h n w"]) -> Float[Tensor, "b h n n"]:
        """Return how well each query fits each key, minus infinity for keys of later tokens."""
        n = query.shape[-2]
        if self.angles is not None:
            query, key = rotated(query, self.angles[:n]), rotated(key, self.angles[:n])
        return super().compared(query, key) + self.later[:n, :n]


def rotations(context: int, width: int) -> Float[Tensor, "n half"]:
    """Return by which angle each pair of features is turned at each position, slower and slower.

    Source: Su et al. (2021), arXiv:2104.09864, section 3.2.2, equation 15.

    Example:
        >>> [[round(angle, 4) for angle in row] for row in rotations(3, 4).tolist()]
        [[0.0, 0.0], [1.0, 0.01], [2.0, 0.02]]
    """
    speeds = LONGEST ** (-2 * torch.arange(width // 2) / width)
    return torch.arange(context)[:, None] * speeds


def rotated(x: Float[Tensor, "b h n w"], angles: Float[Tensor, "n half"]) -> Float[Tensor, "b h n w"]:
    """Turn each pair of features by the angle of its position. A pair is feature i and feature i + w/2.

    The product of two turned vectors depends on the difference of their positions only.
    Source: Su et al. (2021), arXiv:2104.09864, section 3.4.2, where pairs are neighbours.

    Example:
        >>> turned = rotated(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[torch.pi / 2]]))
        >>> turned.round().tolist()
        [[[[-0.0, 1.0]]]]
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TokensLast(nn.Module):
    """Put the classes second and the tokens last, as torch's cross entropy takes them."""

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b c n"]:
        """Return the scores of each token."""
        return x.transpose(1, 2)


class Gpt(nn.Sequential):
    """The modules of a GPT, one after the other.

    Args:
        modules: by name.
        context: how many tokens it sees at once.
    """

    # Small tables that no method of sparse training makes sparse, so `sparsify` need not warn of them.
    meant_dense = ("embed.tokens.weight", "embed.positions.weight", "head.weight")

    def __init__(self, modules: OrderedDict[str, nn.Module], *, context: int):
        super().__init__(modules)
        self.context = context


@register("model", "gpt")
def gpt(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    dim: int = 128,
    depth: int = 4,
    heads: int = 4,
    hidden: int | None = None,
    positions: str = "rotary",
    tied: bool = True,
) -> Gpt:
    """A small GPT: 4 blocks of 4 heads, 0.8 million parameters, which predicts the next token at every position.

    Modules: `embed.tokens`, `embed.positions` where they are learned, `block1.norm1`, `block1.attention.query`, `key`,
    `value`, `softmax`, `output`, `block1.norm2`, `block1.fc1`, `gelu`, `fc2`, ..., `norm`, `head`, `tokens_last`. It
    gives one score per token of the vocabulary, of shape `(batch, vocabulary, context)`. Linear layers are initialised
    as torch does it, embeddings as GPT does.
    Source: Radford et al. (2018), "Improving language understanding by generative pre-training", section 4.1. It
    normalises before each part as Radford et al. (2019), "Language models are unsupervised multitask learners",
    section 2.3. Rotary positions are those of Su et al. (2021), arXiv:2104.09864, and the tied head that of Press and
    Wolf (2017), arXiv:1608.05859. The sizes are ours.

    Args:
        input_shape: `(context,)`, how many tokens it sees at once.
        num_classes: number of tokens of the vocabulary.
        dim: features of a token.
        depth: number of blocks.
        heads: of each attention, which share the features among them.
        hidden: width between the two linear layers of a block. None means four times `dim`.
        positions: `"rotary"` or `"learned"`.
        tied: let the head use the weights of the embedding. Both stay dense then.

    Raises:
        ValueError: if the input is no row of tokens, a number is out of range, or the features cannot be shared.

    Example:
        >>> model = gpt(input_shape=(8,), num_classes=50)
        >>> model(torch.zeros(2, 8).long()).shape
        torch.Size([2, 50, 8])
    """
    hidden = 4 * dim if hidden is None else hidden
    _check(input_shape, num_classes, positions, dim=dim, depth=depth, heads=heads, hidden=hidden)
    (context,), rotary = input_shape, positions == "rotary"
    embed = TokenEmbedding(num_classes, dim, context=context, learned=not rotary)
    modules: OrderedDict[str, nn.Module] = OrderedDict(embed=embed)
    attention = partial(CausalAttention, context=context, rotary=rotary)
    for number in range(1, depth + 1):
        modules[f"block{number}"] = TransformerBlock(
            dim, heads=heads, head_width=dim // heads, hidden=hidden, attention=attention
        )
    head = nn.Linear(dim, num_classes, bias=False)
    if tied:
        head.weight = embed.tokens.weight
    modules |= {"norm": nn.LayerNorm(dim), "head": head, "tokens_last": TokensLast()}
    return Gpt(modules, context=context)


def _check(input_shape: tuple[int, ...], num_classes: int, positions: str, **sizes: int) -> None:
    check_classes(num_classes)
    if len(input_shape) != 1:
        raise ValueError(
            f'input_shape must be (context,), got {tuple(input_shape)}. Load text, for example load("kjv-char")'
        )
    check_positive(context=input_shape[0], **sizes)
    if positions not in POSITIONS:
        raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {positions!r}. Choose one of them")
    parts = sizes["heads"] * (2 if positions == "rotary" else 1)
    if sizes["dim"] % parts:
        raise ValueError(
            f"dim must be a multiple of {parts}, so that {sizes['heads']} heads share it, got {sizes['dim']}. Try 128"
        )
