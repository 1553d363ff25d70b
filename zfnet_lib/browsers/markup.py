"""Pictures as HTML that needs no file beside it."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

QUALITY = 88
"""Of the embedded pictures, in percent; higher is larger without a visible difference."""


def picture_tag(picture: np.ndarray, alt: str, width: str = "100%", crisp: bool = False) -> str:
    """Return an `<img>` of a uint8 picture [h, w, 3] with its alternative text.

    Args:
        picture: The pixels; they are embedded as WebP, a fraction of a PNG's size.
        alt: What the picture shows, in words.
        width: A CSS width, at most that of the page.
        crisp: Enlarge without smoothing.
    """
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="WEBP", quality=QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    rendering = "; image-rendering: pixelated" if crisp else ""
    style = f"width: {width}; max-width: 100%; height: auto{rendering}"
    return f'<img src="data:image/webp;base64,{data}" alt="{escape(alt)}" style="{style}">'
