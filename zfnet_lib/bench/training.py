"""A training step and its loader against a plain implementation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ..architecture import ZFNET, ArchSpec
from ..batches import Batches, training_preparation
from ..datasets import DATASETS, open_dataset, pack_in_memory
from ..images import Preparation
from ..machine import has_bf16, place, threads
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from ..training import PAPER, SGD, TINY, fitting_parts
from .plain import plain_layers
from .timing import ratios, seconds

BATCHES = {112: 128, 224: 32}
"""Input side in pixels, and pictures a batch."""

STEPS, ROUNDS, CLASSES = 3, 3, 200
PRECISIONS = ("bfloat16", "float32")
PAPER_SIDE = ZFNET.image_size


@dataclass(frozen=True)
class Work:
    """What is timed of one implementation: its batches, its step on one batch, and both together."""

    loader: Callable[[], None]
    step: Callable[[], None]
    both: Callable[[], None]


def bench_train() -> list[Record]:
    """Time our training of Fig. 3's network against a plain one, at 112 and at 224 pixels.

    The plain one is what a careful reader of the paper writes: float32 in NCHW, `nn.LocalResponseNorm`,
    `torch.optim.SGD`, and JPEGs that Pillow decodes in a `DataLoader` with the best of 0, 1 and 2 workers. Ours
    follows the recipe `TINY` from a pack, in float32 and, unless the machine emulates it, in the recipe's bf16.
    Both run in this process with its allocator.

    Returns:
        For each size and part the ratio (plain time over ours) and our images/s; of whole updates also the share
        of the measured matrix rate, and at 224 pixels the hours that the paper's training would take.
    """
    return [record for side, batch in BATCHES.items() for record in _bench_at(side, batch)]


def matrix_rate(precision: str, side: int = 2048) -> float:
    """Measure the floating point operations a second of one large matrix product."""
    a = torch.ones(side, side, dtype=getattr(torch, precision), device=place())
    return 2 * side**3 / min(seconds(lambda: a @ a) for _ in range(2 * ROUNDS))


def update_operations(spec: ArchSpec) -> int:
    """Return the floating point operations of one picture's part in an update.

    Two a multiply-accumulate, for the maps, their gradients and those of the weights; layer 1 needs no gradient
    of its input.
    """
    macs = spec.macs()
    return 2 * (3 * sum(macs.values()) - macs[spec.convs[0].name])


def paper_hours(images_per_second: float) -> float:
    """Return how long the paper's 70 epochs of ImageNet would take (section 3: 12 days on a GTX580)."""
    return PAPER.epochs * DATASETS["imagenet"].images["train"] / images_per_second / 3600


def _bench_at(side: int, batch: int) -> Iterator[Record]:
    spec = replace(ZFNET, classes=CLASSES, image_size=side)
    with tempfile.TemporaryDirectory() as folder:
        pack = pack_in_memory(open_dataset("photos", density=3.0), Preparation.grey(side).short_side)
        files = _as_jpegs(pack.pictures, Path(folder), batch * STEPS)
        with _peer(spec, files, batch) as (peer, workers):
            for precision in PRECISIONS if has_bf16() is not False else PRECISIONS[1:]:
                rate = matrix_rate(precision)
                with _ours(spec, pack, batch, precision) as ours:
                    for part in ("loader", "step", "both"):
                        yield from _compared(spec, batch, part, precision, workers, peer, ours, rate)


