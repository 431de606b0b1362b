"""Named random streams: the same seed and purpose give the same numbers, whatever else draws numbers."""

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose: a hash of the seed and the names.

    Example:
        >>> derive(0, "data", 3) == derive(0, "data", 3), derive(0, "data", 3) == derive(0, "rewire", 3)
        (True, False)
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return an independent generator for one purpose, for example `generator(0, "rewire", step)`.

    A stream per purpose (and per step) has two uses: adding a rule never changes the order of the data, and a run that
    is resumed at step 700 draws what it would have drawn, with no generator state to save.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *purpose))
