import ast
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from IPython.core.formatters import DisplayFormatter
from matplotlib.text import Text
from PIL import Image

from zfnet_lib.architecture import ARCHITECTURES, KRIZHEVSKY, MINI, ZFNET, ArchSpec, Box, Conv, Dense, Pool
from zfnet_lib.images import FigureError, projection_image, robust_maximum
from zfnet_lib.occlusion import Occlusion
from zfnet_lib.paper import curves, fig1, fig2, fig3, fig6
from zfnet_lib.paper.plots import SMALL, Figure, picture_grid, tile, unit_figure

GREY = 128
rng = np.random.default_rng(0)

VGG = ArchSpec(
    "vgg16",
    tuple(
        Conv(
            f"conv{block}_{place}",
            maps,
            3,
            padding=1,
            ceil=False,
            pool=Pool(2, 2, False) if place == last else None,
        )
        for block, (maps, last) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1)
        for place in range(1, last + 1)
    ),
    (Dense("fc6", 4096), Dense("fc7", 4096)),
)
DRAWN = [*ARCHITECTURES.values(), ZFNET.features(), VGG, VGG.features()]


def pooled_window(values: np.ndarray, pool: Pool):
    """A literal second implementation of pooling and of unpooling by adding."""
    shape = tuple(pool.side(side) for side in values.shape)
    pooled, switches, unpooled = np.zeros(shape), np.zeros(shape, int), np.zeros(values.shape)
    for i, j in np.ndindex(*shape):
        best = None
        for row in range(i * pool.stride, min(i * pool.stride + pool.size, values.shape[0])):
            for column in range(j * pool.stride, min(j * pool.stride + pool.size, values.shape[1])):
                if best is None or values[row, column] > values[best]:
                    best = row, column
        pooled[i, j], switches[i, j] = values[best], best[0] * values.shape[1] + best[1]
        unpooled[best] += values[best]
    return pooled, switches, unpooled


def projections(count: int, side: int) -> list[np.ndarray]:
    return [rng.normal(size=(3, side, side)) for _ in range(count)]


def patches(count: int, side: int) -> list[np.ndarray]:
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def a_window() -> tuple[np.ndarray, ...]:
    values = np.round(rng.exponential(3, (7, 7)), 2)
    values[2, 4] = 30.25
    return values, *pooled_window(values, Pool())


def some_levels() -> list[tuple[str, np.ndarray]]:
    maps = np.zeros((20, 6, 6))
    maps[3, 1, :2], maps[7, 4, 4], maps[12, 0, 0] = 5.0, 9.0, 1.0
    pixels = np.zeros((3, 40, 50))
    pixels[:, 10:20, 5:25] = rng.normal(size=(3, 10, 20))
    unit = np.zeros((4, 3, 3))
    unit[2, 1, 1] = 7.5
    return [("conv3", unit), ("conv1", maps), ("pixels", pixels)]


