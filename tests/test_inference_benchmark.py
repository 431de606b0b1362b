"""The script that times trained networks prints a line for each form and each export."""

import importlib.util
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "inference.py"


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("benchmark_inference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WIDTHS", (30, 20, 3))
    monkeypatch.setattr(module, "FORMATS", {name: module.FORMATS[name] for name in ("safetensors", "torch-csr")})
    return module


def test_each_form_and_each_export_gets_a_line_of_ratios(script, monkeypatch, capsys):
    monkeypatch.setattr("sparsekit.layers.products.least_seconds", lambda steps, effort: dict.fromkeys(steps, 1.0))
    forms = script.forms_of(0.2, (30, 20, 3))
    x = torch.randn(4, 30)
    with torch.no_grad():
        for form in forms.values():
            torch.testing.assert_close(form(x), forms["dense"](x))
    script.print_forms(forms, [1, 4], rounds=1)
    script.print_exports(forms, [4], rounds=1)
    lines = capsys.readouterr().out.splitlines()
    table = {line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert {"dense", "masked", "csr", "condensed", "safetensors", "torch-csr"} <= set(table)
    assert table["dense"] == ["1.00", "1.00"]
    assert table["safetensors"][0] == "0e+00"
