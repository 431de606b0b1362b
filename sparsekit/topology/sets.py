"""A topology says which connections exist. It is an immutable value from which masks and overlaps are derived.

Legend: `O` outputs, `F` inputs per output (all weight dimensions but the first), `E` existing connections,
`C` any positions in question. A position is the flat index `o * F + f` into the weight tensor.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sparsekit.topology import sorted_sets
from sparsekit.utils.checks import must_be, shown, sides_of


@dataclass(frozen=True, eq=False, repr=False)
class LayerTopology:
    """The existing connections of one layer, as sorted flat positions in its weight tensor.

    Args:
        shape: the weight's shape, `(outputs, inputs, *kernel)`.
        indices: strictly increasing positions in `[0, size)`.

    Raises:
        TypeError: if the positions are no int64 tensor.
        ValueError: if they are unsorted, doubled or out of range, or the shape has fewer than two dimensions.

    Example:
        >>> layer = LayerTopology((2, 3), torch.tensor([0, 4]))
        >>> layer.mask().int().tolist(), layer.fan_in().tolist()
        ([[1, 0, 0], [0, 1, 0]], [1, 1])
    """

    shape: tuple[int, ...]
    indices: Tensor  # Int64[" e"]: checked below, with an error that helps

    def __post_init__(self):
        object.__setattr__(self, "shape", sides_of(self.shape))
        _check_positions(self.indices, self.size)

    @classmethod
    def full(cls, shape: tuple[int, ...], device: torch.device | str = "cpu") -> "LayerTopology":
        """Return the topology of a dense layer."""
        return cls(shape, torch.arange(math.prod(sides_of(shape)), device=device))

    @classmethod
    def of_mask(cls, mask: Bool[Tensor, "o *f"]) -> "LayerTopology":
        """Return the topology whose connections are a mask's true entries, or raise TypeError if it is no mask."""
        if getattr(mask, "dtype", None) != torch.bool:
            raise TypeError(f"a mask must be a tensor of truth values, got {shown(mask)}. Compare, as in weight != 0")
        return cls(tuple(mask.shape), sorted_sets.true_positions(mask.flatten()))

    @property
    def size(self) -> int:
        """Number of positions a connection could have: the dense layer's weights."""
        return math.prod(self.shape)

    @property
    def count(self) -> int:
        """Number of existing connections."""
        return self.indices.numel()

    @property
    def density(self) -> float:
        """Share of the positions that have a connection, 0 to 1."""
        return self.count / self.size

    @property
    def num_outputs(self) -> int:
        """Number of outputs `O`."""
        return self.shape[0]

    @property
    def num_inputs(self) -> int:
        """Number of inputs per output, `F`: for convolutions channels times kernel positions."""
        return self.size // self.shape[0]

    @property
    def rows(self) -> Int64[Tensor, " e"]:
        """Output of each connection."""
        return sorted_sets.rows_of(self.indices, self.num_inputs)

    @property
    def cols(self) -> Int64[Tensor, " e"]:
        """Input (flattened over the kernel) of each connection."""
        return self.csr()[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored positions."""
        return self.indices.numel() * self.indices.element_size()

    def fan_in(self) -> Int64[Tensor, " o"]:
        """Return the number of connections into each output."""
        return self.csr()[0].diff()

    def fan_out(self) -> Int64[Tensor, " f"]:
        """Return the number of connections out of each input."""
        return torch.bincount(self.cols, minlength=self.num_inputs)

    def mask(self) -> Bool[Tensor, "o *f"]:
        """Return the dense mask, true where a connection exists. It is as large as the dense layer."""
        flat = torch.zeros(self.size, dtype=torch.bool, device=self.indices.device)
        flat.index_fill_(0, self.indices, True)
        return flat.view(self.shape)

    def csr(self) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " e"]]:
        """Return row pointers `(O + 1,)` and the column of each connection: compressed sparse rows."""
        return sorted_sets.compress(self.indices, self.num_outputs, self.num_inputs)

    def csc(self) -> tuple[Int64[Tensor, " columns"], Int64[Tensor, " e"], Int64[Tensor, " e"]]:
        """Return column pointers `(F + 1,)`, each connection's row by column, and where it lies in `indices`."""
        return sorted_sets.transpose(*self.csr(), self.num_inputs)

    def position_of(self, positions: Int64[Tensor, " c"]) -> Int64[Tensor, " c"]:
        """Return where each position stands in `indices`, or -1 where no such connection exists."""
        return sorted_sets.positions_in(self.indices, positions)

    def missing_at(self, ranks: Int64[Tensor, " c"]) -> Int64[Tensor, " c"]:
        """Return the r-th missing position for each rank, counted from 0, without listing all missing ones."""
        return sorted_sets.missing_at(self.indices, ranks)

    def missing(self) -> Int64[Tensor, " c"]:
        """Return all positions without a connection, which are nearly as many as the dense layer has."""
        return self.missing_at(torch.arange(self.size - self.count, device=self.indices.device))

    def to(self, device: torch.device | str) -> "LayerTopology":
        """Return the same topology on another device."""
        indices = self.indices.to(device)
        return self if indices is self.indices else self._with(indices)

    def __or__(self, other: "LayerTopology") -> "LayerTopology":
        _check_same_shape(self, other)
        return self._with(sorted_sets.union(self.indices, other.indices))

    def __and__(self, other: "LayerTopology") -> "LayerTopology":
        _check_same_shape(self, other)
        return self._with(sorted_sets.intersection(self.indices, other.indices))

    def __sub__(self, other: "LayerTopology") -> "LayerTopology":
        _check_same_shape(self, other)
        return self._with(sorted_sets.difference(self.indices, other.indices))

    def _with(self, indices: Tensor) -> "LayerTopology":
        # These are not checked again, because an operation on sorted positions of this shape made them.
        new = object.__new__(LayerTopology)
        object.__setattr__(new, "shape", self.shape)
        object.__setattr__(new, "indices", indices)
        return new

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LayerTopology)
            and self.shape == other.shape
            and torch.equal(self.indices, other.indices.to(self.indices.device))
        )

    __hash__ = None  # type: ignore[assignment]  # equal by content, so not usable as a key

    def __repr__(self) -> str:
        return f"LayerTopology({self.shape}, {self.count:,} of {self.size:,} connections, density {self.density:.4f})"


