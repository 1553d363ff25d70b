"""Sections 5.2, 5.3 and 6: what the features are worth on other data sets.

The rows of downloaded networks (ImageNet's AlexNet) decide nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from math import hypot, inf

import numpy as np

from ...files import results_root
from ..sanity import rank_correlation
from ..setting import training_of
from ..table3_4_6 import FOLDS, LAYERS
from ..table5 import BY_FEATURES, BY_LOSS, GAIN, ONE, SEVERAL, several_file
from .finding import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTABLE,
    Finding,
    Number,
    above,
    at_least,
    below,
    every,
    exact,
    some,
    verdict,
)
from .folds import OverFolds, Place, places
from .printed import cell, pascal
from .stored import NotRun, Numbers, Stored

WIDE = 10.0
"""Points of a wide margin."""

CLOSE = 1.0
"""Points by which two classifiers on the same features may differ."""

CLASSIFIERS = ("svm", "softmax")


def best_caltech_101(stored: Stored) -> Finding:
    """Set our accuracy beside the printed one and a descriptor made by hand; the margin needs ImageNet."""
    at = places(stored)[0]
    try:
        own = at.tried("fc7", "softmax")
        numbers = {
            f"{at.data}, softmax (7), {at.most} a class": own.number("%"),
            "above hog": (own - at.tried("hog", "svm", source="hog")).number(),
            "above the printed 86.5": (own - cell(3, "ImageNet-pretrained", "train_30")).number(),
        }
    except NotRun:
        numbers = {}
    return Finding(UNTESTABLE, numbers, "It needs a network pre-trained on ImageNet 2012, cleared of the overlap.")


def best_caltech_256(stored: Stored) -> Finding:
    """Tell whether features beat a descriptor made by hand at every size, and most where pictures are fewest."""
    at = places(stored)[-1]
    margins = [at.tried("fc7", "softmax", n) - at.tried("hog", "svm", n, "hog") for n in at.sizes]
    numbers = {f"{n} a class, above hog": one.number() for n, one in zip(at.sizes, margins, strict=True)}
    positive = [above(number, 0) for number in numbers.values()]
    largest = [above((margins[0] - other).number(), 0) for other in margins[1:]]
    note = (
        f"The order alone, on {at.data} for Caltech-256 and with HOG for the other methods; the printed values "
        f"need a network pre-trained on ImageNet 2012."
    )
    return Finding(verdict(every(positive + largest)), numbers, note)


def beats_scratch(stored: Stored) -> Finding:
    """Compare frozen features with trainings from scratch, at every number of training pictures."""
    numbers, shrinks, notes = {}, [], []
    for at in places(stored):
        margins, missing = _margins(at)
        numbers |= {f"{at.data}, {each} a class": margin.number() for each, margin in margins.items()}
        shrinks += [above((less - more).number(), 0) for less, more in pairwise(margins.values())]
        notes.append(missing)
    if not numbers:
        raise NotRun(notes[0])
    wide = [above(number, WIDE) for number in numbers.values()]
    within = some(number.low is not None and number.low <= 0 for number in numbers.values())
    n = min(number.n for number in numbers.values())
    folds = f"{n} of {FOLDS} folds from scratch. " if n < FOLDS else ""
    note = f"{folds}From scratch the views are drawn at random; the rate was not tuned."
    note = " ".join([note, *filter(None, notes)])
    return Finding(verdict(every(wide + shrinks), within), numbers, note)


def few_beat_many(stored: Stored) -> Finding:
    """Find with how many pictures a class features pass what others reach with the most."""
    at = places(stored)[-1]
    curve = {each: at.tried("fc7", "softmax", each) for each in at.curve}
    rivals = {
        "hog": at.tried("hog", "svm", source="hog"),
        "pixels": at.tried("pixels", "svm", source="pixels"),
        "untrained": at.tried("conv5", "svm", source=at.untrained),
    }
    missing = ""
    try:
        rivals["from scratch"] = at.scratch(at.most)
    except NotRun as unrun:
        missing = f" Not run, from scratch: {unrun}."
    numbers = {
        f"{name} ({rival.mean:.1f} % with {at.most} a class), passed with": _fewer(curve, rival, at.most)
        for name, rival in rivals.items()
    }
    holds = every([*(at_least(number, 5) for number in numbers.values()), None if missing else True])
    fails = some(below(number, 2) for number in numbers.values())
    note = f"Times fewer pictures, on {at.data} for Caltech-256; 0 where it is never passed.{missing}"
    return Finding(verdict(holds, fails), numbers, note)


def trains_quickly(stored: Stored) -> Finding:
    """Compare the time that a softmax takes with that of the whole training, and their parameters."""
    at = places(stored)[0]
    record, spec = at.record("fc7", "softmax"), training_of(stored.profile, "zfnet").spec(stored.classes)
    machine, seconds = _machine(record.provenance.device), record.parameters["fit_seconds"]
    other, whole = _whole_training(stored, machine)
    few = record.parameters["classes"] * (record.parameters["dimensions"] + 1)
    behind = (at.tried("fc7", "softmax") - at.tried("fc7", "svm")).number()
    numbers = {
        "seconds": exact(seconds, "s", record.n),
        "faster than the whole training": exact(whole / seconds, "times", record.n),
        "fewer parameters": exact(sum(spec.parameters().values()) / few, "times"),
        "above a linear SVM": behind,
    }
    numbers |= {f"accuracy, {n} a class": at.tried("fc7", "softmax", n).number("%") for n in at.sizes}
    faster = whole >= 100 * seconds if machine == other else None
    note = (
        f"On {machine}, the choice of the weight decay included. Without loss of convergence is read as: no more "
        f"than a point below a linear SVM on the same features, as in Table 6, layer 7."
    )
    if machine != other:
        note += f" The whole training ran on another machine, {other}; the test asks for the same."
    return Finding(verdict(every([faster, at_least(behind, -CLOSE)]), whole < 10 * seconds), numbers, note)


def features_matter_more(stored: Stored) -> Finding:
    """Split the variance of accuracies between features and classifiers, in a two-way table."""
    at = places(stored)[0]
    sources = {"conv5": "", "fc7": "", "conv5, untrained": at.untrained, "fc7, untrained": at.untrained}
    sources |= {"hog": "hog", "pixels": "pixels"}
    tried = [
        [at.tried(name.partition(",")[0], classifier, source=source) for classifier in CLASSIFIERS]
        for name, source in sources.items()
    ]
    accuracies = np.array([[one.mean for one in row] for row in tried])
    n = min(one.n for row in tried for one in row)
    by_features, by_classifier, rest = two_way(accuracies)
    whole = by_features + by_classifier + rest
    numbers = {
        "by features": exact(100 * by_features / whole, "% of the variance", n),
        "by classifier": exact(100 * by_classifier / whole, "% of the variance", n),
    }
    largest = float(np.abs(accuracies[:, 0] - accuracies[:, 1]).max())
    numbers["largest difference of the classifiers"] = exact(largest, "points", n)
    note = f"{', '.join(sources)}, each with SVM and softmax, on {at.data} with {at.most} a class."
    return Finding(verdict(by_features >= 10 * by_classifier if n >= FOLDS else None), numbers, note)


def two_way(table: np.ndarray) -> tuple[float, float, float]:
    """Split the sum of squares of a table about its mean into rows, columns, and what neither explains.

    Example:
        >>> two_way(np.array([[1.0, 2.0], [5.0, 6.0]]))
        (16.0, 1.0, 0.0)
    """
    middle = table.mean()
    rows, columns = table.mean(1, keepdims=True) - middle, table.mean(0, keepdims=True) - middle
    squares = [float(np.square(np.broadcast_to(part, table.shape)).sum()) for part in (rows, columns)]
    return *squares, float(np.square(table - middle - rows - columns).sum())


def pascal_less_well(stored: Stored) -> Finding:
    """Do the arithmetic of Table 5, and compare what features gain on pictures of one and of several objects."""
    leading, concurrent, beaten = pascal()
    numbers = {
        "below [27]": exact(leading, "points"),
        "below [21]": exact(concurrent, "points"),
        "classes better than [27]": exact(len(beaten)),
    }
    note, smaller = "The arithmetic holds against [27].", None
    try:
        found = _several(stored)
        gains = {shown: found.one(GAIN, by=BY_FEATURES, shown=shown) for shown in (ONE, SEVERAL)}
        numbers |= {f"features above hog, {shown}": gain for shown, gain in gains.items()}
        smaller = numbers["less on several objects by"] = _difference(*gains.values())
    except NotRun as unrun:
        note += f" Not run, the gain on several objects: {unrun}."
    less = None if smaller is None else above(smaller, 0)
    return Finding(verdict(every([leading == 3.2 and len(beaten) == 5, less])), numbers, note)


def several_losses(stored: Stored) -> Finding:
    """Compare a loss that permits several objects with the softmax, where pictures show several and where one."""
    found, numbers = _several(stored), {}
    classes = found.record(GAIN, by=BY_LOSS, shown=SEVERAL).parameters["classes"]
    for shown in (SEVERAL, ONE):
        with suppress(NotRun):  # scenes of `shapes` always show several
            numbers[shown] = found.one(GAIN, by=BY_LOSS, shown=shown)
    note = f"Mean over {', '.join(classes)}: classes that enough pictures of several objects show."
    return Finding(verdict(above(numbers[SEVERAL], 0)), numbers, note)


def overlap(stored: Stored) -> Finding:
    """Count the pictures of the transfer data sets that were also trained on."""
    numbers = {}
    for found in stored.overlaps():
        matched = len({pair.second for pair in found.pairs})
        share = 1000 * matched / found.compared[1]
        numbers[found.second] = Number(share, share, share, found.compared[1], "per 1000")
    few = all(number.value < 20 for number in numbers.values())
    note = "Training leaves these pictures out; what they would change in transfer was not measured."
    return Finding(verdict(None if few else False), numbers, note)


def more_with_layer(stored: Stored) -> Finding:
    """Tell whether a linear classifier reads more from each layer than from the one beneath; untrained too."""
    at = places(stored)[0]
    own = {layer: at.tried(layer, "svm") for layer in LAYERS}
    steps = _steps(own)
    numbers = {f"SVM ({layer[-1]})": one.number("%") for layer, one in own.items()}
    numbers |= {f"step {name}": step for name, step in steps.items()}
    means = np.array([own[layer].mean for layer in LAYERS[:5]])
    numbers["Spearman with the layer, 1 to 5"] = exact(rank_correlation(np.arange(5), means), "rho")
    rising = every(above(step, 0) for step in steps.values())
    peak = max(own, key=lambda layer: own[layer].mean)
    note = f"The peak is layer {peak[-1]}."
    try:
        control = _steps({layer: at.tried(layer, "svm", source=at.untrained) for layer in LAYERS})
        numbers |= {f"step {name}, untrained": step for name, step in control.items()}
        also = every(above(step, 0) for step in control.values())
    except NotRun as unrun:
        also, note = None, f"{note} Not run, the untrained network: {unrun}."
    holds = every([rising, None if also is None else not also])
    return Finding(verdict(holds, some(below(step, 0) for step in steps.values())), numbers, note)


def all_layers_best(stored: Stored) -> Finding:
    """Compare layer 7 with layer 5, with both classifiers on two data sets."""
    at_all = places(stored)
    numbers = {
        f"{at.data}, {name}": (at.tried("fc7", name) - at.tried("conv5", name)).number()
        for at in at_all
        for name in CLASSIFIERS
    }
    truths = [above(number, 0) for number in numbers.values()]
    fewer = any(number.low is None for number in numbers.values()) or len(at_all) < 2
    found = UNDECIDED if fewer else HOLDS if every(truths) else FAILS
    return Finding(
        found, numbers, "Layer 7 less layer 5; the paper asks for one set near the pre-training and one far."
    )


def _steps(by_layer: dict[str, OverFolds]) -> dict[str, Number]:
    """Return what each layer from 2 to 5 adds to the one beneath."""
    convs = LAYERS[:5]
    return {f"{a[-1]} to {b[-1]}": (by_layer[b] - by_layer[a]).number() for a, b in pairwise(convs)}


def _several(stored: Stored) -> Numbers:
    path = several_file(stored.profile).relative_to(results_root(stored.profile))
    return stored.read(str(path), f"`zfnet run table5 --profile {stored.profile} --live`; a minute")


def _whole_training(stored: Stored, machine: str) -> tuple[str, float]:
    """Return where Fig. 3's network was trained, on this machine if it ever was, and for how many seconds."""
    runs = {_machine(run[-1]["provenance"]["device"]): run for run in reversed(stored.runs("zfnet"))}
    chosen = machine if machine in runs else list(runs)[-1]
    return chosen, sum(line["epoch"]["seconds"] for line in runs[chosen])


