"""Rules that change a topology during training, and the scores and candidates they are made of.

A new rule is one new file in this package: it is found by itself, checked by the contract tests, and offered by the
pickers and the command line.
"""

import inspect
from typing import Any

from sparsekit.rules.ac_dc import ACDC
from sparsekit.rules.base import Candidates, DropScore, GrowScore, Rule
from sparsekit.rules.candidates.all_missing import AllMissing
from sparsekit.rules.candidates.draw import Draw
from sparsekit.rules.candidates.grabo import GraBo
from sparsekit.rules.candidates.graest import GraEst
from sparsekit.rules.candidates.guided import Guided
from sparsekit.rules.candidates.never_active import NeverActive
from sparsekit.rules.candidates.synflow import SynFlow
from sparsekit.rules.candidates.uniform import Uniform
from sparsekit.rules.cannistraci_hebb import CHTs, CHTss
from sparsekit.rules.chain_removal import ChainRemoval
from sparsekit.rules.deep_r import DeepR
from sparsekit.rules.drop.magnitude import Magnitude
from sparsekit.rules.drop.relative_importance import RelativeImportance
from sparsekit.rules.drop.soft import Soft
from sparsekit.rules.drop.weight_and_gradient import WeightAndGradient
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.dsr import DSR
from sparsekit.rules.gradual import GMP, MEST, GraNet, MESTSoft
from sparsekit.rules.grow.cannistraci_hebb import CannistraciHebb
from sparsekit.rules.grow.gradient import Gradient
from sparsekit.rules.grow.random import Random
from sparsekit.rules.initial import initial_density, initial_topology, prepare_layers, with_initial_state
from sparsekit.rules.largest_after_step import keep_largest_weights
from sparsekit.rules.n_of_m import SRSTE, DynamicNOfM
from sparsekit.rules.presets import GSE, SET, SETITOP, GSEReleased, RigL, RigLITOP
from sparsekit.rules.receptive_field import BRF
from sparsekit.rules.s_ste import SSTE
from sparsekit.rules.snfs import SNFS
from sparsekit.rules.soft_threshold import STR
from sparsekit.rules.srigl import SRigL
from sparsekit.rules.static import Static
from sparsekit.rules.top_kast import TopKAST
from sparsekit.rules.wrapper import WrappedRule
from sparsekit.utils.checks import check_integer
from sparsekit.utils.registry import discover, facts_of, get, names

discover(__name__)

# Where in the training a rule that is not told stops. Evci et al. (2020), section 4: T_end is three quarters of it.
DEFAULT_STOP_FRACTION = 0.75


def make_rule(name: str, *, total_steps: int, **settings: Any) -> Rule:
    """Return a named rule set up for a training of so many steps.

    A rule with an end that none is given for stops after three quarters of the training, as RigL does.

    Raises:
        ValueError: if the rule or a setting is unknown. The message lists the known ones.

    Example:
        >>> make_rule("rigl", total_steps=1000).stop
        750
    """
    make = get("rule", name)
    fields = settings_of(name)
    check_integer("total_steps", total_steps, least=1)
    if unknown := set(settings) - set(fields):
        raise ValueError(
            f"settings of {name} must be among {', '.join(fields) or '(none)'}, got {', '.join(sorted(unknown))}"
        )
    if "stop" in fields:
        fraction = facts_of("rule", name).stop_fraction or DEFAULT_STOP_FRACTION
        settings.setdefault("stop", min(int(fraction * total_steps), total_steps - 1))
    return make(**settings)


def settings_of(name: str) -> list[str]:
    """Return the names of a rule's settings."""
    parameters = inspect.signature(get("rule", name)).parameters
    more = inspect.signature(DropGrow).parameters if "settings" in parameters else {}
    return [key for key in {**parameters, **more} if key != "settings"]


__all__ = [
    "ACDC",
    "BRF",
    "DSR",
    "GMP",
    "GSE",
    "MEST",
    "SET",
    "SETITOP",
    "SNFS",
    "SRSTE",
    "SSTE",
    "STR",
    "AllMissing",
    "CHTs",
    "CHTss",
    "Candidates",
    "CannistraciHebb",
    "ChainRemoval",
    "DeepR",
    "Draw",
    "DropGrow",
    "DropScore",
    "DynamicNOfM",
    "GSEReleased",
    "GraBo",
    "GraEst",
    "GraNet",
    "Gradient",
    "GrowScore",
    "Guided",
    "MESTSoft",
    "Magnitude",
    "NeverActive",
    "Random",
    "RelativeImportance",
    "RigL",
    "RigLITOP",
    "Rule",
    "SRigL",
    "Soft",
    "Static",
    "SynFlow",
    "TopKAST",
    "Uniform",
    "WeightAndGradient",
    "WrappedRule",
    "initial_density",
    "initial_topology",
    "keep_largest_weights",
    "make_rule",
    "names",
    "prepare_layers",
    "settings_of",
    "with_initial_state",
]
