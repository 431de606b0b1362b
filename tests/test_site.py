"""The parts of pages without a kernel: bodies, links, payloads and recordings. The browser tests open whole pages."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import nbformat
import pytest

from sparsekit.cli.site.bodies import markdown_body, notebook_body
from sparsekit.cli.site.pages import Links, pages_of, search_index, write_site
from sparsekit.cli.site.recording import recorded
from sparsekit.cli.site.widgets import Payload, models_of, payload_of
from sparsekit.plots.palette import DARK, LIGHT
from sparsekit.utils.notebook_files import read_notebook

pytest.importorskip("nbconvert", reason='the pages need nbconvert. Run: pip install "sparsekit-lab[notebooks]"')
pytest.importorskip("latex2mathml", reason='formulas need latex2mathml. Run: pip install "sparsekit-lab[notebooks]"')
NODE = shutil.which("node")


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def model(traits: dict, *, script: str = "export default { render };", buffers: dict | None = None) -> dict:
    """Return a widget as a notebook saves it."""
    parts = [{"path": list(path), "data": text_of(data)} for path, data in (buffers or {}).items()]
    return {"model_name": "AnyModel", "state": {"_esm": script, "_css": ".sk {}", **traits}, "buffers": parts}


@pytest.fixture
def project(tmp_path):
    """Write a project with two notebooks that link to each other and to a file of code."""
    cells = {
        "00_first": [
            "# 0. First\n\n- what a mask is\n\n[next](01_second.ipynb#Predict) [code](../code.py) [gone](none.md)"
        ],
        "01_second": [
            "# 1. Second\n\n## Predict\n\nA **density** is a share.\n\n## Predict\n\n### Deeper\n\nRecall it."
        ],
    }
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "code.py").write_text("x = 1\n", encoding="utf-8")
    for name, texts in cells.items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in texts])
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def written(project) -> dict[str, str]:
    notebooks = sorted((project / "notebooks").glob("*.ipynb"))
    files = write_site(pages_of(notebooks, {}, project), project / "out")
    return {path.relative_to(project / "out").as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_a_formula_becomes_mathml_and_dollars_in_code_stay():
    html = markdown_body("# T\n\nA share $\\frac{n}{m}$ and `$x$`.\n\n$$a < b$$", str).html
    assert html.count("<math") == 2
    assert "<mfrac>" in html
    assert "<code>$x$</code>" in html
    assert 'display="block"' in html
    assert "&lt;" in html


def test_links_lead_to_pages_of_the_site_and_lose_what_it_has_not(project):
    pages = written(project)
    assert set(pages) == {"index.html", "00_first.html", "01_second.html", "files/code.py.html"}
    first = pages["00_first.html"]
    assert 'href="01_second.html#Predict"' in first
    assert 'href="files/code.py.html"' in first
    assert "none.md" not in first.partition("<main")[2].partition("</main>")[0]
    assert "gone" in first
    assert 'href="../../index.html"' not in first
    assert 'href="../index.html"' in pages["files/code.py.html"]


def test_anchors_are_those_that_links_in_texts_and_in_notebooks_name():
    text = markdown_body("# Rules: 80 % of them\n\nText.", str)
    assert [one.anchor for one in text.sections] == ["rules-80--of-them"]
    assert 'href="#rules-80--of-them"' in text.html
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Hold 80 %")])
    assert [one.anchor for one in notebook_body(book, str).sections] == ["Hold-80-"]


def test_an_image_travels_in_its_page(project):
    (project / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    body = markdown_body(
        "# T\n\n![A dot](dot.svg) [its file](dot.svg) ![gone](gone.png)", Links(project / "t.md", project)
    )
    assert body.html.count("data:image/svg+xml;base64,") == 1
    assert 'alt="A dot"' in body.html
    assert "href" not in body.html.partition("</h1>")[2]
    assert "gone.png" not in body.html


def test_no_link_leaves_the_folder_of_the_project(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.md"
    outside.write_text("# Secret", encoding="utf-8")
    links = Links(project / "notebooks" / "00_first.ipynb", project)
    assert links(str(outside)) is None
    assert links("../../../etc/hostname") is None
    assert links.followed == []


def test_headings_of_equal_words_have_anchors_of_their_own_and_the_search_finds_each(project):
    pages = pages_of(sorted((project / "notebooks").glob("*.ipynb")), {}, project)
    sections = search_index(pages)
    assert [one[0] for one in sections if one[2] == "Predict"] == ["01_second.html#Predict", "01_second.html#Predict-2"]
    assert next(one[3] for one in sections if one[0].endswith("#Predict")) == "A density is a share."
    assert next(one[3] for one in sections if one[0].endswith("#Predict-2")) == "Deeper Recall it."


def test_a_page_has_a_policy_that_forbids_every_request(project):
    for name, page in written(project).items():
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert policy, name
        assert policy[1].startswith("default-src 'none'"), name
        assert not re.search(r'(?:src|href)="https?:', page), name


def test_a_payload_has_each_script_style_and_run_of_bytes_once():
    data = bytes(range(256)) * 20
    same = {("films", 0, "bits"): data}
    models = {name: model({"films": [{"name": name}]}, buffers=same) for name in ("a", "b", "unseen")}
    payload = payload_of(models, ["a", "b"])
    content = json.loads(payload.data)
    assert payload.scripts == ("sparsekit.scripts[0] = { render };",)
    assert payload.styles == (".sk {}",)
    assert list(content["models"]) == ["a", "b"]
    assert content["models"]["a"]["traits"]["films"][0]["bits"] == {"bytes": 0}
    assert zlib.decompress(base64.b64decode(content["bytes"][0]), -zlib.MAX_WBITS) == data
    assert payload_of(models, []) == Payload()


def test_a_payload_brings_children_and_links_along_and_forgets_bytes_of_earlier_states():
    link = {
        "model_name": "LinkModel",
        "state": {"source": ["IPY_MODEL_a", "values"], "target": ["IPY_MODEL_b", "values"]},
    }
    box = {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_a", "IPY_MODEL_b"], "layout": "IPY_MODEL_l"}}
    models = {
        "box": box,
        "a": model({}, buffers={("films", 3, "bits"): b"old"}),
        "b": model({}),
        "l": box,
        "link": link,
    }
    content = json.loads(payload_of(models, ["box"]).data)
    assert set(content["models"]) == {"box", "a", "b", "link"}
    assert content["models"]["a"]["traits"] == {}


def test_no_text_of_a_widget_can_end_the_script_that_it_stands_in():
    payload = payload_of(
        {"a": model({"text": "</script><!-- x"}, script="const s = '</SCRIPT>';\nexport default {};")}, ["a"]
    )
    assert "</script" not in (payload.data + payload.scripts[0]).lower()
    assert "<!--" not in payload.data
    assert json.loads(payload.data)["models"]["a"]["traits"]["text"] == "</script><!-- x"


def test_a_notebook_without_widget_states_shows_its_still_images(project):
    view = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "gone"},
        "image/png": "aGk=",
        "text/plain": "A film.",
    }
    cell = nbformat.v4.new_code_cell("film", outputs=[nbformat.v4.new_output("display_data", view)])
    body = notebook_body(nbformat.v4.new_notebook(cells=[cell]), str)
    assert 'alt="A film."' in body.html
    assert 'class="widget"' not in body.html


def test_a_guide_that_links_to_a_notebook_leaves_its_page_with_what_was_recorded(project, monkeypatch):
    (project / "docs").mkdir()
    (project / "docs" / "guide.md").write_text("# Guide\n\n[first](../notebooks/00_first.ipynb)", encoding="utf-8")
    recording = project / "recorded.ipynb"
    cell = nbformat.v4.new_markdown_cell("# 0. Recorded")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), recording)
    monkeypatch.chdir(project)
    first = Path("notebooks/00_first.ipynb")  # as the command names it
    pages = {page.file: page for page in pages_of([first], {first: recording}, project)}
    assert pages["00_first.html"].body.title == "0. Recorded"
    assert sorted(pages) == ["00_first.html", "files/docs/guide.md.html"]


def test_a_notebook_is_executed_once_and_again_when_it_has_changed(tmp_path):
    path, told = tmp_path / "00_tiny.ipynb", []
    cells = ["from sparsekit.widgets import Predict", 'guess = Predict("Sum?", ["3", "4"], 1, "Count.")\nguess']
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    first = recorded(path, tmp_path / "kept", tell=told.append)
    assert recorded(path, tmp_path / "kept", tell=told.append) == first
    assert len(told) == 1
    (guess,) = (one["state"] for one in models_of(read_notebook(first)).values() if "question" in one["state"])
    assert guess["told"] == {"right": 1, "reveals": ["Not quite, it is “4”. Count.", "Yes. Count."]}
    assert len(read_notebook(first)["cells"]) == 2
    book.cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(book, path)
    with pytest.raises(ValueError, match="every cell must run"):
        recorded(path, tmp_path / "kept", tell=told.append)
    assert recorded(path, tmp_path / "kept", keep=True, tell=told.append) == first
    assert len(told) == 2


def test_a_run_without_a_measured_epoch_is_refused_before_a_kernel_starts(tmp_path, monkeypatch):
    from sparsekit.cli.site import run_page
    from sparsekit.train.history import History

    monkeypatch.setattr(run_page, "read_run", lambda run: History())
    with pytest.raises(ValueError, match=r"must have measured its test accuracy.*Let it train an epoch"):
        run_page.write_run_page(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
def test_a_link_sets_settings_controls_or_one_text_as_the_kind_that_they_are(tmp_path):
    from sparsekit.cli.site.bodies import PARTS

    lines = """
    const traits = { shared_traits: ['choice', 'step', 'on'], choice: { density: 0.1, score: 'a' } };
    const shared = recordedModel({ ...traits, step: null, on: true });
    restoreModel(shared, 'density=0.5&score=b&step=7&on=false');
    const other = recordedModel({ values: {} }), form = recordedModel({ values: { density: 1, name: 'x' } });
    linkModels([form, 'values'], [other, 'values'], true);
    restoreModel(form, 'density=2');
    const text = recordedModel({ state: '' });
    restoreModel(text, 'step=3&kept=4');
    const found = ['choice', 'step', 'on'].map(name => shared.get(name));
    console.log(JSON.stringify([...found, other.get('values'), text.get('state')]));
    """
    script = tmp_path / "test.mjs"
    script.write_text((PARTS / "models.js").read_text(encoding="utf-8") + lines, encoding="utf-8")
    result = subprocess.run([NODE, script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    form = {"density": 2, "name": "x"}
    assert json.loads(result.stdout) == [{"density": 0.5, "score": "b"}, 7, False, form, "step=3&kept=4"]


def test_pages_have_the_colours_of_figures_and_widgets():
    from sparsekit.cli.site.bodies import PARTS

    style = (PARTS / "page.css").read_text(encoding="utf-8")
    light, dark = (re.search(rule + r" \{(.*?)\}", style, re.DOTALL) for rule in (r"\nbody", r'light="false"\]'))
    for found, palette in ((light, LIGHT), (dark, DARK)):
        assert found
        colours = dict(re.findall(r"--(\w+): (#\w{6})", found[1]))
        assert {
            name: colours[name] for name in ("paper", "surface", "ink", "soft", "line", "faint")
        }.items() <= palette.items()
