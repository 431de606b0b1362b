"""Storage `auto` gives each layer the storage whose training step is faster on this machine, as measured."""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsekit.kernels import backend
from sparsekit.kernels.layout import feature_major
from sparsekit.topology import LayerTopology
from sparsekit.utils.files import cache_folder, read_json, write_json
from sparsekit.utils.timing import Effort, median_seconds

Make = Callable[[str, str], nn.Module]  # layer name and storage -> the layer alone
Build = Callable[[Mapping[str, str]], nn.Module]  # storage by layer name -> the whole network

STORAGES = ("masked", "csr")
MIXED_BELOW = 0.95  # of the better pure network's time, as a smaller gain may be noise
EFFORT = Effort(rounds=5, min_rounds=5)  # the median of five survives two disturbances


def fastest_storages(
    model: nn.Module, topology: Mapping[str, LayerTopology], example: Tensor, *, make: Make, build: Build
) -> dict[str, str]:
    """Return `"masked"` or `"csr"` for each layer, by the time of a training step on an example batch.

    Each layer is timed alone, in both storages in turn. Then we time whole networks (all masked, all csr and, if the
    layers differ, mixed), because activations are transposed wherever storages meet, and at the network's ends. A
    file, `cache_file()`, keeps the timings, so the same shape, density, batch, type, threads and versions are timed
    once per machine.

    Args:
        model: a plain model.
        topology: the connections of each layer that is to be sparse.
        example: a batch of inputs, as large as those of the training.
        make: returns one layer in one storage.
        build: returns the network with these storages.

    Returns:
        All masked where the compiled kernels cannot run (another device, other types, no Numba).
    """
    if not topology or not backend.is_fast(example) or not all(backend.is_fast(p) for p in model.parameters()):
        return dict.fromkeys(topology, "masked")
    # A layer that the forward pass does not call stays masked, because csr would lay out its weight at each reading.
    choice, keys = dict.fromkeys(topology, "masked"), [repr(model), f"input {tuple(example.shape)}"]
    for name, size in _input_shapes(model, topology, example).items():
        keys.append(_key(model.get_submodule(name), topology[name], size, example.dtype))
        seconds = cached_seconds(keys[-1], partial(_layer_steps, name, size, example.dtype, make))
        choice[name] = min(STORAGES, key=seconds.__getitem__)
    options = {storage: dict.fromkeys(topology, storage) for storage in STORAGES}
    if len(set(choice.values())) > 1:
        options["mixed"] = choice
    network = hashlib.sha256("\n".join([*keys, *choice.values()]).encode()).hexdigest()
    steps = lambda: {name: _network_step(build(option), example) for name, option in options.items()}  # noqa: E731
    seconds = cached_seconds(f"network {network}", steps)
    best = min(STORAGES, key=seconds.__getitem__)
    return options["mixed" if seconds.get("mixed", math.inf) < MIXED_BELOW * seconds[best] else best]


def cached_seconds(
    key: str,
    steps: Callable[[], Mapping[str, Callable]],
    effort: Effort = EFFORT,
    timed: Callable[[Mapping[str, Callable], Effort], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Return how long each step takes, from the file or, if it has no entry, as measured now."""
    timings = _read()
    if key not in timings:
        timings[key] = (timed or median_seconds)(steps(), effort)
        _write(timings)
    return timings[key]


def cache_file() -> Path:
    """Return the file that keeps timings between processes."""
    return cache_folder() / "storage-seconds.json"


def _layer_steps(name: str, size: tuple[int, ...], dtype: torch.dtype, make: Make) -> dict[str, Callable]:
    x = torch.randn(size, dtype=dtype)
    formats = {"masked": x, "csr": feature_major(x) if x.dim() in (2, 4) else x}
    # We time copies, because a layer shares its bias with the model.
    return {storage: _updating_step(copy.deepcopy(make(name, storage)), x) for storage, x in formats.items()}


def _network_step(network: nn.Module, x: Tensor) -> Callable[[], None]:
    return _updating_step(network, x, input_gradient=False)  # nobody needs the gradient of the data


def _updating_step(module: nn.Module, x: Tensor, *, input_gradient: bool = True) -> Callable[[], None]:
    """Return a training step with its optimizer, which goes through all positions of a masked weight."""
    backward = training_step(module, x, input_gradient=input_gradient)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)  # as slow, and the weights stay as they are

    def step() -> None:
        backward()
        optimizer.step()

    return step


def training_step(module: nn.Module, x: Tensor, *, input_gradient: bool = True) -> Callable[[], None]:
    """Return a training step without the optimizer, with the input's gradient, as for a layer inside a network."""
    x = x.detach().requires_grad_(input_gradient and x.is_floating_point())

    def step() -> None:
        for parameter in module.parameters():
            parameter.grad = None
        x.grad = None
        module(x).sum().backward()

    return step


def _input_shapes(model: nn.Module, topology: Mapping, example: Tensor) -> dict[str, tuple[int, ...]]:
    """Run the model once and record the shape of the first input of each layer that is called."""
    model = copy.deepcopy(model).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in topology:
        model.get_submodule(name).register_forward_pre_hook(_shape_recorder(shapes, name))
    with torch.no_grad():
        model(example)
    return shapes


def _shape_recorder(shapes: dict, name: str) -> Callable:
    def record(_, args) -> None:
        shapes.setdefault(name, tuple(args[0].shape))

    return record


def _key(module: nn.Module, layer: LayerTopology, size: tuple[int, ...], dtype: torch.dtype) -> str:
    # Densities that differ by less than their second digit take the same time, as far as we can measure.
    return f"{module.extra_repr()} density {layer.density:.1e} input {size} {dtype} {machine()}"


def machine() -> str:
    """Return what a timing depends on besides the layer: threads, processor and versions."""
    return f"threads {torch.get_num_threads()} {torch.backends.cpu.get_cpu_capability()} {_versions()}"


def _versions() -> str:
    versions = {"torch": str(torch.__version__)}
    for name in ("numba", "sparsekit"):
        with suppress(PackageNotFoundError):  # a checkout that is not installed
            versions[name] = version(name)
    return " ".join(f"{name} {number}" for name, number in versions.items())


def _read() -> dict[str, dict[str, float]]:
    try:
        return read_json(cache_file())
    except (OSError, ValueError):
        return {}  # no file yet, or a damaged one, so we measure again


def _write(times: Mapping) -> None:
    with suppress(OSError):  # no home, or one that cannot be written to, so we measure again next time
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(), times)
