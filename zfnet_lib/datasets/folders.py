"""Data sets of picture files: a reader for each layout, and the photographs inside installed packages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..architecture import Box
from ..files import files_below, notice, stamp
from ..images import read_picture
from .samples import DataError, Dataset, Sample, check_labels

VAL_SHARE = 0.1
"""Share of each class that validates where a data set has no split of its own."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What names of picture files end with, in small or capital letters."""

SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
"""Folders that operating systems make, in small letters."""

VALIDATION = ("val", "valid", "validation", "test")
"""What the folder beside `train` may be called; of several the first counts."""

SPLITS = {"train", "training", *VALIDATION, "testing", "dev", "eval", "evaluation", "holdout"}
"""Names, in small letters, that say that a folder is a split and no class."""

BY_HAND = "unpacked by hand"
"""The origin of pictures whose archive nobody has verified."""

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


class Index(NamedTuple):
    """What a reader finds: class names, files relative to the folder, labels, and boxes where they are known."""

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray
    boxes: tuple[Box, ...] | None = None


class PictureFiles(Dataset):
    """A data set of picture files in a folder; without an origin they are pictures of one's own."""

    def __init__(self, name: str, split: str, root: Path, index: Index, origin: str = ""):
        self.name, self.split, self.root, self.index, self.origin = name, split, root, index, origin
        self.names, self.classes = index.files, index.classes
        self.labels = check_labels(index.labels, len(index.classes))

    def content(self) -> str:
        """Return which archive was verified; else a hash that differs when a file was replaced."""
        return self.origin if self.origin not in ("", BY_HAND) else stamp(self.root, self.names)

    def sample(self, i: int) -> Sample:
        """Read picture i."""
        box = self.index.boxes and self.index.boxes[i]
        return Sample(read_picture(self.root / self.names[i]), self.label(i), box, name=self.names[i])


def scan_classes(root: Path, folders: Sequence[str], names: Sequence[str], whole: bool = True) -> Index:
    """Find the pictures of class folders, in the order of the labels; say once what is left out.

    Where the split must be `whole`, a class without pictures is an error.
    """
    if not folders:
        raise DataError(f"{root} has no class folders; give each class a folder of pictures in it")

    def pictures(folder: str) -> list[str]:
        within = "" if folder == "." else f"{folder}/"
        return [within + file for file in files_below(root / folder) if _is_picture(file)]

    files, labels, left_out = [], [], []
    if folders != ["."]:  # beside the class folders: loose pictures, and those of hidden folders
        beside = sorted(path.name for path in root.iterdir())
        left_out += [file for name in beside if _is_hidden(name) for file in pictures(name)]
        left_out += [name for name in beside if _is_picture(name) and (root / name).is_file()]
    for label, folder in enumerate(folders):
        if whole and not (root / folder).is_dir():
            raise DataError(f"{root} lacks the class folder {folder}; unpack the data again")
        found = pictures(folder)
        kept = [file for file in found if not _is_hidden(file)]
        if whole and not kept:
            raise DataError(
                f"the class folder {root / folder} holds no picture; "
                f"add {', '.join(EXTENSIONS[:3])} files or remove the folder"
            )
        files += kept
        labels += [label] * len(kept)
        left_out += [file for file in found if _is_hidden(file)]
    if not files:
        raise DataError(f"no class folder in {root} holds a picture; add {', '.join(EXTENSIONS[:3])} files")
    if left_out:
        notice(
            f"pictures in {root} that are hidden, the system's or in no class folder are left out: "
            f"{len(left_out)}, such as {left_out[0]}"
        )
    return Index(tuple(names), tuple(files), np.array(labels, np.int64))


def _is_picture(file: str) -> bool:
    return file.lower().endswith(EXTENSIONS)


def _is_hidden(file: str) -> bool:
    """Tell whether a file, or a folder on the way to it, is hidden or the system's."""
    return any(part.startswith(".") or part.lower() in SYSTEM for part in file.split("/"))


