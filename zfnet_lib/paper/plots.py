"""The look of every figure: page width, letter sizes, colours, and a figure that notebooks show by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import ceil
from textwrap import wrap

import matplotlib.figure
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from ..architecture import Box
from ..images import FigureError, projection_image, require_picture, robust_maximum

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
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
INK, GREY, PALE = "#222222", "#666666", "#DDDDDD"
HEAT = "viridis"
"""The colour map of everything from 0 upwards."""


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white; strength 0 is white."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


def zone(row: int, column: int) -> str:
    """Return the colour of a pooling region; neighbours, also diagonal ones, differ."""
    return (SKY, ORANGE, GREEN, PURPLE)[row % 2 * 2 + column % 2]


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


# A sheet to draw on: one set of axes in inches, from the top left corner.


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


def plain(axes, title: str) -> None:
    """Give axes the book's look: a title at the left, small numbers, faint lines across, no frame."""
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)


def not_run(title: str) -> Figure:
    """Draw what stands in the place of a figure whose numbers nobody has computed."""
    sheet = Sheet(Sheet.HEAD + 0.4, title)
    sheet.text(0.05, Sheet.HEAD + 0.1, "not run", NORMAL, GREY, across="left")
    return sheet.figure


# Nine projections beside their patches.

SIDE = 3
"""Rows and columns of a map's grid."""
GAP, DIVIDE = 2, 8
"""White pixels between small pictures, and between projections and patches."""


def tile(projections: Sequence[np.ndarray], patches: Sequence[np.ndarray] | None, size: int) -> np.ndarray:
    """Set one map's projections in a 3x3 grid on white, with its patches in a second grid to the right (Fig. 2).

    Every projection has its own contrast (`projection_image`). Pictures that become at least four times as large
    keep their pixels visible; others are resized bicubically.

    Args:
        projections: Up to nine square arrays [3, h, w]; missing ones leave white places.
        patches: As many square uint8 pictures [h, w, 3], or None for the projections alone.
        size: Side of each small picture in pixels.

    Returns:
        uint8 [3 size + 4, 6 size + 16, 3], or [3 size + 4, 3 size + 4, 3] without patches.

    Raises:
        FigureError: Wrong shapes or numbers.

    Example:
        >>> tile([np.zeros((3, 7, 7))] * 9, None, 20)[:, :, 0].shape
        (64, 64)
    """
    if not 1 <= len(projections) <= SIDE**2 or size < 1:
        raise FigureError(f"a tile takes 1 to 9 projections and a positive size; given {len(projections)}, {size}")
    shown = _grid([projection_image(pixels) for pixels in projections], size)
    if patches is None:
        return shown
    if len(patches) != len(projections):
        raise FigureError(f"every projection has one patch; given {len(projections)} and {len(patches)}")
    divide = np.full((len(shown), DIVIDE, 3), 255, np.uint8)
    return np.hstack([shown, divide, _grid([require_picture(patch) for patch in patches], size)])


