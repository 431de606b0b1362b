"""Run benchmarks by name, one after the other, and `steps` and `slider` where none is named.

`layers`, `networks`, `update` and `memory` are those of `sparsekit bench`. Their numbers go to `benchmarks/results`,
and from there into `benchmarks/REPORT.md`.

    make bench                                           # steps and slider
    make bench ARGS="steps --networks mlp --threads 2"   # or: python benchmarks/run.py steps ...
    make bench ARGS="accuracy digits-mlp --seeds 3"
    make bench ARGS="layers --threads 2"

Options go to the benchmark, which must then be the only one. For example, `steps --help` shows those of `steps`.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = {
    "steps": "step_time.py",
    "rewirings": "rewire_time.py",
    "slider": "slider_to_picture.py",
    "accuracy": "accuracy.py",
}
SUITES = ("layers", "networks", "update", "memory")
KNOWN = (*FILES, *SUITES)
TAKES_LONG = ("accuracy", "rewirings")
USUAL = [name for name in FILES if name not in TAKES_LONG]


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the benchmarks that the first words name, and what is left for them."""
    count = next((place for place, word in enumerate(words) if word not in KNOWN), len(words))
    chosen, left = list(words[:count]), list(words[count:])
    if left and len(chosen) != 1:
        sys.exit(
            f"benchmarks must be among {', '.join(KNOWN)}, and only one of them may be followed by options, "
            f"got {' '.join(words)}"
        )
    return chosen or USUAL, left


def has_chromium() -> bool:
    """Whether there is a browser for the benchmarks that need one."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from browser.conftest import find_chromium

    return bool(find_chromium())


def run(name: str, options: Sequence[str]) -> int:
    """Run one benchmark in a process of its own, and return its exit status."""
    if name == "slider" and not has_chromium():
        print("\nslider: SKIPPED, no Chromium here. Install it (apt-get install chromium on Debian) or set CHROMIUM")
        return 0
    print(f"\n{name}", flush=True)
    return subprocess.run([sys.executable, *command_of(name), *options]).returncode


def command_of(name: str) -> list[str]:
    """Return what Python must run for a benchmark."""
    if name in SUITES:
        return ["-m", "sparsekit", "bench", name, "--folder", str(HERE)]
    return [str(HERE / FILES[name])]


def main() -> None:
    """Run what is named, and fail in the end if any of it did."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        print((__doc__ or "").strip())
        return
    chosen, options = split(sys.argv[1:])
    failed = [name for name in chosen if run(name, options)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
