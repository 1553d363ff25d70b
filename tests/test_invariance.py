"""Invariance: transformed pictures against geometry by hand, distances against literal loops."""

from dataclasses import replace
from functools import partial
from math import cos, radians, sin
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import TINY_SPEC

from zfnet_lib.files import ZfnetError
from zfnet_lib.images import FigureError, Preparation
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import invariance as robustness
from zfnet_lib.paper import setting
from zfnet_lib.paper.invariance import TRANSFORMATIONS, Transformation, invariance, transformed

NET = ConvNet(TINY_SPEC, seed=3).eval()
GREY = Preparation(20, 16, torch.full((3, 1, 1), 128.0), torch.ones(3, 1, 1))
SOME = (
    Transformation("vertical translation", "share of the side", "shift", (-0.2, 0.0, 0.2)),
    Transformation("rotation", "degrees", "turn", (0.0, 180.0)),
)


def noise(n: int, height: int = 73, width: int = 73, seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)) for _ in range(n)]


@given(st.integers(20, 90), st.integers(20, 90), st.integers(0, 9))
def test_a_picture_that_is_not_moved_is_prepared_as_always(height, width, seed):
    (picture,) = noise(1, height, width, seed)
    assert torch.equal(transformed(picture, GREY), GREY.square(picture))


def test_quarter_turns_are_exact_and_clockwise_and_beyond_the_edge_lies_the_mirror_image():
    (picture,) = noise(1, 20, 20)
    for quarters in (1, 2, 3):
        turned = transformed(picture, GREY, turn=90.0 * quarters)
        assert torch.equal(turned, torch.rot90(picture, -quarters, (1, 2)))
    moved = transformed(picture, GREY, shift=4 / 16)
    assert torch.equal(moved[:, 4:], picture[:, :16])
    assert torch.equal(moved[:, :4], picture[:, :4].flip(1))


@settings(max_examples=25)
@given(st.floats(-0.3, 0.3), st.floats(1, 1.8), st.floats(0, 360))
def test_every_pixel_comes_from_where_geometry_says(shift, scale, turn):
    # Brightness rises by 4 a pixel, so it tells where a pixel was taken, to a quarter of one.
    side = 60
    y, x = np.mgrid[:side, :side]
    picture = torch.from_numpy(np.stack([4 * y, 4 * x, 0 * x]).astype(np.uint8))
    shown = transformed(picture, replace(GREY, short_side=side, crop=side), shift, scale, turn).numpy()
    c, s = cos(radians(turn)), sin(radians(turn))
    v, u = y + 0.5 - side / 2, x + 0.5 - side / 2
    taken = np.stack([(c * v - s * u) / scale - shift * side, (c * u + s * v) / scale]) + side / 2 - 0.5
    inside = ((taken > 3) & (taken < side - 4)).all(0)
    assert inside.sum() > 500 and np.abs(shown[:2] - 4 * taken)[:, inside].max() < 1


def test_distances_equal_literal_loops():
    shown = noise(3)
    found = invariance(NET, shown, transformations=SOME)
    traces = [NET.trace(NET.prepare([one])) for one in shown]
    features = {k: [trace[k].maps.detach().double().flatten() for trace in traces] for k in found.layers}
    assert found.layers == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    for sweep in found.sweeps:
        for i, picture in enumerate(shown):
            for s, step in enumerate(sweep.transformation.steps):
                square = transformed(picture, NET.preparation, **{sweep.transformation.way: step})
                trace = NET.trace(NET.prepare([square]))
                for layer, own in features.items():
                    others = [float((own[i] - other).norm()) for j, other in enumerate(own) if j != i]
                    moved = float((trace[layer].maps.detach().double().flatten() - own[i]).norm())
                    expected = moved / (sum(others) / len(others))
                    assert sweep.distances[layer][i, s] == pytest.approx(expected, rel=1e-4, abs=1e-9)
                expected = trace.logits.softmax(1)[0, found.labels[i]].item()
                assert sweep.probabilities[i, s] == pytest.approx(expected, abs=1e-6)


def test_the_share_beyond_the_edge_is_counted():
    crop, side = NET.preparation.crop, NET.preparation.short_side
    up, still, down = invariance(NET, noise(2, side, side), transformations=SOME).sweeps[0].filled[0]
    margin = (side - crop) // 2
    assert still == 0
    assert down == pytest.approx(int(0.2 * crop - margin + 0.5) / crop, abs=1.1 / crop)
    assert up == pytest.approx(down, abs=1.1 / crop)
    tall = invariance(NET, noise(2, 2 * side, side), transformations=SOME).sweeps[0].filled
    assert (tall == 0).all()


