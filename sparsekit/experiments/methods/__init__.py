"""Methods for `compare` that are neither a rule nor a score before training. Each method is one file.

A method is a function registered under the kind `"method"`. It gets a recipe and `density`, `seed` and further settings
by keyword, and returns what the recipe makes of them: an `Experiment`. It may choose the rule, the score and the
density, and leaves everything else as the recipe has it, because otherwise it would be no comparison. A new method is
one new file in this package.
"""

from sparsekit.experiments.methods.dense import dense
from sparsekit.utils.registry import discover

discover(__name__)

__all__ = ["dense"]
