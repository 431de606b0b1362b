"""Take a part of a split, class by class."""

import torch
from jaxtyping import Int64
from torch import Tensor

from sparsekit.datasets.base import Dataset, Split
from sparsekit.utils.checks import check_integer
from sparsekit.utils.seeds import generator


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Cut a split in two disjoint ones, `(rest, held)`, with the same mix of classes in both.

    To choose settings, train on the rest and compare on what is held out. The test split is for the last number only.
    `held` has exactly `round(share * len(split))` examples, which are drawn at random within a class. Both keep the
    stored order.

    Args:
        split: what to cut.
        share: of the examples to hold out, between 0 and 1.
        seed: of the draw. The same seed gives the same cut whatever else is random.

    Raises:
        ValueError: if the share is outside (0, 1), or so small or large that one part would be empty, or each token has
            a label of its own.

    Example:
        >>> split = Split(inputs=torch.arange(8.0), labels=torch.tensor([0, 1] * 4))
        >>> rest, held = hold_out(split, 0.25, seed=0)
        >>> len(rest), sorted(held.labels.tolist())
        (6, [0, 1])
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}. Give 0.1 to hold out a tenth")
    if split.labels.dim() > 1:
        raise ValueError(
            f"examples that are held out must have one label each, got {tuple(split.labels.shape)}. Cut text in "
            'pieces, as load("kjv-char", measured="validation") does'
        )
    quotas = _quotas(torch.bincount(split.labels.cpu()), round(share * len(split)))
    source = generator(seed, "hold_out")
    is_held = torch.zeros(len(split), dtype=torch.bool)
    for label, quota in enumerate(quotas.tolist()):
        members = (split.labels.cpu() == label).nonzero().flatten()
        is_held[members[torch.randperm(len(members), generator=source)[:quota]]] = True
    rest, held = (chosen.nonzero().flatten().to(split.labels.device) for chosen in (~is_held, is_held))
    return split.at(rest), split.at(held)


def few_per_class(dataset: Dataset, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return `count` prepared training examples of every class as one batch, which scores before training use.

    Where each token has a label, an example has many classes, so there are `count` examples in all.

    Args:
        dataset: the source of the examples.
        count: examples of each class (SNIP and GraSP: 10).
        seed: of the draw.

    Raises:
        ValueError: if a class has fewer.

    Example:
        >>> from sparsekit.datasets import load
        >>> inputs, labels = few_per_class(load("digits"), 2)
        >>> inputs.shape, torch.bincount(labels).tolist()
        (torch.Size([20, 64]), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    labels = dataset.train.labels.cpu()
    if labels.dim() > 1:  # every example has many classes
        draws = torch.randperm(len(labels), generator=generator(seed, "few_per_class"))[: check_integer("count", count)]
        few = dataset.train.at(draws.to(dataset.train.labels.device))
        return dataset.prepare(few.inputs), few.labels
    smallest = int(torch.bincount(labels, minlength=dataset.num_classes).min())
    if not 1 <= count <= smallest:
        raise ValueError(f"count must lie in 1 to {smallest}, the examples of the smallest class, got {count}")
    draws = generator(seed, "few_per_class")
    members = [(labels == label).nonzero().flatten() for label in range(dataset.num_classes)]
    chosen = torch.cat([rows[torch.randperm(len(rows), generator=draws)[:count]] for rows in members])
    few = dataset.train.at(chosen.to(dataset.train.labels.device))
    return dataset.prepare(few.inputs), few.labels


def _quotas(sizes: Int64[Tensor, " k"], total: int) -> Int64[Tensor, " k"]:
    """Share `total` among classes in proportion to their sizes, by largest remainder, so that the sum is exact."""
    products = sizes * total  # integers until the last moment, so no rounding error can change who gets the rest
    quotas = products // sizes.sum()
    remainders = products % sizes.sum()
    first = torch.argsort(remainders, descending=True, stable=True)[: total - int(quotas.sum())]
    quotas[first] += 1
    return quotas
