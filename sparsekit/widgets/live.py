"""Training that can be watched, paused, steered and stopped: snapshots from a generator, taken by a thread.

The generator does all the work and knows no widget; `Run` only decides when to take the next snapshot; whoever wants to
see something listens. Same numbers with and without the thread. Nothing here prints or draws: callbacks of widgets may
come on any thread, late, or never.
"""

import dataclasses
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from torch import nn
from torch.optim import Optimizer

from sparsekit.adaptor import Adaptor
from sparsekit.evaluate import Batch, LossFn
from sparsekit.journal import Journal
from sparsekit.layers import topology_of
from sparsekit.rules.base import Rule
from sparsekit.schedules import Constant, Schedule
from sparsekit.seeds import generator
from sparsekit.topology import Topology
from sparsekit.train.loop import train_step
from sparsekit.tricks.base import Trick, loss_at, set_step

State = Literal["ready", "running", "paused", "done", "stopped", "failed"]
ENDED = ("done", "stopped", "failed")
TELL_EVERY = 0.1  # seconds; the notebook server silently drops messages past 1000 a second
END = object()
R = TypeVar("R")


@dataclass(frozen=True)
class Snapshot:
    """A training after one step.

    Args:
        step: number of the step, from 0.
        metrics: numbers to draw, by name; a name may be missing at steps where it was not measured.
        topology: the connections after the step, or None where nothing is to be shown.
    """

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    topology: Topology | None = None


class Control(Generic[R]):
    """A rule (or a trick) that may be exchanged while a training reads it: thread-safe, a whole value at a time.

    Example:
        >>> from sparsekit.rules import RigL
        >>> control = Control(RigL(stop=500))
        >>> control.change(every=50, fraction=0.1).fraction
        Constant(value=0.1)
    """

    def __init__(self, rule: R):
        self._rule, self._lock = rule, threading.Lock()

    @property
    def rule(self) -> R:
        """The rule that holds now. Read it once per step."""
        return self._rule

    def change(self, **settings: Any) -> R:
        """Replace settings of the rule and return the new one; a number for a schedule holds from now on.

        Raises:
            ValueError: if the rule does not allow the value; the old rule stays.
            TypeError: if it has no such setting.
        """
        with self._lock:
            fitting = {name: self._fitting(name, value) for name, value in settings.items()}
            self._rule = dataclasses.replace(self._rule, **fitting)  # type: ignore[type-var]
            return self._rule

    def _fitting(self, name: str, value: Any) -> Any:
        is_schedule = isinstance(getattr(self._rule, name, None), Schedule)
        return Constant(value) if is_schedule and not isinstance(value, Schedule) else value


