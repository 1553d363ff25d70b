"""Data sets of picture files: one reader for each layout, and the data set that they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..images import read_picture
from .samples import Box, DataError, Dataset, Sample, check_labels
from .synsets import SYNSETS

VAL_SHARE = 0.1
"""Share of each class that validates where a data set has no split of its own."""

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


@dataclass(frozen=True)
class Index:
    """What a reader finds: class names, files relative to the folder, labels, and boxes where they are known."""

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray
    boxes: tuple[Box, ...] | None = None

    def part(self, rows: np.ndarray) -> Index:
        """Return the index of some pictures."""
        boxes = None if self.boxes is None else tuple(self.boxes[row] for row in rows)
        return Index(self.classes, tuple(self.files[row] for row in rows), self.labels[rows], boxes)


Reader = Callable[[Path, str], Index]
"""Reads the index of a split from a data set's folder."""


class PictureFiles(Dataset):
    """A data set of picture files.

    Args:
        name: What it is opened by.
        split: Which part of it.
        root: The folder that the index's files lie in.
        index: Files, labels, classes.
        origin: Which archive they were unpacked from.
    """

    def __init__(self, name: str, split: str, root: Path, index: Index, origin: str = ""):
        self.name, self.split, self.root, self.index, self.origin = name, split, root, index, origin
        self.names, self.classes, self.labels = (
            index.files,
            index.classes,
            check_labels(index.labels, len(index.classes)),
        )

    def sample(self, i: int) -> Sample:
        """Read picture i.

        Raises:
            PictureError: The file is damaged.
        """
        label = self.labels[i] if self.multilabel else int(self.labels[i])
        box = None if self.index.boxes is None else self.index.boxes[i]
        return Sample(read_picture(self.root / self.names[i]), label, box, name=self.names[i])


def scan_classes(root: Path, folders: Sequence[str], names: Sequence[str]) -> Index:
    """Find the pictures of class folders.

    Args:
        root: The folder that holds the class folders.
        folders: Class folders in the order of the labels.
        names: A readable name for each.

    Raises:
        DataError: A class folder is missing or holds no picture.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if not folders:
        raise DataError(f"{root} has no class folders; give each class a folder of pictures in it")
    for folder in folders:
        if not (root / folder).is_dir():
            raise DataError(f"{root} lacks the class folder {folder}; unpack the data again")
    positions = {folder: label for label, folder in enumerate(folders)}
    found = make_dataset(root, positions, IMG_EXTENSIONS, allow_empty=True)
    labels = np.array([label for _, label in found], np.int64)
    empty = sorted(set(range(len(folders))) - set(labels.tolist()))
    if empty:
        raise DataError(
            f"the class folder {root / folders[empty[0]]} holds no picture; "
            f"add {', '.join(IMG_EXTENSIONS[:3])} files or remove the folder"
        )
    return Index(tuple(names), tuple(Path(path).relative_to(root).as_posix() for path, _ in found), labels)


def _is_picture(path: Path) -> bool:
    from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension

    return has_file_allowed_extension(path.name, IMG_EXTENSIONS)


def class_folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def divided(index: Index, split: str) -> Index:
    """Return the "train" or "val" part, or "all", of a data set that has no split of its own.

    A tenth of each class validates, one picture at least, drawn with a fixed seed.

    Example:
        >>> index = Index(("a",), tuple(f"{i}.png" for i in range(20)), np.zeros(20, int))
        >>> len(divided(index, "train").files), len(divided(index, "val").files)
        (18, 2)
    """
    if split == "all":
        return index
    rng = np.random.default_rng(0)
    chosen = np.zeros(len(index.labels), bool)
    for label in range(len(index.classes)):
        members = rng.permutation(np.flatnonzero(index.labels == label))
        chosen[members[: max(round(VAL_SHARE * len(members)), 1)]] = True
    return index.part(np.flatnonzero(chosen if split == "val" else ~chosen))


def read_folder(root: Path, split: str) -> Index:
    """Read a user's own pictures: `train/<class>` and `val/<class>` where they exist, else `<class>`, divided.

    Pictures that lie in no class folder are of one class, named after the folder.
    """
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        folders = class_folders(root)
        loose = not folders and any(map(_is_picture, root.iterdir()))
        return divided(scan_classes(root, ["."] if loose else folders, [root.name] if loose else folders), split)
    folders = class_folders(root / "train")
    strangers = set(class_folders(root / "val")) - set(folders)
    if strangers:
        raise DataError(f"{root}/val has classes that {root}/train lacks: {', '.join(sorted(strangers))}")
    if split == "all":
        raise DataError(f"{root} has its own split; open train or val")
    return _beneath(split, scan_classes(root / split, folders, folders))


def _beneath(folder: str, index: Index) -> Index:
    return Index(index.classes, tuple(f"{folder}/{file}" for file in index.files), index.labels)


def read_imagenet(root: Path, split: str) -> Index:
    """Read ILSVRC 2012 in torchvision's layout: `train/<wnid>/*.JPEG`, `val/<wnid>/*.JPEG`."""
    from torchvision.models import AlexNet_Weights

    folders = class_folders(root / split)
    categories = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    return _beneath(split, scan_classes(root / split, folders, categories if len(folders) == 1000 else folders))


