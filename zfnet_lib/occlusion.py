"""Occlusion sensitivity (section 4.2, Fig. 6): what a network sees while a square covers part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .deconv import strongest_unit
from .fast.occlusion import Part, covered
from .files import ZfnetError
from .machine import threads
from .network import ConvNet, output, pooled

TOGETHER = 1024  # squares, about, that the fully connected layers answer together
SIZE, STRIDE = 50 / 224, 6 / 224  # of the square, as shares of the picture's shorter side


class OcclusionError(ZfnetError, ValueError):
    """A square, class or map that does not fit the picture and the network."""


@dataclass(frozen=True)
class Occlusion:
    """What a network sees for every place of the square (Fig. 6, b, d, e); without a classifier only the activity.

    At [i, j] the square's top left corner lies at pixel row `i * stride`, column `j * stride`.
    """

    activity: Tensor  # [rows, columns], the sum over one map of the last convolution, rectified, before the pool
    probability: Tensor | None  # [rows, columns], of the class `target`
    label: Tensor | None  # int64 [rows, columns], the most probable class
    map: int  # which map `activity` sums
    target: int | None  # which class `probability` is of
    size: int  # of the square, in pixels, as its step
    stride: int


class Drop(NamedTuple):
    """Where a class loses most: the square's place there, and whether it touches the object."""

    row: int
    column: int
    inside: bool
    share: float  # of all places those where the square touches the object


@torch.no_grad()
def occlude(
    net: ConvNet,
    x: Tensor,
    label: int | None = None,
    size: int | None = None,
    stride: int | None = None,
    *,
    fill: float | Sequence[float] = 0.0,
    map_: int | None = None,
    incremental: bool | None = None,
    progress: bool = False,
) -> Occlusion:
    """Cover a picture with a square, place by place, and watch the network (section 4.2, Fig. 6).

    Only what the square can reach is computed anew. The result is that of a forward pass for each place. The
    square's top left corners lie at 0, stride, 2 stride … while it fits: where the stride does not divide what the
    size leaves of a side, the last rows or columns of the picture, fewer than the stride, are never covered.

    Args:
        net: The network; one without a classifier takes any size of picture and gives the activity alone.
        x: A prepared picture [3, H, W] or [1, 3, H, W].
        label: Class to watch; the network's own first answer by default.
        size: Side of the square in pixels; 50/224 of the picture's shorter side by default.
        stride: Its step in pixels; 6/224 of the shorter side by default.
        fill: Value of the covered pixels, or one for each channel; 0 is the mean, a grey.
        map_: Map of the last convolution to watch; by default the one with the largest value on the picture.
        incremental: Whether to compute the changes alone; by default wherever that is less work.
        progress: Show a bar.

    Returns:
        An `Occlusion`, on the CPU.

    Raises:
        ZfnetError: No prepared picture, or a square, step, class, map or fill that does not fit.
    """
    spec, last, given = net.spec, net.spec.convs[-1], list(x.shape)
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[:2] != (1, 3):
        raise OcclusionError(f"occlusion takes one prepared picture, [3, h, w] or [1, 3, h, w]; given {given}")
    x = x.to(net.device, net.dtype, memory_format=torch.channels_last)
    height, width = x.shape[-2:]
    side = min(height, width)
    size = max(1, round(SIZE * side)) if size is None else size
    stride = max(1, round(STRIDE * side)) if stride is None else stride
    if not 1 <= size <= side:
        fits = f"a picture of {height}x{width}; choose a size from 1 to {side}"
        raise OcclusionError(f"a square of {size} pixels does not fit {fits}")
    if stride < 1:
        raise OcclusionError(f"the square cannot move by {stride} pixels; choose a stride of at least 1")
    trace = net.trace(x)
    map_ = strongest_unit(trace[last.name].maps[0])[0] if map_ is None else map_
    if not 0 <= map_ < last.maps:
        raise OcclusionError(f"{last.name} has no map {map_}; choose one from 0 to {last.maps - 1}")
    if label is not None and not spec.classes:
        raise OcclusionError(f"{spec.name} has no classifier here, so no class {label}; leave the label out")
    target = int(trace.logits.argmax()) if label is None and spec.classes else label
    if target is not None and not 0 <= target < spec.classes:
        raise OcclusionError(f"{spec.name} has no class {target}; choose one from 0 to {spec.classes - 1}")
    colour = x.new_tensor(fill)
    if colour.shape not in ((), (3,)):
        given = list(colour.shape)
        raise OcclusionError(f"a square is filled with one value or three, one a channel; given {given}")

    corners = tuple(range(0, n - size + 1, stride) for n in (height, width))
    parts = covered(trace, corners, size, colour.expand(3)[:, None, None], incremental)

    @torch.no_grad()
    def watch(part: Part) -> tuple[Tensor, Tensor]:
        maps = part.maps()
        top = output(last, pooled(last, maps)[0]) if spec.classes else maps[:, :0]
        return maps[:, map_].sum((1, 2)), top.flatten(1)

    sheets: list[list[Part]] = [[]]  # about as many squares at a time as the fully connected layers answer together
    for part in parts:
        if sum(each.n for each in sheets[-1]) >= TOGETHER:
            sheets.append([])
        sheets[-1].append(part)
    n, found = torch.get_num_threads() if net.device.type == "cpu" else 1, []
    with threads(n) as pool, tqdm(total=prod(map(len, corners)), unit=" places", disable=not progress) as bar:
        for sheet in sheets:
            seen = []
            for each in pool.map(watch, sheet):
                seen.append(each)
                bar.update(len(each[0]))
            activity, top = map(torch.cat, zip(*seen, strict=True))
            answers = ()
            if spec.classes:
                for dense in spec.dense:
                    top = F.relu(_connected(net.get_submodule(dense.name), top))
                probabilities = _connected(net.fc8, top).softmax(1)
                answers = probabilities[:, target], probabilities.argmax(1)
            found.append((activity, *answers))
    # Parts come in the order of their size: sort their squares row by row.
    places = [(torch.tensor(part.rows)[:, None] << 32) + torch.tensor(part.columns) for part in parts]
    order = torch.cat([each.flatten() for each in places]).argsort()
    activity, *answers = (
        torch.cat(each)[order].view(*map(len, corners)).cpu() for each in zip(*found, strict=True)
    )
    return Occlusion(activity, *(answers or (None, None)), map_, target, size, stride)


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
