"""What the command line reads: settings of rules as text, and names of kinds."""

import ast
import inspect
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

CONSTANTS = {"true": True, "false": False, "none": None}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "none"}


def pairs_of(settings: Iterable[str]) -> dict[str, str]:
    """Split `name=value` pairs.

    Raises:
        ValueError: if a text is no such pair.
    """
    pairs = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"--set must look like name=value, got {setting!r}; for example --set every=50")
        pairs[name] = text
    return pairs


def rule_settings_of(rule: str, pairs: dict[str, str]) -> dict[str, Any]:
    """Read each text as the type that its rule wants; settings no rule knows are left to the recipe to refuse."""
    if not pairs or rule == "dense":
        return dict(pairs)
    hints = _hints(rule)
    return {name: _value(rule, name, text, hints[name]) if name in hints else text for name, text in pairs.items()}


def _hints(rule: str) -> dict[str, Any]:
    from sparsekit.registry import get
    from sparsekit.rules import DropGrow, settings_of

    hints = {}
    for make in (DropGrow, get("rule", rule)):
        parameters = inspect.signature(make, eval_str=True).parameters
        hints |= {name: parameter.annotation for name, parameter in parameters.items()}
    return {name: hints[name] for name in settings_of(rule)}


def _value(rule: str, name: str, text: str, hint: Any) -> Any:
    """Return a setting's value: the name of a registered part, or a Python literal, or the text itself."""
    from sparsekit.registry import get, kinds, names

    is_part = name in kinds()
    if is_part and text in names(name):
        return get(name, text)()
    value = _literal(text)
    if not _suits(value, hint):
        wanted = f"one of {', '.join(names(name))}" if is_part else _words(hint)
        raise ValueError(f"--set {name} of {rule} must be {wanted}, got {text!r}")
    return value


def _literal(text: str) -> Any:
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def _suits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers are numbers, true and false are not."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_suits(value, one) for one in get_args(hint))
    if hint in (Any, inspect.Parameter.empty):
        return True
    wanted = (int, float) if hint is float else origin or hint
    return isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    """Say in words what a type asks for."""
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, get_args(hint)))
    return WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}, which only Python can give")


def plural(kind: str) -> str:
    """Return what `sparsekit list` calls a kind."""
    return kind if kind == "data" or kind.endswith("s") else f"{kind}s"


def singular(kind: str, known: list[str]) -> str:
    """Return a known kind by its name or plural.

    Raises:
        ValueError: if there is no such kind; the message lists them.
    """
    for name in known:
        if kind in (name, plural(name)):
            return name
    raise ValueError(f"there must be something to list: {', '.join(map(plural, known))}, got {kind!r}")