PICTURE = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
FIGURES = {
    "diagram": fig1.diagram,
    "unpooling": lambda: fig1.unpooling(*a_window()),
    "unpooling with title": lambda: fig1.unpooling(*a_window(), title="conv1, map 3"),
    "descent": lambda: fig1.descent(PICTURE, some_levels(), "conv3, map 2"),
    "mosaic": lambda: fig2.mosaic([(n, projections(9, 11), patches(9, 11)) for n in range(5)], "Layer 1"),
} | {f"architecture {spec.name} {len(spec.layers)}": lambda spec=spec: fig3.architecture(spec) for spec in DRAWN}


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def pictures(figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


# ------------------------------------------------------------------------------------------------- every figure


@pytest.mark.parametrize("name", FIGURES)
def test_letters_are_legible_inside_the_page_and_never_overlap(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    texts = [text for text in axes.texts if text.get_text()]
    assert texts and all(text.get_fontsize() >= SMALL >= 8 for text in texts)
    boxes = [text.get_window_extent() for text in texts]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)
    for (a, one), (b, other) in combinations(zip(boxes, texts, strict=True), 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one.get_text()!r} overlaps {other.get_text()!r}"


def test_jupyter_shows_a_figure_as_a_sharp_png_on_white():
    figure = fig3.architecture(MINI)
    assert isinstance(figure, Figure)
    data, metadata = DisplayFormatter().format(figure)
    size = metadata["image/png"]
    assert size["width"] == 750
    with Image.open(BytesIO(data["image/png"])) as image:
        assert image.size == tuple(pytest.approx(1.8 * size[side], abs=1) for side in ("width", "height"))
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


FORMULA = r"$\frac{$x of $5^2$"
EPOCH = {"epoch": 1, "loss": 1.0, "top1": 50.0, "rms": {"conv1": (0.1, 0.1)}}


@pytest.mark.parametrize(
    "drawn",
    [
        lambda: unit_figure(PICTURE[:, :40], Box(0, 0, 9, 9), PICTURE[:9, :9], projections(1, 9)[0], FORMULA),
        lambda: fig1.unpooling(*a_window(), title=FORMULA),
        lambda: fig1.descent(PICTURE, some_levels(), FORMULA),
        lambda: fig2.mosaic([(0, projections(9, 11), patches(9, 11))], FORMULA),
        lambda: picture_grid([[PICTURE]], [FORMULA], ["x"], FORMULA),
        lambda: fig6.draw([fig6_row(FORMULA)], FORMULA),
        lambda: curves.curves({FORMULA: [EPOCH]}, 16),
    ],
)
def test_names_are_no_formulas(drawn):
    figure = drawn()
    named = [text for text in figure.findobj(Text) if text.get_text() == FORMULA]
    assert named and not any(text.get_parse_math() for text in named)
    assert figure._repr_png_()[0][:4] == b"\x89PNG"


def fig6_row(name: str) -> fig6.Row:
    maps = torch.ones(3, 3)
    seen = Occlusion(maps, maps, maps.long(), map=0, target=1, size=9, stride=2)
    return fig6.Row(name, None, PICTURE[:, :40], seen, projections(4, 9), Box(0, 0, 9, 9), [name] * 2)


def test_the_same_figure_twice_is_the_same_bytes():
    once, again = (fig3.architecture(ZFNET)._repr_png_()[0] for _ in range(2))
    assert once == again


def test_no_figure_needs_pyplot():
    files = list(Path(fig1.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for path in files:
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not any("pyplot" in ast.unparse(node) for node in imports), path


# -------------------------------------------------------------------------------------------------- projections


def test_zero_is_exactly_grey():
    assert (projection_image(np.zeros((3, 4, 5))) == GREY).all()
    assert projection_image(np.zeros((3, 4, 5))).shape == (4, 5, 3)


def test_colours_are_centred_scaled_and_clipped():
    pixels = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 99.0]).reshape(1, 1, 6).repeat(3, axis=0)
    shown = projection_image(pixels, scale=2.0)
    assert shown.dtype == np.uint8
    # 128 + 127 * 0.5 = 191.5 and 128 - 63.5 = 64.5 round to the even neighbour
    assert shown[0, :, 0].tolist() == [128, 192, 64, 255, 1, 255]


def test_zeros_outside_the_field_do_not_change_the_contrast():
    field = rng.normal(size=(3, 7, 7))
    whole = np.zeros((3, 60, 60))
    whole[:, 20:27, 30:37] = field
    assert robust_maximum(whole) == robust_maximum(field) == pytest.approx(np.percentile(np.abs(field), 99))
    assert (projection_image(whole)[20:27, 30:37] == projection_image(field)).all()


@given(arrays(np.float64, (3, 4, 4), elements=st.floats(-1e6, 1e6)))
def test_signs_stay_and_opposite_projections_are_mirrored_at_grey(pixels):
    shown, opposite = (projection_image(signed).transpose(2, 0, 1).astype(int) for signed in (pixels, -pixels))
    assert (np.sign(shown - GREY) * np.sign(pixels) >= 0).all()
    assert (shown + opposite == 2 * GREY).all()


@pytest.mark.parametrize(
    ("pixels", "scale", "sentence"),
    [
        (np.zeros((4, 4)), None, r"a projection is an array \[3, h, w\]; given \[4, 4\]"),
        (np.zeros((4, 4, 3)), None, r"given \[4, 4, 3\]"),
        (np.full((3, 2, 2), np.nan), None, "NaN or infinite values; project the unit again"),
        (np.zeros((3, 2, 2)), 0, "the scale of a projection is a positive number; given 0"),
    ],
)
def test_what_is_no_projection_is_refused(pixels, scale, sentence):
    with pytest.raises(FigureError, match=sentence):
        projection_image(pixels, scale)


# ------------------------------------------------------------------------------------------------------- fig. 2


def test_a_tile_has_projections_on_the_left_and_patches_on_the_right_with_white_gaps():
    flat = [np.full((5, 5, 3), shade, np.uint8) for shade in range(0, 90, 10)]
    array = tile([np.zeros((3, 5, 5))] * 9, flat, 20)
    assert array.shape == (64, 64 + 8 + 64, 3) and array.dtype == np.uint8
    left, gap, right = array[:, :64], array[:, 64:72], array[:, 72:]
    assert (gap == 255).all()
    for place in range(9):
        top, start = (n * 22 for n in divmod(place, 3))
        assert (left[top : top + 20, start : start + 20] == GREY).all()
        assert (right[top : top + 20, start : start + 20] == 10 * place).all()
    for grid in (left, right):
        assert all(
            (grid[line : line + 2] == 255).all() and (grid[:, line : line + 2] == 255).all() for line in (20, 42)
        )


def test_small_pictures_keep_their_pixels():
    (pixels,) = projections(1, 5)
    array = tile([pixels], None, 20)
    assert (array[:20, :20] == projection_image(pixels).repeat(4, axis=0).repeat(4, axis=1)).all()
    assert (array[22:] == 255).all()


def test_a_mosaic_shows_every_map_with_its_number():
    blocks = [(17, projections(9, 30), patches(9, 30)), (4, projections(7, 30), patches(7, 30))]
    figure = fig2.mosaic(blocks, "Layer 2")
    assert words(figure) == ["Layer 2", "map 17", "map 4"]
    first, second = pictures(figure)
    size = (len(first) - 4) // 3
    assert (first == tile(*blocks[0][1:], size)).all() and (second == tile(*blocks[1][1:], size)).all()
    assert first.shape[1] <= 7.5 * 200 / 2


def test_a_mosaic_that_was_not_run_says_so():
    assert words(fig2.mosaic([], "Layer 1")) == ["Layer 1", "not run"]


def test_a_mosaic_without_patches_shows_projections_alone():
    figure = fig2.mosaic([(n, projections(9, 7), None) for n in range(4)], "Layer 1", columns=4)
    assert len(pictures(figure)) == 4 and all(shown.shape[0] == shown.shape[1] for shown in pictures(figure))


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: tile([], None, 20), "1 to 9 projections and a positive size; given 0, 20"),
        (lambda: tile(projections(10, 5), None, 20), "given 10, 20"),
        (lambda: tile(projections(9, 5), patches(8, 5), 20), "every projection has one patch; given 9 and 8"),
        (lambda: tile([np.zeros((3, 5, 6))], None, 20), "square pictures; given 5x6"),
        (lambda: tile(projections(1, 5), [np.zeros((5, 5, 3))], 20), "a picture is a uint8 array"),
        (
            lambda: fig2.mosaic([(0, projections(9, 5), None), (1, projections(9, 5), patches(9, 5))], "Layer 1"),
            "patches for all of its maps or for none",
        ),
    ],
)
def test_what_is_no_mosaic_is_refused(draw, sentence):
    with pytest.raises(FigureError, match=sentence):
        draw()


