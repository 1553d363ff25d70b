"""Whether the paper's own printed numbers are consistent with its claims: arithmetic on its tables."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from ..numbers import cell, contents, hyperparameter


class Printed(NamedTuple):
    """What the paper's numbers say of a claim.

    Attributes:
        consistent: Whether they agree with it, by the threshold that is applied to ours.
        arithmetic: The arithmetic.
    """

    consistent: bool
    arithmetic: str


def _rise(row: str, column: str = "val_top5", base: str = "krizhevsky") -> float:
    """Return how far a row of Table 2 lies above the unchanged network."""
    first = "Our Model" if base == "ours" else "Our replication"
    return round(cell(2, row, column, base) - cell(2, first, column, base), 1)


def images_per_second() -> float:
    """Return the rate at which the paper's training went (section 3)."""
    seconds = hyperparameter("training-time") * 86400
    return hyperparameter("train-set-images") * hyperparameter("epochs") / seconds


def _epochs() -> Printed:
    rate = images_per_second()
    updates = hyperparameter("train-set-images") * hyperparameter("epochs") / hyperparameter("batch-size")
    return Printed(80 < rate < 95, f"{rate:.1f} images/s, {updates:,.0f} updates")


def _smaller_stem() -> Printed:
    five, one = (cell(2, "Our Model", key) - cell(2, "Our replication", key) for key in ("val_top5", "val_top1"))
    return Printed(five < 0 and one < 0, f"top-5 {five:+.1f}, top-1 {one:+.1f} points")


def replication() -> tuple[float, float]:
    """Return how far the replica's top-5 and top-1 errors lie from Krizhevsky's (Table 1)."""
    ours, theirs = "Our replication", "Krizhevsky et al. [18], 1 convnet"
    top5, top1 = (abs(round(cell(1, ours, key) - cell(1, theirs, key), 1)) for key in ("val_top5", "val_top1"))
    return top5, top1


def _replication() -> Printed:
    top5, top1 = replication()
    return Printed(top5 <= 0.1, f"top-5 differs by {top5}, top-1 by {top1}")


def _single() -> Printed:
    lead = round(cell(1, "Krizhevsky et al. [18], 1", "val_top5") - cell(1, "1 convnet as per", "val_top5"), 1)
    return Printed(lead == 1.7, f"{lead} points, on the validation set; no test error of a single model is printed")


def _ensemble() -> Printed:
    six, five, one = (cell(1, row, "val_top5") for row in ("6 convnets", "5 convnets", "1 convnet as per Fig. 3"))
    gain = round(cell(1, "Krizhevsky et al. [18], 5", "test_top5") - cell(1, "6 convnets", "test_top5"), 1)
    return Printed(gain == 1.6 and six < five < one, f"test {gain} points; validation {one}, {five}, {six}")


def _without_6_7() -> Printed:
    rise = _rise("Removed layers 6,7")
    share = 100 * rise / cell(2, "Our replication", "val_top5")
    return Printed(share <= 10, f"{rise:+.1f} points, {share:.1f} % of the error")


def _without_3_4() -> Printed:
    ratio = _rise("Removed layers 3,4") / _rise("Removed layer 3,4,6,7")
    return Printed(ratio <= 1 / 3, f"{ratio:.3f} of the rise without layers 3, 4, 6, 7")


def _without_both() -> Printed:
    rows = ("Removed layer 3,4,6,7", "Removed layers 3,4", "Removed layers 6,7")
    both, convs, dense = (_rise(row) for row in rows)
    return Printed(both > convs + dense, f"{both:+.1f} against {convs:+.1f} and {dense:+.1f} points")


def _depth() -> Printed:
    six = [cell(2, row, "val_top5") for row in ("Removed layers 3,4", "Removed layers 6,7")]
    seven, four = cell(2, "Removed layer 7", "val_top5"), cell(2, "Removed layer 3,4,6,7", "val_top5")
    steps = min(min(six) - seven, four - max(six))
    return Printed(abs(six[0] - six[1]) < steps, f"7 layers {seven}; 6 layers {six[0]}, {six[1]}; 4 layers {four}")


def _fc_width() -> Printed:
    shares = [
        100 * _rise(f"Adjust layers 6,7: {width} units", base=base) / cell(2, first, "val_top5")
        for base, first in (("ours", "Our Model"), ("krizhevsky", "Our replication"))
        for width in (2048, 8192)
    ]
    return Printed(max(map(abs, shares)) <= 7, ", ".join(f"{share:+.1f} %" for share in shares) + " of the error")


def _middle() -> Printed:
    five, one = (_rise("Adjust layers 3,4,5", key, "ours") for key in ("val_top5", "val_top1"))
    return Printed(five < 0 and one < 0, f"top-5 {five:+.1f}, top-1 {one:+.1f} points")


