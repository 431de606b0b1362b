"""Draw the house of the package from its code: rooms as boxes on their floors, imports between rooms as arrows.

`make house` writes `docs/figures/house.svg`, which `docs/architecture.md` shows. Where rooms stand on a floor is found
by a small search, in which arrows cross as little as possible. It has no random numbers, so the same code always gives
the same figure. The six files to read first are marked with their numbers.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from house import FLOORS, PACKAGE, READ_FIRST, ROOT, arrows_of, imports_of, rooms_inside, without_detours

FIGURE = ROOT / "docs" / "figures" / "house.svg"
WIDTH, LEFT, RIGHT, TOP = 800, 52, 784, 96  # where rooms may stand
BOX, BOX_WITH_ROOMS, GAP, BETWEEN, LANE = 48, 66, 40, 16, 4  # heights, between floors, between boxes, half a lane
NAME, TEXT = 8.6, 5.9  # pixels that a letter takes, in names and in the small text
STARTS, STRAIGHT = 12, 40  # tries of the search; how much more a lane wants to be straight than a room to be near
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

Node = tuple[str, int]  # a room on its floor, or the lane on a floor by which arrows pass on their way to a room
Point = tuple[float, float]

FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
GROUND = tuple(FLOORS[0])  # rooms below everything, drawn as one slab


def chains_of(arrows: dict[str, set[str]]) -> set[tuple[Node, Node]]:
    """Return every arrow as links from floor to floor. Arrows to the same room share their lane."""
    links = set()
    for room, ends in arrows.items():
        for end in ends - set(GROUND):
            upper = (room, FLOOR_OF[room])
            for level in range(FLOOR_OF[room] - 1, FLOOR_OF[end] - 1, -1):
                links.add((upper, lower := (end, level)))
                upper = lower
    return links


def ordered(links: set[tuple[Node, Node]]) -> list[list[Node]]:
    """Return the nodes of each floor from left to right: few crossings, then short ways. The best of several starts."""
    nodes = {node for link in links for node in link} | {(room, level) for room, level in FLOOR_OF.items() if level}
    shuffle = random.Random(0).shuffle
    results = []
    for _ in range(STARTS):
        rows = [sorted(node for node in nodes if node[1] == level) for level in range(len(FLOORS))]
        for row in rows:
            shuffle(row)
        results.append((improve(rows, links), rows))
    return min(results)[1]


def improve(rows: list[list[Node]], links: set[tuple[Node, Node]]) -> tuple[int, float]:
    """Let nodes change places, in place, for as long as that helps. Return the cost in the end."""
    best = cost(rows, links)
    while True:
        before = best
        for exchange in exchanges(rows):
            swap(rows, exchange)
            if (new := cost(rows, links)) < best:
                best = new
            else:
                swap(rows, exchange)
        if best == before:
            return best


def exchanges(rows: Sequence[Sequence[Node]]) -> Iterator[list[tuple[Node, Node]]]:
    """Yield what may change places: two nodes of a floor, alone or together with their lanes on the floors below."""
    for row in rows:
        for pair in itertools.combinations(sorted(row), 2):
            exchange = []
            for level in range(pair[0][1], 0, -1):
                below = ((pair[0][0], level), (pair[1][0], level))
                if set(below) <= {*rows[level]}:
                    exchange.append(below)
                    yield list(exchange)


def swap(rows: list[list[Node]], exchange: Sequence[tuple[Node, Node]]) -> None:
    """Let pairs of nodes change places."""
    for one, other in exchange:
        row = rows[one[1]]
        i, j = row.index(one), row.index(other)
        row[i], row[j] = other, one


def cost(rows: Sequence[Sequence[Node]], links: set[tuple[Node, Node]]) -> tuple[int, float]:
    """Return how often links cross, and how far they go sideways if every floor is as wide as any other."""
    place = {node: index for row in rows for index, node in enumerate(row)}
    sideways = sum(abs((place[a] + 0.5) / len(rows[a[1]]) - (place[b] + 0.5) / len(rows[b[1]])) for a, b in links)
    crossings = 0
    for level in range(len(rows)):
        ends = [(place[a], place[b]) for a, b in links if a[1] == level]
        crossings += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(ends, 2))
    return crossings, round(sideways, 9)


def is_room(node: Node) -> bool:
    """Whether a node is a room, and not a lane on the way to one."""
    return FLOOR_OF[node[0]] == node[1]


def half_width(node: Node) -> float:
    """Return half the width of a room's box, or of a lane."""
    if not is_room(node):
        return LANE
    room = node[0]
    letters = max(len(room) * NAME, len(FLOORS[node[1]][room]) * TEXT, len(inside(room)) * TEXT)
    return letters / 2 + 10


