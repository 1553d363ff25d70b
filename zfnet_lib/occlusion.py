"""Occlusion sensitivity (section 4.2, Fig. 6): what a network sees while a square covers part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .deconv import strongest_unit
from .fast.occlusion import Part, covered
from .files import ZfnetError
from .machine import threads
from .network import ConvNet, Network, described, output, pooled

if TYPE_CHECKING:
    from .paper.plots import Figure

TOGETHER = 1024  # squares, about, that the fully connected layers answer together
PASSES = 16  # covered pictures in one whole forward pass of a `ConvNet`
SIZE, STRIDE = 50 / 224, 6 / 224  # of the square, as shares of the picture's shorter side


class OcclusionError(ZfnetError, ValueError):
    """A square, class or map that does not fit the picture and the network."""


@dataclass(frozen=True)
class Occlusion:
    """What a network sees for every place of the square (Fig. 6, b, d, e); without a classifier only the activity.

    At [i, j] the square's top left corner lies at pixel row `i * stride`, column `j * stride`.
    """

    activity: Tensor  # [rows, columns], the sum over one map of the layer as it is before the pool
    probability: Tensor | None  # [rows, columns], of the class `target`
    label: Tensor | None  # int64 [rows, columns], the most probable class
    map: int  # which map `activity` sums
    target: int | None  # which class `probability` is of
    size: int  # of the square, in pixels, as its step
    stride: int

    def plot(self, title: str = "") -> Figure:
        """Draw the activity and, of a network with a classifier, the probability, place by place (Fig. 6).

        Dark is 0; the brightest is the largest activity, and a probability of 1.

        Example:
            >>> import torch
            >>> from zfnet_lib import MINI, ConvNet, occlude
            >>> seen = occlude(ConvNet(MINI), torch.randn(3, 64, 64), size=16, stride=16)
            >>> seen.plot()
            <Figure size 1350x784.3 with 1 Axes>
        """
        from .paper.plots import heat, side_by_side

        shown = {f"activity of map {self.map}, up to {self.activity.max():.3g}": heat(self.activity.numpy())}
        if self.probability is not None:
            shown[f"probability of class {self.target}, 0 to 1"] = heat(self.probability.numpy(), 1.0)
        return side_by_side(shown, title, columns=2)


class Drop(NamedTuple):
    """Where a class loses most: the square's place there, and whether it touches the object."""

    row: int
    column: int
    inside: bool
    share: float  # of all places those where the square touches the object


@torch.no_grad()
def occlude(
    net: Network,
    x: Tensor,
    label: int | None = None,
    size: int | None = None,
    stride: int | None = None,
    *,
    fill: float | Sequence[float] = 0.0,
    layer: str | None = None,
    map_: int | None = None,
    incremental: bool | None = None,
    progress: bool = False,
) -> Occlusion:
    """Cover a picture with a square, place by place, and watch the network (section 4.2, Fig. 6).

    Of a `ConvNet` only what the square can reach is computed anew; the result is that of a forward pass for each
    place, which is what other networks, and other layers than the last, get. The square's top left corners lie at
    0, stride, 2 stride … while it fits: where the stride does not divide what the size leaves of a side, the last
    rows or columns of the picture, fewer than the stride, are never covered.

    Args:
        net: The network; one without a classifier takes any size of picture and gives the activity alone.
        x: A prepared picture [3, H, W] or [1, 3, H, W].
        label: Class to watch; the network's own first answer by default.
        size: Side of the square in pixels; 50/224 of the picture's shorter side by default.
        stride: Its step in pixels; 6/224 of the shorter side by default.
        fill: Value of the covered pixels, or one for each channel; 0 is the mean, a grey.
        layer: Layer with maps to watch; the last by default.
        map_: Map of the layer to watch; by default the one with the largest value on the picture.
        incremental: Whether to compute the changes alone; by default wherever that is less work.
        progress: Show a bar.

    Returns:
        An `Occlusion`, on the CPU.

    Raises:
        ZfnetError: No prepared picture, or a square, step, class, layer, map or fill that does not fit.
    """
    channels, layer, given = net.channels, net.require(layer or net.layers[-1]), described(x)
    x = x[None] if isinstance(x, Tensor) and x.ndim == 3 else x
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[:2] != (1, channels) or not x.is_floating_point():
        takes = f"occlusion takes one prepared picture, float [{channels}, h, w] or [1, {channels}, h, w]"
        raise OcclusionError(f"{takes}; given {given}; `net.prepare` makes it from a uint8 picture")
    x = x.to(net.device, net.dtype, memory_format=torch.channels_last)
    height, width = x.shape[-2:]
    side = min(height, width)
    size = max(1, round(SIZE * side)) if size is None else size
    stride = max(1, round(STRIDE * side)) if stride is None else stride
    if not (isinstance(size, Integral) and 1 <= size <= side):
        fits = f"a picture of {height}x{width}; choose a whole number from 1 to {side}"
        raise OcclusionError(f"a square of {size} pixels does not fit {fits}")
    if not (isinstance(stride, Integral) and stride >= 1):
        raise OcclusionError(f"the square cannot move by {stride} pixels; choose a whole number from 1")
    with net.unmixed():
        trace = net.trace(x)
    maps = trace[layer].maps[0]
    map_ = strongest_unit(maps)[0] if map_ is None else map_
    if not 0 <= map_ < len(maps):
        raise OcclusionError(f"{layer} has no map {map_}; choose one from 0 to {len(maps) - 1}")
    if label is not None and not net.classes:
        raise OcclusionError(f"{net.name} has no classifier here, so no class {label}; leave the label out")
    target = int(trace.logits.argmax()) if label is None and trace.logits is not None else label
    if target is not None and not 0 <= target < net.classes:
        raise OcclusionError(f"{net.name} has no class {target}; choose one from 0 to {net.classes - 1}")
    colour = x.new_tensor(fill)
    if colour.shape not in ((), (channels,)) or not colour.isfinite().all():
        given = f"one number or {channels}, one a channel, all finite; given {colour.tolist()}"
        raise OcclusionError(f"a square is filled with {given}")

    corners = tuple(range(0, n - size + 1, stride) for n in (height, width))
    square = corners, size, colour.expand(channels)[:, None, None]
    with net.unmixed(), tqdm(total=prod(map(len, corners)), unit=" places", disable=not progress) as bar:
        last = isinstance(net, ConvNet) and layer == net.layers[-1]
        if parts := covered(trace, *square, incremental) if last else None:
            found = _changes(trace, parts, map_, bar)
        else:
            found = _whole_passes(trace, *square, layer, map_, bar)
    activity, probabilities = (each.view(*map(len, corners), *each.shape[1:]).cpu() for each in found)
    if target is None:
        return Occlusion(activity, None, None, map_, target, size, stride)
    return Occlusion(activity, probabilities[..., target], probabilities.argmax(-1), map_, target, size, stride)


