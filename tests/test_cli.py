"""The command line: what it prints, what it keeps, and that a mistake gets one sentence and leaves nothing behind."""

import ctypes
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sparsekit import cli
from sparsekit.cli import output, superpositions, values
from sparsekit.experiments import read_experiment, read_run
from sparsekit.rules import Magnitude, Random
from sparsekit.schedules import Constant, Cosine
from sparsekit.scores import SNIP
from sparsekit.train import History
from sparsekit.tricks import GhostNeurons, LabelSmoothing
from sparsekit.utils.memory import keep_freed_memory
from sparsekit.utils.registry import HOMES, get, kinds, names, source_of, summary_of

ROOT = Path(__file__).resolve().parents[1]
KINDS = sorted(HOMES)  # other tests register kinds of their own meanwhile
COMMANDS = ("train", "lottery", "sup-tickets", "tickets", "list", "show", "claims", "bench")
QUICK = ("--epochs", "1", "--no-progress")


def invoke(*words: str) -> Result:
    """Run the command line in this process, its output going into a pipe as wide as it likes."""
    return CliRunner().invoke(cli.app, words, env={"COLUMNS": "40"})


def train(folder: Path, *words: str) -> History:
    """Train for one epoch and return what the run's folder holds."""
    result = invoke("train", "digits-mlp", *QUICK, "--folder", str(folder), *words)
    assert result.exit_code == 0, (result.output, result.exception)
    return read_run(result.output.partition("\n")[0])


def shell(*words: str, **settings) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "sparsekit", *words], capture_output=True, text=True, **settings)


