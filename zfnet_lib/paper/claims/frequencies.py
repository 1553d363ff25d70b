"""Section 4.1: which frequencies layer 1 prefers, and what its stride leaves in layer 2 (Fig. 5 b to e)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import pi

import numpy as np
import torch

from ...datasets import Dataset
from ...network import ConvNet
from ...strongest import strongest
from ..fig5 import MOST, SpectrumError, dip, faults, grid, largest_and_shown, peak_frequencies
from ..setting import describe_pictures
from .finding import SEEDS, Finding, above, at_least, below, every, verdict
from .probing import answers
from .stems import (
    LARGE_FILTERS,
    OURS,
    SMALL_FILTERS,
    THEIRS,
    alexnet,
    by_seed,
    lower_layers,
    native_pictures,
    numbers_of,
    run_of,
    shown,
    with_seeds,
)
from .stimuli import MADE, grating
from .stored import Measured, Stored, counted, difference, over_seeds
from .subject import Subject

RANGE = (1 / 32, 1 / 2)
"""Cycles a pixel, whose logarithms are cut into thirds."""

PEAK = 1.5
"""Excess of a spectrum at the frequency of a grid from which on it counts as aliasing."""

ALIAS = 0.5
"""Share of the answer to a slow grating from which on the answer to the fast one is that to its alias."""

MIDDLE, DIP = "filters in the middle third", "dip of the preferred frequencies"
EXCESS, ALIASES = "excess at the grid", "maps that answer to aliases"


def preferred(at: Subject) -> Iterator[Measured]:
    """Find the frequency that each live filter of layer 1 prefers."""
    pictures = native_pictures(at)
    for (name, seed), net in (lower_layers(at.profile, native=True) | alexnet(at.profile)).items():
        first = net.spec.convs[0]
        filters = filters_of(net)
        peaks = peak_frequencies(filters[live(filters, largest(net, pictures))])
        if not peaks.size:
            continue  # where nothing is live, nothing is preferred
        for quantity, value, unit in (
            (MIDDLE, 100 * middle_third(peaks).mean(), "%"),
            (DIP, dip(np.log(np.clip(peaks, *RANGE))), ""),
            ("median preferred frequency", np.median(peaks), "cycles a pixel"),
            ("in half of the sampling frequency", np.median(peaks) * 2 * first.stride, ""),
        ):
            yield _on(pictures, counted(quantity, value, len(peaks), unit, network=name, seed=seed))


def few_mid_frequencies(stored: Stored) -> Finding:
    """Tell whether fewer filters of 11x11 prefer the middle frequencies than of 7x7."""
    found = numbers_of(stored, native=True)
    ours, theirs = (by_seed(found, MIDDLE, name) for name in (OURS, THEIRS))
    less = difference(theirs, ours, "points")
    fewer = all(a < b for a, b in zip(theirs, ours, strict=False)) if less.n >= SEEDS else None
    numbers = {"middle third, 11x11 less 7x7": less} | shown(found, MIDDLE) | shown(found, DIP)
    note = with_seeds("Thirds of the logarithms of 1/32 to 1/2 cycle a pixel.", less)
    return Finding(verdict(every([below(less, 0), fewer]), at_least(less, 0)), numbers, note)


def sampled(at: Subject) -> Iterator[Measured]:
    """Look for the sampling grids in projections of layer 2, and for aliases among what its maps answer to."""
    pictures = native_pictures(at)
    names = (OURS, THEIRS) if at.profile == "smoke" else (OURS, THEIRS, SMALL_FILTERS, LARGE_FILTERS)
    for (name, seed), net in (lower_layers(at.profile, names, native=True) | alexnet(at.profile)).items():
        begun = ConvNet(net.spec, net.preparation, seed).eval()
        for weights, each in (("trained", net), ("untrained", begun)):
            for one in excesses(each, pictures):
                place = one.place | {"network": name, "seed": seed, "weights": weights}
                yield _on(pictures, replace(one, place=place))
        aliased = answers_to_aliases(net)
        share = counted(ALIASES, 100 * aliased.mean(), len(aliased), "%", network=name, seed=seed)
        yield replace(share, data=MADE)


def stride_aliases(stored: Stored) -> Finding:
    """Tell whether the grid of a stride of 4 shows in layer 2, that of 2 does not, whatever the filters' size."""
    found = numbers_of(stored, native=True)

    def excess(name: str, weights: str = "trained") -> list[float]:
        return by_seed(found, EXCESS, name, weights=weights, grid="layer 1")

    numbers = {
        "excess, stride 4": over_seeds(excess(THEIRS), "times"),
        "over random weights": difference(excess(THEIRS), excess(THEIRS, "untrained"), "times"),
        "over stride 2": difference(excess(THEIRS), excess(OURS), "times"),
    }
    levels = zip(numbers.values(), (PEAK, 0, 0), strict=True)
    strong, learnt, more = (above(number, level) for number, level in levels)
    note, follows = "At the grid of layer 1.", None
    crossed = [excess(name) for name in (SMALL_FILTERS, LARGE_FILTERS)]
    if all(crossed):
        control = numbers["7x7 with stride 4 over 11x11 with stride 2"] = difference(*crossed, "times")
        follows = above(control, 0)
    else:
        commands = [f"`{run_of(stored.profile, name, 0, True).command}`" for name in (SMALL_FILTERS, LARGE_FILTERS)]
        note += f" The crossed stems were not trained: {', '.join(commands)}."
    numbers |= shown(found, ALIASES)
    note = with_seeds(note, numbers["over stride 2"])
    return Finding(verdict(every([strong, learnt, more, follows]), False in (learnt, follows)), numbers, note)


