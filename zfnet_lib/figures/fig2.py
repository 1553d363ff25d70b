"""Fig. 2: projections of the strongest units on grey, beside the patches of the pictures that caused them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .colour import projection_image, require_picture
from .sheet import Sheet, not_run
from .style import DPI, WIDTH, Figure, FigureError

SIDE = 3
"""Rows and columns of a map's grid."""
GAP, DIVIDE = 2, 8
"""White pixels between small pictures, and between projections and patches."""
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


def tile(projections: Sequence[np.ndarray], patches: Sequence[np.ndarray] | None, size: int) -> np.ndarray:
    """Set one map's projections in a 3x3 grid on white, with its patches in a second grid to the right (Fig. 2).

    Every projection has its own contrast (`projection_image`). Pictures that become at least four times as large
    keep their pixels visible; others are resized bicubically.

    Args:
        projections: Up to nine square arrays [3, h, w]; missing ones leave white places.
        patches: As many square uint8 pictures [h, w, 3], or None for the projections alone.
        size: Side of each small picture in pixels.

    Returns:
        uint8 [3 size + 4, 6 size + 16, 3], or [3 size + 4, 3 size + 4, 3] without patches.

    Raises:
        FigureError: Wrong shapes or numbers.

    Example:
        >>> tile([np.zeros((3, 7, 7))] * 9, None, 20)[:, :, 0].shape
        (64, 64)
    """
    if not 1 <= len(projections) <= SIDE**2 or size < 1:
        raise FigureError(f"a tile takes 1 to 9 projections and a positive size; given {len(projections)}, {size}")
    shown = _grid([projection_image(pixels) for pixels in projections], size)
    if patches is None:
        return shown
    if len(patches) != len(projections):
        raise FigureError(f"every projection has one patch; given {len(projections)} and {len(patches)}")
    divide = np.full((len(shown), DIVIDE, 3), 255, np.uint8)
    return np.hstack([shown, divide, _grid([require_picture(patch) for patch in patches], size)])


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


def _grid(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """Set up to nine pictures in a 3x3 grid with white gaps."""
    side = SIDE * size + (SIDE - 1) * GAP
    grid = np.full((side, side, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (n * (size + GAP) for n in divmod(place, SIDE))
        grid[top : top + size, left : left + size] = resized(picture, size)
    return grid


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """Return a square uint8 picture at another size; one that becomes at least four times as large stays crisp."""
    if picture.shape[0] != picture.shape[1]:
        raise FigureError(f"a mosaic takes square pictures; given {picture.shape[0]}x{picture.shape[1]}")
    crisp = size >= 4 * len(picture)
    how = Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((size, size), how))
