"""A kind tells what a linear layer and a 2-D convolution are, whatever storage their weights have.

It knows the plain module's settings, applies dense or sparse weights, and turns activations into the two matrices
whose product is the weight gradient.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from sparsekit.kernels import Structure, sparse_conv2d, sparse_linear
from sparsekit.kernels.checks import check_is_images
from sparsekit.kernels.functions import conv2d_gradient_at, linear_gradient_at, unfold_columns_first
from sparsekit.kernels.layout import output_size
from sparsekit.kernels.structure import Traced


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of layer holds the settings of a plain module and knows how to apply its weights."""

    @classmethod
    @abstractmethod
    def of(cls, module: nn.Module) -> Self:
        """Read the settings of a plain module."""

    @abstractmethod
    def dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply a dense weight, exactly as the plain module does."""

    @abstractmethod
    def sparse(self, x: Tensor, values: Tensor, structure: Structure | Traced, bias: Tensor | None) -> Tensor:
        """Apply the existing connections only."""

    @abstractmethod
    def input_matrix(self, x: Tensor) -> Tensor:
        """Return the input as `(W, N)`, one row for each column of the weight matrix."""

    @abstractmethod
    def output_matrix(self, y: Tensor) -> Tensor:
        """Return an output or its gradient as `(O, N)`."""

    @abstractmethod
    def gradient_at(self, x: Tensor, g: Tensor, structure: Structure) -> Tensor:
        """Return the gradient of the connections of any structure from an input and an output's gradient."""

    @abstractmethod
    def input_sums(self, x: Tensor, signs: Tensor | None = None) -> Tensor:
        """Return the sum of `input_matrix(x)` over its columns, `(W,)`, each times its sign of `signs` `(N,)`."""

    def output_sums(self, y: Tensor, signs: Tensor | None = None) -> Tensor:
        """Return the sum of `output_matrix(y)` over its columns, `(O,)`, each times its sign of `signs` `(N,)`."""
        matrix = self.output_matrix(y)
        return matrix.sum(1) if signs is None else matrix @ signs.to(matrix.dtype)

    @abstractmethod
    def plain(self, shape: tuple[int, ...], bias: bool) -> nn.Module:
        """Return an empty plain module of this kind."""

    @property
    def num_groups(self) -> int:
        """Number of groups of a grouped convolution, 1 for everything else."""
        return 1


@dataclass(frozen=True)
class LinearKind(Kind):
    """A linear layer has no settings."""

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        return cls()

    def dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def sparse(self, x: Tensor, values: Tensor, structure: Structure | Traced, bias: Tensor | None) -> Tensor:
        return sparse_linear(x, values, structure, bias)

    def input_matrix(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1]).T

    def output_matrix(self, y: Tensor) -> Tensor:
        return y.reshape(-1, y.shape[-1]).T

    def gradient_at(self, x: Tensor, g: Tensor, structure: Structure) -> Tensor:
        return linear_gradient_at(x, g, structure)

    def input_sums(self, x: Tensor, signs: Tensor | None = None) -> Tensor:
        matrix = self.input_matrix(x)
        return matrix.sum(1) if signs is None else matrix @ signs.to(matrix.dtype)

    def plain(self, shape: tuple[int, ...], bias: bool) -> nn.Module:
        return nn.Linear(shape[1], shape[0], bias=bias)


@dataclass(frozen=True)
class Conv2dKind(Kind):
    """A 2-D convolution has stride, padding, dilation, groups and padding mode as in `torch.nn.Conv2d`."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int
    padding_mode: str

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        assert isinstance(module, nn.Conv2d)
        return cls(
            kernel_size=module.kernel_size,  # type: ignore[arg-type]  # torch types pairs as tuples of any length
            stride=module.stride,  # type: ignore[arg-type]
            padding=module.padding,  # type: ignore[arg-type]
            dilation=module.dilation,  # type: ignore[arg-type]
            groups=module.groups,
            padding_mode=module.padding_mode,
        )

    @property
    def num_groups(self) -> int:
        return self.groups

    def dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._padded(x), (0, 0)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)

    def sparse(self, x: Tensor, values: Tensor, structure: Structure | Traced, bias: Tensor | None) -> Tensor:
        if x.dim() == 3:
            return self.sparse(x.unsqueeze(0), values, structure, bias).squeeze(0)
        check_is_images(x)
        return sparse_conv2d(self._padded(x), values, structure, bias, self._unfold())

    def input_matrix(self, x: Tensor) -> Tensor:
        x = x if x.dim() == 4 else x.unsqueeze(0)
        return unfold_columns_first(self._padded(x), self._unfold())

    def output_matrix(self, y: Tensor) -> Tensor:
        y = y if y.dim() == 4 else y.unsqueeze(0)
        return y.flatten(2).transpose(0, 1).flatten(1)

    def gradient_at(self, x: Tensor, g: Tensor, structure: Structure) -> Tensor:
        x, g = (tensor if tensor.dim() == 4 else tensor.unsqueeze(0) for tensor in (x, g))
        return conv2d_gradient_at(self._padded(x), g, structure, self._unfold())

    def input_sums(self, x: Tensor, signs: Tensor | None = None) -> Tensor:
        """Sum without unfolding the batch, by summing images first or by a weight gradient from the outputs' signs."""
        x = self._padded(x if x.dim() == 4 else x.unsqueeze(0))
        if signs is None:
            return unfold_columns_first(x.sum(0, keepdim=True), self._unfold()).sum(1)
        signs = signs.to(x.dtype).view(len(x), 1, *output_size(tuple(x.shape[2:]), **self._unfold()))
        shape = (1, x.shape[1], *self.kernel_size)
        sides = {key: value for key, value in self._unfold().items() if key != "kernel_size"}
        return conv2d_weight(x, shape, signs, **sides).flatten()

    def plain(self, shape: tuple[int, ...], bias: bool) -> nn.Module:
        return nn.Conv2d(
            shape[1] * self.groups,
            shape[0],
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=bias,
            padding_mode=self.padding_mode,  # type: ignore[arg-type]
        )

    @property
    def _pads_itself(self) -> bool:
        """Whether the kernels do the padding, which is zeros, as many on both sides."""
        return self.padding_mode == "zeros" and not isinstance(self.padding, str)

    def _padded(self, x: Tensor) -> Tensor:
        """Pad where the kernels do not, in every other padding mode and with `"same"`."""
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        margins = self._margins()
        return x if self._pads_itself or not any(margins) else F.pad(x, margins, mode=mode)

    def _margins(self) -> list[int]:
        """Return the margins left, right, top and bottom."""
        if not isinstance(self.padding, str):
            return [side for side in reversed(self.padding) for _ in range(2)]
        if self.padding == "valid":
            return [0, 0, 0, 0]
        spans = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        return [part for span in reversed(spans) for part in (span // 2, span - span // 2)]

    def _unfold(self) -> dict:
        padding = self.padding if self._pads_itself else (0, 0)
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": padding, "dilation": self.dilation}
