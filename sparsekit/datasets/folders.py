"""Data files lie in `root`, else in `SPARSEKIT_DATA`, else in the checkout's `data/` or in the installed package."""

import os
from pathlib import Path

VARIABLE = "SPARSEKIT_DATA"
PACKED = Path(__file__).with_name("files")  # where a wheel has what `data/` has in a checkout


def find(relative: str, root: Path | None, remedy: str) -> Path:
    """Return the first data folder that holds a file or folder.

    Args:
        relative: what must be there, for example `"cifar-10-batches-py"`.
        root: the only folder to look into, if you give one.
        remedy: what the user can do if it is missing, as a sentence.

    Raises:
        FileNotFoundError: if no data folder holds it.
    """
    folders = data_folders(root)
    if root is None and PACKED.is_dir():
        folders = (*folders, PACKED)
    for folder in folders:
        if (folder / relative).exists():
            return folder
    paths = " or ".join(str(folder) for folder in folders) or "no data folder at all"
    raise FileNotFoundError(f"a data folder must hold {relative}, looked in {paths} and got nothing. {remedy}")


def download_folder(root: Path | None) -> Path:
    """Return the folder to download into, which is the first data folder.

    Raises:
        FileNotFoundError: if none is known, as in an installed package without `SPARSEKIT_DATA`.
    """
    folders = data_folders(root)
    if not folders:
        raise FileNotFoundError(
            f"a download must know its data folder, got none outside a checkout. Give root=... or set {VARIABLE}"
        )
    return folders[0]


def data_folders(root: Path | None = None) -> tuple[Path, ...]:
    """Return the folders to look into, the first one first, or `root` alone if you give one."""
    if root is not None:
        return (root,)
    path = os.environ.get(VARIABLE)
    candidates = (Path(path).expanduser() if path else None, _checkout_data())
    return tuple(folder for folder in candidates if folder is not None)


def _checkout_data() -> Path | None:
    checkout = Path(__file__).resolve().parents[2]
    # In an installed package this folder is site-packages, which has no pyproject.toml.
    return checkout / "data" if (checkout / "pyproject.toml").is_file() else None
