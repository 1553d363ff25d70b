"""Windows: many units at once equal whole pictures and autograd, at every border, in float64."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import close, cut_from_wide, deconv_by_autograd, lively, picture, wrong
from strategies import cases

from zfnet_lib import KRIZHEVSKY, MINI, Unit, ZfnetError, deconv, deconv_units
from zfnet_lib.architecture import ArchSpec, Conv, Pool, receptive_field

slow = settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def strongest_at(trace, layer, row, column, image=0):
    """Return the unit of the map that is strongest at a place."""
    return Unit(image, layer, int(trace[layer].maps[image, :, row, column].argmax()), row, column)


@slow
@given(cases(), st.data())
def test_units_at_all_borders_and_corners_equal_the_literal_method_and_autograd(case, data):
    net, x = case
    trace = net.trace(x)
    layer = data.draw(st.sampled_from(sorted(trace.stages)))
    ends = [sorted({0, n // 2, n - 1}) for n in trace[layer].maps.shape[2:]]
    units = [strongest_at(trace, layer, *place) for place in product(*ends)]
    assert wrong(net, x, units, data.draw(st.sampled_from([None, 1, 3]))) == []
    shown = deconv_units(net, x, units)
    field = receptive_field(net.spec, layer)
    for unit, projection, box in zip(units, shown.projections, shown.boxes, strict=True):
        expected, _ = deconv_by_autograd(net, x, layer, unit.place)
        assert box == field.box(unit.row, unit.column) and projection.shape == (3, field.size, field.size)
        assert close(projection, cut_from_wide(expected[0], box))
        assert close(projection.sum(), expected.sum(), 1e-9)  # nothing lies outside the field


def test_units_of_all_layers_and_pictures_keep_their_order():
    net, x = lively(MINI), picture(64, 64, n=2)
    trace, units = net.trace(x), []
    for layer, image in product(("conv5", "conv1", "conv3", "conv2"), (1, 0)):
        last = trace[layer].maps.shape[-1] - 1
        units += [strongest_at(trace, layer, *place, image) for place in product((0, last), (last, 0))]
    units += [unit for unit in units if unit.layer == "conv3"]
    assert all(each.any() for each in deconv_units(net, x, units).projections)
    assert wrong(net, x, units) == wrong(net, x, units, batch=3) == []
    nothing = deconv_units(net, x, [])
    assert (nothing.projections, nothing.boxes) == ([], [])


def test_the_whole_network_serves_pictures_of_another_size_than_its_classifiers():
    net, x = lively(MINI), picture(90, 71)
    shown = deconv_units(net, x, [Unit(0, "conv3", 2, 1, 1)])
    expected = deconv(net.features().trace(x), "conv3", (2, 1, 1))[0]
    assert close(shown.projections[0], cut_from_wide(expected, shown.boxes[0]))


FLOOR = replace(
    MINI,
    image_size=76,
    convs=tuple(replace(conv, ceil=False, pool=conv.pool and Pool(3, 2, ceil=False)) for conv in MINI.convs),
)
NARROW = KRIZHEVSKY.scaled(1 / 24)


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [
        pytest.param(MINI, 64, 64, id="its own size"),
        pytest.param(MINI, 65, 71, id="one row more and several"),
        pytest.param(MINI, MINI.smallest(), MINI.smallest(), id="windows as large as the maps"),
        pytest.param(FLOOR, 76, 83, id="rounding down as torchvision does"),
        pytest.param(NARROW, 100, 99, id="padding, groups, normalisation before the pool"),
    ],
)
def test_places_at_and_near_all_borders_of_every_layer_equal_the_literal_method(spec, height, width):
    net = lively(spec.features())
    x = picture(height, width)
    trace = net.trace(x)
    for layer, stage in trace.stages.items():
        near = [sorted({0, 1, n // 2, n - 2, n - 1} & set(range(n))) for n in stage.maps.shape[2:]]
        assert wrong(net, x, [strongest_at(trace, layer, *place) for place in product(*near)]) == []


def block(number, maps):
    """Return two layers of 3x3 filters and a pool, as VGG has them."""
    pools = None, Pool(2, 2, ceil=False)
    return [Conv(f"conv{number}_{i}", maps, 3, 1, 1, pool=pool, ceil=False) for i, pool in enumerate(pools, 1)]


VGG = ArchSpec("vgg", (*block(1, 6), *block(2, 8), *block(3, 8)), (), 0)


def flat(side, n=2):
    """Return pictures of noise under a saturated sky and beside a wall; each has its own colours."""
    x = picture(side, side, n=n)
    colours = 100 * torch.rand(2, n, 3, 1, 1, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    x[:, :, : side // 2], x[:, :, :, : side // 3] = colours
    x[:, :, : side // 4] = 127
    return x


def ties(stage, pool):
    """Return the share of regions of a pool whose maximum, larger than 0, stands at several places."""
    regions = stage.maps.unfold(2, pool.size, pool.stride).unfold(3, pool.size, pool.stride).flatten(4)
    largest = regions.amax(4, keepdim=True)
    return (((regions == largest).sum(4) > 1) & (largest[..., 0] > 0)).float().mean().item()


@pytest.mark.parametrize(("spec", "side"), [(VGG, 41), (MINI.features(), 90)], ids=["vgg", "mini"])
def test_flat_areas_tie_and_windows_choose_the_switches_of_the_whole_picture(spec, side):
    net, x = lively(spec), flat(side)
    trace = net.trace(x)
    assert min(ties(trace[conv.name], conv.pool) for conv in spec.convs[:-1] if conv.pool) > 0.05
    for layer, stage in trace.stages.items():
        places = list(product(*map(range, stage.maps.shape[2:])))[:: max(1, stage.maps[0, 0].numel() // 16)]
        units = [strongest_at(trace, layer, *place, image % 2) for image, place in enumerate(places)]
        assert wrong(net, x, units) == [], layer


def test_pictures_that_are_not_finite_are_refused_where_a_unit_sees_them():
    x = picture(64, 64)
    x[0, 1, 20, 20] = torch.nan
    with pytest.raises(ZfnetError, match=r"^the input holds NaN or infinite values; .* `net.prepare`$"):
        deconv_units(lively(MINI), x, [Unit(0, "conv2", 0, 2, 2)])
