"""Which notebook cell made what, so that it ends when the cell is run again."""

import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

_lock = threading.Lock()
_made: dict[str, list[WeakMethod]] = {}  # by cell: what to call as it is run again, for as long as the owners live
_later: list[Callable[[], None]] = []
_heard: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()  # shells that are listened to, and the cell each runs


def when_run_again(action: Callable[[], None]) -> None:
    """Call a method when the cell that is being run now is run again; outside of a notebook, never.

    Cells are told apart by their identity where the front end sends it, else by their text.
    """
    shell = _shell()
    if shell is None:
        return
    _listen(shell)
    if (cell := _cell_of(shell)) is not None:
        with _lock:
            alive = [one for one in _made.get(cell, []) if one() is not None]
            _made[cell] = [*alive, WeakMethod(action)]


def after_this_cell(action: Callable[[], None]) -> None:
    """Call a function when the cell that is being run has ended; outside of a notebook, now."""
    if _shell() is None:
        action()
    else:
        _later.append(action)


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _listen(shell: Any) -> None:
    with _lock:
        if shell not in _heard:
            _heard[shell] = ""
            shell.events.register("pre_run_cell", _begins)
            shell.events.register("post_run_cell", _ends)


def _cell_of(shell: Any) -> str | None:
    if not hasattr(shell, "get_parent"):
        return _heard.get(shell) or None
    request = shell.get_parent() or {}
    return request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code")


def _begins(info: Any) -> None:
    cell = getattr(info, "cell_id", None) or info.raw_cell
    with _lock:
        _heard.update(dict.fromkeys(_heard, cell))
        before = _made.pop(cell, [])
    for method in before:
        if (action := method()) is not None:
            action()


def _ends(result: Any) -> None:
    waiting = _later[:]
    _later.clear()
    for action in waiting:
        action()


if (_running := _shell()) is not None:
    _listen(_running)
