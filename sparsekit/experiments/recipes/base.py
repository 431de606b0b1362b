"""A recipe is a value that makes complete experiments. It turns epochs into steps, and a rule's name into a rule.

A recipe knows how many examples its data set has, so a named rule fits the training's length before data are loaded.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparsekit.datasets import count_batches
from sparsekit.experiments.experiment import Experiment
from sparsekit.rules import Rule, Static, make_rule, settings_of
from sparsekit.schedules import Schedule
from sparsekit.scores import make_score
from sparsekit.topology.allocation import check_density
from sparsekit.tricks import Trick, make_trick
from sparsekit.utils.registry import register

# Inputs of a small group. In larger ones the shorter group at a row's end, which keeps as many, would weigh more.
SMALL_GROUP = 10


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A set-up under a name. Calling it gives an `Experiment`, with whatever you choose in place of its defaults.

    Args:
        recipe: the name that its run folders begin with.
        docs: what it trains, with its `Source:`. It becomes the docstring, where the options of a call are listed.
        data: data set, by name.
        num_train: training examples of the data set.
        model: network, by name.
        density: share of the weights that exist.
        epochs: passes over the training examples.
        batch_size: examples per step.
        every: steps between two rewirings, for rules that have such a setting.
        rule: a registered name.
        learning_rate: of the number of steps, where it is not the experiment's default.
        settings: further fields of `Experiment`.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> digits_mlp(rule="set", density=0.02).rule.stop
        855
    """

    recipe: str
    docs: str = field(repr=False)
    data: str
    num_train: int
    model: str = "mlp"
    density: float
    epochs: int
    batch_size: int
    every: int
    rule: str = "rigl"
    learning_rate: Callable[[int], Schedule] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        text, _, source = inspect.cleandoc(self.docs).partition("Source:")
        object.__setattr__(self, "__doc__", f"{text}{self._options()}\n\nSource:{source}")

    def __call__(
        self,
        *,
        rule: str | Rule | None = None,
        density: float | None = None,
        seed: int = 0,
        epochs: int | None = None,
        rule_settings: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Experiment:
        """Return an experiment whose rule, where it is only named, is set up for the number of steps it will have.

        Args:
            rule: a registered rule's name, a rule, or `"dense"` for the network with all its weights.
            density: share of the weights that exist. It does not count for `"dense"`. A rule of n among m inputs gets
                the groups that come nearest to it, unless `rule_settings` name some.
            seed: of everything random.
            epochs: passes over the training examples.
            rule_settings: settings for a rule given by name.
            settings: other fields of `Experiment`. `score` and each of `tricks` may be registered names.

        Raises:
            TypeError: if a setting is no field of `Experiment`.
            ValueError: if settings come with a rule that is already made, or with `"dense"`, or are unknown to the
                rule.
        """
        rule = self.rule if rule is None else rule
        density = self.density if density is None else density
        epochs = self.epochs if epochs is None else epochs
        _check_fields(settings, rule)
        recipe = {"data": self.data, "model": self.model, "batch_size": self.batch_size, **self.settings}
        settings = {**recipe, **settings}
        steps = epochs * self._batches(settings)
        if self.learning_rate is not None:
            settings.setdefault("learning_rate", self.learning_rate(steps))
        if isinstance(settings.get("score"), str):
            settings["score"] = make_score(settings["score"])
        settings["tricks"] = _tricks(settings.get("tricks", ()))
        return Experiment(
            recipe=self.recipe,
            rule=self._rule(rule, density, rule_settings or {}, steps),
            density=1.0 if rule == "dense" else density,
            seed=seed,
            epochs=epochs,
            **settings,
        )

    def _rule(self, rule: str | Rule, density: float, settings: Mapping[str, Any], steps: int) -> Rule:
        """Return the rule itself, or the named one with settings that fit the density and the training's length."""
        if isinstance(rule, Rule) or rule == "dense":
            if settings:
                raise ValueError(
                    f"settings must come with a rule's name, got {', '.join(settings)} with {rule!r}. "
                    "Use dataclasses.replace on the rule"
                )
            return rule if isinstance(rule, Rule) else Static()
        every = {"every": self.every} if "every" in settings_of(rule) else {}
        defaults = {**_of_density(rule, density, settings), **every}
        return make_rule(rule, total_steps=steps, **{**defaults, **settings})

    def _batches(self, settings: Mapping[str, Any]) -> int:
        num_train = settings.get("data_settings", {}).get("num_train", self.num_train)
        return count_batches(num_train, settings["batch_size"])

    def _options(self) -> str:
        """Return the docstring's section on the options of a call, with the recipe's defaults."""
        return "\n".join(
            [
                "Args:",
                f'    rule: a registered rule\'s name, a rule, or `"dense"` ({self.rule}).',
                f"    density: share of the weights that exist ({self.density:g}).",
                "    seed: of everything random (0).",
                f"    epochs: passes over the {self.num_train:,} training examples ({self.epochs}).",
                f'    rule_settings: settings of the named rule, for example `{{"every": {self.every}}}`.',
                "    settings: any other field of `Experiment`.",
            ]
        )


def register_recipe(recipe: Recipe, *, trains: str | None = None) -> Recipe:
    """Register a recipe under its own name, and return it. For `trains` see `registry.Facts`."""
    return register("recipe", recipe.recipe, trains=trains)(recipe)


def _of_density(rule: str, density: float, settings: Iterable[str]) -> dict[str, Any]:
    """Return the settings that tell a named rule the density. Groups that are given stay as they are."""
    names = set(settings_of(rule))
    of_density: dict[str, Any] = {"final": density} if "final" in names else {}
    if {"n", "m"} <= names and not {"n", "m"} & set(settings):
        of_density["n"], of_density["m"] = _nearest_groups(density)
    return of_density


def _nearest_groups(density: float) -> tuple[int, int]:
    """Return the n of m nearest to a density, where n is 1 or the group is small. Of equals, take the smallest.

    Example:
        >>> [_nearest_groups(density) for density in (0.02, 0.05, 0.4, 0.5, 0.75)]
        [(1, 50), (1, 20), (2, 5), (1, 2), (3, 4)]
    """
    check_density(density)
    small = [(n, m) for m in range(1, SMALL_GROUP + 1) for n in range(1, m + 1)]
    return min([*small, (1, round(1 / density))], key=lambda group: abs(group[0] / group[1] - density))


def _tricks(tricks: str | Trick | Sequence[str | Trick]) -> tuple[Trick, ...]:
    several = (tricks,) if isinstance(tricks, str | Trick) else tricks
    return tuple(make_trick(trick) if isinstance(trick, str) else trick for trick in several)


def _check_fields(settings: Mapping[str, Any], rule: str | Rule) -> None:
    fields = [field.name for field in dataclasses.fields(Experiment) if field.name != "recipe"]
    unknown = {key: value for key, value in settings.items() if key not in fields}
    if unknown:
        advice = _advice_on(unknown, rule) or f"Choose among {', '.join(fields)}"
        raise TypeError(f"settings of a recipe must be fields of Experiment, got {', '.join(unknown)}. {advice}")


def _advice_on(unknown: Mapping[str, Any], rule: str | Rule) -> str:
    """Say where a rule's setting or the learning rate goes, or nothing."""
    names = [] if rule == "dense" else settings_of(rule) if isinstance(rule, str) else vars(rule)
    of_rule = {key: value for key, value in unknown.items() if key in names}
    if of_rule and isinstance(rule, Rule):
        return f"Use dataclasses.replace(rule, {', '.join(f'{key}={value!r}' for key, value in of_rule.items())})"
    if of_rule:
        return f"What belongs to the rule goes into rule_settings={of_rule!r}"
    return f"Give learning_rate=schedules.Cosine({unknown['lr']!r})" if "lr" in unknown else ""
