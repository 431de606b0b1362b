"""Who carries out runs: worker processes of this machine, a Dask cluster, or any executor."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from sparsekit.experiments.record import Definition, register_again
from sparsekit.utils.checks import check_integer
from sparsekit.utils.optional import require
from sparsekit.utils.settings import THREAD_VARIABLES

RESTART = "10 minutes"  # for a worker that is started again. Dask's 15 seconds end before torch is imported
KEPT = 2**30  # bytes of freed memory. With the 64 KiB that Dask lets a worker keep, a small run had 140,000 page faults
POLL = 0.1  # seconds between two looks at what is done. A training takes longer
MOST_DEATHS = 10  # of the workers that carry out one run. It continues each time, but must not take memory for ever
_MEMORY = {f"distributed.nanny.pre-spawn-environ.MALLOC_{what}_THRESHOLD_": str(KEPT) for what in ("TRIM", "MMAP")}


class Outcome(NamedTuple):
    """What came of an item: a result, or the error that came in its place."""

    number: int
    result: Any
    error: Exception | None


@contextmanager
def local_client(workers: int | None = None, *, threads: int | None = None, most: int | None = None) -> Iterator[Any]:
    """Start worker processes on this machine, and give you the Dask client that reaches them.

    A worker that dies is started again, and its run continues from the last checkpoint. They end with the `with`.

    Args:
        workers: how many processes. None takes one for each processor.
        threads: that each may use. None shares the processors among the workers.
        most: how many processes are started at most, because there is no more work. The threads stay the same, and so
            do the last digits of what is computed.

    Raises:
        TypeError: if a number is no integer.
        ValueError: if a number is below 1.
        ImportError: if Dask is not installed.
        RuntimeError: if a script calls this while a worker imports it.

    Example:
        >>> with local_client(2) as client:  # doctest: +SKIP
        ...     table = sweep(experiments, client=client)
    """
    _check_not_in_a_worker()
    Client, LocalCluster, processors = import_dask()
    from dask import config

    workers = check_integer("workers", processors if workers is None else workers, least=1)
    threads = check_integer("threads", max(1, processors // workers) if threads is None else threads, least=1)
    with (
        config.set({"distributed.deploy.lost-worker-timeout": RESTART, **_MEMORY}),
        LocalCluster(
            n_workers=workers if most is None else min(workers, most),
            threads_per_worker=1,  # a worker carries out one run at a time
            processes=True,
            memory_limit=None,  # Dask would kill what fits into memory alone, and not into a share of it
            dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
            scheduler_kwargs={"allowed_failures": MOST_DEATHS},
            env=dict.fromkeys(THREAD_VARIABLES, str(threads)),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _check_not_in_a_worker() -> None:
    """Raise if a new process imports the script that started it, which would start processes without end."""
    if multiprocessing.parent_process() is not None and sys.modules["__main__"].__name__ == "__mp_main__":
        raise RuntimeError(
            "workers must be started by the script itself, got a worker that imports it. Write "
            "`if __name__ == '__main__':` above the call"
        )


def import_dask() -> tuple[Any, Any, int]:
    """Return Dask's `Client` and `LocalCluster`, and the number of processors that this process may use.

    Raises:
        ImportError: if Dask is not installed.
    """
    distributed = require("distributed", install="dask[distributed]")
    return distributed.Client, distributed.LocalCluster, require("dask.system", install="dask").CPU_COUNT


@contextmanager
def client_or_local(client: Any, workers: int | None, most: int) -> Iterator[Any]:
    """Give back whoever was handed over, or worker processes of this machine.

    Raises:
        TypeError: if it is neither a Dask client nor an executor.
    """
    if client is None:
        with local_client(workers, most=most) as client:
            yield client
    elif hasattr(client, "submit"):
        yield client
    else:
        raise TypeError(
            f"client must be a Dask client or an executor, got {type(client).__name__}. Write Client(cluster) for a "
            "cluster or an address"
        )


def outcomes(
    client: Any, function: Callable[[Any], Any], items: Sequence[Any], definitions: Sequence[Definition] = ()
) -> Iterator[Outcome | None]:
    """Call a function on workers, once for each item, and yield what is done as it comes.

    A call that somebody else has cancelled is made again. If you stop in between, what waits is
    cancelled.

    Args:
        client: a Dask client, or an executor.
        function: what to call.
        items: its arguments.
        definitions: what a notebook or script has registered, and workers have not.

    Yields:
        What came of an item, or None several times a second while nothing comes.

    Raises:
        BrokenExecutor: if an executor has lost its workers.
        ConnectionError: if nobody takes more work, or the scheduler is lost.
    """
    crew = _DaskCrew(client) if hasattr(client, "gather") else _Crew(client)
    function = partial(_call, function=function, definitions=definitions) if definitions else function
    waiting = dict(zip(_sent(crew, function, items), range(len(items)), strict=True))
    try:
        while waiting:
            crew.check()
            ready = [future for future in waiting if future.done()]
            lost = [waiting.pop(future) for future in ready if crew.is_lost(future)]
            for future, result, error in crew.receive([future for future in ready if future in waiting]):
                yield Outcome(waiting.pop(future), result, error)
            again = _sent(crew, function, [items[number] for number in lost])
            waiting |= zip(again, lost, strict=True)
            yield None
            time.sleep(POLL if waiting else 0)
    finally:
        crew.cancel(list(waiting))


def _call(item: Any, *, function: Callable[[Any], Any], definitions: Sequence[Definition]) -> Any:
    register_again(definitions)
    return function(item)


def _sent(crew: "_Crew", function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    if not items:
        return []
    try:
        return crew.send(function, items)
    except Exception as error:
        raise ConnectionError(
            f"workers must take work, got {type(error).__name__} ({error}). Start them again, or mend what cannot be "
            "sent, and call again: what is finished is read"
        ) from error


class _Crew:
    """The workers behind an executor of any kind. Some of their futures only know `done` and `result`."""

    def __init__(self, client: Any):
        self.client = client

    def send(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Hand out work, and return a future for each item."""
        return [self.client.submit(function, item) for item in items]

    def check(self) -> None:
        """Raise ConnectionError if nobody can hear of the workers any more."""
        return

    def is_lost(self, future: Any) -> bool:
        """Whether the work of a future that is done must be handed out again."""
        return hasattr(future, "cancelled") and future.cancelled()

    def receive(self, futures: Sequence[Any]) -> Iterator[tuple[Any, Any, Exception | None]]:
        """Yield each future that is done, with its result or its error."""
        for future in futures:
            try:
                yield future, future.result(), None
            except BrokenExecutor as error:
                raise BrokenExecutor(
                    f"the executor must keep its workers, got {type(error).__name__} ({error}). Call again with a new "
                    "one, and interrupted runs continue. Dask starts workers again by itself"
                ) from error
            except Exception as error:  # what a worker died of, for example
                yield future, None, error

    def cancel(self, futures: Sequence[Any]) -> None:
        """Take back what nobody has begun."""
        for future in futures:
            future.cancel()