# ------------------------------------------------------------------------------------------------------- fig. 1


def test_the_diagram_names_every_part_of_fig_1_once_or_on_both_sides():
    written = words(fig1.diagram())
    for part in ("Max pooling", "Max unpooling", "switches", "Convolutional filtering  {Fᵀ}", "Reconstruction"):
        assert written.count(part) == 1
    assert written.count("Rectified linear function") == 2


def test_the_diagram_s_switches_are_the_maxima_of_its_regions():
    pooled, switches, _ = pooled_window(fig1.MAP_OF_FIG1, Pool(3, 3))
    rows, columns = fig1._switches(fig1.MAP_OF_FIG1)
    assert (rows * 6 + columns == switches).all() and (fig1.MAP_OF_FIG1[rows, columns] == pooled).all()


def test_the_numbers_drawn_are_the_numbers_given():
    maps = np.array([[1.0, 0.0, 2.0, 0.0], [0.5, 3.0, 0.25, 0.0], [0.0, 0.0, 1.5, 0.0]])
    unpooled = np.zeros((3, 4))
    unpooled[1, 1] = 6.0
    both = np.array([[5, 5]])  # the two regions share the 3.0 in row 1, column 1
    written = words(fig1.unpooling(maps, np.array([[3.0, 3.0]]), both, unpooled, Pool(3, 1, ceil=False)))
    middle, pooled = written.index("Unpooled map"), written.index("Pooled values")
    assert written[1:middle] == ["1.00", "0", "2.00", "0", "0.50", "3.00", "0.25", "0", "0", "0", "1.50", "0"]
    assert written[middle + 1 : pooled] == ["0"] * 5 + ["6.00"] + ["0"] * 6
    assert written[pooled + 1 : pooled + 3] == ["3.00", "3.00"]
    assert "values that share a switch have added: 3.00 + 3.00" in written


