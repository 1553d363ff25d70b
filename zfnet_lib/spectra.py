"""What the eye sees in first-layer filters and layer-2 projections, as numbers (section 4.1, Fig. 5).

Frequencies are radial and in cycles a pixel: 0.5 is a pattern that changes with every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .files import ZfnetError

BANDS = {"low": (0.0, 1 / 8), "middle": (1 / 8, 1 / 4), "high": (1 / 4, 1.0)}
"""Bands of radial frequencies; 1/8 and 1/4 are half the frequencies at which strides of 4 and 2 pixels sample."""

GRID = 64
"""Filters are transformed on a grid of this side, zeros around them, so that small ones have fine spectra too."""

FAINT = 0.05
"""Filters with less than this share of the median RMS are faint."""


class SpectrumError(ZfnetError, ValueError):
    """Filters or projections that have no spectrum."""


@dataclass(frozen=True)
class Stem:
    """A first layer in numbers; shares are of its filters, in percent.

    Attributes:
        rms_ratio: The largest RMS of a filter over the median.
        silent: Filters that no picture excites.
        faint: Filters with an RMS under 5 % of the median.
        noisy: Filters that cannot be told from noise (`resembles_noise`).
        dead: Filters that are any of the three.
        peaks: By band, live filters whose spectrum is largest there.
        energy: By band, the mean share of a live filter's energy, in percent.
        above: The mean share of a live filter's energy above half the frequency at which its stride samples.
    """

    rms_ratio: float
    silent: float
    faint: float
    noisy: float
    dead: float
    peaks: dict[str, float]
    energy: dict[str, float]
    above: float


@dataclass(frozen=True)
class Grid:
    """What projections show of a sampling grid.

    Attributes:
        above: Percent of their energy above half the sampling frequency, which the grid cannot hold.
        near: Percent of it within a quarter of the sampling frequency of that frequency.
        excess: How far the frequency of the grid itself stands out from its neighbours; 1 is no excess.
    """

    above: float
    near: float
    excess: float


def stem(weights: np.ndarray, stride: int, largest: np.ndarray) -> Stem:
    """Describe a first layer by numbers (Fig. 5 a-c).

    Args:
        weights: Its filters [maps, 3, k, k].
        stride: Pixels from one position of a filter to the next.
        largest: The largest activation of each filter over many pictures [maps].

    Raises:
        SpectrumError: Weights of another shape.
    """
    size = rms(weights)
    silent, faint, noisy = faults(weights, largest)
    dead = silent | faint | noisy
    live = weights[~dead]
    peaks = peak_frequencies(live)
    return Stem(
        float(size.max() / np.median(size)),
        *map(_percent, (silent, faint, noisy, dead)),
        peaks={name: _percent((low <= peaks) & (peaks < high)) for name, (low, high) in BANDS.items()},
        energy={name: _percent(energy_between(live, *band)) for name, band in BANDS.items()},
        above=_percent(energy_between(live, 1 / (2 * stride), 1.0)),
    )


def faults(weights: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which filters are silent, which are faint, and which resemble noise; any of it makes them dead [maps].

    Args:
        weights, largest: As for `stem`.
    """
    size = rms(weights)
    return np.asarray(largest) <= 0, size < FAINT * np.median(size), resembles_noise(weights)


def rms(weights: np.ndarray) -> np.ndarray:
    """Return the root mean square of each filter [maps] (section 3)."""
    return np.sqrt(np.square(_filters(weights)).mean((1, 2, 3)))


def energies(pictures: np.ndarray, side: int) -> np.ndarray:
    """Return the energy of each picture by frequency, summed over the colours.

    Args:
        pictures: [n, 3, h, w].
        side: Of the grid, at least h and w; zeros fill it.

    Returns:
        [n, side, side], frequencies in the order of `np.fft.fftfreq`.
    """
    return np.square(np.abs(np.fft.fft2(pictures, (side, side)))).sum(1)


def radii(side: int) -> np.ndarray:
    """Return the radial frequency of each place of a spectrum [side, side].

    Example:
        >>> float(radii(8)[0, 2]), float(radii(8)[0, 4])
        (0.25, 0.5)
    """
    along = np.fft.fftfreq(side)
    return np.hypot(along[:, None], along[None, :])


