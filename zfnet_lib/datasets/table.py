"""The one table of data sets and what opens them: adding a data set is adding an entry to `datasets.toml`."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..files import data_root, expanded
from . import folders
from .samples import DataError, Dataset, MissingDataError
from .shapes import Shapes


@dataclass(frozen=True)
class Archive:
    """A file that a data set is unpacked from."""

    title: str  # what it is
    sha256: str  # its hash
    images: Mapping[str, int] = field(default_factory=dict)  # pictures a split, where it lacks some
    url: str = ""  # its official address; empty for an archive that has to be at hand
    size: int = 0  # bytes
    inner: str = ""  # an archive inside this one that holds the pictures


@dataclass(frozen=True)
class DatasetEntry:
    """One data set."""

    name: str  # what it is opened by
    title: str  # what it is called in print
    classes: int  # number of classes
    images: Mapping[str, int]  # pictures a split; of "all", without an official split, a tenth validates
    licence: str  # in short
    source: str  # the official page
    layout: str  # where the pictures lie in their folder
    side: int = 256  # side in pixels to pack it at: its own where that is below the paper's 256
    folder: str = ""  # the folder inside its place below the data root
    room: int = 0  # bytes on disk once unpacked
    reader: str | None = None  # of a data set of files: the function of `folders` that finds them
    made: str | None = None  # of others: what makes it from its name, a split and options, one of `MADE`
    archives: tuple[Archive, ...] = ()  # the official archive first, then others that are accepted

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that can be opened."""
        return ("train", "val", *self.images) if "all" in self.images else tuple(self.images)


MADE = {"Photos": folders.Photos, "Shapes": Shapes}
# Every data set by name, as `datasets.toml` describes it; the opener takes `folder:PATH` besides.
DATASETS = {
    name: DatasetEntry(name, **facts | {"archives": tuple(Archive(**one) for one in facts.get("archives", ()))})
    for name, facts in folders.FACTS["datasets"].items()
}


def dataset_entry(name: str) -> DatasetEntry:
    """Return a data set's entry in the table, or one for `folder:PATH`."""
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        root, layout = expanded(path).absolute(), "one folder of pictures a class"
        if not root.is_dir():
            raise DataError(f"there is no folder {root}; give folder:PATH with {layout} in it")
        images = {"train": 0, "val": 0} if folders.held_out(root) else {"all": 0}
        return DatasetEntry(name, root.name, 0, images, "", "", layout, folder=str(root), reader="read_folder")
    if name not in DATASETS:
        raise DataError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}, and folder:PATH")
    return DATASETS[name]


def dataset_folder(name: str) -> Path:
    """Return where a data set lies: a fetched one in `<data root>/<name>/…`."""
    return data_root() / name / dataset_entry(name).folder


def fetched_archive(name: str) -> str:
    """Return which archive a data set was fetched from; nothing where `zfnet fetch` did not bring it."""
    origin = data_root() / name / "origin.json"
    return json.loads(origin.read_text())["archive"] if origin.exists() else ""


def file_name(name: str) -> str:
    """Return what files about a data set are called: of `folder:PATH` a name that tells it from other folders."""
    if not name.startswith("folder:"):
        return name
    root = dataset_folder(name).resolve()
    digest = hashlib.sha256(str(root).encode(errors="surrogateescape"))  # paths need not be UTF-8
    return f"folder-{root.name}-{digest.hexdigest()[:8]}"


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
    entry = dataset_entry(name)
    if split not in entry.splits:
        raise DataError(f"{name} has no split {split!r}; its splits are {', '.join(entry.splits)}")
    made = MADE.get(entry.made)
    known = inspect.getfullargspec(made).kwonlyargs if made else []
    if strange := set(options).difference(known):
        raise DataError(f"{name} has no option {min(strange)!r}; its options: {', '.join(known) or 'none'}")
    if made:
        return made(name, split, **options)
    root = dataset_folder(name)
    if not root.is_dir():
        raise MissingDataError(
            f"{name} is not at {root}; bring it with: zfnet fetch {name} "
            f"(or, with an archive at hand: zfnet fetch {name} --from FILE)"
        )
    archive = fetched_archive(name) or (folders.BY_HAND if name in DATASETS else "")
    return folders.PictureFiles(name, split, root, read_index(entry, root, split), archive)


def open_to_look(name: str, **options) -> Dataset:
    """Open the pictures that figures and browsers look at: those for validation, of an undivided folder all."""
    whole = name.startswith("folder:") and "all" in dataset_entry(name).splits
    return open_dataset(name, "all" if whole else "val", **options)


def read_index(entry: DatasetEntry, root: Path, split: str) -> folders.Index:
    """Read which pictures a data set holds; a fetched one that is not laid out as the table says is refused."""
    try:
        return getattr(folders, entry.reader)(root, split)
    except DataError:
        raise
    except (FileNotFoundError, NotADirectoryError, KeyError, IndexError, ValueError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, OSError) else f"bad entry {error}"
        raise DataError(
            f"{root} is not laid out as {entry.layout}: {reason}; remove the folder and fetch {entry.name} again"
        ) from error
