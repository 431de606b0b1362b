"""The exercises of the course by name, a file for each group of notebooks."""

from sparsekit.experiments.course.exercise import Exercise
from sparsekit.experiments.course.tasks import (
    beyond_trials,
    capstone,
    counting,
    landscape_trials,
    landscapes,
    language,
    rewiring,
    ticket_trials,
    tickets,
    trials,
)

TRIALS = (trials, ticket_trials, landscape_trials, beyond_trials)
TOPICS = (counting, rewiring, tickets, landscapes, *TRIALS, capstone, language)
EXERCISES: dict[str, Exercise] = {one.name: one for topic in TOPICS for one in topic.EXERCISES}


def exercise(name: str) -> Exercise:
    """Return the exercise of this name.

    Raises:
        ValueError: if there is none. The message lists the known ones.

    Example:
        >>> exercise("count_of").notebook
        '00'
    """
    if name not in EXERCISES:
        raise ValueError(f"an exercise must be one of {', '.join(EXERCISES)}, got {name!r}. Choose one of them")
    return EXERCISES[name]


def exercises(notebook: str = "") -> list[Exercise]:
    """Return all exercises in the order of their notebooks, or those of one notebook.

    Example:
        >>> [one.name for one in exercises("05")]
        ['connections_at', 'sturdy_level', 'patient_levels']
    """
    found = [one for one in EXERCISES.values() if one.notebook.startswith(notebook)]
    return sorted(found, key=lambda one: one.notebook)