def inside(room: str) -> str:
    """Return the names of the rooms inside a room as one text."""
    return " · ".join(rooms_inside(room))


def positions(rows: Sequence[Sequence[Node]], links: set[tuple[Node, Node]]) -> dict[Node, float]:
    """Return where the middle of each node lies: as near as possible to what it is linked with, and apart."""
    x = {node: LEFT + (i + 0.5) / len(row) * (RIGHT - LEFT) for row in rows for i, node in enumerate(row)}
    neighbours = neighbours_of(links)
    for _ in range(300):
        for row in filter(None, rows):
            targets = [mean([x[other] for other in neighbours[node]]) for node in row]
            x.update(zip(row, apart(row, targets), strict=True))
    for room in FLOOR_OF:
        lane = lane_of((room, 0), x)
        if lane and max(x[node] for node in lane) - min(x[node] for node in lane) < LANE:
            x.update(dict.fromkeys(lane, mean([x[node] for node in lane])))
    return x


def neighbours_of(links: set[tuple[Node, Node]]) -> dict[Node, list[Node]]:
    """Return what each node would like to stand above or below. A lane follows its other floors and its room."""
    neighbours: dict[Node, list[Node]] = {}
    for one, other in sorted([*links, *((lower, upper) for upper, lower in links)]):
        neighbours.setdefault(one, []).append(other)
    return {node: near if is_room(node) else lane_of(node, neighbours) for node, near in neighbours.items()}


def lane_of(node: Node, nodes: Iterable[Node]) -> list[Node]:
    """Return all nodes of a lane, the room at its end included."""
    return [other for other in sorted(nodes) if other[0] == node[0]]


def apart(row: Sequence[Node], targets: Sequence[float]) -> list[float]:
    """Move nodes as little as possible until they keep their distance and stay between the walls."""
    halves = [half_width(node) for node in row]
    offsets = [0.0, *itertools.accumulate(a + b + BETWEEN for a, b in itertools.pairwise(halves))]
    blocks: list[list[float]] = []  # of nodes that touch: their weighted targets less the offsets, weight, number
    for node, target, offset in zip(row, targets, offsets, strict=True):
        weight = 1 if is_room(node) else STRAIGHT
        blocks.append([(target - offset) * weight, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    starts = [total / weight for total, weight, number in blocks for _ in range(int(number))]
    low, high = LEFT + halves[0], RIGHT - halves[-1] - offsets[-1]
    return [min(max(start, low), high) + offset for start, offset in zip(starts, offsets, strict=True)]


def mean(numbers: Sequence[float]) -> float:
    """Return the mean of some numbers."""
    return sum(numbers) / len(numbers)


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


def link_path(link: tuple[Node, Node], links: set[tuple[Node, Node]], x: dict, spans: Sequence[Point]) -> Iterator[str]:
    """Yield the line of a link, with a head where it reaches a room."""
    upper, lower = link
    begin = (port(upper, lower, links, x), spans[upper[1]][1])
    end = (x[lower], spans[lower[1]][0])
    if is_room(lower):
        yield f'<path class="arrow" d="{curve(begin, (end[0], end[1] - 6))}"/>' + head(end)
    else:
        yield f'<path class="arrow" d="{curve(begin, end)}V{spans[lower[1]][1]:g}"/>'


def port(upper: Node, lower: Node, links: set[tuple[Node, Node]], x: dict[Node, float]) -> float:
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
