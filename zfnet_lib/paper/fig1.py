"""Pooling and unpooling on the numbers of a small map, with the switches marked (Fig. 1, bottom)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.colors import to_rgb

from ..architecture import Pool
from ..images import FigureError, projection_image, require_picture, robust_maximum
from .plots import (
    DPI,
    GREEN,
    GREY,
    INK,
    NORMAL,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    TITLE,
    VERMILION,
    WIDTH,
    Figure,
    Sheet,
    tint,
)


def zone(row: int, column: int) -> str:
    """Return the colour of a pooling region; neighbours, also diagonal ones, differ."""
    return (SKY, ORANGE, GREEN, PURPLE)[row % 2 * 2 + column % 2]


REGIONS = Pool()
"""The paper's: 3x3 at stride 2."""
LARGEST = 8
"""Rows and columns up to which the numbers stay legible."""
MAP, POOLED, MARGIN = 2.6, 1.32, 0.08
"""Inches of a map's and the pooled map's longer side, and beside the drawing."""


def unpooling(
    maps: np.ndarray,
    pooled: np.ndarray,
    switches: np.ndarray,
    unpooled: np.ndarray,
    pool: Pool = REGIONS,
    title: str = "",
) -> Figure:
    """Show pooling and unpooling of a small map on its numbers (section 2.1, Fig. 1 bottom).

    Regions overlap, so one position can be the maximum of several of them; there the values add up.

    Args:
        maps: [h, w], at most 8 on a side: a rectified map, or a window of one.
        pooled: [h', w']: the values that are unpooled, such as the maxima of the regions.
        switches: int [h', w']: the flat position in `maps` of each region's maximum.
        unpooled: [h, w].
        pool: Size and stride of the regions.
        title: Which map of which layer.

    Raises:
        FigureError: Shapes that do not belong together, or switches outside their regions.
    """
    maps, pooled, switches, unpooled = map(np.asarray, (maps, pooled, switches, unpooled))
    _require(maps, pooled, switches, unpooled, pool)
    cell, top = MAP / max(maps.shape), 0.55 + (Sheet.HEAD if title else 0)
    height, width = (side * cell for side in maps.shape)
    middle, left, right = top + height / 2, MARGIN, WIDTH - MARGIN - width
    sheet = Sheet(top + height + 0.5, title)
    write = _number_format(max(np.abs(values).max() for values in (maps, pooled, unpooled)))
    marked = np.bincount(switches.flat, minlength=maps.size).reshape(maps.shape) > 0
    added = np.bincount(switches[pooled != 0], minlength=maps.size).reshape(maps.shape)
    for x, name, values, frames in (
        (left, "Rectified map", maps, marked),
        (right, "Unpooled map", unpooled, added),
    ):
        sheet.text(x + width / 2, top - 0.25, name, NORMAL, weight="bold")
        _zones(sheet, x, top, maps.shape, cell, pool, pooled.shape)
        _numbers(sheet, x, top, cell, values, frames, write)
    _pooled_map(sheet, middle, pooled, _places_in_regions(switches, maps.shape, pool), pool, write)
    for x, words in ((left + width + 0.06, "pool"), (right - 0.36, "unpool")):
        sheet.arrow(x, middle, x + 0.3, middle)
        sheet.text(x + 0.15, middle - 0.12, words)
    _key(sheet, top + height + 0.28, pooled[switches == added.argmax()] if added.max() > 1 else (), write)
    return sheet.figure


