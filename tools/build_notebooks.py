"""Executes `notebooks/src/*.py` (percent format) into `notebooks/*.ipynb`, the only way these files are made.

A notebook is built anew when its source changed or somebody edited the built file, so pictures do not churn.
`--check` builds nothing and says what is stale; `--force` builds all; a prefix such as `03` picks notebooks.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
BUILDER = 2  # raise it when this file changes what it writes; every notebook is then stale
TIMEOUT = 300  # seconds a cell may take; a notebook should need 60 in all
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
NOISE = ("execution", "collapsed", "scrolled", "lines_to_next_cell", "lines_to_end_of_cell_marker")
LIVE = "application/vnd.jupyter.widget-view+json"  # names a widget that no longer exists; the still stays
STILLS = """  # a last cell, which is not kept: how the widgets look now that everything has run
import base64, json, sys
_base = sys.modules.get("sparsekit.widgets.base")
_named = [one for one in list(globals().values()) if _base and isinstance(one, _base.StaticPreview)]
_alive = [one for one in _named if one._widget().comm is not None]
_stills = {one._widget().model_id: one.snapshot() for one in _alive}
print(json.dumps({name: [base64.b64encode(still).decode(), still.alt] for name, still in _stills.items()}))
"""


def main(arguments: list[str] | None = None, *, folder: Path = NOTEBOOKS) -> int:
    """Build or check the notebooks of a folder. Return the exit code: 1 when something is stale or failed."""
    options = _options(arguments)
    sources = [path for path in sorted((folder / "src").glob("*.py")) if path.name.startswith(options.prefix)]
    stale = [path for path in sources if options.force or why_stale(path)]
    if options.check:
        complaints = [f"{path.stem}: {why_stale(path)}; run `make notebooks`" for path in stale]
        complaints += [f"{path.stem}: it has no source in notebooks/src" for path in orphans(folder)]
        print("\n".join(complaints) or f"{len(sources)} notebooks are fresh")
        return bool(complaints)
    for path in stale:
        _build_aloud(path)
    print(f"{len(stale)} of {len(sources)} notebooks built")
    return 0


def why_stale(source: Path) -> str:
    """Return why the notebook must be built anew, or "" when it is what the source says."""
    built = built_path(source)
    if not built.exists():
        return "it was never built"
    notebook = nbformat.read(built, 4)
    if notebook.metadata.get("sparsekit", {}).get("source") != digest(source):
        return "its source changed"
    if _contents(notebook) != _contents(read_source(source)):
        return "somebody edited the built file; edit its source instead"
    if LIVE in built.read_text(encoding="utf-8") or "widgets" in notebook.metadata:
        return "somebody saved the built file with live widgets"
    return ""


def orphans(folder: Path) -> list[Path]:
    """Return the built notebooks that no source stands behind."""
    return [path for path in sorted(folder.glob("*.ipynb")) if not (folder / "src" / f"{path.stem}.py").exists()]


def text_of(source: Path) -> str:
    """Return a source's text in one form, whatever an editor or git made of line endings and trailing blanks."""
    lines = source.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip() + "\n"


def digest(source: Path) -> str:
    """Return the hash that says whether a source changed since its notebook was built."""
    return hashlib.sha256(f"{BUILDER}\n{text_of(source)}".encode()).hexdigest()[:16]


def read_source(source: Path) -> NotebookNode:
    """Return a source as a notebook that did not run yet."""
    return jupytext.reads(text_of(source), "py:percent")


def built_path(source: Path) -> Path:
    """Return where the notebook of a source lies."""
    return source.parent.parent / f"{source.stem}.ipynb"


def build(source: Path) -> Path:
    """Execute a source in its own kernel, working in `notebooks/`, and write the notebook."""
    built = built_path(source)
    shutil.rmtree(built.parent / "runs", ignore_errors=True)  # or a finished run of older code would be read
    notebook = read_source(source)
    notebook.metadata = NotebookNode(kernelspec=KERNEL, sparsekit={"source": digest(source)})
    name_cells(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(STILLS))
    # widget state must be collected although it is dropped: nbclient 0.11 fails on `Output` widgets otherwise
    NotebookClient(
        notebook, timeout=TIMEOUT, record_timing=False, resources={"metadata": {"path": str(built.parent)}}
    ).execute()
    refresh_stills(notebook)
    clean(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, built)
    return built


def name_cells(notebook: NotebookNode) -> None:
    """Give cells ids made from their text, so that an inserted cell renames no other."""
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[name] += 1
        cell["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"


def refresh_stills(notebook: NotebookNode) -> None:
    """Take the last cell away, and show every widget that it tells of as it looked in the end.

    A cell with the tag `first-still` keeps what it showed at first, for a widget that later cells change again.
    """
    told = "".join(output.get("text", "") for output in notebook.cells.pop().outputs if output.get("name") == "stdout")
    stills = json.loads(told)
    cells = [cell for cell in notebook.cells if "first-still" not in cell.metadata.get("tags", ())]
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        data = output.get("data", {})
        if (still := stills.get(data.get(LIVE, {}).get("model_id"))) is not None:
            data["image/png"], data["text/plain"] = still


def clean(notebook: NotebookNode) -> None:
    """Drop what differs from run to run or belongs to this machine; refuse warnings in outputs.

    Raises:
        ValueError: if a cell wrote to stderr, where warnings with paths of this machine land.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        for key in NOISE:
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", ()):
            _clean_output(output, cell.source)


def _clean_output(output: NotebookNode, source: str) -> None:
    if output.get("name") == "stderr":
        first = source.strip().partition("\n")[0]
        raise ValueError(f"a cell must not write to stderr, got {output.text!r} from {first!r}; mend the cause")
    output.get("data", {}).pop(LIVE, None)


def _contents(notebook: NotebookNode) -> list[tuple[str, str, list[str]]]:
    return [(cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])) for cell in notebook.cells]


def _build_aloud(source: Path) -> None:
    print(f"building {source.stem} ...", end=" ", flush=True)
    start = time.perf_counter()
    size = build(source).stat().st_size
    print(f"{time.perf_counter() - start:.0f} s, {size / 1e3:.0f} kB")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("prefix", nargs="?", default="", help="only notebooks whose name starts so, for example 03")
    parser.add_argument("--check", action="store_true", help="build nothing; fail if something is stale")
    parser.add_argument("--force", action="store_true", help="build fresh notebooks too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the tests: numbers and times stay comparable
    sys.exit(main())
