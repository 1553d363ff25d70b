"""The look of every figure: page width, letter sizes, colours, a sheet to draw on, and pictures set in grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from math import ceil
from textwrap import wrap

import matplotlib.figure
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from ..architecture import Box
from ..images import FigureError, projection_image, require_picture, robust_maximum

WIDTH, MARGIN = 7.5, 0.05  # inches of a figure, and around what a sheet shows
PIXELS_PER_INCH, DPI = 100, 180  # of a page of the book, and drawn: sharp on dense screens, in a book under 60 MB
SMALL, NORMAL, TITLE = 8, 9, 11  # letter sizes in points; none is smaller
# Okabe and Ito's colours, told apart by colour-blind readers too.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
INK, GREY, PALE = "#222222", "#666666", "#DDDDDD"
HEAT = "viridis"  # the colour map of everything from 0 upwards
GAP, DIVIDE = 2, 8  # white pixels between the pictures of a grid, and between projections and patches


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white; strength 0 is white."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


class Figure(matplotlib.figure.Figure):
    """A figure of the page's width that Jupyter shows without pyplot, as a PNG on white."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), dpi=DPI, facecolor="white")

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        png = BytesIO()
        self.savefig(png, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        width, height = (round(inches * PIXELS_PER_INCH) for inches in self.get_size_inches())
        return png.getvalue(), {"width": width, "height": height}


class Sheet:
    """A page-wide figure on which places are inches from the top left; the title takes the first `HEAD` of them."""

    HEAD = 0.36

    def __init__(self, height: float, title: str = ""):
        self.figure = Figure(height)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        if title:
            self.text(MARGIN, 0.16, title, TITLE, across="left", weight="bold")

    def text(self, x, y, words, size=SMALL, colour=INK, across="center", down="middle", weight="normal"):
        """Write words at a point; `middle` is that of the capitals, so that words in a line share a baseline."""
        if down == "middle":
            y, down = y + 0.36 * size / 72, "baseline"
        look = {"ha": across, "va": down, "linespacing": 1.25, "fontsize": size, "fontweight": weight}
        return self.axes.text(x, y, words, color=colour, parse_math=False, fontfamily="DejaVu Sans", **look)

    def box(self, x, y, width, height, fill="none", edge=INK, line=0.8, round_by=0.0, level=1):
        """Draw a rectangle from its top left corner."""
        place, look = ((x, y), width, height), {"fc": fill, "ec": edge, "lw": line, "zorder": level}
        style = f"round,pad=0,rounding_size={round_by}"
        self.axes.add_patch(FancyBboxPatch(*place, style, **look) if round_by else Rectangle(*place, **look))

    def line(self, x0, y0, x1, y1, colour=INK, width=0.8, level=1):
        """Draw a straight line."""
        self.axes.plot([x0, x1], [y0, y1], color=colour, linewidth=width, zorder=level, solid_capstyle="butt")

    def frame(self, x, y, scale, part: Box):
        """Frame a part of a picture at a point, `scale` inches a pixel, so that it is seen on any picture."""
        place = x + part.left * scale, y + part.top * scale
        size = (part.right - part.left) * scale, (part.bottom - part.top) * scale
        for edge, line, level in (("white", 2.4, 3), (VERMILION, 1.2, 4)):
            self.box(*place, *size, edge=edge, line=line, level=level)

    def arrow(self, x0, y0, x1, y1, colour=INK, width=1.2):
        """Draw an arrow from the first point to the second."""
        style = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)

    def picture(self, array: np.ndarray, x, y, width, height, top: float | None = None):
        """Show uint8 [h, w, 3], or values [h, w] from 0 to `top` in the colour map, each value a crisp square."""
        crisp = "nearest" if array.ndim == 2 else "antialiased"
        extent = (x, x + width, y + height, y)
        return self.axes.imshow(array, HEAT, extent=extent, aspect="auto", interpolation=crisp, vmin=0, vmax=top)


def plain(axes, title: str, x: str = "", y: str = "") -> None:
    """Give axes the book's look: a title at the left, small numbers, faint lines across, no frame, and names."""
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL)
    axes.set_ylabel(y, fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)


