"""The deconvnet confined to windows: what each unit can see, and nothing else, on the way up and down.

A window is cut out of every map just as the map's borders cut it. Windows of one form, that is of the same sizes
and with the same zeros left of the padding, run through filters and pools together, like small pictures of their
own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .filters import Filters
from .machine import threads
from .network import ConvNet, Trace, output, pooled, require_finite
from .receptive import receptive_field, steps_below
from .specs import ArchSpec, Conv

NEAR, FAR = 2**22, 2**27
"""Bytes of one layer's maps that are computed at a time: few stay near a processor, many occupy a GPU."""

TOGETHER = 4
"""Times as many units that share the products of the upper layers, whose filters are read once for all of them."""

FEW = 36
"""Positions in the windows of a layer that counts as an upper one."""

TRACED = 4
"""Pictures that are passed through the network at a time where many units share each of them."""


class Unit(NamedTuple):
    """One unit: which picture of a batch, which layer, which map, and where in the map."""

    image: int
    layer: str
    map: int
    row: int
    column: int


class Span(NamedTuple):
    """The positions of a map, along one axis, that a filter or pool above it reads for one unit.

    Attributes:
        start, size: The positions that exist; at least one.
        before, after: Zeros read in front of and behind them; negative where not even the last position is read.
    """

    start: int
    size: int
    before: int
    after: int


def spans(spec: ArchSpec, layer: str, sides: dict[str, int], position: int) -> dict[str, Span]:
    """Return what every filter and pool beneath a unit reads for it, along one axis.

    Args:
        spec: The architecture.
        layer: `conv1` ….
        sides: Of `input` and of every layer and pool beneath.
        position: The unit's row or column.

    Returns:
        By the name of the filter or pool that reads, from the layer down to `conv1`.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> spans(ZFNET, "conv3", {"input": 224, "conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13}, 0)["conv3"]
        Span(start=0, size=2, before=1, after=0)
    """
    steps = list(steps_below(spec, layer))
    sources = ["input", *(name for name, *_ in steps[:-1])]
    first, end, found = position, position + 1, {}
    for source, (name, kernel, stride, padding) in zip(reversed(sources), reversed(steps), strict=True):
        low, high = first * stride - padding, (end - 1) * stride - padding + kernel
        first = min(max(low, 0), sides[source] - 1)
        end = max(min(high, sides[source]), first + 1)
        found[name] = Span(first, end - first, first - low, high - end)
    return found


@dataclass(frozen=True)
class Window:
    """What one unit reads beneath it, by the name of the filter or pool that reads."""

    rows: dict[str, Span]
    columns: dict[str, Span]

    @property
    def form(self) -> tuple[tuple[int, ...], ...]:
        """Everything but the place."""
        return tuple(span[1:] for axis in (self.rows, self.columns) for span in axis.values())

    def margins(self, reader: str) -> tuple[int, int, int, int]:
        """Return the zeros that are read on the left, on the right, above and below."""
        row, column = self.rows[reader], self.columns[reader]
        return column.before, column.after, row.before, row.after

    def positions(self, reader: str) -> int:
        """Return how many positions are read."""
        return self.rows[reader].size * self.columns[reader].size

    def cut(self, maps: Tensor, reader: str) -> Tensor:
        """Cut what is read out of whole maps [..., h, w]."""
        row, column = self.rows[reader], self.columns[reader]
        return maps[..., row.start : row.start + row.size, column.start : column.start + column.size]


