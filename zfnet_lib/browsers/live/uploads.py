"""A reader's own picture, as it comes from the file chooser: refused in one sentence, or a picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ...images import PictureError, as_picture
from ...mosaics import GREY

MB = 2**20
LARGEST = 8 * MB
"""Bytes; Jupyter's server cuts the connection at messages of 10 MB."""
MOST = 50_000_000
"""Pixels."""
LONGEST = 10
"""Times that the longer side may be as long as the shorter one, of which the network sees the centre square."""

DEEP = 257
"""Levels of 16-bit grey to one of 8 bits."""


def read_upload(name: str, size: int, content: bytes) -> Tensor:
    """Return an uploaded file as a picture, upright, uint8 [3, h, w].

    Grey becomes three equal colours; what is transparent is laid on the grey that means 0 to a network.

    Args:
        name: Of the file.
        size: Its bytes; the content of a file that is too large never leaves the page.
        content: The file.

    Raises:
        PictureError: Too large, no picture, or a damaged one.
    """
    if size > LARGEST:
        raise PictureError(f"{name} has {size / MB:.0f} MB and {LARGEST // MB} are the most; save it smaller")
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(name, *image.size)
            return as_picture(_plain(ImageOps.exif_transpose(image)))
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(_too_many(name)) from None
    except (OSError, SyntaxError, ValueError):  # Pillow's ways of saying that it cannot read something
        raise PictureError(f"{name} cannot be read as a picture; choose a JPEG, PNG or WebP file") from None


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MOST:
        raise PictureError(_too_many(name))
    if max(width, height) > LONGEST * min(width, height):
        raise PictureError(
            f"{name} is {width} pixels wide and {height} high, and the network sees a square; cut it first"
        )


def _too_many(name: str) -> str:
    return f"{name} has more than {MOST // 10**6} million pixels; save it smaller"


def _plain(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits without transparency."""
    if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip
        return Image.fromarray((np.asarray(image, np.int64) // DEEP).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, (GREY, GREY, GREY, 255))
        return Image.alpha_composite(ground, image.convert("RGBA"))
    return image
