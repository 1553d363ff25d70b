"""Writes an atlas, or leaves the one that is there if it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..activations import strongest
from ..files import ZfnetError, storing
from ..mosaics import Block, Squares, blocks
from ..network import ConvNet
from ..ranking import Hits
from ..receptive import receptive_field
from . import sheets, sources
from .manifest import FORMAT, MANIFEST, ROWS, SHOWN, TILE, described, is_atlas, read_manifest

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
            "answers": sources.first_answers(net, classes, dataset, shown) if answering else {},
            "layers": layers,
            "left_out": [dataset.names[image] for image in found.left_out],
            **sources.Sources(dataset, part.preparation).write(shown, temporary),
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
    net: ConvNet, dataset, found: dict[str, Hits], maps: int, seed: int, folder: Path, progress: bool
) -> list[dict[str, Any]]:
    squares, first = Squares(net, dataset), net.spec.convs[0].name
    return [
        _write_layer(net, squares, hits, _drawn(hits, 0 if layer == first else maps, seed), folder, progress)
        for layer, hits in found.items()
    ]


def _write_layer(
    net: ConvNet, squares: Squares, hits: Hits, maps: Sequence[int], folder: Path, progress: bool
) -> dict[str, Any]:
    """Write a layer's sheets and its cover, and return what the manifest says of it."""
    made = tqdm(blocks(net, squares, hits, maps, ROWS), hits.layer, len(maps), unit=" maps", disable=not progress)
    names, entries, rows, fronts = [], [], [], []
    for block in made:
        rows.append(sheets.strip(block))
        fronts.append(sheets.front(block))
        entries.append(_entry(block, squares.dataset))
        if len(rows) == ROWS or len(entries) == len(maps):
            names.append(sheets.save_sheet(folder / f"{hits.layer}-{len(names)}.webp", rows))
            rows = []
    first = hits.layer == net.spec.convs[0].name
    cover = sheets.filters(net, maps) if first else fronts
    field = receptive_field(net.spec, hits.layer)
    return {
        "layer": hits.layer,
        "maps": net.spec.conv(hits.layer).maps,
        "active": int((hits.score > 0).any(1).sum()),
        "field": field.size,
        "stride": field.stride,
        "rows": ROWS,
        "sheets": names,
        "cover": sheets.save_cover(folder / f"{hits.layer}.webp", cover, exact=first),
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


def _drawn(hits: Hits, maps: int, seed: int) -> list[int]:
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
    made_as = [FORMAT, TILE, SHOWN, sheets.COVER, sheets.QUALITY, sources.SIDE, sources.QUALITY, name, maps, seed]
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
