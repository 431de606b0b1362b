"""This module follows a gradient over several backward passes: where one ends, and whether the sum still counts."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd import Variable


@runtime_checkable  # for the tests' type checks
class Catcher(Protocol):
    """A catcher receives the gradient of a layer's dense weight."""

    was_read: bool  # whether other code than the layer's own forward has asked for the weight

    def received(self, grad: Tensor) -> Tensor:
        """Take part in a backward pass by recording the gradient and handing it on."""
        ...


class Accumulation:
    """This object watches the gradient of one parameter while micro-batches add to it.

    Args:
        param: the parameter.
    """

    def __init__(self, param: Tensor):
        self.param = param
        self._backward_pass = -1
        self._last: tuple[Tensor | None, int] = (None, -1)  # the gradient after the last pass, and its version

    def begins(self) -> bool:
        """Return whether a backward pass gets here for the first time. A layer used twice is met twice in each."""
        # An interrupted pass does not return, because the next one has another number.
        this_pass = torch._C._current_graph_task_id()
        is_new, self._backward_pass = this_pass != self._backward_pass, this_pass
        return is_new

    def was_cleared(self) -> bool:
        """Return whether the accumulated gradient was discarded, by a new step or one that GradScaler skipped."""
        grad, (last_grad, version) = self.param.grad, self._last
        if grad is None:
            return True
        # A gradient of zeros that nobody has touched since is an accumulated one, not a cleared one.
        is_untouched = grad is last_grad and grad._version == version
        return not is_untouched and not bool(grad.any())

    def record(self) -> None:
        """Record the gradient that this pass left behind."""
        grad = self.param.grad
        self._last = (grad, -1 if grad is None else grad._version)


def when_backward_ends(call) -> None:
    """Call something once the running backward pass is over.

    It is queued twice over, so it runs after DDP's own end-of-backward callback has written the averages.
    """
    engine = Variable._execution_engine
    engine.queue_callback(lambda: engine.queue_callback(call))
