"""Pictures in, prepared tensors out, by hand-sized cases."""

import errno
import zlib
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import encoded
from pictures import plain
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from zfnet_lib.browser.live import read_upload
from zfnet_lib.datasets import open_dataset
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import (
    LONGEST,
    PictureError,
    Preparation,
    as_picture,
    centre_square,
    middle,
    read_picture,
    resize_short_side,
    ten_views,
)

RED = (250, 10, 20)
GREY = (128, 128, 128)


def numbered(height: int, width: int) -> Tensor:
    """Return a picture in which every value is different (modulo 256)."""
    return (torch.arange(3 * height * width) % 256).to(torch.uint8).view(3, height, width)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("PA", (5, 4)), GREY),
        (Image.new("HSV", (5, 4), (0, 255, 200)), (200, 0, 0)),
        (Image.new("RGB", (5, 4), RED).quantize(), RED),
        (np.full((4, 5), 77, dtype=np.uint8), (77, 77, 77)),
        (np.full((4, 5, 3), RED, dtype=np.uint8), RED),
        (np.full((4, 5, 4), (*RED, 0), dtype=np.uint8), GREY),
        (torch.tensor(RED, dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 5), RED),
    ],
)
def test_every_kind_of_picture_becomes_red_green_and_blue(image, colour):
    expected = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 5)
    assert torch.equal(as_picture(image), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 4, 5),
        torch.zeros(1, 4, 5, dtype=torch.uint8),
        torch.zeros(3, 0, 5, dtype=torch.uint8),
        np.zeros((4, 5)),
        np.zeros((4, 5, 2), dtype=np.uint8),
        np.zeros((4, 0, 3), dtype=np.uint8),
        Image.new("RGB", (0, 5)),
        "picture.png",
    ],
    ids=lambda wrong: f"{type(wrong).__name__} {getattr(wrong, 'shape', '')}",
)
def test_what_is_no_picture_gets_one_sentence(wrong):
    with pytest.raises(PictureError, match=r"^a picture (tensor|array)? ?(is|has) [^\n]*; given .*$"):
        plain(4, 2)([wrong])
    with pytest.raises(PictureError, match=r"^there are no pictures to prepare; give at least one$"):
        plain(4, 2)([])


@pytest.mark.parametrize("mean", [torch.full((3, 1, 1), 10.0), torch.arange(48.0).view(3, 4, 4)])
def test_a_mean_is_subtracted_where_it_belongs(mean):
    # 4x6 has the right short side: columns 1-4 are its square, rows 1-2 and columns 2-3 its centre view.
    picture, preparation = numbered(4, 6), Preparation(4, 2, mean, torch.full((3, 1, 1), 4.0))
    expected = (picture[:, 1:3, 2:4].float() - mean.expand(3, 4, 4)[:, 1:3, 1:3]) / 4
    assert torch.equal(preparation(picture), expected[None])
    assert torch.equal(preparation.visible(expected[None]), picture[None, :, 1:3, 2:4])


def test_lists_batches_and_single_pictures_are_prepared_alike():
    pictures, prepare = torch.stack([numbered(9, 7), numbered(9, 7).flip(1)]), plain(4, 2)
    whole = prepare(pictures)
    arrays = [each.permute(1, 2, 0).numpy() for each in pictures]
    assert torch.equal(prepare(list(pictures)), whole)
    assert torch.equal(prepare([Image.fromarray(each) for each in arrays]), whole)
    for each in (arrays, pictures):
        assert torch.equal(torch.cat([*map(prepare, each)]), whole)


def test_zero_is_the_mean():
    grey = Preparation.grey(224)
    assert (grey.short_side, grey.crop) == (256, 224)
    assert not grey(Image.new("RGB", (300, 260), (128, 128, 128))).any()


