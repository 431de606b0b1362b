"""A ticket: what a network is at one moment of its training. Which connections, their values, and all the rest."""

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparsekit.checks import check_types
from sparsekit.files import write_atomically
from sparsekit.layers import sparse_layers, sparsify, topology_of
from sparsekit.layers.base import MEMORY
from sparsekit.topology import LayerTopology, Topology

FORMAT = "sparsekit ticket 1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Ticket:
    """A sparse network as a value: it fits in a small file, and can be put into any model of the same layers.

    Args:
        topology: which connections exist.
        values: their values, of shape (e,), in the order of `topology[name].indices`, by layer name.
        rest: every other tensor of the model's `state_dict`: biases, batch norm, layers that are dense.
        step: number of steps trained.
        accuracy: share of right answers, 0 to 1, where it was measured; NaN where not.

    Raises:
        TypeError: if a part is of another type.
        ValueError: unless there is one value per connection.

    Source: the cheap tickets of Yin et al. (2022), arXiv:2205.15322; the word is that of Frankle and Carbin (2019),
        arXiv:1803.03635.
    """

    topology: Topology
    values: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]
    step: int
    accuracy: float = math.nan

    def __post_init__(self):
        check_types(self, any_number=("accuracy",))
        for name, layer in self.topology.items():
            values = self.values.get(name)
            if values is None or tuple(values.shape) != (layer.count,):
                came = "none" if values is None else f"shape {tuple(values.shape)}"
                raise ValueError(
                    f"{name}: values must have shape ({layer.count},), one per connection, got {came}; see Ticket.of"
                )

    @classmethod
    def of(cls, model: nn.Module, *, step: int, accuracy: float = math.nan) -> "Ticket":
        """Copy a model as it is now; of a plain model everything is in `rest`.

        Example:
            >>> from sparsekit.selection import random_topology
            >>> net = sparsify(nn.Sequential(nn.Linear(4, 2)), random_topology({"0": (2, 4)}, 0.5))
            >>> ticket = Ticket.of(net, step=0)
            >>> ticket.count, list(ticket.rest)
            (4, ['0.bias'])
        """
        layers = sparse_layers(model)
        own = {f"{name}.{part}" for name, layer in layers.items() for part in ("indices", layer.param_name)}
        rest = {name: _copied(x) for name, x in model.state_dict().items() if not _is_layers_own(name, own)}
        values = {name: _copied(layer.values()) for name, layer in layers.items()}
        return cls(topology=topology_of(model).to("cpu"), values=values, rest=rest, step=step, accuracy=accuracy)

    @property
    def count(self) -> int:
        """Number of connections."""
        return self.topology.count

    @property
    def density(self) -> float:
        """Share of the sparse layers' places that are connections."""
        return self.topology.density

    def state(self) -> dict[str, Tensor]:
        """Return the `state_dict` that puts this ticket into a sparse model, in either storage."""
        parts = {f"{name}.indices": layer.indices for name, layer in self.topology.items()}
        parts |= {f"{name}.packed_weight": values for name, values in self.values.items()}
        return {**parts, **self.rest}

    def model_like(self, model: nn.Module) -> nn.Module:
        """Return a copy of a model with this ticket's connections and values in it.

        Args:
            model: sparse or plain, with the layers of the one the ticket is of; it stays as it is. The storage is the
                model's, and masked for a plain one.

        Raises:
            ValueError: if the model's layers are others.
        """
        is_ready = bool(sparse_layers(model)) or not self.topology
        new = copy.deepcopy(model) if is_ready else sparsify(model, self.topology)
        try:
            new.load_state_dict({name: x.clone() for name, x in self.state().items()})
        except RuntimeError as error:
            raise ValueError(f"a ticket needs a model with the layers it is of, got another: {error}") from error
        return new


def write_ticket(ticket: Ticket, path: str | Path) -> None:
    """Write a ticket to a file; an old one is replaced as a whole or not at all.

    The file is in safetensors format: it holds numbers, and nothing in it is ever run.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = json.dumps({name: list(shape) for name, shape in ticket.topology.shapes.items()})
    facts = {"format": FORMAT, "step": str(ticket.step), "accuracy": repr(ticket.accuracy), "shapes": shapes}
    # Copies, because layers may share a tensor and the format knows none that are shared.
    state = {name: tensor.contiguous().clone() for name, tensor in ticket.state().items()}
    write_atomically(path, lambda temporary: save_file(state, temporary, metadata=facts))


def read_ticket(path: str | Path) -> Ticket:
    """Read a ticket from a file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged, or holds something else.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"a ticket must exist at {path}, got none; give a path that write_ticket wrote")
    facts, state = _read(path)
    if facts.get("format") != FORMAT:
        raise ValueError(f"{path} must hold a ticket, got {facts.get('format', 'another file')}; give a ticket's path")
    shapes = {name: tuple(shape) for name, shape in json.loads(facts["shapes"]).items()}
    return Ticket(
        topology=Topology({name: LayerTopology(shape, state.pop(f"{name}.indices")) for name, shape in shapes.items()}),
        values={name: state.pop(f"{name}.packed_weight") for name in shapes},
        rest=state,
        step=int(facts["step"]),
        accuracy=float(facts["accuracy"]),
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole ticket file, got a damaged one: {error}; make it anew") from error


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def _is_layers_own(name: str, own: set[str]) -> bool:
    """Whether an entry is a sparse layer's topology, its values, or what a rule remembers about it."""
    return name in own or name.rpartition(".")[2].startswith(MEMORY)
