"""How fast and how small sparse training is on this machine, beside what else there is: `sparsekit bench`.

`layers`, `networks`, `update` and `memory` say what is measured, `rivals` holds the other people's kernels, and
`report` writes what was found. Methods take turns, as `sparsekit.utils.timing` lets them.
"""

from sparsekit.analysis.costs.benchmark.report import render
from sparsekit.analysis.costs.benchmark.results import SUITES, Options, load, measure, save

__all__ = ["SUITES", "Options", "load", "measure", "render", "save"]
