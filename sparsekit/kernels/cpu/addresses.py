"""Kernels of linear layers get addresses of memory, because torch makes an array more slowly than they compute.

A small layer's step takes about a hundred microseconds, and each array costs several of them. An address is a number.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from torch import Tensor


@intrinsic
def array_at(typing, address, number):
    """Return the memory at an address as an array of numbers like this one. It does not know its length."""
    kind = types.Array(number, 1, "C")

    def generate(context, builder, signature, args):
        array, size = context.make_array(kind)(context, builder), number.bitwidth // 8
        itemsize = context.get_constant(types.intp, size)
        populate_array(
            array,
            data=builder.inttoptr(args[0], context.get_data_type(number).as_pointer()),
            shape=cgutils.pack_array(builder, [context.get_constant(types.intp, _ENDLESS)]),
            strides=cgutils.pack_array(builder, [itemsize]),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return kind(address, number), generate


_ENDLESS = 2**40  # more numbers than any memory holds, so that no check of ours depends on a length


def address(tensor: Tensor) -> int:
    """Return where a tensor's numbers begin.

    Raises:
        ValueError: if it has numbers elsewhere than in memory, as tensors in a tracer do.
    """
    begin = tensor.data_ptr()
    if not begin and tensor.numel():
        raise ValueError(
            f"compiled kernels need numbers in memory, got a {type(tensor).__name__} without. Use storage='masked'"
        )
    return begin
