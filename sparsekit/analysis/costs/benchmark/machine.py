"""The machine of the measurements: processor, versions and settings, but nothing that names a person's machine."""

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

TELLING_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
PACKAGES = ("torch", "numba", "numpy", "scipy", "sparselab")
CPU_INFO = Path("/proc/cpuinfo")


def about_machine() -> dict[str, str]:
    """Return what a reader must know to assess the numbers, in words.

    Example:
        >>> sorted(about_machine())[:3]
        ['cores', 'date', 'dense kernels']
    """
    info = _cpu_info()
    return {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(flag for flag in TELLING_FLAGS if flag in info.get("flags", "").split()),
        "cores": str(os.cpu_count()),
        "dense kernels": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version_of(name) for name in PACKAGES},
        "large pages": "asked for" if os.environ.get("THP_MEM_ALLOC_ENABLE") == "1" else "not asked for",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _cpu_info() -> dict[str, str]:
    """Read the first processor's lines, on Linux."""
    if not CPU_INFO.exists():
        return {}
    first = CPU_INFO.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
