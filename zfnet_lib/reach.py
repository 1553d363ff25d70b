"""What squares on a picture can reach, layer by layer: arithmetic alone.

Rows and columns are independent, so everything here is about one axis. Squares that stand side by side form a
group and are computed together: each has its own windows, and in a layer all windows of a group are equally wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .specs import ArchSpec, Conv, Pool

Changed = tuple[int, int]
"""The first position that changes, and the one behind the last."""


class Stretch(NamedTuple):
    """Windows along one axis of a map, all of one width: one for each square of a band, or one for all.

    Attributes:
        first: Where they begin.
        width: Positions in each; the last of them may lie beyond the map.
        side: Positions in the map.
    """

    first: tuple[int, ...]
    width: int
    side: int

    @property
    def inside(self) -> bool:
        """Whether no window reaches beyond the map."""
        return max(self.first) + self.width <= self.side


class Step(NamedTuple):
    """What a group of squares changes in one convolutional layer.

    Attributes:
        below: The inputs that change, and with them some that do not.
        padding: Zeros to put before and behind the changes in `below`.
        maps: The pre-activations that change.
        field: The pre-activations that the next layer's changed inputs depend on; in the last layer all.
        output: What changes for the next layer.
        taps: Products that one filter takes along this axis for one square, those with padding left out.
    """

    below: Stretch
    padding: int
    maps: Stretch
    field: Stretch
    output: Stretch
    taps: int


@dataclass(frozen=True)
class Band:
    """Squares side by side: the pixels they cover, and a step for each convolutional layer."""

    squares: Stretch
    steps: tuple[Step, ...]


class _Layer(NamedTuple):
    """A layer, and what each square changes beneath it, in its maps and in its output, in maps of these sides."""

    conv: Conv
    pool: Pool | None
    sides: tuple[int, int, int]
    below: list[Changed]
    maps: list[Changed]
    output: list[Changed]


@lru_cache(maxsize=32)
def bands(spec: ArchSpec, side: int, corners: Sequence[int], size: int, fixed: int, room: int) -> tuple[Band, ...]:
    """Divide squares along one axis into the groups that cost least, and follow what each group changes.

    Many squares in a group share windows that must be wide enough for all; few call every filter more often.

    Args:
        spec: The architecture.
        side: Rows (or columns) of the picture.
        corners: First row (or column) of every square, ascending.
        size: Side of the squares in pixels.
        fixed: What a call of a filter costs, in applications of the filter.
        room: Values that a layer may have for all squares of a group of rows and a like group of columns.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> (band,) = bands(ZFNET, 224, (96,), 50, fixed=20, room=2**22)
        >>> [step.output.width for step in band.steps]
        [15, 6, 8, 10, 13]
    """
    layers = _layers(spec, side, corners, size)
    best: list[tuple[int, tuple[Band, ...]]] = [(0, ())]
    for end in range(1, len(corners) + 1):
        options = []
        for start in reversed(range(end)):
            steps = tuple(_step(layer, start, end) for layer in layers)
            if options and _values(spec, steps) > room:
                break
            cost, before = best[start]
            band = Band(Stretch(corners[start:end], size, side), steps)
            options.append((cost + _cost(spec, steps, fixed), (*before, band)))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def share(spec: ArchSpec, rows: Sequence[Band], columns: Sequence[Band]) -> float:
    """Return how many multiply-accumulates the changes take in all convolutions, as a share of whole passes."""
    part, whole, fan_in = 0.0, 0, spec.fan_in()
    for i, conv in enumerate(spec.convs):
        weights, taps, positions = conv.maps * fan_in[conv.name], 1, 1
        for axis in (rows, columns):
            taps *= sum(len(band.squares.first) * band.steps[i].taps for band in axis)
            positions *= sum(len(band.squares.first) * band.steps[i].maps.side for band in axis)
        part += weights * taps / conv.kernel**2
        whole += weights * positions
    return part / whole


def _cost(spec: ArchSpec, steps: Sequence[Step], fixed: int) -> int:
    """Return what a group costs: multiply-accumulates, as if the other axis were like this one."""
    fan_in, n = spec.fan_in(), len(steps[0].below.first)
    return sum(
        conv.maps * fan_in[conv.name] * (n * step.taps**2 + fixed * conv.kernel**2) // conv.kernel**2
        for conv, step in zip(spec.convs, steps, strict=True)
    )


def _values(spec: ArchSpec, steps: Sequence[Step]) -> int:
    """Return the most values that a layer has for a group of rows and a like group of columns."""
    n = len(steps[0].below.first)
    return max(conv.maps * (n * step.field.width) ** 2 for conv, step in zip(spec.convs, steps, strict=True))


def _layers(spec: ArchSpec, side: int, corners: Sequence[int], size: int) -> list[_Layer]:
    """Follow every square upwards; the maps of the last convolution are wanted whole."""
    layers, below = [], [(corner, corner + size) for corner in corners]
    for conv in spec.convs:
        pool = conv.pool if conv is not spec.convs[-1] else None
        across = conv.side(side)
        top = pool.side(across) if pool else across
        maps = output = [_touched(span, conv.kernel, conv.stride, conv.padding, across) for span in below]
        if pool:
            output = [_touched(span, pool.size, pool.stride, 0, top) for span in maps]
        elif conv is spec.convs[-1]:
            output = [(0, across)] * len(maps)
        layers.append(_Layer(conv, pool, (side, across, top), below, maps, output))
        side, below = top, output
    return layers


def _touched(span: Changed, kernel: int, stride: int, padding: int, side: int) -> Changed:
    """Return which filters or regions see any position of a span; where none does, one that stays as it is."""
    first = min(max((span[0] + padding - kernel) // stride + 1, 0), side - 1)
    end = min((span[1] - 1 + padding) // stride + 1, side)
    return first, max(end, first + 1)


def _step(layer: _Layer, start: int, end: int) -> Step:
    """Give the squares from `start` to `end` windows of equal width, each where its own changes begin."""
    conv, pool = layer.conv, layer.pool
    maps = _stretch(layer.maps[start:end], layer.sides[1])
    field = output = _stretch(layer.output[start:end], layer.sides[2])
    if pool:
        first = tuple(pool.stride * n for n in output.first)
        field = Stretch(first, pool.stride * (output.width - 1) + pool.size, maps.side)
    # What the filters of `maps` see, less the positions at either end that no square changes.
    seen = [conv.stride * n - conv.padding for n in maps.first]
    length = conv.stride * (maps.width - 1) + conv.kernel
    changed = list(zip(seen, layer.below[start:end], strict=True))
    before = min(span[0] - first for first, span in changed)
    behind = min(first + length - span[1] for first, span in changed)
    padding = max(min(before, behind), 0)
    below = Stretch(tuple(first + padding for first in seen), length - 2 * padding, layer.sides[0])
    taps = maps.width * conv.kernel - 2 * sum(range(padding, 0, -conv.stride))
    return Step(below, padding, maps, field, output, taps)


def _stretch(spans: Sequence[Changed], side: int) -> Stretch:
    return Stretch(tuple(first for first, _ in spans), max(end - first for first, end in spans), side)