class _DaskCrew(_Crew):
    """The workers behind a Dask scheduler. Thousands of calls travel there and back in a few messages."""

    def send(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.client.map(function, items, pure=False)

    def receive(self, futures: Sequence[Any]) -> Iterator[tuple[Any, Any, Exception | None]]:
        failures = [future for future in futures if future.status == "error"]
        yield from ((future, None, future.exception()) for future in failures)
        finished = [future for future in futures if future.status == "finished"]
        try:
            results = self.client.gather(finished)
        except (CancelledError, OSError):  # the scheduler was lost just now, which `check` says next time
            return
        yield from ((future, result, None) for future, result in zip(finished, results, strict=True))

    def check(self) -> None:
        if not self._is_connected():
            raise ConnectionError(
                f"the scheduler must stay reachable, got a client that is {self.client.status}. Start the scheduler "
                "and its workers again, and call again with a new client: interrupted runs continue"
            )

    def cancel(self, futures: Sequence[Any]) -> None:
        if self._is_connected():  # else nobody would answer
            self.client.cancel(futures)

    def _is_connected(self) -> bool:
        return self.client.status == "running"


def in_order(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    client: Any = None,
    definitions: Sequence[Definition] = (),
) -> Iterator[Any]:
    """Call a function for each item, on workers or here, and yield the results in order.

    Args:
        function: what to call. Workers must be able to import it.
        items: its arguments.
        client: a Dask client or an executor. None calls the function here, when its result is asked for.
        definitions: what a notebook or script has registered, and workers have not.

    Raises:
        Exception: what the function raises.

    Example:
        >>> list(in_order(abs, [-1, 2]))
        [1, 2]
    """
    if client is None:
        yield from map(function, items)
        return
    ready: dict[int, Outcome] = {}
    number = 0
    for outcome in outcomes(client, function, items, definitions):
        if outcome is not None:
            ready[outcome.number] = outcome
        while number in ready:
            if (error := ready[number].error) is not None:
                raise error
            yield ready.pop(number).result
            number += 1
