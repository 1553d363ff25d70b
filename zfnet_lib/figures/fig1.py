"""Fig. 1: the deconvnet attached to a convnet layer, unpooling on numbers, and one unit on its way down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb

from ..specs import Pool
from .colour import projection_image, require_picture, robust_maximum
from .sheet import Sheet
from .style import DPI, GREEN, GREY, INK, NORMAL, ORANGE, PURPLE, SKY, SMALL, VERMILION, WIDTH, Figure, FigureError, tint

ZONES = (SKY, ORANGE, GREEN, PURPLE)
"""Colours of pooling regions: neighbours, also diagonal ones, differ."""


def zone(row: int, column: int) -> str:
    """Return the colour of a pooling region."""
    return ZONES[row % 2 * 2 + column % 2]


# ------------------------------------------------------------------------------------------------ the diagram

DECONVNET_X, CONVNET_X, OPERATION = 1.95, 5.55, 2.5
"""Centres of the two columns and the width of an operation's box."""
STEP = 0.56

CONVNET = ("Pooled maps", "Max pooling", "Rectified feature maps", "Rectified linear function", "Feature maps",
           "Convolutional filtering  {F}", "Pooled maps of the layer below")  # fmt: skip
DECONVNET = ("Reconstruction of the layer above", "Max unpooling", "Unpooled maps", "Rectified linear function",
             "Rectified unpooled maps", "Convolutional filtering  {Fᵀ}", "Reconstruction")  # fmt: skip

EXAMPLE_MAP = np.array(
    [
        [0.2, 0.0, 0.4, 0.0, 0.0, 0.3],
        [0.0, 0.9, 0.1, 0.2, 0.0, 0.0],
        [0.3, 0.0, 0.0, 0.0, 0.1, 0.7],
        [0.0, 0.1, 0.0, 0.0, 0.5, 0.2],
        [0.0, 0.0, 0.3, 1.0, 0.0, 0.0],
        [0.8, 0.2, 0.0, 0.3, 0.0, 0.4],
    ]
)
EXAMPLE_ABOVE = np.array([[0.6, -0.5], [1.0, 0.8]])
REGION = 3


def diagram() -> Figure:
    """Draw Fig. 1: a deconvnet layer attached to a convnet layer, and unpooling with switches.

    The pooling regions of the lower half lie side by side, as in the paper's drawing; `unpooling` shows
    overlapping ones.
    """
    sheet = Sheet(8.3)
    sheet.text(DECONVNET_X, 0.2, "Deconvnet layer", NORMAL + 2, weight="bold")
    sheet.text(CONVNET_X, 0.2, "Convnet layer", NORMAL + 2, weight="bold")
    _column(sheet, DECONVNET_X, DECONVNET, ORANGE, down=True)
    _column(sheet, CONVNET_X, CONVNET, SKY, down=False)
    y = _row_y(1)
    sheet.arrow(CONVNET_X - OPERATION / 2, y, DECONVNET_X + OPERATION / 2, y, VERMILION, 1.8)
    sheet.text((DECONVNET_X + CONVNET_X) / 2, y - 0.13, "switches", NORMAL, VERMILION, weight="bold")
    _unpooling_idea(sheet, 4.5)
    return sheet.figure


def _row_y(row: int) -> float:
    return 0.62 + row * STEP


def _column(sheet: Sheet, x: float, steps: Sequence[str], colour: str, down: bool) -> None:
    """Draw alternating maps and operations with arrows from top to bottom, or upwards."""
    half = [0.11 if row % 2 == 0 else 0.17 for row in range(len(steps))]
    for row, words in enumerate(steps):
        y = _row_y(row)
        if row % 2:
            box = (x - OPERATION / 2, y - half[row], OPERATION, 2 * half[row])
            sheet.box(*box, tint(colour, 0.35), colour, 1.2, round_by=0.06)
        sheet.text(x, y, words, NORMAL)
        if row:
            ends = (_row_y(row - 1) + half[row - 1] + 0.01, y - half[row] - 0.01)
            sheet.arrow(x, *(ends[:1] if down else ends[1:]), x, *(ends[1:] if down else ends[:1]))


