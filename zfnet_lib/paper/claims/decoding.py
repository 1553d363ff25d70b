"""Section 4.1: how much of a picture a linear decoder of fixed size reads out of layers 1 and 2 of both stems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import receptive_field
from ...network import ConvNet
from ..fig4 import probe, summaries
from ..fig5 import energies, radii
from .finding import Finding, above, below, every, verdict
from .stems import lead, lower_layers, numbers_of, with_seeds
from .stored import Measured, Stored, counted
from .subject import Subject

BATCH = 16

NEAR = 3
"""Side of the block of cells from which the pixels of the one in its middle are read."""

DRAWN = 200
"""Cells of each picture that the decoder learns from."""

PENALTY = 1e-2
"""Of the ridge regression, on features of deviation 1."""

HIGH = 1 / 8
"""Cycles a pixel from which on frequencies are high: half of the frequency at which a stride of 4 samples."""


CELL = {"conv1": 4, "conv2": 8}
"""Pixels from one position to the next in the coarser stem, by layer."""

EQUAL, RAW = "equal dimension", "as it is"

MUCH = 0.05
"""Of the variance: a stem that retains so much more retains much more."""

R2, ACCURACY = "R2 of the decoder", "accuracy of a linear probe"


def information(at: Subject) -> Iterator[Measured]:
    """Decode pictures from layers 1 and 2 of both stems, and read classes out of them."""
    rows = np.array(at.rows)
    held_out, learnt = rows[::4], np.delete(rows, np.s_[::4])
    for (name, seed), net in lower_layers(at.profile).items():
        place = {"network": name, "seed": seed}
        few = (part[:: max(len(part) // at.scale.few, 1)].tolist() for part in (learnt, held_out))
        x, others = (net.prepare(at.squares(part)) for part in few)
        for layer, side in CELL.items():
            for compared in (EQUAL, RAW):
                fidelity = decoded(Cells(net, layer, side, compared == EQUAL), x, others, at.seed)
                for band, value in fidelity._asdict().items():
                    yield counted(R2, value, len(others), layer=layer, compared=compared, band=band, **place)
        own, other = (summaries(net, at.dataset, part.tolist()) for part in (learnt, held_out))
        for layer in CELL:
            labels = (at.dataset.labels[part] for part in (learnt, held_out))
            accuracy = probe(own[layer].numpy(), next(labels), other[layer].numpy(), next(labels))
            yield counted(ACCURACY, accuracy, len(held_out), "%", layer=layer, **place)


def retains_information(stored: Stored) -> Finding:
    """Tell whether more of the picture can be decoded from the smaller stem, and classes are read as well."""
    found = numbers_of(stored)
    numbers = {
        f"{layer}, {compared}, {band} frequencies: R2": lead(found, R2, layer=layer, band=band, compared=compared)
        for layer in CELL
        for compared in (EQUAL, RAW)
        for band in Fidelity._fields
    }
    probes = {f"{layer}: accuracy of a probe": lead(found, ACCURACY, "points", layer=layer) for layer in CELL}
    leads = [numbers[f"{layer}, {EQUAL}, all frequencies: R2"] for layer in CELL]
    more = [above(number, 0) for number in leads]
    much = [number.value >= MUCH or None for number in leads]
    kept = [number.low is not None and below(number, 0) is not True for number in probes.values()]
    note = (
        "7x7 less 11x11. A linear decoder of 3x3 cells, 4 pixels wide in layer 1 and 8 in layer 2; high are "
        "frequencies above 1/8 cycle a pixel. The probe reads means of quarters."
    )
    return Finding(
        verdict(every([*more, *much, *kept]), False in more), numbers | probes, with_seeds(note, leads[0])
    )


class Fidelity(NamedTuple):
    """The share of held-out pixels' variance that is decoded: of all frequencies, and of the high ones."""

    all: float
    high: float


