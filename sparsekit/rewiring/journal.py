"""The journal: every rewiring of a run, as the positions dropped and grown.

A file begins with a line of magic. One block per record follows, with its length (8 bytes, little-endian), its CRC-32
(4 bytes), the CRC-32 of these 12 bytes (4 bytes), and a zlib-compressed safetensors payload. Sorted positions are
stored as gaps, which compress to a little over a byte. A last block that a crash cut off is too short and is left out.
Anything else that differs is damage.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load, save
from torch import Tensor

from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.files import append, write_bytes

MAGIC = b"sparsekit journal 2\n"
HEAD = struct.Struct("<QI")
CHECK = struct.Struct("<I")


@dataclass
class Journal:
    """The topologies of a run: the first one, and what each rewiring changed.

    Args:
        initial: the topology before the first rewiring.
        entries: step and update of each rewiring.
        path: where records are appended, or None to keep them in memory only.

    Example:
        >>> start = Topology({"fc": LayerTopology((2, 2), torch.tensor([0]))})
        >>> journal = Journal(start)
        >>> journal.add(5, TopologyUpdate({"fc": torch.tensor([0])}, {"fc": torch.tensor([3])}))
        >>> journal.steps, journal[1]["fc"].indices.tolist()
        ([5], [3])
    """

    initial: Topology
    entries: list[tuple[int, TopologyUpdate]] = field(default_factory=list)
    path: Path | None = None
    _ends_torn: bool = field(default=False, repr=False)

    @property
    def steps(self) -> list[int]:
        """The step of each rewiring."""
        return [step for step, _ in self.entries]

    def __len__(self) -> int:
        """Number of rewirings."""
        return len(self.entries)

    def __getitem__(self, number: int) -> Topology:
        """Return the topology after so many rewirings. 0 is the initial one, and -1 the last."""
        number = number + len(self) + 1 if number < 0 else number
        if not 0 <= number <= len(self):
            raise IndexError(f"the number of rewirings must lie in [0, {len(self)}], got {number}")
        topology = self.initial
        for _, update in self.entries[:number]:
            topology = update.apply(topology)
        return topology

    def topologies(self) -> Iterator[Topology]:
        """Yield the initial topology and the one after each rewiring: `len(journal) + 1` in all."""
        topology = self.initial
        yield topology
        for _, update in self.entries:
            topology = update.apply(topology)
            yield topology

    def add(self, step: int, update: TopologyUpdate) -> None:
        """Record a rewiring, in memory and, where there is a path, at the end of the file, in both or in neither.

        Raises:
            ValueError: if the step does not come after the last one.
            OSError: if there is no space. The message says so.
        """
        if self.entries and step <= self.entries[-1][0]:
            raise ValueError(
                f"rewirings must come in order, got step {step} after {self.entries[-1][0]}. Call cut_at(step) first"
            )
        update = TopologyUpdate(
            *({name: at.cpu() for name, at in part.items()} for part in (update.dropped, update.grown))
        )
        if self._ends_torn:
            # Nobody could read this record if it came after half of another.
            self._rewrite()
        if self.path is not None:
            append(self.path, _block(_pack_update(step, update)))
        self.entries.append((step, update))

    @classmethod
    def create(cls, path: str | Path, initial: Topology) -> Self:
        """Begin a new journal file. An old one at this path is replaced."""
        journal = cls(initial.to("cpu"), path=Path(path))
        journal._rewrite()
        return journal

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a journal file. A record cut off at the end is left out.

        Raises:
            ValueError: if the file is no journal, of an older version, or damaged.
            FileNotFoundError: if there is none.
        """
        data = _read_bytes(Path(path))
        records, end = _records(data, Path(path))
        if not records:
            raise ValueError(f"a journal must begin with its initial topology, got none in {path}. The file is damaged")
        initial = _unpack_topology(records[0])
        entries = [_unpack_update(record, list(initial)) for record in records[1:]]
        return cls(initial, entries, Path(path), _ends_torn=end < len(data))

    def cut_at(self, step: int) -> None:
        """Delete every rewiring at or after a step, because a resumed run records them again."""
        self.entries = [entry for entry in self.entries if entry[0] < step]
        self._rewrite()

    def _rewrite(self) -> None:
        if self.path is None:
            return
        blocks = [_pack_topology(self.initial), *(_pack_update(*entry) for entry in self.entries)]
        write_bytes(self.path, MAGIC + b"".join(map(_block, blocks)))
        self._ends_torn = False


