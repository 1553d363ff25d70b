"""A sheet to draw on: one set of axes in inches, from the top left corner."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from .style import GREY, HEAT, INK, NORMAL, SMALL, TITLE, WIDTH, Figure


class Sheet:
    """A page-wide figure whose coordinates are inches, x to the right and y downwards.

    Args:
        height: Of the figure in inches.
        title: Set at the top left; the first `HEAD` inches are its place.
    """

    HEAD = 0.36

    def __init__(self, height: float, title: str = ""):
        self.figure = Figure(height)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        if title:
            self.text(0.05, 0.16, title, TITLE, across="left", weight="bold")

    def text(self, x, y, words, size=SMALL, colour=INK, across="center", down="middle", weight="normal"):
        """Write words at a point; `middle` is that of the capitals, so that words in a line share a baseline.

        A `$` is a `$`: names of classes and pictures are no formulas.
        """
        if down == "middle":
            y, down = y + 0.36 * size / 72, "baseline"
        place = {"ha": across, "va": down, "linespacing": 1.25}
        font = {"fontsize": size, "fontweight": weight, "fontfamily": "DejaVu Sans"}
        return self.axes.text(x, y, words, color=colour, parse_math=False, **place, **font)

    def box(self, x, y, width, height, fill="none", edge=INK, line=0.8, round_by=0.0, level=1):
        """Draw a rectangle from its top left corner."""
        if round_by:
            style = f"round,pad=0,rounding_size={round_by}"
            patch = FancyBboxPatch((x, y), width, height, boxstyle=style)
        else:
            patch = Rectangle((x, y), width, height)
        patch.set(facecolor=fill, edgecolor=edge, linewidth=line, zorder=level)
        return self.axes.add_patch(patch)

    def line(self, x0, y0, x1, y1, colour=INK, width=0.8, level=1):
        """Draw a straight line."""
        self.axes.plot([x0, x1], [y0, y1], color=colour, linewidth=width, zorder=level, solid_capstyle="butt")

    def arrow(self, x0, y0, x1, y1, colour=INK, width=1.2):
        """Draw an arrow from the first point to the second."""
        style = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)

    def picture(self, array: np.ndarray, x, y, width, height, top: float | None = None):
        """Show uint8 [h, w, 3], or values [h, w] from 0 to `top` in the colour map, each value a crisp square."""
        return self.axes.imshow(
            array,
            extent=(x, x + width, y + height, y),
            aspect="auto",
            interpolation="nearest" if array.ndim == 2 else "antialiased",
            cmap=HEAT,
            vmin=0,
            vmax=top,
        )


def not_run(title: str) -> Figure:
    """Draw what stands in the place of a figure whose numbers nobody has computed."""
    sheet = Sheet(Sheet.HEAD + 0.4, title)
    sheet.text(0.05, Sheet.HEAD + 0.1, "not run", NORMAL, GREY, across="left")
    return sheet.figure