def _changes(trace, parts: list[Part], map_, bar) -> tuple[Tensor, Tensor]:
    """Return the activity [places] and the probabilities [places, classes], computing only what changes."""
    net, last = trace.net, trace.net.spec.convs[-1]

    @torch.no_grad()
    def watch(part: Part) -> tuple[Tensor, Tensor]:
        maps = part.maps()
        top = output(last, pooled(last, maps)[0]) if net.classes else maps[:, :0]
        return _summed(maps[:, map_]), top.flatten(1)

    sheets: list[list[Part]] = [[]]  # about as many squares at a time as the fully connected layers answer together
    for part in parts:
        if sum(each.n for each in sheets[-1]) >= TOGETHER:
            sheets.append([])
        sheets[-1].append(part)
    n, found = torch.get_num_threads() if net.device.type == "cpu" else 1, []
    with threads(n) as pool:
        for sheet in sheets:
            seen = []
            for each in pool.map(watch, sheet):
                seen.append(each)
                bar.update(len(each[0]))
            activity, top = map(torch.cat, zip(*seen, strict=True))
            if net.classes:
                for dense in net.spec.dense:
                    top = F.relu(_connected(net.get_submodule(dense.name), top))
                top = _connected(net.fc8, top).softmax(1)
            found.append((activity, top))
    # Parts come in the order of their size: sort their squares row by row.
    places = [(torch.tensor(part.rows)[:, None] << 32) + torch.tensor(part.columns) for part in parts]
    order = torch.cat([each.flatten() for each in places]).argsort()
    activity, probabilities = (torch.cat(each)[order] for each in zip(*found, strict=True))
    return activity, probabilities


def _whole_passes(trace, corners, size, colour, layer, map_, bar) -> tuple[Tensor, Tensor]:
    """Return the same of any network and layer by a forward pass for every place, several at a time."""
    net, places, found = trace.net, list(product(*corners)), []
    passes = PASSES if isinstance(net, ConvNet) else net.together(trace.x)
    for start in range(0, len(places), passes):
        part = places[start : start + passes]
        x = trace.x.repeat(len(part), 1, 1, 1)
        for picture, (row, column) in zip(x, part, strict=True):
            picture[:, row : row + size, column : column + size] = colour
        seen = net.trace(x, keep=(layer,))
        probabilities = seen.logits.softmax(1) if net.classes else x.new_empty(len(x), 0)
        found.append((_summed(seen[layer].maps[:, map_]), probabilities))
        bar.update(len(part))
    activity, probabilities = map(torch.cat, zip(*found, strict=True))
    return activity, probabilities


def _summed(maps: Tensor) -> Tensor:
    """Sum each of the maps [n, h, w]; of few bits in float32, as float16 ends at 65504."""
    return maps.sum((1, 2), dtype=torch.promote_types(maps.dtype, torch.float32))


def largest_drop(probability: Tensor, mask: Tensor, size: int, stride: int) -> Drop:
    """Say whether covering an object, a bool mask [H, W] of the picture, costs its class most (section 4.2)."""
    touching = F.max_pool2d(mask[None].float(), size, stride)[0] > 0
    if touching.shape != probability.shape:
        places, expected = list(touching.shape), list(probability.shape)
        raise OcclusionError(f"{places} places instead of {expected}; give the mask of the same prepared picture")
    row, column = divmod(int(probability.argmin()), probability.shape[1])
    return Drop(row, column, bool(touching[row, column]), touching.float().mean().item())


def _connected(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a fully connected layer to [n, units]; on CPUs as a convolution, which oneDNN does fast everywhere.

    The weights stand as the picture and the inputs as the filters, since filters are copied at every call.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return layer(x)
    picture = layer.weight[None, None].permute(0, 3, 1, 2)
    return F.conv2d(picture, x[:, :, None, None])[0, :, 0] + layer.bias
