"""A reader's own picture, as it comes from the file chooser: refused in one sentence, or a picture."""

from __future__ import annotations

from torch import Tensor

from ...images import PictureError, read_picture

MB = 2**20
LARGEST = 8 * MB
"""Bytes; Jupyter's server cuts the connection at messages of 10 MB."""


def read_upload(name: str, size: int, content: bytes) -> Tensor:
    """Return an uploaded file as a picture, uint8 [3, h, w].

    Args:
        name: Of the file.
        size: Its bytes; the content of a file that is too large never leaves the page.
        content: The file.

    Raises:
        PictureError: Too large, no picture, or a damaged one.
    """
    if size > LARGEST:
        raise PictureError(f"{name} has {size / MB:.0f} MB and {LARGEST // MB} are the most; save it smaller")
    return read_picture(content, name)
