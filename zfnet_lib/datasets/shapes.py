"""`shapes`: pictures made in code, the data of the smoke profile; the objects are described in `shapes.toml`.

A picture shows textured objects made of parts on a cluttered background. Which pixels belong to which object and
part is known. Picture `i` depends on the seed, the family, the split and `i` alone.
"""

from __future__ import annotations

import colorsys
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .folders import FACTS
from .samples import DataError, Dataset, Sample, mask_box, pixel_hash

SPLITS = FACTS["datasets"]["shapes"]["images"]
OVERSAMPLING = 4  # outlines are drawn this much larger and averaged down, so that their edges are smooth

# Brightness over a part, at most 1; u and v run from -1 to 1 across the outline.
TEXTURES = {
    "plain": lambda u, v: 0 * u,
    "stripes": lambda u, v: np.sin(9 * u),
    "bars": lambda u, v: np.sin(9 * v),
    "dots": lambda u, v: 1 - 2.6 * (np.sin(6.5 * u) * np.sin(6.5 * v) > 0.35),
    "scales": lambda u, v: np.sin(11 * u + 3 * np.cos(11 * v)),
    "checks": lambda u, v: np.sign(np.sin(7 * u) * np.sin(7 * v)),
    "bricks": lambda u, v: 1 - 2.2 * ((np.sin(12 * v) > 0.75) | (np.sin(8 * u + 3.1 * (np.sin(6 * v) > 0)) > 0.9)),
    "rings": lambda u, v: np.cos(11 * np.hypot(u, v)),
    "rays": lambda u, v: np.sin(9 * np.arctan2(v, u)),
    "pupil": lambda u, v: -2.6 * (np.hypot(u, v) < 0.55),
    "ball": lambda u, v: 0.8 - 1.6 * (u - 0.35) ** 2 - 1.6 * (v + 0.35) ** 2,
}


def rotation(degrees: float) -> np.ndarray:
    """Return the matrix that turns points, the rows before it, clockwise; y points downwards."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def ellipse(x, y, rx, ry, turn=0.0, start=0.0, end=360.0) -> np.ndarray:
    """Return an ellipse, or its sector's arc, around (x, y); angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 25)[: None if end - start < 360 else -1])
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1) @ rotation(turn) + (x, y)


def ring(x, y, outer, inner, start=0.0, end=360.0) -> np.ndarray:
    """Return a band between two circles, slit open at `start` so that it is one polygon."""
    angle = np.radians(np.linspace(start, end, 29))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([outer * circle, inner * circle[::-1]]) + np.array([x, y])


OUTLINES = {
    "polygon": lambda *corners: np.reshape(corners, (-1, 2)),
    "rectangle": lambda x0, y0, x1, y1: np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),
    "ellipse": ellipse,
    "ring": ring,
}


def outlines(text: str) -> list[np.ndarray]:
    """Return what a line of `shapes.toml` describes: an outline [n, 2], or copies of it turned about a point."""
    shape, *words = text.split()
    options = dict(word.split("=") for word in words if "=" in word)
    numbers = [float(word) for word in words if "=" not in word]
    n, first = int(options.pop("copies", 1)), float(options.pop("first", 0))
    centre = np.array(options.pop("about", "0,0").split(","), float)
    outline = OUTLINES[shape](*numbers, **{key: float(value) for key, value in options.items()})
    if n == 1:
        return [outline]
    return [(outline - centre) @ rotation(first + k * 360 / n) + centre for k in range(n)]


class Part(NamedTuple):
    """One part of an object: outlines of one colour (hue, saturation, value) and texture, painted in turn."""

    name: str
    colour: Sequence[float]
    texture: str
    outlines: list[np.ndarray]


class Kind(NamedTuple):
    """A class of objects: its parts from back to front, and how far it turns (degrees, standard deviation)."""

    name: str
    parts: list[Part]
    turn: float


DESCRIBED = tomllib.loads((files(__package__) / "shapes.toml").read_text(encoding="utf-8"))
GROUND, *SCRAPS = (outlines(line)[0] for line in DESCRIBED["background"])
# The kinds of objects that each data set shows: 16, 10 others, and several of the 16 at once.
FAMILIES: dict[str, list[Kind]] = {"shapes": [], "shapes-transfer": []}
for family, kinds in FAMILIES.items():
    for name, entries in DESCRIBED[family].items():
        kinds.append(Kind(name, [], entries.pop("turn")))
        for part, (colour, texture, *lines) in entries.items():
            hsv = DESCRIBED["colours"][colour] if isinstance(colour, str) else colour
            kinds[-1].parts.append(Part(part, hsv, texture, [one for line in lines for one in outlines(line)]))
