"""The only door for notebooks and command line: an experiment's name and profile in, its result out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import paper
from .activations import Hits, strongest
from .checkpoints import load_network
from .datasets import Dataset, open_dataset
from .deconv import Unit, cut, deconv_units, descend, project, unpool
from .images import read_picture
from .network import ConvNet, Trace
from .paths import ZfnetError
from .receptive import Box, receptive_fields
from .records import Provenance, Stopwatch
from .specs import ARCHITECTURES, MINI, STEMS, TABLE_2, ZFNET, ArchSpec, architecture
from .tables import Table


@dataclass(frozen=True)
class Profile:
    """One of the three scales at which the same notebooks run.

    Attributes:
        name: `smoke`, `tiny` or `paper`.
        network: The network that the figures take apart.
        pictures: The data set that they look at by default.
    """

    name: str
    network: str
    pictures: str


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", "mini", "shapes"),
        Profile("tiny", "alexnet-imagenet", "photos"),
        Profile("paper", "alexnet-imagenet", "imagenet"),
    )
}


@dataclass(frozen=True)
class Source:
    """What a figure shows: which network on which pictures, computed where.

    Attributes:
        network: Its name and what it was trained on.
        pictures: The data set, its size and its fingerprint.
        provenance: Commit, machine, seed and seconds.
    """

    network: str
    pictures: str
    provenance: Provenance

    def _repr_markdown_(self) -> str:
        return f"*{self}*"

    def __str__(self) -> str:
        made = self.provenance
        commit = (made.commit[:10] or "no commit") + (" and changes" if made.dirty else "")
        return (
            f"Network: {self.network}. Pictures: {self.pictures}. Computed live in {made.seconds:.1f} s on "
            f"{made.device}, torch {made.versions['torch']}, seed {made.seed}, {commit}."
        )


@dataclass(frozen=True)
class Descent:
    """Fig. 1 on a real unit.

    Attributes:
        unit: The unit; `image` counts in the data set.
        activation: Its value.
        picture: uint8 [H, W, 3], as the network sees it.
        levels: (layer, rectified signal [maps, h, w]) from the unit's layer down to `conv1`; last `pixels`.
        window, pooled, switches, unpooled: A piece of one real map of the lowest pooled layer: its values
            [7, 7], its regions' maxima [3, 3], their flat positions in the piece, and the piece unpooled again.
        pooled_layer: The layer and map that the piece comes from.
        variants: How far the projection moves when a step is done in another way.
        source: What it was computed from.
    """

    unit: Unit
    activation: float
    picture: np.ndarray
    levels: list[tuple[str, np.ndarray]]
    window: np.ndarray
    pooled: np.ndarray
    switches: np.ndarray
    unpooled: np.ndarray
    pooled_layer: str
    variants: Table
    source: Source

    @property
    def title(self) -> str:
        """The unit in words."""
        unit = self.unit
        return f"{unit.layer}, map {unit.map}, row {unit.row}, column {unit.column}: {self.activation:.3g}"


@dataclass(frozen=True)
class Block:
    """One map of Fig. 2: its strongest units.

    Attributes:
        layer, map: Which map.
        scores: Activations, strongest first.
        projections: float [3, s, s] each, s being the receptive field, or the picture where that is smaller.
        patches: uint8 [s, s, 3] each: the same windows of the pictures, grey beyond their edge.
        names: Of the pictures.
    """

    layer: str
    map: int
    scores: list[float]
    projections: list[np.ndarray]
    patches: list[np.ndarray]
    names: list[str]


@dataclass(frozen=True)
class Mosaics:
    """Fig. 2: blocks by layer, and what they were computed from."""

    layers: dict[str, list[Block]]
    source: Source

    def blocks(self, layer: str) -> list[tuple[int, list[np.ndarray], list[np.ndarray]]]:
        """Return (map, projections, patches) of one layer's maps, as `figures.fig2.mosaic` takes them.

        Raises:
            ZfnetError: The layer was not computed.
        """
        if layer not in self.layers:
            raise ZfnetError(f"layer {layer!r} was not computed; here are {', '.join(self.layers)}")
        return [(block.map, block.projections, block.patches) for block in self.layers[layer]]


@dataclass(frozen=True)
class Sizes:
    """Fig. 3: an architecture, its sizes beside the paper's, and the same numbers by place.

    Attributes:
        spec: The architecture.
        table: One row a layer or pool.
        agrees: Whether every size that the paper prints, or that is recalled from it, equals ours.
    """

    spec: ArchSpec
    table: Table
    agrees: bool


@dataclass(frozen=True)
class Shown:
    """One unit of one picture, projected.

    Attributes:
        unit: The unit.
        activation: Its value.
        picture: uint8 [H, W, 3], as the network sees it.
        box: The unit's receptive field in it.
        patch: uint8 [s, s, 3], the picture in that field, grey beyond its edge.
        projection: float [3, s, s].
    """

    unit: Unit
    activation: float
    picture: np.ndarray
    box: Box
    patch: np.ndarray
    projection: np.ndarray


def fig1(profile: str, pictures: str = "", picture: int = 0, layer: str = "", map: int = -1) -> Descent:
    """Project one real unit down layer by layer (Fig. 1).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        picture: Its index.
        layer: The unit's layer; the highest convolutional one by default.
        map: Its map; -1 takes the map with the largest activation. The unit is the map's strongest.

    Raises:
        ZfnetError: Unknown profile, data set, picture, layer or map.
    """
    watch, net, dataset = _setting(profile, pictures)
    if not 0 <= picture < len(dataset):
        raise ZfnetError(f"{dataset.name} has no picture {picture}; it has {len(dataset)}")
    x = net.prepare([dataset[picture].picture])
    layer = layer or net.spec.convs[-1].name
    with torch.no_grad():
        trace = net.trace(x)
        maps = trace[net.spec.conv(layer).name].maps
    unit, activation = _strongest_unit(maps[0], layer, picture, map)
    signal = torch.zeros_like(maps)
    signal[0, unit.map, unit.row, unit.column] = activation
    levels = [(name, values[0].numpy()) for name, values in descend(trace, layer, signal).items()]
    below = next(conv for conv in net.spec.convs if conv.pool)
    place, window = _telling_window(trace[below.name].maps[0])
    pooled, switches = F.max_pool2d(window[None], 3, 2, return_indices=True)
    unpooled = unpool(pooled[None], switches[None], window.shape)[0, 0]
    return Descent(
        unit,
        activation,
        _rows_first(net.preparation.visible(x)[0]),
        levels,
        *(values.numpy() for values in (window, pooled[0], switches[0], unpooled)),
        pooled_layer=f"{below.name}, map {place}",
        variants=_variants(trace, layer, signal),
        source=_source(net, dataset, watch),
    )


def fig2(
    profile: str, pictures: str = "", layers: Sequence[str] = (), maps: int = 6, k: int = 9, seed: int = 0
) -> Mosaics:
    """Project the strongest units of a random subset of maps of every layer (Fig. 2).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        layers: All convolutional layers by default.
        maps: How many maps a layer, drawn with `seed` among those that are active on k pictures.
        k: Units a map, one a picture.
        seed: Of the draw.
    """
    watch, net, dataset = _setting(profile, pictures)
    found = strongest(net, dataset, k, layers or None)
    chosen = {layer: _subset(hits, maps, seed) for layer, hits in found.items()}
    blocks = {layer: _blocks(net, dataset, found[layer], numbers) for layer, numbers in chosen.items()}
    return Mosaics(blocks, _source(net, dataset, watch, seed))


def fig3(name: str = "zfnet") -> Sizes:
    """Work out sizes, parameters, multiply-accumulates and receptive fields of an architecture (Fig. 3).

    Args:
        name: A named architecture, or the name of weights that are here.
    """
    spec = architecture(name) if name in ARCHITECTURES else load_network(name).spec
    printed, recalled = (paper.printed_shapes(), paper.recalled_shapes()) if spec == ZFNET else ({}, {})
    shapes, parameters, macs = spec.shapes(), spec.parameters(), spec.macs()
    fields = receptive_fields(spec)
    rows = [
        {
            "layer": place,
            "ours": _size(shapes[place]),
            "printed": _size(printed.get(place)),
            "recalled": _size(recalled.get(place)),
            "field": fields[place].size if place in fields else None,
            "stride": fields[place].stride if place in fields else None,
            "parameters": parameters.get(place),
            "macs": macs.get(place),
        }
        for place in shapes
    ]
    rows.append({"layer": "**all**", "parameters": sum(parameters.values()), "macs": sum(macs.values())})
    columns = {
        "layer": "Layer",
        "ours": "Ours",
        "printed": "Printed in the paper",
        "recalled": "Recalled from its figure",
        "field": "Receptive field",
        "stride": "Stride",
        "parameters": "Parameters",
        "macs": "Multiply-accumulates",
    }
    agrees = all(shapes[place] == size for known in (printed, recalled) for place, size in known.items())
    return Sizes(spec, Table(columns, rows), agrees)


def table_2_sizes() -> Table:
    """Return parameters and multiply-accumulates of every row of Table 2 and of the crossed stems."""
    rows = [
        {"name": name, "parameters": sum(spec.parameters().values()), "macs": sum(spec.macs().values())}
        for name, spec in (TABLE_2 | STEMS).items()
    ]
    return Table({"name": "Network", "parameters": "Parameters", "macs": "Multiply-accumulates"}, rows)


def project_picture(net: ConvNet, picture: Path | Tensor, layer: str, map: int = -1) -> Shown:
    """Project the strongest unit of a map for a picture of one's own.

    Args:
        net: Any network.
        picture: A file, or uint8 [3, h, w].
        layer: A convolutional layer.
        map: -1 takes the map with the largest activation.

    Raises:
        ZfnetError: An unreadable picture, or an unknown layer or map.
    """
    x = net.prepare([read_picture(picture) if isinstance(picture, Path) else picture])
    with torch.no_grad():
        maps = net.trace(x, upto=net.spec.conv(layer).name)[layer].maps
    unit, activation = _strongest_unit(maps[0], layer, 0, map)
    shown = deconv_units(net, x, [unit])
    seen = net.preparation.visible(x)
    projection, box = _fitted(shown.projections[0], shown.boxes[0], x.shape[-1])
    return Shown(unit, activation, _rows_first(seen[0]), box, _patch(seen[0], box), projection.numpy())


def describe_pictures(dataset) -> str:
    """Return a data set's name, split, size and fingerprint in one phrase."""
    return f"{dataset.name} {dataset.split} ({len(dataset)} pictures, fingerprint {dataset.fingerprint})"


