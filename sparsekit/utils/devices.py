"""Where a training runs, and whether torch compiles its network. Neither is a part of what an experiment is."""

import os

import torch

CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICE, COMPILE = "SPARSEKIT_DEVICE", "SPARSEKIT_COMPILE"  # environment variables, which child processes have too


def named_device(name: str | None = None) -> str:
    """Return the name of a device, or if there is none that in `SPARSEKIT_DEVICE`, or `"cpu"`.

    Raises:
        ValueError: if it is none of `DEVICES`, of which `cuda` may have a number, as in `cuda:1`.

    Example:
        >>> named_device("cuda:1")
        'cuda:1'
    """
    name = name or os.environ.get(DEVICE) or "cpu"
    kind, colon, number = name.partition(":")
    if kind not in DEVICES or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, cuda:1, ..., got {name!r}. Choose one of them")
    return name


def choose_device(name: str | None = None, *, storage: str = "masked") -> torch.device:
    """Return the device to train on.

    Args:
        name: one of `DEVICES`, or None for `named_device()`. With `"auto"` it is a GPU if there is one, but csr layers
            stay on the CPU, for which their kernels are compiled.
        storage: of the sparse layers.

    Raises:
        ValueError: if there is no such device here, or it cannot hold sparse layers.

    Example:
        >>> choose_device("auto", storage="csr")
        device(type='cpu')
    """
    name = named_device(name)
    if name == "auto":
        return torch.device("cuda" if storage != "csr" and torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "mps":
        raise ValueError(
            "the device must have float64 numbers, in which layers keep the positions of their connections, got mps. "
            "Use cpu"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"the device must be one that torch finds here, got {name} and {count} GPUs. Use auto or cpu")
    return device


def compiles(wanted: bool | None = None) -> bool:
    """Return whether networks are compiled, which `SPARSEKIT_COMPILE` says where nobody else does."""
    return os.environ.get(COMPILE) == "1" if wanted is None else wanted


def trains_alone() -> bool:
    """Return whether each run must be trained by itself, because populations are not compiled and need a CPU."""
    return compiles() or named_device().partition(":")[0] not in ("auto", "cpu")


def set_for_process(device: str, *, compile: bool) -> None:
    """Set where this process and its children train from now on.

    Raises:
        ValueError: if there is no such device.
    """
    choose_device(device)
    os.environ[DEVICE], os.environ[COMPILE] = device, str(int(compile))