def class_folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones and links back up are no classes."""
    here = root.resolve()
    above = {here, *here.parents}
    return sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and not _is_hidden(path.name) and path.resolve() not in above
    )


def divided(index: Index, split: str) -> Index:
    """Return the "train" or "val" part, or "all", of a data set that has no split of its own.

    A tenth of each class validates, one picture at least, drawn with a fixed seed.
    """
    if split == "all":
        return index
    alone = np.flatnonzero(np.bincount(index.labels, minlength=len(index.classes)) == 1)
    if len(alone):
        named = ", ".join(index.classes[label] for label in alone)
        notice(f"classes of one picture, which validates and is not learnt from: {named}")
    rng = np.random.default_rng(0)
    chosen = np.zeros(len(index.labels), bool)
    for label in range(len(index.classes)):
        members = rng.permutation(np.flatnonzero(index.labels == label))
        chosen[members[: max(round(VAL_SHARE * len(members)), 1)]] = True
    rows = np.flatnonzero(chosen if split == "val" else ~chosen)
    return Index(index.classes, tuple(index.files[row] for row in rows), index.labels[rows])


def held_out(root: Path) -> str:
    """Return the folder beside `train` that validates; nothing where the pictures are not divided yet."""
    folders = class_folders(root)
    found = [name for name in VALIDATION if name in folders]
    if "train" in folders and found:
        return found[0]
    splits = [name for name in folders if name.lower() in SPLITS]
    # one class may be called so, as the trains of PASCAL VOC are
    if splits and (len(splits) > 1 or splits == folders or class_folders(root / splits[0])):
        raise DataError(
            f"{root} has {', '.join(splits)} where class folders are expected; call the folders of a division "
            f"train and val, or give one of them, folder:{root / splits[0]}, to have it divided"
        )
    return ""


def read_folder(root: Path, split: str) -> Index:
    """Read a user's own pictures: `train/<class>` and `val/<class>` where they exist, else `<class>`, divided.

    Pictures that lie in no class folder are of one class, named after the folder.
    """
    if validates := held_out(root):
        return _read_parts(root, split, list, validates)
    folders = names = class_folders(root)
    if not folders and any(_is_picture(path.name) and not _is_hidden(path.name) for path in root.iterdir()):
        folders, names = ["."], [root.resolve().name]
    return divided(scan_classes(root, folders, names), split)


def _read_parts(root: Path, split: str, names: Callable[[list[str]], list[str]], validates: str = "val") -> Index:
    """Read `train/<class>` or `val/<class>`; the training folder says which classes there are, in which order."""
    place = "train" if split == "train" else validates
    folders = class_folders(root / ("train" if (root / "train").is_dir() else place))
    strangers = set(class_folders(root / place)) - set(folders)
    if strangers:
        raise DataError(f"{root / place} has classes that {root}/train lacks: {', '.join(sorted(strangers))}")
    found = scan_classes(root / place, folders, names(folders), whole=place == "train")
    return found._replace(files=tuple(f"{place}/{file}" for file in found.files))


def read_imagenet(root: Path, split: str) -> Index:
    """Read ILSVRC 2012 in torchvision's layout: `train/<wnid>/*.JPEG`, `val/<wnid>/*.JPEG`."""
    from torchvision.models import AlexNet_Weights

    categories = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    return _read_parts(root, split, lambda wnids: categories if len(wnids) == 1000 else wnids)


def read_mini_imagenet(root: Path, split: str) -> Index:
    """Read `train/<wnid>/*.jpg`, `val/<wnid>/*.jpg`."""
    return _read_parts(root, split, lambda wnids: [SYNSETS.get(wnid, wnid) for wnid in wnids])


def read_tiny_imagenet(root: Path, split: str) -> Index:
    """Read Tiny-ImageNet: `train/<wnid>/images`, and `val/images` with the boxes of `val_annotations.txt`."""
    words = dict(line.split("\t", 1) for line in (root / "words.txt").read_text().splitlines())
    folders = sorted((root / "wnids.txt").read_text().split())
    names = tuple(words[wnid].split(",")[0] for wnid in folders)
    if split == "train":
        found = scan_classes(root / split, folders, names)
        return found._replace(files=tuple(f"train/{file}" for file in found.files))
    labels = {wnid: label for label, wnid in enumerate(folders)}
    rows = [line.split("\t") for line in (root / "val/val_annotations.txt").read_text().splitlines()]
    boxes = tuple(
        Box(float(top), float(left), float(bottom) + 1, float(right) + 1) for *_, left, top, right, bottom in rows
    )
    files = tuple(f"val/images/{row[0]}" for row in rows)
    return Index(names, files, np.array([labels[row[1]] for row in rows]), boxes)


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
    names = sorted(path.name for path in root.iterdir())
    files = [name for name in names if _is_picture(name) and not _is_hidden(name)]
    names = tuple(Path(file).stem.partition("_")[2].replace("_", " ") for file in files)
    return Index(names, tuple(files), np.arange(len(files)))


# The photographs inside the scikit-image and scikit-learn wheels, cut into squares.

PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",
    "cat": "skimage/data/chelsea.png",
    "coffee": "skimage/data/coffee.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "rocket": "skimage/data/rocket.jpg",
    "temple": "sklearn/datasets/images/china.jpg",
    "dahlia": "sklearn/datasets/images/flower.jpg",
    "galaxies": "skimage/data/hubble_deep_field.jpg",
    "cameraman": "skimage/data/camera.png",
    "coins": "skimage/data/coins.png",
    "moon": "skimage/data/moon.png",
    "bricks": "skimage/data/brick.png",
    "gravel": "skimage/data/gravel.png",
    "grass": "skimage/data/grass.png",
}
"""Name and place of each photograph, colour first; drawings, print, microscopy and medicine are left out."""

SCALES = (1.0, 0.6, 0.36)
"""Sides of the squares as shares of the photograph's shorter side."""

DENSE = 3.0
"""Density of the crops in which the strongest units are looked for: some 900."""


