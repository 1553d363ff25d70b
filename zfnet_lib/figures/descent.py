"""One unit on its way down to the pixels, layer by layer (section 2.1, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .colour import projection_image, require_picture, robust_maximum
from .sheet import Sheet
from .style import DPI, GREY, NORMAL, VERMILION, Figure, FigureError

SHOWN = 8
"""Maps drawn of every layer."""
MARGIN, LABELS, SIDE, STEP, SUM = 0.05, 1.35, 0.6, 0.66, 6.73
"""Inches: the left margin, where the maps begin, a map's side, from map to map, and where the sums stand."""
LEVEL, PICTURE = 0.94, 2.3
"""Inches from layer to layer, and of the picture's height."""


def descent(picture: np.ndarray, levels: Sequence[tuple[str, np.ndarray]], unit_title: str) -> Figure:
    """Show a unit on its way down to the pixels, layer by layer (section 2.1, Fig. 1).

    Of every layer the maps with the largest sums are shown, strongest first, on one scale from 0 to the layer's
    largest value, and the sum over all its maps on a scale of its own. A frame around projection and picture
    holds every pixel that the signal reached.

    Args:
        picture: uint8 [H, W, 3], what the network saw.
        levels: (layer, rectified signal [maps, h, w]) from the unit's layer downwards; last
            ("pixels", projection [3, H, W]).
        unit_title: Which unit of which network.

    Raises:
        FigureError: Wrong shapes, or levels that do not end in pixels of the picture's size.
    """
    picture = require_picture(picture)
    *layers, (last, pixels) = [(name, np.asarray(values)) for name, values in levels] or [("nothing", np.zeros(0))]
    if last != "pixels" or pixels.shape != (3, *picture.shape[:2]):
        raise FigureError(
            f"the last level is ('pixels', [3, {picture.shape[0]}, {picture.shape[1]}]), as large as the picture; "
            f"given ({last!r}, {list(pixels.shape)})"
        )
    top = Sheet.HEAD + 0.25
    below = top + len(layers) * LEVEL
    sheet = Sheet(below + PICTURE + 0.45, unit_title)
    sheet.text(LABELS, top - 0.13, "strongest maps", colour=GREY, across="left")
    sheet.text(SUM + SIDE / 2, top - 0.13, "sum of all", colour=GREY)
    for place, (name, values) in enumerate(layers):
        _level(sheet, top + place * LEVEL, name, values)
    _pixels(sheet, below + 0.1, picture, pixels)
    return sheet.figure


def _level(sheet: Sheet, y: float, name: str, values: np.ndarray) -> None:
    """Draw one layer: its numbers, its strongest maps and the sum of all."""
    if values.ndim != 3 or not values.size:
        raise FigureError(f"the signal at {name} is an array [maps, h, w]; given {list(values.shape)}")
    maps, height, width = values.shape
    active = int((values > 0).any(axis=(1, 2)).sum())
    sheet.text(MARGIN, y + 0.08, name, NORMAL, across="left", weight="bold")
    for line, words in enumerate((f"{height}×{width}", f"{active} of {maps} maps", f"up to {values.max():.3g}")):
        sheet.text(MARGIN, y + 0.25 + line * 0.15, words, across="left")
    strongest = np.argsort(-values.sum(axis=(1, 2)), kind="stable")[: min(SHOWN, active)]
    for place, map_ in enumerate(strongest):
        x = LABELS + place * STEP
        sheet.picture(_thinned(values[map_]), x, y, SIDE, SIDE, top=values.max())
        sheet.text(x + SIDE / 2, y + SIDE + 0.09, f"{map_}")
    total = values.sum(axis=0)
    sheet.picture(_thinned(total), SUM, y, SIDE, SIDE, top=total.max())


def _thinned(values: np.ndarray) -> np.ndarray:
    """Keep the largest value of every block where a map has more values than its place has pixels."""
    block = -(-max(values.shape) // int(SIDE * DPI))
    height, width = (-(-side // block) for side in values.shape)
    padded = np.zeros((height * block, width * block))
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(height, block, width, block).max(axis=(1, 3))


def _pixels(sheet: Sheet, y: float, picture: np.ndarray, pixels: np.ndarray) -> None:
    """Draw the projection beside the picture."""
    scale = robust_maximum(pixels)
    pixel = PICTURE / picture.shape[0]
    width = pixel * picture.shape[1]
    sheet.text(MARGIN, y + 0.3, "pixels", NORMAL, across="left", weight="bold")
    sheet.text(MARGIN, y + 0.4, f"grey is 0, contrast\nup to ±{scale:.3g}", across="left", down="top")
    shown = (("projection", projection_image(pixels, scale)), ("picture", picture))
    for x, (words, array) in zip((LABELS, LABELS + width + 0.3), shown, strict=True):
        sheet.text(x + width / 2, y + 0.09, words)
        sheet.picture(array, x, y + 0.2, width, PICTURE)
        _outline(sheet, x, y + 0.2, pixel, pixels)


def _outline(sheet: Sheet, x: float, y: float, pixel: float, pixels: np.ndarray) -> None:
    """Frame the pixels that are not 0, visibly on any colour."""
    _, rows, columns = np.nonzero(pixels)
    if rows.size:
        place = x + columns.min() * pixel, y + rows.min() * pixel
        size = (np.ptp(columns) + 1) * pixel, (np.ptp(rows) + 1) * pixel
        for edge, line in (("white", 2.4), (VERMILION, 1.2)):
            sheet.box(*place, *size, edge=edge, line=line)
