"""Fig. 1: the deconvnet attached to a convnet layer, unpooling on real numbers, and one unit on its way down."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.colors import to_rgb
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Pool, Unit
from ..deconv import project, strongest_unit, unpool
from ..files import ZfnetError
from ..images import FigureError, projection_image, require_picture, robust_maximum
from ..network import Trace
from .plots import (
    DPI,
    GREEN,
    GREY,
    INK,
    MARGIN,
    NORMAL,
    ORANGE,
    PURPLE,
    SKY,
    TITLE,
    VERMILION,
    WIDTH,
    Figure,
    Sheet,
    tint,
)
from .records import Table
from .setting import Source, opened

VARIANTS = {
    "switches that are shared keep one value (`max_unpool2d`)": {"sharing": "overwrite"},
    "switches at the centre of each region": {"switches": "centre"},
    "switches at random places of each region": {"switches": "random"},
    "no rectification": {"rectify": "none"},
    "the forward pass's mask instead of rectification": {"rectify": "mask"},
    "both (guided backpropagation)": {"rectify": "both"},
}
"""What the paper argues against, as arguments of `project`."""


def measure(
    profile: str, pictures: str = "", network: str = "", picture: int = 0, layer: str = "", map: int = -1
) -> tuple[Trace, Unit, Source]:
    """Trace one picture of a data set, and find the strongest unit of a map, of the strongest one by default."""
    at = opened(profile, pictures, network)
    if not 0 <= picture < len(at.dataset):
        raise ZfnetError(f"{at.dataset.name} has no picture {picture}; it has {len(at.dataset)}")
    trace = at.net.trace(at.net.prepare([at.dataset[picture].picture]))
    return trace, unit_of(trace, layer or at.net.spec.convs[-1].name, map), at.source()


def unit_of(trace: Trace, layer: str, map_: int) -> Unit:
    """Return the strongest unit of a layer's map in the first picture of a trace; -1 is the strongest map."""
    maps = trace[trace.net.spec.conv(layer).name].maps[0]
    if not -1 <= map_ < len(maps):
        raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {len(maps) - 1}, and -1 is the strongest")
    return Unit(0, layer, *strongest_unit(maps, None if map_ == -1 else map_))


def piece(trace: Trace) -> tuple[Tensor, str]:
    """Return a piece [7, 7] of a map where regions share switches, so that adding shows; and its name.

    It is the most varied one of the strongest maps of the lowest layer that pools.
    """
    layer = next(conv.name for conv in trace.net.spec.convs if conv.pool)
    maps = trace[layer].maps[0]
    strongest = maps.amax((1, 2)).argsort(descending=True)[:8]
    pieces = maps[strongest].unfold(1, 7, 2).unfold(2, 7, 2).flatten(1, 2)
    pooled, switches = F.max_pool2d(pieces.flatten(0, 1), 3, 2, return_indices=True)

    def score(n: int) -> tuple[int, float]:
        regions = pooled[n] > 0
        places = len(switches[n][regions].unique())
        return (places, float(pieces.flatten(0, 1)[n].std())) if places < regions.sum() else (0, 0.0)

    place, at = divmod(max(range(len(pooled)), key=score), pieces.shape[1])
    return pieces[place, at], f"{layer}, map {strongest[place]}"


def variants(trace: Trace, layer: str, signal: Tensor) -> Table:
    """Compare the paper's projection of a signal with those that do one step otherwise."""
    paper_way = project(trace, layer, signal)
    moved = {name: project(trace, layer, signal, **way) - paper_way for name, way in VARIANTS.items()}
    rows = [{"way": name, "difference": float(by.norm() / paper_way.norm())} for name, by in moved.items()]
    return Table({"way": "One step done otherwise", "difference": "Difference, as a share of the norm"}, rows)