def test_another_size_keeps_the_proportion_and_interpolates_the_mean():
    ramp = torch.linspace(0, 255, 256).expand(3, 256, 256).contiguous()
    half = Preparation(256, 224, ramp, torch.ones(3, 1, 1)).resized(112)
    assert (half.short_side, half.crop, half.mean.shape) == (128, 112, (3, 128, 128))
    assert torch.allclose(half.mean[1, 5], torch.arange(0.5, 256, 2))
    assert plain(4, 2).resized(20).mean.shape == (3, 1, 1)


@given(st.integers(9, 70), st.integers(9, 70), st.integers(4, 40), st.sampled_from([(), (2,)]), st.integers(0))
def test_resizing_gives_torchvisions_bytes(height, width, side, before, seed):
    random = torch.Generator().manual_seed(seed % 2**63)
    pictures = torch.randint(256, (*before, 3, height, width), generator=random, dtype=torch.uint8)
    expected = resize(pictures, [side], InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(resize_short_side(pictures, side), expected)
    assert resize_short_side(pictures, min(height, width)) is pictures


def test_the_ten_views_are_corners_centre_and_mirrors():
    x = torch.arange(2 * 3 * 5 * 6).view(2, 3, 5, 6)
    views = ten_views(x, 3)
    for n, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]):
        for row, column in product(range(3), range(3)):
            assert torch.equal(views[n, ..., row, column], x[..., top + row, left + column])
            assert torch.equal(views[n + 5, ..., row, 2 - column], x[..., top + row, left + column])
    for cut_out in (ten_views, centre_square):
        with pytest.raises(PictureError, match=r"^a view of 6 pixels does not fit into 5x9; resize .* first$"):
            cut_out(torch.zeros(1, 3, 5, 9), 6)


def filled(value: float, kind: type | str) -> Image.Image:
    return Image.fromarray(np.full((3, 4), value, kind))


def exif(orientation: int) -> Image.Exif:
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


def claiming(width: int, height: int) -> bytes:
    """Return a PNG that says it has this size; nobody gets so far as to miss the pixels."""
    content = encoded(Image.new("L", (1, 1)))
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


PALETTE = Image.new("P", (4, 3), 1)
PALETTE.putpalette([0, 0, 0, 9, 8, 7])
SCREEN = Image.new("RGB", (16, 16), (200, 0, 0))
PHONE = encoded(Image.new("L", (40, 30), 90), "JPEG", exif=exif(6))

