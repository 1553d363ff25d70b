"""Sections 5.2, 5.3 and 6: what the features are worth on other data sets."""

from __future__ import annotations

from .finding import UNTESTABLE, Finding, Number, exact, verdict
from .printed import pascal
from .stored import NotRun, Stored

SCALE = "It needs a network pre-trained on ImageNet 2012"


def best_caltech_101(stored: Stored) -> Finding:
    """Hold the printed margin, which needs ImageNet's pre-training."""
    return Finding(UNTESTABLE, {}, f"{SCALE}, cleared of the overlap.")


def best_caltech_256(stored: Stored) -> Finding:
    """Hold the printed margins, which need ImageNet's pre-training and Caltech-256."""
    return Finding(UNTESTABLE, {}, f"{SCALE}, and Caltech-256.")


def to_run(stored: Stored) -> Finding:
    """Say what computes a record that no part reads yet."""
    raise NotRun(f"`{stored.command}`; {stored.cost}")


def pascal_less_well(stored: Stored) -> Finding:
    """Do the arithmetic of Table 5; gains on single and on several objects need transfer."""
    leading, concurrent, beaten = pascal()
    numbers = {
        "below [27]": exact(leading, "points"),
        "below [21]": exact(concurrent, "points"),
        "classes better than [27]": exact(len(beaten)),
    }
    arithmetic = leading == 3.2 and len(beaten) == 5
    note = "The arithmetic of Table 5 holds against [27]; the gain on several objects was not measured."
    return Finding(verdict(None if arithmetic else False), numbers, note)


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
