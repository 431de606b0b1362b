"""Gradients that cannot be differentiated again, and say what to do instead."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

MESSAGE = (
    b"second derivatives must go through layers with storage 'masked', got a csr layer, whose kernels have first "
    b"derivatives only; use storage='masked', sparsekit.densify(model), or torch.func"
)


def first_derivatives_only(backward: Callable) -> Callable:
    """Let a `backward` compute without recording, and refuse by name whoever differentiates its results."""

    @wraps(backward)
    def unrecorded(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            results = backward(ctx, *grads)
        if not torch.is_grad_enabled():  # the usual case: no create_graph
            return results
        found = [x.detach().requires_grad_() for x in results if x is not None]
        # The results hang on whatever they were computed from. Else torch would not come by here on its way to a
        # tensor further back, and leave this layer's part of the derivative out.
        sources = [x for x in (*grads, *ctx.saved_tensors) if isinstance(x, Tensor) and x.requires_grad]
        both = [*found, *sources]
        refused = iter(torch._C._functions.DelayedError(MESSAGE, len(both))(*both))  # type: ignore[attr-defined]  # as torch's own
        return tuple(None if x is None else next(refused) for x in results)

    return unrecorded
