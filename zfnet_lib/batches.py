"""From a data set to training batches: which pictures, which views of them, in which order.

Everything is a function of the seed, the epoch and the number of the batch, so that nothing random needs to be
remembered when a training stops and continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .files import ZfnetError
from .images import Preparation
from .machine import ahead, in_processes, threads

CHUNK = 256


class BatchError(ZfnetError, ValueError):
    """Pictures or labels that cannot be trained on."""


@dataclass(frozen=True)
class Views:
    """One view of each of n squares: mirrored or not, then cut at a place.

    Attributes:
        rows: int64 [n], the pictures in the data set.
        top, left: int64 [n], the place of the crop in the (mirrored) square.
        mirrored: bool [n].
    """

    rows: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor

    def __getitem__(self, part: slice) -> Views:
        return Views(*(getattr(self, field.name)[part] for field in fields(self)))


def draw_views(rows: Tensor, room: int, how: str, rng: np.random.Generator) -> Views:
    """Draw one view of each picture (section 3).

    Args:
        rows: int64 [n].
        room: Side of the squares less the side of the crop.
        how: `random`: any crop, mirrored or not; `ten`: the corners or the centre, mirrored or not; `centre`.
        rng: Where chance comes from.
    """
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


def cut(squares: Tensor, views: Views, side: int) -> Tensor:
    """Cut the views out of squares: uint8 [n, 3, s, s] to uint8 [n, 3, side, side]."""
    crops = squares.new_empty(len(squares), 3, side, side)
    places = zip(views.top.tolist(), views.left.tolist(), views.mirrored.tolist(), strict=True)
    for crop, square, (top, left, mirrored) in zip(crops, squares, places, strict=True):
        square = square.flip(-1) if mirrored else square
        crop.copy_(square[:, top : top + side, left : left + side])
    return crops


def cut_at_once(squares: Tensor, views: Views, side: int) -> Tensor:
    """Cut the views out of all squares of a data set by one gather, which suits a GPU.

    Args:
        squares: uint8 [N, 3, s, s], on any device; the views' rows count in it.
        views: n of them.
        side: Of a view in pixels.

    Returns:
        uint8 [n, 3, side, side], the same as `cut(squares[views.rows], views, side)`.
    """
    rows, top, left, mirrored = (getattr(views, f.name).to(squares.device) for f in fields(views))
    left = torch.where(mirrored, squares.shape[-1] - side - left, left)
    crops = squares.unfold(2, side, 1).unfold(3, side, 1)[rows, :, top, left]
    return torch.where(mirrored[:, None, None, None], crops.flip(-1), crops)


@dataclass(frozen=True)
class Batch:
    """Pictures of one update, or of a part of it.

    Attributes:
        crops: uint8 [n, 3, side, side].
        views: Where they were cut, which the per-pixel mean needs to know.
        labels: int64 [n].
        first: Number of the first of them in the whole update's batch.
    """

    crops: Tensor
    views: Views
    labels: Tensor
    first: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, parts: int) -> list[Batch]:
        """Return `parts` batches of about equal size."""
        bounds = np.linspace(0, len(self), parts + 1).round().astype(int)
        return [
            Batch(self.crops[a:b], self.views[a:b], self.labels[a:b], self.first + int(a))
            for a, b in pairwise(bounds)
        ]

    def prepared(self, preparation: Preparation, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Subtract the mean, cut and mirrored as the pictures were, and divide by the scale.

        Returns:
            `dtype` [n, 3, side, side] on the device, in channels-last layout.
        """
        side, mean = self.crops.shape[-1], preparation.mean.to(device)
        if mean.shape[-1] > 1:
            both = torch.stack([mean, mean.flip(-1)]).unfold(2, side, 1).unfold(3, side, 1)
            views = (self.views.mirrored.long(), self.views.top, self.views.left)
            mirrored, top, left = (index.to(device) for index in views)
            mean = both[mirrored, :, top, left]
        x = (self.crops.to(device) - mean).div_(preparation.scale.to(device))
        return x.to(dtype, memory_format=torch.channels_last)


def squares_of(data, rows: Sequence[int] | Tensor, preparation: Preparation) -> Tensor:
    """Return the centre squares of some pictures: uint8 [k, 3, short_side, short_side].

    A pack gives them at once (`data.batch`); of another data set each picture is read and resized.
    """
    if hasattr(data, "batch"):
        return data.batch(torch.as_tensor(rows), preparation.short_side)
    return torch.stack([preparation.square(data[int(i)][0]) for i in rows])


