"""Pooling and unpooling on the numbers of a small map, with the switches marked (Fig. 1, bottom)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.colors import to_rgb

from ..specs import Pool
from .sheet import Sheet
from .style import GREY, INK, NORMAL, SMALL, VERMILION, WIDTH, Figure, FigureError, tint, zone

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
