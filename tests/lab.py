"""A JupyterLab of its own settings, and a page of headless Chromium that works in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PATIENCE = 180_000
"""Milliseconds to wait for what takes seconds on a machine that is not busy with other things."""

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
"""Nothing asks outside or asks back; all cells of a notebook are in the page."""


@contextmanager
def lab(root: Path, home: Path, **settings: dict) -> Iterator[str]:
    """Run JupyterLab over the notebooks in a folder and yield its address.

    Args:
        root: With the notebooks.
        home: For settings and everything that Jupyter writes.
        **settings: Of the front end beside `SETTINGS`.
    """
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
            _wait_for(address, server, home / "log")
            yield address
        finally:
            server.terminate()


@contextmanager
def chromium(**context) -> Iterator:
    """Yield a page of headless Chromium that reaches nothing but this machine."""
    from playwright.sync_api import sync_playwright

    nowhere = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", nowhere]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser.new_context(**context).new_page()
        browser.close()


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


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = PATIENCE / 1000) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")
