"""Modules of every kind, with their inputs, that several test modules share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn


class Scaled(nn.Linear):
    """A linear layer whose forward is its own."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input.square(), self.weight * 2, self.bias)


class Padded(nn.Conv2d):
    """A convolution whose forward is its own."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(nn.functional.pad(input, (0, 1, 1, 0)), self.weight, self.bias)


class Turned(nn.Module):
    """A linear layer stored as (inputs, outputs), as that of GPT-2 is."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class ManyExperts(nn.Module):
    """Experts held in one parameter (experts, inputs, outputs), and biases of two dimensions."""

    def __init__(self, experts: int, inputs: int, outputs: int):
        super().__init__()
        self.up = nn.Parameter(torch.randn(experts, inputs, outputs))
        self.down = nn.Parameter(torch.randn(experts, outputs, inputs))
        self.biases = nn.Parameter(torch.randn(experts, outputs))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bi,eio->beo", x, self.up) + self.biases
        return torch.einsum("beo,eoi->bi", hidden.tanh(), self.down)


class Attending(nn.Module):
    """Attention to itself, or to keys and values of other sizes."""

    def __init__(self, other: int | None = None):
        super().__init__()
        self.other = other
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, kdim=other, vdim=other, add_bias_kv=True)

    def forward(self, x: Tensor) -> Tensor:
        keys = x if self.other is None else x[..., : self.other]
        return self.attention(x, keys, keys)[0]


class First(nn.Module):
    """What a recurrent module returns first."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        result = self.module(x)
        return result[0] if isinstance(result, tuple) else result


class TiedHead(nn.Module):
    """A model of words whose head has the weight of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.words(x)).tanh())


@contextmanager
def unchecked() -> Iterator[None]:
    """Let the package see what is of a wrong type, which the tests' type checker would refuse first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def numbers(*shape: int) -> Callable[[], Tensor]:
    """A batch of real numbers, always the same."""
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def words(*shape: int) -> Callable[[], Tensor]:
    """A batch of words, always the same."""
    return lambda: torch.randint(7, shape, generator=torch.Generator().manual_seed(1))


# name -> how to make the module, its input, and what must be requested
KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], tuple[str, ...]]] = {
    "subclass of Linear": (lambda: Scaled(6, 5), numbers(4, 6), ()),
    "subclass of Conv2d": (lambda: Padded(4, 6, 3, groups=2), numbers(2, 4, 6, 5), ()),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2, padding=1), numbers(2, 4, 7), ()),
    "Conv3d": (lambda: nn.Conv3d(2, 4, 2), numbers(2, 2, 3, 4, 3), ()),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 3, 3, stride=2), numbers(2, 4, 5), ()),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), numbers(2, 4, 4, 3), ()),
    "Bilinear": (lambda: Both(), numbers(4, 7), ()),
    "LSTM": (lambda: First(nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True, proj_size=3)), numbers(3, 4, 5), ()),
    "GRU": (lambda: First(nn.GRU(5, 6, batch_first=True)), numbers(3, 4, 5), ()),
    "RNN": (lambda: First(nn.RNN(5, 6, batch_first=True, bias=False)), numbers(3, 4, 5), ()),
    "LSTMCell": (lambda: First(nn.LSTMCell(5, 6)), numbers(3, 5), ()),
    "MultiheadAttention": (Attending, numbers(3, 4, 8), ()),
    "MultiheadAttention of other sizes": (lambda: Attending(5), numbers(3, 4, 8), ()),
    "Embedding": (lambda: nn.Embedding(7, 6), words(4, 3), ("embeddings",)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(7, 6), words(4, 3), ("embeddings",)),
    "tied head": (TiedHead, words(4, 3), ("embeddings", "tied")),
    "transposed": (lambda: Turned(6, 5), numbers(4, 6), ()),
    "experts": (lambda: ManyExperts(3, 6, 5), numbers(4, 6), ()),
}


class Both(nn.Module):
    """A bilinear module of the two halves of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Bilinear(3, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x[:, :3], x[:, 3:])