def _grid(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """Set up to nine pictures in a 3x3 grid with white gaps."""
    side = SIDE * size + (SIDE - 1) * GAP
    grid = np.full((side, side, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (n * (size + GAP) for n in divmod(place, SIDE))
        grid[top : top + size, left : left + size] = resized(picture, size)
    return grid


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """Return a square uint8 picture at another size; one that becomes at least four times as large stays crisp."""
    if picture.shape[0] != picture.shape[1]:
        raise FigureError(f"a mosaic takes square pictures; given {picture.shape[0]}x{picture.shape[1]}")
    crisp = size >= 4 * len(picture)
    how = Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((size, size), how))


# Pictures in rows and columns, with a name for each row and column.

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


# First-layer filters as small pictures (section 3; Fig. 5 a-c).

GAP_OF_FILTERS = 2
"""White pixels between filters."""
MARGIN_OF_FILTERS, SPACE_OF_FILTERS, LABEL = 0.05, 0.15, 0.42
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
    width = (WIDTH - 2 * MARGIN_OF_FILTERS - (len(panels) - 1) * SPACE_OF_FILTERS) / len(panels)
    sheets = {name: grid_of_filters(weights, int(width * DPI)) for name, weights in panels.items()}
    tallest = max(array.shape[0] for array in sheets.values()) / DPI
    sheet = Sheet(Sheet.HEAD + LABEL + tallest + MARGIN_OF_FILTERS, title)
    for place, (name, array) in enumerate(sheets.items()):
        x, y = MARGIN_OF_FILTERS + place * (width + SPACE_OF_FILTERS), Sheet.HEAD
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
    size, rows = (width + GAP_OF_FILTERS) // columns - GAP_OF_FILTERS, ceil(len(pictures) / columns)
    grid = np.full(
        (rows * (size + GAP_OF_FILTERS) - GAP_OF_FILTERS, columns * (size + GAP_OF_FILTERS) - GAP_OF_FILTERS, 3),
        255,
        np.uint8,
    )
    for place, picture in enumerate(pictures):
        top, left = (n * (size + GAP_OF_FILTERS) for n in divmod(place, columns))
        grid[top : top + size, left : left + size] = resized(picture, size)
    return grid


def _rms(weights: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(weights).mean((1, 2, 3)))


# A layer's maps as small pictures: where in the picture each of them is active.


def heat(values: np.ndarray, top: float | None = None) -> np.ndarray:
    """Colour values from 0 to `top`, each a pixel.

    Args:
        values: Finite [..., h, w]; what exceeds `top` is clipped.
        top: The value with the brightest colour; the largest by default.

    Returns:
        uint8 [..., h, w, 3].

    Raises:
        FigureError: Values that are not finite.

    Example:
        >>> heat(np.array([[0.0, 2.0]])).tolist()
        [[[68, 1, 84], [253, 231, 36]]]
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise FigureError("the values hold NaN or infinite ones; compute them again")
    top = values.max(initial=0.0) if top is None else top
    return colormaps[HEAT](values / (top or 1.0), bytes=True)[..., :3]


def grid_of_maps(maps: np.ndarray, width: int) -> np.ndarray:
    """Set all maps of a layer in a grid about as high as wide, in the layer's order, at one contrast.

    Args:
        maps: [maps, h, h], rectified.
        width: Of the grid in pixels, at most.

    Returns:
        uint8 [h, w, 3]; ceil(sqrt(maps)) columns.

    Raises:
        FigureError: Another shape.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or not maps.size:
        raise FigureError(f"the maps of a layer are an array [maps, h, h]; given {list(maps.shape)}")
    return in_square(heat(maps), width)


# One unit of one picture: where it looks, what it sees, and its projection.

GAP_OF_UNIT = 0.15
SIDE_OF_UNIT = (WIDTH - 4 * GAP_OF_UNIT) / 3
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
    sheet = Sheet(Sheet.HEAD + SIDE_OF_UNIT + 0.35, title)
    shown = {
        "the picture": require_picture(picture),
        "what the unit sees": require_picture(patch),
        "its projection": projection_image(projection),
    }
    for place, (words, array) in enumerate(shown.items()):
        x = GAP_OF_UNIT + place * (SIDE_OF_UNIT + GAP_OF_UNIT)
        sheet.picture(array, x, Sheet.HEAD, SIDE_OF_UNIT, SIDE_OF_UNIT)
        sheet.text(x + SIDE_OF_UNIT / 2, Sheet.HEAD + SIDE_OF_UNIT + 0.15, words)
    top, left, bottom, right = (n * SIDE_OF_UNIT / len(picture) for n in box.clipped(*picture.shape[:2]))
    sheet.box(GAP_OF_UNIT + left, Sheet.HEAD + top, right - left, bottom - top, edge="white", line=2.4, level=3)
    sheet.box(GAP_OF_UNIT + left, Sheet.HEAD + top, right - left, bottom - top, edge=VERMILION, line=1.4, level=4)
    return sheet.figure
