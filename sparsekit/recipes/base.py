"""What recipes share: epochs become steps, and a rule's name becomes a rule that fits the training's length."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sparsekit.datasets import count_batches
from sparsekit.rules import Rule, Static, make_rule, settings_of
from sparsekit.scores import make_score
from sparsekit.train.experiment import Experiment
from sparsekit.tricks import Trick, make_trick


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
        density: share of the weights that exist; not looked at for `"dense"`.
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
        final = {"final": density} if "final" in settings_of(rule) else {}
        made = make_rule(rule, total_steps=total_steps, **{**final, **rule_settings})
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
