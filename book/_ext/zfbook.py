"""The book's own Sphinx extension: outputs that stay true, pages that ask nothing outside, and what prose takes
from the library: the paper's errata and open questions, the source of a function, docstrings.

jupyter-cache knows a notebook by its code alone. What a notebook shows depends on more: the library, the
stored results, the data at hand. Their hash names the cache, so a change in any of them runs the notebooks
again, several at a time. Prose that glues numbers from a notebook is read again whenever a notebook was.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from textwrap import dedent
from typing import Any

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.executors.utils import create_cache_bundle, single_nb_execution
from myst_nb.sphinx_ import NbMetadataCollector
from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from zfnet_lib.machine import cores
from zfnet_lib.paper import records
from zfnet_lib.paper.runner import own_kernel, state_hash

logger = logging.getLogger(__name__)

AT_A_TIME = 4
"""Notebooks that are executed side by side at most: each takes one to two gigabytes."""


def name_the_cache(app: Sphinx, config: Config) -> None:
    """Let the cache of executed notebooks depend on all that their outputs depend on."""
    if config.nb_execution_mode != "cache":
        return
    caches = Path(app.outdir).parent / ".jupyter_cache"
    current = caches / state_hash()
    for stale in set(caches.glob("*")) - {current}:
        shutil.rmtree(stale, ignore_errors=True)
    config.nb_execution_cache_path = str(current)


def take_vendored_scripts(app: Sphinx, config: Config) -> None:
    """Use MathJax and the widget manager from the book where `make vendor` has put them, else say so."""
    if Path(app.srcdir, "book/_static/vendor").is_dir():
        config.mathjax_path = "vendor/mathjax/tex-chtml.js"
        config.nb_ipywidgets_js = {"vendor/widgets/embed.js": {}}
        logger.info("zfbook: MathJax and widgets from book/_static/vendor; no page asks anything outside")
    else:
        logger.info("zfbook: MathJax and widgets from their public copies (`make vendor` brings them, by npm)")


def link_the_repository(app: Sphinx, config: Config) -> None:
    """Link every page to its source, and notebooks to Binder and Colab, where `ZFNET_REPOSITORY` is the address."""
    address = os.environ.get("ZFNET_REPOSITORY", "")
    if address:
        links = {"repository_url": address, "repository_branch": "main", "use_repository_button": True}
        config.html_theme_options |= links
    else:  # the theme cannot build buttons that lead nowhere
        config.html_theme_options.pop("launch_buttons", None)


def name_the_roles(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Mark references as items of a list, and do not announce arguments, one a line, as a list of definitions."""
    if "body" in context:
        body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
        context["body"] = re.sub(r'<dl>(?=\s*<dd><em class="sig-param">)', '<dl role="presentation">', body)


