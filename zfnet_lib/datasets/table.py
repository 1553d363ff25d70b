"""The one table of data sets, and what opens them: adding a data set is adding an entry to `DATASETS`."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..files import data_root, expanded
from . import folders
from .folders import BY_HAND, Index, Photos, PictureFiles, held_out, read_folder
from .samples import DataError, Dataset, MissingDataError
from .shapes import FAMILIES, SPLITS, Shapes

GB = 10**9


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
    reader: Callable[[Path, str], Index] | None = None  # of a data set of files: one of `folders`
    made: Callable[..., Dataset] | None = None  # of others: makes it from its name, a split and options
    archives: tuple[Archive, ...] = ()  # the official archive first, then others that are accepted

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that can be opened."""
        return ("train", "val", *self.images) if "all" in self.images else tuple(self.images)


_ENTRIES = (
    DatasetEntry(
        name="imagenet",
        title="ImageNet 2012 (ILSVRC)",
        classes=1000,
        images={"train": 1_281_167, "val": 50_000},
        licence="ImageNet terms: research, non-commercial",
        source="https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
        layout="{train,val}/<wnid>/*.JPEG, as torchvision arranges it",
        room=160 * GB,
        reader=folders.read_imagenet,
    ),
    DatasetEntry(
        name="tiny-imagenet",
        title="Tiny-ImageNet-200",
        classes=200,
        images={"train": 100_000, "val": 10_000},
        licence="ImageNet terms: research, non-commercial",
        source="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        layout="train/<wnid>/images/*.JPEG, val/images/*.JPEG, val/val_annotations.txt",
        side=64,
        folder="tiny-imagenet-200",
        room=GB // 2,
        reader=folders.read_tiny_imagenet,
        archives=(
            Archive(
                "the official zip",
                "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
                url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                size=248_100_043,
            ),
            Archive(
                "the official files without the unlabelled test part",
                "7edfd2542a69bd909ffbf12294ce8b386db85a89a67a72399408aef42e001c59",
            ),
        ),
    ),
    DatasetEntry(
        name="caltech-101",
        title="Caltech-101",
        classes=101,
        images={"all": 8677, "with-background": 9144},
        licence="CC BY 4.0",
        source="https://data.caltech.edu/records/mzrjq-6wc02",
        layout="caltech101/101_ObjectCategories/<class>/image_*.jpg, as torchvision expects",
        folder="caltech101/101_ObjectCategories",
        room=GB // 4,
        reader=folders.read_caltech_101,
        archives=(
            Archive(
                "the official zip",
                "331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
                url="https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                size=137_414_764,
                inner="101_ObjectCategories.tar.gz",
            ),
            Archive(
                "the older official 101_ObjectCategories.tar.gz",
                "af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
                size=131_740_031,
            ),
            Archive(
                "at most 120 images a class, centre squares of at most 200 pixels",
                "94f048f79dbbe090af45f316cf85af864f55f6e06895eaea418df6fa54183ea7",
                images={"all": 6479, "with-background": 6599},
            ),
        ),
    ),
    DatasetEntry(
        name="caltech-256",
        title="Caltech-256",
        classes=256,
        images={"all": 29_780},
        licence="CC BY 4.0",
        source="https://data.caltech.edu/records/nyy15-4j048",
        layout="caltech256/256_ObjectCategories/<number>.<class>/*.jpg, as torchvision expects",
        folder="caltech256/256_ObjectCategories",
        room=3 * GB // 2,
        reader=folders.read_caltech_256,
        archives=(
            Archive(
                "the official 256_ObjectCategories.tar",
                "08ff01b03c65566014ae88eb0490dbe4419fc7ac4de726ee1163e39fd809543e",
                url="https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
                size=1_183_006_720,
            ),
        ),
    ),
    DatasetEntry(
        name="voc-2012",
        title="PASCAL VOC 2012 classification",
        classes=20,
        images={"train": 5717, "val": 5823, "trainval": 11_540},
        licence="Flickr terms: research",
        source="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        layout="VOCdevkit/VOC2012/JPEGImages/*.jpg, ImageSets/Main/<class>_<split>.txt",
        folder="VOCdevkit/VOC2012",
        room=3 * GB,
        reader=folders.read_voc,
        archives=(
            Archive(
                "the official VOCtrainval_11-May-2012.tar",
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                size=1_999_639_040,
            ),
            Archive(
                "3,576 images, mostly animals, of at most 128 pixels, with all 20 labels",
                "2c4d5a4b810aa044978981678f26c30b3ded438415a5453ddad602620e323f12",
                images={"train": 3131, "val": 445, "trainval": 3576},
            ),
        ),
    ),
    DatasetEntry(
        name="mini-imagenet-novel",
        title="mini-ImageNet, the classes that Tiny-ImageNet lacks",
        classes=75,
        images={"train": 4500, "val": 1875},
        licence="ImageNet terms: research, non-commercial",
        source="mini-ImageNet (Vinyals et al., 2016)",
        layout="{train,val}/<wnid>/*.jpg",
        side=84,
        folder="mini-imagenet-novel",
        room=GB // 20,
        reader=folders.read_mini_imagenet,
        archives=(
            Archive(
                "75 classes, 60 training and 25 test images each",
                "2bc72b8ec78c139b3b6b3e1767fd5dc2e53f2d138f90d575652417d69ad29788",
            ),
        ),
    ),
    DatasetEntry(
        name="imagenet-samples",
        title="ImageNet samples, one of every second class",
        classes=500,
        images={"val": 500},
        licence="ImageNet terms: research, non-commercial",
        source="ImageNet",
        layout="<wnid>_<class>.JPEG",
        side=224,
        folder="imagenet-samples",
        room=GB // 50,
        reader=folders.read_samples,
        archives=(
            Archive(
                "centre squares of at most 224 pixels",
                "a9b1518c2a28a2799a51496ac8ddeeb011a4f73d3de7150cbaffc51ec6fa16d7",
            ),
        ),
    ),
    DatasetEntry(
        name="photos",
        title="the photographs inside scikit-image and scikit-learn, as square crops",
        classes=14,
        images={"val": 229},
        licence="public domain, CC0 or CC BY 2.0",
        source="scikit-image, scikit-learn",
        layout="inside the installed packages",
        made=Photos,
    ),
    *(
        DatasetEntry(
            name=name,
            title=title,
            classes=len(FAMILIES[name]),
            images=SPLITS,
            licence="part of this project",
            source="zfnet_lib.datasets.shapes",
            layout="drawn on demand",
            side=64,
            made=Shapes,
        )
        for name, title in (
            ("shapes", "shapes: procedural pictures of 16 kinds of objects"),
            ("shapes-transfer", "shapes: 10 other kinds of objects"),
            ("shapes-scenes", "shapes: scenes of two to four objects"),
        )
    ),
)

DATASETS: dict[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every data set by name; the opener takes `folder:PATH` besides."""


def dataset_entry(name: str) -> DatasetEntry:
    """Return a data set's entry in the table."""
    if name not in DATASETS:
        raise DataError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}, and folder:PATH")
    return DATASETS[name]


def dataset_folder(name: str) -> Path:
    """Return where a fetched data set lies: `<data root>/<name>/…`."""
    return data_root() / name / dataset_entry(name).folder


def splits_of(name: str) -> tuple[str, ...]:
    """Return the splits that a data set, or `folder:PATH`, can be opened by."""
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
    parameters = inspect.signature(entry.made).parameters.values() if entry.made else ()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    if strange := set(options).difference(known):
        named = ", ".join(known) or "none"
        raise DataError(f"{name} has no option {min(strange)!r}; its options: {named}")
    if entry.made:
        return entry.made(name, split, **options)
    root = dataset_folder(name)
    if not root.is_dir():
        raise MissingDataError(
            f"{name} is not at {root}; bring it with: zfnet fetch {name} "
            f"(or, with an archive at hand: zfnet fetch {name} --from FILE)"
        )
    note = data_root() / name / "origin.json"
    origin = json.loads(note.read_text())["archive"] if note.exists() else BY_HAND
    return PictureFiles(name, split, root, read_index(entry, root, split), origin)


def open_to_look(name: str, **options) -> Dataset:
    """Open the pictures that figures and browsers look at: those for validation, of an undivided folder all."""
    whole = _own_folder(name) and "all" in splits_of(name)
    return open_dataset(name, "all" if whole else "val", **options)


def read_index(entry: DatasetEntry, root: Path, split: str) -> Index:
    """Read which pictures a fetched data set holds; what is not laid out as the table says is refused."""
    try:
        return entry.reader(root, split)
    except (FileNotFoundError, NotADirectoryError, KeyError, IndexError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"{error.filename} is missing" if isinstance(error, OSError) else f"bad entry {error}"
        raise DataError(
            f"{root} is not laid out as {entry.layout}: {reason}; remove the folder and fetch {entry.name} again"
        ) from error
