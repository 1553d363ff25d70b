"""The vocabulary of drawn objects: an object is a handful of parts, a part a few outlines with a texture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
