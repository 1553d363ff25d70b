"""The deconvnet, and what the paper argues against, compared with loops, autograd and captum."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import (
    captum,
    close,
    cut_from_wide,
    deconv_by_autograd,
    layers_by_autograd,
    lively,
    picture,
    pool_by_loops,
    sequential,
    starts,
    unpool_by_loops,
)
from strategies import active_units, cases, shaped
from torch.nn import functional as F
from torchvision.models import alexnet

from zfnet_lib import KRIZHEVSKY, MINI, ZFNET, Unit, ZfnetError, deconv, deconv_units, project, unpool
from zfnet_lib.adapt import adapt
from zfnet_lib.architecture import Box, Pool, SpecError
from zfnet_lib.deconv import alone, chosen_switches, cut, descend, strongest_unit
from zfnet_lib.network import Stage

many = settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def test_unpooling_by_hand_with_shared_switches():
    # Regions of 3x3 at stride 2 over 5x5: the 9 in the centre is the maximum of all four of them in the first
    # map. In the second, the two upper regions share the 8, the lower ones have maxima of their own.
    maps = torch.tensor(
        [
            [[1, 0, 2, 0, 1], [0, 3, 0, 3, 0], [2, 0, 9, 0, 2], [0, 4, 0, 4, 0], [1, 0, 2, 0, 1]],
            [[0, 0, 8, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 5]],
        ],
        dtype=torch.float64,
    )[None]
    _, switches = F.max_pool2d(maps, 3, 2, return_indices=True)
    assert switches.tolist() == [[[[12, 12], [12, 12]], [[2, 2], [15, 24]]]]
    values = torch.tensor([[[[1, 2], [3, 4]], [[5, 6], [7, -8]]]], dtype=torch.float64)
    added = [
        [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 10, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
        [[0, 0, 11, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [7, 0, 0, 0, 0], [0, 0, 0, 0, -8]],
    ]
    assert unpool(values, switches, (5, 5)).tolist() == [added]
    assert unpool_by_loops(values, switches, (5, 5)).tolist() == [added]
    with pytest.raises(SpecError, match=r"^sharing='sum': choose one of add, overwrite$"):
        unpool(values, switches, (5, 5), sharing="sum")
    overwritten = unpool(values, switches, (5, 5), sharing="overwrite")
    assert (overwritten[0, 0, 2, 2], overwritten[0, 1, 0, 2], overwritten.sum()) == (4, 6, 4 + 6 + 7 - 8)


@given(st.data(), st.integers(3, 8), st.integers(3, 8), st.integers(2, 3), st.integers(1, 2), st.booleans())
def test_unpooling_is_the_adjoint_of_gathering_and_equals_the_loops(data, height, width, size, stride, ceil):
    maps, m = (data.draw(shaped(2, 2, height, width)) for _ in range(2))
    _, switches = pool_by_loops(maps, size, stride, ceil)
    v = data.draw(shaped(*switches.shape))
    gathered = m.flatten(2).gather(2, switches.flatten(2)).view_as(v)
    unpooled = unpool(v, switches, (height, width))
    assert torch.isclose((unpooled * m).sum(), (v * gathered).sum(), rtol=1e-12, atol=1e-12)
    assert close(unpooled, unpool_by_loops(v, switches, (height, width)), 1e-14)


@many
@given(cases(), st.data())
def test_projections_of_signals_and_of_units_equal_autograd_with_rectified_gradients(case, data):
    x = case.x.clone().requires_grad_()
    trace = case.net.trace(x)
    layer = data.draw(st.sampled_from(sorted(trace.stages)))
    signal = data.draw(shaped(*trace[layer].maps.shape))
    maps = dict(layers_by_autograd(case.net, x))[layer]
    (expected,) = torch.autograd.grad(maps, x, signal)
    assert close(project(trace, layer, signal), expected)
    trace = case.net.trace(case.x)
    for silent in maps[0].eq(0).nonzero().tolist()[:1]:
        assert not deconv(trace, layer, tuple(silent)).any()
    unit = data.draw(active_units(maps))
    expected, activation = deconv_by_autograd(case.net, case.x, layer, unit)
    assert activation > 0 and close(deconv(trace, layer, unit), expected)


def without_normalisation(spec):
    return replace(spec, convs=tuple(replace(conv, norm=None) for conv in spec.convs)).features()


@pytest.fixture(scope="module")
def traces():
    """One pass at 224 pixels of Fig. 3, of Krizhevsky's network (narrow) and of torchvision's AlexNet."""
    x = picture(224, 224)
    torch.manual_seed(0)
    foreign = adapt(alexnet().eval())
    return {
        "zfnet": lively(without_normalisation(ZFNET.scaled(1 / 4))).trace(x),
        "krizhevsky": lively(without_normalisation(KRIZHEVSKY.scaled(1 / 6))).trace(x),
        "alexnet": foreign.features().double().trace(x / 60),
    }


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
@pytest.mark.parametrize("network", ["zfnet", "krizhevsky", "alexnet"])
def test_at_224_pixels_a_unit_of_every_layer_equals_captums_deconvolution(traces, network, layer):
    trace = traces[network]
    unit = strongest_unit(trace[layer].maps[0])
    twin = sequential(trace.net, layer, 224)
    assert close(twin(trace.x), trace[layer].maps, 1e-12)
    expected = captum(Deconvolution, twin, trace.x, unit) * trace[layer].maps[0][unit]
    assert expected.any()
    assert close(deconv(trace, layer, unit), expected)


@pytest.mark.parametrize("network", ["zfnet", "krizhevsky", "alexnet"])
def test_at_224_pixels_units_in_the_last_corner_equal_autograd(traces, network):
    trace = traces[network]
    for layer, stage in trace.stages.items():
        row, column = (n - 1 for n in stage.maps.shape[2:])
        unit = (int(stage.maps[0, :, row, column].argmax()), row, column)
        expected, activation = deconv_by_autograd(trace.net, trace.x, layer, unit)
        assert activation > 0 and expected.any() and close(deconv(trace, layer, unit), expected)


@given(cases(normalised=False), st.data())
def test_guided_projections_equal_captums_and_masked_ones_the_gradient(case, data):
    side = min(case.x.shape[-2:])
    trace = case.net.trace(case.x[..., :side, :side].contiguous())
    layer = data.draw(st.sampled_from(sorted(trace.stages)))
    unit = data.draw(active_units(trace[layer].maps))
    signal = alone(trace[layer].maps, unit)
    guided = captum(GuidedBackprop, sequential(case.net, layer, side), trace.x, unit)
    assert close(project(trace, layer, signal, rectify="both"), guided * trace[layer].maps[0][unit])
    gradient, _ = deconv_by_autograd(case.net, trace.x, layer, unit, relu=F.relu)
    assert close(project(trace, layer, signal, rectify="mask"), gradient)


def test_the_paths_differ_and_only_the_papers_is_the_default():
    trace = lively(MINI).trace(picture(64, 64))
    signal = alone(trace["conv5"].maps, strongest_unit(trace["conv5"].maps[0]))
    papers = project(trace, "conv5", signal)
    assert torch.equal(papers, project(trace, "conv5", signal, switches="recorded", sharing="add", rectify="relu"))
    ways = {"rectify": ("none", "mask", "both"), "switches": ("centre", "random"), "sharing": ("overwrite",)}
    others = [{kind: way} for kind, each in ways.items() for way in each]
    shown = [papers, *(project(trace, "conv5", signal, **other) for other in others)]
    for i, j in product(range(7), range(7)):
        assert close(shown[i], shown[j], 1e-3) == (i == j)


@pytest.mark.parametrize(
    ("pool", "side"),
    [(Pool(3, 2), (6, 8)), (Pool(3, 2, ceil=False), (6, 7)), (Pool(2, 2), (5, 4)), (Pool(2, 1), (3, 4))],
)
def test_other_switches_are_the_centre_or_any_place_of_their_regions_also_of_truncated_ones(pool, side):
    maps = picture(*side)
    pooled, switches = pool_by_loops(maps, pool.size, pool.stride, pool.ceil)
    spans = [
        [range(first, min(first + pool.size, n)) for first in starts(n, pool.size, pool.stride, 0, pool.ceil)]
        for n in side
    ]
    regions = product(*map(enumerate, spans))
    every = {(i, j, *at) for (i, down), (j, across) in regions for at in product(down, across)}
    reached = set()
    for kind, seed in (("centre", 0), *(("random", seed) for seed in range(40))):
        chosen = chosen_switches(Stage(maps, switches, pooled), pool, kind, torch.Generator().manual_seed(seed))
        for _, m, i, j in product(*map(range, chosen.shape)):
            at = divmod(int(chosen[0, m, i, j]), side[1])
            if kind == "centre":
                assert at == tuple(span[(len(span) - 1) // 2] for span in (spans[0][i], spans[1][j]))
            else:
                reached.add((i, j, *at))
    assert reached == every


@given(st.data(), st.integers(-15, 9), st.integers(-15, 9), st.integers(1, 12))
def test_cutting_leaves_zeros_beyond_the_edges(data, top, left, side):
    image, box = data.draw(shaped(3, 7, 6)), Box(top, left, top + side, left + side)
    assert torch.equal(cut(image, box), cut_from_wide(image, box))


def test_descending_keeps_what_arrives_at_every_layer():
    trace = lively(MINI).trace(picture(64, 64))
    signal = alone(trace["conv4"].maps, strongest_unit(trace["conv4"].maps[0]))
    steps = descend(trace, "conv4", signal)
    assert not steps["pixels"].requires_grad
    assert list(steps) == ["conv4", "conv3", "conv2", "conv1", "pixels"]
    assert torch.equal(steps["conv4"], signal)
    assert torch.equal(steps["pixels"], project(trace, "conv4", signal))
    arrived = descend(trace, "conv4", signal, arriving=True)
    for layer in ("conv3", "conv2", "conv1"):
        assert steps[layer].min() == 0 > arrived[layer].min()
        assert torch.equal(steps[layer], F.relu(arrived[layer]))
        assert steps[layer].any()
        assert torch.equal(project(trace, layer, steps[layer]), steps["pixels"])


PROGRAM = """
import hashlib, torch
from zfnet_lib import MINI, ConvNet, Unit, deconv, deconv_units
net = ConvNet(MINI, seed=3)
x = 60 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
shown = [deconv(net.trace(x), "conv5", (4, 1, 2)).numpy()]
units = [Unit(1, "conv3", 2, 0, 0), Unit(0, "conv5", 4, 1, 2)]
shown += [each.numpy() for each in deconv_units(net, x, units).projections]
assert any(each.any() for each in shown)
digest = hashlib.sha256(b"".join(each.tobytes() for each in shown)).hexdigest()
"""


def test_two_runs_give_the_same_bytes():
    elsewhere = subprocess.check_output([sys.executable, "-c", PROGRAM + "print(digest)"], text=True).strip()
    for _ in range(2):
        exec(PROGRAM, here := {})
        assert here["digest"] == elsewhere


@pytest.mark.parametrize(
    ("layer", "unit", "sentence"),
    [
        ("conv9", (0, 0, 0), "mini has no layer 'conv9'; its layers are conv1, .*, fc8"),
        ("pool1", (0, 0, 0), "mini has no layer 'pool1'; its layers are conv1, .*, fc8"),
        ("fc6", (0, 0, 0), "layer 'fc6' of mini has no maps; choose one of conv1, .*, conv5"),
        ("conv5", (32, 0, 0), r"conv5 has no unit \(32, 0, 0\); it has 32 maps of 3x3, and a unit is a place .*"),
        ("conv5", (0, 3, 0), r"conv5 has no unit \(0, 3, 0\); .*"),
        ("conv5", (0, 0, -1), r"conv5 has no unit \(0, 0, -1\); .*"),
    ],
)
def test_units_that_do_not_exist_get_one_sentence(layer, unit, sentence):
    net, x = lively(MINI), picture(64, 64)
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        deconv(net.trace(x), layer, unit)
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        deconv_units(net, x, [Unit(0, "conv1", 0, 0, 0), Unit(0, layer, *unit)])


@pytest.mark.parametrize("unit", [(0, 1), Unit(0, "conv5", 3, 1, 1), (0, 1.5, 0), "3", None, 32, -1])
def test_what_is_no_unit_is_told_what_a_unit_is(unit):
    what = r"no unit .*; .* a unit is a place \(map, row, column\), to `deconv` also a map alone"
    what = r"no map -?\d+; choose one from 0 to 31" if isinstance(unit, int) else what
    with pytest.raises(SpecError, match=f"^conv5 has {what}$"):
        deconv(lively(MINI).trace(picture(64, 64)), "conv5", unit)


def test_pictures_signals_and_ways_that_do_not_exist_get_one_sentence():
    net, x = lively(MINI), picture(64, 64)
    trace = net.trace(x, upto="conv2")
    for image in (1, -1):
        with pytest.raises(SpecError, match=f"^there is no picture {image}; the batch holds 1$"):
            deconv_units(net, x, [Unit(image, "conv1", 0, 0, 0)])
    for batch in (0, -1):
        with pytest.raises(ZfnetError, match=f"^{batch} units cannot be projected together; give batch=1 or more"):
            deconv_units(net, x, [Unit(0, "conv1", 0, 0, 0)], batch=batch)
    with pytest.raises(SpecError, match=r"a signal on conv2 has shape \[1, 32, 6, 6\], given \[1, 32, 6, 7\]"):
        project(trace, "conv2", torch.zeros(1, 32, 6, 7))
    with pytest.raises(SpecError, match=r"^this trace holds no conv3; .* without `upto` and `keep`$"):
        deconv(trace, "conv3", (0, 0, 0))
    for typo in ({"rectify": "rely"}, {"switches": "recored"}, {"sharing": "ad"}):
        with pytest.raises(SpecError, match="^{}='{}': choose one of ".format(*next(iter(typo.items())))):
            project(trace, "conv2", trace["conv2"].maps, **typo)
