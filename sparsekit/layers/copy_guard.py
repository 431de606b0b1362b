"""This module notices when an average of a layer's copy mixes values of different topologies.

`AveragedModel` and EMA classes copy a model, then write averages of its parameters into the copy, element by element.
Once the original has been rewired, an element of a csr layer belongs to another connection. In either storage the
copy's own topology is then out of date. Nothing in the numbers shows that, so each layer watches its copies.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their size in bytes


class CopyGuard:
    """The guard of a layer knows which layer it is a copy of, and its own copies.

    A copy counts as an average if it was written to both before and after its original was rewired, and has never been
    trained by itself.

    Args:
        layer: the sparse layer that is guarded.
        original: the layer it was copied from, or None.
    """

    def __init__(self, layer: Any, original: Any = None):
        self._layer = weakref.ref(layer)
        self._original = None if original is None else weakref.ref(original)
        self._copies: weakref.WeakSet[CopyGuard] = weakref.WeakSet()
        self.reset()
        if original is not None:
            original.copy_guard._copies.add(self)
            _once_trained(layer, self._part_from_original)

    def reset(self) -> None:
        """Begin again, because the layer has been given a whole new state."""
        layer = self._layer()
        self._version_at_copy = (0, 0) if layer is None or self._original is None else _version(layer)
        self._version_at_rewiring: tuple[int, int] | None = None

    def before_rewiring(self) -> None:
        """Tell all copies that this layer is about to get another topology."""
        for guard in list(self._copies):
            layer = guard._layer()
            if layer is not None and guard._version_at_rewiring is None and _version(layer) != guard._version_at_copy:
                guard._version_at_rewiring = _version(layer)

    def check(self) -> None:
        """Refuse to continue with a layer in which values of different topologies were mixed.

        Raises:
            ValueError: if they were.
        """
        if self._version_at_rewiring is None:
            return
        layer = self._layer()
        if layer is None or _version(layer) == self._version_at_rewiring:
            return
        if self._follows_original(layer):
            return
        raise ValueError(
            "averages of sparse layers must be taken over one topology, got a copy that was averaged while its "
            f"original was rewired ({type(layer).__name__} of shape {layer.shape}). Use sparsekit.averaged(model), "
            "which averages weight by weight, or load_state_dict to copy a model as it is"
        )

    def while_converting(self, convert: Callable[[], Any]) -> Any:
        """Move the layer or change its type, which does not count as writing to it."""
        layer = self._layer()
        if self._original is None or layer is None:
            return convert()
        before = _version(layer)
        result = convert()
        if self._version_at_copy == before:
            self._version_at_copy = _version(layer)
        if self._version_at_rewiring == before:
            self._version_at_rewiring = _version(layer)
        return result

    def _follows_original(self, layer: Any) -> bool:
        """Return whether the copy has its original's topology by now, and values that belong to it."""
        original = None if self._original is None else self._original()
        if original is None or original.topology != layer.topology:
            return False
        return layer.storage == "masked" or torch.equal(original.param, layer.param)

    def _part_from_original(self) -> None:
        """A layer that is trained by itself is nobody's average."""
        original = None if self._original is None else self._original()
        if original is not None:
            original.copy_guard._copies.discard(self)
        self.reset()


def _version(layer: Any) -> tuple[int, int]:
    """Return what tells whether values were written to: torch's count, and their bits, as `.data` is not counted."""
    values = layer.param.detach()
    if values.is_meta or torch._C._are_functorch_transforms_active():
        return 0, 0
    bits = values.contiguous().flatten().view(INTEGERS[values.itemsize]).sum(dtype=torch.int64)
    return 0 if layer.param.is_inference() else layer.param._version, int(bits)


def _once_trained(layer: Any, call: Callable[[], None]) -> None:
    if not layer.param.requires_grad or not layer.param.is_leaf:
        return

    def first_gradient(_: nn.Parameter) -> None:
        handle.remove()
        call()

    handle = layer.param.register_post_accumulate_grad_hook(first_gradient)