class Topology(Mapping[str, LayerTopology]):
    """The topologies of a network's sparse layers, by layer name. It is immutable.

    Raises:
        TypeError: if a layer has anything but a `LayerTopology`.

    Example:
        >>> net = Topology({"fc": LayerTopology((2, 2), torch.tensor([0, 3]))})
        >>> net.count, net.density, list(net)
        (2, 0.5, ['fc'])
    """

    def __init__(self, layers: Mapping[str, LayerTopology] | Iterable[tuple[str, LayerTopology]] = ()):
        try:
            self._layers = dict(layers)
        except (TypeError, ValueError):
            raise TypeError(f"layers must come by name, got {shown(layers)}. Give {{'name': layer}}") from None
        for name, layer in self._layers.items():
            if not isinstance(layer, LayerTopology):
                way = "Make it of a mask with LayerTopology.of_mask(mask)"
                raise TypeError(f"{name!r} must be a LayerTopology, got {type(layer).__name__}. {way}")

    def __getitem__(self, name: str) -> LayerTopology:
        if name not in self._layers:
            raise KeyError(f"layer must be one of {', '.join(self._layers) or '(none)'}, got {name!r}")
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def count(self) -> int:
        """Number of existing connections in all layers."""
        return sum(layer.count for layer in self.values())

    @property
    def size(self) -> int:
        """Number of positions in all layers."""
        return sum(layer.size for layer in self.values())

    @property
    def density(self) -> float:
        """Share of all positions that have a connection, 0 to 1 (0 for a network without sparse layers)."""
        return self.count / self.size if self.size else 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weight shape of each layer."""
        return {name: layer.shape for name, layer in self.items()}

    def to(self, device: torch.device | str) -> "Topology":
        """Return the same topology on another device."""
        return Topology({name: layer.to(device) for name, layer in self.items()})

    def to_dict(self) -> dict[str, dict]:
        """Return plain values (`shape`, `indices`), fit for JSON, which `from_dict` reads."""
        return {name: {"shape": list(layer.shape), "indices": layer.indices.tolist()} for name, layer in self.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping]) -> "Topology":
        """Return the topology that `to_dict` wrote."""
        must_be("what to_dict wrote", values, Mapping, "Read it with json.load")
        for name, layer in values.items():
            must_be(f"what to_dict wrote for {name}", layer, Mapping, "Read it with json.load")
        parts = {name: (tuple(layer["shape"]), layer["indices"]) for name, layer in values.items()}
        return cls({name: LayerTopology(shape, torch.tensor(flat).long()) for name, (shape, flat) in parts.items()})

    def __or__(self, other: "Topology") -> "Topology":
        return self._combine(other, LayerTopology.__or__)

    def __and__(self, other: "Topology") -> "Topology":
        return self._combine(other, LayerTopology.__and__)

    def __sub__(self, other: "Topology") -> "Topology":
        return self._combine(other, LayerTopology.__sub__)

    def _combine(self, other: "Topology", operation: Callable) -> "Topology":
        check_same_layers(self, other)
        return Topology({name: operation(layer, other[name]) for name, layer in self.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self._layers == other._layers

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        layers = "".join(f"\n  {name}: {layer.count:,} of {layer.size:,}" for name, layer in self.items())
        return f"Topology({self.count:,} of {self.size:,} connections, density {self.density:.4f}){layers}"


def check_topology(thing: object) -> None:
    """Raise TypeError unless a thing is a topology, and say how to come by one."""
    if not isinstance(thing, Topology):
        way = next((way for kind, way in _WAYS.items() if isinstance(thing, kind)), "Use topology_of(model)")
        raise TypeError(f"this needs a Topology, got {type(thing).__name__}. {way}")


_WAYS = {
    LayerTopology: "Name the layer, as in Topology({'layer': layer})",
    Mapping: "Use Topology(layers)",
    Tensor: "Use LayerTopology.of_mask(mask)",
    int | float: "Draw one, for example random_topology(shapes_of(model), 0.1)",
}


def check_same_layers(first: Topology, second: Topology) -> None:
    """Raise TypeError or ValueError unless both are topologies with the same layers and the same shapes."""
    check_topology(first)
    check_topology(second)
    if first.shapes != second.shapes:
        differing = sorted(set(first.shapes.items()) ^ set(second.shapes.items()))
        raise ValueError(f"both topologies must have the same layers and shapes, got differences at {differing}")


def _check_same_shape(first: LayerTopology, second: LayerTopology) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both layers must have the same shape, got {first.shape} and {second.shape}")


def _check_positions(indices: Tensor, size: int) -> None:
    if not isinstance(indices, Tensor):
        raise TypeError(f"positions must be a tensor, sorted and int64, got {type(indices).__name__}. Use torch.tensor")
    if indices.dtype != torch.int64 or indices.dim() != 1:
        way = "LayerTopology.of_mask(mask)" if indices.dtype == torch.bool else ".long()"
        raise TypeError(f"positions must be a 1-D int64 tensor, got {indices.dtype} {tuple(indices.shape)}. Use {way}")
    if indices.numel() == 0:
        return
    if int(indices[0]) < 0 or int(indices[-1]) >= size:
        raise ValueError(f"positions must lie in [0, {size}), got {int(indices[0])} to {int(indices[-1])}")
    if not bool((indices[1:] > indices[:-1]).all()):
        raise ValueError("positions must be strictly increasing, got unsorted or doubled ones. Use torch.unique")
