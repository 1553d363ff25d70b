"""What a test of a claim finds: numbers with intervals, and the verdict that they give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
UNTESTABLE, NOT_RUN = "not testable here", "not run"
VERDICTS = (HOLDS, FAILS, UNDECIDED, UNTESTABLE, NOT_RUN)

SEEDS = 3
"""Trainings of a network from which on their spread can decide anything."""


class Number(NamedTuple):
    """A value with its 95 % interval.

    Attributes:
        value: The number.
        low, high: Its interval; None where its spread is unknown. An exact number is its own interval.
        n: What it rests on: maps, pictures, trainings ….
        unit: `%`, `cosine` ….
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    unit: str = ""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.low is None or self.high is None or self.low == self.high:
            return f"{self.value:.3g}{unit}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g}){unit}"


def exact(value: float, unit: str = "", n: int = 1) -> Number:
    """Return a number without an error.

    Example:
        >>> above(exact(2), 1), above(exact(1), 1), above(Number(2), 1), above(Number(2, 0.5, 3), 1)
        (True, False, None, None)
    """
    return Number(value, value, value, n, unit)


Truth = bool | None
"""Whether a statement is true; None where the interval leaves it open."""


def above(number: Number, level: float) -> Truth:
    """Tell whether a number lies above a level, its whole interval included."""
    if number.low is None or number.high is None:
        return None
    if number.low > level:
        return True
    return False if number.high <= level else None


def at_least(number: Number, level: float) -> Truth:
    """Tell whether a number reaches a level, its whole interval included."""
    truth = above(Number(-number.value, *_turned(number)), -level)
    return None if truth is None else not truth


def below(number: Number, level: float) -> Truth:
    """Tell whether a number lies below a level, its whole interval included."""
    return above(Number(-number.value, *_turned(number)), -level)


def apart(number: Number, other: Number) -> Truth:
    """Tell whether a number exceeds another one, their intervals apart."""
    if None in (number.low, number.high, other.low, other.high):
        return None
    if number.low > other.high:
        return True
    return False if number.high <= other.low else None


def rising(numbers: Iterable[Number]) -> Truth:
    """Tell whether each number exceeds the one before, their intervals apart: no where one clearly does not."""
    return every(apart(after, before) for before, after in pairwise(numbers))


def every(truths: Iterable[Truth]) -> Truth:
    """Return whether all statements are true: no where one is false, open where one is open.

    Example:
        >>> every([True, True]), every([True, None]), every([None, False])
        (True, None, False)
    """
    found = list(truths)
    return False if False in found else None if None in found else True


def some(truths: Iterable[Truth]) -> Truth:
    """Return whether any statement is true: open where none is and one is open."""
    found = list(truths)
    return True if True in found else None if None in found else False


def verdict(holds: Truth, fails: Truth | Literal["otherwise"] = "otherwise") -> str:
    """Return the verdict: between thresholds that hold and that fail, a claim is undecided.

    Args:
        holds: Whether the threshold of *holds* is met.
        fails: Whether that of *does not hold* is; by default wherever *holds* is not.

    Example:
        >>> verdict(True), verdict(False), verdict(None), verdict(False, False)
        ('holds', 'does not hold', 'undecided', 'undecided')
    """
    if holds:
        return HOLDS
    failed = holds is False if fails == "otherwise" else fails
    return FAILS if failed else UNDECIDED


@dataclass(frozen=True)
class Finding:
    """What the test of one claim found.

    Attributes:
        verdict: One of `VERDICTS`.
        numbers: The statistic, by name.
        note: What was simplified, which data lacks, or what would have to be run.
    """

    verdict: str
    numbers: Mapping[str, Number]
    note: str = ""

    @property
    def shown(self) -> str:
        """The numbers in one line."""
        return "; ".join(f"{name} {number}" for name, number in self.numbers.items())

    @property
    def n(self) -> str:
        """On how much they rest, from the least to the most."""
        sizes = sorted({number.n for number in self.numbers.values()})
        return "" if not sizes else f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def _turned(number: Number) -> tuple[float | None, float | None]:
    return (None if number.high is None else -number.high, None if number.low is None else -number.low)
