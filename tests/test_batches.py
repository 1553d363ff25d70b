"""Batches: what is drawn, how it is cut, and that nothing depends on threads or on where one begins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from layouts import class_folders
from pictures import Squares, texture_classes

from zfnet_lib.batches import BatchError, Batches, cut_views, draw_views, squares_of, training_preparation
from zfnet_lib.datasets import open_dataset, pack_in_memory
from zfnet_lib.images import PictureError, Preparation, ten_views

DATA = texture_classes(50, classes=5)
PREPARATION = training_preparation(DATA, 64)


def batches(data=DATA, **options) -> Batches:
    return Batches(data, PREPARATION, **{"size": 8, "classes": 5} | options)


def same(a, b) -> bool:
    views = all(map(torch.equal, a.views, b.views))
    return views and torch.equal(a.crops, b.crops) and torch.equal(a.labels, b.labels)


def test_the_mean_is_that_of_the_squares_that_are_kept():
    squares = squares_of(DATA, range(40), PREPARATION).double()
    mean = training_preparation(DATA, 64, exclude=range(40, 50)).mean
    assert mean.shape == (3, 73, 73) and torch.allclose(mean.double(), squares.mean(0), atol=1e-4)


def test_a_pack_and_the_data_set_it_was_made_from_give_the_same_batches():
    shapes = open_dataset("shapes", "train", n=24)
    pack = pack_in_memory(shapes, 73)
    preparations = [training_preparation(data, 64) for data in (shapes, pack)]
    assert torch.allclose(preparations[0].mean, preparations[1].mean, atol=1e-4)
    options = {"size": 8, "classes": 16}
    packed = list(Batches(pack, preparations[1], **options).epoch(1))
    for workers in (0, 1):
        read = list(Batches(shapes, preparations[1], workers=workers, **options).epoch(1))
        assert len(read) == len(packed) == 3
        assert all(map(same, read, packed))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_picture_that_is_not_packed_is_named_in_one_sentence(tmp_path, workers):
    class_folders(tmp_path, ["cats", "dogs"], 8)
    (tmp_path / "dogs/image_0003.jpg").write_bytes(b"\xff\xd8 nothing")
    data = open_dataset(f"folder:{tmp_path}", "train")
    read = Batches(data, Preparation.grey(16), size=4, classes=2, workers=workers).epoch(1)
    with pytest.raises(PictureError, match=r"\A.*image_0003.jpg cannot be read as a picture \(.*\Z"):
        list(read)


def test_an_epoch_shows_every_picture_once_and_epochs_and_seeds_differ():
    orders = [batches(seed=seed).plan(epoch).rows for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    for rows in orders:
        assert sorted(rows.tolist()) == list(range(50))
    assert len({tuple(rows.tolist()) for rows in orders}) == 3
    shown = [batch.views.rows for batch in batches().epoch(1)]
    assert torch.equal(torch.cat(shown), orders[0][:48])


def test_processes_share_every_batch_in_order():
    whole = list(batches().epoch(1))
    shares = [list(batches(rank=rank, world=4).epoch(1)) for rank in range(4)]
    for i, batch in enumerate(whole):
        parts = [share[i] for share in shares]
        assert [part.first for part in parts] == [0, 2, 4, 6]
        assert torch.equal(torch.cat([part.crops for part in parts]), batch.crops)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)


@pytest.mark.parametrize("views", ["random", "ten", "centre"])
def test_squares_that_are_kept_on_a_gpu_give_the_same_batches(views):
    there = batches(views=views, seed=2)
    there.on_gpu = squares_of(DATA, range(len(DATA)), PREPARATION)
    ours, others = list(there.epoch(3, 1)), list(batches(views=views, seed=2).epoch(3, 1))
    assert len(ours) == len(others) == 5
    assert all(map(same, ours, others))


def test_prepared_pictures_are_the_crops_of_the_centred_squares():
    """Subtract first, then mirror and cut, picture by picture in float64."""
    preparation = replace(PREPARATION, scale=torch.tensor([[[2.0]], [[3.0]], [[4.0]]]))
    batch = next(Batches(DATA, preparation, size=8, classes=5).epoch(1))
    x = batch.prepared(preparation, torch.device("cpu"), torch.float64)
    centred = squares_of(DATA, batch.views.rows, preparation).double() - preparation.mean.double()
    assert batch.labels.tolist() == DATA.labels[batch.views.rows].tolist()
    for k in range(8):
        square = centred[k].flip(-1) if batch.views.mirrored[k] else centred[k]
        top, left = batch.views.top[k], batch.views.left[k]
        expected = square[:, top : top + 64, left : left + 64] / preparation.scale
        assert torch.allclose(x[k], expected, atol=1e-4)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_random_views_reach_every_place_and_both_sides():
    views = draw_views(torch.arange(4000), 3, "random", np.random.default_rng(0))
    assert len(set(zip(*(each.tolist() for each in views[1:]), strict=True))) == 4 * 4 * 2
    assert abs(views.mirrored.float().mean() - 0.5) < 0.05


def test_the_literal_ten_are_the_ten_views_of_an_evaluation():
    square = torch.randint(0, 256, (1, 3, 73, 73), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = draw_views(torch.zeros(400, dtype=torch.int64), 73 - 64, "ten", np.random.default_rng(0))
    crops = cut_views(square.expand(400, -1, -1, -1), views, 64)
    expected = {view.numpy().tobytes() for view in ten_views(square, 64)[:, 0]}
    assert {crop.numpy().tobytes() for crop in crops} == expected and len(expected) == 10


def test_the_centre_alone_is_the_view_of_an_evaluation():
    batch = next(batches(views="centre").epoch(1))
    x = batch.prepared(PREPARATION, torch.device("cpu"), torch.float32)
    expected = PREPARATION([DATA[int(row)][0] for row in batch.views.rows])
    assert torch.allclose(x, expected, atol=1e-4)


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_parts_are_the_batch_in_order(parts):
    batch = next(batches().epoch(1))
    split = batch.split(parts)
    assert torch.equal(torch.cat([part.crops for part in split]), batch.crops)
    assert [part.first for part in split] == np.cumsum([0, *(len(part.labels) for part in split[:-1])]).tolist()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 51}, "a batch of 51 is impossible: squares has 50 pictures to train on; choose a batch of at .*"),
        ({"size": 41, "exclude": range(10)}, ".* squares has 40 pictures to train on; .*"),
        ({"world": 3}, r"a batch of 8 cannot be shared by 3 processes; choose a multiple of 3 \(--batch\)"),
        ({"classes": 4}, "squares has labels from 0 to 4, but the network has 4 classes; build it with classes=5"),
        ({"data": Squares(DATA.pictures, np.ones((50, 5)))}, "squares has several labels a picture, .*"),
    ],
)
def test_what_cannot_be_drawn_gets_one_sentence(options, sentence):
    with pytest.raises(BatchError, match=f"^{sentence}$"):
        batches(**options)


def test_an_error_in_the_reading_thread_reaches_the_training():
    class Broken(Squares):
        def batch(self, rows, side):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(batches(Broken(DATA.pictures, DATA.labels)).epoch(1))
