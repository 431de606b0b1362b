"""How a run is carried out: one value that `run` hands to everything that trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsekit.experiments.experiment import Experiment
from sparsekit.train.history import History

Callback = Callable[[Experiment, History], object]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out. No option is a part of what an experiment is.

    `run` explains each of them, and has the same defaults.

    Example:
        >>> RunOptions(until=100).until
        100
    """

    root: str | Path | None = None
    progress: bool = True
    checkpoint_seconds: float = 20.0
    checkpoint_steps: int | None = None
    until: int | None = None
    keep_states: bool = False
    device: str | None = None
    compile: bool | None = None
    callbacks: Sequence[Callback] = ()