def _pack_topology(topology: Topology) -> dict[str, Tensor]:
    record = {}
    for number, (name, layer) in enumerate(topology.items()):
        # safetensors sorts its keys. The order of the layers is kept in the first number.
        record[f"shape/{name}"] = torch.tensor([number, *layer.shape])
        record[f"initial/{name}"] = _gaps(layer.indices)
    return record


def _unpack_topology(record: dict[str, Tensor]) -> Topology:
    shapes = {key.removeprefix("shape/"): at.tolist() for key, at in record.items() if key.startswith("shape/")}
    in_order = sorted(shapes, key=lambda name: shapes[name][0])
    return Topology(
        {name: LayerTopology(tuple(shapes[name][1:]), _positions(record[f"initial/{name}"])) for name in in_order}
    )


def _pack_update(step: int, update: TopologyUpdate) -> dict[str, Tensor]:
    dropped = {f"dropped/{name}": _gaps(positions) for name, positions in update.dropped.items()}
    grown = {f"grown/{name}": _gaps(positions) for name, positions in update.grown.items()}
    return {"step": torch.tensor(step), **dropped, **grown}


def _unpack_update(record: dict[str, Tensor], names: list[str]) -> tuple[int, TopologyUpdate]:
    # We name the layers in the order of the network, because safetensors gives them in any order.
    dropped, grown = (
        {name: _positions(record[f"{part}/{name}"]) for name in names if f"{part}/{name}" in record}
        for part in ("dropped", "grown")
    )
    return int(record["step"]), TopologyUpdate(dropped, grown)


def _gaps(positions: Tensor) -> Tensor:
    """Differences of sorted positions, in the smallest type that holds them."""
    gaps = positions.cpu().diff(prepend=torch.zeros(1, dtype=torch.int64))
    largest = int(gaps.max()) if gaps.numel() else 0
    fitting = [kind for kind in (torch.uint8, torch.int16, torch.int32) if largest <= torch.iinfo(kind).max]
    return gaps.to(fitting[0] if fitting else torch.int64)


def _positions(gaps: Tensor) -> Tensor:
    return gaps.to(torch.int64).cumsum(0)


def _block(record: dict[str, Tensor]) -> bytes:
    # Gaps are random numbers. Beside their own short codes and runs of zeros there is nothing for zlib to find, and
    # looking for it would take longer than a large rewiring itself.
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    payload = packer.compress(save(record)) + packer.flush()
    head = HEAD.pack(len(payload), zlib.crc32(payload))
    return head + CHECK.pack(zlib.crc32(head)) + payload


def _read_bytes(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"a journal must exist at {path}, got none. Give the journal in a run's folder")
    data = path.read_bytes()
    if data.startswith(MAGIC):
        return data
    if data.startswith(MAGIC[:-2]):
        raise ValueError(
            f"{path} must be a {MAGIC.decode().strip()!r}, got one of another version. Delete the run's folder to "
            "train it again, or use the version that wrote it"
        )
    raise ValueError(f"{path} must be a journal written by sparsekit, got something else. Give the run's journal")


def _records(data: bytes, path: Path) -> tuple[list[dict[str, Tensor]], int]:
    """Return the whole records, and the offset at which they end."""
    records, offset = [], len(MAGIC)
    while (start := offset + HEAD.size + CHECK.size) <= len(data):
        length, checksum = HEAD.unpack_from(data, offset)
        if CHECK.unpack_from(data, offset + HEAD.size)[0] != zlib.crc32(data[offset : offset + HEAD.size]):
            raise _damaged(path, len(records))
        payload = data[start : start + length]
        if len(payload) < length:
            break
        if zlib.crc32(payload) != checksum:
            raise _damaged(path, len(records))
        records.append(load(zlib.decompress(payload)))
        offset = start + length
    return records, offset


def _damaged(path: Path, number: int) -> ValueError:
    return ValueError(
        f"{path} must hold its records as they were written, got a damaged one after {number} whole ones. Put a good "
        "copy in its place, or delete the run's folder to train it again"
    )
