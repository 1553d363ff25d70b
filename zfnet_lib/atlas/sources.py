"""Where the units of an atlas were found: whole pictures, the square that the network saw, and what it is of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images import Preparation
from ..mosaics import rows_first
from ..network import ConvNet

SIDE, QUALITY = 320, 75
"""The longer side of a whole picture in pixels, at most, and the quality of its WebP."""

FOLDER = "pictures"
BATCH = 32
"""Pictures that are classified at once."""

Window = tuple[float, float, float, float]
"""Left, top, width and height as shares of a picture's width and height."""


class Sources:
    """The pictures of a data set as wholes: photographs that its squares were cut from, else its own pictures.

    Args:
        dataset: A data set.
        preparation: Cuts out what the network sees.
    """

    def __init__(self, dataset, preparation: Preparation):
        self.dataset = dataset
        self.photographs = hasattr(dataset, "windows")
        self.share = preparation.crop / preparation.short_side

    def write(self, images: Iterable[int], folder: Path) -> dict[str, Any]:
        """Write the wholes of some pictures, small, and return what the manifest says of them.

        Args:
            images: Indices in the data set.
            folder: Of the atlas.
        """
        (folder / FOLDER).mkdir()
        numbers, sources, seen = {}, [], {}
        for image in sorted(images):
            whole = self.dataset.photograph(image) if self.photographs else image
            if whole not in numbers:
                numbers[whole] = len(sources)
                picture = self._picture(whole)
                sources.append({"file": f"{FOLDER}/{whole}.webp", "size": [picture.shape[2], picture.shape[1]]})
                save_small(picture, folder / sources[-1]["file"])
            window = self._window(image, *sources[numbers[whole]]["size"])
            seen[str(image)] = self._named(image) | {
                "source": numbers[whole],
                "window": [round(share, 4) for share in window],
            }
        return {"sources": sources, "seen": seen}

    def _picture(self, whole: int) -> Tensor:
        return self.dataset.photographs[whole] if self.photographs else self.dataset[whole].picture

    def _window(self, image: int, width: int, height: int) -> Window:
        """Return the square that the network saw: the centre of a crop, or of the picture."""
        if self.photographs:
            _, top, left, side = self.dataset.windows[image]
        else:
            side = min(width, height)
            top, left = (height - side) / 2, (width - side) / 2
        seen = side * self.share
        edge = (side - seen) / 2
        return (left + edge) / width, (top + edge) / height, seen / width, seen / height

    def _named(self, image: int) -> dict[str, Any]:
        labels = self.dataset.labels
        several = labels.ndim == 2
        known = np.flatnonzero(labels[image] == 1).tolist() if several else [int(labels[image])]
        return {"name": self.dataset.names[image], "labels": known if len(self.dataset.classes) > 1 else []}


def save_small(picture: Tensor, path: Path) -> None:
    """Write a picture, uint8 [3, h, w], so that its longer side has `SIDE` pixels at most."""
    image = Image.fromarray(rows_first(picture))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.save(path, quality=QUALITY, method=4)


@torch.inference_mode()
def first_answers(net: ConvNet, classes: Sequence[str], dataset, images: Iterable[int]) -> dict[str, Any]:
    """Return what a network takes pictures for: by index, its most probable class and that class's probability.

    Args:
        net: With its classifier, at the size that it takes.
        classes: Their names.
        dataset: A data set.
        images: Indices in it.
    """
    images, answers = sorted(images), {}
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        sure, chosen = net(net.prepare([dataset[i].picture for i in part])).softmax(1).max(1)
        for image, probability, label in zip(part, sure.tolist(), chosen.tolist(), strict=True):
            answers[str(image)] = [classes[label], float(f"{probability:.2g}")]
    return answers
