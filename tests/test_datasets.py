"""Samples and how they move, the table, the opener, and a reader for each layout."""

import os
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import class_folders, tiny_imagenet, voc
from pictures import plain

from zfnet_lib.architecture import Box
from zfnet_lib.datasets import (
    DATASETS,
    DataError,
    DatasetEntry,
    MissingDataError,
    Sample,
    dataset_folder,
    folders,
    mask_box,
    open_dataset,
    open_to_look,
)
from zfnet_lib.datasets.table import file_name


@given(st.data(), st.integers(8, 60), st.integers(8, 60), st.integers(4, 40))
def test_squares_are_those_of_section_3_and_box_and_mask_move_along(data, h, w, side):
    left, top = data.draw(st.integers(0, w - 4)), data.draw(st.integers(0, h - 4))
    right, bottom = data.draw(st.integers(left + 3, w)), data.draw(st.integers(top + 3, h))
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    picture = torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(h * w))
    square = Sample(picture, 1, Box(top, left, bottom, right), mask).squared(side)
    assert torch.equal(square.picture, plain(side, side).square(picture)) and square.mask.shape == (side, side)
    if square.box is not None and square.mask.any():
        assert np.allclose(square.box, mask_box(square.mask), atol=1 + max(1, side / min(h, w)))


def test_box_and_mask_follow_into_the_middle_of_a_panorama():
    mask = torch.zeros(4, 400, dtype=torch.bool)
    mask[1:3, 199:201] = True
    square = Sample(255 * mask.byte().expand(3, -1, -1), 0, mask_box(mask), mask).squared(40)
    assert square.box == (10, 10, 30, 30) == mask_box(square.mask)
    assert square.picture[0, 20, 20] > 250 and square.picture[0, 20, 2] < 5


def test_the_table_is_complete():
    for name, entry in DATASETS.items():
        assert entry.name == name and entry.title and entry.licence and entry.source and entry.layout
        assert (entry.reader is None) == (entry.made is not None) == (name == "photos" or name.startswith("shapes"))
        assert all(re.fullmatch("[0-9a-f]{64}", one.sha256) and (one.size or not one.url) for one in entry.archives)
        assert not entry.archives or entry.room > max(archive.size for archive in entry.archives)
        if entry.made:
            data = {split: open_dataset(name, split) for split in entry.splits}
            assert {split: len(pictures) for split, pictures in data.items()} == entry.images
            assert {len(pictures.classes) for pictures in data.values()} == {entry.classes}


def test_a_data_set_is_added_by_one_entry(data, monkeypatch):
    layout, reader = "{train,val}/<class>/*.jpg", "read_train_val"
    entry = DatasetEntry("mine", "Mine", 2, {"train": 4, "val": 4}, "free", "here", layout, reader=reader)
    monkeypatch.setitem(DATASETS, "mine", entry)
    for split in entry.splits:
        class_folders(dataset_folder("mine") / split, ["cats", "dogs"], 2, "{}.jpg")
    assert counted(open_dataset("mine")) == {"cats": 2, "dogs": 2}


@pytest.mark.parametrize(
    ("name", "split", "options", "sentence"),
    [
        ("imagnet", "val", {}, "no data set 'imagnet'; known are imagenet, tiny-imagenet, .*, and folder:PATH"),
        ("photos", "train", {}, "photos has no split 'train'; its splits are val"),
        ("photos", "val", {"density": 0}, "density of crops is positive and finite; given 0"),
        ("photos", "val", {"density": float("inf")}, "density of crops is positive and finite; given inf"),
        ("folder:/no/such", "val", {}, "there is no folder /no/such; give folder:PATH"),
        ("folder:", "val", {}, "there is no data set 'folder:'"),
        ("shapes", "test", {}, "shapes has no split 'test'; its splits are train, val"),
        ("shapes", "val", {"size": 8}, "needs size >= 16, n >= 1 and seed >= 0; given size 8"),
        ("shapes", "val", {"n": 0}, "given size 64, n 0 and seed 0"),
        ("shapes", "val", {"seed": -1}, "given size 64, n 1024 and seed -1"),
        ("shapes", "val", {"colour": 3}, "shapes has no option 'colour'; its options: size, n, seed"),
    ],
)
def test_what_cannot_be_opened(name, split, options, sentence):
    with pytest.raises(DataError, match=sentence):
        open_dataset(name, split, **options)


