"""One colour, marker and dash for each method, the same in every figure.

Thirty methods cannot have thirty colours that everybody tells apart. So each family of methods has one colour out of a
palette safe for colour-blind readers, and within a family marker and dashes differ, so that no two methods share all
three. Scores before training, which are compared with each other, have a colour each. A new method needs no line here.
It gets a style from its name, or with the colour that it was registered with, and within one figure it looks like none
of the others. All colours are those of `palette.LIGHT`, which dark pages exchange for `palette.DARK`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypedDict
from weakref import WeakKeyDictionary

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsekit.plots.palette import LIGHT
from sparsekit.utils.registry import facts_of

INK, GREY, BLUE, VERMILLION = (LIGHT[name] for name in ("ink", "static", "gse", "rigl"))
ORANGE, GREEN, PURPLE, NAVY = (LIGHT[name] for name in ("set", "pruning", "tickets", "drawn"))
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, NAVY, INK, GREY)
# Layers and tickets are no methods. A grey would look like the third to readers without green cones.
NUMBERED = (LIGHT["plus"], LIGHT["minus"], LIGHT["third"], PURPLE, INK, ORANGE, NAVY)

PAPER = LIGHT["surface"]  # a position without a connection
GROWN = INK  # a connection that a rewiring grew, beside pale ones that stayed
KEPT = LIGHT["kept"]  # a connection that stayed, where others have changed
DROPPED = LIGHT["soft"]  # a connection that a rewiring dropped, drawn hollow where there is room
BASELINE = LIGHT["soft"]  # what chance or theory says, beside what was measured

SOLID, DASHED, DOTTED, DASH_DOT = "-", "--", ":", "-."
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a method is drawn, in matplotlib's words."""

    colour: str
    marker: str = "o"
    dashes: str = SOLID


STYLES: dict[str, Style] = {
    "dense": Style(colour=INK, marker="s"),
    "narrow-dense": Style(colour=INK, marker="D", dashes=DASHED),
    "static": Style(colour=GREY, marker="s"),
    "random": Style(colour=GREY, marker="v", dashes=DOTTED),
    "uniform": Style(colour=GREY, marker="X", dashes=DASH_DOT),
    "er": Style(colour=NAVY, marker="D"),
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
    # Scores before training are compared with each other, so each has a colour of its own, random's and seven more.
    "magnitude": Style(colour=INK, marker="D", dashes=DOTTED),
    "snip": Style(colour=VERMILLION, marker="s"),
    "iterative-snip": Style(colour=ORANGE, marker="P", dashes=DASHED),
    "force": Style(colour=PURPLE, marker="^", dashes=DOTTED),
    "grasp": Style(colour=GREEN, marker="P", dashes=DASH_DOT),
    "synflow": Style(colour=BLUE, marker="P"),
    "taylor": Style(colour=NAVY, marker="o", dashes=DASHED),
    "lottery-tickets": Style(colour=PURPLE, marker="*"),
    "sup-tickets": Style(colour=PURPLE, marker="P", dashes=DASHED),
    "tost": Style(colour=PURPLE, marker="X", dashes=DOTTED),
}
"""The look of each registered method, which is the same in every figure."""


def style_of(method: str) -> Style:
    """Return how a method is drawn alone. Upper case, spaces and underscores make no difference.

    A method without a line in `STYLES` gets a style from its name. It is the same in every session, and never that of
    a known method.

    Example:
        >>> style_of("RigL") == style_of("rigl"), style_of("mine") == style_of("mine")
        (True, True)
    """
    return styles_of([method])[method]


def styles_of(methods: Iterable[str], before: Mapping[str, Style] = MappingProxyType({})) -> dict[str, Style]:
    """Return how several methods are drawn in one figure, no two alike.

    A method without a line in `STYLES` gets a colour that no other of them has, for as long as the palette has one.
    From then on it differs in marker or dashes. The order of the names makes no difference.

    Args:
        methods: their names, or an empty text for what has none.
        before: the styles of methods that the figure shows already. They stay as they are.

    Example:
        >>> looks = styles_of(["rigl", "mine", "yours"])
        >>> looks["rigl"] == style_of("rigl"), len({look.colour for look in looks.values()})
        (True, 3)
    """
    methods = list(methods)
    styles = {_spelled(name): style for name, style in before.items()}
    names = sorted({_spelled(method) for method in methods} - set(styles))
    styles |= {name: STYLES[name] if name else Style(colour=INK) for name in names if name in STYLES or not name}
    for name in names:
        if name not in styles:
            styles[name] = _new_style(name, list(styles.values()))
    return {**before, **{method: styles[_spelled(method)] for method in methods}}


def styles_on(ax: Axes, methods: Iterable[str]) -> dict[str, Style]:
    """Return how methods are drawn on these axes, unlike all methods that their figure shows already."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    _shown_in[figure] = styles_of(methods, _shown_in.get(figure, {}))
    return _shown_in[figure]


class Nested(TypedDict):
    """How wide a line is, in matplotlib's words."""

    linewidth: float
    markersize: float


def nested(rank: int, count: int) -> Nested:
    """Return width and marker of the rank-th of several lines, the wider the earlier, so that none hides another.

    Example:
        >>> nested(0, 1), nested(0, 2)["linewidth"] > nested(1, 2)["linewidth"]
        ({'linewidth': 1.6, 'markersize': 5.0}, True)
    """
    above = (count - 1 - rank) / max(1, count - 1)  # share of the others that are drawn over it
    return {"linewidth": 1.6 + 1.2 * above, "markersize": 5.0 + 2.5 * above}


def numbered(index: int) -> Style:
    """Return the style of the i-th of several equal things, as layers or tickets, counted from 0."""
    dashes = (SOLID, DASHED, DOTTED, DASH_DOT)[index // len(NUMBERED) % 4]
    return Style(colour=NUMBERED[index % len(NUMBERED)], marker=MARKERS[index % len(MARKERS)], dashes=dashes)


_ALL = [
    Style(colour=colour, marker=marker, dashes=dashes)
    for colour in PALETTE
    for marker in MARKERS
    for dashes in (SOLID, DASHED, DOTTED, DASH_DOT)
]
_shown_in: WeakKeyDictionary[Figure, dict[str, Style]] = WeakKeyDictionary()


def _spelled(method: str) -> str:
    return method.lower().replace("_", "-").replace(" ", "-")


def _new_style(name: str, others: list[Style]) -> Style:
    """Walk on from a style that the name alone decides to the first free one in one of the rarest colours.

    A new entry in `STYLES` moves no other name but that which had its style.
    """
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(_ALL)
    styles = [*_ALL[first:], *_ALL[:first]]
    if colour := _registered_colour(name):
        styles = [replace(style, colour=colour) for style in styles]
    uses = Counter(style.colour for style in others)
    taken = {*STYLES.values(), *others}
    free = [style for style in styles if style not in taken]
    return min(free, key=lambda style: uses[style.colour], default=styles[0])  # the first of equals


def _registered_colour(name: str) -> str | None:
    colours = (facts_of(kind, name).colour for kind in ("method", "rule", "score"))
    return next(filter(None, colours), None)
