"""What the page about your own rule shows is true: its code runs, and the rule rewires as it says."""

import pytest
from pages import code_blocks

from sparsekit.utils import registry


@pytest.fixture(autouse=True)
def registered_for_a_test(monkeypatch, tmp_path):
    registry.names("rule")
    monkeypatch.setattr(registry, "_registered", {kind: dict(one) for kind, one in registry._registered.items()})
    monkeypatch.chdir(tmp_path)


def test_the_rule_of_the_page_rewires_and_its_other_examples_run(capsys):
    scope = {"__name__": "__main__"}
    for code in code_blocks("rules.md"):
        exec(code, scope)
    mine = scope["mine"]
    before, after = mine.journal[0], mine.journal[1]
    assert len(mine.journal) == 2
    assert after.count == before.count
    assert {name: (after[name] - before[name]).count for name in before} == {
        name: int(0.2 * before[name].count) for name in before
    }
    assert capsys.readouterr().out.startswith("2 rewirings, 0.")
    assert scope["SmallOut"]().is_due(25)
