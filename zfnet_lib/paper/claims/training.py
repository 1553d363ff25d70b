"""Sections 3 and 5.1: what trainings show, with and without parts of the recipe and of the architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import log
from operator import itemgetter
from statistics import mean, median

import numpy as np
import torch

from ...architecture import KRIZHEVSKY, ZFNET
from ...network import RADIUS
from ..records import hyperparameter, read
from ..setting import training_of
from ..trainings import cost, recorded_errors
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
    every,
    exact,
    measured,
    no,
    verdict,
    weighted,
)

BASE, WIDE = "krizhevsky", "zfnet-maps-512-1024-512"
CONVS, DENSE, BOTH = (f"{BASE}-without-{layers}" for layers in ("3-4", "6-7", "3-4-6-7"))


Errors = Mapping[str, float]  # of one training in percent: `train`, `val1`, `val5` and others
TOP5, TOP1 = map(itemgetter, ("val5", "val1"))


def gap(one: Errors) -> float:
    return one["val1"] - one["train"]


def log_odds(one: Errors) -> float:
    error = min(max(one["val5"], 0.01), 99.99)  # of `smoke` it may be 0
    return log(error / (100 - error))


def contrast(
    stored: Stored, *terms: tuple[float, list[Errors]], of: Callable = TOP5, unit: str = "points"
) -> Number:
    """Return a weighted sum of networks' mean errors, each over its seeds; its interval is of the pooled spread."""
    errors = ((weight, [*map(of, found)]) for weight, found in terms)
    return weighted(*errors, unit=unit, least=1, spread=stored.spread(of)[0])


def lead(stored: Stored, name: str, other: str, of: Callable = TOP5, **trained: str) -> Number:
    """Return by how many points a network's error exceeds that of another one, which may be `trained` otherwise."""
    return contrast(stored, (1, stored.errors(name)), (-1, stored.errors(other, **trained)), of=of)


def relative(stored: Stored, name: str, base: str) -> Number:
    """Return a rise of the top-5 error in percent of it."""
    above_it, beneath = stored.errors(name), stored.errors(base)
    error, whole = (mean(map(TOP5, found)) for found in (above_it, beneath))
    # To first order: the error beneath is as uncertain as the one above. The sum is 0, its interval the margin.
    margin = contrast(stored, (100 / whole, above_it), (-100 * error / whole**2, beneath))
    value = 100 * (error / whole - 1)
    edges = (None, None) if margin.high is None else (value - margin.high, value + margin.high)
    return Number(value, *edges, margin.n, "% of the error")


def few_filters_dominate(stored: Stored, ratio: float, times: float) -> Finding:
    ratios: dict[str, dict[int, float]] = {}
    for name, clip in (("largest / median RMS, not renormalised", "none"), ("renormalised", "all")):
        last = {seed: run[-1]["epoch"]["rms"]["conv1"] for seed, run in stored.runs("zfnet", clip).items()}
        ratios[name] = {seed: largest / middle for seed, (middle, largest) in last.items()}
    free, bound = ratios.values()
    dominated = [free[seed] >= max(ratio, times * bound[seed]) for seed in free.keys() & bound.keys()]
    numbers = {name: Number(median(found.values()), n=len(found)) for name, found in ratios.items()}
    n = len(dominated)
    return Finding(verdict(2 * sum(dominated) > n if n >= SEEDS else None), numbers, f"{n} of {SEEDS} seeds.")


def clipping_is_crucial(stored: Stored) -> Finding:
    epochs = [line["epoch"]["rms"] for line in stored.epochs("zfnet")]
    largest = {layer: max(rms[layer][1] for rms in epochs) for layer in epochs[0]}
    reached = [layer for layer, value in largest.items() if value > 0.999 * RADIUS]
    if not reached:
        name = max(largest, key=largest.get)
        note = f"No filter reaches the radius {RADIUS}; the largest RMS, {largest[name]:.2f}, is that of {name}."
        return Finding(UNTESTABLE, {}, note)
    note = f"Filters of {', '.join(reached)} reach the radius {RADIUS}; of other layers none does."
    if alone := reached == ["conv1"]:
        note += " To renormalise layer 1 alone is therefore the same training."
    without, whole = stored.errors("zfnet", clip="none"), stored.errors("zfnet")
    rise = contrast(stored, (1, without), (-1, whole), of=TOP1)
    found = verdict(every([above(rise, 0), alone or None]), above(rise, 0) is False)
    return Finding(found, {"top-1 error, none, less all": rise}, f"{note} {stored.spread(TOP1)[1]}")


