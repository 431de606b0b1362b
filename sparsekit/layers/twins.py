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
        self._begin = 0 if layer is None else _version(layer)
        self._when_rewired: int | None = None

    def original_rewires(self) -> None:
        """Note in all copies that this layer is about to get another topology."""
        for twin in list(self._copies):
            layer = twin._layer()
            if layer is not None and twin._when_rewired is None and _version(layer) > twin._begin:
                twin._when_rewired = _version(layer)

    def check(self) -> None:
        """Refuse to go on with a layer in which values of different topologies were mixed.

        Raises:
            ValueError: if they were.
        """
        layer = self._layer()
        if layer is None or self._when_rewired is None or _version(layer) == self._when_rewired:
            return
        if self._follows_original(layer):
            return
        raise ValueError(
            "averages of sparse layers must be taken over one topology, got a copy that was averaged while its "
            f"original was rewired ({type(layer).__name__} of shape {layer.shape}); use sparsekit.averaged(model), "
            "which averages weight by weight, or load_state_dict to copy a model as it is"
        )

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


def _version(layer: Any) -> int:
    return 0 if layer.param.is_inference() else layer.param._version


def _once_trained(layer: Any, call: Callable[[], None]) -> None:
    if not layer.param.requires_grad or not layer.param.is_leaf:
        return

    def first_gradient(_: nn.Parameter) -> None:
        handle.remove()
        call()

    handle = layer.param.register_post_accumulate_grad_hook(first_gradient)
