"""Checkpoints: everything a training needs to continue bit for bit, in one file that is never half-written."""

import copy
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from torch.optim import Optimizer

from sparsekit.kernels.positions import as_file, as_positions, as_stored
from sparsekit.layers.base import STATE
from sparsekit.utils.files import write_atomically

FORMAT = "sparsekit checkpoint 2"
# torch's own file, which it reads with this behind it too: a mark, and the CRC-32 of all bytes before. torch writes
# checksums into its files, but does not compare them when it reads.
END = struct.Struct("<12sI")
MARK = b"sparsekitCRC"
CHUNK = 2**20  # bytes
PARTS = {"format", "step", "model", "optimizer", "optimizer_kind", "random", "extra"}


class CheckpointError(ValueError):
    """A file is not a checkpoint of this training. Nothing has been changed by trying."""


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: Optimizer,
    *,
    step: int,
    extra: Mapping[str, Any] | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Write a checkpoint: to a temporary file first, then renamed, so that the old one survives any failure.

    Args:
        path: the file, which is replaced if it exists.
        model: its `state_dict` holds the topology.
        optimizer: its `state_dict` holds momentum and the like.
        step: number of steps done.
        extra: numbers, texts, lists and tensors to keep beside them.
        generator: what the training draws from, for example inside `seeds.seeded_rng`. None means torch's global one.

    Raises:
        OSError: if there is no space. The message says so.
    """
    path = Path(path)
    parts = _state_of(model, optimizer, generator)
    state = {
        "format": FORMAT,
        "step": step,
        **parts,
        "model": {name: as_file(x) if _holds_positions(name) else x for name, x in parts["model"].items()},
        "optimizer_kind": type(optimizer).__name__,
        "extra": dict(extra or {}),
    }
    write_atomically(path, lambda temporary: _write(state, temporary))


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain values (`weights_only=True`: no code in the file is ever run).

    Raises:
        CheckpointError: if the file is truncated, has a flipped bit, is of an older version, or no checkpoint.
        FileNotFoundError: if there is none.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"a checkpoint must exist at {path}, got none. Give the path that save_checkpoint wrote"
        )
    is_whole = _is_whole(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files. All mean the same to the user
        raise _damaged(path, type(error).__name__) from error
    version = state.get("format") if isinstance(state, dict) else None
    if version == FORMAT and not is_whole:
        raise _damaged(path, "the checksum differs")
    if isinstance(version, str) and version != FORMAT and version.startswith(FORMAT.rstrip("0123456789")):
        raise CheckpointError(
            f"{path} must be a {FORMAT!r}, got a {version!r} of another version. Delete the run's folder to train it "
            "again, or use the version that wrote it"
        )
    if version != FORMAT:
        raise CheckpointError(f"{path} must be a {FORMAT!r}, got another kind of file. Give a run's checkpoint.pt")
    if missing := PARTS - set(state):
        raise CheckpointError(
            f"{path} must hold {', '.join(sorted(PARTS))}, got none of {', '.join(sorted(missing))}. "
            "Delete it to start this run again"
        )
    for name, x in state["model"].items():
        if _holds_positions(name) and x.dtype == torch.int32:
            state["model"][name] = as_stored(as_positions(x))
    return state


def _holds_positions(name: str) -> bool:
    """Return whether an entry of a state holds the positions of a layer's connections."""
    return name.rpartition(".")[2] == "indices"


class _Summing:
    """A file that sums up what is written to it."""

    def __init__(self, file: IO[bytes]):
        self.file, self.checksum = file, 0

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write(state: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, summing := _Summing(file))  # type: ignore[arg-type]  # needs no more than these methods
        file.write(END.pack(MARK, summing.checksum))


def _is_whole(path: Path) -> bool:
    """Whether a file ends with the mark and the checksum of all that is before."""
    checksum, left = 0, path.stat().st_size - END.size
    if left < 0:
        return False
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
        return file.read() == END.pack(MARK, checksum)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} must be a whole checkpoint, got a damaged or foreign file ({why}). "
        "Delete it to start this run again, or put a good copy in its place"
    )


def restore(
    state: Mapping[str, Any], model: nn.Module, optimizer: Optimizer, *, generator: torch.Generator | None = None
) -> int:
    """Put a loaded checkpoint into a model and its optimizer, and return the number of steps done.

    Also restores the random state from which dropout draws: the generator's, or torch's global one if None.

    Raises:
        CheckpointError: if the checkpoint belongs to another model or optimizer. Nothing has been changed then.
    """
    _check_fits(state["model"], model)
    _check_optimizer(state, optimizer)
    before = copy.deepcopy(_state_of(model, optimizer, generator))
    try:
        _put(state, model, optimizer, generator)
    except Exception as error:  # whatever does not fit: nothing may stay half-loaded
        _put(before, model, optimizer, generator)
        raise CheckpointError(
            f"the checkpoint must fit this model and optimizer, got one that does not ({error}). "
            "Delete it to start this run again, or put a good copy in its place"
        ) from error
    return state["step"]


def _state_of(model: nn.Module, optimizer: Optimizer, generator: torch.Generator | None) -> dict[str, Any]:
    random = (generator or torch.default_generator).get_state()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": random}


def _put(state: Mapping[str, Any], model: nn.Module, optimizer: Optimizer, generator: torch.Generator | None) -> None:
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    (generator or torch.default_generator).set_state(state["random"])


def _check_fits(saved: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    own = model.state_dict()
    # A rule's state is there from its first update on, and may change its size.
    own, saved = ({name: x for name, x in state.items() if f".{STATE}" not in f".{name}"} for state in (own, saved))
    if differing := sorted(set(saved) ^ set(own)):
        raise CheckpointError(
            f"the checkpoint must come from a model like this one, got different entries: {', '.join(differing[:5])}. "
            "Build the model as it was built then, or use the version that wrote it"
        )
    # The number of connections may differ. Everything else has its shape.
    fixed = [name for name in own if name.rpartition(".")[2] not in ("indices", "packed_weight")]
    if wrong := [name for name in fixed if saved[name].shape != own[name].shape]:
        raise CheckpointError(
            f"the checkpoint's tensors must have this model's shapes, got {wrong[0]} {tuple(saved[wrong[0]].shape)} "
            f"for {tuple(own[wrong[0]].shape)}. Build the model as it was built then"
        )


def _check_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> None:
    own, saved = type(optimizer).__name__, state["optimizer_kind"]
    if own != saved:
        raise CheckpointError(f"the checkpoint must come from {own}, this optimizer, got one from {saved}. Use {saved}")
    sizes, own_sizes = (
        [len(group["params"]) for group in groups]
        for groups in (state["optimizer"]["param_groups"], optimizer.param_groups)
    )
    if sizes != own_sizes:
        raise CheckpointError(
            f"the checkpoint's optimizer must have parameter groups of sizes {own_sizes}, got {sizes}. "
            "Build the optimizer as it was built then"
        )
