"""Which units of a map are its strongest, decided while pictures stream by in any order and in any split.

A *peak* is the strongest unit of one map in one picture. The *hits* of a map are chosen from its peaks, strongest
first; ties go to the earlier picture. By default the first k peaks are the hits. `Variety` passes over those that
repeat a hit of the same photograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .files import ZfnetError
from .images import Preparation
from .receptive import Field

PEAK = np.dtype([("map", "i4"), ("score", "f8"), ("image", "i4"), ("row", "i4"), ("column", "i4")])
"""A peak; its score is the rectified activation."""

NONE = np.array((-1, -1, -1, -1, -1), PEAK)
"""Stands where a map has no further hit."""


class OneAPicture:
    """The plain rule: the k strongest peaks are the hits, so there is one hit a picture."""

    def photographs(self, peaks: np.ndarray) -> np.ndarray:
        """Return which peaks compete for being hits: here only those of the same picture."""
        return peaks["image"]

    def hits(self, peaks: np.ndarray, k: int) -> np.ndarray:
        """Return the peaks that are hits: all that are still kept, the first k of each map."""
        return peaks


@dataclass(frozen=True)
class Variety:
    """The rule for crops of few photographs: hits that show different things.

    The hits of a map in one photograph are at most three, and at least half a receptive field apart: the centres of
    their fields differ by that much in rows or in columns. Both are measured in the photograph's own pixels, of
    which a unit's field covers its size times the side of its crop, divided by the preparation's short side; of two
    fields the larger one counts. Peaks become hits one after the other, strongest first, where the rule allows it
    (greedy).

    Attributes:
        windows: int64 [pictures, 4]: photograph, and top, left and side of the square crop in its pixels.
        preparation: How the network's input is made of a crop.
        field: The receptive field of the layer's units.
    """

    windows: np.ndarray
    preparation: Preparation
    field: Field

    most: ClassVar[int] = 3

    def photographs(self, peaks: np.ndarray) -> np.ndarray:
        """Return the photograph of each peak."""
        return self.windows[peaks["image"], 0]

    def hits(self, peaks: np.ndarray, k: int) -> np.ndarray:
        """Return the peaks that are hits, of peaks in order; in each round every map takes its next hit."""
        found = [peaks[:0]]
        _, photograph = np.unique(_pairs(peaks, self), return_inverse=True)
        taken = np.zeros(len(peaks), int)
        for _ in range(k):
            maps, first = np.unique(peaks["map"], return_index=True)
            found.append(peaks[first])
            taken[photograph[first]] += 1
            latest = found[-1][np.searchsorted(maps, peaks["map"])]
            left = (taken[photograph] < self.most) & self._apart(peaks, latest)
            peaks, photograph = peaks[left], photograph[left]
        return in_order(np.concatenate(found))

    def _apart(self, peaks: np.ndarray, hits: np.ndarray) -> np.ndarray:
        """Tell for pairs of a peak and a hit whether the peak may be a hit as well."""
        rows, columns, reach = self._places(peaks)
        other_rows, other_columns, other_reach = self._places(hits)
        distance = np.maximum(abs(rows - other_rows), abs(columns - other_columns))
        same = self.photographs(peaks) == self.photographs(hits)
        return ~same | (distance >= np.maximum(reach, other_reach))

    def _places(self, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the centres of the fields, and half their sides.

        All are whole numbers in units of 1 / (2 short sides) of a photograph's pixel, so that comparing them is
        exact.
        """
        short, field = self.preparation.short_side, self.field
        _, top, left, side = self.windows[peaks["image"]].T
        first = (short - self.preparation.crop) // 2 + field.offset
        rows, columns = (2 * (first + field.stride * peaks[axis]) + field.size for axis in ("row", "column"))
        return 2 * short * top + side * rows, 2 * short * left + side * columns, side * field.size


Rule = OneAPicture | Variety


