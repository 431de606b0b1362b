"""A kind of layer says which parameters of a module are matrices, and this module finds them in any model.

`nn.Linear` and `nn.Conv2d` become sparse layers themselves. All other modules keep their own forward, and only what
they read as their weight is masked. So a kind need not know what a module computes, but only where its matrices lie.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sparsekit.layers.weight_access import WeightAccess
from sparsekit.topology import LayerTopology
from sparsekit.utils.checks import must_be, shown

Split = Callable[[nn.Module, str, Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class MatrixKind:
    """A kind arranges a parameter as matrices, and may ask to be left dense unless somebody requests it."""

    split: Split
    on_request: str = ""


_kinds: dict[type | str, MatrixKind] = {}


def register_kind(module: type[nn.Module] | str, *, on_request: str = "") -> Callable[[Split], Split]:
    """Say which parameters of a class of modules, and of its subclasses, are matrices.

    The function gets a module, the name of one of its parameters, and a tensor shaped like it. It returns the matrices
    by name, each as `(outputs, inputs, *kernel)`, where an output's fan-in is its number of inputs. A single matrix has
    the name `""`. What it does not return stays dense. The matrices must be entries of the tensor, each at most once.

    Such layers have storage `masked`, whatever `sparsify` is told. Their module keeps its forward, and reads the
    masked weight under the parameter's own name.

    Args:
        module: the class, or a pattern of its full name for a package that need not be installed.
        on_request: a group. Its matrices stay dense unless `shapes_of(model, include=(group,))` asks for them.

    Raises:
        TypeError: if it is neither a class of modules nor a text.

    Example:
        >>> class Mixing(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.table = nn.Parameter(torch.ones(3, 5))
        ...
        ...     def forward(self, x):
        ...         return x @ self.table
        >>> @register_kind(Mixing)
        ... def mixing(module, name, weight):
        ...     return {"": weight.T} if name == "table" else {}
        >>> {name: matrix.shape for name, matrix in matrices_of(nn.Sequential(Mixing())).items()}
        {'0': (5, 3)}
    """
    if not isinstance(module, str) and not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise TypeError(f"a kind must be of a class of modules, got {shown(module)}. Give the class, or its full name")

    def add(split: Split) -> Split:
        _kinds[module] = MatrixKind(split, on_request)
        return split

    return add


def kind_of(module: nn.Module) -> MatrixKind | None:
    """Return the kind of a module, that of the nearest class it derives from, or None."""
    for cls in type(module).__mro__:
        if cls in _kinds:
            return _kinds[cls]
        name = f"{cls.__module__}.{cls.__qualname__}"
        for pattern, kind in _kinds.items():
            if isinstance(pattern, str) and fnmatchcase(name, pattern):
                return kind
    return None


def split(module: nn.Module, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return the matrices in a tensor shaped like one of a module's parameters, by name.

    Raises:
        TypeError: if the module's kind returns something else than matrices.
    """
    if tensor.dim() < 2 or (kind := kind_of(module)) is None:
        return {}
    parts = kind.split(module, name, tensor)
    must_be(f"what the kind of {type(module).__name__} returns", parts, Mapping, "Return {'': weight} for one matrix")
    for part in parts.values():
        if not isinstance(part, Tensor) or part.dim() < 2:
            raise TypeError(
                f"the kind of {type(module).__name__} must return matrices (outputs, inputs, *kernel), got "
                f"{shown(part)}. Use weight.flatten(1), for example"
            )
    return dict(parts)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of weights in a plain module.

    Args:
        owner: the module.
        parameter: the name of its parameter.
        part: which of the parameter's matrices it is.
        groups: what must be requested for it to be sparse.
    """

    owner: nn.Module
    parameter: str
    part: str
    groups: frozenset[str] = frozenset()

    @property
    def param(self) -> nn.Parameter:
        """The parameter that holds it."""
        return self.owner._parameters[self.parameter]  # type: ignore[return-value]

    def of(self, tensor: Tensor) -> Tensor:
        """Return the matrix in any tensor shaped like the parameter."""
        return split(self.owner, self.parameter, tensor)[self.part]

    @property
    def value(self) -> Tensor:
        """The matrix itself, `(outputs, inputs, *kernel)`, which is the parameter where it holds nothing else."""
        return self.of(self.param)

    @property
    def shape(self) -> tuple[int, ...]:
        """Outputs, inputs, and the sides of a kernel."""
        return tuple(self.of(torch.empty(self.param.shape, device="meta")).shape)

    def positions(self, device: torch.device | str = "cpu") -> Tensor:
        """Return where each entry lies in the flattened parameter."""
        return self.of(torch.arange(self.param.numel(), device=device).view(self.param.shape)).flatten()

    def check(self) -> None:
        """Check that the kind only arranges entries.

        Raises:
            ValueError: if it gives an entry twice, or computes.
        """
        positions = self.positions()
        if positions.dtype != torch.int64 or positions.unique().numel() < positions.numel():
            raise ValueError(
                f"the kind of {type(self.owner).__name__} must give each entry of {self.parameter} once, got some "
                "twice, or computed ones. Only slice, transpose and reshape there"
            )

    @torch.no_grad()
    def write(self, values: Tensor) -> None:
        """Write a new matrix into the parameter, in place."""
        flat = self.param.detach().flatten()
        flat[self.positions(flat.device)] = values.detach().flatten().to(flat)
        self.param.data.copy_(flat.view(self.param.shape))

    def restrict(self, topology: LayerTopology) -> None:
        """Write zeros wherever a topology has no connection, in place."""
        self.write(self.value.detach() * topology.mask().to(self.param.device))


def matrices_of(model: nn.Module) -> dict[str, Matrix]:
    """Return the matrices in a model's modules by the names of their layers, in the model's order.

    A layer has the name of its module. Where a module has several matrices, the parameter's name follows, and the
    matrix's own name if it has one. What other code holds in a list, or has made of other weights, is left out.

    Example:
        >>> list(matrices_of(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 3))))
        ['0', '1.weight_ih_l0', '1.weight_hh_l0']
    """
    owners = Counter(id(x) for module in model.modules() for x in module._parameters.values())
    hidden = {id(x) for module in model.modules() for x in _in_containers(module)}
    matrices: dict[str, Matrix] = {}
    visited: set[int] = set()
    for path, module in model.named_modules():
        tensors = {id(x) for x in module._parameters.values()}
        for name, matrix in _matrices_in(path, module):
            key = id(matrix.param)
            if key in visited or key in hidden:
                continue
            matrices[name] = matrix if owners[key] == 1 else replace(matrix, groups=matrix.groups | {"tied"})
        visited |= tensors
    return matrices


def _matrices_in(path: str, module: nn.Module) -> Iterator[tuple[str, Matrix]]:
    if isinstance(module, WeightAccess | torch.jit.ScriptModule):
        return
    parts = [(name, part) for name, x in module._parameters.items() if _has_shape(x) for part in _parts(module, name)]
    kind = kind_of(module)
    groups = frozenset({kind.on_request} if kind is not None and kind.on_request else ())
    for name, part in parts:
        label = "" if len(parts) == 1 else f"{name}.{part}".rstrip(".")
        yield f"{path}.{label}".strip("."), Matrix(module, name, part, groups)


def _parts(module: nn.Module, name: str) -> list[str]:
    return list(split(module, name, torch.empty(module._parameters[name].shape, device="meta")))  # type: ignore[union-attr]


def _has_shape(parameter: Tensor | None) -> bool:
    return parameter is not None and not isinstance(parameter, nn.UninitializedParameter)


def _in_containers(module: nn.Module) -> list:
    """Return what a module holds in lists and dictionaries of its own, besides its parameters."""
    attributes = [vars(module)[name] for name in vars(module) if not name.startswith("_")]
    return [x for value in attributes if isinstance(value, list | tuple | dict) for x in tree_leaves(value)]
