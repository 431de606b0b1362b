"""One colour, marker and dash for each method, the same in every figure.

Thirty methods cannot have thirty colours that everybody tells apart. So each family of methods has one colour
out of a palette safe for colour-blind readers, and within a family marker and dashes differ; no two methods
share all three. Scores before training, which are compared with each other, have a colour each. The mask
colours are those of the widgets.
"""

import hashlib
from dataclasses import dataclass

# Okabe and Ito (2008), Color Universal Design: the palette without its yellow, which is too pale for lines on white.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, VERMILLION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"
GREY = "#666666"  # a lighter grey looks like the green or the purple to readers without green cones
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)

PAPER = "#f4f1ea"  # a place without a connection
INK = "#12355b"  # a connection
GROWN = GREEN  # a connection that a rewiring grew
DROPPED = VERMILLION  # a connection that a rewiring dropped
BASELINE = "#555555"  # what chance or theory says, beside what was measured

SOLID, DASHED, DOTTED, DASH_DOT = "-", "--", ":", "-."
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a method is drawn, in matplotlib's words."""

    colour: str
    marker: str = "o"
    dashes: str = SOLID


STYLES: dict[str, Style] = {
    "dense": Style(colour=BLACK, marker="s"),
    "narrow-dense": Style(colour=BLACK, marker="D", dashes=DASHED),
    "static": Style(colour=GREY, marker="s"),
    "random": Style(colour=GREY, marker="v", dashes=DOTTED),
    "uniform": Style(colour=GREY, marker="X", dashes=DASH_DOT),
    "er": Style(colour=SKY, marker="D"),
    "erk": Style(colour=PURPLE, marker="P", dashes=DASH_DOT),
    "set": Style(colour=ORANGE, marker="^"),
    "mest": Style(colour=ORANGE, marker="v", dashes=DASHED),
    "deepr": Style(colour=ORANGE, marker="D", dashes=DOTTED),
    "dsr": Style(colour=ORANGE, marker="X", dashes=DASH_DOT),
    "set-itop": Style(colour=ORANGE, marker="o", dashes=DASHED),
    "mest-soft": Style(colour=ORANGE, marker="P", dashes=DOTTED),
    "rigl": Style(colour=VERMILLION, marker="o"),
    "rigl-itop": Style(colour=VERMILLION, marker="^", dashes=DASHED),
    "dynamic-n-of-m": Style(colour=VERMILLION, marker="v", dashes=DASH_DOT),
    "srigl": Style(colour=VERMILLION, marker="D", dashes=DASHED),
    "snfs": Style(colour=VERMILLION, marker="X", dashes=DOTTED),
    "top-kast": Style(colour=VERMILLION, marker="P", dashes=DASH_DOT),
    "gse": Style(colour=BLUE, marker="o"),
    "gse-uniform": Style(colour=BLUE, marker="s"),
    "gse-grabo": Style(colour=BLUE, marker="^", dashes=DASHED),
    "gse-graest": Style(colour=BLUE, marker="D", dashes=DOTTED),
    "gse-synflow": Style(colour=BLUE, marker="v", dashes=DASH_DOT),
    "gse-released": Style(colour=BLUE, marker="X", dashes=DASH_DOT),
    "gmp": Style(colour=GREEN, marker="s"),
    "granet": Style(colour=GREEN, marker="^", dashes=DASHED),
    "str": Style(colour=GREEN, marker="D", dashes=DOTTED),
    "sr-ste": Style(colour=GREEN, marker="v", dashes=DASH_DOT),
    # Scores before training are looked at together: each has a colour of its own, random's and seven more.
    "magnitude": Style(colour=BLACK, marker="D", dashes=DOTTED),
    "snip": Style(colour=VERMILLION, marker="s"),
    "iterative-snip": Style(colour=ORANGE, marker="P", dashes=DASHED),
    "force": Style(colour=PURPLE, marker="^", dashes=DOTTED),
    "grasp": Style(colour=GREEN, marker="P", dashes=DASH_DOT),
    "synflow": Style(colour=BLUE, marker="P"),
    "taylor": Style(colour=SKY, marker="o", dashes=DASHED),
    "lottery-tickets": Style(colour=PURPLE, marker="*"),
    "sup-tickets": Style(colour=PURPLE, marker="P", dashes=DASHED),
    "tost": Style(colour=PURPLE, marker="X", dashes=DOTTED),
}


def style_of(method: str) -> Style:
    """Return how a method is drawn; upper case, spaces and underscores make no difference.

    A method without a place in `STYLES` gets a style from its name: the same in every figure and every
    session, and never that of a known method.

    Example:
        >>> style_of("RigL") == style_of("rigl"), style_of("mine") == style_of("mine")
        (True, True)
    """
    name = method.lower().replace("_", "-").replace(" ", "-")
    return STYLES.get(name) or _free_style(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(_ALL))


def numbered(index: int) -> Style:
    """Return the style of the i-th of several equal things, as layers or tickets, counted from 0."""
    dashes = (SOLID, DASHED, DOTTED, DASH_DOT)[index // len(PALETTE) % 4]
    return Style(colour=PALETTE[index % len(PALETTE)], marker=MARKERS[index % len(MARKERS)], dashes=dashes)


_ALL = [
    Style(colour=colour, marker=marker, dashes=dashes)
    for colour in PALETTE
    for marker in MARKERS
    for dashes in (SOLID, DASHED, DOTTED, DASH_DOT)
]


def _free_style(place: int) -> Style:
    """Walk on to a style that nobody has: a new entry in `STYLES` moves no other name but that which had its style."""
    return next(style for style in _ALL[place:] + _ALL if style not in STYLES.values())
