"""Pictures in and out: reading, resizing, the ten views, preparation (section 3), and projections on grey."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from .files import ZfnetError

GREY = 128  # means 0: to a network whose mean is not known, in projections, beyond edges, where transparent
# What a picture's content may be, whatever its name ends in. Pillow would hand PostScript to another program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MOST = 89_000_000  # pixels of a picture; at a few more Pillow begins to warn of decompression bombs
# What reading fails with because of the file itself; EINVAL: in a damaged one Pillow seeks to before its beginning.
FILES_OWN = (
    *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENOENT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
)
LONGEST = 10  # times that the longer side may be as long as the shorter one; of more, the middle is looked at


class PictureError(ZfnetError, ValueError):
    """A picture that cannot be read or has the wrong form."""


def as_picture(image: Image.Image | np.ndarray | Tensor) -> Tensor:
    """Turn a PIL picture or a uint8 array [h, w], [h, w, 3] or [h, w, 4] into a picture tensor, uint8 [3, h, w].

    What is transparent is laid on `GREY`. Grey of 16 bits is divided by 257. Nothing says what 32-bit integers and
    floats range over: they are scaled by the smallest of 0 to 1, 0 to 255 and 0 to 65535 that holds them all, and
    stretched from the least to the largest where none does.
    """
    if isinstance(image, Tensor):
        if image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3 and image.numel():
            return image
        given = f"{str(image.dtype)[6:]} {list(image.shape)}"
        raise PictureError(f"a picture tensor is uint8 [3, h, w], not empty; given {given}")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,), (4,)) or image.ndim < 2 or not image.size:
            given = f"{image.dtype} {list(image.shape)}"
            raise PictureError(f"a picture array is uint8 [h, w], [h, w, 3] or [h, w, 4], not empty; given {given}")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise PictureError(f"a picture is a PIL picture, an array or a tensor; given {type(image).__name__}")
    if 0 in image.size:
        raise PictureError(f"a picture has at least one pixel; given {image.width}x{image.height}")
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        low, high = values.min(), values.max()
        if not np.isfinite([low, high]).all():
            raise PictureError("it holds NaN or infinite values")
        if image.mode.startswith("I;16"):
            low, high = 0, 65535
        elif low >= 0 and high <= 65535:
            low, high = 0, next(top for top in (1, 255, 65535) if high <= top)
        image = Image.fromarray(np.rint((values - low) * (255 / max(high - low, 1e-30))).astype(np.uint8))
    elif image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (GREY, GREY, GREY, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    image = image if image.mode == "RGB" else image.convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def is_passing(error: Exception) -> TypeGuard[OSError]:
    """Tell whether reading failed for the disk's or the system's sake: the file may be whole."""
    return isinstance(error, OSError) and error.errno not in (None, *FILES_OWN)


def read_picture(file: str | Path | bytes, name: str = "") -> Tensor:
    """Read a file of one of `FORMATS`, or its content, upright, as uint8 [3, h, w]; of several frames the first."""
    name = name or str(file)
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
            if image.width * image.height > MOST:
                raise Image.DecompressionBombError
            with suppress(Exception):  # damaged EXIF data say nothing of the pixels, which are read next
                ImageOps.exif_transpose(image, in_place=True)
            return as_picture(image)
    except FileNotFoundError:
        raise PictureError(f"there is no picture {name}; give the path of a JPEG or PNG file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"{name} has more than {MOST // 10**6} million pixels; save it smaller") from None
    except UnidentifiedImageError:
        reason = f"it is none of {', '.join(FORMATS)}"
    except MemoryError:
        raise
    except Exception as error:  # damage makes Pillow's decoders raise whatever they stumble over
        if is_passing(error):
            again = "it may be whole; run the command again when the disk and the system are well"
            raise ZfnetError(f"{name} cannot be read now ({error.strerror}); {again}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
    raise PictureError(f"{name} cannot be read as a picture ({reason}); convert it to JPEG or PNG, or leave it out")


def middle(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of what is looked at: all, or the middle of a very long picture."""
    most = LONGEST * min(height, width)
    rows, columns = min(height, most), min(width, most)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def resize_short_side(picture: Tensor, side: int) -> Tensor:
    """Resize uint8 [..., h, w] so that the shorter side has `side` pixels (section 3: 256), antialiased bicubic."""
    if min(picture.shape[-2:]) == side:
        return picture
    top, left, h, w = middle(*picture.shape[-2:])
    picture = picture[..., top : top + h, left : left + w]
    size = tuple(side * n // min(h, w) for n in (h, w))
    resized = interpolate(picture.reshape(-1, 3, h, w), size, mode="bicubic", antialias=True)
    return resized.reshape(*picture.shape[:-2], *size)


def centre_square(picture: Tensor, side: int) -> Tensor:
    """Cut the centre square of `side` pixels (section 3) out of [..., h, w]."""
    h, w = picture.shape[-2:]
    if side > min(h, w):
        raise PictureError(f"a view of {side} pixels does not fit into {h}x{w}; resize the picture first")
    top, left = (h - side) // 2, (w - side) // 2
    return picture[..., top : top + side, left : left + side]


def ten_views(x: Tensor, crop: int) -> Tensor:
    """Cut the corners and the centre of [n, c, h, w] and mirror each (section 3): [10, n, c, crop, crop]."""
    centre, (bottom, right) = centre_square(x, crop), (n - crop for n in x.shape[-2:])
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    views = torch.stack([*(x[..., top : top + crop, left : left + crop] for top, left in corners), centre])
    return torch.cat([views, views.flip(-1)])


@dataclass(frozen=True)
class Preparation:
    """How pictures become a network's input (section 3); it travels with the weights."""

    short_side: int  # the shorter side is resized to this many pixels, and the centre square kept
    crop: int  # side of the view that the network sees, at most `short_side`
    mean: Tensor  # subtracted, in [0, 255]: per pixel [3, short_side, short_side], or per channel [3, 1, 1]
    scale: Tensor  # divides after the mean, [3, 1, 1]; ones for the paper's networks, whose input is raw
    # A network of one channel has a mean and a scale [1, 1, 1], and sees the mean of red, green and blue.

    @classmethod
    def grey(cls, crop: int) -> Preparation:
        """Return the preparation before any training mean is known: mean 128, raw range, 256 pixels for 224."""
        return cls(round(crop * 256 / 224), crop, torch.full((3, 1, 1), float(GREY)), torch.ones(3, 1, 1))

    def resized(self, crop: int) -> Preparation:
        """Return the same preparation for another input size; a per-pixel mean is interpolated."""
        side, mean = round(self.short_side * crop / self.crop), self.mean
        if mean.shape[-1] > 1:
            mean = interpolate(mean[None], (side, side), mode="bilinear")[0]
        return replace(self, short_side=side, crop=crop, mean=mean)

    def square(self, picture: Image.Image | np.ndarray | Tensor) -> Tensor:
        """Resize one picture and keep its centre square: uint8 [3, short_side, short_side]."""
        return centre_square(resize_short_side(as_picture(picture), self.short_side), self.short_side)

    def normalise(self, squares: Tensor) -> Tensor:
        """Subtract the mean and divide by the scale: uint8 [n, 3, short_side, short_side] to float32."""
        values = squares.float() if len(self.mean) == 3 else squares.float().mean(-3, keepdim=True)
        return (values - self.mean.to(squares.device)) / self.scale.to(squares.device)

    def __call__(self, pictures: Tensor | Sequence) -> Tensor:
        """Prepare one or several pictures (see `as_picture`) in the centre view: float32 [n, 3, crop, crop]."""
        if isinstance(pictures, Image.Image | np.ndarray) or getattr(pictures, "ndim", 0) == 3:
            pictures = [pictures]
        if not len(pictures):
            raise PictureError("there are no pictures to prepare; give at least one")
        squares = torch.stack([self.square(picture) for picture in pictures])
        return centre_square(self.normalise(squares), self.crop)

    def visible(self, x: Tensor) -> Tensor:
        """Undo the normalisation of centre views [n, 3, crop, crop], so that they can be looked at: uint8."""
        mean = centre_square(self.mean, self.crop) if self.mean.shape[-1] > 1 else self.mean
        seen = (x.cpu() * self.scale + mean).round().clamp(0, 255).to(torch.uint8)
        return seen.expand(*seen.shape[:-3], 3, *seen.shape[-2:])


class FigureError(ZfnetError, ValueError):
    """Arrays that a figure cannot draw."""


def robust_maximum(pixels: np.ndarray) -> float:
    """Return the 99th percentile of the absolute values but for zeros, as beyond a field; 1 if all are 0."""
    return float(np.percentile(np.abs(pixels[pixels != 0]), 99)) if np.any(pixels) else 1.0


def projection_image(pixels: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Colour a projection [3, h, w] as in Fig. 2: 0 is the grey 128, `scale` full contrast; uint8 [h, w, 3].

    By default the scale is the `robust_maximum`, so that a few extreme pixels do not leave the rest grey.

    Example:
        >>> import numpy as np
        >>> from zfnet_lib.images import projection_image
        >>> projection_image(np.array([-2.0, 0.0, 1.0]).reshape(3, 1, 1), scale=2).tolist()
        [[[1, 128, 192]]]
    """
    pixels = np.asarray(pixels, dtype=np.float64)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.size:
        raise FigureError(f"a projection is an array [3, h, w] or [1, h, w]; given {list(pixels.shape)}")
    if not np.isfinite(pixels).all():
        raise FigureError("the projection holds NaN or infinite values; project the unit again")
    scale = robust_maximum(pixels) if scale is None else scale
    if not scale > 0:
        raise FigureError(f"the scale of a projection is a positive number; given {scale}")
    signed = np.clip(pixels / scale, -1, 1)
    image = np.rint(GREY + (255 - GREY) * signed).astype(np.uint8).transpose(1, 2, 0)
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def require_picture(picture: np.ndarray) -> np.ndarray:
    """Return a picture as an array, or refuse what is not uint8 [h, w, 3]."""
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise FigureError(f"a picture is a uint8 array [h, w, 3]; given {picture.dtype} {list(picture.shape)}")
    return picture
