"""Every colour that a reader sees, once for light and once for dark pages, under the name of what it is for.

Colour means the sign of a weight, a ticket or a method, and nothing else: the interface, curves and what is chosen are
ink on paper. Readers without red or green cones tell every pair apart that one figure shows (differences in CIELAB,
simulated as in Machado et al. 2009). `sparsekit/widgets/static/style.css` gives the same colours to the browser.
"""

from collections.abc import Mapping
from types import MappingProxyType

LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "paper": "#fbfaf7",  # the ground
        "surface": "#ffffff",  # masks, squares and buttons
        "ink": "#16191d",  # text, curves, what is chosen, and connections that a rewiring grew
        "soft": "#59616b",  # captions and axes, and connections that a rewiring dropped
        "kept": "#8c8e8c",  # connections that a rewiring left, where it grew and dropped others
        "faint": "#c9c5ba",  # decoration only
        "line": "#e3e0d8",  # grids and tracks
        "plus": "#0b63b8",  # positive weights, and the first ticket
        "minus": "#cf5200",  # negative weights, and the second ticket
        "third": "#0f7a5c",  # the third ticket
        "static": "#666666",
        "set": "#c98a00",
        "rigl": "#a83a00",
        "gse": "#0b63b8",
        "pruning": "#12a05f",  # methods that grow sparser in training
        "tickets": "#8a1fe8",  # methods that collect tickets, and the fourth ticket
        "drawn": "#0c3d63",  # layouts that are drawn by the sizes of layers
    }
)
DARK: Mapping[str, str] = MappingProxyType(
    {
        "paper": "#0e1216",
        "surface": "#151a20",
        "ink": "#eef0f2",
        "soft": "#9aa5b1",
        "kept": "#66717d",
        "faint": "#46505c",
        "line": "#272e37",
        "plus": "#5aaeff",
        "minus": "#ff9442",
        "third": "#4fd0a5",
        "static": "#a3a9b0",
        "set": "#f2cf63",
        "rigl": "#e9652e",
        "gse": "#5aaeff",
        "pruning": "#35d68f",
        "tickets": "#a35cf0",
        "drawn": "#3a7fa8",
    }
)
