"""Puts the browser of layers and features into the built book, beside its pages.

The atlases are computed from photographs that come with installed packages, and kept in the data folder: a second
build takes them from there while weights, pictures and the atlas's format stay the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

from zfnet_lib.browser.atlas import MANIFEST
from zfnet_lib.browser.pages import write_browser
from zfnet_lib.files import data_root
from zfnet_lib.paper.fig2 import network_atlas
from zfnet_lib.weights import CheckpointError

PAGE = "book/browser"
"""The page that shows the browser; a book without it gets none."""

logger = logging.getLogger(__name__)


def put_browser(app: Sphinx, error: Exception | None) -> None:
    """Write the atlases that the configuration names, and the browser, into the built book."""
    if error or app.builder.format != "html" or PAGE not in app.env.found_docs:
        return
    site, atlases, missing = Path(app.outdir) / "browser", [], {}
    pictures, maps, others = (app.config.zfbrowser[key] for key in ("pictures", "maps", "others"))
    for network in app.config.zfbrowser["networks"]:
        folder = data_root() / ".atlases" / f"{network}-{pictures}-{maps}-{others}"
        logger.info("zfbrowser: %s over %s; the first time takes a minute", network, pictures)
        try:
            kept = network_atlas(network, pictures, folder, maps=maps, others=others, progress=True)
        except CheckpointError as reason:
            missing[network] = f"{str(reason)[0].upper()}{str(reason)[1:]}."
            logger.info("zfbrowser: %s", reason)
            continue
        atlases.append(site / network)
        old, new = atlases[-1] / MANIFEST, kept / MANIFEST
        if not old.is_file() or old.read_bytes() != new.read_bytes():
            shutil.rmtree(atlases[-1], ignore_errors=True)
            shutil.copytree(kept, atlases[-1])
    write_browser(site, atlases, "make book", missing)
    logger.info("zfbrowser: %s", ", ".join(atlas.name for atlas in atlases))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it to Sphinx."""
    app.add_config_value("zfbrowser", {"networks": [], "pictures": "photos", "maps": 0, "others": 0}, "")
    app.connect("build-finished", put_browser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
