"""From a data set to training batches; what is drawn follows from seed, epoch and the number of the batch alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .files import ZfnetError
from .images import PictureError, Preparation
from .machine import ahead, in_processes, threads

CHUNK = 256


class BatchError(ZfnetError, ValueError):
    """Pictures or labels that cannot be trained on."""


class Views(NamedTuple):
    """One view of each of n squares: mirrored or not, then cut at a place of the (mirrored) square."""

    rows: Tensor  # int64 [n], the pictures in the data set
    top: Tensor  # int64 [n]
    left: Tensor
    mirrored: Tensor  # bool [n]

    def part(self, start: int, stop: int) -> Views:
        """Return some of the views."""
        return Views(*(values[start:stop] for values in self))


def draw_views(rows: Tensor, room: int, how: str, rng: np.random.Generator) -> Views:
    """Draw a view of each of the rows, int64 [n], whose squares have so much room around a crop (section 3)."""
    n = len(rows)
    mirrored = rng.random(n) < (0 if how == "centre" else 0.5)
    if how == "random":
        top, left = rng.integers(0, room + 1, (2, n))
    elif how == "ten":
        corners = [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]
        top, left = np.array(corners)[rng.integers(0, 5, n)].T
        left = np.where(mirrored, room - left, left)
    else:
        top = left = np.full(n, room // 2)
    return Views(rows, *(torch.from_numpy(np.ascontiguousarray(values)) for values in (top, left, mirrored)))


def cut_views(squares: Tensor, views: Views, side: int) -> Tensor:
    """Cut each view out of its square: uint8 [n, 3, s, s] to uint8 [n, 3, side, side]."""
    crops = squares.new_empty(len(squares), 3, side, side)
    places = zip(views.top.tolist(), views.left.tolist(), views.mirrored.tolist(), strict=True)
    for crop, square, (top, left, mirrored) in zip(crops, squares, places, strict=True):
        square = square.flip(-1) if mirrored else square
        crop.copy_(square[:, top : top + side, left : left + side])
    return crops


def gather_views(squares: Tensor, views: Views, side: int) -> Tensor:
    """Return `cut_views(squares[views.rows], views, side)` by one gather, which suits a GPU."""
    rows, top, left, mirrored = (values.to(squares.device) for values in views)
    left = torch.where(mirrored, squares.shape[-1] - side - left, left)
    crops = squares.unfold(2, side, 1).unfold(3, side, 1)[rows, :, top, left]
    return torch.where(mirrored[:, None, None, None], crops.flip(-1), crops)


@dataclass(frozen=True)
class Batch:
    """Pictures of one update, or of a part of it."""

    crops: Tensor  # uint8 [n, 3, side, side]
    views: Views  # where they were cut, which the per-pixel mean needs to know
    labels: Tensor  # int64 [n]
    first: int = 0  # number of the first of them in the whole update's batch

    def split(self, parts: int) -> list[Batch]:
        """Return `parts` batches of about equal size."""
        bounds = np.linspace(0, len(self.labels), parts + 1).round().astype(int).tolist()
        return [
            Batch(self.crops[a:b], self.views.part(a, b), self.labels[a:b], self.first + a)
            for a, b in pairwise(bounds)
        ]

    def prepared(self, preparation: Preparation, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Subtract the mean, cut and mirrored as the pictures were, and divide by the scale: [n, 3, side, side]."""
        side, mean = self.crops.shape[-1], preparation.mean.to(device)
        if mean.shape[-1] > 1:
            both = torch.stack([mean, mean.flip(-1)]).unfold(2, side, 1).unfold(3, side, 1)
            _, top, left, mirrored = (values.to(device) for values in self.views)
            mean = both[mirrored.long(), :, top, left]
        x = (self.crops.to(device) - mean).div_(preparation.scale.to(device))
        return x.to(dtype, memory_format=torch.channels_last)


def squares_of(data, rows: Sequence[int] | Tensor, preparation: Preparation) -> Tensor:
    """Return the centre squares of some pictures, of a pack at once: uint8 [k, 3, short_side, short_side]."""
    if hasattr(data, "batch"):
        return data.batch(torch.as_tensor(rows), preparation.short_side)
    return torch.stack([preparation.square(data[int(i)][0]) for i in rows])


def labels_of(data, classes: int) -> Tensor:
    """Return the labels of a data set, int64 [n]; one label a picture, of so many classes, or a `BatchError`."""
    labels = torch.as_tensor(np.asarray(data.labels))
    if labels.ndim != 1:
        raise BatchError(f"{data.name} has several labels a picture, where a softmax takes one; choose other data")
    least, most = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if not 0 <= least <= most < classes:
        wrong = f"labels from {least} to {most}, but the network has {classes} classes"
        raise BatchError(f"{data.name} has {wrong}; build it with classes={most + 1}")
    return labels.long()


