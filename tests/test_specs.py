"""Architectures as data: sizes, parameters and multiply-accumulates against counts made without the library."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt

import golden
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import lively, picture, starts
from strategies import specs
from torch.utils.flop_counter import FlopCounterMode

from zfnet_lib.architecture import (
    ARCHITECTURES,
    KRIZHEVSKY,
    MINI,
    NARROW,
    STEMS,
    TABLE_2,
    ZFNET,
    ArchSpec,
    Conv,
    Dense,
    Norm,
    Pool,
    SpecError,
    architecture,
)
from zfnet_lib.network import ConvNet

GOLDEN = json.loads(golden.FILE.read_text())


def test_the_golden_table_is_what_its_script_counts():
    assert golden.table() == GOLDEN


@pytest.mark.parametrize("name", GOLDEN)
def test_every_named_architecture_has_the_golden_counts(name):
    spec, expected = ARCHITECTURES[name], GOLDEN[name]
    assert {layer: list(shape) for layer, shape in spec.shapes().items()} == expected["shapes"]
    assert spec.parameters() == expected["parameters"]
    assert spec.macs() == expected["macs"]


@pytest.mark.parametrize(
    ("name", "total"),
    {
        "zfnet": 62_357_608,
        "zfnet-maps-512-1024-512": 107_627_624,
        "zfnet-fc-2048": 28_848_232,
        "zfnet-fc-8192": 154_542_184,
        "zfnet-fc-8192-maps-512-1024-512": 237_560_936,
        "krizhevsky": 60_965_224,
    }.items(),
)
def test_parameters_are_the_published_totals(name, total):
    assert sum(TABLE_2[name].parameters().values()) == total


def test_fig_3_has_the_printed_sizes():
    shapes = ZFNET.shapes()
    names = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
    assert [shapes[name][1:] for name in names] == [(n, n) for n in (110, 55, 26, 13, 13, 13, 13, 6)]


def test_table_2_has_its_twelve_rows_in_order_and_nothing_else_is_named():
    assert list(TABLE_2) == list(golden.LAYERS)[:12]
    assert list(ARCHITECTURES) == list(golden.LAYERS)
    assert all(name == spec.name for name, spec in ARCHITECTURES.items())


@pytest.mark.parametrize("spec", [MINI, KRIZHEVSKY.scaled(1 / 6, image_size=112)], ids=lambda spec: spec.name)
def test_counts_are_those_of_the_built_network(spec):
    net = ConvNet(spec)
    for layer, number in spec.parameters().items():
        assert number == sum(p.numel() for p in net.get_submodule(layer).parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, spec.image_size, spec.image_size))
    assert 2 * sum(spec.macs().values()) == counter.get_total_flops()


@given(
    st.integers(1, 90), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.integers(1, 3)
)
def test_sides_are_counted_one_by_one(side, kernel, stride, padding, ceil, step):
    conv, pool = Conv("conv1", 1, kernel, stride, padding, ceil=ceil), Pool(kernel, min(step, kernel), ceil)
    if side + 2 * padding >= kernel:
        assert conv.side(side) == len(starts(side, kernel, stride, padding, ceil))
    else:
        assert conv.side(side) == 0
    if side >= kernel:
        assert pool.side(side) == len(starts(side, kernel, pool.stride, 0, ceil))


def test_the_overhang_of_layer_1_is_one_pixel_at_224():
    assert ZFNET.conv("conv1").overhang(224) == 1
    assert KRIZHEVSKY.conv("conv1").overhang(224) == 3
    assert [ZFNET.conv(f"conv{i}").overhang(n) for i, n in ((2, 55), (3, 13))] == [0, 0]
    assert replace(ZFNET.conv("conv1"), ceil=False).overhang(224) == 0


@given(specs(), st.integers(0, 20), st.integers(0, 20))
def test_shapes_are_those_of_a_forward_pass(spec, more_rows, more_columns):
    height, width = spec.smallest() + more_rows, spec.smallest() + more_columns
    stages = lively(spec).trace(picture(height, width)).stages
    shapes = spec.shapes(height, width)
    for conv in spec.convs:
        assert shapes[conv.name] == stages[conv.name].maps.shape[1:]
        if conv.pool:
            assert shapes[conv.pool_name] == stages[conv.name].output.shape[1:]


@given(specs())
def test_the_smallest_input_fits_and_one_pixel_less_is_refused_with_its_size(spec):
    side = spec.smallest()
    assert min(min(shape) for shape in spec.shapes(side).values()) == 1
    if side > 1:
        with pytest.raises(SpecError, match=f"{side - 1}x{side} pixels is too small for generated; .* {side}$"):
            spec.shapes(side - 1, side)


def test_an_input_without_pixels_is_too_small():
    with pytest.raises(SpecError, match=r"0x64 pixels is too small"):
        MINI.shapes(0, 64)


def test_fan_in_counts_the_maps_of_the_own_group():
    assert KRIZHEVSKY.fan_in() == {
        "conv1": 3 * 121,
        "conv2": 48 * 25,
        "conv3": 256 * 9,
        "conv4": 192 * 9,
        "conv5": 192 * 9,
        "fc6": 256 * 36,
        "fc7": 4096,
        "fc8": 4096,
    }


def test_maps_that_no_group_divides_are_refused():
    with pytest.raises(SpecError, match=r"conv2 of .*: 97 to 256 maps cannot be split into 2 groups"):
        KRIZHEVSKY.resized(conv1=97).fan_in()


@pytest.mark.parametrize("factor", [1, 2])
def test_at_the_papers_widths_and_above_all_deviations_stay_at_one_hundredth(factor):
    spec = ZFNET.scaled(factor)
    assert {layer.std for layer in spec.layers} == {0.01}
    assert [dense.dropout for dense in spec.dense] == [0.5, 0.5]
    assert spec.conv("conv3").maps == 384 * factor


def test_an_input_of_no_pixels_is_none_that_was_left_out():
    with pytest.raises(SpecError, match=r"image_size of zfnet-x1 is 0; give a whole number from 1 "):
        ZFNET.scaled(1, image_size=0)


def test_narrow_networks_start_with_deviations_matched_to_their_fan_in():
    # By hand: all maps and units are an eighth; fc6 sees 256 maps of 6x6, then 32 of 1x1.
    expected = {layer: 0.01 * sqrt(8) for layer in ("conv2", "conv3", "conv4", "conv5", "fc7", "fc8")}
    expected |= {"conv1": 0.01, "fc6": 0.01 * sqrt(256 * 36 / 32)}
    assert {layer.name: layer.std for layer in MINI.layers} == pytest.approx(expected, rel=1e-12)


def test_narrow_networks_drop_so_few_units_that_the_noise_of_a_sum_stays_the_wide_ones():
    def noise(dense):  # the variance that dropout adds to a sum over equal units, as a share of its square
        return dense.dropout / (1 - dense.dropout) / dense.units

    assert [noise(dense) for dense in MINI.dense] == pytest.approx([noise(dense) for dense in ZFNET.dense])
    assert MINI.dense[0].dropout == pytest.approx(1 / 9)


def test_mini_is_the_papers_network_in_everything_but_width_and_size():
    def form(spec):
        return [replace(conv, maps=0, std=0) for conv in spec.convs]

    assert form(MINI) == form(ZFNET)
    assert (MINI.image_size, MINI.classes, len(MINI.dense)) == (64, 16, 2)


@pytest.mark.parametrize("name", TABLE_2)
def test_every_row_of_table_2_can_be_scaled_as_mini_is(name):
    narrow = TABLE_2[name].scaled(NARROW, image_size=64)
    assert list(narrow.fan_in()) == [layer.name for layer in TABLE_2[name].layers]
    assert narrow.conv("conv1").maps == 12
    assert all(conv.maps % conv.groups == 0 for conv in narrow.convs)


def test_a_scale_that_no_group_divides_is_refused():
    with pytest.raises(SpecError, match=r"conv2 of .*: 29 to 76 maps cannot be split into 2 groups"):
        KRIZHEVSKY.scaled(0.3)


def test_without_joins_the_neighbours_and_keeps_the_rest():
    joined = KRIZHEVSKY.without("conv3", "conv4", "fc7")
    assert [layer.name for layer in joined.layers] == ["conv1", "conv2", "conv5", "fc6", "fc8"]
    assert joined.conv("conv5") == KRIZHEVSKY.conv("conv5")
    assert joined.name == "krizhevsky-without-conv3-conv4-fc7"


def test_resized_changes_widths_alone():
    changed = ZFNET.resized(conv4=7, fc6=11)
    assert (changed.conv("conv4").maps, changed["fc6"].units) == (7, 11)
    assert changed.resized(ZFNET.name, conv4=384, fc6=4096) == ZFNET


def test_the_crossed_stems_differ_from_their_base_in_one_filter_size():
    for name, base, kernel in (("zfnet-11x11", ZFNET, 11), ("krizhevsky-7x7", KRIZHEVSKY, 7)):
        stem = STEMS[name]
        first = replace(stem.conv("conv1"), kernel=base.conv("conv1").kernel)
        assert stem.conv("conv1").kernel == kernel
        assert replace(stem, name=base.name, convs=(first, *stem.convs[1:])) == base


def test_normalisation_stands_after_the_pool_in_fig_3_and_before_it_in_krizhevskys_network():
    for spec, before in ((ZFNET, False), (KRIZHEVSKY, True)):
        found = [conv.norm for conv in spec.convs]
        assert found == [Norm(5, 1e-4, 0.75, 2.0, before_pool=before)] * 2 + [None] * 3


@given(specs())
def test_a_spec_survives_json(spec):
    assert ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("spec", ARCHITECTURES.values(), ids=lambda spec: spec.name)
def test_named_specs_survive_json(spec):
    assert ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "damage", [{"convs": [{"name": "conv1"}]}, {"colour": "red"}, {"dense": 3}, {"convs": None}]
)
def test_values_that_are_no_architecture_are_refused(damage):
    with pytest.raises(SpecError, match=r"no architecture of zfnet_lib"):
        ArchSpec.from_dict(MINI.to_dict() | damage)


@pytest.mark.parametrize("name", ["/x", "a/b", "..", "a..b", ".", "", "conv 1", "a\\b", "é", "a\n", "-x", 7, None])
def test_a_layer_is_named_as_a_file_may_be(name):
    for part in ("convs", "dense"):
        layers = getattr(MINI, part)
        with pytest.raises(SpecError, match=r"^a layer cannot be called .*; give it letters, digits, '_' and .*$"):
            replace(MINI, **{part: (replace(layers[0], name=name), *layers[1:])})


@pytest.mark.parametrize("name", ["conv1_2", "features.0", "A9"])
def test_layers_of_others_keep_their_names(name):
    spec = replace(MINI, convs=(replace(MINI.convs[0], name=name), *MINI.convs[1:]))
    assert spec[name].kernel == 7


def test_layers_have_names_of_their_own_and_one_has_maps():
    with pytest.raises(SpecError, match=r"^mini has two layers called 'fc8'; give each a name of its own$"):
        replace(MINI, dense=(Dense("fc8", 3),))
    with pytest.raises(SpecError, match=r"^mini has no convolution; give it at least one$"):
        replace(MINI, convs=())


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("conv", "maps", 0), ("conv", "maps", -3), ("conv", "maps", 2.5), ("conv", "kernel", 0),
        ("conv", "stride", 0), ("conv", "stride", "2"), ("conv", "padding", -1), ("conv", "groups", 0),
        ("conv", "kernel", 10**9), ("conv", "std", float("nan")), ("conv", "std", -0.1), ("conv", "std", None),
        ("pool", "size", 0), ("pool", "stride", 0), ("pool", "stride", 4), ("norm", "size", 4),
        ("norm", "size", 0), ("norm", "alpha", float("inf")), ("norm", "beta", "x"), ("norm", "k", 0),
        ("dense", "units", 0), ("dense", "dropout", 1), ("spec", "classes", -1), ("spec", "image_size", 0),
        ("spec", "image_size", 64.0), ("spec", "softmax_std", float("nan")),
    ],
)  # fmt: skip
def test_numbers_that_no_network_can_have_are_refused(part, name, value):
    conv, dense, change = MINI.convs[0], MINI.dense[0], {name: value}
    if part in ("pool", "norm"):
        part, change = "conv", {part: replace(getattr(conv, part), **change)}
    with pytest.raises(SpecError, match=r"^[^\n]*\bgive [^\n]*$"):
        match part:
            case "conv":
                replace(MINI, convs=(replace(conv, **change), *MINI.convs[1:]))
            case "dense":
                replace(MINI, dense=(replace(dense, **change), *MINI.dense[1:]))
            case "spec":
                replace(MINI, **change)


def test_values_of_the_wrong_type_are_refused():
    values = MINI.to_dict()
    values["convs"][0]["maps"] = "many"
    with pytest.raises(SpecError):
        ArchSpec.from_dict(values)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda: ZFNET["conv9"],
            "zfnet has no layer 'conv9'; its layers are conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8",
        ),
        (
            lambda: ZFNET.conv("fc6"),
            "layer 'fc6' of zfnet has no maps; choose one of conv1, conv2, conv3, conv4, conv5",
        ),
        (lambda: ZFNET.without("conv6"), "zfnet has no layer 'conv6'; .*"),
        (lambda: ZFNET.without("fc8"), "the softmax layer fc8 stays; `features.*"),
        (lambda: ZFNET.resized(fc9=3), "zfnet has no layer 'fc9'; .*"),
        (lambda: ZFNET.resized(fc6=0), "fc6=0: .* a positive width; .*"),
        (lambda: ZFNET.resized(fc8=5), "fc8=5: .*`classes` sets fc8's"),
        (lambda: architecture("zfent"), "there is no architecture 'zfent'; known are krizhevsky, .*mini"),
    ],
)
def test_wrong_names_and_widths_get_one_sentence(ask, sentence):
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        ask()


def test_features_have_neither_dense_layers_nor_classes():
    spec = ZFNET.features()
    assert spec.layers == ZFNET.convs
    assert list(spec.shapes(300, 240)) == list(ZFNET.shapes())[:-3]
