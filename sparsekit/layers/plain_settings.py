"""A sparse layer answers other code like a plain one, with `in_features`, `kernel_size` and the like.

These settings are read-only, because a layer computes with its `kind`.
"""

# The plain classes declare attributes, while here they follow from the kind.
# pyright: reportIncompatibleVariableOverride=false

from typing import Any

from torch import Tensor, nn


class LinearSettings(nn.Linear):
    """This class answers for the settings of `torch.nn.Linear`."""

    shape: tuple[int, ...]

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.shape[1]

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.shape[0]


class Conv2dSettings(nn.Conv2d):
    """This class answers for the settings of `torch.nn.Conv2d`."""

    kind: Any
    shape: tuple[int, ...]

    transposed = False
    output_padding = (0, 0)

    @property
    def in_channels(self) -> int:
        """Number of input channels, of all groups."""
        return self.shape[1] * self.kind.groups

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return self.shape[0]

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kind.kernel_size

    @property
    def stride(self) -> tuple[int, int]:
        """Steps down and right."""
        return self.kind.stride

    @property
    def padding(self) -> tuple[int, int] | str:
        """Rows and columns added on each side, or `"same"` or `"valid"`."""
        return self.kind.padding

    @property
    def dilation(self) -> tuple[int, int]:
        """Distance between kernel elements."""
        return self.kind.dilation

    @property
    def groups(self) -> int:
        """Number of groups of channels that do not see each other."""
        return self.kind.groups

    @property
    def padding_mode(self) -> str:
        """The values that padding adds, `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`."""
        return self.kind.padding_mode

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.kind.dense(input, weight, bias)
