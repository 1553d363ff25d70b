"""Whether the paper's own printed numbers are consistent with its claims: arithmetic on its tables."""

from __future__ import annotations

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
