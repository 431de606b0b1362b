"""The body of a page, made of a notebook, a text or a file of code, with its sections for contents and search."""

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sparsekit.cli.site.recording import INSTALL
from sparsekit.utils.optional import require

PARTS = Path(__file__).parent / "parts"
JOIN_PRINTS = "nbconvert.preprocessors.CoalesceStreamsPreprocessor"
MATH = re.compile(r"\$\$(.+?)\$\$|\$(?![\s\d]*\$)([^$\n]+(?:\n[^$\n]+)?)\$", re.DOTALL)
HEADINGS, TEXTS = ["h1", "h2", "h3", "h4"], ["p", "li", "td", "summary"]
SPOKEN = re.compile(r'role="img" aria-label="([^"]*)"')


@dataclass(frozen=True)
class Section:
    """A heading of a page, and the text that follows it up to the next one."""

    anchor: str
    title: str
    level: int
    text: str


@dataclass(frozen=True)
class Body:
    """What a page holds beside its frame.

    Args:
        title: of the page.
        html: its content.
        sections: in order, the title's first.
    """

    title: str
    html: str
    sections: tuple[Section, ...] = ()


def notebook_body(notebook: Mapping[str, Any], link: Callable[[str], str | None]) -> Body:
    """Return the cells of an executed notebook as HTML, in which widgets have a place each.

    Args:
        notebook: as nbformat reads it.
        link: takes where a link leads, and returns where it leads on the site, or None where the site has no such page.
            It returns an image itself, as an address that begins with `data:`.

    Raises:
        ImportError: if the packages of notebooks are missing.
    """
    html = require("nbconvert.exporters.html", install=INSTALL)
    exporter = html.HTMLExporter(extra_template_basedirs=[str(PARTS)], template_name="cells")
    exporter.register_preprocessor(JOIN_PRINTS, enabled=True)
    exporter.register_filter("image_of_svg", image_of_svg)
    return _body(exporter.from_notebook_node(notebook)[0], link)


def markdown_body(text: str, link: Callable[[str], str | None]) -> Body:
    """Return a text in Markdown as HTML. The arguments are as in `notebook_body`.

    Raises:
        ImportError: if the packages of notebooks are missing.
    """
    mistune = require("nbconvert.filters.markdown_mistune", install=INSTALL)
    return _body(f'<div class="prose">{mistune.markdown2html_mistune(text)}</div>', link, is_text=True)


def code_body(name: str, code: str) -> Body:
    """Return a file of code as HTML, under its name.

    Raises:
        ImportError: if the packages of notebooks are missing.
    """
    pygments, lexers = (require(one, install=INSTALL) for one in ("pygments", "pygments.lexers"))
    formatters = require("pygments.formatters", install=INSTALL)
    try:
        lexer = lexers.get_lexer_for_filename(name)
    except pygments.util.ClassNotFound:
        lexer = lexers.TextLexer()
    listing = pygments.highlight(code, lexer, formatters.HtmlFormatter(cssclass="highlight"))
    return Body(name, f'<h1>{escape(name)}</h1><div class="code">{listing}</div>')


def image_of_svg(svg: str) -> str:
    """Return a drawing as an image, which keeps its styles to itself and follows light and dark pages.

    Example:
        >>> image_of_svg('<svg role="img" aria-label="A line."/>')[:43]
        '<img src="data:image/svg+xml;base64,PHN2ZyB'
    """
    label = SPOKEN.search(svg)
    data = base64.b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{label[1] if label else "A drawing"}">'


def _body(html: str, link: Callable[[str], str | None], *, is_text: bool = False) -> Body:
    """Finish the HTML that a converter made: formulas, links, tables that scroll, and anchors of headings."""
    soup = require("bs4", install=INSTALL).BeautifulSoup(html, "html.parser")
    _write_formulas(soup)
    _mend_links(soup, link)
    _let_scroll(soup)
    sections = tuple(_sections(soup, is_text))
    return Body(sections[0].title if sections else "", str(soup), sections)


def _write_formulas(soup: Any) -> None:
    """Replace formulas in TeX by MathML, which browsers draw without a script."""
    for node in soup.find_all(string=MATH):
        if node.find_parent(["code", "pre", "script", "style"]) is None:
            pieces = MATH.sub(_formula, escape(str(node), quote=False))
            node.replace_with(require("bs4", install=INSTALL).BeautifulSoup(pieces, "html.parser"))


def _formula(match: re.Match[str]) -> str:
    tex = require("latex2mathml.converter", install=INSTALL)
    formula = (match[1] or match[2]).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return tex.convert(formula, display="block" if match[1] else "inline")


def _mend_links(soup: Any, link: Callable[[str], str | None]) -> None:
    """Let links lead to pages of the site, and bring images along. Where it has no page, the link's text stays."""
    for anchor in soup.find_all("a", href=True):
        if "anchor-link" in anchor.get("class", ()):
            anchor["aria-label"] = "Link to this section"
        elif not re.match(r"#|https?:|mailto:", anchor["href"]):
            target = link(anchor["href"])
            if target is None or target.startswith("data:"):  # browsers open no such address
                anchor.unwrap()
            else:
                anchor["href"] = target
    for image in soup.find_all("img", src=re.compile(r"^(?!data:)")):
        image["src"] = link(image["src"]) or "data:,"


def _let_scroll(soup: Any) -> None:
    """Let tables and code that are wider than a phone scroll by themselves, with keys, too."""
    for number, table in enumerate(soup.find_all("table"), 1):
        label = {"tabindex": "0", "role": "region", "aria-label": f"Table {number}"}
        table.wrap(soup.new_tag("div", attrs={"class": "table", **label}))
    for code in soup.find_all("pre"):
        code["tabindex"] = "0"


def _sections(soup: Any, is_text: bool) -> Iterator[Section]:
    """Yield the headings with what stands below them, and give those of equal text anchors that differ.

    Anchors are as in JupyterLab, and in texts as on GitHub, because links name them so. A heading may also bring its
    own as `data-anchor`.
    """
    seen: Counter[str] = Counter()
    heading, words = None, []
    for element in [*soup.find_all(HEADINGS + TEXTS), None]:
        if element is not None and element.name in TEXTS:
            words += [] if element.find_parent(TEXTS) else element.get_text(" ").split()
            continue
        if heading is not None:
            yield Section(heading["id"], _title(heading), int(heading.name[1]), " ".join(words))
        if element is not None:
            anchor = re.sub(r"[^\w -]", "", _title(element)).replace(" ", "-")
            anchor = anchor.lower() if is_text else anchor
            anchor = element.attrs.pop("data-anchor", anchor)
            seen[anchor] += 1
            element["id"] = anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor]}"
            for mark in element.find_all("a", class_="anchor-link"):
                mark["href"] = f"#{element['id']}"
        heading, words = element, []


def _title(heading: Any) -> str:
    return heading.get_text().rstrip("¶").strip()
