"""Architectures as data: sizes and counts against ones made without the library, receptive fields by gradients."""

import json
from dataclasses import replace
from math import sqrt

import golden
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import margins
from strategies import along, specs
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from zfnet_lib import KRIZHEVSKY, MINI, TABLE_2, ZFNET, ConvNet
from zfnet_lib.architecture import (
    ARCHITECTURES,
    STEMS,
    ArchSpec,
    Box,
    Conv,
    Norm,
    SpecError,
    architecture,
    input_window,
    receptive_field,
)


def test_named_architectures_have_the_counts_of_their_published_tables():
    totals = {
        "zfnet": 62_357_608,
        "zfnet-maps-512-1024-512": 107_627_624,
        "zfnet-fc-2048": 28_848_232,
        "zfnet-fc-8192": 154_542_184,
        "zfnet-fc-8192-maps-512-1024-512": 237_560_936,
        "krizhevsky": 60_965_224,
    }
    assert {name: sum(TABLE_2[name].parameters().values()) for name in totals} == totals
    named = list(golden.LAYERS)  # beside which may be rows of a reader's
    assert [name for name in ARCHITECTURES if name in named] == named
    assert [name for name in TABLE_2 if name in named] == named[:12]
    for name in named:
        spec = ARCHITECTURES[name]
        found = {"shapes": spec.shapes(), "parameters": spec.parameters(), "macs": spec.macs()}
        assert (spec.name, found) == (name, golden.count(name))


@pytest.mark.parametrize("spec", [MINI, KRIZHEVSKY.scaled(1 / 6, image_size=112)], ids=lambda spec: spec.name)
def test_counts_are_those_of_the_built_network(spec):
    net = ConvNet(spec)
    for layer, number in spec.parameters().items():
        assert number == sum(p.numel() for p in net.get_submodule(layer).parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, spec.image_size, spec.image_size))
    assert 2 * sum(spec.macs().values()) == counter.get_total_flops()


@given(specs())
def test_the_smallest_input_fits_and_one_pixel_less_is_refused_with_its_size(spec):
    side = spec.smallest()
    assert min(min(shape) for shape in spec.shapes(side).values()) == 1
    if side > 1:
        with pytest.raises(SpecError, match=f"{side - 1}x{side} pixels is too small for generated; .* {side}$"):
            spec.shapes(side - 1, side)


def test_narrow_networks_start_with_deviations_and_drop_shares_matched_to_their_width():
    # By hand: all maps and units are an eighth; fc6 sees 256 maps of 6x6, then 32 of 1x1.
    expected = {layer: 0.01 * sqrt(8) for layer in ("conv2", "conv3", "conv4", "conv5", "fc7", "fc8")}
    expected |= {"conv1": 0.01, "fc6": 0.01 * sqrt(256 * 36 / 32)}
    assert {layer.name: layer.std for layer in MINI.layers} == pytest.approx(expected, rel=1e-12)
    assert {layer.std for factor in (1, 2) for layer in ZFNET.scaled(factor).layers} == {0.01}

    def noise(dense):  # the variance that dropout adds to a sum over equal units, as a share of its square
        return dense.dropout / (1 - dense.dropout) / dense.units

    assert [noise(dense) for dense in MINI.dense] == pytest.approx([noise(dense) for dense in ZFNET.dense])
    assert [spec.dense[0].dropout for spec in (MINI, ZFNET.scaled(2))] == pytest.approx([1 / 9, 0.5])


def test_scaled_widths_suit_the_groups_of_both_layers_and_lists_of_layers_become_tuples():
    assert [c.maps for c in KRIZHEVSKY.scaled(0.09).convs] == [8, 24, 34, 34, 24]
    assert ArchSpec("mine", list(MINI.convs), list(MINI.dense)) == ArchSpec("mine", MINI.convs, MINI.dense)


def test_normalisation_stands_after_the_pool_in_fig_3_and_before_it_in_krizhevskys_network():
    for spec, before in ((ZFNET, False), (KRIZHEVSKY, True)):
        assert [conv.norm for conv in spec.convs] == [Norm(5, 1e-4, 0.75, 2.0, before_pool=before)] * 2 + [None] * 3


