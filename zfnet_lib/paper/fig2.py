"""Fig. 2: the strongest units of maps, projected, beside the patches that caused them; and whole atlases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..architecture import Unit
from ..datasets import MissingDataError
from ..deconv import deconv_units
from ..files import ZfnetError, results_root
from ..images import projection_image, read_picture
from ..network import Network
from ..strongest import Block, Squares, blocks, fitted, load_blocks, patch, rows_first, save_blocks, strongest
from ..weights import CheckpointError, open_network
from .fig1 import unit_of
from .grouping import alike_maps, drawn_maps, smallest_square, whole_data
from .plots import DIVIDE, GAP, WIDTH, Figure, Sheet, not_run, panels, tile
from .records import Provenance, Sentence, Stopwatch
from .setting import Setting, Source, class_names, dense_side, network_of, pictures_of, searches


@dataclass(frozen=True)
class Mosaics:
    """Blocks by layer, and what they were computed from; or none, and what computes them."""

    layers: dict[str, list[Block]]
    source: Source | Sentence

    def __getitem__(self, layer: str) -> list[Block]:
        if self.layers and layer not in self.layers:
            raise ZfnetError(f"layer {layer!r} was not computed; here are {', '.join(self.layers)}")
        return self.layers.get(layer, [])


def measure(at: Setting, found: Mapping, maps: int = 6, seed: int = 0) -> Mosaics:
    """Project the strongest units of some maps of each layer: half drawn, before them the most alike of others."""
    squares, layers = Squares(at.net, at.dataset), {}
    for name, top in found.items():
        drawn = drawn_maps(top, maps - maps // 2, seed)
        alike = alike_maps(at.net, squares, top, maps // 2, drawn, seed)
        shown = blocks(at.net, squares, top, [*alike, *drawn])
        layers[name] = [one._replace(chosen="drawn" if one.map in drawn else "most alike") for one in shown]
    return Mosaics(layers, at.source(seed))


def whole(network: str, pictures: str, layers: Sequence[str], live: bool = False) -> Mosaics:
    """Return stored projections of the strongest units over a whole data set."""
    path, shown = results_root("tiny") / "mosaics" / f"{network}--{pictures}.npz", {}
    if live:
        at = Setting(network, open_network(network).features(), whole_data(pictures), Stopwatch())
        found = measure(at, strongest(at.net, at.dataset, layers=layers, progress=True))
        save_blocks(path, [block for layer in found.layers.values() for block in layer], asdict(found.source))
    if not path.exists():
        command = f"`zfnet run fig2 --profile tiny --live`, with {network} and {pictures} at hand"
        return Mosaics({}, Sentence(f"Not run: {command}."))
    try:
        squares = Squares(open_network(network), whole_data(pictures))
    except (MissingDataError, CheckpointError):
        squares = None
    stored, notes = load_blocks(path, squares)
    for block in stored:
        shown.setdefault(block.layer, []).append(block)
    return Mosaics(shown, Source(**notes | {"provenance": Provenance(**notes["provenance"])}))


def draw(blocks: Sequence[Block], title: str, columns: int = 2) -> Figure:
    """Draw one layer of Fig. 2: of each block the strongest projections, beside their patches if all have them.

    Each is cropped to a square around nine tenths of the projection's energy, a third wider than that.
    """
    if not blocks:
        return not_run(title)
    grids = 2 if blocks[0].patches else 1

    def mosaic(block: Block, width: int) -> np.ndarray:
        size = ((width - (grids - 1) * DIVIDE) // grids - 2 * GAP) // 3
        windows = [close_window(pixels) for pixels in block.projections[:9]]
        projections = [pixels[:, *at] for pixels, at in zip(block.projections, windows, strict=False)]
        patches = [seen[at] for seen, at in zip(block.patches, windows, strict=False)] if block.patches else None
        return tile(projections, patches, size)

    names = {", ".join(filter(None, (f"map {block.map}", block.chosen))): block for block in blocks}
    return panels(names, title, mosaic, columns)


def close_window(projection: np.ndarray) -> tuple[slice, slice]:
    """Return rows and columns of a square around nine tenths of a projection's energy [3, s, s]."""
    whole = projection.shape[-1]
    side, *corner = smallest_square(np.square(projection, dtype=float).sum(0))
    wide = min(whole, max(side + side // 3, whole // 4))
    starts = (min(max(0, start - (wide - side) // 2), whole - wide) for start in corner)
    return tuple(slice(start, start + wide) for start in starts)


def project_picture(
    net: Network, picture: Path, layer: str, map: int = -1, name: str = ""
) -> tuple[Figure, Unit, float]:
    """Project a map's strongest unit for a picture in a file; -1 is the map with the largest activation.

    The figure shows the picture with the unit's field outlined, what lies in that field, and the projection.
    """
    x = net.prepare([read_picture(picture)])
    trace = net.trace(x, upto=net.require(layer))
    unit = unit_of(trace, layer, map)
    activation = float(trace[layer].maps[0][unit.place])
    shown, seen = deconv_units(net, x, [unit]), net.preparation.visible(x)[0]
    projection, box = fitted(shown.projections[0].cpu(), shown.boxes[0], x.shape[-1])
    gap = 0.15
    side = (WIDTH - 4 * gap) / 3
    title = f"{name or net.name}, {layer}, map {unit.map}: activation {activation:.3g}"
    sheet = Sheet(Sheet.HEAD + side + 0.35, title)
    arrays = {"the picture": rows_first(seen), "what the unit sees": patch(seen, box)}
    arrays["its projection"] = projection_image(projection.numpy())
    for place, (words, array) in enumerate(arrays.items()):
        x = gap + place * (side + gap)
        sheet.picture(array, x, Sheet.HEAD, side, side)
        sheet.text(x + side / 2, Sheet.HEAD + side + 0.15, words)
    sheet.frame(gap, Sheet.HEAD, side / seen.shape[-1], box.clipped(*seen.shape[-2:]))
    return sheet.figure, unit, activation


def microscope(networks: Sequence[str], pictures: str, folder: Path, **how) -> Path:
    """Write the atlases of networks over one data set, and the page that shows them; `how` as of an atlas."""
    from ..browser.pages import require_own, write_browser  # whose widgets take long to load

    places = {title_of(network): network for network in networks}
    if len(places) < len(networks):
        raise ZfnetError(f"two of {', '.join(networks)} have the same name; give each network once")
    require_own(folder)
    atlases = [folder if len(places) == 1 else folder / name for name in places]
    for network, place in zip(networks, atlases, strict=True):
        network_atlas(network, pictures, place, **how)
    return write_browser(folder, atlases, f"zfnet atlas {' '.join(networks)} --pictures {pictures} --out {folder}")


def title_of(network: str) -> str:
    """Return what a network by name, folder or function is called in titles and folders."""
    return Path(network).name.replace(":", "-")


def network_atlas(
    network: str, pictures: str, folder: Path, *, side: int = 0, weights=None, random=False, layers=None, **how
) -> Path:
    """Write the atlas of a network over a data set, both by name; see `open_network` and `write_atlas`."""
    from ..browser.atlas import write_atlas

    profile = "tiny"  # whose networks are shipped, fetched or trained here
    made = weights or random or ":" in network  # a stored network keeps its classifier at any size
    net = open_network(network, weights, random, side, layers) if made else network_of(profile, network)
    classes = () if weights or random else class_names(profile, network)
    dataset = pictures_of(profile, pictures, dense=True)
    how |= {"classes": classes, "searches": searches(), "layers": layers}
    side = side or dense_side(profile, net, dataset)
    return write_atlas(net, dataset, folder, name=title_of(network), side=side, **how)
