"""Samples and how they move, the table, the opener, and a reader for each layout."""

import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import class_folders, tiny_imagenet, voc, write_picture

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
from zfnet_lib.datasets.folders import PHOTOGRAPHS, VOC_CLASSES, Index, divided, square_grid, wheel_path
from zfnet_lib.datasets.samples import check_labels
from zfnet_lib.images import Preparation, read_picture


@st.composite
def samples(draw):
    """A picture whose mask is exactly its box."""
    h, w = draw(st.integers(8, 60)), draw(st.integers(8, 60))
    left, top = draw(st.integers(0, w - 4)), draw(st.integers(0, h - 4))
    right, bottom = draw(st.integers(left + 3, w)), draw(st.integers(top + 3, h))
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    picture = torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(h * w))
    return Sample(picture, 1, Box(top, left, bottom, right), mask)


@given(samples(), st.integers(4, 40))
def test_squares_are_those_of_section_3_and_box_and_mask_move_along(sample, side):
    square = sample.squared(side)
    preparation = Preparation(side, side, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    assert torch.equal(square.picture, preparation.square(sample.picture)) and square.mask.shape == (side, side)
    if square.box is None or not square.mask.any():
        return
    scale = max(1, side / min(sample.picture.shape[-2:]))
    for moved in (square, square.mirrored()):
        assert np.allclose(moved.box, mask_box(moved.mask), atol=1 + scale)


@given(samples(), st.integers(0, 5), st.integers(0, 5))
def test_crops_and_mirrors_move_the_box_exactly(sample, top, left):
    crop, mirrored = sample.cropped(top, left, 3, 3), sample.mirrored()
    assert crop.box == mask_box(crop.mask) and mirrored.box == mask_box(mirrored.mask)
    assert torch.equal(crop.picture, sample.picture[:, top : top + 3, left : left + 3])
    again = mirrored.mirrored()
    assert torch.equal(again.picture, sample.picture) and again.box == sample.box


def test_box_and_mask_follow_into_the_middle_of_a_panorama():
    mask = torch.zeros(4, 400, dtype=torch.bool)
    mask[1:3, 199:201] = True
    square = Sample(255 * mask.byte().expand(3, -1, -1), 0, mask_box(mask), mask).squared(40)
    assert square.box == (10, 10, 30, 30) == mask_box(square.mask)
    assert square.picture[0, 20, 20] > 250 and square.picture[0, 20, 2] < 5


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 3], "labels range from 0 to 3; allowed are 0 to 2"),
        ([[2, -1, 0]], "labels range from -1 to 2; allowed are -1 to 1"),
        ([[0, 0]], "labels for 2 classes and 3 classes"),
    ],
)
def test_labels_have_to_fit_the_classes(labels, sentence):
    with pytest.raises(DataError, match=sentence):
        check_labels(np.array(labels), 3)


def test_the_table_is_complete():
    for name, entry in DATASETS.items():
        assert entry.name == name and entry.title and entry.licence and entry.source and entry.layout
        assert (entry.reader is None) == (entry.made is not None) == (name == "photos" or name.startswith("shapes"))
        assert all(re.fullmatch("[0-9a-f]{64}", archive.sha256) for archive in entry.archives)
        assert not entry.archives or entry.room > max(archive.size for archive in entry.archives)
        if entry.made:
            data = {split: open_dataset(name, split) for split in entry.splits}
            assert {split: len(pictures) for split, pictures in data.items()} == entry.images
            assert {len(pictures.classes) for pictures in data.values()} == {entry.classes}


def test_a_data_set_is_added_by_one_entry(data, monkeypatch):
    layout, reader = "{train,val}/<class>/*.jpg", folders.read_mini_imagenet
    entry = DatasetEntry("mine", "Mine", 2, {"train": 4, "val": 4}, "free", "here", layout, reader=reader)
    monkeypatch.setitem(DATASETS, "mine", entry)
    for split in entry.splits:
        class_folders(dataset_folder("mine") / split, ["cats", "dogs"], 2, "{}.jpg")
    assert counted(open_dataset("mine")) == {"cats": 2, "dogs": 2}


@pytest.mark.parametrize(
    ("name", "split", "sentence"),
    [
        ("imagnet", "val", "no data set 'imagnet'; known are imagenet, tiny-imagenet, .*, and folder:PATH"),
        ("photos", "train", "photos has no split 'train'; its splits are val"),
        ("folder:/no/such", "val", "there is no folder /no/such; give folder:PATH"),
        ("folder:", "val", "there is no data set 'folder:'"),
    ],
)
def test_names_that_do_not_exist(name, split, sentence):
    with pytest.raises(DataError, match=sentence):
        open_dataset(name, split)


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


def test_imagenet_and_its_parts(data):
    for split, n in (("train", 3), ("val", 2)):
        class_folders(dataset_folder("imagenet") / split, ["n01440764", "n01443537"], n, "{}.JPEG")
    train = open_dataset("imagenet", "train")
    assert train.classes == ("n01440764", "n01443537") and train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert open_dataset("imagenet")[3].name == "val/n01443537/2.JPEG"
    class_folders(dataset_folder("mini-imagenet-novel") / "train", ["n02110341", "n02108089"], 2, "{}.jpg")
    assert open_dataset("mini-imagenet-novel", "train").classes == ("boxer", "dalmatian")
    for seed, name in enumerate(["n01484850_great_white_shark", "n01440764_tench"]):
        write_picture(dataset_folder("imagenet-samples") / f"{name}.JPEG", seed)
    samples = open_dataset("imagenet-samples")
    assert samples.classes == ("tench", "great white shark") and samples.labels.tolist() == [0, 1]


