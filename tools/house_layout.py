"""Where the rooms of the house stand on their floors: a small search, after which few arrows cross.

Its random numbers are seeded, so the same rooms and arrows always give the same places.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from house import FLOORS, rooms_inside

LEFT, RIGHT = 52, 784  # the walls
BETWEEN, LANE = 16, 4  # pixels between boxes, and half the width of a lane
NAME, TEXT = 8.6, 5.9  # pixels that a letter takes, in names and in the small text
STARTS, STRAIGHT = 12, 40  # tries of the search; how much more a lane wants to be straight than a room to be near

Node = tuple[str, int]  # a room on its floor, or the lane on a floor by which arrows pass on their way to a room
Links = set[tuple[Node, Node]]  # each from a floor to the one below

FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
GROUND = tuple(FLOORS[0])  # rooms below everything, drawn as one slab


def chains_of(arrows: dict[str, set[str]]) -> Links:
    """Return every arrow as links from floor to floor. Arrows to the same room share their lane."""
    links = set()
    for room, ends in arrows.items():
        for end in ends - set(GROUND):
            upper = (room, FLOOR_OF[room])
            for level in range(FLOOR_OF[room] - 1, FLOOR_OF[end] - 1, -1):
                links.add((upper, lower := (end, level)))
                upper = lower
    return links


def ordered(links: Links) -> list[list[Node]]:
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


def improve(rows: list[list[Node]], links: Links) -> tuple[int, float]:
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


def cost(rows: Sequence[Sequence[Node]], links: Links) -> tuple[int, float]:
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


def positions(rows: Sequence[Sequence[Node]], links: Links) -> dict[Node, float]:
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


def neighbours_of(links: Links) -> dict[Node, list[Node]]:
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
