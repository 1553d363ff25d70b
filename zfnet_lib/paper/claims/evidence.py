"""What claims are judged by: numbers with intervals, stored records, and the network and pictures to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, product
from math import hypot, prod, sqrt
from pathlib import Path
from statistics import mean
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from ...architecture import MINI, Unit
from ...batches import squares_of
from ...datasets import Dataset, open_dataset
from ...evaluation import probabilities
from ...files import ZfnetError, results_root
from ...images import centre_square
from ...network import ConvNet
from ...strongest import Ranking, strongest
from .. import records
from ..grouping import drawn_maps
from ..records import Record, Spread, cell, claims, hyperparameter, pooled
from ..setting import DATA, network_of, profile_of, training_of
from ..trainings import (
    Training,
    between_seeds,
    cost,
    errors_over_seeds,
    queue,
    read_epochs,
    recorded_over_seeds,
    training_data,
)

VERDICTS = ("holds", "does not hold", "undecided", "not testable here", "not run")
HOLDS, FAILS, UNDECIDED, UNTESTABLE, NOT_RUN = VERDICTS

SEEDS = 3
"""Trainings of a network from which on their spread can decide anything."""
CLEAR = claims()["clear"]
"""Standard errors on either side of a difference of counted shares; trainings use Student's t."""


class NotRun(ZfnetError):  # noqa: N818 (the verdict's own words)
    """A claim whose numbers were not computed yet; the message says what computes them."""


class Number(NamedTuple):
    """A value with its 95 % interval and, where it was measured, what it is and where."""

    value: float
    low: float | None = None  # None where the spread is unknown; an exact number is its own interval
    high: float | None = None
    n: int = 1  # maps, pictures, trainings … that it rests on
    unit: str = ""
    spread: float | None = None  # standard deviation over n
    quantity: str = ""
    place: Mapping[str, Any] = {}  # layer, variant … that it belongs to; never changed
    data: str = ""  # the pictures, where they are not those that the other claims look at

    def __str__(self) -> str:
        known = self.low is not None and self.high is not None and self.low != self.high
        interval = f" ({self.low:.3g} to {self.high:.3g})" if known else ""
        return f"{self.value:.3g} {self.unit}".rstrip() + interval


Named = Sequence[tuple[str, Number]]
"""Numbers under the names by which they are shown."""


@dataclass(frozen=True)
class Finding:
    """What was found of one claim."""

    verdict: str
    numbers: Mapping[str, Number]
    note: str = ""  # what was simplified, is missing, or has to be run
    decided: str = ""  # the number that decided, against its bar
    basis: str = ""  # what the numbers rest on, and the record where they lie: the ledger fills them in
    record: str = ""

    @property
    def deciding(self) -> str:
        """The one number that decided, against its bar; where a judge weighs several, the first, if it is sure."""
        if self.decided or self.verdict == UNDECIDED:
            return self.decided
        return next((f"{name} {number}" for name, number in self.numbers.items()), "")

    @property
    def shown(self) -> str:
        """The numbers in one line."""
        return "; ".join(f"{name} {number}" for name, number in self.numbers.items())

    @property
    def n(self) -> str:
        """What they rest on, from the least to the most."""
        sizes = sorted({number.n for number in self.numbers.values()})
        return " to ".join(f"{size:,}" for size in dict.fromkeys(sizes[:1] + sizes[-1:]))


# Statements about numbers are true, false, or None: open, because the interval reaches to both sides.
Truth = bool | None


def apart(number: Number, other: Number) -> Truth:
    """Tell whether a number exceeds another one, their intervals apart."""
    if None in (number.low, number.high, other.low, other.high):
        return None
    return True if number.low > other.high else False if number.high <= other.low else None


def above(number: Number, level: float) -> Truth:
    return apart(number, exact(level))


def below(number: Number, level: float) -> Truth:
    return apart(exact(level), number)


def at_least(number: Number, level: float) -> Truth:
    return no(below(number, level))


def rising(numbers: Iterable[Number]) -> Truth:
    """Tell whether each number exceeds the one before, their intervals apart: no where one clearly does not."""
    return every(apart(after, before) for before, after in pairwise(numbers))


