"""What the strongest units of a map have in common: hand-computed cases, and a second, literal way."""

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch

from zfnet_lib import open_dataset
from zfnet_lib.architecture import MINI, Box
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import grouping
from zfnet_lib.paper.grouping import ENTROPY, EXTENT, FOUND, LIKE, RANDOM, group_records
from zfnet_lib.strongest import Block


def test_likeness_is_the_mean_cosine_of_all_pairs():
    features = np.random.default_rng(0).normal(size=(7, 4, 5))
    found = grouping.likeness(features)
    for group, mean in zip(features, found.within, strict=True):
        cosines = [a @ b / math.sqrt(a @ a * (b @ b)) for a, b in combinations(group, 2)]
        assert mean == pytest.approx(sum(cosines) / len(cosines))
    assert abs(found.random) < 0.1 < found.level
    apart = grouping.likeness(np.repeat(np.eye(9)[:, None], 9, axis=1))  # no two members of one group are drawn
    assert apart.random == apart.level == 0
    few, none = grouping.likeness(np.ones((4, 9, 2))), grouping.likeness(np.zeros((4, 3, 2)))
    assert [few.random, few.level, *none.within] == pytest.approx([1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize(("classes", "k"), [(2, 3), (5, 4), (200, 9), (1, 4)])
def test_entropy_by_chance_is_the_mean_over_many_draws(classes, k):
    drawn = np.random.default_rng(0).integers(0, classes, (20_000, k))
    assert grouping.entropy_by_chance(classes, k) == pytest.approx(grouping.entropy(drawn).mean(), abs=0.02)


def test_shape_ignores_contrast_colour_ignores_edges_and_edges_ignore_the_sign():
    def cosine(one, other) -> float:
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    picture = np.random.default_rng(0).random((6, 6, 3)).repeat(8, axis=0).repeat(8, axis=1)
    shapes = [grouping.shape(each) for each in (picture, 0.5 + (picture - 0.5) / 2, picture.transpose(1, 0, 2))]
    assert cosine(shapes[0], shapes[1]) > 0.999 and cosine(shapes[0], shapes[2]) < 0.95
    stripes = np.full((48, 48, 3), 0.5)
    stripes[::4] = 1.0
    assert np.allclose(grouping.colour(stripes), grouping.colour(stripes.transpose(1, 0, 2)), atol=0.05)
    assert grouping.colour(np.full((8, 8, 3), 0.5)).tolist() == [0.0] * 48
    disc = torch.zeros(1, 3, 96, 96)
    disc[..., 30:60, 30:60] = 1
    one, negative, moved = grouping.edges(torch.cat([disc, -0.1 * disc, disc.roll(25, 3)]))
    assert [one @ one, one @ negative] == pytest.approx([1, 1], abs=1e-4) and one @ moved < 0.5


def test_extent_equals_a_literal_search():
    projection = np.random.default_rng(1).normal(size=(3, 12, 12)) ** 3
    energy = (projection**2).sum(0)
    side = grouping.extent(projection)

    def most(size: int) -> float:
        places = np.ndindex(len(energy) - size + 1, len(energy) - size + 1)
        return max(energy[i : i + size, j : j + size].sum() for i, j in places)

    assert most(side) >= 0.9 * energy.sum() > most(side - 1)


def test_a_projection_finds_the_patch_whose_edges_it_has():
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (20, 3, 32, 32)).astype(np.uint8))
    own, box = pictures[3].permute(1, 2, 0).numpy()[4:28, 4:28], Box(4, 4, 28, 28)
    outlines = (own.transpose(2, 0, 1).astype(np.float32) - 128) / 255
    block = Block("conv1", 0, [1.0, 1.0], [outlines, -outlines[:, ::-1]], [own, own], [box, box], [], [])
    assert grouping.finds(block, pictures) == [True, False]


def test_every_layer_is_measured_with_trained_and_with_random_weights_and_shown(results, monkeypatch):
    monkeypatch.setattr(grouping, "whole_data", lambda name: open_dataset(name, "val", n=120))
    net = ConvNet(MINI, seed=3)
    measured = list(group_records(net, "mine", "shapes", 3, ConvNet(MINI, seed=4).eval()))
    found = {(*r.parameters.values(), r.quantity): r for r in measured}
    for place in product(("conv1", "conv5"), ("trained", "untrained")):
        assert [found[*place, each.format("shape")].n for each in (LIKE, RANDOM)] == [3, 1]
        assert 0 < found[*place, ENTROPY].value <= math.log2(9) and found[*place, FOUND].n == 3
    first, third = (found[layer, "trained", EXTENT].value for layer in ("conv1", "conv3"))
    assert first <= 7 and first < third

    monkeypatch.setattr(grouping, "network_of", lambda *names: net)
    monkeypatch.setattr(grouping, "group_records", lambda *given: measured)
    assert "zfnet run fig2 --profile tiny --live" in grouping.groups("tiny").markdown()
    table = grouping.groups("smoke")
    assert list(table.columns)[1:] == ["conv1", "conv2", "conv3", "conv4", "conv5"] and len(table.rows) == 11
    assert all(table.columns.keys() == row.keys() for row in table.rows)
    assert (results / "smoke/groups/mini--shapes.jsonl").exists()
    assert grouping.groups("tiny", live=True).rows == grouping.groups("tiny").rows == table.rows
