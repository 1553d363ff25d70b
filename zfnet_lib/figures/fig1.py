"""Fig. 1: the deconvnet attached to a convnet layer; its parts on real numbers are `unpooling` and `descent`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .descent import descent
from .sheet import Sheet
from .style import GREY, INK, NORMAL, ORANGE, SKY, TITLE, VERMILION, WIDTH, Figure, tint, zone
from .unpooling import unpooling

__all__ = ["descent", "diagram", "unpooling"]

CONVNET = (
    "Pooled maps",
    "Max pooling",
    "Rectified feature maps",
    "Rectified linear function",
    "Feature maps",
    "Convolutional filtering  {F}",
    "Pooled maps of the layer below",
)
DECONVNET = (
    "Reconstruction of the layer above",
    "Max unpooling",
    "Unpooled maps",
    "Rectified linear function",
    "Rectified unpooled maps",
    "Convolutional filtering  {Fᵀ}",
    "Reconstruction",
)
"""Maps and operations in turn, from top to bottom."""

MAP = np.array(
    [
        [0.2, 0.0, 0.4, 0.0, 0.0, 0.3],
        [0.0, 0.9, 0.1, 0.2, 0.0, 0.0],
        [0.3, 0.0, 0.0, 0.0, 0.1, 0.7],
        [0.0, 0.1, 0.0, 0.0, 0.5, 0.2],
        [0.0, 0.0, 0.3, 1.0, 0.0, 0.0],
        [0.8, 0.2, 0.0, 0.3, 0.0, 0.4],
    ]
)
ABOVE = np.array([[0.6, -0.5], [1.0, 0.8]])
REGION = 3
"""The example of the lower half: a rectified map, a reconstruction of the layer above, and a region's side."""

LEFT, RIGHT, STEP, OPERATION = 1.95, 5.55, 0.56, 2.5
"""Inches: centres of the two columns, from line to line, and the width of an operation's box."""
CELL, WIDE_CELL, OUTWARDS = 0.27, 0.46, 0.35
"""Inches: sides of a position in a map and in a pooled map, and how far the lower half reaches over the columns."""


def diagram() -> Figure:
    """Draw Fig. 1: a deconvnet layer attached to a convnet layer, and unpooling with switches.

    The pooling regions of the lower half lie side by side, as in the paper's drawing; `unpooling` shows
    overlapping ones.
    """
    sheet = Sheet(8.3)
    sheet.text(LEFT, 0.2, "Deconvnet layer", TITLE, weight="bold")
    sheet.text(RIGHT, 0.2, "Convnet layer", TITLE, weight="bold")
    _column(sheet, LEFT, DECONVNET, ORANGE, down=True)
    _column(sheet, RIGHT, CONVNET, SKY, down=False)
    sheet.arrow(RIGHT - OPERATION / 2, _y(1), LEFT + OPERATION / 2, _y(1), VERMILION, 1.8)
    sheet.text(WIDTH / 2, _y(1) - 0.13, "switches", NORMAL, VERMILION, weight="bold")
    _lower_half(sheet, 4.5)
    return sheet.figure


def _y(line: int) -> float:
    return 0.62 + line * STEP


def _column(sheet: Sheet, x: float, lines: Sequence[str], colour: str, down: bool) -> None:
    """Write maps and operations below one another, operations in boxes, with arrows between them."""
    for line, words in enumerate(lines):
        half = 0.17 if line % 2 else 0.11
        if line % 2:
            box = (x - OPERATION / 2, _y(line) - half, OPERATION, 2 * half)
            sheet.box(*box, tint(colour, 0.35), colour, 1.2, round_by=0.06)
        sheet.text(x, _y(line), words, NORMAL)
        if line:
            ends = _y(line - 1) + 0.29 - half, _y(line) - half - 0.01
            start, end = ends if down else reversed(ends)
            sheet.arrow(x, start, x, end)


