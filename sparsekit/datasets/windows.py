"""Cut tokens into windows, whose labels are the next tokens."""

from collections.abc import Iterable

import torch
from jaxtyping import Int64
from torch import Tensor

from sparsekit.datasets.base import PADDING, Split
from sparsekit.datasets.tokens import Tokenizer
from sparsekit.utils.checks import check_integer


def windows(pieces: Iterable[Int64[Tensor, " n"]], context: int) -> Split:
    """Return windows of so many tokens, each with the token that follows, from pieces that do not touch each other.

    Every token of a piece but its first is a label exactly once. The last window of a piece is filled up with token 0,
    whose label is `PADDING`, so that it does not count.

    Args:
        pieces: tokens in their order, at least two in one of them.
        context: tokens of a window.

    Raises:
        TypeError: if the context is no integer.
        ValueError: if it is below 1, or no piece has two tokens.

    Example:
        >>> split = windows([torch.tensor([5, 6, 7, 8])], context=2)
        >>> split.inputs.tolist(), split.labels.tolist()
        ([[5, 6], [7, 0]], [[6, 7], [8, -100]])
    """
    check_integer("context", context, least=1)
    parts = [piece for piece in pieces if len(piece) > 1]
    if not parts:
        raise ValueError("windows need a piece of at least two tokens, got none. Give a longer text")
    inputs = torch.cat([_rows(piece[:-1], context, 0) for piece in parts])
    return Split(inputs=inputs, labels=torch.cat([_rows(piece[1:], context, PADDING) for piece in parts]))


def characters_per_token(split: Split, tokenizer: Tokenizer) -> float:
    """Return how many characters a label stands for on average. A loss divided by this is in nats per character.

    Example:
        >>> from sparsekit.datasets.tokens import BytePairs
        >>> split = windows([torch.tensor([97, 256, 99])], context=4)  # the labels are "ab" and "c"
        >>> characters_per_token(split, BytePairs(((97, 98),)))
        1.5
    """
    tokens = split.labels[split.labels != PADDING]
    return len(tokenizer.decode(tokens)) / len(tokens)


def _rows(tokens: Int64[Tensor, " n"], context: int, fill: int) -> Int64[Tensor, "rows context"]:
    missing = -len(tokens) % context
    return torch.cat([tokens, tokens.new_full((missing,), fill)]).view(-1, context)
