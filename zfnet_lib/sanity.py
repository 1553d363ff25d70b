"""How far projections can be trusted: what is left of them with other weights, switches or rules on the way down.

The paper shows its projections and takes them at their word. Later work asked what such pictures owe to what the
network has learnt, and what any network would have copied from the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import Tensor

from .deconv import cut, project
from .files import ZfnetError
from .network import ConvNet
from .receptive import input_window
from .windows import Unit

GRADIENT = "exact gradient"
WAYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "deconvnet": {},
        "central switches": {"switches": "centre"},
        "random switches": {"switches": "random"},
        "forward mask": {"rectify": "mask"},
        "guided": {"rectify": "both"},
    }
)
"""Ways from a unit to the pixels, as arguments of `project`: the paper's; without its switches; with the forward
mask of its footnote 1 instead of the rectification; and with both (guided backpropagation)."""

BATCH = 8
OPEN = 1e9
"""A bias above every response."""
SHARE = 99.0
"""Percent of a projection's absolute values below which it counts as full contrast, in `Similarity.ssim`."""


class SanityError(ZfnetError, ValueError):
    """Units, layers or ways that cannot be put to the test."""


class Similarity(NamedTuple):
    """How alike two projections are; 0 where one of them is zero everywhere.

    Attributes:
        spearman: Rank correlation of the absolute values, [-1, 1]: where there is something.
        cosine: Of the signed values, [-1, 1]: which structure it is.
        ssim: Structural similarity, each projection at its own contrast, [-1, 1].
    """

    spearman: float
    cosine: float
    ssim: float


def strongest_units(net: ConvNet, x: Tensor, layer: str, count: int) -> list[Unit]:
    """Return the strongest unit of each picture's `count` strongest maps, picture by picture.

    Pictures that excite fewer maps of the layer are passed over.

    Raises:
        SanityError: No picture excites so many maps.
        SpecError: No such layer, or one without maps.
    """
    with torch.no_grad():
        maps = net.trace(x, upto=net.spec.conv(layer).name)[layer].maps
    units, peaks = [], maps.amax((2, 3))
    most = int((peaks > 0).sum(1).max())
    if not 1 <= count <= most:
        raise SanityError(f"no picture excites {count} maps of {layer}; choose a number from 1 to {most}")
    for image in ((peaks > 0).sum(1) >= count).nonzero().flatten().tolist():
        for map_ in peaks[image].argsort(descending=True, stable=True)[:count].tolist():
            row, column = divmod(int(maps[image, map_].argmax()), maps.shape[3])
            units.append(Unit(image, layer, map_, row, column))
    return units