class Peaks:
    """The peaks of one layer that can still become hits.

    They are few, however many pictures there are. The strongest peak of a photograph (of a picture, by the plain
    rule) always becomes a hit unless k others come before it, since only an earlier one of its own photograph could
    rule it out. So as soon as k photographs have a peak in a map, the last of their k foremost leading peaks is a
    bound that the last hit never falls behind, and that only moves forward. Peaks behind it are dropped: they can
    be no hits, and since hits are chosen in order they cannot keep others from it. What stays is the peaks of at
    most k photographs a map.

    Args:
        maps: Of the layer.
        k: Hits a map.
        rule: Which peaks become hits.

    Attributes:
        peaks: `PEAK` [n].
        bound: float64 [maps], the score that later pictures must exceed for their peaks to count.
    """

    def __init__(self, maps: int, k: int, rule: Rule):
        self.maps, self.k, self.rule = maps, k, rule
        self.peaks, self.settled = np.empty(0, PEAK), 0
        self.bound = np.full(maps, -np.inf)

    def add(self, peaks: np.ndarray) -> None:
        """Take up peaks of other pictures."""
        self.peaks = np.concatenate([self.peaks, peaks])
        if len(self.peaks) > 2 * self.settled:
            self.settle()

    def settle(self) -> np.ndarray:
        """Put the peaks in order, drop those that cannot become hits, and return the others."""
        peaks = in_order(self.peaks)
        leads = np.zeros(len(peaks), bool)
        leads[np.unique(_pairs(peaks, self.rule), return_index=True)[1]] = True
        before = np.cumsum(leads) - leads
        before -= before[_starts(peaks)]
        keep = before < self.k
        self.peaks, self.settled = peaks[keep], keep.sum()
        full = peaks[leads & (before == self.k - 1)]
        self.bound = np.full(self.maps, -np.inf)
        self.bound[full["map"]] = full["score"]
        return self.peaks

    def hits(self) -> np.ndarray:
        """Choose the hits: `PEAK` [maps, k], strongest first, `NONE` where a map has fewer."""
        table = np.full((self.maps, self.k), NONE)
        hits = self.rule.hits(self.settle(), self.k)
        table[hits["map"], np.arange(len(hits)) - _starts(hits)] = hits
        return table


def peaks_of(maps: Tensor, images: Tensor, bound: np.ndarray) -> np.ndarray:
    """Return the strongest unit of every map in every picture, where it exceeds the map's bound.

    Places are looked for in these few maps only: finding where a maximum lies takes much longer than finding it.

    Args:
        maps: [n, maps, h, w], rectified.
        images: int64 [n], the pictures' indices.
        bound: float64 [maps].

    Returns:
        `PEAK` [m].

    Raises:
        ZfnetError: Activations that are no numbers.
    """
    scores = maps.amax((2, 3)).cpu().double()
    if not scores.isfinite().all():
        raise ZfnetError("the network gives activations that are no numbers; load or train it again")
    picture, map_ = (scores > torch.from_numpy(bound)).nonzero(as_tuple=True)
    place = maps[picture, map_].flatten(1).argmax(1).cpu()
    columns = maps.shape[-1]
    values = (map_, scores[picture, map_], images[picture], place // columns, place % columns)
    peaks = np.empty(len(picture), PEAK)
    for name, value in zip(PEAK.names, values, strict=True):
        peaks[name] = value.numpy()
    return peaks


def in_order(peaks: np.ndarray) -> np.ndarray:
    """Sort by map, then strongest first, then by picture."""
    return peaks[np.lexsort((peaks["image"], -peaks["score"], peaks["map"]))]


def _starts(peaks: np.ndarray) -> np.ndarray:
    """Return for each peak where its map begins."""
    return np.searchsorted(peaks["map"], peaks["map"])


def _pairs(peaks: np.ndarray, rule: Rule) -> np.ndarray:
    """Number the pairs of a map and a photograph."""
    photographs = rule.photographs(peaks).astype(np.int64)
    return peaks["map"] * (photographs.max(initial=0) + 1) + photographs
