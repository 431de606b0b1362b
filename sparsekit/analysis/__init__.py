"""Numbers about topologies and models; nothing here ever changes a model."""

from sparsekit.analysis.behaviour.activity import activity, small_filters
from sparsekit.analysis.behaviour.calibration import best_temperature, brier, calibration_error, nll, reliability
from sparsekit.analysis.behaviour.ensemble import ensemble, ensemble_table
from sparsekit.analysis.behaviour.prediction_diversity import (
    disagreement,
    disagreement_bounds,
    diversity_table,
    error_correlation,
    js_divergence,
    kappa,
    kl_divergence,
    outputs_of,
)
from sparsekit.analysis.behaviour.representation_similarity import cka_matrix, cka_table, linear_cka
from sparsekit.analysis.behaviour.signals import gradient_norm, signal_propagation
from sparsekit.analysis.costs.forward_flops import NotCountedWarning, forward_flops, output_positions
from sparsekit.analysis.costs.ghosts import GhostCost, ghost_cost
from sparsekit.analysis.costs.memory import memory_bytes
from sparsekit.analysis.costs.speed import (
    break_even,
    log_log_slope,
    speed_table,
    step_seconds,
    storages_of,
    update_seconds,
)
from sparsekit.analysis.costs.training_flops import Pass, one_off_flops, training_flops, training_flops_table
from sparsekit.analysis.dynamics.evolution import ages, churn, survival
from sparsekit.analysis.dynamics.exploration import (
    coverage_curve,
    coverage_expected,
    exploration,
    exploration_expected,
    reliable_exploration,
)
from sparsekit.analysis.dynamics.guidance import (
    Guidance,
    Sampled,
    growth_recall,
    guidance,
    guidance_table,
    network_recall,
    relative_entropy,
    sampled,
    sampled_ratio_expected,
    sampled_ratios,
)
from sparsekit.analysis.dynamics.score_collapse import (
    Pruning,
    collapse_table,
    conservation_table,
    critical_compression,
    prunings,
    score_ranks,
)
from sparsekit.analysis.evidence.claims import Claim, assess_claim
from sparsekit.analysis.evidence.factorial import design, factorial_effects
from sparsekit.analysis.landscape.connectivity import along, barrier, barrier_matrix, bezier, segment
from sparsekit.analysis.landscape.curvature import Hessian, hessian_spectrum, hessian_trace, top_eigenvalue
from sparsekit.analysis.landscape.planes import Place, Plane, Surface, plane_through, random_plane, surface
from sparsekit.analysis.landscape.weight_vectors import network_at
from sparsekit.analysis.structure.aligned_distance import topological_distance, topological_distances
from sparsekit.analysis.structure.chain_paths import (
    cut_off_units,
    effective_density,
    effective_topology,
    log10_num_paths,
)
from sparsekit.analysis.structure.maps import Map, map_of, tree_of
from sparsekit.analysis.structure.metrics import dead_inputs, dead_outputs, fan_histogram, layer_table, unit_fan_out
from sparsekit.analysis.structure.model_paths import effective_in, log10_num_paths_in
from sparsekit.analysis.structure.topology_similarity import (
    Comparison,
    compare,
    comparison_matrix,
    comparison_table,
    dice,
    hamming,
    iou,
    overlap,
)

__all__ = [
    "Claim",
    "Comparison",
    "GhostCost",
    "Guidance",
    "Hessian",
    "Map",
    "NotCountedWarning",
    "Pass",
    "Place",
    "Plane",
    "Pruning",
    "Sampled",
    "Surface",
    "activity",
    "ages",
    "along",
    "assess_claim",
    "barrier",
    "barrier_matrix",
    "best_temperature",
    "bezier",
    "break_even",
    "brier",
    "calibration_error",
    "churn",
    "cka_matrix",
    "cka_table",
    "collapse_table",
    "compare",
    "comparison_matrix",
    "comparison_table",
    "conservation_table",
    "coverage_curve",
    "coverage_expected",
    "critical_compression",
    "cut_off_units",
    "dead_inputs",
    "dead_outputs",
    "design",
    "dice",
    "disagreement",
    "disagreement_bounds",
    "diversity_table",
    "effective_density",
    "effective_in",
    "effective_topology",
    "ensemble",
    "ensemble_table",
    "error_correlation",
    "exploration",
    "exploration_expected",
    "factorial_effects",
    "fan_histogram",
    "forward_flops",
    "ghost_cost",
    "gradient_norm",
    "growth_recall",
    "guidance",
    "guidance_table",
    "hamming",
    "hessian_spectrum",
    "hessian_trace",
    "iou",
    "js_divergence",
    "kappa",
    "kl_divergence",
    "layer_table",
    "linear_cka",
    "log10_num_paths",
    "log10_num_paths_in",
    "log_log_slope",
    "map_of",
    "memory_bytes",
    "network_at",
    "network_recall",
    "nll",
    "one_off_flops",
    "output_positions",
    "outputs_of",
    "overlap",
    "plane_through",
    "prunings",
    "random_plane",
    "relative_entropy",
    "reliability",
    "reliable_exploration",
    "sampled",
    "sampled_ratio_expected",
    "sampled_ratios",
    "score_ranks",
    "segment",
    "signal_propagation",
    "small_filters",
    "speed_table",
    "step_seconds",
    "storages_of",
    "surface",
    "survival",
    "top_eigenvalue",
    "topological_distance",
    "topological_distances",
    "training_flops",
    "training_flops_table",
    "tree_of",
    "unit_fan_out",
    "update_seconds",
]
