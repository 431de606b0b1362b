"""The report of the benchmarks, as tables in Markdown made from nothing but the files of results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsekit.analysis.costs.benchmark.memory import PARTS
from sparsekit.analysis.costs.benchmark.trends import break_even_text
from sparsekit.analysis.costs.benchmark.update import STEP
from sparsekit.analysis.costs.speed import log_log_slope
from sparsekit.utils.timing import MAX_WAITED, MIN_CLEAN, WARM_BELOW

Results = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

# The speed-ups over the best dense torch that this package aims at, by case, method and sparsity. The first were set by
# a prototype on an AMD EPYC (Zen 5), on which dense kernels gain less from AVX-512, and are taken wherever there are no
# others. Those for Intel come from sketches on a Xeon (Sapphire Rapids).
Floors = Mapping[tuple[str, str], Mapping[float, float]]
FLOORS: Floors = {
    ("linear", "csr, feature-major"): {0.8: 2.2, 0.9: 4.0, 0.95: 7.5, 0.98: 14.0},
    ("linear", "csr, contiguous"): {0.8: 2.0, 0.9: 3.0, 0.95: 4.5, 0.98: 7.0},
    ("conv", "csr, feature-major"): {0.8: 2.2, 0.9: 3.8, 0.95: 6.0, 0.98: 8.0},
    ("conv", "csr, contiguous"): {0.8: 1.9, 0.9: 2.9, 0.95: 4.3, 0.98: 6.0},
    ("conv", "csr, channels-last"): {0.8: 1.9, 0.9: 2.9, 0.95: 4.3, 0.98: 6.0},
    ("mlp", "csr"): {0.8: 2.0, 0.9: 3.5, 0.95: 6.0, 0.98: 9.0},
    ("resnet20", "csr"): {0.8: 1.6, 0.9: 2.0, 0.95: 2.6, 0.98: 2.8},
    ("resnet18", "csr"): {0.8: 2.0, 0.9: 3.3, 0.95: 4.3, 0.98: 5.0},
}
INTEL_FLOORS: Floors = {
    ("linear", "csr, feature-major"): {0.9: 3.8, 0.95: 5.8, 0.98: 8.8},
    ("conv", "csr, feature-major"): {0.9: 3.5, 0.95: 6.2, 0.98: 10.0},
    ("conv", "csr, contiguous"): {0.9: 2.9, 0.95: 4.7, 0.98: 6.5},
    ("conv", "csr, channels-last"): {0.9: 2.9, 0.95: 4.7, 0.98: 6.5},
    ("mlp", "csr"): {0.9: 3.8, 0.95: 6.0, 0.98: 9.0},
    ("resnet20", "csr"): {0.9: 1.9, 0.95: 2.4, 0.98: 2.8},
}
WIDE = 0.2  # share of the median, as ratios lie closer together on a machine without other work
SLOPE_FLOOR = 1.15  # at most, of GSE's whole update
INTRODUCTION = f"""# Benchmarks

