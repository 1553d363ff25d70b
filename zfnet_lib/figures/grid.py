"""Pictures in rows and columns, with a name for each row and column."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import numpy as np

from .colour import require_picture
from .sheet import Sheet
from .style import WIDTH, Figure, FigureError

MARGIN, NAMES, SPACE = 0.05, 0.85, 0.05
"""Inches around the grid, for the names of rows, and between pictures."""
LINE, LETTER = 0.15, 0.072
"""Inches from line to line, and of a letter's width, in the names of columns."""


def picture_grid(
    rows: Sequence[Sequence[np.ndarray]], names: Sequence[str], columns: Sequence[str], title: str
) -> Figure:
    """Set pictures in rows and columns, each as large as a square of the column's width allows.

    Args:
        rows: Pictures uint8 [h, w, 3], as many in each row as there are columns.
        names: Of the rows; a line break parts two lines.
        columns: Names of the columns.
        title: Above all.

    Raises:
        FigureError: No pictures, or numbers or shapes that do not fit.
    """
    if not rows or len(names) != len(rows) or any(len(row) != len(columns) or not len(row) for row in rows):
        raise FigureError(
            f"a grid takes a name for each row and column; given {len(names)} and {len(columns)} names for "
            f"{len(rows)} rows of {', '.join(sorted({str(len(row)) for row in rows})) or 'no'} pictures"
        )
    side = (WIDTH - 2 * MARGIN - NAMES + SPACE) / len(columns) - SPACE
    left = [MARGIN + NAMES + number * (side + SPACE) for number in range(len(columns))]
    heads = [wrap(words, int(side / LETTER), break_long_words=False) for words in columns]
    top = Sheet.HEAD + LINE * max(map(len, heads)) + SPACE
    tall = [max(side * min(1, len(one) / require_picture(one).shape[1]) for one in row) for row in rows]
    sheet = Sheet(top + sum(tall) + SPACE * (len(rows) - 1) + MARGIN, title)
    for x, lines in zip(left, heads, strict=True):
        for number, words in enumerate(reversed(lines)):
            sheet.text(x + side / 2, top - 0.07 - number * LINE, words, down="baseline")
    y = top
    for words, row, height in zip(names, rows, tall, strict=True):
        sheet.text(MARGIN, y + height / 2, words, across="left", down="center")
        for x, picture in zip(left, row, strict=True):
            _centred(sheet, picture, x, y, side, height)
        y += height + SPACE
    return sheet.figure


def _centred(sheet: Sheet, picture: np.ndarray, x: float, y: float, width: float, height: float) -> None:
    """Show a picture as large as its place allows."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    tall, wide = (n * scale for n in picture.shape[:2])
    sheet.picture(picture, x + (width - wide) / 2, y + (height - tall) / 2, wide, tall)
