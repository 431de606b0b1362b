"""Measure the prose of a checkout: how long sentences are, what stands between their parts, and how values are named.

`tests/test_words.py` holds the figures below ceilings. Run this file to see them, with the path of a checkout if it is
another one than this: `python tools/prose.py ../other`. Prose is the text of docstrings, of Markdown files, and of the
Markdown cells of notebooks. Code, formulas, sources, headings and tables are no sentences.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 30  # words, above which a sentence is long
PARTICIPLES = (  # names that say how a value came, not what it is
    *("found", "kept", "own", "given", "wanted", "drawn", "how", "known", "left", "taken"),
    *("shown", "seen", "made", "asked", "noted", "passed", "moved", "met", "gone"),
)

SECTION = re.compile(r"(Args|Attributes|Examples?|Note|Raises|Returns|Sources?|Warns|Yields):\s*")
ENTRY = re.compile(r"^\s+\*{0,2}[`\w.]+: ")  # of a section: "    name: what it is"
ITEM = re.compile(r"^\s*([-*]|\d+\.)\s+")
END = re.compile(r"(?<=[.!?])[)\"'*_]*\s+(?=[\"'(*_]*[A-Z`$0-9\[])")
NO_END = re.compile(r"\b(et al|e\.g|i\.e|cf|vs|Fig|Eq|Sec|App|No)\.(?=\s)")
COLON = re.compile(r":(?=\s|$)")


@dataclass(frozen=True)
class Figures:
    """What was counted in some prose."""

    words: int
    semicolons: int
    sentences: int
    words_in_sentences: int
    long_sentences: int
    colons: int

    @property
    def semicolons_per_1000(self) -> float:
        """Semicolons per 1,000 words."""
        return 1000 * self.semicolons / max(1, self.words)

    @property
    def mean_length(self) -> float:
        """Words of a sentence, on average."""
        return self.words_in_sentences / max(1, self.sentences)

    @property
    def long_share(self) -> float:
        """Share of the sentences with more than 30 words."""
        return self.long_sentences / max(1, self.sentences)

    @property
    def colons_per_sentence(self) -> float:
        """Colons inside or at the end of a sentence, on average."""
        return self.colons / max(1, self.sentences)


def measure(texts: Iterable[str]) -> Figures:
    """Count what is in some texts, each with paragraphs as `docstrings_in` and `markdown_in` give them."""
    paragraphs = [plain(paragraph) for text in texts for paragraph in paragraphs_of(text)]
    prose = [paragraph for paragraph in paragraphs if not paragraph.startswith(("#", "|"))]
    sentences = [words for paragraph in prose for s in sentences_of(paragraph) if len(words := words_of(s)) > 2]
    return Figures(
        words=sum(len(words_of(paragraph)) for paragraph in paragraphs),
        semicolons=sum(paragraph.count(";") for paragraph in paragraphs),
        sentences=len(sentences),
        words_in_sentences=sum(map(len, sentences)),
        long_sentences=sum(len(words) > LONG for words in sentences),
        colons=sum(len(COLON.findall(paragraph)) for paragraph in prose),
    )


def plain(paragraph: str) -> str:
    """Return a paragraph in which code, formulas and the targets of links are one word each."""
    paragraph = re.sub(r"<!--.*?-->|&\w+;|</?\w+[^>]*>", " ", paragraph, flags=re.DOTALL)
    paragraph = re.sub(r"``?[^`]+``?|\$[^$]+\$|https?://\S+", "CODE", paragraph)
    paragraph = re.sub(r"\]\([^)]*\)", "]", paragraph)
    return re.sub(r"\s+", " ", NO_END.sub(r"\1", paragraph)).strip()


def sentences_of(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph."""
    return [sentence for sentence in END.split(paragraph) if sentence]


def words_of(text: str) -> list[str]:
    """Return the words of a text. A number is a word, a dash is none."""
    return [word for word in text.split() if re.search(r"\w", word)]


