"""The last maps of a network while squares cover its picture, computed from what the squares change.

Every layer is filtered once for the picture as it is. Under a square the filters see the *changes* beneath alone,
zero outside a small window, and what they give is added to the stored pre-activations. All is planned along one
axis; squares side by side are computed together, in windows that are equally wide in a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache, partial
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import ArchSpec, Conv, Pool
from ..network import ConvNet, Trace, output, pooled

NEAR, FAR = 6 * 2**20, 2**28  # values of a layer that are computed together, on a processor and on a GPU
FIXED = 60  # what calling a filter costs, in applications of the filter
WORTH = 0.7  # share of a forward pass's products up to which the changes alone are computed
OUTSIDE = -(2**40)  # a position that stays negative whatever is added


class Stretch(NamedTuple):
    """Windows of one width along an axis of a map with `side` positions or beyond: one a square, or one."""

    first: tuple[int, ...]
    width: int
    side: int


Windows = tuple[Stretch, Stretch]  # of rows and of columns, each with each


class Change(NamedTuple):
    """What squares side by side change in one convolutional layer, along one axis."""

    below: Stretch  # the inputs that change, and with them some that do not
    padding: int  # zeros to put before and behind them
    maps: Stretch  # the pre-activations that change
    field: Stretch  # the pre-activations that the next layer's changed inputs depend on; in the last layer all
    output: Stretch  # what changes for the next layer
    taps: int  # products that one filter takes for one square, those with padding left out


class Band(NamedTuple):
    """Squares side by side: the pixels they cover, and what they change in each convolutional layer."""

    squares: Stretch
    changes: tuple[Change, ...]


@lru_cache(maxsize=32)
def bands(spec: ArchSpec, side: int, corners: tuple[int, ...], size: int, room: int) -> tuple[Band, ...]:
    """Divide squares along one axis into the bands that cost least, and follow what each band changes.

    Many squares in a band share windows that must be wide enough for all; few call every filter more often.
    `corners` are the first rows (or columns) of the squares, ascending; in a band of rows and a like band of
    columns a layer may have no more values than there is `room` for.
    """
    layers, fan_in = [], spec.fan_in()
    below = side, [(corner, corner + size) for corner in corners]
    for conv in spec.convs:
        maps, pool, last = _reached(conv, *below), conv.pool, conv is spec.convs[-1]
        if last:  # its maps are wanted whole, and before its pool
            above, pool = (maps[0], [(0, maps[0])] * len(corners)), None
        else:
            above = _reached(pool, *maps) if pool else maps
        layers.append((conv, pool, below, maps, above))
        below = above
    best: list[tuple[int, tuple[Band, ...]]] = [(0, ())]
    for end in range(1, len(corners) + 1):
        options: list[tuple[int, tuple[Band, ...]]] = []
        for start in reversed(range(end)):
            n, cost, values, changes = end - start, 0, 0, []
            for conv, pool, *where in layers:
                change = _change(conv, pool, *((side, spans[start:end]) for side, spans in where))
                # As if the other axis were like this one.
                products = n * change.taps**2 + FIXED * conv.kernel**2
                cost += conv.maps * fan_in[conv.name] * products // conv.kernel**2
                values = max(values, conv.maps * (n * change.field.width) ** 2)
                changes.append(change)
            if options and values > room:
                break
            band = Band(Stretch(tuple(corners[start:end]), size, side), tuple(changes))
            options.append((best[start][0] + cost, (*best[start][1], band)))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def _reached(step: Conv | Pool, side: int, spans: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Return the side of a step's output, and what sees each span; where nothing does, a position that stays."""
    above, found = step.side(side), []
    for span in spans:
        first, end = step.reaches(*span)
        first = min(max(first, 0), above - 1)
        found.append((first, max(min(end, above), first + 1)))
    return above, found


def _change(conv: Conv, pool: Pool | None, below: tuple, maps: tuple, above: tuple) -> Change:
    """Give squares windows of equal width, each where its own changes begin; all are (side, spans)."""
    maps, field = (
        Stretch(tuple(first for first, _ in spans), max(end - first for first, end in spans), side)
        for side, spans in (maps, above)
    )
    output = field
    if pool:
        read = [pool.reads(first, first + output.width) for first in output.first]
        field = Stretch(tuple(first for first, _ in read), read[0][1] - read[0][0], maps.side)
    # What the filters of `maps` see, less the positions at either end that no square changes.
    side, spans = below
    seen = [conv.reads(first, first + maps.width) for first in maps.first]
    before = min(span[0] - first for (first, _), span in zip(seen, spans, strict=True))
    behind = min(end - span[1] for (_, end), span in zip(seen, spans, strict=True))
    padding = max(min(before, behind), 0)
    width = seen[0][1] - seen[0][0] - 2 * padding
    taps = maps.width * conv.kernel - 2 * sum(range(padding, 0, -conv.stride))
    changed = Stretch(tuple(first + padding for first, _ in seen), width, side)
    return Change(changed, padding, maps, field, output, taps)


def share(spec: ArchSpec, rows: Sequence[Band], columns: Sequence[Band]) -> float:
    """Return how many multiply-accumulates the changes take in all convolutions, as a share of whole passes."""
    part, whole, fan_in = 0.0, 0, spec.fan_in()
    for i, conv in enumerate(spec.convs):
        changes = [[(len(band.squares.first), band.changes[i]) for band in axis] for axis in (rows, columns)]
        taps = prod(sum(n * change.taps for n, change in axis) for axis in changes)
        positions = prod(sum(n * change.maps.side for n, change in axis) for axis in changes)
        part += conv.maps * fan_in[conv.name] * taps / conv.kernel**2
        whole += conv.maps * fan_in[conv.name] * positions
    return part / whole


