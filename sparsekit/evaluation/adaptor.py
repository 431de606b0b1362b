"""An adaptor turns the batches and outputs that you have into those that training and measuring know.

A batch is a pair of inputs and labels. Inputs are one tensor, a tuple or list of several (the model's arguments in
order), or a dict of several (its arguments by name). `Adaptor` makes such pairs of anything else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from sparsekit.utils.checks import must_be
from sparsekit.utils.settings import CheckedSettings

PLAIN = (str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device)  # without samples in them


def _unchanged(thing: Any) -> Any:
    return thing


@dataclass(frozen=True, kw_only=True)
class Adaptor(CheckedSettings):
    """How to read batches that are no pairs, and outputs that are no class scores.

    Args:
        batch: `batch -> (inputs, labels)`, where several inputs are a tuple (in order) or a dict (by name).
        outputs: `outputs -> logits`, what the loss and the accuracy see of what the model returns.

    Example:
        >>> adaptor = Adaptor(batch=lambda batch: (batch["x"], batch["y"]), outputs=lambda outputs: outputs["logits"])
        >>> adaptor.pair({"x": torch.zeros(4, 2), "y": torch.zeros(4).long()})[0].shape
        torch.Size([4, 2])
    """

    batch: Callable[[Any], Any] = _unchanged
    outputs: Callable[[Any], Any] = _unchanged

    @classmethod
    def of(cls, adaptor: "Adaptor | None") -> "Adaptor":
        """Return the adaptor, or for None one that changes nothing. Anything else is a TypeError."""
        if adaptor is None:
            return cls()
        must_be("adaptor", adaptor, cls, "Write Adaptor(batch=...), or Adaptor(outputs=...)")
        return adaptor

    def pair(self, batch: Any) -> tuple[Any, Any]:
        """Return inputs and labels of a batch.

        Raises:
            TypeError: if it is no pair, or holds numpy arrays.
        """
        pair = self.batch(batch)
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise TypeError(f"batches must be pairs of inputs and labels, got {_no_pair(pair)}")
        inputs, labels = (dict(part) if isinstance(part, Mapping) else part for part in pair)
        if any(isinstance(leaf, np.ndarray | np.generic) for leaf in tree_flatten((inputs, labels))[0]):
            raise TypeError(
                "inputs and labels must be tensors, got numpy arrays. Give adaptor=Adaptor(batch=lambda batch: "
                "(torch.from_numpy(batch[0]).float(), torch.from_numpy(batch[1])))"
            )
        return inputs, labels

    def pairs(self, batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Iterate over inputs and labels of each batch.

        Raises:
            TypeError: if one is no pair, or holds numpy arrays.
        """
        return map(self.pair, walk(batches))

    def run(self, model: nn.Module, inputs: Any) -> Any:
        """Return what the loss sees of the model's outputs."""
        return self.outputs(call(model, inputs))


def walk(batches: Any) -> Iterator[Any]:
    """Iterate over batches. What is none, or one alone, counts as a single batch, for which `pair` has the message."""
    several = not isinstance(batches, Mapping) and any(hasattr(batches, way) for way in ("__iter__", "__getitem__"))
    return iter(batches if several else [batches])


def call(model: nn.Module, inputs: Any) -> Any:
    """Return the model's outputs, where several inputs are its arguments, in order or by name.

    Example:
        >>> call(nn.Bilinear(2, 3, 4), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
        torch.Size([5, 4])
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def size_of(*trees: Any) -> int:
    """Return the number of samples: the length of the first tensor in tensors, tuples, lists and dicts.

    Raises:
        ValueError: if there is no tensor.

    Example:
        >>> size_of({"boxes": torch.zeros(3, 4)})
        3
    """
    for leaf in tree_flatten(trees)[0]:
        if isinstance(leaf, Tensor) and leaf.dim():
            return len(leaf)
    raise ValueError("a batch must hold at least one tensor with a row per sample, got none. See Adaptor(batch=...)")


def split(tree: Any, sizes: Sequence[int]) -> list[Any]:
    """Cut the tensors of a batch into parts of so many samples. Single numbers, words and the like go to every part.

    Raises:
        ValueError: if a tensor has not one row per sample, or something else may hold samples.

    Example:
        >>> [part["x"].tolist() for part in split({"x": torch.arange(3)}, [2, 1])]
        [[0, 1], [2]]
    """
    leaves, form = tree_flatten(tree)
    columns = [_cut(leaf, list(sizes)) for leaf in leaves]
    return [tree_unflatten([column[part] for column in columns], form) for part in range(len(sizes))]


def join(trees: Sequence[Any]) -> Any:
    """Join what `split` has cut.

    Raises:
        ValueError: if something that is no tensor with a row per sample is not the same in all parts.

    Example:
        >>> join([(torch.zeros(2),), (torch.ones(1),)])
        (tensor([0., 0., 1.]),)
    """
    if len(trees) == 1:
        return trees[0]
    return tree_map(_joined, *trees)


def _joined(*leaves: Any) -> Any:
    first = leaves[0]
    if all(isinstance(leaf, Tensor) and leaf.dim() for leaf in leaves):
        return torch.cat(leaves)
    if isinstance(first, PLAIN) and all(type(leaf) is type(first) and leaf == first for leaf in leaves):
        return first
    raise ValueError(f"batches that are joined must hold tensors with one row per sample, got {described(first)}")


def _cut(leaf: Any, sizes: list[int]) -> Sequence[Any]:
    if len(sizes) == 1 or isinstance(leaf, PLAIN) or (isinstance(leaf, Tensor) and not leaf.dim()):
        return [leaf] * len(sizes)
    if isinstance(leaf, Tensor) and len(leaf) == sum(sizes):
        return leaf.split(sizes)
    is_other = not isinstance(leaf, Tensor)
    fault = f"{described(leaf)}, in which none is seen" if is_other else f"{len(leaf)} rows and {sum(sizes)} samples"
    raise ValueError(
        f"a batch that is split must hold tensors with one row per sample, got {fault}. Use micro_batches=1, or let "
        "Adaptor(batch=...) take out what has, and leave out the rest"
    )


def _no_pair(batch: object) -> str:
    kind = type(batch).__name__
    if isinstance(batch, Mapping):
        return (
            f"{kind}. Take the pair out of each: ((b['inputs'], b['labels']) for b in batches), or give "
            "adaptor=Adaptor(batch=lambda b: (b['inputs'], b['labels']))"
        )
    if isinstance(batch, tuple | list):
        several = ", or give adaptor=Adaptor(batch=lambda b: (b[:-1], b[-1])) for several inputs"
        return f"{kind} of {len(batch)}. Wrap one pair in a list: [(inputs, labels)]{several if len(batch) > 2 else ''}"
    return f"{kind}. Wrap one pair in a list: [(inputs, labels)]"


def described(thing: Any) -> str:
    """Return a value as an error can show it."""
    if isinstance(thing, Tensor):
        return f"a tensor of shape {tuple(thing.shape)}"
    names = f" of {', '.join(map(str, thing))}" if isinstance(thing, dict) else ""
    return f"{type(thing).__name__}{names}"