def no(truth: Truth) -> Truth:
    return None if truth is None else not truth


def every(truths: Iterable[Truth]) -> Truth:
    """Return whether all statements are true: no where one is false, open where one is open."""
    return no(some(map(no, truths)))


def some(truths: Iterable[Truth]) -> Truth:
    """Return whether any statement is true: open where none is and one is open."""
    found = list(truths)
    return True if True in found else None if None in found else False


def verdict(holds: Truth, fails: Truth | Literal["otherwise"] = "otherwise") -> str:
    """Return the verdict: undecided between two thresholds; without the second one, only where *holds* is open."""
    if holds:
        return HOLDS
    return FAILS if (holds is False if fails == "otherwise" else fails) else UNDECIDED


def exact(value: float, unit: str = "", n: int = 1) -> Number:
    return Number(value, value, value, n, unit)


def counted(quantity: str, value: float, n: int, unit: str = "", **place: Any) -> Number:
    """Return a number that has no error: a count over all n, or the statistic of one training."""
    return exact(float(value), unit, n)._replace(quantity=quantity, place=place)


def measured(
    quantity: str, values: Sequence[float], unit: str = "", middle=np.mean, groups: Sequence[int] = (), **place: Any
) -> Number:
    """Return the mean, or the median, of values with its bootstrap interval; NaN is left out.

    Values of one of the `groups`, such as the units of one map, are alike and redrawn together.
    """
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    kept, random = values[finite], np.random.default_rng(0)
    if not kept.size:
        return counted(quantity, float("nan"), 0, unit, **place)
    if len(groups):
        of = np.asarray(groups)[finite]
        each = [kept[of == group] for group in np.unique(of)]
        draws = random.integers(0, len(each), (1000, len(each)))
        redrawn = [middle(np.concatenate([each[group] for group in draw])) for draw in draws]
    else:
        redrawn = middle(kept[random.integers(0, kept.size, (1000, kept.size))], axis=1)
    low, high = map(float, np.quantile(redrawn, (0.025, 0.975)))
    spread = float(kept.std(ddof=1)) if kept.size > 1 else None
    return Number(float(middle(kept)), low, high, kept.size, unit, spread, quantity, place)


def weighted(*terms: tuple[float, Sequence[float]], unit: str, least: int, spread: Spread | None = None) -> Number:
    """Return a weighted sum of means over trainings or folds; below `least` of one the spread is unknown."""
    value, n = sum(weight * mean(values) for weight, values in terms), min(len(values) for _, values in terms)
    spread = spread or pooled(values for _, values in terms)
    margin = spread.margin(*((weight, len(values)) for weight, values in terms)) if n >= least else None
    return Number(value, *((None, None) if margin is None else (value - margin, value + margin)), n, unit)


def beyond(some: Number, other: Number) -> Number:
    """Return by how much a number exceeds another one that was measured apart from it."""
    value, half = some.value - other.value, hypot(some.high - some.low, other.high - other.low) / 2
    return Number(value, value - half, value + half, min(some.n, other.n), some.unit)


def over_seeds(values: Sequence[float], unit: str = "", least: int = SEEDS) -> Number:
    """Return the mean over trainings or folds; below `least` the spread is unknown."""
    return weighted((1, values), unit=unit, least=least)


def difference(some: Sequence[float], others: Sequence[float], unit: str = "") -> Number:
    """Return mean(some) - mean(others) of trainings; below `SEEDS` the spread is unknown."""
    return weighted((1, some), (-1, others), unit=unit, least=SEEDS)


def number_of(record: Record) -> Number:
    """Return a record's number; without a stored interval it follows from spread and n."""
    low, high, spread = record.parameters.get("low"), record.parameters.get("high"), record.spread
    if low is None and (spread is None or record.n > 1):
        margin = 1.96 * spread / sqrt(record.n) if spread else 0
        low, high = record.value - margin, record.value + margin
        if record.unit in ("%", "% of maps") and 0 <= record.value <= 100:  # a share
            low, high = max(low, 0), min(high, 100)
    return Number(record.value, low, high, record.n, record.unit)


