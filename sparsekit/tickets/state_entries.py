"""Entries of a `state_dict` that are no connections are averaged if they have an average, else they must agree."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten


def copy_entry(value: Any) -> Any:
    """Return a copy on the CPU of a tensor, or of anything with tensors in it."""
    return tree_map(lambda x: x.detach().cpu().clone() if isinstance(x, Tensor) else copy.deepcopy(x), value)


def check_dense(entries: Mapping[str, Any]) -> None:
    """Refuse tensors that are no dense arrays of numbers.

    Raises:
        ValueError: if one is sparse or quantized.
    """
    for name, value in entries.items():
        if isinstance(value, Tensor) and (value.layout != torch.strided or value.is_quantized):
            kind = "quantized" if value.is_quantized else str(value.layout)
            raise ValueError(
                f"{name}: a ticket only takes dense arrays of numbers, got {kind}. Register it as a dense tensor, or "
                "with persistent=False if it follows from settings"
            )


def average_entries(entries: Sequence[Mapping[str, Any]], shares: Float[Tensor, " t"]) -> dict[str, Any]:
    """Average the entries of several networks name by name.

    Real and complex numbers are averaged, wherever they are. A single integer is a count (of batches, of steps), and
    the last one stays. All else must be the same in all networks.

    Args:
        entries: of each network, tensors or anything with tensors in it.
        shares: weights of the networks in the average.

    Raises:
        ValueError: if an entry has no average and is not the same in all.

    Example:
        >>> networks = [{"bias": torch.tensor([float(i)]), "steps": torch.tensor(i)} for i in (1, 3)]
        >>> average_entries(networks, torch.ones(2).double())
        {'bias': tensor([2.]), 'steps': tensor(3)}
    """
    return {name: _average(name, [one[name] for one in entries], shares) for name in entries[0]}


def layout_of(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return by name what must agree for an average to make sense, which is shapes and kinds of numbers."""
    return {name: _layout(value) for name, value in entries.items()}


def _layout(value: Any) -> tuple:
    if not isinstance(value, Tensor):
        return (str(tree_flatten(value)[1]),)
    kind = "real" if value.is_floating_point() else "complex" if value.is_complex() else str(value.dtype)
    return tuple(value.shape), kind


def _average(name: str, values: Sequence[Any], shares: Tensor) -> Any:
    leaves, structure = zip(*map(tree_flatten, values), strict=True)
    return tree_unflatten([_mean(name, several, shares) for several in zip(*leaves, strict=True)], structure[0])


def _mean(name: str, values: Sequence[Any], shares: Tensor) -> Any:
    if all(_is_same(values[0], other) for other in values[1:]):
        return values[-1]
    numbers = [number for value in values if (number := _number(value)) is not None]
    if len({_layout(number) for number in numbers}) == 1 and len(numbers) == len(values):
        first = numbers[0]
        if first.is_floating_point() or first.is_complex():
            mean = _weighted(numbers, shares).to(first.dtype)
            return mean if isinstance(values[0], Tensor) else mean.item()
        if first.ndim == 0 and first.dtype != torch.bool:
            return values[-1]
    raise ValueError(
        f"{name}: tickets must agree in what has no average, got different {_kind(values[0])}. Superpose tickets in "
        "which it is the same, or let the module keep it as real numbers"
    )


def _number(value: Any) -> Tensor | None:
    """Return a tensor, or a number as one in double precision, or None for all else."""
    if isinstance(value, Tensor):
        return value
    wide = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}.get(type(value))
    return None if wide is None else torch.tensor(value, dtype=wide)


def _weighted(tensors: Sequence[Tensor], shares: Tensor) -> Tensor:
    wide = torch.complex128 if tensors[0].is_complex() else torch.float64
    total = torch.stack([tensor.to(wide) * share for tensor, share in zip(tensors, shares, strict=True)]).sum(0)
    return total / shares.sum()


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    equal: Any = type(one) is type(other) and one == other
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def _kind(value: Any) -> str:
    return f"tensors of {value.dtype}" if isinstance(value, Tensor) else f"values of type {type(value).__name__}"
