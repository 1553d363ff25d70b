"""`shapes`: pictures made in code, with structure to learn; the data of the smoke profile.

A picture shows textured objects made of parts (`objects`) on a cluttered background. Which pixels belong to
which object and part is known. Picture `i` depends on the seed, the family, the split and `i` alone.
"""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .kinds import TEXTURES, Kind, Outline, Part, ellipse, polygon
from .objects import OBJECTS, OTHER_OBJECTS
from .samples import Box, DataError, Dataset, Sample, mask_box

FAMILIES = {"shapes": OBJECTS, "shapes-transfer": OTHER_OBJECTS, "shapes-scenes": OBJECTS}
SPLITS = {"train": 4096, "val": 1024}
OVERSAMPLING = 4
"""Outlines are drawn this much larger and averaged down, so that their edges are smooth."""


@dataclass(frozen=True)
class ShownObject:
    """An object in a picture: its class, the mask of its visible pixels [h, w], its box and its parts' masks."""

    label: int
    mask: Tensor
    box: Box | None
    parts: dict[str, Tensor]


class Canvas:
    """A picture in the making: colours in [0, 1] and, per pixel, the number of the part that is on top."""

    def __init__(self, size: int):
        self.colours = np.zeros((size, size, 3), np.float32)
        self.owner = np.zeros((size, size), np.int16)

    def paint(self, part: Part, matrix: np.ndarray, colour: tuple, number: int, opacity: float = 1.0) -> None:
        """Paint a part over what is there.

        Args:
            part: Outlines and texture.
            matrix: From the object's frame to pixels, [2, 3].
            colour: Hue, saturation, value.
            number: Whose pixels these become; 0 is the background, which has no dark rim.
            opacity: Share of the part's colour.
        """
        hue, saturation, value = colour
        rgb = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
        rgb, inverse = np.array(rgb, np.float32), np.linalg.inv(matrix[:, :2])
        for outline in part.outlines:
            corners = outline @ matrix[:, :2].T + matrix[:, 2]
            window = self._window(corners)
            if window is None:
                continue
            cover, rim = _coverage(corners, window)
            light = _light(part.texture, outline, inverse, matrix[:, 2], window)
            light *= 1 - 0.6 * rim * bool(number)
            shade = np.minimum(rgb * light[..., None], 1)
            self.colours[window] += (opacity * cover)[..., None] * (shade - self.colours[window])
            self.owner[window][cover > 0.5] = number

    def _window(self, corners: np.ndarray) -> tuple[slice, slice] | None:
        (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
        left, top = max(int(left), 0), max(int(top), 0)
        right, bottom = (min(int(end) + 2, len(self.owner)) for end in (right, bottom))
        return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def _light(
    texture: str, outline: Outline, inverse: np.ndarray, centre: np.ndarray, window: tuple[slice, slice]
) -> np.ndarray:
    """Return the brightness of a window's pixels, at least 0: the texture, and light that falls from above."""
    y = np.arange(window[0].start + 0.5, window[0].stop, dtype=np.float32)[:, None] - np.float32(centre[1])
    x = np.arange(window[1].start + 0.5, window[1].stop, dtype=np.float32)[None, :] - np.float32(centre[0])
    low, high = outline.min(0), outline.max(0)
    scale = 2 / (high - low)
    (a, b), (c, d) = (inverse * scale[:, None]).tolist()
    middle_u, middle_v = (scale * (low + high) / 2).tolist()
    u, v = a * x + b * y - middle_u, c * x + d * y - middle_v
    return np.maximum(1 + 0.3 * TEXTURES[texture](u, v) - 0.12 * v, 0)


def _coverage(corners: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """Return which share of each pixel of a window a polygon covers, and which share its rim covers: [2, h, w]."""
    rows, columns = window
    size = ((columns.stop - columns.start) * OVERSAMPLING, (rows.stop - rows.start) * OVERSAMPLING)
    image = Image.new("RGB", size)
    points = ((corners - (columns.start, rows.start)) * OVERSAMPLING).ravel().tolist()
    ImageDraw.Draw(image).polygon(points, fill=(255, 0, 0), outline=(255, 255, 0), width=OVERSAMPLING)
    return np.asarray(image.reduce(OVERSAMPLING), np.float32).transpose(2, 0, 1)[:2] / 255


def _pose(rng: np.random.Generator, centre: tuple[float, float], radius: float, turn: float) -> np.ndarray:
    """Return a random placement [2, 3]: mirrored or not, turned, stretched and sheared a little."""
    angle = np.radians(rng.normal(0, turn))
    c, s = np.cos(angle), np.sin(angle)
    stretch = np.exp(rng.normal(0, 0.1))
    form = np.array([[rng.choice([-1, 1]) * stretch, rng.normal(0, 0.1)], [0, 1 / stretch]])
    return np.column_stack([radius * np.array([[c, -s], [s, c]]) @ form, centre])


def _varied(rng: np.random.Generator, matrix: np.ndarray, part: Part) -> np.ndarray:
    """Move, turn and scale a part a little about its own centre."""
    middle = np.concatenate(part.outlines).mean(0)
    angle, scale = np.radians(rng.normal(0, 4)), np.exp(rng.normal(0, 0.05))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turned = matrix[:, :2] @ np.array([[c, -s], [s, c]])
    return np.column_stack([turned, matrix @ [*(middle + rng.normal(0, 0.02, 2)), 1] - turned @ middle])


def _paint_object(canvas: Canvas, rng: np.random.Generator, kind: Kind, matrix: np.ndarray, number: int) -> None:
    """Paint an object; its parts take the numbers from `number` on."""
    shift = np.array([rng.normal(0, 0.025), rng.normal(-0.03, 0.07), rng.normal(0, 0.07)])
    for offset, part in enumerate(kind.parts):
        colour = np.array(part.colour) + shift + rng.normal(0, (0.008, 0.03, 0.03))
        canvas.paint(part, _varied(rng, matrix, part), tuple(colour), number + offset)


_CLUTTER = (
    (ellipse(0, 0, 1, 1),),
    (polygon(-1, -0.8, 0.9, -1, 1, 0.7, -0.6, 1),),
    (polygon(-1, 0.9, 0, -1, 1, 0.8),),
    (polygon(-1.6, -0.15, 1.6, -0.15, 1.6, 0.15, -1.6, 0.15),),
)


def _paint_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the canvas with cloudy colours, a faint texture, and scraps of anything."""
    size = len(canvas.owner)
    cells = rng.integers(2, 7)
    tint = rng.uniform(0.25, 0.75, 3) + rng.normal(0, 0.13, (cells, cells, 3))
    clouds = Image.fromarray((255 * tint.clip(0, 1)).astype(np.uint8)).resize((size, size), Image.BICUBIC)
    canvas.colours[:] = np.asarray(clouds, np.float32) / 255
    textures = list(TEXTURES)
    whole = Part("ground", (0, 0, 0), (polygon(-3, -3, 3, -3, 3, 3, -3, 3),), textures[rng.integers(len(textures))])
    ground = (rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.8))
    canvas.paint(whole, _pose(rng, (size / 2, size / 2), size * rng.uniform(0.25, 1), 90), ground, 0, 0.35)
    for _ in range(rng.integers(3, 8)):
        scrap = Part(
            "scrap", (0, 0, 0), _CLUTTER[rng.integers(len(_CLUTTER))], textures[rng.integers(len(textures))]
        )
        matrix = _pose(rng, tuple(rng.uniform(0, size, 2)), size * rng.uniform(0.05, 0.2), 90)
        colour = (rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.85))
        canvas.paint(scrap, matrix, colour, 0, rng.uniform(0.4, 0.9))


def _finished(canvas: Canvas, rng: np.random.Generator) -> Tensor:
    """Apply exposure and sensor noise: uint8 [3, h, w]."""
    noise = rng.standard_normal(canvas.colours.shape, dtype=np.float32)
    exposed = 255 * rng.uniform(0.85, 1.1) * canvas.colours + 5 * noise
    return torch.from_numpy(exposed.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1).contiguous()


class Shapes(Dataset):
    """Pictures of the families `shapes`, `shapes-transfer` and `shapes-scenes`.

    Args:
        name: The family. Scenes show two to four objects and have several labels.
        split: "train" or "val".
        size: Side of the pictures in pixels, at least 16.
        n: Number of pictures; by default 4,096 for training and 1,024 for validation.
        seed: Another seed gives other pictures of the same kind.

    Raises:
        DataError: Another split, or a size or number out of range.

    Example:
        >>> shapes = Shapes(split="val", n=32)
        >>> picture, label = shapes[0]
        >>> tuple(picture.shape), shapes.classes[label], sorted(shapes.parts(0))
        ((3, 64, 64), 'fish', ['body', 'eye', 'fins', 'tail'])
    """

    def __init__(
        self,
        name: str = "shapes",
        split: str = "train",
        *,
        size: int = 64,
        n: int | None = None,
        seed: int = 0,
    ):
        if split not in SPLITS:
            raise DataError(f"{name} has no split {split!r}; its splits are {', '.join(SPLITS)}")
        n = SPLITS[split] if n is None else n
        if size < 16 or n < 1:
            raise DataError(f"{name} needs size >= 16 and n >= 1; given size {size} and n {n}")
        self.name, self.split, self.size, self.seed = name, split, size, seed
        self._kinds = FAMILIES[name]
        self.classes = tuple(kind.name for kind in self._kinds)
        if name == "shapes-scenes":
            self.labels = np.full((n, len(self.classes)), -1, np.int8)
            for i in range(n):
                self.labels[i, self._plan(i)[0]] = 1
        else:
            self.labels = np.arange(n) % len(self.classes)

    def sample(self, i: int) -> Sample:
        """Draw picture i."""
        canvas, picture, _ = self._draw(i)
        mask = torch.from_numpy(canvas.owner > 0)
        label = self.labels[i] if self.multilabel else int(self.labels[i])
        return Sample(picture, label, mask_box(mask), mask, f"{self.name}/{self.split}/{i}")

    def objects(self, i: int) -> list[ShownObject]:
        """Return the objects of picture i with the masks of what is visible of them and of their parts."""
        canvas, _, labels = self._draw(i)
        owner = torch.from_numpy(canvas.owner)
        shown, number = [], 1
        for label in labels:
            names = [part.name for part in self._kinds[label].parts]
            parts = {name: owner == number + k for k, name in enumerate(names)}
            mask = (owner >= number) & (owner < number + len(names))
            shown.append(ShownObject(label, mask, mask_box(mask), parts))
            number += len(names)
        return shown

    def parts(self, i: int) -> dict[str, Tensor]:
        """Return the mask [h, w] of each part of the (first) object in picture i."""
        return self.objects(i)[0].parts

    @property
    def names(self) -> list[str]:
        """Family, split and number."""
        return [f"{self.name}/{self.split}/{i}" for i in range(len(self))]

    def content(self) -> str:
        """Return size, seed and a hash of a picture of each class; the others follow from the same code."""
        digest = hashlib.sha256()
        for i in range(min(len(self), len(self.classes))):
            digest.update(self.sample(i).picture.numpy().data)
        return f"{self.size} {self.seed} {digest.hexdigest()}"

    def _plan(self, i: int) -> tuple[list[int], np.random.Generator]:
        """Return the classes of the objects in picture i, and the generator that draws them."""
        family, split = list(FAMILIES).index(self.name), list(SPLITS).index(self.split)
        rng = np.random.default_rng([self.seed, family, split, i])
        if self.name != "shapes-scenes":
            return [i % len(self.classes)], rng
        return sorted(rng.choice(len(self.classes), rng.integers(2, 5), replace=False).tolist()), rng

    def _draw(self, i: int) -> tuple[Canvas, Tensor, list[int]]:
        labels, rng = self._plan(i)
        canvas = Canvas(self.size)
        _paint_background(canvas, rng)
        number = 1
        for label, (centre, radius) in zip(labels, _places(rng, len(labels), self.size), strict=True):
            kind = self._kinds[label]
            _paint_object(canvas, rng, kind, _pose(rng, centre, radius, kind.turn), number)
            number += len(kind.parts)
        return canvas, _finished(canvas, rng), labels


def _places(rng: np.random.Generator, n: int, size: int) -> list[tuple[tuple[float, float], float]]:
    """Return n centres and radii: one object anywhere, several each in a quarter of its own."""
    if n == 1:
        radius = size * rng.uniform(0.24, 0.42)
        return [(tuple(rng.uniform(radius, size - radius, 2)), radius)]
    quarters = rng.permutation([(0.27, 0.27), (0.27, 0.73), (0.73, 0.27), (0.73, 0.73)])[:n]
    return [(tuple(size * (q + rng.uniform(-0.05, 0.05, 2))), size * rng.uniform(0.16, 0.25)) for q in quarters]
