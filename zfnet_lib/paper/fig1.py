"""Fig. 1: the deconvnet attached to a convnet layer, unpooling on real numbers, and one unit on its way down."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Box, Pool, Unit
from ..deconv import project, strongest_unit, unpool
from ..files import ZfnetError
from ..images import FigureError, projection_image, require_picture, robust_maximum
from ..network import Trace
from . import plots
from .plots import GREY, INK, MARGIN, NORMAL, ORANGE, SKY, VERMILION, WIDTH, Figure, Sheet, tint
from .records import Table
from .setting import Source, opened

VARIANTS = {  # what the paper argues against, as arguments of `project`
    "switches that are shared keep one value (`max_unpool2d`)": {"sharing": "overwrite"},
    "switches at the centre of each region": {"switches": "centre"},
    "switches at random places of each region": {"switches": "random"},
    "no rectification": {"rectify": "none"},
    "the forward pass's mask instead of rectification": {"rectify": "mask"},
    "both (guided backpropagation)": {"rectify": "both"},
}


def measure(profile: str, pictures="", network="", picture=0, layer="", map=-1) -> tuple[Trace, Unit, Source]:
    """Trace one picture of a data set, and find the strongest unit of a map, of the strongest one by default."""
    at = opened(profile, pictures, network)
    if not 0 <= picture < len(at.dataset):
        raise ZfnetError(f"{at.dataset.name} has no picture {picture}; it has {len(at.dataset)}")
    trace = at.net.trace(at.net.prepare([at.dataset[picture].picture]))
    return trace, unit_of(trace, layer or at.net.spec.convs[-1].name, map), at.source()


def unit_of(trace: Trace, layer: str, map_: int) -> Unit:
    """Return the strongest unit of a layer's map in the first picture of a trace; -1 is the strongest map."""
    maps = trace[trace.net.require(layer)].maps[0]
    if not -1 <= map_ < len(maps):
        raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {len(maps) - 1}, and -1 is the strongest")
    return Unit(0, layer, *strongest_unit(maps, None if map_ == -1 else map_))


def piece(trace: Trace) -> tuple[Tensor, str]:
    """Return the most varied piece [7, 7] with shared switches of the lowest maps that are pooled, and its name."""
    layer = next(conv.name for conv in trace.net.spec.convs if conv.pool)
    maps = trace[layer].maps[0].cpu()
    strongest = maps.amax((1, 2)).argsort(descending=True)[:8]
    pieces = maps[strongest].unfold(1, 7, 2).unfold(2, 7, 2).flatten(0, 2)
    pooled, switches = F.max_pool2d(pieces, 3, 2, return_indices=True)

    def score(n: int) -> tuple[int, float]:
        active = switches[n][pooled[n] > 0]
        places = len(active.unique())
        return (places, float(pieces[n].std())) if places < len(active) else (0, 0.0)

    best = max(range(len(pieces)), key=score)
    return pieces[best], f"{layer}, map {strongest[best * len(strongest) // len(pieces)]}"


def variants(trace: Trace, layer: str, signal: Tensor) -> Table:
    """Compare the paper's projection of a signal with those that do one step otherwise."""
    paper_way = project(trace, layer, signal)
    moved = {name: project(trace, layer, signal, **way) - paper_way for name, way in VARIANTS.items()}
    rows = [{"way": name, "difference": float(by.norm() / paper_way.norm())} for name, by in moved.items()]
    return Table({"way": "One step done otherwise", "difference": "Difference, as a share of the norm"}, rows)


LINES = (  # maps and operations in turn, from top to bottom: of the deconvnet, and of the convnet
    ("Reconstruction of the layer above", "Pooled maps"),
    ("Max unpooling", "Max pooling"),
    ("Unpooled maps", "Rectified feature maps"),
    ("Rectified linear function", "Rectified linear function"),
    ("Rectified unpooled maps", "Feature maps"),
    ("Convolutional filtering  {Fᵀ}", "Convolutional filtering  {F}"),
    ("Reconstruction", "Pooled maps of the layer below"),
)
EXAMPLE = (  # a rectified map
    (0.2, 0.0, 0.4, 0.0, 0.0, 0.3),
    (0.0, 0.9, 0.1, 0.2, 0.0, 0.0),
    (0.3, 0.0, 0.0, 0.0, 0.1, 0.7),
    (0.0, 0.1, 0.0, 0.0, 0.5, 0.2),
    (0.0, 0.0, 0.3, 1.0, 0.0, 0.0),
    (0.8, 0.2, 0.0, 0.3, 0.0, 0.4),
)
POOL = Pool()
LARGEST, SHOWN = 8, 8  # rows and columns that stay legible, and maps drawn of every layer on the way down


