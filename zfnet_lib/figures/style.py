"""The look of every figure: page width, letter sizes, colours, and a figure that notebooks show by themselves."""

from __future__ import annotations

from io import BytesIO

import matplotlib.figure
from matplotlib.colors import to_rgb

from ..files import ZfnetError

WIDTH = 7.5
"""Inches; a page of the book shows them on 750 pixels."""
PIXELS_PER_INCH = 100
DPI = 180
"""Nearly twice the page's pixels: sharp on dense screens, and the book stays under 60 MB."""

SMALL, NORMAL, TITLE = 8, 9, 11
"""Letter sizes in points; none is smaller."""

# Okabe and Ito's colours, told apart by colour-blind readers too.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, PALE = "#222222", "#666666", "#DDDDDD"
HEAT = "viridis"
"""The colour map of everything from 0 upwards."""


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white; strength 0 is white."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


def zone(row: int, column: int) -> str:
    """Return the colour of a pooling region; neighbours, also diagonal ones, differ."""
    return (SKY, ORANGE, GREEN, PURPLE)[row % 2 * 2 + column % 2]


class FigureError(ZfnetError, ValueError):
    """Arrays that a figure cannot draw."""


class Figure(matplotlib.figure.Figure):
    """A figure of the page's width that Jupyter shows without pyplot, as a PNG on white."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), dpi=DPI, facecolor="white")

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture and the size in which the page shows it."""
        png = BytesIO()
        self.savefig(png, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        width, height = (round(inches * PIXELS_PER_INCH) for inches in self.get_size_inches())
        return png.getvalue(), {"width": width, "height": height}