class Run:
    """Take snapshots in a background thread; pause, resume and stop between any two of them.

    Args:
        steps: yields a `Snapshot` after each step, and does all the work.
        total: how many are expected, for the progress bar; None where nobody knows.

    Example:
        >>> run = Run((Snapshot(step, {"loss": 1 / (step + 1)}) for step in range(5)), total=5)
        >>> run.wait(timeout=10).step, run.state, run.lines()["loss"][1][-1]
        (4, 'done', 0.2)
    """

    def __init__(self, steps: Iterable[Snapshot], total: int | None = None):
        self.total, self.count = total, 0
        self.state: State = "ready"
        self.latest: Snapshot | None = None
        self.topology: Topology | None = None
        self.error: BaseException | None = None
        self.view_error: Exception | None = None
        self._steps = iter(steps)
        self._lines: dict[str, tuple[list[float], list[float]]] = {}
        self._go, self._end, self._over = threading.Event(), threading.Event(), threading.Event()
        self._lock, self._telling = threading.Lock(), threading.RLock()
        self._listeners: list[Callable[[Run], None]] = []
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="sparsekit-run", daemon=True)

    def listen(self, listener: Callable[["Run"], None]) -> "Run":
        """Tell the listener at most ten times a second, and at each change of state. Its errors end nothing."""
        self._listeners.append(listener)
        return self

    def start(self) -> "Run":
        """Begin, if nobody did; a run begins once."""
        if self._move("ready", "running"):
            self._tell()
            self._go.set()
            self._thread.start()
        return self

    def pause(self) -> None:
        """Hold after the step at hand."""
        if self._move("running", "paused"):
            self._go.clear()
            self._tell()

    def resume(self) -> None:
        """Go on after a pause."""
        if self._move("paused", "running"):
            self._go.set()
            self._tell()

    def stop(self) -> None:
        """End after the step at hand and keep what there is."""
        self._end.set()
        if self._move("ready", "stopped"):
            self._tell()
            self._over.set()
        self._go.set()

    def wait(self, timeout: float | None = None) -> Snapshot | None:
        """Wait for the end and return the last snapshot; starts the run if nobody did.

        Stop ends the waiting, and so does the notebook's interrupt button, which stops the run and keeps its result.

        Args:
            timeout: seconds after which the run is stopped.

        Raises:
            TimeoutError: if it was still going after `timeout`.
            BaseException: whatever the training raised.
        """
        self.start()
        try:
            in_time = self._join(timeout)
        except KeyboardInterrupt:
            self.stop()
            in_time = self._join(5.0) or True  # a long step may outlive its run; the thread is a daemon
        if not in_time:
            self.stop()
            self._join(5.0)
            raise TimeoutError(f"a run must end within {timeout} s, got to step {self.count}; give wait() more time")
        self._warn_of_views()
        if self.error is not None:
            raise self.error
        return self.latest

    def lines(self) -> dict[str, tuple[list[float], list[float]]]:
        """Return all metrics so far, by name, as `(steps, values)`."""
        with self._lock:
            return {name: (list(steps), list(values)) for name, (steps, values) in self._lines.items()}

    def _join(self, timeout: float | None) -> bool:
        """Wait in slices, so that interrupts land; say whether the run ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._over.wait(TELL_EVERY):
            if end is not None and time.monotonic() >= end:
                return False
        return True

    def _work(self) -> None:
        try:
            end: State = self._take_all()
        except BaseException as error:  # a thread must not die unheard: wait() raises it again
            self.error, end = error, "failed"
        with self._lock:
            self.state = end
        self._tell()
        self._over.set()

    def _take_all(self) -> State:
        told = -TELL_EVERY
        while not self._end.is_set():
            snapshot = next(self._steps, END)
            if snapshot is END:
                return "done"
            self._keep(snapshot)  # type: ignore[arg-type]
            if time.monotonic() - told >= TELL_EVERY:
                self._tell()
                told = time.monotonic()
            self._go.wait()
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()  # a generator's `finally` runs here, not whenever it is collected
        return "stopped"

    def _keep(self, snapshot: Snapshot) -> None:
        with self._lock:
            self.latest, self.count = snapshot, self.count + 1
            self.topology = self.topology if snapshot.topology is None else snapshot.topology
            for name, value in snapshot.metrics.items():
                steps, values = self._lines.setdefault(name, ([], []))
                steps.append(snapshot.step)
                values.append(value)

    def _move(self, old: State, new: State) -> bool:
        with self._lock:
            fits = self.state == old
            self.state = new if fits else self.state
            return fits

    def _tell(self) -> None:
        with self._telling:  # buttons tell from another thread than the training
            for listener in self._listeners:
                try:
                    listener(self)
                except Exception as error:  # a broken picture never ends a training
                    self.view_error = error

    def _warn_of_views(self) -> None:
        if self.view_error is not None and not self._warned:
            self._warned = True
            warnings.warn(f"the run ended well, but a view of it failed: {self.view_error!r}", stacklevel=3)


def live_training(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss_fn: LossFn,
    control: Control[Rule] | Rule,
    *,
    steps: int,
    seed: int = 0,
    journal: Journal | None = None,
    tricks: Sequence[Control[Trick] | Trick] = (),
    measure: Callable[[nn.Module], dict[str, float]] | None = None,
    measure_every: int = 50,
    adaptor: Adaptor | None = None,
) -> Iterator[Snapshot]:
    """Train with the real `train_step` and yield a snapshot after each step; the rule is read anew at every step.

    Args:
        model: a sparse model.
        optimizer: the one that trains it.
        batches: inputs and labels, at least `steps` of them.
        loss_fn: `(outputs, labels) -> mean loss`.
        control: holds the rule, which sliders may change meanwhile; a plain rule stays as it is.
        steps: number of steps.
        seed: of everything the rule draws.
        journal: where every rewiring is recorded.
        tricks: what helps the training, already applied to the model; each may be held by a `Control` of its own.
        measure: metrics of the model beside the batch's loss and accuracy, taken every `measure_every` steps.
        measure_every: steps between measurements; the last step is measured too.
        adaptor: makes pairs of other batches, and class scores of other outputs.
    """
    held, topology = control if isinstance(control, Control) else Control(control), topology_of(model)
    for step, batch in enumerate(islice(batches, steps)):
        draws, now = generator(seed, "rewire", step), _as_they_are(tricks)
        set_step(model, now, step, optimizer)
        loss = loss_at(now, loss_fn, model, step)
        stats, change = train_step(model, optimizer, batch, loss, held.rule, step, draws, adaptor=adaptor)
        set_step(model, now, step + 1, optimizer)
        metrics = {"loss": stats.loss, "accuracy": stats.accuracy}
        if change is not None:
            topology = topology_of(model)
            if journal is not None:
                journal.add(step, change)
        if measure is not None and ((step + 1) % measure_every == 0 or step + 1 == steps):
            metrics |= measure(model)
        yield Snapshot(step, metrics, topology)


def _as_they_are(tricks: Sequence[Control[Trick] | Trick]) -> list[Trick]:
    return [trick.rule if isinstance(trick, Control) else trick for trick in tricks]