def _unpooling_idea(sheet: Sheet, top: float) -> None:
    """Draw pooling on the right, unpooling on the left and the switches between them."""
    cell, wide, low = 0.27, 0.46, top + 1.62
    pooled, switches = _pooled(EXAMPLE_MAP)
    unpooled = np.zeros_like(EXAMPLE_MAP)
    unpooled.flat[switches] = EXAMPLE_ABOVE
    side, small = cell * len(EXAMPLE_MAP), wide * len(pooled)
    for x, above, below, words, way in (
        (DECONVNET_X - 0.35, EXAMPLE_ABOVE, unpooled, ("Reconstruction of the layer above", "Unpooled maps", "Unpooling"), 1),
        (CONVNET_X + 0.35, pooled, EXAMPLE_MAP, ("Pooled maps", "Rectified feature maps", "Pooling"), -1),
    ):
        _bars(sheet, x - small / 2, top + 0.2, above, wide, 1)
        _bars(sheet, x - side / 2, low, below, cell, REGION)
        sheet.text(x, top + 0.08, words[0], NORMAL)
        sheet.text(x, low + side + 0.13, words[1], NORMAL)
        ends = (top + 0.25 + small, low - 0.05)
        sheet.arrow(x, ends[way < 0], x, ends[way > 0])
        sheet.text(x + 0.1, sum(ends) / 2, words[2], NORMAL, across="left")
    _switches(sheet, (DECONVNET_X + CONVNET_X) / 2, low, switches, cell)
    sheet.text(WIDTH / 2, low + side + 0.4, "Bars: black above the line is positive, white below it negative. "
               "Zones: pooling regions.", colour=GREY)  # fmt: skip


def _pooled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maxima of the example's regions and their flat positions."""
    count = len(values) // REGION
    places = np.arange(values.size).reshape(values.shape)
    regions = places.reshape(count, REGION, count, REGION).swapaxes(1, 2).reshape(count, count, -1)
    which = values.flat[regions].argmax(-1)[..., None]
    switches = np.take_along_axis(regions, which, -1)[..., 0]
    return values.flat[switches], switches


