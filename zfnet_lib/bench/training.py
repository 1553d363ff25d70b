"""A training step and its loader against a plain implementation, that of a careful reader of the paper."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ..architecture import ZFNET, ArchSpec
from ..batches import Batch, Batches, training_preparation
from ..datasets import DATASETS, open_dataset, pack_in_memory
from ..images import Preparation
from ..machine import has_bf16, own_device, threads
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from ..training import PAPER, SGD, TINY, fitting_parts
from .peers import compare, plain_head, plain_layers, seconds

BATCHES = {112: 128, 224: 32}  # input side in pixels, and pictures a batch
STEPS, ROUNDS, CLASSES = 3, 3, 200

Work = dict[str, Callable[[], object]]
"""What is timed of one implementation: its `loader`, its `step` on one batch, and `both` together."""


def bench_train() -> Iterator[Record]:
    """Time our training of Fig. 3's network against a plain one, at 112 and at 224 pixels.

    Ours follows the recipe `TINY` from a pack, in float32 and, unless the machine emulates it, in bfloat16.
    """
    precisions = ("bfloat16", "float32") if has_bf16() is not False else ("float32",)
    for side, batch in BATCHES.items():
        spec = replace(ZFNET, classes=CLASSES, image_size=side)
        with tempfile.TemporaryDirectory() as folder:
            pack = pack_in_memory(open_dataset("photos", density=3.0), Preparation.grey(side).short_side)
            files = [Path(folder) / f"{i}.jpg" for i in range(batch * STEPS)]
            for i, path in enumerate(files):
                Image.fromarray(pack.pictures[i % len(pack)].permute(1, 2, 0).numpy()).save(path, quality=90)
            peer, workers = _peer(spec, files, batch)
            for precision in precisions:
                rate = matrix_rate(precision)
                settings = {"batch": batch, "steps": STEPS, "workers": workers, "precision": precision}
                with _ours(spec, pack, batch, precision) as ours:
                    for part in ("loader", "step", "both"):
                        what = f"{side} pixels, {part}, {precision}"
                        made = Stopwatch().provenance(device=own_device())
                        record = partial(Record, "bench-train", what, provenance=made, parameters=settings)
                        record = partial(record, spec="zfnet")
                        ratio = partial(record, unit="times as fast as the plain one")
                        yield compare(ratio, peer[part], ours[part], ROUNDS)
                        speed = STEPS * batch / seconds(ours[part])
                        yield record(speed, "images/s, ours")
                    share = 100 * speed * update_operations(spec) / rate
                    yield record(share, "% of the measured matrix rate")
                    if side == ZFNET.image_size:
                        yield record(paper_hours(speed), "hours for 70 epochs of ImageNet", paper=12 * 24)


def matrix_rate(precision: str, side: int = 2048) -> float:
    """Measure the floating point operations a second of one large matrix product."""
    a = torch.ones(side, side, dtype=getattr(torch, precision), device=own_device())
    return 2 * side**3 / min(seconds(lambda: a @ a) for _ in range(2 * ROUNDS))


def update_operations(spec: ArchSpec) -> int:
    """Return the floating point operations of one picture's part in an update."""
    # Two a multiply-accumulate, for the maps, their gradients and those of the weights; layer 1 needs no gradient
    # of its input.
    macs = spec.macs()
    return 2 * (3 * sum(macs.values()) - macs[spec.convs[0].name])


def paper_hours(images_per_second: float) -> float:
    """Return how long the paper's 70 epochs of ImageNet would take (section 3: 12 days on a GTX580)."""
    return PAPER.epochs * DATASETS["imagenet"].images["train"] / images_per_second / 3600


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


def _peer(spec: ArchSpec, files: list[Path], batch: int) -> tuple[Work, int]:
    """Return the plain training: float32 in NCHW, JPEGs in a `DataLoader` with its best number of workers."""
    made = ConvNet(spec)
    net = nn.Sequential(*plain_layers(made, spec.image_size).values(), *plain_head(made, dropout=True))
    net = net.train().to(own_device())
    optimiser = torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=5e-4)
    jpegs = _Jpegs(files, spec.image_size)

    def update(x: Tensor, labels: Tensor) -> None:
        optimiser.zero_grad()
        F.cross_entropy(net(x.to(own_device())), labels.to(own_device())).backward()
        optimiser.step()

    def both(workers: int) -> None:
        for x, labels in DataLoader(jpegs, batch, num_workers=workers):
            update(x, labels)

    best = min((0, 1, 2), key=lambda workers: seconds(lambda: both(workers)))
    fixed = next(iter(DataLoader(jpegs, batch)))
    return {
        "loader": lambda: [None for _ in DataLoader(jpegs, batch, num_workers=best)],
        "step": lambda: [update(*fixed) for _ in range(STEPS)],
        "both": lambda: both(best),
    }, best


@contextmanager
def _ours(spec: ArchSpec, pack, batch: int, precision: str) -> Iterator[Work]:
    pack.labels = np.arange(len(pack)) % CLASSES
    net = ConvNet(spec, training_preparation(pack, spec.image_size)).to(own_device())
    recipe = replace(TINY, batch=batch, precision=precision)
    drawn = Batches(pack, net.preparation, size=batch, classes=CLASSES, device=net.device)
    parts = fitting_parts(batch, net.device)
    with threads(parts) as pool:
        sgd = SGD(net, recipe, parts, pool)

        def update(one: Batch) -> None:
            list(pool.map(sgd.gradients, range(parts), one.split(parts), [1] * parts))
            sgd.step(1e-3)

        fixed = next(drawn.epoch(1))
        yield {
            "loader": lambda: [None for _ in islice(drawn.epoch(1), STEPS)],
            "step": lambda: [update(fixed) for _ in range(STEPS)],
            "both": lambda: [update(one) for one in islice(drawn.epoch(1), STEPS)],
        }
