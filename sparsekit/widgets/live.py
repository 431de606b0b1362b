"""Watch, pause, steer and stop a training, whose snapshots a thread takes from a generator.

The generator does all the work and knows no widget. `Run` only decides when to take the next snapshot, and whoever
wants to see something listens. The numbers are the same with and without the thread. Nothing here prints or draws,
because callbacks of widgets may come on any thread, late, or never.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from sparsekit.topology import Topology
from sparsekit.widgets import cells

Lines = dict[str, tuple[list[float], list[float]]]
State = Literal["ready", "running", "paused", "done", "stopped", "failed"]
ENDED = ("done", "stopped", "failed")
NOTIFY_INTERVAL = 0.1  # seconds, because the notebook server silently drops messages past 1000 a second
END = object()


@dataclass(frozen=True)
class Snapshot:
    """A snapshot is the state of a training after one step.

    Args:
        step: number of the step, from 0.
        metrics: numbers to draw, by name. A name may be missing at steps where it was not measured.
        topology: the connections after the step, or None where there is nothing to show.
    """

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    topology: Topology | None = None


class Run:
    """Take snapshots in a background thread, and pause, resume and stop between any two of them.

    Args:
        steps: yields a `Snapshot` after each step, and does all the work. A function that returns such steps lets
            `again` begin anew. If the steps have a `topology`, it is shown before the start.
        total: their expected number, for the progress bar, or None where nobody knows.

    Attributes:
        rewirings: the steps at which the topology changed.
        before: the topology before the last change, or None.
        past: the lines of the trainings before this one, after `again`.

    Example:
        >>> run = Run((Snapshot(step, {"loss": 1 / (step + 1)}) for step in range(5)), total=5)
        >>> run.wait(timeout=10).step, run.state, run.lines()["loss"][1][-1]
        (4, 'done', 0.2)
    """

    def __init__(self, steps: Iterable[Snapshot] | Callable[[], Iterable[Snapshot]], total: int | None = None):
        self.total, self.panels = total, 0  # how many open panels watch it
        self._make = steps if callable(steps) else None
        self._lock, self._notify_lock = threading.Lock(), threading.RLock()
        self._listeners: list[Callable[[Run], None]] = []
        self.past: list[Lines] = []
        self._prepare(steps() if callable(steps) else steps)
        cells.when_run_again(self.end)

    def _prepare(self, steps: Iterable[Snapshot]) -> None:
        """Set everything to what it is before a start."""
        self.count, self._lines, self.rewirings, self._warned = 0, {}, [], False
        self.latest: Snapshot | None = None
        self.topology: Topology | None = getattr(steps, "topology", None)
        self.before: Topology | None = None
        self.error: BaseException | None = None
        self.view_error: Exception | None = None
        self._steps = iter(steps)
        self._may_step, self._must_end, self._finished = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="sparsekit-run", daemon=True)
        self.state: State = "ready"

    @property
    def can_repeat(self) -> bool:
        """Whether `again` can begin anew, which needs a function that makes the steps."""
        return self._make is not None

    def again(self) -> "Run":
        """Begin anew after the end, and keep the lines so far in `past`. A run that is not over continues as it is.

        Raises:
            RuntimeError: if the run was not given a function that makes its steps.
        """
        if self._make is None:
            raise RuntimeError("a run must get a function to begin anew, got its steps. Give Run(lambda: steps)")
        if self.state in ENDED:
            self.past.append(self.lines())
            self._prepare(self._make())
            self._notify()
            self.start()
        return self

    def listen(self, listener: Callable[["Run"], None]) -> "Run":
        """Call the listener at most ten times a second, and at each change of state. Its errors end nothing."""
        self._listeners.append(listener)
        return self

    def unlisten(self, listener: Callable[["Run"], None]) -> None:
        """Call a listener no more. An unknown one changes nothing."""
        with self._notify_lock:
            self._listeners = [other for other in self._listeners if other != listener]

    def start(self) -> "Run":
        """Begin, if nobody did. A run begins once."""
        if self._transition("ready", "running"):
            self._notify()
            self._may_step.set()
            self._thread.start()
        return self

    def pause(self) -> None:
        """Pause after the current step."""
        if self._transition("running", "paused"):
            self._may_step.clear()
            self._notify()

    def resume(self) -> None:
        """Continue after a pause."""
        if self._transition("paused", "running"):
            self._may_step.set()
            self._notify()

    def stop(self) -> None:
        """End after the current step and keep its result."""
        self._must_end.set()
        if self._transition("ready", "stopped"):
            self._notify()
            self._finished.set()
        self._may_step.set()

    def end(self) -> None:
        """Stop, and wait until the current step is done, but no longer than 5 seconds.

        In a notebook this happens by itself when you run the cell again that made the run, because two trainings of
        one model would disturb each other.
        """
        self.stop()
        if threading.current_thread() is not self._thread:
            self._join(5.0)

    def wait(self, timeout: float | None = None) -> Snapshot | None:
        """Wait for the end and return the last snapshot. This starts the run if nobody did.

        Stop ends the waiting, and so does the notebook's interrupt button, which stops the run and keeps its result.

        Args:
            timeout: seconds after which the run is stopped.

        Raises:
            TimeoutError: if it did not end within `timeout`.
            BaseException: whatever the training raised.
        """
        self.start()
        try:
            in_time = self._join(timeout)
        except KeyboardInterrupt:
            self.stop()
            in_time = self._join(5.0) or True  # a long step may outlive its run, because the thread is a daemon
        if not in_time:
            self.stop()
            self._join(5.0)
            raise TimeoutError(f"a run must end within {timeout} s, got to step {self.count}. Give wait() more time")
        self._warn_of_views()
        if self.error is not None:
            raise self.error
        return self.latest

    def lines(self) -> Lines:
        """Return all metrics so far, by name, as `(steps, values)`."""
        with self._lock:
            return {name: (list(steps), list(values)) for name, (steps, values) in self._lines.items()}

    def _join(self, timeout: float | None) -> bool:
        """Wait in slices, so that interrupts land, and return whether the run ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._finished.wait(NOTIFY_INTERVAL):
            if end is not None and time.monotonic() >= end:
                return False
        return True

    def _work(self) -> None:
        finished = self._finished  # because whoever hears of the end may begin anew at once
        try:
            end: State = self._take_all()
        except BaseException as error:  # wait() raises it again, because a thread must not die unheard
            self.error, end = error, "failed"
        with self._lock:
            self.state = end
        self._notify()
        finished.set()

    def _take_all(self) -> State:
        last_notice = -NOTIFY_INTERVAL
        while not self._must_end.is_set():
            snapshot = next(self._steps, END)
            if snapshot is END:
                return "done"
            self._record(snapshot)  # type: ignore[arg-type]
            if time.monotonic() - last_notice >= NOTIFY_INTERVAL:
                self._notify()
                last_notice = time.monotonic()
            self._may_step.wait()
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()  # so that a generator's `finally` runs here and not at its collection
        return "stopped"

    def _record(self, snapshot: Snapshot) -> None:
        with self._lock:
            self.latest, self.count = snapshot, self.count + 1
            if snapshot.topology is not None and snapshot.topology is not self.topology:
                if self.topology is not None:
                    self.before = self.topology
                    self.rewirings.append(snapshot.step)
                self.topology = snapshot.topology
            for name, value in snapshot.metrics.items():
                steps, values = self._lines.setdefault(name, ([], []))
                steps.append(snapshot.step)
                values.append(value)

    def _transition(self, old: State, new: State) -> bool:
        with self._lock:
            is_allowed = self.state == old
            self.state = new if is_allowed else self.state
            return is_allowed

    def _notify(self) -> None:
        with self._notify_lock:  # because buttons notify from another thread than the training
            for listener in self._listeners:
                try:
                    listener(self)
                except Exception as error:  # a broken view never ends a training
                    self.view_error = error

    def _warn_of_views(self) -> None:
        if self.view_error is not None and not self._warned:
            self._warned = True
            warnings.warn(f"the run ended well, but a view of it failed with {self.view_error!r}", stacklevel=3)
