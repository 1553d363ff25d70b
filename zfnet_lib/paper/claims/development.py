"""Section 4: how features develop in training, from the records of Fig. 4."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np

from ...training import FIGURE_4_OF
from ..fig4 import ALIGNMENT, LARGEST, NEARNESS, PROBE, crossing
from .finding import Finding, Number, above, every, exact, verdict
from .stored import Numbers, Stored

LOWER, UPPER = ("conv1", "conv2"), ("conv5", "fc6", "fc7")
GAIN_FROM = 40
"""The epoch of Fig. 4 nearest to 60 % of the training."""

BOTH = {"answers": ALIGNMENT, "projections": NEARNESS}


def converge_early(stored: Stored) -> Finding:
    """Tell from which share of the training on layers 1 and 2 stay near what they become."""
    crossings = _crossings(stored.numbers)
    numbers = {f"{layer}, {what}": crossings[what][layer] for layer in LOWER for what in BOTH}
    holds = all(number.value <= 10 for number in numbers.values())
    return Finding(verdict(holds), numbers, "One training; the filters' own cosine is not in the record.")


def develop_late(stored: Stored) -> Finding:
    """Tell whether upper layers come near what they become later than lower ones, after half of the training."""
    crossings = _crossings(stored.numbers)
    rises = [_rising([number.value for number in found.values()]) for found in crossings.values()]
    late = [found["conv5"].value > 50 for found in crossings.values()]
    numbers = {f"{layer}, {what}": number for what, found in crossings.items() for layer, number in found.items()}
    note = "One training, whose rate falls at 58 and 83 %; no moment between epochs 40 and 64."
    return Finding(verdict(all(rises + late), not any(late) or not any(rises)), numbers, note)


def jumps(stored: Stored) -> Finding:
    """Tell how often the largest changes of a projection come with another picture."""
    found = stored.numbers
    by_layer = found.by("layer", LARGEST)
    same, other = (found.by("layer", "median cosine", kind=kind) for kind in ("same unit", "other picture"))
    steps = [number.n for number in by_layer.values()]
    mean = float(np.average([number.value for number in by_layer.values()], weights=steps))
    pooled = exact(mean, "%", sum(steps) // 10)
    numbers = {"all layers": pooled} | by_layer
    apart = all(same[layer].value > other[layer].value for layer in by_layer)
    note = "Shares of the tenth of the steps that change appearance most, layer by layer."
    return Finding(verdict(pooled.value >= 90 and apart, pooled.value < 50), numbers, note)


def until_converged(stored: Stored) -> Finding:
    """Tell whether linear probes of upper layers gain after 60 % of the training, and of lower ones do not."""
    found = stored.numbers
    gains = {layer: _gain(found, layer) for layer in (*LOWER, *UPPER)}
    gained = {layer: above(gain, 0) for layer, gain in gains.items()}
    holds = every([*(gained[layer] for layer in UPPER), *(gained[layer] is not True for layer in LOWER)])
    fails = all(gained[layer] is False for layer in UPPER)
    note = (
        f"From epoch {GAIN_FROM} to 64 of {FIGURE_4_OF}, the moments nearest to 60 and 100 %. Part of the gain "
        f"belongs to the last fall of the rate; transfer was not followed."
    )
    return Finding(verdict(holds, fails), gains, note)


def _crossings(found: Numbers) -> dict[str, dict[str, Number]]:
    """Return the share of the training, in percent, from which on each layer stays at 0.9 of its end."""
    layers = found.by("layer", ALIGNMENT)
    return {what: {layer: _crossing(found, quantity, layer) for layer in layers} for what, quantity in BOTH.items()}


def _crossing(found: Numbers, quantity: str, layer: str) -> Number:
    curve = found.by("epoch", quantity, layer=layer)
    reached = crossing(list(curve), [number.value for number in curve.values()])
    return exact(100 * reached / FIGURE_4_OF, "%")


def _gain(found: Numbers, layer: str) -> Number:
    """Return what a probe gains, with twice the error of the difference of two shares."""
    curve = found.by("epoch", PROBE, layer=layer)
    before, after = curve[GAIN_FROM], curve[max(curve)]
    variance = sum(number.value * (100 - number.value) / number.n for number in (before, after))
    gain, margin = after.value - before.value, 2 * sqrt(variance)
    return Number(gain, gain - margin, gain + margin, after.n, "points")


def _rising(values: list[float]) -> bool:
    """Tell whether values never fall and end above where they begin."""
    return all(a <= b for a, b in pairwise(values)) and values[-1] > values[0]
