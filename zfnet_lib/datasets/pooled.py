"""Several splits of a data set as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from .samples import Dataset, Sample


class Pooled(Dataset):
    """The pictures of several splits, one after the other; folds are drawn anew from all of them.

    Args:
        parts: Splits with the same classes.
    """

    def __init__(self, parts: Sequence[Dataset]):
        self.parts, first = parts, parts[0]
        self.name, self.classes = first.name, first.classes
        self.split = "+".join(part.split for part in parts)
        self.labels = np.concatenate([part.labels for part in parts])
        self.names = [f"{part.split}/{name}" for part in parts for name in part.names]
        self.ends = list(accumulate(len(part) for part in parts))

    def sample(self, i: int) -> Sample:
        """Return picture i, counted through all parts."""
        part = int(np.searchsorted(self.ends, i, side="right"))
        return self.parts[part].sample(i - (self.ends[part] - len(self.parts[part])))

    def batch(self, rows: Tensor, side: int) -> Tensor:
        """Return some squares, enlarged or reduced to `side` pixels: uint8 [k, 3, side, side]."""
        squares, begin = torch.empty(len(rows), 3, side, side, dtype=torch.uint8), 0
        for part, end in zip(self.parts, self.ends, strict=True):
            here = (rows >= begin) & (rows < end)
            if here.any():
                squares[here] = _squares(part, rows[here] - begin, side)
            begin = end
        return squares

    def content(self) -> str:
        """Return what identifies the parts."""
        return " ".join(part.fingerprint for part in self.parts)


def _squares(part: Dataset, rows: Tensor, side: int) -> Tensor:
    """Return squares of one split: of a pack at once, of another picture by picture."""
    if hasattr(part, "batch"):
        return part.batch(rows, side)
    return torch.stack([part.sample(int(i)).squared(side).picture for i in rows])
