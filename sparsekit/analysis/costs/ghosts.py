"""What ghosts cost while they live, beside the budget of the sparse network that they help."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis.costs.forward_flops import forward_flops
from sparsekit.analysis.observing import layer_topology, weighted_layers
from sparsekit.layers import sparse_layers
from sparsekit.tricks.ghost_skips import NAME, Skip


@dataclass(frozen=True, kw_only=True)
class GhostCost:
    """Weights and operations of ghost skips, beside those of the network.

    Args:
        weights: of the ghosts' convolutions, which are all dense.
        parameters: all that are trained in them.
        budget: connections of the network's sparse layers, or all weights of its layers where none is sparse.
        flops: operations of the ghosts' convolutions for one sample, forward.
        network_flops: those of the network's own layers.
    """

    weights: int
    parameters: int
    budget: int
    flops: float
    network_flops: float

    @property
    def share(self) -> float:
        """Ghost weights for each connection of the sparse network."""
        return self.weights / max(1, self.budget)

    def __str__(self) -> str:
        return (
            f"{self.weights:,} ghost weights beside {self.budget:,} connections ({self.share:.2f} times the budget), "
            f"{self.flops / max(1.0, self.network_flops):.2f} times the operations"
        )


def ghost_cost(model: nn.Module, example: Float[Tensor, "n *input"]) -> GhostCost:
    """Return what the ghosts that are in a model now cost.

    Ghost neurons and parameter-free skips have no weights.

    Args:
        model: sparse or plain, with ghosts in it or without.
        example: a batch as the model takes it. Only its shape matters.

    Example:
        >>> import torch
        >>> from sparsekit.tricks import GhostSkips, begin
        >>> net = begin(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), [GhostSkips(stop=10)])
        >>> print(ghost_cost(net, torch.zeros(1, 4)))
        0 ghost weights beside 16 connections (0.00 times the budget), 0.00 times the operations
    """
    skips = [module for module in model.modules() if isinstance(module, Skip)]
    parameters = [parameter for skip in skips for parameter in skip.parameters()]
    operations = forward_flops(model, example)["sparse"].to_dict()
    of_ghosts = [float(count) for name, count in operations.items() if f".{NAME}." in f".{name}"]
    network_layers = {name: module for name, module in weighted_layers(model).items() if f".{NAME}." not in f".{name}"}
    return GhostCost(
        weights=sum(parameter.numel() for parameter in parameters if parameter.dim() > 1),
        parameters=sum(parameter.numel() for parameter in parameters),
        budget=sum(layer_topology(layer).count for layer in (sparse_layers(model) or network_layers).values()),
        flops=sum(of_ghosts),
        network_flops=sum(map(float, operations.values())) - sum(of_ghosts),
    )
