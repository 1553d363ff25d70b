"""The book: a small one of its own configuration and extension, built and looked at without a network."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace

import layouts
import pytest
import yaml
from pages import AXE, OPENS, PHONE, SHRUNK, SIDEWAYS, findings, problems

import zfnet_lib
from zfnet_lib import MINI, ConvNet, save_network
from zfnet_lib.files import PROJECT, ZfnetError
from zfnet_lib.paper import runner
from zfnet_lib.paper.records import ambiguities, errata
from zfnet_lib.paper.runner import publish_book, run_notebooks

VENDORED = (PROJECT / "book/_static/vendor").is_dir()

PARAMETERS = 'profile: str = "tiny"  # the scale\nlive: bool = False  # compute anew'
COUNT = """
import os
from pathlib import Path
from myst_nb import glue
results = Path(os.environ["ZFNET_RESULTS"])
runs = results.parent / "runs.txt"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
glue("number", float((results / "number").read_text()), display=False)
print("shown in", profile, "run", len(runs.read_text()))
print("bar " * 2, file=__import__("sys").stderr)
from zfnet_lib.paper.plots import Figure
Figure(2)
"""
WIDGETS = """
import ipywidgets as w
slider = w.IntSlider(max=2, description="map")
pages = w.Stack([w.HTML(f"<p class='page'>page {i}</p>") for i in range(3)], selected_index=0)
w.jslink((slider, "value"), (pages, "selected_index"))
tabs = w.Tab([w.VBox([slider, pages]), w.HTML("other layer")])
tabs.titles = ["conv1", "conv2"]
tabs
"""
CODE = """# Correspondence: long words in a headline

```{questions}
```

```{source} zfnet_lib.deconv.unpool
```

```{eval-rst}
.. autofunction:: zfnet_lib.network.contrast_normalise
```
"""
PROSE = "# Start\n\nThe number is {glue:text}`/notebooks/count.ipynb::number:.0f`, and $x^2$ {cite}`zeiler2014`.\n"


write_notebook = partial(layouts.write_notebook, parameters=PARAMETERS)


def build(root: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", runner.BUILD, "build", str(root), "-W", "--keep-going"]
    environment = os.environ | {"NO_COLOR": "1"} | settings
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of two pages and two notebooks with the real configuration, built once."""
    root = tmp_path_factory.mktemp("project")
    (root / "notebooks").mkdir()
    (root / "results").mkdir()
    (root / "results/number").write_text("41")
    shutil.copy(PROJECT / "_config.yml", root)
    for folder in ("_ext", "_static"):
        shutil.copytree(PROJECT / "book" / folder, root / "book" / folder)
    for name in ("references.bib", "references.md", "errata.md"):
        shutil.copy(PROJECT / "book" / name, root / "book")
    names = ("notebooks/count", "notebooks/widgets", "book/references", "book/errata", "book/code")
    toc = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": name} for name in names]}
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    (root / "book/intro.md").write_text(PROSE)
    (root / "book/code.md").write_text(CODE)
    write_notebook(root / "notebooks/count.ipynb", COUNT)
    write_notebook(root / "notebooks/widgets.ipynb", WIDGETS)
    stray = root / ".venv/lib/site-packages/package/README.md"
    stray.parent.mkdir(parents=True)
    stray.write_text("no page of the book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZFNET_RESULTS", str(root / "results"))
        patch.setenv("ZFNET_DATA", str(root / "data"))
        patch.setenv("JUPYTER_PATH", layouts.foreign_kernel(root / ".jupyter"))  # which nothing may take
        patch.setattr(runner, "PROJECT", root)
        yield root


@pytest.fixture(scope="module")
def html(root: Path) -> Path:
    done = build(root)
    assert done.returncode == 0, done.stderr
    return root / "_build/html"


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_the_book_builds_without_a_warning_from_its_own_pages_and_the_library(html: Path) -> None:
    intro, wrong, code = (html / f"book/{name}.html" for name in ("intro", "errata", "code"))
    assert "The number is 41," in text_of(intro) and '<html lang="en"' in intro.read_text()
    assert not list(html.rglob("README*"))
    assert all(f'id="{erratum.id}"' in wrong.read_text() for erratum in errata())
    assert "Reading: " in text_of(wrong)
    assert all(f'id="{question.id}"' in code.read_text() for question in ambiguities())
    text = text_of(code)
    assert "scatter_add_" in text and "adjoint of max pooling" not in text
    assert "Divide each value by the energy of its neighbouring maps" in text
    assert "torch.nn.functional.local_response_norm(x" in text and "`torch" not in text
    assert r"y_i = x_i \, d_i^{-\beta}" in text


