"""Fig. 5: first and second layers of several networks, and what the eye sees of them as numbers (section 4.1).

Frequencies are radial and in cycles a pixel: 0.5 is a pattern that changes with every pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LogNorm

from ..architecture import ARCHITECTURES
from ..datasets import Dataset
from ..files import ZfnetError
from ..images import projection_image
from ..network import ConvNet
from ..strongest import strongest
from ..weights import CheckpointError, load_network
from . import plots
from .fig4 import projected
from .plots import BLUE, GREY, HEAT, NORMAL, ORANGE, PALE, SMALL, VERMILION, Figure, grid_of_filters, panels
from .records import Sentence, Stopwatch, Table
from .setting import Source, at_hand, describe_pictures, pictures_of, training_of
from .trainings import SHIPPED

EDGES = (1 / 8, 1 / 4)
"""Where the middle frequencies begin and end: half the frequencies at which strides of 4 and 2 pixels sample."""
BANDS = {"low": (0.0, EDGES[0]), "middle": EDGES, "high": (EDGES[1], 1.0)}
GRID = 64
"""Filters are transformed on a grid of this side, zeros around them, so that small ones have fine spectra too."""
FAINT = 0.05
"""Filters with less than this share of the median RMS are faint."""
MOST = 256
"""Pictures that are looked through at most, evenly spaced over the data set."""

CAVEATS = {
    "smoke": Sentence(
        "Narrow networks after seconds of training on small drawn pictures: this tests the machinery, and "
        "says nothing about stems."
    ),
    "tiny": Sentence(
        "Tiny-ImageNet's pictures of 64 pixels, enlarged to 128, hold nothing above half of the half-sampling "
        "frequency, that is above 1/4 cycle a pixel. What networks trained on them show of frequencies is no "
        "evidence; AlexNet, trained on ImageNet at its own resolution, is, and so are stems trained on Caltech-101."
    ),
    "paper": Sentence("One training of each network: the spread over seeds is unknown."),
}
"""What the networks of a profile cannot show."""


class SpectrumError(ZfnetError, ValueError):
    """Filters or projections that have no spectrum."""


def stem(weights: np.ndarray, stride: int, largest: np.ndarray) -> dict[str, float]:
    """Describe filters [maps, 3, k, k] by shares in percent, given the largest activation of each (Fig. 5 a-c)."""
    size, (silent, faint, noisy) = rms(weights), faults(weights, largest)
    dead = silent | faint | noisy
    live = weights[~dead]
    peaks = peak_frequencies(live)
    shares = {"silent": silent, "faint": faint, "noisy": noisy, "dead": dead}
    shares["above"] = energy_between(live, 1 / (2 * stride), 1.0)
    for name, (low, high) in BANDS.items():
        shares[f"energy {name}"] = energy_between(live, low, high)
        shares[f"peaks {name}"] = (low <= peaks) & (peaks < high)
    percent = {name: float(100 * each.mean()) if each.size else float("nan") for name, each in shares.items()}
    return {"ratio": float(size.max() / np.median(size))} | percent


def faults(weights: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which filters are silent, faint, and like noise [maps]; any of it makes them dead."""
    size = rms(weights)
    return np.asarray(largest) <= 0, size < FAINT * np.median(size), resembles_noise(weights)


def rms(weights: np.ndarray) -> np.ndarray:
    """Return the root mean square of each filter [maps] (section 3)."""
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 4:
        raise SpectrumError(f"filters are an array [maps, channels, k, k]; given {list(weights.shape)}")
    return np.sqrt(np.square(weights).mean((1, 2, 3)))


def energies(pictures: np.ndarray, side: int) -> np.ndarray:
    """Return the energy of pictures [n, 3, h, w] by frequency, colours summed, zeros around: [n, side, side]."""
    return np.square(np.abs(np.fft.fft2(pictures, (side, side)))).sum(1)


def radii(side: int) -> np.ndarray:
    """Return the radial frequency of each place of a spectrum [side, side]."""
    along = np.fft.fftfreq(side)
    return np.hypot(along[:, None], along[None, :])