def pixel_values(at: Subject) -> Iterator[Number]:
    # Values lie within 255 of 0; bins of 1/16 of a grey level are finer than anything that is asked.
    edges, n = np.linspace(-256, 256, 2**13 + 1), len(at.rows)
    counts, inside = np.zeros(len(edges) - 1), {128: [], 140: []}
    for part in torch.tensor(at.rows).split(64):
        x = at.net.preparation.normalise(at.squares(part.tolist())).numpy().reshape(len(part), -1)
        counts += np.histogram(x, edges)[0]
        for bound, shares in inside.items():
            shares += (100 * (np.abs(x) <= bound).mean(1)).tolist()
    below = counts.cumsum() / counts.sum()
    for share in (0.1, 1.0, 99.0, 99.9):
        yield counted("percentile", edges[np.searchsorted(below, share / 100)], n, share=share)
    for bound, shares in inside.items():
        yield measured("inside", shares, "%", bound=bound)


def crops_and_flips(stored: Stored) -> Finding:
    error, over_fits = (lead(stored, "zfnet", "zfnet", of, views="centre") for of in (TOP1, gap))
    numbers = {"top-1 error, crops and flips less centre": error, "gap between validation and training": over_fits}
    found = verdict(every([below(error, 0), below(over_fits, 0)]), at_least(error, 0))
    return Finding(found, numbers, stored.spread(TOP1)[1])


def seventy_epochs(stored: Stored) -> Finding:
    images = hyperparameter("train-set-images") * hyperparameter("epochs")
    numbers = {
        "paper": exact(images / (hyperparameter("training-time") * 86400), "images/s"),
        "multiply-adds a picture": exact(sum(ZFNET.macs().values()) / 1e9, "billion"),
    }
    if ours := [line["epoch"]["images_per_second"] for line in stored.epochs("zfnet", needed=False)]:
        numbers["ours, at 112 pixels"] = Number(median(ours), n=len(ours), unit="images/s")
    return Finding(UNTESTABLE, numbers)


def lower(stored: Stored, name: str, other: str) -> Finding:
    five, one = (lead(stored, name, other, of) for of in (TOP5, TOP1))
    found = verdict(every([below(five, 0), below(one, 0)]), at_least(five, 0))
    return Finding(found, {"top-5": five, "top-1": one}, stored.spread(TOP5)[1])


def within_one_tenth(stored: Stored, **_: float) -> Finding:
    return Finding(UNTESTABLE, {})


def single_model(stored: Stored) -> Finding:
    five = lead(stored, "zfnet", BASE)
    share = Number(-100 * five.value / mean(map(TOP5, stored.errors(BASE))), n=five.n, unit="% of the error")
    return Finding(verdict(below(five, 0)), {"top-5": five, "reduction": share}, stored.spread(TOP5)[1])


def ensemble(stored: Stored) -> Finding:
    numbers = {}
    for record in read(stored.file):
        if record.quantity == "val top-5 error" and record.parameters["views"] == 1:
            names = record.parameters["networks"]
            single = [recorded_errors(stored.file.with_name(f"{name}.jsonl")) for name in names]
            if not all(single):
                continue
            # An average varies less than what it is made of, and with it: the interval is too wide, if anything.
            lead = contrast(stored, (1, [{"val5": record.value}]), (-1, single))
            numbers[f"{len(names)} averaged less the same ones singly, top-5"] = lead
    if not numbers:
        members = [training_of(stored.profile, "zfnet", seed) for seed in range(2)]
        command = f"zfnet train --table 1 --data {members[0].data} --recipe {stored.profile}"
        raise NotRun(f"`{command}`; {cost([each for each in members if not each.errors_file.exists()])}")
    gains = [below(number, 0) for number in numbers.values()]
    return Finding(verdict(every(gains)), numbers, stored.spread(TOP5)[1])


def without_6_7(stored: Stored, slight: float) -> Finding:
    rise, control = (relative(stored, name, BASE) for name in (DENSE, BOTH))
    found = verdict(every([below(rise, slight), above(control, slight)]), at_least(rise, slight))
    sign = "Here the error does not rise at all. " * (rise.value <= 0)
    return Finding(found, {"change of top-5": rise, "without 3, 4, 6, 7": control}, sign + stored.spread(TOP5)[1])


