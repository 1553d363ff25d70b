"""Which peaks become hits: literal searches, random splits, and how many peaks are kept."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zfnet_lib.architecture import Field
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import Preparation
from zfnet_lib.strongest import NONE, PEAK, OneAPicture, Peaks, Variety, in_order, peaks_of

MAPS = 3


def drawn_peaks(rng: np.random.Generator, pictures: int, scores: int, side: int) -> np.ndarray:
    """Return the peak of every map in every picture; few different scores tie often."""
    peaks = np.empty(MAPS * pictures, PEAK)
    peaks["map"], peaks["image"] = np.divmod(np.arange(len(peaks)), pictures)
    peaks["score"] = rng.integers(0, scores, len(peaks)) / 7
    peaks["row"], peaks["column"] = rng.integers(0, side, (2, len(peaks)))
    return peaks


def drawn_variety(rng: np.random.Generator, pictures: int) -> Variety:
    """Return the rule for squares of 14 to 100 pixels in up to four photographs, close to one another."""
    photographs = rng.integers(0, rng.integers(1, 5), pictures)
    sides = rng.integers(14, 101, pictures) if rng.random() < 0.7 else np.full(pictures, 28)
    corners = rng.integers(0, 60, (2, pictures))
    crop = int(rng.integers(14, 29))
    preparation = Preparation(28, crop, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    field = Field(*(int(n) for n in rng.integers((1, 1, -6), (20, 5, 1))))
    return Variety(np.stack([photographs, *corners, sides], axis=1), preparation, field)


@st.composite
def searches(draw) -> tuple[np.ndarray, OneAPicture | Variety, int, np.random.Generator]:
    """Return peaks, the rule, how many hits a map, and chance for splitting them."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pictures = draw(st.integers(1, 40))
    peaks = drawn_peaks(rng, pictures, draw(st.sampled_from([1, 3, 30])), draw(st.integers(1, 7)))
    rule = drawn_variety(rng, pictures) if draw(st.booleans()) else OneAPicture()
    return peaks, rule, draw(st.integers(1, 12)), rng


def literal_hits(peaks: np.ndarray, rule: OneAPicture | Variety, k: int) -> list[list[tuple]]:
    """Go through all peaks of each map, strongest first and earlier pictures first, with exact fractions."""
    table = []
    for map_ in range(MAPS):
        hits: list = []
        for peak in sorted((p for p in peaks if p["map"] == map_), key=lambda p: (-p["score"], p["image"])):
            if len(hits) < k and (isinstance(rule, OneAPicture) or literally_varied(rule, peak, hits)):
                hits.append(peak)
        table.append([hit.tolist() for hit in hits] + [NONE.tolist()] * (k - len(hits)))
    return table


def literally_varied(rule: Variety, peak: np.void, hits: list) -> bool:
    photograph, *place, side = seen(rule, peak)
    same = [seen(rule, hit)[1:] for hit in hits if seen(rule, hit)[0] == photograph]
    return len(same) < 3 and all(
        max(abs(place[0] - row), abs(place[1] - column)) >= max(side, other) / 2 for row, column, other in same
    )


def seen(rule: Variety, peak: np.void) -> tuple[int, Fraction, Fraction, Fraction]:
    """Return the photograph of a peak, and the centre and side of its field in the photograph's pixels."""
    photograph, top, left, side = (int(n) for n in rule.windows[peak["image"]])
    pixel = Fraction(side, rule.preparation.short_side)
    margin = (rule.preparation.short_side - rule.preparation.crop) // 2
    row, column = (
        start + pixel * (margin + rule.field.offset + rule.field.stride * int(n) + Fraction(rule.field.size, 2))
        for start, n in ((top, peak["row"]), (left, peak["column"]))
    )
    return photograph, row, column, pixel * rule.field.size


