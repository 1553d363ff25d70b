"""Occlusion against the literal way: paste the square, run the network, place by place; all in float64."""

import re
from dataclasses import replace
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import close, lively, picture
from strategies import specs

from zfnet_lib import MINI, TABLE_2, ZFNET, ConvNet, Occlusion, ZfnetError, occlude
from zfnet_lib.architecture import ArchSpec, Conv, Dense, Pool
from zfnet_lib.fast import occlusion
from zfnet_lib.occlusion import OcclusionError, largest_drop


@torch.no_grad()
def literally(net: ConvNet, x: torch.Tensor, size: int, stride: int, fill=0.0) -> tuple:
    """Return activity [rows, columns, maps] and probability [rows, columns, classes] of passes for all places."""
    corners = [range(0, n - size + 1, stride) for n in x.shape[-2:]]
    colour = torch.as_tensor(fill, dtype=torch.float64).view(-1, 1, 1)
    covered = x.repeat(prod(map(len, corners)), 1, 1, 1)
    for each, (row, column) in zip(covered, product(*corners), strict=True):
        each[:, row : row + size, column : column + size] = colour
    traces = [net.trace(part) for part in covered.split(32)]
    maps = torch.cat([trace[net.spec.convs[-1].name].maps for trace in traces])
    activity = maps.sum((2, 3)).unflatten(0, tuple(map(len, corners)))
    if not net.spec.classes:
        return activity, None
    logits = torch.cat([trace.logits for trace in traces])
    return activity, logits.softmax(1).unflatten(0, tuple(map(len, corners)))


def agrees(seen: Occlusion, net: ConvNet, x: torch.Tensor, fill=0.0) -> bool:
    """Say whether all three maps are those of the literal way."""
    activity, probability = literally(net, x, seen.size, seen.stride, fill)
    same = close(seen.activity, activity[..., seen.map])
    if probability is None:
        return same and seen.probability is seen.label is seen.target is None
    exact = torch.allclose(seen.probability, probability[..., seen.target], rtol=0, atol=1e-10)
    return same and exact and torch.equal(seen.label, probability.argmax(-1))


