"""What the house rules say about words, sizes and errors, held against the sources; and the documents' own promises."""

import ast
import doctest
import importlib
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pages import new_widgets_closed

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sparsekit"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES]

MAX_MODULE, MAX_FUNCTION, MAX_KERNEL = 300, 30, 60  # lines of a file; lines of code of a function
TOO_LONG: dict[str, str] = {  # "sparsekit/module.py" or "sparsekit/module.py:function" -> why it may be longer
    "sparsekit/cli/__init__.py:lottery": "every option of the command is a parameter with its help",
    "sparsekit/cli/__init__.py:train": "every option of the command is a parameter with its help",
    "sparsekit/cli/__init__.py:sup_tickets": "every option of the command is a parameter with its help",
    "sparsekit/cli/compare.py:compare": "every option of the command is a parameter with its help",
    "sparsekit/experiments/sup_tickets/of_recipe.py:sup_tickets_of": "its signature and the calls take most of it",
    "sparsekit/widgets/live_training.py:live_training": "its signature and the steps of the loop take a line each",
    "sparsekit/train/fit.py:fit": "its signature and the call that hands it on take most of it, one parameter a line",
}
SECTIONS = {"Args", "Attributes", "Example", "Examples", "Note", "Raises", "Returns", "Source", "Sources"}
SECTIONS |= {"Warns", "Yields"}
FAULTS_OF_CALLERS = {"IndexError", "KeyError", "TypeError", "ValueError"}
WHAT_MUST_HOLD = re.compile(r"\b(must|needs?|cannot|only|takes|at most|at least)\b")
WHAT_CAME = re.compile(r"\b(got|found|is|has|have|are)\b")

# pieces, so that this file does not find itself
MACHINE_PATH = re.compile(r"(?<![\w.~$}>)-])/(ro{2}t|home|work|farm|tmp|Users|mnt)/\w".replace("ro{2}t", "ro" + "ot"))
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".", "anaconda" + ".org", "download.pytorch" + ".org")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a source file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def short(path: Path) -> str:
    """Return a path as reports name it."""
    return path.relative_to(ROOT).as_posix()


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method below a node."""
    return (child for child in ast.walk(node) if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def public(node: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Yield the public functions and classes of a module, and the public methods of those classes."""
    for child in getattr(node, "body", ()):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def complain(found: list[str]) -> None:
    """Fail with one complaint a line."""
    assert not found, "\n" + "\n".join(found)


# --- docstrings ---------------------------------------------------------------------------------------------------


EXPLAINED_BY_TORCH = {"extra_repr", "forward"}