def test_numbers_beyond_the_last_picture():
    with pytest.raises(IndexError, match="has 4 pictures; there is no number 4"):
        open_dataset("shapes", n=4)[4]


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.reader])
def test_missing_data_names_the_command(data, name):
    with pytest.raises(MissingDataError, match=f"zfnet fetch {name} .*zfnet fetch {name} --from FILE"):
        open_dataset(name, DATASETS[name].splits[0])


def test_tiny_imagenet(data):
    tiny_imagenet(dataset_folder("tiny-imagenet"))
    train, val = (open_dataset("tiny-imagenet", split) for split in ("train", "val"))
    assert train.classes == ("tench", "cat") and train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train[4].name == "train/n02/images/n02_2.JPEG" and train[4].box is None
    assert val.labels.tolist() == [1, 0, 1] and val[2].box == Box(2, 2, 64, 13)
    assert train.fingerprint != val.fingerprint and train.origin == "unpacked by hand"
    (dataset_folder("tiny-imagenet") / "words.txt").unlink()
    with pytest.raises(DataError, match=r"is not laid out as .*words.txt is missing; remove the folder and fetch"):
        open_dataset("tiny-imagenet")


def test_voc_has_several_labels_a_picture(data):
    voc(dataset_folder("voc-2012"), folders.VOC_CLASSES)
    train, val = open_dataset("voc-2012", "train"), open_dataset("voc-2012", "val")
    dog = folders.VOC_CLASSES.index("dog")
    assert train.multilabel and train.labels.shape == (2, 20) and train.labels.dtype == np.int8
    assert train.labels[:, dog].tolist() == [1, -1] and val[0].label[dog] == 0
    assert (np.delete(train.labels, dog, axis=1) == -1).all()
    assert len(open_dataset("voc-2012", "trainval")) == 3


def lay_out(root, layout):
    """Make empty files by their paths; `a -> b` is a link, `a/` an empty folder."""
    for entry in layout.split(", "):
        path, _, target = entry.partition(" -> ")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if target:
            (root / path).symlink_to(target)
        elif path.endswith("/"):
            (root / path).mkdir(parents=True)
        else:
            (root / path).touch()


def counted(data):
    """Return how many pictures each class has, in the order of the labels."""
    return dict(zip(data.classes, np.bincount(data.labels, minlength=len(data.classes)).tolist(), strict=True))


THREE = "train/n01/1.jpg, train/n02/2.jpg, train/n03/3.jpg, val/n02/, val/n03/4.jpg"  # val lacks two classes
CALTECH = "BACKGROUND_Google/1.jpg, ant/2.jpg, Faces_easy/3.jpg, Faces_easy/4.jpg"


@pytest.mark.parametrize(
    ("name", "split", "layout", "expected"),
    [
        ("imagenet", "train", THREE, {"n01": 1, "n02": 1, "n03": 1}),
        ("imagenet", "val", THREE, {"n01": 0, "n02": 0, "n03": 1}),
        ("mini-imagenet-novel", "val", THREE, {"n01": 0, "n02": 0, "n03": 1}),
        ("mini-imagenet-novel", "val", "val/n02110341/1.jpg, val/n02108089/2.jpg", {"boxer": 1, "dalmatian": 1}),
        ("imagenet-samples", "val", "n02_red_bay_owl.JPEG, n01_tench.JPEG", {"tench": 1, "red bay owl": 1}),
        ("caltech-101", "all", CALTECH, {"Faces easy": 2, "ant": 1}),
        ("caltech-101", "with-background", CALTECH, {"BACKGROUND Google": 1, "Faces easy": 2, "ant": 1}),
        ("caltech-256", "all", "001.ak47/1.jpg, 010.beer-mug/2.jpg, 257.clutter/3.jpg", {"ak47": 1, "beer mug": 1}),
    ],
)
def test_layouts_of_fetched_data_sets(data, name, split, layout, expected):
    lay_out(dataset_folder(name), layout)
    assert counted(open_dataset(name, split)) == expected


