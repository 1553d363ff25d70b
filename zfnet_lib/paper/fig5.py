"""Fig. 5: first and second layers of several networks, and what the eye sees of them as numbers (section 4.1).

Frequencies are radial and in cycles a pixel: 0.5 is a pattern that changes with every pixel.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from scipy.stats import entropy

from ..architecture import ARCHITECTURES
from ..datasets import Dataset
from ..files import ZfnetError, results_root
from ..images import projection_image
from ..network import ConvNet
from ..strongest import strongest
from ..weights import CheckpointError, open_network
from . import plots
from .fig4 import projected
from .plots import BLUE, GREY, NORMAL, SMALL, VERMILION, Figure
from .records import Sentence, Stopwatch, Table, claims, mean_and_spread, read
from .setting import Source, at_hand, describe_pictures, pictures_of, progress, training_of
from .trainings import SHIPPED

FREE = "zfnet, not renormalised"
NETWORKS = (
    (FREE, "zfnet", "none", ("(a) ", None)),
    ("krizhevsky", "krizhevsky", "all", ("(b) ", "(d) ")),
    ("zfnet", "zfnet", "all", ("(c) ", "(e) ")),
    ("AlexNet, ImageNet", "alexnet-imagenet", "all", ("", "")),
)
"""Titles, architectures that the profile trains or weights, filters that training renormalises, and the letters of
layers 1 and 2 in the caption; None is not drawn."""
NATIVE = (
    ("krizhevsky, Caltech-101", "krizhevsky-caltech-101-stem", "all", ("", "")),
    ("zfnet, Caltech-101", "zfnet-caltech-101-stem", "all", ("", "")),
)
"""Trained on pictures of more pixels than the input has: what these show of frequencies was there to be learnt."""

EDGES = (1 / 8, 1 / 4)
"""Where the middle frequencies begin and end: half the frequencies at which strides of 4 and 2 pixels sample."""
BANDS = {"low": (0.0, EDGES[0]), "middle": EDGES, "high": (EDGES[1], 1.0)}
AROUND = [place for place in product((-1, 0, 1), repeat=2) if any(place)]
"""Where the frequencies of a sampling grid lie around 0: along, across and diagonally."""
GRID = 64  # the side on which filters are transformed, zeros around them, so that small ones have fine spectra too
ABOVE = "Energy above half the sampling frequency, %"
FAINT = claims()["smaller-stem-fewer-dead-features"]["thresholds"]["faint"] / 100  # of the median RMS
MOST = 256  # pictures that are looked through, evenly spaced over the data set

CAVEATS = {
    "smoke": "Narrow networks after seconds of training on small drawn pictures: this tests the machinery, and "
    "says nothing about stems.",
    "tiny": "Tiny-ImageNet's pictures of 64 pixels, enlarged to 128, hold nothing above half of the half-sampling "
    "frequency, that is above 1/4 cycle a pixel. What networks trained on them show of frequencies is no evidence; "
    "AlexNet, trained on ImageNet at its own resolution, is, and so are stems trained on Caltech-101.",
    "paper": "One training of each network: the spread over seeds is unknown.",
}
"""What the networks of a profile cannot show."""


class SpectrumError(ZfnetError, ValueError):
    """Filters or projections that have no spectrum."""


def stem(weights: np.ndarray, stride: int, largest: np.ndarray) -> dict[str, dict[str, Any]]:
    """Describe filters [maps, 3, k, k], given the largest activation of each: two rows of tables (Fig. 5 a-c)."""
    size, (silent, faint, noisy) = rms(weights), faults(weights, largest)
    dead = silent | faint | noisy
    live = weights[~dead]
    peaks = peak_frequencies(live)
    shares = {"Silent, %": silent, "Faint, %": faint, "Noise, %": noisy, "Dead (any), %": dead}
    spectra = {ABOVE: energy_between(live, 1 / (2 * stride), 1.0)}
    spectra |= {f"Energy, {name}, %": energy_between(live, *band) for name, band in BANDS.items()}
    spectra |= {f"Filters, {name}, %": (low <= peaks) & (peaks < high) for name, (low, high) in BANDS.items()}

    def percent(cells: dict[str, np.ndarray]) -> dict[str, float]:
        return {key: round(float(100 * each.mean()), 1) if each.size else np.nan for key, each in cells.items()}

    features = {"Filters": f"{len(weights)} of {'x'.join(map(str, weights.shape[2:]))}, stride {stride}"}
    features["RMS, largest / median"] = round(float(size.max() / np.median(size)), 1)
    return {"features": features | percent(shares), "spectra": percent(spectra)}


def faults(weights: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which filters are silent, faint, and like noise [maps]; any of it makes them dead."""
    size = rms(weights)
    return np.asarray(largest) <= 0, size < FAINT * np.median(size), resembles_noise(weights)