@pytest.fixture
def say(monkeypatch, capsys):
    """`say("list", "rules")` runs `main` as a shell would, and returns exit code, output and errors."""

    def run_main(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sparsekit", *words])
        monkeypatch.setenv("COLUMNS", "300")  # for the frames that typer draws around wrong options
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run_main


@pytest.fixture
def refused(say, tmp_path):
    """`refused("digits-mlp", "--density", "2")` trains, which must fail with one sentence, and returns the sentence."""

    def run_train(*words: str) -> str:
        code, out, err = say("train", *QUICK, "--folder", str(tmp_path / "runs"), *words)
        assert (code, out) == (1, "")
        assert not (tmp_path / "runs").exists()
        return the_sentence(err)

    return run_train


def the_sentence(err: str) -> str:
    """Return what follows "Error:" where nothing else was said, and on one line."""
    assert err.startswith("Error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("Error: ").strip()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Result:
    """What training prints for a run below a folder with a long name."""
    folder = tmp_path_factory.mktemp("a-folder-whose-name-is-long-enough-to-fill-a-line-of-eighty-letters")
    result = invoke("train", "digits-mlp", *QUICK, "--folder", str(folder), "--density", "0.1")
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def history(trained) -> History:
    return read_run(trained.output.partition("\n")[0])


# --- train ------------------------------------------------------------------------------------------------------


def test_training_makes_a_run_and_prints_its_folder_accuracy_and_density(trained, history):
    printed = dict(re.findall(r"^  (\w[\w ]*?) +([\d.]+)$", trained.output, re.MULTILINE))
    assert printed == {
        **{name: f"{history.last(name):.4f}" for name in {row.name for row in history.rows}},
        "rewirings": str(len(history.journal)),
    }
    assert {"test accuracy", "density"} <= set(printed)
    assert history.folder.name == get("recipe", "digits-mlp")(density=0.1, epochs=1).folder_name


def test_training_prints_a_table_of_the_layers(trained, history):
    rows = [line.split() for line in trained.output.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["fc1", "fc2", "head"] == list(history.journal[-1])
    for (name, *shape, count, density, survival), layer in zip(rows, history.journal[-1].values(), strict=True):
        assert "".join(shape) == "x".join(map(str, layer.shape))
        assert int(count.replace(",", "")) == layer.count
        assert float(density) == pytest.approx(layer.density, abs=5e-5)
        survivors = (layer & history.journal.initial[name]).count
        assert survival == f"{survivors / layer.count:.1%}"
        assert 0 < survivors < layer.count


def test_a_second_call_only_reads_the_run(trained, history, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("sparsekit.train.loop.train_step", refuse)
    folder = str(history.folder.parent)
    before = {file: file.stat().st_mtime_ns for file in history.folder.iterdir()}
    again = invoke("train", "digits-mlp", *QUICK, "--folder", folder, "--density", "0.1")
    assert (again.exit_code, again.output) == (0, trained.output)
    assert {file: file.stat().st_mtime_ns for file in history.folder.iterdir()} == before
    other = invoke("train", "digits-mlp", *QUICK, "--folder", folder, "--density", "0.1", "--seed", "1")
    assert "trained again" in str(other.exception)


def test_every_option_reaches_the_experiment(tmp_path):
    words = ("--rule", "set", "--density", "0.2", "--seed", "3", "--storage", "csr")
    experiment = read_experiment(train(tmp_path, *words).folder)
    assert experiment == get("recipe", "digits-mlp")(rule="set", density=0.2, seed=3, storage="csr", epochs=1)


@pytest.mark.parametrize("rule", ["sr-ste", "dynamic-n-of-m"])
def test_a_density_reaches_a_pattern(rule, tmp_path):
    history = train(tmp_path, "--rule", rule, "--density", "0.1")
    assert history.last("density") == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("every=50", "every", 50),
        ("drop_fraction=0.2", "drop_fraction", Cosine(0.2, 0.0)),
        ("drop_fraction=1", "drop_fraction", Cosine(1.0, 0.0)),
        ("scope=global", "scope", "global"),
        ("scope='global'", "scope", "global"),
        ("allow_regrowth=False", "allow_regrowth", False),
        ("allow_regrowth=false", "allow_regrowth", False),
        ("grow=random", "grow", Random()),
        ("density=none", "density", None),
    ],
)
def test_a_setting_reaches_the_rule(setting, name, value):
    assert getattr(made_rule(setting), name) == value


def made_rule(*settings: str, rule: str = "rigl"):
    rule_settings = values.rule_settings_of(rule, values.pairs_of(settings))
    return get("recipe", "digits-mlp")(rule=rule, rule_settings=rule_settings).rule


def test_settings_may_be_repeated_and_are_kept_with_the_run(tmp_path):
    rule = read_experiment(train(tmp_path, "--set", "every=50", "--set", "drop_fraction=0.2").folder).rule
    assert (rule.every, rule.drop_fraction, rule.drop) == (50, Cosine(0.2, 0.0), Magnitude())


@pytest.mark.parametrize("rule", names("rule"))
def test_every_setting_of_every_rule_can_be_given_as_it_would_be_printed(rule):
    expected = made_rule(rule=rule)
    plain = {f.name: getattr(expected, f.name) for f in fields(expected)}
    arguments = [f"{name}={value}" for name, value in plain.items() if isinstance(value, bool | int | float | str)]
    assert made_rule(*arguments, rule=rule) == expected


def test_dense_trains_the_whole_network(tmp_path):
    history = train(tmp_path, "--rule", "dense")
    assert history.last("density") == 1
    assert not history.journal.initial


def test_the_progress_bar_stays_out_of_what_is_piped(tmp_path):
    result = invoke("train", "digits-mlp", "--epochs", "1", "--folder", str(tmp_path), "--rule", "static")
    assert "19/19" in result.stderr
    assert "19/19" not in result.stdout


# --- mistakes ---------------------------------------------------------------------------------------------------

MISTAKES = {
    "recipe": (("nothing",), "recipe must be one of .*digits-mlp.*, got 'nothing'"),
    "rule": (("digits-mlp", "--rule", "nothing"), "rule must be one of .*rigl.*, got 'nothing'"),
    "density 0": (("digits-mlp", "--density", "0"), r"density must lie in \(0, 1\], got 0"),
    "density 2": (("digits-mlp", "--density", "2"), r"density must lie in \(0, 1\], got 2"),
    "density nan": (("digits-mlp", "--density", "nan"), r"density must lie in \(0, 1\], got nan"),
    "no equals sign": (("digits-mlp", "--set", "every"), "--set must look like name=value, got 'every'"),
    "no name": (("digits-mlp", "--set", "=3"), "--set must look like name=value, got '=3'"),
    "unknown setting": (("digits-mlp", "--set", "colour=3"), "settings of rigl must be among .*every.*, got colour"),
    "setting out of range": (("digits-mlp", "--set", "every=0"), "every must lie in .*, got 0"),
    "settings of no rule": (("digits-mlp", "--rule", "dense", "--set", "every=3"), "got every with 'dense'"),
}
WRONG_VALUES = {
    ("rigl", "every=abc"): "--set every of rigl must be an integer, got 'abc'",
    ("rigl", "every="): "--set every of rigl must be an integer, got ''",
    ("rigl", "every=2.5"): "--set every of rigl must be an integer, got '2.5'",
    ("rigl", "every=True"): "--set every of rigl must be an integer, got 'True'",
    ("rigl", "every={[]: 1}"): "--set every of rigl must be an integer, got",
    ("rigl", "stop=soon"): "--set stop of rigl must be an integer or none, got 'soon'",
    (
        "rigl",
        "drop_fraction=abc",
    ): "--set drop_fraction of rigl must be a number or a Schedule, which only Python .*, got 'abc'",
    (
        "drop-grow",
        "drop_fraction=0.2",
    ): "--set drop_fraction of drop-grow must be a Schedule, which only Python .*, got '0.2'",
    ("rigl", "allow_regrowth=maybe"): "--set allow_regrowth of rigl must be true or false, got 'maybe'",
    ("rigl", "scope=all"): "--set scope of rigl must be layer or global, got 'all'",
    ("set", "grow=nothing"): "--set grow of set must be one of cannistraci-hebb, gradient, random, got 'nothing'",
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_gets_one_sentence_and_leaves_no_folder(what, refused):
    words, message = MISTAKES[what]
    assert re.search(message, refused(*words))


@pytest.mark.parametrize(("rule", "setting"), WRONG_VALUES)
def test_a_setting_that_its_rule_cannot_use_gets_one_sentence(rule, setting, refused):
    said = refused("digits-mlp", "--rule", rule, "--set", setting)
    assert re.search(WRONG_VALUES[rule, setting], said)


def test_missing_data_get_a_sentence_that_says_where_they_should_lie(refused, tmp_path, monkeypatch):
    monkeypatch.delenv("SPARSEKIT_DATA", raising=False)
    (tmp_path / "empty").mkdir()
    said = refused("cifar10-resnet20", "--data-root", str(tmp_path / "empty"))
    assert "must hold cifar-10-batches-py" in said
    assert str(tmp_path / "empty") in said
    assert "SPARSEKIT_DATA" in said


def test_a_file_in_place_of_the_folder_of_runs_is_refused(say, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = say("train", "digits-mlp", *QUICK, "--folder", str(tmp_path / "file"))
    assert (code, out) == (2, "")
    assert "is a file" in " ".join(err.split())


def test_what_the_system_refuses_gets_a_sentence(say, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    code, _, err = say("train", "digits-mlp", *QUICK, "--folder", str(tmp_path / "runs"))
    assert code == 1
    assert "No space left on device" in the_sentence(err)


def test_no_epochs_are_refused_by_name(say, tmp_path):
    for epochs in ("0", "-3"):
        code, _, err = say("train", "digits-mlp", "--folder", str(tmp_path / "runs"), "--epochs", epochs)
        assert code == 2
        assert "--epochs" in err
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "digits-mlp", "--set", "every"), "--set must look like name=value, got 'every'"),
        (("train", "digits-mlp", "--rule", "nothing"), "rule must be one of"),
    ],
)
def test_a_mistake_in_a_shell_gets_one_sentence_and_no_traceback(words, message, tmp_path):
    told = shell(*words, cwd=tmp_path)
    assert (told.returncode, told.stdout) == (1, "")
    assert message in the_sentence(told.stderr)
    assert not list(tmp_path.iterdir())


# --- list -------------------------------------------------------------------------------------------------------


def columns(lines: list[str]) -> list[list[str]]:
    """Split a printed table where its heading has words."""
    starts = [lines[0].index(word) for word in ("name", "what it is", "source")]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines[1:]]


