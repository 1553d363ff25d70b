"""First-layer filters as small pictures (section 3; Fig. 5 a-c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from .colour import projection_image, robust_maximum
from .fig2 import resized
from .sheet import Sheet
from .style import DPI, GREY, NORMAL, SMALL, WIDTH, Figure, FigureError

GAP = 2
"""White pixels between filters."""
MARGIN, SPACE, LABEL = 0.05, 0.15, 0.42
"""Inches around the panels, between them, and for the two lines above each."""


def filters(panels: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the filters of several first layers side by side, each layer at a contrast of its own.

    All filters of a layer share one contrast: a few that dominate leave the others grey, which is what the
    renormalisation of section 3 is to prevent.

    Args:
        panels: By name: weights [maps, 3, k, k].
        title: Of the figure.

    Raises:
        FigureError: No panels, or weights of another shape.
    """
    if not panels:
        raise FigureError("there are no filters to draw; give at least one layer")
    width = (WIDTH - 2 * MARGIN - (len(panels) - 1) * SPACE) / len(panels)
    sheets = {name: grid_of_filters(weights, int(width * DPI)) for name, weights in panels.items()}
    tallest = max(array.shape[0] for array in sheets.values()) / DPI
    sheet = Sheet(Sheet.HEAD + LABEL + tallest + MARGIN, title)
    for place, (name, array) in enumerate(sheets.items()):
        x, y = MARGIN + place * (width + SPACE), Sheet.HEAD
        kernel, largest = panels[name].shape[-1], _rms(panels[name]).max()
        sheet.text(x, y + 0.08, name, NORMAL, across="left")
        sheet.text(x, y + 0.26, f"{kernel}x{kernel}, largest RMS {largest:.3f}", SMALL, GREY, across="left")
        sheet.picture(array, x, y + LABEL, array.shape[1] / DPI, array.shape[0] / DPI)
    return sheet.figure


def grid_of_filters(weights: np.ndarray, width: int) -> np.ndarray:
    """Set the filters of a layer in a grid about as high as wide, in the layer's order.

    Args:
        weights: [maps, 3, k, k].
        width: Of the grid in pixels, at most.

    Returns:
        uint8 [h, w, 3].

    Raises:
        FigureError: Weights of another shape.
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 4 or weights.shape[1] != 3 or not weights.size:
        raise FigureError(f"filters of a first layer are an array [maps, 3, k, k]; given {list(weights.shape)}")
    scale = robust_maximum(weights)
    return in_square([projection_image(one, scale) for one in weights], width)


def in_square(pictures: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Set square uint8 pictures [s, s, 3] on white in a grid about as high as wide, at most `width` pixels wide."""
    columns = ceil(len(pictures) ** 0.5)
    size, rows = (width + GAP) // columns - GAP, ceil(len(pictures) / columns)
    grid = np.full((rows * (size + GAP) - GAP, columns * (size + GAP) - GAP, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (n * (size + GAP) for n in divmod(place, columns))
        grid[top : top + size, left : left + size] = resized(picture, size)
    return grid


def _rms(weights: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(weights).mean((1, 2, 3)))
