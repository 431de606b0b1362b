"""The reference has every public name with its docstring, and its links lead somewhere."""

import inspect
import re
import sys

import pytest
from site_links import broken_links

import sparsekit as sk
from sparsekit.cli.site import reference
from sparsekit.cli.site.pages import search_index, write_site

pytest.importorskip("nbconvert", reason='the pages need nbconvert. Run: pip install "sparsekit-lab[notebooks]"')
ROOMS = (reference.ROOT, *(f"{reference.ROOT}.{name}" for name in reference.ROOMS))


@pytest.fixture(scope="module")
def pages():
    pytest.importorskip("pdoc", reason='the reference needs pdoc. Run: pip install "sparsekit-lab[notebooks]"')
    return {page.file: page for page in reference.reference_pages()}


def test_every_public_name_has_a_docstring_and_a_place_of_its_own(pages):
    entries = [entry for room in ROOMS for entry in reference.entries_of(room)]
    assert [f"{one.room}.{one.name}" for one in entries if not one.text] == []
    for entry in entries:
        assert f'id="{entry.name}"' in pages[entry.file].body.html, f"{entry.room}.{entry.name}"
    assert len(entries) > 600


def test_all_that_the_package_offers_is_in_it(pages):
    names = {entry.name for entry in reference.entries_of(reference.ROOT)}
    rooms = {name for name in sk.__all__ if inspect.ismodule(getattr(sk, name))}
    assert names >= set(sk.__all__) - rooms
    assert {f"reference/sparsekit.{name}.html" for name in rooms - {"recipes"}} <= set(pages)


def test_a_name_shows_how_it_is_called_its_errors_and_its_example(pages):
    html = pages["reference/sparsekit.html"].body.html
    described = html.partition('id="sparsify"')[2].partition("<h2")[0]
    text = re.sub(r"<[^>]*>", "", described)
    assert "storage: str = &#x27;masked&#x27;" in text or "storage: str = 'masked'" in text
    assert "example: Tensor | None" in text
    assert "Arguments" in text
    assert "ValueError:" in text
    assert "&gt;&gt;&gt; sparse = sparsify(model" in text
    assert 'href="#topology_of"' in html or 'href="#left_dense"' in described


def test_a_name_of_several_rooms_is_described_once_and_found_once(pages):
    assert 'href="sparsekit.html#sparsify"' in pages["reference/sparsekit.layers.html"].body.html
    hits = [address for address, _, title, _ in search_index(list(pages.values())) if title == "sparsify"]
    assert hits == ["reference/sparsekit.html#sparsify"]


def test_every_link_of_the_reference_leads_to_a_place(pages, tmp_path):
    write_site(list(pages.values()), tmp_path)
    assert broken_links(tmp_path) == []
    assert max(path.stat().st_size for path in tmp_path.rglob("*.html")) < 1_000_000


def test_without_pdoc_it_says_what_to_install(monkeypatch):
    for name in ("pdoc", "pdoc.doc", "pdoc.doc_ast", "pdoc.docstrings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "sparsekit-lab\[notebooks\]"'):
        reference.reference_pages()