def middle_third(frequencies: np.ndarray) -> np.ndarray:
    """Tell which frequencies lie in the middle third of the logarithms of `RANGE`.

    Example:
        >>> middle_third(np.array([0.0, 0.07, 0.09, 0.19, 0.21])).tolist()
        [False, False, True, True, False]
    """
    low, high = np.log(RANGE)
    edges = np.exp([low + (high - low) / 3, high - (high - low) / 3])
    return (edges[0] <= frequencies) & (frequencies < edges[1])


def excesses(net: ConvNet, pictures: Dataset) -> Iterator[Measured]:
    """Yield the excess of layer 2's projections at the grids of layer 1 and of its pool, where windows allow."""
    first = net.spec.convs[0]
    _, projections = largest_and_shown(net, pictures)
    for where, period in {"layer 1": first.stride, "pool 1": first.stride * first.pool.stride}.items():
        try:
            found = grid(projections, period)
        except SpectrumError:
            continue
        yield counted(EXCESS, found.excess, len(projections), "times", grid=where)


def answers_to_aliases(net: ConvNet) -> np.ndarray:
    """Tell which maps of layer 2 answer to a grating faster than layer 1 can sample as they do to its alias.

    Sampled at a rate r, a grating of frequency r - f has the same values as one of f. Of three slow ones, an
    eighth to three eighths of r, each map's preferred one is compared with the fast one that it stands for.

    Returns:
        bool [maps], of those that answer at all.
    """
    first, second = net.spec.convs[:2]
    rate, side = 1 / first.stride, net.preparation.crop

    def answer(frequency: float) -> torch.Tensor:
        waves = [grating(side, frequency, angle, pi * n / 4) for angle in (0, pi / 2) for n in range(8)]
        return answers(net, second.name, torch.stack(waves)).amax(0)

    slow = [rate * n / 8 for n in (1, 2, 3)]
    to_slow, to_fast = (torch.stack([answer(f) for f in chosen]) for chosen in (slow, [rate - f for f in slow]))
    most, preferred_one = to_slow.max(0)
    at_alias = to_fast.gather(0, preferred_one[None])[0]
    return (at_alias >= ALIAS * most)[most > 0].numpy()


def live(filters: np.ndarray, largest_of: np.ndarray) -> np.ndarray:
    """Tell which filters are neither silent nor faint nor like noise [maps]."""
    return ~np.any(faults(filters, largest_of), axis=0)


def filters_of(net: ConvNet) -> np.ndarray:
    """Return the filters of layer 1 [maps, 3, k, k]."""
    return net.get_submodule(net.spec.convs[0].name).weight.detach().numpy()


def largest(net: ConvNet, pictures: Dataset, rows: list[int] | None = None) -> np.ndarray:
    """Return the largest activation of each map of layer 1 over some pictures, 256 by default [maps]."""
    first = net.spec.convs[0].name
    if rows is None:
        rows = np.unique(np.linspace(0, len(pictures) - 1, min(MOST, len(pictures))).round().astype(int)).tolist()
    return strongest(net.features(first), pictures, 1, [first], rows=rows)[first].score[:, 0].numpy()


def _on(pictures: Dataset, number: Measured) -> Measured:
    return replace(number, data=describe_pictures(pictures))
