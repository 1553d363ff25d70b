"""Data sets of picture files: a reader for each layout, and the photographs inside installed packages."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.resources import files as resources
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..architecture import Box
from ..files import files_below, notice, stamp
from ..images import read_picture
from .samples import DataError, Dataset, Sample, check_labels, pixel_hash

FACTS = tomllib.loads((resources(__package__) / "datasets.toml").read_text(encoding="utf-8"))
PHOTOGRAPHS: dict[str, str] = FACTS["photographs"]
VOC_CLASSES = tuple(FACTS["voc"])

# Names count in small letters. Of the folders beside `train` that may validate, the first that is there does.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
VALIDATION = ("val", "valid", "validation", "test")
SPLITS = {"train", "training", *VALIDATION, "testing", "dev", "eval", "evaluation", "holdout"}

BY_HAND = "unpacked by hand"  # the origin of pictures whose archive nobody has verified


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


def _is_picture(file: str) -> bool:
    return file.lower().endswith(EXTENSIONS)


def _is_hidden(file: str) -> bool:
    """Tell whether a file, or a folder on the way to it, is hidden or the system's."""
    return any(part.startswith(".") or part.lower() in SYSTEM for part in file.split("/"))


def class_folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones and links back up are no classes."""
    above = {root.resolve(), *root.resolve().parents}
    found = [path for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name)]
    return sorted(path.name for path in found if path.resolve() not in above)


def scan_classes(root: Path, folders: Sequence[str], names: Sequence[str], whole: bool = True) -> Index:
    """Find the pictures of class folders, in the order of the labels, and say once what is left out.

    Where the split must be `whole`, a class without pictures is an error.
    """
    if not folders:
        raise DataError(f"{root} has no class folders; give each class a folder of pictures in it")

    def pictures(folder: str) -> list[str]:
        return [(Path(folder) / file).as_posix() for file in files_below(root / folder) if _is_picture(file)]

    files, labels, left_out = [], [], []
    if folders != ["."]:  # beside the class folders: loose pictures, and those of hidden folders
        for name in sorted(path.name for path in root.iterdir()):
            loose = _is_picture(name) and (root / name).is_file()
            left_out += [name] if loose else pictures(name) if _is_hidden(name) else []
    add = f"add {', '.join(EXTENSIONS[:3])} files"
    for label, folder in enumerate(folders):
        found = pictures(folder)
        kept = [file for file in found if not _is_hidden(file)]
        if whole and not kept:
            raise DataError(f"the class folder {root / folder} holds no picture; {add} or remove the folder")
        files += kept
        labels += [label] * len(kept)
        left_out += [file for file in found if _is_hidden(file)]
    if not files:
        raise DataError(f"no class folder in {root} holds a picture; {add}")
    if left_out:
        notice(
            f"pictures in {root} that are hidden, the system's or in no class folder are left out: "
            f"{len(left_out)}, such as {left_out[0]}"
        )
    return Index(tuple(names), tuple(files), np.array(labels, np.int64))


def divided(index: Index, split: str) -> Index:
    """Return the "train" or "val" part, or "all": a tenth of each class, drawn with a fixed seed, validates."""
    if split == "all":
        return index
    counts = np.bincount(index.labels, minlength=len(index.classes))
    if alone := [index.classes[label] for label in np.flatnonzero(counts == 1)]:
        notice(f"classes of one picture, which validates and is not learnt from: {', '.join(alone)}")
    rng, chosen = np.random.default_rng(0), np.zeros(len(index.labels), bool)
    for label, count in enumerate(counts.tolist()):
        members = rng.permutation(np.flatnonzero(index.labels == label))
        chosen[members[: max(round(0.1 * count), 1)]] = True
    rows = np.flatnonzero(chosen == (split == "val"))
    if not len(rows):
        raise DataError("every class has one picture alone, which validates; give each class two or more")
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
    if strangers := sorted(set(class_folders(root / place)).difference(folders)):
        raise DataError(f"{root / place} has classes that {root}/train lacks: {', '.join(strangers)}")
    found = scan_classes(root / place, folders, names(folders), whole=place == "train")
    return found._replace(files=tuple(f"{place}/{file}" for file in found.files))


def read_imagenet(root: Path, split: str) -> Index:
    """Read ILSVRC 2012 in torchvision's layout: `train/<wnid>/*.JPEG`, `val/<wnid>/*.JPEG`."""
    from torchvision.models import AlexNet_Weights

    categories = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    return _read_parts(root, split, lambda wnids: categories if len(wnids) == 1000 else wnids)


def read_train_val(root: Path, split: str) -> Index:
    """Read `train/<class>/*`, `val/<class>/*`; a class is called by the word of its WordNet id, if it is one."""
    return _read_parts(root, split, lambda wnids: [FACTS["wordnet"].get(wnid, wnid) for wnid in wnids])


