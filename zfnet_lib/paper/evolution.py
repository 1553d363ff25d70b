"""How features develop in training (section 4, Fig. 4): strongest units, their jumps, settling, linear probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Box, Unit
from ..batches import squares_of
from ..deconv import cut, deconv_units
from ..files import ZfnetError, is_there
from ..machine import threads
from ..network import ConvNet
from ..strongest import TopUnits, strongest
from ..training import FIGURE_4_EPOCHS, FIGURE_4_OF
from ..weights import load_network

BATCH = 16
POSITIONS = 8
"""Positions a map and picture at which answers are compared."""

QUARTERS = 2
"""Side of the grid over which maps are averaged for the probes: every map of every layer gives four numbers."""

RIDGE = 0.3
"""The probes' penalty, in training pictures: weights shrink as if so large a share had a feature of its own."""

KEPT, MOVED, JUMPED = range(3)
"""What became of a map's strongest unit: the same, another one of the same picture, one of another picture."""


class EvolutionError(ZfnetError, ValueError):
    """Moments of a training that cannot be compared."""


class Snapshots(Mapping[int, ConvNet]):
    """The networks that a training saved at the epochs of Fig. 4, each read when it is asked for.

    Args:
        folder: Of the training; `training.train` wrote there with `snapshots`.

    Raises:
        EvolutionError: Some are not there, because the training has not ended or has not begun.
    """

    def __init__(self, folder: Path):
        place = Path(folder) / "snapshots"
        self.folders = {epoch: place / f"epoch-{epoch:02d}-of-{FIGURE_4_OF}" for epoch in FIGURE_4_EPOCHS}
        missing = [str(epoch) for epoch, saved in self.folders.items() if not is_there(saved)]
        if missing:
            raise EvolutionError(
                f"{folder} lacks the snapshots of epochs {', '.join(missing)} of {FIGURE_4_OF}; train to the end: "
                f"zfnet train NETWORK --data DATA --recipe RECIPE --resume"
            )

    def __getitem__(self, epoch: int) -> ConvNet:
        return load_network(self.folders[epoch])

    def __iter__(self) -> Iterator[int]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)


class Strand(NamedTuple):
    """One map at all moments: its strongest unit, that unit's activation and projection [3, s, s] at each."""

    map: int
    units: list[Unit]
    scores: list[float]
    projections: list[Tensor]


@dataclass(frozen=True)
class LayerEvolution:
    """One layer at all moments.

    Attributes:
        strands: The maps that are shown.
        steps: int8 [moments - 1, maps]: what became of each map's strongest unit, `KEPT`, `MOVED` or `JUMPED`.
        likeness: [moments - 1, maps]: cosine between the projections of the strongest units before and after;
            NaN where one is 0.
        nearness: [moments, maps]: for the unit that is strongest in the end, cosine between its projection at each
            moment and in the end; 0 where it was not active yet, NaN where it never is.
    """

    strands: list[Strand]
    steps: np.ndarray
    likeness: np.ndarray
    nearness: np.ndarray

    @property
    def settled(self) -> np.ndarray:
        """How far the projections are what they will be: mean of `nearness` over the maps [moments]."""
        return np.nanmean(self.nearness, axis=1)

    def share(self, kind: int) -> float:
        """Return the percentage of steps of a kind, among those between two projections."""
        return 100 * float((self.steps == kind)[np.isfinite(self.likeness)].mean())

    def typical_likeness(self, kind: int) -> float:
        """Return the median likeness over steps of a kind; NaN where there are none."""
        found = self.likeness[(self.steps == kind) & np.isfinite(self.likeness)]
        return float(np.median(found)) if found.size else float("nan")

    @property
    def jumps_among_largest(self) -> float:
        """The percentage of the steps that change appearance most, the tenth with the least likeness, that jump."""
        finite = np.isfinite(self.likeness)
        likeness, steps = self.likeness[finite], self.steps[finite]
        return 100 * float((steps[likeness <= np.quantile(likeness, 0.1)] == JUMPED).mean())