def energy_between(weights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of each filter's energy at radial frequencies from `low` to under `high` [maps]."""
    energy, radius = energies(_filters(weights), GRID), radii(GRID)
    return energy[:, (low <= radius) & (radius < high)].sum(1) / energy.sum((1, 2))


def peak_frequencies(weights: np.ndarray) -> np.ndarray:
    """Return the radial frequency at which each filter's spectrum is largest [maps]."""
    energy = energies(_filters(weights), GRID).reshape(len(weights), GRID**2)
    return radii(GRID).ravel()[energy.argmax(1)]


def dip(values: np.ndarray) -> float:
    """Return Hartigan's dip: how far the distribution of values lies from the nearest one with a single mode.

    For every value as the mode, the steps before it are compared with the greatest convex curve beneath them, and
    those after it with the least concave curve above. Two equal clusters have a dip of 0.25, which is the largest.

    Example:
        >>> dip(np.array([0.0, 0.0, 1.0, 1.0])), dip(np.arange(100.0)) <= 0.01
        (0.25, True)
    """
    places, counts = np.unique(np.asarray(values, float), return_counts=True)
    upper = np.cumsum(counts) / counts.sum()
    lower = upper - counts / counts.sum()
    rises = [_gap(places[: i + 1], lower[: i + 1], upper[: i + 1]) for i in range(len(places))]
    falls = [_gap(-places[i:][::-1], 1 - upper[i:][::-1], 1 - lower[i:][::-1]) for i in range(len(places))]
    return float(min(np.maximum(rises, falls)) / 2)


def resembles_noise(weights: np.ndarray) -> np.ndarray:
    """Tell which filters cannot be told from noise, such as they were before training [maps].

    Structure gathers energy at few frequencies, so its spectrum has a low entropy. A filter resembles noise when
    its entropy exceeds that of the lowest twentieth of as large filters of independent normal weights.
    """
    return _entropy(_filters(weights)) > _least_entropy_of_noise(weights.shape[-1])


def grid(projections: np.ndarray, period: int) -> Grid:
    """Describe what projections show of a sampling grid (Fig. 5 d, e).

    Where projections carry the blocks of the grid, their mean spectrum has peaks at 1/period along, across and
    diagonally. For the excess, the geometric mean of the energy there is divided by that of the ring of frequencies
    around each, outside the width of a peak. Every projection counts alike.

    Args:
        projections: [n, 3, s, s]; those that are 0 are left out.
        period: Pixels from one sample to the next.

    Raises:
        SpectrumError: No projection but zeros, or too small ones to tell the grid from its neighbours.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(50, 3, 40, 40))
        >>> noise[..., ::4, ::4] += 2
        >>> grid(noise, 4).excess > 10, 0.7 < grid(noise, 5).excess < 1.5
        (True, True)
    """
    side = projections.shape[-1]
    if side < 6 * period:
        raise SpectrumError(f"projections of {side} pixels are too small for a grid of {period}; take larger ones")
    mean = np.fft.ifftshift(mean_spectrum(projections))
    places = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    distances = [_distance(len(mean), row / period, column / period) for row, column in places]
    peaks = [np.log(mean[distance <= 0.5 / side]).mean() for distance in distances]
    rings = [np.log(mean[(2.5 / side <= distance) & (distance <= 4 / side)]).mean() for distance in distances]
    near = np.min(distances, axis=0) <= 1 / (4 * period)
    return Grid(
        float(100 * mean[radii(len(mean)) >= 1 / (2 * period)].sum()),
        float(100 * mean[near].sum()),
        float(np.exp(np.mean(peaks) - np.mean(rings))),
    )


def mean_spectrum(projections: np.ndarray) -> np.ndarray:
    """Return the mean spectrum of projections, each counted alike, the frequency 0 in the middle.

    A window keeps the edges, at which projections are cut, from spreading over all frequencies.

    Args:
        projections: [n, 3, s, s]; those that are 0 are left out.

    Returns:
        [2 s, 2 s], from -0.5 to under 0.5 cycles a pixel.

    Raises:
        SpectrumError: No projection but zeros.
    """
    side = projections.shape[-1]
    kept = np.asarray(projections, np.float64)[np.abs(projections).max((1, 2, 3)) > 0]
    if not len(kept):
        raise SpectrumError("all projections are 0, so they have no spectrum; take maps that are active")
    window = np.hanning(side + 2)[1:-1]
    energy = energies(kept * window[:, None] * window[None, :], 2 * side)
    return np.fft.fftshift((energy / energy.sum((1, 2), keepdims=True)).mean(0))


def _distance(side: int, row: float, column: float) -> np.ndarray:
    """Return how far each place of a spectrum lies from a frequency [side, side]; 0.5 and -0.5 are the same."""
    across, along = (np.abs((np.fft.fftfreq(side) - place + 0.5) % 1 - 0.5) for place in (row, column))
    return np.hypot(across[:, None], along[None, :])


def _gap(places: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Return how far steps rise above the convex hull beneath them, the last step, at the mode, left out."""
    hull: list[int] = []
    for i in range(len(places)):
        while len(hull) > 1 and _slope(places, lower, *hull[-2:]) >= _slope(places, lower, hull[-1], i):
            hull.pop()
        hull.append(i)
    beneath = np.interp(places, places[hull], lower[hull])
    return float(np.max(upper[:-1] - beneath[:-1], initial=0))


def _slope(places: np.ndarray, values: np.ndarray, i: int, j: int) -> float:
    return (values[j] - values[i]) / (places[j] - places[i])


def _percent(shares: np.ndarray) -> float:
    """Return the mean in percent; NaN of nothing."""
    return float(100 * shares.mean()) if shares.size else float("nan")


def _filters(weights: np.ndarray) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 4:
        raise SpectrumError(f"filters are an array [maps, channels, k, k]; given {list(weights.shape)}")
    return weights


def _entropy(filters: np.ndarray) -> np.ndarray:
    energy = energies(filters, filters.shape[-1]).reshape(len(filters), -1)
    share = energy / np.maximum(energy.sum(1, keepdims=True), 1e-300)
    return -(share * np.log(np.maximum(share, 1e-300))).sum(1)


@cache
def _least_entropy_of_noise(side: int) -> float:
    noise = np.random.default_rng(0).normal(size=(2000, 3, side, side))
    return float(np.quantile(_entropy(noise), 0.05))
