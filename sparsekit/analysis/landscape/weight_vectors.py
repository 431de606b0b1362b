"""A network as one vector of all its parameters, and back, so that networks can be mixed and paths followed.

Everything happens on plain copies. A missing connection is a zero there, so networks of different topologies lie in one
space. Vectors have double precision, so a point that is reached by adding directions is exactly the network.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsekit.evaluation.measuring import Batch, Batches, Evaluation, LossFn, evaluate, refresh_batch_norm
from sparsekit.layers import densify
from sparsekit.layers.entries import masks_of


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a plain copy in evaluation mode, with zeros for missing connections.

    Example:
        >>> plain_copy(nn.Linear(2, 1)).training
        False
    """
    return densify(model).eval()


def vector_of(model: nn.Module) -> Float[Tensor, " p"]:
    """Return all parameters one after the other in double precision, zero where there is no connection.

    Example:
        >>> len(vector_of(nn.Linear(3, 2)))
        8
    """
    return torch.cat([parameter.detach().double().flatten() for parameter in densify(model).parameters()])


def load_vector(plain: nn.Module, vector: Float[Tensor, " p"]) -> None:
    """Write a vector into the parameters of a plain copy, in place.

    Raises:
        ValueError: if there are more or fewer parameters.
    """
    parameters = list(plain.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    if sum(sizes) != len(vector):
        raise ValueError(f"the vector must have a number for each of {sum(sizes)} parameters, got {len(vector)}")
    with torch.no_grad():
        for parameter, part in zip(parameters, vector.split(sizes), strict=True):
            parameter.copy_(part.view_as(parameter))


def support_of(model: nn.Module) -> Bool[Tensor, " p"]:
    """Return which numbers of `vector_of` exist: connections, and all of biases, norms and layers left dense.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology import LayerTopology
        >>> net = sparsify(nn.Sequential(nn.Linear(2, 1)), {"0": LayerTopology((1, 2), torch.tensor([1]))})
        >>> support_of(net).tolist()
        [False, True, True]
    """
    masks = masks_of(model, active=True)
    parts = [
        masks[name].flatten() if name in masks else torch.ones_like(parameter, dtype=torch.bool).flatten()
        for name, parameter in densify(model).named_parameters()
    ]
    return torch.cat(parts)


def union_support(models: Sequence[nn.Module]) -> Bool[Tensor, " p"]:
    """Return which parameters at least one of the networks has."""
    return torch.stack([support_of(model) for model in models]).any(0)


def check_alike(models: Sequence[nn.Module], *, least: int = 2) -> None:
    """Refuse networks that cannot be mixed, because their parameters differ in names or shapes.

    Raises:
        ValueError: if there are too few networks, or they differ.
    """
    if len(models) < least:
        raise ValueError(f"there must be at least {least} networks, got {len(models)}")
    layouts = [_layout(model) for model in models]
    for number, layout in enumerate(layouts):
        if layout != layouts[0]:
            odd = next(iter(dict(layout.items() ^ layouts[0].items())), "their order")
            raise ValueError(f"networks must have the same parameters, got another {odd} in number {number}")


def _layout(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in densify(model).named_parameters()}


class Bench:
    """A plain copy of a network on which other parameters are evaluated.

    Data are read once and held. Batch-norm statistics belong to the weights they were measured with, so a network with
    batch norm is refreshed with training batches each time.

    Args:
        model: whose architecture and settings to use. It stays as it is.
        batches: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.
        refresh_with: training batches, needed with batch norm and ignored without it.

    Raises:
        ValueError: if there is no batch, or batch norm and nothing to refresh it with.
    """

    def __init__(
        self, model: nn.Module, batches: Batches, loss_fn: LossFn, *, refresh_with: Batches | None = None
    ) -> None:
        self.plain = plain_copy(model)
        self.batches, self.loss_fn = listed(batches), loss_fn
        has_statistics = any(_keeps_statistics(module) for module in self.plain.modules())
        if has_statistics and refresh_with is None:
            raise ValueError(
                "other weights of a network with batch norm must be measured with fresh statistics, got refresh_with "
                "None. Give some training batches"
            )
        self.refresh_with = listed(refresh_with) if has_statistics and refresh_with is not None else []

    def at(self, vector: Float[Tensor, " p"]) -> Evaluation:
        """Return loss and accuracy with these parameters."""
        self.load(vector)
        return evaluate(self.plain, self.batches, self.loss_fn)

    def load(self, vector: Float[Tensor, " p"]) -> nn.Module:
        """Return the plain network with these parameters and fresh statistics. The next call changes it."""
        load_vector(self.plain, vector)
        if self.refresh_with:
            refresh_batch_norm(self.plain, self.refresh_with)
        return self.plain


def network_at(model: nn.Module, vector: Float[Tensor, " p"]) -> nn.Module:
    """Return a new plain network with these parameters, and with the batch-norm statistics of the model."""
    plain = plain_copy(model)
    load_vector(plain, vector)
    return plain


def listed(batches: Iterable[Batch]) -> list[Batch]:
    """Return the batches as a list, because many networks are measured on them.

    Raises:
        ValueError: if there is none.
    """
    batches = list(batches)
    if not batches:
        raise ValueError("measuring needs at least one batch of inputs and labels, got none. Check the data set")
    return batches


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None
