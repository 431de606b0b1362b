"""States that runs begin from. Topology and weights lie in a file that is named by its own content."""

import hashlib
from pathlib import Path

from safetensors.torch import load, save
from torch import nn

from sparsekit.utils.files import check_name, write_bytes

INITIAL_STATES = "initial_states"  # folder beside the runs


def save_initial_state(folder: str | Path, model: nn.Module) -> str:
    """Save a model's state for runs to begin from, and return its name for `Experiment.init_from`.

    The name is a hash of the state. So it takes part in the name of a run's folder, and the same state is saved once.

    Args:
        folder: where the runs are kept that begin from it.
        model: sparse or plain. What a run builds must have the same layers, in either storage.
    """
    # We save copies, because layers may share a tensor and the format has no shared tensors.
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()})
    name = _name_of(data)
    path = _path(folder, name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    return name


def load_initial_state(folder: str | Path, name: str, model: nn.Module) -> None:
    """Load a state that `save_initial_state` saved into a model, with its topology.

    Raises:
        FileNotFoundError: if there is no such state in this folder.
        ValueError: if the file is damaged, or belongs to another model.
    """
    path = _path(folder, name)
    if not path.exists():
        raise FileNotFoundError(
            f"the state that a run begins from must lie at {path}, got none. Copy it there along with the runs, or "
            "make it anew with save_initial_state"
        )
    data = path.read_bytes()
    if _name_of(data) != name:
        raise ValueError(
            f"{path} must hold the state it is named after, got another. Make it anew with save_initial_state"
        )
    try:
        model.load_state_dict(load(data))
    except RuntimeError as error:
        raise ValueError(f"the state {name} must be that of a model like this one, got another: {error}") from error


def _name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _path(folder: str | Path, name: str) -> Path:
    check_name(name, "the name of a state")
    return Path(folder) / INITIAL_STATES / f"{name}.safetensors"
