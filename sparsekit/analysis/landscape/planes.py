"""Planes through weight space, and the loss on them.

A plane is a point and two directions. Three networks lie on one plane, but a fourth need not. So we give the nearest
point of the plane together with the distance from there to the network.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as File
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from sparsekit.analysis.landscape.weight_vectors import Bench, check_alike, plain_copy, support_of, vector_of
from sparsekit.evaluation.measuring import Batches, LossFn
from sparsekit.utils.files import read_arrays, write_bytes
from sparsekit.utils.seeds import generator

Columns = Float[np.ndarray, " x"]
Rows = Float[np.ndarray, " y"]


@dataclass(frozen=True, kw_only=True)
class PlanePoint:
    """The point of a plane that is nearest to a network, and how far away the network is.

    Args:
        x, y: coordinates of the point.
        residual: distance from there to the network, 0 on the plane.
        share: the residual as a share of the network's distance from the plane's origin, 0 to 1.
    """

    x: float
    y: float
    residual: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, eq=False)
class Plane:
    """All points `origin + x * directions[0] + y * directions[1]`.

    Args:
        model: whose architecture the points have.
        origin: its parameters at (0, 0).
        directions: two rows of parameters.
        points: of named networks.
    """

    model: nn.Module
    origin: Float[Tensor, " p"]
    directions: Float[Tensor, "2 p"]
    points: Mapping[str, PlanePoint] = field(default_factory=dict)

    def at(self, x: float, y: float) -> Float[Tensor, " p"]:
        """Return the parameters at a point."""
        return self.origin + x * self.directions[0] + y * self.directions[1]

    def project(self, network: nn.Module | Float[Tensor, " p"]) -> PlanePoint:
        """Return the nearest point of the plane to a network or to its parameters, and how far away it is."""
        away = (vector_of(network) if isinstance(network, nn.Module) else network) - self.origin
        x, y = torch.linalg.solve(self.directions @ self.directions.T, self.directions @ away).tolist()
        distance = float(away.norm())
        residual = float((away - x * self.directions[0] - y * self.directions[1]).norm())
        return PlanePoint(x=x, y=y, residual=residual, share=residual / distance if distance else 0.0)

    def including(self, networks: Mapping[str, nn.Module]) -> "Plane":
        """Return the same plane with the points of further networks.

        Raises:
            ValueError: if their parameters have different names or shapes.
        """
        check_alike([self.model, *networks.values()], least=1)
        projections = {name: self.project(network) for name, network in networks.items()}
        return replace(self, points={**self.points, **projections})

    def axes(self, points: int = 25, *, margin: float = 0.3) -> tuple[Columns, Rows]:
        """Return x and y of a grid around the points of all networks, with a margin as a share of the larger side.

        A plane with the point of a single network gets the square from -1 to 1 around it.
        """
        sides = np.array([[point.x for point in self.points.values()], [point.y for point in self.points.values()]])
        low, high = (sides.min(1), sides.max(1)) if sides.size else (np.zeros(2), np.zeros(2))
        border = margin * max(high - low) or 1.0
        x, y = (np.linspace(least - border, most + border, points) for least, most in zip(low, high, strict=True))
        return x, y


def plane_through(networks: Mapping[str, nn.Module]) -> Plane:
    """Return the plane through three networks, on which distances are those in weight space.

    The first network is the origin, the second lies on the x axis. The directions have length 1.

    Args:
        networks: three by name, of one architecture. Their topologies may differ.

    Raises:
        ValueError: if there are not three, they differ in their parameters, or lie on one line.

    Source: Garipov et al. (2018), Loss surfaces, mode connectivity, and fast ensembling of DNNs, arXiv:1802.10026,
        appendix on the computation of planes, from memory.
    """
    if len(networks) != 3:
        raise ValueError(f"a plane must go through three networks, got {len(networks)}")
    check_alike(list(networks.values()))
    origin, second, third = (vector_of(network) for network in networks.values())
    length = (second - origin).norm()
    across = (second - origin) / length
    up = (third - origin) - ((third - origin) @ across) * across
    height = up.norm()
    if not bool(height > 1e-9 * (third - origin).norm()) or not bool(length > 0):
        raise ValueError(f"three networks must not lie on one line, got {', '.join(networks)}. Choose another one")
    plane = Plane(next(iter(networks.values())), origin, torch.stack([across, up / height]))
    return plane.including(networks)


def random_plane(model: nn.Module, *, inside: bool = True, seed: int = 0) -> Plane:
    """Return a plane around a network in two random directions, each filter's as long as the filter itself.

    Long weights can move further before anything happens, so steps are measured in the network's own lengths. At (1, 0)
    every output's weights have moved by their own norm. Biases and norms stay.

    Args:
        model: plain or sparse. It becomes the origin, named `"network"`.
        inside: move existing connections only, otherwise missing ones as well, by the same length in all.
        seed: of the directions.

    Source: Li et al. (2018), Visualizing the loss landscape of neural nets, arXiv:1712.09913, section 4.
    """
    plain, support = plain_copy(model), support_of(model)
    directions = torch.stack(
        [_random_direction(plain, support, generator(seed, "plane", axis), inside=inside) for axis in ("x", "y")]
    )
    return Plane(model, vector_of(model), directions, {"network": PlanePoint(x=0.0, y=0.0)})


def _random_direction(plain: nn.Module, support: Tensor, draws: torch.Generator, *, inside: bool) -> Tensor:
    parameters = list(plain.parameters())
    parts = []
    for weight, mask in zip(parameters, support.split([one.numel() for one in parameters]), strict=True):
        noise = torch.randn(weight.shape, generator=draws, dtype=torch.float64).to(weight.device)
        if weight.dim() < 2:
            parts.append(torch.zeros_like(noise).flatten())
            continue
        rows = (noise.flatten() * mask if inside else noise.flatten()).view(len(weight), -1)
        lengths = weight.detach().double().flatten(1).norm(dim=1, keepdim=True)
        parts.append((rows * lengths / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)).flatten())
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Surface:
    """Loss and accuracy on a grid of a plane.

    Args:
        x, y: of the grid's columns and rows.
        loss, accuracy: a row for each y, a column for each x.
        points: of named networks on the plane.
    """

    x: Columns
    y: Rows
    loss: Float[np.ndarray, "y x"]
    accuracy: Float[np.ndarray, "y x"]
    points: Mapping[str, PlanePoint] = field(default_factory=dict)


def surface(
    plane: Plane,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    axes: tuple[Columns, Rows] | None = None,
    refresh_with: Batches | None = None,
    cache: File | str | None = None,
    progress: bool = True,
) -> Surface:
    """Return loss and accuracy at every point of a grid on a plane, computed row by row.

    Args:
        plane: from `plane_through` or `random_plane`.
        batches: inputs and labels, on the model's device.
        loss_fn: `(outputs, labels) -> mean loss`.
        axes: x and y of the grid, or `plane.axes()` (25 x 25 around all points) if None.
        refresh_with: training batches for fresh batch-norm statistics at every point, needed with batch norm only.
        cache: a file (`.npz`) to which every row is written when it is done. Called again with the same arguments, the
            function continues from there, and the result is the same as without interruption.
        progress: show a bar.

    Raises:
        ValueError: if there is no batch, batch norm and nothing to refresh it with, or a cache of another surface.
    """
    x, y = axes or plane.axes()
    bench = Bench(plane.model, batches, loss_fn, refresh_with=refresh_with)
    file = None if cache is None else File(cache)
    fingerprint = _fingerprint(plane, bench, x, y)
    rows = _read(file, fingerprint) if file is not None and file.exists() else []
    todo = y[len(rows) :].tolist()
    for row in tqdm(todo, desc="surface", unit="row", initial=len(rows), total=len(y), disable=not progress):
        measured = [bench.at(plane.at(column, row)) for column in x.tolist()]
        rows.append(np.array([[one.loss, one.accuracy] for one in measured]))
        if file is not None:
            _write(file, fingerprint, rows)
    values = np.array(rows).reshape(len(y), len(x), 2)
    return Surface(x, y, values[..., 0], values[..., 1], plane.points)


def _read(file: File, fingerprint: str) -> list[np.ndarray]:
    saved = read_arrays(file)
    if str(saved.get("mark")) != fingerprint:
        raise ValueError(
            f"a cache must be of the same plane, grid, data and loss, got another in {file}. Delete it, or name another"
        )
    return list(saved["rows"])


def _write(file: File, fingerprint: str, rows: list[np.ndarray]) -> None:
    """Replace the file at once, so that an interruption while writing leaves the rows before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, mark=np.array(fingerprint), rows=np.array(rows))
    write_bytes(file, content.getvalue())


