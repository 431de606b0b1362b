"""Text becomes tokens, which are the integers that a language model reads, and becomes text again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

NUM_BYTES = 256


@dataclass(frozen=True)
class Characters:
    """One token for each character of an alphabet.

    Args:
        alphabet: every character that a text may have, once.

    Example:
        >>> tokens = Characters("abc").encode("cab")
        >>> tokens.tolist(), Characters("abc").decode(tokens)
        ([2, 0, 1], 'cab')
    """

    alphabet: str

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The characters."""
        return tuple(self.alphabet)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.alphabet)}

    def encode(self, text: str) -> Int64[Tensor, " n"]:
        """Return the number of each character.

        Raises:
            ValueError: if a character is not in the alphabet.
        """
        if others := "".join(sorted(set(text) - set(self.alphabet))):
            raise ValueError(f"text must consist of the characters {self.alphabet!r}, got {others!r}. Leave them out")
        return torch.tensor([self._numbers[character] for character in text], dtype=torch.int64)

    def decode(self, tokens: Int64[Tensor, " n"]) -> str:
        """Return the characters with these numbers."""
        return "".join(self.alphabet[number] for number in tokens.tolist())


@dataclass(frozen=True)
class BytePairs:
    """Tokens that stand for frequent strings. The first 256 are the bytes, so that any text has tokens.

    Each merge makes a new token of two older ones. `encode` begins with the bytes and does one merge after the other,
    everywhere in the text and from left to right.
    Source: Gage (1994), "A new algorithm for data compression", C Users Journal 12(2), as Sennrich et al. (2016),
    arXiv:1508.07909, section 3.2, use it for words.

    Args:
        merges: the two tokens that token 256, 257, ... is made of.

    Example:
        >>> pairs = BytePairs(((97, 98), (256, 99)))  # "ab", then "abc"
        >>> pairs.encode("abcab").tolist(), pairs.decode(pairs.encode("abcab"))
        ([257, 256], 'abcab')
    """

    merges: tuple[tuple[int, int], ...]

    @cached_property
    def _bytes(self) -> list[bytes]:
        parts = [bytes([number]) for number in range(NUM_BYTES)]
        for first, second in self.merges:
            parts.append(parts[first] + parts[second])
        return parts

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The string of each token, where a byte that is no character by itself is written as its number."""
        return tuple(part.decode("utf-8", errors="backslashreplace") for part in self._bytes)

    def encode(self, text: str) -> Int64[Tensor, " n"]:
        """Return the tokens of any text."""
        tokens = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int16)
        for new, pair in enumerate(self.merges, start=NUM_BYTES):
            tokens = _merged(tokens, pair, new)
        return torch.from_numpy(tokens.astype(np.int64))

    def decode(self, tokens: Int64[Tensor, " n"]) -> str:
        """Return the text of some tokens. Bytes that make no character become a question mark in a diamond."""
        return b"".join(self._bytes[number] for number in tokens.tolist()).decode("utf-8", errors="replace")


Tokenizer = Characters | BytePairs  # both have a vocabulary, and encode and decode


def learn_merges(text: str, count: int) -> tuple[tuple[int, int], ...]:
    """Return so many merges, each of the pair of neighbours that is most frequent in the text at that time.

    Of equally frequent pairs the one with the smaller tokens comes first. It ends early where no two tokens are left.

    Example:
        >>> learn_merges("abababc", 2)
        ((97, 98), (256, 256))
    """
    tokens = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64)
    merges: list[tuple[int, int]] = []
    for new in range(NUM_BYTES, NUM_BYTES + count):
        if len(tokens) < 2:
            break
        first, second = divmod(int(np.bincount(tokens[:-1] * new + tokens[1:]).argmax()), new)
        tokens = _merged(tokens, (first, second), new)
        merges.append((first, second))
    return tuple(merges)


def merges_of(pairs: Integer[np.ndarray, "m 2"]) -> tuple[tuple[int, int], ...]:
    """Return merges that lie in an array."""
    return tuple((int(first), int(second)) for first, second in pairs)


def _merged(tokens: np.ndarray, pair: Sequence[int], new: int) -> np.ndarray:
    """Return the tokens with a new one in place of each such pair."""
    at = np.flatnonzero((tokens[:-1] == pair[0]) & (tokens[1:] == pair[1]))
    if pair[0] == pair[1]:
        at = _every_other(at)
    tokens = tokens.copy()
    tokens[at] = new
    return np.delete(tokens, at + 1)


def _every_other(at: np.ndarray) -> np.ndarray:
    """Return the first, third, ... position of each run, since the pairs of "aaaa" overlap."""
    numbers = np.arange(len(at))
    begins = np.maximum.accumulate(np.where(np.diff(at, prepend=-2) != 1, numbers, 0))
    return at[(numbers - begins) % 2 == 0]
