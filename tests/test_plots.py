"""What all figures share, their pictures in grids, and how projections become pictures."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from drawings import pictures, words
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from IPython.core.formatters import DisplayFormatter
from matplotlib.text import Text
from PIL import Image

from zfnet_lib.architecture import MINI
from zfnet_lib.images import FigureError, projection_image, robust_maximum
from zfnet_lib.paper import curves, fig3, plots
from zfnet_lib.paper.plots import filters, grid, heat, picture_grid, tile

GREY = 128
rng = np.random.default_rng(0)


def projections(count: int, side: int) -> list[np.ndarray]:
    return [rng.normal(size=(3, side, side)) for _ in range(count)]


def patches(count: int, side: int) -> list[np.ndarray]:
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


(PICTURE,) = patches(1, 40)
FORMULA = r"$\frac{$x of $5^2$"
EPOCH = {"epoch": 1, "loss": 1.0, "top1": 50.0, "rms": {"conv1": (0.1, 0.1)}}


def test_jupyter_shows_a_figure_as_a_sharp_png_on_white_and_always_the_same():
    data, metadata = DisplayFormatter().format(fig3.draw(MINI))
    size = metadata["image/png"]
    assert size["width"] == 750
    with Image.open(BytesIO(data["image/png"])) as image:
        assert image.size == tuple(pytest.approx(1.8 * size[side], abs=1) for side in ("width", "height"))
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert data["image/png"] == fig3.draw(MINI)._repr_png_()[0]


def test_without_a_number_of_classes_there_is_no_line_of_a_network_that_knows_nothing():
    lines = [len(curves.curves({"x": [EPOCH]}, classes).axes[0].lines) for classes in (16, 0)]
    assert lines == [2, 1]


def test_names_are_no_formulas():
    for figure in (picture_grid([[PICTURE]], [FORMULA], ["x"], FORMULA), curves.curves({FORMULA: [EPOCH]}, 16)):
        named = [text for text in figure.findobj(Text) if text.get_text() == FORMULA]
        assert named and not any(text.get_parse_math() for text in named)
        assert figure._repr_png_()[0][:4] == b"\x89PNG"


def test_no_figure_needs_pyplot():
    for path in Path(plots.__file__).parent.glob("**/*.py"):
        assert not re.search(r"(import|from) .*pyplot", path.read_text()), path


@given(st.integers(1, 30), st.integers(0, 6), st.integers(1, 9), st.integers(0, 7))
def test_a_grid_holds_every_picture_at_its_place_on_white(count, columns, size, rows):
    flat = [np.full((3, 3, 3), shade, np.uint8) for shade in range(count)]
    found = grid(flat, columns, size=size, rows=rows)
    columns = columns or int(np.ceil(count**0.5))
    down = max(rows, -(-count // columns))
    assert found.shape == (down * (size + 2) - 2, columns * (size + 2) - 2, 3) and found.dtype == np.uint8
    white = found == 255
    for place in range(count):
        top, left = (n * (size + 2) for n in divmod(place, columns))
        assert (found[top : top + size, left : left + size] == place).all()
        white[top : top + size, left : left + size] = True
    assert white.all()


def test_tiles_filters_and_maps_are_grids_whose_small_pictures_keep_their_pixels():
    (picture,) = patches(1, 5)
    enlarged = picture.repeat(4, axis=0).repeat(4, axis=1)
    whole = grid([picture] * 5, width=65)
    assert whole.shape == (42, 64, 3) and (whole[:20, 22:42] == enlarged).all()

    shown, seen = projections(7, 5), patches(7, 30)
    both, alone = tile(shown, seen, 20), tile(shown, None, 20)
    assert alone.shape == (64, 64, 3) and both.shape == (64, 64 + 8 + 64, 3)
    assert (both[:, :64] == alone).all() and (both[:, 64:72] == 255).all()
    assert (alone[:20, :20] == projection_image(shown[0]).repeat(4, axis=0).repeat(4, axis=1)).all()
    assert (both[:, 72:] == grid(seen, 3, size=20)).all()

    assert heat(np.array([[9.0]]), top=3.0).tolist() == [[[253, 231, 36]]]
    maps = rng.random((5, 4, 4))
    assert (plots.grid_of_maps(maps, 40) == grid(heat(maps, robust_maximum(maps)), width=40)).all()

    weights = np.zeros((4, 3, 5, 5))
    weights[0], weights[1] = 1.0, 0.01  # one contrast for all filters
    found = plots.grid_of_filters(weights, 42)
    assert [set(found[a : a + 20, b : b + 20].flat) for a, b in ((0, 0), (0, 22), (22, 0))] == [{255}, {129}, {128}]
    figure = filters({"one": weights, "two": weights[:2]}, "Filters")
    assert len(pictures(figure)) == 2 and "5x5, largest RMS 1.000" in words(figure)


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: tile([], None, 20), "1 to 9 projections and a positive size; given 0, 20"),
        (lambda: tile(projections(10, 5), None, 20), "given 10, 20"),
        (lambda: tile([np.zeros((3, 5, 6))], None, 20), "square pictures; given 5x6"),
        (lambda: grid([np.zeros((5, 5, 3))], size=20), "a picture is a uint8 array"),
        (lambda: grid([], width=100), "at least one picture; given none"),
        (lambda: heat(np.array([[np.nan]])), "NaN or infinite ones; compute them again"),
        (
            lambda: plots.grid_of_filters(np.zeros((4, 2, 5, 5)), 40),
            r"an array \[3, h, w\] or .*; given \[2, 5, 5\]",
        ),
        (lambda: picture_grid([[PICTURE]], ["a"], ["x", "y"], ""), r"given \['a'\], \['x', 'y'\] for \[1\]"),
        (lambda: picture_grid([], [], [], "Pictures"), r"for \[\]"),
        (lambda: projection_image(np.zeros((4, 4, 3))), r"a projection is an array .*; given \[4, 4, 3\]"),
        (lambda: projection_image(np.full((3, 2, 2), np.nan)), "NaN or infinite values; project the unit again"),
        (lambda: projection_image(np.zeros((3, 2, 2)), 0), "a positive number; given 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, sentence):
    with pytest.raises(FigureError, match=sentence):
        draw()


def test_colours_are_centred_scaled_and_clipped_and_zeros_change_nothing():
    assert (projection_image(np.zeros((3, 4, 5))) == GREY).all()
    pixels = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 99.0]).reshape(1, 1, 6).repeat(3, axis=0)
    shown = projection_image(pixels, scale=2.0)
    assert shown.dtype == np.uint8 and shown.shape == (1, 6, 3)
    # 128 + 127 * 0.5 = 191.5 and 128 - 63.5 = 64.5 round to the even neighbour
    assert shown[0, :, 0].tolist() == [128, 192, 64, 255, 1, 255]
    field, whole = rng.normal(size=(3, 7, 7)), np.zeros((3, 60, 60))
    whole[:, 20:27, 30:37] = field
    assert robust_maximum(whole) == robust_maximum(field) == pytest.approx(np.percentile(np.abs(field), 99))
    assert (projection_image(whole)[20:27, 30:37] == projection_image(field)).all()


@given(arrays(np.float64, (3, 4, 4), elements=st.floats(-1e6, 1e6)))
def test_signs_stay_and_opposite_projections_are_mirrored_at_grey(pixels):
    shown, opposite = (projection_image(signed).transpose(2, 0, 1).astype(int) for signed in (pixels, -pixels))
    assert (np.sign(shown - GREY) * np.sign(pixels) >= 0).all()
    assert (shown + opposite == 2 * GREY).all()
