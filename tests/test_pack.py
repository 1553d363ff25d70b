"""Packs: the pixels, what moves along, interruption, and damage."""

import json
import os

import numpy as np
import pytest
import torch
from layouts import class_folders, tiny_imagenet, voc, write_picture

from zfnet_lib import datasets
from zfnet_lib.datasets import DataError, dataset_folder, folders, open_dataset, pack_in_memory
from zfnet_lib.datasets import pack as packing
from zfnet_lib.images import centre_square, read_picture, resize_short_side


def packed(name, split="train", side=16, workers=0):
    return datasets.pack_dataset(name, split, side, workers=workers, progress=False)


@pytest.fixture
def folder(data, tmp_path, monkeypatch):
    """Forty pictures of two classes, and chunks of four."""
    monkeypatch.setattr(packing, "CHUNK", 4)
    class_folders(tmp_path / "pictures/train", ["cats", "dogs"], 20)
    class_folders(tmp_path / "pictures/val", ["cats", "dogs"], 1)
    return f"folder:{tmp_path}/pictures"


def test_pixels_labels_and_names(folder):
    pack, data = packed(folder), open_dataset(folder, "train")
    assert pack.pictures.shape == (40, 3, 16, 16) and pack.pictures.dtype == torch.uint8
    assert pack.labels.tolist() == data.labels.tolist() and pack.classes == ("cats", "dogs")
    for i in (0, 13, 39):
        literal = centre_square(resize_short_side(read_picture(data.root / data.index.files[i]), 16), 16)
        assert torch.equal(pack[i].picture, literal) and pack[i].name == data.index.files[i]
    assert torch.equal(packed(folder).pictures, pack.pictures)
    before = torch.get_rng_state()
    again = pack_in_memory(data, 16, workers=2)
    assert torch.equal(again.pictures, pack.pictures) and again.fingerprint == pack.fingerprint
    assert torch.equal(torch.get_rng_state(), before)


def test_boxes_and_several_labels_move_along(data):
    tiny_imagenet(dataset_folder("tiny-imagenet"))
    pack = packed("tiny-imagenet", "val", 32)
    assert pack[2].box == (1, 1, 32, 6.5) and pack[0].label == 1
    assert packed("tiny-imagenet", "train", 32)[0].box is None
    assert packed("tiny-imagenet", "val", None).side == 64
    voc(dataset_folder("voc-2012"), folders.VOC_CLASSES)
    several = packed("voc-2012", "trainval")
    assert several.multilabel and np.array_equal(several.labels, open_dataset("voc-2012", "trainval").labels)


def test_mean_and_batches_against_float64(folder):
    pack = packed(folder)
    every = torch.stack([resize_short_side(square, 24) for square in pack.pictures])
    assert torch.equal(pack.batch([3, 3, 20], 24), every[[3, 3, 20]])
    assert torch.equal(pack.batch(torch.tensor([5])), pack.pictures[5:6])
    assert torch.allclose(pack.mean().double(), pack.pictures.double().mean(0), atol=1e-5)
    rows = [1, 4, 30]
    assert torch.allclose(pack.mean(24, rows).double(), every[rows].double().mean(0), atol=1e-5)


def interrupt_after(chunks, monkeypatch, error):
    decoded, calls = packing._decoded, []

    def sometimes(dataset, side, rows):
        calls.append(rows.start)
        if len(calls) > chunks:
            raise error
        return decoded(dataset, side, rows)

    monkeypatch.setattr(packing, "_decoded", sometimes)
    return calls


