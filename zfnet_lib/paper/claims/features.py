"""Section 4: what the maps respond to, from the records of Fig. 2 in numbers."""

from __future__ import annotations

from ..grouping import CHANCE, DESCRIPTORS, ENTROPY, EXTENT, FOUND, LIKE, MORE_THAN_RANDOM, RANDOM, VARY
from .finding import Finding, Number, above, apart, at_least, below, every, some, verdict
from .stored import Numbers, Stored

UPPER = ("conv2", "conv3", "conv4", "conv5")


def strong_grouping(stored: Stored) -> Finding:
    """Tell whether a map's nine patches are more alike than nine of nine maps."""
    found, numbers, alike, many = stored.numbers, {}, [], []
    for name in DESCRIPTORS:
        within, random, share = (
            _trained(found, quantity.format(name)) for quantity in (LIKE, RANDOM, MORE_THAN_RANDOM)
        )
        for layer in UPPER:
            alike.append(above(within[layer], random[layer].value))
            many.append(at_least(share[layer], 50))
            numbers[f"{layer}, {name}: maps above the 95 % level"] = share[layer]
    note = "Descriptors of shape (HOG) and colour; an independent network was not asked."
    return Finding(verdict(every(alike + many), some(truth is False for truth in alike) is True), numbers, note)


def patches_vary_more(stored: Stored) -> Finding:
    """Tell in how many maps the patches differ more from one another than the projections."""
    found = stored.numbers
    numbers = {
        f"{layer}, {name}": share
        for name in DESCRIPTORS
        for layer, share in _trained(found, VARY.format(name)).items()
        if layer in UPPER
    }
    return Finding(verdict(every(at_least(share, 75) for share in numbers.values())), numbers)


def resembles_its_piece(stored: Stored) -> Finding:
    """Tell how often a projection finds its own patch among 100 others, and how far it reaches."""
    found = stored.numbers
    retrieved, extent = _trained(found, FOUND), _trained(found, EXTENT)
    side = stored.side
    small = {layer: number for layer, number in extent.items() if layer in ("conv1", "conv2", "conv3")}
    levels = {"conv2": 50, "conv3": 50, "conv4": 10, "conv5": 10}
    holds = [at_least(retrieved[layer], level) for layer, level in levels.items()]
    confined = [below(number, side / 2) for number in small.values()]
    numbers = {f"{layer}: own patch found": retrieved[layer] for layer in levels}
    numbers |= {f"{layer}: side that holds 90 %": number for layer, number in small.items()}
    chance = some(below(retrieved[layer], 2) for layer in levels)
    note = (
        f"A wide margin is read as 10 % in layers 4 and 5; well below the image as half of its {side} pixels, for "
        f"90 % of the energy. Shared switches are not in the record."
    )
    return Finding(verdict(every(holds + confined), chance is True), numbers, note)


def class_specific(stored: Stored) -> Finding:
    """Tell whether the labels of a map's nine pictures agree more from layer 2 to 3 to 4, and not by chance."""
    found = stored.numbers
    trained, untrained = (found.by("layer", ENTROPY, weights=weights) for weights in ("trained", "untrained"))
    falls, anyway = (
        every([apart(by["conv2"], by["conv3"]), apart(by["conv3"], by["conv4"])]) for by in (trained, untrained)
    )
    numbers = {layer: number for layer, number in trained.items() if layer in UPPER}
    numbers |= {f"{layer}, random weights": untrained[layer] for layer in UPPER}
    numbers["by chance"] = next(iter(_trained(found, CHANCE).values()))
    holds = every([falls, anyway is not True])
    return Finding(verdict(holds, apart(trained["conv3"], trained["conv4"]) is False), numbers)


def _trained(found: Numbers, quantity: str) -> dict[str, Number]:
    return found.by("layer", quantity, weights="trained")