def training_preparation(data, crop: int, exclude: Iterable[int] = (), workers: int = 0) -> Preparation:
    """Return the preparation of section 3 for an input of `crop` pixels: squares, less their per-pixel mean."""
    preparation, rows = Preparation.grey(crop), kept_rows(data, exclude)
    if hasattr(data, "mean"):
        return replace(preparation, mean=data.mean(preparation.short_side, rows))
    total = sum(in_processes(partial(_sum, data, preparation), rows.split(CHUNK), workers))
    return replace(preparation, mean=(total / len(rows)).float())


def _sum(data, preparation: Preparation, rows: Tensor) -> Tensor:
    return squares_of(data, rows, preparation).double().sum(0)


def kept_rows(data, exclude: Iterable[int]) -> Tensor:
    """Return the pictures that are trained on, in order: int64 [k]."""
    return torch.from_numpy(np.setdiff1d(np.arange(len(data)), np.array(list(exclude), dtype=np.int64)))


def unreadable(data, workers: int = 0) -> dict[int, str]:
    """Read every picture once; return the rows of those that cannot be read, each with the reason."""
    found = in_processes(partial(_unreadable, data), torch.arange(len(data)).split(CHUNK), workers)
    return {row: reason for part in found for row, reason in part.items()}


def _unreadable(data, rows: Tensor) -> dict[int, str]:
    reasons = {}
    for row in rows.tolist():
        try:
            data[row]
        except PictureError as error:
            reasons[row] = str(error)
    return reasons


class Batches:
    """The batches of a training: of `size` pictures over all processes, of which `rank` of `world` takes its part.

    The data are a pack, or any data set, which `workers` processes decode; a GPU with room for it keeps a pack.
    """

    def __init__(
        self,
        data,
        preparation: Preparation,
        *,
        size: int,
        classes: int,
        views: str = "random",
        seed: int = 0,
        exclude: Iterable[int] = (),
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        device: torch.device | None = None,
    ):
        self.data, self.preparation, self.size, self.views, self.seed = data, preparation, size, views, seed
        self.labels, self.rows, self.workers = labels_of(data, classes), kept_rows(data, exclude), workers
        self.share, self.first = size // world, rank * size // world
        if size > len(self.rows):
            most = f"{data.name} has {len(self.rows)} pictures to train on"
            raise BatchError(f"a batch of {size} is impossible: {most}; choose a batch of at most that")
        if size % world:
            choose = f"choose a multiple of {world} (--batch)"
            raise BatchError(f"a batch of {size} cannot be shared by {world} processes; {choose}")
        self.on_gpu, needed = None, len(data) * 3 * preparation.short_side**2
        on_gpu = device is not None and device.type == "cuda" and hasattr(data, "batch")
        if on_gpu and needed <= torch.cuda.mem_get_info(device)[0] // 2:
            chunks = torch.arange(len(data)).split(CHUNK)
            self.on_gpu = torch.cat([squares_of(data, rows, preparation).to(device) for rows in chunks])

    def __len__(self) -> int:
        """Return the batches of an epoch; pictures that do not fill one wait for another epoch."""
        return len(self.rows) // self.size

    def plan(self, epoch: int) -> Views:
        """Return the views of all batches of an epoch, one batch after the other."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = self.rows[torch.from_numpy(rng.permutation(len(self.rows)))]
        room = self.preparation.short_side - self.preparation.crop
        return draw_views(rows, room, self.views, rng)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this process's part of the batches of an epoch, from batch `start` on, made beside the step."""
        plan, side = self.plan(epoch), self.preparation.crop
        begins = range(start * self.size + self.first, len(self) * self.size, self.size)
        parts = [plan.part(begin, begin + self.share) for begin in begins]
        job = partial(_crops, self.data, self.preparation)
        with threads(1, each=1) as thread:
            crops: Iterable[Tensor]
            if self.on_gpu is not None:
                crops = (gather_views(self.on_gpu, views, side) for views in parts)
            elif self.workers:
                crops = map(torch.from_numpy, in_processes(job, parts, self.workers))
            else:
                crops = map(torch.from_numpy, ahead(thread, job, parts, 2))
            for views, crop in zip(parts, crops, strict=True):
                yield Batch(crop, views, self.labels[views.rows], self.first)


def _crops(data, preparation: Preparation, views: Views) -> np.ndarray:
    return cut_views(squares_of(data, views.rows, preparation), views, preparation.crop).numpy()