@cache
def explained_methods() -> set[str]:
    """Return names of methods that some class, ours or torch's, explains: an override need not say it again."""
    classes = [node for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
    return EXPLAINED_BY_TORCH | {node.name for one in classes for node in public(one) if ast.get_docstring(node)}


def undocumented(path: Path) -> Iterator[str]:
    """Yield the public names of a file that say nothing about themselves."""
    top = {id(node) for node in tree_of(path).body}
    for node in public(tree_of(path)):
        silent = not ast.get_docstring(node)
        if silent and (id(node) in top or node.name not in explained_methods()):
            yield f"{short(path)}:{node.lineno}: {node.name} has no docstring"


def test_every_module_and_everything_public_says_what_it_is():
    found = [f"{short(path)}: the module has no docstring" for path in FILES if not ast.get_docstring(tree_of(path))]
    complain(found + [complaint for path in FILES for complaint in undocumented(path)])


def docstring_faults(text: str) -> Iterator[str]:
    """Yield what is not Google style in a docstring."""
    first = text.strip().partition("\n")[0].rstrip()
    if not first.endswith((".", "!", "?", ":")):
        yield f"the first line must be a whole sentence, got {first!r}"
    if re.search(r"^\s*(:param|:return|:raises|-{4,}$|@param)", text, re.MULTILINE):
        yield "it must use Google style sections (Args:, Returns:, Raises:)"
    for section in re.findall(r"^([A-Z]\w*):$", text, re.MULTILINE):
        if section not in SECTIONS:
            yield f"section {section!r} must be one of {', '.join(sorted(SECTIONS))}"


def documented(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, docstring) of a file's module, classes and functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


def test_docstrings_are_google_style():
    texts = ((short(path), line, text) for path in FILES for line, text in documented(path))
    complain([f"{name}:{line}: {fault}" for name, line, text in texts for fault in docstring_faults(text)])


@pytest.mark.parametrize(
    "text",
    ["no full stop", "Sum.\n\n:param x: a", "Sum.\n\nParameters\n----------\n", "Sum.\n\nArguments:\n    x: a"],
)
def test_other_styles_of_docstring_are_found(text):
    assert list(docstring_faults(text))


def raised_here(function: ast.AST) -> set[str]:
    """Return the errors of callers' faults that a function raises itself."""
    calls = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {ast.unparse(call.func) for call in calls} & FAULTS_OF_CALLERS


def test_public_functions_name_the_errors_they_raise():
    found = []
    for path in FILES:
        for node in public(tree_of(path)):
            unnamed = [name for name in raised_here(node) if name not in (ast.get_docstring(node) or "")]
            if isinstance(node, ast.FunctionDef) and unnamed and not node.name.startswith("__"):
                found.append(f"{short(path)}:{node.lineno}: {node.name} raises {unnamed[0]}; name it under Raises:")
    complain(found)


# --- errors -------------------------------------------------------------------------------------------------------


def message_of(call: ast.Call) -> str | None:
    """Return the constant words of an error's message, values as `{}`; None where it is made elsewhere."""
    if not call.args:
        return ""
    text = call.args[0]
    if isinstance(text, ast.Constant):
        return str(text.value)
    if isinstance(text, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in text.values)
    return None


def error_faults(call: ast.Call) -> Iterator[str]:
    """Yield what an error's message lacks of: what must hold, what came, what to do."""
    message = message_of(call)
    if message is None:
        return
    if not WHAT_MUST_HOLD.search(message):
        yield f"an error must say what must hold, got {message!r}"
    if "{}" not in message and not WHAT_CAME.search(message):
        yield f"an error must say what came, got {message!r}"


def raises(path: Path) -> Iterator[tuple[int, ast.expr, str]]:
    """Yield (line, what is raised, name of its class) where a file raises an error for a caller's fault."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            if name in FAULTS_OF_CALLERS:
                yield node.lineno, node.exc, name


def test_errors_say_what_must_hold_and_what_came():
    found = []
    for path in FILES:
        for line, error, name in raises(path):
            faults = error_faults(error) if isinstance(error, ast.Call) else [f"{name} is raised without a message"]
            found += [f"{short(path)}:{line}: {fault}" for fault in faults]
    complain(found)


@pytest.mark.parametrize(
    "call", ["ValueError()", "ValueError('bad density')", "ValueError(f'density {d}')", "KeyError('must')"]
)
def test_errors_without_the_parts_are_found(call):
    assert list(error_faults(ast.parse(call, mode="eval").body))


# --- sizes --------------------------------------------------------------------------------------------------------


def lines_of_code(function: ast.AST, source: list[str]) -> int:
    """Count a function's lines without its docstring, blank lines and comments."""
    first = function.body[0]
    doc = range(first.lineno, first.end_lineno + 1) if ast.get_docstring(function, clean=False) is not None else ()
    lines = [source[n - 1].strip() for n in range(function.lineno, function.end_lineno + 1) if n not in doc]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def too_long() -> Iterator[tuple[str, str]]:
    """Yield (name, complaint) of each module and function over its limit."""
    for path in FILES:
        source = path.read_text(encoding="utf-8").splitlines()
        if len(source) > MAX_MODULE:
            yield short(path), f"{short(path)} has {len(source)} lines, the limit is {MAX_MODULE}"
        limit = MAX_KERNEL if "kernels" in path.parts else MAX_FUNCTION
        for node in functions(tree_of(path)):
            if (size := lines_of_code(node, source)) > limit:
                complaint = f"{short(path)}:{node.lineno}: {node.name} has {size} lines, the limit is {limit}"
                yield f"{short(path)}:{node.name}", complaint


def test_modules_and_functions_stay_short():
    complain([complaint for name, complaint in too_long() if name not in TOO_LONG])


def test_every_exception_from_the_sizes_is_still_needed_and_says_why():
    assert set(TOO_LONG) <= {name for name, _ in too_long()}
    assert all(len(reason) > 20 for reason in TOO_LONG.values())


def test_only_lines_of_code_count_towards_a_function_s_size():
    text = 'def f(x):\n    """Doc.\n\n    More.\n    """\n    # why\n\n    return x\n'
    assert lines_of_code(ast.parse(text).body[0], text.splitlines()) == 2


# --- examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    with new_widgets_closed():
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} failed, see above"