def _require(maps, pooled, switches, unpooled, pool: Pool) -> None:
    """Refuse arrays that do not belong together."""
    if maps.ndim != 2 or not 1 <= min(maps.shape) <= max(maps.shape) <= LARGEST or unpooled.shape != maps.shape:
        raise FigureError(
            f"maps and unpooled are arrays [h, w] of one size up to {LARGEST}x{LARGEST}; "
            f"given {list(maps.shape)} and {list(unpooled.shape)}"
        )
    expected = tuple(pool.side(side) for side in maps.shape)
    if pooled.shape != expected or switches.shape != expected or switches.dtype.kind not in "iu":
        raise FigureError(
            f"regions of {pool.size}x{pool.size} at stride {pool.stride} on {list(maps.shape)} give pooled values "
            f"and integer switches {list(expected)}; given {list(pooled.shape)} and "
            f"{switches.dtype} {list(switches.shape)}"
        )
    places = _places_in_regions(switches, maps.shape, pool)
    outside = ((places < 0) | (places >= pool.size)).any(-1) | (switches >= maps.size)
    if outside.any():
        region = tuple(np.argwhere(outside)[0].tolist())
        raise FigureError(f"switch {switches[region]} lies outside its region {region}; pool the window again")


def _places_in_regions(switches: np.ndarray, shape: tuple[int, int], pool: Pool) -> np.ndarray:
    """Return [h', w', 2]: row and column of each switch, counted from the first position of its region."""
    first = pool.stride * np.moveaxis(np.indices(switches.shape), 0, -1)
    return np.stack(np.divmod(switches, shape[1]), -1) - first


def _number_format(largest: float) -> Callable[[float], str]:
    """Return how to write numbers up to `largest`: with three digits, zeros with one."""
    decimals = int(np.clip(2 - np.floor(np.log10(largest or 1)), 0, 2))
    return lambda value: f"{value:.{decimals}f}" if value else "0"


def _zones(sheet: Sheet, x: float, y: float, shape, cell: float, pool: Pool, regions) -> None:
    """Draw a grid with its overlapping regions as outlined zones; the last ones end at the map's border."""
    for row, column in np.ndindex(*shape):
        sheet.box(x + column * cell, y + row * cell, cell, cell, tint(GREY, 0.06), "white", 0.8)
    for row, column in np.ndindex(*regions):
        top, left = row * pool.stride, column * pool.stride
        bottom, right = min(top + pool.size, shape[0]), min(left + pool.size, shape[1])
        # Outlines that lie on different lines can be told apart where regions overlap.
        inset = 0.03 * cell * (1 + row % 2 * 2 + column % 2)
        place = x + left * cell + inset, y + top * cell + inset
        size = (right - left) * cell - 2 * inset, (bottom - top) * cell - 2 * inset
        colour = zone(row, column)
        sheet.box(*place, *size, fill=(*to_rgb(colour), 0.22), edge=colour, line=1, round_by=0.04)


def _numbers(sheet: Sheet, x: float, y: float, cell: float, values, frames, write) -> None:
    """Write a map's values: framed where one value arrives, in a bold colour frame where several have added."""
    for (row, column), value in np.ndenumerate(values):
        left, top, count = x + column * cell, y + row * cell, frames[row, column]
        if count:
            _frame(sheet, left, top, cell, count > 1)
        weight = "bold" if count > 1 else "normal"
        sheet.text(left + cell / 2, top + cell / 2, write(value), SMALL, INK if value else GREY, weight=weight)


def _frame(sheet: Sheet, left: float, top: float, cell: float, added: bool) -> None:
    box = (left + 0.06 * cell, top + 0.2 * cell, 0.88 * cell, 0.6 * cell)
    sheet.box(*box, "white", VERMILION if added else INK, 2 if added else 1, round_by=0.05)


def _pooled_map(sheet: Sheet, middle: float, pooled, places, pool: Pool, write) -> None:
    """Write the pooled values in the colours of their regions, each over a small region with its switch."""
    cell = POOLED / max(pooled.shape)
    x, y = WIDTH / 2 - cell * pooled.shape[1] / 2, middle - cell * pooled.shape[0] / 2
    sheet.text(WIDTH / 2, y - 0.17, "Pooled values", NORMAL, weight="bold")
    for (row, column), value in np.ndenumerate(pooled):
        left, top = x + column * cell, y + row * cell
        sheet.box(left, top, cell, cell, tint(zone(row, column), 0.45), "white", 1)
        sheet.text(left + cell / 2, top + 0.27 * cell, write(value))
        dot = 0.4 * cell / pool.size
        for spot in np.ndindex(pool.size, pool.size):
            fill = INK if spot == tuple(places[row, column]) else "white"
            sheet.box(
                left + 0.3 * cell + spot[1] * dot, top + 0.5 * cell + spot[0] * dot, dot, dot, fill, GREY, 0.4
            )
    sheet.box(x, y, cell * pooled.shape[1], cell * pooled.shape[0], edge=GREY)


