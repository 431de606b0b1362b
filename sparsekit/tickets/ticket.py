"""A ticket is a network at one step of its training: its topology, the values, and the rest of its state."""

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from sparsekit.layers import sparse_layers, sparsify, topology_of
from sparsekit.layers.entries import entries_of_layers, tied_entries
from sparsekit.tickets.encoding import decode, encode
from sparsekit.tickets.state_entries import check_dense, copy_entry, layout_of
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.checks import check_types
from sparsekit.utils.files import CHECKSUM, is_sealed, sealed, write_bytes

FORMAT = "sparsekit ticket 2"


@dataclass(frozen=True, kw_only=True, eq=False)
class Ticket:
    """A sparse network as a value, which fits in a small file and can be put into any model of the same layers.

    Args:
        topology: which connections exist.
        values: their values, of shape (e,), in the order of `topology[name].indices`, by layer name.
        rest: every other tensor of the model's `state_dict`, for example biases, batch norm, dense layers. Buffers that
            are not saved (`persistent=False`) follow from the model's settings, and are no part of a ticket either.
        step: number of steps trained.
        accuracy: share of right answers, 0 to 1, or NaN if it was not measured.
        extra: what else is in the `state_dict`, which is the extra states of modules (`get_extra_state`).

    Raises:
        TypeError: if a part is of another type.
        ValueError: unless there is one value per connection.

    Source: the cheap tickets of Yin et al. (2022), arXiv:2205.15322. The word is that of Frankle and Carbin (2019),
        arXiv:1803.03635.
    """

    topology: Topology
    values: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]
    step: int
    accuracy: float = math.nan
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_types(self, any_number=("accuracy",))
        for name, layer in self.topology.items():
            values = self.values.get(name)
            if values is None or tuple(values.shape) != (layer.count,):
                shape = "none" if values is None else f"shape {tuple(values.shape)}"
                raise ValueError(
                    f"{name}: values must have shape ({layer.count},), one per connection, got {shape}. See Ticket.of"
                )

    @classmethod
    def of(cls, model: nn.Module, *, step: int, accuracy: float = math.nan) -> "Ticket":
        """Copy a model as it is now. Of a plain model everything is in `rest`.

        Raises:
            ValueError: if a tensor outside of sparse layers is sparse or quantized.

        Example:
            >>> from sparsekit.topology.selection import random_topology
            >>> net = sparsify(nn.Sequential(nn.Linear(4, 2)), random_topology({"0": (2, 4)}, 0.5))
            >>> ticket = Ticket.of(net, step=0)
            >>> ticket.count, list(ticket.rest)
            (4, ['0.bias'])
        """
        layers = sparse_layers(model)
        entries = entries_of_layers(model) | tied_entries(model)  # a tied weight is kept once, so it cannot disagree
        others = {name: x for name, x in model.state_dict().items() if name not in entries}
        check_dense(others)
        return cls(
            topology=topology_of(model).to("cpu"),
            values={name: copy_entry(layer.values()) for name, layer in layers.items()},
            rest={name: copy_entry(x) for name, x in others.items() if isinstance(x, Tensor)},
            step=step,
            accuracy=accuracy,
            extra={name: copy_entry(x) for name, x in others.items() if not isinstance(x, Tensor)},
        )

    @property
    def count(self) -> int:
        """Number of connections."""
        return self.topology.count

    @property
    def density(self) -> float:
        """Share of the sparse layers' positions that are connections."""
        return self.topology.density

    def state(self) -> dict[str, Any]:
        """Return the `state_dict` that puts this ticket into a sparse model, in either storage."""
        parts = {_entry(name, "indices"): layer.indices for name, layer in self.topology.items()}
        parts |= {_entry(name, "packed_weight"): values for name, values in self.values.items()}
        return {**parts, **self.rest, **self.extra}

    def model_like(self, model: nn.Module) -> nn.Module:
        """Return a copy of a model with this ticket's connections and values in it.

        Args:
            model: sparse or plain, with the layers of the one the ticket is of. It stays as it is. The storage is the
                model's, and masked for a plain one.

        Raises:
            ValueError: if the model's layers are others, or hold other kinds of numbers.
        """
        is_ready = bool(sparse_layers(model)) or not self.topology
        new = copy.deepcopy(model) if is_ready else sparsify(model, self.topology, init="dense")
        _check_kinds(self.rest, new.state_dict())
        try:
            entries = {name: copy_entry(x) for name, x in self.state().items()}
            missing, unexpected = new.load_state_dict(entries, strict=False)
        except RuntimeError as error:
            raise ValueError(f"a ticket needs a model with the layers it is of, got another: {error}") from error
        if wrong := {*unexpected, *(set(missing) - tied_entries(new))}:
            raise ValueError(
                f"a ticket needs a model with the layers it is of, got another, which differs in "
                f"{', '.join(sorted(wrong))}. Give the network that was trained"
            )
        return new


