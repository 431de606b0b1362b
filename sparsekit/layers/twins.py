"""Copies of a layer that somebody averages: whether values of different topologies were mixed in them.

`AveragedModel` and EMA classes copy a model, then write averages of its parameters into the copy, element by element.
Once the original has been rewired, an element of a csr layer belongs to another connection, and in either storage the
copy's own topology is out of date. Nothing in the numbers shows that, so each layer keeps an eye on its copies.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their size in bytes


class Twin:
    """One layer's knowledge of the layer it is a copy of, and of its own copies.

    A copy is an average in the making if it was written to before its original was rewired, was written to again
    afterwards, and has never been trained by itself.

    Args:
        layer: the sparse layer whose knowledge it is.
        of: the layer it was copied from, or None.
    """

    def __init__(self, layer: Any, of: Any = None):
        self._layer = weakref.ref(layer)
        self._original = None if of is None else weakref.ref(of)
        self._copies: weakref.WeakSet[Twin] = weakref.WeakSet()
        self.forget()
        if of is not None:
            of.twin._copies.add(self)
            _once_trained(layer, self._leave)

    def forget(self) -> None:
        """Begin anew: the layer has been given a state as a whole."""
        layer = self._layer()
        self._begin = (0, 0) if layer is None or self._original is None else _state(layer)
        self._when_rewired: tuple[int, int] | None = None

    def original_rewires(self) -> None:
        """Note in all copies that this layer is about to get another topology."""
        for twin in list(self._copies):
            layer = twin._layer()
            if layer is not None and twin._when_rewired is None and _state(layer) != twin._begin:
                twin._when_rewired = _state(layer)

    def check(self) -> None:
        """Refuse to go on with a layer in which values of different topologies were mixed.

        Raises:
            ValueError: if they were.
        """
        if self._when_rewired is None:
            return
        layer = self._layer()
        if layer is None or _state(layer) == self._when_rewired:
            return
        if self._follows_original(layer):
            return
        raise ValueError(
            "averages of sparse layers must be taken over one topology, got a copy that was averaged while its "
            f"original was rewired ({type(layer).__name__} of shape {layer.shape}); use sparsekit.averaged(model), "
            "which averages weight by weight, or load_state_dict to copy a model as it is"
        )

    def converted(self, convert: Callable[[], Any]) -> Any:
        """Move the layer or change its type, which is no writing."""
        layer = self._layer()
        if self._original is None or layer is None:
            return convert()
        before = _state(layer)
        result = convert()
        self._begin = _state(layer) if self._begin == before else self._begin
        self._when_rewired = _state(layer) if self._when_rewired == before else self._when_rewired
        return result

    def _follows_original(self, layer: Any) -> bool:
        """Whether the copy has its original's topology by now, and values that belong to it."""
        original = None if self._original is None else self._original()
        if original is None or original.topology != layer.topology:
            return False
        return layer.storage == "masked" or torch.equal(original.param, layer.param)

    def _leave(self) -> None:
        """Trained by itself, a layer is nobody's average."""
        original = None if self._original is None else self._original()
        if original is not None:
            original.twin._copies.discard(self)
        self.forget()


def _state(layer: Any) -> tuple[int, int]:
    """What tells whether values were written to: torch's count of that, and, as `.data` is not counted, their bits."""
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
