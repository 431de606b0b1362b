"""Sweeps: many runs, on the processes of this machine or of others, each an ordinary run in a folder of its own.

Dask, or any other executor, does the distributing. Nothing here keeps a state of its own, because the run folders hold
everything. So a sweep that was stopped, or whose workers died, continues when you call it again.
"""

from sparsekit.experiments.sweeps.grid import Grid, read_grid
from sparsekit.experiments.sweeps.sweeping import read_result, sweep
from sparsekit.experiments.sweeps.workers import import_dask, in_order, local_client

__all__ = ["Grid", "import_dask", "in_order", "local_client", "read_grid", "read_result", "sweep"]
