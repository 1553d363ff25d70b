"""Pure image operations: reading, resizing, cropping, the ten views, and the preparation of section 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from .files import ZfnetError


class PictureError(ZfnetError, ValueError):
    """A picture that cannot be read or has the wrong form."""


def as_picture(image: Image.Image | np.ndarray | Tensor) -> Tensor:
    """Turn a PIL picture or an array into a picture tensor.

    Args:
        image: A PIL picture of any mode (grey and alpha are converted to RGB), a uint8 array
            [h, w], [h, w, 3] or [h, w, 4], or a uint8 tensor [3, h, w].

    Returns:
        uint8 [3, h, w].

    Raises:
        PictureError: Another type or shape.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise PictureError(
                f"a picture tensor is uint8 [3, h, w]; given {str(image.dtype)[6:]} {list(image.shape)}"
            )
        return image
    if isinstance(image, np.ndarray):
        if (
            image.dtype != np.uint8
            or image.ndim not in (2, 3)
            or (image.ndim == 3 and image.shape[2] not in (3, 4))
        ):
            raise PictureError(
                f"a picture array is uint8 [h, w], [h, w, 3] or [h, w, 4]; given {image.dtype} {list(image.shape)}"
            )
        image = Image.fromarray(image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_picture(path: str | Path) -> Tensor:
    """Read a picture file (anything Pillow reads), upright, as uint8 [3, h, w].

    Raises:
        PictureError: The file is missing, is no picture or is damaged.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            return as_picture(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise PictureError(f"there is no picture {path}; give the path of a JPEG or PNG file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise PictureError(
            f"{path} cannot be read as a picture ({error}); convert it to JPEG or PNG, or leave it out"
        ) from error


def resize_short_side(picture: Tensor, side: int) -> Tensor:
    """Resize so that the shorter side measures `side` pixels (section 3: 256), antialiased bicubic.

    Args:
        picture: uint8 [..., h, w].
        side: Pixels, at least 1.

    Returns:
        uint8 [..., h', w'] with min(h', w') = side.
    """
    *before, h, w = picture.shape
    if min(h, w) == side:
        return picture
    size = tuple(side * n // min(h, w) for n in (h, w))
    resized = interpolate(picture.reshape(-1, 3, h, w), size, mode="bicubic", antialias=True)
    return resized.reshape(*before, *size)


def centre_square(picture: Tensor, side: int) -> Tensor:
    """Cut the centre square of `side` pixels (section 3) out of [..., h, w]."""
    top, left = ((n - side) // 2 for n in picture.shape[-2:])
    return picture[..., top : top + side, left : left + side]


def ten_views(x: Tensor, crop: int) -> Tensor:
    """Cut the four corners and the centre and mirror each: the ten sub-crops of section 3.

    Args:
        x: [n, c, h, w].
        crop: Side of a view in pixels, at most min(h, w).

    Returns:
        [10, n, c, crop, crop]: top left, top right, bottom left, bottom right, centre, then their mirrors.

    Raises:
        PictureError: The picture is smaller than a view.

    Example:
        >>> ten_views(torch.zeros(2, 3, 256, 256), 224).shape
        torch.Size([10, 2, 3, 224, 224])
    """
    h, w = x.shape[-2:]
    if crop > min(h, w):
        raise PictureError(f"a view of {crop} pixels does not fit into {h}x{w}; resize the picture first")
    corners = [(0, 0), (0, w - crop), (h - crop, 0), (h - crop, w - crop), ((h - crop) // 2, (w - crop) // 2)]
    views = torch.stack([x[..., top : top + crop, left : left + crop] for top, left in corners])
    return torch.cat([views, views.flip(-1)])


@dataclass(frozen=True)
class Preparation:
    """How pictures become a network's input (section 3); it travels with the weights.

    Attributes:
        short_side: The shorter side is resized to this many pixels; the centre square of it is kept.
        crop: Side of the view that the network sees, at most `short_side`.
        mean: Subtracted, in [0, 255]: per pixel [3, short_side, short_side], or per channel [3, 1, 1].
        scale: Divides after the mean, [3, 1, 1]; ones for the paper's networks, whose input is raw.
    """

    short_side: int
    crop: int
    mean: Tensor
    scale: Tensor

    @classmethod
    def grey(cls, crop: int) -> Preparation:
        """Return the preparation before any training mean is known: mean 128 everywhere, raw range.

        The short side keeps the paper's proportion, 256 for a crop of 224.
        """
        return cls(round(crop * 256 / 224), crop, torch.full((3, 1, 1), 128.0), torch.ones(3, 1, 1))

    def resized(self, crop: int) -> Preparation:
        """Return the same preparation for another input size; a per-pixel mean is interpolated."""
        short_side = round(self.short_side * crop / self.crop)
        mean = self.mean
        if mean.shape[-1] > 1:
            mean = interpolate(mean[None], (short_side, short_side), mode="bilinear")[0]
        return replace(self, short_side=short_side, crop=crop, mean=mean)

    def square(self, picture: Image.Image | np.ndarray | Tensor) -> Tensor:
        """Resize one picture and keep its centre square: uint8 [3, short_side, short_side]."""
        return centre_square(resize_short_side(as_picture(picture), self.short_side), self.short_side)

    def normalise(self, squares: Tensor) -> Tensor:
        """Subtract the mean and divide by the scale: uint8 [n, 3, short_side, short_side] to float32."""
        return (squares.float() - self.mean.to(squares.device)) / self.scale.to(squares.device)

    def __call__(self, pictures: Tensor | Sequence) -> Tensor:
        """Prepare pictures in the centre view.

        Args:
            pictures: uint8 [n, 3, h, w], one picture, or a sequence of pictures as `as_picture` takes.

        Returns:
            float32 [n, 3, crop, crop]; 0 is the mean.
        """
        single = isinstance(pictures, Image.Image | np.ndarray) or (
            isinstance(pictures, Tensor) and pictures.ndim == 3
        )
        if not single and len(pictures) == 0:
            raise PictureError("there are no pictures to prepare; give at least one")
        squares = torch.stack([self.square(picture) for picture in ([pictures] if single else pictures)])
        return centre_square(self.normalise(squares), self.crop)

    def visible(self, x: Tensor) -> Tensor:
        """Undo the normalisation of centre views so that they can be looked at.

        Args:
            x: float [n, 3, crop, crop], as prepared.

        Returns:
            uint8 [n, 3, crop, crop].
        """
        mean = centre_square(self.mean, self.crop) if self.mean.shape[-1] > 1 else self.mean
        return (x.cpu() * self.scale + mean).round().clamp(0, 255).to(torch.uint8)
