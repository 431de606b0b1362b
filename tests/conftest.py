"""Every public annotation of the package is checked while the tests run; what is run
can be run again: one thread, the same examples."""

import sys
from fnmatch import fnmatchcase
from pathlib import Path

import type_checks

ROOT = Path(__file__).resolve().parents[1]
# Numba compiles these functions' own bytecode and cannot take a checking wrapper for it.
COMPILED = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "sparsekit").rglob("*.py")
    if any(line in path.read_text(encoding="utf-8") for line in ("\nfrom numba", "\nfrom sparsekit import compiling"))
}

# Before anything imports the package: modules that are already loaded are not checked.
type_checks.install("sparsekit")
checking = sys.meta_path[0]
find = checking.find_spec
checking.find_spec = lambda name, *args: None if name in COMPILED else find(name, *args)

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
# The same examples every time, however slow the machine is just now.
hypothesis.settings.register_profile("sparsekit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("sparsekit")


def pytest_configure(config: pytest.Config) -> None:
    # The type checker looks at a random item of a list; hypothesis notices where a strategy builds a topology.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")


THOROUGH = [
    line.strip().replace("[", "[[]") + "*"
    for line in (ROOT / "tests" / "thorough.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(fnmatchcase(item.nodeid.removeprefix("tests/"), pattern) for pattern in THOROUGH):
            item.add_marker("thorough")
