"""Sections 3 and 5.1: what trainings show, with and without parts of the recipe and of the architecture."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import numpy as np

from ..numbers import cell
from .evidence import (
    SEEDS,
    Finding,
    Number,
    Stored,
    Subject,
    above,
    at_least,
    below,
    counted,
    difference,
    every,
    measured,
    verdict,
)

BASE = "krizhevsky"
DENSE = f"{BASE}-without-6-7"


# ---- section 3: the recipe -----------------------------------------------------------------------------------


def pixel_values(at: Subject) -> Iterator[Number]:
    """Take the mean from pictures and say between which values they lie."""
    x = at.net.preparation.normalise(at.squares(at.few)).numpy().reshape(len(at.few), -1)
    for share in (0.1, 1.0, 99.0, 99.9):
        yield counted("percentile", np.percentile(x, share), len(x), share=share)
    for bound in (128, 140):
        yield measured("inside", 100 * (np.abs(x) <= bound).mean(1), "%", bound=bound)


def input_range(stored: Stored, bound: int, inside: float, top: float) -> Finding:
    shares, highest = stored.numbers.by("bound", "inside"), stored.numbers.one("percentile", share=99.9)
    numbers = {f"inside ±{each}": share for each, share in shares.items()} | {"99.9 % percentile": highest}
    return Finding(verdict(every([at_least(shares[bound], inside), above(highest, top)])), numbers)


# ---- section 5.1: the architecture ---------------------------------------------------------------------------


def without_6_7(stored: Stored, slight: float) -> Finding:
    rise = _relative(stored, DENSE)
    return Finding(verdict(below(rise, slight), above(rise, slight)), {"top-5 rises by": rise}, _seeds(rise, SEEDS))


def printed_without_6_7(slight: float) -> tuple[bool, str]:
    rise = _printed_rise("Removed layers 6,7")
    share = 100 * rise / cell(2, "Our replication", "val_top5")
    return share <= slight, f"{rise:+.1f} points, {share:.1f} % of the error"


def _leads(stored: Stored, name: str, other: str) -> dict[str, Number]:
    """Return by how many points a network's errors exceed another one's."""
    ours, theirs = stored.errors(name), stored.errors(other)
    return {
        title: difference([one[key] for one in ours], [one[key] for one in theirs], "points")
        for title, key in (("top-5", "val5"), ("top-1", "val1"))
    }


def _relative(stored: Stored, name: str, base: str = BASE) -> Number:
    """Return a rise of the top-5 error in percent of it."""
    error, rise = mean(one["val5"] for one in stored.errors(base)), _leads(stored, name, base)["top-5"]
    shares = [None if edge is None else 100 * edge / error for edge in rise[:3]]
    return Number(*shares, rise.n, "% of the error")


def _printed_rise(row: str, column: str = "val_top5", base: str = BASE) -> float:
    """Return how far a row of Table 2 lies above the unchanged network."""
    first = "Our Model" if base == "ours" else "Our replication"
    return round(cell(2, row, column, base) - cell(2, first, column, base), 1)


def _seeds(number: Number, wanted: int) -> str:
    """Say where too few trainings were run."""
    return f"{number.n} of {wanted} seeds" if number.n < wanted else ""