def _compared(
    spec: ArchSpec, batch: int, part: str, precision: str, workers: int, peer: Work, ours: Work, rate: float
) -> Iterator[Record]:
    watch = Stopwatch()
    found = ratios(getattr(peer, part), getattr(ours, part), ROUNDS)
    speed = STEPS * batch / seconds(getattr(ours, part))
    common = {
        "provenance": watch.provenance(device=place()),
        "parameters": {"batch": batch, "steps": STEPS, "workers": workers, "precision": precision},
        "spec": "zfnet",
    }
    what = f"{spec.image_size} pixels, {part}, {precision}"
    spread = max(found) - min(found)
    unit = "times as fast as the plain one"
    yield Record("bench-train", what, median(found), unit, n=len(found), spread=spread, **common)
    yield Record("bench-train", what, speed, "images/s, ours", **common)
    if part == "both":
        share = 100 * speed * update_operations(spec) / rate
        yield Record("bench-train", what, share, "% of the measured matrix rate", **common)
        if spec.image_size == PAPER_SIDE:
            hours = paper_hours(speed)
            yield Record("bench-train", what, hours, "hours for 70 epochs of ImageNet", paper=12 * 24, **common)


def _as_jpegs(squares: Tensor, folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(squares[i % len(squares)].permute(1, 2, 0).numpy()).save(path, quality=90)
    return paths


class _Jpegs(Dataset):
    """Pillow decodes, crops and mirrors one picture at a time."""

    def __init__(self, files: list[Path], side: int):
        self.files, self.side = files, side
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        with Image.open(self.files[i], formats=["JPEG"]) as picture:
            picture = picture.convert("RGB")
        left, top = self.rng.integers(0, picture.width - self.side + 1, 2)
        picture = picture.crop((left, top, left + self.side, top + self.side))
        if self.rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() - 128, i % CLASSES


def _plain_network(spec: ArchSpec) -> nn.Sequential:
    """Write Fig. 3 with torch's own modules."""
    net = ConvNet(spec)
    layers = [*plain_layers(net, spec.image_size).values(), nn.Flatten()]
    for dense in spec.dense:
        layers += [net.get_submodule(dense.name), nn.ReLU(), nn.Dropout(dense.dropout)]
    return nn.Sequential(*layers, net.fc8)


@contextmanager
def _peer(spec: ArchSpec, files: list[Path], batch: int) -> Iterator[tuple[Work, int]]:
    net = _plain_network(spec).train().to(place())
    optimiser = torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=5e-4)
    jpegs = _Jpegs(files, spec.image_size)

    def batches(workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(DataLoader(jpegs, batch, num_workers=workers))

    def update(x: Tensor, labels: Tensor) -> None:
        optimiser.zero_grad()
        F.cross_entropy(net(x.to(place())), labels.to(place())).backward()
        optimiser.step()

    def both(workers: int) -> None:
        for x, labels in batches(workers):
            update(x, labels)

    best = min((0, 1, 2), key=lambda workers: seconds(lambda: both(workers)))
    fixed = next(batches(0))
    yield Work(lambda: _exhaust(batches(best)), lambda: _repeat(lambda: update(*fixed)), lambda: both(best)), best


@contextmanager
def _ours(spec: ArchSpec, pack, batch: int, precision: str) -> Iterator[Work]:
    pack.labels = np.arange(len(pack)) % CLASSES
    net = ConvNet(spec, training_preparation(pack, spec.image_size)).to(place())
    recipe = replace(TINY, batch=batch, precision=precision)
    drawn = Batches(pack, net.preparation, size=batch, classes=CLASSES, device=net.device)
    parts = fitting_parts(batch, net.device)
    with threads(parts) as pool:
        sgd = SGD(net, recipe, parts, pool)

        def batches() -> Iterator:
            return (drawn_batch for _, drawn_batch in zip(range(STEPS), drawn.epoch(1), strict=False))

        def update(one) -> None:
            list(pool.map(sgd.gradients, range(parts), one.split(parts), [1] * parts))
            sgd.step(1e-3)

        def both() -> None:
            for one in batches():
                update(one)

        fixed = next(batches())
        yield Work(lambda: _exhaust(batches()), lambda: _repeat(lambda: update(fixed)), both)


def _exhaust(batches: Iterator) -> None:
    for _ in batches:
        pass


def _repeat(run: Callable[[], None]) -> None:
    for _ in range(STEPS):
        run()
