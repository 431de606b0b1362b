"""Named random streams: the same seed and purpose give the same numbers, whatever else draws numbers."""

import hashlib
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, a hash of the seed and the names.

    Example:
        >>> derive(0, "data", 3) == derive(0, "data", 3), derive(0, "data", 3) == derive(0, "rewire", 3)
        (True, False)
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return an independent generator for one purpose, for example `generator(0, "rewire", step)`.

    A stream per purpose (and per step) has two uses. If you add a rule, the order of the data stays the same. And a run
    that is resumed at step 700 draws what it would have drawn, so there is no generator state to save.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *purpose))


def fork(source: torch.Generator) -> torch.Generator:
    """Return a new generator on the CPU that is seeded by one draw from another generator."""
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    return torch.Generator().manual_seed(seed)


class seeded_rng(TorchDispatchMode):  # used like a function
    """Let what draws from torch's global random state (dropout, initial weights) draw from a generator instead.

    It concerns only the thread that enters it, and neither reads nor sets the global state. So trainings in several
    threads draw what they would draw alone. On a CPU the numbers are those that follow `torch.manual_seed` with the
    generator's seed. Another device has a generator of its own with the same seed. You may enter it again, and it
    continues where it was.

    Args:
        generator: what is drawn from. An operation that has another generator keeps it.

    Raises:
        RuntimeError: if something draws that takes no generator, or inside of `torch.utils.checkpoint`, which would
            draw other numbers in the backward pass.

    Example:
        >>> with seeded_rng(generator(0, "weights")):
        ...     weight = torch.nn.Linear(2, 2).weight
        >>> with seeded_rng(generator(0, "weights")):
        ...     print(torch.equal(weight, torch.nn.Linear(2, 2).weight))
        True
    """

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self._generators = {_key_of(generator.device): generator}
        self._seed, self._process = generator.initial_seed(), os.getpid()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if os.getpid() != self._process:  # a worker that a DataLoader has forked, and has given a seed of its own
            return func(*args, **kwargs)
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        device = _device_of(args, kwargs)
        if device.type == "meta":  # no numbers, so none are drawn
            return func(*args, **kwargs)
        if (dropout := _probability_of(func, args, kwargs)) == 0:
            return func(*args, **kwargs)
        _refuse_recomputation(func)
        if func is torch.ops.aten.native_dropout.default and dropout is not None:
            return _dropout(args[0], dropout, self._on(device))
        return _with_generator(func)(*args, **{**kwargs, "generator": self._on(device)})

    def _on(self, device: torch.device) -> torch.Generator:
        key = _key_of(device)
        if key not in self._generators:
            self._generators[key] = torch.Generator(device=device).manual_seed(self._seed)
        return self._generators[key]


def _key_of(device: torch.device) -> tuple[str, int]:
    return device.type, device.index or 0


def _device_of(args: tuple, kwargs: dict[str, Any]) -> torch.device:
    """Return where the numbers are needed: a device that is named, else that of the first tensor, else the CPU."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    values = [kwargs.get("out"), *args, *kwargs.values()]
    return next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))


def _probability_of(func: Any, args: tuple, kwargs: dict[str, Any]) -> float | None:
    """Return with what probability a fused operation drops, or None if it drops nothing. With 0 it draws nothing."""
    names = [argument.name for argument in func._schema.arguments]
    arguments = dict(zip(names, args, strict=False)) | kwargs
    if func is torch.ops.aten.native_dropout.default:
        return arguments["p"] if arguments["train"] in (True, None) else 0.0
    if "dropout_p" in names:
        return arguments.get("dropout_p", 0.0)
    if "dropout" in names:
        return arguments["dropout"] if arguments["train"] else 0.0
    return None


def _with_generator(func: Any) -> Callable[..., Any]:
    """Return the operation itself if it takes a generator, else the overload of it that does."""
    names = [argument.name for argument in func._schema.arguments]
    if "generator" in names:
        return func
    for overload in func.overloadpacket.overloads():
        other = getattr(func.overloadpacket, overload)
        others = [argument.name for argument in other._schema.arguments]
        if "generator" in others and [name for name in others if name != "generator"] == names:
            return other
    raise RuntimeError(
        f"what draws random numbers must take a generator here, got {func}, which draws from torch's global state. "
        "Draw with torch.rand, torch.bernoulli and the like"
    )


def _dropout(x: Tensor, p: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Compute torch's fused dropout, which takes no generator, and return its output and its mask."""
    mask = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p, generator=generator)
    return (x * mask / (1 - p) if p < 1 else torch.zeros_like(x)), mask


def _refuse_recomputation(func: Any) -> None:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == checkpoint.__file__:
            raise RuntimeError(
                f"torch.utils.checkpoint must recompute what it computed, got {func} in it, which would draw other "
                "numbers then. Keep dropout out of it, or train without it"
            )
        frame = frame.f_back
