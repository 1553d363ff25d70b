"""The one opener of data sets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..files import data_root, expanded
from .folders import BY_HAND, Index, PictureFiles, held_out, read_folder
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


def splits_of(name: str) -> tuple[str, ...]:
    """Return the splits that a data set, or `folder:PATH`, can be opened by.

    Raises:
        DataError: There is none of that name, or no folder at that path.
    """
    root = _own_folder(name)
    if root is None:
        return dataset_entry(name).splits
    return ("train", "val") if held_out(root) else ("train", "val", "all")


def file_name(name: str) -> str:
    """Return what files about a data set are called: of `folder:PATH` a name that tells it from other folders."""
    root = _own_folder(name)
    if root is None:
        return name
    root = root.resolve()
    return f"folder-{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def _own_folder(name: str) -> Path | None:
    """Return the folder that `folder:PATH` names; None for other names."""
    kind, _, path = name.partition(":")
    if kind != "folder" or not path:
        return None
    root = expanded(path)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give folder:PATH with one folder of pictures a class in it")
    return root


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
    splits, root = splits_of(name), _own_folder(name)
    if split not in splits:
        raise DataError(f"{name} has no split {split!r}; its splits are {', '.join(splits)}")
    if root:
        return PictureFiles(name, split, root, read_folder(root, split))
    entry = dataset_entry(name)
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
    whole = _own_folder(name) and "all" in splits_of(name)
    return open_dataset(name, "all" if whole else "val", **options)


def _open_archive(entry: DatasetEntry, split: str) -> PictureFiles:
    root = dataset_folder(entry.name)
    if not root.is_dir():
        raise MissingDataError(
            f"{entry.name} is not at {root}; bring it with: zfnet fetch {entry.name} "
            f"(or, with an archive at hand: zfnet fetch {entry.name} --from FILE)"
        )
    note = data_root() / entry.name / "origin.json"
    origin = json.loads(note.read_text())["archive"] if note.exists() else BY_HAND
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