def write_ticket(ticket: Ticket, path: str | Path) -> None:
    """Write a ticket to a file. An old one is replaced as a whole or not at all.

    The file is in safetensors format, so it holds numbers and texts, and nothing in it is ever run. Its metadata have a
    checksum.

    Raises:
        ValueError: if a module's extra state is more than numbers, texts, bytes, tensors, and lists and dicts of those.
        OSError: if there is no space, as the message says.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = json.dumps({name: list(shape) for name, shape in ticket.topology.shapes.items()})
    facts = {"format": FORMAT, "step": str(ticket.step), "accuracy": repr(ticket.accuracy), "shapes": shapes}
    tensors = {name: value for name, value in ticket.state().items() if name not in ticket.extra}
    texts, arrays = encode(tensors, ticket.extra)
    write_bytes(path, sealed(save(arrays, metadata={**CHECKSUM, **facts, **texts})))


def read_ticket(path: str | Path) -> Ticket:
    """Read a ticket from a file into memory, so that the file may change later.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged, of an older version, or holds something else.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"a ticket must exist at {path}, got none. Give a path that write_ticket wrote")
    facts, state = _read(path)
    shapes = {name: tuple(shape) for name, shape in json.loads(facts["shapes"]).items()}
    state, extra = decode(facts, state)
    layers = {name: LayerTopology(shape, state.pop(_entry(name, "indices"))) for name, shape in shapes.items()}
    return Ticket(
        topology=Topology(layers),
        values={name: state.pop(_entry(name, "packed_weight")) for name in shapes},
        rest=state,
        step=int(facts["step"]),
        accuracy=float(facts["accuracy"]),
        extra=extra,
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return a ticket's facts and tensors. `load` copies, because a mapped tensor would change with the file."""
    data = path.read_bytes()
    try:
        facts, state = _metadata(data), load(data)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError means a type that it lacks
        raise _damaged(path, str(error)) from error
    format = facts.get("format", "another file")
    if format == FORMAT and not is_sealed(data):
        raise _damaged(path, "the checksum differs")
    if format != FORMAT:
        raise ValueError(f"{path} must hold a {FORMAT!r}, got {format!r}. Give the path of a ticket of this version")
    return facts, state


def _metadata(data: bytes) -> dict[str, str]:
    """Return the texts in a safetensors file. Its first 8 bytes tell the length of its head, which is JSON."""
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return head.get("__metadata__", {}) if isinstance(head, dict) else {}


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} must be a whole ticket file, got a damaged one: {why}. Make it anew")


def _entry(layer: str, part: str) -> str:
    """Return the name of a part of a layer in a `state_dict`. A model may be a layer itself, without a name."""
    return f"{layer}.{part}".removeprefix(".")


def _check_kinds(entries: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Refuse to load real numbers into integers, or truth values into reals, because torch would convert them."""
    for name, entry in entries.items():
        if not isinstance(state.get(name), Tensor) or name.endswith("_extra_state"):  # modules take these as they are
            continue
        kind, needed = (layout_of({name: value})[name][-1] for value in (entry, state[name]))
        if kind != needed:
            raise ValueError(
                f"{name}: a ticket needs a model with the same kinds of numbers, got {kind} ones for {needed} ones. "
                "Give a model as the ticket's was"
            )