def _machine(device: str) -> str:
    """Return a processor's name without the number of threads used."""
    return device.partition(",")[0]


def _margins(at: Place) -> tuple[dict[int, OverFolds], str]:
    """Return by training pictures how far features lie above trainings from scratch, and what was not run."""
    found, missing, why = {}, [], ""
    for each in at.sizes:
        try:
            found[each] = at.tried("fc7", "softmax", each) - at.scratch(each)
        except NotRun as unrun:
            missing.append(str(each))
            why = why or str(unrun)
    return found, f"On {at.data}, {', '.join(missing)} a class: {why}." if missing else ""


def _difference(one: Number, other: Number) -> Number:
    """Return the difference of two numbers from different pictures."""
    value, margin = one.value - other.value, hypot(one.high - one.low, other.high - other.low) / 2
    return Number(value, value - margin, value + margin, min(one.n, other.n), one.unit)


def _fewer(curve: dict[int, OverFolds], rival: OverFolds, most: int) -> Number:
    """Return how many times fewer pictures than `most` a curve needs to pass a rival; 0 where it never does."""

    def times(passes: Callable[[Number, Number], bool]) -> float:
        enough = (each for each, one in curve.items() if passes(one.number(), rival.number()))
        return most / next(enough, inf)

    n, value = (
        min(rival.n, *(one.n for one in curve.values())),
        times(lambda ours, theirs: ours.value > theirs.value),
    )
    if n < FOLDS:
        return Number(value, None, None, n, "times")
    low = times(lambda ours, theirs: ours.low > theirs.high)
    high = times(lambda ours, theirs: ours.high > theirs.low)
    return Number(value, low, high, n, "times")