def wheel_path(place: str) -> Path:
    """Return where a file that lies inside an installed package is; nothing is ever downloaded."""
    package, _, inside = place.partition("/")
    spec = find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / inside if spec else Path(place)
    if not path.is_file():
        raise DataError(
            f"the installed {package} lacks {inside}; reinstall it: pip install --force-reinstall zfnet-lib"
        )
    return path


def square_grid(height: int, width: int, side: int, density: float) -> list[tuple[int, int]]:
    """Return top left corners of squares that cover a photograph evenly, `density` of them a length of their side.

    Example:
        >>> square_grid(100, 200, 100, 1)
        [(0, 0), (0, 100)]
    """

    def starts(length: int) -> list[int]:
        count = 1 + round((length - side) / side * density)
        gap = (length - side) / max(count - 1, 1)
        return [round(gap * k) for k in range(count)] if count > 1 else [(length - side) // 2]

    return [(top, left) for top in starts(height) for left in starts(width)]


class Photos(Dataset):
    """The photographs as squares: of each the centre square, then grids of crops at three scales.

    With a density of 1 the crops overlap little; 4 gives some thousand.
    """

    def __init__(self, name: str = "photos", split: str = "val", *, density: float = 1.0):
        if density <= 0:
            raise DataError(f"the density of crops is positive; given {density}")
        self.name, self.split = name, split
        self.classes = tuple(PHOTOGRAPHS)
        self.windows = []  # photograph, and top, left and side of the crop in its pixels
        for label, photograph in enumerate(self.photographs):
            height, width = photograph.shape[1:]
            short = min(height, width)
            found = [((height - short) // 2, (width - short) // 2, short)]
            for side in (round(scale * short) for scale in SCALES):
                found += [(*corner, side) for corner in square_grid(height, width, side, density)]
            self.windows += [(label, *window) for window in dict.fromkeys(found)]
        self.labels = np.array([label for label, *_ in self.windows])

    @cached_property
    def photographs(self) -> tuple[Tensor, ...]:
        """The whole photographs, uint8 [3, h, w]."""
        return tuple(read_picture(wheel_path(place)) for place in PHOTOGRAPHS.values())

    def photograph(self, i: int) -> int:
        """Return the index of the photograph that crop i was cut from."""
        return self.windows[i][0]

    def sample(self, i: int) -> Sample:
        """Cut crop i."""
        label, top, left, side = self.windows[i]
        picture = self.photographs[label][:, top : top + side, left : left + side].contiguous()
        return Sample(picture, label, name=self.names[i])

    @cached_property
    def names(self) -> list[str]:
        """Photograph and crop: width x height + left + top."""
        return [f"{self.classes[label]} {side}x{side}+{left}+{top}" for label, top, left, side in self.windows]

    def content(self) -> str:
        """Return the hash of the photographs."""
        digest = hashlib.sha256()
        for photograph in self.photographs:
            digest.update(photograph.numpy().data)
        return digest.hexdigest()


# Readable names of the classes of `mini-imagenet-novel`, whose folders carry WordNet numbers.

_NAMES = """
n01532829 house finch; n01558993 robin; n01704323 triceratops; n01749939 green mamba; n01770081
harvestman; n01843383 toucan; n01930112 nematode; n01981276 king crab; n02089867 Walker hound; n02091244
Ibizan hound; n02091831 Saluki; n02101006 Gordon setter; n02105505 komondor; n02108089 boxer; n02108551
Tibetan mastiff; n02108915 French bulldog; n02110063 malamute; n02110341 dalmatian; n02111277
Newfoundland; n02113712 miniature poodle; n02114548 white wolf; n02116738 African hunting dog; n02120079
Arctic fox; n02138441 meerkat; n02174001 rhinoceros beetle; n02219486 ant; n02443484 black-footed
ferret; n02457408 three-toed sloth; n02606052 rock beauty; n02687172 aircraft carrier; n02747177 ashcan;
n02871525 bookshop; n02966193 carousel; n02971356 carton; n02981792 catamaran; n03017168 chime;
n03047690 clog; n03062245 cocktail shaker; n03075370 combination lock; n03127925 crate; n03146219
cuirass; n03207743 dishrag; n03220513 dome; n03272010 electric guitar; n03337140 file; n03347037 fire
screen; n03417042 garbage truck; n03476684 hair slide; n03527444 holster; n03535780 horizontal bar;
n03676483 lipstick; n03773504 missile; n03775546 mixing bowl; n03888605 parallel bars; n03908618 pencil
box; n03924679 photocopier; n03998194 prayer rug; n04243546 slot; n04258138 solar dish; n04296562 stage;
n04389033 tank; n04418357 theater curtain; n04435653 tile roof; n04443257 tobacco shop; n04509417
unicycle; n04515003 upright; n04522168 vase; n04604644 worm fence; n04612504 yawl; n06794110 street
sign; n07584110 consomme; n07613480 trifle; n07697537 hotdog; n13054560 bolete; n13133613 ear
"""

SYNSETS = dict(pair.split(maxsplit=1) for pair in " ".join(_NAMES.split()).split("; "))
"""From a WordNet number to a name."""
