"""Figures 1 and 2: units projected by the deconvnet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Box, Unit
from ..datasets import Dataset, MissingDataError, dataset_entry
from ..deconv import deconv_units, descend, project, unpool
from ..files import ZfnetError, results_root
from ..images import FigureError, read_picture
from ..network import ConvNet, Trace
from ..strongest import Block as Block_from_strongest
from ..strongest import Squares, TopUnits, blocks, fitted, load_blocks, patch, rows_first, save_blocks, strongest
from ..weights import CheckpointError, load_network
from .plots import DIVIDE, DPI, GAP, SIDE, WIDTH, Figure, Sheet, not_run, tile
from .records import Provenance, Stopwatch
from .setting import Setting, Source, opened, searches
from .tables import Note, Table
from .trainings import training_data


@dataclass(frozen=True)
class ProjectedUnit:
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
class Mosaics:
    """Fig. 2: blocks by layer, and what they were computed from, or how to compute them. Empty where not run."""

    layers: dict[str, list[Block_from_strongest]]
    source: Source | Note

    def _repr_markdown_(self) -> str:
        return self.source._repr_markdown_()

    def blocks(self, layer: str) -> list[tuple[int, list[np.ndarray], list[np.ndarray]]]:
        """Return (map, projections, patches) of one layer's maps, as `figures.fig2.mosaic` takes them.

        Raises:
            ZfnetError: The layer was not computed.
        """
        if self.layers and layer not in self.layers:
            raise ZfnetError(f"layer {layer!r} was not computed; here are {', '.join(self.layers)}")
        return [(block.map, block.projections, block.patches or None) for block in self.layers.get(layer, [])]


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


def fig1(
    profile: str, pictures: str = "", network: str = "", picture: int = 0, layer: str = "", map: int = -1
) -> ProjectedUnit:
    """Project one real unit down layer by layer (Fig. 1).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights; the profile's by default.
        picture: Its index in the data set.
        layer: The unit's layer; the highest convolutional one by default.
        map: Its map; -1 takes the map with the largest activation. The unit is the map's strongest.

    Raises:
        ZfnetError: Unknown profile, data set, picture, layer or map.
    """
    chosen = opened(profile, pictures, network)
    net, dataset = chosen.net, chosen.dataset
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
    return ProjectedUnit(
        unit,
        activation,
        rows_first(net.preparation.visible(x)[0]),
        levels,
        *(values.numpy() for values in (window, pooled[0], switches[0], unpooled)),
        pooled_layer=f"{below.name}, map {place}",
        variants=_variants(trace, layer, signal),
        source=chosen.source(),
    )


def measure(
    profile: str,
    pictures: str = "",
    network: str = "",
    layers: Sequence[str] = (),
    maps: int = 6,
    k: int = 9,
    seed: int = 0,
) -> Mosaics:
    """Project the strongest units of a random subset of maps of every layer (Fig. 2).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights; the profile's by default.
        layers: All convolutional layers by default.
        maps: How many maps a layer, drawn with `seed` among those that are active on k pictures.
        k: Units a map, one a picture.
        seed: Of the draw.
    """
    chosen = opened(profile, pictures, network, dense=True)
    net, dataset = chosen.net, chosen.dataset
    found = strongest(net, dataset, k, layers or None, variety=hasattr(dataset, "windows"), folder=searches())
    squares = Squares(net, dataset)
    shown = {layer: list(blocks(net, squares, hits, drawn_maps(hits, maps, seed))) for layer, hits in found.items()}
    return Mosaics(shown, chosen.source(seed))


def fig2_whole(network: str, pictures: str, maps: int = 6, live: bool = False) -> Mosaics:
    """Show stored projections of the strongest units over a whole data set (Fig. 2).

    Args:
        network: Weights.
        pictures: A data set; its patches are shown where it is at hand.
        maps: How many maps of each layer from the second on.
        live: Compute and store them.

    Returns:
        The mosaics; none where nothing is stored.
    """
    path = results_root("tiny") / "mosaics" / f"{network}--{pictures}.npz"
    if live:
        _store_whole(path, network, pictures, maps)
    if not path.exists():
        command = f"`zfnet run fig2 --profile tiny --live`, with {network} and {pictures} at hand"
        return Mosaics({}, Note(f"Not run: {command}."))
    try:
        squares = Squares(load_network(network), whole_data(pictures))
    except (MissingDataError, CheckpointError):
        squares = None
    found, notes = load_blocks(path, squares)
    layers: dict[str, list[Block_from_strongest]] = {}
    for block in found:
        layers.setdefault(block.layer, []).append(block)
    made = Provenance(**notes["provenance"])
    return Mosaics(layers, Source(notes["network"], notes["pictures"], made))


def whole_data(name: str) -> Dataset:
    """Return all pictures of a data set, or those for validation where others were trained on."""
    return training_data(name, "all" if "all" in dataset_entry(name).splits else "val")


def _store_whole(path: Path, network: str, pictures: str, maps: int) -> None:
    chosen = Setting(network, load_network(network).features(), whole_data(pictures), Stopwatch())
    net, dataset = chosen.net, chosen.dataset
    layers = [conv.name for conv in net.spec.convs[1:]]
    found, squares = strongest(net, dataset, layers=layers), Squares(net, dataset)
    shown = [block for hits in found.values() for block in blocks(net, squares, hits, drawn_maps(hits, maps, 0))]
    save_blocks(path, shown, asdict(chosen.source()))


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
    projection, box = fitted(shown.projections[0], shown.boxes[0], x.shape[-1])
    return Shown(unit, activation, rows_first(seen[0]), box, patch(seen[0], box), projection.numpy())


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


def drawn_maps(hits: TopUnits, maps: int, seed: int) -> list[int]:
    """Draw maps that are active on k pictures; each layer draws anew."""
    if maps < 1:
        raise ZfnetError(f"{maps} maps of a layer cannot be drawn; choose at least 1")
    active = (hits.score > 0).all(1).nonzero().flatten()
    generator = torch.Generator().manual_seed(crc32(f"{seed} {hits.layer}".encode()))
    order = torch.randperm(len(active), generator=generator)
    return sorted(active[order[:maps]].tolist())


# Fig. 2: projections of the strongest units on grey, beside the patches of the pictures that caused them.

MARGIN, SPACE, LABEL = 0.05, 0.22, 0.2
"""Inches around the blocks, between them, and for the map number above each."""


class Block(NamedTuple):
    """What a mosaic shows of one map.

    Attributes:
        map: The map's number.
        projections: Up to nine arrays [3, h, w], the strongest first.
        patches: As many uint8 pictures [h, w, 3], or None where the pictures are not at hand.
    """

    map: int
    projections: Sequence[np.ndarray]
    patches: Sequence[np.ndarray] | None


def mosaic(blocks: Sequence[Block | tuple], title: str, columns: int = 2) -> Figure:
    """Draw one layer of Fig. 2: for each map its strongest projections beside their patches.

    Args:
        blocks: One a map: map number, projections and patches as `tile` takes them; all with patches or all
            without; none where it was not run.
        title: The layer, the network and the pictures.
        columns: Maps side by side.

    Raises:
        FigureError: Wrong shapes.
    """
    blocks = [Block(*block) for block in blocks]
    if not blocks:
        return not_run(title)
    if len({block.patches is None for block in blocks}) > 1:
        raise FigureError("a mosaic takes patches for all of its maps or for none")
    grids = 1 if blocks[0].patches is None else 2
    width = (WIDTH - 2 * MARGIN - (columns - 1) * SPACE) / columns
    size = int((width * DPI - (grids - 1) * DIVIDE) / grids - (SIDE - 1) * GAP) // SIDE
    height = (SIDE * size + (SIDE - 1) * GAP) / DPI
    step = height + LABEL + SPACE / 2
    sheet = Sheet(Sheet.HEAD + -(-len(blocks) // columns) * step, title)
    for place, block in enumerate(blocks):
        row, column = divmod(place, columns)
        x, y = MARGIN + column * (width + SPACE), Sheet.HEAD + row * step
        array = tile(block.projections, block.patches, size)
        sheet.text(x, y + LABEL - 0.06, f"map {block.map}", across="left", down="baseline")
        sheet.picture(array, x, y + LABEL, array.shape[1] / DPI, height)
    return sheet.figure
