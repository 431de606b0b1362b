"""The type checker that the tests put around every function of the package."""

from collections.abc import Callable

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

# As type checkers see it, an int is a float too.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable) -> Callable:
    """Check the arguments and result of a function at every call.

    beartype understands `Self` in classes that it decorates whole, which jaxtyping's import hook does not let it do;
    the few methods that return `Self` stay unchecked.
    """
    try:
        return check(function)
    except BeartypeDecorHintPep673Exception:
        return function
