"""Draw the house of the package from its code: rooms as boxes on their floors, imports between rooms as arrows.

`make house` writes `docs/figures/house.svg`, which `docs/architecture.md` shows. Where rooms stand on a floor is found
by a small search (`house_layout.py`), and the same code always gives the same figure.
"""

from collections.abc import Iterator, Sequence
from html import escape

from house import FLOORS, PACKAGE, READ_FIRST, ROOT, arrows_of, imports_of, without_detours
from house_layout import (
    FLOOR_OF,
    GROUND,
    LEFT,
    RIGHT,
    Links,
    Node,
    chains_of,
    half_width,
    inside,
    is_room,
    ordered,
    positions,
)

FIGURE = ROOT / "docs" / "figures" / "house.svg"
WIDTH, TOP = 800, 96
BOX, BOX_WITH_ROOMS, GAP = 48, 66, 40  # heights of boxes, and of the space between floors
STYLE = """
svg { --paper: #fbfaf7; --surface: #ffffff; --ink: #16191d; --soft: #59616b; --line: #e3e0d8; --edge: #c9c5ba }
@media (prefers-color-scheme: dark) {
  svg { --paper: #0e1216; --surface: #151a20; --ink: #eef0f2; --soft: #9aa5b1; --line: #272e37; --edge: #46505c }
}
text { font: 12px Inter, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: var(--soft) }
.title { font-size: 21px; font-weight: 650; letter-spacing: -0.012em; fill: var(--ink) }
.caption { font-size: 13px }
.name { font-size: 15px; font-weight: 600; fill: var(--ink) }
.number { font-size: 12px; font-weight: 600; fill: var(--paper) }
.middle { text-anchor: middle }
.paper { fill: var(--paper) }
.room { fill: var(--surface); stroke: var(--edge) }
.floor { stroke: var(--line); stroke-width: 2 }
.arrow { fill: none; stroke: var(--soft); stroke-width: 1.4 }
.head { fill: var(--soft) }
.mark { fill: var(--ink) }
"""

Point = tuple[float, float]


def tops_and_bottoms() -> list[tuple[float, float]]:
    """Return where the boxes of each floor begin and end, from the lowest floor to the highest."""
    y, spans = float(TOP), []
    for rooms in reversed(FLOORS):
        height = BOX_WITH_ROOMS if any(map(inside, rooms)) else BOX
        spans.append((y, y + height))
        y += height + GAP
    return spans[::-1]


def draw(arrows: dict[str, set[str]]) -> str:
    """Return the figure as SVG."""
    direct = without_detours(arrows)
    links = chains_of(direct)
    rows = ordered(links)
    x, spans = positions(rows, links), tops_and_bottoms()
    height = spans[0][1] + 24
    body = [
        f'<rect class="paper" width="{WIDTH}" height="{height:g}" rx="10"/>',
        *header(arrows, direct),
        *(floor(level, bottom) for level, (_, bottom) in enumerate(spans)),
        *(path for link in sorted(links) for path in link_path(link, links, x, spans)),
        *(path for room in direct for path in to_ground(room, direct, x, spans)),
        *(box for row in rows for node in row if is_room(node) for box in room_box(node, x[node], spans)),
        *ground(spans[0]),
    ]
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    label = f"The {len(FLOOR_OF)} rooms of sparsekit on {len(FLOORS)} floors, and the imports between them"
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">'
    return "\n".join([start, f"<style>{STYLE}</style>", *body, "</svg>", ""])


def header(arrows: dict[str, set[str]], direct: dict[str, set[str]]) -> Iterator[str]:
    """Yield the title and what the marks mean."""
    count, shown = (sum(map(len, these.values())) for these in (arrows, direct))
    yield text(24, 38, f"{len(FLOOR_OF)} rooms on {len(FLOORS)} floors, and every import leads down", "title")
    yield text(
        24,
        60,
        f"An arrow is an import. {count - shown} of {count} follow from others and are left out. "
        "Arrows to the same room share a line.",
        "caption",
    )
    yield text(24, 78, "The numbers 1 to 6 mark the rooms with the files to read first.", "caption")


def floor(level: int, bottom: float) -> str:
    """Return a floor: its number, and the line that its rooms stand on."""
    line = f'<path class="floor" d="M24 {bottom:g}H{RIGHT}"/>'
    return line + text(30, bottom - 10, str(level), "middle")