def network_of(profile: str) -> ConvNet:
    """Return the network that a profile's figures take apart.

    `smoke` takes `MINI` with its initial weights, seed 0.

    Raises:
        ZfnetError: Unknown profile, or weights that are not here; the message says what brings them.
    """
    chosen = profile_of(profile)
    return ConvNet(MINI).eval() if chosen.network == "mini" else load_network(chosen.network)


def pictures_of(profile: str, pictures: str = "") -> Dataset:
    """Return the data set that a profile's figures look at, or another one by its name."""
    return open_dataset(pictures or profile_of(profile).pictures, "val")


def profile_of(name: str) -> Profile:
    """Return a profile by its name."""
    if name not in PROFILES:
        raise ZfnetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def _setting(profile: str, pictures: str):
    watch = Stopwatch()
    return watch, network_of(profile), pictures_of(profile, pictures)


def _source(net: ConvNet, dataset, watch: Stopwatch, seed: int = 0) -> Source:
    kind = {"mini": "mini, untrained (initial weights, seed 0)"}.get(net.spec.name, net.spec.name)
    whole = "" if net.spec.classes else ", convolutions only"
    return Source(kind + whole, describe_pictures(dataset), watch.provenance(seed, net.device))


VARIANTS = {
    "switches that are shared keep one value (`max_unpool2d`)": {"sharing": "overwrite"},
    "switches at the centre of each region": {"switches": "centre"},
    "switches at random places of each region": {"switches": "random"},
    "no rectification": {"rectify": "none"},
    "the forward pass's mask instead of rectification": {"rectify": "mask"},
    "both (guided backpropagation)": {"rectify": "both"},
}
"""What the paper argues against, as arguments of `project`."""


