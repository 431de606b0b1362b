"""The files for hosts name only what is there: the workflow that publishes the site, and the container."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def made_by_make() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_workflow_tests_before_it_builds_and_builds_before_it_publishes():
    yaml = pytest.importorskip("yaml", reason="the workflow is read with PyYAML. Run: pip install pyyaml")
    jobs = yaml.safe_load((ROOT / ".github/workflows/site.yml").read_text(encoding="utf-8"))["jobs"]
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("test", "build")
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run", "make test-thorough", "make site", "python tests/site_links.py site"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o100
    assert "site" in made_by_make()
    assert (ROOT / "tests/site_links.py").exists()


def test_the_container_copies_what_exists_and_calls_what_make_knows():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {name for name, _ in steps} <= {"FROM", "RUN", "USER", "WORKDIR", "COPY", "ENV", "EXPOSE", "CMD"}
    copied = [word for name, words in steps if name == "COPY" for word in words.split()[1:-1]]
    assert copied
    assert [word for word in copied if not (ROOT / word).exists()] == []
    assert {"setup", "lab"} <= made_by_make()
    assert [words for name, words in steps if name == "RUN"][-1] == "make setup"
    needed = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "tools", "sparsekit/__init__.py"}
    assert needed <= set(copied)
