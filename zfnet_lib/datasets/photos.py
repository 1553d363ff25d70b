"""`photos`: the real photographs inside the scikit-image and scikit-learn wheels, cut into squares."""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import Tensor

from ..images import read_picture
from .samples import DataError, Dataset, Sample

PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",
    "cat": "skimage/data/chelsea.png",
    "coffee": "skimage/data/coffee.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "rocket": "skimage/data/rocket.jpg",
    "temple": "sklearn/datasets/images/china.jpg",
    "dahlia": "sklearn/datasets/images/flower.jpg",
    "galaxies": "skimage/data/hubble_deep_field.jpg",
    "cameraman": "skimage/data/camera.png",
    "coins": "skimage/data/coins.png",
    "moon": "skimage/data/moon.png",
    "bricks": "skimage/data/brick.png",
    "gravel": "skimage/data/gravel.png",
    "grass": "skimage/data/grass.png",
}
"""Name and place of each photograph, colour first; drawings, print, microscopy and medicine are left out."""

SCALES = (1.0, 0.6, 0.36)
"""Sides of the squares as shares of the photograph's shorter side."""

DENSE = 3.0
"""Density of the crops in which the strongest units are looked for: some 1,500."""


def wheel_path(place: str) -> Path:
    """Return where a file that lies inside an installed package is; nothing is ever downloaded."""
    package, _, inside = place.partition("/")
    spec = find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / inside if spec else Path(place)
    if not path.is_file():
        raise DataError(
            f"the installed {package} lacks {inside}; reinstall it: pip install --force-reinstall zfnet-lib"
        )
    return path


def square_grid(height: int, width: int, side: int, density: float) -> list[tuple[int, int]]:
    """Return top left corners of squares that cover a photograph evenly, centred.

    Args:
        height: Of the photograph in pixels.
        width: Of the photograph in pixels.
        side: Of the squares.
        density: Squares per square's length along each axis: 1 leaves little overlap, 4 overlaps by 3/4.

    Example:
        >>> square_grid(100, 200, 100, 1)
        [(0, 0), (0, 100)]
    """

    def starts(length: int) -> list[int]:
        count = 1 + round((length - side) / side * density)
        gap = (length - side) / max(count - 1, 1)
        return [round(gap * k) for k in range(count)] if count > 1 else [(length - side) // 2]

    return [(top, left) for top in starts(height) for left in starts(width)]


class Photos(Dataset):
    """The photographs as squares: of each the centre square, then grids of crops at three scales.

    Args:
        split: "val", the only one.
        density: Crops per crop's length along each axis: 1 overlaps little; 4 gives some thousand crops.

    Attributes:
        windows: Photograph, and top, left and side of the crop in its pixels, of each picture.

    Raises:
        DataError: Another split, or a density that is not positive.

    Example:
        >>> photos = Photos()
        >>> picture, label = photos[0]
        >>> photos.classes[label], photos[0].name, tuple(picture.shape)
        ('astronaut', 'astronaut 512x512+0+0', (3, 512, 512))
    """

    def __init__(self, split: str = "val", *, density: float = 1.0):
        if split != "val":
            raise DataError(f"photos has no split {split!r}; its only split is val")
        if density <= 0:
            raise DataError(f"the density of crops is positive; given {density}")
        self.name, self.split = "photos", split
        self.classes = tuple(PHOTOGRAPHS)
        self.windows = [
            (label, top, left, side)
            for label, photograph in enumerate(self.photographs)
            for top, left, side in _windows(*photograph.shape[1:], density)
        ]
        self.labels = np.array([label for label, *_ in self.windows])

    @cached_property
    def photographs(self) -> tuple[Tensor, ...]:
        """The whole photographs, uint8 [3, h, w]."""
        return tuple(read_picture(wheel_path(place)) for place in PHOTOGRAPHS.values())

    def photograph(self, i: int) -> int:
        """Return the index of the photograph that crop i was cut from."""
        return self.windows[i][0]

    def sample(self, i: int) -> Sample:
        """Cut crop i."""
        label, top, left, side = self.windows[i]
        picture = self.photographs[label][:, top : top + side, left : left + side].contiguous()
        return Sample(picture, label, name=self.names[i])

    @cached_property
    def names(self) -> list[str]:
        """Photograph and crop: width x height + left + top."""
        return [f"{self.classes[label]} {side}x{side}+{left}+{top}" for label, top, left, side in self.windows]

    def content(self) -> str:
        """Return the hash of the photographs."""
        digest = hashlib.sha256()
        for photograph in self.photographs:
            digest.update(photograph.numpy().data)
        return digest.hexdigest()


def _windows(height: int, width: int, density: float) -> list[tuple[int, int, int]]:
    """Return (top, left, side): the centre square first, then the grids, each square once."""
    short = min(height, width)
    windows = [((height - short) // 2, (width - short) // 2, short)]
    for scale in SCALES:
        side = round(scale * short)
        windows += [(top, left, side) for top, left in square_grid(height, width, side, density)]
    return list(dict.fromkeys(windows))
