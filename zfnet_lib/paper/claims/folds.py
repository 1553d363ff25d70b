"""What was tried on other pictures (sections 5.2 and 5.3), fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import hypot, inf, sqrt
from statistics import mean, stdev

from ...datasets import DATASETS
from ..records import Record
from ..setting import profile_of
from ..table3_4_6 import ACCURACY, FOLDS, PLACE, SOURCES, Source, Trial, scratch_accuracies, scratch_trainings
from .finding import Number
from .stored import NotRun, Stored

COST = "about an hour on two cores"
"""Of all that one table tries, once the features are computed."""


@dataclass(frozen=True)
class OverFolds:
    """A quantity measured on the paper's folds, or the difference of two.

    Attributes:
        mean: Over folds.
        error: Its standard error.
        n: Folds.
        values: One a fold; empty where a record keeps mean and spread alone.

    Example:
        >>> (over_folds([50.0, 60.0]) - over_folds([40.0, 50.0])).values  # of the same folds
        (10.0, 10.0)
        >>> alone = over_folds([50.0, 60.0]) - OverFolds(40, 12.0, 5)
        >>> alone.mean, alone.error, alone.n
        (15.0, 13.0, 2)
        >>> (over_folds([50.0, 60.0]) - 54.0).mean
        1.0
    """

    mean: float
    error: float
    n: int
    values: tuple[float, ...] = ()

    def __sub__(self, other: OverFolds | float) -> OverFolds:
        if isinstance(other, float):
            return OverFolds(self.mean - other, self.error, self.n, tuple(value - other for value in self.values))
        if len(self.values) == len(other.values) > 0:
            return over_folds([a - b for a, b in zip(self.values, other.values, strict=True)])
        return OverFolds(self.mean - other.mean, hypot(self.error, other.error), min(self.n, other.n))

    def number(self, unit: str = "points") -> Number:
        """Return it with twice its standard error; with fewer folds than the paper's the spread is unknown."""
        if self.n < FOLDS:
            return Number(self.mean, None, None, self.n, unit)
        return Number(self.mean, self.mean - 2 * self.error, self.mean + 2 * self.error, self.n, unit)


def over_folds(values: Sequence[float]) -> OverFolds:
    """Return values, one a fold, as one quantity."""
    error = stdev(values) / sqrt(len(values)) if len(values) > 1 else inf
    return OverFolds(mean(values), error, len(values), tuple(values))


def places(stored: Stored) -> list[Place]:
    """Return the data sets that stand for Caltech-101 and Caltech-256; one where both are the same."""
    return [Place(stored, PLACE[stored.profile].index(data)) for data in dict.fromkeys(PLACE[stored.profile])]


class Place:
    """One data set to which a profile transfers features, and what was tried there.

    Args:
        stored: The profile's results.
        number: 0 for what stands for Caltech-101, 1 for Caltech-256.
    """

    def __init__(self, stored: Stored, number: int):
        self.profile, self.data = stored.profile, PLACE[stored.profile][number]
        self.stored, self.network = stored, profile_of(stored.profile).network
        self.making = f"`zfnet run table{number + 3} --profile {self.profile} --live`; {COST}"

    @cached_property
    def sizes(self) -> list[int]:
        """Training pictures a class of the tables."""
        return self._sizes("hog")

    @cached_property
    def curve(self) -> list[int]:
        """Training pictures a class of Fig. 7."""
        return self._sizes(self.network)

    @property
    def most(self) -> int:
        """The largest of them."""
        return self.sizes[-1]

    @property
    def untrained(self) -> str:
        """The source with the network's architecture and random weights."""
        return f"{self.network}, untrained"

    def tried(
        self, layer: str, classifier: str, each: int = 0, source: str = "", quantity: str = ACCURACY
    ) -> OverFolds:
        """Return what a trial gave.

        Args:
            layer, classifier: As of a `Trial`.
            each: Training pictures a class; the most by default.
            source: What gives the features; the profile's network by default.
            quantity: What of it.

        Raises:
            NotRun: It was not tried.
        """
        record = self.record(layer, classifier, each, source, quantity)
        if "folds" in record.parameters:
            return over_folds(record.parameters["folds"])
        return OverFolds(record.value, (record.spread or 0) / sqrt(record.n), record.n)

    def record(
        self, layer: str, classifier: str, each: int = 0, source: str = "", quantity: str = ACCURACY
    ) -> Record:
        """Return the record of a trial, as `tried` takes it."""
        path = f"transfer/{Source(source or self.network, self.data, ()).record}"
        trial = asdict(Trial(layer, classifier, each or self.most))
        return self.stored.read(path, self.making).record(quantity, **trial)

    def scratch(self, each: int) -> OverFolds:
        """Return the accuracies of the trainings from scratch.

        Raises:
            NotRun: There is none.
        """
        values = scratch_accuracies(self.profile, self.data, each)
        if not values:
            first, *_, last = scratch_trainings(self.profile, self.data, each)
            pictures = FOLDS * first.recipe.epochs * each * DATASETS[self.data].classes
            raise NotRun(f"`{first.command}`, and so on to `--seed {last.seed}`; {self.stored.learning(pictures)}")
        return over_folds(values)

    def _sizes(self, name: str) -> list[int]:
        source = next(one for one in SOURCES[self.profile] if (one.name, one.data) == (name, self.data))
        return sorted({trial.each for trial in source.trials})