def streamed(peaks: np.ndarray, rule, k: int, batch: int) -> Peaks:
    """Take up peaks batch by batch as a search does: only those that exceed the bound."""
    table, images = Peaks(MAPS, k, rule), np.unique(peaks["image"])
    for start in range(0, len(images), batch):
        part = peaks[np.isin(peaks["image"], images[start : start + batch])]
        table.add(part[part["score"] > table.bound[part["map"]]])
    return table


@given(searches(), st.integers(1, 9))
def test_hits_equal_a_literal_greedy_search(search, batch):
    peaks, rule, k, _ = search
    assert streamed(peaks, rule, k, batch).hits().tolist() == literal_hits(peaks, rule, k)


@given(searches(), st.integers(1, 4))
def test_any_split_merges_to_the_same_bytes(search, shares):
    peaks, rule, k, rng = search
    share = rng.integers(0, shares, peaks["image"].max() + 1)
    tables = [streamed(peaks[share[peaks["image"]] == n], rule, k, 3) for n in range(shares)]
    merged = Peaks(MAPS, k, rule)
    for n in rng.permutation(shares):
        merged.add(tables[n].settle())
    whole = streamed(peaks, rule, k, 5)
    assert merged.settle().tobytes() == whole.settle().tobytes()
    assert merged.hits().tobytes() == whole.hits().tobytes()


def test_peaks_of_k_photographs_are_kept_however_many_there_are():
    rng, k, crops = np.random.default_rng(0), 4, 3
    peaks = drawn_peaks(rng, 3000, 10**6, 5)
    windows = np.stack([np.arange(3000) // crops, *rng.integers(0, 50, (2, 3000)), np.full(3000, 28)], axis=1)
    preparation = Preparation(28, 28, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    for rule, most in ((OneAPicture(), k), (Variety(windows, preparation, Field(7, 2, 0)), k * crops)):
        table = streamed(peaks, rule, k, 16)
        assert len(table.peaks) <= 2 * MAPS * most
        kept = table.settle()
        assert all(k <= len(list(group)) <= most for _, group in groupby(kept["map"]))


def test_two_scales_of_one_thing_are_one_and_a_third_of_a_photograph_is_the_last():
    """Half a field is 5 pixels in crops of 20, and 10 in those of 40."""
    crops = {
        "the strongest, its centre at (5, 5)": (0, 0, 0, 20),
        "twice as large, its centre at (10, 14): 9 of 10 pixels away": (0, 0, 4, 40),
        "5 columns away": (0, 0, 5, 20),
        "4 rows away": (0, 4, 0, 20),
        "far away": (0, 0, 60, 20),
        "far away, the fourth": (0, 60, 0, 20),
        "another photograph": (1, 0, 0, 20),
    }
    preparation = Preparation(20, 20, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    table = Peaks(1, 6, Variety(np.array(list(crops.values())), preparation, Field(10, 1, 0)))
    peaks = np.zeros(len(crops), PEAK)
    peaks["image"], peaks["score"] = np.arange(len(crops)), -np.arange(len(crops))
    table.add(peaks)
    assert table.hits()["image"].tolist() == [[0, 2, 4, 6, -1, -1]]


def test_the_first_of_equal_units_is_the_peak():
    maps = torch.zeros(2, 3, 4, 5)
    maps[0, 1, 2, 3] = maps[0, 1, 2, 4] = maps[0, 1, 3, 0] = 1.5
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = maps.contiguous(memory_format=layout)
        found = peaks_of(laid, torch.tensor([7, 9]), np.array([0.0, -np.inf, -1.0]))
        rows = {(1, 1.5, 7, 2, 3), (2, 0, 7, 0, 0), (1, 0, 9, 0, 0), (2, 0, 9, 0, 0)}
        assert set(map(tuple, found.tolist())) == rows
    assert in_order(found)[["map", "image"]].tolist() == [(1, 7), (1, 9), (2, 7), (2, 9)]


def test_activations_that_are_no_numbers_are_refused():
    with pytest.raises(ZfnetError, match=r"^the network gives activations that are no numbers; load or train it"):
        peaks_of(torch.full((1, 1, 2, 2), torch.nan), torch.tensor([0]), np.array([0.0]))
