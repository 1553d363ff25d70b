"""Sections 4.1 and 5.1: what trainings of other architectures show (Tables 1 and 2)."""

from __future__ import annotations

from dataclasses import replace
from math import log
from statistics import mean

from ...architecture import KRIZHEVSKY, ZFNET
from ..records import read
from .finding import SEEDS, Finding, Number, above, at_least, below, every, exact, some, verdict
from .printed import replication
from .stored import NotRun, Stored, difference, over_seeds

BASE = "krizhevsky"
CONVS, DENSE, BOTH = f"{BASE}-without-3-4", f"{BASE}-without-6-7", f"{BASE}-without-3-4-6-7"
WIDE = "zfnet-maps-512-1024-512"


def smaller_stem(stored: Stored) -> Finding:
    """Compare the errors of Fig. 3's network with those of Krizhevsky's."""
    numbers = _leads(stored, "zfnet", BASE)
    five, one = numbers.values()
    found = verdict(every([below(five, 0), below(one, 0)]), at_least(five, 0))
    return Finding(found, numbers, _seeds(five, SEEDS))


def single_model(stored: Stored) -> Finding:
    """Compare the top-5 errors of both, and the reduction relative to the error."""
    five = _leads(stored, "zfnet", BASE)["top-5"]
    error = mean(one["val5"] for one in stored.errors(BASE))
    share = Number(-100 * five.value / error, n=five.n, unit="% of the error")
    found = verdict(below(five, 0), at_least(five, 0))
    return Finding(found, {"top-5": five, "reduction": share}, _seeds(five, 5))


def within_one_tenth(stored: Stored) -> Finding:
    """Do the arithmetic of Table 1; the error rate itself needs ImageNet 2012."""
    top5, top1 = replication()
    numbers = {"top-5": exact(top5, "points"), "top-1": exact(top1, "points")}
    note = "Arithmetic on Table 1, for top-5; for top-1 it does not hold. The rate itself needs ImageNet 2012."
    return Finding(verdict(top5 <= 0.1), numbers, note)


def ensemble(stored: Stored) -> Finding:
    """Compare single networks with averages of five, and of five and a wider one."""
    single = [one["val5"] for one in stored.errors("zfnet")]
    averaged = {
        len(record.parameters["networks"]): record
        for record in read(stored.file)
        if record.quantity == "val top-5 error" and record.parameters["views"] == 1
    }
    if not averaged.keys() >= {5, 6}:
        command = f"zfnet train --table 1 --data {stored.data} --recipe {stored.profile}"
        hours = 5 * stored.hours("zfnet") + stored.hours(WIDE)
        raise NotRun(f"`{command}`; about {hours:.0f} h on what Fig. 3's network was trained on")
    five = difference([averaged[5].value] * len(single), single, "points")
    numbers = {
        "five less the single ones, top-5": five,
        "with the wider one less five": exact(averaged[6].value - averaged[5].value, "points"),
    }
    note = f"Six networks of one kind, the control, were not trained; {len(single)} single ones."
    return Finding(verdict(None, at_least(five, 0)), numbers, note)


def without_6_7(stored: Stored) -> Finding:
    """Compare the top-5 error with and without layers 6 and 7, relative to it."""
    rise = _relative(stored, DENSE)
    found = verdict(below(rise, 10), above(rise, 10))
    return Finding(found, {"top-5 rises by": rise}, _seeds(rise, SEEDS))


def share_of_dense(stored: Stored) -> Finding:
    """Count the parameters of layers 6 and 7."""
    numbers = {}
    for spec in (ZFNET, KRIZHEVSKY):
        for side, classes in ((224, 1000), (112, 200)):
            sizes = replace(spec, image_size=side, classes=classes).parameters()
            numbers[f"{spec.name}, {side} pixels"] = exact((sizes["fc6"] + sizes["fc7"]) / sum(sizes.values()))
    note = "With 4,096 units, as recalled; 1,000 classes at 224 pixels, 200 at 112."
    return Finding(verdict(every(above(number, 0.5) for number in numbers.values())), numbers, note)


def without_3_4(stored: Stored) -> Finding:
    """Compare the rise without layers 3 and 4 with that without 3, 4, 6, 7."""
    small, large = _rise(stored, CONVS), _rise(stored, BOTH)
    ratio = Number(small.value / large.value, n=min(small.n, large.n))
    third = below(Number(small.value - large.value / 3, *_margin(small, large)), 0)
    numbers = {"without 3, 4": small, "without 3, 4, 6, 7": large, "ratio": ratio}
    return Finding(verdict(third), numbers, _seeds(small, SEEDS))


def without_both(stored: Stored) -> Finding:
    """Compare the rise of the four-layer network with the sum of both removals, also in log odds."""
    rows = {name: [one["val5"] for one in stored.errors(name)] for name in (BASE, CONVS, DENSE, BOTH)}
    train = {name: mean(one["train"] for one in stored.errors(name)) for name in rows}
    numbers = {
        "interaction, top-5": _interaction(rows, lambda error: error, "points"),
        "in log odds": _interaction(rows, lambda error: log(error / (100 - error)), ""),
    }
    fewest = next(iter(numbers.values()))
    worst = train[BOTH] == max(train.values()) if fewest.n >= SEEDS else None
    found = verdict(every([*(above(number, 0) for number in numbers.values()), worst]))
    return Finding(found, numbers, _seeds(fewest, SEEDS))


