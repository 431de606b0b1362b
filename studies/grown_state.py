"""How should Adam's state of grown connections start? We compare shared, own and ramped step counts in pairs of runs.

RigL, SET and GSE train an MLP at two learning rates. We keep the runs, so an interrupted measurement resumes.

    python studies/grown_state.py --seeds 5 --table studies/grown-state.md
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from sparsekit.analysis.evidence.claims import Claim, assess_claim
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
in points, with their standard error, t statistic, number of pairs n and verdict on the claim that they are positive.
For {seeds} pairs Student's t at 97.5 % is {bound:.2f}.
"""
COLUMNS = ("rule", "learning rate", "shared", "own", "ramp", "own - shared", "ramp - shared")


def accuracies(wanted: argparse.Namespace, rule: str, rate: float, step_count: str) -> list[float]:
    """Train with every seed, or read what is there, and return test accuracies as shares."""
    make = partial(RECIPES[wanted.data], rule=rule, density=wanted.density, epochs=wanted.epochs, optimizer="adam")
    make = partial(make, init=wanted.init)
    make = partial(make, learning_rate=Cosine(rate, 0.0), step_count=step_count)
    runs = (run(make(seed=seed), wanted.folder, progress=False) for seed in range(wanted.seeds))
    return [history.last("test accuracy") for history in runs]


def rows(wanted: argparse.Namespace) -> Iterator[str]:
    """Yield the rows of the table, each as soon as its runs are done."""
    for rule in wanted.rules:
        for rate in wanted.rates:
            found = {name: accuracies(wanted, rule, rate, name) for name in STEP_COUNTS}
            means = [f"{100 * statistics.fmean(one):.2f} ± {100 * _error(one):.2f}" for one in found.values()]
            gaps = [difference(found[name], found["shared"]) for name in ("own", "ramp")]
            yield f"| {' | '.join([rule, f'{rate:g}', *means, *gaps])} |"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say how far two samples lie apart in pairs, by mean, standard error, t, n and verdict.

    Example:
        >>> difference([0.02, 0.04], [0.01, 0.01])
        '+2.00 ± 1.00 (t = 2.0, n = 2, undecided)'
    """
    claim = assess_claim("ours is better", ours, theirs)
    numbers = f"{100 * claim.mean:+.2f} ± {100 * claim.error:.2f}"
    return f"{numbers} (t = {claim.t:.1f}, n = {claim.seeds}, {claim.verdict})"


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=RECIPES, default="digits")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 5e-3])
    parser.add_argument("--density", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=5, help="of each, two or more")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--init", default="fan-in", help="initial weights: fan-in or dense")
    parser.add_argument("--folder", type=Path, default=Path("runs/grown-state"))
    parser.add_argument("--table", type=Path, default=None, help="file to write the table to as well")
    wanted = parser.parse_args()
    if wanted.seeds < 2:
        parser.error(f"seeds must be at least 2, got {wanted.seeds}. One run decides nothing")
    return wanted


def main() -> None:
    """Measure, print, and write the table."""
    torch.set_num_threads(1)
    wanted = parse()
    bound = Claim(text="", mean=0.0, error=1.0, seeds=wanted.seeds).threshold
    command = " ".join(["python studies/grown_state.py", *sys.argv[1:]])
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