def _lower_half(sheet: Sheet, top: float) -> None:
    """Draw pooling on the right, unpooling on the left and the switches between them."""
    switches = _switches(MAP)
    unpooled = np.zeros_like(MAP)
    unpooled[switches] = ABOVE
    side, low = CELL * len(MAP), top + 1.62
    left, right = LEFT - OUTWARDS, RIGHT + OUTWARDS
    ends = top + 0.25 + WIDE_CELL * len(ABOVE), low - 0.05
    _pair(sheet, left, top, low, (DECONVNET[0], ABOVE), (DECONVNET[2], unpooled))
    _pair(sheet, right, top, low, (CONVNET[0], MAP[switches]), (CONVNET[2], MAP))
    for x, words, (start, end) in ((left, "Unpooling", ends), (right, "Pooling", ends[::-1])):
        sheet.arrow(x, start, x, end)
        sheet.text(x + 0.1, sum(ends) / 2, words, NORMAL, across="left")
    _draw_switches(sheet, WIDTH / 2, low, switches)
    middle = low + side / 2
    for start, end in ((right, WIDTH / 2), (WIDTH / 2, left)):
        sheet.arrow(start - side / 2 - 0.04, middle, end + side / 2 + 0.04, middle, VERMILION, 1.8)
    words = "Bars: black above the line is positive, white below it negative. Zones: pooling regions."
    sheet.text(WIDTH / 2, low + side + 0.4, words, colour=GREY)


def _switches(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the maxima of regions that lie side by side."""
    count = len(values) // REGION
    regions = values.reshape(count, REGION, count, REGION).swapaxes(1, 2).reshape(count, count, -1)
    row, column = np.divmod(regions.argmax(-1), REGION)
    first = REGION * np.arange(count)
    return first[:, None] + row, first + column


def _pair(sheet: Sheet, x: float, top: float, low: float, above: tuple, below: tuple) -> None:
    """Draw a pooled map and the map under it, with their names, centred at x."""
    sheet.text(x, top + 0.08, above[0], NORMAL)
    _bars(sheet, x, top + 0.2, above[1], WIDE_CELL, 1)
    _bars(sheet, x, low, below[1], CELL, REGION)
    sheet.text(x, low + CELL * len(MAP) + 0.13, below[0], NORMAL)


def _bars(sheet: Sheet, x: float, y: float, values: np.ndarray, cell: float, region: int) -> None:
    """Draw a map as cells in the colours of their regions, each value as a bar on the cell's middle line."""
    side = cell * len(values)
    for (row, column), value in np.ndenumerate(values):
        left, top = x - side / 2 + column * cell, y + row * cell
        sheet.box(left, top, cell, cell, tint(zone(row // region, column // region), 0.4), "white", 0.6)
        if value:
            middle, height = top + cell / 2, abs(value) * cell * 0.44
            start = middle - height if value > 0 else middle
            sheet.box(left + cell * 0.4, start, cell * 0.2, height, INK if value > 0 else "white", INK, 0.6)
            sheet.line(left + cell * 0.2, middle, left + cell * 0.8, middle, INK, 0.6)
    sheet.box(x - side / 2, y, side, side, edge=GREY)


def _draw_switches(sheet: Sheet, x: float, y: float, switches: tuple[np.ndarray, np.ndarray]) -> None:
    side = CELL * len(MAP)
    left = x - side / 2
    for row, column in np.ndindex(*MAP.shape):
        fill = tint(zone(row // REGION, column // REGION), 0.15)
        sheet.box(left + column * CELL, y + row * CELL, CELL, CELL, fill, "white", 0.6)
    for row, column in zip(*(places.flat for places in switches), strict=True):
        dot = (left + (column + 0.2) * CELL, y + (row + 0.2) * CELL, 0.6 * CELL, 0.6 * CELL)
        sheet.box(*dot, zone(row // REGION, column // REGION), INK, 0.8, round_by=0.08)
    sheet.box(left, y, side, side, edge=VERMILION, line=1.5)
    sheet.text(x, y + side + 0.13, "Switches", NORMAL, VERMILION, weight="bold")
