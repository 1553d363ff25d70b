"""Fig. 1: one unit traced and projected, and the three drawings."""

import numpy as np
import pytest
import torch
from drawings import assert_legible, pictures, words
from torch.nn import functional as F

from zfnet_lib.deconv import alone
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import FigureError, projection_image
from zfnet_lib.paper import fig1

rng = np.random.default_rng(0)
PICTURE = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def pooled_window(values: np.ndarray) -> list[np.ndarray]:
    """Pool and unpool literally: a map, its regions' maxima and switches, and the map in which they add up."""
    pooled, switches = F.max_pool2d(torch.from_numpy(values)[None], 3, 2, ceil_mode=True, return_indices=True)
    unpooled = np.zeros(values.size)
    np.add.at(unpooled, switches.numpy().ravel(), pooled.numpy().ravel())
    return [values, pooled[0].numpy(), switches[0].numpy(), unpooled.reshape(values.shape)]


WINDOW = pooled_window(np.round(rng.exponential(3, (7, 7)), 2))
UNIT, MAPS, PIXELS = np.zeros((4, 3, 3)), np.zeros((20, 6, 6)), np.zeros((3, 40, 50))
UNIT[2, 1, 1], MAPS[3, 1, :2], MAPS[7, 4, 4], MAPS[12, 0, 0] = 7.5, 5.0, 9.0, 1.0
PIXELS[:, 10:20, 5:25] = rng.normal(size=(3, 10, 20))
LEVELS = {"conv3": UNIT, "conv1": MAPS, "pixels": PIXELS}


def test_the_unit_is_the_strongest_of_its_layer_and_every_other_way_down_shows_something_else():
    trace, unit, source = fig1.measure("smoke", picture=3)
    maps = trace[unit.layer].maps
    place = unit.place
    assert unit.layer == "conv5" and maps[(0, *place)] == maps.max() > 0
    assert all(row["difference"] > 0.01 for row in fig1.variants(trace, unit.layer, alone(maps, place)).rows)
    for part in ("mini, trained on the spot", "shapes val (1024 pictures, fingerprint", "torch", "seed 0"):
        assert part in str(source)
    piece, name = fig1.piece(trace)
    pooled, switches = F.max_pool2d(piece[None], 3, 2, return_indices=True)
    active = switches[pooled > 0].tolist()
    assert piece.shape == (7, 7) and name.startswith("conv1, map ") and len(set(active)) < len(active)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"picture": 10**6}, "shapes has no picture 1000000"),
        ({"layer": "conv9"}, "mini has no layer 'conv9'; its layers are conv1"),
        ({"map": 999}, "conv5 has no map 999"),
    ],
)
def test_bad_requests_get_one_sentence(changes, sentence):
    with pytest.raises(ZfnetError, match=rf"\A[^\n]*{sentence}[^\n]*\Z"):
        fig1.measure("smoke", **changes)


def test_letters_are_legible_and_the_diagram_names_every_part_of_fig_1():
    diagram = fig1.diagram()
    drawn = fig1.unpooling(*WINDOW, title="conv1, map 3"), fig1.downwards(PICTURE, LEVELS, "conv3, map 2")
    for figure in (diagram, *drawn):
        assert_legible(figure)
    parts = ["Max pooling", "Max unpooling", "switches", "Convolutional filtering  {Fᵀ}", "Reconstruction"]
    assert [words(diagram).count(part) for part in [*parts, "Rectified linear function"]] == [1] * 5 + [2]


def test_the_numbers_drawn_are_the_numbers_given():
    maps = np.array([[1.0, 0.0, 2.0, 0.0, 0.0], [0.5, 0.0, 3.0, 0.25, 0.0], [0.0, 0.0, 1.5, 0.0, 0.0]])
    written = words(fig1.unpooling(*pooled_window(maps)))  # both regions share the 3 in row 1, column 2
    middle, values = written.index("Unpooled map"), written.index("Pooled values")
    rows = "1.00 0 2.00 0 0", "0.50 0 3.00 0.25 0", "0 0 1.50 0 0"
    assert written[1:middle] == " ".join(rows).split()
    assert written[middle + 1 : values] == ["0"] * 7 + ["6.00"] + ["0"] * 7
    assert written[values + 1 : values + 3] == ["3.00", "3.00"]
    assert "values that share a switch have added: 3.00 + 3.00" in written
    maps, pooled, switches, _ = pooled_window(np.eye(3))
    shown = fig1.unpooling(maps, 0 * pooled, np.full_like(switches, 4), maps)
    assert not any("share" in text for text in words(shown))


def test_the_way_down_shows_the_strongest_maps_the_sum_and_the_projection():
    figure = fig1.downwards(PICTURE, LEVELS, "conv3, map 2")
    written = words(figure)
    assert [text for text in written if text.isdigit()] == ["2", "3", "7", "12"]
    assert {"1 of 4 maps", "3 of 20 maps", "up to 7.5", "6×6"} <= set(written)
    unit, total, *maps, all_maps, projection, picture = pictures(figure)
    assert (unit == UNIT[2]).all() and (total == unit).all()
    assert np.array_equal(maps, MAPS[[3, 7, 12]]) and (all_maps == MAPS.sum(axis=0)).all()
    assert (projection == projection_image(PIXELS)).all() and (picture == PICTURE).all()
    assert [image.get_clim()[1] for image in figure.axes[0].images][2:5] == [5.0, 9.0, 1.0]
    large = np.zeros((1, 224, 224))
    large[0, 223, 101] = 4.0
    shown = pictures(fig1.downwards(PICTURE, {"conv1_1": large, "pixels": PIXELS}, "unit"))[0]
    assert max(shown.shape) <= 120 and shown.max() == 4.0 and (shown > 0).sum() == 1  # a single peak stays


@pytest.mark.parametrize(
    ("draw", "given", "sentence"),
    [
        (fig1.unpooling, pooled_window(np.zeros((20, 20))), r"up to 8x8, .*; given \[20, 20\], \[10, 10\]"),
        (fig1.unpooling, [WINDOW[0], WINDOW[1][:2], *WINDOW[2:]], r"its regions, .*; given \[7, 7\], \[2, 3\]"),
        (fig1.unpooling, [*WINDOW[:2], WINDOW[2] * 0 + 48, WINDOW[3]], "a switch lies outside its region; pool"),
        (fig1.unpooling, [*WINDOW[:2], WINDOW[2] * 0 - 1, WINDOW[3]], "a switch lies outside its region; pool"),
        (fig1.downwards, (PICTURE, {"conv1": np.zeros((20, 6, 6))}, ""), r"pixels .*; given conv1 \[20, 6, 6\]"),
        (fig1.downwards, (PICTURE[:30], LEVELS, ""), r"pixels \[3, 30, 50\]; given .*, pixels \[3, 40, 50\]"),
        (fig1.downwards, (PICTURE, {"conv0": np.zeros((6, 6))} | LEVELS, ""), r"signals .*; given conv0 \[6, 6\]"),
        (fig1.downwards, (PICTURE.astype(float), LEVELS, ""), "a picture is a uint8 array"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, given, sentence):
    with pytest.raises(FigureError, match=sentence):
        draw(*given)
