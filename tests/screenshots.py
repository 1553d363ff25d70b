"""Takes the pictures of the book's page on the live browser, light and dark: `make screenshots`."""

import io
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from lab import PATIENCE, lab, run_all
from pages import chromium
from PIL import Image

from zfnet_lib.files import PROJECT, replacing

OUT = PROJECT / "book/_static"
NUMBER = 35  # of the photograph that is shown: a cup of coffee from scikit-image, under CC0
WINDOW, SCALE = {"width": 1640, "height": 2000}, 1.25


def main() -> None:
    """Write `live-PANE-light.webp` and `live-PANE-dark.webp` for every pane."""
    for scheme in ("Light", "Dark"):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            home = Path(folder)
            write_notebook(home / "notebooks" / "browse.ipynb")
            theme = {"apputils-extension/themes": {"theme": f"JupyterLab {scheme}"}}
            look = {"viewport": WINDOW, "device_scale_factor": SCALE, "color_scheme": scheme.lower()}
            with lab(home / "notebooks", home, **theme) as address, chromium() as browser:
                page = browser.new_context(**look).new_page()
                page.set_default_timeout(PATIENCE + 60_000)  # a search and a training take longer than a page
                page.goto(f"{address}/lab?reset")
                run_all(page, "browse.ipynb")
                for pane in panes(page):
                    page.wait_for_timeout(1500)  # for the last messages of the kernel
                    save(page, OUT / f"live-{pane}-{scheme.lower()}.webp")


def write_notebook(path: Path) -> None:
    """Keep the notebook's parameters and its live cell."""
    book = nbformat.read(PROJECT / "notebooks/browse.ipynb", 4)
    kept = ("profile:", "live_browser(")
    book.cells = [cell for cell in book.cells if any(words in cell.source for words in kept)]
    path.parent.mkdir(parents=True)
    nbformat.write(book, path)


def panes(page) -> Iterator[str]:
    """Show one pane after the other: a unit in the upper part of a cup; it covered; all photographs; a training."""
    page.get_by_label("picture", exact=True).select_option(index=NUMBER)
    page.get_by_role("application", name="coffee").first.wait_for()
    page.get_by_label("layer", exact=True).first.select_option("conv4")
    page.get_by_alt_text(re.compile(r"^the \d+ maps of conv4")).wait_for()
    yield "units"
    page.get_by_role("tab", name="Occluder").click()
    page.get_by_role("application", name="drag the square").click()
    page.get_by_role("button", name="every place").click()
    page.get_by_text(re.compile("^Activity of map")).wait_for()
    yield "occluder"
    page.get_by_role("tab", name="Strongest").click()
    page.get_by_role("button", name="look through").click()
    page.get_by_text("found here in").wait_for()
    yield "strongest"
    page.get_by_role("tab", name="Training").click()
    page.get_by_role("button", name="train", exact=True).click()
    page.get_by_text("finished:").wait_for()
    yield "training"


def save(page, path: Path) -> None:
    """Save the browser, without what lies around it."""
    output = page.locator(".jp-OutputArea-output:has(.zf-pad), .jp-OutputArea-output:has(.zf-upload)").first
    shot = Image.open(io.BytesIO(output.screenshot())).convert("RGB")
    with replacing(path) as temporary:
        shot.save(temporary, "WEBP", quality=82, method=6)
    print(f"{path}: {shot.width}x{shot.height}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