# --- files and documents ------------------------------------------------------------------------------------------


@cache
def project_files() -> list[Path]:
    """Return the files that are or will be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout, so nobody can say which files belong to it")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the text files of the project."""
    for path in project_files():
        data = path.read_bytes()
        if b"\0" not in data[:8000]:
            yield path, data.decode("utf-8", errors="replace")


def foreign_words(text: str) -> Iterator[str]:
    """Yield paths of somebody's machine and hosts of package registries."""
    for line in text.splitlines():
        if MACHINE_PATH.search(line):
            yield f"a path of one machine: {line.strip()[:80]}"
        if any(host in line for host in REGISTRIES):
            yield f"the host of a package registry: {line.strip()[:80]}"


def test_no_file_names_somebody_s_machine_or_a_registry():
    complain([f"{short(path)}: {fault}" for path, text in texts() for fault in foreign_words(text)])


@pytest.mark.parametrize("text", ["open('/ho" + "me/ada/x')", "in /tm" + "p/runs", "https://py" + "pi.org/simple"])
def test_foreign_words_are_found(text):
    assert list(foreign_words(text))


@pytest.mark.parametrize(
    "text", ["sparsekit/work/x", "~/home/x", "notebooks/tmp/a.npz", "https://arxiv.org/abs/1911.11134"]
)
def test_words_of_our_own_are_not_taken_for_foreign_ones(text):
    assert not list(foreign_words(text))


def documents() -> list[Path]:
    """Return all documents in markdown."""
    return [path for path in project_files() if path.suffix == ".md"]


def targets() -> set[str]:
    """Return the commands that the Makefile knows."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def make_words(text: str) -> set[str]:
    """Return the commands that a document tells its reader to make: only where it shows code."""
    code = re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
    return {word for piece in code for word in MAKE.findall(piece)}


def test_documents_name_only_make_commands_that_exist():
    said = ((path, make_words(path.read_text(encoding="utf-8"))) for path in documents())
    complain([f"{short(path)}: there is no `make {word}`" for path, words in said for word in words - targets()])


def test_the_readme_shows_the_two_commands():
    assert {"lab", "test"} <= make_words((ROOT / "README.md").read_text(encoding="utf-8"))


def test_links_between_documents_lead_somewhere():
    found = []
    for path in documents():
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            if not (path.parent / link).exists():
                found.append(f"{short(path)}: {link} does not exist")
    complain(found)


def test_the_readme_lists_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    complain([f"README.md must list {name}" for name in names if name not in text])


def test_nothing_tells_a_reader_to_install_the_other_package_of_our_name():
    command = re.compile(r"pip install sparse" + r"kit(?!-lab)\b")
    complain([short(path) for path, text in texts() if command.search(text)])
