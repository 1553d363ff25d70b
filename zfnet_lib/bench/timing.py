"""Alternating runs in one process: the peer, ours, the peer, ours …."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch

ROUNDS = 7


def ratios(peer: Callable[[], None], ours: Callable[[], None], rounds: int = ROUNDS) -> list[float]:
    """Alternate both, after one warm-up each, and return the peer's time over ours in each round."""
    seconds(peer), seconds(ours)
    return [seconds(peer) / seconds(ours) for _ in range(rounds)]


def seconds(run: Callable[[], None]) -> float:
    """Return how long a call takes, the GPU's work included."""
    _synchronise()
    start = perf_counter()
    run()
    _synchronise()
    return perf_counter() - start


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