@dataclass(frozen=True)
class Stored:
    """What is stored for a profile, as judges read it: trainings, and a record, by quantity and place."""

    profile: str
    path: str = ""  # the record, of the claim at hand or of another experiment, below the profile's results
    again: str = ""  # what writes it, and how long that takes

    @property
    def file(self) -> Path:
        """Where the record lies."""
        return results_root(self.profile) / self.path

    @cached_property
    def contents(self) -> list[Record]:
        """All of the record; raises NotRun where it is not there."""
        if found := records.read(self.file):
            return found
        raise NotRun(self.again)

    def each(self, quantity: str, /, *keys: str, **place: Any) -> list[Record]:
        """Return the records of a quantity that have these keys; a list in a place stands for one after another."""
        found, of = [], [record for record in self.contents if record.quantity == quantity]
        for chosen in product(*(value if isinstance(value, list) else [value] for value in place.values())):
            where = dict(zip(place, chosen, strict=True))
            here = [one for one in of if where.items() <= one.parameters.items() and {*keys} <= {*one.parameters}]
            if not here:
                missing = [*(f"{key} {value}" for key, value in where.items()), *(f"by {key}" for key in keys)]
                raise NotRun(f"{self.again}; the record at hand holds no {quantity!r} ({', '.join(missing)})")
            found += here
        return found

    def record(self, quantity: str, /, **place: Any) -> Record:
        """Return the record of one place; raise NotRun where it is not in the file."""
        return self.each(quantity, **place)[0]

    def one(self, quantity: str, /, **place: Any) -> Number:
        """Return the number of one place; raise NotRun where it is not in the file."""
        return number_of(self.record(quantity, **place))

    def by(self, key: str, quantity: str, /, **place: Any) -> dict[Any, Number]:
        """Return the numbers of one quantity by a parameter, such as the layer; raise NotRun without any."""
        return {record.parameters[key]: number_of(record) for record in self.each(quantity, key, **place)}

    def errors(self, name: str, clip: str = "all", views: str = "random") -> list[dict[str, float]]:
        """Return a network's errors in percent with one view, a mapping a seed: `val1`, `val5` and others."""
        run = training_of(self.profile, name, clip=clip, views=views)
        return errors_over_seeds(run) or self.untrained(run)

    def runs(self, name: str, clip: str = "all") -> dict[int, list[dict[str, Any]]]:
        """Return the records of all finished trainings of a network by seed: a line an epoch."""
        run = training_of(self.profile, name, clip=clip)
        return {one.seed: read_epochs(one.epochs_file) for one in recorded_over_seeds(run)} or self.untrained(run)

    def epochs(self, name: str, needed: bool = True) -> list[dict[str, Any]]:
        """Return the record of the first training of a network: a line an epoch. It may be `needed`."""
        run = training_of(self.profile, name)
        lines = read_epochs(run.epochs_file)
        return lines or self.untrained(run) if needed else lines

    def untrained(self, run: Training) -> NoReturn:
        """Say what trains a network, and how long that takes."""
        raise NotRun(f"`{run.command}`; {cost([run])}")

    def spread(self, of: Callable[[Mapping[str, float]], float]) -> tuple[Spread, str]:
        """Return the spread of an error between seeds; say what it rests on, and what training would tell more."""
        like = training_of(self.profile, "zfnet")
        spread, told = between_seeds(like, of)
        unrun = [run for run in queue(like.data, like.recipe) if not run.errors_file.exists()]
        if self.profile != "smoke" and unrun:
            told += f" To be trained next: `{unrun[0].command}`; {cost(unrun[:1])}."
        return spread, told


SIGNS = {
    ">": apart,
    "<": lambda number, level: apart(level, number),
    ">=": lambda number, level: no(apart(level, number)),
    "<=": lambda number, level: no(apart(number, level)),
}