@given(st.one_of(specs(), st.sampled_from(list(ARCHITECTURES.values()))))
def test_a_spec_survives_json(spec):
    assert ArchSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def changed(part: str, **values) -> ArchSpec:
    """Return `MINI` with other values of the spec itself, of its first layers, or of the first pool or norm."""
    conv, dense = MINI.convs[0], MINI.dense[0]
    if part == "spec":
        return replace(MINI, **values)
    if part == "dense":
        return replace(MINI, dense=(replace(dense, **values),))
    values = values if part == "conv" else {part: replace(getattr(conv, part), **values)}
    return replace(MINI, convs=(replace(conv, **values), *MINI.convs[1:]))


@pytest.mark.parametrize("name", ["/x", "a/b", "..", "a..b", "", "conv 1", "a\\b", "é", "a\n", "-x", 7, None])
def test_a_layer_is_named_as_a_file_may_be(name):
    for part in ("conv", "dense"):
        with pytest.raises(SpecError, match=r"^a layer cannot be called .*; give it letters, digits, '_' and .*$"):
            changed(part, name=name)
    assert [changed("conv", name=name)[name].kernel for name in ("conv1_2", "features.0", "A9")] == [7, 7, 7]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("conv", "maps", 0), ("conv", "maps", 2.5), ("conv", "stride", "2"), ("conv", "padding", -1),
        ("conv", "kernel", 10**9), ("conv", "std", float("nan")), ("conv", "std", None), ("conv", "groups", 0),
        ("pool", "size", 0), ("pool", "stride", 4), ("norm", "size", 4), ("norm", "alpha", float("inf")),
        ("norm", "beta", "x"), ("norm", "k", 0), ("dense", "units", 0), ("dense", "dropout", 1),
        ("spec", "classes", -1), ("spec", "image_size", 64.0), ("spec", "softmax_std", float("nan")),
    ],
)  # fmt: skip
def test_numbers_that_no_network_can_have_are_refused(part, name, value):
    with pytest.raises(SpecError, match=r"^[^\n]*\bgive [^\n]*$"):
        changed(part, **{name: value})


@pytest.mark.parametrize(
    "damage",
    [
        {"convs": [{"name": "conv1"}]},
        {"convs": [{**MINI.to_dict()["convs"][0], "maps": "many"}]},
        {"colour": "red"},
        {"dense": 3},
        {"convs": None},
    ],
)
def test_values_that_are_no_architecture_are_refused(damage):
    with pytest.raises(SpecError, match=r"no architecture of zfnet_lib"):
        ArchSpec.from_dict(MINI.to_dict() | damage)


CONVS = "conv1, conv2, conv3, conv4, conv5"


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: ZFNET["conv9"], f"zfnet has no layer 'conv9'; its layers are {CONVS}, fc6, fc7, fc8"),
        (lambda: ZFNET.conv("fc6"), f"layer 'fc6' of zfnet has no maps; choose one of {CONVS}"),
        (lambda: ZFNET.without("conv6"), "zfnet has no layer 'conv6'; .*"),
        (lambda: ZFNET.without("fc8"), "the softmax layer fc8 stays; `features.*"),
        (lambda: ZFNET.resized(fc9=3), "zfnet has no layer 'fc9'; .*"),
        (lambda: ZFNET.resized(fc6=0), "fc6=0: .* a positive width; .*"),
        (lambda: ZFNET.resized(fc8=5), "fc8=5: .*`classes` sets fc8's"),
        (lambda: ZFNET.scaled(1, image_size=0), "image_size of zfnet-x1 is 0; give a whole number from 1 .*"),
        (lambda: KRIZHEVSKY.resized(conv1=97).fan_in(), "conv2 of .*: 97 to 256 maps cannot be split .*"),
        (lambda: changed("dense", name="fc8"), "mini has two layers called 'fc8'; give each a name of .*"),
        (lambda: replace(MINI, convs=()), "mini has no convolution; give it at least one"),
        (lambda: MINI.shapes(0, 64), "an input of 0x64 pixels is too small for mini; it needs 44"),
        (lambda: architecture("zfent"), "there is no architecture 'zfent'; known are krizhevsky, .*mini, and .*"),
        (lambda: input_window(ZFNET, "conv5", 13, 0), "conv5 has no unit at row 13, column 0; .* end at 12, .* 12"),
        (lambda: input_window(ZFNET, "conv5", 0, -1), "conv5 has no unit at row 0, column -1; rows end at 12, .*"),
        (lambda: receptive_field(ZFNET, "fc6"), "zfnet has no maps 'fc6'; choose one of conv1, .*, pool5"),
    ],
)  # fmt: skip
def test_what_does_not_exist_or_fit_gets_one_sentence(ask, sentence):
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        ask()


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