def read_mini_imagenet(root: Path, split: str) -> Index:
    """Read `train/<wnid>/*.jpg`, `val/<wnid>/*.jpg`."""
    folders = class_folders(root / split)
    return _beneath(split, scan_classes(root / split, folders, [SYNSETS.get(wnid, wnid) for wnid in folders]))


def read_tiny_imagenet(root: Path, split: str) -> Index:
    """Read Tiny-ImageNet: `train/<wnid>/images`, and `val/images` with the boxes of `val_annotations.txt`."""
    words = dict(line.split("\t", 1) for line in (root / "words.txt").read_text().splitlines())
    folders = sorted((root / "wnids.txt").read_text().split())
    names = tuple(words[wnid].split(",")[0] for wnid in folders)
    if split == "train":
        return _beneath(split, scan_classes(root / split, folders, names))
    labels = {wnid: label for label, wnid in enumerate(folders)}
    rows = [line.split("\t") for line in (root / "val/val_annotations.txt").read_text().splitlines()]
    boxes = tuple(
        (float(left), float(top), float(right) + 1, float(bottom) + 1) for *_, left, top, right, bottom in rows
    )
    return Index(
        names, tuple(f"val/images/{row[0]}" for row in rows), np.array([labels[row[1]] for row in rows]), boxes
    )


def read_caltech_101(root: Path, split: str) -> Index:
    """Read the 101 object classes of Caltech-101; the split `with-background` has the background as one more."""
    background = split == "with-background"
    folders = [folder for folder in class_folders(root) if background or folder != "BACKGROUND_Google"]
    index = scan_classes(root, folders, [folder.replace("_", " ") for folder in folders])
    return index if background else divided(index, split)


def read_caltech_256(root: Path, split: str) -> Index:
    """Read the 256 object classes of Caltech-256 (`001.ak47`, …); the clutter is left out."""
    folders = [folder for folder in class_folders(root) if not folder.endswith("clutter")]
    return divided(scan_classes(root, folders, [folder[4:].replace("-", " ") for folder in folders]), split)


def read_voc(root: Path, split: str) -> Index:
    """Read PASCAL VOC's classification lists: 1 present, -1 absent, 0 too hard to count."""
    columns, files = [], ()
    for name in VOC_CLASSES:
        rows = [line.split() for line in (root / f"ImageSets/Main/{name}_{split}.txt").read_text().splitlines()]
        files = tuple(f"JPEGImages/{row[0]}.jpg" for row in rows)
        columns.append([int(row[1]) for row in rows])
    return Index(VOC_CLASSES, files, np.array(columns, np.int8).T.copy())


def read_samples(root: Path, split: str) -> Index:
    """Read one picture a class, named `<wnid>_<class>.JPEG`."""
    files = sorted(path.name for path in root.iterdir() if _is_picture(path))
    names = tuple(Path(file).stem.partition("_")[2].replace("_", " ") for file in files)
    return Index(names, tuple(files), np.arange(len(files)))
