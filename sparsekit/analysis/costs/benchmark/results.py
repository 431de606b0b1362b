"""What is measured, one row a method, and the file that collects the rows of several runs."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sparsekit.analysis.costs.benchmark import half, layers, networks, rivals, update
from sparsekit.analysis.costs.benchmark.machine import about_machine
from sparsekit.analysis.costs.benchmark.memory import bytes_per_connection
from sparsekit.utils.files import write_text
from sparsekit.utils.timing import (
    Effort,
    Method,
    Quartiles,
    Round,
    fastest,
    num_clean,
    speedups_of,
    time_in_turns,
    times_of,
)

Row = dict[str, Any]
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
QUICK_SPARSITIES = (0.9,)
GROUP = ("case", "density", "threads")  # rows that were measured in the same rounds agree in these
SAME = ("processor", "torch", "numba")  # rows are kept together only while these stay


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure of a suite.

    Args:
        threads: that every method may use.
        sparsities: shares of missing weights, or the suite's own if None.
        only: the one case to measure, or all if None.
        quick: fewer and smaller cases, few rounds.

    Raises:
        ValueError: if a sparsity lies outside [0, 1), or there is less than one thread.
    """

    threads: int = 1
    sparsities: tuple[float, ...] | None = None
    only: str | None = None
    quick: bool = False

    def __post_init__(self):
        if wrong := [value for value in self.sparsities or () if not 0 <= value < 1]:
            raise ValueError(f"sparsities must lie in [0, 1), got {wrong[0]}. With 0.9 a tenth of the weights exist")
        if self.threads < 1:
            raise ValueError(f"there must be at least 1 thread, got {self.threads}")

    @property
    def densities(self) -> tuple[float, ...]:
        """Shares of existing weights."""
        sparsities = self.sparsities or (QUICK_SPARSITIES if self.quick else SPARSITIES)
        return tuple(round(1 - sparsity, 6) for sparsity in sparsities)

    @property
    def effort(self) -> Effort:
        """How long to measure each case."""
        return Effort(rounds=5, budget_seconds=4.0, min_rounds=2) if self.quick else Effort()

    def selected(self, cases: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the cases to measure.

        Raises:
            ValueError: if there is no such case.
        """
        if self.only is None:
            return dict(cases)
        matches = {name: case for name, case in cases.items() if str(name) == self.only}
        if not matches:
            raise ValueError(f"the case must be one of {', '.join(map(str, cases))}, got {self.only!r}")
        return matches


def measure(what: str, options: Options) -> Iterator[Row]:
    """Measure a suite and yield its rows, each case as soon as it is done. The number of threads is restored after.

    Raises:
        ValueError: if there is no such suite or case, or the sparse kernels may not use so many threads.
    """
    if what not in SUITES:
        raise ValueError(f"what to measure must be one of {', '.join(SUITES)}, got {what!r}")
    _check_cores(options.threads)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(options.threads)
        for row in SUITES[what](options):
            yield {**row, "threads": options.threads}
    finally:
        torch.set_num_threads(before)


def _check_cores(threads: int) -> None:
    """Make sure that no method is held back, because Numba sees a single core where OpenMP has bound this process."""
    from numba import config  # here, because torch's OpenMP must be loaded first

    # Numba reads this from its settings, without asking how many cores there are.
    allowed: int = min(config.NUMBA_NUM_THREADS, os.cpu_count() or 1)  # type: ignore[attr-defined]
    if threads > allowed:
        raise ValueError(
            f"there must be at most {allowed} threads, those that Numba may use, got {threads}. "
            "Unset OMP_PROC_BIND and NUMBA_NUM_THREADS, or free more cores for this process"
        )


def _layer_rows(options: Options) -> Iterator[Row]:
    cases = options.selected(layers.QUICK_LAYERS if options.quick else layers.LAYERS)
    yield from _step_rows(cases, layers.layer_steps, half.layer_steps, options)


def _network_rows(options: Options) -> Iterator[Row]:
    cases = options.selected(networks.QUICK_NETWORKS if options.quick else networks.NETWORKS)
    yield from _step_rows(cases, networks.network_steps, half.network_steps, options)


def _with_inductor(options: Options) -> bool:
    return not options.quick and rivals.has_inductor()  # compiling takes longer than all of a quick run


def _step_rows(
    cases: Mapping[str, Any],
    make: Callable[..., Mapping[str, Method]],
    make_half: Callable[..., Mapping[str, Method]],
    options: Options,
) -> Iterator[Row]:
    inductor = _with_inductor(options)
    for name, case in cases.items():
        for density in options.densities:
            in_half = make_half(case, inductor=inductor) if half.has_bf16() else {}
            rounds = time_in_turns({**make(case, density, inductor=inductor), **in_half}, options.effort)
            best = fastest(rounds, [method for method in rounds[0] if method.startswith("dense")])
            yield from _rows(rounds, best, case=name, title=case.title, density=density)


def _update_rows(options: Options) -> Iterator[Row]:
    widths = options.selected({width: width for width in (update.QUICK_WIDTHS if options.quick else update.WIDTHS)})
    effort = Effort(rounds=7, budget_seconds=12.0, min_rounds=1)
    title = f"square layer, {update.FAN_IN} connections per neuron, batch {update.BATCH}"
    rules = [rule for rule in update.RULES if rule not in update.missing_rules()]
    yield from (_skipped(rule, "not registered in this version", title) for rule in update.missing_rules())
    for width in widths:
        rounds = time_in_turns(update.update_methods(width, rules), effort)
        rows = list(_rows(rounds, update.STEP, case=width, title=title, density=update.FAN_IN / width))
        yield from rows
        slow = [row["method"] for row in rows if update.too_slow(row["ms"][1] / 1000) and row["method"] in rules]
        rules = [rule for rule in rules if rule not in slow]
        if width != list(widths)[-1]:
            yield from (
                _skipped(rule, f"would take over {update.MAX_SECONDS:g} s beyond {width}", title) for rule in slow
            )


def _memory_rows(options: Options) -> Iterator[Row]:
    for name, case in options.selected(layers.QUICK_LAYERS if options.quick else layers.LAYERS).items():
        for density in options.densities:
            yield {
                "case": name,
                "title": case.title,
                "density": density,
                "method": "csr",
                "bytes": {part: round(size, 2) for part, size in bytes_per_connection(case, density).items()},
            }


SUITES: dict[str, Callable[[Options], Iterator[Row]]] = {
    "layers": _layer_rows,
    "networks": _network_rows,
    "update": _update_rows,
    "memory": _memory_rows,
}


def _rows(rounds: Sequence[Round], baseline: str, **common: Any) -> Iterator[Row]:
    for method in rounds[0]:
        times = Quartiles.of([1000 * seconds for seconds in times_of(rounds, method)])
        yield {
            **common,
            "method": method,
            "ms": _short(times),
            "baseline": baseline,
            "speedup": _short(Quartiles.of(speedups_of(rounds, method, baseline))),
            "clean": num_clean(rounds, method),
            "samples": len(rounds),
        }


def _short(quartiles: Quartiles) -> list[float]:
    return [float(f"{number:.4g}") for number in asdict(quartiles).values()]


def _skipped(method: str, reason: str, title: str) -> Row:
    return {"case": "skipped", "title": title, "density": None, "method": method, "skipped": reason}


def save(file: Path, what: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Write rows to a file, in place of older ones of the same case, density and threads, and return all it holds.

    The file is JSON Lines. Its first line describes the machine and counts the rows, and each further line is a row.
    The rows of another machine or another version are removed.
    """
    about = about_machine()
    old = load(file) if file.exists() else {"about": about, "rows": []}
    is_same = all(old["about"].get(name) == about.get(name) for name in SAME)
    new = {_group(row) for row in rows}
    other_rows = [row for row in old["rows"] if is_same and _group(row) not in new]
    results = {"what": what, "about": about, "rows": sorted(other_rows + list(rows), key=_order)}
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [{**results, "rows": len(results["rows"])}, *results["rows"]]
    write_text(file, "".join(f"{json.dumps(line)}\n" for line in lines))
    return results


def load(file: Path) -> dict[str, Any]:
    """Return what a file of results holds.

    Raises:
        ValueError: if it is no such file, or some of its rows are missing.
    """
    try:
        head, *rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        _ = head["about"].get, [_group(row) for row in rows]
        if head["rows"] != len(rows):
            raise ValueError(f"there must be {head['rows']} rows, got {len(rows)}")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{file} must hold results that bench wrote, got a damaged or foreign file ({error!r}). Put a good copy in "
            "its place, or delete it and measure again"
        ) from error
    return {**head, "rows": rows}


def _group(row: Row) -> tuple:
    return tuple(row[name] for name in GROUP)


def _order(row: Row) -> tuple:
    return str(row["case"]).zfill(8), row["threads"], -(row["density"] or 0)