def paragraphs_of(text: str) -> Iterator[str]:
    """Yield paragraphs: what blank lines separate, and each item of a list, entry of a section, heading and row."""
    lines: list[str] = []
    for line in [*re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.DOTALL).splitlines(), ""]:
        begins = ITEM.match(line) or line.lstrip().startswith(("#", "|")) or ENTRY.match(line)
        if lines and (begins or not line.strip() or lines[-1].lstrip().startswith(("#", "|"))):
            yield "\n".join(lines)
            lines = []
        if line.strip():
            lines.append(ENTRY.sub("", ITEM.sub("", line), count=1))


def docstring_prose(text: str) -> str:
    """Return a docstring without its examples, its sources and the names of its sections."""
    lines: list[str] = []
    is_prose = True
    for line in text.splitlines():
        section = SECTION.match(line)
        if section:
            is_prose = not section[1].startswith("Source")
        elif not line.strip():
            is_prose = True
        elif line.lstrip().startswith(">>>"):
            is_prose = False
        if is_prose:
            lines.append(line[section.end() :] if section else line)
    return "\n".join(lines)


def docstrings_in(source: str) -> Iterator[str]:
    """Yield the prose of the docstrings of some Python."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield docstring_prose(ast.get_docstring(node) or "")


def markdown_in(notebook: str) -> Iterator[str]:
    """Yield the text of the Markdown cells of a notebook in percent format."""
    for cell in re.split(r"^# %%", notebook, flags=re.MULTILINE)[1:]:
        kind, _, body = cell.partition("\n")
        if kind.lstrip().startswith("[markdown]"):
            yield "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())


def prose_of(root: Path) -> dict[str, list[str]]:
    """Return the prose of a checkout by file."""
    package = {path: [*docstrings_in(read(path))] for path in sorted((root / "sparsekit").rglob("*.py"))}
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    notebooks = {path: [*markdown_in(read(path))] for path in sorted((root / "notebooks" / "src").glob("*.py"))}
    everything = {**package, **{path: [read(path)] for path in pages}, **notebooks}
    return {path.relative_to(root).as_posix(): texts for path, texts in everything.items()}


def read(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


def local_names(source: str) -> set[tuple[int, str]]:
    """Return the names that functions give to values, each as (line of the function, name). Parameters are none."""
    names: set[tuple[int, str]] = set()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            names |= {(function.lineno, node.id) for node in inside(function) if is_target(node)}
    return names


def inside(function: ast.AST) -> Iterator[ast.AST]:
    """Yield what lies in a function, but not in functions and classes inside it."""
    nodes = [*ast.iter_child_nodes(function)]
    while nodes:
        node = nodes.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            nodes += ast.iter_child_nodes(node)


def is_target(node: ast.AST) -> bool:
    """Whether a node gives a name to a value: an assignment, a loop, a `with` or a comprehension."""
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id != "_"


def participle_share(sources: Iterable[str]) -> tuple[int, int]:
    """Return how many local names are participles, and how many local names there are."""
    names = [name for source in sources for _, name in local_names(source)]
    return sum(name in PARTICIPLES for name in names), len(names)


def main(root: Path) -> None:
    """Print the figures of a checkout, together and by room."""
    prose = prose_of(root)
    rooms: dict[str, list[str]] = {"all": [text for texts in prose.values() for text in texts]}
    for path, texts in prose.items():
        rooms.setdefault("/".join(path.split("/")[:2]) if path.startswith("sparsekit") else path, []).extend(texts)
    print(f"{'':44} words  ;/1000  words/sentence  >{LONG} words  colons/sentence")
    for room, texts in rooms.items():
        f = measure(texts)
        print(
            f"{room:44} {f.words:6} {f.semicolons_per_1000:6.2f} {f.mean_length:12.1f} {f.long_share:13.1%} "
            f"{f.colons_per_sentence:12.2f}"
        )
    participles, names = participle_share(map(read, sorted((root / "sparsekit").rglob("*.py"))))
    print(f"local names that are participles: {participles} of {names}, {participles / names:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