def test_without_a_shared_switch_nothing_is_said_to_add():
    values = np.arange(16.0).reshape(4, 4)
    written = words(fig1.unpooling(values, *pooled_window(values, Pool(2, 2)), Pool(2, 2)))
    assert not any("share" in text for text in written)


def test_shared_switches_of_zeros_are_no_sums():
    nothing, middle = np.zeros((5, 5)), np.full((2, 2), 12)
    written = words(fig1.unpooling(nothing, np.zeros((2, 2)), middle, nothing))
    assert not any("share" in text for text in written)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: [a[0][:5], *a[1:]], r"of one size up to 8x8; given \[5, 7\] and \[7, 7\]"),
        (lambda a: [np.zeros((20, 20)), a[1], a[2], np.zeros((20, 20))], r"given \[20, 20\]"),
        (
            lambda a: [a[0], a[1][:2], a[2], a[3]],
            r"regions of 3x3 at stride 2 on \[7, 7\] give .* \[3, 3\]; given \[2, 3\]",
        ),
        (lambda a: [a[0], a[1], a[2].astype(float), a[3]], r"integer switches \[3, 3\]; .*float64"),
        (lambda a: [a[0], a[1], a[2] * 0 + 48, a[3]], r"switch 48 lies outside its region \(0, 0\)"),
        (lambda a: [a[0], a[1], a[2] * 0 - 1, a[3]], r"switch -1 lies outside its region"),
    ],
)
def test_what_is_no_pooling_is_refused(change, sentence):
    with pytest.raises(FigureError, match=sentence):
        fig1.unpooling(*change(a_window()))


def test_a_descent_shows_the_strongest_maps_the_sum_and_the_projection():
    levels = some_levels()
    figure = fig1.descent(PICTURE, levels, "conv3, map 2")
    written = words(figure)
    assert [text for text in written if text.isdigit()] == ["2", "3", "7", "12"]
    assert "1 of 4 maps" in written and "3 of 20 maps" in written and "up to 7.5" in written and "6×6" in written
    unit, total, *maps, all_maps, projection, picture = pictures(figure)
    assert (unit == levels[0][1][2]).all() and (total == unit).all()
    assert [(shown == levels[1][1][n]).all() for shown, n in zip(maps, (3, 7, 12), strict=True)] == [True] * 3
    assert (all_maps == levels[1][1].sum(axis=0)).all()
    assert (projection == projection_image(levels[-1][1])).all() and (picture == PICTURE).all()
    tops = [image.get_clim()[1] for image in figure.axes[0].images]
    assert tops[2:5] == [9.0] * 3


