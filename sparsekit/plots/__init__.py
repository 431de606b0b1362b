"""Each function draws one figure and returns its axes. None changes a model, `rcParams` or pyplot's figures."""

from sparsekit.plots.canvas import subplots, titled
from sparsekit.plots.circuits import plot_circuit
from sparsekit.plots.collapse import plot_collapse_map, plot_layer_collapse, plot_useful
from sparsekit.plots.colours import STYLES, Style, numbered, style_of, styles_of
from sparsekit.plots.comparing import plot_comparison_matrix, plot_effective_density
from sparsekit.plots.costs import plot_flops, plot_step_times, plot_update_times
from sparsekit.plots.diversity import plot_map, plot_matrix, plot_reliability, plot_tree
from sparsekit.plots.evolution import plot_ages, plot_churn, plot_exploration, plot_survival
from sparsekit.plots.film import film_masks
from sparsekit.plots.guidance import plot_guidance, plot_recall, plot_sampled_ratio
from sparsekit.plots.landscape import plot_barriers, plot_cut, plot_surface, plot_surface_3d
from sparsekit.plots.layers import plot_fan_histogram, plot_input_map, plot_layer_densities
from sparsekit.plots.masks import mask_image, plot_masks, plot_scores, rank_image
from sparsekit.plots.methods import plot_methods
from sparsekit.plots.scaling import plot_scaling
from sparsekit.plots.spectrum import plot_spectrum
from sparsekit.plots.tickets import plot_cycles, plot_superposition, plot_votes
from sparsekit.plots.training import plot_accuracy_density, plot_curves
from sparsekit.plots.tricks import plot_effects, plot_signals, plot_soft_units

__all__ = [
    "STYLES",
    "Style",
    "film_masks",
    "mask_image",
    "numbered",
    "plot_accuracy_density",
    "plot_ages",
    "plot_barriers",
    "plot_churn",
    "plot_circuit",
    "plot_collapse_map",
    "plot_comparison_matrix",
    "plot_curves",
    "plot_cut",
    "plot_cycles",
    "plot_effective_density",
    "plot_effects",
    "plot_exploration",
    "plot_fan_histogram",
    "plot_flops",
    "plot_guidance",
    "plot_input_map",
    "plot_layer_collapse",
    "plot_layer_densities",
    "plot_map",
    "plot_masks",
    "plot_matrix",
    "plot_methods",
    "plot_recall",
    "plot_reliability",
    "plot_sampled_ratio",
    "plot_scaling",
    "plot_scores",
    "plot_signals",
    "plot_soft_units",
    "plot_spectrum",
    "plot_step_times",
    "plot_superposition",
    "plot_surface",
    "plot_surface_3d",
    "plot_survival",
    "plot_tree",
    "plot_update_times",
    "plot_useful",
    "plot_votes",
    "rank_image",
    "style_of",
    "styles_of",
    "subplots",
    "titled",
]
