"""Widgets for notebooks are thin views over pure functions.

Every widget shows itself alive in JupyterLab, as a static image on GitHub, and as one sentence in plain text. Nothing
is fetched from a network, no callback prints or draws with pyplot, and no notebook needs a callback to run to its end.
"""

try:
    import anywidget  # noqa: F401 - only to see whether it is there
    import ipywidgets  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'widgets need the packages of notebooks, got {error}. Run: pip install "sparsekit-lab[notebooks]"'
    ) from error

from sparsekit.widgets.branches import Branches
from sparsekit.widgets.cards import Card
from sparsekit.widgets.circuit_explorer import CircuitExplorer
from sparsekit.widgets.collection_film import CollectionFilm
from sparsekit.widgets.contents_page import Contents
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.curve import Curve
from sparsekit.widgets.diversity_map import DiversityMap
from sparsekit.widgets.exercises import Check, Predict, Verdict, check, own_best
from sparsekit.widgets.explorer import MaskExplorer
from sparsekit.widgets.figure_explorer import FigureExplorer
from sparsekit.widgets.film import TopologyFilm
from sparsekit.widgets.guidance_explorer import GuidanceExplorer
from sparsekit.widgets.landscape_explorer import LandscapeExplorer
from sparsekit.widgets.live import Run, Snapshot
from sparsekit.widgets.live_speed import live_speed
from sparsekit.widgets.live_training import live_training
from sparsekit.widgets.mask_tiles import LayerTable, MaskTiles
from sparsekit.widgets.network_film import NetworkFilm, film_of
from sparsekit.widgets.network_view import NetworkView
from sparsekit.widgets.panel import LivePanel
from sparsekit.widgets.race import Race
from sparsekit.widgets.ranked import RankedScores
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.score_explorer import ScoreExplorer
from sparsekit.widgets.settings_picker import RulePicker, SettingsPicker, TrickPicker
from sparsekit.widgets.steering import Control
from sparsekit.widgets.text_explorer import TextExplorer
from sparsekit.widgets.ticket_lab import TicketLab

__all__ = [
    "Branches",
    "Card",
    "Check",
    "CircuitExplorer",
    "CollectionFilm",
    "Contents",
    "Control",
    "Controls",
    "Curve",
    "DiversityMap",
    "Field",
    "FigureExplorer",
    "GuidanceExplorer",
    "LandscapeExplorer",
    "LayerTable",
    "LivePanel",
    "MaskExplorer",
    "MaskTiles",
    "NetworkFilm",
    "NetworkView",
    "Predict",
    "Race",
    "RankedScores",
    "RulePicker",
    "Run",
    "ScoreExplorer",
    "SettingsPicker",
    "Snapshot",
    "StaticImage",
    "TextExplorer",
    "TicketLab",
    "TopologyFilm",
    "TrickPicker",
    "Verdict",
    "check",
    "film_of",
    "live_speed",
    "live_training",
    "own_best",
]