def legend(figure: Figure, axes, columns: int) -> None:
    """Set the names of the lines on some axes below all of a figure."""
    names = axes.get_legend_handles_labels()
    for text in figure.legend(*names, loc="lower center", ncols=columns, fontsize=SMALL, frameon=False).get_texts():
        text.set_parse_math(False)  # names may hold dollars


def not_run(title: str) -> Figure:
    """Draw what stands in the place of a figure whose numbers nobody has computed."""
    sheet = Sheet(Sheet.HEAD + 0.4, title)
    sheet.text(MARGIN, Sheet.HEAD + 0.1, "not run", NORMAL, GREY, across="left")
    return sheet.figure


def resized(picture: np.ndarray, width: int) -> np.ndarray:
    """Return a uint8 picture at another width; one that becomes at least four times as large stays crisp."""
    height, own = require_picture(picture).shape[:2]
    how = Image.Resampling.NEAREST if width >= 4 * own else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((width, round(width * height / own)), how))


def grid(pictures: Sequence[np.ndarray], columns=0, *, size=0, width=0, rows=0, gap=GAP) -> np.ndarray:
    """Set square pictures, uint8 [s, s, 3], row by row on white: each of a size, or as large as a width allows."""
    if not (columns or len(pictures)):
        raise FigureError("a grid takes at least one picture; given none")
    columns = columns or ceil(len(pictures) ** 0.5)
    rows = max(rows, ceil(len(pictures) / columns))
    step = size + gap if size else (width + gap) // columns
    size = step - gap
    whole = np.full((rows * step - gap, columns * step - gap, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        height, own = require_picture(picture).shape[:2]
        if height != own:
            raise FigureError(f"a grid takes square pictures; given {height}x{own}")
        top, left = (n * step for n in divmod(place, columns))
        whole[top : top + size, left : left + size] = resized(picture, size)
    return whole


def tile(projections: Sequence[np.ndarray], patches: Sequence[np.ndarray] | None, size: int) -> np.ndarray:
    """Set a map's nine projections, each at its own contrast, beside their patches, if any (Fig. 2).

    Example:
        >>> import numpy as np
        >>> from zfnet_lib.paper.plots import tile
        >>> tile(np.random.default_rng(0).normal(size=(9, 3, 27, 27)), None, size=54).shape
        (166, 166, 3)
    """
    if not 1 <= len(projections) <= 9 or size < 1:
        raise FigureError(f"a tile takes 1 to 9 projections and a positive size; given {len(projections)}, {size}")
    shown = grid([projection_image(pixels) for pixels in projections], 3, size=size, rows=3)
    if patches is None:
        return shown
    divide = np.full((len(shown), DIVIDE, 3), 255, np.uint8)
    return np.hstack([shown, divide, grid(patches, 3, size=size, rows=3)])


def grid_of_filters(weights: np.ndarray, width: int) -> np.ndarray:
    """Set first-layer filters [maps, 3, k, k] in a grid, in the layer's order, all at one contrast."""
    scale = robust_maximum(np.asarray(weights, np.float64))
    return grid([projection_image(one, scale) for one in weights], width=width)


def heat(values: np.ndarray, top: float | None = None) -> np.ndarray:
    """Colour values [..., h, w] from 0 to `top`, by default the largest: uint8 [..., h, w, 3].

    Example:
        >>> from zfnet_lib.paper.plots import heat
        >>> heat([[0.0, 1.0, 2.0]]).tolist()
        [[[68, 1, 84], [32, 144, 140], [253, 231, 36]]]
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise FigureError("the values hold NaN or infinite ones; compute them again")
    top = values.max(initial=0.0) if top is None else top
    return matplotlib.colormaps[HEAT](values / (top or 1.0), bytes=True)[..., :3]


def grid_of_maps(maps: np.ndarray, width: int) -> np.ndarray:
    """Set a layer's rectified maps [maps, h, h] in a grid with ceil(sqrt(maps)) columns, at one robust contrast."""
    return grid(heat(maps, robust_maximum(maps)), width=width)


def picture_grid(rows: Sequence[Sequence], names: Sequence[str], columns: Sequence[str], title: str) -> Figure:
    """Set pictures of any shape in rows and columns with their names, each as large as its place allows."""
    given = [len(row) for row in rows]
    if not rows or not columns or given != [len(columns)] * len(names):
        raise FigureError(f"a grid takes a name for each row and column; given {names}, {columns} for {given}")
    label, space, line, letter = 0.85, 0.05, 0.15, 0.072  # inches, the last two for words above the columns
    left, side = MARGIN + label, (WIDTH - 2 * MARGIN - label + space) / len(columns) - space
    heads = [wrap(words, int(side / letter), break_long_words=False) for words in columns]
    top = Sheet.HEAD + line * max(map(len, heads)) + space
    heights = [max(side * min(1, len(one) / require_picture(one).shape[1]) for one in row) for row in rows]
    sheet = Sheet(top + sum(heights) + space * (len(rows) - 1) + MARGIN, title)
    for column, lines in enumerate(heads):
        x = left + column * (side + space) + side / 2
        for number, words in enumerate(reversed(lines)):
            sheet.text(x, top - 0.07 - number * line, words, down="baseline")
    for words, row, height in zip(names, rows, heights, strict=True):
        sheet.text(MARGIN, top + height / 2, words, across="left", down="center")
        for column, picture in enumerate(row):
            scale = min(height / picture.shape[0], side / picture.shape[1])
            tall, wide = (n * scale for n in picture.shape[:2])
            x = left + column * (side + space) + (side - wide) / 2
            sheet.picture(picture, x, top + (height - tall) / 2, wide, tall)
        top += height + space
    return sheet.figure


def panels(shown: Mapping, title: str, draw: Callable, columns: int = 2, note: Callable | None = None) -> Figure:
    """Set panels in rows; `draw` makes a picture of a width of what one shows, `note` words; None was not run."""
    space, label = (0.15, 0.42) if note else (0.25, 0.3)
    width = (WIDTH - 2 * MARGIN - (columns - 1) * space) / columns
    pictures = [None if one is None else draw(one, int(width * DPI)) for one in shown.values()]
    heights = [0.3 if picture is None else len(picture) / DPI for picture in pictures]
    steps = [label + max(heights[n : n + columns]) + 0.125 for n in range(0, len(heights), columns)]
    sheet = Sheet(Sheet.HEAD + sum(steps), title)
    for number, (name, picture) in enumerate(zip(shown, pictures, strict=True)):
        row, column = divmod(number, columns)
        x, y = MARGIN + column * (width + space), Sheet.HEAD + sum(steps[:row])
        sheet.text(x, y + 0.1, name, NORMAL, across="left")
        if picture is None:
            sheet.text(x, y + label + 0.08, "not run", NORMAL, GREY, across="left")
            continue
        if note:
            sheet.text(x, y + 0.27, note(shown[name]), SMALL, GREY, across="left")
        sheet.picture(picture, x, y + label, picture.shape[1] / DPI, heights[number])
    return sheet.figure


def side_by_side(pictures: Mapping[str, np.ndarray], title: str = "", columns: int = 4) -> Figure:
    """Draw pictures, uint8 [h, w, 3], under their names, each as wide as its column.

    Example:
        >>> import numpy as np
        >>> from zfnet_lib.images import projection_image
        >>> from zfnet_lib.paper.plots import side_by_side
        >>> noise = np.random.default_rng(0).normal(size=(3, 27, 27))
        >>> side_by_side({"map 3": projection_image(noise)}, "Projections")
        <Figure size 1350x440.3 with 1 Axes>
    """
    return panels(pictures, title, resized, columns)


def filters(layers: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the filters [maps, 3, k, k] of several first layers side by side, each layer at its own contrast."""

    def note(weights: np.ndarray) -> str:
        largest, kernel = np.sqrt(np.square(weights).mean((1, 2, 3))).max(), weights.shape[-1]
        return f"{kernel}x{kernel}, largest RMS {largest:.3f}"

    return panels(layers, title, grid_of_filters, len(layers), note)