def _key(sheet: Sheet, y: float, parts, write) -> None:
    """Explain the frames; `parts` are the values that have added at the fullest position, if any."""
    _frame(sheet, MARGIN, y - 0.14, 0.28, added=False)
    sheet.text(MARGIN + 0.36, y, "switch: the maximum of a region", across="left")
    if len(parts):
        _frame(sheet, 3.3, y - 0.14, 0.28, added=True)
        words = f"values that share a switch have added: {' + '.join(map(write, parts))}"
        sheet.text(3.66, y, words, across="left")


# One unit on its way down to the pixels, layer by layer (section 2.1, Fig. 1).

SHOWN = 8
"""Maps drawn of every layer."""
MARGIN_OF_DESCENT, LABELS, SIDE, STEP, SUM = 0.05, 1.35, 0.6, 0.66, 6.73
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
    sheet.text(MARGIN_OF_DESCENT, y + 0.08, name, NORMAL, across="left", weight="bold")
    for line, words in enumerate((f"{height}×{width}", f"{active} of {maps} maps", f"up to {values.max():.3g}")):
        sheet.text(MARGIN_OF_DESCENT, y + 0.25 + line * 0.15, words, across="left")
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
    sheet.text(MARGIN_OF_DESCENT, y + 0.3, "pixels", NORMAL, across="left", weight="bold")
    sheet.text(MARGIN_OF_DESCENT, y + 0.4, f"grey is 0, contrast\nup to ±{scale:.3g}", across="left", down="top")
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


# Fig. 1: the deconvnet attached to a convnet layer; its parts on real numbers are `unpooling` and `descent`.

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

MAP_OF_FIG1 = np.array(
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

LEFT, RIGHT, STEP_OF_FIG1, OPERATION = 1.95, 5.55, 0.56, 2.5
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
    return 0.62 + line * STEP_OF_FIG1


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
    switches = _switches(MAP_OF_FIG1)
    unpooled = np.zeros_like(MAP_OF_FIG1)
    unpooled[switches] = ABOVE
    side, low = CELL * len(MAP_OF_FIG1), top + 1.62
    left, right = LEFT - OUTWARDS, RIGHT + OUTWARDS
    ends = top + 0.25 + WIDE_CELL * len(ABOVE), low - 0.05
    _pair(sheet, left, top, low, (DECONVNET[0], ABOVE), (DECONVNET[2], unpooled))
    _pair(sheet, right, top, low, (CONVNET[0], MAP_OF_FIG1[switches]), (CONVNET[2], MAP_OF_FIG1))
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
    sheet.text(x, low + CELL * len(MAP_OF_FIG1) + 0.13, below[0], NORMAL)


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
    side = CELL * len(MAP_OF_FIG1)
    left = x - side / 2
    for row, column in np.ndindex(*MAP_OF_FIG1.shape):
        fill = tint(zone(row // REGION, column // REGION), 0.15)
        sheet.box(left + column * CELL, y + row * CELL, CELL, CELL, fill, "white", 0.6)
    for row, column in zip(*(places.flat for places in switches), strict=True):
        dot = (left + (column + 0.2) * CELL, y + (row + 0.2) * CELL, 0.6 * CELL, 0.6 * CELL)
        sheet.box(*dot, zone(row // REGION, column // REGION), INK, 0.8, round_by=0.08)
    sheet.box(left, y, side, side, edge=VERMILION, line=1.5)
    sheet.text(x, y + side + 0.13, "Switches", NORMAL, VERMILION, weight="bold")
