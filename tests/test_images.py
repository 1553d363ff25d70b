"""Pictures in, prepared tensors out, by hand-sized cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from zfnet_lib.images import (
    PictureError,
    Preparation,
    as_picture,
    centre_square,
    read_picture,
    resize_short_side,
    ten_views,
)

RED = (250, 10, 20)


def plain(mean: float = 0.0, scale: float = 1.0, short_side: int = 4, crop: int = 2) -> Preparation:
    return Preparation(short_side, crop, torch.full((3, 1, 1), mean), torch.full((3, 1, 1), scale))


def numbered(height: int, width: int) -> Tensor:
    """Return a picture in which every value is different (modulo 256)."""
    return (torch.arange(3 * height * width) % 256).to(torch.uint8).view(3, height, width)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGB", (5, 4), RED), RED),
        (Image.new("RGBA", (5, 4), (*RED, 40)), RED),
        (Image.new("L", (5, 4), 77), (77, 77, 77)),
        (Image.new("LA", (5, 4), (77, 9)), (77, 77, 77)),
        (Image.new("1", (5, 4), 1), (255, 255, 255)),
        (Image.new("RGB", (5, 4), RED).quantize(), RED),
        (np.full((4, 5), 77, dtype=np.uint8), (77, 77, 77)),
        (np.full((4, 5, 3), RED, dtype=np.uint8), RED),
        (np.full((4, 5, 4), (*RED, 0), dtype=np.uint8), RED),
        (torch.tensor(RED, dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 5), RED),
    ],
    ids=["RGB", "RGBA", "L", "LA", "1", "P", "grey array", "array", "array with alpha", "tensor"],
)
def test_every_kind_of_picture_becomes_red_green_and_blue(image, colour):
    expected = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 5)
    assert torch.equal(as_picture(image), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 4, 5),
        torch.zeros(1, 4, 5, dtype=torch.uint8),
        torch.zeros(4, 5, dtype=torch.uint8),
        np.zeros((4, 5)),
        np.zeros((4, 5, 2), dtype=np.uint8),
        np.zeros(4, dtype=np.uint8),
    ],
    ids=["float tensor", "one channel", "no channels", "float array", "two channels", "one axis"],
)
def test_other_forms_are_refused_with_what_is_allowed(wrong):
    with pytest.raises(PictureError, match=r"^a picture .* is uint8 .*; given .*$"):
        as_picture(wrong)


def test_a_prepared_view_by_hand():
    # 4x6 has the right short side: columns 1-4 are its square, rows 1-2 and columns 2-3 its centre view.
    picture = numbered(4, 6)
    expected = (picture[:, 1:3, 2:4].float() - 10) / 4
    assert torch.equal(plain(10, 4)(picture), expected[None])


def test_a_mean_per_pixel_is_subtracted_where_it_belongs():
    mean = torch.arange(48.0).view(3, 4, 4)
    preparation = Preparation(4, 2, mean, torch.ones(3, 1, 1))
    picture = numbered(4, 6)
    expected = picture[:, 1:3, 2:4].float() - mean[:, 1:3, 1:3]
    assert torch.equal(preparation(picture), expected[None])
    assert torch.equal(preparation.visible(expected[None]), picture[None, :, 1:3, 2:4])


@pytest.mark.parametrize(("width", "height"), [(30, 20), (20, 30), (400, 300), (3, 5)])
def test_pictures_of_any_size_keep_their_colour_and_get_the_crop(width, height):
    x = plain(8, 2, short_side=18, crop=16)(Image.new("RGB", (width, height), RED))
    assert x.shape == (1, 3, 16, 16)
    assert x.dtype == torch.float32
    assert torch.equal(x[0].amax(dim=(1, 2)), torch.tensor([121.0, 1.0, 6.0]))
    assert torch.equal(x[0].amin(dim=(1, 2)), torch.tensor([121.0, 1.0, 6.0]))


def test_lists_batches_and_single_pictures_are_prepared_alike():
    pictures = torch.stack([numbered(9, 7), numbered(9, 7).flip(1)])
    whole = plain()(pictures)
    arrays = [each.permute(1, 2, 0).numpy() for each in pictures]
    assert torch.equal(plain()(list(pictures)), whole)
    assert torch.equal(plain()([Image.fromarray(each) for each in arrays]), whole)
    assert torch.equal(torch.cat([plain()(each) for each in arrays]), whole)
    assert torch.equal(torch.cat([plain()(each) for each in pictures]), whole)


def test_no_pictures_are_refused():
    with pytest.raises(PictureError):
        plain()([])


def test_zero_is_the_mean():
    grey = Preparation.grey(224)
    assert (grey.short_side, grey.crop) == (256, 224)
    assert not grey(Image.new("RGB", (300, 260), (128, 128, 128))).any()


def test_visible_undoes_the_normalisation_and_stays_in_range():
    preparation = plain(100, 3)
    x = preparation(numbered(4, 4))
    assert torch.equal(preparation.visible(x), numbered(4, 4)[None, :, 1:3, 1:3])
    assert preparation.visible(x + 1e6).unique().tolist() == [255]
    assert preparation.visible(x - 1e6).unique().tolist() == [0]


def test_another_size_keeps_the_proportion_and_interpolates_the_mean():
    ramp = torch.linspace(0, 255, 256).expand(3, 256, 256).contiguous()
    half = Preparation(256, 224, ramp, torch.ones(3, 1, 1)).resized(112)
    assert (half.short_side, half.crop, half.mean.shape) == (128, 112, (3, 128, 128))
    assert torch.allclose(half.mean[1, 5], torch.arange(0.5, 256, 2))
    assert plain(7).resized(20).mean.shape == (3, 1, 1)


def test_resizing_measures_the_short_side_and_keeps_the_proportion():
    picture = torch.zeros(3, 60, 90, dtype=torch.uint8)
    assert resize_short_side(picture, 20).shape == (3, 20, 30)
    assert resize_short_side(picture.mT, 120).shape == (3, 180, 120)
    assert resize_short_side(picture, 60) is picture


@given(st.integers(9, 70), st.integers(9, 70), st.integers(4, 40), st.sampled_from([(), (2,)]), st.integers(0))
def test_resizing_gives_torchvisions_bytes(height, width, side, before, seed):
    random = torch.Generator().manual_seed(seed % 2**63)
    pictures = torch.randint(256, (*before, 3, height, width), generator=random, dtype=torch.uint8)
    expected = resize(pictures, [side], InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(resize_short_side(pictures, side), expected)


@given(st.integers(1, 9), st.integers(0, 6), st.integers(0, 6))
def test_the_centre_square_leaves_equal_margins(side, more_rows, more_columns):
    picture = torch.arange((side + more_rows) * (side + more_columns)).view(1, side + more_rows, -1)
    square = centre_square(picture, side)
    assert square.shape == (1, side, side)
    assert square[0, 0, 0] == (more_rows // 2) * (side + more_columns) + more_columns // 2


def test_the_ten_views_are_corners_centre_and_mirrors():
    x = torch.arange(2 * 3 * 5 * 6).view(2, 3, 5, 6)
    views = ten_views(x, 3)
    for n, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]):
        for row in range(3):
            for column in range(3):
                assert torch.equal(views[n, ..., row, column], x[..., top + row, left + column])
                assert torch.equal(views[n + 5, ..., row, 2 - column], x[..., top + row, left + column])


def test_a_view_larger_than_the_picture_is_refused():
    with pytest.raises(PictureError, match=r"^a view of 6 pixels does not fit into 5x9; resize the picture first$"):
        ten_views(torch.zeros(1, 3, 5, 9), 6)


def test_a_picture_file_is_read_as_it_was_written(tmp_path):
    Image.fromarray(numbered(4, 5).permute(1, 2, 0).numpy()).save(tmp_path / "picture.png")
    assert torch.equal(read_picture(tmp_path / "picture.png"), numbered(4, 5))
    assert torch.equal(read_picture(str(tmp_path / "picture.png")), numbered(4, 5))


def test_files_that_are_no_pictures_get_one_sentence(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (90, 90), RED).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    for name in ("text.png", "cut.png"):
        with pytest.raises(PictureError, match=f"{name} cannot be read as a picture .*; convert it .*") as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(
        PictureError, match=r"^there is no picture .*absent.png; give the path of a JPEG or PNG file$"
    ):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(PictureError, match=r"cannot be read as a picture"):
        read_picture(tmp_path)


def test_a_picture_that_a_phone_took_sideways_is_turned_upright(tmp_path):
    sideways = Image.new("RGB", (8, 4))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    sideways.save(tmp_path / "phone.png", exif=orientation)
    assert read_picture(tmp_path / "phone.png").shape == (3, 8, 4)
