"""The atlas of a network: for every map its nine strongest units, as sheets of small pictures with a manifest.

A sheet holds a row for each map: nine projections, then the nine patches that caused them. `manifest.json` says
which map stands where, and gives scores, pictures, places and labels. Browsers read both; nothing else is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .activations import strongest
from .figures import projection_image
from .mosaics import Block, Squares, blocks
from .network import ConvNet
from .paths import ZfnetError, replacing
from .ranking import Hits
from .receptive import receptive_field

FORMAT = 1
TILE, SHOWN, ROWS = 64, 9, 32
"""Side of a small picture in pixels, units of each map, and maps on a sheet."""

QUALITY = 75
"""Of the sheets' WebP: the atlases of both networks of the book stay under 40 MB."""

MANIFEST = "manifest.json"


def write_atlas(
    net: ConvNet, dataset, folder: Path, *, maps: int = 0, seed: int = 0, progress: bool = False
) -> Path:
    """Write the atlas of a network over a data set, or leave the one that is there if it is the same.

    Args:
        net: The network; only its convolutional layers are looked at.
        dataset: A data set with a fingerprint.
        folder: Becomes the atlas; one of other weights, pictures or maps is replaced.
        maps: How many maps of each layer, drawn by seed; 0 takes all.
        seed: Of the draw.
        progress: Show bars.

    Returns:
        The folder.

    Raises:
        ZfnetError: A data set that is too small, or a folder that holds something else.
    """
    wanted = _key(net, dataset, maps, seed)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ZfnetError(f"{folder} holds something that is no atlas; choose another folder for it")
    if _is_whole(folder, wanted):
        return folder
    part = net.features().eval()
    found = strongest(part, dataset, SHOWN, variety=hasattr(dataset, "windows"), progress=progress)
    squares, layers = Squares(part, dataset), []
    with replacing(folder) as temporary:
        temporary.mkdir()
        for hits in found.values():
            layers.append(_write_layer(part, squares, hits, _drawn(hits, maps, seed), temporary, progress))
        manifest = {
            "format": FORMAT,
            "key": wanted,
            "network": net.spec.name,
            "side": net.preparation.crop,
            "pictures": f"{dataset.name} {dataset.split} ({dataset.fingerprint})",
            "classes": list(dataset.classes),
            "tile": TILE,
            "contrast": "each projection is grey where it is 0 and reaches full contrast at the 99th percentile of "
            "its absolute values that are not 0",
            "layers": layers,
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an atlas's manifest.

    Raises:
        ZfnetError: There is no atlas, or it is damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        missing = [name for layer in manifest["layers"] for name in layer["sheets"] if not (folder / name).exists()]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        repair = f"write it with: zfnet atlas NETWORK --out {folder}"
        raise ZfnetError(f"{folder} holds no atlas ({error}); {repair}") from error


def _write_layer(
    net: ConvNet, squares: Squares, hits: Hits, maps: Sequence[int], folder: Path, progress: bool
) -> dict[str, Any]:
    """Write a layer's sheets, and return what the manifest says of it."""
    made = tqdm(blocks(net, squares, hits, maps, ROWS), hits.layer, len(maps), unit=" maps", disable=not progress)
    sheets, entries, rows = [], [], []
    for block in made:
        rows.append(np.concatenate([_row(block.projections, True), _row(block.patches, False)], axis=1))
        entries.append(_entry(block, squares.dataset))
        if len(rows) == ROWS or len(entries) == len(maps):
            name = f"{hits.layer}-{len(sheets)}.webp"
            Image.fromarray(np.concatenate(rows)).save(folder / name, quality=QUALITY, method=4)
            sheets.append(name)
            rows = []
    field = receptive_field(net.spec, hits.layer)
    count = net.spec.conv(hits.layer).maps
    return {
        "layer": hits.layer,
        "maps": count,
        "field": field.size,
        "stride": field.stride,
        "rows": ROWS,
        "sheets": sheets,
        "entries": entries,
    }


def _row(pictures: Sequence[np.ndarray], projections: bool) -> np.ndarray:
    """Return up to nine small pictures side by side; missing ones are white."""
    row = np.full((TILE, SHOWN * TILE, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        shown = Image.fromarray(projection_image(picture) if projections else picture)
        how = Image.Resampling.NEAREST if 4 * shown.width <= TILE else Image.Resampling.BICUBIC
        row[:, place * TILE : (place + 1) * TILE] = np.asarray(shown.resize((TILE, TILE), how))
    return row


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


def _key(net: ConvNet, dataset, maps: int, seed: int) -> str:
    """Return a hash of everything that the atlas depends on."""
    preparation = net.preparation
    made_as = [FORMAT, TILE, SHOWN, QUALITY, maps, seed]
    values = [
        *made_as,
        dataset.fingerprint,
        preparation.short_side,
        preparation.crop,
        net.spec.features().to_dict(),
    ]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for tensor in (*net.features().state_dict().values(), preparation.mean, preparation.scale):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
