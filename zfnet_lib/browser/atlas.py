"""Atlases: the strongest units of every map of a network over a data set, as sheets of small pictures.

A folder holds `manifest.json`, the layers' sheets and covers, and the whole pictures that the units were found in.
"""

from __future__ import annotations

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

from ..architecture import ArchSpec, receptive_field
from ..files import SUMS, ZfnetError, check, storing
from ..images import Preparation, projection_image, robust_maximum
from ..network import ConvNet
from ..strongest import Squares, TopUnits, blocks, rows_first, strongest
from ..weights import fingerprint

FORMAT, MANIFEST = 3, "manifest.json"

TILE, SHOWN, ROWS = 64, 9, 32
"""Side of a small picture in pixels, units of each map, and maps on a sheet."""

COVER, COLUMNS = 48, 16
"""Side of a cover's small picture in pixels, and how many stand side by side."""

SIDE, QUALITY = 320, 75
"""The longer side of a whole picture in pixels, at most; and of every WebP: two atlases stay under 40 MB."""

BATCH = 32
"""Pictures that are classified at once."""

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
    photographs = hasattr(dataset, "windows")
    answering = bool(classes and net.spec.classes and (photographs or len(dataset.classes) < 2))
    judge = net if answering else net.features()
    part = net.features(side=side).eval()
    made_as = [FORMAT, TILE, SHOWN, COVER, SIDE, QUALITY, name, maps, seed, list(classes), dataset.fingerprint]
    key = fingerprint(judge, [made_as, fingerprint(part)])
    if folder.is_dir() and any(folder.iterdir()) and not is_atlas(folder):
        raise ZfnetError(f"{folder} holds something that is no atlas; choose another folder for it")
    try:
        whole = read_manifest(folder)["key"] == key
    except ZfnetError:
        whole = False
    if not whole:
        with storing(folder) as temporary:
            temporary.mkdir()
            options = {"variety": photographs, "folder": searches, "progress": progress}
            found = strongest(part, dataset, min(SHOWN, len(dataset)), **options)
            squares, layers = Squares(part, dataset), []
            for hits in found.values():
                layers.append(_write_layer(squares, hits, maps, seed, temporary, progress))
            shown = {image for layer in layers for entry in layer["entries"] for image in entry["images"]}
            manifest = {
                "format": FORMAT,
                "key": key,
                "name": name or net.spec.name,
                "network": net.spec.name,
                "side": part.preparation.crop,
                "pictures": f"{dataset.name} {dataset.split} ({dataset.fingerprint})",
                "dataset": dataset.name,
                "classes": list(dataset.classes),
                "photographs": photographs,
                "tile": TILE,
                "contrast": CONTRAST,
                "architecture": described(net.spec, part.preparation.crop),
                "answers": _answers(net, classes, dataset, shown) if answering else {},
                "layers": layers,
                "left_out": [dataset.names[image] for image in found.left_out],
                **_write_pictures(dataset, part.preparation, shown, temporary),
            }
            (temporary / MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
    manifest = read_manifest(folder)
    names = manifest["left_out"]
    if names and progress:
        tqdm.write(f"{manifest['name']}: unreadable pictures left out: {len(names)} ({', '.join(names)})")
    return folder


def _write_layer(
    squares: Squares, hits: TopUnits, maps: int, seed: int, folder: Path, progress: bool
) -> dict[str, Any]:
    """Write a layer's sheets and its cover, and return what the manifest says of it."""
    net, labels = squares.net, squares.dataset.labels
    first = hits.layer == net.spec.convs[0].name
    active = (hits.score > 0).any(1).nonzero().flatten()
    chosen = active
    if maps and not first:
        order = torch.randperm(len(active), generator=torch.Generator().manual_seed(seed))
        chosen = active[order[:maps]].sort().values
    chosen = chosen.tolist()
    made = tqdm(
        blocks(net, squares, hits, chosen, ROWS), hits.layer, len(chosen), unit=" maps", disable=not progress
    )
    sheets, entries, rows, cover = [], [], [], []
    for block in made:
        shown = [projection_image(pixels) for pixels in block.projections]
        row = np.full((TILE, 2 * SHOWN * TILE, 3), 255, np.uint8)  # nine projections, nine patches
        for start, pictures in ((0, shown), (SHOWN, block.patches)):
            for place, picture in enumerate(pictures, start):
                row[:, place * TILE : (place + 1) * TILE] = resized(picture, TILE)
        rows.append(row)
        cover.append(resized(shown[0], COVER))
        entries.append(
            {
                "map": block.map,
                "scores": [float(f"{score:.4g}") for score in block.scores],
                "images": [unit.image for unit in block.units],
                "names": block.names,
                "places": [[unit.row, unit.column] for unit in block.units],
                "boxes": [list(box) for box in block.boxes],
                "labels": [int(labels[unit.image]) for unit in block.units] if labels.ndim == 1 else [],
            }
        )
        if len(rows) == ROWS or len(entries) == len(chosen):
            sheets.append(f"{hits.layer}-{len(sheets)}.webp")
            Image.fromarray(np.concatenate(rows)).save(folder / sheets[-1], quality=QUALITY, method=4)
            rows = []
    if first:  # its filters themselves, all at one contrast (Fig. 5), pixel for pixel
        weights = net.get_submodule(hits.layer).weight.detach().cpu().numpy()
        cover = [projection_image(weights[number], robust_maximum(weights)) for number in chosen]
    field = receptive_field(net.spec, hits.layer)
    return {
        "layer": hits.layer,
        "maps": net.spec.conv(hits.layer).maps,
        "active": len(active),
        "field": field.size,
        "stride": field.stride,
        "rows": ROWS,
        "sheets": sheets,
        "cover": _write_cover(folder / f"{hits.layer}.webp", cover, exact=first),
        "entries": entries,
    }


def _write_cover(path: Path, pictures: Sequence[np.ndarray], exact: bool) -> dict[str, Any]:
    """Write what stands for each of a layer's maps as a grid; where exact, pixel for pixel."""
    side = len(pictures[0]) if pictures else COVER
    rows = max(ceil(len(pictures) / COLUMNS), 1)
    grid = np.full((rows * side, COLUMNS * side, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        grid[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
    Image.fromarray(grid).save(path, quality=QUALITY, method=4, lossless=exact)
    return {"sheet": path.name, "tile": side, "columns": COLUMNS, "exact": exact}


def _write_pictures(dataset, preparation: Preparation, images: Iterable[int], folder: Path) -> dict[str, Any]:
    """Write the wholes of some pictures, small; say which each image is of, and where in it the network looked.

    Of crops the wholes are the photographs that they were cut from.
    """
    (folder / "pictures").mkdir()
    numbers, sources, seen = {}, [], {}
    photographs, share = hasattr(dataset, "windows"), preparation.crop / preparation.short_side
    for image in sorted(images):
        whole = dataset.photograph(image) if photographs else image
        if whole not in numbers:
            picture = dataset.photographs[whole] if photographs else dataset[whole].picture
            numbers[whole] = len(sources)
            sources.append({"file": f"pictures/{whole}.webp", "size": [picture.shape[2], picture.shape[1]]})
            save_small(picture, folder / sources[-1]["file"])
        width, height = sources[numbers[whole]]["size"]
        side = min(width, height)
        top, left = (height - side) / 2, (width - side) / 2
        if photographs:
            _, top, left, side = dataset.windows[image]
        edge = (side - side * share) / 2  # the network sees the centre
        window = ((left + edge) / width, (top + edge) / height, side * share / width, side * share / height)
        labels = dataset.labels[image]
        known = np.flatnonzero(labels == 1).tolist() if dataset.labels.ndim == 2 else [int(labels)]
        seen[str(image)] = {
            "name": dataset.names[image],
            "labels": known if len(dataset.classes) > 1 else [],
            "source": numbers[whole],
            "window": [round(share, 4) for share in window],
        }
    return {"sources": sources, "seen": seen}


def save_small(picture: Tensor, path: Path) -> None:
    """Write a picture, uint8 [3, h, w], so that its longer side has `SIDE` pixels at most."""
    image = Image.fromarray(rows_first(picture))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.save(path, quality=QUALITY, method=4)


@torch.inference_mode()
def _answers(net: ConvNet, classes: Sequence[str], dataset, images: Iterable[int]) -> dict[str, Any]:
    """Return what a network takes pictures for: by index, its most probable class and that class's probability."""
    images, answers = sorted(images), {}
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        sure, chosen = net(net.prepare([dataset[i].picture for i in part])).softmax(1).max(1)
        for image, probability, label in zip(part, sure.tolist(), chosen.tolist(), strict=True):
            answers[str(image)] = [classes[label], float(f"{probability:.2g}")]
    return answers


def described(spec: ArchSpec, side: int) -> list[dict[str, Any]]:
    """Return a network's layers as plain values, with the sides of their maps for an input of `side` pixels.

    Example:
        >>> from zfnet_lib import ZFNET
        >>> described(ZFNET, 224)[0]["side"], [layer["name"] for layer in described(ZFNET, 224)][5:]
        (110, ['fc6', 'fc7', 'fc8'])
    """
    shapes, layers = spec.features().shapes(side, side), []
    for conv in spec.convs:
        layers.append({"name": conv.name, "maps": conv.maps, "side": shapes[conv.name][1]})
        layers[-1] |= {"kernel": conv.kernel, "stride": conv.stride, "groups": conv.groups}
        if conv.pool:
            layers[-1] |= {"pool": conv.pool.size, "pooled": shapes[conv.pool_name][1]}
    return layers + [{"name": layer.name, "units": layer.units} for layer in spec.layers[len(spec.convs) :]]


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture at another size; one that becomes at least four times as large stays crisp."""
    how = Image.Resampling.NEAREST if 4 * len(picture) <= side else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((side, side), how))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an atlas's manifest."""
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
