"""A training step and its loader against a plain implementation, that of a careful reader of the paper."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..architecture import ZFNET, ArchSpec
from ..batches import Batch, Batches, training_preparation
from ..datasets import DATASETS, open_dataset, pack_in_memory
from ..images import Preparation
from ..machine import has_bf16, own_device, threads
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from ..training import PAPER, SGD, TINY, Recipe, fitting_parts
from .peers import compare, fastest, plain_head, plain_layers, recorded, seconds

BATCHES = {112: 128, 224: 32}  # input side in pixels, and pictures a batch
STEPS, ROUNDS, CLASSES = 3, 3, 200


def bench_train() -> Iterator[Record]:
    """Time our training of Fig. 3's network, by the recipe `TINY`, against a plain one, at 112 and 224 pixels."""
    precisions = ("bfloat16", "float32") if has_bf16() is not False else ("float32",)
    for side, batch in BATCHES.items():
        spec = replace(ZFNET, classes=CLASSES, image_size=side)
        with tempfile.TemporaryDirectory() as folder:
            pack = pack_in_memory(open_dataset("photos", density=3.0), Preparation.grey(side).short_side)
            for i in range(batch * STEPS):
                path = Path(folder, f"{i % CLASSES:03d}", f"{i}.jpg")
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pack.pictures[i % len(pack)].permute(1, 2, 0).numpy()).save(path, quality=90)
            peer, workers = _peer(spec, Path(folder), batch)
            for precision in precisions:
                rate, parts = matrix_rate(precision), fitting_parts(batch, torch.device(own_device()))
                settings = {"batch": batch, "steps": STEPS, "workers": workers, "precision": precision}
                with threads(parts) as pool:
                    ours = _ours(spec, pack, replace(TINY, batch=batch, precision=precision), parts, pool)
                    for part in ("loader", "step", "both"):
                        what = f"{side} pixels, {part}, {precision}"
                        facts = {"parameters": settings, "spec": "zfnet"}
                        record = recorded(Stopwatch(), "bench-train", what, own_device(), **facts)
                        yield compare(record, "the plain one", peer[part], ours[part], ROUNDS)
                        speed = STEPS * batch / seconds(ours[part])
                        yield record(speed, "images/s, ours")
                    yield record(100 * speed * update_operations(spec) / rate, "% of the measured matrix rate")
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


def _peer(spec: ArchSpec, folder: Path, batch: int) -> tuple[dict[str, Callable], int]:
    """Return the plain training: float32 in NCHW, JPEGs in a `DataLoader` with its best number of workers."""
    # It takes a second to load.
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, RandomCrop, RandomHorizontalFlip

    made = ConvNet(spec)
    net = nn.Sequential(*plain_layers(made, spec.image_size).values(), *plain_head(made, dropout=True))
    net = net.train().to(own_device())
    optimiser = torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=5e-4)

    def update(batch: list[Tensor]) -> None:
        x, labels = (values.to(own_device()) for values in batch)
        optimiser.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimiser.step()

    views = [RandomCrop(spec.image_size), RandomHorizontalFlip(), PILToTensor(), _centred]
    loader = partial(DataLoader, ImageFolder(folder, Compose(views)), batch)
    works = {workers: _work(partial(loader, num_workers=workers), update) for workers in (0, 1, 2)}
    best = fastest(lambda workers: works[workers]["both"](), works)
    return works[best], best


def _centred(pixels: Tensor) -> Tensor:
    return pixels.float() - 128


def _ours(spec: ArchSpec, pack, recipe: Recipe, parts: int, pool: Executor) -> dict[str, Callable]:
    """Return our training, whose threads work through parts of a batch."""
    pack.labels = np.arange(len(pack)) % CLASSES
    net = ConvNet(spec, training_preparation(pack, spec.image_size)).to(own_device())
    drawn = Batches(pack, net.preparation, size=recipe.batch, classes=CLASSES, device=net.device)
    sgd = SGD(net, recipe, parts, pool)

    def update(batch: Batch) -> None:
        list(pool.map(sgd.gradients, range(parts), batch.split(parts), [1] * parts))
        sgd.step(1e-3)

    return _work(partial(drawn.epoch, 1), update)


def _work(batches: Callable[[], Iterable], update: Callable) -> dict[str, Callable]:
    """Return what is timed of one implementation: its loader, its step on one batch, and both together."""
    fixed = next(iter(batches()))
    return {
        "loader": lambda: [None for _ in islice(batches(), STEPS)],
        "step": lambda: [update(fixed) for _ in range(STEPS)],
        "both": lambda: [update(batch) for batch in islice(batches(), STEPS)],
    }