FAMILIES["shapes-scenes"] = FAMILIES["shapes"]


class Canvas(NamedTuple):
    """A picture in the making: colours [h, w, 3] in [0, 1] and, per pixel, the number of the part on top."""

    colours: np.ndarray
    owner: np.ndarray

    def paint(self, outline: np.ndarray, texture: str, matrix: np.ndarray, colour, number=0, opacity=1.0) -> None:
        """Paint an outline over what is there, placed by a matrix [2, 3]; its pixels get the number."""
        hue, saturation, value = colour
        rgb = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
        corners = outline @ matrix[:, :2].T + matrix[:, 2]
        left, top = (max(int(start), 0) for start in corners.min(0))
        right, bottom = (min(int(end) + 2, len(self.owner)) for end in corners.max(0))
        if right <= left or bottom <= top:
            return
        # Which share of each pixel the polygon covers, and which share its rim.
        image = Image.new("RGB", ((right - left) * OVERSAMPLING, (bottom - top) * OVERSAMPLING))
        points = ((corners - (left, top)) * OVERSAMPLING).ravel().tolist()
        ImageDraw.Draw(image).polygon(points, fill=(255, 0, 0), outline=(255, 255, 0), width=OVERSAMPLING)
        cover, rim, _ = np.asarray(image.reduce(OVERSAMPLING), np.float32).transpose(2, 0, 1) / 255
        # The texture, in the outline's own frame, and light that falls from above.
        y = np.arange(top + 0.5, bottom, dtype=np.float32)[:, None] - np.float32(matrix[1, 2])
        x = np.arange(left + 0.5, right, dtype=np.float32)[None, :] - np.float32(matrix[0, 2])
        low, high = outline.min(0), outline.max(0)
        scale = 2 / (high - low)
        (a, b), (c, d) = (np.linalg.inv(matrix[:, :2]) * scale[:, None]).tolist()
        middle_u, middle_v = (scale * (low + high) / 2).tolist()
        u, v = a * x + b * y - middle_u, c * x + d * y - middle_v
        light = np.maximum(1 + 0.3 * TEXTURES[texture](u, v) - 0.12 * v, 0)
        light *= 1 - 0.6 * rim * bool(number)  # what is no part of an object has no dark rim
        window = slice(top, bottom), slice(left, right)
        shade = np.minimum(np.array(rgb, np.float32) * light[..., None], 1)
        self.colours[window] += (opacity * cover)[..., None] * (shade - self.colours[window])
        self.owner[window][cover > 0.5] = number


def _pose(rng: np.random.Generator, centre: Sequence[float], radius: float, turn: float) -> np.ndarray:
    """Return a random placement [2, 3]: mirrored or not, turned, stretched and sheared a little."""
    angle, stretch = rng.normal(0, turn), np.exp(rng.normal(0, 0.1))
    form = np.array([[rng.choice([-1, 1]) * stretch, rng.normal(0, 0.1)], [0, 1 / stretch]])
    return np.column_stack([radius * rotation(-angle) @ form, centre])


def _background(rng: np.random.Generator, size: int) -> Canvas:
    """Return a canvas of cloudy colours, a faint texture, and scraps of anything."""
    cells = rng.integers(2, 7)
    tint = rng.uniform(0.25, 0.75, 3) + rng.normal(0, 0.13, (cells, cells, 3))
    clouds = Image.fromarray((255 * tint.clip(0, 1)).astype(np.uint8)).resize((size, size), Image.BICUBIC)
    canvas = Canvas(np.asarray(clouds, np.float32) / 255, np.zeros((size, size), np.int16))
    textures = list(TEXTURES)
    texture = textures[rng.integers(len(textures))]
    colour = (rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.8))
    matrix = _pose(rng, (size / 2, size / 2), size * rng.uniform(0.25, 1), 90)
    canvas.paint(GROUND, texture, matrix, colour, opacity=0.35)
    for _ in range(rng.integers(3, 8)):
        outline, texture = SCRAPS[rng.integers(len(SCRAPS))], textures[rng.integers(len(textures))]
        matrix = _pose(rng, rng.uniform(0, size, 2), size * rng.uniform(0.05, 0.2), 90)
        colour = (rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.85))
        canvas.paint(outline, texture, matrix, colour, opacity=rng.uniform(0.4, 0.9))
    return canvas


class ShownObject(NamedTuple):
    """An object in a picture: its class, the mask of its visible pixels [h, w] and its parts' masks."""

    label: int
    mask: Tensor
    parts: dict[str, Tensor]


