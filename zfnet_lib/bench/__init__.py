"""Benchmarks: ratios against a peer, from alternating runs in one process."""

from collections.abc import Callable

from ..records import Record
from .norm import bench_norm
from .training import bench_train

BENCHES: dict[str, Callable[[], list[Record]]] = {"norm": bench_norm, "train": bench_train}
"""What `zfnet bench` can time."""

__all__ = ["BENCHES", "bench_norm", "bench_train"]