def test_list_names_every_kind_as_a_command_that_works():
    lines = invoke("list").output.splitlines()
    assert len(lines) == len(kinds())
    for line, kind in zip(lines, kinds(), strict=True):
        program, *words = line.split()
        assert program == "sparsekit"
        assert invoke(*words).output == invoke("list", kind).output


@pytest.mark.parametrize("word", ["rules", "models", "data", "recipes", "grows", "lotteries", "training-flops"])
def test_kinds_are_named_as_one_says_them(word):
    assert f"sparsekit list {word}\n" in invoke("list").output


@pytest.mark.parametrize("kind", KINDS)
def test_list_shows_everything_of_a_kind_on_a_line_of_its_own_with_its_source(kind):
    rows = columns(invoke("list", kind).output.splitlines())
    things = {name: get(kind, name) for name in names(kind)}
    assert rows == [[name, summary_of(thing), source_of(thing)] for name, thing in things.items()]


@pytest.mark.parametrize("kind", ["rule", "model", "data", "recipe", "grow", "drop", "candidates"])
def test_the_list_of_methods_names_a_source_for_each(kind):
    assert all(source for _, _, source in columns(invoke("list", kind).output.splitlines()))


def test_a_list_piped_from_a_narrow_terminal_keeps_one_line_per_thing(tmp_path):
    with (tmp_path / "rules.txt").open("w") as file:
        command = [sys.executable, "-m", "sparsekit", "list", "rules"]
        subprocess.run(command, stdout=file, env={**os.environ, "COLUMNS": "40", "PYTHONUTF8": "1"}, check=True)
    rows = columns((tmp_path / "rules.txt").read_text(encoding="utf-8").splitlines())
    assert [name for name, _, _ in rows] == names("rule")


