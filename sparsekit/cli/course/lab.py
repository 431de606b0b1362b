"""Start JupyterLab on the reader's copies: no question about news, the first notebook open, and stills that stay."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparsekit.utils.notebook_files import HOOK
from sparsekit.utils.optional import require

SETTINGS = Path(__file__).parent / "jupyter"  # defaults of JupyterLab, which a reader's own settings replace
WORKSPACE = "sparsekit"  # tabs that were open in the course come back, and those of other work are left alone


def lab_command(folder: Path, first: str, extra: Sequence[str] = ()) -> list[str]:
    """Return the command that opens a folder's notebook in JupyterLab.

    The server's root is the folder above, so that links to the sources beside it lead somewhere.

    Args:
        folder: of the copies.
        first: the notebook's name.
        extra: further arguments for Jupyter, which win.

    Example:
        >>> lab_command(Path("course") / "work", "00_start_here.ipynb")[3]
        '--LabApp.default_url=/lab/workspaces/sparsekit/tree/work/00_start_here.ipynb'
    """
    folder = folder.resolve()
    flags = [
        f"--LabApp.default_url=/lab/workspaces/{WORKSPACE}/tree/{folder.name}/{first}",
        f"--ServerApp.root_dir={folder.parent}",
        f"--ContentsManager.pre_save_hook={HOOK}",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--allow-root")  # in a container, where the only user is root
    return [sys.executable, "-m", "jupyterlab", *flags, *extra]


def lab_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server that asks nobody about news. What a reader has set stays as it is.

    Args:
        environment: what the server would have otherwise.
    """
    paths = [str(SETTINGS), *filter(None, [environment.get("JUPYTER_CONFIG_PATH")])]
    return {**environment, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


def run_lab(command: Sequence[str]) -> int:
    """Become JupyterLab, so that whoever ends this process ends the server. Windows waits for it instead.

    Raises:
        ImportError: if JupyterLab is not installed.
    """
    require("jupyterlab", install="sparsekit-lab[notebooks]")
    environment = lab_environment(os.environ)
    if os.name == "posix":
        os.execve(command[0], list(command), environment)
    with subprocess.Popen(command, env=environment) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # Jupyter gets it as well, and asks whether it is meant
                continue
