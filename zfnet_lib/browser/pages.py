"""Pictures as HTML that needs no file beside it; the browser that needs no kernel, as files and as widgets."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from PIL import Image

from ..files import ZfnetError, replacing
from ..paper.plots import Figure, tile
from ..strongest import Block
from .atlas import FORMAT, is_atlas, read_manifest

QUALITY = 88  # of the embedded pictures, in percent; higher is larger without a visible difference
STATIC = Path(__file__).parent / "static"  # the page's own sources
PAGE, NETWORKS = "index.html", "networks.js"


def picture_url(picture: np.ndarray, lossless: bool = False) -> str:
    """Return a uint8 picture [h, w, 3] as a URL that holds it: WebP, a fraction of a PNG's size."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, format="WEBP", quality=QUALITY, lossless=lossless)
    return _url(file.getvalue(), "webp")


def picture_tag(picture: np.ndarray, alt: str, width: str = "100%", crisp: bool = False) -> str:
    """Return an `<img>` of a uint8 picture [h, w, 3] with its alternative text."""
    return _tag(picture_url(picture), alt, f"width: {width}" + ("; image-rendering: pixelated" if crisp else ""))


def figure_tag(figure: Figure, alt: str) -> str:
    """Return an `<img>` of a figure, as wide as the page shows it, with its alternative text."""
    png, size = figure._repr_png_()
    return _tag(_url(png, "png"), alt, f"width: {size['width']}px")


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _tag(url: str, alt: str, style: str) -> str:
    return f'<img src="{url}" alt="{escape(alt)}" style="{style}; max-width: 100%; height: auto">'


def nine(block: Block, size: int) -> tuple[np.ndarray, str]:
    """Return the strongest units of a map as one picture, and its alternative text."""
    alt = f"{block.layer}, map {block.map}: nine projections on grey, to the right the patches they come from"
    return tile(block.projections, block.patches, size), alt


def write_browser(
    folder: Path, atlases: Sequence[Path], repair: str, missing: Mapping[str, str] | None = None
) -> Path:
    """Write the page that shows some atlases, and their tables."""
    require_own(folder)
    networks = []

    def write(path: Path, text: str) -> None:
        with replacing(path) as temporary:
            temporary.write_text(text)

    # A page that is opened as a file may neither fetch data nor import modules: browsers count every file as a
    # foreign origin. Scripts they take, so each table of an atlas becomes a script that hands it to the page.
    def hand(path: Path, call: str, *values: Any) -> None:
        write(path, f"zfnet.{call}({','.join(json.dumps(value, separators=(',', ':')) for value in values)});\n")

    for atlas in atlases:
        manifest = read_manifest(atlas)
        place, key = atlas.relative_to(folder).as_posix(), manifest["key"]
        networks.append({"name": manifest["name"], "place": place, "key": key})
        for layer in manifest["layers"]:
            table = f"maps-{layer['layer']}"  # a layer may have the name of any other file
            hand(atlas / f"{table}.js", "take", key, table, {"entries": layer.pop("entries")})
        hand(atlas / "network.js", "take", key, "network", manifest)
    known = {"format": FORMAT, "networks": networks, "missing": dict(missing or {}), "repair": repair}
    hand(folder / NETWORKS, "begin", known)
    for source in sorted(STATIC.iterdir()):
        write(folder / source.name, source.read_text())
    return folder / PAGE


def require_own(folder: Path) -> None:
    """Refuse a folder that holds anything but a browser or an atlas."""
    own = (folder / NETWORKS).exists() or is_atlas(folder)
    if folder.is_dir() and not own and any(folder.glob("[!.]*.*")):
        raise ZfnetError(f"{folder} holds something that is no browser; choose another folder for it")


def linked_browser(layers: Mapping[str, Sequence[Block]], size: int = 84) -> widgets.Widget:
    """Show layers as tabs and their maps as a slider, each with nine projections beside their patches.

    Every picture is prepared, and sliders choose among them without a kernel.
    """
    tabs = []
    for blocks in layers.values():
        layout = widgets.Layout(width="95%")
        slider = widgets.SelectionSlider(options=[block.map for block in blocks], description="map", layout=layout)
        pages = []
        for block in blocks:
            named = zip(block.names, block.scores, strict=True)
            rows = "".join(f"<li>{escape(name)}: {score:.3g}</li>" for name, score in named)
            words = "<summary>Pictures and activations, strongest first</summary>"
            pages.append(f"{picture_tag(*nine(block, size))}<details>{words}<ol>{rows}</ol></details>")
        stack = widgets.Stack([widgets.HTML(page) for page in pages], selected_index=0)
        widgets.jslink((slider, "index"), (stack, "selected_index"))
        tabs.append(widgets.VBox([slider, stack]))
    return widgets.Tab(tabs, titles=tuple(layers), selected_index=len(layers) - 1)