class Terminal(io.StringIO):
    """What a program sees when it prints to a screen."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_terminal_cuts_no_word(kind, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "60")
    cli.app(["list", kind], standalone_mode=False)
    text = screen.getvalue()
    assert "…" not in text
    assert all(re.search(rf"\b{name}\b", text) for name in names(kind))


def test_brackets_are_printed_and_not_taken_for_colours(capsys):
    odd = ["[red]weights[0]", "[/bold]", ":cat:", "a\\", "[link=x]y[/link]"]
    output.print_table(["name"], [[name] for name in odd])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:]] == odd


def test_names_of_a_run_are_printed_as_they_are(tmp_path, capsys, monkeypatch):
    history = train(tmp_path)
    monkeypatch.setattr(history, "rows", [history.rows[0]._replace(name="[/red] :cat:")])
    output.show_history(history)
    assert "[/red] :cat:" in capsys.readouterr().out


def test_an_unknown_kind_gets_a_sentence_with_the_known_ones(say):
    code, out, err = say("list", "nothing")
    assert (code, out) == (1, "")
    assert re.search("something to list: .*data.*rules.*, got 'nothing'", the_sentence(err))


# --- show -------------------------------------------------------------------------------------------------------


def test_show_prints_what_training_printed(trained, history):
    result = invoke("show", str(history.folder))
    assert (result.exit_code, result.output) == (0, trained.output)


def test_show_of_a_dense_run_has_no_table(tmp_path):
    result = invoke("show", str(train(tmp_path, "--rule", "dense").folder))
    assert result.exit_code == 0
    assert "test accuracy" in result.output
    assert "connections" not in result.output


@pytest.mark.parametrize("what", ["empty", "file", "missing"])
def test_show_of_something_else_gets_a_sentence(what, say, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    code, out, err = say("show", str(tmp_path / what))
    assert (code, out) == (1, "")
    assert f"a run folder must hold experiment.json, got {tmp_path / what}" in the_sentence(err)


def test_show_writes_a_film_as_its_ending_says(history, tmp_path, monkeypatch):
    from sparsekit.cli.site import run_page

    books = []
    monkeypatch.setattr(run_page, "executed", lambda book, folder, name: books.append(book) or book)
    for ending in ("gif", "html"):
        result = invoke("show", str(history.folder), "--film", str(tmp_path / f"film.{ending}"))
        assert (result.exit_code, result.output) == (0, f"wrote {tmp_path / f'film.{ending}'}\n"), result.exception
    assert (tmp_path / "film.gif").read_bytes()[:3] == b"GIF"
    page = (tmp_path / "film.html").read_text(encoding="utf-8")
    assert history.folder.name in page
    assert [cell.source for cell in books[0].cells][-1].startswith("widgets.TopologyFilm(history.journal")
    assert len(books[0].cells) == 3


# --- help -------------------------------------------------------------------------------------------------------


def example_of(command: str) -> list[str]:
    """Return the words of the example in a command's help, without the program's name."""
    printed = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
    (line,) = re.findall(r"Example: sparsekit (.+)", printed)
    words = shlex.split(line.strip())
    assert words[0] == command
    return words


def test_the_example_of_train_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*example_of("train"), *QUICK)
    assert result.exit_code == 0
    assert "test accuracy" in result.output
    assert len(list(tmp_path.glob("runs/*"))) == 1


def test_the_example_of_list_runs():
    result = invoke(*example_of("list"))
    assert result.exit_code == 0
    assert "rigl" in result.output


def test_the_example_of_show_shows_the_run_that_the_example_of_train_makes(tmp_path, monkeypatch, history):
    monkeypatch.chdir(tmp_path)
    folders = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "sparsekit.experiments.run_on_ranks",
            lambda experiment, folder, **_: folders.append(folder / experiment.folder_name),
        )
        invoke(*example_of("train"))
    folder = Path(example_of("show")[1])
    assert folders == [folder]
    folder.parent.mkdir()
    shutil.copytree(history.folder, folder)
    result = invoke(*example_of("show"))
    assert result.exit_code == 0
    assert result.output.startswith(f"{folder}\n")


HELP = """
import contextlib, io, sys
from sparsekit.cli import main
for words in (["--help"], ["train", "--help"], ["list", "--help"], ["show", "--help"], ["list"]):
    sys.argv = ["sparsekit", *words]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
        main()
    assert "sparsekit" in out.getvalue()
