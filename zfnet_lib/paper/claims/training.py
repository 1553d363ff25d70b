"""Sections 3 and 5.1: what trainings show, with and without parts of the recipe and of the architecture."""

from __future__ import annotations

from collections.abc import Iterator
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
    SEEDS,
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
    too_few,
    verdict,
)

BASE, WIDE = "krizhevsky", "zfnet-maps-512-1024-512"
CONVS, DENSE, BOTH = (f"{BASE}-without-{layers}" for layers in ("3-4", "6-7", "3-4-6-7"))


def errors(stored: Stored, name: str, key: str = "val5", **trained: str) -> list[float]:
    """Return an error of a network over seeds, or its `gap` between validation and training, in percent."""
    found = stored.errors(name, **trained)
    return [one["val1"] - one["train"] if key == "gap" else one[key] for one in found]


def lead(stored: Stored, name: str, other: str, key: str = "val5", **trained: str) -> Number:
    """Return by how many points a network's error exceeds that of another one, which may be `trained` otherwise."""
    return difference(errors(stored, name, key), errors(stored, other, key, **trained), "points")


def relative(stored: Stored, name: str, base: str) -> Number:
    """Return a rise of the top-5 error in percent of it."""
    error, rise = mean(errors(stored, base)), lead(stored, name, base)
    shares = [None if edge is None else 100 * edge / error for edge in rise[:3]]
    return Number(*shares, rise.n, "% of the error")


def few_filters_dominate(stored: Stored, ratio: float, times: float) -> Finding:
    ratios = {}
    for name, clip in (("largest / median RMS, not renormalised", "none"), ("renormalised", "all")):
        last = [run[-1]["epoch"]["rms"]["conv1"] for run in stored.runs("zfnet", clip)]
        ratios[name] = [largest / middle for middle, largest in last]
    dominated = [free >= ratio and free >= times * bound for free, bound in zip(*ratios.values(), strict=False)]
    numbers, n = {name: Number(median(found), n=len(found)) for name, found in ratios.items()}, len(dominated)
    return Finding(verdict(2 * sum(dominated) > n if n >= SEEDS else None), numbers, too_few(n))


def clipping_is_crucial(stored: Stored, recovered: float) -> Finding:
    epochs = [line["epoch"]["rms"] for line in stored.epochs("zfnet")]
    largest = {layer: max(rms[layer][1] for rms in epochs) for layer in epochs[0]}
    reached = [layer for layer, value in largest.items() if value > 0.999 * RADIUS]
    if not reached:
        name = max(largest, key=largest.get)
        note = f"No filter reaches the radius {RADIUS}; the largest RMS, {largest[name]:.2f}, is that of {name}."
        return Finding(UNTESTABLE, {}, note)
    notes = [f"Filters of {', '.join(reached)} reach the radius {RADIUS}; of other layers none does."]
    whole, rises = errors(stored, "zfnet", "val1"), {}
    for clip in ("none", "first", "but-first"):
        try:
            rises[clip] = difference(errors(stored, "zfnet", "val1", clip=clip), whole, "points")
        except NotRun as unrun:
            if clip == "none":
                raise
            notes.append(f"Not run: {unrun}.")
    costs = above(rises["none"], 0)
    regained = below(rises["first"], (1 - recovered / 100) * rises["none"].value) if "first" in rises else None
    numbers = {f"top-1 error, {clip}, less all": rise for clip, rise in rises.items()}
    holds = every([costs, regained, reached == ["conv1"] or None])
    return Finding(verdict(holds, costs is False), numbers, " ".join(notes))


def pixel_values(at: Subject) -> Iterator[Number]:
    x = at.net.preparation.normalise(at.squares(at.few)).numpy().reshape(len(at.few), -1)
    for share in (0.1, 1.0, 99.0, 99.9):
        yield counted("percentile", np.percentile(x, share), len(x), share=share)
    for bound in (128, 140):
        yield measured("inside", 100 * (np.abs(x) <= bound).mean(1), "%", bound=bound)


def crops_and_flips(stored: Stored) -> Finding:
    error, gap = (lead(stored, "zfnet", "zfnet", key, views="centre") for key in ("val1", "gap"))
    numbers = {"top-1 error, crops and flips less centre": error, "gap between validation and training": gap}
    return Finding(verdict(every([below(error, 0), below(gap, 0)]), at_least(error, 0)), numbers, too_few(error.n))


def seventy_epochs(stored: Stored) -> Finding:
    images = hyperparameter("train-set-images") * hyperparameter("epochs")
    numbers = {
        "paper": exact(images / (hyperparameter("training-time") * 86400), "images/s"),
        "multiply-adds a picture": exact(sum(ZFNET.macs().values()) / 1e9, "billion"),
    }
    if ours := [line["epoch"]["images_per_second"] for line in stored.epochs("zfnet", needed=False)]:
        numbers["ours, at 112 pixels"] = Number(median(ours), n=len(ours), unit="images/s")
    return Finding(UNTESTABLE, numbers)


