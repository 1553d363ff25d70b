"""What a data set yields: a picture with its label, and the box and mask that move along with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..architecture import Box
from ..files import ZfnetError
from ..images import centre_square, middle, resize_short_side


class DataError(ZfnetError, ValueError):
    """Data that is damaged, or asked for by a name that does not exist."""


class MissingDataError(DataError):
    """A data set or pack that has not been brought or made yet."""


@dataclass(frozen=True)
class Sample:
    """One picture of a data set; it is used like a pair `picture, label`."""

    picture: Tensor  # uint8 [3, h, w]
    label: int | np.ndarray  # the class; of several labels int8 [classes]: 1 present, -1 absent, 0 hard to tell
    box: Box | None = None  # where the object is, if known
    mask: Tensor | None = None  # bool [h, w], which pixels show the object, if known
    name: str = ""  # the file, or the picture's name within its data set

    def __iter__(self) -> Iterator:
        return iter((self.picture, self.label))

    def __getitem__(self, i: int) -> Tensor | int | np.ndarray:
        return (self.picture, self.label)[i]

    def squared(self, side: int) -> Sample:
        """Resize the shorter side to `side` pixels and keep the centre square (section 3)."""
        top, left, h, w = middle(*self.picture.shape[-2:])
        whole = (..., slice(top, top + h), slice(left, left + w))
        picture = resize_short_side(self.picture[whole], side)
        rows, columns = picture.shape[-2:]
        mask, box = self.mask, self.box
        if mask is not None:
            resized = interpolate(mask[whole][None, None].byte(), (rows, columns), mode="nearest")
            mask = centre_square(resized[0, 0].bool(), side)
        if box is not None:  # clipped to the square, and dropped where nothing of it remains
            y, x = ((n - side) // 2 for n in (rows, columns))
            ends = [(end - top) * (rows / h) - y for end in (box.top, box.bottom)]
            sides = [(end - left) * (columns / w) - x for end in (box.left, box.right)]
            box = Box(ends[0], sides[0], ends[1], sides[1]).clipped(side, side)
            box = box if box.bottom > box.top and box.right > box.left else None
        return replace(self, picture=centre_square(picture, side), mask=mask, box=box)


def mask_box(mask: Tensor) -> Box | None:
    """Return the smallest box around the true pixels of a mask [h, w], or None if there are none."""
    rows, columns = (mask.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    return Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if rows else None


def pixel_hash(pictures: Iterable[Tensor]) -> str:
    """Return the SHA-256 of the pixels of uint8 tensors, one after the other."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(picture.numpy().data)
    return digest.hexdigest()


def check_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the labels if they fit the number of classes."""
    several = labels.ndim == 2
    if several and labels.shape[1] != classes:
        raise DataError(
            f"there are labels for {labels.shape[1]} classes and {classes} classes; pack the data again"
        )
    low, high = (-1, 1) if several else (0, classes - 1)
    if labels.size and (labels.min() < low or labels.max() > high):
        raise DataError(f"labels range from {labels.min()} to {labels.max()}; allowed are {low} to {high}")
    return labels


class Dataset(torch.utils.data.Dataset):
    """A map-style data set of `Sample`s; each kind of data gives `sample` and the attributes."""

    name: str  # what it was opened by
    split: str
    classes: tuple[str, ...]  # readable names
    labels: np.ndarray  # int64 [n], or int8 [n, classes] where pictures have several labels
    names: Sequence[str]  # the pictures' names, known without reading them
    origin: str = ""  # which archive it was unpacked from; empty for data that come with the code

    def sample(self, i: int) -> Sample:
        """Read or draw the picture at 0 <= i < len(self)."""
        raise NotImplementedError

    def content(self) -> str:
        """Return what identifies the pixels where names and labels do not."""
        return self.origin

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.name} {self.split} has {len(self)} pictures; there is no number {i}")
        return self.sample(int(i) % len(self))

    def label(self, i: int) -> int | np.ndarray:
        """Return the label of a picture as a `Sample` holds it."""
        return self.labels[i] if self.multilabel else int(self.labels[i])

    @property
    def multilabel(self) -> bool:
        """Whether a picture can have several labels."""
        return self.labels.ndim == 2

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the content index; it goes into records."""
        lines = [self.name, self.split, self.content(), *self.classes]
        lines += [f"{name} {label}" for name, label in zip(self.names, self.labels.tolist(), strict=True)]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:12]


class Pooled(Dataset):
    """The pictures of several splits with the same classes, one after the other."""

    def __init__(self, parts: Sequence[Dataset]):
        self.parts, self.name, self.classes = parts, parts[0].name, parts[0].classes
        self.split = "+".join(part.split for part in parts)
        self.labels = np.concatenate([part.labels for part in parts])
        self.names = [f"{part.split}/{name}" for part in parts for name in part.names]
        self.begins = [0, *accumulate(map(len, parts))]

    def sample(self, i: int) -> Sample:
        """Return picture i, counted through all parts."""
        part = int(np.searchsorted(self.begins, i, side="right")) - 1
        return self.parts[part].sample(i - self.begins[part])

    def batch(self, rows: Tensor, side: int) -> Tensor:
        """Return some squares, enlarged or reduced to `side` pixels: uint8 [k, 3, side, side]."""
        squares = torch.empty(len(rows), 3, side, side, dtype=torch.uint8)
        for part, begin in zip(self.parts, self.begins, strict=False):
            here = (rows >= begin) & (rows < begin + len(part))
            own = rows[here] - begin
            if len(own) and hasattr(part, "batch"):  # a pack
                squares[here] = part.batch(own, side)
            elif len(own):
                squares[here] = torch.stack([part.sample(i).squared(side).picture for i in own.tolist()])
        return squares

    def content(self) -> str:
        """Return what identifies the parts."""
        return " ".join(part.fingerprint for part in self.parts)
