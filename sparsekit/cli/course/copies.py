"""The reader's own copies of the notebooks. What a reader has changed is never overwritten unasked, and never lost."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsekit.utils.files import read_json, write_bytes, write_json
from sparsekit.utils.turns import alone

NOTEBOOKS = "[0-9][0-9]_*.ipynb"
LIST = ".copies.json"  # in the folder of copies: what each was made of
BEFORE = "before-reset"  # where copies go that were reset


@dataclass(frozen=True)
class Update:
    """What an update of the copies did, each time with the notebooks' names.

    Args:
        new: copied for the first time.
        renewed: replaced by a newer original, because the reader had not changed them.
        outdated: left alone, although there is a newer original, because the reader has changed them.
    """

    new: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()


def course_folder() -> Path:
    """Return the folder of the course: `notebooks` here, else the one in the wheel, else that of the checkout."""
    package = Path(__file__).parents[2]
    folders = (Path("notebooks"), package / "experiments" / "course" / "notebooks", package.parent / "notebooks")
    return next((folder for folder in folders if any(folder.glob(NOTEBOOKS))), folders[0])


def originals_in(folder: Path) -> list[Path]:
    """Return the notebooks of the course in a folder, in order.

    Raises:
        ValueError: if there are none.
    """
    originals = sorted(folder.glob(NOTEBOOKS))
    if not originals:
        raise ValueError(
            f"{folder} must hold the course's notebooks, got none. Work in a checkout of sparsekit, or name its "
            "notebooks with --notebooks"
        )
    return originals


def update_copies(originals: Path, folder: Path) -> Update:
    """Copy notebooks that are new, and renew copies that nobody has changed.

    Args:
        originals: the folder of the notebooks.
        folder: of the copies, which need not exist.

    Raises:
        ValueError: if there are no notebooks, or both folders are the same.
    """
    sources = originals_in(originals)
    _check_own(folder, originals)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        hashes = _read_list(folder)
        said: dict[str, list[str]] = {"new": [], "renewed": [], "outdated": []}
        for source in sources:
            copy = folder / source.name
            if not copy.exists() or hashes.get(source.name) != _hash(source):
                said[_update(source, copy, hashes)].append(source.name)
        write_json(folder / LIST, {"made_of": hashes})
    return Update(**{name: tuple(files) for name, files in said.items()})


def reset_copy(originals: Path, folder: Path, beginning: str) -> Path | None:
    """Copy one notebook anew. Return where the reader's copy lies now, or None if there was none.

    Args:
        originals: the folder of the notebooks.
        folder: of the copies.
        beginning: of the notebook's name, `03` for example.

    Raises:
        ValueError: if not exactly one notebook's name begins like this, or both folders are the same.
    """
    found = [path for path in originals_in(originals) if path.name.startswith(beginning)]
    if len(found) != 1:
        names = ", ".join(path.stem for path in originals_in(originals))
        raise ValueError(f"NN must be the beginning of one notebook's name, got {beginning!r}. Choose among {names}")
    (source,) = found
    _check_own(folder, originals)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        hashes = _read_list(folder)
        kept = _keep_aside(folder / source.name)
        _copy(source, folder / source.name, hashes)
        write_json(folder / LIST, {"made_of": hashes})
    return kept


def _check_own(folder: Path, originals: Path) -> None:
    if folder.exists() and folder.resolve() == originals.resolve():
        raise ValueError(f"copies must lie in a folder of their own, got that of the originals, {folder}. Name another")


def _update(source: Path, copy: Path, hashes: dict[str, str]) -> str:
    """Bring one copy up to date where that loses nothing. Return what was done."""
    if not copy.exists():
        _copy(source, copy, hashes)
        return "new"
    if hashes.get(source.name) == _hash(copy) or _hash(copy) == _hash(source):
        _copy(source, copy, hashes)
        return "renewed"
    return "outdated"


def _copy(source: Path, copy: Path, hashes: dict[str, str]) -> None:
    write_bytes(copy, source.read_bytes())
    hashes[source.name] = _hash(source)


def _keep_aside(copy: Path) -> Path | None:
    if not copy.exists():
        return None
    aside = copy.parent / BEFORE
    aside.mkdir(exist_ok=True)
    number = 1
    while (target := aside / f"{copy.stem}-{number}.ipynb").exists():
        number += 1
    shutil.move(copy, target)
    return target


def _read_list(folder: Path) -> dict[str, Any]:
    """Return what copies were made of. Without a list that can be read, every copy counts as changed."""
    try:
        made_of = read_json(folder / LIST)["made_of"]
    except (OSError, ValueError, KeyError):
        return {}
    return dict(made_of) if isinstance(made_of, dict) else {}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]
