"""The type checker that the tests put around every function of the package."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

# As type checkers see it, an int is a float too; a wrong type is a TypeError, as it is without a checker.
check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
in_one_scope = jaxtyping.jaxtyped


def checked(thing: Callable) -> Callable:
    """Check the arguments and result of a function, or of a dataclass's `__init__`, at every call.

    Within a call every name of a dimension stands for one number. Functions without such names need no scope for them.
    """
    if isinstance(thing, type):
        if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
            thing.__init__ = checked(thing.__init__)
        return thing
    careful = None

    @functools.wraps(thing)
    def call(*args, **kwargs):
        nonlocal careful
        if jaxtyping.config.jaxtyping_disable:
            return thing(*args, **kwargs)
        careful = careful or scoped(checking(thing))
        return careful(*args, **kwargs)

    return call


def checking(function: Callable) -> Callable:
    """Return what checks and calls a function, whose module is complete by now.

    Names that are imported for type checkers only are unknown here and left out. beartype understands `Self` only in
    classes that it decorates whole, which jaxtyping's import hook does not let it do; methods with it stay unchecked.
    """
    hints = {name: known(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    function.__annotations__ = hints
    try:
        return check(function)
    except BeartypeDecorHintPep673Exception:
        return function


def scoped(function: Callable) -> Callable:
    """Return the function itself if none of its hints names a dimension, else one that gives each call a scope."""
    if not any("jaxtyping" in repr(hint) for hint in function.__annotations__.values()):
        return function

    def call(*args, **kwargs):
        with in_one_scope("context"):
            return function(*args, **kwargs)

    return call


def known(hint: Any, names: dict[str, Any]) -> Any:
    """Return what a hint that is written as a string stands for."""
    try:
        return eval(hint, names) if isinstance(hint, str) else hint
    except NameError:
        return Any


def install(package: str) -> None:
    """Check a package, which nobody may have imported yet.

    jaxtyping's hook decorates each function; its own decorator does what ours does at six times the cost (it checks
    arguments twice and binds them once more), which was two fifths of the time of all tests.
    """
    jaxtyping.jaxtyped = lambda typechecker: checked
    jaxtyping.install_import_hook(package, None)
