"""The one opener of data sets."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import data_root, expanded
from .archives import Index, PictureFiles, read_folder
from .photos import Photos
from .samples import DataError, Dataset, MissingDataError
from .shapes import FAMILIES, Shapes
from .table import DATASETS, DatasetEntry

_OPTIONS = {"photos": ("density",), **dict.fromkeys(FAMILIES, ("size", "n", "seed"))}


def dataset_entry(name: str) -> DatasetEntry:
    """Return a data set's entry in the table.

    Raises:
        DataError: There is none of that name.

    Example:
        >>> dataset_entry("tiny-imagenet").images["train"]
        100000
    """
    if name not in DATASETS:
        raise DataError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}, and folder:PATH")
    return DATASETS[name]


def dataset_folder(name: str) -> Path:
    """Return where a fetched data set lies: `<data root>/<name>/…`."""
    return data_root() / name / dataset_entry(name).folder


def open_dataset(name: str, split: str = "val", **options) -> Dataset:
    """Open a data set by its name.

    Args:
        name: A key of `DATASETS`, or `folder:PATH` for pictures of your own in one folder a class.
        split: "train" or "val" as a rule; the entry's `splits` says which there are.
        **options: Of the drawn and cut data sets: `size`, `n`, `seed` of shapes, `density` of photos.

    Returns:
        A map-style data set whose items unpack as a uint8 picture [3, h, w] and a label.

    Raises:
        DataError: An unknown name, split or option.
        MissingDataError: The data set has not been fetched.

    Example:
        >>> shapes = open_dataset("shapes", "train", size=32)
        >>> picture, label = shapes[3]
        >>> tuple(picture.shape), shapes.classes[label]
        ((3, 32, 32), 'face')
    """
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        return _open_folder(name, expanded(path), split)
    entry = dataset_entry(name)
    if split not in entry.splits:
        raise DataError(f"{name} has no split {split!r}; its splits are {', '.join(entry.splits)}")
    strange = set(options) - set(_OPTIONS.get(name, ()))
    if strange:
        known = ", ".join(_OPTIONS.get(name, ())) or "none"
        raise DataError(f"{name} has no option {min(strange)!r}; its options: {known}")
    if name in FAMILIES:
        return Shapes(name, split, **options)
    return Photos(split, **options) if name == "photos" else _open_archive(entry, split)


def open_to_look(name: str, **options) -> Dataset:
    """Open the pictures of a data set that figures and browsers look at.

    Those for validation; of a folder of one's own that is not divided, all.

    Args:
        name: As `open_dataset` takes it.
        **options: As `open_dataset` takes them.
    """
    own = name.partition("folder:")[2]
    divided = own and all((expanded(own) / part).is_dir() for part in ("train", "val"))
    return open_dataset(name, "all" if own and not divided else "val", **options)


def _open_archive(entry: DatasetEntry, split: str) -> PictureFiles:
    root = dataset_folder(entry.name)
    if not root.is_dir():
        raise MissingDataError(
            f"{entry.name} is not at {root}; bring it with: zfnet fetch {entry.name} "
            f"(or, with an archive at hand: zfnet fetch {entry.name} --from FILE)"
        )
    note = data_root() / entry.name / "origin.json"
    origin = json.loads(note.read_text())["archive"] if note.exists() else "unpacked by hand"
    return PictureFiles(entry.name, split, root, read_index(entry, root, split), origin)


def read_index(entry: DatasetEntry, root: Path, split: str) -> Index:
    """Read which pictures a fetched data set holds.

    Raises:
        DataError: The folder is not laid out as the table says.
    """
    try:
        return entry.reader(root, split)
    except (FileNotFoundError, NotADirectoryError, KeyError, IndexError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"{error.filename} is missing" if isinstance(error, OSError) else f"bad entry {error}"
        raise DataError(
            f"{root} is not laid out as {entry.layout}: {reason}; remove the folder and fetch {entry.name} again"
        ) from error


def _open_folder(name: str, root: Path, split: str) -> PictureFiles:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give folder:PATH with one folder of pictures a class in it")
    if split not in ("train", "val", "all"):
        raise DataError(f"{name} has no split {split!r}; its splits are train, val, all")
    return PictureFiles(name, split, root, read_folder(root, split))