def compared(rows: Sequence[Mapping[str, Any]], stored: Stored, **thresholds: float) -> Finding:
    """Judge by what an entry of the registry asks of each of its numbers; the head of `claims.toml` says how."""
    numbers, answers = {}, {"holds": [], "fails": [], "unless": []}

    def asked(condition: str, found: Named, others: Named) -> Iterator[tuple[Truth, str]]:
        """Yield whether the condition is true, and of which number against which bar."""
        sign, _, rest = condition.partition(" ")
        if sign == "all":
            one_by_one = list(asked(rest, found, others))
            yield every(truth for truth, _ in one_by_one), one_by_one[0][1]
        elif sign in ("rising", "falling"):
            (first, low), (last, high) = found[0], found[-1]
            path = f"{first} {low} … {last} {high}; bar {sign}"
            yield rising(number for _, number in (found if sign == "rising" else found[::-1])), path
        else:
            for (name, number), (_, other) in zip(found, others, strict=True):
                bar = level(rest, other)
                printed = {">=": "≥", "<=": "≤"}.get(sign, sign)
                yield SIGNS[sign](number, bar), f"{name} {number}; bar {printed} {bar}"

    def level(words: str, other: Number) -> Number:
        known = other._asdict() | thresholds
        terms = (term.split(" * ") for term in words.split(" + "))
        values = (prod(known[word] if word in known else float(word) for word in term) for term in terms)
        return other if words == "interval" else exact(sum(values))

    def at(name: str, of: str, **where: Any) -> Named:
        found = stored.each(of, **where)
        return [(name.format(**record.parameters | {"of": of}), number_of(record)) for record in found]

    for row in rows:
        place = {"name": row.get("name", "{of}"), "of": row["of"], **row.get("where", {})}
        found, others = at(**place), at(**place | row.get("than", {}))
        if "exact" in row:
            found = [(name, exact(number.value, number.unit, number.n)) for name, number in found]
        numbers |= {} if "hidden" in row else dict(found)
        for role in answers.keys() & row.keys():
            answers[role] += asked(row[role], found, others)
    truths = {role: [truth for truth, _ in found] for role, found in answers.items()}
    failed = some(truths["fails"]) if answers["fails"] else "otherwise"
    prevented = True in (failed, *truths["unless"])
    found = verdict(every([*truths["holds"], not prevented]), failed)
    # The first number that is true, open or false as the verdict is; beyond the bar for failing, it is true.
    decided = [text for truth, text in answers["fails"] if truth and found == FAILS]
    decided += [text for truth, text in answers["unless"] if truth]
    for truth in {HOLDS: [True], FAILS: [False]}.get(found, [False, None]):  # what does not hold may not fail, too
        decided += [text for one, text in answers["holds"] if one is truth]
    return Finding(found, numbers, decided=next(iter(decided), ""))


class Scale(NamedTuple):
    """How much is measured: pictures that are ranked, maps of each layer, units of each map, pictures covered."""

    pictures: int
    maps: int
    units: int
    few: int


SCALES = {"smoke": Scale(128, 6, 3, 16), "tiny": Scale(4000, 50, 9, 200), "paper": Scale(20_000, 50, 9, 300)}


def on_processor(net: ConvNet | None) -> ConvNet | None:
    """Return a network where evidence is weighed; what is trained for it computes wherever trainings do."""
    return net if net is None or net.device.type == "cpu" else deepcopy(net).cpu()