This report is written by `sparsekit bench`, so do not edit it. All methods of a case take turns in one process, round
by round, in alternating order. Before each sample as many calls come that are not timed, unless one takes
{WARM_BELOW:.0f} s. Times are medians with quartiles. A speed-up is the median of the ratios *within* the rounds, to the
dense variant with the lowest median ("best dense"). Samples during which threads waited for a core more than
{100 * MAX_WAITED:.0f} % of the time are left out. Marked cells are doubtful: `*` has fewer than {MIN_CLEAN} clean
samples, and `~` quartiles more than {100 * WIDE:.0f} % of the median apart. All numbers are float32, but
for the methods called bf16.
"""


def render(results: Mapping[str, Results]) -> str:
    """Return the report on results by suite.

    Args:
        results: what the files of results hold, by suite. Missing ones are left out.
    """
    parts = [INTRODUCTION]
    for what, title in (("layers", "Layers"), ("networks", "Networks"), ("update", "Update"), ("memory", "Memory")):
        if what in results and results[what]["rows"]:
            parts += [
                f"## {title}",
                EXPLAINED[what],
                _machine(results[what]["about"]),
                *SECTIONS[what](results[what]),
            ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


EXPLAINED = {
    "layers": "One step is a forward pass, the gradient of the input, and that of the weights or values. `contiguous`\n"
    "and `channels-last` have input, output and both gradients in that format, so csr's conversions are counted.\n"
    "`feature-major` is the format in which csr layers hand activations to each other. `inductor` is the layer under\n"
    "`torch.compile`, where that works: linear ones `contiguous`, convolutions `channels-last`. Torch CSR and scipy\n"
    "compute convolutions on the unfolded input, and sparselab has none.",
    "networks": "One training step is loss, backward pass and SGD with momentum. The head, and the first layer of the\n"
    "convolutional networks, keep all connections (as csr in `csr`, dense elsewhere). `inductor` is the model under\n"
    '`torch.compile`, where that works, convolutional ones `channels-last`. `auto` is what `storage="auto"` chose\n'
    "among `masked` and `csr` before, so it should be as fast as the better of the two.",
    "update": "One whole change of topology of one layer: choose by captured activations, move values and momentum,\n"
    "make the kernels' index arrays anew. 20 % of the connections are exchanged. Brackets give the time in training\n"
    "steps of the same bare layer.",
    "memory": "Bytes per connection that a csr layer holds while it trains with SGD and momentum, counted from the\n"
    "live tensors after one step. Activations are left out. A dense layer takes 12 per position.",
}


def _machine(about: Mapping[str, str]) -> str:
    return "Measured on: " + ", ".join(f"{name} {value}" for name, value in about.items()) + "."


# --- layers and networks ----------------------------------------------------------------------------------------


def _speed_sections(results: Results) -> list[str]:
    rows, parts = results["rows"], []
    floors = INTEL_FLOORS if "Intel" in results["about"].get("processor", "") else FLOORS
    for case, threads in _distinct((row["case"], row["threads"]) for row in rows):
        case_rows = [row for row in rows if (row["case"], row["threads"]) == (case, threads)]
        heading = f"### {case_rows[0]['title']}, {_threads(threads)}"
        parts += [heading, _speed_table(case_rows, floors), *_losses(case_rows), _time_table(case_rows)]
    return parts


def _losses(rows: Rows) -> list[str]:
    """Say at which sparsities the best csr method is slower than a dense rival, bfloat16 included."""
    lost = []
    for density in _distinct(row["density"] for row in rows):
        times = {row["method"]: row["ms"][1] for row in rows if row["density"] == density and "ms" in row}
        csr = min((time for method, time in times.items() if method.startswith("csr")), default=0)
        dense = [method for method in times if method.startswith(("dense", "bf16"))]
        best = min(dense, key=times.__getitem__, default=None)
        if best is not None and times[best] < csr:
            lost.append(f"at {_percent(1 - density)} to `{best}` (which takes {times[best] / csr:.2f} of its time)")
    return [f"csr loses {', '.join(lost)}."] if lost else []


def _speed_table(rows: Rows, floors: Floors) -> str:
    """Return the speed-up over the best dense variant, by method and sparsity, with floors and break-even."""
    case = rows[0]["case"]
    densities = _distinct(row["density"] for row in rows)
    heads = ["speed-up over best dense", *(_percent(1 - density) for density in densities), "break-even", "floor"]
    lines = []
    for method in _distinct(row["method"] for row in rows):
        cells = {row["density"]: row for row in rows if row["method"] == method}
        speeds = {density: row["speedup"][1] for density, row in cells.items()}
        columns = [_speed(cells.get(density)) for density in densities]
        is_dense = method.startswith(("dense", "bf16"))
        floor = _floor(floors.get((case, method), {}), speeds)
        lines.append([method, *columns, "" if is_dense else break_even_text(speeds), floor])
    return _table(heads, lines)


def _floor(floors: Mapping[float, float], speeds: Mapping[float, float]) -> str:
    """Return the floors of a method by sparsity, and whether they hold."""
    verdicts = []
    for sparsity, floor in floors.items():
        speed = speeds.get(round(1 - sparsity, 6))
        if speed is not None:
            verdicts.append(f"{floor:g} at {_percent(sparsity)}: {'holds' if speed >= floor else 'missed'}")
    return ", ".join(verdicts)


def _time_table(rows: Rows) -> str:
    """Return the milliseconds with quartiles, by method and sparsity."""
    densities = _distinct(row["density"] for row in rows)
    heads = ["milliseconds (quartiles)", *(_percent(1 - density) for density in densities)]
    lines = []
    for method in _distinct(row["method"] for row in rows):
        cells = {row["density"]: row for row in rows if row["method"] == method}
        lines.append([method, *(_time(cells.get(density)) for density in densities)])
    return _table(heads, lines)


# --- update -----------------------------------------------------------------------------------------------------


def _update_sections(results: Results) -> list[str]:
    rows, parts = results["rows"], []
    for threads in _distinct(row["threads"] for row in rows):
        measured = [row for row in rows if row["threads"] == threads and row["case"] != "skipped"]
        skipped = [row for row in rows if row["threads"] == threads and row["case"] == "skipped"]
        parts += [f"### {_threads(threads)}", _update_table(measured)]
        parts += [f"{row['method']} is left out: {row['skipped']}." for row in skipped]
    return parts


def _update_table(rows: Rows) -> str:
    """Return the milliseconds by rule and width, the slope, and that of the wider half."""
    widths = _distinct(row["case"] for row in rows)
    heads = ["milliseconds", *map(str, widths), "slope", "slope, wider half", "floor"]
    lines = []
    for method in _distinct(row["method"] for row in rows):
        cells = {row["case"]: row for row in rows if row["method"] == method}
        costs = {width: row["ms"][1] for width, row in cells.items()}
        half = dict(list(costs.items())[len(costs) // 2 :])
        columns = [_update_cell(cells.get(width)) for width in widths]
        lines.append([method, *columns, _slope(costs), _slope(half), _slope_floor(method, costs)])
    return _table(heads, lines)


def _update_cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    steps = "" if row["method"] == STEP else f" ({1 / row['speedup'][1]:.2g})"
    return f"{_digits(row['ms'][1])}{steps}{_mark(row, 'ms')}"


def _slope(costs: Mapping[int, float]) -> str:
    return f"{_log_log_slope(costs):.2f}" if len(costs) > 1 else ""


def _log_log_slope(costs: Mapping[int, float]) -> float:
    return log_log_slope(list(costs), list(costs.values()))


def _slope_floor(method: str, costs: Mapping[int, float]) -> str:
    if method != "gse" or len(costs) < 2:
        return ""
    return f"at most {SLOPE_FLOOR:g}: {'holds' if _log_log_slope(costs) <= SLOPE_FLOOR else 'missed'}"


# --- memory -----------------------------------------------------------------------------------------------------


def _memory_sections(results: Results) -> list[str]:
    lines = [
        [row["title"], _threads(row["threads"]), _percent(1 - row["density"])]
        + [f"{row['bytes'][part]:.1f}" for part in PARTS]
        + [f"{sum(row['bytes'].values()):.1f}"]
        for row in results["rows"]
    ]
    return [_table(["layer", "threads", "sparsity", *PARTS, "together"], lines)]


SECTIONS = {
    "layers": _speed_sections,
    "networks": _speed_sections,
    "update": _update_sections,
    "memory": _memory_sections,
}

# --- cells ------------------------------------------------------------------------------------------------------


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _speed(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['speedup'][1]:.2f}{_mark(row, 'speedup')}"


def _time(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    low, median, high = map(_digits, row["ms"])
    return f"{median} ({low}–{high}){_mark(row, 'ms')}"


def _mark(row: Mapping[str, Any], what: str) -> str:
    """Return how far a number can be trusted."""
    low, median, high = row[what]
    return ("" if row["clean"] >= MIN_CLEAN else "*") + ("~" if high - low > WIDE * median else "")


def _digits(number: float) -> str:
    """Return a number with three significant digits."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _distinct(things: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(things))
