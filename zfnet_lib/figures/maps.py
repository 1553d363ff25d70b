"""A layer's maps as small pictures: where in the picture each of them is active."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from .filters import in_square
from .style import HEAT, FigureError


def heat(values: np.ndarray, top: float | None = None) -> np.ndarray:
    """Colour values from 0 to `top`, each a pixel.

    Args:
        values: Finite [..., h, w]; what exceeds `top` is clipped.
        top: The value with the brightest colour; the largest by default.

    Returns:
        uint8 [..., h, w, 3].

    Raises:
        FigureError: Values that are not finite.

    Example:
        >>> heat(np.array([[0.0, 2.0]])).tolist()
        [[[68, 1, 84], [253, 231, 36]]]
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise FigureError("the values hold NaN or infinite ones; compute them again")
    top = values.max(initial=0.0) if top is None else top
    return colormaps[HEAT](values / (top or 1.0), bytes=True)[..., :3]


def grid_of_maps(maps: np.ndarray, width: int) -> np.ndarray:
    """Set all maps of a layer in a grid about as high as wide, in the layer's order, at one contrast.

    Args:
        maps: [maps, h, h], rectified.
        width: Of the grid in pixels, at most.

    Returns:
        uint8 [h, w, 3]; ceil(sqrt(maps)) columns.

    Raises:
        FigureError: Another shape.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or not maps.size:
        raise FigureError(f"the maps of a layer are an array [maps, h, h]; given {list(maps.shape)}")
    return in_square(heat(maps), width)
