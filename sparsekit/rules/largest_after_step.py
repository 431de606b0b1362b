"""Weight-sparse training keeps the largest weights of every matrix after each optimizer step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sparsekit.layers import sparse_layers
from sparsekit.topology.allocation import check_density
from sparsekit.topology.selection import topk_indices


def keep_largest_weights(
    model: nn.Module, optimizer: Optimizer, density: Callable[[int], float], *, first_step: int = 0
) -> RemovableHandle:
    """From now on, set all but the largest weights of every matrix to zero after each step of the optimizer.

    The layers stay plain, so gradients and the optimizer state go to all weights, also to those at zero. A weight
    returns as soon as one update makes it larger than the smallest that is kept. Embeddings are matrices too, and
    biases and norms stay as they are. `from_pruned` makes an ordinary sparse model of the result.

    Choose an `eps` of about 1e-4 for Adam. Where the loss is nearly zero, the usual one turns tiny gradients into large
    updates, which push the weights that matter out of the matrices.

    Args:
        model: a plain model, which is changed in place.
        optimizer: the one that trains it.
        density: share of each matrix that is kept, by step, for example `Cosine(1.0, 0.02).lasting(1000)`. Every matrix
            keeps one weight at least.
        first_step: the number of the next step, for a training that is resumed.

    Returns:
        A handle, whose `remove()` ends this.

    Raises:
        ValueError: if the model has sparse layers, whose missing weights get no gradient, or no matrix, or a density is
            not in (0, 1].

    Example:
        >>> model = nn.Linear(10, 10)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> handle = keep_largest_weights(model, optimizer, lambda step: 0.1)
        >>> model(torch.ones(1, 10)).sum().backward()
        >>> optimizer.step()
        >>> int(model.weight.count_nonzero())
        10

    Source: Gao et al. (2025), arXiv:2511.13653, which keep the largest biases as well and sparse activations besides.
        The `eps` is ours.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    if sparse_layers(model) or not matrices:
        raise ValueError(
            f"the model must be plain and have matrices, got {len(sparse_layers(model))} sparse layers and "
            f"{len(matrices)} matrices. Give the model as it was before sparsify"
        )
    for step in (first_step, first_step + 1):
        check_density(density(step))
    steps = iter(range(first_step, 2**62))

    @torch.no_grad()
    def after_step(*_: object) -> None:
        share = density(next(steps))
        for matrix in matrices:
            matrix.mul_(largest(matrix, max(1, round(share * matrix.numel()))))

    return optimizer.register_step_post_hook(after_step)


def largest(matrix: Tensor, count: int) -> Tensor:
    """Return a mask of the entries with the largest magnitudes. Of equal ones the first count.

    Example:
        >>> largest(torch.tensor([[0.1, -3.0], [2.0, 0.5]]), 2).int().tolist()
        [[0, 1], [1, 0]]
    """
    mask = torch.zeros(matrix.numel(), dtype=torch.bool, device=matrix.device)
    return mask.index_fill_(0, topk_indices(matrix.detach().abs().flatten(), count), True).view(matrix.shape)