def rms(weights: np.ndarray) -> np.ndarray:
    """Return the root mean square of each filter [maps] (section 3)."""
    return np.sqrt(np.square(weights, dtype=np.float64).mean((1, 2, 3)))


def energies(pictures: np.ndarray, side: int) -> np.ndarray:
    """Return the energy of pictures [n, 3, h, w] by frequency, colours summed, zeros around: [n, side, side]."""
    return np.square(np.abs(np.fft.fft2(np.asarray(pictures, np.float64), (side, side)))).sum(1)


def radii(side: int) -> np.ndarray:
    """Return the radial frequency of each place of a spectrum [side, side]."""
    return np.hypot(*np.ix_(np.fft.fftfreq(side), np.fft.fftfreq(side)))


def energy_between(weights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of each filter's energy at radial frequencies from `low` to under `high` [maps]."""
    energy, radius = energies(weights, GRID), radii(GRID)
    return energy[:, (low <= radius) & (radius < high)].sum(1) / energy.sum((1, 2))


def peak_frequencies(weights: np.ndarray) -> np.ndarray:
    """Return the radial frequency at which each filter's spectrum is largest [maps]."""
    return radii(GRID).ravel()[energies(weights, GRID).reshape(len(weights), GRID**2).argmax(1)]


def resembles_noise(weights: np.ndarray) -> np.ndarray:
    """Tell which filters cannot be told from noise, such as they were before training [maps]."""
    # Structure gathers energy at few frequencies, so its spectrum has a low entropy. A filter resembles noise when
    # its entropy exceeds that of the lowest twentieth of as large filters of independent normal weights.
    side = weights.shape[-1]
    noise = np.random.default_rng(0).normal(size=(2000, 3, side, side))
    spectra = (energies(each, side).reshape(len(each), side**2) for each in (weights, noise))
    with np.errstate(invalid="ignore"):  # a filter of zeros has no entropy
        found, of_noise = (entropy(each, axis=1) for each in spectra)
    return found > np.quantile(of_noise, 0.05)


def dip(values: np.ndarray) -> float:
    """Return Hartigan's dip: how far the distribution of values lies from the nearest one with a single mode."""
    places, counts = np.unique(np.asarray(values, float), return_counts=True)
    upper = np.cumsum(counts) / counts.sum()
    lower = upper - counts / counts.sum()

    def gap(places: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
        def slope(i: int, j: int) -> float:
            return (lower[j] - lower[i]) / (places[j] - places[i])

        hull: list[int] = []  # the greatest convex curve beneath the steps
        for i in range(len(places)):
            while len(hull) > 1 and slope(*hull[-2:]) >= slope(hull[-1], i):
                hull.pop()
            hull.append(i)
        # How far the steps rise above it; the last one, at the mode, is left out.
        return np.max((upper - np.interp(places, places[hull], lower[hull]))[:-1], initial=0)

    # For every value as the mode: the steps before it, and those after it, turned round.
    rises = [gap(places[: i + 1], lower[: i + 1], upper[: i + 1]) for i in range(len(places))]
    falls = [gap(-places[i:][::-1], 1 - upper[i:][::-1], 1 - lower[i:][::-1]) for i in range(len(places))]
    return float(min(np.maximum(rises, falls)) / 2)


class Grid(NamedTuple):
    """What projections show of a sampling grid."""

    above: float  # percent of their energy above half the sampling frequency, which the grid cannot hold
    near: float  # percent of it within a quarter of the sampling frequency around that and its multiples
    excess: float  # how far the frequency of the grid itself stands out from its neighbours; 1 is no excess


def grid(projections: np.ndarray, period: int) -> Grid:
    """Describe what projections [n, 3, s, s] show of a grid with a sample every `period` pixels (Fig. 5 d, e)."""
    side = projections.shape[-1]
    if side < 6 * period:
        raise SpectrumError(f"projections of {side} pixels are too small for a grid of {period}; take larger ones")
    # Where projections carry the blocks of the grid, their mean spectrum has peaks at 1/period around 0. For the
    # excess, the geometric mean of the energy there is divided by that of the ring of frequencies around each,
    # outside the width of a peak.
    mean = np.fft.ifftshift(mean_spectrum(projections))
    along, peaks, rings, distances = np.fft.fftfreq(len(mean)), [], [], []
    for place in AROUND:
        # The frequencies 0.5 and -0.5 are the same.
        across, down = (np.abs((along - n / period + 0.5) % 1 - 0.5) for n in place)
        distance = np.hypot(across[:, None], down[None, :])
        distances.append(distance)
        peaks.append(np.log(mean[distance <= 0.5 / side]).mean())
        rings.append(np.log(mean[(2.5 / side <= distance) & (distance <= 4 / side)]).mean())
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
    energy = energies(kept * window[:, None] * window, 2 * side)
    return np.fft.fftshift((energy / energy.sum((1, 2), keepdims=True)).mean(0))


class Compared(NamedTuple):
    """A network of Fig. 5; one that is not at hand has nothing below its command."""

    title: str
    letters: tuple[str, str | None]  # of its layers 1 and 2 in the caption; None is not drawn
    command: str  # what brings it
    stride: int = 0  # of layer 1, in pixels
    filters: np.ndarray | None = None  # of layer 1 [maps, 3, k, k]
    projections: np.ndarray | None = None  # [n, 3, s, s]: the strongest unit of every active map of layer 2
    tables: dict[str, dict[str, Any]] | None = None  # features, spectra and artefacts: cells by column


class Stems(NamedTuple):
    """Fig. 5."""

    networks: list[Compared]
    source: Source
    caveat: Sentence
    seed: int  # of the draw of the maps that are shown

    def panels(self, layer: int) -> dict[str, Compared | None]:
        """Return what is drawn of layer 1 or 2 by what stands above it, None where it is not at hand."""
        drawn = [one for one in self.networks if one.letters[layer - 1] is not None]
        return {one.letters[layer - 1] + one.title: one if one.tables else None for one in drawn}

    def table(self, name: str) -> Table:
        """Return a row a network; of one that is not at hand, the command that brings it."""
        shown = [one.tables[name] for one in self.networks if one.tables]
        columns = shown[0] if shown else {"Not run": None}
        first = next(iter(columns))
        rows = [
            {"Network": one.title} | (one.tables[name] if one.tables else {first: f"not run: `{one.command}`"})
            for one in self.networks
        ]
        zeros = [title for title in columns if shown and all(cells[title] == 0 for cells in shown)]
        note = f"0 in every network: {', '.join(zeros).lower()}." if zeros else ""
        kept = (title for title in ("Network", *columns) if title not in zeros)
        return Table({title: title for title in kept}, rows, note.replace(", %", ""))

    @property
    def renormalised(self) -> Sentence:
        """Whether the filters with and without renormalisation, which start alike, are the same ones."""
        filters = {one.title: one.filters for one in self.networks if one.tables}
        if not {"zfnet", FREE} <= set(filters):
            return Sentence("Not run: the comparison needs both trainings of the network of Fig. 3.")
        free, held = (filters[title].reshape(len(filters[title]), -1) for title in (FREE, "zfnet"))
        cosine = np.median((free * held).sum(1) / (np.linalg.norm(free, axis=1) * np.linalg.norm(held, axis=1)))
        same = "they are the same ones at other scales" if cosine >= 0.9 else "they are others"
        sizes = [rms(filters[title]) for title in (FREE, "zfnet")]
        most = " and ".join(f"{size.max() / np.median(size):.1f}" for size in sizes)
        return Sentence(
            f"Filter by filter, those of (a) and of (c), which start alike, have a median cosine of {cosine:.3f}: "
            f"{same}. The largest filter has {most} times the median RMS."
        )


def grids(profile: str) -> Sentence:
    """Say where the grid of layer 1 stands out more, at stride 4 or 2, and in how many trainings (section 4.1)."""
    found = read(results_root(profile) / "claims/stride-4-causes-layer-2-aliasing.jsonl")
    excess: dict[str, list[float]] = {"zfnet": [], "krizhevsky": []}
    for record in found:
        place = record.parameters
        if place["network"] in excess and (place.get("grid"), place.get("weights")) == ("layer 1", "trained"):
            excess[place["network"]].append(record.value)
    ours, theirs = excess.values()
    if not ours or not theirs:
        return Sentence(
            f"Not run: `zfnet claims --profile {profile} --live stride-4-causes-layer-2-aliasing` finds the grids."
        )
    word = "so that the trainings do not agree on where it is more"
    if max(theirs) < min(ours):
        word = "more at stride 2: the reverse of what the paper sees"
    elif min(theirs) > max(ours):
        word = "more at stride 4, as the paper sees"
    n = f"{len(ours)} and {len(theirs)} trainings"
    alone = "; one of each says nothing of the spread over seeds" if min(len(ours), len(theirs)) == 1 else ""
    data = found[0].data.split(" (")[0]
    return Sentence(
        f"Stems trained on {data}: layer 1's grid exceeds its neighbours {mean_and_spread(ours)} times at stride 2 "
        f"and {mean_and_spread(theirs)} times at stride 4, {word} ({n}{alone})."
    )


def measure(profile: str, pictures: str = "", seed: int = 0) -> Stems:
    """Compare the first two layers of the networks of Fig. 5, and of ImageNet's AlexNet."""
    watch, dataset, networks = Stopwatch(), pictures_of(profile, pictures), []
    compared = NETWORKS if profile == "smoke" else NETWORKS + NATIVE
    for title, name, clip, letters in progress(compared, "networks"):
        if name in ARCHITECTURES:
            training = training_of(profile, name, clip=clip)
            net, command = at_hand(training), training.command
        else:
            bring = f"{SHIPPED[name].training.command} && zfnet ship" if name in SHIPPED else "zfnet fetch"
            net, command = None, f"{bring} {name}"
            with suppress(CheckpointError):
                net = open_network(name)
        networks.append(Compared(title, letters, command, *(describe(net, dataset, seed) if net else ())))
    found = "; ".join(one.title for one in networks if one.tables) or "none"
    source = Source(found, f"at most {MOST} of {describe_pictures(dataset)}", watch.provenance(seed))
    return Stems(networks, source, Sentence(CAVEATS[profile]), seed)


def describe(net: ConvNet, dataset: Dataset, seed: int = 0) -> tuple[int, np.ndarray, np.ndarray, dict]:
    """Measure the first two layers of a network; `seed` draws the untrained weights that they are compared with."""
    first, second = net.spec.convs[:2]
    largest, shown = largest_and_shown(net, dataset)
    _, beginning = largest_and_shown(ConvNet(net.spec.features(second.name), net.preparation, seed), dataset)
    filters = net.get_submodule(first.name).weight.detach().cpu().numpy()
    own, untrained = (grid(each, first.stride) for each in (shown, beginning))
    artefacts = {ABOVE: round(own.above, 1), "Energy near the sampling frequency, %": round(own.near, 1)}
    artefacts |= {"Excess at the grid of layer 1": round(own.excess, 2), "untrained": round(untrained.excess, 2)}
    own, untrained = (grid(each, first.stride * first.pool.stride) for each in (shown, beginning))
    artefacts |= {"Excess at the grid of its pool": round(own.excess, 2), "untrained ": round(untrained.excess, 2)}
    return first.stride, filters, shown, stem(filters, first.stride, largest) | {"artefacts": artefacts}


def largest_and_shown(net: ConvNet, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest activation of each map of layer 1, and projections of the strongest units of layer 2."""
    first, second = (conv.name for conv in net.spec.convs[:2])
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(MOST, len(dataset))).round().astype(int))
    found = strongest(net, dataset, 1, [first, second], rows=rows)
    active = (found[second].score[:, 0] > 0).nonzero().flatten().tolist()
    units = [found[second].units(map_)[0] for map_ in active]
    return found[first].score[:, 0].numpy(), projected(net, dataset, units).numpy()


def draw_filters(result: Stems) -> Figure:
    """Draw the filters of first layers, each layer at one contrast (Fig. 5 a-c)."""
    return plots.panels(result.panels(1), "Layer 1", lambda one, width: plots.grid_of_filters(one.filters, width))


def draw_projections(result: Stems, maps: int) -> Figure:
    """Draw projections of some maps of second layers, drawn by seed, each at its own contrast (Fig. 5 d, e)."""

    def mosaic(found: Compared, width: int) -> np.ndarray:
        some = np.random.default_rng(result.seed).permutation(found.projections)[:maps]
        return plots.grid([projection_image(one) for one in some], width=width)

    return plots.panels(result.panels(2), "Layer 2", mosaic)


def draw_frequencies(result: Stems) -> Figure:
    """Draw at which frequency each filter's spectrum is largest; a dot a filter."""
    shown, rng = result.panels(1), np.random.default_rng(0)
    figure = Figure(0.9 + 0.5 * len(shown))
    axes = figure.add_subplot()
    for edge in EDGES:
        axes.axvline(edge, color=plots.PALE, linewidth=1.2, zorder=0)
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
    lines = -(-len(shown) // 3)
    figure = Figure(2.8 * lines)
    places = figure.subplots(lines, min(3, len(shown)), squeeze=False)
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
        axes.imshow(energy, cmap=plots.HEAT, norm=scale, extent=(-0.5, 0.5, 0.5, -0.5))
        circle = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": plots.ORANGE, "clip_on": False}
        for row, column in AROUND:
            axes.plot(column / found.stride, row / found.stride, "o", **circle)
    figure.tight_layout()
    return figure
