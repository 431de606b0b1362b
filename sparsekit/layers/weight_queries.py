"""This module lists what other code may ask a dense weight for, by the names of torch's functions."""

from collections.abc import Callable

# The shape alone answers these, without a single weight being computed.
SHAPE_QUERIES = {
    *("shape", "dtype", "ndim", "layout", "itemsize", "nbytes", "is_sparse", "is_quantized", "size", "dim", "numel"),
    *("ndimension", "nelement", "element_size", "stride", "is_floating_point", "is_complex", "is_contiguous"),
    *("__len__", "storage_offset"),
}
PARAMETER_QUERIES = {"device", "is_cuda", "is_cpu", "is_mps", "is_meta", "get_device", "retain_grad"}
VIEWS = {
    *("view", "view_as", "reshape", "flatten", "unflatten", "t", "T", "mT", "transpose", "permute", "swapaxes"),
    *("narrow", "movedim", "squeeze", "unsqueeze", "select", "diagonal", "expand", "__getitem__"),
    *("chunk", "split", "unbind"),
}
DETACHED = {"data", "detach"}
REFUSED = {"register_hook", "register_post_accumulate_grad_hook", "resize_", "set_", "share_memory_"}


def name_of(func: Callable) -> str:
    """Return the name of a method, or of the attribute that is read or set."""
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        attribute = getattr(func, "__self__", None)
        owner = getattr(attribute, "__name__", None) or getattr(getattr(attribute, "fget", None), "__name__", "")
        return owner if name == "__get__" else f"{owner}="
    return name


def answers_with_numbers(func: Callable) -> bool:
    """Return whether a function of torch asks a weight for more than shape, type and device."""
    return name_of(func) not in {*SHAPE_QUERIES, *PARAMETER_QUERIES, "requires_grad"}
