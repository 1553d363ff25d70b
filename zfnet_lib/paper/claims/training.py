"""Sections 3 and 5.1: what trainings show, with and without parts of the recipe and of the architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import hypot, log
from statistics import mean, median

import numpy as np

from ...architecture import KRIZHEVSKY, ZFNET
from ...network import RADIUS
from ..numbers import cell, hyperparameter
from ..records import read
from ..setting import training_of
from .evidence import (
    FAILS,
    HOLDS,
    SEEDS,
    UNDECIDED,
    UNTESTABLE,
    Finding,
    NotRun,
    Number,
    Stored,
    Subject,
    above,
    at_least,
    below,
    counted,
    difference,
    every,
    exact,
    measured,
    over_seeds,
    some,
    too_few,
    verdict,
)

BASE = "krizhevsky"
CONVS, DENSE, BOTH = f"{BASE}-without-3-4", f"{BASE}-without-6-7", f"{BASE}-without-3-4-6-7"
WIDE, OTHERS = "zfnet-maps-512-1024-512", "Our replication"
KRIZHEVSKY_ALONE = "Krizhevsky et al. [18], 1 convnet"


def few_filters_dominate(stored: Stored, ratio: float, times: float) -> Finding:
    ratios = []
    for clip in ("none", "all"):
        last = [run[-1]["epoch"]["rms"]["conv1"] for run in stored.runs("zfnet", clip)]
        ratios.append([largest / middle for middle, largest in last])
    names = ("largest / median RMS, not renormalised", "renormalised")
    numbers = {name: Number(median(found), n=len(found)) for name, found in zip(names, ratios, strict=True)}
    dominated = [free >= ratio and free >= times * bound for free, bound in zip(*ratios, strict=False)]
    n = len(dominated)
    found = UNDECIDED if n < SEEDS else HOLDS if 2 * sum(dominated) > n else FAILS
    return Finding(found, numbers, too_few(n))


def clipping_is_crucial(stored: Stored, recovered: float) -> Finding:
    epochs = [line["epoch"]["rms"] for line in stored.epochs("zfnet")]
    largest = {layer: max(rms[layer][1] for rms in epochs) for layer in epochs[0]}
    reached = [layer for layer, value in largest.items() if value > 0.999 * RADIUS]
    if not reached:
        name = max(largest, key=largest.get)
        note = f"No filter reaches the radius {RADIUS}; the largest RMS, {largest[name]:.2f}, is that of {name}."
        return Finding(UNTESTABLE, {}, note)
    notes = [f"Filters of {', '.join(reached)} reach the radius {RADIUS}; of other layers none does."]
    top1 = {clip: [one["val1"] for one in stored.errors("zfnet", clip)] for clip in ("all", "none")}
    for clip in ("first", "but-first"):
        try:
            top1[clip] = [one["val1"] for one in stored.errors("zfnet", clip)]
        except NotRun as unrun:
            notes.append(f"Not run: {unrun}.")
    rises = {clip: difference(errors, top1["all"], "points") for clip, errors in top1.items() if clip != "all"}
    left = (1 - recovered / 100) * rises["none"].value
    regained = below(rises["first"], left) if "first" in rises else None
    holds = every([above(rises["none"], 0), regained, reached == ["conv1"] or None])
    numbers = {f"top-1 error, {clip}, less all": rise for clip, rise in rises.items()}
    return Finding(verdict(holds, above(rises["none"], 0) is False), numbers, " ".join(notes))


def pixel_values(at: Subject) -> Iterator[Number]:
    """Count the values of prepared pictures."""
    x = at.net.preparation.normalise(at.squares(at.few)).numpy().reshape(len(at.few), -1)
    for share in (0.1, 1.0, 99.0, 99.9):
        yield counted("percentile", np.percentile(x, share), len(x), share=share)
    for bound in (128, 140):
        yield measured("inside", 100 * (np.abs(x) <= bound).mean(1), "%", bound=bound)


def crops_and_flips(stored: Stored) -> Finding:
    many, centre = stored.errors("zfnet"), stored.errors("zfnet", views="centre")
    error, gap = (
        difference([of(one) for one in many], [of(one) for one in centre], "points")
        for of in (lambda one: one["val1"], lambda one: one["val1"] - one["train"])
    )
    numbers = {"top-1 error, crops and flips less centre": error, "gap between validation and training": gap}
    return Finding(verdict(every([below(error, 0), below(gap, 0)]), at_least(error, 0)), numbers, too_few(error.n))


def seventy_epochs(stored: Stored) -> Finding:
    numbers = {
        "paper": exact(_printed_rate(), "images/s"),
        "multiply-adds a picture": exact(sum(ZFNET.macs().values()) / 1e9, "billion"),
    }
    if ours := [line["epoch"]["images_per_second"] for line in stored.epochs("zfnet", needed=False)]:
        numbers["ours, at 112 pixels"] = Number(median(ours), n=len(ours), unit="images/s")
    return Finding(UNTESTABLE, numbers)


def printed_epochs() -> tuple[bool, str]:
    updates = hyperparameter("train-set-images") * hyperparameter("epochs") / hyperparameter("batch-size")
    return 80 < _printed_rate() < 95, f"{_printed_rate():.1f} images/s, {updates:,.0f} updates"


def _printed_rate() -> float:
    """Return the images per second of the paper's training."""
    seconds = hyperparameter("training-time") * 86400
    return hyperparameter("train-set-images") * hyperparameter("epochs") / seconds


