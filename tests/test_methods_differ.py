"""Methods that must differ do, and those that must be the same are: a setting that is lost somewhere shows here."""

import itertools

import torch
from helpers import batch_for, mlp, train
from rule_helpers import RULES, begun

import sparsekit as sk
from sparsekit.layers import active_topology
from sparsekit.rules import GMP, GraNet, Rule, make_rule, settings_of
from sparsekit.scores import make_score, prune

STEPS = 14
# `DropGrow` as it comes is RigL; squares of the same numbers rank as they do, as long as there is one batch.
SAME = {"rule": {("drop-grow", "rigl")}, "score": {("snip", "taylor")}}


def trained(rule: Rule) -> sk.Topology:
    """What a small network uses after a few steps of a rule: the same network, batches and draws for all."""
    model = begun(lambda: mlp(8, 20, 20, 3), "masked", rule, density=0.25)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rule, (8,), steps=STEPS)
    return active_topology(model)


def by_name(name: str) -> Rule:
    settings = {"every": 3, "final": 0.25, "threshold": -2.0 if name == "str" else 0.05}
    known = settings_of(name)
    return make_rule(name, total_steps=STEPS, **{key: value for key, value in settings.items() if key in known})


def same_pairs(results: dict[str, sk.Topology]) -> set[tuple[str, str]]:
    return {(a, b) for a, b in itertools.combinations(sorted(results), 2) if results[a] == results[b]}


def test_no_two_rules_end_with_the_same_connections_but_those_that_are_the_same_rule():
    assert same_pairs({name: trained(by_name(name)) for name in RULES}) == SAME["rule"]


def test_no_two_scores_keep_the_same_connections_but_those_that_rank_alike():
    batches = [batch_for((8,), size=32)]
    kept = {name: prune(mlp(8, 20, 20, 3), make_score(name), 0.1, batches=batches) for name in sk.names("score")}
    assert same_pairs(kept) == SAME["score"]


def test_gradual_pruning_is_granet_that_begins_dense_and_exchanges_nothing():
    settings = {"stop": 10, "every": 3, "final": 0.25}
    assert trained(GMP(**settings)) == trained(GraNet(initial=1.0, drop_fraction=0.0, **settings))
    assert trained(GMP(**settings)) != trained(GraNet(initial=1.0, drop_fraction=0.5, **settings))
