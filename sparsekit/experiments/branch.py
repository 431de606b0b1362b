"""`branch` goes back to a rewiring of a run that is recorded, and continues from there in another way."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.feed import data_of, total_steps
from sparsekit.experiments.fork import fork
from sparsekit.experiments.record import kept_state, read_experiment
from sparsekit.experiments.run import run
from sparsekit.rewiring.journal import Journal
from sparsekit.rules import Rule, make_rule, settings_of
from sparsekit.rules.base import check_rule
from sparsekit.rules.presets import decaying
from sparsekit.rules.switched import Switched, last_of
from sparsekit.schedules import Schedule
from sparsekit.train.history import History
from sparsekit.utils.checks import check_integer


def branch(
    parent: str | Path | History,
    folder: str | Path | None = None,
    *,
    rewiring: int,
    rule: str | Rule | None = None,
    drop_fraction: float | Schedule | None = None,
    density: float | None = None,
    root: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Go back to a rewiring of a run, and continue from there with another rule, drop fraction or density.

    The branch is a run with a folder of its own, and nothing in the folder of its parent changes. Without a change it
    ends bit for bit as its parent did. If the parent was trained by `run(..., keep_states=True)`, the branch costs only
    what comes after the rewiring. Otherwise it trains the steps before it once more. (If a population trained the
    parent, the branch then equals it up to rounding.)

    Args:
        parent: a run's folder, or the history that `run` returned.
        folder: where runs are kept. None takes the folder that the parent lies in.
        rewiring: number of the rewiring after which the branch begins, as in a journal. 0 is before the first one.
        rule: what rewires from there on. A name is set up as the parent's rule is. None keeps the parent's.
        drop_fraction: share of the connections exchanged from there on. A number decays to 0 along a cosine over the
            whole training, so that at the branch it is smaller already.
        density: share of the weights from there on. The weakest connections go, or the rule grows new ones.
        root: the data folder, as in `datasets.load`.
        progress: show a bar.

    Returns:
        The history of the branch, which begins with what both have in common.

    Raises:
        TypeError: if the rule is none, or the rewiring no integer.
        ValueError: if there is no such rewiring, the rule cannot follow the parent's, or has no drop fraction.
        FileNotFoundError: if there is no such run.
        CheckpointError: if a file of the parent is damaged. Nothing is written then.

    Example:
        >>> history = run(digits_small(), "runs", keep_states=True)  # doctest: +SKIP
        >>> branched = branch(history, rewiring=12, rule="set")  # doctest: +SKIP
    """
    parent = folder_of(parent)
    folder = parent.parent if folder is None else Path(folder)
    changes = {"rule": rule, "drop_fraction": drop_fraction, "density": density}
    return run(begin_branch(parent, folder, rewiring, changes, root), folder, root=root, progress=progress)


def begin_branch(
    parent: Path, folder: Path, rewiring: int, changes: Mapping[str, Any], root: str | Path | None = None
) -> Experiment:
    """Return the experiment that a branch is. If the parent has kept its state, the branch begins with it.

    Args:
        parent: folder of the run.
        folder: where runs are kept.
        rewiring: number of the rewiring after which the branch begins.
        changes: `rule`, `drop_fraction` and `density`, as for `branch`.
        root: the data folder, as in `datasets.load`.
    """
    branched = branched_experiment(parent, rewiring, changes, root)
    assert isinstance(branched.rule, Switched)
    if kept_state(parent, branched.rule.at).exists():
        fork(parent, branched, folder, step=branched.rule.at, root=root)
    return branched


def branched_experiment(
    parent: Path, rewiring: int, changes: Mapping[str, Any], root: str | Path | None = None
) -> Experiment:
    """Return the experiment that a branch is, and write nothing. See `begin_branch` for the arguments."""
    experiment, at = read_experiment(parent), first_step_after(Journal.read(parent / "journal"), rewiring)
    data = data_of(experiment, root)
    after = _changed(last_of(experiment.rule), changes, total_steps(experiment, data))
    return replace(experiment, rule=Switched(base=experiment.rule, after=after, at=at, density=changes.get("density")))


def first_step_after(journal: Journal, rewiring: int) -> int:
    """Return the first step after so many rewirings, 0 for none.

    Raises:
        TypeError: if the number is no integer.
        ValueError: if the journal has fewer rewirings.
    """
    if not 0 <= check_integer("rewiring", rewiring) <= len(journal):
        raise ValueError(
            f"rewiring must lie in [0, {len(journal)}], as many as the run has, got {rewiring}. 0 is before the first"
        )
    return journal.steps[rewiring - 1] + 1 if rewiring else 0


def folder_of(run: str | Path | History) -> Path:
    """Return the folder of a run.

    Raises:
        ValueError: if a history is kept nowhere.
    """
    folder = run.folder if isinstance(run, History) else run
    if folder is None:
        raise ValueError("a run must have a folder to branch from, got one that is kept nowhere. Train it with run")
    return Path(folder)


def named_like(rule: Rule, names: Iterable[str], steps: int) -> str:
    """Return the first of these names under which a rule with the same interval and end is this one.

    Example:
        >>> from sparsekit.rules import RigL
        >>> named_like(RigL(stop=75, every=10), ("set", "rigl"), 100)
        'rigl'
    """
    return next((name for name in names if _like(rule, name, steps) == rule), type(rule).__name__.lower())


def _changed(rule: Rule, changes: Mapping[str, Any], steps: int) -> Rule:
    """Return the rule that a branch continues with."""
    new, fraction = changes.get("rule"), changes.get("drop_fraction")
    if isinstance(new, str):
        new = _like(rule, new, steps)
    rule = rule if new is None else new
    check_rule(rule)
    if fraction is None:
        return rule
    if not isinstance(getattr(rule, "drop_fraction", None), Schedule):
        raise ValueError(
            f"a rule must exchange a share of the connections to have a drop fraction, got {rule}. Leave out "
            "drop_fraction, or choose a rule such as set, rigl or gse"
        )
    return replace(rule, drop_fraction=decaying(fraction))  # type: ignore[call-arg]


def _like(rule: Rule, name: str, steps: int) -> Rule:
    """Return a named rule with the interval, the end and the drop fraction of another one, where it has such."""
    known = settings_of(name)
    shared = {key: getattr(rule, key) for key in ("every", "stop") if hasattr(rule, key) and key in known}
    made, fraction = make_rule(name, total_steps=steps, **shared), getattr(rule, "drop_fraction", None)
    has_one = isinstance(fraction, Schedule) and isinstance(getattr(made, "drop_fraction", None), Schedule)
    return replace(made, drop_fraction=fraction) if has_one else made  # type: ignore[call-arg]
