"""One layer's filters, forwards and transposed, on windows.

Over many positions windows of one size are filtered as usual. Over few, reading the filters takes longer than
applying them to one window; there windows of all sizes share one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import ArchSpec, Conv, Unit, receptive_field, steps_below
from ..machine import threads
from ..network import ConvNet, Trace, output, pooled, require_finite

LANES = 16
"""Numbers that a processor multiplies at once."""


class Filters:
    """The filters of a convolutional layer, on tensors [n, maps, h, w] of windows.

    Args:
        conv: The layer.
        module: Its weights and biases.
    """

    def __init__(self, conv: Conv, module: nn.Conv2d):
        self.conv, self.module = conv, module

    def forwards(self, x: Tensor) -> Tensor:
        """Filter windows in which all padding is already there."""
        return F.conv2d(x, self._weight, self.module.bias, self.conv.stride, groups=self.conv.groups)

    def transposed(self, signal: Tensor) -> Tensor:
        """Filter with the transposed weights, without biases; the padding stays."""
        if self.conv.stride > 1 and self.conv.groups == 1 and self.module.in_channels < LANES:
            return self._by_blocks(signal)
        return F.conv_transpose2d(signal, self._weight, None, self.conv.stride, groups=self.conv.groups)

    def forwards_together(self, windows: list[Tensor]) -> list[Tensor]:
        """Do as `forwards` does with windows of several sizes, in one matrix product."""
        shapes = [
            (len(x), *((side - self.conv.kernel) // self.conv.stride + 1 for side in x.shape[2:])) for x in windows
        ]
        patches = torch.cat([self._patches(x) for x in windows], dim=1)
        rows = (patches @ self._matrix.transpose(1, 2)).transpose(0, 1).flatten(1) + self.module.bias
        parts = rows.split([prod(shape) for shape in shapes])
        return [part.unflatten(0, shape).permute(0, 3, 1, 2) for part, shape in zip(parts, shapes, strict=True)]

    def transposed_together(self, signals: list[Tensor]) -> list[Tensor]:
        """Do as `transposed` does with signals of several sizes, in one matrix product."""
        shapes = [(len(each), *each.shape[2:]) for each in signals]
        rows = torch.cat([each.permute(0, 2, 3, 1).flatten(0, 2) for each in signals])
        patches = rows.unflatten(1, (self.conv.groups, -1)).transpose(0, 1) @ self._matrix
        parts = patches.split([prod(shape) for shape in shapes], dim=1)
        return [self._laid_down(part, *shape) for part, shape in zip(parts, shapes, strict=True)]

    @cached_property
    def _weight(self) -> Tensor:
        return self.module.weight.contiguous(memory_format=torch.channels_last)

    @cached_property
    def _matrix(self) -> Tensor:
        """The weights as [groups, maps of a group, kernel * kernel * maps beneath]."""
        return self._weight.permute(0, 2, 3, 1).flatten(1).unflatten(0, (self.conv.groups, -1))

    @cached_property
    def _blocks(self) -> Tensor:
        """The weights over blocks of stride x stride pixels instead of single ones."""
        more = -self.conv.kernel % self.conv.stride
        weight = F.pixel_unshuffle(F.pad(self.module.weight, (0, more, 0, more)), self.conv.stride)
        return weight.contiguous(memory_format=torch.channels_last)

    def _patches(self, x: Tensor) -> Tensor:
        """Return what each position sees: [groups, n * h * w, kernel * kernel * maps beneath of a group]."""
        kernel, stride = self.conv.kernel, self.conv.stride
        seen = x.permute(0, 2, 3, 1).unfold(1, kernel, stride).unfold(2, kernel, stride)
        return seen.unflatten(3, (self.conv.groups, -1)).permute(3, 0, 1, 2, 5, 6, 4).flatten(4).flatten(1, 3)

    def _laid_down(self, patches: Tensor, n: int, h: int, w: int) -> Tensor:
        """Add up patches [groups, n * h * w, …] where they overlap: the adjoint of `_patches`."""
        kernel, stride, groups = self.conv.kernel, self.conv.stride, self.conv.groups
        rows, columns = (stride * (side - 1) + kernel for side in (h, w))
        steps = torch.arange(max(rows, columns), device=patches.device)
        down, across = (stride * steps[:side, None] + steps[:kernel] for side in (h, w))
        places = (columns * down[:, None, :, None] + across[None, :, None, :]).flatten()
        parts = patches.reshape(groups, n, len(places), -1).permute(1, 2, 0, 3).flatten(2)
        result = parts.new_zeros(n, rows * columns, parts.shape[2]).index_add_(1, places, parts)
        return result.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)

    def _by_blocks(self, signal: Tensor) -> Tensor:
        """Filter into blocks of pixels: few maps beneath would leave most of the processor's lanes empty."""
        more = -self.conv.kernel % self.conv.stride
        pixels = F.pixel_shuffle(F.conv_transpose2d(signal, self._blocks), self.conv.stride)
        return pixels[..., : pixels.shape[2] - more, : pixels.shape[3] - more]