class Part(NamedTuple):
    """Squares that are computed together: each of the rows with each of the columns, by their first ones."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    maps: Callable[[], Tensor]  # computes the last rectified maps [n, maps, h, w] under each square

    @property
    def n(self) -> int:
        """How many squares."""
        return len(self.rows) * len(self.columns)


def covered(
    trace: Trace, corners: Sequence[Sequence[int]], size: int, fill: Tensor, incremental: bool | None = None
) -> list[Part] | None:
    """Divide the places of a square into parts that can be computed side by side, the largest first.

    The trace is of one picture; `corners` are the first rows and the first columns of the squares, ascending, and
    `fill` [3, 1, 1] covers them. Returns None where whole passes are asked for or, by default, are less work.
    """
    assert isinstance(trace.net, ConvNet)
    spec, sides = trace.net.spec, trace.x.shape[-2:]
    room = NEAR if trace.x.device.type == "cpu" else FAR
    rows, columns = (bands(spec, side, tuple(each), size, room) for side, each in zip(sides, corners, strict=True))
    if incremental is None:
        incremental = share(spec, rows, columns) < WORTH
    if not incremental:
        return None
    net = deepcopy(trace.net.features()).to(memory_format=torch.channels_last)
    layers, below = [], trace.x
    for conv in net.spec.convs:
        before, above = net.filtered(conv, below), trace[conv.name].output
        layers.append((conv, net.get_parameter(f"{conv.name}.weight"), Table.of(before), Table.of(above)))
        below = above
    pixels = Table.of(trace.x)
    parts = [
        Part(row.squares.first, column.squares.first, partial(_changed, layers, pixels, fill, row, column))
        for row, column in product(rows, columns)
    ]
    return sorted(parts, key=lambda part: part.n, reverse=True)


class Table(NamedTuple):
    """Windows of maps as [positions + 1, maps]: a row for each position, and a last one for all that is outside."""

    rows: Tensor
    windows: Windows

    @classmethod
    def of(cls, maps: Tensor) -> Table:
        """Write down the maps of one picture, [1, maps, h, w]; outside everything is 0."""
        rows = F.pad(maps[0].flatten(1).T, (0, 0, 0, 1))
        height, width = maps.shape[-2:]
        return cls(rows, (Stretch((0,), height, height), Stretch((0,), width, width)))

    @property
    def maps(self) -> Tensor:
        """The windows as [n, maps, h, w], channels last."""
        return self.rows[:-1].view(*_shape(self.windows), -1).permute(0, 3, 1, 2)

    def taken(self, windows: Windows) -> Table:
        """Take windows of the same maps out of these."""
        rows = self.rows.new_empty(prod(_shape(windows)) + 1, self.rows.shape[1])
        torch.index_select(self.rows, 0, self._places(windows), out=rows[:-1])
        return Table(rows, windows)

    def add(self, maps: Tensor, windows: Windows) -> None:
        """Add what belongs to windows of the same maps, [n, maps, h, w]; what lies outside is dropped."""
        self.rows.index_add_(0, self._places(windows), maps.permute(0, 2, 3, 1).flatten(0, 2))

    def _places(self, windows: Windows) -> Tensor:
        """Return the rows that hold other windows: of each its own, or of all the only ones here."""
        rows, columns = (_inner(*pair) for pair in zip(windows, self.windows, strict=True))
        n, height, width = _shape(self.windows)
        begin = torch.arange(n).view(*(len(each.first) for each in self.windows), 1, 1) * (height * width)
        places = (begin + rows[:, None, :, None] * width) + columns[:, None, :]
        if min(rows.min(), columns.min()) < 0:
            places.masked_fill_(places < 0, len(self.rows) - 1)
        return places.flatten().to(self.rows.device)


@lru_cache(maxsize=1024)
def _inner(stretch: Stretch, within: Stretch) -> Tensor:
    """Return the positions of windows inside others, [n, width]; negative beyond them and beyond the map."""
    positions = torch.tensor(stretch.first)[:, None] + torch.arange(stretch.width)
    inner = positions - torch.tensor(within.first)[:, None]
    beyond = (positions >= stretch.side) | (inner < 0) | (inner >= within.width)
    return inner.masked_fill(beyond, OUTSIDE)


def _shape(windows: Windows) -> tuple[int, int, int]:
    """Return how many windows there are, and their rows and columns."""
    rows, columns = windows
    return len(rows.first) * len(columns.first), rows.width, columns.width


def _changed(layers: Sequence[tuple], pixels: Table, fill: Tensor, rows: Band, columns: Band) -> Tensor:
    """Return the last rectified maps: from layer to layer, follow what changes.

    Of each layer come the convolution, its filters, and its pre-activations and output on the picture as it is.
    """
    at = rows.squares, columns.squares
    change = fill - pixels.taken(at).maps
    for layer, *both in zip(layers, rows.changes, columns.changes, strict=True):
        conv, weight, stored, result = layer
        below, padding, maps, field, above, _ = zip(*both, strict=True)
        # Filter what changes beneath, add it to what is stored, and rectify.
        change = F.conv2d(_moved(change, at, below), weight, None, conv.stride, padding, groups=conv.groups)
        before = stored.taken(field)
        before.add(change, maps)
        rectified = F.relu_(before.maps)
        if layer is not layers[-1]:
            at = above
            change = output(conv, pooled(conv, rectified)[0]) - result.taken(at).maps
    return rectified


def _moved(change: Tensor, at: Windows, to: Windows) -> Tensor:
    """Lay changes into other windows, with zeros where they have none and beyond the map."""
    if at == to and all(max(stretch.first) + stretch.width <= stretch.side for stretch in at):
        return change
    table = Table(change.new_zeros(prod(_shape(to)) + 1, change.shape[1]), to)
    table.add(change, at)
    return table.maps
