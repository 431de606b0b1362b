"""Start JupyterLab on the reader's copies: no question about news, the first notebook open, and stills that stay."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsekit.utils.notebook_files import HOOK

WORKSPACE = "sparsekit"  # tabs that were open in the course come back, and those of other work are left alone


def lab_command(folder: Path, first: str, extra: Sequence[str] = ()) -> list[str]:
    """Return the command that opens a folder's notebook in JupyterLab.

    The server's root is the folder above, so that links to the sources beside it lead somewhere.

    Args:
        folder: of the copies.
        first: the notebook's name.
        extra: further arguments for Jupyter, which win.

    Example:
        >>> lab_command(Path("course") / "work", "00_start_here.ipynb")[3:5]
        ['--LabApp.default_url=/lab/workspaces/sparsekit/tree/work/00_start_here.ipynb', '--LabApp.news_url=None']
    """
    folder = folder.resolve()
    flags = [
        f"--LabApp.default_url=/lab/workspaces/{WORKSPACE}/tree/{folder.name}/{first}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        f"--ServerApp.root_dir={folder.parent}",
        f"--ContentsManager.pre_save_hook={HOOK}",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--allow-root")  # in a container, where the only user is root
    return [sys.executable, "-m", "jupyterlab", *flags, *extra]


def run_lab(command: Sequence[str]) -> int:
    """Run JupyterLab until the reader ends it, and return its exit code."""
    with subprocess.Popen(command) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # Jupyter gets it as well, and asks whether it is meant
                continue
