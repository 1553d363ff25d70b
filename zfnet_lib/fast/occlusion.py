"""The last maps of a network while squares cover its picture, computed from what the squares change.

Every layer is filtered once for the picture as it is. Under a square the filters see the *changes* beneath alone,
which are zero outside a small window, and what they give is added to the stored pre-activations.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Band, Conv, Step, Stretch, bands, share
from ..network import ConvNet, Trace, output, pooled

NEAR, FAR = 6 * 2**20, 2**28
"""Values that a layer may have for squares that are computed together, on a processor and on a GPU."""

FIXED = 60
"""What calling a filter costs, in applications of the filter."""

WORTH = 0.7
"""Share of a forward pass's products up to which the changes alone are computed."""

OUTSIDE = -(2**40)
"""A position that stays negative whatever is added."""

Windows = tuple[Stretch, Stretch]
"""Windows of rows and windows of columns, each with each."""


@dataclass(frozen=True)
class Part:
    """Squares that are computed together: each of the rows with each of the columns.

    Attributes:
        rows, columns: First row, first column of the squares.
        maps: Computes the last rectified maps [n, maps, h, w] under each square.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    maps: Callable[[], Tensor]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def covered(
    trace: Trace,
    corners: tuple[Sequence[int], Sequence[int]],
    size: int,
    fill: Tensor,
    incremental: bool | None = None,
) -> list[Part]:
    """Divide the places of a square into parts that can be computed side by side, the largest first.

    Args:
        trace: A forward pass of one picture.
        corners: First rows and first columns of the squares, ascending.
        size: Side of the squares in pixels.
        fill: [3, 1, 1], the value of the covered pixels.
        incremental: Whether to compute the changes alone; by default where that is less work.
    """
    spec, sides = trace.net.spec, trace.x.shape[-2:]
    room = NEAR if trace.x.device.type == "cpu" else FAR
    rows, columns = (
        bands(spec, side, tuple(each), size, FIXED, room) for side, each in zip(sides, corners, strict=True)
    )
    if incremental is None:
        incremental = share(spec, rows, columns) < WORTH
    net = deepcopy(trace.net.features()).to(memory_format=torch.channels_last)
    if not incremental:
        return list(_whole(net, trace, corners, size, fill, room))
    layers, pixels = _layers(net, trace), Table.of(trace.x)
    parts = [
        Part(row.squares.first, column.squares.first, partial(_changed, layers, pixels, fill, row, column))
        for row, column in product(rows, columns)
    ]
    return sorted(parts, key=len, reverse=True)


def _whole(net: ConvNet, trace: Trace, corners, size: int, fill: Tensor, room: int) -> Iterator[Part]:
    """Yield parts that are forward passes of covered pictures, as many as there is room for."""
    rows, columns = corners
    n = max(1, room // max(prod(stage.maps.shape) for stage in trace.stages.values()))
    for row, start in product(rows, range(0, len(columns), n)):
        part = tuple(columns[start : start + n])
        yield Part((row,), part, partial(_passed, net, trace.x, row, part, size, fill))


def _passed(net: ConvNet, x: Tensor, row: int, columns: Sequence[int], size: int, fill: Tensor) -> Tensor:
    """Pass covered pictures through the convolutions."""
    x = x.repeat(len(columns), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    for picture, column in zip(x, columns, strict=True):
        picture[:, row : row + size, column : column + size] = fill
    *lower, last = net.spec.convs
    x = net.features(lower[-1].name).convolved(x) if lower else x
    return F.relu_(_filtered(net, last, x))


def _filtered(net: ConvNet, conv: Conv, x: Tensor) -> Tensor:
    """Return the pre-activations of a layer."""
    overhang = (0, conv.overhang(x.shape[-1]), 0, conv.overhang(x.shape[-2]))
    return net.get_submodule(conv.name)(F.pad(x, overhang))


# ---- the changes alone --------------------------------------------------------------------------------------


class Table:
    """Windows of maps: a row for each of their positions, and a last row for whatever lies outside.

    Args:
        rows: [positions + 1, maps].
        windows: Which.
    """

    def __init__(self, rows: Tensor, windows: Windows):
        self.rows, self.windows = rows, windows

    @classmethod
    def of(cls, maps: Tensor) -> Table:
        """Write down the maps of one picture, [1, maps, h, w]; outside everything is 0."""
        rows = F.pad(maps[0].flatten(1).T, (0, 0, 0, 1))
        return cls(rows, tuple(Stretch((0,), side, side) for side in maps.shape[-2:]))

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


class Layer(NamedTuple):
    """A convolution, and what it computes on the picture as it is.

    Attributes:
        conv: The layer.
        weight: Its filters.
        before: The pre-activations.
        output: What the next layer sees.
    """

    conv: Conv
    weight: Tensor
    before: Table
    output: Table


def _layers(net: ConvNet, trace: Trace) -> list[Layer]:
    layers, below = [], trace.x
    for conv in net.spec.convs:
        before, above = _filtered(net, conv, below), trace[conv.name].output
        layers.append(Layer(conv, net.get_submodule(conv.name).weight, Table.of(before), Table.of(above)))
        below = above
    return layers


def _changed(layers: Sequence[Layer], pixels: Table, fill: Tensor, rows: Band, columns: Band) -> Tensor:
    """Return the last rectified maps: from layer to layer, follow what changes."""
    *lower, last = zip(layers, rows.steps, columns.steps, strict=True)
    at = rows.squares, columns.squares
    change = fill - pixels.taken(at).maps
    for layer, row, column in lower:
        maps = _rectified(layer, row, column, change, at)
        at = row.output, column.output
        change = output(layer.conv, pooled(layer.conv, maps)[0]) - layer.output.taken(at).maps
    return _rectified(*last, change, at)


def _rectified(layer: Layer, row: Step, column: Step, change: Tensor, at: Windows) -> Tensor:
    """Filter what changes beneath, add it to what is stored, and rectify."""
    below, padding, maps, field, *_ = zip(row, column, strict=True)
    change = _moved(change, at, below)
    change = F.conv2d(change, layer.weight, None, layer.conv.stride, padding, groups=layer.conv.groups)
    before = layer.before.taken(field)
    before.add(change, maps)
    return F.relu_(before.maps)


def _moved(change: Tensor, at: Windows, to: Windows) -> Tensor:
    """Lay changes into other windows, with zeros where they have none and beyond the map."""
    if at == to and all(stretch.inside for stretch in at):
        return change
    table = Table(change.new_zeros(prod(_shape(to)) + 1, change.shape[1]), to)
    table.add(change, at)
    return table.maps
