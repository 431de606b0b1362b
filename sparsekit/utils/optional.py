"""Packages that only some users need are imported when they are used, with a sentence where they are missing."""

import importlib
from types import ModuleType


def require(module: str, *, install: str) -> ModuleType:
    """Import and return a module that may be missing.

    Args:
        module: its dotted name.
        install: what pip must be told.

    Raises:
        ImportError: if it cannot be imported.

    Example:
        >>> require("json", install="json").dumps([1])
        '[1]'
        >>> require("nosuch", install="nosuch")
        Traceback (most recent call last):
            ...
        ImportError: nosuch must be installed, got No module named 'nosuch'. Run: pip install "nosuch"
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{module} must be installed, got {error}. Run: pip install "{install}"') from error