def reread_prose(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterator[str]:
    """Yield every page of prose when a notebook is read: glue across documents is not tracked."""

    def is_notebook(name: str) -> bool:
        return Path(env.doc2path(name)).suffix == ".ipynb"

    if any(map(is_notebook, added | changed)):
        yield from (name for name in env.found_docs if not is_notebook(name))


def run_side_by_side(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    """Fill the cache with the notebooks that are about to be read, several at a time: reading runs one by one.

    A notebook that fails is left to its reading, which says where and why.
    """
    if app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    read = [str(env.doc2path(name)) for name in names if Path(env.doc2path(name)).suffix == ".ipynb"]
    for path in read:
        cache.add_nb_to_project(path)
    waiting = [cache.get_project_notebook(record.pk) for record in cache.list_unexecuted(filter_uris=read)]
    jobs = min(len(waiting), AT_A_TIME, cores())
    if jobs < 2:
        return

    def execute(notebook):
        folder = str(Path(notebook.uri).parent)
        quick = {"shutdown_kernel": "immediate"}  # nothing is left to tidy up, which would take a kernel seconds
        return single_nb_execution(notebook.nb, folder, app.config.nb_execution_timeout, False, **quick)

    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(cores() // jobs)  # of each kernel
    with ThreadPoolExecutor(jobs) as pool:
        for notebook, done in zip(waiting, pool.map(execute, waiting), strict=True):
            logger.info("zfbook: %s executed in %.0f s", Path(notebook.uri).stem, done.time)
            if done.err is None:
                bundle = create_cache_bundle(notebook, None, None, done.time, None)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


def say_the_run_time(app: Sphinx, doctree: nodes.document) -> None:
    """Add to a notebook's words on its run time how long it ran for this page, in this build or as a batch."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    ran = NbMetadataCollector.get_exec_data(app.env, app.env.docname)
    batch = json.loads(source.read_text())["metadata"].get("papermill", {})
    seconds = ran["runtime"] if ran else batch.get("duration")
    for words in doctree.findall(nodes.paragraph) if seconds else ():
        if words.astext().startswith("Run time. "):
            words += nodes.Text(f" For this page it ran {seconds:.0f} s.")


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Make pages light: WebP where it is smaller, loaded when it comes into view, and downloads without outputs."""
    if exception or app.builder.format != "html":
        return
    # The theme's source maps are read by debuggers alone, and each TTF font comes as WOFF2 too.
    for path in list(Path(app.outdir, "_static").rglob("*")):
        if path.suffix == ".map" or (path.suffix == ".ttf" and path.with_suffix(".woff2").exists()):
            path.unlink()
    with ThreadPoolExecutor(cores()) as pool:
        pictures = list(Path(app.outdir, "_images").glob("*.png"))
        lighter = {path.name: webp for path, webp in zip(pictures, pool.map(_webp, pictures), strict=True) if webp}
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        shown = re.sub(r"(?<=_images/)[^\"/]+\.png", lambda found: lighter.get(found[0], found[0]), text)
        first, *others = re.split(r'(?=<img (?![^>]*loading=)[^>]*src="[^"]*_images/)', shown)
        lazy = ['<img loading="lazy"' + other.removeprefix("<img") for other in others[1:]]
        shown = "".join([first, *others[:1], *lazy])
        if shown != text:
            page.write_text(shown, encoding="utf-8")
    for source in Path(app.outdir, "_sources").rglob("*.ipynb"):  # of a published run with all its pictures
        notebook = nbformat.read(source, 4)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
        nbformat.write(notebook, source)


def _webp(path: Path) -> str:
    """Replace a picture by a smaller WebP and return its name; nothing where the PNG is smaller."""
    with Image.open(path) as picture:
        if max(picture.size) > 16_383:  # more than the format holds
            return ""
        # Of what is drawn, and not photographed, lossless is small and sharp.
        drawn = picture.convert("RGB").getcolors(2**16) is not None
        picture.save(path.with_suffix(".webp"), lossless=drawn, quality=80)
    webp = path.with_suffix(".webp")
    smaller = webp.stat().st_size < path.stat().st_size
    (path if smaller else webp).unlink()
    return webp.name if smaller else ""


class Errata(SphinxDirective):
    """`{errata}`: the paper's errors as a list, from `zfnet_lib.paper`."""

    def run(self) -> list[nodes.Node]:
        """Return one definition an erratum: its title, then the places, the check and our reading."""
        items = []
        for erratum in records.errata():
            places, quotes = [], []
            for place in erratum.places:
                where = place["where"]
                places.append(f"section {where}" if where[0].isdigit() else where)
                if place["quote"]:
                    quotes.append(f"“{place['quote']}” ({places[-1]})")
            lines = ("; ".join(quotes or places), erratum.arithmetic, erratum.reading)
            term = nodes.term(erratum.title, erratum.title, ids=[erratum.id])
            said = nodes.definition("", *map(_labelled, ("Printed", "Check", "Reading"), lines))
            items.append(nodes.definition_list_item("", term, said))
        return [nodes.definition_list("", *items)]


class Questions(SphinxDirective):
    """`{questions}`: what the paper leaves open as a list, from `zfnet_lib.paper`."""

    def run(self) -> list[nodes.Node]:
        """Return one definition a question: the assumption taken, and what in the library takes it."""
        items = []
        for question in records.ambiguities():
            term = nodes.term("", f"{question.question} ({question.where})", ids=[question.id])
            code = nodes.paragraph("", "In the code: ", nodes.literal("", question.code))
            taken = nodes.definition("", _labelled("Taken", question.default), code)
            items.append(nodes.definition_list_item("", term, taken))
        return [nodes.definition_list("", *items)]


class Source(SphinxDirective):
    """`{source} zfnet_lib.deconv.unpool`: a function as it stands in the library, without its docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the code, and let the page follow the file that holds it."""
        function = inspect.unwrap(resolve_name(self.arguments[0]))
        self.env.note_dependency(inspect.getsourcefile(function))
        code = without_docstring(inspect.getsource(function))
        return [nodes.literal_block(code, code, language="python")]


def without_docstring(code: str) -> str:
    """Return the source of a function or class without its docstring.

    Example:
        >>> print(without_docstring('def one():\\n    "Return 1."\\n    return 1  # one'))
        def one():
            return 1  # one
    """
    lines, (definition,) = dedent(code).splitlines(), ast.parse(dedent(code)).body
    if ast.get_docstring(definition):
        first = definition.body[0]
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


def docstrings_as_rst(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Turn the Markdown marks of a docstring into reStructuredText: code between backticks, mathematics in $."""

    def as_rst(marks: re.Match[str]) -> str:
        code, mathematics = marks.groups()
        return f"``{code}``" if code else f":math:`{mathematics}`"

    lines[:] = re.sub(r"`([^`]+)`|\$([^$]+)\$", as_rst, "\n".join(lines)).split("\n")


def _labelled(label: str, text: str) -> nodes.paragraph:
    return nodes.paragraph("", "", nodes.strong(label, label), nodes.Text(f": {text}"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all of it to Sphinx."""
    whole_build = ExitStack()
    whole_build.enter_context(own_kernel())
    app.connect("build-finished", lambda app, exception: whole_build.close())
    app.add_directive("errata", Errata)
    app.add_directive("questions", Questions)
    app.add_directive("source", Source)
    app.connect("config-inited", name_the_cache)
    app.connect("config-inited", take_vendored_scripts)
    app.connect("config-inited", link_the_repository)
    app.connect("html-page-context", name_the_roles)
    app.connect("env-get-outdated", reread_prose)
    app.connect("env-before-read-docs", run_side_by_side)
    app.connect("doctree-read", say_the_run_time)
    app.connect("build-finished", lighten)
    app.connect("autodoc-process-docstring", docstrings_as_rst, priority=400)  # before napoleon reads sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