def test_labels_are_the_given_ones_or_the_network_s_answers():
    shown = noise(2)
    found, given_ = invariance(NET, shown, transformations=SOME), invariance(NET, shown, [3, 1], SOME)
    assert found.answered and list(found.labels) == NET(NET.prepare(shown)).argmax(1).tolist()
    assert not given_.answered and given_.labels == (3, 1)
    expected = NET(NET.prepare(shown)).softmax(1)[[0, 1], [3, 1]].detach().numpy()
    assert np.allclose(given_.sweeps[0].probabilities[:, 1], expected)


@pytest.mark.parametrize(
    ("pictures", "labels", "sentence"),
    [
        (noise(1), None, "give at least 2, not 1"),
        (noise(2), [1], "2 pictures take 2 labels from 0 to 3; given 1"),
        (noise(2), [1, 4], "2 pictures take 2 labels from 0 to 3; given 1, 4"),
        (noise(1) * 2, None, "the pictures have the same features in conv1; give pictures that differ"),
    ],
)
def test_bad_input_gets_one_sentence(pictures, labels, sentence):
    with pytest.raises(ZfnetError, match=sentence):
        invariance(NET, pictures, labels, SOME)


@pytest.fixture(scope="module")
def result() -> robustness.Robustness:
    return robustness.measure("smoke")


def test_the_experiment_follows_the_classes_of_five_pictures(result):
    assert result.found.labels == (0, 3, 6, 9, 12) and not result.found.answered
    assert result.found.ends == ("conv1", "fc7")
    for sweep, transformation in zip(result.found.sweeps, TRANSFORMATIONS, strict=True):
        still = transformation.steps.index(1.0 if transformation.way == "scale" else 0.0)
        assert all((values[:, still] == 0).all() for values in sweep.distances.values())
    assert [row["layer"] for row in result.by_layer.rows] == list(result.found.layers)
    assert "picture's class" in result.basis and "mirror image" in result.basis
    row = result.by_layer.rows[2]
    assert row["scale"] == round(float(result.found.sweeps[1].distances["conv3"].mean()), 3) != row["scale random"]
    assert "mini" in str(result.source)


def test_a_network_without_classifier_says_so_in_one_sentence(monkeypatch):
    features = setting.network_of("smoke").features()
    monkeypatch.setattr("zfnet_lib.paper.setting.network_of", lambda profile, network: features)
    monkeypatch.setattr(robustness, "invariance", partial(invariance, transformations=SOME))
    result = robustness.measure("smoke", count=2)
    assert result.found.labels is None and result.found.sweeps[0].probabilities is None
    assert "There is no classifier here: conv5 is the highest layer" in result.basis
    assert len(robustness.draw(result).axes) == 6
    with pytest.raises(ZfnetError, match="has no classifier here; leave the labels out"):
        invariance(features, noise(2), [1, 2], SOME)


@pytest.mark.parametrize(
    ("labels", "count", "rows"),
    [([2, 2, 0, 0, 1, 1, 3], 4, [2, 4, 0, 6]), ([2, 2, 0, 0, 1, 1, 3], 2, [2, 0]), ([0] * 10, 5, [0, 2, 4, 6, 8])],
)
def test_pictures_are_spread_over_the_classes_or_over_the_data_set(labels, count, rows):
    dataset = MagicMock(labels=np.array(labels), multilabel=False)
    dataset.name = "pictures"
    dataset.__len__.return_value = len(labels)
    assert robustness.spread(dataset, count) == rows
    with pytest.raises(ZfnetError, match=f"pictures has {len(labels)} pictures; choose 1 to {len(labels)}, not 0"):
        robustness.spread(dataset, 0)


def test_the_figure_draws_every_distance_and_probability(result):
    with pytest.raises(FigureError, match="6 pictures can be told apart; given 7"):
        robustness.draw(result._replace(pictures=noise(7)))
    figure = robustness.draw(result)
    panels = np.array(figure.axes).reshape(3, 4)
    for (views, *others), sweep in zip(panels, result.found.sweeps, strict=True):
        assert len(views.images) == 20
        drawn = (sweep.distances["conv1"], sweep.distances["fc7"], sweep.probabilities)
        for axes, values in zip(others, drawn, strict=True):
            assert np.array_equal([curve.get_ydata() for curve in axes.lines], values)
            assert len({(curve.get_color(), curve.get_linestyle()) for curve in axes.lines}) == 5
            assert axes.get_ylim()[1] >= values.max()
    titles = ["vertical translation", "conv1: distance", "fc7: distance", "probability"]
    assert [axes.get_title("left") for axes in panels[0]] == titles
