"""The claims table: 48 facts that papers state, each with the setting that checks it here and a verdict.

A file holds the facts of one topic, and a fact is the function that measures it. A fact that nothing measures says
what it would take.
"""

from collections.abc import Mapping, Sequence

from sparsekit.experiments.claims import (
    allocation,
    before_training,
    continued,
    costs,
    exploration,
    guided,
    initialisation,
    lottery,
    rewiring,
    superposition,
    tricks,
)
from sparsekit.experiments.claims.base import FIRST_SEED, Fact, Trials, fact, facts_in
from sparsekit.experiments.claims.page import page_of, table_lines
from sparsekit.experiments.claims.rows import MeasuredRow, path_of, read, rows_of

TOPICS = (
    allocation,
    before_training,
    continued,
    costs,
    exploration,
    guided,
    initialisation,
    lottery,
    rewiring,
    superposition,
    tricks,
)
FACTS: Mapping[int, Fact] = facts_in(TOPICS)

__all__ = [
    "FACTS",
    "FIRST_SEED",
    "Fact",
    "MeasuredRow",
    "Trials",
    "chosen_facts",
    "fact",
    "facts_in",
    "page_of",
    "path_of",
    "read",
    "rows_of",
    "table_lines",
]


def chosen_facts(facts: Mapping[int, Fact], numbers: Sequence[int] | None) -> list[Fact]:
    """Return the facts of these numbers, or all, in the order of their numbers.

    Raises:
        ValueError: if there is no fact of a number.
    """
    if unknown := sorted(set(numbers or ()) - set(facts)):
        raise ValueError(f"a fact must have a number from 1 to {max(facts)}, got {unknown}. See docs/claims.md")
    return [one for number, one in facts.items() if not numbers or number in numbers]