class Subject:
    """A network and pictures, both as a profile has them; `seed` is that of every draw and of random weights."""

    seed = 0

    def __init__(self, profile: str):
        self.profile, self.name, self.scale = profile, profile_of(profile).network, SCALES[profile]

    @cached_property
    def net(self) -> ConvNet:
        """The profile's network, whole."""
        return on_processor(network_of(self.profile)).eval()

    @cached_property
    def untrained(self) -> Subject:
        """The same pictures, with random weights in the same architecture."""
        return self.seen_by(ConvNet(self.net.spec, self.net.preparation, self.seed))

    def seen_by(self, net: ConvNet) -> Subject:
        """Return the same pictures with another network."""
        other = Subject(self.profile)
        other.net, other.dataset, other.scale, other.rows = net.eval(), self.dataset, self.scale, self.rows
        return other

    @cached_property
    def dataset(self) -> Dataset:
        """The validation pictures of what the network was trained on."""
        if self.name == MINI.name:
            drawn = open_dataset(DATA[self.profile], "val")
            drawn.sample = cache(drawn.sample)  # drawing takes longer than looking
            return drawn
        return training_data(DATA[self.profile], "val")

    @cached_property
    def rows(self) -> list[int]:
        """The pictures that are looked through, drawn by seed."""
        order = np.random.default_rng(self.seed).permutation(len(self.dataset))
        return sorted(order[: self.scale.pictures].tolist())

    @property
    def few(self) -> list[int]:
        """As many of them as are looked at more closely, evenly spread."""
        count = min(self.scale.few, len(self.rows))
        return [self.rows[i * len(self.rows) // count] for i in range(count)]

    @property
    def layers(self) -> list[str]:
        """The convolutional layers, from the picture upwards."""
        return [conv.name for conv in self.net.spec.convs]

    @cached_property
    def hits(self) -> Ranking:
        """The strongest units of every map over `rows`."""
        return strongest(self.net.features(), self.dataset, 9, rows=self.rows)

    def units(self, layer: str, each: int = 0) -> list[Unit]:
        """Return the strongest units, so many `each`, of maps drawn by seed; `image` counts in the data set."""
        hits = self.hits[layer]
        maps = drawn_maps(hits, self.scale.maps, self.seed)
        return [unit for map_ in maps for unit in hits.units(map_)[: each or self.scale.units]]

    def squares(self, rows: Sequence[int]) -> Tensor:
        """Return pictures, uint8 [n, 3, short_side, short_side]."""
        return squares_of(self.dataset, rows, self.net.preparation)

    def x(self, rows: Sequence[int]) -> Tensor:
        """Return prepared pictures [n, 3, crop, crop]."""
        return self.net.prepare(self.squares(rows)).contiguous(memory_format=torch.channels_last)

    def pictures_of(self, units: Sequence[Unit]) -> tuple[list[Unit], Tensor]:
        """Return units with the prepared picture of each; `image` counts in these."""
        return [unit._replace(image=i) for i, unit in enumerate(units)], self.x([unit.image for unit in units])

    def objects(self, rows: Sequence[int]) -> Tensor:
        """Return where the labelled objects are, bool [n, crop, crop]: masks where there are any, else boxes."""
        side, found = self.net.preparation.short_side, []
        for row in rows:
            sample = self.dataset.sample(row).squared(side)
            top, left, bottom, right = map(round, sample.box or (0, 0, 0, 0))
            boxed = torch.zeros(side, side, dtype=torch.bool)
            boxed[top:bottom, left:right] = True
            mask = boxed if sample.mask is None else sample.mask
            found.append(centre_square(mask, self.net.preparation.crop))
        return torch.stack(found)

    @cached_property
    def with_object(self) -> list[int]:
        """The `rows` whose object covers a part of the picture, less than half of it."""
        return [row for row in self.rows if 0.02 < float(self.objects([row]).float().mean()) < 0.5]

    @cached_property
    def right(self) -> list[int]:
        """Those of them that the network classifies correctly."""
        labels, found = torch.as_tensor(self.dataset.labels), set()
        for part in torch.tensor(self.rows).split(64):
            answers = probabilities(self.net, self.squares(part.tolist())).argmax(1)
            found |= {*part[answers == labels[part]].tolist()}
        return [row for row in self.with_object if row in found]


def reckoned(shown: str, **sheet: Any) -> tuple[bool, str]:
    """Fill in a sheet of the paper's own numbers, from top to bottom: cells, hyperparameters, formulas.

    Return whether its formula `agrees` is true, and what it has `shown`.
    """
    for name, entry in sheet.items():
        match entry:
            case str(formula):  # of our own registry, in which code is as good as here
                sheet[name] = eval(formula, {}, sheet)
            case [parameter]:
                sheet[name] = hyperparameter(parameter)
            case [table, rows, columns, *base]:
                rows, columns = np.atleast_1d(rows), np.atleast_1d(columns)
                sheet[name] = np.squeeze([[cell(table, row, column, *base) for column in columns] for row in rows])
    return bool(sheet["agrees"]), shown.format(**sheet)
