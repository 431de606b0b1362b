"""The mean loss over several batches."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_flatten

from sparsekit.evaluation.adaptor import join
from sparsekit.evaluation.losses.known import batch_weight, floats, loss_of, unknown

MOST_KEPT = 2**30  # bytes of outputs that are kept, where a loss is unknown and computed over all of them


@dataclass
class MeanLoss:
    """The loss of all batches together, whatever their sizes, as if they had been one.

    Args:
        loss_fn: `(outputs, labels) -> mean loss`. Where its weights are unknown, outputs are kept until the end.

    Example:
        >>> import torch
        >>> mean = MeanLoss(torch.nn.functional.mse_loss)
        >>> mean.add(torch.ones(3), torch.zeros(3))
        >>> mean.add(torch.ones(1) * 3, torch.zeros(1))
        >>> mean.value()
        3.0
    """

    loss_fn: Any
    total: float = 0.0
    weight: float = 0.0
    first: float | None = None
    batches: list[tuple[Any, Any]] = field(default_factory=list)
    bytes_kept: int = 0

    def add(self, outputs: Any, labels: Any) -> None:
        """Take in one batch.

        Raises:
            ValueError: if the weights of the loss are unknown and there are too many outputs to keep.
        """
        weight = batch_weight(self.loss_fn, labels)
        if weight is None:
            self._keep(outputs, labels)
        elif weight:
            self.total += weight * float(loss_of(self.loss_fn, outputs, labels))
            self.weight += weight

    def value(self) -> float:
        """Return the mean loss.

        Raises:
            ValueError: if no label counts, or the loss does not depend on outputs and labels alone.
        """
        if self.first is not None:
            return self._of_all(self.first)
        if not self.weight:
            raise ValueError("a mean loss needs at least one label that counts, got none. Check the labels")
        return self.total / self.weight

    def _keep(self, outputs: Any, labels: Any) -> None:
        if self.first is None:
            self.first = float(loss_of(self.loss_fn, outputs, labels))
        self.batches.append((outputs, labels))
        self.bytes_kept += sum(leaf.nbytes for leaf in tree_flatten((outputs, labels))[0] if isinstance(leaf, Tensor))
        if len(self.batches) > 1 and self.bytes_kept > MOST_KEPT:
            raise unknown(self.loss_fn, f"got more than {MOST_KEPT} bytes of outputs to average over")

    def _of_all(self, first: float) -> float:
        if len(self.batches) == 1:
            return first
        again = float(self.loss_fn(*self.batches[0]))
        if not np.isclose(again, first, rtol=1e-4, equal_nan=True):
            raise unknown(self.loss_fn, "got another loss when the first batch was measured again")
        outputs, labels = zip(*self.batches, strict=True)
        if len({tuple(leaf.shape[1:] for leaf in floats(one)) for one in outputs}) > 1:
            raise unknown(self.loss_fn, "got outputs of several shapes to average over")
        try:
            joined = join(outputs), join(labels)
        except ValueError as error:
            raise unknown(self.loss_fn, f"got outputs and labels that cannot be joined ({error})") from error
        return float(self.loss_fn(*joined))