def rivals(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[Unit]:
    """Return for each unit that of the strongest other map at the same place of the same picture."""
    layer = _one_layer(units)
    with torch.no_grad():
        maps = net.trace(x, upto=layer)[layer].maps
    found = []
    for unit in units:
        values = maps[unit.image, :, unit.row, unit.column].clone()
        values[unit.map] = -1
        found.append(unit._replace(map=int(values.argmax())))
    return found


def projections(net: ConvNet, x: Tensor, units: Sequence[Unit], way: str = "deconvnet") -> list[np.ndarray]:
    """Send units down one of the ways, each cut to the pixels that can change it.

    The signal starts from 1 and the unit itself counts as active, so that there is a projection in every network:
    scale is all that differs from `deconv`.

    Args:
        net: The network.
        x: Prepared pictures [n, 3, H, W].
        units: Units of one layer.
        way: A key of `WAYS`, or `GRADIENT` for the derivative of the unit by the pixels.

    Returns:
        One float array [3, h, w] a unit.
    """
    if way not in WAYS and way != GRADIENT:
        raise SanityError(f"there is no way {way!r}; choose one of {', '.join([*WAYS, GRADIENT])}")
    layer, found = _one_layer(units), []
    top = _opened(net, layer)
    for start in range(0, len(units), BATCH):
        part = units[start : start + BATCH]
        pictures = x[[unit.image for unit in part]]
        images = _gradient(top, pictures, part) if way == GRADIENT else _projected(top, pictures, part, WAYS[way])
        found += [seen(net, image, unit).cpu().numpy() for image, unit in zip(images, part, strict=True)]
    return found


def seen(net: ConvNet, image: Tensor, unit: Unit) -> Tensor:
    """Cut the pixels that can change a unit out of an image [3, H, W]."""
    return cut(image, input_window(net.spec, unit.layer, unit.row, unit.column, *image.shape[-2:]))


@torch.no_grad()
def randomised(net: ConvNet, layers: Sequence[str], seed: int = 0) -> ConvNet:
    """Return a copy of a network with random weights in some layers.

    They are normal with the deviation of the layer's own weights, so that the activations keep their scale; biases
    are 0. A layer's random weights do not depend on which other layers are replaced.
    """
    copy, names = deepcopy(net), [layer.name for layer in net.spec.layers]
    for layer in layers:
        generator = torch.Generator().manual_seed(seed * len(names) + names.index(net.spec[layer].name))
        module = copy.get_submodule(layer)
        drawn = torch.randn(module.weight.shape, generator=generator)
        module.weight.copy_(drawn.to(module.weight) * module.weight.std())
        module.bias.zero_()
    return copy


def cascade(net: ConvNet, layer: str) -> tuple[tuple[str, ...], ...]:
    """Return which layers are random at each step from the top down: `layer`, then it and the one beneath ….

    Example:
        >>> from zfnet_lib.specs import MINI
        >>> cascade(ConvNet(MINI), "conv3")
        (('conv3',), ('conv3', 'conv2'), ('conv3', 'conv2', 'conv1'))
    """
    below = [conv.name for conv in net.spec.features(layer).convs][::-1]
    return tuple(tuple(below[: n + 1]) for n in range(len(below)))


def similarity(one: np.ndarray, other: np.ndarray) -> Similarity:
    """Compare two projections [3, h, w].

    Example:
        >>> values = np.random.default_rng(0).normal(size=(3, 9, 9))
        >>> tuple(round(float(value), 6) for value in similarity(values, 2 * values))
        (1.0, 1.0, 1.0)
    """
    one, other = (np.asarray(values, np.float64) for values in (one, other))
    if not one.any() or not other.any():
        return Similarity(0.0, 0.0, 0.0)
    contrasts = (_contrast(values) for values in (one, other))
    ssim = structural_similarity(*contrasts, data_range=2.0, channel_axis=0, win_size=_window(one))
    return Similarity(rank_correlation(np.abs(one), np.abs(other)), _cosine(one, other), float(ssim))


def copied(projection: np.ndarray, picture: np.ndarray) -> float:
    """Return how much the edges of a projection follow those of the picture, whatever the unit.

    Args:
        projection: [3, h, w].
        picture: [3, h, w], what lies in the same window.

    Returns:
        The rank correlation of the two gradient magnitudes, colours averaged.
    """
    return rank_correlation(sobel(projection.mean(0)), sobel(picture.mean(0)))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two arrays of one shape; 0 where one of them is constant.

    Example:
        >>> rank_correlation(np.array([1, 2, 3]), np.array([1, 10, 100]))
        1.0
    """
    one, other = (_ranks(values) - (values.size + 1) / 2 for values in (one, other))
    return _cosine(one, other)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / size) if size else 0.0


def _one_layer(units: Sequence[Unit]) -> str:
    layers = {unit.layer for unit in units}
    if len(layers) != 1:
        raise SanityError(f"the units are of one layer; given {', '.join(sorted(layers)) or 'none'}")
    return layers.pop()


def _projected(net: ConvNet, x: Tensor, units: Sequence[Unit], way: Mapping[str, str]) -> Tensor:
    """Send one unit of each picture down."""
    with torch.no_grad():
        trace = net.trace(x)
    signal = torch.zeros_like(trace[units[0].layer].maps)
    signal[_places(units)] = 1
    return project(trace, units[0].layer, signal, **way)


def _gradient(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> Tensor:
    """Return the derivative of one unit of each picture by its pixels."""
    x = x.clone().requires_grad_()
    maps = net.trace(x)[units[0].layer].maps
    return torch.autograd.grad(maps[_places(units)].sum(), x)[0]


def _opened(net: ConvNet, layer: str) -> ConvNet:
    """Return the network up to a layer whose units are all active; what comes back from them stays the same."""
    part = deepcopy(net.features(layer))
    with torch.no_grad():
        part.get_submodule(layer).bias.fill_(OPEN)
    return part


def _places(units: Sequence[Unit]) -> tuple[list[int], ...]:
    """Return the index of unit i in the maps of picture i."""
    maps, rows, columns = zip(*(unit[2:] for unit in units), strict=True)
    return list(range(len(units))), list(maps), list(rows), list(columns)


def _contrast(values: np.ndarray) -> np.ndarray:
    """Scale a projection so that nearly all of it lies in [-1, 1]."""
    return np.clip(values / np.percentile(np.abs(values[values != 0]), SHARE), -1, 1)


def _window(values: np.ndarray) -> int:
    """Return the side of SSIM's window: 7, or the largest odd one that fits."""
    return min(7, (min(values.shape[1:]) + 1) // 2 * 2 - 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks from 1; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place].ravel()