def test_large_maps_keep_their_single_peaks():
    maps = np.zeros((1, 224, 224))
    maps[0, 223, 101] = 4.0
    shown = pictures(fig1.descent(PICTURE, [("conv1_1", maps), some_levels()[-1]], "unit"))[0]
    assert max(shown.shape) <= 120 and shown.max() == 4.0 and (shown > 0).sum() == 1


@pytest.mark.parametrize(
    ("picture", "levels", "sentence"),
    [
        (PICTURE, [], "the last level is"),
        (
            PICTURE,
            some_levels()[:2],
            r"the last level is \('pixels', \[3, 40, 50\]\).* given \('conv1', \[20, 6, 6\]\)",
        ),
        (PICTURE[:30], some_levels(), r"given \('pixels', \[3, 40, 50\]\)"),
        (PICTURE.astype(float), some_levels(), r"a picture is a uint8 array \[h, w, 3\]; given float64"),
        (
            PICTURE,
            [("conv1", np.zeros((6, 6))), some_levels()[-1]],
            r"the signal at conv1 is an array \[maps, h, w\]",
        ),
    ],
)
def test_what_is_no_descent_is_refused(picture, levels, sentence):
    with pytest.raises(FigureError, match=sentence):
        fig1.descent(picture, levels, "unit")


# ------------------------------------------------------------------------------------------------------- fig. 3


@pytest.mark.parametrize("spec", DRAWN, ids=lambda spec: f"{spec.name}-{len(spec.layers)}")
def test_an_architecture_is_drawn_with_the_numbers_of_its_spec(spec):
    written = words(fig3.architecture(spec))
    for name, (maps, height, width) in spec.shapes().items():
        drawn = f"{height}×{width}, 3 planes" if name == "input" else f"{height}×{width}"
        assert name.startswith("fc") or drawn in written
        assert name == "input" or f"{maps}" in written
    for layer in spec.layers:
        assert written.count(layer.name) == 1
    assert [text for text in written if text.endswith(" layers")] == [f"{spec.name}: {len(spec.layers)} layers"]
    assert ("softmax" in written) == bool(spec.classes)


def test_fig_3_of_the_paper_is_written_out():
    written = words(fig3.architecture(ZFNET))
    for label, times in (("110×110", 1), ("55×55", 1), ("26×26", 1), ("13×13", 4), ("6×6", 1)):
        assert written.count(label) == times
    assert written.count("7×7") == written.count("5×5") == 1
    assert written.count("3×3") == 6  # three filters, three pools
    assert written.count("after pool") == 2 and written.count("4096") == 2


def test_krizhevsky_s_groups_and_order_of_normalisation_are_written_out():
    written = words(fig3.architecture(KRIZHEVSKY))
    assert "groups" in written and written.count("before pool") == 2
    assert "groups" not in words(fig3.architecture(ZFNET))


def test_sides_windows_and_columns_are_to_scale():
    figure = fig3.architecture(ZFNET.resized(fc7=1024))
    boxes = [(box.get_width(), box.get_height()) for box in figure.axes[0].patches]
    scale = max(width for width, _ in boxes) / 224
    sides = {round(width / scale, 3) for width, height in boxes if width == pytest.approx(height)}
    assert {224, 110, 55, 26, 13, 6, 7, 5, 3} <= sides
    columns = [height for width, height in boxes if width == pytest.approx(fig3.BAR)]
    assert np.divide(columns, columns[0]) == pytest.approx([1, 1024 / 4096, 1000 / 4096])


def test_deeper_layers_have_more_sheets():
    boxes = [round(box.get_width(), 6) for box in fig3.architecture(ZFNET).axes[0].patches]
    sheets = {side: boxes.count(round(side * fig3.INPUT / 224, 6)) for side in (224, 110, 26)}
    assert sheets == {224: 3, 110: 3, 26: 8}  # three planes; 96, 256 of at most 384 maps on twelve sheets
