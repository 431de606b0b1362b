"""Remember which notebook cell made what, so that it ends when the cell is run again."""

import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

_lock = threading.Lock()
_actions: dict[str, list[WeakMethod]] = {}  # by cell: what to call when it is run again, as long as the owners live
_deferred: list[Callable[[], None]] = []
_current_cells: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()  # the cell that each shell we listen to runs


def when_run_again(action: Callable[[], None]) -> None:
    """Call a method when the cell that is being run now is run again. Outside of a notebook it is never called.

    We tell cells apart by their identity where the front end sends it, and by their text otherwise.
    """
    shell = _shell()
    if shell is None:
        return
    _listen(shell)
    if (cell := _cell_of(shell)) is not None:
        with _lock:
            alive = [method for method in _actions.get(cell, []) if method() is not None]
            _actions[cell] = [*alive, WeakMethod(action)]


def after_this_cell(action: Callable[[], None]) -> None:
    """Call a function when the cell that is being run has ended. Outside of a notebook it is called at once."""
    if _shell() is None:
        action()
    else:
        _deferred.append(action)


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _listen(shell: Any) -> None:
    with _lock:
        if shell not in _current_cells:
            _current_cells[shell] = ""
            shell.events.register("pre_run_cell", _on_cell_start)
            shell.events.register("post_run_cell", _on_cell_end)


def _cell_of(shell: Any) -> str | None:
    if not hasattr(shell, "get_parent"):
        return _current_cells.get(shell) or None
    request = shell.get_parent() or {}
    return request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code")


def _on_cell_start(info: Any) -> None:
    cell = getattr(info, "cell_id", None) or info.raw_cell
    with _lock:
        _current_cells.update(dict.fromkeys(_current_cells, cell))
        methods = _actions.pop(cell, [])
    for method in methods:
        if (action := method()) is not None:
            action()


def _on_cell_end(result: Any) -> None:
    actions = _deferred[:]
    _deferred.clear()
    for action in actions:
        action()


if (_running_shell := _shell()) is not None:
    _listen(_running_shell)
