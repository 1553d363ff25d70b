"""Pictures as HTML that needs no file beside it."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ..figures import Figure, tile

QUALITY = 88
"""Of the embedded pictures, in percent; higher is larger without a visible difference."""


def picture_url(picture: np.ndarray, lossless: bool = False) -> str:
    """Return a uint8 picture [h, w, 3] as a URL that holds it: WebP, a fraction of a PNG's size."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, format="WEBP", quality=QUALITY, lossless=lossless)
    return _url(file.getvalue(), "webp")


def picture_tag(picture: np.ndarray, alt: str, width: str = "100%", crisp: bool = False) -> str:
    """Return an `<img>` of a uint8 picture [h, w, 3] with its alternative text.

    Args:
        picture: The pixels.
        alt: What the picture shows, in words.
        width: A CSS width, at most that of the page.
        crisp: Enlarge without smoothing.
    """
    return _tag(picture_url(picture), alt, f"width: {width}" + ("; image-rendering: pixelated" if crisp else ""))


def figure_tag(figure: Figure, alt: str) -> str:
    """Return an `<img>` of a figure, as wide as the page shows it, with its alternative text."""
    png, size = figure._repr_png_()
    return _tag(_url(png, "png"), alt, f"width: {size['width']}px")


def block_page(layer: str, block, size: int) -> str:
    """Return one map's nine projections beside their patches, and as text what they show.

    Args:
        layer: The map's layer.
        block: With `map`, `scores`, `projections`, `patches` and `names`, as of Fig. 2.
        size: Side of each small picture in pixels.
    """
    pictures = tile(block.projections, block.patches, size)
    what = f"{layer}, map {block.map}: nine projections on grey, to the right the patches they come from"
    rows = "".join(
        f"<li>{escape(name)}: {score:.3g}</li>" for name, score in zip(block.names, block.scores, strict=True)
    )
    return (
        f"{picture_tag(pictures, what)}"
        f"<details><summary>Pictures and activations, strongest first</summary><ol>{rows}</ol></details>"
    )


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _tag(url: str, alt: str, style: str) -> str:
    return f'<img src="{url}" alt="{escape(alt)}" style="{style}; max-width: 100%; height: auto">'
