"""Other code may read, assign, delete or register `layer.weight`, and this module decides what happens then."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.layers.dense_weight import DenseWeight
from sparsekit.layers.loading import from_dense


def refuse_quantization(name: str) -> None:
    """Refuse the setting that torch's quantization writes to every module, also to those that it then leaves out.

    Raises:
        TypeError: if that is the name of an attribute that is to be set.
    """
    if name == "qconfig":
        raise TypeError(
            "a model that is quantized must have plain layers, got a sparse one, which torch.ao.quantization leaves as "
            "it is without a word. Use sparsekit.densify(model)"
        )


class WeightAccess(nn.Module):
    """This part of a sparse layer serves code that takes it for a plain layer."""

    effective_weight: Callable[..., Tensor]

    @property
    def weight(self) -> Tensor:
        """The dense weight that the forward pass uses, differentiable. Writing to it writes to `param`."""
        if torch.compiler.is_compiling() or torch._C._get_tracing_state():
            return self.effective_weight(read=True)
        return DenseWeight.of(self)

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_quantization(name)
        if name == "weight":
            self._assign_weight(value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name == "weight":
            raise AttributeError(
                "the weight of a sparse layer must stay what it is, got a request to delete it, as torch's "
                "parametrizations make it. Parametrize or prune the plain model before sparsify"
            )
        super().__delattr__(name)

    def __prepare_scriptable__(self) -> None:  # torch.jit.script asks for it
        raise TypeError(
            "a model that torch.jit.script compiles must have plain layers, got a sparse one. Use "
            "sparsekit.densify(model)"
        )

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as every module does.

        Raises:
            TypeError: if it is the layer's own weight, which cannot go under another name.
        """
        if isinstance(param, DenseWeight):
            raise TypeError(
                f"a sparse layer's weight must stay where it is, got a request to keep it as {name!r}, as "
                "torch.nn.utils.prune makes it. Prune with sparsify, or before it"
            )
        super().register_parameter(name, param)

    def _assign_weight(self, weight: Tensor) -> None:
        """Take a whole new weight, as a plain layer does for `layer.weight = nn.Parameter(...)`."""
        layer: Any = self  # a SparseLayer, which is built on this class
        # FSDP shards and gathers the parameter, and load_state_dict gives memory to one on the meta device.
        is_given_memory = layer.param.is_meta and layer.param_name == "weight"
        if is_given_memory or any(hasattr(x, "placements") for x in (weight, layer.param)):
            super().__setattr__("weight", weight)
            return
        values = from_dense(weight.detach(), layer.topology, strictly=True)
        with torch.no_grad():
            layer.write(values)
        layer.param.requires_grad_(weight.requires_grad)