def _bars(sheet: Sheet, x: float, y: float, values: np.ndarray, cell: float, region: int) -> None:
    """Draw a map as cells in the colours of their regions, each value as a bar on the cell's middle line."""
    for (row, column), value in np.ndenumerate(values):
        left, top = x + column * cell, y + row * cell
        sheet.box(left, top, cell, cell, tint(zone(row // region, column // region), 0.4), "white", 0.6)
        if value:
            middle, height = top + cell / 2, abs(value) * cell * 0.44
            start = middle - height if value > 0 else middle
            sheet.box(left + cell * 0.4, start, cell * 0.2, height, INK if value > 0 else "white", INK, 0.6)
            sheet.line(left + cell * 0.2, middle, left + cell * 0.8, middle, INK, 0.6)
    sheet.box(x, y, cell * values.shape[1], cell * values.shape[0], edge=GREY)


def _switches(sheet: Sheet, x: float, y: float, switches: np.ndarray, cell: float) -> None:
    """Draw where the maxima lie, and the arrows from pooling and to unpooling."""
    count = len(EXAMPLE_MAP)
    side = cell * count
    for row, column in np.ndindex(count, count):
        fill = tint(zone(row // REGION, column // REGION), 0.15)
        sheet.box(x - side / 2 + column * cell, y + row * cell, cell, cell, fill, "white", 0.6)
    for place, switch in np.ndenumerate(switches):
        row, column = divmod(int(switch), count)
        box = (x - side / 2 + (column + 0.2) * cell, y + (row + 0.2) * cell, 0.6 * cell, 0.6 * cell)
        sheet.box(*box, zone(*place), INK, 0.8, round_by=0.08)
    sheet.box(x - side / 2, y, side, side, edge=VERMILION, line=1.5)
    sheet.text(x, y + side + 0.13, "Switches", NORMAL, VERMILION, weight="bold")
    reach = (CONVNET_X - DECONVNET_X) / 2 + 0.35 - side
    for end in (side / 2 + reach, -side / 2):
        sheet.arrow(x + end - 0.04, y + side / 2, x + end - reach + 0.04, y + side / 2, VERMILION, 1.8)


# ------------------------------------------------------------------------------------------ unpooling on numbers


def unpooling(
    maps: np.ndarray, pooled: np.ndarray, switches: np.ndarray, unpooled: np.ndarray, pool: Pool
) -> Figure:
    """Show pooling and unpooling of a small map on its numbers (section 2.1, Fig. 1 bottom).

    Regions overlap, so one position can be the maximum of several of them; there the values add up.

    Args:
        maps: [h, w], at most 8 on a side: a rectified map, or a window of one.
        pooled: [h', w']: the values that are unpooled, such as the maxima of the regions.
        switches: int [h', w']: the flat position in `maps` of each region's maximum.
        unpooled: [h, w].
        pool: Size and stride of the regions.

    Raises:
        FigureError: Shapes that do not belong together, or switches outside their regions.
    """
    maps, pooled, switches, unpooled = map(np.asarray, (maps, pooled, switches, unpooled))
    _require_pooling(maps, pooled, switches, unpooled, pool)
    cell, top = 2.6 / max(maps.shape), 0.55
    height, width = (n * cell for n in maps.shape)
    sheet = Sheet(top + height + 0.5)
    write = _number_format(max(np.abs(values).max() for values in (maps, pooled, unpooled)))
    left, right = 0.08, WIDTH - 0.08 - width
    for x, words in ((left, "Rectified map"), (right, "Unpooled map")):
        sheet.text(x + width / 2, 0.3, words, NORMAL, weight="bold")
        _zones(sheet, x, top, maps.shape, cell, pool, pooled.shape)
    users = np.bincount(switches.ravel(), minlength=maps.size).reshape(maps.shape)
    _map_numbers(sheet, left, top, cell, maps, users, write)
    _unpooled_numbers(sheet, right, top, cell, unpooled, users, write)
    _pooled_numbers(sheet, top + height / 2, pooled, switches, maps.shape, pool, write)
    for start, words in ((left + width, "pool"), (right - 0.42, "unpool")):
        sheet.arrow(start + 0.06, top + height / 2, start + 0.36, top + height / 2)
        sheet.text(start + 0.21, top + height / 2 - 0.12, words)
    _pooling_key(sheet, left, top + height + 0.28, pooled, switches, users, write)
    return sheet.figure


def _require_pooling(maps, pooled, switches, unpooled, pool: Pool) -> None:
    if maps.ndim != 2 or not 1 <= min(maps.shape) <= max(maps.shape) <= 8 or unpooled.shape != maps.shape:
        raise FigureError(
            f"maps and unpooled are arrays [h, w] of one size up to 8x8; given {list(maps.shape)} "
            f"and {list(unpooled.shape)}"
        )
    expected = tuple(pool.side(side) for side in maps.shape)
    if pooled.shape != expected or switches.shape != expected:
        raise FigureError(
            f"regions of {pool.size}x{pool.size} at stride {pool.stride} on {list(maps.shape)} give {list(expected)} "
            f"pooled values and switches; given {list(pooled.shape)} and {list(switches.shape)}"
        )
    for (row, column), switch in np.ndenumerate(switches):
        inside = [n - pool.stride * k for n, k in zip(divmod(switch, maps.shape[1]), (row, column), strict=True)]
        if not (0 <= switch < maps.size and all(0 <= n < pool.size for n in inside)):
            raise FigureError(f"switch {switch} lies outside its region ({row}, {column}); pool the window again")


def _number_format(largest: float):
    """Return how to write numbers up to `largest`: three digits, zeros short."""
    decimals = int(np.clip(2 - np.floor(np.log10(largest or 1)), 0, 2))
    return lambda value: f"{value:.{decimals}f}" if value else "0"


def _zones(sheet: Sheet, x, y, shape, cell, pool: Pool, regions) -> None:
    """Draw a grid with its overlapping regions as outlined zones, the last ones cut off at the border."""
    for row, column in np.ndindex(*shape):
        sheet.box(x + column * cell, y + row * cell, cell, cell, tint(GREY, 0.06), "white", 0.8)
    for row, column in np.ndindex(*regions):
        top, left = row * pool.stride, column * pool.stride
        bottom, right = min(top + pool.size, shape[0]), min(left + pool.size, shape[1])
        inset = (0.03 + 0.03 * (row % 2 * 2 + column % 2)) * cell
        box = (x + left * cell + inset, y + top * cell + inset)
        size = ((right - left) * cell - 2 * inset, (bottom - top) * cell - 2 * inset)
        colour = zone(row, column)
        sheet.box(*box, *size, fill=(*to_rgb(colour), 0.22), edge=colour, line=1, round_by=0.04)


def _map_numbers(sheet: Sheet, x, y, cell, maps, users, write) -> None:
    """Write the map's values; maxima stand in frames."""
    for (row, column), value in np.ndenumerate(maps):
        left, top = x + column * cell, y + row * cell
        if users[row, column]:
            _frame(sheet, left, top, cell, added=False)
        sheet.text(left + cell / 2, top + cell / 2, write(value), SMALL, INK if value else GREY)


def _unpooled_numbers(sheet: Sheet, x, y, cell, unpooled, users, write) -> None:
    """Write the unpooled values; sums stand in coloured frames."""
    for (row, column), value in np.ndenumerate(unpooled):
        left, top, count = x + column * cell, y + row * cell, users[row, column]
        if count:
            _frame(sheet, left, top, cell, count > 1)
        weight = "bold" if count > 1 else "normal"
        sheet.text(left + cell / 2, top + cell / 2, write(value), SMALL, INK if value else GREY, weight=weight)


def _frame(sheet: Sheet, left, top, cell, added: bool) -> None:
    box = (left + 0.06 * cell, top + 0.2 * cell, 0.88 * cell, 0.6 * cell)
    sheet.box(*box, "white", VERMILION if added else INK, 2 if added else 1, round_by=0.05)


def _pooling_key(sheet: Sheet, left, y, pooled, switches, users, write) -> None:
    """Explain the frames; where values have added, name those of the fullest position."""
    _frame(sheet, left, y - 0.14, 0.28, added=False)
    sheet.text(left + 0.36, y, "switch: the maximum of a region", across="left")
    if users.max() > 1:
        parts = " + ".join(write(value) for value in pooled[switches == users.argmax()])
        _frame(sheet, 3.3, y - 0.14, 0.28, added=True)
        sheet.text(3.66, y, f"values that share a switch have added: {parts}", across="left")


def _pooled_numbers(sheet: Sheet, middle, pooled, switches, shape, pool: Pool, write) -> None:
    """Write the pooled values in the colours of their regions, and below each where in its region the maximum lies."""
    cell = 1.32 / max(pooled.shape)
    x, y = WIDTH / 2 - cell * pooled.shape[1] / 2, middle - cell * pooled.shape[0] / 2
    sheet.text(WIDTH / 2, y - 0.17, "Pooled values", NORMAL, weight="bold")
    for (row, column), value in np.ndenumerate(pooled):
        left, top = x + column * cell, y + row * cell
        sheet.box(left, top, cell, cell, tint(zone(row, column), 0.45), "white", 1)
        sheet.text(left + cell / 2, top + 0.27 * cell, write(value))
        place = np.array(divmod(switches[row, column], shape[1])) - pool.stride * np.array((row, column))
        _locator(sheet, left + cell / 2, top + 0.7 * cell, 0.4 * cell, place, pool)
    sheet.box(x, y, cell * pooled.shape[1], cell * pooled.shape[0], edge=GREY)


def _locator(sheet: Sheet, x, y, side, place, pool: Pool) -> None:
    """Draw a region as a small grid with its maximum's position filled."""
    dot = side / pool.size
    for spot in np.ndindex(pool.size, pool.size):
        fill = INK if spot == tuple(place) else "white"
        sheet.box(x - side / 2 + spot[1] * dot, y - side / 2 + spot[0] * dot, dot, dot, fill, GREY, 0.4)


# --------------------------------------------------------------------------------------------- one unit descends

SHOWN = 8
"""Maps drawn of every layer."""
SMALL_MAP, MAP_STEP, LEVEL_STEP = 0.6, 0.66, 0.94
LABELS, PICTURE = 1.35, 2.3


def descent(picture: np.ndarray, levels: Sequence[tuple[str, np.ndarray]], unit_title: str) -> Figure:
    """Show a unit on its way down to the pixels, layer by layer (section 2.1, Fig. 1 top left).

    Every layer shows the maps with the largest sums, strongest first, on one scale from 0 to the layer's largest
    value, and the sum over all its maps on a scale of its own.

    Args:
        picture: uint8 [H, W, 3], what the network saw.
        levels: (layer, rectified signal [maps, h, w]) from the unit's layer downwards; last
            ("pixels", projection [3, H, W]).
        unit_title: Which unit of which network.

    Raises:
        FigureError: Wrong shapes, or levels that do not end in pixels of the picture's size.
    """
    picture = require_picture(picture)
    *layers, (last, pixels) = [(name, np.asarray(values)) for name, values in levels]
    if last != "pixels" or np.shape(pixels) != (3, *picture.shape[:2]):
        raise FigureError(
            f"the last level is ('pixels', [3, {picture.shape[0]}, {picture.shape[1]}]), as large as the picture; "
            f"given ({last!r}, {list(np.shape(pixels))})"
        )
    top = Sheet.HEAD + 0.25
    below = top + len(layers) * LEVEL_STEP
    sheet = Sheet(below + PICTURE + 0.55, unit_title)
    sheet.text(LABELS, top - 0.13, "strongest maps", colour=GREY, across="left")
    sheet.text(LABELS + SHOWN * MAP_STEP + SMALL_MAP / 2 + 0.1, top - 0.13, "sum of all", colour=GREY)
    for row, (name, values) in enumerate(layers):
        _level(sheet, top + row * LEVEL_STEP, name, values)
    _ground(sheet, below + 0.1, picture, pixels)
    return sheet.figure


def _level(sheet: Sheet, y: float, name: str, values: np.ndarray) -> None:
    if values.ndim != 3 or not values.size:
        raise FigureError(f"{name} is an array [maps, h, w]; given {list(values.shape)}")
    active = int((values > 0).any(axis=(1, 2)).sum())
    count, height, width = values.shape
    lines = [f"{height}×{width}", f"{active} of {count} maps", f"up to {values.max():.3g}"]
    sheet.text(0.05, y + 0.08, name, NORMAL, across="left", weight="bold")
    for line, words in enumerate(lines):
        sheet.text(0.05, y + 0.25 + line * 0.15, words, across="left")
    strongest = np.argsort(-values.sum(axis=(1, 2)), kind="stable")[: min(SHOWN, active)]
    for place, map_ in enumerate(strongest):
        x = LABELS + place * MAP_STEP
        sheet.picture(_thinned(values[map_]), x, y, SMALL_MAP, SMALL_MAP, top=values.max())
        sheet.text(x + SMALL_MAP / 2, y + SMALL_MAP + 0.09, f"{map_}")
    total = values.sum(axis=0)
    sheet.picture(_thinned(total), LABELS + SHOWN * MAP_STEP + 0.1, y, SMALL_MAP, SMALL_MAP, top=total.max())


def _thinned(values: np.ndarray) -> np.ndarray:
    """Keep the largest value of every block where a map has more values than its place has pixels."""
    block = -(-max(values.shape) // int(SMALL_MAP * DPI))
    height, width = (-(-side // block) for side in values.shape)
    padded = np.zeros((height * block, width * block))
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(height, block, width, block).max(axis=(1, 3))


def _ground(sheet: Sheet, y: float, picture: np.ndarray, pixels: np.ndarray) -> None:
    """Draw the projection beside the picture; a frame holds every pixel that the signal reached."""
    scale = robust_maximum(pixels)
    pixel = PICTURE / picture.shape[0]
    width = pixel * picture.shape[1]
    sheet.text(0.05, y + 0.3, "pixels", NORMAL, across="left", weight="bold")
    sheet.text(0.05, y + 0.4, f"grey is 0, contrast\nup to ±{scale:.3g}", across="left", down="top")
    _, rows, columns = np.nonzero(pixels)
    for x, shown, words in (
        (LABELS, projection_image(pixels, scale), "projection"),
        (LABELS + width + 0.3, picture, "picture"),
    ):
        sheet.text(x + width / 2, y + 0.09, words)
        sheet.picture(shown, x, y + 0.2, width, PICTURE)
        if rows.size:
            left, top = x + columns.min() * pixel, y + 0.2 + rows.min() * pixel
            across, down = (np.ptp(columns) + 1) * pixel, (np.ptp(rows) + 1) * pixel
            sheet.box(left, top, across, down, edge=VERMILION, line=1.2)