FOLDERS = {
    "classes": ("cats/1.jpg, cats/2.PNG, dogs/1.webp, dogs/notes.txt", {"cats": 2, "dogs": 1}, ""),
    "folders in classes": ("cats/persian/1.jpg, cats/2.jpg, dogs/3.jpg", {"cats": 2, "dogs": 1}, ""),
    "no classes": ("1.jpg, 2.jpg, notes.txt", {"pictures": 2}, ""),
    "no classes, hidden": ("1.jpg, ._1.jpg, .cache/3.jpg", {"pictures": 1}, "left out: 2, such as ._1.jpg"),
    "loose pictures": ("cats/1.jpg, 2.jpg", {"cats": 1}, "hidden, the system's or in no class .* 1, such as 2.jpg"),
    "hidden files": ("cats/1.jpg, cats/._1.jpg, cats/.DS_Store", {"cats": 1}, "left out: 1, such as cats/._1.jpg"),
    "a Mac's archive": ("cats/1.jpg, __MACOSX/cats/._1.jpg", {"cats": 1}, "left out: 1, such as __MACOSX/cats/"),
    "a notebook's copies": ("cats/1.jpg, cats/.ipynb_checkpoints/1-checkpoint.jpg", {"cats": 1}, "left out: 1,"),
    "hidden classes": ("cats/1.jpg, .ipynb_checkpoints/1.jpg, .git/", {"cats": 1}, "left out: 1,"),
    "a server's thumbnails": ("cats/1.jpg, cats/@eaDir/1.jpg/S.jpg, @eaDir/2.jpg", {"cats": 1}, "left out: 2,"),
    "files of Windows": ("cats/1.jpg, cats/Thumbs.db, cats/desktop.ini", {"cats": 1}, ""),
    "linked classes": ("cats/1.jpg, dogs -> ../elsewhere, ../elsewhere/2.jpg", {"cats": 1, "dogs": 1}, ""),
    "linked pictures": ("cats/1.jpg -> ../../elsewhere/2.jpg, ../elsewhere/2.jpg", {"cats": 1}, ""),
    "a link to its class": ("cats/1.jpg, cats/again -> ., dogs/2.jpg", {"cats": 1, "dogs": 1}, ""),
    "a link to all classes": ("cats/1.jpg, cats/again -> .., dogs/2.jpg", {"cats": 1, "dogs": 1}, ""),
    "a link in circles": ("a/1.jpg, a/b/up -> .., dogs/b/c/up -> ../.., dogs/2.jpg", {"a": 1, "dogs": 1}, ""),
    "a class that is a circle": ("cats/1.jpg, all -> ., up -> ..", {"cats": 1}, ""),
    "two links to one place": ("cats/a -> ../../here, cats/b -> ../../here, ../here/1.jpg", {"cats": 1}, ""),
    "a class called train": ("bus/1.jpg, train/2.jpg", {"bus": 1, "train": 1}, ""),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_layouts_of_undivided_folders(tmp_path, case):
    layout, expected, sentence = FOLDERS[case]
    lay_out(tmp_path / "pictures", layout)
    with warnings.catch_warnings(record=True) as said:
        assert counted(open_dataset(f"folder:{tmp_path}/pictures", "all")) == expected
    assert [bool(re.search(sentence, str(warning.message))) for warning in said] == [True] * bool(sentence)


DIVISIONS = {
    name: (f"train/a/1.jpg, train/b/2.jpg, {name}/a/3.jpg, {name}/b/4.jpg", {"a": 1, "b": 1})
    for name in ("val", "valid", "validation", "test")
} | {
    "val before test": ("train/a/1.jpg, train/b/2.jpg, test/a/3.jpg, test/a/4.jpg, val/b/5.jpg", {"a": 0, "b": 1}),
    "a class is missing": ("train/a/1.jpg, train/b/2.jpg, val/b/3.jpg", {"a": 0, "b": 1}),
    "a class is empty": ("train/a/1.jpg, train/b/2.jpg, val/a/, val/b/3.jpg", {"a": 0, "b": 1}),
    "hidden ones": ("train/a/1.jpg, train/b/2.jpg, val/b/3.jpg, val/__MACOSX/, val/.a/, .git/", {"a": 0, "b": 1}),
}


@pytest.mark.parametrize("case", DIVISIONS)
def test_layouts_of_divided_folders_have_the_classes_of_the_training_folder(tmp_path, case):
    (layout, expected), name = DIVISIONS[case], f"folder:{tmp_path}"
    lay_out(tmp_path, layout)
    assert counted(open_dataset(name, "train")) == {"a": 1, "b": 1}
    assert counted(open_dataset(name, "val")) == counted(open_to_look(name)) == expected
    with pytest.raises(DataError, match="has no split 'all'; its splits are train, val"):
        open_dataset(name, "all")


REFUSED = {
    "nothing": ("notes.txt", "has no class folders; give each class a folder of pictures"),
    "an empty class": ("cats/1.jpg, dogs/", "class folder .*dogs holds no picture; add .jpg, .jpeg, .png files or"),
    "only hidden pictures": ("cats/1.jpg, dogs/._2.jpg", "the class folder .*dogs holds no picture"),
    "train alone": ("train/a/1.jpg, train/b/2.jpg", "has train where class .*, or give one .*, folder:.*/train"),
    "train alone, no classes": ("train/1.jpg, train/2.jpg", "has train where class folders are expected"),
    "train and others": ("train/cats/1.jpg, images/2.jpg", "has train where class folders are expected"),
    "train and testing": ("train/1.jpg, testing/2.jpg", "has testing, train where .* division train and val"),
    "capitals": ("Train/cats/1.jpg, Val/cats/2.jpg", "has Train, Val where class folders are expected"),
    "no train": ("test/cats/1.jpg, valid/cats/2.jpg", "has test, valid where class folders are expected"),
    "strangers": ("train/cats/1.jpg, val/cats/2.jpg, val/snakes/3.jpg", "has classes that .*train lacks: snakes"),
    "no pictures to validate": ("train/cats/1.jpg, val/2.jpg", "no class folder in .*val holds a picture"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_layouts_that_are_refused(tmp_path, case):
    layout, sentence = REFUSED[case]
    lay_out(tmp_path, layout)
    with pytest.raises(DataError, match=sentence):
        open_to_look(f"folder:{tmp_path}")


def test_a_folder_is_divided_and_classes_of_one_picture_are_named(tmp_path):
    lay_out(tmp_path, ", ".join([f"cats/{i}.jpg, dogs/{i}.jpg" for i in range(10)]))
    name = f"folder:{tmp_path}"
    assert [len(open_dataset(name, split)) for split in ("train", "val")] == [18, 2]
    assert len(open_to_look(name)) == 20
    lay_out(tmp_path, "dodos/1.jpg")
    with pytest.warns(UserWarning, match="classes of one picture, which validates and is not learnt from: dodos$"):
        assert counted(open_dataset(name, "train")) == {"cats": 9, "dodos": 0, "dogs": 9}
    lay_out(tmp_path / "alone", "cats/1.jpg, dogs/1.jpg")
    with pytest.raises(DataError, match="every class has one picture alone, which validates; give each class two"):
        open_dataset(f"{name}/alone", "train")


def test_names_need_not_be_utf_8(tmp_path):
    lay_out(tmp_path, os.fsdecode(b"caf\xe9/th\xe9/1.jpg"))
    name = os.fsdecode(b"folder:%s/caf\xe9" % bytes(tmp_path))
    assert counted(open_dataset(name, "all")) == {os.fsdecode(b"th\xe9"): 1}
    assert len(open_dataset(name, "all").fingerprint) == 12 and file_name(name).startswith("folder-caf")


@pytest.mark.filterwarnings("ignore:classes of one picture")
@given(st.lists(st.integers(0, 4), min_size=10, max_size=80))
def test_the_division_keeps_every_picture_once(labels):
    labels = np.array(sorted(labels))
    index = folders.Index(tuple("abcde"), tuple(map(str, range(len(labels)))), labels)
    train, val = folders.divided(index, "train"), folders.divided(index, "val")
    assert sorted(train.files + val.files) == sorted(index.files)
    for label in np.unique(labels):
        share, n = (val.labels == label).sum(), (labels == label).sum()
        assert 1 <= share <= max(1, round(0.1 * n))


def test_photos_are_cut_from_the_wheels(monkeypatch):
    photos = open_dataset("photos")
    assert photos.classes == tuple(folders.PHOTOGRAPHS) and sorted(set(photos.labels)) == list(range(14))
    for i in (0, 20, len(photos) - 1):
        photograph, top, left, side = photos.windows[i]
        window = photos.photographs[photograph][:, top : top + side, left : left + side]
        assert photos[i].name.endswith(f" {side}x{side}+{left}+{top}") and torch.equal(photos[i].picture, window)
    assert len(set(photos.windows)) == len(photos) and len(open_dataset("photos", density=4)) > 1500
    monkeypatch.setitem(folders.PHOTOGRAPHS, "moon", "skimage/data/none.png")
    with pytest.raises(DataError, match=r"the installed skimage lacks data/none\.png; reinstall it"):
        open_dataset("photos")


@given(st.integers(40, 200), st.integers(40, 200), st.integers(10, 40), st.floats(0.5, 4))
def test_the_grid_of_crops_covers_the_photograph(height, width, side, density):
    corners = folders.square_grid(height, width, side, density)
    assert len(set(corners)) == len(corners)
    for axis, length in enumerate((height, width)):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] >= 0 and starts[-1] + side <= length
        assert starts[0] == length - side - starts[-1] or len(starts) == 1
        assert (np.diff(starts) <= 1.5 * side / density + 1).all()
