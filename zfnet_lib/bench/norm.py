"""Contrast normalisation against torch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from ..files import ZfnetError
from ..network import contrast_normalise
from ..paper.records import Record, Stopwatch
from .timing import ROUNDS, ratios

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
            found = ratios(partial(run, _torch_norm, maps, grad), partial(run, contrast_normalise, maps, grad))
            rows.append((place, direction, shape, found))
    provenance = watch.provenance(device=device)
    return [
        Record(
            "bench-norm",
            f"{place}, {direction}",
            median(found),
            "times as fast as torch.nn.functional.local_response_norm",
            provenance,
            n=len(found),
            spread=max(found) - min(found),
            parameters={"shape": list(shape), "rounds": ROUNDS, "dtype": "float32"},
        )
        for place, direction, shape, found in rows
    ]


def _torch_norm(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=2.0)


def _forward(norm: Callable[[Tensor], Tensor], maps: Tensor, grad: Tensor) -> None:
    with torch.no_grad():
        norm(maps)


def _both(norm: Callable[[Tensor], Tensor], maps: Tensor, grad: Tensor) -> None:
    torch.autograd.grad(norm(maps), maps, grad)


def _require_equal(expected: Tensor, found: Tensor, what: str) -> None:
    error = ((expected - found).abs().max() / expected.abs().max()).item()
    if error > 1e-5:
        raise ZfnetError(f"{what}: the two results differ by {error:.1e} of the largest value; nothing was timed")