@pytest.mark.parametrize(("chunks", "lost"), [(0, False), (7, False), (7, True)])
def test_packing_continues_where_it_stopped(folder, data, monkeypatch, chunks, lost):
    whole = pack_in_memory(open_dataset(folder, "train"), 16)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(chunks, patch, KeyboardInterrupt)
        packed(folder)
    (draft,) = (data / "packs").iterdir()
    with (draft / "pictures.bin").open("ab") as file:
        file.write(b"half a chunk")
    if lost:  # of what is noted
        os.truncate(draft / "pictures.bin", 100)
    with (draft / "chunks.jsonl").open("a") as file:
        file.write('{"rows": [12, 1')
    with monkeypatch.context() as patch:
        calls = interrupt_after(99, patch, KeyboardInterrupt)
        pack = packed(folder)
    assert (calls[0], len(calls)) == ((0, 10) if lost else (4 * chunks, 10 - chunks))
    assert torch.equal(pack.pictures, whole.pictures) and pack.index == whole.index
    (made,) = (data / "packs").iterdir()
    assert sorted(entry.name for entry in made.iterdir()) == ["SHA256SUMS", "index.json", "pictures.bin"]


def test_a_pack_of_an_earlier_archive_is_refused(data):
    class_folders(dataset_folder("caltech-101"), ["ant", "bee"], 2)
    for archive in ("small", "official"):
        (data / "caltech-101/origin.json").write_text(json.dumps({"archive": archive}))
        assert packed("caltech-101", "all").origin == archive
    (data / "caltech-101/origin.json").write_text('{"archive": "another"}')
    with pytest.raises(DataError, match="was packed from official, and is here from another; run: zfnet pack cal"):
        datasets.open_pack("caltech-101", "all", 16)


def test_corrupt_pictures_are_named_and_left_out(folder, tmp_path):
    victim = tmp_path / "pictures/train/cats/image_0007.jpg"
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"that cannot be read are left out: 1, train/cats/image_0007.jpg$"):
        pack = packed(folder)
    ((row, reason),) = pack.left_out
    assert row == 6 and "image_0007.jpg cannot be read as a picture" in reason
    assert pack.labels.tolist() == [0] * 19 + [1] * 20 and pack.index["rows"] == [i for i in range(40) if i != 6]
    assert torch.equal(pack[6].picture, open_dataset(folder, "train")[7].squared(16).picture)
    write_picture(victim, 9)  # a changed data set is packed anew
    assert len(packed(folder)) == 40
    for path in (tmp_path / "pictures/val").rglob("*.jpg"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"val has no picture that can be read: .*image_0001.jpg"):
        packed(folder, "val")


def test_a_full_disk(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 10}))
        with pytest.raises(DataError, match=r"packing .* at 16 pixels needs 30.7kB and .* has 10.0B free"):
            packed(folder)
    with monkeypatch.context() as patch:
        interrupt_after(2, patch, OSError(28, "No space left on device"))
        with pytest.raises(DataError, match=r"No space left on device; free space and run zfnet pack folder:.*"):
            packed(folder)
    assert len(packed(folder)) == 40


def test_a_pack_that_is_missing(data):
    sentence = r"shapes train is not packed at 64 pixels .*; run: zfnet pack shapes"
    with pytest.raises(datasets.MissingDataError, match=sentence):
        datasets.open_pack("shapes")
    for side in (-1, 0, 1):
        with pytest.raises(DataError, match=f"the side of a pack is at least 2 pixels; given {side}"):
            datasets.open_pack("shapes", side=side)


def test_truncated_and_damaged_packs_are_refused(folder, data):
    packed(folder).verify()
    sums, index, pictures = sorted((data / "packs").glob("*/*"))
    content, fields = pictures.read_bytes(), json.loads(index.read_text())

    def refused(sentence):
        with pytest.raises(DataError, match=sentence):
            datasets.open_pack(folder, side=16).verify()

    pictures.write_bytes(content[:-5])
    refused("has 30715 bytes instead of 30720; remove its folder and pack again")
    pictures.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    refused(r"the pack of folder.* train is damaged; remove")
    pictures.write_bytes(content)
    sums.unlink()
    index.write_text(json.dumps(fields | {"labels": [9] * 40}))
    refused("labels range from 9 to 9; allowed are 0 to 1")
    for damaged in (json.dumps(fields)[:100], "[]", "{}"):
        index.write_text(damaged)
        refused(r"the pack .* is damaged \(.*\); remove it and pack again")
