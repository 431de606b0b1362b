"""`fork` begins a run where another one stands, so that what two runs have in common is trained once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.feed import check_fits, data_of, total_steps
from sparsekit.experiments.record import kept_state, read_experiment, read_record, write_experiment
from sparsekit.rules.base import Rule
from sparsekit.rules.cycles import Cycles
from sparsekit.rules.switched import Switched
from sparsekit.train.checkpoint import load_checkpoint
from sparsekit.train.history import write_rows
from sparsekit.utils.checks import check_integer, must_be
from sparsekit.utils.files import write_bytes
from sparsekit.utils.settings import to_plain
from sparsekit.utils.turns import alone

# Fields that may differ in the settings, as long as they do the same in all steps before the fork. A recipe is a name,
# and a test changes nothing.
BY_STEP = {"recipe", "test_last", "epochs", "rule", "learning_rate", "tricks"}


def fork(
    parent: str | Path, experiment: Experiment, folder: str | Path, *, step: int, root: str | Path | None = None
) -> Path:
    """Begin a run in `folder` with all that another run has after `step` steps. `run` then continues it.

    The new run ends bit for bit as if it had trained these steps itself, because both agree in everything that decides
    them. It needs its parent only now. If it has been begun already, nothing changes. The checkpoint is written last,
    and a run without one begins anew, so a process that dies in between does no harm.

    Args:
        parent: folder of the run to begin with, which stands at this step, or has kept its state there.
        experiment: what the new run does.
        folder: where runs are kept, as for `run`.
        step: number of steps that both have in common.
        root: the data folder, as in `datasets.load`.

    Returns:
        The folder of the new run.

    Raises:
        TypeError: if it is no experiment, or the step no integer.
        ValueError: if the parent stands at another step, or the experiments differ before it. The message names the
            setting.
        CheckpointError: if a file of the parent is damaged. Nothing is written then.
        FileNotFoundError: if there is no such parent.

    Example:
        >>> history = run(common, "runs")  # doctest: +SKIP
        >>> for experiment in (one, another):  # doctest: +SKIP
        ...     fork(history.folder, experiment, "runs", step=1900)
        ...     run(experiment, "runs")
    """
    must_be("experiment", experiment, Experiment, "Give what the new run does")
    check_integer("step", step, least=0)
    parent, child = Path(parent), Path(folder) / experiment.folder_name
    if parent.resolve() == child.resolve():
        raise ValueError(f"a run must be forked from another one, got {parent} for both. Use run to continue it")
    with alone(child):
        if not (child / "checkpoint.pt").exists():
            _check_agree(read_experiment(parent), experiment, step, root)
            with alone(parent):
                _copy(parent, child, experiment, step)
    return child


def _copy(parent: Path, child: Path, experiment: Experiment, step: int) -> None:
    checkpoint = kept_state(parent, step)
    checkpoint = checkpoint if checkpoint.exists() else parent / "checkpoint.pt"
    state = load_checkpoint(checkpoint)
    if state["step"] != step:
        raise ValueError(
            f"a run must stand at step {step} to be forked there, got {parent} at step {state['step']}. Train it up to "
            "there with run(until=...), or leave the fork out"
        )
    history = read_record(parent, state)
    data, code = checkpoint.read_bytes(), (parent / "code.txt").read_bytes()
    child.mkdir(parents=True, exist_ok=True)
    write_rows(child / "metrics.jsonl", [row for row in history.rows if row.step < step])
    replace(history.journal, path=child / "journal").cut_at(step)
    write_bytes(child / "code.txt", code)
    write_experiment(child, experiment)
    write_bytes(child / "checkpoint.pt", data)


def _check_agree(parent: Experiment, child: Experiment, step: int, root: str | Path | None) -> None:
    """Check that two experiments do the same in all steps before this one."""
    if setting := _differing(parent, child, step, root):
        values = [getattr(one, setting) for one in (parent, child)]
        raise ValueError(
            f"both runs must agree up to step {step} where one is forked from the other, got {setting} "
            f"{values[0]!r} and {values[1]!r}. Make {setting} the same, or leave the fork out"
        )


def _differing(parent: Experiment, child: Experiment, step: int, root: str | Path | None) -> str | None:
    """Return the name of a setting that differs before this step, or None."""
    plain = [to_plain(one) for one in (parent, child)]
    if different := [name for name in plain[0] if name not in BY_STEP and plain[0][name] != plain[1][name]]:
        return different[0]
    data = data_of(child, root)
    check_fits(child, data)
    ends = [total_steps(one, data) for one in (parent, child)]
    if min(ends) < step:
        return "epochs"
    before = [_before(one, step, end) for one, end in zip((parent, child), ends, strict=True)]
    return next((name for name in before[0] if before[0][name] != before[1][name]), None)


def _before(experiment: Experiment, step: int, end: int) -> dict[str, Any]:
    """Return what the settings of `BY_STEP` do before a step, in a training that ends at another."""
    rate = experiment.learning_rate_over(end)
    return {
        "rule": to_plain(_rule_before(experiment.rule, step)),
        "learning_rate": [rate(number) for number in range(experiment.first_step, step)],
        "tricks": to_plain(experiment.tricks_over(end)),
    }


def _rule_before(rule: Rule, step: int) -> Rule:
    """Return the rule that acts before a step, which is the first of two where the second one has not yet begun."""
    if isinstance(rule, Switched) and step <= rule.at:
        return _rule_before(rule.base, step)
    return rule.base if isinstance(rule, Cycles) and step <= rule.after else rule