def _fingerprint(plane: Plane, bench: Bench, x: Columns, y: Rows) -> str:
    """Return a hash of all that the surface depends on."""
    tensors = [plane.origin, plane.directions, torch.from_numpy(x), torch.from_numpy(y), *bench.plain.buffers()]
    tensors += [tensor for batch in (*bench.batches, *bench.refresh_with) for tensor in batch]
    digest = hashlib.sha256(f"{bench.plain} {_description(bench.loss_fn)}".encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _description(value: Any) -> str:
    """Describe a loss by its name, its arguments, and its code where it has no name, the same in every process."""
    if isinstance(value, partial):
        return f"partial({_description([value.func, *value.args, *sorted(value.keywords.items())])})"
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {_description(value.co_consts)}"
    if isinstance(value, Tensor):
        return str(value.tolist())
    if isinstance(value, list | tuple):
        return ", ".join(map(_description, value))
    name = getattr(value, "__qualname__", None)
    if name is None and callable(value):
        state = value.state_dict() if isinstance(value, nn.Module) else {}
        settings = {key: setting for key, setting in vars(value).items() if key[0] != "_" and key != "training"}
        return f"{type(value).__qualname__}({_description([*settings.items(), *state.items()])})"
    if name is None or "<" not in name or not isinstance(value, FunctionType):
        return name or repr(value)
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    contents = [getattr(cell, "__qualname__", cell) for cell in cells]
    return f"{name} {_description(value.__code__)} {_description([contents, value.__defaults__, value.__kwdefaults__])}"