LINES = (
    ("Reconstruction of the layer above", "Pooled maps"),
    ("Max unpooling", "Max pooling"),
    ("Unpooled maps", "Rectified feature maps"),
    ("Rectified linear function", "Rectified linear function"),
    ("Rectified unpooled maps", "Feature maps"),
    ("Convolutional filtering  {Fᵀ}", "Convolutional filtering  {F}"),
    ("Reconstruction", "Pooled maps of the layer below"),
)
"""Maps and operations in turn, from top to bottom: of the deconvnet, and of the convnet."""
EXAMPLE = torch.tensor(
    [
        [0.2, 0.0, 0.4, 0.0, 0.0, 0.3],
        [0.0, 0.9, 0.1, 0.2, 0.0, 0.0],
        [0.3, 0.0, 0.0, 0.0, 0.1, 0.7],
        [0.0, 0.1, 0.0, 0.0, 0.5, 0.2],
        [0.0, 0.0, 0.3, 1.0, 0.0, 0.0],
        [0.8, 0.2, 0.0, 0.3, 0.0, 0.4],
    ],
    dtype=torch.float64,
)
ABOVE = torch.tensor([[0.6, -0.5], [1.0, 0.8]], dtype=torch.float64)
"""A rectified map, and a reconstruction of the layer above."""
POOL = Pool()
LARGEST, SHOWN = 8, 8
"""Rows and columns up to which the numbers stay legible, and maps drawn of every layer on the way down."""


def zone(row: int, column: int) -> str:
    """Return the colour of a pooling region; neighbours, also diagonal ones, differ."""
    return (SKY, ORANGE, GREEN, PURPLE)[row % 2 * 2 + column % 2]


