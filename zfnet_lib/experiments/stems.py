"""Figure 5: first and second layers of several networks, and what the eye sees of them as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..activations import strongest
from ..checkpoints import CheckpointError, load_network
from ..datasets import Dataset
from ..evolution import projected
from ..network import ConvNet
from ..records import Stopwatch
from ..shipping import SHIPPED
from ..specs import ARCHITECTURES
from ..spectra import BANDS, Grid, Stem, grid, mean_spectrum, peak_frequencies, stem
from ..tables import Note, Table
from .setting import Source, describe_pictures, pictures_of, trained_at_hand, training_of

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


def fig5(profile: str, pictures: str = "", seed: int = 0) -> Stems:
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
