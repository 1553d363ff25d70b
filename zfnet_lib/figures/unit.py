"""One unit of one picture: where it looks, what it sees, and its projection."""

from __future__ import annotations

import numpy as np

from ..receptive import Box
from .colour import projection_image, require_picture
from .sheet import Sheet
from .style import VERMILION, WIDTH, Figure

GAP = 0.15
SIDE = (WIDTH - 4 * GAP) / 3
"""Inches between the three pictures, and their side."""


def unit_figure(picture: np.ndarray, box: Box, patch: np.ndarray, projection: np.ndarray, title: str) -> Figure:
    """Draw a picture with a unit's receptive field outlined, the patch in that field, and its projection.

    Args:
        picture: uint8 [H, W, 3], square.
        box: The field in the picture; it may reach over the edge.
        patch: uint8 [s, s, 3].
        projection: float [3, s, s].
        title: Above all three.

    Raises:
        FigureError: Wrong shapes.
    """
    sheet = Sheet(Sheet.HEAD + SIDE + 0.35, title)
    shown = {
        "the picture": require_picture(picture),
        "what the unit sees": require_picture(patch),
        "its projection": projection_image(projection),
    }
    for place, (words, array) in enumerate(shown.items()):
        x = GAP + place * (SIDE + GAP)
        sheet.picture(array, x, Sheet.HEAD, SIDE, SIDE)
        sheet.text(x + SIDE / 2, Sheet.HEAD + SIDE + 0.15, words)
    top, left, bottom, right = (n * SIDE / len(picture) for n in box.clipped(*picture.shape[:2]))
    sheet.box(GAP + left, Sheet.HEAD + top, right - left, bottom - top, edge="white", line=2.4, level=3)
    sheet.box(GAP + left, Sheet.HEAD + top, right - left, bottom - top, edge=VERMILION, line=1.4, level=4)
    return sheet.figure
