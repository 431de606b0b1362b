"""How much of a model is sparse, and what is left dense, in a sentence."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from sparsekit.layers.listing import density_of, left_dense, numel_of, shapes_of, sparse_layers


@dataclass(frozen=True)
class Coverage:
    """How much of the weights in matrices is in sparse layers, and what is not.

    Args:
        share: of all weights in matrices, those in layers that are sparse (in a plain model, that can be), 0 to 1.
        layer_density: share of the positions in sparse layers that have a connection.
        density: share of all parameters that exist, as `density_of` gives it.
        left: number and share of the matrices that are left dense, by what they are.
    """

    share: float
    layer_density: float
    density: float
    left: dict[str, tuple[int, float]]

    def left_sentence(self) -> str:
        """Say what is left dense, how much else is sparse, and where names and reasons are."""
        return f"left dense: {self._listed()}. {_percent(self.share)} of the weights are sparse. See left_dense(model)"

    def __str__(self) -> str:
        rest = f" Left dense: {self._listed()}." if self.left else ""
        return (
            f"{_percent(self.share)} of the weights are in sparse layers of density {self.layer_density:.4g}, and "
            f"{_percent(self.density)} of all parameters exist.{rest}"
        )

    def _listed(self) -> str:
        counted = (f"{n} {what}{'s' if n > 1 else ''} ({_percent(share)})" for what, (n, share) in self.left.items())
        return ", ".join(counted) or "nothing"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def coverage(model: nn.Module) -> Coverage:
    """Return how much of a model is sparse, and what is left dense.

    Weights are those in matrices, so biases and norms are no part of the share. They are a part of the density.

    Args:
        model: a sparse model, or a plain one, of which we then say what can be sparse.

    Example:
        >>> print(coverage(nn.Sequential(nn.Embedding(5, 20), nn.Linear(20, 20))))
        80 % of the weights are in sparse layers of density 1, and 100 % of all parameters exist.
        Left dense: 1 embedding table (20 %).
    """
    layers, shapes = sparse_layers(model), shapes_of(model)
    topologies = [layer.topology for layer in layers.values()]
    chosen = {name: math.prod(shape) for name, shape in shapes.items() if name in layers or not layers}
    dense = dict(_left(model))
    if unnamed := {name: math.prod(shape) for name, shape in shapes.items() if name not in chosen}:
        dense["layer that the topology leaves out"] = (len(unnamed), sum(unnamed.values()))
    size = sum(chosen.values()) + sum(numel for _, numel in dense.values())
    return Coverage(
        share=sum(chosen.values()) / size if size else 1.0,
        layer_density=sum(x.count for x in topologies) / sum(x.size for x in topologies) if topologies else 1.0,
        density=density_of(model),
        left={what: (count, numel / size) for what, (count, numel) in dense.items()},
    )


def _left(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield what matrices left dense are, and the number of them and of their weights. Tied ones count once."""
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    of_kind: dict[str, list[int]] = {}
    for name, reason in left_dense(model).items():
        owner, _, attribute = name.rpartition(".")
        if name in parameters:
            of_kind.setdefault(_called(modules[owner], attribute, reason), []).append(numel_of(parameters[name]))
    yield from ((what, (len(sizes), sum(sizes))) for what, sizes in of_kind.items())


def _called(owner: nn.Module, name: str, reason: str) -> str:
    if reason.startswith("tied"):
        return "tied weight"
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding table"
    return f"{type(owner).__name__} {name}"
