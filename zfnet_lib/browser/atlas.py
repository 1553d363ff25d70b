"""Atlases: the strongest units of every map of a network over a data set, as sheets of small pictures.

A folder holds `manifest.json`, the layers' sheets and covers, and the whole pictures that the units were found in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..files import SUMS, ZfnetError, check, storing
from ..images import Preparation, projection_image, robust_maximum
from ..network import ConvNet, Network
from ..paper.plots import grid
from ..probe import ProbedNet
from ..strongest import Squares, TopUnits, blocks, rows_first, strongest
from ..weights import fingerprint

FORMAT, MANIFEST = 3, "manifest.json"
TILE, SHOWN, ROWS = 64, 9, 32  # side of a small picture in pixels, units of each map, and maps on a sheet
COVER, COLUMNS = 48, 16  # side of a cover's small picture in pixels, and how many stand side by side
SIDE = 320  # the longer side of a whole picture in pixels, at most
WEBP = {"quality": 75, "method": 4}  # two atlases stay under 40 MB
CONTRAST = (
    "each projection is grey where it is 0 and reaches full contrast at the 99th percentile of its absolute values "
    "that are not 0"
)
FILTERS = "; the filters of layer 1 share one contrast"


def write_atlas(
    net: Network,  # the layers of its outline are looked at; its classifier says what pictures show
    dataset,
    folder: Path,  # becomes the atlas; one of other weights, pictures or maps is replaced
    *,
    name: str = "",  # of the weights; the architecture's by default
    side: int = 0,  # of the input at which the layers look at the pictures; the network's own by default
    maps: int = 0,  # of each layer but those of which filters are shown, drawn by a fixed seed; 0 takes all
    others: int = 0,  # units of each other map; 0 leaves these out
    layers: Sequence[str] | None = None,  # instead of those of the outline
    classes: Sequence[str] = (),  # of the network: its answers stand in for labels of photographs, or for none
    searches: Path | None = None,  # where `strongest` keeps its search, or finds it done
    progress: bool = False,  # shows bars, and names the pictures that cannot be read and are left out
) -> Path:
    """Write the atlas of a network over a data set, or leave the one that is there if it is the same."""
    if side < 0 or maps < 0:
        raise ZfnetError(
            f"an atlas of {maps} maps at {side} pixels is impossible; 0 takes all, and the network's own"
        )
    photographs = hasattr(dataset, "windows")
    answering = bool(classes and net.classes and (photographs or len(dataset.classes) < 2))
    part = net.features(side=side)
    shown_layers = tuple(map(part.require, layers or part.outline))
    made_as = [FORMAT, TILE, SHOWN, COVER, SIDE, WEBP["quality"], name, maps, others]
    made_as += [list(classes), dataset.fingerprint]
    key = fingerprint(net if answering else net.features(), [made_as, shown_layers, fingerprint(part)])
    if folder.is_dir() and any(folder.iterdir()) and not is_atlas(folder):
        raise ZfnetError(f"{folder} holds something that is no atlas; choose another folder for it")
    manifest = {}
    with suppress(ZfnetError):
        manifest = read_manifest(folder)
    if manifest.get("key") != key:
        if manifest and progress:
            tqdm.write(
                f"{folder} held an atlas of {manifest['name']} over {manifest['dataset']}, which is replaced"
            )
        with storing(folder) as temporary:
            temporary.mkdir()
            options = {"variety": photographs, "folder": searches, "progress": progress}
            found = strongest(part, dataset, min(SHOWN, len(dataset)), shown_layers, **options)
            squares = Squares(part, dataset)
            written = [_write_layer(squares, top, maps, others, temporary, progress) for top in found.values()]
            shown = sorted({image for layer in written for entry in layer["entries"] for image in entry["images"]})
            manifest = {
                "format": FORMAT,
                "key": key,
                "name": name or net.name,
                "network": net.spec.name if isinstance(net, ConvNet) else net.name,
                "side": part.preparation.crop,
                "pictures": f"{dataset.name} {dataset.split} ({dataset.fingerprint})",
                "dataset": dataset.name,
                "classes": list(dataset.classes),
                "photographs": photographs,
                "tile": TILE,
                "contrast": CONTRAST + FILTERS * isinstance(net, ConvNet),
                "architecture": _described(net, part, shown_layers),
                "answers": _answers(net, classes, dataset, shown) if answering else {},
                "layers": written,
                "left_out": [dataset.names[image] for image in found.left_out],
                **_write_pictures(dataset, part.preparation, shown, temporary),
            }
            (temporary / MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
    if progress and (names := manifest["left_out"]):
        tqdm.write(f"{manifest['name']}: unreadable pictures left out: {len(names)} ({', '.join(names)})")
    return folder


def _write_layer(
    squares: Squares, top: TopUnits, maps: int, others: int, folder: Path, progress: bool
) -> dict[str, Any]:
    """Write a layer's sheets and its cover, and return what the manifest says of it."""
    net, layer = squares.net, top.layer
    first = isinstance(net, ConvNet) and layer == net.layers[0]  # it is shown by its filters
    field, _ = net.fields(layer, net.preparation.crop, net.preparation.crop)
    active = (top.score > 0).any(1).nonzero().flatten()
    order = torch.randperm(len(active), generator=torch.Generator().manual_seed(0))
    drawn = active[order[: None if first else maps or None]]  # filters are always all shown
    image = top.image.masked_fill(top.score <= 0, -1)  # of few pictures some may not excite a map
    if others:  # of the other maps fewer units are kept
        rest = torch.ones(len(image), dtype=torch.bool)
        rest[drawn] = False
        image[rest, others:] = -1
        drawn = active
    top = replace(top, image=image)
    chosen = drawn.sort().values.tolist()
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    sheets, entries, tiles, cover = [], [], [], []
    made = blocks(net, squares, top, chosen, ROWS)
    for block in tqdm(made, layer, len(chosen), unit=" maps", disable=not progress):
        shown = [projection_image(pixels) for pixels in block.projections]
        for pictures in (shown, block.patches):  # a row: nine projections, nine patches
            tiles += [*pictures, *[blank] * (SHOWN - len(pictures))]
        cover.append(shown[0])
        entries.append(
            {
                "map": block.map,
                "scores": [float(f"{score:.4g}") for score in block.scores],
                "images": [unit.image for unit in block.units],
                "places": [[unit.row, unit.column] for unit in block.units],
                "boxes": [list(box) for box in block.boxes],
            }
        )
        if len(entries) % ROWS == 0 or len(entries) == len(chosen):
            sheets.append(f"{layer}-{len(sheets)}.webp")
            Image.fromarray(grid(tiles, 2 * SHOWN, size=TILE, gap=0)).save(folder / sheets[-1], **WEBP)
            tiles = []
    side = COVER
    if first and cover:  # all at one contrast (Fig. 5), pixel for pixel
        weights = net.get_submodule(layer).weight.detach().cpu().numpy()
        cover = [projection_image(weights[number], robust_maximum(weights)) for number in chosen]
        side = len(cover[0])
    picture = Image.fromarray(grid(cover, COLUMNS, size=side, rows=1, gap=0))
    picture.save(folder / f"{layer}.webp", lossless=first, **WEBP)
    return {
        "layer": layer,
        "maps": len(top.score),
        "active": len(active),
        "field": field.size,
        "stride": field.stride,
        "rows": ROWS,
        "sheets": sheets,
        "cover": {"sheet": f"{layer}.webp", "tile": side, "columns": COLUMNS, "exact": first},
        "entries": entries,
    }