def test_outputs_stay_true_when_results_change_and_a_public_address_brings_buttons(root: Path, html: Path) -> None:
    page = html / "notebooks/count.html"
    assert "shown in tiny run 1" in text_of(page) and "bar bar" not in text_of(page)
    assert re.search(r"\nRun time\. Seconds\. For this page it ran \d+ s\.\n", text_of(page))
    assert "notebooks/count.ipynb" in page.read_text()  # the download
    assert "mybinder" not in page.read_text()
    again = build(root)
    assert "0 added, 0 changed, 0 removed" in again.stdout
    assert ("widgets from book/_static/vendor" in again.stdout) == VENDORED
    assert (root / "runs.txt").read_text() == "x"

    (root / "results/number").write_text("42")
    assert build(root, ZFNET_REPOSITORY="https://github.com/somebody/zfnet").returncode == 0
    assert "shown in tiny run 2" in text_of(page)
    assert "The number is 42," in text_of(html / "book/intro.html")
    links = re.findall(r'href="([^"]+)"', page.read_text())
    assert "https://mybinder.org/v2/gh/somebody/zfnet/main?urlpath=lab/tree/notebooks/count.ipynb" in links
    assert "https://colab.research.google.com/github/somebody/zfnet/blob/main/notebooks/count.ipynb" in links
    assert len(list((root / "_build/.jupyter_cache").iterdir())) == 1


def test_a_published_run_is_shown_as_it_was_run(root: Path) -> None:
    with pytest.raises(ZfnetError, match="lacks count, widgets"):
        publish_book("smoke")
    assert [run.state for run in run_notebooks([], "smoke")] == ["done", "done"]
    executed = (root / "runs.txt").read_text()
    first = publish_book("smoke")
    assert first == root / "runs/smoke/book/_build/html/index.html"
    shown = text_of(first.parent / "notebooks/count.html")
    assert f"shown in smoke run {len(executed)}" in shown and re.search(r"For this page it ran \d+ s\.", shown)
    assert (root / "runs.txt").read_text() == executed


def test_a_failing_cell_fails_the_build(root: Path, html: Path) -> None:
    source = root / "notebooks/count.ipynb"
    good = source.read_text()
    write_notebook(source, "raise ValueError('planted')")
    done = build(root)
    source.write_text(good)
    assert done.returncode != 0 and "planted" in done.stdout + done.stderr


def test_every_name_and_page_in_the_book_is_there_and_every_public_name_in_the_reference() -> None:
    reference = (PROJECT / "book/api.md").read_text()
    assert [name for name in zfnet_lib.__all__ if not re.search(rf"::.*\b{name}$", reference, re.MULTILINE)] == []
    names = re.findall(r"^\.\. auto\w+:: (\S+)$", reference, re.MULTILINE)
    for path in (PROJECT / "book").glob("*.md"):
        names += re.findall(r"^```{source} (\S+)$", path.read_text(), re.MULTILINE)
    full = [name if name.startswith("zfnet_lib") else f"zfnet_lib.{name}" for name in names]
    full += [question.code for question in ambiguities()]
    assert len(full) > 40 and all(resolve_name(name) is not None for name in full)
    listed = re.findall(r"(?:file|root): (\S+)", (PROJECT / "_toc.yml").read_text())
    assert [name for name in listed if not list(PROJECT.glob(f"{name}.*"))] == []


@pytest.fixture(scope="module")
def page(chromium):
    """A phone's page, that can reach nothing outside."""
    context = chromium.new_context(viewport=PHONE)
    yield context.new_page()
    context.close()


@pytest.mark.skipif(not VENDORED, reason="no vendored scripts (npm was not there)")
def test_linked_widgets_move_without_a_kernel_or_a_network(page, html: Path, address) -> None:
    page.goto(address(html / "book/intro.html"), wait_until="networkidle")
    assert page.locator("mjx-container").count() == 1
    page.goto(address(html / "notebooks/widgets.html"), wait_until="networkidle")
    assert page.locator(".page:visible").all_inner_texts() == ["page 0"]
    page.get_by_role("slider", name="map").press("ArrowRight")
    assert page.locator(".page:visible").all_inner_texts() == ["page 1"]
    page.get_by_text("conv2", exact=True).click()
    assert page.get_by_text("other layer", exact=True).is_visible()


