"""JupyterLab runs in headless Chromium, with one server and browser for all tests and a kernel for every notebook.

`SPARSEKIT_REQUIRE_BROWSER=1` turns the skip without Chromium into a failure, `CHROMIUM` names another browser, and
`SCREENSHOTS=folder` keeps an image of every notebook that a test opened. With `SPARSEKIT_REUSE_RUNS=1`, as in
`make test`, notebooks find the runs that `notebooks/runs` holds, and read them instead of training again.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser.driving import Notebook, file_name, write_notebook

from sparsekit.utils.notebook_files import HOOK

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATION = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
FLAGS = [
    "--no-sandbox",  # Chromium refuses its sandbox to root, and CI is root
    "--disable-dev-shm-usage",  # a container's shared memory is too small for large pages
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a request that leaves is seen and gets nowhere
]
LAB_FLAGS = [
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=",
    "--ServerApp.disable_check_xsrf=True",
    "--LabApp.expose_app_in_browser=True",  # window.jupyterapp: steadier than clicking through menus
    "--LabApp.extension_manager=readonly",
    f"--ContentsManager.pre_save_hook={HOOK}",  # as `sparsekit course open` does
]
SETTINGS = {  # no pop-up over the page, and off-screen outputs keep their text
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}


@dataclass
class Lab:
    """A running JupyterLab and its folder, a copy of `notebooks/`, because tests never write into the checkout."""

    url: str
    folder: Path


@dataclass
class Watch:
    """Record what a page did that it must not do."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def request(self, url: str) -> None:
        """Record an address on another machine."""
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.requests.append(url)

    def page(self, page) -> None:
        """Watch one page."""
        page.on("websocket", lambda socket: self.request(socket.url))
        page.on("pageerror", lambda error: self.error(str(error)))

    def error(self, text: str) -> None:
        """Record a script that failed. JupyterLab itself leaves canceled futures behind when a kernel restarts."""
        if "Canceled future" not in text:
            self.errors.append(text)

    def check(self) -> None:
        """Fail when a request left this machine or a script failed."""
        assert not self.requests, f"the notebook must need no network, it asked for {self.requests}"
        assert not self.errors, f"no script may fail in the page: {self.errors}"


def pytest_collection_modifyitems(items):
    """Mark everything in this folder, so that `-m 'not browser'` leaves it out."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Start one Chromium, which is the machine's own, because playwright downloads nothing."""
    program = find_chromium()
    if not program:
        give_up("there is no Chromium. Install it (Debian: apt-get install chromium) or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """Start one JupyterLab with settings of its own, whatever the user's are."""
    home = tmp_path_factory.mktemp("lab")
    ignored = [".ipynb_checkpoints", *([] if os.environ.get("SPARSEKIT_REUSE_RUNS") == "1" else ["runs"])]
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(*ignored))
    (home / "data").symlink_to(ROOT / "data")
    write_settings(home / "settings")
    port = free_port()
    with (home / "lab.log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *LAB_FLAGS, f"--port={port}"]
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={home / 'notebooks'}"],
            env=lab_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_server(server, f"http://127.0.0.1:{port}", home / "lab.log")
        yield Lab(f"http://127.0.0.1:{port}", home / "notebooks")
    finally:
        stop(server)


@pytest.fixture
def watch() -> Watch:
    """Record what the test's pages did wrong, for `notebook` to check at the end."""
    return Watch()


@pytest.fixture
def notebook(browser, lab, watch, request) -> Iterator[Callable[..., Notebook]]:
    """Open `notebook("01_masks.ipynb")`, or write a scratch one first with `notebook("x.ipynb", cells=[...])`.

    In the end no request may have left this machine and no script in the page may have failed.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 1400}, reduced_motion="reduce")
    context.on("request", lambda request: watch.request(request.url))
    context.on("page", watch.page)
    opened: list[tuple[str, Notebook]] = []

    def open_notebook(name: str, *, cells: list[str] | None = None) -> Notebook:
        if cells is not None:
            write_notebook(lab.folder / name, cells)
        book = Notebook(context.new_page())
        opened.append((name, book))
        return book.open(lab.url, name)

    yield open_notebook
    for name, book in opened:
        if folder := os.environ.get("SCREENSHOTS"):
            book.screenshot(Path(folder) / f"{file_name(request.node.name, Path(name).stem)}.png")
        book.shut_down()
    context.close()
    watch.check()


def find_chromium() -> str:
    """Return the path of a Chromium, or "" without one."""
    paths = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES), str(APPLICATION) if APPLICATION.exists() else None]
    return next((path for path in paths if path), "")


def give_up(reason: str) -> None:
    """Skip aloud, or fail where a browser is required."""
    if os.environ.get("SPARSEKIT_REQUIRE_BROWSER", "0") not in ("", "0"):
        pytest.fail(f"a browser is required (SPARSEKIT_REQUIRE_BROWSER): {reason}", pytrace=False)
    pytest.skip(reason)


def write_settings(folder: Path) -> None:
    """Write JupyterLab's settings files."""
    for name, values in SETTINGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def lab_environment(home: Path) -> dict[str, str]:
    """Return the environment of the server and its kernels, which leave the user's Jupyter alone."""
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "share",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    variables = {name: str(home / folder) for name, folder in folders.items()}
    return {**os.environ, **variables, "OMP_NUM_THREADS": "1", "JUPYTER_PREFER_ENV_PATH": "1"}


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_server(server: subprocess.Popen, url: str, log: Path, *, seconds: float = 240) -> None:
    """Wait until JupyterLab answers, which takes 3 s, and more than a minute on a crowded machine."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/api/status", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start within {seconds:.0f} s:\n{log.read_text()[-3000:]}", pytrace=False)


def stop(server: subprocess.Popen) -> None:
    """End JupyterLab and, through it, every kernel."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