def _write_pictures(dataset, preparation: Preparation, images: Iterable[int], folder: Path) -> dict[str, Any]:
    """Write the wholes of some pictures, small: of crops the photographs that they were cut from.

    Return which whole each image is of, and where in it the network looked.
    """
    (folder / "pictures").mkdir()
    numbers, sources, seen = {}, [], {}
    photographs, share = hasattr(dataset, "windows"), preparation.crop / preparation.short_side
    for image in images:
        whole = dataset.windows[image][0] if photographs else image
        if whole not in numbers:
            picture = dataset.photographs[whole] if photographs else dataset[whole].picture
            numbers[whole] = len(sources)
            sources.append({"file": f"pictures/{whole}.webp", "size": [picture.shape[2], picture.shape[1]]})
            smaller = Image.fromarray(rows_first(picture))
            smaller.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            smaller.save(folder / sources[-1]["file"], **WEBP)
        width, height = sources[numbers[whole]]["size"]
        side = min(width, height)
        top, left = (height - side) / 2, (width - side) / 2
        if photographs:
            _, top, left, side = dataset.windows[image]
        edge = (side - side * share) / 2  # the network sees the centre
        window = ((left + edge) / width, (top + edge) / height, side * share / width, side * share / height)
        labels = dataset.labels[image]
        known = np.flatnonzero(labels == 1).tolist() if dataset.multilabel else [int(labels)]
        seen[str(image)] = {
            "name": dataset.names[image],
            "labels": known if len(dataset.classes) > 1 else [],
            "source": numbers[whole],
            "window": [round(share, 4) for share in window],
        }
    return {"sources": sources, "seen": seen}


