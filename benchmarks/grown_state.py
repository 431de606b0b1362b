"""How should Adam's state of grown connections start? We compare shared, own and ramped step counts in pairs of runs.

RigL, SET and GSE train an MLP at two learning rates. We keep the runs, so an interrupted measurement resumes.

    python benchmarks/grown_state.py --seeds 5 --table benchmarks/grown-state.md
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from sparsekit.experiments import run
from sparsekit.experiments.recipes import digits_mlp, mnist1d_mlp
from sparsekit.schedules import Cosine
from sparsekit.train.step_counts import STEP_COUNTS

RECIPES = {"digits": digits_mlp, "mnist1d": mnist1d_mlp}
RULES = ("rigl", "set", "gse")
HEAD = """# How Adam's state of grown connections starts

A grown connection's moments start at zero. With the *shared* step count of its layer Adam no longer corrects that, so
its first updates are up to 6.5 learning rates long. With its *own* step count each is one learning rate long, as a new
weight's. With a *ramp* they rise to that over 100 steps (SMET, arXiv:2606.00888).

    {command}

We trained on {data} at density {density:g} with Adam for {epochs} epochs, while the learning rate fell along a cosine.
The table gives test accuracy in %, mean and standard error. Differences are own or ramp minus shared of the same seed,
in points, with their standard error, t statistic and number of pairs n.
For {seeds} pairs Student's t at 97.5 % is {bound}.
"""
COLUMNS = ("rule", "learning rate", "shared", "own", "ramp", "own - shared", "ramp - shared")
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}  # by pairs


def accuracies(wanted: argparse.Namespace, rule: str, rate: float, step_count: str) -> list[float]:
    """Train with every seed, or read what is there, and return test accuracies in %."""
    make = partial(RECIPES[wanted.data], rule=rule, density=wanted.density, epochs=wanted.epochs, optimizer="adam")
    make = partial(make, learning_rate=Cosine(rate, 0.0), step_count=step_count)
    runs = (run(make(seed=seed), wanted.folder, progress=False) for seed in range(wanted.seeds))
    return [100 * history.last("test accuracy") for history in runs]


def rows(wanted: argparse.Namespace) -> Iterator[str]:
    """Yield the rows of the table, each as soon as its runs are done."""
    for rule in wanted.rules:
        for rate in wanted.rates:
            found = {name: accuracies(wanted, rule, rate, name) for name in STEP_COUNTS}
            means = [f"{statistics.fmean(one):.2f} ± {_error(one):.2f}" for one in found.values()]
            gaps = [difference(found[name], found["shared"]) for name in ("own", "ramp")]
            yield f"| {' | '.join([rule, f'{rate:g}', *means, *gaps])} |"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say how far two samples lie apart in pairs, by mean, standard error, t and n.

    Example:
        >>> difference([2.0, 4.0], [1.0, 1.0])
        '+2.00 ± 1.00 (t = 2.0, n = 2)'
    """
    gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
    mean, error = statistics.fmean(gaps), _error(gaps)
    t = f"{mean / error:.1f}" if error > 0 else "undefined"
    return f"{mean:+.2f} ± {error:.2f} (t = {t}, n = {len(gaps)})"


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=RECIPES, default="digits")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 5e-3])
    parser.add_argument("--density", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path("runs/grown-state"))
    parser.add_argument("--table", type=Path, default=None, help="file to write the table to as well")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the table."""
    torch.set_num_threads(1)
    wanted = parse()
    bound = STUDENT.get(wanted.seeds, 1.96)
    command = " ".join(["python benchmarks/grown_state.py", *sys.argv[1:]])
    values = {**vars(wanted), "bound": bound, "command": command}
    lines = [HEAD.format(**values), f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    print("\n".join(lines), flush=True)
    for row in rows(wanted):
        lines.append(row)
        print(row, flush=True)
    if wanted.table is not None:
        wanted.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