def lower(stored: Stored, name: str, other: str, seeds: int = SEEDS) -> Finding:
    five, one = (_lead(stored, name, other, key) for key in ("val5", "val1"))
    found = verdict(every([below(five, 0), below(one, 0)]), at_least(five, 0))
    return Finding(found, {"top-5": five, "top-1": one}, too_few(five.n, seeds))


def printed_lower(row: str, other_row: str, base: str = "", **_: float) -> tuple[bool, str]:
    five, one = (_points(2, row, other_row, key, base) for key in ("val_top5", "val_top1"))
    return five < 0 and one < 0, f"top-5 {five:+.1f}, top-1 {one:+.1f} points"


def diagnosis(stored: Stored, correlation: float, partial: float) -> Finding:
    raise NotRun(
        f"trainings of eight stems; `zfnet train` knows four: zfnet, krizhevsky, zfnet-11x11, krizhevsky-7x7; "
        f"about {8 * stored.hours('zfnet'):.0f} h on what Fig. 3's network was trained on"
    )


def within_one_tenth(stored: Stored, points: float) -> Finding:
    top5, top1 = _replication()
    return Finding(verdict(top5 <= points), {"top-5": exact(top5, "points"), "top-1": exact(top1, "points")})


def printed_replication(points: float) -> tuple[bool, str]:
    top5, top1 = _replication()
    return top5 <= points, f"top-5 differs by {top5}, top-1 by {top1}"


def _replication() -> list[float]:
    """Return how far the replica's top-5 and top-1 errors lie from Krizhevsky's (Table 1)."""
    return [abs(_points(1, OTHERS, KRIZHEVSKY_ALONE, key)) for key in ("val_top5", "val_top1")]


def single_model(stored: Stored, seeds: int) -> Finding:
    five = _lead(stored, "zfnet", BASE)
    error = mean(one["val5"] for one in stored.errors(BASE))
    share = Number(-100 * five.value / error, n=five.n, unit="% of the error")
    found = verdict(below(five, 0), at_least(five, 0))
    return Finding(found, {"top-5": five, "reduction": share}, too_few(five.n, seeds))


def printed_single(**_: float) -> tuple[bool, str]:
    lead = _points(1, KRIZHEVSKY_ALONE, "1 convnet as per")
    return lead == 1.7, f"{lead} points, on the validation set; no test error of a single model is printed"


def ensemble(stored: Stored) -> Finding:
    single = [one["val5"] for one in stored.errors("zfnet")]
    averaged = {
        len(record.parameters["networks"]): record.value
        for record in read(stored.file)
        if record.quantity == "val top-5 error" and record.parameters["views"] == 1
    }
    if not averaged.keys() >= {5, 6}:
        data, hours = training_of(stored.profile, "zfnet").data, 5 * stored.hours("zfnet") + stored.hours(WIDE)
        command = f"zfnet train --table 1 --data {data} --recipe {stored.profile}"
        raise NotRun(f"`{command}`; about {hours:.0f} h on what Fig. 3's network was trained on")
    five = difference([averaged[5]] * len(single), single, "points")
    wider = exact(averaged[6] - averaged[5], "points")
    note = f"Six networks of one kind, the control, were not trained; {len(single)} single ones."
    numbers = {"five less the single ones, top-5": five, "with the wider one less five": wider}
    return Finding(verdict(None, at_least(five, 0)), numbers, note)


