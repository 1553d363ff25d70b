"""Benchmarks: ratios against a peer, from alternating runs in one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F

from .norm import contrast_normalise
from .paths import ZfnetError
from .records import Record, Stopwatch

ROUNDS = 7

NORM_SHAPES = {"layer 1 at 224 pixels": (32, 96, 55, 55), "layer 2 at 224 pixels": (32, 256, 13, 13)}


def bench_norm(device: str = "cpu") -> list[Record]:
    """Time our contrast normalisation against torch's, forward, and forward with backward.

    Both are checked to agree first. A ratio is the median over alternating rounds of torch's time over ours.

    Args:
        device: `cpu` or `cuda`.

    Returns:
        One record a shape and direction; `value` is the ratio (above 1: ours is faster).

    Raises:
        ZfnetError: The two do not agree to 1e-5.
    """
    watch, rows = Stopwatch(), []
    for place, shape in NORM_SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        maps, grad = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        maps = F.relu(maps * 30).requires_grad_()
        _require_equal(_torch_norm(maps), contrast_normalise(maps), place)
        for direction, run in (("forward", _forward), ("forward and backward", _both)):
            ratios = _ratios(partial(run, _torch_norm, maps, grad), partial(run, contrast_normalise, maps, grad))
            rows.append((place, direction, shape, ratios))
    provenance = watch.provenance(device=device)
    return [
        Record(
            "bench-norm",
            f"{place}, {direction}",
            median(ratios),
            "times as fast as torch.nn.functional.local_response_norm",
            provenance,
            n=len(ratios),
            spread=max(ratios) - min(ratios),
            parameters={"shape": list(shape), "rounds": ROUNDS, "dtype": "float32"},
        )
        for place, direction, shape, ratios in rows
    ]


def _torch_norm(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=2.0)


def _forward(norm: Callable[[Tensor], Tensor], maps: Tensor, grad: Tensor) -> None:
    with torch.no_grad():
        norm(maps)


def _both(norm: Callable[[Tensor], Tensor], maps: Tensor, grad: Tensor) -> None:
    torch.autograd.grad(norm(maps), maps, grad)


def _ratios(peer: Callable[[], None], ours: Callable[[], None]) -> list[float]:
    """Alternate both, after one warm-up each, and return the peer's time over ours in each round."""
    _seconds(peer), _seconds(ours)
    return [_seconds(peer) / _seconds(ours) for _ in range(ROUNDS)]


def _seconds(run: Callable[[], None]) -> float:
    _synchronise()
    start = perf_counter()
    run()
    _synchronise()
    return perf_counter() - start


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _require_equal(expected: Tensor, found: Tensor, what: str) -> None:
    error = ((expected - found).abs().max() / expected.abs().max()).item()
    if error > 1e-5:
        raise ZfnetError(f"{what}: the two results differ by {error:.1e} of the largest value; nothing was timed")


BENCHES: dict[str, Callable[[], list[Record]]] = {"norm": bench_norm}
"""What `zfnet bench` can time."""