def read_tiny_imagenet(root: Path, split: str) -> Index:
    """Read Tiny-ImageNet: `train/<wnid>/images`, and `val/images` with the boxes of `val_annotations.txt`."""
    words = dict(line.split("\t", 1) for line in (root / "words.txt").read_text().splitlines())
    folders = sorted((root / "wnids.txt").read_text().split())
    names = tuple(words[wnid].split(",")[0] for wnid in folders)
    if split == "train":
        found = scan_classes(root / split, folders, names)
        return found._replace(files=tuple(f"train/{file}" for file in found.files))
    rows = [line.split("\t") for line in (root / "val/val_annotations.txt").read_text().splitlines()]
    corners = [map(float, row[-4:]) for row in rows]
    boxes = tuple(Box(top, left, bottom + 1, right + 1) for left, top, right, bottom in corners)
    labels = {wnid: label for label, wnid in enumerate(folders)}
    files = tuple(f"val/images/{row[0]}" for row in rows)
    return Index(names, files, np.array([labels[row[1]] for row in rows]), boxes)


def read_caltech(root: Path, split: str) -> Index:
    """Read the object classes of Caltech-101 or Caltech-256 (`001.ak47`, …), without background or clutter.

    The split `with-background` has the background as one more class.
    """
    background, scenes = split == "with-background", ("BACKGROUND_Google", "clutter")
    folders = [folder for folder in class_folders(root) if background or not folder.endswith(scenes)]
    names = [folder.lstrip("0123456789.").replace("_", " ").replace("-", " ") for folder in folders]
    return divided(scan_classes(root, folders, names), "all" if background else split)


def read_voc(root: Path, split: str) -> Index:
    """Read PASCAL VOC's classification lists: 1 present, -1 absent, 0 too hard to count."""
    lists = [(root / f"ImageSets/Main/{name}_{split}.txt").read_text().splitlines() for name in VOC_CLASSES]
    columns = [[line.split() for line in lines] for lines in lists]
    labels = np.array([[int(mark) for _, mark in column] for column in columns], np.int8)
    return Index(VOC_CLASSES, tuple(f"JPEGImages/{name}.jpg" for name, _ in columns[-1]), labels.T.copy())


def read_samples(root: Path, split: str) -> Index:
    """Read one picture a class, named `<wnid>_<class>.JPEG`."""
    names = sorted(path.name for path in root.iterdir())
    files = tuple(name for name in names if _is_picture(name) and not _is_hidden(name))
    classes = tuple(Path(file).stem.partition("_")[2].replace("_", " ") for file in files)
    return Index(classes, files, np.arange(len(files)))


SCALES = (1.0, 0.6, 0.36)  # sides of the squares cut from a photograph, as shares of its shorter side
DENSE = 3.0  # density of the crops in which the strongest units are looked for: some 900


def square_grid(height: int, width: int, side: int, density: float) -> list[tuple[int, int]]:
    """Return the corners of squares that cover a photograph evenly, `density` of them a length of their side."""

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
        if not 0 < density < float("inf"):
            raise DataError(f"the density of crops is positive and finite; given {density}")
        self.name, self.split, self.classes = name, split, tuple(PHOTOGRAPHS)
        self.windows = []  # photograph, and top, left and side of the crop in its pixels
        for label, photograph in enumerate(self.photographs):
            height, width = photograph.shape[1:]
            short = min(height, width)
            found = [((height - short) // 2, (width - short) // 2, short)]
            for side in (round(scale * short) for scale in SCALES):
                found += [(*corner, side) for corner in square_grid(height, width, side, density)]
            self.windows += [(label, *window) for window in dict.fromkeys(found)]
        self.labels = np.array([label for label, *_ in self.windows])
        self.names = [f"{self.classes[k]} {side}x{side}+{left}+{top}" for k, top, left, side in self.windows]

    @cached_property
    def photographs(self) -> tuple[Tensor, ...]:
        """The whole photographs, uint8 [3, h, w], from inside installed packages; nothing is downloaded."""
        pictures = []
        for place in PHOTOGRAPHS.values():
            package, _, inside = place.partition("/")
            spec = find_spec(package)
            path = Path(spec.submodule_search_locations[0]) / inside if spec else Path(place)
            if not path.is_file():
                repair = "pip install --force-reinstall zfnet-lib"
                raise DataError(f"the installed {package} lacks {inside}; reinstall it: {repair}")
            pictures.append(read_picture(path))
        return tuple(pictures)

    def sample(self, i: int) -> Sample:
        """Cut crop i."""
        label, top, left, side = self.windows[i]
        picture = self.photographs[label][:, top : top + side, left : left + side].contiguous()
        return Sample(picture, label, name=self.names[i])

    def content(self) -> str:
        """Return the hash of the photographs."""
        return pixel_hash(self.photographs)
