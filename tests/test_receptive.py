"""What a unit sees, found by gradients, against the arithmetic."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import lively, margins, picture, starts
from strategies import along, specs
from torch import Tensor
from torch.nn import functional as F

from zfnet_lib.architecture import (
    KRIZHEVSKY,
    ZFNET,
    ArchSpec,
    Box,
    Conv,
    Field,
    SpecError,
    input_window,
    receptive_field,
)
from zfnet_lib.deconv import deconv
from zfnet_lib.network import ConvNet


def averaging_twin(spec: ArchSpec, x: Tensor) -> dict[str, Tensor]:
    """Run a twin that hides nothing: filters of ones, averages for maxima, no rectification; one map is enough."""
    found = {}
    for conv in spec.convs:
        x = F.pad(x, [side for n in (x.shape[-1], x.shape[-2]) for side in margins(n, conv)])
        x = F.conv2d(x, x.new_ones(1, 1, conv.kernel, conv.kernel), stride=conv.stride)
        found[conv.name] = x
        if conv.pool:
            x = F.avg_pool2d(x, conv.pool.size, conv.pool.stride, ceil_mode=conv.pool.ceil)
            found[conv.pool_name] = x
    return found


def bounds(gradient: Tensor) -> Box | None:
    """Return the smallest box around everything in [..., h, w] that is not 0."""
    seen = gradient.ne(0).flatten(0, -3).any(dim=0)
    rows, columns = (seen.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    return Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if rows else None


@given(specs(), st.integers(0, 17), st.integers(0, 17), st.data())
def test_windows_equal_the_gradients_of_an_averaging_twin(spec, more_rows, more_columns, data):
    height, width = spec.smallest() + more_rows, spec.smallest() + more_columns
    x = torch.ones(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    found = averaging_twin(spec, x)
    layer = data.draw(st.sampled_from(sorted(found)))
    row, column = (data.draw(along(n)) for n in found[layer].shape[2:])
    (gradient,) = torch.autograd.grad(found[layer][0, 0, row, column], x)
    assert input_window(spec, layer, row, column, height, width) == bounds(gradient)


@given(specs(), st.integers(0, 40), st.data())
def test_windows_of_interior_units_are_whole_fields(spec, more, data):
    side = spec.smallest() + more
    layer = data.draw(st.sampled_from([name for name in spec.shapes(side) if name != "input"]))
    field = receptive_field(spec, layer)
    for row in range(spec.shapes(side)[layer][1]):
        box, window = field.box(row, row), input_window(spec, layer, row, row, side)
        inside = box.top >= 0 and box.bottom <= side
        assert (window == box) if inside else (window.top >= box.top and window.bottom <= box.bottom)


# ZFNET's geometry, narrow: with weights that are not negative every map lives, so the maxima decide alone.
NARROW = ZFNET.scaled(1 / 24).features()


@pytest.fixture(scope="module")
def bright() -> ConvNet:
    net = lively(NARROW)
    for parameter in net.parameters():
        parameter.data.abs_()
    return net


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_at_224_pixels_gradients_through_the_maxima_fill_the_window(bright, layer):
    x = picture(224, 224, n=8).abs().requires_grad_()
    maps = bright.trace(x, upto=layer).stages[layer].maps
    last = maps.shape[-1] - 1
    for row, column in ((0, 0), (last, 0), (0, last), (last, last), (last // 2, last // 2 + 1)):
        (gradient,) = torch.autograd.grad(maps[:, :, row, column].sum(), x, retain_graph=True)
        assert bounds(gradient) == input_window(ZFNET, layer, row, column)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv5"])
def test_pixels_outside_the_window_do_not_change_a_unit(layer):
    net = lively(NARROW)
    side = NARROW.shapes()[layer][1]
    x, other = picture(224, 224, 1), picture(224, 224, 2)
    for row, column in ((0, side - 1), (side // 2, 1)):
        top, left, bottom, right = input_window(NARROW, layer, row, column)
        other[..., top:bottom, left:right] = x[..., top:bottom, left:right]
        mine, theirs = (net.trace(each, upto=layer)[layer].maps[..., row, column] for each in (x, other))
        assert torch.equal(mine, theirs)
        assert not torch.equal(x, other)


@pytest.mark.parametrize("layer", ["conv1", "conv3", "conv5"])
def test_projections_stay_inside_the_window(layer):
    net = lively(NARROW)
    trace = net.trace(picture(224, 224))
    side = trace[layer].maps.shape[-1]
    for row, column in ((0, side - 1), (side // 2, side // 2)):
        window = input_window(NARROW, layer, row, column)
        shown = deconv(trace, layer, (int(trace[layer].maps[0, :, row, column].argmax()), row, column))
        assert shown.abs().max() > 0
        shown[..., window.top : window.bottom, window.left : window.right] = 0
        assert shown.abs().max() == 0


@pytest.mark.parametrize(
    ("layer", "size", "stride"),
    [
        ("conv1", 7, 2),
        ("pool1", 11, 4),
        ("conv2", 27, 8),
        ("pool2", 43, 16),
        ("conv3", 75, 16),
        ("conv4", 107, 16),
        ("conv5", 139, 16),
        ("pool5", 171, 32),
    ],
)
def test_fig_3_has_the_designed_fields(layer, size, stride):
    field = receptive_field(ZFNET, layer)
    assert (field.size, field.stride) == (size, stride)


def test_fields_of_krizhevskys_network_are_the_known_ones():
    fields = [receptive_field(KRIZHEVSKY, f"conv{i}") for i in range(1, 6)]
    assert [(field.size, field.stride) for field in fields] == [(11, 4), (51, 8), (99, 16), (131, 16), (163, 16)]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2))
def test_one_layers_field_is_its_filter(kernel, stride, padding):
    spec = ArchSpec("one", (Conv("conv1", 1, kernel, stride, padding),), (), 0)
    begins = starts(20, kernel, stride, padding)
    field = receptive_field(spec, "conv1")
    assert field == Field(kernel, stride, -padding)
    for (i, top), (j, left) in product(enumerate(begins), enumerate(begins)):
        assert field.box(i, j) == (top, left, top + kernel, left + kernel)


def test_units_that_see_only_zeros_beyond_the_picture_have_an_empty_window():
    # Over 12 pixels conv1 has 8 rows, and the last filter of conv2 begins at row 8.
    spec = ArchSpec("beyond", (Conv("conv1", 1, 5), Conv("conv2", 1, 1, stride=2)), (), 0, image_size=12)
    top, left, bottom, right = input_window(spec, "conv2", 4, 0)
    assert bottom <= top
    assert (left, right) == (0, 5)


@pytest.mark.parametrize(
    ("layer", "row", "column", "sentence"),
    [
        ("conv5", 13, 0, "conv5 has no unit at row 13, column 0; rows end at 12, columns at 12"),
        ("conv5", 0, -1, "conv5 has no unit at row 0, column -1; rows end at 12, columns at 12"),
        (
            "fc6",
            0,
            0,
            "zfnet has no maps 'fc6'; choose one of conv1, pool1, conv2, pool2, conv3, conv4, conv5, pool5",
        ),
        ("conv9", 0, 0, "zfnet has no maps 'conv9'; choose .*"),
        ("pool3", 0, 0, "zfnet has no maps 'pool3'; choose .*"),
    ],
)
def test_units_that_do_not_exist_get_one_sentence(layer, row, column, sentence):
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        input_window(ZFNET, layer, row, column)
