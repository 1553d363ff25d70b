"""What features must beat: raw pixels, and a descriptor made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from skimage.feature import hog
from torch import Tensor

from ..images import centre_square, resize_short_side


class Pixels:
    """The picture itself, small, less its own mean."""

    name, layers, side = "pixels", ("pixels",), 32
    key = f"pixels {side}"

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, 3 * 32 * 32]."""
        small = torch.stack([_square(picture, self.side) for picture in pictures]).flatten(1).float()
        return {"pixels": small - small.mean(1, keepdim=True)}


class Hog:
    """Histograms of oriented gradients (Dalal & Triggs) by scikit-image, the classic descriptor made by hand."""

    name, layers, side = "hog", ("hog",), 112
    settings = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "block_norm": "L2-Hys"}
    key = f"hog {side} {settings}"

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, 6084]."""
        squares = (_square(picture, self.side).permute(1, 2, 0).numpy() for picture in pictures)
        found = [hog(square, channel_axis=-1, **self.settings) for square in squares]
        return {"hog": torch.from_numpy(np.stack(found)).float()}


def _square(picture: Tensor, side: int) -> Tensor:
    return centre_square(resize_short_side(picture, side), side)
