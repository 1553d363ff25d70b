"""Looks at a built book in headless Chromium that can reach nothing outside: `python tests/pages.py FOLDER`."""

import functools
import http.server
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from zfnet_lib.files import PROJECT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = PROJECT / "_build/test-vendor/axe.min.js"
"""The accessibility engine axe-core, which `make vendor` brings."""

NOWHERE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb", NOWHERE]

BROKEN_IMAGES = """async () => {
  const images = [...document.images];
  images.forEach(image => { image.loading = "eager"; });
  await Promise.all(images.map(image => image.decode().catch(() => null)));
  return images.filter(image => !image.naturalWidth).map(image => image.currentSrc || image.src);
}"""
PAGE, SITE = 4e6, 30e6
"""Bytes that a page with its pictures, and the whole book, may have."""
PHONE = {"width": 360, "height": 740}
WORDS = 6000
"""Words that a page may show before anything is unfolded."""
READ = r'(document.querySelector("article")?.innerText ?? "").split(/\s+/).length'
WIDTHS = (1920, 1280, 390, PHONE["width"])
SIDEWAYS = "document.documentElement.scrollWidth > innerWidth"
CUT_CODE = """() => [...document.querySelectorAll(".cell_input pre, .highlight pre")]
  .filter(block => block.clientWidth && block.scrollWidth > block.clientWidth + 1)
  .map(block => block.textContent.trim().split("\\n")[0].slice(0, 60))"""
FIGURES = '[...document.querySelectorAll(".bd-article .cell_output img:not(.jupyter-widgets *)")]'
SHRUNK = f"{FIGURES}.filter(i => i.clientWidth && i.clientWidth < 0.45 * i.naturalWidth).length"
OPENS = f"""() => {{
  const figure = {FIGURES}[0];
  figure?.click();
  return !figure || document.querySelectorAll("dialog.enlarged[open] img").length === 1;
}}"""
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
FINDINGS = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter(found => ["serious", "critical"].includes(found.impact))
  .map(found => `${found.id}: ${found.help}: ${found.nodes[0].html.slice(0, 120)}`)"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser has closed it, having seen enough
            super().handle()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the address at which a folder is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def chromium() -> Iterator:
    """Yield a browser that reaches this machine only."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def problems(page, address: str, offline: bool = True) -> list[str]:
    """Open a page; return its errors, the images that it lacks, and what it asks for outside, where it must not."""
    found: list[str] = []
    own = ("file://" if address.startswith("file://") else "http://127.0.0.1:", "data:", "blob:")
    inside = lambda asked: not offline or asked.url.startswith(own)  # noqa: E731
    listeners = {
        "pageerror": lambda error: found.append(f"error: {error}"),
        "response": lambda answer: answer.status >= 400 and found.append(f"missing: {answer.url}"),
        "request": lambda asked: inside(asked) or found.append(f"asks outside: {asked.url}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(address, wait_until="networkidle")
    found += [f"no image: {source}" for source in page.evaluate(BROKEN_IMAGES)]
    if page.locator(".output.traceback").count():
        found.append("a cell failed")
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    return found


def findings(page) -> list[str]:
    """Return what axe-core finds serious or critical about the page that is open."""
    page.add_style_tag(content=STILL)  # a colour on its way to another is no finding
    page.evaluate(AXE.read_text())
    return page.evaluate(FINDINGS)


def look(folder: Path, name: str) -> tuple[list[str], int]:
    """Look at a page of a book as a file and over http, light and dark; return what is wrong, and its words."""
    with served(folder) as address, chromium() as browser:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(120_000)
        offline = (folder / "_static/vendor").is_dir()
        found = problems(page, (folder / name).as_uri(), offline)
        found += problems(page, f"{address}/{name}", offline)
        for theme in ("light", "dark") if AXE.exists() else ():
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            found += [f"{theme}: {finding}" for finding in findings(page)]
        words = page.evaluate(READ)
        found += [f"more than {WORDS:,} words to read"] * (words > WORDS)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"moves sideways at {width} pixels"] * page.evaluate(SIDEWAYS)
            cut = page.evaluate(CUT_CODE) if width == 1280 else []
            found += [f"code runs over the edge: {line}" for line in cut]
        # Figures are drawn at twice the pixels at which their letters are ten or more high.
        found += ["letters of figures are too small on a phone"] * (page.evaluate(SHRUNK) > 0)
        found += [] if page.evaluate(OPENS) else ["a figure does not open"]
    return list(dict.fromkeys(found)), words


def weight(page: Path) -> int:
    """Return the bytes of a page and of the pictures that it shows."""
    shown = {*re.findall(r'src="([^":]*_images/[^"]+)"', page.read_text(encoding="utf-8"))}
    return page.stat().st_size + sum((page.parent / each).stat().st_size for each in shown)


def main(folder: Path) -> int:
    """Look at every page, two at a time; return how many something is wrong with."""
    if not CHROMIUM:
        print("no Chromium here: the pages are not looked at")
        return 0
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html") if "_static" not in path.parts)
    wrong = 0
    with ThreadPoolExecutor(2) as pool:
        for name, (found, words) in zip(names, pool.map(functools.partial(look, folder), names), strict=True):
            size = weight(folder / name)
            found += [f"it weighs more than {PAGE / 1e6:g} MB"] * (size > PAGE)
            wrong += bool(found)
            said = f"{name}: {'ok, ' if not found else ''}{size / 1e6:.2f} MB, {words:,} words"
            print("\n".join([said, *(f"  {each}" for each in found)]), flush=True)
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    wrong += whole > SITE
    print(f"the book: {whole / 1e6:.1f} MB" + f", more than {SITE / 1e6:g}" * (whole > SITE))
    axe = "" if AXE.exists() else "; axe-core is not here (make vendor)"
    print(f"{len(names)} pages, {wrong} with problems{axe}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()) > 0)
