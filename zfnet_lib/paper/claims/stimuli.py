"""Pictures made to probe layers with: gratings, corners, edges between colours, and scrambled textures.

All are prepared pictures: 0 is grey, and their root mean square is `CONTRAST`.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

MADE = "stimuli made in code"
"""What records say of the pictures."""

CONTRAST = 60.0
"""Root mean square of a stimulus, in grey levels: about that of photographs less their mean."""

FREQUENCIES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
"""Of the gratings, in cycles a pixel."""

COLOURS = ((1, -1, 0), (-1, -1, 2), (2, -1, -1), (-1, 2, -1))
"""Differences of colour without a difference of brightness: red to green, blue to yellow, red to cyan …."""

OCTAVES, ORIENTATIONS = 3, 4
"""Bands whose statistics a scrambled texture keeps: octaves from 1/4 cycle a pixel downwards."""


def grating(side: int, frequency: float, angle: float, phase: float) -> Tensor:
    """Return a grey sinusoidal grating [3, side, side].

    Args:
        side: Pixels.
        frequency: Cycles a pixel.
        angle: Of the direction in which it varies: 0 is from left to right, pi/2 downwards.
        phase: At the centre, in radians.
    """
    along = _along(side, angle)
    return (sqrt(2) * CONTRAST * torch.cos(2 * pi * frequency * along + phase)).float().expand(3, side, side)


def gratings(side: int) -> Tensor:
    """Return 256 gratings: 16 directions, four frequencies, four phases [256, 3, side, side]."""
    return torch.stack(
        [
            grating(side, frequency, pi * turn / 16, pi * phase / 2)
            for turn in range(16)
            for frequency in FREQUENCIES
            for phase in range(4)
        ]
    )


def corners(side: int) -> Tensor:
    """Return 128 right angles, bright on dark and dark on bright: 16 directions, four places."""
    found = []
    for turn in range(16):
        for shift in range(4):
            one, other = (_step(side, pi * turn / 8 + more, 2 * shift) for more in (0, pi / 2))
            inside = (one + 1) * (other + 1) / 2 - 1
            found += [inside, -inside]
    return _even(torch.stack(found)[:, None].expand(-1, 3, -1, -1))


def colour_edges(side: int) -> Tensor:
    """Return 128 straight edges between two colours of one brightness: 16 directions, two places."""
    found = [
        _step(side, pi * turn / 8, 4 * shift) * torch.tensor(colour, dtype=torch.float64)[:, None, None]
        for turn in range(16)
        for shift in range(2)
        for colour in COLOURS
    ]
    return _even(torch.stack(found))


def scrambled(pictures: Tensor, corner: tuple[int, int], side: int, rounds: int = 6, seed: int = 0) -> Tensor:
    """Return textures with the statistics of a square of each picture, and another layout (Heeger & Bergen, 1995).

    From noise on, the values of the pixels, and the answers of oriented filters of several octaves, are given the
    histograms that they have in the square, over and over. Colours are told apart along the square's own axes.

    Args:
        pictures: [n, 3, H, W].
        corner: Top and left of the square.
        side: Of the square, in pixels.
        rounds: How often.
        seed: Of the noise.

    Returns:
        [n, 3, side, side].
    """
    top, left = corner
    window = (..., slice(top, top + side), slice(left, left + side))
    axes, middle = _colour_axes(pictures[window])
    whole = torch.einsum("nac,nchw->nahw", axes, pictures - middle)
    pixels, *bands = (_histogram(each[window]) for each in (whole, *_bands(whole)))
    generator = torch.Generator().manual_seed(seed)
    texture = _matched(torch.randn(whole[window].shape, generator=generator), pixels)
    for _ in range(rounds):
        parts = [_matched(*pair) for pair in zip(_bands(texture), bands, strict=True)]
        texture = _matched(_together(parts), pixels)
    return torch.einsum("nac,nahw->nchw", axes, texture) + middle


def _along(side: int, angle: float) -> Tensor:
    """Return how far each pixel lies from the centre in a direction [side, side]."""
    steps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]


def _step(side: int, angle: float, shift: float) -> Tensor:
    """Return -1 on one side of a line and 1 on the other, a pixel wide between [side, side]."""
    return (2 * (_along(side, angle) - shift)).clamp(-1, 1)


def _even(stimuli: Tensor) -> Tensor:
    """Give all stimuli the same contrast."""
    return (CONTRAST * stimuli / stimuli.square().mean((1, 2, 3), keepdim=True).sqrt()).float()


def _colour_axes(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the principal axes of each patch's colours [n, 3, 3], rows, and their mean [n, 3, 1, 1]."""
    middle = patches.mean((2, 3), keepdim=True)
    colours = (patches - middle).flatten(2)
    _, axes = torch.linalg.eigh(colours @ colours.transpose(1, 2))
    return axes.transpose(1, 2), middle


def _bands(pictures: Tensor) -> list[Tensor]:
    """Filter pictures [n, 3, h, w] by all filters of the bank."""
    spectrum = torch.fft.fft2(pictures)
    return [torch.fft.ifft2(spectrum * transfer).real for transfer in bank(*pictures.shape[-2:])]


def _together(bands: list[Tensor]) -> Tensor:
    """Undo `_bands`: filter every band once more, turned around, and add them up."""
    transfers = bank(*bands[0].shape[-2:])
    spectra = (torch.fft.fft2(band) * each.conj() for band, each in zip(bands, transfers, strict=True))
    return torch.fft.ifft2(sum(spectra)).real


def _histogram(values: Tensor) -> Tensor:
    """Return the values of each picture and colour in order [n, 3, h * w]."""
    return values.flatten(2).sort(-1).values


def _matched(values: Tensor, histogram: Tensor) -> Tensor:
    """Give values [n, 3, h, w] a histogram, keeping their order."""
    order = values.flatten(2).argsort(-1)
    return torch.empty_like(histogram).scatter_(2, order, histogram).view_as(values)


@cache
def bank(height: int, width: int) -> Tensor:
    """Return transfer functions whose squares add up to 1: what lies above, octaves by directions, what lies below.

    Returns:
        complex64 [2 + OCTAVES * ORIENTATIONS, height, width], frequencies in the order of `np.fft.fftfreq`.

    Example:
        >>> bool(torch.allclose(bank(24, 24).abs().square().sum(0), torch.ones(24, 24)))
        True
    """
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius, angle = np.hypot(down, across), np.arctan2(down, across)
    low = [_lowpass(radius, 1 / 2 ** (octave + 2)) for octave in range(OCTAVES + 1)]
    found = [np.sqrt(1 - low[0] ** 2)]
    for wide, narrow in pairwise(low):
        ring = np.sqrt(np.maximum(wide**2 - narrow**2, 0))
        for turn in range(ORIENTATIONS):
            across_edges = np.cos(angle - pi * turn / ORIENTATIONS) ** 3
            found.append(1j * ring * across_edges / sqrt(1.25))  # cos^6 over four directions adds up to 1.25
    return torch.from_numpy(np.stack([*found, low[-1]])).to(torch.complex64)


def _lowpass(radius: np.ndarray, edge: float) -> np.ndarray:
    """Return a transfer function: 1 up to a frequency, 0 from twice that on, a quarter of a cosine between."""
    octave = np.log2(np.maximum(radius, 1e-9) / edge)
    return np.cos(pi / 2 * np.clip(octave, 0, 1))
