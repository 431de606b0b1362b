"""Numbers about topologies and models; nothing here ever changes a model."""

from sparsekit.analysis.activity import activity, small_filters
from sparsekit.analysis.alignment import topological_distance, topological_distances
from sparsekit.analysis.calibration import (
    best_temperature,
    brier,
    calibration_error,
    nll,
    reliability,
)
from sparsekit.analysis.claims import Claim, judge
from sparsekit.analysis.collapse import (
    Pruning,
    collapse_table,
    conservation_table,
    critical_compression,
    prunings,
    score_ranks,
)
from sparsekit.analysis.comparing import (
    Comparison,
    compare,
    comparison_matrix,
    comparison_table,
    dice,
    hamming,
    iou,
    overlap,
)
from sparsekit.analysis.connectivity import along, barrier, barrier_matrix, bezier, segment
from sparsekit.analysis.curvature import Hessian, hessian_spectrum, hessian_trace, top_eigenvalue
from sparsekit.analysis.disagreement import (
    disagreement,
    disagreement_bounds,
    diversity_table,
    error_correlation,
    js_divergence,
    kappa,
    kl_divergence,
    outputs_of,
)
from sparsekit.analysis.effective import (
    cut_off_units,
    effective_density,
    effective_topology,
    log10_num_paths,
)
from sparsekit.analysis.ensemble import ensemble, ensemble_table
from sparsekit.analysis.evolution import ages, churn, survival
from sparsekit.analysis.exploration import (
    coverage_curve,
    coverage_expected,
    exploration,
    exploration_expected,
    reliable_exploration,
)
from sparsekit.analysis.factorial import design, factorial_effects
from sparsekit.analysis.flops import NotCountedWarning, forward_flops, output_positions
from sparsekit.analysis.ghosts import GhostCost, ghost_cost
from sparsekit.analysis.guidance import (
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
from sparsekit.analysis.landscape import Place, Plane, Surface, plane_through, random_plane, surface
from sparsekit.analysis.maps import Map, map_of, tree_of
from sparsekit.analysis.memory import memory_bytes
from sparsekit.analysis.metrics import dead_inputs, dead_outputs, fan_histogram, layer_table, unit_fan_out
from sparsekit.analysis.reachable import effective_in, log10_num_paths_in
from sparsekit.analysis.signals import gradient_norm, signal_propagation
from sparsekit.analysis.similarity import cka_matrix, cka_table, linear_cka
from sparsekit.analysis.speed import break_even, log_log_slope, speed_table, step_seconds, storages_of, update_seconds
from sparsekit.analysis.training_flops import Pass, one_off_flops, training_flops, training_flops_table
from sparsekit.analysis.weights import network_at

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
    "judge",
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
