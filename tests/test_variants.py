"""What the paper argues against: other rectifications, switches and sharing in the same projection."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from captum.attr import GuidedBackprop
from hypothesis import given
from hypothesis import strategies as st
from oracles import alone, captum, close, deconv_by_autograd, lively, picture, sequential, starts, strongest_unit
from strategies import active_units, cases, shaped
from torch.nn import functional as F

from zfnet_lib.architecture import MINI, ArchSpec, Conv, Pool
from zfnet_lib.deconv import project
from zfnet_lib.network import ConvNet


@given(cases(normalised=False), st.data())
def test_guided_projections_equal_captums_guided_backpropagation(case, data):
    side = min(case.x.shape[-2:])
    trace = case.net.trace(case.x[..., :side, :side].contiguous())
    layer = data.draw(st.sampled_from(sorted(trace.stages)))
    unit = data.draw(active_units(trace[layer].maps))
    guided = captum(GuidedBackprop, sequential(case.net, layer, side), trace.x, unit)
    expected = guided * trace[layer].maps[0][unit]
    assert close(project(trace, layer, alone(trace[layer].maps, unit), rectify="both"), expected)


@given(cases(normalised=False), st.data())
def test_with_the_forward_mask_a_projection_is_the_exact_gradient(case, data):
    trace = case.net.trace(case.x)
    layer = data.draw(st.sampled_from(sorted(trace.stages)))
    unit = data.draw(active_units(trace[layer].maps))
    expected, _ = deconv_by_autograd(case.net, case.x, layer, unit, relu=F.relu)
    assert close(project(trace, layer, alone(trace[layer].maps, unit), rectify="mask"), expected)


@given(cases(), st.data(), st.floats(-3, 3), st.floats(-3, 3))
def test_without_rectification_a_projection_is_linear(case, data, a, b):
    trace = case.net.trace(case.x)
    layer = data.draw(st.sampled_from(sorted(trace.stages)))
    one, two = (data.draw(shaped(*trace[layer].maps.shape)) for _ in range(2))

    def shown(signal):
        return project(trace, layer, signal, rectify="none")

    parts = torch.stack([a * shown(one), b * shown(two)])
    assert (shown(a * one + b * two) - parts.sum(dim=0)).abs().max() <= 1e-12 * parts.abs().max()


def test_the_paths_differ_and_only_the_papers_is_the_default():
    trace = lively(MINI).trace(picture(64, 64))
    signal = alone(trace["conv5"].maps, strongest_unit(trace["conv5"].maps))
    papers = project(trace, "conv5", signal)
    assert torch.equal(papers, project(trace, "conv5", signal, switches="recorded", sharing="add", rectify="relu"))
    others = [
        {"rectify": "none"},
        {"rectify": "mask"},
        {"rectify": "both"},
        {"switches": "centre"},
        {"switches": "random"},
        {"sharing": "overwrite"},
    ]
    shown = [papers, *(project(trace, "conv5", signal, **other) for other in others)]
    for i, j in product(range(7), range(7)):
        assert close(shown[i], shown[j], 1e-3) == (i == j)


def glass(pool: Pool, side: tuple[int, int]):
    """Return a trace of a network of 1x1 identities: a projection from conv2 shows where unpooling puts things."""
    spec = ArchSpec("glass", (Conv("conv1", 3, 1, pool=pool), Conv("conv2", 3, 1)), (), 0, max(side))
    net = ConvNet(spec).double()
    for module in (net.conv1, net.conv2):
        module.weight.data = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    return net.trace(picture(*side).abs())


def places(trace, switches, seed=0) -> dict[tuple, tuple[int, int]]:
    """Return for each pooled unit (map, row, column) the position at which its value arrives."""
    found = {}
    for unit in product(*map(range, trace["conv2"].maps.shape[1:])):
        signal = torch.zeros_like(trace["conv2"].maps)
        signal[0][unit] = 1
        shown = project(trace, "conv2", signal, switches=switches, seed=seed)
        ((m, row, column),) = shown[0].nonzero().tolist()
        assert (m, shown[0, m, row, column]) == (unit[0], 1)
        found[unit] = (row, column)
    return found


GEOMETRIES = [(Pool(3, 2), (6, 8)), (Pool(3, 2, ceil=False), (6, 7)), (Pool(2, 2), (5, 4)), (Pool(2, 1), (3, 4))]


@pytest.mark.parametrize(("pool", "side"), GEOMETRIES)
def test_other_switches_stay_inside_their_regions_also_truncated_ones(pool, side):
    trace = glass(pool, side)
    rows, columns = (starts(n, pool.size, pool.stride, 0, pool.ceil) for n in side)
    for kind, seed in (("centre", 0), ("random", 0), ("random", 1), ("random", 2)):
        for (_, i, j), (row, column) in places(trace, kind, seed).items():
            assert rows[i] <= row < min(rows[i] + pool.size, side[0])
            assert columns[j] <= column < min(columns[j] + pool.size, side[1])


def test_centre_switches_are_the_centres():
    # Over 6 rows the third region holds rows 4 and 5 alone; over 7 columns no region is truncated.
    found = places(glass(Pool(3, 2), (6, 7)), "centre")
    assert {found[0, i, 0][0] for i in range(3)} == {1, 3, 4}
    assert [found[2, 0, j][1] for j in range(3)] == [1, 3, 5]


def test_random_switches_follow_the_seed_and_reach_every_place():
    trace = glass(Pool(3, 2), (6, 6))
    assert places(trace, "random", 5) == places(trace, "random", 5)
    assert places(trace, "random", 5) != places(trace, "random", 6)
    reached = [{places(trace, "random", seed)[0, i, i] for seed in range(40)} for i in (0, 2)]
    assert reached[0] == set(product(range(3), range(3)))
    assert reached[1] == set(product((4, 5), (4, 5)))


@pytest.mark.parametrize("typo", [{"rectify": "rely"}, {"switches": "recored"}, {"sharing": "ad"}])
def test_a_variant_that_does_not_exist_is_refused(typo):
    trace = lively(MINI).trace(picture(64, 64))
    with pytest.raises(ValueError, match=next(iter(typo.values()))):
        project(trace, "conv2", trace["conv2"].maps, **typo)
