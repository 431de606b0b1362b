"""Prune a trained network column by column, and let the remaining weights make up for what is gone: SparseGPT."""

import copy
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.losses import LossFn
from sparsekit.layers import shapes_of, sparse_layers
from sparsekit.layers.matrices import matrices_of
from sparsekit.scores.inputs import sums_over_inputs
from sparsekit.scores.view import Batch, ScoreView
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import check_density
from sparsekit.topology.selection import n_of_m_mask, topk_indices
from sparsekit.utils.checks import check_integer, number
from sparsekit.utils.seeds import generator


def sparsegpt(
    model: nn.Module,
    density: float,
    *,
    batches: Iterable[Batch],
    group: int = 0,
    block: int = 128,
    damping: float = 0.01,
    loss_fn: LossFn | None = None,
    adaptor: Adaptor | None = None,
    exclude: tuple[str, ...] = (),
) -> nn.Module:
    """Return a copy of a trained model, each layer of which is pruned to a density and repaired.

    With `H = X X^T + damping * mean(diagonal)` of a layer's inputs, a weight costs `w^2 / U_jj^2`, where `U` is the
    upper Cholesky factor of the inverse of `H`. In each block of columns the cheapest go. What a column loses is
    compensated by later columns. `from_pruned` makes a sparse model of the result.

    All layers see the inputs of the dense model. The published code prunes layer by layer, so that each sees the
    outputs of pruned ones. Layers that take no part, and modules that compute with their weights by themselves, have
    no known inputs, and keep their largest weights without repair.

    Args:
        model: a plain one, trained.
        density: share of each layer's weights to keep, in (0, 1].
        batches: inputs and labels, of which only the inputs matter.
        group: with `m` above 0, `round(density * m)` of every m neighbouring columns stay, as in n of m.
        block: columns that are pruned together (the paper: 128). With `group` it must be a multiple of it.
        damping: share of the diagonal's mean that is added to it (the paper: 0.01).
        loss_fn: as in `prune`, to tell batches whose labels do not count.
        adaptor: how to read batches and outputs of other forms.
        exclude: layers to leave alone. `"first"` and `"last"` mean what they say.

    Raises:
        ValueError: if the density is outside (0, 1], the model is sparse, a number is out of range, or no batch is
            given.

    Source: Frantar and Alistarh (2023), arXiv:2301.00774, algorithm 1.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3))
        >>> pruned = sparsegpt(model, 0.5, batches=[(torch.randn(8, 4), torch.zeros(8).long())])
        >>> int((pruned[0].weight != 0).sum())
        6
    """
    _check(model, density, group, block, damping)
    topology = Topology({name: LayerTopology.full(shape) for name, shape in shapes_of(model, exclude=exclude).items()})
    view = ScoreView(
        model=model,
        topology=topology,
        batches=list(batches),
        loss_fn=loss_fn,
        adaptor=adaptor,
        generator=generator(0, "sparsegpt"),
    )
    hessians = sums_over_inputs(view, lambda x: x.double() @ x.double().mT)
    pruned = copy.deepcopy(model)
    for name, matrix in matrices_of(pruned).items():
        if name in topology:
            weight = matrix.value.detach()
            unknown = torch.eye(weight[0].numel(), dtype=torch.float64, device=weight.device)[None]
            matrix.write(_pruned(weight, hessians.get(name, unknown), density, group, block, damping))
    return pruned


def _pruned(weight: Tensor, hessians: Tensor, density: float, group: int, block: int, damping: float) -> Tensor:
    """Prune the rows of each group of a convolution by its own inputs. Channels come last, so that n of m are those."""
    last = weight.movedim(1, -1)
    order = torch.arange(weight[0].numel()).view(weight.shape[1:]).movedim(0, -1).flatten()
    rows = last.flatten(1).double().chunk(len(hessians))
    parts = [
        prune_rows(part, hessian[order][:, order], density, group=group, block=block, damping=damping)
        for part, hessian in zip(rows, hessians, strict=True)
    ]
    return torch.cat(parts).view(last.shape).movedim(-1, 1).to(weight.dtype)


def prune_rows(
    weight: Float[Tensor, "o f"],
    hessian: Float[Tensor, "f f"],
    density: float,
    *,
    group: int = 0,
    block: int = 128,
    damping: float = 0.01,
) -> Float[Tensor, "o f"]:
    """Return a matrix of which a share is left, repaired for inputs whose products have the sums of `hessian`.

    The arguments are those of `sparsegpt`.
    """
    weight, width = weight.clone(), weight.shape[1]
    weight[:, hessian.diagonal() == 0] = 0  # inputs that are always 0 need no weight
    upper = _factor(hessian, damping)
    for start in range(0, width, block):
        end = min(start + block, width)
        mask = torch.zeros_like(weight[:, start:end], dtype=torch.bool)
        if not group:
            mask = _cheapest_go(weight, upper, start, end, density)
        errors = torch.zeros_like(weight[:, start:end])
        for column in range(start, end):
            if group and column % group == 0:
                costs = (weight / upper.diagonal()).square()[:, column : min(column + group, end)]
                mask[:, column - start : column - start + group] = n_of_m_mask(costs, round(density * group), group)
            errors[:, column - start] = weight[:, column] * ~mask[:, column - start] / upper[column, column]
            weight[:, column:end] -= errors[:, column - start, None] * upper[column, column:end]
        weight[:, start:end] *= mask  # exactly zero, whatever rounding has left
        weight[:, end:] -= errors @ upper[start:end, end:]
    return weight


def _cheapest_go(weight: Tensor, upper: Tensor, start: int, end: int, density: float) -> Tensor:
    """Return which weights of a block stay, as many in all blocks together as the density says."""
    before, after = (round(density * len(weight) * columns) for columns in (start, end))
    costs = (weight / upper.diagonal()).square()[:, start:end]
    mask = torch.zeros(costs.numel(), dtype=torch.bool, device=costs.device)
    mask[topk_indices(costs.flatten(), after - before)] = True
    return mask.view(costs.shape)


def _factor(hessian: Tensor, damping: float) -> Tensor:
    """Return the upper Cholesky factor of the inverse. Inputs that are always 0 count as inputs by themselves."""
    diagonal = hessian.diagonal()
    added = damping * diagonal.mean() + (diagonal == 0)
    inverse = torch.linalg.inv(hessian + torch.diag_embed(added))
    return torch.linalg.cholesky(inverse, upper=True)


def _check(model: nn.Module, density: float, group: int, block: int, damping: float) -> None:
    check_density(density)
    if sparse_layers(model):
        raise ValueError("sparsegpt needs a plain model, got a sparse one. Call densify on it first")
    check_integer("group", group, least=0)
    check_integer("block", block, least=1)
    if group and (block % group or not round(density * group)):
        raise ValueError(
            f"block must be a multiple of group, of which some stay, got block={block}, group={group} and density="
            f"{density}. Choose group=4, block=128 and density=0.5, for example"
        )
    if not number("damping", damping) > 0:
        raise ValueError(f"damping must be above 0, got {damping}. The paper takes 0.01")