def evolve(
    nets: Sequence[ConvNet],
    dataset,
    *,
    rows: Sequence[int] | None = None,
    maps: int = 6,
    seed: int = 0,
    folder: Path | None = None,
) -> dict[str, LayerEvolution]:
    """Follow the strongest unit of every map through the moments of a training (Fig. 4).

    Args:
        nets: One network at several moments, in order of time.
        dataset: The training pictures.
        rows: Which of them; all by default.
        maps: How many maps of each layer are shown, drawn with `seed` among those that are active in the end.
        seed: Of the draw; each layer draws anew.
        folder: Keep the state of the searches here, to continue them.

    Returns:
        By layer.
    """
    found = [strongest(net, dataset, 1, rows=rows, folder=folder) for net in nets]
    return {layer: _layer(nets, dataset, [ranking[layer] for ranking in found], maps, seed) for layer in found[-1]}


def projected(net: ConvNet, dataset, units: Sequence[Unit]) -> Tensor:
    """Project units of one layer over pictures of a data set.

    Args:
        net: The network.
        dataset: `Unit.image` counts in it.
        units: At least one.

    Returns:
        [n, 3, s, s]: receptive fields, or where those are larger whole pictures.
    """
    images = sorted({unit.image for unit in units})
    place = {image: i for i, image in enumerate(images)}
    x = net.prepare(squares_of(dataset, images, net.preparation))
    shown = deconv_units(net, x, [unit._replace(image=place[unit.image]) for unit in units])
    pairs = zip(shown.projections, shown.boxes, strict=True)
    return torch.stack([_within(projection.cpu(), box, x.shape[-1]) for projection, box in pairs])


def cosine(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the cosine of each pair of projections [n, ...]; NaN where one is 0."""
    a, b = (values.flatten(1).double() for values in (a, b))
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).numpy()


def cka(x: Tensor, y: Tensor) -> float:
    """Return the linear centred kernel alignment of two layers' answers: 1 for the same up to turning and scaling.

    For answers x and y less their means over the examples: |yᵀx|² / (|xᵀx| |yᵀy|).

    Args:
        x, y: [examples, maps], of the same examples.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> cka(x, 3 * x.flip(1)), cka(x, torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]))
        (1.0, 0.0)
    """
    x, y = (values.double() - values.double().mean(0) for values in (x, y))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def answers(net: ConvNet, dataset, rows: Sequence[int], seed: int = 0) -> dict[str, Tensor]:
    """Return what each convolutional layer answers to some pictures, at positions drawn with a seed.

    Returns:
        By layer [pictures * positions, maps], rectified; the same positions for every network of one architecture.
    """

    def at_positions(layer: str, maps: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(_mixed(seed, layer))
        places = torch.randint(maps[0, 0].numel(), (POSITIONS,), generator=generator)
        return maps.flatten(2)[:, :, places].transpose(1, 2).flatten(0, 1)

    return _reduced(net.features(), dataset, rows, at_positions)


def summaries(net: ConvNet, dataset, rows: Sequence[int]) -> dict[str, Tensor]:
    """Return each layer's features for a linear probe: maps averaged over the quarters of the picture, or units.

    Returns:
        By layer [pictures, 4 * maps], or [pictures, units] for fc6 and fc7.
    """

    def by_quarters(layer: str, maps: Tensor) -> Tensor:
        return (F.adaptive_avg_pool2d(maps, QUARTERS) if maps.ndim == 4 else maps).flatten(1)

    return _reduced(net, dataset, rows, by_quarters)


def probe(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, expected: np.ndarray) -> float:
    """Train a linear classifier on features of a layer and return its accuracy on others.

    Ridge regression on the classes, of features with mean 0 and deviation 1: quick, with one solution, and the same
    for all layers.

    Args:
        features, labels: To train on: [n, d] and [n].
        held_out, expected: To judge by.

    Returns:
        Percent of the held-out pictures whose class it names.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=RIDGE * len(labels)))
    return 100 * float(classifier.fit(features, labels).score(held_out, expected))


