"""Pictures made to probe layers with: gratings, corners, edges between colours, and scrambled textures.

All are prepared pictures: 0 is grey, and their root mean square is `CONTRAST`.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

from ...network import ConvNet

MADE = "stimuli made in code"  # what records say of the pictures
CONTRAST = 60.0  # in grey levels: about that of photographs less their mean
FREQUENCIES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)  # of the gratings, in cycles a pixel
COLOURS = ((1, -1, 0), (-1, -1, 2), (2, -1, -1), (-1, 2, -1))  # differences of colour without one of brightness
OCTAVES, ORIENTATIONS = 3, 4  # whose statistics a scrambled texture keeps: octaves from 1/4 cycle a pixel downwards


def answers(net: ConvNet, layer: str, x: Tensor) -> Tensor:
    """Return the largest activation of each map of a layer in each prepared picture [n, maps]."""
    part = net.features(layer)
    with torch.inference_mode():
        return torch.cat([part.trace(each)[layer].maps.amax((2, 3)) for each in x.split(32)])


def grating(side: int, frequency: float, angle: float, phase: float) -> Tensor:
    """Return a grey grating [3, side, side]: cycles a pixel, direction as of `_along`, phase at the centre."""
    wave = torch.cos(2 * pi * frequency * _along(side, angle) + phase)
    return (sqrt(2) * CONTRAST * wave).float().expand(3, side, side)


def gratings(side: int) -> Tensor:
    """Return 256 gratings: 16 directions, four frequencies, four phases [256, 3, side, side]."""
    every = product(range(16), FREQUENCIES, range(4))
    return torch.stack([grating(side, each, pi * turn / 16, pi * phase / 2) for turn, each, phase in every])


def corners(side: int) -> Tensor:
    """Return 128 right angles, bright on dark and dark on bright: 16 directions, four places."""
    found = []
    for turn, shift in product(range(16), range(4)):
        one, other = (_step(side, pi * turn / 8 + more, 2 * shift) for more in (0, pi / 2))
        inside = (one + 1) * (other + 1) / 2 - 1
        found += [inside, -inside]
    return _of_one_contrast(torch.stack(found)[:, None].expand(-1, 3, -1, -1))


def colour_edges(side: int) -> Tensor:
    """Return 128 straight edges between two colours of one brightness: 16 directions, two places."""
    edges = [_step(side, pi * turn / 8, 4 * shift) for turn, shift in product(range(16), range(2))]
    colours = torch.tensor(COLOURS, dtype=torch.float64)[:, :, None, None]
    return _of_one_contrast(torch.cat([edge * colours for edge in edges]))


def scrambled(pictures: Tensor, corner: tuple[int, int], side: int, rounds: int = 6, seed: int = 0) -> Tensor:
    """Return textures like a square of each picture, in another layout (Heeger & Bergen, 1995) [n, 3, side, side].

    From noise on, the values of the pixels, and the answers of oriented filters of several octaves, are given the
    histograms that they have in the square, over and over. Colours are told apart along the square's own axes.
    """
    top, left = corner
    square = (..., slice(top, top + side), slice(left, left + side))
    middle = pictures[square].mean((2, 3), keepdim=True)
    colours = (pictures[square] - middle).flatten(2)
    axes = torch.linalg.eigh(colours @ colours.transpose(1, 2)).eigenvectors.transpose(1, 2)
    whole = torch.einsum("nac,nchw->nahw", axes, pictures - middle)
    pixels, *wanted = (each[square].flatten(2).sort(-1).values for each in (whole, *bands(whole)))
    noise = torch.randn(whole[square].shape, generator=torch.Generator().manual_seed(seed))
    texture = _matched(noise, pixels)
    for _ in range(rounds):
        texture = _matched(together([*map(_matched, bands(texture), wanted)]), pixels)
    return torch.einsum("nac,nahw->nchw", axes, texture) + middle


def bands(pictures: Tensor) -> list[Tensor]:
    """Filter pictures [n, 3, h, w] by all filters of the bank."""
    spectrum = torch.fft.fft2(pictures)
    return [torch.fft.ifft2(spectrum * transfer).real for transfer in bank(*pictures.shape[-2:])]


def together(parts: list[Tensor]) -> Tensor:
    """Undo `bands`: filter every band once more, turned around, and add them up."""
    transfers = bank(*parts[0].shape[-2:])
    spectra = (torch.fft.fft2(part) * each.conj() for part, each in zip(parts, transfers, strict=True))
    return torch.fft.ifft2(sum(spectra)).real


@cache
def bank(height: int, width: int) -> Tensor:
    """Return transfer functions whose squares add up to 1: above, octaves by directions, below [14, h, w]."""
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius, angle = np.hypot(down, across), np.arctan2(down, across)
    # Each lets everything below an edge pass, nothing from twice that on, and falls like a cosine in between.
    octaves = [np.log2(np.maximum(radius, 1e-9) * 2 ** (octave + 2)) for octave in range(OCTAVES + 1)]
    low = [np.cos(pi / 2 * np.clip(octave, 0, 1)) for octave in octaves]
    found = [np.sqrt(1 - low[0] ** 2)]
    for wide, narrow in pairwise(low):
        ring = np.sqrt(np.maximum(wide**2 - narrow**2, 0))
        for turn in range(ORIENTATIONS):
            across_edges = np.cos(angle - pi * turn / ORIENTATIONS) ** 3
            found.append(1j * ring * across_edges / sqrt(1.25))  # cos^6 over four directions adds up to 1.25
    return torch.from_numpy(np.stack([*found, low[-1]])).to(torch.complex64)


def _along(side: int, angle: float) -> Tensor:
    """Return how far each pixel lies from the centre in a direction: 0 is to the right, pi/2 down [side, side]."""
    steps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]


def _step(side: int, angle: float, shift: float) -> Tensor:
    """Return -1 on one side of a line and 1 on the other, a pixel wide between [side, side]."""
    return (2 * (_along(side, angle) - shift)).clamp(-1, 1)


def _of_one_contrast(stimuli: Tensor) -> Tensor:
    return (CONTRAST * stimuli / stimuli.square().mean((1, 2, 3), keepdim=True).sqrt()).float()


def _matched(values: Tensor, histogram: Tensor) -> Tensor:
    """Give values [n, 3, h, w] a histogram [n, 3, h * w], keeping their order."""
    order = values.flatten(2).argsort(-1)
    return torch.empty_like(histogram).scatter_(2, order, histogram).view_as(values)