print(*{"torch", "numpy", "pandas", "matplotlib", "sklearn"} & set(sys.modules))
"""


def test_help_answers_at_once_for_it_imports_nothing_heavy():
    told = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


FREED = """
import ctypes, sys
from sparsekit.utils.memory import keep_freed_memory

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Info
if sys.argv[1] == "keep":
    keep_freed_memory()
libc.free(libc.malloc(int(sys.argv[2])))
print(libc.mallinfo2().fordblks)
"""
TAKES_64_MIB = "import ctypes; print(ctypes.CDLL(None).mallopt(-3, 2**26))"
HAS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")


@pytest.mark.skipif(not HAS_GLIBC, reason="only the GNU C library can be told to keep memory, and asked what it keeps")
@pytest.mark.parametrize("size", [2**24, 2**26])  # activations of a batch, the larger kept by no version
def test_the_command_line_keeps_the_memory_it_frees(size):
    def told(*words):
        return int(subprocess.run([sys.executable, "-c", *words], capture_output=True, check=True).stdout)

    if size > 2**25 and not told(TAKES_64_MIB):
        pytest.skip("this version of the GNU C library keeps no block above 32 MiB")
    keeping, usual = told(FREED, "keep", str(size)), told(FREED, "usual", str(size))
    assert keeping >= size > usual


@pytest.mark.parametrize(("system", "library"), [("darwin", None), ("linux", object())])
def test_where_memory_cannot_be_kept_nothing_happens(system, library, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not keep_freed_memory()


def test_the_command_line_keeps_memory_before_it_does_anything(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: called.append("keep"))
    monkeypatch.setattr(cli, "app", lambda: called.append("app"))
    cli.main()
    assert called == ["keep", "app"]


@pytest.mark.parametrize("command", ["compare --threads 100000", "bench layers --quick --threads 100000"])
def test_more_threads_than_processors_are_refused(say, command, tmp_path):
    code, said, problem = say(*command.split(), "--folder", str(tmp_path / "new"))
    assert (code, said) == (1, "")
    assert f"threads must lie between 1 and {os.cpu_count()}, the processors of this machine, got 100000" in problem
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_an_environment_that_asks_for_more_threads_than_processors_is_refused(say, name, monkeypatch):
    monkeypatch.setenv(name, "100000")
    assert f"{name} must lie between 1 and" in say("list")[2]
    monkeypatch.setenv(name, "1,100000")
    assert f"{name} must lie between 1 and" in say("list")[2]
    for fine in ("1", "", "many"):  # the library decides on the last one
        monkeypatch.setenv(name, fine)
        assert say("list")[0] == 0


def test_importing_every_submodule_runs_nothing():
    walk = (
        "import importlib, pkgutil, sys, sparsekit\n"
        "sys.argv = ['x', 'list']\n"
        "import sparsekit.__main__\n"
        "print(len(list(pkgutil.walk_packages(sparsekit.__path__, 'sparsekit.'))) > 100)"
    )
    told = subprocess.run([sys.executable, "-c", walk], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True"]


def test_the_installed_command_and_the_module_are_the_same_program():
    (entry,) = re.findall(
        r"^sparsekit = \"(.+)\"$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert entry == f"{cli.main.__module__}:{cli.main.__name__}"
    told = shell("--help")
    assert told.returncode == 0
    assert all(command in told.stdout for command in COMMANDS)


# --- scores -----------------------------------------------------------------------------------------------------


def test_a_score_and_its_settings_are_taken(tmp_path):
    words = ("--rule", "static", "--score", "snip", "--set", "snip.min_per_layer=0", "--set", "snip.scope=layer")
    experiment = read_experiment(train(tmp_path, *words, "--shuffle").folder)
    assert experiment.score == SNIP(min_per_layer=0, scope="layer")
    assert experiment.shuffle


def test_a_score_without_settings_keeps_its_folder(tmp_path):
    history = train(tmp_path, "--rule", "static", "--score", "snip")
    expected = get("recipe", "digits-mlp")(rule="static", score="snip", epochs=1)
    assert history.folder.name == expected.folder_name
    assert read_experiment(history.folder) == expected


@pytest.mark.parametrize("score", names("score"))
def test_every_setting_of_every_score_can_be_given_as_it_would_be_printed(score):
    expected = get("score", score)()
    pairs = {f"{score}.{f.name}": f"{getattr(expected, f.name)}" for f in fields(expected)}
    assert values.score_of(score, {**pairs, "every": "5"}) == (expected, {"every": "5"})
    changed, _ = values.score_of(score, {f"{score}.rounds": "7", f"{score}.allow_regrowth": "true"})
    assert (changed.rounds, changed.allow_regrowth) == (7, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--score", "snap"), "score must be one of .*snip.*, got 'snap'"),
        (("--set", "snip.rounds=5"), "--set snip.rounds must come with its score, got no --score snip. Add it"),
        (("--score", "synflow", "--set", "snip.rounds=5"), "got no --score snip. Add it"),
        (("--score", "force", "--set", "force.colour=5"), "settings of force must be among .*rounds.*, got 'colour'"),
        (("--score", "snip", "--set", "snip.rounds=few"), "--set rounds of snip must be an integer, got 'few'"),
        (("--score", "snip", "--set", "snip.rounds=0"), "rounds must lie in .*, got 0"),
    ],
)
def test_wrong_scores_get_a_sentence(refused, words, sentence):
    assert re.search(sentence, refused("digits-mlp", *words))


# --- lottery ------------------------------------------------------------------------------------------------------

LOTTERY = ("lottery", "digits-mlp", *QUICK, "--levels", "2", "--prune", "0.5")


def test_a_lottery_prints_a_row_for_every_level_and_control_and_reads_them_the_second_time(tmp_path, monkeypatch):
    words = (*LOTTERY, "--control", "reinit", "--control", "signs", "--folder", str(tmp_path))
    result = invoke(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    heads, *rows = result.output.splitlines()
    assert heads.split() == ["level", "density", "test", "accuracy", "run"]
    names, densities, accuracies, folders = zip(*(re.split(r"  +", row.strip()) for row in rows), strict=True)
    assert names == ("0", "1", "2", "2 reinit", "2 signs")
    assert densities == ("1.0000", "0.5000", "0.2500", "0.2500", "0.2500")
    assert accuracies == tuple(f"{read_run(folder).last('test accuracy'):.4f}" for folder in folders)
    assert [Path(folder).name.rpartition("-")[0] for folder in folders][3:] == [
        "digits-mlp-level-2-reinit",
        "digits-mlp-level-2-signs",
    ]

    def refuse(*args, **kwargs):
        raise AssertionError("a finished level was trained again")

    monkeypatch.setattr("sparsekit.train.loop.train_step", refuse)
    again = invoke(*words)
    assert (again.exit_code, again.output) == (0, result.output)


def test_every_option_of_a_lottery_reaches_it(monkeypatch, tmp_path):
    plans = []
    monkeypatch.setattr("sparsekit.experiments.lottery.run_lottery", lambda plan, *_, **__: plans.append(plan) or 1 / 0)
    words = ("--rewind", "finetune", "--finetune-rate", "0.01", "--rewind-step", "3", "--seed", "4")
    invoke(*LOTTERY, *words, "--folder", str(tmp_path))
    dense = get("recipe", "digits-mlp")(rule="dense", seed=4, epochs=1)
    settings = {"levels": 2, "prune": 0.5, "rewind": "finetune", "finetune_rate": 0.01, "rewind_step": 3}
    assert plans == [get("lottery", "lottery")(experiment=dense, **settings)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--control", "nothing"), "control must be one of reinit, .*, got 'nothing'"),
        (("--rewind", "rate", "--control", "reinit"), "rewind must be 'weights', got 'rate'"),
        (("--rewind", "nothing"), "rewind must be one of weights, rate, finetune, got 'nothing'"),
        (("--levels", "0"), "levels must be at least 1, got 0"),
        (("--rewind-step", "99"), "rewind_step must lie before the end, got 99 and 19 steps"),
    ],
)
def test_a_mistake_in_a_lottery_gets_one_sentence_and_leaves_no_folder(words, sentence, say, tmp_path):
    code, out, err = say(*LOTTERY, *words, "--folder", str(tmp_path / "runs"))
    assert (code, out) == (1, "")
    assert re.search(sentence, the_sentence(err))
    assert not (tmp_path / "runs").exists()


# --- sup-tickets --------------------------------------------------------------------------------------------------


def test_sup_tickets_collects_superposes_and_keeps_the_result(tmp_path):
    from sparsekit.tickets import read_ticket

    words = ("--epochs", "5", "--cycle-rate", "0.4", "--cycle-epochs", "1", "--no-progress", "--folder", str(tmp_path))
    result = invoke("sup-tickets", "digits-mlp", "--density", "0.3", *words)
    assert result.exit_code == 0, (result.output, result.exception)
    folder = Path(result.output.partition("\n")[0])
    assert "superposed" in result.output
    assert "mean of tickets" in result.output
    assert read_ticket(folder.parent / "superposed.safetensors").count == 25344
    listed = invoke("tickets", str(folder))
    assert [line.split()[:2] for line in listed.output.splitlines()[2:]] == [
        [step, "25,344"] for step in ("57", "76", "95")
    ]


def test_the_superposition_that_is_kept_has_the_accuracy_of_the_table(tmp_path, capsys, monkeypatch):
    from test_sup_tickets import SUP  # with batch norm

    from sparsekit import datasets
    from sparsekit.evaluation.measuring import evaluate
    from sparsekit.experiments import load_model
    from sparsekit.experiments.sup_tickets import run_sup_tickets
    from sparsekit.tickets import read_ticket

    monkeypatch.setattr("sparsekit.experiments.sup_tickets.has_learned", lambda *_: True)  # six epochs are few
    collection = run_sup_tickets(SUP, tmp_path, progress=False)
    superpositions.show_superpositions(collection, None)
    printed = dict(re.findall(r"^ *(\S[\w ,-]*?)  +([\d.]+)", capsys.readouterr().out, re.MULTILINE))
    data = datasets.load("digits", flat=False)
    model = load_model(collection.history.folder)
    test = [(data.prepare(data.test.inputs), data.test.labels)]
    ticket = read_ticket(collection.history.folder / "superposed.safetensors")
    measured = evaluate(ticket.model_like(model), test).accuracy
    assert f"{measured:.4f}" == f"{ticket.accuracy:.4f}" == printed["superposed"]
    assert ticket.topology == collection.superposed().topology
    assert measured != evaluate(collection.superposed().model_like(model), test).accuracy


def test_sup_tickets_shows_controls_where_they_are_asked_for(tmp_path):
    words = ("--epochs", "5", "--cycle-rate", "0.4", "--cycle-epochs", "1", "--no-progress", "--folder", str(tmp_path))
    result = invoke("sup-tickets", "digits-mlp", "--density", "0.3", *words, "--controls")
    assert result.exit_code == 0, (result.output, result.exception)
    for row in ("superposed, no exploration", "ensemble, no exploration", "superposed, other seeds"):
        assert row in result.output
    assert len(list(tmp_path.glob("*/superposed.safetensors"))) == 1


def test_sup_tickets_takes_tricks_and_settings(monkeypatch):
    plans = []
    monkeypatch.setattr(
        "sparsekit.experiments.sup_tickets.run_sup_tickets", lambda plan, *_, **__: plans.append(plan) or 1 / 0
    )
    words = ("--trick", "label-smoothing", "--trick", "ghost-neurons", "--set", "ghost-neurons.stop=7")
    invoke("sup-tickets", "digits-mlp", *words, "--set", "every=5")
    invoke("sup-tickets", "digits-mlp")
    helped, plain = (plan.experiment for plan in plans)
    assert helped.tricks == (LabelSmoothing(), GhostNeurons(stop=7))
    assert helped.rule.every == 5
    assert plain == get("recipe", "digits-mlp")(rule="rigl", density=0.05, seed=0, epochs=60, storage="masked")


def test_cycles_that_leave_nothing_before_them_get_a_sentence(say):
    code, _, errors = say("sup-tickets", "digits-mlp", "--epochs", "4", "--cycle-rate", "1.5")
    assert code == 1
    assert "cycle_rate must lie in [0, 1), got 1.5" in errors


# --- tricks -----------------------------------------------------------------------------------------------------


def test_tricks_and_their_settings_are_taken(tmp_path):
    words = ("--trick", "ghost-neurons", "--trick", "label-smoothing", "--set", "ghost-neurons.stop=7")
    words += ("--set", "ghost-neurons.beta=2", "--set", "label-smoothing.convention=all", "--set", "every=5")
    experiment = read_experiment(train(tmp_path, *words).folder)
    assert experiment.tricks == (
        GhostNeurons(stop=7, beta=Constant(2)),
        LabelSmoothing(convention="all"),
    )
    assert experiment.rule.every == 5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--trick", "ghosts"), "trick must be one of .*ghost-neurons.*, got 'ghosts'"),
        (("--set", "ghost-neurons.stop=5"), "must come with its trick, got no --trick ghost-neurons. Add it"),
        (
            ("--trick", "ghost-neurons", "--set", "ghost-neurons.end=5"),
            "settings of ghost-neurons must be among .*'end'",
        ),
        (
            ("--trick", "ghost-neurons", "--set", "ghost-neurons.unit=swosh"),
            "--set unit of ghost-neurons must be pswish or",
        ),
        (
            ("--trick", "ghost-neurons", "--set", "ghost-neurons.stop=9999"),
            "must end within the training, got stop=9999",
        ),
        (("--trick", "distillation"), "distillation needs a teacher, got no name"),
    ],
)
def test_wrong_tricks_get_a_sentence(refused, words, sentence):
    assert re.search(sentence, refused("digits-mlp", *words))
