"""Which links of a written site lead nowhere? `python tests/site_links.py site` says it of a whole one."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

WIDGET_STATE = re.compile(r"w\d+=")  # such a link sets widgets, and names no place


class Names(HTMLParser):
    """Collect the anchors of a page and where its links lead."""

    def __init__(self, html: str):
        super().__init__()
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if tag == "a" and values.get("href") else []


def broken_links(site: Path) -> list[str]:
    """Return a sentence for each link to a page or a place that is not there, and for each anchor that occurs twice."""
    pages = {path.resolve(): Names(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert pages, f"{site} has no pages"
    return [fault for path in sorted(pages) for fault in _faults(path, pages)]


def _faults(path: Path, pages: dict[Path, Names]) -> Iterator[str]:
    for link in sorted({one for one in pages[path].links if not re.match(r"https?:|mailto:", one)}):
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        if target not in pages:
            yield f"{path.name} links to {link}, which is no page"
        elif anchor and not WIDGET_STATE.match(anchor) and anchor not in pages[target].anchors:
            yield f"{path.name} links to {link}, where no such place is"
    twice = {one for one in pages[path].anchors if pages[path].anchors.count(one) > 1}
    yield from (f"{path.name} has the anchor {one} twice" for one in sorted(twice))


if __name__ == "__main__":
    print("\n".join(broken_links(Path(sys.argv[1]))) or "every link leads somewhere")
