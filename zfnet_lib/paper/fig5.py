"""What the eye sees in first-layer filters and layer-2 projections, as numbers (section 4.1, Fig. 5).

Frequencies are radial and in cycles a pixel: 0.5 is a pattern that changes with every pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.colors import LogNorm

from ..architecture import ARCHITECTURES
from ..datasets import Dataset
from ..files import ZfnetError
from ..images import FigureError, projection_image
from ..network import ConvNet
from ..strongest import strongest
from ..weights import CheckpointError, load_network
from .evolution import projected
from .plots import (
    BLUE,
    DPI,
    GREY,
    HEAT,
    NORMAL,
    ORANGE,
    PALE,
    SMALL,
    VERMILION,
    WIDTH,
    Figure,
    Sheet,
    grid_of_filters,
    in_square,
)
from .records import Stopwatch
from .setting import Source, describe_pictures, pictures_of, trained_at_hand, training_of
from .tables import Note, Table
from .trainings import SHIPPED

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


# Figure 5: first and second layers of several networks, and what the eye sees of them as numbers.

MOST = 256
"""Pictures that are looked through at most, evenly spaced over the data set."""

CAVEATS = {
    "smoke": "Narrow networks after seconds of training on small drawn pictures: this tests the machinery, and "
    "says nothing about stems.",
    "tiny": "Tiny-ImageNet's pictures of 64 pixels, enlarged to 128, hold nothing above half of the half-sampling "
    "frequency, that is above 1/4 cycle a pixel. What networks trained on them show of frequencies is no evidence; "
    "AlexNet, trained on ImageNet at its own resolution, is, and so are stems trained on Caltech-101.",
    "paper": "One training of each network: the spread over seeds is unknown.",
}


@dataclass(frozen=True)
class Compared:
    """A network of Fig. 5.

    Attributes:
        title: What it is called.
        layer_1, layer_2: The letters of its panels in the caption.
        name: Of the architecture that the profile trains, or of weights.
        clip: Which filters the training renormalises.
    """

    title: str
    layer_1: str
    layer_2: str
    name: str
    clip: str = "all"

    def at_hand(self, profile: str) -> ConvNet | None:
        """Return the network; None where it was not trained or fetched."""
        if self.name in ARCHITECTURES:
            return trained_at_hand(profile, self.name, self.clip)
        try:
            return load_network(self.name)
        except CheckpointError:
            return None

    def command(self, profile: str) -> str:
        """Return what brings it."""
        if self.name in ARCHITECTURES:
            return training_of(profile, self.name, clip=self.clip).command
        if self.name in SHIPPED:
            return f"{SHIPPED[self.name].training.command} && zfnet ship {self.name}"
        return f"zfnet fetch {self.name}"


NETWORKS = (
    Compared("zfnet, not renormalised", "(a) ", "", "zfnet", "none"),
    Compared("krizhevsky", "(b) ", "(d) ", "krizhevsky"),
    Compared("zfnet", "(c) ", "(e) ", "zfnet"),
    Compared("AlexNet, ImageNet", "", "", "alexnet-imagenet"),
)

NATIVE = (
    Compared("krizhevsky, Caltech-101", "", "", "krizhevsky-caltech-101-stem"),
    Compared("zfnet, Caltech-101", "", "", "zfnet-caltech-101-stem"),
)
"""Trained on pictures of more pixels than the input has: what these show of frequencies was there to be learnt."""


@dataclass(frozen=True)
class Layers:
    """The first two layers of one network.

    Attributes:
        filters: Of layer 1 [maps, 3, k, k].
        stride: Of layer 1, in pixels.
        stem: Layer 1 in numbers.
        projections: [n, 3, s, s]: the strongest unit of every active map of layer 2.
        grids: What `projections` show of the grids of layer 1 and of the pool behind it, by period in pixels.
        untrained: The same with the weights that a training begins with.
    """

    filters: np.ndarray
    stride: int
    stem: Stem
    projections: np.ndarray
    grids: dict[int, Grid]
    untrained: dict[int, Grid]


@dataclass(frozen=True)
class Stems:
    """Fig. 5.

    Attributes:
        layers: By `Compared`; None where the network is not at hand.
        profile: For which.
        source: What it was computed from.
        seed: Of the draw of the maps that are shown.
    """

    layers: dict[Compared, Layers | None]
    profile: str
    source: Source
    seed: int

    @property
    def caveat(self) -> Note:
        """What these networks cannot show."""
        return Note(CAVEATS[self.profile])

    @property
    def filters(self) -> dict[str, np.ndarray | None]:
        """First-layer filters, panels (a) to (c) and AlexNet's."""
        return {one.layer_1 + one.title: found and found.filters for one, found in self.layers.items()}

    def projections(self, maps: int) -> dict[str, np.ndarray | None]:
        """Return projections of some maps of layer 2, drawn by seed: panels (d), (e) and AlexNet's."""
        return {
            one.layer_2 + one.title: found
            and np.random.default_rng(self.seed).permutation(found.projections)[:maps]
            for one, found in self.layers.items()
            if one.clip == "all"
        }

    @property
    def peaks(self) -> dict[str, tuple[np.ndarray, int] | None]:
        """The frequency at which each filter's spectrum is largest, in cycles a pixel, and the layer's stride."""
        return {
            one.layer_1 + one.title: found and (peak_frequencies(found.filters), found.stride)
            for one, found in self.layers.items()
        }

    @property
    def spectra(self) -> dict[str, tuple[np.ndarray, int] | None]:
        """The mean spectrum of the projections of layer 2, and the stride of layer 1."""
        return {
            one.layer_2 + one.title: found and (mean_spectrum(found.projections), found.stride)
            for one, found in self.layers.items()
            if one.clip == "all"
        }

    @property
    def features(self) -> Table:
        """Filters that dominate, and filters that are dead."""
        columns = {
            "filters": "Filters",
            "ratio": "RMS, largest / median",
            "silent": "Silent, %",
            "faint": "Faint, %",
            "noisy": "Noise, %",
            "dead": "Dead (any), %",
        }
        return self._table(columns, _features)

    @property
    def bands(self) -> Table:
        """Where the energy of the live filters lies, and where their spectra are largest."""
        columns = {"above": "Energy above half the sampling frequency, %"}
        columns |= {f"energy {band}": f"Energy, {band}, %" for band in BANDS}
        columns |= {f"peaks {band}": f"Filters, {band}, %" for band in BANDS}
        return self._table(columns, _bands)

    @property
    def artefacts(self) -> Table:
        """What the projections of layer 2 show of the sampling grids."""
        columns = {
            "above": "Energy above half the sampling frequency, %",
            "near": "Energy near it, %",
            "own": "Excess at the grid of layer 1",
            "own untrained": "untrained",
            "pool": "Excess at the grid of its pool",
            "pool untrained": "untrained ",
        }
        return self._table(columns, _artefacts)

    def _table(self, columns: dict[str, str], row) -> Table:
        """Return a row a network; of one that is not at hand, the command that brings it."""
        first = next(iter(columns))
        rows = [
            {"network": one.title} | (row(found) if found else {first: f"not run: `{one.command(self.profile)}`"})
            for one, found in self.layers.items()
        ]
        return Table({"network": "Network"} | columns, rows)