# The deconvnet confined to windows: what each unit can see, and nothing else, on the way up and down.
#
# A window is cut out of every map just as the map's borders cut it. Windows of one form, that is of the same sizes
# and with the same zeros left of the padding, run through filters and pools together, like small pictures of their
# own.

NEAR, FAR = 2**23, 2**28
"""Bytes of one layer's maps that are computed at a time: few stay near a processor, many occupy a GPU."""

TOGETHER = 4
"""Times as many units that share the products of the upper layers, whose filters are read once for all of them."""

FEW = 36
"""Positions in the windows of a layer that counts as an upper one."""


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


Form = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Window:
    """What one unit reads beneath it, by the name of the filter or pool that reads."""

    rows: dict[str, Span]
    columns: dict[str, Span]

    @property
    def form(self) -> Form:
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

    Attributes:
        lower, upper: Its layers, from the picture upwards: those with many positions in a window, those with few.
        values: How many the largest maps in any window have.
    """

    def __init__(self, spec: ArchSpec, layer: str, height: int, width: int):
        shapes = spec.shapes(height, width)
        self.layer, self.field = layer, receptive_field(spec, layer)
        self.rows, self.columns = (
            [spans(spec, layer, {name: shape[axis] for name, shape in shapes.items()}, i) for i in range(side)]
            for axis, side in enumerate(shapes[layer][1:], start=1)
        )
        readers = list(reversed(self.rows[0]))
        self.readers = dict(zip(["input", *readers], readers, strict=False))
        widest = Window(
            *(max(axis, key=lambda spans: spans[readers[0]].size) for axis in (self.rows, self.columns))
        )
        self.values = max(shapes[source][0] * widest.positions(reader) for source, reader in self.readers.items())
        convs = spec.convs[: spec.convs.index(spec.conv(layer)) + 1]
        large = [n for n, conv in enumerate(convs[:-1]) if widest.positions(self.readers[conv.name]) > FEW]
        above = large[-1] + 1 if large else 0
        self.lower, self.upper = convs[:above], convs[above:]

    def of(self, unit: Unit) -> Window:
        """Return a unit's window."""
        return Window(self.rows[unit.row], self.columns[unit.column])

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

    def cut(self, x: Tensor, reader: str) -> Tensor:
        """Cut what the lowest filters read for each unit out of pictures [n, 3, H, W]."""
        pairs = zip(self.units, self.windows, strict=True)
        parts = torch.stack([window.cut(x[unit.image], reader) for unit, window in pairs])
        return parts.contiguous(memory_format=torch.channels_last)

    def padded(self, conv: Conv, sign: int = 1) -> Tensor:
        """Add the zeros that a layer's filters read, or take them away again."""
        margins = [sign * n for n in self.windows[0].margins(conv.name)]
        return F.pad(self.now, margins) if any(margins) else self.now

    def rise(self, conv: Conv, filtered: Tensor) -> None:
        """Rectify, pool and normalise what a layer's filters give; the top layer only rectifies."""
        self.now = filtered.relu_()
        if conv.name != self.units[0].layer:
            values, switches = pooled(conv, self.now)
            if conv.pool:
                self.switches[conv.name] = switches, self.now.shape[2:]
            self.now = output(conv, values)

    def recall(self, trace: Trace, windows: Windows) -> None:
        """Take the activations and switches from a forward pass of the whole picture."""
        maps = trace[windows.layer].maps[0]
        self.now = torch.stack([maps[:, unit.row, unit.column] for unit in self.units])[..., None, None]
        for layer, pool in windows.readers.items():
            if layer in trace.stages and trace[layer].switches is not None:
                width, places = trace[layer].maps.shape[-1], []
                for window in self.windows:
                    row, column = window.rows[pool], window.columns[pool]
                    switches = window.cut(trace[layer].switches[0], windows.readers[pool])
                    places.append((switches // width - row.start) * column.size + switches % width - column.start)
                self.switches[layer] = torch.stack(places), torch.Size((row.size, column.size))

    def single_out(self) -> None:
        """Set all activations but the units' own to 0 (section 2.1)."""
        own = range(len(self.units)), [unit.map for unit in self.units]
        alone = torch.zeros_like(self.now)
        alone[own] = self.now[own]
        self.now = alone

    def rectified(self, conv: Conv) -> Tensor:
        """Unpool the signal to a layer's maps and rectify it; signals that share a switch add up (section 2.1)."""
        if conv.name in self.switches:
            switches, size = self.switches.pop(conv.name)
            places, values = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (switches, self.now))
            flat = values.new_zeros(len(values), size.numel(), conv.maps).scatter_add_(1, places, values)
            self.now = flat.unflatten(1, size).permute(0, 3, 1, 2)
        return self.now.relu_()

    def sink(self, conv: Conv, filtered: Tensor) -> None:
        """Keep what a layer's transposed filters give at the positions that exist."""
        self.now = filtered
        self.now = self.padded(conv, sign=-1)


def project_units(net: ConvNet, x: Tensor, units: Sequence[Unit], batch: int | None = None) -> list[Tensor]:
    """Project many units, each through its window, in batches that run side by side.

    Args:
        net: The network.
        x: Pictures [n, 3, H, W] that it takes, on its device.
        units: Units that exist.
        batch: Units of one form that are projected together; by default as many as stay near the processor.

    Returns:
        For each unit [3, size, size], `size` being its layer's receptive field; 0 beyond the picture.
    """
    filters = {conv.name: Filters(conv, net.get_submodule(conv.name)) for conv in net.spec.convs}
    room, workers = (NEAR, torch.get_num_threads()) if x.device.type == "cpu" else (FAR, 1)
    layers = [conv.name for conv in net.spec.convs if conv.name in {unit.layer for unit in units}]
    windows = {layer: Windows(net.spec, layer, *x.shape[-2:]) for layer in layers}
    shown: dict[int, Tensor] = {}
    for seen, own in _seen(net, x, units, layers):
        jobs = []
        for layer in reversed(layers):  # the longest jobs first
            values = windows[layer].values * x.element_size()
            size = max(1, room // values) if batch is None else batch
            forms = {i: windows[layer].of(units[i]).form for i in own if units[i].layer == layer}
            parts = _batches(forms, size, workers)
            jobs += [partial(_project, filters, windows[layer], seen, units, each) for each in parts]
        with threads(max(1, min(workers, len(jobs)))) as pool:
            for found in pool.map(lambda job: job(), jobs):
                shown |= found
    return [shown[i] for i in range(len(units))]


@torch.no_grad()
def _seen(
    net: ConvNet, x: Tensor, units: Sequence[Unit], layers: list[str]
) -> Iterator[tuple[Tensor | Trace, list[int]]]:
    """Yield what units see, and which of them: the pictures, or in float64 one whole forward pass a picture.

    Over a flat area activations tie, and the first of them is the switch. Products in float64 round the same sum
    differently near the end of a matrix, so that other ones tie in a window than in the picture. There, where
    results are checked, the picture decides. In float32 every window has a pass of its own, which is much faster.
    """
    if x.dtype != torch.float64:
        yield x, list(range(len(units)))
        return
    for image in {unit.image for unit in units}:
        own = [i for i, unit in enumerate(units) if unit.image == image]
        yield net.trace(x[image : image + 1], layers[-1]), own


def _batches(forms: dict[int, Form], size: int, workers: int) -> Iterator[list[list[int]]]:
    """Divide units evenly into batches, neighbours in form, and each batch into parts of one form."""
    ordered = sorted(forms, key=forms.get)
    count = min(len(ordered), workers * -(-len(ordered) // (size * TOGETHER * workers)))
    for n in range(count):
        part = ordered[n * len(ordered) // count : (n + 1) * len(ordered) // count]
        alike = [list(same) for _, same in groupby(part, key=forms.get)]
        yield [same[start : start + size] for same in alike for start in range(0, len(same), size)]


@torch.no_grad()
def _project(
    filters: dict[str, Filters],
    windows: Windows,
    seen: Tensor | Trace,
    units: Sequence[Unit],
    parts: list[list[int]],
) -> dict[int, Tensor]:
    """Project a batch of one layer's units; each part of it has one form."""
    groups = [Group([units[i] for i in part], [windows.of(units[i]) for i in part]) for part in parts]
    if isinstance(seen, Trace):
        for group in groups:
            group.recall(seen, windows)
    else:
        _climb(filters, windows, seen, groups)
    for group in groups:
        group.single_out()
    _descend(filters, windows, groups)
    pixels = (each for group in groups for each in windows.framed(group.now, group.units[0]))
    return dict(zip((i for part in parts for i in part), pixels, strict=True))


def _climb(filters: dict[str, Filters], windows: Windows, x: Tensor, groups: list[Group]) -> None:
    """Run the network on the windows up to their units."""
    for group in groups:
        group.now = group.cut(x, windows.readers["input"])
        require_finite(group.now)
        for conv in windows.lower:
            group.rise(conv, filters[conv.name].forwards(group.padded(conv)))
    for conv in windows.upper:
        filtered = filters[conv.name].forwards_together([group.padded(conv) for group in groups])
        for group, maps in zip(groups, filtered, strict=True):
            group.rise(conv, maps)


def _descend(filters: dict[str, Filters], windows: Windows, groups: list[Group]) -> None:
    """Send the signals down to the pixels as `deconv` does."""
    for conv in reversed(windows.upper):
        signals = filters[conv.name].transposed_together([group.rectified(conv) for group in groups])
        for group, signal in zip(groups, signals, strict=True):
            group.sink(conv, signal)
    for group in groups:
        for conv in reversed(windows.lower):
            group.sink(conv, filters[conv.name].transposed(group.rectified(conv)))
