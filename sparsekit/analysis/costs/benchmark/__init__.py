"""How fast and how small sparse training is on this machine, beside other kernels: `sparsekit bench`.

`layers`, `networks`, `update` and `memory` define what is measured, `rivals` holds other people's kernels, and `report`
writes the results. Methods take turns, as `sparsekit.utils.timing` lets them.
"""

from sparsekit.analysis.costs.benchmark.report import render
from sparsekit.analysis.costs.benchmark.results import SUITES, Options, load, measure, save

__all__ = ["SUITES", "Options", "load", "measure", "render", "save"]