def crossing(shares: Sequence[float], values: Sequence[float], level: float = 0.9) -> float:
    """Return the first of the shares of training from which on a curve stays at a level or above.

    Example:
        >>> crossing([1, 2, 5, 10], [0.2, 0.95, 0.8, 1.0])
        10
    """
    reached = shares[-1]
    for share, value in zip(reversed(shares), reversed(values), strict=True):
        if not value >= level:
            break
        reached = share
    return reached


def _layer(nets: Sequence[ConvNet], dataset, hits: list[TopUnits], maps: int, seed: int) -> LayerEvolution:
    """Project the strongest units of a layer at each moment, and those of the end at each moment."""
    units = [[hit.units(map_)[0] for map_ in range(len(hit.score))] for hit in hits]
    both = [projected(net, dataset, chosen + units[-1]) for net, chosen in zip(nets, units, strict=True)]
    shown, lasting = zip(*(pixels.chunk(2) for pixels in both), strict=True)
    nearness = np.stack([cosine(pixels, lasting[-1]) for pixels in lasting])
    nearness = np.where(np.isnan(nearness) & np.isfinite(nearness[-1]), 0, nearness)
    likeness = [cosine(before, after) for before, after in pairwise(shown)]
    steps = [_steps(before, after) for before, after in pairwise(hits)]
    strands = [
        Strand(
            map_,
            [chosen[map_] for chosen in units],
            [float(hit.score[map_, 0]) for hit in hits],
            [pixels[map_] for pixels in shown],
        )
        for map_ in _drawn(hits[-1], maps, seed)
    ]
    return LayerEvolution(strands, np.stack(steps), np.stack(likeness), nearness)


def _steps(before: TopUnits, after: TopUnits) -> np.ndarray:
    same = [(getattr(before, axis) == getattr(after, axis))[:, 0].numpy() for axis in ("image", "row", "column")]
    return np.where(same[0], np.where(same[1] & same[2], KEPT, MOVED), JUMPED).astype(np.int8)


def _drawn(hits: TopUnits, maps: int, seed: int) -> list[int]:
    active = (hits.score[:, 0] > 0).nonzero().flatten()
    generator = torch.Generator().manual_seed(_mixed(seed, hits.layer))
    return sorted(active[torch.randperm(len(active), generator=generator)[:maps]].tolist())


def _within(projection: Tensor, box: Box, side: int) -> Tensor:
    """Show the whole picture, of `side` pixels, where a field is larger than it."""
    if projection.shape[-1] < side:
        return projection
    return cut(projection, Box(-box.top, -box.left, side - box.top, side - box.left))


def _reduced(
    net: ConvNet, dataset, rows: Sequence[int], reduce: Callable[[str, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Pass pictures through a network, several batches at a time, and keep `reduce(layer, maps)` of every layer."""
    layers = [layer.name for layer in net.layers_upto()]

    @torch.inference_mode()
    def run(part: Tensor) -> list[Tensor]:
        x = net.prepare(squares_of(dataset, part, net.preparation))
        trace = net.trace(x.contiguous(memory_format=torch.channels_last))
        return [reduce(layer, trace[layer].maps).cpu() for layer in layers]

    with threads(torch.get_num_threads(), each=1) as pool:
        parts = list(pool.map(run, torch.as_tensor(rows).split(BATCH)))
    return {layer: torch.cat(kept) for layer, kept in zip(layers, zip(*parts, strict=True), strict=True)}


def _mixed(seed: int, layer: str) -> int:
    """Return a seed for a layer of its own."""
    return crc32(f"{seed} {layer}".encode())
