"""Prints a built book as one PDF, in the order of its table of contents: `python tests/pdf.py FOLDER OUT`."""

import io
import sys
from pathlib import Path

import yaml
from pages import BROKEN_IMAGES, CHROMIUM, chromium, served
from pypdf import PdfWriter

from zfnet_lib.files import PROJECT, replacing

PAPER = {"format": "A4", "scale": 0.8, "margin": dict.fromkeys(("top", "bottom", "left", "right"), "15mm")}
PRINTED = """() => {
  document.querySelectorAll("a[href]").forEach(link => {  // other pages are not at an address
    const own = link.hostname === location.hostname;
    if (own && !link.getAttribute("href").startsWith("#")) link.removeAttribute("href");
  });
  document.querySelectorAll("iframe, .headerlink, .copybtn").forEach(each => each.remove());
  return document.querySelector("h1").firstChild.textContent;
}"""


def chapters() -> list[str]:
    """Return the pages of the book, in order."""
    contents = yaml.safe_load((PROJECT / "_toc.yml").read_text())
    return [contents["root"], *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"])]


def main(folder: Path, out: Path) -> None:
    """Print every page that was built, and join them."""
    if not CHROMIUM:
        sys.exit("A PDF is printed by Chromium, which is not here; install Debian's package `chromium`.")
    if not (folder / "index.html").exists():
        sys.exit(f"There is no book in {folder}; build it first: make book")
    whole = PdfWriter()
    with served(folder) as address, chromium() as browser:
        page = browser.new_context(color_scheme="light").new_page()
        page.set_default_timeout(120_000)
        for name in chapters():
            page.goto(f"{address}/{name}.html", wait_until="networkidle")
            page.evaluate(BROKEN_IMAGES)  # loads the images that wait for their reader
            title = page.evaluate(PRINTED)
            whole.append(io.BytesIO(page.pdf(**PAPER)), title)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        whole.write(temporary)
    print(f"{out}: {len(whole.pages)} pages, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
