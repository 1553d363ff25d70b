"""What is stored for one profile: records of trainings and of other parts, and the claims' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from ...datasets import DATASETS
from ...datasets.overlap import Overlap
from ...files import ZfnetError, results_root
from .. import records
from ..records import Record, Stopwatch
from ..setting import training_of
from ..trainings import read_epochs
from .finding import SEEDS, Number

SPLITS = {"train": "train top-1 error", "val1": "val top-1 error", "val5": "val top-5 error"}
DRAWS = 1000
"""Of every bootstrap."""


class NotRun(ZfnetError):  # noqa: N818 (the verdict's own words)
    """A test whose numbers were not computed yet; its message says what computes them."""


@dataclass(frozen=True)
class Measured:
    """One number of a claim's own record.

    Attributes:
        quantity, unit: What it is.
        value: The number.
        low, high: Its 95 % interval.
        n: What it rests on.
        spread: Standard deviation over them.
        place: Layer, variant … that it belongs to.
        data: The pictures, where they are not those that the other claims look at.
    """

    quantity: str
    value: float
    low: float
    high: float
    n: int
    unit: str = ""
    spread: float | None = None
    place: dict[str, Any] = field(default_factory=dict)
    data: str = ""

    def record(self, claim: str, spec: str, data: str, watch: Stopwatch, seed: int) -> Record:
        """Return it as a record, whose parameters hold the interval too; another `network` is in its place."""
        return Record(
            claim,
            self.quantity,
            self.value,
            self.unit,
            watch.provenance(seed),
            self.n,
            self.spread,
            parameters=self.place | {"low": self.low, "high": self.high},
            spec=self.place.get("network", spec),
            data=self.data or data,
        )


def counted(quantity: str, value: float, n: int, unit: str = "", **place: Any) -> Measured:
    """Return a number that has no error: a count over all n, or the statistic of one training."""
    return Measured(quantity, float(value), float(value), float(value), n, unit, None, place)


def measured(
    quantity: str, values: Sequence[float], unit: str = "", middle=np.mean, seed: int = 0, **place: Any
) -> Measured:
    """Return the mean, or the median, of values with its bootstrap interval; values that are NaN are left out.

    Args:
        quantity, unit: What they are.
        values: One a map, picture or unit.
        middle: `numpy.mean` or `numpy.median`.
        seed: Of the bootstrap.
        place: Layer, variant … that they belong to.

    Example:
        >>> found = measured("share", [0.0, 1.0] * 50, layer="conv1")
        >>> found.value, found.n, round(found.low, 1), round(found.high, 1)
        (0.5, 100, 0.4, 0.6)
    """
    kept = np.asarray(values, float)
    kept = kept[np.isfinite(kept)]
    if not kept.size:
        return Measured(quantity, float("nan"), float("nan"), float("nan"), 0, unit, None, place)
    drawn = np.random.default_rng(seed).integers(0, kept.size, (DRAWS, kept.size))
    low, high = np.quantile(middle(kept[drawn], axis=1), (0.025, 0.975))
    spread = float(kept.std(ddof=1)) if kept.size > 1 else None
    return Measured(quantity, float(middle(kept)), float(low), float(high), kept.size, unit, spread, place)


class Numbers:
    """The records of one file, to be asked for by quantity and place.

    Args:
        found: The records.
        again: What measures them again.
    """

    def __init__(self, found: Sequence[Record], again: str):
        self.records, self.again = list(found), again

    def one(self, quantity: str, **place: Any) -> Number:
        """Return the number of one place.

        Raises:
            NotRun: It is not in the file.
        """
        return _number(self.record(quantity, **place))

    def record(self, quantity: str, **place: Any) -> Record:
        """Return the record of one place.

        Raises:
            NotRun: It is not in the file.
        """
        return self._of(quantity, place)[0]

    def by(self, key: str, quantity: str, **place: Any) -> dict[Any, Number]:
        """Return the numbers of one quantity by a parameter, such as the layer.

        Raises:
            NotRun: None is in the file.
        """
        found = self._of(quantity, place, key)
        return {record.parameters[key]: _number(record) for record in found}

    def _of(self, quantity: str, place: dict[str, Any], *keys: str) -> list[Record]:
        found = [
            record
            for record in self.records
            if record.quantity == quantity
            and place.items() <= record.parameters.items()
            and record.parameters.keys() >= {*keys}
        ]
        if not found:
            where = ", ".join([*(f"{key} {value}" for key, value in place.items()), *map("by {}".format, keys)])
            raise NotRun(f"{self.again}; the record at hand holds no {quantity!r} ({where})")
        return found


def _number(record: Record) -> Number:
    """Return a record's number; without a stored interval it follows from spread and n."""
    low, high = record.parameters.get("low"), record.parameters.get("high")
    if low is None and record.spread is not None and record.n > 1:
        margin = 1.96 * record.spread / sqrt(record.n)
        low, high = record.value - margin, record.value + margin
    if low is None and record.spread is None:
        low = high = record.value
    return Number(record.value, low, high, record.n, record.unit)