def diagram() -> Figure:
    """Draw Fig. 1: a deconvnet layer attached to a convnet layer, and unpooling of regions side by side."""
    sheet = Sheet(8.3)
    columns, width, middle = (1.95, 5.55), 2.5, WIDTH / 2  # inches: their centres, and an operation's width
    y = [0.62 + line * 0.56 for line in range(len(LINES))]
    for side, (x, colour) in enumerate(zip(columns, (ORANGE, SKY), strict=True)):
        sheet.text(x, 0.2, ("Deconvnet layer", "Convnet layer")[side], TITLE, weight="bold")
        for line, words in enumerate(LINES):
            half = 0.17 if line % 2 else 0.11
            if line % 2:
                sheet.box(x - width / 2, y[line] - half, width, 2 * half, tint(colour, 0.35), colour, 1.2, 0.06)
            sheet.text(x, y[line], words[side], NORMAL)
            if line:
                start, end = y[line - 1] + 0.29 - half, y[line] - half - 0.01
                sheet.arrow(x, end if side else start, x, start if side else end)
    sheet.arrow(columns[1] - width / 2, y[1], columns[0] + width / 2, y[1], VERMILION, 1.8)
    sheet.text(middle, y[1] - 0.13, "switches", NORMAL, VERMILION, weight="bold")

    pooled, switches = F.max_pool2d(EXAMPLE[None, None], 3, return_indices=True)
    unpooled = unpool(ABOVE[None, None], switches, EXAMPLE.shape)[0, 0]
    cell, wide, top, low = 0.27, 0.46, 4.5, 6.12  # inches: a position's side below and above, and where these are
    left, right, side = columns[0] - 0.35, columns[1] + 0.35, cell * len(EXAMPLE)
    ends = top + 0.25 + wide * len(ABOVE), low - 0.05
    halves = (left, ABOVE, unpooled, "Unpooling", ends), (right, pooled[0, 0], EXAMPLE, "Pooling", ends[::-1])
    for n, (x, above, below, words, (start, end)) in enumerate(halves):
        sheet.text(x, top + 0.08, LINES[0][n], NORMAL)
        _bars(sheet, x, top + 0.2, above, wide, 1)
        _bars(sheet, x, low, below, cell, 3)
        sheet.text(x, low + side + 0.13, LINES[2][n], NORMAL)
        sheet.arrow(x, start, x, end)
        sheet.text(x + 0.1, sum(ends) / 2, words, NORMAL, across="left")
    for row, column in np.ndindex(*EXAMPLE.shape):
        x, y, colour = middle - side / 2 + column * cell, low + row * cell, zone(row // 3, column // 3)
        sheet.box(x, y, cell, cell, tint(colour, 0.15), "white", 0.6)
        if row * len(EXAMPLE) + column in switches:
            sheet.box(x + 0.2 * cell, y + 0.2 * cell, 0.6 * cell, 0.6 * cell, colour, INK, 0.8, round_by=0.08)
    sheet.box(middle - side / 2, low, side, side, edge=VERMILION, line=1.5)
    sheet.text(middle, low + side + 0.13, "Switches", NORMAL, VERMILION, weight="bold")
    for start, end in ((right, middle), (middle, left)):
        sheet.arrow(start - side / 2 - 0.04, low + side / 2, end + side / 2 + 0.04, low + side / 2, VERMILION, 1.8)
    words = "Bars: black above the line is positive, white below it negative. Zones: pooling regions."
    sheet.text(middle, low + side + 0.4, words, colour=GREY)
    return sheet.figure


def _bars(sheet: Sheet, x: float, y: float, values: Tensor, cell: float, region: int) -> None:
    """Draw a map as cells in the colours of their regions, each value as a bar on the cell's middle line."""
    side = cell * len(values)
    for (row, column), value in np.ndenumerate(values.numpy()):
        left, top = x - side / 2 + column * cell, y + row * cell
        sheet.box(left, top, cell, cell, tint(zone(row // region, column // region), 0.4), "white", 0.6)
        if value:
            middle, height = top + cell / 2, abs(value) * cell * 0.44
            start = middle - height if value > 0 else middle
            sheet.box(left + cell * 0.4, start, cell * 0.2, height, INK if value > 0 else "white", INK, 0.6)
            sheet.line(left + cell * 0.2, middle, left + cell * 0.8, middle, INK, 0.6)
    sheet.box(x - side / 2, y, side, side, edge=GREY)


def unpooling(maps, pooled, switches, unpooled, title: str = "") -> Figure:
    """Show pooling and unpooling on the numbers of a small map [h, w] (section 2.1, Fig. 1 bottom)."""
    # Regions overlap, so one position can be the maximum of several of them; there the values add up.
    maps, pooled, switches, unpooled = map(np.asarray, (maps, pooled, switches, unpooled))
    regions = tuple(map(POOL.side, maps.shape))
    fitting = (unpooled.shape, pooled.shape, switches.shape) == (maps.shape, regions, regions)
    if not fitting or len(regions) != 2 or max(maps.shape) > LARGEST or switches.dtype.kind not in "iu":
        given = ", ".join(f"{values.dtype} {list(values.shape)}" for values in (maps, pooled, switches, unpooled))
        raise FigureError(
            f"a map [h, w] up to {LARGEST}x{LARGEST}, the values and integer switches of its regions "
            f"{list(regions)}, and an unpooled map of its size belong together; given {given}"
        )
    # Row and column of each switch, counted from the first position of its region: [h', w', 2].
    first = POOL.stride * np.moveaxis(np.indices(regions), 0, -1)
    places = np.stack(np.divmod(switches, maps.shape[1]), -1) - first
    if ((places < 0) | (places >= POOL.size)).any() or (switches >= maps.size).any():
        raise FigureError("a switch lies outside its region; pool the window again")
    largest = max(np.abs(values).max() for values in (maps, pooled, unpooled)) or 1
    decimals = int(np.clip(2 - np.floor(np.log10(largest)), 0, 2))

    def write(value: float) -> str:
        return f"{value:.{decimals}f}" if value else "0"

    cell, top = 2.6 / max(maps.shape), 0.55 + (Sheet.HEAD if title else 0)
    height, width = (side * cell for side in maps.shape)
    middle, left, right = top + height / 2, 0.08, WIDTH - 0.08 - width
    sheet = Sheet(top + height + 0.5, title)
    arrived = np.bincount(switches.flat, minlength=maps.size).reshape(maps.shape) > 0
    added = np.bincount(switches[pooled != 0], minlength=maps.size).reshape(maps.shape)
    sides = (left, "Rectified map", maps, arrived), (right, "Unpooled map", unpooled, added)
    for x, name, values, counts in sides:
        sheet.text(x + width / 2, top - 0.25, name, NORMAL, weight="bold")
        _regions(sheet, x, top, cell, maps.shape, regions)
        for (row, column), value in np.ndenumerate(values):
            left_of, above, count = x + column * cell, top + row * cell, counts[row, column]
            if count:
                _mark(sheet, left_of, above, cell, count > 1)
            look = {"colour": INK if value else GREY, "weight": "bold" if count > 1 else "normal"}
            sheet.text(left_of + cell / 2, above + cell / 2, write(value), **look)

    small = 1.32 / max(regions)  # a pooled value's side; beneath each a small region shows its switch
    x, y = WIDTH / 2 - small * regions[1] / 2, middle - small * regions[0] / 2
    sheet.text(WIDTH / 2, y - 0.17, "Pooled values", NORMAL, weight="bold")
    for (row, column), value in np.ndenumerate(pooled):
        at, up, dot = x + column * small, y + row * small, 0.4 * small / POOL.size
        sheet.box(at, up, small, small, tint(zone(row, column), 0.45), "white", 1)
        sheet.text(at + small / 2, up + 0.27 * small, write(value))
        for down, across in np.ndindex(POOL.size, POOL.size):
            fill = INK if (down, across) == tuple(places[row, column]) else "white"
            corner = at + 0.3 * small + across * dot, up + 0.5 * small + down * dot
            sheet.box(*corner, dot, dot, fill, GREY, 0.4)
    sheet.box(x, y, small * regions[1], small * regions[0], edge=GREY)

    for x, words in ((left + width + 0.06, "pool"), (right - 0.36, "unpool")):
        sheet.arrow(x, middle, x + 0.3, middle)
        sheet.text(x + 0.15, middle - 0.12, words)
    y = top + height + 0.28
    _mark(sheet, left, y - 0.14, 0.28, added=False)
    sheet.text(left + 0.36, y, "switch: the maximum of a region", across="left")
    if added.max() > 1:
        _mark(sheet, 3.3, y - 0.14, 0.28, added=True)
        parts = " + ".join(map(write, pooled[switches == added.argmax()]))
        sheet.text(3.66, y, f"values that share a switch have added: {parts}", across="left")
    return sheet.figure


def _regions(sheet: Sheet, x: float, y: float, cell: float, shape, regions) -> None:
    """Draw a map's positions with its overlapping regions in outline; the last ones end at the map's border."""
    for row, column in np.ndindex(*shape):
        sheet.box(x + column * cell, y + row * cell, cell, cell, tint(GREY, 0.06), "white", 0.8)
    for row, column in np.ndindex(*regions):
        top, left = row * POOL.stride, column * POOL.stride
        bottom, right = min(top + POOL.size, shape[0]), min(left + POOL.size, shape[1])
        # Outlines that lie on different lines can be told apart where regions overlap.
        inset = 0.03 * cell * (1 + row % 2 * 2 + column % 2)
        place = x + left * cell + inset, y + top * cell + inset
        size = (right - left) * cell - 2 * inset, (bottom - top) * cell - 2 * inset
        colour = zone(row, column)
        sheet.box(*place, *size, fill=(*to_rgb(colour), 0.22), edge=colour, line=1, round_by=0.04)


def _mark(sheet: Sheet, left: float, top: float, cell: float, added: bool) -> None:
    """Frame a position where a value arrives, in colour where several have added."""
    box = (left + 0.06 * cell, top + 0.2 * cell, 0.88 * cell, 0.6 * cell)
    sheet.box(*box, "white", VERMILION if added else INK, 2 if added else 1, round_by=0.05)


LABELS, SIDE, TOTAL = 1.35, 0.6, 6.73
"""Inches: where the maps begin, a map's side, and where the sums over all maps stand."""


def downwards(picture: np.ndarray, levels: Mapping[str, np.ndarray], title: str) -> Figure:
    """Show a unit on its way down to the pixels beside the picture uint8 [H, W, 3] (Fig. 1).

    `levels` are the rectified signals [maps, h, w] downwards, last the `pixels` [3, H, W].
    """
    picture = require_picture(picture)
    *layers, (last, pixels) = [(name, np.asarray(values)) for name, values in levels.items()]
    if last != "pixels" or pixels.shape != (3, *picture.shape[:2]):
        raise FigureError(
            f"the last level is pixels [3, {picture.shape[0]}, {picture.shape[1]}], as large as the picture; "
            f"given {last} {list(pixels.shape)}"
        )
    y, high = Sheet.HEAD + 0.25, 2.3  # inches; high is the picture
    sheet = Sheet(y + len(layers) * 0.94 + high + 0.45, title)
    sheet.text(LABELS, y - 0.13, "strongest maps", colour=GREY, across="left")
    sheet.text(TOTAL + SIDE / 2, y - 0.13, "sum of all", colour=GREY)
    for name, values in layers:
        _level(sheet, y, name, values)
        y += 0.94
    y += 0.1
    pixel, scale = high / picture.shape[0], robust_maximum(pixels)
    sheet.text(MARGIN, y + 0.3, "pixels", NORMAL, across="left", weight="bold")
    sheet.text(MARGIN, y + 0.4, f"grey is 0, contrast\nup to ±{scale:.3g}", across="left", down="top")
    _, rows, columns = np.nonzero(pixels)
    wide = pixel * picture.shape[1]
    shown = {"projection": projection_image(pixels, scale), "picture": picture}
    for x, (words, array) in zip((LABELS, LABELS + wide + 0.3), shown.items(), strict=True):
        sheet.text(x + wide / 2, y + 0.09, words)
        sheet.picture(array, x, y + 0.2, wide, high)
        if rows.size:  # a frame around what the signal reached
            corner = x + columns.min() * pixel, y + 0.2 + rows.min() * pixel
            sheet.frame(*corner, (np.ptp(columns) + 1) * pixel, (np.ptp(rows) + 1) * pixel)
    return sheet.figure


def _level(sheet: Sheet, y: float, name: str, values: np.ndarray) -> None:
    """Draw one layer: its numbers, its strongest maps on one scale, and the sum of all on a scale of its own."""
    if values.ndim != 3 or not values.size:
        raise FigureError(f"the signal at {name} is an array [maps, h, w]; given {list(values.shape)}")
    maps, height, width = values.shape
    active = int((values > 0).any(axis=(1, 2)).sum())
    sheet.text(MARGIN, y + 0.08, name, NORMAL, across="left", weight="bold")
    for line, words in enumerate((f"{height}×{width}", f"{active} of {maps} maps", f"up to {values.max():.3g}")):
        sheet.text(MARGIN, y + 0.25 + line * 0.15, words, across="left")
    # Where a map has more values than its place has pixels, a block shows its largest: peaks stay visible.
    block = -(-max(height, width) // int(SIDE * DPI))
    blocks, total = (
        F.max_pool2d(torch.from_numpy(each), block, ceil_mode=True).numpy()
        for each in (values, values.sum(axis=0, keepdims=True))
    )
    strongest = np.argsort(-values.sum(axis=(1, 2)), kind="stable")[: min(SHOWN, active)]
    for place, map_ in enumerate(strongest):
        x = LABELS + place * 0.66
        sheet.picture(blocks[map_], x, y, SIDE, SIDE, top=values.max())
        sheet.text(x + SIDE / 2, y + SIDE + 0.09, f"{map_}")
    sheet.picture(total[0], TOTAL, y, SIDE, SIDE, top=total.max())