def test_fields_are_the_designed_and_the_known_ones():
    assert {name: receptive_field(ZFNET, name)[:2] for name in ZFNET.steps()} == {
        "conv1": (7, 2), "pool1": (11, 4), "conv2": (27, 8), "pool2": (43, 16),
        "conv3": (75, 16), "conv4": (107, 16), "conv5": (139, 16), "pool5": (171, 32),
    }  # fmt: skip
    fields = [receptive_field(KRIZHEVSKY, f"conv{i}") for i in range(1, 6)]
    assert [(field.size, field.stride) for field in fields] == [(11, 4), (51, 8), (99, 16), (131, 16), (163, 16)]


def test_units_that_see_only_zeros_beyond_the_picture_have_an_empty_window():
    # Over 12 pixels conv1 has 8 rows, and the last filter of conv2 begins at row 8.
    spec = ArchSpec("beyond", (Conv("conv1", 1, 5), Conv("conv2", 1, 1, stride=2)), (), 0, image_size=12)
    top, left, bottom, right = input_window(spec, "conv2", 4, 0)
    assert bottom <= top
    assert (left, right) == (0, 5)


@pytest.mark.parametrize(
    ("text", "name", "spec"),
    [
        ("zfnet.without('conv4')", "zfnet-without-conv4", ZFNET.without("conv4")),
        ("krizhevsky.resized(fc6=2048)", "krizhevsky-resized-fc6-2048", KRIZHEVSKY.resized(fc6=2048)),
        ("zfnet-11x11.scaled(.5, image_size=128)", "zfnet-11x11-scaled-0.5-image_size-128",
         STEMS["zfnet-11x11"].scaled(0.5, 128)),
        ('krizhevsky-without-7.without("conv3", "fc6").scaled(2)',
         "krizhevsky-without-7-without-conv3-fc6-scaled-2",
         TABLE_2["krizhevsky-without-7"].without("conv3", "fc6").scaled(2)),
    ],
)  # fmt: skip
def test_an_expression_of_a_named_architecture_is_one_and_so_is_its_name(text, name, spec):
    assert architecture(text) == architecture(name) == replace(spec, name=name)


WRONG = (
    "zfnet.", "zfnet.features()", "zfnet.without()", "zfnet.without('conv4', name='mini')", "zfnet.without(conv4)",
    "zfnet.without(*['conv4'])", "zfnet.resized(**{'fc6': 2})", "zfnet.resized(fc6=10**4)", "zfnet.scaled(True)",
    "zfnet.scaled(-1)", "zfnet.scaled(1e-30)", "zfnet.without('conv4').spec", "__import__('os').getcwd()",
    "zfnet-conv4", "zfnet-without", "zfnet-resized-fc6", "zfnet.without('conv4'", "zfnet.scaled(2)\0",
    "zfnet.scaled" + "(" * 5000, "zfnet.resized(fc6=print, fc6=2048)",
)  # fmt: skip


UNFIT = ("zfnet.resized(2)", "zfnet.scaled('a')", "zfnet.scaled(1e999)", "zfnet.resized(fc6=2.5)")


@pytest.mark.parametrize("text", WRONG + UNFIT)
def test_other_expressions_are_refused_in_one_sentence_and_nothing_in_them_is_evaluated(text):
    said = "known are .*, and what without, resized, scaled make of them, such as zfnet"
    said = "(is no architecture|give a whole)" if text in UNFIT else said
    with pytest.raises(SpecError, match=rf"\A.*{said}.*\Z"):
        architecture(text)
