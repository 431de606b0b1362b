"""The last exercise asks for a rule of the reader's own that beats RigL, from seeds that the reader has not tried."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsekit.analysis.evidence.claims import assess_claim
from sparsekit.experiments.course.arena import CONNECTIONS, STEPS, accuracy_on_test, rigl, trained
from sparsekit.experiments.course.exercise import OPEN, Exercise, Results, Verdict, error_text
from sparsekit.layers import densify
from sparsekit.rules.base import check_rule

HIDDEN_SEEDS = range(2000, 2008)
SHAPES = {"weight": ((48, 64), (48, 48), (10, 48)), "bias": ((48,), (48,), (10,))}

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class BeatRigL(Exercise):
    """A rule is trained from hidden seeds. What counts is the networks that it ends with, and no word of the rule's."""

    seconds: ClassVar[float] = 300

    def run(self, answer: Any) -> Results:
        """Train by the rule, and return the networks' weights."""
        if answer is None or answer is ...:
            return [(OPEN, None)]
        try:
            rule = answer(STEPS)
            if rule is None or rule is ...:
                return [(OPEN, None)]
            check_rule(rule)
            networks = trained({"your rule": rule}, HIDDEN_SEEDS)["your rule"]
        except NotImplementedError:
            return [(OPEN, None)]
        except (Exception, SystemExit) as error:  # a rule may do anything
            return [("error", error_text(error))]
        return [("value", weights_of(network)) for network in networks]

    def assess(self, results: Results) -> Verdict:
        """Compare the networks' accuracies with those of RigL from the same seeds."""
        kind, first = results[0] if results else ("error", "nothing")
        if kind == OPEN:
            return self.open()
        if kind == "error":
            return self.wrong(f"Training by your rule raises {first}.")
        networks = [value for _, value in results]
        if len(networks) != len(HIDDEN_SEEDS) or not all(map(_is_network, networks)):
            return self.wrong("Your rule must return trained networks of the arena, got something else.")
        if (most := max(map(count_of, networks))) > CONNECTIONS:
            return self.wrong(f"The budget is {CONNECTIONS} connections, and your rule ends with {most}.")
        return self._compared([accuracy_of_weights(weights) for weights in networks])

    def _compared(self, ours: list[float]) -> Verdict:
        theirs = rigls_accuracies()
        if ours == list(theirs):
            return self.wrong("Your rule ends where RigL ends, from each seed. Change what it drops or grows.")
        claim = assess_claim("", [x / 100 for x in ours], [x / 100 for x in theirs])
        seeds, difference, t, threshold = claim.cells
        means = f"it reads {sum(ours) / len(ours):.1f} of 100 digits, and RigL {sum(theirs) / len(theirs):.1f}"
        measured = f"{means} ({difference}, t = {t}, threshold {threshold}, n = {seeds} seeds)."
        if claim.verdict == "reproduced":
            return self.right(f"your rule beats RigL, since {measured}")
        why = "The seeds differ too much to say that it beats RigL." if claim.mean > 0 else "It must be ahead."
        return self.wrong(f"{measured[0].upper()}{measured[1:]} {why}")


@cache
def rigls_accuracies() -> tuple[float, ...]:
    """Return what RigL reaches from the hidden seeds, in percent. It takes some seconds the first time."""
    networks = trained({"RigL": rigl()}, HIDDEN_SEEDS)["RigL"]
    return tuple(accuracy_of_weights(weights_of(network)) for network in networks)


def weights_of(network: nn.Module) -> Weights:
    """Return a network's weights and biases, dense and with names like `0.weight`."""
    layers = [module for module in densify(network).modules() if isinstance(module, nn.Linear)]
    return {
        f"{number}.{kind}": getattr(layer, kind).detach().clone()
        for number, layer in enumerate(layers)
        for kind in SHAPES
    }


def count_of(weights: Weights) -> int:
    """Return the number of connections whose weight is not zero."""
    return sum(int(weights[f"{number}.weight"].count_nonzero()) for number in range(3))


def accuracy_of_weights(weights: Weights) -> float:
    """Return the percentage of the test digits that a network with these weights reads."""
    return accuracy_on_test(_forward(weights))


def _forward(weights: Weights) -> Callable[[Tensor], Tensor]:
    def outputs(inputs: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for number in range(3):
            hidden = F.linear(hidden, weights[f"{number}.weight"], weights[f"{number}.bias"])
            hidden = F.relu(hidden) if number < 2 else hidden
        return hidden

    return outputs


def _is_network(value: Any) -> bool:
    """Whether a value is the weights of an arena's network. It may come from a process that we do not trust."""
    if not isinstance(value, Mapping):
        return False
    expected = {f"{number}.{kind}": shape for kind, shapes in SHAPES.items() for number, shape in enumerate(shapes)}
    return set(value) == set(expected) and all(
        isinstance(one := value[name], Tensor)
        and one.shape == shape
        and one.dtype == torch.float32
        and bool(one.isfinite().all())
        for name, shape in expected.items()
    )


MY_RULE = BeatRigL(
    name="my_rule",
    notebook="13",
    hints=(
        "Look at a network that RigL has trained. How many of its 293 connections lie on a path from a pixel to a "
        "digit, and what are the others good for?",
        "A connection on no path to a digit has a gradient of exactly zero, which `view.grads` shows. RigL drops weak "
        "connections, but it keeps strong ones that nobody listens to.",
        "Write a drop score that returns `view.values.abs() * (view.grads != 0)`, and give it to "
        "`RigL(stop=..., every=25, drop=YourScore())`.",
    ),
)

EXERCISES = (MY_RULE,)
