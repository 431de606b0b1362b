"""Numbers about topologies and models. Nothing here ever changes a model.

The functions that the notebooks, plots and widgets use are collected here. Each module has more of its kind.
"""

from sparsekit.analysis.behaviour.calibration import reliability
from sparsekit.analysis.behaviour.circuits import (
    Circuit,
    activations_in,
    circuit_loss,
    edges_of,
    find_circuit,
    gpt_wiring,
    modules_in,
)
from sparsekit.analysis.behaviour.ensemble import ensemble
from sparsekit.analysis.behaviour.prediction_diversity import disagreement, js_divergence, outputs_of
from sparsekit.analysis.behaviour.representation_similarity import cka_table, linear_cka
from sparsekit.analysis.behaviour.signals import gradient_norm, signal_propagation
from sparsekit.analysis.costs.forward_flops import NotCountedWarning, forward_flops
from sparsekit.analysis.costs.ghosts import ghost_cost
from sparsekit.analysis.costs.memory import memory_bytes
from sparsekit.analysis.costs.speed import (
    break_even,
    log_log_slope,
    speed_table,
    speed_verdict,
    step_seconds,
    storages_of,
    update_seconds,
)
from sparsekit.analysis.costs.training_flops import Pass, one_off_flops, training_flops, training_flops_table
from sparsekit.analysis.dynamics.evolution import ages, churn, flip_rate, survival
from sparsekit.analysis.dynamics.exploration import exploration, exploration_expected
from sparsekit.analysis.dynamics.guidance import (
    Guidance,
    guidance,
    guidance_table,
    guided_draws,
    network_recall,
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
from sparsekit.analysis.evidence.claims import assess_claim
from sparsekit.analysis.evidence.factorial import factorial_design, factorial_effects
from sparsekit.analysis.evidence.scaling import ScalingLaw, fit_scaling_law
from sparsekit.analysis.landscape.connectivity import barrier, barrier_matrix, bezier_path, evaluate_path, linear_path
from sparsekit.analysis.landscape.curvature import hessian_spectrum, hessian_trace, top_eigenvalue
from sparsekit.analysis.landscape.planes import PlanePoint, Surface, plane_through, random_plane, surface
from sparsekit.analysis.landscape.ridges import Ridge, clipped_range, highest_ridge
from sparsekit.analysis.landscape.weight_vectors import network_at
from sparsekit.analysis.structure.aligned_distance import topological_distance
from sparsekit.analysis.structure.chain_paths import effective_density, log10_num_paths
from sparsekit.analysis.structure.maps import MdsEmbedding, average_linkage, classical_mds
from sparsekit.analysis.structure.metrics import layer_table, unit_fan_out
from sparsekit.analysis.structure.model_paths import effective_topology_of_model, log10_num_paths_of_model
from sparsekit.analysis.structure.topology_similarity import iou, topology_similarity, topology_similarity_matrix
from sparsekit.topology.paths import effective_topology

__all__ = [
    "Circuit",
    "Guidance",
    "MdsEmbedding",
    "NotCountedWarning",
    "Pass",
    "PlanePoint",
    "Pruning",
    "Ridge",
    "ScalingLaw",
    "Surface",
    "activations_in",
    "ages",
    "assess_claim",
    "average_linkage",
    "barrier",
    "barrier_matrix",
    "bezier_path",
    "break_even",
    "churn",
    "circuit_loss",
    "cka_table",
    "classical_mds",
    "clipped_range",
    "collapse_table",
    "conservation_table",
    "critical_compression",
    "disagreement",
    "edges_of",
    "effective_density",
    "effective_topology",
    "effective_topology_of_model",
    "ensemble",
    "evaluate_path",
    "exploration",
    "exploration_expected",
    "factorial_design",
    "factorial_effects",
    "find_circuit",
    "fit_scaling_law",
    "flip_rate",
    "forward_flops",
    "ghost_cost",
    "gpt_wiring",
    "gradient_norm",
    "guidance",
    "guidance_table",
    "guided_draws",
    "hessian_spectrum",
    "hessian_trace",
    "highest_ridge",
    "iou",
    "js_divergence",
    "layer_table",
    "linear_cka",
    "linear_path",
    "log10_num_paths",
    "log10_num_paths_of_model",
    "log_log_slope",
    "memory_bytes",
    "modules_in",
    "network_at",
    "network_recall",
    "one_off_flops",
    "outputs_of",
    "plane_through",
    "prunings",
    "random_plane",
    "reliability",
    "sampled_ratio_expected",
    "sampled_ratios",
    "score_ranks",
    "signal_propagation",
    "speed_table",
    "speed_verdict",
    "step_seconds",
    "storages_of",
    "surface",
    "survival",
    "top_eigenvalue",
    "topological_distance",
    "topology_similarity",
    "topology_similarity_matrix",
    "training_flops",
    "training_flops_table",
    "unit_fan_out",
    "update_seconds",
]