@st.composite
def scenes(draw) -> tuple:
    """Return a network with or without a classifier, a picture, a square, its step and its colour."""
    spec = draw(specs())
    height, width = (spec.smallest() + draw(st.integers(0, 17)) for _ in range(2))
    if draw(st.booleans()):
        height = width
        dense = draw(st.sampled_from([(), (Dense("fc6", 5),), (Dense("fc6", 6), Dense("fc7", 4))]))
        spec = replace(spec, dense=dense, classes=4, image_size=height)
    seed, side = draw(st.integers(0, 10**6)), min(height, width)
    size = draw(st.one_of(st.sampled_from([1, side]), st.integers(1, side)))
    stride = draw(st.integers(max(1, (max(height, width) - size) // 6), max(height, width)))
    fill = draw(st.sampled_from([0.0, 40.0, (10.0, -20.0, 30.0)]))
    return lively(spec, seed), picture(height, width, seed), size, stride, fill


@settings(max_examples=120)
@given(scenes(), st.sampled_from([True, True, None]))
def test_the_changes_alone_give_what_a_pass_for_each_place_gives(scene, incremental):
    net, x, size, stride, fill = scene
    assert agrees(occlude(net, x, None, size, stride, fill=fill, incremental=incremental), net, x, fill)


MINIATURE = MINI.scaled(1 / 4)


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize(
    ("size", "stride"), [(14, 5), (14, 10), (47, 1), (33, 31), (64, 1), (63, 1), (1, 9), (2, 62), (20, 64)]
)
def test_the_papers_network_agrees_for_every_square(size, stride, incremental):
    net, x = lively(MINIATURE), picture(64, 64)
    assert agrees(occlude(net, x, None, size, stride, incremental=incremental), net, x)


@pytest.mark.parametrize(
    "first",
    [Conv("conv1", 4, 1, stride=2), Conv("conv1", 4, 2, stride=3, ceil=False), Conv("conv1", 4, 3, 2, ceil=False)],
    ids=["gaps", "gaps and a rest", "a rest"],
)
@pytest.mark.parametrize("side", [8, 9, 10])
def test_pixels_that_no_filter_sees_change_nothing(first, side):
    above = (Conv("conv2", 3, 2, padding=1, pool=Pool(2, 2, ceil=False)), Conv("conv3", 3, 1, stride=2))
    net, x = lively(ArchSpec("gaps", (first, *above), (), classes=0)), picture(side, side + 1)
    for size in (1, 2, 3):
        assert agrees(occlude(net, x, size=size, stride=1, incremental=True), net, x)


@pytest.mark.parametrize("spec", TABLE_2.values(), ids=TABLE_2)
def test_every_row_of_table_2_agrees(spec):
    net, x = lively(spec.scaled(1 / 24)), picture(224, 224)
    assert agrees(occlude(net, x, None, 50, 87), net, x)


def test_in_float32_the_three_maps_keep_their_promised_precision():
    net = lively(MINI)
    with torch.no_grad():
        net.fc8.weight /= 16
    x = picture(64, 64)
    activity, probability = literally(net, x, 14, 5)
    seen = occlude(net.float(), x.float(), size=14, stride=5)
    assert seen.activity.dtype == torch.float32
    assert ((seen.activity - activity[..., seen.map]).abs() <= 1e-6 * activity[..., seen.map]).all()
    assert (seen.probability - probability[..., seen.target]).abs().max() < 1e-5
    assert torch.equal(seen.label, probability.argmax(-1))


@pytest.mark.parametrize("incremental", [True, False])
def test_in_float16_an_activity_may_be_larger_than_its_largest_number(incremental):
    net = lively(MINI).half()
    net.conv5.weight.data.zero_()
    net.conv5.bias.data.fill_(9000)
    seen = occlude(net, picture(64, 64), size=30, stride=30, incremental=incremental)
    assert seen.activity.tolist() == [[81_000.0] * 2] * 2


def test_by_default_the_first_answer_and_the_strongest_map_are_watched():
    net, x = lively(MINIATURE), picture(64, 64)[0]
    trace = net.trace(x[None])
    seen = occlude(net, x, stride=9)
    assert seen.target == trace.logits.argmax()
    assert seen.map == int(trace["conv5"].maps.amax((0, 2, 3)).argmax())
    assert not seen.activity.requires_grad
    chosen = occlude(net, x, seen.target ^ 1, stride=9, map_=seen.map ^ 1)
    assert (chosen.target, chosen.map) == (seen.target ^ 1, seen.map ^ 1)
    assert agrees(chosen, net, x[None])
    assert torch.equal(chosen.label, seen.label)


@pytest.mark.parametrize(
    ("sides", "size", "stride", "shape"),
    [((224, 224), 50, 6, (30, 30)), ((112, 112), 25, 3, (30, 30)), ((112, 150), 25, 3, (30, 42))],
)
def test_the_square_scales_with_the_picture(sides, size, stride, shape):
    seen = occlude(lively(ZFNET.scaled(1 / 48).features()), picture(*sides))
    assert (seen.size, seen.stride, seen.activity.shape) == (size, stride, shape)


def test_two_runs_give_the_same_bytes_and_leave_the_network_alone(capsys):
    net, x = lively(MINIATURE).float(), picture(64, 64).float()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    first, again = (occlude(net, x, size=14, stride=3, progress=True) for _ in range(2))
    assert "289/289" in capsys.readouterr().err
    assert torch.equal(first.activity, again.activity)
    assert torch.equal(first.probability, again.probability)
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


def test_large_squares_are_passed_whole_and_small_ones_are_not(monkeypatch):
    net, x = lively(MINIATURE), picture(64, 64)
    monkeypatch.setattr(occlusion, "_changed", None)
    assert occlude(net, x, size=60, stride=2).activity.shape == (3, 3)
    with pytest.raises(TypeError):
        occlude(net, x, size=14, stride=10)


def test_the_papers_square_changes_a_fifth_of_the_work():
    corners = tuple(range(0, 224 - 50 + 1, 6))
    axis = occlusion.bands(ZFNET, 224, corners, 50, occlusion.NEAR)
    assert [corner for band in axis for corner in band.squares.first] == list(corners)
    assert occlusion.share(ZFNET, axis, axis) < 0.22


def test_places_are_answered_together_in_several_sheets(monkeypatch):
    net, x = lively(MINIATURE), picture(64, 64)
    monkeypatch.setattr("zfnet_lib.occlusion.TOGETHER", 7)
    monkeypatch.setattr(occlusion, "NEAR", 2**11)
    assert agrees(occlude(net, x, size=14, stride=9), net, x)


@given(st.integers(4, 20), st.integers(4, 20), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_a_drop_lies_inside_where_the_square_touches_the_object(height, width, size, stride, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(height, width, generator=generator) > 0.9
    corners = [range(0, n - size + 1, stride) for n in (height, width)]
    probability = torch.rand(*map(len, corners), generator=generator)
    touching = [[bool(mask[i : i + size, j : j + size].any()) for j in corners[1]] for i in corners[0]]
    drop = largest_drop(probability, mask, size, stride)
    assert probability[drop.row, drop.column] == probability.min()
    assert drop.inside == touching[drop.row][drop.column]
    assert drop.share == pytest.approx(sum(map(sum, touching)) / probability.numel())
    with pytest.raises(OcclusionError, match="give the mask of the same prepared picture"):
        largest_drop(probability[:, :-1], mask, size, stride)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": 65}, "a square of 65 pixels does not fit a picture of 64x64; choose a whole number from 1 to 64"),
        ({"size": 0}, "a square of 0 pixels does not fit"),
        ({"size": 12.8}, "a square of 12.8 pixels does not fit"),
        ({"stride": 0}, "the square cannot move by 0 pixels; choose a whole number from 1"),
        ({"stride": 1.5}, "the square cannot move by 1.5 pixels"),
        ({"label": 16}, "mini has no class 16; choose one from 0 to 15"),
        ({"label": -1}, "mini has no class -1"),
        ({"map_": 999}, "conv5 has no map 999; choose one from 0 to"),
        ({"fill": (1.0, 2.0)}, "a square is filled with one number or 3, one a channel, all finite; given [1.0,"),
        *(({"fill": torch.nan, "size": size}, "one a channel, all finite; given nan") for size in (14, 60)),
        ({"x": torch.zeros(2, 3, 64, 64)}, "takes one prepared picture, float [3, h, w] or [1, 3, h, w]; given"),
        ({"x": torch.zeros(64, 64)}, "given float32 [64, 64]"),
        ({"x": torch.zeros(3, 64, 64, dtype=torch.uint8)}, "given uint8 [3, 64, 64]; `net.prepare` makes it from "),
        ({"x": [[0.0]]}, "given list; "),
        ({"x": torch.zeros(3, 80, 80)}, "the classifier of mini takes pictures of 64x64, given 80x80"),
        ({"x": torch.full((3, 64, 64), torch.nan)}, "the input holds NaN or infinite values"),
        ({"spec": MINI.features(), "label": 3}, "has no classifier here, so no class 3; leave the label out"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changes, sentence):
    arguments = {"spec": MINI, "x": torch.zeros(3, 64, 64)} | changes
    with pytest.raises(ZfnetError, match=rf"\A.*{re.escape(sentence)}.*\Z"):
        occlude(ConvNet(arguments.pop("spec")), arguments.pop("x"), **arguments)
