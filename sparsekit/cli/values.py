"""Read settings of rules, scores and tricks, and names of kinds, from the text of a command line."""

import ast
import inspect
import types
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import typer

from sparsekit.cli.options import Autocast, Device, Init
from sparsekit.utils.checks import WORDS, suits, type_in_words

if TYPE_CHECKING:
    from sparsekit.experiments import Experiment

CONSTANTS = {"true": True, "false": False, "none": None}


def pairs_of(settings: Iterable[str]) -> dict[str, str]:
    """Split `name=value` pairs.

    Raises:
        ValueError: if a text is no such pair.
    """
    pairs = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"--set must look like name=value, got {setting!r}. For example, --set every=50")
        pairs[name] = text
    return pairs


def experiment_of(recipe: str, rule: str, pairs: dict[str, str], root: Path | None, **settings: Any) -> "Experiment":
    """Return a recipe's experiment with a rule, whose settings are the pairs."""
    from sparsekit.experiments.recipes import recipe_named

    return recipe_named(recipe, root)(rule=rule, rule_settings=rule_settings_of(rule, pairs), **settings)


def init_of(init: Init | None) -> dict[str, Any]:
    """Return the setting of the initial weights, or nothing, so that a recipe's own stays."""
    return {} if init is None else {"init": init.value}


def autocast_of(autocast: Autocast | None) -> dict[str, Any]:
    """Return the setting of mixed precision, or nothing, so that a recipe's own stays."""
    names = {Autocast.bf16: "bfloat16", Autocast.fp16: "float16"}
    return {} if autocast is None else {"autocast": names[autocast]}


def place(device: Device, compile: bool, storage: str = "masked") -> None:
    """Let this process train on a device, and say so where it is no CPU.

    Raises:
        ValueError: if there is no such device.
    """
    from sparsekit.utils.devices import choose_device, set_for_process

    set_for_process(device.value, compile=compile)
    if (where := choose_device(device.value, storage=storage)).type != "cpu":
        typer.echo(f"training on {where}", err=True)


def rule_settings_of(rule: str, pairs: dict[str, str]) -> dict[str, Any]:
    """Read each text as the type that its rule takes. The recipe refuses the settings that no rule knows."""
    if not pairs or rule == "dense":
        return dict(pairs)
    hints = _hints(rule)
    return {name: _value(rule, name, text, hints[name]) if name in hints else text for name, text in pairs.items()}


def tricks_of(tricks: list[str], pairs: dict[str, str]) -> tuple[tuple[Any, ...], dict[str, str]]:
    """Make the named tricks with their settings (`trick.setting=value`). Return them and the other pairs.

    Raises:
        ValueError: if there is no such trick or setting, or a setting is for a trick that is not named.
    """
    from sparsekit.tricks import make_trick

    settings, rest = _settings_of("trick", tricks, pairs)
    return tuple(make_trick(trick, **_read("trick", trick, texts)) for trick, texts in settings.items()), rest


def score_of(score: str | None, pairs: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Make the named score, if any, with its settings (`score.setting=value`). Return it and the other pairs.

    Raises:
        ValueError: if there is no such score or setting, or a setting is for a score that is not named.
    """
    from sparsekit.scores import make_score

    settings, rest = _settings_of("score", [] if score is None else [score], pairs)
    scores = [make_score(name, **_read("score", name, texts)) for name, texts in settings.items()]
    return next(iter(scores), None), rest


def _settings_of(
    kind: str, owners: list[str], pairs: dict[str, str]
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the settings of each owner by their short names, and the other pairs."""
    from sparsekit.utils.registry import names

    settings: dict[str, dict[str, str]] = {owner: {} for owner in owners}
    rest = {}
    for name, text in pairs.items():
        owner, dot, setting = name.partition(".")
        if dot and owner not in settings and owner in names(kind):
            raise ValueError(f"--set {name} must come with its {kind}, got no --{kind} {owner}. Add it")
        if owner in settings and dot:
            settings[owner][setting] = text
        else:
            rest[name] = text
    return settings, rest


def _read(kind: str, owner: str, texts: dict[str, str]) -> dict[str, Any]:
    """Read each text as the type that its trick or score takes. A number for a schedule becomes a constant one."""
    from sparsekit.schedules import Constant, Schedule
    from sparsekit.utils.registry import get

    parameters = _parameters(get(kind, owner))
    settings = {}
    for name, text in texts.items():
        if name not in parameters:
            raise ValueError(f"settings of {owner} must be among {', '.join(parameters) or '(none)'}, got {name!r}")
        hint = parameters[name].annotation
        number = _literal(text)
        is_constant = hint is Schedule and suits(number, float)
        settings[name] = Constant(number) if is_constant else _value(owner, name, text, hint)
    return settings


def _parameters(make: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class or function, and of the class that it hands its settings on to."""
    signature = inspect.signature(make, eval_str=True)
    parameters = dict(signature.parameters)
    if parameters.pop("settings", None) is None:
        return parameters
    return {**inspect.signature(signature.return_annotation, eval_str=True).parameters, **parameters}


def _hints(rule: str) -> dict[str, Any]:
    from sparsekit.rules import DropGrow, settings_of
    from sparsekit.utils.registry import get

    hints = {}
    for make in (DropGrow, get("rule", rule)):
        parameters = inspect.signature(make, eval_str=True).parameters
        hints |= {name: parameter.annotation for name, parameter in parameters.items()}
    return {name: hints[name] for name in settings_of(rule)}


def _value(rule: str, name: str, text: str, hint: Any) -> Any:
    """Return a setting's value, which is a registered part, a Python literal, or the text itself."""
    from sparsekit.utils.registry import get, kinds, names

    is_part = name in kinds()
    if is_part and text in names(name):
        return get(name, text)()
    value = _literal(text)
    if not suits(value, hint):
        expected = f"one of {', '.join(names(name))}" if is_part else _words(hint)
        raise ValueError(f"--set {name} of {rule} must be {expected}, got {text!r}")
    return value


def _literal(text: str) -> Any:
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def _words(hint: Any) -> str:
    """Describe in words what a type takes."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    can_be_typed = all(part in WORDS or get_origin(part) is Literal for part in parts)
    return type_in_words(hint) if can_be_typed else f"{type_in_words(hint)}, which only Python can give"


def plural(kind: str) -> str:
    """Return what `sparsekit list` calls a kind.

    Example:
        >>> plural("rule"), plural("lottery"), plural("data")
        ('rules', 'lotteries', 'data')
    """
    if kind == "data" or kind.endswith("s"):
        return kind
    return f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"


def singular(kind: str, known: list[str]) -> str:
    """Return a known kind by its name or plural.

    Raises:
        ValueError: if there is no such kind. The message lists them.
    """
    for name in known:
        if kind in (name, plural(name)):
            return name
    raise ValueError(f"there must be something to list: {', '.join(map(plural, known))}, got {kind!r}")