def lower(stored: Stored, name: str, other: str, seeds: int = SEEDS) -> Finding:
    five, one = (lead(stored, name, other, key) for key in ("val5", "val1"))
    found = verdict(every([below(five, 0), below(one, 0)]), at_least(five, 0))
    return Finding(found, {"top-5": five, "top-1": one}, too_few(five.n, seeds))


def within_one_tenth(stored: Stored, **_: float) -> Finding:
    ours, theirs = "Our replication", "Krizhevsky et al. [18], 1 convnet"
    top5, top1 = (round(abs(cell(1, ours, key) - cell(1, theirs, key)), 1) for key in ("val_top5", "val_top1"))
    return Finding(UNTESTABLE, {"top-5": exact(top5, "points"), "top-1": exact(top1, "points")})


def single_model(stored: Stored, seeds: int) -> Finding:
    five = lead(stored, "zfnet", BASE)
    share = Number(-100 * five.value / mean(errors(stored, BASE)), n=five.n, unit="% of the error")
    return Finding(verdict(below(five, 0)), {"top-5": five, "reduction": share}, too_few(five.n, seeds))


def ensemble(stored: Stored) -> Finding:
    single = errors(stored, "zfnet")
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
    numbers = {"five less the single ones, top-5": five}
    numbers["with the wider one less five"] = exact(averaged[6] - averaged[5], "points")
    note = f"Six networks of one kind, the control, were not trained; {len(single)} single ones."
    return Finding(verdict(None, at_least(five, 0)), numbers, note)


def without_6_7(stored: Stored, slight: float) -> Finding:
    rise = relative(stored, DENSE, BASE)
    return Finding(verdict(below(rise, slight)), {"top-5 rises by": rise}, too_few(rise.n))


def share_of_dense(stored: Stored, share: float) -> Finding:
    numbers = {}
    for spec in (ZFNET, KRIZHEVSKY):
        for side, classes in ((224, 1000), (112, 200)):
            sizes = replace(spec, image_size=side, classes=classes).parameters()
            numbers[f"{spec.name}, {side} pixels"] = exact((sizes["fc6"] + sizes["fc7"]) / sum(sizes.values()))
    return Finding(verdict(every(above(number, share) for number in numbers.values())), numbers)


def without_3_4(stored: Stored, times: float) -> Finding:
    small, large = (lead(stored, name, BASE) for name in (CONVS, BOTH))
    excess = Number(small.value - large.value / times)
    if None not in (small.high, large.high):  # both errors are taken to be independent of one another
        width = hypot(small.high - small.value, (large.high - large.value) / times)
        excess = Number(excess.value, excess.value - width, excess.value + width)
    ratio = Number(small.value / large.value, n=min(small.n, large.n))
    numbers = {"without 3, 4": small, "without 3, 4, 6, 7": large, "ratio": ratio}
    return Finding(verdict(below(excess, 0)), numbers, too_few(small.n))


def without_both(stored: Stored) -> Finding:
    names = (BOTH, BASE, CONVS, DENSE)
    points = list(zip(*(errors(stored, name) for name in names), strict=False))
    odds = [[log(error / (100 - error)) for error in seed] for seed in points]
    scales = {"interaction, top-5": (points, "points"), "in log odds": (odds, "")}
    numbers = {
        name: over_seeds([both + base - convs - dense for both, base, convs, dense in scaled], unit)
        for name, (scaled, unit) in scales.items()
    }
    both, *others = (mean(errors(stored, name, "train")) for name in names)
    worst = both >= max(others) if len(points) >= SEEDS else None
    positive = [above(number, 0) for number in numbers.values()]
    return Finding(verdict(every([*positive, worst])), numbers, too_few(len(points)))


def depth(stored: Stored) -> Finding:
    convs, dense, seven, four = (mean(errors(stored, name)) for name in (CONVS, DENSE, f"{BASE}-without-7", BOTH))
    steps = {
        "two networks of six layers differ by": abs(convs - dense),
        "seven to six layers": min(convs, dense) - seven,
        "six to four layers": four - max(convs, dense),
    }
    return Finding(verdict(None), {name: Number(step, unit="points") for name, step in steps.items()})


def width_of_dense(stored: Stored, change: float) -> Finding:
    numbers = {
        f"{base}, {units} units": relative(stored, f"{base}-fc-{units}", base)
        for base in ("zfnet", BASE)
        for units in (2048, 8192)
    }
    inside = [truth for found in numbers.values() for truth in (below(found, change), above(found, -change))]
    return Finding(verdict(every(inside)), numbers, too_few(min(found.n for found in numbers.values())))


def both_enlarged(stored: Stored) -> Finding:
    names = ("zfnet", "zfnet-fc-8192", WIDE, WIDE.replace("zfnet", "zfnet-fc-8192"))
    gaps = {name: errors(stored, name, "gap") for name in names}
    rise, *others, widest = lead(stored, names[-1], WIDE), *gaps.values()
    numbers = {f"gap, {name}": Number(mean(found), n=len(found), unit="points") for name, found in gaps.items()}
    numbers["top-5 over larger middle layers"] = rise
    larger = [above(difference(widest, other), 0) for other in others]
    return Finding(verdict(every([*larger, above(rise, 0)])), numbers, too_few(rise.n))
