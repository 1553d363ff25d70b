"""Benchmarks: ratios against a peer, from alternating runs in one process."""

from .deconv import bench_deconv
from .occlusion import bench_occlusion
from .plain import bench_mining, bench_norm
from .training import bench_train

BENCHES = {
    "deconv": bench_deconv,
    "mining": bench_mining,
    "norm": bench_norm,
    "occlusion": bench_occlusion,
    "train": bench_train,
}
"""What `zfnet bench` can time: functions that return or yield records."""
