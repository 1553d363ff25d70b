"""Fig. 6: what the network sees when a grey square hides a part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .colour import projection_image, require_picture
from .sheet import Sheet
from .style import (
    BLUE,
    GREEN,
    GREY,
    NORMAL,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    WIDTH,
    YELLOW,
    Figure,
    FigureError,
)

PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
"""Colours of the labels that are most often the most probable; further labels are pale."""

MARGIN, GAP, LABELS = 0.05, 0.1, 0.62
"""Inches around the panels, between them, and below a row for names and ranges."""
COLUMNS = ("picture and square", "activity of the map", "its projections", "probability", "most probable")
SIDE = (WIDTH - 2 * MARGIN - (len(COLUMNS) - 1) * GAP) / len(COLUMNS)


@dataclass(frozen=True)
class Row:
    """One picture of Fig. 6.

    Attributes:
        title: What the picture is and why it was chosen.
        picture: uint8 [H, W, 3], as the network sees it.
        square: Top, left and side of the occluder that is drawn, in pixels.
        activity: [rows, columns], of the map for each place of the square.
        projections: Of the map's strongest unit in this picture, then in others; [3, s, s] each.
        box: The field of the first of them in the picture: top, left, bottom, right.
        probability: Of the class, or None without a classifier.
        label: int [rows, columns]: the most probable class, or None.
        classes: Names by class number.
        target: The class whose probability is shown, or None.
    """

    title: str
    picture: np.ndarray
    square: tuple[int, int, int]
    activity: np.ndarray
    projections: Sequence[np.ndarray]
    box: tuple[int, int, int, int]
    probability: np.ndarray | None
    label: np.ndarray | None
    classes: Sequence[str]
    target: int | None


def occlusion(rows: Sequence[Row], title: str) -> Figure:
    """Draw one row a picture: the square, activity, projections, probability and most probable label (Fig. 6).

    Each place of the square colours one cell. Activity runs from 0 to its largest value, probability from 0 to 1.

    Raises:
        FigureError: No rows, or arrays of other shapes.
    """
    if not rows:
        raise FigureError("Fig. 6 shows at least one picture; given none")
    step = 0.24 + SIDE + LABELS
    sheet = Sheet(Sheet.HEAD + 0.22 + len(rows) * step, title)
    for place, words in enumerate(COLUMNS):
        sheet.text(_x(place) + SIDE / 2, Sheet.HEAD + 0.08, words, NORMAL, colour=GREY)
    for number, row in enumerate(rows):
        y = Sheet.HEAD + 0.22 + number * step
        sheet.text(MARGIN, y + 0.1, row.title, NORMAL, across="left")
        _row(sheet, y + 0.24, row)
    return sheet.figure


def _x(place: int) -> float:
    return MARGIN + place * (SIDE + GAP)


def _row(sheet: Sheet, y: float, row: Row) -> None:
    picture = require_picture(row.picture)
    _picture(sheet, _x(0), y, picture, row.square)
    _map(sheet, _x(1), y, row.activity, row.activity.max(), f"0 to {row.activity.max():.3g}")
    _projections(sheet, _x(2), y, row, len(picture))
    if row.probability is None:
        for place in (3, 4):
            sheet.box(_x(place), y, SIDE, SIDE, fill=PALE, edge="none")
            sheet.text(_x(place) + SIDE / 2, y + SIDE / 2, "no classifier")
        return
    _map(sheet, _x(3), y, row.probability, 1.0, f"of {row.classes[row.target]}, 0 to 1")
    _labels(sheet, _x(4), y, row.label, row.classes)


def _picture(sheet: Sheet, x: float, y: float, picture: np.ndarray, square: tuple[int, int, int]) -> None:
    top, left, side = square
    covered = picture.copy()
    covered[top : top + side, left : left + side] = 128
    sheet.picture(covered, x, y, SIDE, SIDE)
    sheet.text(x + SIDE / 2, y + SIDE + 0.1, f"square of {side} pixels")


def _map(sheet: Sheet, x: float, y: float, values: np.ndarray, top: float, words: str) -> None:
    sheet.picture(np.asarray(values, np.float64), x, y, SIDE, SIDE, top=max(float(top), 1e-12))
    sheet.text(x + SIDE / 2, y + SIDE + 0.1, words)


def _projections(sheet: Sheet, x: float, y: float, row: Row, pixels: int) -> None:
    """Draw the projections two by two, the one from this picture first and framed, and frame its field there."""
    small = (SIDE - 0.04) / 2
    for place, values in enumerate(row.projections[:4]):
        down, across = divmod(place, 2)
        corner = x + across * (small + 0.04), y + down * (small + 0.04)
        sheet.picture(projection_image(values), *corner, small, small)
        if not place:
            sheet.box(*corner, small, small, edge=VERMILION, line=1.4, level=3)
    sheet.text(x + SIDE / 2, y + SIDE + 0.1, "here (framed), elsewhere")
    top, left, bottom, right = (min(max(n, 0), pixels) * SIDE / pixels for n in row.box)
    for edge, line, level in (("white", 2.4, 3), (VERMILION, 1.2, 4)):
        sheet.box(_x(0) + left, y + top, right - left, bottom - top, edge=edge, line=line, level=level)


def _labels(sheet: Sheet, x: float, y: float, label: np.ndarray, classes: Sequence[str]) -> None:
    """Colour each place by its most probable class, and name the classes that occur, the most frequent first."""
    numbers, counts = np.unique(label, return_counts=True)
    order = numbers[np.argsort(-counts, kind="stable")]
    colours = dict(zip(order.tolist(), PALETTE, strict=False))
    image = np.full((*label.shape, 3), _rgb(PALE), np.uint8)
    for number, colour in colours.items():
        image[label == number] = _rgb(colour)
    image = np.kron(image, np.ones((8, 8, 1), np.uint8))
    sheet.picture(image, x, y, SIDE, SIDE)
    for line, (number, colour) in enumerate(list(colours.items())[:4]):
        down = y + SIDE + 0.1 + 0.13 * line
        sheet.box(x, down - 0.045, 0.09, 0.09, fill=colour, edge="none")
        sheet.text(x + 0.14, down, _short(classes[number]), SMALL, across="left")


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