def link_path(link: tuple[Node, Node], links: Links, x: dict, spans: Sequence[Point]) -> Iterator[str]:
    """Yield the line of a link, with a head where it reaches a room."""
    upper, lower = link
    begin = (port(upper, lower, links, x), spans[upper[1]][1])
    end = (x[lower], spans[lower[1]][0])
    if is_room(lower):
        yield f'<path class="arrow" d="{curve(begin, (end[0], end[1] - 6))}"/>' + head(end)
    else:
        yield f'<path class="arrow" d="{curve(begin, end)}V{spans[lower[1]][1]:g}"/>'


def port(upper: Node, lower: Node, links: Links, x: dict[Node, float]) -> float:
    """Return where a link leaves its node: side by side with the others, in the order in which they end."""
    ends = sorted((x[end], end) for begin, end in links if begin == upper)
    index = [end for _, end in ends].index(lower)
    return x[upper] + 16 * (index - (len(ends) - 1) / 2)


def curve(begin: Point, end: Point) -> str:
    """Return a line that leaves and arrives vertically."""
    middle = (begin[1] + end[1]) / 2
    if abs(begin[0] - end[0]) < 0.5:
        return f"M{end[0]:.1f} {begin[1]:g}V{end[1]:g}"
    return f"M{begin[0]:.1f} {begin[1]:g}C{begin[0]:.1f} {middle:g} {end[0]:.1f} {middle:g} {end[0]:.1f} {end[1]:g}"


def head(end: Point) -> str:
    """Return the head of an arrow that points down."""
    return f'<path class="head" d="M{end[0]:.1f} {end[1] - 1:g}l-4 -8h8z"/>'


def to_ground(room: str, direct: dict[str, set[str]], x: dict[Node, float], spans: Sequence[Point]) -> Iterator[str]:
    """Yield the arrow from a room straight down to the slab that everything stands on."""
    if direct[room] & set(GROUND):
        where = x[room, FLOOR_OF[room]]
        yield f'<path class="arrow" d="M{where:.1f} {spans[FLOOR_OF[room]][1]:g}V{spans[0][0] - 6:g}"/>'
        yield head((where, spans[0][0]))


def room_box(node: Node, x: float, spans: Sequence[Point]) -> Iterator[str]:
    """Yield a room: its box, its name, what is in it, and the rooms inside."""
    (room, level), half = node, half_width(node)
    top, bottom = spans[level]
    yield f'<rect class="room" x="{x - half:.1f}" y="{top:g}" width="{2 * half:.1f}" height="{bottom - top:g}" rx="8"/>'
    yield from words(room, FLOORS[level][room], inside(room), x, (top + bottom) / 2)
    yield from mark(room, x - half, top)


def words(room: str, phrase: str, names: str, x: float, middle: float) -> Iterator[str]:
    """Yield the two or three lines of a box."""
    y = middle - 3 - (9 if names else 0)
    yield text(x, y, room, "name middle")
    yield text(x, y + 17, phrase, "middle")
    if names:
        yield text(x, y + 34, names, "middle")


def mark(room: str, left: float, top: float) -> Iterator[str]:
    """Yield the number of the file to read, at the corner of its room."""
    for number, path in enumerate(READ_FIRST, 1):
        if path.partition("/")[0] == room:
            yield f'<circle class="mark" cx="{left:.1f}" cy="{top:g}" r="10"/>'
            yield text(left, top + 4.2, str(number), "number middle")


def ground(span: Point) -> Iterator[str]:
    """Yield the slab of the lowest floor."""
    top, bottom = span
    width = RIGHT - LEFT
    yield f'<rect class="room" x="{LEFT}" y="{top:g}" width="{width}" height="{bottom - top:g}" rx="8"/>'
    for room in GROUND:
        yield from words(room, FLOORS[0][room], inside(room), LEFT + width / 2, (top + bottom) / 2)


def text(x: float, y: float, words: str, kind: str) -> str:
    """Return one line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:g}">{escape(words)}</text>'


def main() -> None:
    """Write the figure anew."""
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    FIGURE.write_text(draw(arrows_of(imports_of(PACKAGE))), encoding="utf-8")
    print(f"wrote {FIGURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
