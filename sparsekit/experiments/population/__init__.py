"""Populations: many small networks are trained as one wide network, whose topology is block-diagonal.

One call of each kernel does the work of all members, so what Python costs for a step is paid once and not per member.
"""

from sparsekit.experiments.population.fitting import populations_of, why_alone
from sparsekit.experiments.population.follow import follow
from sparsekit.experiments.population.run import run_all, run_population

__all__ = ["follow", "populations_of", "run_all", "run_population", "why_alone"]
