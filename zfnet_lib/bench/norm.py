"""Contrast normalisation against torch's."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional as F

from ..network import contrast_normalise
from ..paper.records import Record, Stopwatch
from .peers import compare, require_close

NORM_SHAPES = {"layer 1 at 224 pixels": (32, 96, 55, 55), "layer 2 at 224 pixels": (32, 256, 13, 13)}
ROUNDS = 7


def bench_norm() -> list[Record]:
    """Time our contrast normalisation against torch's, forward, and forward with backward, once both agree."""
    watch, records = Stopwatch(), []
    torchs = partial(F.local_response_norm, size=5, alpha=1e-4, beta=0.75, k=2.0)
    for place, shape in NORM_SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        maps, grad = (torch.randn(shape, generator=generator) for _ in range(2))
        maps = F.relu(maps * 30).requires_grad_()
        require_close(torchs(maps), contrast_normalise(maps), 1e-5, place)

        def forward(norm, maps=maps) -> None:
            with torch.no_grad():
                norm(maps)

        def both(norm, maps=maps, grad=grad) -> None:
            torch.autograd.grad(norm(maps), maps, grad)

        for direction, run in {"forward": forward, "forward and backward": both}.items():
            record = partial(
                Record,
                "bench-norm",
                f"{place}, {direction}",
                unit="times as fast as torch.nn.functional.local_response_norm",
                provenance=watch.provenance(),
                parameters={"shape": list(shape), "rounds": ROUNDS, "dtype": "float32"},
            )
            records.append(compare(record, partial(run, torchs), partial(run, contrast_normalise), ROUNDS))
    return records