@torch.inference_mode()
def _answers(net: Network, classes: Sequence[str], dataset, images: Sequence[int]) -> dict[str, Any]:
    """Return what a network takes pictures for: by index, its most probable class and that class's probability."""
    answers = {}
    for start in range(0, len(images), 32):
        part = images[start : start + 32]
        trace = net.trace(net.prepare([dataset[i].picture for i in part]), keep=())  # without dropout
        sure, chosen = trace.logits.softmax(1).max(1)
        for image, probability, label in zip(part, sure.tolist(), chosen.tolist(), strict=True):
            answers[str(image)] = [classes[label], float(f"{probability:.2g}")]
    return answers


def _described(net: Network, part: Network, shown: Sequence[str]) -> list[dict[str, Any]]:
    """Return a network's layers as plain values, with the sides of their maps for the input of its part."""
    side, layers = part.preparation.crop, []
    if isinstance(part, ProbedNet):
        shapes = part.shapes(side, side)
        return [{"name": name, "maps": shapes[name][0], "side": shapes[name][1]} for name in shown]
    spec, shapes = net.spec, part.spec.shapes(side, side)
    for conv in spec.convs:
        layers.append({"name": conv.name, "maps": conv.maps, "side": shapes[conv.name][1]})
        layers[-1] |= {"kernel": conv.kernel, "stride": conv.stride, "groups": conv.groups}
        if conv.pool:
            layers[-1] |= {"pool": conv.pool.size, "pooled": shapes[conv.pool_name][1]}
    return layers + [{"name": layer.name, "units": layer.units} for layer in spec.layers[len(spec.convs) :]]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an atlas's manifest."""
    try:
        check(folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        files = [name for layer in manifest["layers"] for name in (*layer["sheets"], layer["cover"]["sheet"])]
        for name in files + [source["file"] for source in manifest["sources"]]:
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise ValueError(f"{name!r} lies outside it")
            if not (folder / name).exists():
                raise ValueError(f"{name} is missing")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        repair = f"write it with: zfnet atlas NETWORK --out {folder}"
        raise ZfnetError(f"{folder} holds no atlas ({error}); {repair}") from error


def is_atlas(folder: Path) -> bool:
    """Tell whether a folder holds an atlas, be it a damaged one."""
    sums = folder / SUMS
    return (folder / MANIFEST).exists() or (sums.exists() and MANIFEST in sums.read_text(errors="replace"))
