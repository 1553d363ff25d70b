"""The deconvnet confined to windows: what each unit can see, cut out of every map as the map's borders cut it.

Windows of one form, with the same sizes and zeros of padding, run through filters and pools like small pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import groupby
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import ArchSpec, Conv, Span, Unit, receptive_field, spans
from ..machine import threads
from ..network import ConvNet, Trace, output, pooled, require_finite

NEAR, FAR = 2**23, 2**28  # bytes of a layer's maps that are computed at a time, on a processor and on a GPU
TOGETHER = 4  # times as many units share the products of the upper layers, whose filters are then read once
FEW = 36  # positions in the windows of a layer that counts as an upper one
LANES = 16  # numbers that a processor multiplies at once


class Filters:
    """The filters of a convolutional layer, forwards and transposed, on windows [n, maps, h, w].

    Over many positions windows of one size are filtered as usual. Over few, reading the filters takes longer than
    applying them to one window; there windows of all sizes share one matrix product.
    """

    def __init__(self, conv: Conv, weight: Tensor, bias: Tensor):
        self.conv, self.given, self.bias = conv, weight, bias

    def forwards(self, x: Tensor) -> Tensor:
        """Filter windows in which all padding is already there."""
        return F.conv2d(x, self._weight, self.bias, self.conv.stride, groups=self.conv.groups)

    def transposed(self, signal: Tensor) -> Tensor:
        """Filter with the transposed weights, without biases; the padding stays."""
        stride, groups = self.conv.stride, self.conv.groups
        if stride > 1 and groups == 1 and self.given.shape[1] < LANES:
            # Few maps beneath would leave most of the processor's lanes empty: filter into blocks of pixels.
            more = -self.conv.kernel % stride
            pixels = F.pixel_shuffle(F.conv_transpose2d(signal, self._blocks), stride)
            return pixels[..., : pixels.shape[2] - more, : pixels.shape[3] - more]
        return F.conv_transpose2d(signal, self._weight, None, stride, groups=groups)

    def forwards_together(self, windows: list[Tensor]) -> list[Tensor]:
        """Do as `forwards` does with windows of several sizes, in one matrix product."""
        kernel, stride, patches, shapes = self.conv.kernel, self.conv.stride, [], []
        for x in windows:
            seen = x.permute(0, 2, 3, 1).unfold(1, kernel, stride).unfold(2, kernel, stride)
            seen = seen.unflatten(3, (self.conv.groups, -1)).permute(3, 0, 1, 2, 5, 6, 4).flatten(4)
            shapes.append(seen.shape[1:4])
            patches.append(seen.flatten(1, 3))
        products = torch.cat(patches, dim=1) @ self._matrix.transpose(1, 2)
        rows = (products.transpose(0, 1).flatten(1) + self.bias).split([prod(shape) for shape in shapes])
        return [part.unflatten(0, shape).permute(0, 3, 1, 2) for part, shape in zip(rows, shapes, strict=True)]

    def transposed_together(self, signals: list[Tensor]) -> list[Tensor]:
        """Do as `transposed` does with signals of several sizes, in one matrix product."""
        shapes = [(len(each), *each.shape[2:]) for each in signals]
        rows = torch.cat([each.permute(0, 2, 3, 1).flatten(0, 2) for each in signals])
        patches = rows.unflatten(1, (self.conv.groups, -1)).transpose(0, 1) @ self._matrix
        parts = patches.split([prod(shape) for shape in shapes], dim=1)
        return [self._laid_down(part, *shape) for part, shape in zip(parts, shapes, strict=True)]

    @cached_property
    def _weight(self) -> Tensor:
        return self.given.contiguous(memory_format=torch.channels_last)

    @cached_property
    def _matrix(self) -> Tensor:
        """The weights as [groups, maps of a group, kernel * kernel * maps beneath]."""
        return self._weight.permute(0, 2, 3, 1).flatten(1).unflatten(0, (self.conv.groups, -1))

    @cached_property
    def _blocks(self) -> Tensor:
        """The weights over blocks of stride x stride pixels instead of single ones."""
        more = -self.conv.kernel % self.conv.stride
        weight = F.pixel_unshuffle(F.pad(self.given, (0, more, 0, more)), self.conv.stride)
        return weight.contiguous(memory_format=torch.channels_last)

    def _laid_down(self, patches: Tensor, n: int, h: int, w: int) -> Tensor:
        """Add up patches [groups, n * h * w, …] where they overlap."""
        kernel, stride, groups = self.conv.kernel, self.conv.stride, self.conv.groups
        rows, columns = (stride * (side - 1) + kernel for side in (h, w))
        steps = torch.arange(max(rows, columns), device=patches.device)
        down, across = (stride * steps[:side, None] + steps[:kernel] for side in (h, w))
        places = (columns * down[:, None, :, None] + across[None, :, None, :]).flatten()
        parts = patches.reshape(groups, n, len(places), -1).permute(1, 2, 0, 3).flatten(2)
        result = parts.new_zeros(n, rows * columns, parts.shape[2]).index_add_(1, places, parts)
        return result.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


class Window(NamedTuple):
    """What one unit reads beneath it, by the name of the filter or pool that reads."""

    rows: dict[str, Span]
    columns: dict[str, Span]

    def form(self) -> tuple[tuple[int, ...], ...]:
        """Return everything but the place."""
        return tuple(span[1:] for axis in self for span in axis.values())

    def cut(self, maps: Tensor, reader: str) -> Tensor:
        """Cut what is read out of whole maps [..., h, w]."""
        row, column = self.rows[reader], self.columns[reader]
        return maps[..., row.start : row.start + row.size, column.start : column.start + column.size]


class Windows:
    """The windows of all units of one layer in pictures of one size.

    Its layers are `lower` ones, with many positions in a window, and `upper` ones, with few.
    """

    def __init__(self, spec: ArchSpec, layer: str, height: int, width: int):
        shapes, steps = spec.shapes(height, width), spec.steps(layer)
        self.layer, self.field = layer, receptive_field(spec, layer)
        self.rows, self.columns = (
            [spans(steps, [shape[axis] for shape in shapes.values()], i) for i in range(shapes[layer][axis])]
            for axis in (1, 2)
        )
        self.readers = dict(zip(["input", *steps], steps, strict=False))  # which filter or pool reads what
        first = next(iter(steps))
        widest = [max(axis, key=lambda read: read[first].size) for axis in (self.rows, self.columns)]
        positions = {below: prod(axis[reader].size for axis in widest) for below, reader in self.readers.items()}
        self.values = max(shapes[below][0] * n for below, n in positions.items())  # of the largest maps
        convs = spec.features(layer).convs
        above = max((n for n, conv in enumerate(convs[:-1], 1) if positions[conv.name] > FEW), default=0)
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


class Group:
    """Units of one layer whose windows have one form, on their way up and down."""

    def __init__(self, units: list[Unit], windows: Windows):
        self.units, self.windows, self.all = units, [windows.of(unit) for unit in units], windows
        self.now = torch.empty(0)  # [units, maps, h, w]: maps upwards, signals downwards
        self.switches: dict[str, tuple[Tensor, torch.Size]] = {}  # and the size of the layer's maps

    def padded(self, maps: Tensor, conv: Conv, sign: int = 1) -> Tensor:
        """Add the zeros that a layer's filters read, or take them away again: positions that do not exist."""
        row, column = (axis[conv.name] for axis in self.windows[0])
        margins = [sign * n for n in (column.before, column.after, row.before, row.after)]
        return F.pad(maps, margins) if any(margins) else maps

    def cut(self, x: Tensor) -> None:
        """Begin with what the lowest filters read for each unit in pictures [n, 3, H, W]."""
        pairs, reader = zip(self.units, self.windows, strict=True), self.all.readers["input"]
        parts = torch.stack([window.cut(x[unit.image], reader) for unit, window in pairs])
        self.now = parts.contiguous(memory_format=torch.channels_last)
        require_finite(self.now)

    def up(self, conv: Conv, filtered: Tensor) -> None:
        """Rectify, pool and normalise what a layer's filters give; the top layer only rectifies."""
        self.now = filtered.relu_()
        if conv.name != self.all.layer:
            values, switches = pooled(conv, self.now)
            if switches is not None:
                self.switches[conv.name] = switches, self.now.shape[2:]
            self.now = output(conv, values)

    def take_from(self, trace: Trace) -> None:
        """Take the activations and switches from a forward pass of the whole picture instead."""
        maps = trace[self.all.layer].maps[0]
        self.now = torch.stack([maps[:, unit.row, unit.column] for unit in self.units])[..., None, None]
        for layer, pool in self.all.readers.items():
            if layer in trace.stages and (recorded := trace[layer].switches) is not None:
                width, places = trace[layer].maps.shape[-1], []
                for window in self.windows:
                    row, column = window.rows[pool], window.columns[pool]
                    switches = window.cut(recorded[0], self.all.readers[pool])
                    places.append((switches // width - row.start) * column.size + switches % width - column.start)
                self.switches[layer] = torch.stack(places), torch.Size((row.size, column.size))

    def unpooled_and_rectified(self, conv: Conv) -> Tensor:
        """Unpool the signal to a layer's maps and rectify it; signals that share a switch add up (section 2.1)."""
        if conv.name in self.switches:
            switches, size = self.switches.pop(conv.name)
            places, values = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (switches, self.now))
            flat = values.new_zeros(len(values), size.numel(), conv.maps).scatter_add_(1, places, values)
            self.now = flat.unflatten(1, size).permute(0, 3, 1, 2)
        return self.now.relu_()


@torch.no_grad()
def project_units(net: ConvNet, x: Tensor, units: Sequence[Unit], batch: int | None = None) -> list[Tensor]:
    """Project units through their windows, `batch` of one form at a time: [3, size, size] of each whole field."""
    filters = {
        conv.name: Filters(conv, *(net.get_parameter(f"{conv.name}.{part}") for part in ("weight", "bias")))
        for conv in net.spec.convs
    }
    room, workers = (NEAR, torch.get_num_threads()) if x.device.type == "cpu" else (FAR, 1)
    layers = [conv.name for conv in net.spec.convs if conv.name in {unit.layer for unit in units}]
    windows = {layer: Windows(net.spec, layer, *x.shape[-2:]) for layer in layers}
    shown: dict[int, Tensor] = {}
    every: Iterable[tuple[Tensor | Trace, list[int]]] = [(x, list(range(len(units))))]
    if x.dtype == torch.float64:
        # Over a flat area activations tie, and the first of them is the switch. Products in float64 round the same
        # sum differently near the end of a matrix, so that other ones tie in a window than in the picture. Here,
        # where results are checked, the picture decides. In float32 every window is passed forward alone: faster.
        images = {image: [i for i, unit in enumerate(units) if unit.image == image] for image, *_ in units}
        every = ((net.trace(x[image : image + 1], layers[-1]), own) for image, own in images.items())
    for seen, own in every:
        jobs = []
        for layer in reversed(layers):  # the longest jobs first
            size = max(1, room // (windows[layer].values * x.element_size())) if batch is None else batch
            forms = {i: windows[layer].of(units[i]).form() for i in own if units[i].layer == layer}
            for parts in _batches(forms, size, workers):
                jobs.append(partial(_project, filters, windows[layer], seen, units, parts))
        with threads(max(1, min(workers, len(jobs)))) as pool:
            for found in pool.map(lambda job: job(), jobs):
                shown |= found
    return [shown[i] for i in range(len(units))]


def _batches(forms: dict[int, tuple], size: int, workers: int) -> Iterator[list[list[int]]]:
    """Divide units evenly into batches, neighbours in form, and each batch into parts of one form."""
    ordered = sorted(forms, key=forms.__getitem__)
    count = min(len(ordered), workers * -(-len(ordered) // (size * TOGETHER * workers)))
    for n in range(count):
        part = ordered[n * len(ordered) // count : (n + 1) * len(ordered) // count]
        alike = [list(same) for _, same in groupby(part, key=forms.__getitem__)]
        yield [same[start : start + size] for same in alike for start in range(0, len(same), size)]


@torch.no_grad()
def _project(
    filters: dict, windows: Windows, seen: Tensor | Trace, units: Sequence[Unit], parts: list[list[int]]
) -> dict[int, Tensor]:
    """Project a batch of one layer's units, up and down through their windows; each part of it has one form."""
    groups = [Group([units[i] for i in part], windows) for part in parts]
    for group in groups:
        if isinstance(seen, Trace):
            group.take_from(seen)
        else:
            group.cut(seen)
            for conv in windows.lower:
                group.up(conv, filters[conv.name].forwards(group.padded(group.now, conv)))
    if not isinstance(seen, Trace):
        for conv in windows.upper:
            filtered = filters[conv.name].forwards_together([group.padded(group.now, conv) for group in groups])
            for group, maps in zip(groups, filtered, strict=True):
                group.up(conv, maps)
    for group in groups:  # all activations but the units' own are set to 0 (section 2.1)
        own, reached = (range(len(group.units)), [unit.map for unit in group.units]), group.now
        group.now = torch.zeros_like(reached)
        group.now[own] = reached[own]
    for conv in reversed(windows.upper):
        signals = filters[conv.name].transposed_together([group.unpooled_and_rectified(conv) for group in groups])
        for group, signal in zip(groups, signals, strict=True):
            group.now = group.padded(signal, conv, sign=-1)
    for group in groups:
        for conv in reversed(windows.lower):
            signal = filters[conv.name].transposed(group.unpooled_and_rectified(conv))
            group.now = group.padded(signal, conv, sign=-1)
    pixels = (each for group in groups for each in windows.framed(group.now, group.units[0]))
    return dict(zip((i for part in parts for i in part), pixels, strict=True))