def test_caltech_leaves_the_background_out_and_divides_each_class(data):
    class_folders(dataset_folder("caltech-101"), ["BACKGROUND_Google", "ant", "Faces_easy"], 12)
    train, val, whole = (open_dataset("caltech-101", split) for split in ("train", "val", "all"))
    assert whole.classes == ("Faces easy", "ant") and len(whole) == 24
    assert (len(train), val.labels.tolist()) == (22, [0, 1])
    assert not set(train.index.files) & set(val.index.files)
    assert open_dataset("caltech-101", "val").index.files == val.index.files
    background = open_dataset("caltech-101", "with-background")
    assert background.classes[0] == "BACKGROUND Google" and len(background) == len(whole) + 12
    class_folders(dataset_folder("caltech-256"), ["001.ak47", "010.beer-mug", "257.clutter"], 2)
    assert open_dataset("caltech-256", "all").classes == ("ak47", "beer mug")


def test_voc_has_several_labels_a_picture(data):
    voc(dataset_folder("voc-2012"), VOC_CLASSES)
    train, val = open_dataset("voc-2012", "train"), open_dataset("voc-2012", "val")
    dog = VOC_CLASSES.index("dog")
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
    "val": ("train/a/1.jpg, train/b/2.jpg, val/a/3.jpg, val/b/4.jpg", {"a": 1, "b": 1}),
    "valid": ("train/a/1.jpg, train/b/2.jpg, valid/a/3.jpg, valid/b/4.jpg", {"a": 1, "b": 1}),
    "validation": ("train/a/1.jpg, train/b/2.jpg, validation/a/3.jpg, validation/b/4.jpg", {"a": 1, "b": 1}),
    "test": ("train/a/1.jpg, train/b/2.jpg, test/a/3.jpg, test/b/4.jpg", {"a": 1, "b": 1}),
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


@pytest.mark.parametrize("name", ["imagenet", "mini-imagenet-novel"])
def test_a_class_that_val_lacks_changes_no_label(data, name):
    lay_out(dataset_folder(name), "train/n01/1.jpg, train/n02/2.jpg, train/n03/3.jpg, val/n02/, val/n03/4.jpg")
    assert counted(open_dataset(name, "val")) == {"n01": 0, "n02": 0, "n03": 1}


def test_a_folder_is_divided_and_classes_of_one_picture_are_named(tmp_path):
    lay_out(tmp_path, ", ".join([f"cats/{i}.jpg, dogs/{i}.jpg" for i in range(10)]))
    name = f"folder:{tmp_path}"
    assert [len(open_dataset(name, split)) for split in ("train", "val")] == [18, 2]
    assert len(open_to_look(name)) == 20
    lay_out(tmp_path, "dodos/1.jpg")
    with pytest.warns(UserWarning, match="classes of one picture, which validates and is not learnt from: dodos$"):
        assert counted(open_dataset(name, "train")) == {"cats": 9, "dodos": 0, "dogs": 9}


@pytest.mark.filterwarnings("ignore:classes of one picture")
@given(st.lists(st.integers(0, 4), min_size=10, max_size=80))
def test_the_division_keeps_every_picture_once(labels):
    labels = np.array(sorted(labels))
    index = Index(tuple("abcde"), tuple(map(str, range(len(labels)))), labels)
    train, val = divided(index, "train"), divided(index, "val")
    assert sorted(train.files + val.files) == sorted(index.files)
    for label in np.unique(labels):
        share, n = (val.labels == label).sum(), (labels == label).sum()
        assert 1 <= share <= max(1, round(0.1 * n))


def test_photos_are_cut_from_the_wheels():
    photos = open_dataset("photos")
    assert photos.classes == tuple(PHOTOGRAPHS) and sorted(set(photos.labels)) == list(range(14))
    for i in (0, 20, 150, len(photos) - 1):
        sample = photos[i]
        whole = read_picture(wheel_path(list(PHOTOGRAPHS.values())[photos.photograph(i)]))
        side, _, rest = sample.name.split()[1].partition("x")
        _, left, top = map(int, rest.split("+"))
        window = whole[:, top : top + int(side), left : left + int(side)]
        assert sample.picture.shape == (3, int(side), int(side)) and torch.equal(sample.picture, window)
    assert len(set(photos.windows)) == len(photos)
    assert len(open_dataset("photos", density=4)) > 1500
    with pytest.raises(DataError, match="density of crops is positive; given 0"):
        open_dataset("photos", density=0)
    with pytest.raises(DataError, match=r"the installed skimage lacks data/none\.png; reinstall it"):
        wheel_path("skimage/data/none.png")


@given(st.integers(40, 200), st.integers(40, 200), st.integers(10, 40), st.floats(0.5, 4))
def test_the_grid_of_crops_covers_the_photograph(height, width, side, density):
    corners = square_grid(height, width, side, density)
    assert len(set(corners)) == len(corners)
    for axis, length in enumerate((height, width)):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] >= 0 and starts[-1] + side <= length
        assert starts[0] == length - side - starts[-1] or len(starts) == 1
        assert (np.diff(starts) <= 1.5 * side / density + 1).all()