def share_of_dense(stored: Stored, share: float) -> Finding:
    numbers = {}
    for spec in (ZFNET, KRIZHEVSKY):
        for side, classes in ((224, 1000), (112, 200)):
            sizes = replace(spec, image_size=side, classes=classes).parameters()
            numbers[f"{spec.name}, {side} pixels"] = exact((sizes["fc6"] + sizes["fc7"]) / sum(sizes.values()))
    return Finding(verdict(every(above(number, share) for number in numbers.values())), numbers)


def without_3_4(stored: Stored, times: float) -> Finding:
    small, large = (lead(stored, name, BASE) for name in (CONVS, BOTH))
    base, convs, both = map(stored.errors, (BASE, CONVS, BOTH))
    excess = contrast(stored, (1, convs), (-1 / times, both), (1 / times - 1, base))
    numbers = {f"rise without 3, 4 above 1/{times:g} of that without 3, 4, 6, 7": excess}
    numbers |= {"without 3, 4": small, "without 3, 4, 6, 7": large}
    return Finding(verdict(below(excess, 0)), numbers, stored.spread(TOP5)[1])


def without_both(stored: Stored) -> Finding:
    base, convs, dense, both = map(stored.errors, (BASE, CONVS, DENSE, BOTH))
    terms = ((1, both), (1, base), (-1, convs), (-1, dense))
    numbers = {
        "interaction, top-5": contrast(stored, *terms),
        "in log odds": contrast(stored, *terms, of=log_odds, unit=""),
    }
    worse = [contrast(stored, (1, both), (-1, other), of=itemgetter("train")) for other in (base, convs, dense)]
    positive = [above(number, 0) for number in (*numbers.values(), *worse)]
    numbers["training error above the next"] = min(worse)
    return Finding(verdict(every(positive)), numbers, stored.spread(TOP5)[1])


def depth(stored: Stored) -> Finding:
    convs, dense, four = map(stored.errors, (CONVS, DENSE, BOTH))
    less, more = sorted((convs, dense), key=lambda found: mean(map(TOP5, found)))
    # The step less the difference, also with the sign of the difference turned round.
    steps = [contrast(stored, (1, four), (-2, more), (1, less)), contrast(stored, (1, four), (-1, less))]
    numbers = {
        "step from six to four layers less the difference of those of six": steps[0],
        "two networks of six layers differ by": contrast(stored, (1, more), (-1, less)),
        "six to four layers": contrast(stored, (1, four), (-1, more)),
    }
    beside = {"eight layers": BASE, "without 7": f"{BASE}-without-7", "without 3, 4": CONVS, "without 6, 7": DENSE}
    for layers, name in beside.items():
        with suppress(NotRun):  # the first two decide nothing
            numbers[f"top-5 error, {layers}"] = contrast(stored, (1, stored.errors(name)), unit="%")
    return Finding(verdict(every(above(step, 0) for step in steps)), numbers, stored.spread(TOP5)[1])


def width_of_dense(stored: Stored, change: float) -> Finding:
    numbers, unrun = {}, []
    for base, units in product(("zfnet", BASE), (2048, 8192)):
        try:
            numbers[f"{base}, {units} units"] = relative(stored, f"{base}-fc-{units}", base)
        except NotRun as missing:
            unrun.append(missing)
    if not numbers:
        raise unrun[0]
    inside = [truth for found in numbers.values() for truth in (below(found, change), above(found, -change))]
    inside = every([*inside, None if unrun else True])  # all four have to lie inside; one that does not is enough
    control = numbers[f"{BASE}, without 3, 4, 6, 7"] = relative(stored, BOTH, BASE)
    found = verdict(every([inside, above(control, change)]), no(inside))
    notes = [f"Not run: {missing}." for missing in unrun]
    return Finding(found, numbers, " ".join([*notes, stored.spread(TOP5)[1]]))


def both_enlarged(stored: Stored) -> Finding:
    names = ("zfnet", "zfnet-fc-8192", WIDE, WIDE.replace("zfnet", "zfnet-fc-8192"))
    found = [stored.errors(name) for name in names]
    numbers = {f"gap, {name}": contrast(stored, (1, each), of=gap) for name, each in zip(names, found, strict=True)}
    larger = [above(contrast(stored, (1, found[-1]), (-1, each), of=gap), 0) for each in found[:-1]]
    rise = numbers["top-5 over larger middle layers"] = lead(stored, names[-1], WIDE)
    return Finding(verdict(every([*larger, above(rise, 0)])), numbers, stored.spread(TOP5)[1])