def labels_of(data, classes: int) -> Tensor:
    """Return the labels of a data set, int64 [n].

    Raises:
        BatchError: Several labels a picture, or a label outside the network's classes.
    """
    labels = torch.as_tensor(np.asarray(data.labels))
    if labels.ndim != 1:
        raise BatchError(
            f"{data.name} has several labels a picture; a softmax is trained on one: choose another data set"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise BatchError(
            f"{data.name} has labels from {int(labels.min())} to {int(labels.max())}, but the network has "
            f"{classes} classes; build it with classes={int(labels.max()) + 1}"
        )
    return labels.long()


def training_preparation(data, crop: int, exclude: Iterable[int] = ()) -> Preparation:
    """Return the preparation of section 3: squares by the paper's proportion, less their per-pixel mean.

    Args:
        data: The training pictures.
        crop: Side of the network's input.
        exclude: Pictures that are not trained on, and so not in the mean.
    """
    preparation, rows = Preparation.grey(crop), kept_rows(data, exclude)
    if hasattr(data, "mean"):
        return replace(preparation, mean=data.mean(preparation.short_side, rows))
    total = torch.zeros(3, preparation.short_side, preparation.short_side, dtype=torch.float64)
    for part in rows.split(CHUNK):
        total += squares_of(data, part, preparation).double().sum(0)
    return replace(preparation, mean=(total / len(rows)).float())


def kept_rows(data, exclude: Iterable[int]) -> Tensor:
    """Return the pictures that are trained on, in order: int64 [k]."""
    return torch.from_numpy(np.setdiff1d(np.arange(len(data)), np.array(list(exclude), dtype=np.int64)))


def squares_on_gpu(data, preparation: Preparation, device: torch.device) -> Tensor | None:
    """Return all squares of a pack on a GPU; None of other data, or where they would take half of what is free."""
    side = preparation.short_side
    if not hasattr(data, "batch") or len(data) * 3 * side**2 > torch.cuda.mem_get_info(device)[0] // 2:
        return None
    return torch.cat(
        [squares_of(data, rows, preparation).to(device) for rows in torch.arange(len(data)).split(CHUNK)]
    )


class Batches:
    """The batches of a training.

    Args:
        data: A pack, or any data set of pictures and labels.
        preparation: Of the network: how large its squares and crops are.
        size: Pictures an update, over all processes together.
        views: `random`, `ten` or `centre`.
        seed: Of the order and the views.
        exclude: Pictures that are never drawn.
        rank, world: Which process this is, of how many; each takes its own part of every batch.
        workers: Processes that decode pictures that are not packed.
        device: Of the network; all squares of a pack are kept on a GPU that has room for them.

    Raises:
        BatchError: More pictures a batch than there are, or a batch that the processes cannot share evenly.
        PictureError: A picture that is not packed cannot be read.
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
        self.labels, self.rows = labels_of(data, classes), kept_rows(data, exclude)
        self.rank, self.world, self.workers = rank, world, workers
        self.share, self.first = size // world, rank * size // world
        if size > len(self.rows):
            raise BatchError(
                f"a batch of {size} is impossible: {data.name} has {len(self.rows)} pictures to train on; "
                f"choose a batch of at most that"
            )
        if size % world:
            raise BatchError(
                f"a batch of {size} cannot be shared by {world} processes; choose a multiple of {world} (--batch)"
            )
        self.on_gpu = squares_on_gpu(data, preparation, device) if device and device.type == "cuda" else None

    def __len__(self) -> int:
        """Return the batches of an epoch; the pictures that do not fill one are another time's."""
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
        begins = (b * self.size + self.first for b in range(start, len(self)))
        parts = [plan[a : a + self.share] for a in begins]
        if self.on_gpu is not None:
            crops = (cut_at_once(self.on_gpu, views, side) for views in parts)
        else:
            job = partial(_crops, self.data, self.preparation)
            crops = map(
                torch.from_numpy, in_processes(job, parts, self.workers) if self.workers else _beside(job, parts)
            )
        for views, crop in zip(parts, crops, strict=True):
            yield Batch(crop, views, self.labels[views.rows], self.first)


def _crops(data, preparation: Preparation, views: Views) -> np.ndarray:
    return cut(squares_of(data, views.rows, preparation), views, preparation.crop).numpy()


def _beside(job: Callable[[Views], np.ndarray], parts: list[Views]) -> Iterator[np.ndarray]:
    """Yield job(part) of each part, computed in a thread of its own up to two parts ahead."""
    with threads(1, each=1) as thread:
        yield from ahead(thread, job, parts, 2)