def depth(stored: Stored) -> Finding:
    """Compare networks of one depth with the step to the next."""
    six = [mean(one["val5"] for one in stored.errors(name)) for name in (CONVS, DENSE)]
    seven = mean(one["val5"] for one in stored.errors(f"{BASE}-without-7"))
    four = mean(one["val5"] for one in stored.errors(BOTH))
    numbers = {
        "two networks of six layers differ by": Number(abs(six[0] - six[1]), unit="points"),
        "seven to six layers": Number(min(six) - seven, unit="points"),
        "six to four layers": Number(four - max(six), unit="points"),
    }
    note = "Table 2's removals only: every pair of layers 2-7 was not trained, so the regression is open."
    return Finding(verdict(None), numbers, note)


def width_of_dense(stored: Stored) -> Finding:
    """Compare half and double width of layers 6 and 7, relative to the top-5 error."""
    numbers = {
        f"{base}, {units} units": _relative(stored, f"{base}-fc-{units}", base)
        for base in ("zfnet", BASE)
        for units in (2048, 8192)
    }
    inside = [every([below(number, 7), above(number, -7)]) for number in numbers.values()]
    outside = [some([above(number, 7), below(number, -7)]) for number in numbers.values()]
    fewest = min(numbers.values(), key=lambda number: number.n)
    return Finding(verdict(every(inside), some(outside)), numbers, _seeds(fewest, SEEDS))


def larger_middle(stored: Stored) -> Finding:
    """Compare the base with 512, 1024, 512 maps in layers 3, 4, 5."""
    numbers = _leads(stored, WIDE, "zfnet")
    five, one = numbers.values()
    found = verdict(every([below(five, 0), below(one, 0)]), at_least(five, 0))
    return Finding(found, numbers, _seeds(five, 5))


def both_enlarged(stored: Stored) -> Finding:
    """Compare the gaps of the 2x2 design, and the errors of both enlarged with the middle layers alone."""
    names = ("zfnet", "zfnet-fc-8192", WIDE, f"zfnet-fc-8192-maps-{WIDE.removeprefix('zfnet-maps-')}")
    gaps = {name: [one["val1"] - one["train"] for one in stored.errors(name)] for name in names}
    rise = _leads(stored, names[-1], WIDE)["top-5"]
    numbers = {f"gap, {name}": Number(mean(found), n=len(found), unit="points") for name, found in gaps.items()}
    widest = every(above(difference(gaps[names[-1]], gaps[name]), 0) for name in names[:-1])
    found = verdict(every([widest, above(rise, 0)]))
    return Finding(found, numbers | {"top-5 over larger middle layers": rise}, _seeds(rise, SEEDS))


def diagnosis(stored: Stored) -> Finding:
    """Rank eight stems by what is seen of them early and by their error."""
    hours = 8 * stored.hours("zfnet")
    raise NotRun(
        f"trainings of eight stems; `zfnet train` knows four: zfnet, krizhevsky, zfnet-11x11, krizhevsky-7x7; "
        f"about {hours:.0f} h on what Fig. 3's network was trained on"
    )


def _leads(stored: Stored, name: str, other: str) -> dict[str, Number]:
    ours, theirs = stored.errors(name), stored.errors(other)
    return {
        title: difference([one[key] for one in ours], [one[key] for one in theirs], "points")
        for title, key in (("top-5", "val5"), ("top-1", "val1"))
    }


def _rise(stored: Stored, name: str, base: str = BASE) -> Number:
    return _leads(stored, name, base)["top-5"]


def _relative(stored: Stored, name: str, base: str = BASE) -> Number:
    """Return a rise of the top-5 error in percent of it."""
    error, rise = mean(one["val5"] for one in stored.errors(base)), _rise(stored, name, base)
    shares = [None if edge is None else 100 * edge / error for edge in rise[:3]]
    return Number(*shares, rise.n, "% of the error")


def _interaction(rows: dict[str, list[float]], scale, unit: str) -> Number:
    """Return rise(both) - rise(convs) - rise(dense) on a scale, seed by seed."""
    seeds = zip(*([scale(error) for error in rows[name]] for name in (BOTH, BASE, CONVS, DENSE)), strict=False)
    return over_seeds([both + base - convs - dense for both, base, convs, dense in seeds], unit)


def _margin(small: Number, large: Number) -> tuple[float | None, float | None]:
    """Return the interval of small - large / 3, whose errors are taken to be independent of one another."""
    if None in (small.low, small.high, large.low, large.high):
        return None, None
    centre = small.value - large.value / 3
    width = ((small.high - small.value) ** 2 + ((large.high - large.value) / 3) ** 2) ** 0.5
    return centre - width, centre + width


def _seeds(number: Number, wanted: int) -> str:
    """Say where too few trainings were run."""
    return f"{number.n} of {wanted} seeds" if number.n < wanted else ""
