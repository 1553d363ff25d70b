"""Small pictures that can be learnt in seconds, held in memory as a pack would give them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zfnet_lib.architecture import ZFNET, ArchSpec
from zfnet_lib.batches import training_preparation
from zfnet_lib.datasets import Dataset, Sample
from zfnet_lib.images import PictureError, Preparation, resize_short_side
from zfnet_lib.network import ConvNet

TINY_SPEC = replace(ZFNET, classes=4).scaled(1 / 16, image_size=64, name="small")


class Squares:
    """Squares with labels."""

    name = "squares"

    def __init__(self, pictures: Tensor, labels: np.ndarray):
        self.pictures, self.labels = pictures, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.pictures[i], int(self.labels[i])

    def batch(self, rows, side: int) -> Tensor:
        return resize_short_side(self.pictures[rows], side)

    def mean(self, side: int, rows) -> Tensor:
        return self.batch(rows, side).double().mean(0).float()


def plain(short_side: int, crop: int, mean: float = 0.0, scale: float = 1.0) -> Preparation:
    """Return a preparation that only cuts, if no mean and scale are given."""
    return Preparation(short_side, crop, torch.full((3, 1, 1), mean), torch.full((3, 1, 1), scale))


class Pictures(Dataset):
    """Pictures in memory without classes, some of which cannot be read, and one at which everything stops.

    Attributes:
        read: The pictures that were asked for, in their order.
    """

    def __init__(self, pictures: Sequence[Tensor], broken: tuple[int, ...] = (), stop: int | None = None):
        self.name, self.split, self.classes = "squares", "val", ("all",)
        self.origin = f"{sum(each.sum() for each in pictures)} {broken}"
        self.pictures, self.broken, self.stop = pictures, broken, stop
        self.labels, self.names = np.zeros(len(pictures), int), [f"{i}.png" for i in range(len(pictures))]
        self.read: list[int] = []

    def sample(self, i: int) -> Sample:
        if i == self.stop:
            raise KeyboardInterrupt
        if i in self.broken:
            raise (PictureError, OSError)[i % 2](f"{self.names[i]} cannot be read")
        self.read.append(i)
        return Sample(self.pictures[i], 0, name=self.names[i])


def texture_classes(n: int, classes: int, seed: int = 0) -> Squares:
    """Return pictures whose class is the direction and the width of their stripes, the same in a mirror."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    y, x = np.mgrid[:73, :73]
    across = np.where(labels[:, None, None] % 2, x, y)
    waves = np.sin(across * 0.3 * (1 + labels[:, None, None] // 2) + rng.uniform(0, 6, (n, 1, 1)))
    pictures = 128 + 80 * waves[:, None] * rng.uniform(0.5, 1, (n, 3, 1, 1)) + rng.normal(0, 10, (n, 3, 73, 73))
    return Squares(torch.from_numpy(pictures.clip(0, 255).astype(np.uint8)), labels)


def network(data: Squares, spec: ArchSpec = TINY_SPEC, exclude: Iterable[int] = ()) -> ConvNet:
    """Return an untrained network with the preparation of its training pictures."""
    return ConvNet(spec, training_preparation(data, spec.image_size, exclude))