READ = {  # the first pixel, and height and width where they are of interest
    "bilevel.png": (encoded(Image.new("1", (4, 3), 1)), (255, 255, 255)),
    "grey.png": (encoded(Image.new("L", (4, 3), 77)), (77, 77, 77)),
    "colour.bmp": (encoded(Image.new("RGB", (4, 3), RED), "BMP"), RED),
    "colour.ppm": (encoded(Image.new("RGB", (4, 3), RED), "PPM"), RED),
    "numbered.png": (encoded(Image.fromarray(numbered(4, 5).permute(1, 2, 0).numpy())), (0, 20, 40), (4, 5)),
    "wrongly-named.jpg": (encoded(Image.new("RGB", (4, 3), RED)), RED),
    "black-on-transparent.png": (encoded(Image.new("RGBA", (4, 3), (0, 0, 0, 0))), GREY),
    "opaque.png": (encoded(Image.new("RGBA", (4, 3), (*RED, 255))), RED),
    # A fifth is covered: (51 x 255 + 204 x 128) / 255 and 204 x 128 / 255
    "partly.png": (encoded(Image.new("RGBA", (4, 3), (255, 0, 0, 51))), (153, 102, 102)),
    "partly.webp": (encoded(Image.new("RGBA", (4, 3), (255, 0, 0, 51)), "WEBP", lossless=True), (153, 102, 102)),
    "grey-transparent.png": (encoded(Image.new("LA", (4, 3), (0, 0))), GREY),
    "one-colour-transparent.png": (encoded(Image.new("RGB", (4, 3), RED), transparency=RED), GREY),
    "one-grey-transparent.png": (encoded(Image.new("L", (4, 3), 7), transparency=7), GREY),
    "palette.png": (encoded(PALETTE, transparency=0), (9, 8, 7)),
    "palette-transparent.png": (encoded(PALETTE, transparency=1), GREY),
    "palette-partly.png": (encoded(PALETTE, transparency=b"\xff\x00"), GREY),
    "palette-transparent.gif": (encoded(PALETTE, "GIF", transparency=1), GREY),
    "animated.gif": (encoded(PALETTE, "GIF", save_all=True, append_images=[Image.new("P", (4, 3))]), (9, 8, 7)),
    "16-bit.png": (encoded(filled(200 * 257, "<u2")), (200, 200, 200)),
    "16-bit-dark.png": (encoded(filled(257, "<u2")), (1, 1, 1)),
    "16-bit-little.tif": (encoded(filled(200 * 257, "<u2"), "TIFF"), (200, 200, 200)),
    "16-bit-big.tif": (encoded(filled(200 * 257, ">u2"), "TIFF"), (200, 200, 200)),
    "16-bit.pgm": (encoded(filled(200 * 257, "<u2"), "PPM"), (200, 200, 200)),
    "32-bit-of-8.tif": (encoded(filled(200, "<i4"), "TIFF"), (200, 200, 200)),
    "32-bit-of-16.tif": (encoded(filled(200 * 257, "<i4"), "TIFF"), (200, 200, 200)),
    "32-bit-stretched.tif": (encoded(Image.fromarray(np.array([[0, -1000, 3000]], "<i4")), "TIFF"), (64, 64, 64)),
    "float-of-1.tif": (encoded(filled(0.2, "<f4"), "TIFF"), (51, 51, 51)),
    "float-of-255.tif": (encoded(filled(200, "<f4"), "TIFF"), (200, 200, 200)),
    "float-stretched.tif": (encoded(Image.fromarray(np.array([[0.25, -0.5, 2.5]], "<f4")), "TIFF"), (64, 64, 64)),
    "cmyk.jpg": (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
    "cmyk.tif": (encoded(Image.new("CMYK", (4, 3), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
    "ycbcr.tif": (encoded(SCREEN.convert("YCbCr"), "TIFF"), (199, 0, 0)),
    "lab.tif": (encoded(Image.new("LAB", (4, 3), (128, 128, 128)), "TIFF"), (119, 119, 119)),
    "screen.jp2": (encoded(SCREEN, "JPEG2000"), (200, 0, 0)),
    "phone.jpg": (PHONE, (90, 90, 90), (40, 30)),
    "phone-16-bit.png": (encoded(filled(200 * 257, "<u2"), exif=exif(6)), (200, 200, 200), (4, 3)),
    "notes-of-the-camera-damaged.jpg": (PHONE.replace(b"MM\x00*", b"ZZZZ"), (90, 90, 90), (30, 40)),
    "line.png": (encoded(Image.new("L", (30_000, 1), 5)), (5, 5, 5), (1, 30_000)),
    "short-line.png": (encoded(Image.new("L", (3000, 1), 5)), (5, 5, 5), (1, 3000)),
    "column.jpg": (encoded(Image.new("L", (1, 65_000), 5), "JPEG"), (5, 5, 5), (65_000, 1)),
}
NO_FORMAT = r"\(it is none of JPEG, PNG, .*\); convert it to JPEG or PNG, or leave it out"
CUT = r"\(.*[Tt]runcated.*\); convert it"
MANY = "has more than 89 million pixels; save it smaller"
REFUSED = {
    "words.png": (b"no picture", NO_FORMAT),
    "empty.jpg": (b"", NO_FORMAT),
    "postscript.png": (encoded(SCREEN, "EPS"), NO_FORMAT),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", NO_FORMAT),
    "document.tif": (encoded(SCREEN, "PDF"), NO_FORMAT),
    "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_FORMAT),
    "cut.png": (encoded(Image.new("L", (99, 99), 7))[:60], CUT),
    "cut.jpg": (encoded(SCREEN, "JPEG")[:-40], CUT),
    "not-a-number.tif": (encoded(filled(np.nan, "<f4"), "TIFF"), r"\(it holds NaN or infinite values\)"),
    "poster.png": (claiming(14_000, 14_000), MANY),
    "wall.png": (claiming(9_500, 9_500), MANY),
    "bomb.png": (claiming(200_000, 100_000), MANY),
}
NAMES = {"jpg", "png", "ppm", "bmp", "pgm", "tif", "webp"}
"""Endings by which a folder's pictures are known."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of one class, with every file of the table."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "all").mkdir()
    for name, (content, *_) in (READ | REFUSED).items():
        (folder / "all" / name).write_bytes(content)
    return folder


def entering(folder: Path, name: str):
    """Yield the ways by which a file comes in: by its path, as an upload, as a data set's picture."""
    path = folder / "all" / name
    yield lambda: read_picture(path)
    yield lambda: read_picture(str(path))
    yield lambda: read_upload(name, path.stat().st_size, path.read_bytes())
    if path.suffix[1:] in NAMES:
        data = open_dataset(f"folder:{folder}", "all")
        yield lambda: data[next(i for i, each in enumerate(data.names) if each.endswith(f"all/{name}"))].picture


@pytest.mark.parametrize("name", READ)
def test_a_file_of_any_kind_becomes_three_colours_of_8_bits_however_it_comes_in(folder, name):
    _, colour, *size = READ[name]
    for read in entering(folder, name):
        picture = read()
        assert (picture.dtype, picture.ndim) == (torch.uint8, 3)
        assert picture[:, 0, 0].tolist() == list(colour)
        assert not size or tuple(picture.shape[1:]) == size[0]
        assert plain(64, 64)(picture).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Image size")
def test_a_file_that_is_no_picture_gets_one_sentence_however_it_comes_in(folder, name):
    for read in entering(folder, name):
        with pytest.raises(PictureError, match=rf"\A.*{name} .*{REFUSED[name][1]}.*\Z"):
            read()


def test_a_missing_file_a_folder_and_a_faulty_disk_get_one_sentence(tmp_path, monkeypatch):
    said = r"^there is no picture .*absent.png; give the path of a JPEG or PNG file$"
    with pytest.raises(PictureError, match=said):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(PictureError, match=r"cannot be read as a picture"):
        read_picture(tmp_path)
    for reason, kind in ((errno.EIO, ZfnetError), (errno.EMFILE, ZfnetError), (errno.EINVAL, PictureError)):
        monkeypatch.setattr(Image, "open", Mock(side_effect=[OSError(reason, "planted"), MemoryError]))
        with pytest.raises(ZfnetError, match=r"cannot be read .*\(.*planted\)") as caught:
            read_picture(tmp_path)
        assert caught.type is kind  # only for a `PictureError` is a picture left out
        with pytest.raises(MemoryError):
            read_picture(tmp_path)


@pytest.mark.parametrize(("height", "width"), [(1, 3000), (2, 2001), (30_000, 1), (7, 70), (7, 71), (90, 5000)])
def test_of_a_very_long_picture_the_middle_is_resized_alone(height, width):
    picture = numbered(height, width)
    resized = resize_short_side(picture, 64)
    assert resized.numel() <= 3 * 64 * 64 * LONGEST
    top, left, rows, columns = middle(height, width)
    assert (rows, columns) == (min(height, LONGEST * width), min(width, LONGEST * height))
    assert abs((height - rows) - 2 * top) <= 1 and abs((width - columns) - 2 * left) <= 1
    assert torch.equal(resized, resize_short_side(picture[:, top : top + rows, left : left + columns], 64))