class Windows:
    """The windows of all units of one layer in pictures of one size.

    Args:
        spec: The architecture.
        layer: `conv1` ….
        height, width: Of the pictures.
    """

    def __init__(self, spec: ArchSpec, layer: str, height: int, width: int):
        shapes, fan_in = spec.shapes(height, width), spec.fan_in()
        self.field = receptive_field(spec, layer)
        self.convs = spec.convs[: spec.convs.index(spec.conv(layer)) + 1]
        self.rows, self.columns = (
            [spans(spec, layer, {name: shape[axis] for name, shape in shapes.items()}, i) for i in range(side)]
            for axis, side in enumerate(shapes[layer][1:], start=1)
        )
        readers = list(reversed(self.rows[0]))
        self.readers = dict(zip(["input", *readers], readers, strict=False))
        self.maps = {source: shapes[source][0] for source in self.readers}
        self.macs = {conv.name: conv.maps * fan_in[conv.name] for conv in self.convs}
        small = [
            conv.name == layer or self.largest.positions(self.readers[conv.name]) <= FEW for conv in self.convs
        ]
        upper = small[::-1].index(False) if False in small else len(small)
        self.lower, self.upper = self.convs[: len(small) - upper], self.convs[len(small) - upper :]
        self.whole = sum(macs * prod(shapes[name][1:]) for name, macs in self.macs.items())

    def of(self, unit: Unit) -> Window:
        """Return a unit's window."""
        return Window(self.rows[unit.row], self.columns[unit.column])

    def cost(self, unit: Unit) -> int:
        """Return the multiply-accumulates of the way up to a unit through its window; `whole` is a picture's."""
        window, (*below, top) = self.of(unit), self.macs.items()
        return top[1] + sum(macs * window.positions(self.readers[name]) for name, macs in below)

    @property
    def largest(self) -> Window:
        """The window that reads most pixels."""
        pixels = self.readers["input"]
        return Window(*(max(axis, key=lambda spans: spans[pixels].size) for axis in (self.rows, self.columns)))

    def values(self) -> int:
        """Return how many values the largest maps in any window have."""
        window = self.largest
        return max(self.maps[source] * window.positions(reader) for source, reader in self.readers.items())

    def framed(self, pixels: Tensor, unit: Unit) -> Tensor:
        """Lay what reached the pixels of a unit's window [..., h, w] into its whole receptive field."""
        box, window, reader = self.field.box(unit.row, unit.column), self.of(unit), self.readers["input"]
        top, left = window.rows[reader].start - box.top, window.columns[reader].start - box.left
        bottom, right = (self.field.size - n for n in (top + pixels.shape[-2], left + pixels.shape[-1]))
        return F.pad(pixels, (left, right, top, bottom)).contiguous()


@dataclass
class Group:
    """Units of one layer whose windows have one form, on their way up and down.

    Attributes:
        units, windows: One a unit.
        now: [units, maps, h, w]: what the way has reached, maps upwards and signals downwards.
        switches: By layer, its switches and the size of its maps.
    """

    units: list[Unit]
    windows: list[Window]
    now: Tensor | None = None
    switches: dict[str, tuple[Tensor, torch.Size]] = field(default_factory=dict)

    def cut(self, maps: Tensor, reader: str) -> Tensor:
        """Cut what a filter or pool reads for each unit out of whole maps [n, maps, h, w]."""
        pairs = zip(self.units, self.windows, strict=True)
        parts = torch.stack([window.cut(maps[unit.image], reader) for unit, window in pairs])
        return parts.contiguous(memory_format=torch.channels_last)

    def pad(self, conv: Conv, sign: int = 1) -> Tensor:
        """Add the zeros that a layer's filters read, or take them away again."""
        margins = [sign * n for n in self.windows[0].margins(conv.name)]
        return F.pad(self.now, margins) if any(margins) else self.now

    def pool(self, conv: Conv, maps: Tensor) -> Tensor:
        """Pool a layer's maps, if it does, and keep the switches."""
        values, switches = pooled(conv, maps)
        if conv.pool:
            self.switches[conv.name] = switches, maps.shape[2:]
        return values

    def unpool(self, conv: Conv) -> None:
        """Put a signal back where the maxima were; signals that share a switch add up (section 2.1)."""
        if conv.name in self.switches:
            switches, size = self.switches.pop(conv.name)
            flat = self.now.new_zeros(len(self.now), size.numel(), conv.maps)
            places, values = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (switches, self.now))
            self.now = flat.scatter_add_(1, places, values).unflatten(1, size).permute(0, 3, 1, 2)

    def single_out(self) -> None:
        """Set all activations but the units' own to 0 (section 2.1)."""
        own = range(len(self.units)), [unit.map for unit in self.units]
        alone = torch.zeros_like(self.now)
        alone[own] = self.now[own]
        self.now = alone


