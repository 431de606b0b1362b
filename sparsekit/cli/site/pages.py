"""The pages of a site: one for each notebook and for each file that they link to, and one of contents."""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sparsekit.cli.site.bodies import PARTS, Body, Section, code_body, markdown_body, notebook_body
from sparsekit.cli.site.recording import INSTALL
from sparsekit.cli.site.widgets import Models, Payload, json_inside_script, models_of, payload_of
from sparsekit.utils.files import write_text
from sparsekit.utils.optional import require

TEXTS = {".md", ".py", ".js", ".css", ".toml", ".yml", ".yaml", ".cfg", ".txt", ".json"}  # files that can be a page
IMAGES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif"}
MORE = {  # pages that every page leads to, each with its name there
    "files/docs/how_to.md.html": "How to ...",
    "files/docs/gallery.md.html": "Gallery",
    "reference/sparsekit.html": "Reference",
    "files/docs/claims.md.html": "Claims",
    "files/docs/glossary.md.html": "Glossary",
    "files/docs/architecture.md.html": "Architecture",
}
SEARCHED = 2  # sections of deeper levels are found under the heading above them
PLACE = re.compile(r'data-model="(\w+)"')
NUMBER = re.compile(r"^\d+\.\s*")


@dataclass(frozen=True)
class Page:
    """A page of the site before it is written.

    Args:
        file: where it goes, relative to the site, with forward slashes.
        body: what it holds.
        kind: `"notebook"`, `"text"`, `"code"`, `"reference"` or `"contents"`.
        models: the widgets that its body may show.
    """

    file: str
    body: Body
    kind: str
    models: Models = field(default_factory=dict)

    @property
    def payload(self) -> Payload:
        """What the page's widgets need."""
        return payload_of(self.models, PLACE.findall(self.body.html))


def pages_of(notebooks: list[Path], recordings: Mapping[Path, Path], root: Path) -> list[Page]:
    """Return a page for each notebook, then for each guide in `docs/`, then for each file that any of them links to.

    Args:
        notebooks: in order.
        recordings: the executed copies of them, and of guides whose code is executed, too.
        root: the folder that the site must not reach out of. Links that do become plain text.
    """
    done: dict[Path, Page] = {}
    executed = {notebook.resolve(): recording for notebook, recording in recordings.items()}
    waiting = [path.resolve() for path in (*notebooks, *sorted((root / "docs").glob("*.md")))]  # one name for each file
    while waiting:
        source = waiting.pop(0)
        if source not in done:
            targets = Links(source, root)
            done[source] = _page(source, executed.get(source, source), targets)
            waiting += targets.followed
    return sorted(done.values(), key=lambda page: page.file)


class Links:
    """Where the links of a file lead on the site.

    Args:
        source: the file.
        root: the project's folder.

    Attributes:
        followed: the files that links led to so far.
    """

    def __init__(self, source: Path, root: Path):
        self.source, self.root = source, root.resolve()
        self.followed: list[Path] = []

    def __call__(self, href: str) -> str | None:
        """Return a link's address on the site, an image itself, or None if what it leads to is neither."""
        path, _, anchor = unquote(href).partition("#")
        target = (self.source.parent / path).resolve()
        if not target.is_relative_to(self.root) or not target.is_file():
            return None
        if target.suffix in IMAGES:
            return f"data:{IMAGES[target.suffix]};base64,{base64.b64encode(target.read_bytes()).decode()}"
        if target.suffix not in TEXTS | {".ipynb"}:
            return None
        target = self.source.parent / os.path.relpath(target, self.source.parent.resolve())
        self.followed.append(Path(os.path.normpath(target)))
        here, there = (file_of(one, self.root) for one in (self.source, target))
        return os.path.relpath(there, os.path.dirname(here) or ".").replace(os.sep, "/") + (
            f"#{anchor}" if anchor else ""
        )


