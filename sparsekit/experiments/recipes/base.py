"""What recipes share: epochs become steps, and a rule's name becomes a rule that fits the training's length."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from sparsekit.datasets import count_batches
from sparsekit.experiments.experiment import Experiment
from sparsekit.rules import Rule, Static, make_rule, settings_of
from sparsekit.scores import make_score
from sparsekit.topology.allocation import check_density
from sparsekit.tricks import Trick, make_trick

SMALL_GROUP = 10  # inputs; with larger ones the shorter group at a row's end, which keeps as many, would weigh more


def experiment(
    recipe: str,
    *,
    rule: str | Rule,
    density: float,
    num_train: int,
    epochs: int,
    rule_settings: dict[str, Any],
    given: dict[str, Any],
    **defaults: Any,
) -> Experiment:
    """Return an experiment whose rule, where it is only named, is set up for the number of steps it will have.

    Args:
        recipe: the name its run folder begins with.
        rule: a registered name, a rule, or `"dense"` for the network with all its weights.
        density: share of the weights that exist; not looked at for `"dense"`. A rule of n among m inputs gets the
            groups that come nearest to it, unless `rule_settings` name some.
        num_train: training examples of the data set.
        epochs: passes over them.
        rule_settings: settings for a rule given by name.
        given: fields of `Experiment` that the reader chose; `score` and each of `tricks` may be registered names.
        defaults: the recipe's own, for those not given; `batch_size` among them.

    Raises:
        TypeError: if something given is no field of `Experiment`.
        ValueError: if settings come with a rule that is already made, or with `"dense"`, or are unknown to the rule.
    """
    _check_fields(given, rule)
    settings = {**defaults, **given}
    if isinstance(rule, Rule) or rule == "dense":
        if rule_settings:
            raise ValueError(
                f"settings must come with a rule's name, got {', '.join(rule_settings)} with {rule!r}; "
                "use dataclasses.replace on the rule"
            )
        made, density = (rule, density) if isinstance(rule, Rule) else (Static(), 1.0)
    else:
        total_steps = epochs * count_batches(num_train, settings["batch_size"])
        made = make_rule(
            rule, total_steps=total_steps, **{**_of_density(rule, density, rule_settings), **rule_settings}
        )
    if isinstance(settings.get("score"), str):
        settings["score"] = make_score(settings["score"])
    settings["tricks"] = _tricks(settings.get("tricks", ()))
    return Experiment(recipe=recipe, rule=made, density=density, epochs=epochs, **settings)


def with_defaults(rule: str | Rule, given: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return the settings given for a named rule, with a recipe's defaults where the rule knows them."""
    if isinstance(rule, Rule) or rule == "dense":
        return given
    known = settings_of(rule)
    return {**{key: value for key, value in defaults.items() if key in known}, **given}


def _of_density(rule: str, density: float, given: Iterable[str]) -> dict[str, Any]:
    """Return the settings in which a density reaches a named rule, but for groups where some are given."""
    known = set(settings_of(rule))
    settings: dict[str, Any] = {"final": density} if "final" in known else {}
    if {"n", "m"} <= known and not {"n", "m"} & set(given):
        settings["n"], settings["m"] = _nearest_groups(density)
    return settings


def _nearest_groups(density: float) -> tuple[int, int]:
    """Return the n of m nearest to a density: one of any number, or several of a small group; the smallest of equals.

    Example:
        >>> [_nearest_groups(density) for density in (0.02, 0.05, 0.4, 0.5, 0.75)]
        [(1, 50), (1, 20), (2, 5), (1, 2), (3, 4)]
    """
    check_density(density)
    small = [(n, m) for m in range(1, SMALL_GROUP + 1) for n in range(1, m + 1)]
    return min([*small, (1, round(1 / density))], key=lambda group: abs(group[0] / group[1] - density))


def _tricks(given: str | Trick | Sequence[str | Trick]) -> tuple[Trick, ...]:
    several = (given,) if isinstance(given, str | Trick) else given
    return tuple(make_trick(trick) if isinstance(trick, str) else trick for trick in several)


def _check_fields(given: dict[str, Any], rule: str | Rule) -> None:
    fields = [field.name for field in dataclasses.fields(Experiment) if field.name != "recipe"]
    unknown = {key: value for key, value in given.items() if key not in fields}
    if unknown:
        way = _way_to_set(unknown, rule) or f"choose among {', '.join(fields)}"
        raise TypeError(f"settings of a recipe must be fields of Experiment, got {', '.join(unknown)}; {way}")


def _way_to_set(unknown: dict[str, Any], rule: str | Rule) -> str:
    """Say where a rule's setting or the learning rate goes, or nothing."""
    known = [] if rule == "dense" else settings_of(rule) if isinstance(rule, str) else vars(rule)
    of_rule = {key: value for key, value in unknown.items() if key in known}
    if of_rule and isinstance(rule, Rule):
        return f"use dataclasses.replace(rule, {', '.join(f'{key}={value!r}' for key, value in of_rule.items())})"
    if of_rule:
        return f"what belongs to the rule goes into rule_settings={of_rule!r}"
    return f"give learning_rate=schedules.Cosine({unknown['lr']!r})" if "lr" in unknown else ""
