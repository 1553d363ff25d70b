"""The sheets of an atlas: many small pictures in one file."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..figures import projection_image, robust_maximum
from ..mosaics import Block
from ..network import ConvNet
from .manifest import SHOWN, TILE

COVER, COLUMNS = 48, 16
"""Side of a cover's small picture in pixels, and how many stand side by side."""

QUALITY = 75
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
    Image.fromarray(np.concatenate(rows)).save(path, quality=QUALITY, method=4)
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
    Image.fromarray(grid).save(path, quality=QUALITY, method=4, lossless=exact)
    return {"sheet": path.name, "tile": side, "columns": COLUMNS, "exact": exact}


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture at another size; one that becomes at least four times as large stays crisp."""
    how = Image.Resampling.NEAREST if 4 * len(picture) <= side else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((side, side), how))