def test_a_figure_is_legible_on_a_phone_and_opens_by_tap_and_key(page, html: Path, address) -> None:
    page.goto(address(html / "notebooks/count.html"), wait_until="networkidle")
    figure, opened = page.locator(".cell_output img").first, page.locator("dialog.enlarged")
    assert page.evaluate(SHRUNK) == 0 and not page.evaluate(SIDEWAYS)
    assert page.evaluate(OPENS)
    opened.click()
    opened.wait_for(state="detached")
    page.locator(".cell_output a:has(img)").press("Enter")
    width = opened.locator("img").evaluate("image => image.clientWidth")
    assert width == figure.evaluate("image => image.naturalWidth") > 2 * PHONE["width"]
    page.keyboard.press("Escape")
    opened.wait_for(state="detached")


@pytest.mark.parametrize("name", ["book/intro", "notebooks/count", "notebooks/widgets", "book/code", "genindex"])
def test_pages_are_whole_ask_nothing_outside_fit_a_phone_and_can_be_used_by_everybody(
    page, html: Path, address, name: str
) -> None:
    file = html / f"{name}.html"
    assert problems(page, file.as_uri(), offline=VENDORED) == []
    assert problems(page, address(file), offline=VENDORED) == []
    assert not page.evaluate(SIDEWAYS)
    for theme in ("light", "dark") if AXE.exists() and name not in ("book/code", "genindex") else ():
        page.goto(address(file), wait_until="networkidle")
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        assert findings(page) == []


def test_the_book_gets_a_browser_whose_atlases_are_copied_once(tmp_path: Path, data: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "book/_ext")
    from zfbrowser import PAGE, put_browser

    save_network(ConvNet(MINI), data / "weights/small", {})
    settings = {"networks": ["small", "gone"], "pictures": "shapes", "maps": 1, "others": 0}
    parts = {"builder": {"format": "html"}, "env": {"found_docs": {PAGE}}, "config": {"zfbrowser": settings}}
    app = SimpleNamespace(outdir=tmp_path, **{name: SimpleNamespace(**part) for name, part in parts.items()})
    written = []
    for _ in range(2):
        put_browser(app, None)
        written.append({path: path.stat().st_mtime_ns for path in tmp_path.glob("browser/small/*.webp")})
    assert written[0] == written[1] != {}
    networks = (tmp_path / "browser/networks.js").read_text()
    assert '"name":"small"' in networks and re.search(r'"missing":\{"gone":"[A-Z][^"]*\."\}', networks)


def test_a_figure_opens_by_both_keys_of_a_button(page, tmp_path: Path) -> None:
    script, picture = ((PROJECT / "book/_static" / name).as_uri() for name in ("zfbook.js", "projection.webp"))
    figure = f'<figure class="bd-article"><figure><img src="{picture}" alt="a face"></figure></figure>'
    (tmp_path / "figure.html").write_text(f'<!doctype html><script src="{script}"></script>{figure}')
    page.goto((tmp_path / "figure.html").as_uri())
    for key in ("Enter", " "):
        page.get_by_role("button", name="a face").press(key)
        page.locator("dialog.enlarged[open]").click()
        page.locator("dialog.enlarged").wait_for(state="detached")


BAD = """<!doctype html><html lang="en"><title>t</title><main><h1>t</h1><img src="gone.png" alt="gone">
<script>setTimeout(() => { throw new Error("planted"); })</script>
<script src="https://example.org/outside.js"></script><button></button></main>"""


def test_what_is_wrong_with_a_page_is_seen(page, tmp_path: Path, address) -> None:
    (tmp_path / "bad.html").write_text(BAD)
    wrong = {"error", "missing", "asks outside", "no image"}
    assert {text.partition(":")[0] for text in problems(page, address(tmp_path / "bad.html"))} == wrong
    found = problems(page, (tmp_path / "bad.html").as_uri())
    assert {text.partition(":")[0] for text in found} == wrong - {"missing"}
    if AXE.exists():
        assert any(finding.startswith("button-name") for finding in findings(page))
