"""How fast and how small sparse training is on this machine, beside what else there is: `sparsekit bench`.

`timing` lets methods take turns, `layers`, `networks`, `update` and `memory` say what is measured, `rivals` holds the
other people's kernels, and `report` writes what was found.
"""

from sparsekit.benchmark.report import render
from sparsekit.benchmark.results import SUITES, Options, load, measure, save
from sparsekit.benchmark.timing import Effort, compare

__all__ = ["SUITES", "Effort", "Options", "compare", "load", "measure", "render", "save"]