def _variants(trace: Trace, layer: str, signal: Tensor) -> Table:
    """Compare the paper's projection with those that do one step otherwise."""
    paper_way = project(trace, layer, signal)
    rows = []
    for name, way in VARIANTS.items():
        difference = project(trace, layer, signal, **way) - paper_way
        rows.append({"way": name, "difference": float(difference.norm() / paper_way.norm())})
    return Table({"way": "One step done otherwise", "difference": "Difference, as a share of the norm"}, rows)


def _strongest_unit(maps: Tensor, layer: str, picture: int, map_: int) -> tuple[Unit, float]:
    if not -1 <= map_ < len(maps):
        raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {len(maps) - 1}, and -1 is the strongest")
    if map_ == -1:
        map_ = int(maps.flatten(1).amax(1).argmax())
    place = int(maps[map_].argmax())
    row, column = divmod(place, maps.shape[2])
    return Unit(picture, layer, map_, row, column), float(maps[map_, row, column])


def _telling_window(maps: Tensor, side: int = 7) -> tuple[int, Tensor]:
    """Find a piece of a map in which regions share a switch, so that adding shows; the most varied one."""
    best = ((0, 0.0), 0, maps[0, :side, :side])
    for number in maps.flatten(1).amax(1).argsort(descending=True)[:8].tolist():
        for top in range(0, maps.shape[1] - side + 1, 2):
            for left in range(0, maps.shape[2] - side + 1, 2):
                window = maps[number, top : top + side, left : left + side]
                pooled, switches = F.max_pool2d(window[None], 3, 2, return_indices=True)
                places = switches[pooled > 0].unique()
                shares = 0 < len(places) < (pooled > 0).sum()
                score = (len(places), float(window.std())) if shares else (0, 0.0)
                best = max(best, (score, number, window), key=lambda found: found[0])
    return best[1], best[2]


