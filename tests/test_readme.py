"""What the README and the page on training show is true: examples run, and the training step is the package's."""

import inspect
import re
import textwrap
from pathlib import Path

import pytest

import sparsekit as sk

ROOT = Path(__file__).parents[1]
README, TRAINING, NAMES = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/training.md", "docs/names.md")
)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
EXAMPLES = CODE.findall(TRAINING)


def test_the_readme_is_short_and_shows_what_moves():
    assert len([word for word in README.split() if re.search(r"\w", word)]) <= 900
    (film,) = re.findall(r"!\[[^\]]+\]\((docs/figures/[\w]+\.gif)\)", README)
    assert (ROOT / film).stat().st_size < 2_000_000
    missing = [path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb") if f"{path.stem[:2]}.png" not in README]
    assert not missing, f"the README must show a picture of {missing}. Run python tools/draw_thumbnails.py, and name it"


def test_the_citation_names_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE).group(1) == sk.__version__


def test_the_readme_and_the_page_begin_with_the_same_example():
    assert CODE.findall(README) == EXAMPLES[:1]


def test_the_first_example_makes_a_model_that_rewires_in_its_own_loop():
    scope = {}
    exec(EXAMPLES[0], scope)
    model, optimizer, torch = scope["model"], scope["optimizer"], scope["torch"]
    before = sk.topology_of(model)
    torch.nn.functional.cross_entropy(model(torch.randn(8, 64)), torch.arange(8)).backward()
    optimizer.step()
    assert sk.topology_of(model).count == before.count
    assert sk.topology_of(model) != before


def test_the_training_step_shown_is_the_one_that_runs_word_for_word():
    shown = next(example for example in EXAMPLES if "rewire(" in example)
    body = inspect.getsource(sk.train_step).rpartition('"""')[2]
    assert shown == textwrap.dedent(body).lstrip("\n")
    assert len(shown.splitlines()) <= 14


def test_notebook_00_explains_every_line_of_the_training_step():
    source = (Path(__file__).parents[1] / "notebooks" / "src" / "00_start_here.py").read_text(encoding="utf-8")
    said = source.partition("<summary>Line by line</summary>")[2].partition("# %%")[0]
    shown = next(example for example in EXAMPLES if "rewire(" in example)
    calls = set(re.findall(r"([a-z_]+)\(", shown))
    assert {"is_due", "backward", "propose", "rewire", "zero_grad"} <= calls
    assert not [call for call in calls if f"{call}" not in said]


def test_the_tickets_example_makes_one_network_of_several(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = next(example for example in EXAMPLES if "SupTickets(" in example)
    scope = {"sk": sk}
    exec(
        shown.replace('mnist1d_mlp(rule="rigl")', "digits_mlp(epochs=5)").replace("cycle_epochs=4", "cycle_epochs=1"),
        scope,
    )
    assert sk.topology_of(scope["model"]).count == scope["ticket"].count == scope["collected"].tickets[0].count


def test_the_example_of_a_run_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (shown,) = (example for example in EXAMPLES if "sk.run(" in example)
    scope = {"sk": sk}
    exec(shown.replace("density=0.02", "density=0.1, epochs=2"), scope)
    assert scope["history"].last("test accuracy") > 0.2


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^sparsekit ([\w-]+)", README + TRAINING, re.MULTILINE))))
def test_the_commands_shown_exist(command):
    from sparsekit.cli import app

    commands = {known.name or known.callback.__name__ for known in app.registered_commands}
    assert command in commands | {group.name for group in app.registered_groups}


def test_the_page_of_names_teaches_those_of_the_package_and_no_others():
    table = NAMES.partition("|---|---|")[2]
    taught = re.findall(r"`(\w+)`", table)
    assert sorted(taught) == sorted(sk.__all__)
    assert all(hasattr(sk, name) for name in taught)