def energy_between(weights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of each filter's energy at radial frequencies from `low` to under `high` [maps]."""
    energy, radius = energies(np.asarray(weights, np.float64), GRID), radii(GRID)
    return energy[:, (low <= radius) & (radius < high)].sum(1) / energy.sum((1, 2))


def peak_frequencies(weights: np.ndarray) -> np.ndarray:
    """Return the radial frequency at which each filter's spectrum is largest [maps]."""
    energy = energies(np.asarray(weights, np.float64), GRID).reshape(len(weights), GRID**2)
    return radii(GRID).ravel()[energy.argmax(1)]


def resembles_noise(weights: np.ndarray) -> np.ndarray:
    """Tell which filters cannot be told from noise, such as they were before training [maps]."""
    # Structure gathers energy at few frequencies, so its spectrum has a low entropy. A filter resembles noise when
    # its entropy exceeds that of the lowest twentieth of as large filters of independent normal weights.
    return _entropy(weights) > _least_entropy_of_noise(weights.shape[-1])


def _entropy(filters: np.ndarray) -> np.ndarray:
    energy = energies(np.asarray(filters, np.float64), filters.shape[-1]).reshape(len(filters), -1)
    share = energy / np.maximum(energy.sum(1, keepdims=True), 1e-300)
    return -(share * np.log(np.maximum(share, 1e-300))).sum(1)


@cache
def _least_entropy_of_noise(side: int) -> float:
    noise = np.random.default_rng(0).normal(size=(2000, 3, side, side))
    return float(np.quantile(_entropy(noise), 0.05))


def dip(values: np.ndarray) -> float:
    """Return Hartigan's dip: how far the distribution of values lies from the nearest one with a single mode."""
    # For every value as the mode, the steps before it are compared with the greatest convex curve beneath them, and
    # those after it with the least concave curve above.
    places, counts = np.unique(np.asarray(values, float), return_counts=True)
    upper = np.cumsum(counts) / counts.sum()
    lower = upper - counts / counts.sum()
    rises = [_gap(places[: i + 1], lower[: i + 1], upper[: i + 1]) for i in range(len(places))]
    falls = [_gap(-places[i:][::-1], 1 - upper[i:][::-1], 1 - lower[i:][::-1]) for i in range(len(places))]
    return float(min(np.maximum(rises, falls)) / 2)


def _gap(places: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Return how far steps rise above the convex hull beneath them, the last step, at the mode, left out."""

    def slope(i: int, j: int) -> float:
        return (lower[j] - lower[i]) / (places[j] - places[i])

    hull: list[int] = []
    for i in range(len(places)):
        while len(hull) > 1 and slope(*hull[-2:]) >= slope(hull[-1], i):
            hull.pop()
        hull.append(i)
    beneath = np.interp(places, places[hull], lower[hull])
    return float(np.max(upper[:-1] - beneath[:-1], initial=0))


class Grid(NamedTuple):
    """What projections show of a sampling grid."""

    above: float  # percent of their energy above half the sampling frequency, which the grid cannot hold
    near: float  # percent of it within a quarter of the sampling frequency of that frequency
    excess: float  # how far the frequency of the grid itself stands out from its neighbours; 1 is no excess


def grid(projections: np.ndarray, period: int) -> Grid:
    """Describe what projections [n, 3, s, s] show of a grid with a sample every `period` pixels (Fig. 5 d, e)."""
    side = projections.shape[-1]
    if side < 6 * period:
        raise SpectrumError(f"projections of {side} pixels are too small for a grid of {period}; take larger ones")
    # Where projections carry the blocks of the grid, their mean spectrum has peaks at 1/period along, across and
    # diagonally. For the excess, the geometric mean of the energy there is divided by that of the ring of
    # frequencies around each, outside the width of a peak.
    mean = np.fft.ifftshift(mean_spectrum(projections))
    along = np.fft.fftfreq(len(mean))
    distances = []
    for place in np.ndindex(3, 3):
        if place != (1, 1):
            # The frequencies 0.5 and -0.5 are the same.
            across, down = (np.abs((along - (n - 1) / period + 0.5) % 1 - 0.5) for n in place)
            distances.append(np.hypot(across[:, None], down[None, :]))
    peaks = [np.log(mean[distance <= 0.5 / side]).mean() for distance in distances]
    rings = [np.log(mean[(2.5 / side <= distance) & (distance <= 4 / side)]).mean() for distance in distances]
    return Grid(
        float(100 * mean[radii(len(mean)) >= 1 / (2 * period)].sum()),
        float(100 * mean[np.min(distances, axis=0) <= 1 / (4 * period)].sum()),
        float(np.exp(np.mean(peaks) - np.mean(rings))),
    )


def mean_spectrum(projections: np.ndarray) -> np.ndarray:
    """Return the mean spectrum of projections [n, 3, s, s] but zeros: [2 s, 2 s], the frequency 0 in the middle."""
    side = projections.shape[-1]
    kept = np.asarray(projections, np.float64)[np.abs(projections).max((1, 2, 3)) > 0]
    if not len(kept):
        raise SpectrumError("all projections are 0, so they have no spectrum; take maps that are active")
    window = np.hanning(side + 2)[1:-1]
    energy = energies(kept * window[:, None] * window[None, :], 2 * side)
    return np.fft.fftshift((energy / energy.sum((1, 2), keepdims=True)).mean(0))


class Compared(NamedTuple):
    """A network of Fig. 5."""

    title: str
    name: str  # of the architecture that the profile trains, or of weights
    letters: tuple[str, str] = ("", "")  # of its layers 1 and 2 in the caption
    clip: str = "all"  # which filters the training renormalises

    def at_hand(self, profile: str) -> ConvNet | None:
        """Return the network; None where it was not trained or fetched."""
        if self.name in ARCHITECTURES:
            return at_hand(training_of(profile, self.name, clip=self.clip))
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
    Compared("zfnet, not renormalised", "zfnet", ("(a) ", ""), "none"),
    Compared("krizhevsky", "krizhevsky", ("(b) ", "(d) ")),
    Compared("zfnet", "zfnet", ("(c) ", "(e) ")),
    Compared("AlexNet, ImageNet", "alexnet-imagenet"),
)
NATIVE = (
    Compared("krizhevsky, Caltech-101", "krizhevsky-caltech-101-stem"),
    Compared("zfnet, Caltech-101", "zfnet-caltech-101-stem"),
)
"""Trained on pictures of more pixels than the input has: what these show of frequencies was there to be learnt."""


class Layers(NamedTuple):
    """The first two layers of one network."""

    filters: np.ndarray  # of layer 1 [maps, 3, k, k]
    stride: int  # of layer 1, in pixels
    projections: np.ndarray  # [n, 3, s, s]: the strongest unit of every active map of layer 2
    cells: dict[str, object]  # of the tables, by column


class Stems(NamedTuple):
    """Fig. 5."""

    layers: Mapping[Compared, Layers | None]  # None where the network is not at hand
    profile: str
    source: Source
    seed: int  # of the draw of the maps that are shown

    def panels(self, layer: int) -> dict[str, Layers | None]:
        """Return the networks whose layer 1 or 2 is drawn, by what stands above it."""
        drawn = {one: found for one, found in self.layers.items() if layer == 1 or one.clip == "all"}
        return {one.letters[layer - 1] + one.title: found for one, found in drawn.items()}


def measure(profile: str, pictures: str = "", seed: int = 0) -> Stems:
    """Compare the first two layers of the networks of Fig. 5, and of ImageNet's AlexNet."""
    watch, dataset = Stopwatch(), pictures_of(profile, pictures)
    nets = {one: one.at_hand(profile) for one in (NETWORKS if profile == "smoke" else NETWORKS + NATIVE)}
    layers = {one: net and describe(net, dataset, seed) for one, net in nets.items()}
    found = "; ".join(one.title for one, net in nets.items() if net) or "none"
    source = Source(found, f"at most {MOST} of {describe_pictures(dataset)}", watch.provenance(seed))
    return Stems(layers, profile, source, seed)


def describe(net: ConvNet, dataset: Dataset, seed: int = 0) -> Layers:
    """Measure the first two layers of a network; `seed` draws the untrained weights that they are compared with."""
    first, second = net.spec.convs[:2]
    largest, shown = largest_and_shown(net, dataset)
    _, beginning = largest_and_shown(ConvNet(net.spec.features(second.name), net.preparation, seed), dataset)
    filters = net.get_submodule(first.name).weight.detach().numpy()
    maps, _, *sides = filters.shape
    cells = {"filters": f"{maps} of {'x'.join(map(str, sides))}, stride {first.stride}"}
    cells |= {key: round(value, 1) for key, value in stem(filters, first.stride, largest).items()}
    for name, period in {"own": first.stride, "pool": first.stride * first.pool.stride}.items():
        found, untrained = grid(shown, period), grid(beginning, period)
        cells |= {f"{name} above": round(found.above, 1), f"{name} near": round(found.near, 1)}
        cells |= {name: round(found.excess, 2), f"{name} untrained": round(untrained.excess, 2)}
    return Layers(filters, first.stride, shown, cells)


def largest_and_shown(net: ConvNet, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest activation of each map of layer 1, and projections of the strongest units of layer 2."""
    first, second = (conv.name for conv in net.spec.convs[:2])
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(MOST, len(dataset))).round().astype(int))
    found = strongest(net, dataset, 1, [first, second], rows=rows)
    active = (found[second].score[:, 0] > 0).nonzero().flatten().tolist()
    units = [found[second].units(map_)[0] for map_ in active]
    return found[first].score[:, 0].numpy(), projected(net, dataset, units).numpy()


ABOVE = "Energy above half the sampling frequency, %"
FEATURES = {
    "filters": "Filters",
    "ratio": "RMS, largest / median",
    "silent": "Silent, %",
    "faint": "Faint, %",
    "noisy": "Noise, %",
    "dead": "Dead (any), %",
}
"""Filters that dominate, and filters that are dead: the titles of a table's columns."""
SPECTRA = {"above": ABOVE} | {
    f"{kind} {band}": f"{title}, {band}, %"
    for kind, title in {"energy": "Energy", "peaks": "Filters"}.items()
    for band in BANDS
}
"""Where the energy of the live filters lies, and where their spectra are largest."""
ARTEFACTS = {
    "own above": ABOVE,
    "own near": "Energy near it, %",
    "own": "Excess at the grid of layer 1",
    "own untrained": "untrained",
    "pool": "Excess at the grid of its pool",
    "pool untrained": "untrained ",
}
"""What the projections of layer 2 show of the sampling grids."""


def table(result: Stems, columns: Mapping[str, str]) -> Table:
    """Return a row a network; of one that is not at hand, the command that brings it."""
    rows = []
    for one, found in result.layers.items():
        missing = {next(iter(columns)): f"not run: `{one.command(result.profile)}`"}
        rows.append({"network": one.title} | (found.cells if found else missing))
    return Table({"network": "Network"} | columns, rows)


def draw_filters(result: Stems) -> Figure:
    """Draw the filters of first layers, each layer at one contrast (Fig. 5 a-c)."""
    return panels(result.panels(1), "Layer 1", lambda found, width: grid_of_filters(found.filters, width))


def draw_projections(result: Stems, maps: int) -> Figure:
    """Draw projections of some maps of second layers, drawn by seed, each at its own contrast (Fig. 5 d, e)."""

    def mosaic(found: Layers, width: int) -> np.ndarray:
        some = np.random.default_rng(result.seed).permutation(found.projections)[:maps]
        return plots.grid([projection_image(one) for one in some], width=width)

    return panels(result.panels(2), "Layer 2", mosaic)


def draw_frequencies(result: Stems) -> Figure:
    """Draw at which frequency each filter's spectrum is largest; a dot a filter."""
    shown, rng = result.panels(1), np.random.default_rng(0)
    figure = Figure(0.9 + 0.5 * len(shown))
    axes = figure.add_subplot()
    for edge in EDGES:
        axes.axvline(edge, color=PALE, linewidth=1.2, zorder=0)
    for line, found in enumerate(shown.values()):
        if found is None:
            axes.text(0.01, line, "not run", fontsize=SMALL, color=GREY, va="center")
            continue
        peaks = peak_frequencies(found.filters)
        axes.plot(peaks, line + rng.uniform(-0.28, 0.28, len(peaks)), ".", color=BLUE, markersize=4, alpha=0.7)
        axes.plot([1 / (2 * found.stride)] * 2, [line - 0.4, line + 0.4], color=VERMILION, linewidth=1.6)
    axes.set(xlim=(-0.012, 0.72), ylim=(len(shown) - 0.5, -0.5))
    axes.set_yticks(range(len(shown)), shown, fontsize=SMALL)
    axes.set_xlabel("largest frequency of a filter, cycles a pixel", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    words = "thick line: half the frequency\nat which the stride samples"
    axes.text(0.72, len(shown) - 0.6, words, fontsize=SMALL, color=VERMILION, ha="right", va="bottom")
    for place, band in zip((0.0625, 0.1875, 0.485), BANDS, strict=True):
        axes.text(place, -0.58, band, fontsize=SMALL, color=GREY, ha="center", va="bottom")
    figure.tight_layout()
    return figure


def draw_spectra(result: Stems) -> Figure:
    """Draw mean spectra of the projections of layer 2, with circles around the frequencies of layer 1's grid."""
    shown = result.panels(2)
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(2.8 * lines)
    places = figure.subplots(lines, columns, squeeze=False)
    for axes in places.flat[len(shown) :]:
        axes.remove()
    for axes, (name, found) in zip(places.flat, shown.items(), strict=False):
        axes.set_title(name, fontsize=NORMAL, loc="left", pad=9)  # clear of the circles
        ticks = [-0.5, -0.25, 0, 0.25, 0.5]
        axes.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5), xticks=ticks, yticks=ticks, aspect="equal")
        axes.tick_params(labelsize=SMALL)
        axes.set_xlabel("cycles a pixel", fontsize=SMALL)
        if found is None:
            axes.text(0, 0, "not run", fontsize=NORMAL, color=GREY, ha="center", va="center")
            continue
        energy = mean_spectrum(found.projections)
        scale = LogNorm(energy.max() / 10**4, energy.max(), clip=True)
        axes.imshow(energy, cmap=HEAT, norm=scale, extent=(-0.5, 0.5, 0.5, -0.5))
        for row, column in np.ndindex(3, 3):
            if (row, column) != (1, 1):
                place = (column - 1) / found.stride, (row - 1) / found.stride
                axes.plot(*place, "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE, clip_on=False)
    figure.tight_layout()
    return figure
