"""This module checks what must hold before a kernel runs.

Compiled kernels check no index, so they would read and write beyond their arrays.
"""

from torch import Tensor

from sparsekit.kernels.layout import output_size
from sparsekit.kernels.structure import Structure, Traced


def check_linear(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure | Traced) -> None:
    """Check the arguments of a linear layer.

    Raises:
        ValueError: if the input has not `structure.width` features in its last dimension, there is not one value per
            connection or one bias per output, or the types differ.
    """
    if _surely_fits(x, values, bias, structure):
        return
    if x.dim() == 0 or x.shape[-1] != structure.width:
        raise ValueError(f"the input's dimension -1 must have {structure.width} features, got shape {tuple(x.shape)}")
    _check_parameters(x, values, bias, structure)


def check_conv2d(
    x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure | Traced, unfold: dict
) -> tuple[int, ...]:
    """Check the arguments of a convolution, and return the height and width of its output.

    Raises:
        ValueError: if the input is no batch of images with the channels that the layer reads, there is not one value
            per connection or one bias per output, the types differ, or the kernel is larger than the padded image.
    """
    check_is_images(x)
    taps = unfold["kernel_size"][0] * unfold["kernel_size"][1]
    if x.shape[1] * taps != structure.width:
        raise ValueError(
            f"the input's dimension 1 must have {structure.width // taps} features, for {structure.width} columns of "
            f"{taps} kernel positions, got shape {tuple(x.shape)}"
        )
    _check_parameters(x, values, bias, structure)
    size = output_size(tuple(x.shape[2:]), **unfold)
    if min(size) < 1:
        raise ValueError(f"the kernel must fit into the padded image, got {unfold} and images {tuple(x.shape[2:])}")
    return size


def check_gradient(grad: Tensor, x: Tensor, shape: tuple[int, ...]) -> None:
    """Check the gradient of a layer's output.

    Raises:
        ValueError: if it has not the output's shape and the input's type.
    """
    if grad.shape != shape or grad.dtype != x.dtype:
        raise ValueError(
            f"the output's gradient must have its shape {shape} and the input's type {x.dtype}, "
            f"got {tuple(grad.shape)} and {grad.dtype}"
        )


def check_is_images(x: Tensor) -> None:
    """Check the number of dimensions.

    Raises:
        ValueError: if the input is not `(batch, channels, height, width)`.
    """
    if x.dim() != 4:
        raise ValueError(f"the input must be (batch, channels, height, width), got shape {tuple(x.shape)}")


def check_is_matrix(x: Tensor) -> None:
    """Check the number of dimensions.

    Raises:
        ValueError: if the input is not `(batch, features)`.
    """
    if x.dim() != 2:
        raise ValueError(f"the input must be (batch, features), got shape {tuple(x.shape)}")


def _surely_fits(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure | Traced) -> bool:
    """Return whether the usual arguments fit, in less time than it takes to find out what does not."""
    shape, count = x.shape, structure.num_connections
    return (
        len(shape) == 2
        and shape[1] == structure.width
        and values.dtype is x.dtype
        and values.numel() == count == values.shape[0]
        and (bias is None or (bias.dim() == 1 and bias.numel() == structure.num_rows))
    )


def _check_parameters(x: Tensor, values: Tensor, bias: Tensor | None, structure: Structure | Traced) -> None:
    if values.shape[:1] != (structure.num_connections,) or (values.dim() > 1 and max(values.shape[1:]) > 1):
        raise ValueError(
            f"there must be one value per connection, {structure.num_connections}, got shape {tuple(values.shape)}"
        )
    if values.dtype != x.dtype:
        raise ValueError(f"the input must have the type of the values, {values.dtype}, got {x.dtype}. Convert it")
    if bias is not None and bias.shape != (structure.num_rows,):
        raise ValueError(f"there must be one bias per output, {structure.num_rows}, got shape {tuple(bias.shape)}")
