"""Gradients of this module cannot be differentiated again, and their error says what to do instead."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

MESSAGE = (
    b"second derivatives must go through layers with storage 'masked', got a csr layer, whose kernels have first "
    b"derivatives only. Use storage='masked', sparsekit.densify(model), or torch.func"
)


def first_derivatives_only(backward: Callable) -> Callable:
    """Let a `backward` compute without recording, and raise a clear error if its results are differentiated."""

    @wraps(backward)
    def unrecorded(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if not torch.is_grad_enabled():  # the usual case, without create_graph
            return backward(ctx, *grads)
        with torch.no_grad():
            results = backward(ctx, *grads)
        leaves = [x.detach().requires_grad_() for x in results if x is not None]
        # We tie the results to whatever they were computed from. Otherwise torch would not pass here on its way to a
        # tensor further back, and would leave this layer's part of the derivative out.
        sources = [x for x in (*grads, *ctx.saved_tensors) if isinstance(x, Tensor) and x.requires_grad]
        both = [*leaves, *sources]
        refused = iter(torch._C._functions.DelayedError(MESSAGE, len(both))(*both))  # type: ignore[attr-defined]  # as torch's own
        return tuple(None if x is None else next(refused) for x in results)

    return unrecorded
