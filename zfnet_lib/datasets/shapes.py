"""The vocabulary of drawn objects: an object is a handful of parts, a part a few outlines with a texture."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .samples import Box, DataError, Dataset, Sample, mask_box

Outline = np.ndarray
"""Corners [n, 2] of a polygon as (x, y) in the object's frame: [-1, 1], y downwards."""


def polygon(*coordinates: float) -> Outline:
    """Return a polygon from x, y, x, y, …"""
    return np.array(coordinates, dtype=np.float64).reshape(-1, 2)


def rectangle(left: float, top: float, right: float, bottom: float) -> Outline:
    """Return an upright rectangle."""
    return polygon(left, top, right, top, right, bottom, left, bottom)


def ellipse(
    x: float, y: float, rx: float, ry: float, turn: float = 0, start: float = 0, end: float = 360
) -> Outline:
    """Return an ellipse, or its sector's arc, around (x, y); angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 25)[: None if end - start < 360 else -1])
    points = np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return points @ np.array([[c, s], [-s, c]]) + (x, y)


def ring(x: float, y: float, outer: float, inner: float, start: float = 0, end: float = 360) -> Outline:
    """Return a band between two circles, slit open at `start` so that it is one polygon."""
    angle = np.radians(np.linspace(start, end, 29))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([outer * circle, inner * circle[::-1]]) + np.array([x, y])


def around(outline: Outline, n: int, x: float = 0, y: float = 0, first: float = 0) -> tuple[Outline, ...]:
    """Return `n` copies of an outline turned about (x, y) in equal steps."""
    angles = np.radians(first + np.arange(n) * 360 / n)
    turns = [np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in angles]
    return tuple((outline - (x, y)) @ turn + (x, y) for turn in turns)


Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]

TEXTURES: dict[str, Texture] = {
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
"""Brightness over a part, at most 1; u and v run from -1 to 1 across the outline."""


@dataclass(frozen=True)
class Part:
    """One part of an object: outlines of one colour and texture, painted in turn.

    Attributes:
        name: The part's name.
        colour: Typical hue, saturation and value in [0, 1].
        outlines: Polygons in the object's frame.
        texture: A key of `TEXTURES`.
    """

    name: str
    colour: tuple[float, float, float]
    outlines: tuple[Outline, ...]
    texture: str = "plain"


@dataclass(frozen=True)
class Kind:
    """A class of objects: its parts from back to front, and how far it turns (degrees, standard deviation)."""

    name: str
    parts: tuple[Part, ...]
    turn: float = 14


def kind(name: str, *parts: tuple, turn: float = 14) -> Kind:
    """Return a kind from rows (name, colour, texture, outline, outline, …)."""
    return Kind(
        name, tuple(Part(part, colour, tuple(rest), texture) for part, colour, texture, *rest in parts), turn
    )


# The kinds of objects that `shapes` draws, as data.

WHITE, BLACK, GREY = (0.1, 0.06, 0.97), (0.6, 0.2, 0.14), (0.6, 0.1, 0.6)
RED, ORANGE, YELLOW, GREEN = (0.0, 0.8, 0.85), (0.07, 0.85, 0.95), (0.14, 0.75, 0.95), (0.33, 0.65, 0.6)
BLUE, VIOLET, PINK = (0.6, 0.7, 0.8), (0.76, 0.55, 0.75), (0.92, 0.5, 0.95)
BROWN, SKIN = (0.07, 0.6, 0.45), (0.07, 0.38, 0.92)

OBJECTS = (
    kind(
        "fish",
        ("tail", ORANGE, "bars", polygon(-0.5, 0, -1, -0.5, -0.82, 0, -1, 0.5)),
        (
            "fins",
            RED,
            "stripes",
            polygon(-0.2, -0.3, 0.1, -0.72, 0.4, -0.25),
            polygon(0, 0.3, 0.1, 0.62, 0.35, 0.25),
        ),
        ("body", ORANGE, "scales", ellipse(0.12, 0, 0.78, 0.42)),
        ("eye", WHITE, "pupil", ellipse(0.58, -0.1, 0.13, 0.13)),
        turn=20,
    ),
    kind(
        "house",
        ("walls", (0.04, 0.55, 0.75), "bricks", rectangle(-0.75, -0.1, 0.75, 0.9)),
        ("roof", (0.6, 0.3, 0.4), "bars", polygon(-0.98, -0.08, 0, -0.95, 0.98, -0.08)),
        ("door", BROWN, "stripes", rectangle(-0.18, 0.3, 0.18, 0.9)),
        (
            "windows",
            (0.55, 0.35, 0.95),
            "plain",
            rectangle(-0.6, 0.1, -0.3, 0.42),
            rectangle(0.3, 0.1, 0.6, 0.42),
        ),
        turn=7,
    ),
    kind(
        "car",
        ("cabin", RED, "plain", polygon(-0.55, -0.08, -0.35, -0.52, 0.3, -0.52, 0.58, -0.08)),
        ("body", RED, "plain", polygon(-1, 0.35, -0.98, -0.05, 0.85, -0.1, 1, 0.08, 1, 0.35)),
        (
            "windows",
            (0.55, 0.3, 0.95),
            "plain",
            rectangle(-0.36, -0.42, -0.06, -0.1),
            rectangle(0.03, -0.42, 0.3, -0.1),
        ),
        ("wheels", BLACK, "rings", ellipse(-0.55, 0.36, 0.26, 0.26), ellipse(0.58, 0.36, 0.26, 0.26)),
        turn=8,
    ),
    kind(
        "face",
        ("hair", BROWN, "stripes", ellipse(0, -0.22, 0.82, 0.78)),
        ("head", SKIN, "plain", ellipse(0, 0.1, 0.68, 0.82)),
        ("eyes", WHITE, "pupil", ellipse(-0.28, -0.08, 0.16, 0.13), ellipse(0.28, -0.08, 0.16, 0.13)),
        ("mouth", RED, "plain", ellipse(0, 0.42, 0.32, 0.24, start=0, end=180)),
        turn=10,
    ),
    kind(
        "flower",
        ("stem", GREEN, "plain", rectangle(-0.06, 0, 0.06, 1), ellipse(0.25, 0.72, 0.26, 0.1, turn=-30)),
        ("petals", PINK, "stripes", *around(ellipse(0.42, -0.35, 0.28, 0.19), 6, 0, -0.35)),
        ("heart", YELLOW, "dots", ellipse(0, -0.35, 0.22, 0.22)),
    ),
    kind(
        "tree",
        ("trunk", BROWN, "stripes", polygon(-0.14, 1, -0.1, 0, 0.1, 0, 0.14, 1)),
        (
            "crown",
            GREEN,
            "scales",
            ellipse(-0.42, -0.1, 0.42, 0.38),
            ellipse(0.42, -0.1, 0.42, 0.38),
            ellipse(0, -0.5, 0.55, 0.48),
        ),
        (
            "fruit",
            RED,
            "ball",
            ellipse(-0.35, -0.12, 0.1, 0.1),
            ellipse(0.2, -0.5, 0.1, 0.1),
            ellipse(0.45, 0, 0.1, 0.1),
        ),
        turn=7,
    ),
    kind(
        "mushroom",
        ("stem", WHITE, "stripes", polygon(-0.22, -0.05, 0.22, -0.05, 0.32, 0.95, -0.32, 0.95)),
        ("cap", RED, "plain", ellipse(0, 0.05, 0.95, 0.9, start=180, end=360)),
        (
            "spots",
            WHITE,
            "plain",
            ellipse(-0.5, -0.22, 0.14, 0.12),
            ellipse(0, -0.55, 0.17, 0.14),
            ellipse(0.48, -0.22, 0.15, 0.12),
            ellipse(0, -0.14, 0.11, 0.09),
        ),
    ),
    kind(
        "key",
        ("shaft", YELLOW, "plain", rectangle(-0.2, -0.1, 1, 0.1)),
        ("teeth", YELLOW, "plain", rectangle(0.55, 0.1, 0.68, 0.42), rectangle(0.83, 0.1, 0.97, 0.5)),
        ("bow", YELLOW, "rays", ring(-0.55, 0, 0.45, 0.22)),
        turn=60,
    ),
    kind(
        "boat",
        ("mast", BROWN, "plain", rectangle(-0.05, -1, 0.05, 0.45)),
        (
            "sails",
            WHITE,
            "bars",
            polygon(0.1, -0.92, 0.85, 0.3, 0.1, 0.3),
            polygon(-0.1, -0.7, -0.7, 0.3, -0.1, 0.3),
        ),
        ("hull", BLUE, "bars", polygon(-0.98, 0.42, 0.98, 0.42, 0.62, 0.9, -0.62, 0.9)),
        turn=10,
    ),
    kind(
        "butterfly",
        (
            "upper wings",
            BLUE,
            "rings",
            ellipse(-0.5, -0.32, 0.5, 0.36, turn=35),
            ellipse(0.5, -0.32, 0.5, 0.36, turn=-35),
        ),
        (
            "lower wings",
            VIOLET,
            "dots",
            ellipse(-0.38, 0.4, 0.36, 0.28, turn=-40),
            ellipse(0.38, 0.4, 0.36, 0.28, turn=40),
        ),
        ("body", BLACK, "bars", ellipse(0, 0, 0.11, 0.72)),
        turn=40,
    ),
    kind(
        "cup",
        ("handle", BLUE, "plain", ring(0.58, 0.15, 0.42, 0.24, start=-90, end=90)),
        ("body", BLUE, "checks", polygon(-0.68, -0.5, 0.68, -0.5, 0.52, 0.8, -0.52, 0.8)),
        ("coffee", BROWN, "plain", ellipse(0, -0.5, 0.68, 0.2)),
        turn=10,
    ),
    kind(
        "umbrella",
        (
            "handle",
            BROWN,
            "plain",
            rectangle(-0.05, -0.9, 0.05, 0.75),
            ring(0.2, 0.72, 0.25, 0.15, start=0, end=180),
        ),
        ("canopy", VIOLET, "stripes", ellipse(0, 0.05, 1, 0.85, start=180, end=360)),
        ("hem", WHITE, "plain", *(ellipse(x, 0.05, 0.2, 0.12) for x in (-0.78, -0.39, 0, 0.39, 0.78))),
        turn=18,
    ),
    kind(
        "rocket",
        ("flame", ORANGE, "stripes", polygon(-0.2, 0.6, 0, 1.05, 0.2, 0.6)),
        (
            "fins",
            RED,
            "plain",
            polygon(-0.25, 0.15, -0.68, 0.7, -0.25, 0.6),
            polygon(0.25, 0.15, 0.68, 0.7, 0.25, 0.6),
        ),
        ("hull", WHITE, "bars", polygon(-0.28, 0.62, -0.3, -0.35, 0, -1, 0.3, -0.35, 0.28, 0.62)),
        ("porthole", BLUE, "ball", ellipse(0, -0.25, 0.17, 0.17)),
        turn=25,
    ),
    kind(
        "ladybird",
        ("legs", BLACK, "plain", *around(rectangle(0.5, -0.05, 1, 0.05), 6, first=30)),
        ("head", BLACK, "plain", ellipse(0, -0.7, 0.36, 0.28)),
        ("shell", RED, "plain", ellipse(0, 0.08, 0.72, 0.72)),
        (
            "spots",
            BLACK,
            "plain",
            rectangle(-0.03, -0.62, 0.03, 0.78),
            *(ellipse(x, y, 0.14, 0.14) for x, y in ((-0.36, -0.15), (0.36, -0.15), (-0.32, 0.38), (0.32, 0.38))),
        ),
        turn=40,
    ),
    kind(
        "clock",
        ("rim", YELLOW, "plain", ellipse(0, 0, 0.92, 0.92)),
        ("dial", WHITE, "plain", ellipse(0, 0, 0.74, 0.74)),
        ("ticks", BLACK, "plain", *around(rectangle(0.54, -0.04, 0.68, 0.04), 8)),
        (
            "hands",
            BLACK,
            "plain",
            polygon(-0.06, 0.1, 0, -0.6, 0.06, 0.1),
            polygon(-0.1, -0.07, 0.42, 0, -0.1, 0.07),
        ),
        turn=12,
    ),
    kind(
        "ice cream",
        ("cone", (0.09, 0.6, 0.8), "checks", polygon(-0.5, -0.05, 0.5, -0.05, 0, 1)),
        (
            "scoops",
            PINK,
            "ball",
            ellipse(-0.3, -0.25, 0.36, 0.34),
            ellipse(0.3, -0.25, 0.36, 0.34),
            ellipse(0, -0.62, 0.36, 0.34),
        ),
        ("cherry", RED, "ball", ellipse(0, -0.95, 0.13, 0.13)),
    ),
)
"""The 16 classes of `shapes`."""

OTHER_OBJECTS = (
    kind(
        "snail",
        ("body", YELLOW, "plain", polygon(-1, 0.7, -0.6, 0.45, 0.55, 0.5, 0.65, -0.1, 0.98, -0.1, 0.9, 0.7)),
        ("shell", BROWN, "rings", ellipse(-0.1, 0, 0.6, 0.58)),
        ("eyes", WHITE, "pupil", ellipse(0.68, -0.3, 0.13, 0.13), ellipse(0.95, -0.3, 0.13, 0.13)),
    ),
    kind(
        "robot",
        ("arms", GREY, "bars", rectangle(-0.9, 0.05, -0.6, 0.7), rectangle(0.6, 0.05, 0.9, 0.7)),
        ("body", GREY, "plain", rectangle(-0.55, 0, 0.55, 0.95)),
        ("head", BLUE, "plain", rectangle(-0.42, -0.75, 0.42, -0.08), rectangle(-0.04, -1, 0.04, -0.75)),
        ("eyes", YELLOW, "pupil", ellipse(-0.2, -0.45, 0.15, 0.15), ellipse(0.2, -0.45, 0.15, 0.15)),
        turn=8,
    ),
    kind(
        "aeroplane",
        (
            "wings",
            BLUE,
            "stripes",
            polygon(0.2, 0, -0.35, -0.98, -0.55, -0.98, -0.25, 0, -0.55, 0.98, -0.35, 0.98),
        ),
        ("tail", RED, "plain", polygon(-0.7, 0, -0.98, -0.35, -1, 0.35)),
        ("fuselage", WHITE, "plain", ellipse(0, 0, 1, 0.19)),
        ("windows", BLACK, "plain", *(ellipse(x, -0.02, 0.06, 0.07) for x in (-0.3, -0.05, 0.2, 0.45, 0.7))),
        turn=35,
    ),
    kind(
        "guitar",
        ("neck", BROWN, "bars", rectangle(-0.09, -1, 0.09, 0.2)),
        ("body", ORANGE, "plain", ellipse(0, 0.1, 0.4, 0.34), ellipse(0, 0.58, 0.55, 0.42)),
        ("hole", BLACK, "plain", ellipse(0, 0.38, 0.16, 0.16)),
        turn=40,
    ),
    kind(
        "candle",
        ("dish", BROWN, "plain", ellipse(0, 0.85, 0.7, 0.15)),
        ("stick", RED, "bars", rectangle(-0.22, -0.3, 0.22, 0.82)),
        ("flame", YELLOW, "ball", polygon(0, -1, 0.2, -0.6, 0.12, -0.34, -0.12, -0.34, -0.2, -0.6)),
        turn=6,
    ),
    kind(
        "balloon",
        (
            "ropes",
            BROWN,
            "plain",
            polygon(-0.4, 0.1, -0.16, 0.7, -0.1, 0.7),
            polygon(0.4, 0.1, 0.16, 0.7, 0.1, 0.7),
        ),
        ("envelope", ORANGE, "stripes", ellipse(0, -0.3, 0.72, 0.7)),
        ("basket", BROWN, "checks", rectangle(-0.2, 0.66, 0.2, 0.98)),
        turn=8,
    ),
    kind(
        "tent",
        ("canvas", GREEN, "stripes", polygon(0, -0.75, 1, 0.75, -1, 0.75)),
        ("entrance", BLACK, "plain", polygon(0, -0.15, 0.35, 0.75, -0.35, 0.75)),
        ("flag", RED, "plain", polygon(0, -1, 0.4, -0.87, 0, -0.75)),
        turn=6,
    ),
    kind(
        "bottle",
        ("neck", GREEN, "plain", polygon(-0.13, -0.85, 0.13, -0.85, 0.16, -0.3, -0.16, -0.3)),
        (
            "body",
            GREEN,
            "plain",
            polygon(-0.17, -0.4, 0.17, -0.4, 0.4, -0.05, 0.4, 0.95, -0.4, 0.95, -0.4, -0.05),
        ),
        ("label", WHITE, "bars", rectangle(-0.4, 0.15, 0.4, 0.65)),
        ("cork", BROWN, "plain", rectangle(-0.12, -1, 0.12, -0.85)),
        turn=25,
    ),
    kind(
        "owl",
        (
            "wings",
            BROWN,
            "bars",
            ellipse(-0.55, 0.25, 0.25, 0.55, turn=15),
            ellipse(0.55, 0.25, 0.25, 0.55, turn=-15),
        ),
        (
            "body",
            (0.09, 0.45, 0.65),
            "scales",
            ellipse(0, 0.15, 0.58, 0.8),
            polygon(-0.5, -0.3, -0.45, -0.9, 0, -0.5, 0.45, -0.9, 0.5, -0.3),
        ),
        ("eyes", WHITE, "pupil", ellipse(-0.24, -0.28, 0.25, 0.25), ellipse(0.24, -0.28, 0.25, 0.25)),
        ("beak", ORANGE, "plain", polygon(-0.1, -0.14, 0.1, -0.14, 0, 0.12)),
        turn=8,
    ),
    kind(
        "cactus",
        (
            "arms",
            GREEN,
            "bars",
            polygon(0, 0.2, 0.6, 0.2, 0.6, -0.35, 0.36, -0.35, 0.36, -0.02, 0, -0.02),
            polygon(0, 0.4, -0.6, 0.4, -0.6, -0.15, -0.36, -0.15, -0.36, 0.18, 0, 0.18),
        ),
        ("trunk", GREEN, "stripes", ellipse(0, -0.1, 0.22, 0.8)),
        ("pot", ORANGE, "plain", polygon(-0.5, 0.5, 0.5, 0.5, 0.36, 1, -0.36, 1)),
        ("blossom", PINK, "ball", ellipse(0, -0.88, 0.15, 0.12)),
        turn=6,
    ),
)
"""The 10 classes of `shapes-transfer`, drawn in the same way."""


# `shapes`: pictures made in code, with structure to learn; the data of the smoke profile.
#
# A picture shows textured objects made of parts (`objects`) on a cluttered background. Which pixels belong to
# which object and part is known. Picture `i` depends on the seed, the family, the split and `i` alone.

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