def printed_ensemble() -> tuple[bool, str]:
    six, five, one = (cell(1, row, "val_top5") for row in ("6 convnets", "5 convnets", "1 convnet as per Fig. 3"))
    gain = _points(1, "Krizhevsky et al. [18], 5", "6 convnets", "test_top5")
    return gain == 1.6 and six < five < one, f"test {gain} points; validation {one}, {five}, {six}"


def without_6_7(stored: Stored, slight: float) -> Finding:
    rise = _relative(stored, DENSE, BASE)
    return Finding(verdict(below(rise, slight), above(rise, slight)), {"top-5 rises by": rise}, too_few(rise.n))


def printed_without_6_7(slight: float) -> tuple[bool, str]:
    rise = _points(2, "Removed layers 6,7", OTHERS)
    share = 100 * rise / cell(2, OTHERS, "val_top5")
    return share <= slight, f"{rise:+.1f} points, {share:.1f} % of the error"


def share_of_dense(stored: Stored, share: float) -> Finding:
    numbers = {}
    for spec in (ZFNET, KRIZHEVSKY):
        for side, classes in ((224, 1000), (112, 200)):
            sizes = replace(spec, image_size=side, classes=classes).parameters()
            numbers[f"{spec.name}, {side} pixels"] = exact((sizes["fc6"] + sizes["fc7"]) / sum(sizes.values()))
    return Finding(verdict(every(above(number, share) for number in numbers.values())), numbers)


def without_3_4(stored: Stored, times: float) -> Finding:
    small, large = (_lead(stored, name, BASE) for name in (CONVS, BOTH))
    excess = Number(small.value - large.value / times)
    if None not in (small.high, large.high):  # both errors are taken to be independent of one another
        width = hypot(small.high - small.value, (large.high - large.value) / times)
        excess = Number(excess.value, excess.value - width, excess.value + width)
    ratio = Number(small.value / large.value, n=min(small.n, large.n))
    numbers = {"without 3, 4": small, "without 3, 4, 6, 7": large, "ratio": ratio}
    return Finding(verdict(below(excess, 0)), numbers, too_few(small.n))


def printed_without_3_4(times: float) -> tuple[bool, str]:
    small, large = (_points(2, row, OTHERS) for row in ("Removed layers 3,4", "Removed layer 3,4,6,7"))
    return small / large <= 1 / times, f"{small / large:.3f} of the rise without layers 3, 4, 6, 7"


def without_both(stored: Stored) -> Finding:
    errors = {name: stored.errors(name) for name in (BASE, CONVS, DENSE, BOTH)}
    seeds = list(zip(*([one["val5"] for one in found] for found in errors.values()), strict=False))

    def interaction(scale: Callable[[float], float], unit: str = "") -> Number:
        """Return rise(both) - rise(convolutions) - rise(dense) on a scale, seed by seed."""
        scaled = ([scale(error) for error in four] for four in seeds)
        return over_seeds([both + base - convs - dense for base, convs, dense, both in scaled], unit)

    points = interaction(lambda error: error, "points")
    odds = interaction(lambda error: log(error / (100 - error)))
    train = {name: mean(one["train"] for one in found) for name, found in errors.items()}
    worst = train[BOTH] == max(train.values()) if points.n >= SEEDS else None
    found = verdict(every([above(points, 0), above(odds, 0), worst]))
    return Finding(found, {"interaction, top-5": points, "in log odds": odds}, too_few(points.n))


def printed_without_both() -> tuple[bool, str]:
    rows = ("Removed layer 3,4,6,7", "Removed layers 3,4", "Removed layers 6,7")
    both, convs, dense = (_points(2, row, OTHERS) for row in rows)
    return both > convs + dense, f"{both:+.1f} against {convs:+.1f} and {dense:+.1f} points"


