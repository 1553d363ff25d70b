"""The manifest of an atlas: what it says of the network, and how it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..architecture import ArchSpec, Conv, Shape, receptive_field
from ..files import SUMS, ZfnetError, check, storing
from ..images import Preparation, projection_image, robust_maximum
from ..network import ConvNet
from ..strongest import Block, Squares, TopUnits, blocks, rows_first, strongest

FORMAT = 3
TILE, SHOWN, ROWS = 64, 9, 32
"""Side of a small picture in pixels, units of each map, and maps on a sheet."""

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an atlas's manifest.

    Raises:
        ZfnetError: There is no atlas, or it is damaged.
    """
    try:
        check(folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        outside = [name for name in _files(manifest) if ".." in Path(name).parts or Path(name).is_absolute()]
        if outside:
            raise ValueError(f"{outside[0]!r} lies outside it")
        missing = [name for name in _files(manifest) if not (folder / name).exists()]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        repair = f"write it with: zfnet atlas NETWORK --out {folder}"
        raise ZfnetError(f"{folder} holds no atlas ({error}); {repair}") from error


def is_atlas(folder: Path) -> bool:
    """Tell whether a folder holds an atlas, be it a damaged one."""
    sums = folder / SUMS
    return (folder / MANIFEST).exists() or (sums.exists() and MANIFEST in sums.read_text(errors="replace"))


def _files(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield the name of every picture file that a manifest speaks of."""
    for layer in manifest["layers"]:
        yield from layer["sheets"]
        yield layer["cover"]["sheet"]
    for source in manifest["sources"]:
        yield source["file"]


def described(spec: ArchSpec, side: int) -> list[dict[str, Any]]:
    """Return a network's layers as plain values, with the sides of their maps for an input of `side` pixels.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> described(ZFNET, 224)[0]["side"], [layer["name"] for layer in described(ZFNET, 224)][5:]
        (110, ['fc6', 'fc7', 'fc8'])
    """
    shapes = spec.features().shapes(side, side)
    above = spec.layers[len(spec.convs) :]
    return [_convolution(conv, shapes) for conv in spec.convs] + [
        {"name": layer.name, "units": layer.units} for layer in above
    ]


def _convolution(conv: Conv, shapes: dict[str, Shape]) -> dict[str, Any]:
    facts = {"name": conv.name, "maps": conv.maps, "side": shapes[conv.name][1]}
    facts |= {"kernel": conv.kernel, "stride": conv.stride, "groups": conv.groups}
    if conv.pool:
        facts |= {"pool": conv.pool.size, "pooled": shapes[conv.pool_name][1]}
    return facts


# Where the units of an atlas were found: whole pictures, the square that the network saw, and what it is of.

SIDE, QUALITY = 320, 75
"""The longer side of a whole picture in pixels, at most, and the quality of its WebP."""

FOLDER = "pictures"
BATCH = 32
"""Pictures that are classified at once."""

Window = tuple[float, float, float, float]
"""Left, top, width and height as shares of a picture's width and height."""


class Sources:
    """The pictures of a data set as wholes: photographs that its squares were cut from, else its own pictures.

    Args:
        dataset: A data set.
        preparation: Cuts out what the network sees.
    """

    def __init__(self, dataset, preparation: Preparation):
        self.dataset = dataset
        self.photographs = hasattr(dataset, "windows")
        self.share = preparation.crop / preparation.short_side

    def write(self, images: Iterable[int], folder: Path) -> dict[str, Any]:
        """Write the wholes of some pictures, small, and return what the manifest says of them.

        Args:
            images: Indices in the data set.
            folder: Of the atlas.
        """
        (folder / FOLDER).mkdir()
        numbers, sources, seen = {}, [], {}
        for image in sorted(images):
            whole = self.dataset.photograph(image) if self.photographs else image
            if whole not in numbers:
                numbers[whole] = len(sources)
                picture = self._picture(whole)
                sources.append({"file": f"{FOLDER}/{whole}.webp", "size": [picture.shape[2], picture.shape[1]]})
                save_small(picture, folder / sources[-1]["file"])
            window = self._window(image, *sources[numbers[whole]]["size"])
            seen[str(image)] = self._named(image) | {
                "source": numbers[whole],
                "window": [round(share, 4) for share in window],
            }
        return {"sources": sources, "seen": seen}

    def _picture(self, whole: int) -> Tensor:
        return self.dataset.photographs[whole] if self.photographs else self.dataset[whole].picture

    def _window(self, image: int, width: int, height: int) -> Window:
        """Return the square that the network saw: the centre of a crop, or of the picture."""
        if self.photographs:
            _, top, left, side = self.dataset.windows[image]
        else:
            side = min(width, height)
            top, left = (height - side) / 2, (width - side) / 2
        seen = side * self.share
        edge = (side - seen) / 2
        return (left + edge) / width, (top + edge) / height, seen / width, seen / height

    def _named(self, image: int) -> dict[str, Any]:
        labels = self.dataset.labels
        several = labels.ndim == 2
        known = np.flatnonzero(labels[image] == 1).tolist() if several else [int(labels[image])]
        return {"name": self.dataset.names[image], "labels": known if len(self.dataset.classes) > 1 else []}


def save_small(picture: Tensor, path: Path) -> None:
    """Write a picture, uint8 [3, h, w], so that its longer side has `SIDE` pixels at most."""
    image = Image.fromarray(rows_first(picture))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.save(path, quality=QUALITY, method=4)


@torch.inference_mode()
def first_answers(net: ConvNet, classes: Sequence[str], dataset, images: Iterable[int]) -> dict[str, Any]:
    """Return what a network takes pictures for: by index, its most probable class and that class's probability.

    Args:
        net: With its classifier, at the size that it takes.
        classes: Their names.
        dataset: A data set.
        images: Indices in it.
    """
    images, answers = sorted(images), {}
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        sure, chosen = net(net.prepare([dataset[i].picture for i in part])).softmax(1).max(1)
        for image, probability, label in zip(part, sure.tolist(), chosen.tolist(), strict=True):
            answers[str(image)] = [classes[label], float(f"{probability:.2g}")]
    return answers


# The sheets of an atlas: many small pictures in one file.

COVER, COLUMNS = 48, 16
"""Side of a cover's small picture in pixels, and how many stand side by side."""

QUALITY_OF_SHEETS = 75
"""Of the sheets' WebP: the atlases of both networks of the book stay under 40 MB."""


def strip(block: Block) -> np.ndarray:
    """Return a map's row of a sheet: nine projections, then nine patches; missing ones are white."""
    shown = [projection_image(pixels) for pixels in block.projections]
    row = np.full((TILE, 2 * SHOWN * TILE, 3), 255, np.uint8)
    for start, pictures in ((0, shown), (SHOWN, block.patches)):
        for place, picture in enumerate(pictures, start):
            row[:, place * TILE : (place + 1) * TILE] = _resized(picture, TILE)
    return row


def front(block: Block) -> np.ndarray:
    """Return what stands for a map on its layer's cover: its strongest projection."""
    return _resized(projection_image(block.projections[0]), COVER)


def filters(net: ConvNet, maps: Sequence[int]) -> list[np.ndarray]:
    """Return filters of layer 1 as pictures, all at one contrast (Fig. 5), pixel for pixel."""
    weights = net.get_submodule(net.spec.convs[0].name).weight.detach().cpu().numpy()
    scale = robust_maximum(weights)
    return [projection_image(weights[number], scale) for number in maps]


def save_sheet(path: Path, rows: Sequence[np.ndarray]) -> str:
    """Write rows one beneath the other, and return the file's name."""
    Image.fromarray(np.concatenate(rows)).save(path, quality=QUALITY_OF_SHEETS, method=4)
    return path.name


def save_cover(path: Path, pictures: Sequence[np.ndarray], exact: bool = False) -> dict[str, Any]:
    """Write the small pictures of a layer's maps as a grid, and return what the manifest says of it.

    Args:
        path: Of a WebP file.
        pictures: uint8 [s, s, 3] each, in the order of the manifest's entries; a layer may have none.
        exact: Lose nothing: the pictures are so small that one looks at their pixels.
    """
    side = len(pictures[0]) if pictures else COVER
    rows = max(ceil(len(pictures) / COLUMNS), 1)
    grid = np.full((rows * side, COLUMNS * side, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        grid[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
    Image.fromarray(grid).save(path, quality=QUALITY_OF_SHEETS, method=4, lossless=exact)
    return {"sheet": path.name, "tile": side, "columns": COLUMNS, "exact": exact}


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture at another size; one that becomes at least four times as large stays crisp."""
    how = Image.Resampling.NEAREST if 4 * len(picture) <= side else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((side, side), how))


# Writes an atlas, or leaves the one that is there if it is the same.

CONTRAST = (
    "each projection is grey where it is 0 and reaches full contrast at the 99th percentile of its absolute values "
    "that are not 0; the filters of layer 1 share one contrast"
)


def write_atlas(
    net: ConvNet,
    dataset,
    folder: Path,
    *,
    name: str = "",
    side: int = 0,
    maps: int = 0,
    seed: int = 0,
    classes: Sequence[str] = (),
    searches: Path | None = None,
    progress: bool = False,
) -> Path:
    """Write the atlas of a network over a data set, or leave the one that is there if it is the same.

    Args:
        net: The network; its convolutional layers are looked at, its classifier says what it takes pictures for.
        dataset: A data set with a fingerprint.
        folder: Becomes the atlas; one of other weights, pictures or maps is replaced.
        name: What to call the weights; the architecture's name by default.
        side: Of the input at which the layers look at the pictures; the network's own by default.
        maps: How many maps of each layer above the first, drawn by seed; 0 takes all. Layer 1 is always whole.
        seed: Of the draw.
        classes: The network's names for its classes. Where they are known, its first answers stand in for the
            labels of photographs, and of other pictures without labels.
        searches: Where `strongest` keeps its search, or finds it done.
        progress: Show bars, and name the pictures that cannot be read and are left out.

    Returns:
        The folder.

    Raises:
        ZfnetError: A data set without pictures, a negative number, or a folder that holds something else.
    """
    if side < 0 or maps < 0:
        raise ZfnetError(
            f"an atlas of {maps} maps at {side} pixels is impossible; 0 takes all, and the network's own"
        )
    answering = bool(classes and net.spec.classes and (hasattr(dataset, "windows") or len(dataset.classes) < 2))
    judge = net if answering else net.features()
    part = net.features(side=side).eval()
    wanted = _key(judge, part, dataset, name, maps, seed, classes)
    if folder.is_dir() and any(folder.iterdir()) and not is_atlas(folder):
        raise ZfnetError(f"{folder} holds something that is no atlas; choose another folder for it")
    if _is_whole(folder, wanted):
        _name_left_out(folder, progress)
        return folder
    variety = hasattr(dataset, "windows")
    k = min(SHOWN, len(dataset))
    with storing(folder) as temporary:
        temporary.mkdir()
        found = strongest(part, dataset, k, variety=variety, folder=searches, progress=progress)
        layers = _write_layers(part, dataset, found, maps, seed, temporary, progress)
        shown = {image for layer in layers for entry in layer["entries"] for image in entry["images"]}
        manifest = {
            "format": FORMAT,
            "key": wanted,
            "name": name or net.spec.name,
            "network": net.spec.name,
            "side": part.preparation.crop,
            "pictures": f"{dataset.name} {dataset.split} ({dataset.fingerprint})",
            "dataset": dataset.name,
            "classes": list(dataset.classes),
            "photographs": variety,
            "tile": TILE,
            "contrast": CONTRAST,
            "architecture": described(net.spec, part.preparation.crop),
            "answers": first_answers(net, classes, dataset, shown) if answering else {},
            "layers": layers,
            "left_out": [dataset.names[image] for image in found.left_out],
            **Sources(dataset, part.preparation).write(shown, temporary),
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
    _name_left_out(folder, progress)
    return folder


def _name_left_out(folder: Path, progress: bool) -> None:
    manifest = read_manifest(folder)
    names = manifest["left_out"]
    if names and progress:
        tqdm.write(f"{manifest['name']}: unreadable pictures left out: {len(names)} ({', '.join(names)})")


def _write_layers(
    net: ConvNet, dataset, found: dict[str, TopUnits], maps: int, seed: int, folder: Path, progress: bool
) -> list[dict[str, Any]]:
    squares, first = Squares(net, dataset), net.spec.convs[0].name
    return [
        _write_layer(net, squares, hits, _drawn(hits, 0 if layer == first else maps, seed), folder, progress)
        for layer, hits in found.items()
    ]


def _write_layer(
    net: ConvNet, squares: Squares, hits: TopUnits, maps: Sequence[int], folder: Path, progress: bool
) -> dict[str, Any]:
    """Write a layer's sheets and its cover, and return what the manifest says of it."""
    made = tqdm(blocks(net, squares, hits, maps, ROWS), hits.layer, len(maps), unit=" maps", disable=not progress)
    names, entries, rows, fronts = [], [], [], []
    for block in made:
        rows.append(strip(block))
        fronts.append(front(block))
        entries.append(_entry(block, squares.dataset))
        if len(rows) == ROWS or len(entries) == len(maps):
            names.append(save_sheet(folder / f"{hits.layer}-{len(names)}.webp", rows))
            rows = []
    first = hits.layer == net.spec.convs[0].name
    cover = filters(net, maps) if first else fronts
    field = receptive_field(net.spec, hits.layer)
    return {
        "layer": hits.layer,
        "maps": net.spec.conv(hits.layer).maps,
        "active": int((hits.score > 0).any(1).sum()),
        "field": field.size,
        "stride": field.stride,
        "rows": ROWS,
        "sheets": names,
        "cover": save_cover(folder / f"{hits.layer}.webp", cover, exact=first),
        "entries": entries,
    }


def _entry(block: Block, dataset) -> dict[str, Any]:
    """Return what the manifest says of a map: scores, pictures, places in the map, boxes in the picture, labels."""
    labels = dataset.labels
    known = labels.ndim == 1
    return {
        "map": block.map,
        "scores": [float(f"{score:.4g}") for score in block.scores],
        "images": [unit.image for unit in block.units],
        "names": block.names,
        "places": [[unit.row, unit.column] for unit in block.units],
        "boxes": [list(box) for box in block.boxes],
        "labels": [int(labels[unit.image]) for unit in block.units] if known else [],
    }


def _drawn(hits: TopUnits, maps: int, seed: int) -> list[int]:
    """Return the maps that are shown: those of which anything is active."""
    active = (hits.score > 0).any(1).nonzero().flatten()
    if maps:
        order = torch.randperm(len(active), generator=torch.Generator().manual_seed(seed))
        active = active[order[:maps]].sort().values
    return active.tolist()


def _is_whole(folder: Path, key: str) -> bool:
    try:
        return read_manifest(folder)["key"] == key
    except ZfnetError:
        return False


def _key(judge: ConvNet, part: ConvNet, dataset, name: str, maps: int, seed: int, classes: Sequence[str]) -> str:
    """Return a hash of everything that the atlas depends on."""
    made_as = [FORMAT, TILE, SHOWN, COVER, QUALITY_OF_SHEETS, SIDE, QUALITY, name, maps, seed]
    values = [*made_as, dataset.fingerprint, judge.spec.to_dict(), list(classes)]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for preparation in (judge.preparation, part.preparation):
        digest.update(f"{preparation.short_side} {preparation.crop}".encode())
        for tensor in (preparation.mean, preparation.scale):
            digest.update(_bytes(tensor))
    for tensor in judge.state_dict().values():
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy().data
