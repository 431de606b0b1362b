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
MEAN_LENGTH = 12.2  # words in a sentence
LONG_SHARE = 0.006  # of the sentences have more than 30 words
COLONS_PER_SENTENCE = 0.08
PARTICIPLE_SHARE = 0.010  # of the local names


@dataclass(frozen=True)
class Row:
    """An old word."""

    old: str  # a regular expression: the whole of a name, or a part of a text
    new: str
    allowed: dict[str, str] = field(default_factory=dict)  # file or folder -> why it may say this


FLAG = dict.fromkeys(
    (
        "sparsekit/cli/__init__.py",
        "sparsekit/cli/bench.py",
        "sparsekit/analysis/costs/benchmark/",
        "notebooks/src/10_always_sparse_speed.py",
    ),
    "`sparsekit bench --quick` is a flag, which stays",
)

LANDSCAPE = dict.fromkeys(
    (
        *("sparsekit/analysis/landscape/", "sparsekit/plots/landscape.py", "sparsekit/widgets/landscape_explorer.py"),
        *("notebooks/src/08_loss_landscapes.py", "tests/test_landscape.py", "tests/test_plots_landscape.py"),
    ),
    "networks lie at places of a loss landscape, as on a map",
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
    Row("places", "positions", LANDSCAPE),
    Row("how", "the arguments by name, or a frozen value of options"),
)

WORDS = (  # text: prose, comments, messages, and the words of tests' names
    Row(r"\bfirst values\b", "initial weights, or initialisation"),
    Row(r"\bvalues as drawn\b", "initial weights"),
    Row(r"\bthin(s|ned|ning)\b", "forward mask"),
    Row(r"\bfad(es|ing|ed)\b", "exponential moving average"),
    Row(r"[\"']overall[\"']|\boverall ranking\b", "global"),
    Row(r"[\"']in proportion[\"']", "per-layer"),
    Row(r"(?<!def )\bhighest\(", "topk_indices"),
    Row(r"\b(connections?|weights?)\b[^,.\n]*\b(comes?|came|coming) back\b", "regrows"),
    Row(r"\bplaces\b|\bplace of (a|the|each) (connection|weight)\b(?!\s+update)", "positions", LANDSCAPE),
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
        for row in rows_of(name.strip("_")):
            if not is_allowed(row, path):
                yield f"{path}:{line}: {name}; say {row.new}"


@cache
def rows_of(name: str) -> list[Row]:
    return [row for row in NAMES if re.fullmatch(row.old, name)]


def old_words(path: str, text: str) -> Iterator[str]:
    """Yield what must be said about the words of a text."""
    for row in WORDS:
        for match in re.finditer(row.old, text, re.IGNORECASE):
            if not is_allowed(row, path):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{line}: {match[0]!r}; say {row.new}"


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


# --- the words ------------------------------------------------------------------------------------------------------


def complain(complaints: list[str]) -> None:
    """Fail with one complaint a line."""
    assert not complaints, "\n" + "\n".join(complaints)


def test_names_are_those_of_the_papers_and_of_torch():
    complain([complaint for path, tree in trees().items() for complaint in old_names(path, tree)])


def test_texts_use_the_words_of_the_papers_and_of_torch():
    complain([complaint for path, text in all_texts() for complaint in old_words(path, text)])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def first_values(): ...", "first_values"),
        ("class Move: ...", "Move"),
        ("def f(pull): ...", "pull"),
        ("USUAL_STOP = 0.75", "USUAL_STOP"),
        ("for twin in pairs: ...", "twin"),
        ("self.thinnings = {}", "thinnings"),
        ("def f(**how): ...", "how"),
    ],
)
def test_an_old_name_is_found_wherever_it_is_defined(source, name):
    (complaint,) = old_names("sparsekit/rules/new.py", ast.parse(source))
    assert complaint.startswith(f"sparsekit/rules/new.py:1: {name}; say ")


def test_an_old_name_of_a_module_is_found_and_a_name_of_torch_that_is_only_used_is_not():
    assert len(list(old_names("sparsekit/layers/twins.py", ast.parse("x = 1")))) == 1
    assert not list(old_names("sparsekit/layers/copies.py", ast.parse("x = torch.watches(memory.pulls)")))


@pytest.mark.parametrize(
    "text",
    [
        "the sorted places of a layer",
        "It takes the place of a connection.",
        "The first values are small.",
        'keep(scope="overall")',
        "A connection that was dropped comes back.",
        "count must be a whole number",
        "It is quick.",
        "Training goes on.",
        "it agrees bit by bit",
        "the optimizer's memory of it",
        "the size of a weight",
        "Three pictures of a network",
        "You can judge them",
    ],
)
def test_an_old_word_is_found(text):
    (complaint,) = old_words("README.md", text)
    assert complaint.startswith("README.md:1: ")