@dataclass(frozen=True)
class Cells:
    """A layer's maps, cut into cells of so many pixels.

    Attributes:
        net: The network.
        layer: Whose rectified maps are read.
        side: Of a cell in pixels, a multiple of the layer's stride.
        pooled: Average the positions of a cell, so that all networks give a number a map; else take all of them.
    """

    net: ConvNet
    layer: str
    side: int
    pooled: bool

    def features(self, x: Tensor) -> Tensor:
        """Return what is read around every inner cell of pictures [n, features, rows, columns]."""
        with torch.inference_mode():
            maps = self.net.features(self.layer).trace(x)[self.layer].maps
        each = self._positions
        rows, columns = (side // each * each for side in maps.shape[2:])
        maps = maps[..., :rows, :columns]
        cells = F.avg_pool2d(maps, each) if self.pooled else F.pixel_unshuffle(maps, each)
        size = [side - NEAR + 1 for side in cells.shape[2:]]
        return F.unfold(cells, NEAR).unflatten(2, size)

    def pixels(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Return the pixels of the inner cells [n, 3 * side * side, rows, columns]."""
        return F.pixel_unshuffle(self.window(x, rows, columns), self.side)

    def window(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Return the part of pictures that the inner cells cover."""
        return x[..., self.first : self.first + rows * self.side, self.first : self.first + columns * self.side]

    @property
    def first(self) -> int:
        """The first row and column of pixels that an inner cell covers: cells lie around their fields' middle."""
        field = receptive_field(self.net.spec, self.layer)
        middle = field.offset + (field.size - 1) / 2 + field.stride * (self._positions - 1) / 2
        return round(middle - (self.side - 1) / 2) + NEAR // 2 * self.side

    @property
    def _positions(self) -> int:
        return self.side // receptive_field(self.net.spec, self.layer).stride


def decoded(cells: Cells, x: Tensor, held_out: Tensor, seed: int = 0) -> Fidelity:
    """Fit a linear decoder on pictures, and say how much of others it gives back.

    Args:
        cells: What is read.
        x, held_out: Prepared pictures [n, 3, H, W].
        seed: Of the draw of cells.
    """
    weights, bias = _fitted(cells, x, seed)
    error, energy, lost, high = 0.0, 0.0, 0.0, 0.0
    for part in held_out.split(BATCH):
        features = cells.features(part)
        rows, columns = features.shape[2:]
        blocks = torch.einsum("nfhw,fp->nphw", features, weights) + bias[:, None, None]
        shown, wanted = F.pixel_shuffle(blocks, cells.side), cells.window(part, rows, columns)
        shown, wanted = (_middle(each, cells.first, part.shape[-1]) for each in (shown, wanted))
        error += float((shown - wanted).square().sum())
        energy += float((wanted - wanted.mean((0, 2, 3), keepdim=True)).square().sum())
        lost += high_energy((shown - wanted).numpy())
        high += high_energy(wanted.numpy())
    return Fidelity(1 - error / energy, 1 - lost / high)


def high_energy(pictures: np.ndarray) -> float:
    """Return the energy of pictures [n, 3, s, s] at high frequencies, edges faded out."""
    side = pictures.shape[-1]
    fade = np.hanning(side + 2)[1:-1]
    return float(energies(pictures * fade[:, None] * fade, side)[:, radii(side) >= HIGH].sum())


def _middle(pictures: Tensor, first: int, side: int) -> Tensor:
    """Cut the middle three eighths out of windows that begin at a pixel: where all networks have cells."""
    top, bottom = side * 5 // 16 - first, side * 11 // 16 - first
    return pictures[..., top:bottom, top:bottom]


def _fitted(cells: Cells, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return weights [features, pixels] and bias [pixels] of the ridge regression."""
    generator, squares, products, sums = torch.Generator().manual_seed(seed), 0.0, 0.0, 0.0
    n = 0
    for part in x.split(BATCH):
        features = cells.features(part)
        pixels = cells.pixels(part, *features.shape[2:])
        features, pixels = (each.permute(0, 2, 3, 1).flatten(0, 2) for each in (features, pixels))
        chosen = torch.randperm(len(features), generator=generator)[: DRAWN * len(part)]
        features, pixels = features[chosen], pixels[chosen]
        squares, products = squares + features.T @ features, products + features.T @ pixels
        sums, n = sums + torch.cat([features.sum(0), pixels.sum(0)]), n + len(chosen)
    d = len(squares)
    means = (sums / n).double()
    covariance = squares.double() / n - means[:d, None] * means[:d]
    across = products.double() / n - means[:d, None] * means[d:]
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)
    matrix = covariance * scale[:, None] * scale + PENALTY * torch.eye(d, dtype=torch.float64)
    weights = torch.linalg.solve(matrix, across * scale[:, None]) * scale[:, None]
    return weights.float(), (means[d:] - means[:d] @ weights).float()
