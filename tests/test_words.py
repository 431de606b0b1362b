"""The words of the house: one for each thing, those of the papers and of torch, and prose that a student can read.

A row of `NAMES` or `WORDS` is an old word, what to say instead, and where the old word may stay, with the reason. The
figures of the prose have ceilings, which `python tools/prose.py` shows by room.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from prose import docstrings_in, local_names, markdown_in, measure, participle_share, prose_of

ROOT = Path(__file__).resolve().parents[1]

# Ceilings. The figures stand a little below, and may fall.
SEMICOLONS_PER_1000 = 0.5  # words
MEAN_LENGTH = 13.0  # words in a sentence
LONG_SHARE = 0.015  # of the sentences have more than 30 words
COLONS_PER_SENTENCE = 0.05
PARTICIPLE_SHARE = 0.035  # of the local names


@dataclass(frozen=True)
class Row:
    """An old word."""

    old: str  # a regular expression: the whole of a name, or a part of a text
    new: str
    allowed: dict[str, str] = field(default_factory=dict)  # file or folder -> why it may say this


FLAG = dict.fromkeys(
    ("sparsekit/cli/__init__.py", "sparsekit/analysis/costs/benchmark/", "notebooks/src/10_always_sparse_speed.py"),
    "`sparsekit bench --quick` is a flag, which stays",
)

NAMES = (  # identifiers: of modules, classes, functions, parameters, values and attributes
    Row("first_values|FirstValues", "grow_init, GrowInit"),
    Row("remember|Notes|watches|keeps_count", "init_state, update_state, view.state, every_step"),
    Row("memory_|view_memory", "state"),
    Row("pulls?", "gradient_penalty"),
    Row("[Tt]hinnings?|used_topology", "ForwardMask, forward_masks, active_topology"),
    Row("redraws", "samples_anew, initial_topology"),
    Row("keep_top_overall", "keep_top_global"),
    Row("comeback", "allow_regrowth"),
    Row("spacing", "density_schedule"),
    Row("true_places|place_of|places_of", "true_positions, position_of"),
    Row("fading\\w*", "ema_weights"),
    Row("Move|Change", "Transition, TopologyUpdate"),
    Row("Given|Passing|forget", "TrickContext, TemporaryTrick, remove_params"),
    Row("Spans|spans_of|reading", "SkipTargets, fx_reader"),
    Row("USUAL\\w*", "DEFAULTS, DEFAULT_STOP_FRACTION"),
    Row("twins?|twin_of|Twin", "masked_copy, or a name that says what the copy is for"),
    Row("drawing_from", "seeded_rng"),
    Row("parts_of", "weighted_batches"),
    Row("save_start|start_state", "save_initial_state"),
    Row("judge\\w*", "assess_claim"),
    Row("flips|drafts|pictures|Shown", "mask_deltas, form_state, rendering, StaticPreview"),
    Row("quick\\w*|whole_number\\w*", "fast, integer", FLAG),
    Row("places", "positions"),
    Row("how", "the arguments by name, or a frozen value of options"),
)

WORDS = (  # text: prose, comments, messages, and the words of tests' names
    Row(r"\bfirst values\b", "initial weights, or initialisation"),
    Row(r"\bvalues as drawn\b", "initial weights"),
    Row(r"\bthin(s|ned|ning)\b", "forward mask"),
    Row(r"\bfad(es|ing|ed)\b", "exponential moving average"),
    Row(r"[\"']overall[\"']|\boverall ranking\b", "global"),
    Row(r"[\"']in proportion[\"']", "per-layer"),
    Row(r"\bhighest\(", "topk_indices"),
    Row(r"\b(connections?|weights?)\b.*\b(comes?|came|coming) back\b", "regrows"),
    Row(r"\bplaces\b|\bplace of (a|the|each) (connection|weight)\b", "positions"),
    Row(r"\bwhole numbers?\b", "integer"),
    Row(r"\bquick(er|est|ly)?\b", "fast", FLAG),
    Row(r"\bgo(es)? on\b(?! (top|the|a)\b)", "continues"),
    Row(r"\b(taken|takes|took|take) up\b(?! to\b)", "resumed"),
    Row(r"\bwritten down\b|\bnoted\b", "recorded"),
    Row(r"\bbit by bit\b", "bit for bit"),
    Row(r"\bpictures?\b", "image (data), figure (a plot)"),
    Row(r"\boptimizer's memory\b", "optimizer state"),
    Row(r"\bkept state\b", "saved state"),
    Row(r"\bsizes? of (a|the|its|their|each) weights?\b|\bweights' sizes?\b", "magnitude"),
    Row(r"\btwins?\b", "copy"),
    Row(r"\bjudg(e|es|ed|ing)\b", "assess"),
    Row(r"\bwanted density\b", "target density"),
)


@cache
def trees() -> dict[str, ast.Module]:
    return {short(path): ast.parse(path.read_text(encoding="utf-8")) for path in files("sparsekit", "*.py")}


def files(folder: str, pattern: str) -> list[Path]:
    return sorted((ROOT / folder).rglob(pattern))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each identifier that some code defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def old_names(path: str, tree: ast.AST) -> Iterator[str]:
    """Yield what must be said about the names that a module defines, and about its own."""
    module = Path(path).stem
    for line, name in [(1, module), *names_in(tree)]:
        for row in NAMES:
            if re.fullmatch(row.old, name.strip("_")) and not is_allowed(row, path):
                yield f"{path}:{line}: {name}; say {row.new}"


def old_words(path: str, text: str) -> Iterator[str]:
    """Yield what must be said about the words of a text."""
    for number, line in enumerate(text.splitlines(), 1):
        for row in WORDS:
            if (match := re.search(row.old, line, re.IGNORECASE)) and not is_allowed(row, path):
                yield f"{path}:{number}: {match[0]!r}; say {row.new}"


def is_allowed(row: Row, path: str) -> bool:
    return any(path.startswith(place) for place in row.allowed)


def names_of_tests(path: Path) -> str:
    """Return the sentences that the names of a file's tests are."""
    names = [name for _, name in names_in(ast.parse(path.read_text(encoding="utf-8"))) if name.startswith("test_")]
    return "\n".join(name.replace("_", " ") for name in names)


def all_texts() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of everything in which the words are checked."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *files("docs", "*.md"), *files("notebooks/src", "*.py")]
    sources = [path for kind in ("*.py", "*.js", "*.css") for path in files("sparsekit", kind)]
    for path in pages + sources:
        yield short(path), path.read_text(encoding="utf-8")
    for path in files("tests", "test_*.py"):
        yield short(path), names_of_tests(path)