def measure(profile: str, pictures: str = "", seed: int = 0) -> Stems:
    """Compare the first two layers of the networks of Fig. 5, and of ImageNet's AlexNet.

    `smoke` trains on the spot; the other profiles show what was trained here, or ships.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set for the strongest units; the profile's by default.
        seed: Of the draw of the maps that are shown, and of untrained weights.

    Raises:
        ZfnetError: Unknown profile or data set.
    """
    watch, dataset = Stopwatch(), pictures_of(profile, pictures)
    compared = NETWORKS if profile == "smoke" else NETWORKS + NATIVE
    nets = {one: one.at_hand(profile) for one in compared}
    layers = {one: net and _measured(net, dataset, seed) for one, net in nets.items()}
    found = "; ".join(one.title for one, net in nets.items() if net) or "none"
    source = Source(found, f"at most {MOST} of {describe_pictures(dataset)}", watch.provenance(seed))
    return Stems(layers, profile, source, seed)


def _measured(net: ConvNet, dataset: Dataset, seed: int) -> Layers:
    first, second = net.spec.convs[:2]
    stride, pooled = first.stride, first.stride * first.pool.stride
    largest, shown = largest_and_shown(net, dataset)
    _, beginning = largest_and_shown(ConvNet(net.spec.features(second.name), net.preparation, seed), dataset)
    filters = net.get_submodule(first.name).weight.detach().numpy()
    grids, untrained = ({period: grid(each, period) for period in (stride, pooled)} for each in (shown, beginning))
    return Layers(filters, stride, stem(filters, stride, largest), shown, grids, untrained)