def _subset(hits: Hits, maps: int, seed: int) -> list[int]:
    """Draw maps that are active on k pictures; each layer draws anew."""
    active = (hits.score > 0).all(1).nonzero().flatten()
    generator = torch.Generator().manual_seed(crc32(f"{seed} {hits.layer}".encode()))
    order = torch.randperm(len(active), generator=generator)
    return sorted(active[order[:maps]].tolist())


def _blocks(net: ConvNet, dataset, hits: Hits, numbers: list[int]) -> list[Block]:
    units = {number: hits.units(number) for number in numbers}
    images = sorted({unit.image for hit in units.values() for unit in hit})
    place = {image: i for i, image in enumerate(images)}
    x = net.prepare([dataset[image].picture for image in images])
    seen = net.preparation.visible(x)
    flat = [unit._replace(image=place[unit.image]) for number in numbers for unit in units[number]]
    shown = deconv_units(net, x, flat)
    fitted = [_fitted(*pair, x.shape[-1]) for pair in zip(shown.projections, shown.boxes, strict=True)]
    patches = [_patch(seen[unit.image], box) for unit, (_, box) in zip(flat, fitted, strict=True)]
    k = hits.score.shape[1]
    return [
        Block(
            hits.layer,
            number,
            hits.score[number].tolist(),
            [pixels.numpy() for pixels, _ in fitted[i * k : (i + 1) * k]],
            patches[i * k : (i + 1) * k],
            [dataset.sample(unit.image).name for unit in units[number]],
        )
        for i, number in enumerate(numbers)
    ]


def _fitted(projection: Tensor, box: Box, side: int) -> tuple[Tensor, Box]:
    """Show the whole picture, of `side` pixels, where the field is larger than it."""
    if projection.shape[-1] < side:
        return projection, box
    whole = Box(-box.top, -box.left, side - box.top, side - box.left)
    return cut(projection, whole), Box(0, 0, side, side)


def _patch(picture: Tensor, box) -> np.ndarray:
    """Cut a field out of a picture; what lies beyond the edge is grey."""
    shifted = cut(picture.float() - 128, box) + 128
    return _rows_first(shifted.to(torch.uint8))


def _rows_first(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).contiguous().numpy()


def _size(shape: tuple[int, int, int] | None) -> str | None:
    """Write a shape as the paper does, for example 96 maps of 55x55."""
    if shape is None:
        return None
    count, rows, columns = shape
    return str(count) if rows == columns == 1 else f"{count} x {rows} x {columns}"