def project_units(net: ConvNet, x: Tensor, units: Sequence[Unit], batch: int | None = None) -> list[Tensor]:
    """Project many units, each through its window, in batches that run side by side.

    Pictures that many units share are passed through the network once, whole; of the others only windows are.

    Args:
        net: The network.
        x: Pictures [n, 3, H, W] that it takes, on its device.
        units: Units that exist.
        batch: Units projected together; by default as many as stay near the processor.

    Returns:
        For each unit [3, size, size], `size` being its layer's receptive field; 0 beyond the picture.
    """
    filters = {conv.name: Filters(conv, net.get_submodule(conv.name)) for conv in net.spec.convs}
    layers = [conv.name for conv in reversed(net.spec.convs) if any(unit.layer == conv.name for unit in units)]
    windows = {layer: Windows(net.spec, layer, *x.shape[-2:]) for layer in layers}
    workers = torch.get_num_threads() if x.device.type == "cpu" else 1
    shown: dict[int, Tensor] = {}
    for source, chosen in _sources(net, x, units, windows):
        jobs = []
        for kind in windows.values():
            room = max(1, (NEAR if x.device.type == "cpu" else FAR) // (kind.values() * x.element_size()))
            for parts in _batches(kind, chosen, batch or room, workers):
                jobs.append(partial(_project, filters, kind, source, chosen, parts))
        with threads(max(1, min(workers, len(jobs)))) as pool:
            for found in pool.map(lambda job: job(), jobs):
                shown |= found
    return [shown[i] for i in range(len(units))]


Sources = Iterator[tuple[Tensor | Trace, dict[int, Unit]]]


def _sources(net: ConvNet, x: Tensor, units: Sequence[Unit], windows: dict[str, Windows]) -> Sources:
    """Yield pictures, or traces of pictures that many units share, with their units by place in `units`."""
    costs, whole = Counter(), Counter()
    for unit in units:
        costs[unit.image] += windows[unit.layer].cost(unit)
        whole[unit.image] = max(whole[unit.image], windows[unit.layer].whole)
    shared = [image for image in whole if costs[image] > whole[image]]
    yield x, {i: unit for i, unit in enumerate(units) if unit.image not in shared}
    for start in range(0, len(shared), TRACED):
        place = {image: n for n, image in enumerate(shared[start : start + TRACED])}
        chosen = {i: unit._replace(image=place[unit.image]) for i, unit in enumerate(units) if unit.image in place}
        upto = next(layer for layer in windows if any(unit.layer == layer for unit in chosen.values()))
        with torch.no_grad():
            yield net.trace(x[list(place)].contiguous(memory_format=torch.channels_last), upto), chosen


def _batches(kind: Windows, chosen: dict[int, Unit], size: int, workers: int) -> Iterator[list[list[int]]]:
    """Divide a layer's units evenly into batches, neighbours in form, and each batch into units of one form."""
    layer = kind.convs[-1].name
    form = {i: kind.of(unit).form for i, unit in chosen.items() if unit.layer == layer}
    ordered = sorted(form, key=form.get)
    count = min(len(ordered), workers * -(-len(ordered) // (size * TOGETHER * workers)))
    for n in range(count):
        part = ordered[n * len(ordered) // count : (n + 1) * len(ordered) // count]
        alike = [list(same) for _, same in groupby(part, key=form.get)]
        yield [same[start : start + size] for same in alike for start in range(0, len(same), size)]


@torch.no_grad()
def _project(
    filters: dict[str, Filters], kind: Windows, source: Tensor | Trace, chosen, parts
) -> dict[int, Tensor]:
    """Project units of one layer, which `parts` groups by form."""
    groups = []
    for part in parts:
        units = [chosen[i] for i in part]
        groups.append(Group(units, [kind.of(unit) for unit in units]))
    way_up = _recall if isinstance(source, Trace) else _climb
    way_up(filters, kind, source, groups)
    for group in groups:
        group.single_out()
    _descend(filters, kind, groups)
    pixels = (kind.framed(group.now, group.units[0]) for group in groups)
    return {i: each for part, shown in zip(parts, pixels, strict=True) for i, each in zip(part, shown, strict=True)}


def _climb(filters: dict[str, Filters], kind: Windows, x: Tensor, groups: list[Group]) -> None:
    """Run the network on the windows up to their units."""
    for group in groups:
        group.now = group.cut(x, kind.convs[0].name)
        require_finite(group.now)
        for conv in kind.lower:
            maps = filters[conv.name].forwards(group.pad(conv)).relu_()
            group.now = output(conv, group.pool(conv, maps))
    for conv in kind.upper:
        filtered = filters[conv.name].forwards_together([group.pad(conv) for group in groups])
        for group, maps in zip(groups, filtered, strict=True):
            maps.relu_()
            group.now = maps if conv is kind.convs[-1] else output(conv, group.pool(conv, maps))


def _recall(filters: dict[str, Filters], kind: Windows, trace: Trace, groups: list[Group]) -> None:
    """Cut out of a trace what `_climb` would compute."""
    *below, top = kind.convs
    maps = trace[top.name].maps
    for group in groups:
        for conv in below:
            if conv.pool:
                group.pool(conv, group.cut(trace[conv.name].maps, conv.pool_name))
        group.now = torch.stack([maps[unit.image, :, unit.row, unit.column, None, None] for unit in group.units])


def _descend(filters: dict[str, Filters], kind: Windows, groups: list[Group]) -> None:
    """Send the signals down to the pixels as `deconv` does."""
    for conv in reversed(kind.upper):
        for group in groups:
            group.unpool(conv)
        signals = filters[conv.name].transposed_together([group.now.relu_() for group in groups])
        for group, signal in zip(groups, signals, strict=True):
            group.now = signal
            group.now = group.pad(conv, sign=-1)
    for group in groups:
        for conv in reversed(kind.lower):
            group.unpool(conv)
            group.now = filters[conv.name].transposed(group.now.relu_())
            group.now = group.pad(conv, sign=-1)