def _both_enlarged() -> Printed:
    wide = "Adjust layers 6,7: 8192 units"
    rows = ("Our Model", wide, "Adjust layers 3,4,5", f"{wide} and")
    *others, both = [cell(2, row, "val_top1", "ours") - cell(2, row, "train_top1", "ours") for row in rows]
    rise = cell(2, rows[-1], "val_top5", "ours") - cell(2, rows[2], "val_top5", "ours")
    gaps = ", ".join(f"{gap:.1f}" for gap in (*others, both))
    return Printed(both > max(others) and rise > 0, f"gaps {gaps}; top-5 {rise:+.1f} over larger middle layers")


def _caltech_101() -> Printed:
    own = cell(3, "ImageNet-pretrained", "train_30")
    bo, yang = (round(own - cell(3, row, "train_30"), 1) for row in ("Bo", "Yang"))
    return Printed(bo == 2.2, f"{bo} over [3], {yang} over [17]")


def _scratch() -> Printed:
    sizes = {3: ("train_15", "train_30"), 4: ("train_15", "train_30", "train_45", "train_60")}
    margins = [
        [cell(table, "ImageNet-pretr", size) - cell(table, "Non-pretr", size) for size in sizes[table]]
        for table in sizes
    ]
    shrinks = all(a > b > 10 for row in margins for a, b in pairwise(row))
    return Printed(shrinks, "; ".join(", ".join(f"+{margin:.1f}" for margin in row) for row in margins))


def _bo() -> Printed:
    sizes = ("train_15", "train_30", "train_45", "train_60")
    margins = [cell(4, "ImageNet-pretr", size) - cell(4, "Bo", size) for size in sizes]
    return Printed(min(margins) > 0 and margins[0] == max(margins), ", ".join(f"+{m:.1f}" for m in margins))


def _quickly() -> Printed:
    ratio = hyperparameter("training-time") * 24 * 60 / hyperparameter("caltech101-training-time")
    return Printed(ratio >= 100, f"{ratio:,.0f} times less than the whole model")


def _representation() -> Printed:
    sets = ("caltech_101_30", "caltech_256_60")
    classifiers = [
        abs(cell(6, f"SVM ({layer})", key) - cell(6, f"Softmax ({layer})", key)) for layer in (5, 7) for key in sets
    ]
    features = [
        cell(3, "ImageNet-pretr", "train_30") - cell(3, "Bo", "train_30"),
        cell(4, "ImageNet-pretr", "train_60") - cell(4, "Bo", "train_60"),
    ]
    return Printed(
        min(features) > max(classifiers),
        f"classifiers differ by at most {max(classifiers):.1f}, features by at least {min(features):.1f} points",
    )


def pascal() -> tuple[float, float, list[str]]:
    """Return how far the mean of Table 5 lies below [27] and [21], and the classes in which [27] is beaten."""
    table = contents()["tables"]["table_5"]
    printed = next(row["values"] for row in table["summary_rows"] if row["label"] == "Mean")
    beaten = [row["label"] for row in table["rows"] if row["values"]["ours"] > row["values"]["ref_27"]]
    return round(printed["ref_27"] - printed["ours"], 1), round(printed["ref_21"] - printed["ours"], 1), beaten


def _pascal() -> Printed:
    leading, concurrent, beaten = pascal()
    return Printed(
        leading == 3.2 and len(beaten) == 5, f"{leading} below [27], {concurrent} below [21]; {', '.join(beaten)}"
    )


SETS = ("caltech_101_30", "caltech_256_60")


def _rising() -> Printed:
    steps = [[cell(6, f"SVM ({n + 1})", key) - cell(6, f"SVM ({n})", key) for n in range(1, 5)] for key in SETS]
    words = "; ".join(", ".join(f"{step:+.1f}" for step in row) for row in steps)
    return Printed(all(step > 0 for row in steps for step in row), f"SVM, layers 1 to 5: {words}")


def _all_layers() -> Printed:
    leads = [cell(6, "SVM (7)", key) - cell(6, "SVM (5)", key) for key in SETS]
    return Printed(min(leads) > 0, f"SVM, layer 7 less layer 5: {leads[0]:+.1f} and {leads[1]:+.1f}")


PRINTED: dict[str, Callable[[], Printed]] = {
    "seventy-epochs-twelve-days": _epochs,
    "smaller-stem-lower-error": _smaller_stem,
    "replication-within-0-1": _replication,
    "ours-beats-krizhevsky-single": _single,
    "ensemble-gain": _ensemble,
    "fc-removal-gives-slight-increase": _without_6_7,
    "middle-conv-removal-relatively-small": _without_3_4,
    "removing-both-is-dramatic": _without_both,
    "depth-not-any-single-section": _depth,
    "fc-width-makes-little-difference": _fc_width,
    "larger-middle-layers-help": _middle,
    "enlarging-both-over-fits": _both_enlarged,
    "pretrained-beats-best-caltech-101": _caltech_101,
    "pretrained-beats-scratch": _scratch,
    "pretrained-beats-bo-caltech-256": _bo,
    "softmax-trains-quickly": _quickly,
    "representation-matters-more-than-classifier": _representation,
    "pascal-transfers-less-well": _pascal,
    "features-more-discriminative-with-layer": _rising,
    "all-layers-give-best-results": _all_layers,
}
"""The claims for which the paper prints numbers, each with the arithmetic on them."""
