"""Benchmarks: ratios against a peer, from alternating runs in one process."""

from collections.abc import Callable

from ..records import Record
from .mining import bench_mining
from .norm import bench_norm
from .training import bench_train

BENCHES: dict[str, Callable[[], list[Record]]] = {
    "mining": bench_mining,
    "norm": bench_norm,
    "train": bench_train,
}
"""What `zfnet bench` can time."""

__all__ = ["BENCHES", "bench_mining", "bench_norm", "bench_train"]