class Shapes(Dataset):
    """Pictures of the families `shapes`, `shapes-transfer` and `shapes-scenes`: `size` pixels wide, `n` of them.

    Scenes show two to four objects and have several labels. Another seed gives other pictures of the same kind.
    """

    def __init__(
        self, name: str = "shapes", split: str = "train", *, size: int = 64, n: int | None = None, seed: int = 0
    ):
        n = SPLITS[split] if n is None else n
        if size < 16 or n < 1 or seed < 0:
            given = f"given size {size}, n {n} and seed {seed}"
            raise DataError(f"{name} needs size >= 16, n >= 1 and seed >= 0; {given}")
        self.name, self.split, self.size, self.seed = name, split, size, seed
        self.kinds = FAMILIES[name]
        self.classes = tuple(kind.name for kind in self.kinds)
        self.names = [f"{name}/{split}/{i}" for i in range(n)]
        self.labels = np.arange(n) % len(self.classes)
        if name == "shapes-scenes":
            self.labels = np.full((n, len(self.classes)), -1, np.int8)
            for i in range(n):
                self.labels[i, self._plan(i)[0]] = 1

    def sample(self, i: int) -> Sample:
        """Draw picture i."""
        owner, picture, _ = self._draw(i)
        return Sample(picture, self.label(i), mask_box(owner > 0), owner > 0, self.names[i])

    def objects(self, i: int) -> list[ShownObject]:
        """Return the objects of picture i with the masks of what is visible of them and of their parts."""
        owner, _, labels = self._draw(i)
        shown, number = [], 1
        for label in labels:
            parts = {part.name: owner == number + k for k, part in enumerate(self.kinds[label].parts)}
            mask = (owner >= number) & (owner < number + len(parts))
            shown.append(ShownObject(label, mask, parts))
            number += len(parts)
        return shown

    def content(self) -> str:
        """Return size, seed and a hash of a picture of each class; the others follow from the same code."""
        first = range(min(len(self), len(self.classes)))
        return f"{self.size} {self.seed} {pixel_hash(self.sample(i).picture for i in first)}"

    def _plan(self, i: int) -> tuple[list[int], np.random.Generator]:
        """Return the classes of the objects in picture i, and the generator that draws them."""
        family, split = list(FAMILIES).index(self.name), list(SPLITS).index(self.split)
        rng = np.random.default_rng([self.seed, family, split, i])
        if self.name != "shapes-scenes":
            return [i % len(self.classes)], rng
        return sorted(rng.choice(len(self.classes), rng.integers(2, 5), replace=False).tolist()), rng

    def _draw(self, i: int) -> tuple[Tensor, Tensor, list[int]]:
        """Return the pixels' owners in picture i, the picture uint8 [3, h, w] and the classes of its objects."""
        (labels, rng), size, number = self._plan(i), self.size, 1
        canvas = _background(rng, size)
        if len(labels) == 1:  # one object anywhere, several each in a quarter of its own
            radius = size * rng.uniform(0.24, 0.42)
            places = [(rng.uniform(radius, size - radius, 2), radius)]
        else:
            quarters = rng.permutation([(0.27, 0.27), (0.27, 0.73), (0.73, 0.27), (0.73, 0.73)])[: len(labels)]
            places = [(size * (q + rng.uniform(-0.05, 0.05, 2)), size * rng.uniform(0.16, 0.25)) for q in quarters]
        for label, (centre, radius) in zip(labels, places, strict=True):
            matrix = _pose(rng, centre, radius, self.kinds[label].turn)
            shift = np.array([rng.normal(0, 0.025), rng.normal(-0.03, 0.07), rng.normal(0, 0.07)])
            for part in self.kinds[label].parts:  # each moved, turned and scaled a little
                colour = part.colour + shift + rng.normal(0, (0.008, 0.03, 0.03))
                middle = np.concatenate(part.outlines).mean(0)
                angle, scale = rng.normal(0, 4), np.exp(rng.normal(0, 0.05))
                turned = matrix[:, :2] @ (scale * rotation(-angle))
                moved = matrix @ [*(middle + rng.normal(0, 0.02, 2)), 1] - turned @ middle
                for outline in part.outlines:
                    canvas.paint(outline, part.texture, np.column_stack([turned, moved]), colour, number)
                number += 1
        noise = rng.standard_normal(canvas.colours.shape, dtype=np.float32)
        exposed = 255 * rng.uniform(0.85, 1.1) * canvas.colours + 5 * noise  # exposure, and a sensor's noise
        picture = torch.from_numpy(exposed.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1).contiguous()
        return torch.from_numpy(canvas.owner), picture, labels
