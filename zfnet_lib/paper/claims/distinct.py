"""Section 4.1: "more distinctive features and fewer dead features" in the first layer (Fig. 5 b, c)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..fig4 import answers
from ..fig5 import FAINT, faults
from ..setting import at_hand, training_of
from .finding import SEEDS, UNTESTABLE, Finding, Number, above, below, every, verdict
from .frequencies import filters_of, largest, live
from .stems import OURS, THEIRS, Networks, by_seed, lead, lower_layers, numbers_of, shown, with_seeds
from .stored import Measured, Stored, counted
from .subject import Subject

KINDS = ("silent", "faint", "noisy")
UNBOUND = f"{THEIRS}, not renormalised"

COMMON, SHIFT = 11, 2
"""Pixels to which filters are resampled before they are compared, and by which they are shifted to fit."""

COSINE, RANK = "largest cosine with another filter", "effective rank of the answers"


def faulty(at: Subject) -> Iterator[Measured]:
    """Count the filters of layer 1 that are silent, faint, or resemble noise."""
    for (name, seed), net in (lower_layers(at.profile) | _unbound(at.profile)).items():
        filters = filters_of(net)
        for kind, which in zip(KINDS, faults(filters, largest(net, at.dataset, at.rows)), strict=True):
            yield counted(f"{kind} filters", which.sum(), len(filters), network=name, seed=seed)


def fewer_dead(stored: Stored) -> Finding:
    """Tell whether the smaller stem has fewer silent or fewer faint filters, and not more of the other kind."""
    found = numbers_of(stored)
    numbers = {title: number for kind in KINDS for title, number in shown(found, f"{kind} filters").items()}
    ours, theirs = (
        list(zip(*(by_seed(found, f"{kind} filters", name) for kind in KINDS[:2]), strict=True))
        for name in (OURS, THEIRS)
    )
    note = f"Silent: no picture excites it; faint: its RMS is below {FAINT:.0%} of the median."
    if not any(map(any, ours + theirs)):
        return Finding(UNTESTABLE, numbers, f"Neither stem has a silent or a faint filter. {note}")
    pairs = list(zip(ours, theirs, strict=False))
    fewer = [all(a <= b for a, b in zip(*pair, strict=True)) and pair[0] != pair[1] for pair in pairs]
    decided = len(fewer) >= SEEDS
    answer = verdict(all(fewer) if decided else None, decided and not any(fewer))
    return Finding(answer, numbers, with_seeds(note, Number(0, n=len(fewer))))


def distinctive(at: Subject) -> Iterator[Measured]:
    """Compare the live filters of layer 1 with one another, and count the directions that their answers span."""
    for (name, seed), net in lower_layers(at.profile).items():
        filters, first = filters_of(net), net.spec.convs[0].name
        kept = filters[live(filters, largest(net, at.dataset, at.rows))]
        if len(kept) > 1:
            yield counted(COSINE, largest_cosines(kept).mean(), len(kept), "cosine", network=name, seed=seed)
        rank = effective_rank(answers(net.features(first), at.dataset, at.few, at.seed)[first])
        yield counted(RANK, 100 * rank / len(filters), len(at.few), "% of the filters", network=name, seed=seed)


def more_distinctive(stored: Stored) -> Finding:
    """Tell whether the filters of the smaller stem are less alike, and their answers span more directions."""
    found = numbers_of(stored)
    alike, rank = lead(found, COSINE, "cosine"), lead(found, RANK, "points")
    numbers = {"largest cosine, 7x7 less 11x11": alike, "effective rank, 7x7 less 11x11": rank}
    numbers |= shown(found, COSINE) | shown(found, RANK)
    note = f"Filters resampled to {COMMON} pixels and shifted by up to {SHIFT}; rectified answers at random places."
    holds = every([below(alike, 0), above(rank, 0)])
    return Finding(verdict(holds), numbers, with_seeds(note, alike))


def largest_cosines(filters: np.ndarray) -> np.ndarray:
    """Return each filter's largest absolute cosine with another one, over small shifts [maps].

    Args:
        filters: [maps, 3, k, k], resampled to a common size first.

    Example:
        >>> bars = np.zeros((3, 3, 11, 11))
        >>> bars[0, :, :, 4] = bars[1, :, :, 6] = bars[2, :, 5] = 1
        >>> largest_cosines(bars).round(2).tolist()
        [1.0, 1.0, 0.09]
    """
    size = (COMMON, COMMON)
    resampled = F.interpolate(
        torch.from_numpy(np.asarray(filters, np.float64)), size, mode="bilinear", antialias=True
    )
    vectors = F.normalize(resampled.flatten(1)).view_as(resampled)
    padded, best = F.pad(vectors, [SHIFT] * 4), torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for down in range(2 * SHIFT + 1):
        for across in range(2 * SHIFT + 1):
            moved = padded[..., down : down + COMMON, across : across + COMMON].flatten(1)
            best = torch.maximum(best, (vectors.flatten(1) @ moved.T).abs())
    return torch.maximum(best, best.T).fill_diagonal_(0).amax(1).numpy()


def effective_rank(values: Tensor) -> float:
    """Return how many directions values [n, d] have: of the covariance, (sum of eigenvalues)^2 / sum of squares.

    Example:
        >>> effective_rank(torch.tensor([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]))
        2.0
    """
    covariance = torch.cov(values.double().T)
    return float(covariance.trace() ** 2 / covariance.square().sum())


def _unbound(profile: str) -> Networks:
    """Return the larger stem trained without renormalisation, where it is at hand; `smoke` does not train it."""
    net = at_hand(training_of(profile, THEIRS, clip="none")) if profile != "smoke" else None
    return {(UNBOUND, 0): net.features(net.spec.convs[1].name)} if net else {}