def largest_and_shown(net: ConvNet, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest activation of each map of layer 1, and projections of the strongest units of layer 2."""
    first, second = (conv.name for conv in net.spec.convs[:2])
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(MOST, len(dataset))).round().astype(int))
    found = strongest(net, dataset, 1, [first, second], rows=rows)
    active = (found[second].score[:, 0] > 0).nonzero().flatten().tolist()
    units = [found[second].units(map_)[0] for map_ in active]
    return found[first].score[:, 0].numpy(), projected(net, dataset, units).numpy()


def _features(found: Layers) -> dict[str, object]:
    maps, _, side, _ = found.filters.shape
    names = ("silent", "faint", "noisy", "dead")
    return {
        "filters": f"{maps} of {side}x{side}, stride {found.stride}",
        "ratio": round(found.stem.rms_ratio, 1),
    } | {name: round(getattr(found.stem, name), 1) for name in names}


def _bands(found: Layers) -> dict[str, object]:
    measured = {"energy": found.stem.energy, "peaks": found.stem.peaks}
    shares = {f"{what} {band}": round(values[band], 1) for what, values in measured.items() for band in BANDS}
    return {"above": round(found.stem.above, 1)} | shares


def _artefacts(found: Layers) -> dict[str, object]:
    own, pool = found.grids
    return {
        "above": round(found.grids[own].above, 1),
        "near": round(found.grids[own].near, 1),
        "own": round(found.grids[own].excess, 2),
        "own untrained": round(found.untrained[own].excess, 2),
        "pool": round(found.grids[pool].excess, 2),
        "pool untrained": round(found.untrained[pool].excess, 2),
    }


# Fig. 5: filters of first layers, projections of second layers, and their frequencies.

MARGIN, SPACE, LABEL = 0.05, 0.25, 0.3
"""Inches: around the panels, between them, and for the name above each."""
EDGES = (1 / 8, 1 / 4)
"""Cycles a pixel: where the middle band begins and ends."""
DECADES = 4
"""Of energy that a spectrum's colours span."""


def layer_1(panels: Mapping[str, np.ndarray | None], title: str = "Layer 1", columns: int = 2) -> Figure:
    """Draw the filters of first layers, each layer at one contrast (Fig. 5 a-c).

    Args:
        panels: By name: weights [maps, 3, k, k]; None is drawn as not run.
        title: Of the figure.
        columns: Panels side by side.

    Raises:
        FigureError: No panels, or weights of another shape.
    """
    return _panels(panels, title, columns, grid_of_filters)


def layer_2(panels: Mapping[str, Sequence[np.ndarray] | None], title: str = "Layer 2", columns: int = 2) -> Figure:
    """Draw projections of units of second layers, each at a contrast of its own (Fig. 5 d, e).

    Args:
        panels: By name: projections [3, s, s], one a map; None is drawn as not run.
        title: Of the figure.
        columns: Panels side by side.

    Raises:
        FigureError: No panels, or projections of another shape.
    """
    return _panels(panels, title, columns, _mosaic)


def frequencies(panels: Mapping[str, tuple[np.ndarray, int] | None]) -> Figure:
    """Draw at which frequency each filter's spectrum is largest; a dot a filter.

    A line across each row marks half the frequency at which the layer's stride samples.

    Args:
        panels: By name: frequencies [maps] in cycles a pixel, and the layer's stride; None is drawn as not run.
    """
    figure = Figure(0.9 + 0.5 * len(panels))
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    for edge in EDGES:
        axes.axvline(edge, color=PALE, linewidth=1.2, zorder=0)
    for line, found in enumerate(panels.values()):
        if found is None:
            axes.text(0.01, line, "not run", fontsize=SMALL, color=GREY, va="center")
            continue
        peaks, stride = found
        axes.plot(peaks, line + rng.uniform(-0.28, 0.28, len(peaks)), ".", color=BLUE, markersize=4, alpha=0.7)
        axes.plot([1 / (2 * stride)] * 2, [line - 0.4, line + 0.4], color=VERMILION, linewidth=1.6)
    axes.set(xlim=(-0.012, 0.72), ylim=(len(panels) - 0.5, -0.5))
    axes.set_yticks(range(len(panels)), panels, fontsize=SMALL)
    axes.set_xlabel("largest frequency of a filter, cycles a pixel", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    words = "thick line: half the frequency\nat which the stride samples"
    axes.text(0.72, len(panels) - 0.6, words, fontsize=SMALL, color=VERMILION, ha="right", va="bottom")
    for place, band in zip((0.0625, 0.1875, 0.485), ("low", "middle", "high"), strict=True):
        axes.text(place, -0.58, band, fontsize=SMALL, color=GREY, ha="center", va="bottom")
    figure.tight_layout()
    return figure


def spectra(panels: Mapping[str, tuple[np.ndarray, int] | None]) -> Figure:
    """Draw mean spectra of projections, with circles around the frequencies of layer 1's sampling grid.

    Args:
        panels: By name: energy [t, t], the frequency 0 in the middle, and the stride; None is drawn as not run.
    """
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(2.8 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, found) in zip(grid.flat, panels.items(), strict=False):
        axes.set_title(name, fontsize=NORMAL, loc="left", pad=9)  # clear of the circles
        ticks = [-0.5, -0.25, 0, 0.25, 0.5]
        axes.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5), xticks=ticks, yticks=ticks, aspect="equal")
        axes.tick_params(labelsize=SMALL)
        axes.set_xlabel("cycles a pixel", fontsize=SMALL)
        if found is None:
            axes.text(0, 0, "not run", fontsize=NORMAL, color=GREY, ha="center", va="center")
            continue
        energy, stride = found
        scale = LogNorm(energy.max() / 10**DECADES, energy.max(), clip=True)
        axes.imshow(energy, cmap=HEAT, norm=scale, extent=(-0.5, 0.5, 0.5, -0.5))
        for row, column in np.ndindex(3, 3):
            if (row, column) != (1, 1):
                place = (column - 1) / stride, (row - 1) / stride
                axes.plot(*place, "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE, clip_on=False)
    figure.tight_layout()
    return figure


def _panels(panels: Mapping, title: str, columns: int, draw: Callable[[np.ndarray, int], np.ndarray]) -> Figure:
    """Draw panels in lines; `draw` turns what a panel shows into an array of a given width in pixels."""
    if not panels:
        raise FigureError("there is nothing to draw; give at least one panel")
    width = (WIDTH - 2 * MARGIN - (columns - 1) * SPACE) / columns
    arrays = {name: None if found is None else draw(found, int(width * DPI)) for name, found in panels.items()}
    heights = {name: 0.3 if array is None else array.shape[0] / DPI for name, array in arrays.items()}
    names = list(panels)
    lines = [names[start : start + columns] for start in range(0, len(names), columns)]
    steps = [LABEL + max(heights[name] for name in line) + SPACE / 2 for line in lines]
    sheet = Sheet(Sheet.HEAD + sum(steps), title)
    for place, line in enumerate(lines):
        y = Sheet.HEAD + sum(steps[:place])
        for column, name in enumerate(line):
            x, array = MARGIN + column * (width + SPACE), arrays[name]
            sheet.text(x, y + 0.12, name, NORMAL, across="left")
            if array is None:
                sheet.text(x, y + LABEL + 0.08, "not run", NORMAL, GREY, across="left")
            else:
                sheet.picture(array, x, y + LABEL, array.shape[1] / DPI, heights[name])
    return sheet.figure


def _mosaic(projections: Sequence[np.ndarray], width: int) -> np.ndarray:
    return in_square([projection_image(one) for one in projections], width)
