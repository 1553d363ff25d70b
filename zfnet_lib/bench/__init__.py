"""Benchmarks: ratios against a peer, from alternating runs in one process."""

from collections.abc import Callable, Iterable

from ..paper.records import Record
from .deconv import bench_deconv
from .mining import bench_mining
from .norm import bench_norm
from .occlusion import bench_occlusion
from .training import bench_train

BENCHES: dict[str, Callable[[], Iterable[Record]]] = {
    "deconv": bench_deconv,
    "mining": bench_mining,
    "norm": bench_norm,
    "occlusion": bench_occlusion,
    "train": bench_train,
}
"""What `zfnet bench` can time."""

__all__ = ["BENCHES", "bench_deconv", "bench_mining", "bench_norm", "bench_occlusion", "bench_train"]
