"""One run on several processes: `torchrun --nproc-per-node 2 -m sparsekit train ...`, or `run_on_ranks` in a script."""

import atexit
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.options import Callback, RunOptions
from sparsekit.experiments.run import carry_out, run_with
from sparsekit.experiments.work import having_turn
from sparsekit.train import History
from sparsekit.utils.devices import named_device
from sparsekit.utils.ranks import Ranks, ranks_of_environment, sharing_micro_batches


def run_on_ranks(
    experiment: Experiment,
    folder: str | Path = "runs",
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> History:
    """Train an experiment on all processes that a launcher has started. Alone, it does what `run` does.

    Each process computes one micro-batch of every batch, and all add the gradients in the same order. So the run is
    that of one process with as many micro-batches, bit for bit, and either continues what the other has begun. Steps
    that rewire are computed whole by every process. Only process 0 writes, shows progress and calls callbacks. The
    others work in a copy of the run's folder beside it, which goes at the end. If a process dies, its launcher starts
    all of them again, and they continue from the last checkpoint.

    Two things differ from one process: dropout draws other numbers, and batch norm's running statistics are those of
    process 0's micro-batches.

    Args:
        experiment: what to do. With `micro_batches=1` it gets as many as there are processes.
        folder: where runs are kept. All processes must see it.
        progress, callbacks, options: as for `run`.

    Raises:
        ValueError: if the experiment has another number of micro-batches, a device is named that is no CPU, or as
            `run`.

    Source: data-parallel training as torch.nn.parallel.DistributedDataParallel, with sums in a fixed order.
    """
    settings, ranks = RunOptions(progress=progress, callbacks=tuple(callbacks), **options), ranks_of_environment()
    if ranks.size == 1:
        return run_with(settings, experiment, folder)
    experiment = fit_to(experiment, ranks)
    settings = replace(settings, device=cpu_for(settings.device))
    if ranks.rank > 0:
        settings = replace(settings, progress=False, callbacks=())
    _meet()
    with _own_folder(Path(folder) / experiment.folder_name, ranks) as own, sharing_micro_batches(ranks):
        return carry_out(experiment, *own, settings)


def cpu_for(device: str | None) -> str:
    """Return the device on which several processes train one network, which is the CPU.

    Raises:
        ValueError: if another one is named. `auto` leaves the choice to us.

    Example:
        >>> cpu_for("auto")
        'cpu'
    """
    name = named_device(device)
    if name not in ("auto", "cpu"):
        raise ValueError(
            f"several processes must train on CPUs, over which they add their gradients, got device {name}. Choose cpu "
            "or auto, or train on one GPU without a launcher"
        )
    return "cpu"


def fit_to(experiment: Experiment, ranks: Ranks) -> Experiment:
    """Return an experiment with a micro-batch for each process.

    Raises:
        ValueError: if it has more than one already, and another number.
    """
    if experiment.micro_batches not in (1, ranks.size):
        raise ValueError(
            f"micro_batches must be 1 or the number of processes, {ranks.size}, got {experiment.micro_batches}. "
            "Leave it out, or start as many processes"
        )
    return replace(experiment, micro_batches=ranks.size)


def _meet() -> None:
    """Meet the other processes, once for all runs of this one, as a second meeting finds traces of the first.

    So does a process that was started again. That is why each start has names of its own in the launcher's store.
    """
    if not dist.is_initialized():
        store, rank, size = next(rendezvous("env://"))
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group("gloo", store=PrefixStore(f"start {start}", store), rank=rank, world_size=size)
        atexit.register(dist.destroy_process_group)


@contextmanager
def _own_folder(folder: Path, ranks: Ranks) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Give each process a folder to write into: the run's own, or a copy of it made before anybody writes."""
    if ranks.rank == 0:
        with having_turn(folder, tell=True) as may_write:
            dist.barrier()  # now nobody else writes
            dist.barrier()  # now everybody has a copy
            yield folder, may_write
        return
    copy = folder.with_name(f".{folder.name}.rank{ranks.rank}")
    dist.barrier()
    shutil.rmtree(copy, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("states"))
    dist.barrier()
    try:
        yield copy, lambda: None
    finally:
        shutil.rmtree(copy, ignore_errors=True)
