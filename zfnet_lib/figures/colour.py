"""Projections as pictures on grey."""

from __future__ import annotations

import numpy as np

from .style import FigureError

GREY_LEVEL = 128
SHARE = 99.0
"""Percent of the values that stay unclipped."""


def robust_maximum(pixels: np.ndarray) -> float:
    """Return the 99th percentile of the absolute values that are not 0; 1 where all are 0.

    A projection is 0 outside its receptive field, so zeros say nothing about its contrast.

    Args:
        pixels: Any shape.

    Example:
        >>> robust_maximum(np.array([0.0, 0.0, -2.0]))
        2.0
    """
    size = np.abs(pixels)[pixels != 0]
    return float(np.percentile(size, SHARE)) if size.size else 1.0


def projection_image(pixels: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Colour a projection as in Fig. 2: 0 is the grey 128, `scale` full contrast, the same for all three colours.

    Args:
        pixels: Finite values [3, h, w].
        scale: The absolute value that reaches 1 or 255; what exceeds it is clipped. By default the 99th
            percentile of the absolute values that are not 0 (`robust_maximum`), so that a few extreme pixels
            do not leave the rest grey.

    Returns:
        uint8 [h, w, 3].

    Raises:
        FigureError: Another shape, values that are not finite, or a scale that is not positive.

    Example:
        >>> projection_image(np.array([[[0.0, 2.0]], [[0.0, 0.0]], [[0.0, -9.0]]]), scale=2).tolist()
        [[[128, 128, 128], [255, 128, 1]]]
    """
    pixels = require_pixels(pixels)
    scale = robust_maximum(pixels) if scale is None else scale
    if not scale > 0:
        raise FigureError(f"the scale of a projection is a positive number; given {scale}")
    signed = np.clip(pixels / scale, -1, 1)
    return np.rint(GREY_LEVEL + (255 - GREY_LEVEL) * signed).astype(np.uint8).transpose(1, 2, 0)


def require_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return a projection as float64 [3, h, w], or refuse it."""
    pixels = np.asarray(pixels, dtype=np.float64)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.size:
        raise FigureError(f"a projection is an array [3, h, w]; given {list(pixels.shape)}")
    if not np.isfinite(pixels).all():
        raise FigureError("the projection holds NaN or infinite values; project the unit again")
    return pixels


def require_picture(picture: np.ndarray) -> np.ndarray:
    """Return a picture as an array, or refuse what is not uint8 [h, w, 3]."""
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise FigureError(f"a picture is a uint8 array [h, w, 3]; given {picture.dtype} {list(picture.shape)}")
    return picture