def depth(stored: Stored) -> Finding:
    names = (CONVS, DENSE, f"{BASE}-without-7", BOTH)
    convs, dense, seven, four = (mean(one["val5"] for one in stored.errors(name)) for name in names)
    steps = {
        "two networks of six layers differ by": abs(convs - dense),
        "seven to six layers": min(convs, dense) - seven,
        "six to four layers": four - max(convs, dense),
    }
    return Finding(UNDECIDED, {name: Number(step, unit="points") for name, step in steps.items()})


def printed_depth() -> tuple[bool, str]:
    rows = ("Removed layers 3,4", "Removed layers 6,7", "Removed layer 7", "Removed layer 3,4,6,7")
    convs, dense, seven, four = (cell(2, row, "val_top5") for row in rows)
    step = min(min(convs, dense) - seven, four - max(convs, dense))
    return abs(convs - dense) < step, f"7 layers {seven}; 6 layers {convs}, {dense}; 4 layers {four}"


def width_of_dense(stored: Stored, change: float) -> Finding:
    numbers = {
        f"{base}, {units} units": _relative(stored, f"{base}-fc-{units}", base)
        for base in ("zfnet", BASE)
        for units in (2048, 8192)
    }
    inside = every(every([below(number, change), above(number, -change)]) for number in numbers.values())
    outside = some(some([above(number, change), below(number, -change)]) for number in numbers.values())
    return Finding(verdict(inside, outside), numbers, too_few(min(number.n for number in numbers.values())))


def printed_width_of_dense(change: float) -> tuple[bool, str]:
    shares = []
    for base, first in (("ours", "Our Model"), (BASE, OTHERS)):
        for width in (2048, 8192):
            rise = _points(2, f"Adjust layers 6,7: {width} units", first, base=base)
            shares.append(100 * rise / cell(2, first, "val_top5"))
    return max(map(abs, shares)) <= change, ", ".join(f"{share:+.1f} %" for share in shares) + " of the error"


def both_enlarged(stored: Stored) -> Finding:
    names = ("zfnet", "zfnet-fc-8192", WIDE, f"zfnet-fc-8192-maps-{WIDE.removeprefix('zfnet-maps-')}")
    gaps = {name: [one["val1"] - one["train"] for one in stored.errors(name)] for name in names}
    rise = _lead(stored, names[-1], WIDE)
    numbers = {f"gap, {name}": Number(mean(found), n=len(found), unit="points") for name, found in gaps.items()}
    widest = every(above(difference(gaps[names[-1]], gaps[name]), 0) for name in names[:-1])
    numbers["top-5 over larger middle layers"] = rise
    return Finding(verdict(every([widest, above(rise, 0)])), numbers, too_few(rise.n))


def printed_both_enlarged() -> tuple[bool, str]:
    wide = "Adjust layers 6,7: 8192 units"
    rows = ("Our Model", wide, "Adjust layers 3,4,5", f"{wide} and")
    gaps = [cell(2, row, "val_top1", "ours") - cell(2, row, "train_top1", "ours") for row in rows]
    rise = cell(2, rows[-1], "val_top5", "ours") - cell(2, rows[2], "val_top5", "ours")
    words = ", ".join(f"{gap:.1f}" for gap in gaps)
    return gaps[-1] > max(gaps[:-1]) and rise > 0, f"gaps {words}; top-5 {rise:+.1f} over larger middle layers"


def _lead(stored: Stored, name: str, other: str, key: str = "val5") -> Number:
    """Return by how many points a network's error exceeds another one's."""
    return difference(*([one[key] for one in stored.errors(each)] for each in (name, other)), "points")


def _relative(stored: Stored, name: str, base: str) -> Number:
    """Return a rise of the top-5 error in percent of it."""
    error, rise = mean(one["val5"] for one in stored.errors(base)), _lead(stored, name, base)
    shares = [None if edge is None else 100 * edge / error for edge in rise[:3]]
    return Number(*shares, rise.n, "% of the error")


def _points(table: int, row: str, other: str, key: str = "val_top5", base: str = "") -> float:
    """Return by how many points a row of Table 1 or 2 exceeds another one."""
    return round(cell(table, row, key, base) - cell(table, other, key, base), 1)
