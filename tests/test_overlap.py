"""Near-duplicates between two data sets: planted ones are found, others are not."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import encoded
from numpy.lib.stride_tricks import sliding_window_view
from pictures import Pictures
from PIL import Image
from scipy.ndimage import uniform_filter
from torch.nn.functional import interpolate

from zfnet_lib.datasets import DataError, open_dataset, pack_in_memory
from zfnet_lib.datasets.overlap import SCALES, Overlap, aligned_correlation, find_overlap, overlap_path
from zfnet_lib.images import as_picture
from zfnet_lib.paper import setting

CHANGES = {
    "encoded anew": {"quality": 40},
    "smaller": {"side": 40},
    "larger": {"side": 150},
    "cropped": {"crop": (0.06, 0.03, 0.05, 0.07)},
    "mirrored": {"mirrored": True},
    "mirrored, cropped, smaller": {"mirrored": True, "crop": (0.0, 0.08, 0.06, 0.0), "side": 44, "quality": 70},
}


def changed(picture, crop=(0, 0, 0, 0), side=64, mirrored=False, quality=90):
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    left, top, right, bottom = (round(share * 64) for share in crop)
    image = image.crop((left, top, 64 - right, 64 - bottom)).resize((side, side), Image.BICUBIC)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return as_picture(Image.open(io.BytesIO(encoded(image, "JPEG", quality=quality))))


@pytest.fixture(scope="module")
def shapes():
    return open_dataset("shapes", "train", n=130)


@pytest.fixture(scope="module")
def overlap(shapes):
    copies = [changed(shapes[7 * k].picture, **change) for k, change in enumerate(CHANGES.values())]
    strangers = open_dataset("shapes", "val", n=90)
    second = Pictures(copies + [strangers[i].picture for i in range(90)])
    return find_overlap(shapes, second), second


def test_planted_copies_are_found_and_nothing_else(overlap, shapes):
    found, second = overlap
    planted = {
        (f"shapes/train/{7 * k}", f"{k}.png", change.get("mirrored", False))
        for k, change in enumerate(CHANGES.values())
    }
    pack = pack_in_memory(shapes, 64)
    for each in (found, find_overlap(pack, pack_in_memory(second, 64))):
        assert {(pair.first, pair.second, pair.mirrored) for pair in each.pairs} == planted
        assert len(each.pairs) == len(CHANGES) and each.compared == (130, 96)
    assert found.rows_in(shapes).tolist() == found.rows_in(pack).tolist() == [0, 7, 14, 21, 28, 35]
    assert found.rows_in(second).tolist() == [*range(len(CHANGES))]
    with pytest.raises(DataError, match=r"is of shapes train and .*; given shapes val"):
        found.rows_in(open_dataset("shapes", n=3))


def test_report_and_file(overlap, shapes, data):
    found, second = overlap
    lines = found.report().splitlines()
    assert lines[0].startswith("6 of 130 pictures of shapes train are also among the 96 of squares val")
    assert len(lines) == 4 + 6
    path = overlap_path(shapes, second)
    found.save(path)
    assert Overlap.load(path) == found and path.parent == data / "overlap"
    path.write_text("{}")
    with pytest.raises(DataError, match=r"is no overlap \(.*\); make it with: zfnet overlap A B"):
        Overlap.load(path)


def test_correlation_against_every_window_in_float64(shapes):
    def details(picture):  # less the mean of 7 x 7 pixels, taken twice, with mirrored borders
        local = picture = picture.double().numpy()
        for _ in range(2):
            local = uniform_filter(local, (1, 7, 7), mode="mirror")
        return picture - local

    squares = [shapes[i].squared(32).picture for i in range(33)]
    for i, j in ((0, 1), (16, 32)):
        middle = details(squares[j])[:, 4:-4, 4:-4]
        middle = middle - middle.mean((1, 2), keepdims=True)
        whole, best = torch.from_numpy(details(squares[i]))[None], -1
        for side in SCALES:
            scaled = interpolate(whole, (side, side), mode="bilinear", antialias=True)[0].numpy()
            for window in sliding_window_view(scaled, middle.shape).reshape(-1, *middle.shape):
                window = window - window.mean((1, 2), keepdims=True)
                best = max(best, (window * middle).sum() / np.linalg.norm(window) / np.linalg.norm(middle))
        assert aligned_correlation(squares[i][None], squares[j][None]).item() == pytest.approx(best, abs=1e-4)
    assert aligned_correlation(squares[3][None], squares[3][None]).item() == pytest.approx(1, abs=1e-4)


@settings(max_examples=15)
@given(st.integers(0, 129), st.floats(0.6, 1.0), st.integers(0, 40))
def test_contrast_and_brightness_do_not_matter(shapes, i, contrast, brightness):
    picture = shapes[i].squared(32).picture[None]
    other = (picture.float() * contrast * 0.8 + brightness).round().byte()
    assert aligned_correlation(picture, other).item() > 0.97


def test_blank_pictures_match_nothing():
    blank = torch.full((2, 3, 32, 32), 128, dtype=torch.uint8)
    assert aligned_correlation(blank, blank).abs().max() < 1e-3


def test_overlaps_are_counted_beside_what_the_paper_recalls(data):
    rows = {row["second"]: row for row in setting.overlaps("tiny").rows}
    assert rows["caltech-101 all"]["paper"] == "44 (recalled)"
    assert rows["caltech-101 all"]["pairs"] > 0 and rows["voc-2012 trainval"]["paper"] == ""
    assert "imagenet-samples val" not in rows
    found = Overlap("tiny-imagenet train", "caltech-101 all", (9, 7), 0.8, ())
    found.save(data / "overlap" / "tiny-imagenet-train--caltech-101-all.json")
    rows = {row["second"]: row for row in setting.overlaps("tiny").rows}
    assert (rows["caltech-101 all"]["pairs"], rows["caltech-101 all"]["compared"]) == (0, "9 with 7")
    assert len(rows) > 1
    assert setting.overlaps("smoke").rows == []
