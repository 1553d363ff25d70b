"""Section 3: the recipe of the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from ...architecture import ZFNET
from ...network import RADIUS
from .finding import (
    FAILS,
    HOLDS,
    SEEDS,
    UNDECIDED,
    UNTESTABLE,
    Finding,
    Number,
    above,
    at_least,
    below,
    every,
    exact,
    verdict,
)
from .printed import images_per_second
from .stored import Measured, NotRun, Stored, counted, difference, measured
from .subject import Subject


def few_filters_dominate(stored: Stored) -> Finding:
    """Compare the largest RMS of a first-layer filter with the median, with and without renormalisation."""
    free, bound = ([_ratio(run) for run in stored.runs("zfnet", clip)] for clip in ("none", "all"))
    n = min(len(free), len(bound))
    numbers = {
        "largest / median RMS, not renormalised": Number(median(free), n=len(free)),
        "renormalised": Number(median(bound), n=len(bound)),
    }
    dominated = [a >= 5 and a >= 3 * b for a, b in zip(free, bound, strict=False)]
    found = UNDECIDED if n < SEEDS else HOLDS if 2 * sum(dominated) > n else FAILS
    return Finding(found, numbers, f"{n} of {SEEDS} seeds" if n < SEEDS else "")


def clipping_is_crucial(stored: Stored) -> Finding:
    """Compare the errors of trainings that renormalise all filters, none, layer 1 alone, and all but layer 1."""
    reached, note = _reached(stored.epochs("zfnet"))
    if not reached:
        return Finding(UNTESTABLE, {}, note)
    top1 = {clip: [one["val1"] for one in stored.errors("zfnet", clip)] for clip in ("all", "none")}
    missing = []
    for clip in ("first", "but-first"):
        try:
            top1[clip] = [one["val1"] for one in stored.errors("zfnet", clip)]
        except NotRun as unrun:
            missing.append(f"Not run: {unrun}.")
    rises = {clip: difference(errors, top1["all"], "points") for clip, errors in top1.items() if clip != "all"}
    cost = rises["none"]
    recovered = below(rises["first"], cost.value / 2) if "first" in rises else None
    holds = every([above(cost, 0), recovered, reached == ["conv1"] or None])
    numbers = {f"top-1 error, {clip}, less all": rise for clip, rise in rises.items()}
    return Finding(verdict(holds, above(cost, 0) is False), numbers, " ".join([note, *missing]))


def _reached(epochs: Sequence[dict]) -> tuple[list[str], str]:
    """Return the layers with a filter that reaches the radius in training, and a sentence about them."""
    largest = {
        layer: max(epoch["epoch"]["rms"][layer][1] for epoch in epochs) for layer in epochs[0]["epoch"]["rms"]
    }
    reached = [layer for layer, value in largest.items() if value > 0.999 * RADIUS]
    name, value = max(largest.items(), key=lambda pair: pair[1])
    if not reached:
        return [], f"No filter reaches the radius {RADIUS}; the largest RMS, {value:.2f}, is that of {name}."
    return reached, f"Filters of {', '.join(reached)} reach the radius {RADIUS}; of other layers none does."


def pixel_values(at: Subject) -> Iterator[Measured]:
    """Take the mean from pictures and say between which values they lie."""
    x = at.net.preparation.normalise(at.squares(at.few)).numpy().reshape(len(at.few), -1)
    for share in (0.1, 1.0, 99.0, 99.9):
        yield counted("percentile", np.percentile(x, share), len(x), share=share)
    for bound in (128, 140):
        yield measured("inside", 100 * (np.abs(x) <= bound).mean(1), "%", bound=bound)


def input_range(stored: Stored) -> Finding:
    """Tell whether pictures less their mean lie roughly in [-128, 128]."""
    found = stored.numbers
    inside, top = found.by("bound", "inside"), found.by("share", "percentile")[99.9]
    numbers = {f"inside ±{bound}": number for bound, number in inside.items()} | {"99.9 % percentile": top}
    return Finding(verdict(every([at_least(inside[140], 99), above(top, 100)])), numbers)


def crops_and_flips(stored: Stored) -> Finding:
    """Compare trainings on many views with trainings on the centre."""
    many, centre = stored.errors("zfnet"), stored.errors("zfnet", views="centre")
    error, gap = (
        difference([measure(one) for one in many], [measure(one) for one in centre], "points")
        for measure in (lambda one: one["val1"], lambda one: one["val1"] - one["train"])
    )
    numbers = {"top-1 error, crops and flips less centre": error, "gap between validation and training": gap}
    found = verdict(every([below(error, 0), below(gap, 0)]), at_least(error, 0))
    return Finding(found, numbers, f"{error.n} of {SEEDS} seeds" if error.n < SEEDS else "")


def seventy_epochs(stored: Stored) -> Finding:
    """Set the paper's rate beside ours."""
    ours = [line["epoch"]["images_per_second"] for line in stored.epochs("zfnet", needed=False)]
    numbers = {
        "paper": exact(images_per_second(), "images/s"),
        "multiply-adds a picture": exact(sum(ZFNET.macs().values()) / 1e9, "billion"),
    }
    if ours:
        numbers["ours, at 112 pixels"] = Number(median(ours), n=len(ours), unit="images/s")
    return Finding(UNTESTABLE, numbers, "It needs the paper's GPU, its code and ImageNet 2012.")


def _ratio(run: list[dict]) -> float:
    middle, largest = run[-1]["epoch"]["rms"]["conv1"]
    return largest / middle