@dataclass(frozen=True)
class Stored:
    """The results of a profile as the tests of claims read them.

    Attributes:
        profile: `smoke`, `tiny` or `paper`.
        path: The record of the claim at hand, below the profile's results.
        command: What writes it.
        cost: How long that takes.
    """

    profile: str
    path: str = ""
    command: str = ""
    cost: str = ""

    @property
    def numbers(self) -> Numbers:
        """The numbers of the claim's record.

        Raises:
            NotRun: It is not there.
        """
        return self.read(self.path, f"`{self.command}`; {self.cost}")

    def read(self, path: str, making: str) -> Numbers:
        """Return the numbers of a record below the profile's results.

        Args:
            path: Of the record.
            making: What makes it, and how long that takes.

        Raises:
            NotRun: It is not there.
        """
        found = records.read(results_root(self.profile) / path)
        if not found:
            raise NotRun(making)
        return Numbers(found, making)

    @property
    def file(self) -> Path:
        """Where the claim's record lies."""
        return results_root(self.profile) / self.path

    @property
    def data(self) -> str:
        """What the profile trains on."""
        return training_of(self.profile, "zfnet").data

    @property
    def classes(self) -> int:
        """How many classes that has."""
        return DATASETS[self.data].classes

    @property
    def side(self) -> int:
        """Pixels of the side that the profile's networks take."""
        return training_of(self.profile, "zfnet").spec(2).image_size

    def errors(self, name: str, clip: str = "all", views: str = "random") -> list[dict[str, float]]:
        """Return a network's errors in percent, a mapping a seed: `train`, `val1`, `val5`.

        Raises:
            NotRun: No training of it has ended.
        """
        first = training_of(self.profile, name, clip=clip, views=views)
        paths = sorted(first.errors_file.parent.glob(f"{first.name.removesuffix('0')}*.jsonl"))
        found = [_errors(records.read(path)) for path in paths]
        if not found:
            raise NotRun(self.training(name, clip, views=views))
        return found

    def training(self, name: str, clip: str = "all", seeds: int = 1, views: str = "random") -> str:
        """Say what trains a network, and how long that takes."""
        command = training_of(self.profile, name, clip=clip, views=views).command
        each = " for each of the seeds 0 to " + str(seeds - 1) if seeds > 1 else ""
        return f"`{command}`{each}; {self.taking(self.hours(name) * seeds)}"

    def learning(self, pictures: int) -> str:
        """Say how long Fig. 3's network takes to learn from so many pictures, reckoned from its own training."""
        rates = [line["epoch"]["images_per_second"] for line in self.epochs("zfnet", needed=False)]
        return self.taking(pictures / median(rates) / 3600 if rates else 0)

    def hours(self, name: str) -> float:
        """Reckon how long a training takes from that of Fig. 3's network and the work of both; 0 if unknown."""
        lines = self.epochs("zfnet", needed=False)
        work = {each: sum(training_of(self.profile, each).spec(200).macs().values()) for each in (name, "zfnet")}
        return sum(line["epoch"]["seconds"] for line in lines) / 3600 * work[name] / work["zfnet"]

    def taking(self, hours: float) -> str:
        """Say a duration on the machine that trained Fig. 3's network; 0 where it cannot be reckoned."""
        if not hours:
            return "no training here to reckon the hours from"
        length = f"about {hours:.1f} h" if hours >= 0.1 else "minutes"
        return f"{length} on {self.machine}"

    @property
    def machine(self) -> str:
        """What Fig. 3's network was trained on."""
        return self.epochs("zfnet")[-1]["provenance"]["device"]

    def epochs(self, name: str, clip: str = "all", needed: bool = True) -> list[dict[str, Any]]:
        """Return the record of the first training of a network: a line an epoch.

        Raises:
            NotRun: There is none, and it is `needed`.
        """
        lines = read_epochs(training_of(self.profile, name, clip=clip).epochs_file)
        if needed and not lines:
            raise NotRun(self.training(name, clip))
        return lines

    def runs(self, name: str, clip: str = "all") -> list[list[dict[str, Any]]]:
        """Return the records of all finished trainings of a network, one a seed.

        Raises:
            NotRun: None has ended.
        """
        trainings = (training_of(self.profile, name, seed, clip) for seed in range(SEEDS + 2))
        found = [read_epochs(each.epochs_file) for each in trainings if each.errors_file.exists()]
        if not found:
            raise NotRun(self.training(name, clip))
        return found

    def overlaps(self) -> list[Overlap]:
        """Return which training pictures also stand in a transfer data set.

        Raises:
            NotRun: Nobody has looked.
        """
        found = [Overlap.load(path) for path in sorted((results_root(self.profile) / "overlap").glob("*.json"))]
        if not found:
            raise NotRun("`zfnet overlap A B` with the training data and a transfer data set; minutes")
        return found


def over_seeds(values: Sequence[float], unit: str = "") -> Number:
    """Return the mean over trainings with twice its standard error; of fewer than `SEEDS` the spread is unknown.

    Example:
        >>> over_seeds([1.0, 2.0])
        Number(value=1.5, low=None, high=None, n=2, unit='')
        >>> over_seeds([1.0, 2.0, 3.0, 2.0]).low
        1.183503419072274
    """
    return difference(values, [0.0] * len(values), unit)


def difference(some: Sequence[float], others: Sequence[float], unit: str = "") -> Number:
    """Return mean(some) - mean(others) of trainings with twice its standard error.

    With fewer than `SEEDS` of a kind the spread counts as unknown.

    Example:
        >>> difference([3.0, 5.0], [1.0, 1.0])
        Number(value=3.0, low=None, high=None, n=2, unit='')
        >>> difference([3.0, 4.0, 5.0], [1.0, 1.0, 1.0]).low
        1.8452994616207485
    """
    lead, n = mean(some) - mean(others), min(len(some), len(others))
    if n < SEEDS:
        return Number(lead, None, None, n, unit)
    margin = 2 * sqrt(stdev(some) ** 2 / len(some) + stdev(others) ** 2 / len(others))
    return Number(lead, lead - margin, lead + margin, n, unit)


def _errors(found: Sequence[Record]) -> dict[str, float]:
    """Return the errors with one view."""
    wanted = {quantity: key for key, quantity in SPLITS.items()}
    return {wanted[r.quantity]: r.value for r in found if r.quantity in wanted and r.parameters["views"] == 1}