@pytest.mark.parametrize(
    "text",
    [
        "A rewiring takes place, in place, instead of the weight update whose place it takes.",
        "It takes the place of the weight update.",
        "Lists come back as tuples.",
        "The cursor can go on top of it.",
        "It takes up to a minute.",
        "the highest score, the first value of a schedule, and the number of positions",
        "integers, magnitudes and images",
    ],
)
def test_words_that_only_look_like_old_ones_may_stay(text):
    assert not list(old_words("README.md", text))


def test_names_of_tests_are_read_as_sentences(tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text("def test_it_goes_on():\n    twin = 1\n\ndef helper(): ...\n")
    assert names_of_tests(path) == "test it goes on"


def test_every_exception_says_why_and_its_file_exists():
    for row in (*NAMES, *WORDS):
        assert all((ROOT / place).exists() and len(reason) > 20 for place, reason in row.allowed.items())


def test_a_word_is_allowed_where_its_row_says_so():
    line = "`--quick` is a flag"
    assert not list(old_words("sparsekit/cli/__init__.py", line))
    assert list(old_words("sparsekit/cli/values.py", line))


# --- the prose ------------------------------------------------------------------------------------------------------


@cache
def figures():
    return measure(text for texts in prose_of(ROOT).values() for text in texts)


@pytest.mark.parametrize(
    ("figure", "ceiling"),
    [
        ("semicolons_per_1000", SEMICOLONS_PER_1000),
        ("mean_length", MEAN_LENGTH),
        ("long_share", LONG_SHARE),
        ("colons_per_sentence", COLONS_PER_SENTENCE),
    ],
)
def test_prose_stays_easy_to_read(figure, ceiling):
    value = getattr(figures(), figure)
    assert value <= ceiling, f"{figure} must be at most {ceiling}, got {value:.3g}; see `python tools/prose.py`"


def test_there_is_prose_to_measure():
    assert figures().words > 50_000
    assert figures().sentences > 3_000


def test_local_names_say_what_a_value_is():
    participles, names = participle_share(path.read_text(encoding="utf-8") for path in files("sparsekit", "*.py"))
    share = participles / names
    assert share <= PARTICIPLE_SHARE, f"at most {PARTICIPLE_SHARE:.1%} may be participles, got {share:.1%}"


def test_semicolons_count_in_prose_but_not_in_code():
    measured = measure(["One thing; another one.\n\n`a; b` and $x; y$ are code.\n\n```\na; b\n```"])
    assert (measured.words, measured.semicolons) == (4 + 5, 1)
    assert measured.semicolons_per_1000 == 1000 / 9


def test_sentences_end_at_full_stops_but_not_at_abbreviations_and_numbers():
    measured = measure(["Evci et al. (2020) grow 0.3 of them. They do so e.g. in RigL! `Why` not?\nYou may ask."])
    assert (measured.sentences, measured.words_in_sentences) == (3, 8 + 6 + 3)


def test_short_exclamations_are_no_sentences():
    assert measure(["Yes. It is one sentence."]).sentences == 1


def test_long_sentences_are_those_above_thirty_words():
    thirty = " ".join(["word"] * 30)
    measured = measure([f"{thirty}.\n\nMore {thirty}."])
    assert (measured.sentences, measured.long_sentences, measured.long_share) == (2, 1, 0.5)
    assert measured.mean_length == 30.5


def test_colons_count_where_they_divide_a_sentence():
    measured = measure(["One thing: another one at 12:30, in a[1:2]. No colon is here.\n\n# Title: sub\n\n| a: b |"])
    assert (measured.colons, measured.sentences, measured.colons_per_sentence) == (1, 2, 0.5)


def test_items_of_lists_are_sentences_of_their_own():
    assert measure(["Here is a list\n- the first item is this\n- and the second that\n1. and a third"]).sentences == 4


def test_prose_of_a_docstring_leaves_out_examples_sources_and_names_of_arguments():
    source = '''
def f(x):
    """Return it.

    Args:
        x: what comes; in metres.

    Example:
        >>> f(1); f(2)
        1; 2

    Source: A; B (2020),
        C; D.
    """
'''
    measured = measure(docstrings_in(source))
    assert (measured.words, measured.semicolons, measured.colons) == (2 + 4, 1, 0)


def test_only_markdown_cells_of_a_notebook_are_prose():
    notebook = "# %% [markdown]\n# One; two.\n#\n# Three.\n\n# %%\n# no; prose\nx = 1; y = 2\n"
    assert list(markdown_in(notebook)) == ["One; two.\n\nThree.\n"]


def test_local_names_are_what_functions_assign_and_no_parameters():
    source = """
kept = 1
def f(found, *, own=2):
    shown, total = 1, 2
    for left in range(3):
        with open(left) as made:
            total = [own for drawn in made]
    def g():
        gone = 3
"""
    names = [name for _, name in sorted(local_names(source))]
    assert names == ["drawn", "left", "made", "shown", "total", "gone"]
    assert participle_share([source]) == (5, 6)