def file_of(source: Path, root: Path) -> str:
    """Return where the page of a file goes, which is beside the others for a notebook.

    Example:
        >>> file_of(Path("notebooks/01_masks.ipynb"), Path(".")), file_of(Path("docs/models.md"), Path("."))
        ('01_masks.html', 'files/docs/models.md.html')
    """
    if source.suffix == ".ipynb":
        return f"{source.stem}.html"
    return f"files/{source.resolve().relative_to(root.resolve()).as_posix()}.html"


def _page(source: Path, recording: Path, links: Links) -> Page:
    """Make the page of one file."""
    file = file_of(source, links.root)
    if recording.suffix == ".ipynb":
        notebook = require("nbformat", install=INSTALL).read(recording, 4)
        body = notebook_body(notebook, links)
        kind = "notebook" if source.suffix == ".ipynb" else "text"
        return Page(file, replace(body, title=body.title or source.stem), kind, models_of(notebook))
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".md":
        return Page(file, markdown_body(text, links), "text")
    return Page(file, code_body(source.resolve().relative_to(links.root).as_posix(), text), "code")


def write_site(pages: list[Page], out: Path) -> list[Path]:
    """Write the pages and the one of contents, and return their files."""
    start = contents_page(pages)
    paths = [out / page.file for page in (start, *pages)]
    index = search_index(pages)
    for page, path in zip((start, *pages), paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, framed(page, pages, index))
    return paths


def contents_page(pages: list[Page]) -> Page:
    """Return the first page, with the first widget of the first notebook and links to all of them."""
    first = next((page for page in pages if page.kind == "notebook"), None)
    place = PLACE.search(first.body.html) if first else None
    body = _template("contents.html.j2").render(
        pages=[page for page in pages if page.kind == "notebook"],
        guides=[page for page in pages if page.kind == "text"],
        rooms=[page for page in pages if page.kind == "reference"],
        shown=place[1] if place else None,
        lede=_lede,
    )
    return Page("index.html", Body("Contents", body), "contents", first.models if first else {})


def _lede(page: Page) -> str:
    """Return what a notebook lets its reader learn, as its first list says."""
    points = re.findall(r"<li>(.*?)</li>", page.body.html.partition("</ul>")[0], re.DOTALL)
    return points[0].strip() if points else ""


def framed(page: Page, pages: list[Page], index: list[list[str]]) -> str:
    """Return a whole page, with contents, search, and links to its neighbours.

    Args:
        page: the page.
        pages: all of them, without that of contents.
        index: as `search_index` returns it.
    """
    order = [one for one in pages if one.kind == "notebook"]
    at = order.index(page) if page in order else None
    return _template("page.html.j2").render(
        page=page,
        course=order,
        more={file: name for file, name in MORE.items() if file in {one.file for one in pages}},
        up="../" * page.file.count("/"),
        before=order[at - 1] if at else None,
        after=order[at + 1] if at is not None and at + 1 < len(order) else None,
        sections=[one for one in page.body.sections if one.level == SEARCHED],
        index=json_inside_script(json.dumps(index, separators=(",", ":"), ensure_ascii=False)),
        short=lambda title: NUMBER.sub("", title),
        part=_part,
    )


def search_index(pages: list[Page]) -> list[list[str]]:
    """Return what the search looks through: address, page, heading and text of each section of prose."""
    return [
        [f"{page.file}#{section.anchor}", page.body.title, section.title, section.text]
        for page in pages
        if page.kind != "code"
        for section in _merged(page.body.sections)
    ]


def _merged(sections: tuple[Section, ...]) -> Iterator[Section]:
    """Yield the sections of the upper levels, each with the text of those below it."""
    merged: list[Section] = []
    for one in sections:
        if merged and one.level > SEARCHED:
            last = merged.pop()
            text = " ".join(filter(None, (last.text, one.title, one.text)))
            one = Section(last.anchor, last.title, last.level, text)
        merged.append(one)
    yield from merged


@cache
def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


@cache
def _template(name: str) -> Any:
    jinja = require("jinja2", install=INSTALL)
    loader = jinja.FileSystemLoader(PARTS)
    return jinja.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, autoescape=False).get_template(name)
