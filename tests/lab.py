"""A JupyterLab of its own settings, and how a page of Chromium works in it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 180_000  # milliseconds to wait for what takes seconds on a machine that is not busy with other things

# Nothing asks outside or asks back; all cells of a notebook are in the page.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@contextmanager
def lab(root: Path, home: Path, **settings: dict) -> Iterator[str]:
    """Run JupyterLab over the notebooks below `root`, write all else below `home`, and yield its address."""
    files = {
        f"settings/@jupyterlab/{name}.jupyterlab-settings": each for name, each in (SETTINGS | settings).items()
    }
    files["config/labconfig/page_config.json"] = {"buildCheck": False}
    for name, values in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    places |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = os.environ | {name: str(home / place) for name, place in places.items()}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--ServerApp.root_dir={root}", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + PATIENCE / 1000
            while True:
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=1).close()
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > end:
                        said = (home / "log").read_text()[-2000:]
                        raise RuntimeError(f"JupyterLab did not start: {said}") from None
                    time.sleep(0.1)
            yield address
        finally:
            server.terminate()


def run_all(page, name: str) -> None:
    """Open a notebook from JupyterLab's list of files and run all its cells, as from the menu."""
    page.locator(".jp-DirListing-item", has_text=name).dblclick()
    page.locator(".lm-TabBar-tab.jp-mod-current", has_text=name).wait_for(timeout=PATIENCE)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()


def wait_until_done(page) -> None:
    """Wait until every cell of the visible notebook has run."""
    running = page.locator(".jp-NotebookPanel:visible .jp-CodeCell .jp-InputPrompt")
    unfinished = running.filter(has_text=re.compile(r"\[[ *]\]:"))
    unfinished.first.wait_for(state="detached", timeout=PATIENCE)