def _zone(row: int, column: int, strength: float) -> tuple[float, float, float]:
    """Return the colour of a pooling region; neighbours, also diagonal ones, differ."""
    return tint((SKY, ORANGE, plots.GREEN, plots.PURPLE)[row % 2 * 2 + column % 2], strength)


def _cells(sheet: Sheet, x: float, y: float, cell: float, shape, region: int, strength: float, line: float = 0.6):
    """Draw a map's positions in the colours of their regions; yield each one's row, column, left and top."""
    for row, column in np.ndindex(*shape):
        left, top = x + column * cell, y + row * cell
        sheet.box(left, top, cell, cell, _zone(row // region, column // region, strength), "white", line)
        yield row, column, left, top


def diagram() -> Figure:
    """Draw Fig. 1: a deconvnet layer attached to a convnet layer, and unpooling of regions side by side."""
    sheet = Sheet(8.3)
    columns, width, middle = (1.95, 5.55), 2.5, WIDTH / 2  # inches: their centres, and an operation's width
    y = [0.62 + line * 0.56 for line in range(len(LINES))]
    for side, (x, colour) in enumerate(zip(columns, (ORANGE, SKY), strict=True)):
        sheet.text(x, 0.2, ("Deconvnet layer", "Convnet layer")[side], plots.TITLE, weight="bold")
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

    rectified = torch.tensor(EXAMPLE, dtype=torch.float64)[None, None]
    signal = torch.tensor([[[[0.6, -0.5], [1.0, 0.8]]]], dtype=torch.float64)  # of the layer above
    pooled, switches = F.max_pool2d(rectified, 3, return_indices=True)
    unpooled = unpool(signal, switches, rectified.shape[2:])
    cell, wide, top, low = 0.27, 0.46, 4.5, 6.12  # inches: a position's side below and above, and where these are
    left, right, side = columns[0] - 0.35, columns[1] + 0.35, cell * len(EXAMPLE)
    ends = top + 0.25 + wide * 2, low - 0.05
    halves = (left, signal, unpooled, "Unpooling", ends), (right, pooled, rectified, "Pooling", ends[::-1])
    for n, (x, above, below, words, (start, end)) in enumerate(halves):
        sheet.text(x, top + 0.08, LINES[0][n], NORMAL)
        _bars(sheet, x, top + 0.2, above[0, 0].tolist(), wide, 1)
        _bars(sheet, x, low, below[0, 0].tolist(), cell, 3)
        sheet.text(x, low + side + 0.13, LINES[2][n], NORMAL)
        sheet.arrow(x, start, x, end)
        sheet.text(x + 0.1, sum(ends) / 2, words, NORMAL, across="left")
    for row, column, x, y in _cells(sheet, middle - side / 2, low, cell, (6, 6), 3, 0.15):
        if row * len(EXAMPLE) + column in switches:
            place = x + 0.2 * cell, y + 0.2 * cell, 0.6 * cell, 0.6 * cell
            sheet.box(*place, _zone(row // 3, column // 3, 1), INK, 0.8, round_by=0.08)
    sheet.box(middle - side / 2, low, side, side, edge=VERMILION, line=1.5)
    sheet.text(middle, low + side + 0.13, "Switches", NORMAL, VERMILION, weight="bold")
    for start, end in ((right, middle), (middle, left)):
        sheet.arrow(start - side / 2 - 0.04, low + side / 2, end + side / 2 + 0.04, low + side / 2, VERMILION, 1.8)
    words = "Bars: black above the line is positive, white below it negative. Zones: pooling regions."
    sheet.text(middle, low + side + 0.4, words, colour=GREY)
    return sheet.figure


def _bars(sheet: Sheet, x: float, y: float, values: list[list[float]], cell: float, region: int) -> None:
    """Draw a square map in the colours of its regions, each value as a bar on its cell's middle line."""
    side = cell * len(values)
    for row, column, left, top in _cells(sheet, x - side / 2, y, cell, [len(values)] * 2, region, 0.4):
        value, middle = values[row][column], top + cell / 2
        if value:
            height, fill = abs(value) * cell * 0.44, INK if value > 0 else "white"
            start = middle - height if value > 0 else middle
            sheet.box(left + cell * 0.4, start, cell * 0.2, height, fill, INK, 0.6)
            sheet.line(left + cell * 0.2, middle, left + cell * 0.8, middle, INK, 0.6)
    sheet.box(x - side / 2, y, side, side, edge=GREY)


def unpooling(maps, pooled, switches, unpooled, title: str = "") -> Figure:
    """Show pooling and unpooling on the numbers of a small map [h, w] (section 2.1, Fig. 1 bottom)."""
    # Regions overlap, so one position can be the maximum of several of them; there the values add up.
    maps, pooled, switches, unpooled = arrays = [np.asarray(each) for each in (maps, pooled, switches, unpooled)]
    shape, regions = maps.shape, tuple(map(POOL.side, maps.shape))
    shapes = [each.shape for each in arrays]
    if len(shape) != 2 or max(shape) > LARGEST or shapes != [shape, regions, regions, shape]:
        what = f"a map [h, w] up to {LARGEST}x{LARGEST}, values and switches of its regions, and an unpooled map"
        raise FigureError(f"{what} belong together; given {', '.join(str(list(each)) for each in shapes)}")
    # Row and column of each switch, counted from the first position of its region: [h', w', 2].
    places = np.stack(np.divmod(switches, shape[1]), -1) - POOL.stride * np.stack(np.indices(regions), -1)
    if ((places < 0) | (places >= POOL.size)).any() or (switches >= maps.size).any():
        raise FigureError("a switch lies outside its region; pool the window again")
    largest = max(np.abs(values).max() for values in (maps, pooled, unpooled)) or 1
    decimals = int(np.clip(2 - np.floor(np.log10(largest)), 0, 2))

    def write(value: float) -> str:
        return f"{value:.{decimals}f}" if value else "0"

    def mark(left: float, top: float, cell: float, added: bool) -> None:
        box = (left + 0.06 * cell, top + 0.2 * cell, 0.88 * cell, 0.6 * cell)
        sheet.box(*box, "white", VERMILION if added else INK, 2 if added else 1, round_by=0.05)

    cell, top = 2.6 / max(shape), 0.55 + (Sheet.HEAD if title else 0)
    height, width = (side * cell for side in shape)
    middle, left, right = top + height / 2, 0.08, WIDTH - 0.08 - width
    sheet = Sheet(top + height + 0.5, title)
    arrived = np.bincount(switches.flat, minlength=maps.size).reshape(shape) > 0
    added = np.bincount(switches[pooled != 0], minlength=maps.size).reshape(shape)
    sides = (left, "Rectified map", maps, arrived), (right, "Unpooled map", unpooled, added)
    for x, name, values, counts in sides:
        sheet.text(x + width / 2, top - 0.25, name, NORMAL, weight="bold")
        for row, column in np.ndindex(*shape):
            sheet.box(x + column * cell, top + row * cell, cell, cell, tint(GREY, 0.06), "white")
        for row, column in np.ndindex(*regions):  # the last ones end at the map's border
            down, across = row * POOL.stride, column * POOL.stride
            high, wide = min(POOL.size, shape[0] - down) * cell, min(POOL.size, shape[1] - across) * cell
            # Outlines that lie on different lines can be told apart where regions overlap.
            inset, colour = 0.03 * cell * (1 + row % 2 * 2 + column % 2), _zone(row, column, 1)
            place = x + across * cell + inset, top + down * cell + inset, wide - 2 * inset, high - 2 * inset
            sheet.box(*place, (*colour, 0.22), colour, 1, 0.04)
        for (row, column), value in np.ndenumerate(values):
            across, down, count = x + column * cell, top + row * cell, counts[row, column]
            if count:
                mark(across, down, cell, count > 1)
            look = {"colour": INK if value else GREY, "weight": "bold" if count > 1 else "normal"}
            sheet.text(across + cell / 2, down + cell / 2, write(value), **look)

    small = 1.32 / max(regions)  # a pooled value's side; beneath each a small region shows its switch
    x, y, dot = WIDTH / 2 - small * regions[1] / 2, middle - small * regions[0] / 2, 0.4 * small / POOL.size
    sheet.text(WIDTH / 2, y - 0.17, "Pooled values", NORMAL, weight="bold")
    for row, column, across, down in _cells(sheet, x, y, small, regions, 1, 0.45, 1):
        sheet.text(across + small / 2, down + 0.27 * small, write(pooled[row, column]))
        for place in np.ndindex(POOL.size, POOL.size):
            corner = across + 0.3 * small + place[1] * dot, down + 0.5 * small + place[0] * dot
            sheet.box(*corner, dot, dot, INK if place == tuple(places[row, column]) else "white", GREY, 0.4)
    sheet.box(x, y, small * regions[1], small * regions[0], edge=GREY)
    for x, words in ((left + width + 0.06, "pool"), (right - 0.36, "unpool")):
        sheet.arrow(x, middle, x + 0.3, middle)
        sheet.text(x + 0.15, middle - 0.12, words)
    y = top + height + 0.28
    mark(left, y - 0.14, 0.28, added=False)
    sheet.text(left + 0.36, y, "switch: the maximum of a region", across="left")
    if added.max() > 1:
        mark(3.3, y - 0.14, 0.28, added=True)
        parts = " + ".join(map(write, pooled[switches == added.argmax()]))
        sheet.text(3.66, y, f"values that share a switch have added: {parts}", across="left")
    return sheet.figure


def downwards(picture: np.ndarray, levels: Mapping[str, np.ndarray], title: str) -> Figure:
    """Show rectified signals [maps, h, w] downwards to the `pixels` [3, H, W], and the picture uint8 [H, W, 3]."""
    picture = require_picture(picture)
    levels = {name: torch.as_tensor(values).cpu().numpy() for name, values in levels.items()}
    size, shapes = picture.shape[:2], {name: values.shape for name, values in levels.items()}
    if [*shapes.items()][-1] != ("pixels", (3, *size)) or any(len(shape) != 3 for shape in shapes.values()):
        given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise FigureError(f"signals [maps, h, w] end at pixels [3, {size[0]}, {size[1]}]; given {given}")
    labels, total, side, high, step = 1.35, 6.73, 0.6, 2.3, 0.94  # inches: where columns begin; maps, picture, rows
    pixels, y = levels.pop("pixels"), Sheet.HEAD + 0.25
    sheet = Sheet(y + len(levels) * step + high + 0.45, title)
    sheet.text(labels, y - 0.13, "strongest maps", colour=GREY, across="left")
    sheet.text(total + side / 2, y - 0.13, "sum of all", colour=GREY)
    for name, values in levels.items():
        (maps, *shape), active = values.shape, int((values > 0).any(axis=(1, 2)).sum())
        sheet.text(MARGIN, y + 0.08, name, NORMAL, across="left", weight="bold")
        numbers = f"{shape[0]}×{shape[1]}", f"{active} of {maps} maps", f"up to {values.max():.3g}"
        for line, words in enumerate(numbers):
            sheet.text(MARGIN, y + 0.25 + line * 0.15, words, across="left")
        # Where a map has more values than its place has pixels, a block shows its largest: peaks stay visible.
        block = -(-max(shape) // int(side * plots.DPI))
        own, whole = (
            F.max_pool2d(torch.from_numpy(each), block, ceil_mode=True).numpy()
            for each in (values, values.sum(axis=0, keepdims=True))
        )
        strongest = np.argsort(-values.sum(axis=(1, 2)), kind="stable")[: min(SHOWN, active)]
        for place, map_ in enumerate(strongest):  # each, and their sum, on a scale of its own
            x = labels + place * 0.66
            sheet.picture(own[map_], x, y, side, side, top=own[map_].max())
            sheet.text(x + side / 2, y + side + 0.09, f"{map_}")
        sheet.picture(whole[0], total, y, side, side, top=whole.max())
        y += step
    y += 0.1
    pixel, scale = high / size[0], robust_maximum(pixels)
    sheet.text(MARGIN, y + 0.3, "pixels", NORMAL, across="left", weight="bold")
    sheet.text(MARGIN, y + 0.4, f"grey is 0, contrast\nup to ±{scale:.3g}", across="left", down="top")
    _, rows, columns = np.nonzero(pixels)
    wide = pixel * size[1]
    shown = (labels, "projection", projection_image(pixels, scale)), (labels + wide + 0.3, "picture", picture)
    for x, words, array in shown:
        sheet.text(x + wide / 2, y + 0.09, words)
        sheet.picture(array, x, y + 0.2, wide, high)
        if rows.size:  # a frame around what the signal reached
            reached = Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            sheet.frame(x, y + 0.2, pixel, reached)
    return sheet.figure
