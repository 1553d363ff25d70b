"""What the strongest units of a map have in common: hand-computed cases, and a second, literal way."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from zfnet_lib.architecture import MINI, Box
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import grouping, records
from zfnet_lib.paper.grouping import ENTROPY, EXTENT, FOUND, LIKE, RANDOM, TITLES, group_records
from zfnet_lib.strongest import Block


def test_likeness_is_the_mean_cosine_of_all_pairs():
    features = np.random.default_rng(0).normal(size=(7, 4, 5))
    found = grouping.likeness(features)
    for group, mean in zip(features, found.within, strict=True):
        cosines = [a @ b / math.sqrt(a @ a * (b @ b)) for a, b in combinations(group, 2)]
        assert mean == pytest.approx(sum(cosines) / len(cosines))
    assert abs(found.random) < 0.1 < found.level


def test_random_groups_take_no_two_members_of_one_group_and_constant_ones_are_like_nothing():
    features = np.repeat(np.eye(9)[:, None], 9, axis=1)
    found = grouping.likeness(features)
    assert found.random == found.level == 0
    few = grouping.likeness(np.ones((4, 9, 2)))
    assert [few.random, few.level] == pytest.approx([1, 1])
    assert grouping.likeness(np.zeros((4, 3, 2))).within.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("classes", "k"), [(2, 3), (5, 4), (200, 9), (1, 4)])
def test_entropy_by_chance_is_the_mean_over_many_draws(classes, k):
    drawn = np.random.default_rng(0).integers(0, classes, (20_000, k))
    assert grouping.entropy_by_chance(classes, k) == pytest.approx(grouping.entropy(drawn).mean(), abs=0.02)


def test_shape_ignores_contrast_and_colour_ignores_edges():
    picture = np.random.default_rng(0).random((6, 6, 3)).repeat(8, axis=0).repeat(8, axis=1)
    faint, turned = 0.5 + (picture - 0.5) / 2, picture.transpose(1, 0, 2)
    assert cosine(grouping.shape(picture), grouping.shape(faint)) > 0.999
    assert cosine(grouping.shape(picture), grouping.shape(turned)) < 0.95
    stripes = np.full((48, 48, 3), 0.5)
    stripes[::4] = 1.0
    assert np.allclose(grouping.colour(stripes), grouping.colour(stripes.transpose(1, 0, 2)), atol=0.05)
    assert grouping.colour(np.full((8, 8, 3), 0.5)).tolist() == [0.0] * 48


def cosine(one, other) -> float:
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_edges_follow_an_outline_whatever_its_sign_and_contrast():
    disc = torch.zeros(1, 3, 96, 96)
    disc[..., 30:60, 30:60] = 1
    moved = disc.roll(25, 3)
    one, negative, other = grouping.edges(torch.cat([disc, -0.1 * disc, moved]))
    assert one @ one == pytest.approx(1.0, abs=1e-5)
    assert one @ negative == pytest.approx(1.0, abs=1e-4) and one @ other < 0.5


def test_extent_equals_a_literal_search():
    projection = np.random.default_rng(1).normal(size=(3, 12, 12)) ** 3
    energy = (projection**2).sum(0)
    side = grouping.extent(projection)

    def most(size: int) -> float:
        places = range(len(energy) - size + 1)
        return max(energy[i : i + size, j : j + size].sum() for i in places for j in places)

    assert most(side) >= 0.9 * energy.sum() > most(side - 1)


def test_a_projection_finds_the_patch_whose_edges_it_has():
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (20, 3, 32, 32)).astype(np.uint8))
    own, box = pictures[3].permute(1, 2, 0).numpy()[4:28, 4:28], Box(4, 4, 28, 28)
    outlines = (own.transpose(2, 0, 1).astype(np.float32) - 128) / 255
    block = Block("conv1", 0, [1.0, 1.0], [outlines, -outlines[:, ::-1]], [own, own], [box, box], [], [])
    assert grouping.finds(block, pictures) == [True, False]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small network for every profile, and no results."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    net = ConvNet(MINI, seed=3)
    monkeypatch.setattr(grouping, "network_of", lambda profile: net)
    monkeypatch.setattr(grouping, "MAPS", {"smoke": 2, "tiny": 3})
    monkeypatch.setattr(grouping, "DATA", {"smoke": "shapes", "tiny": "shapes"})
    return net


def test_every_layer_is_measured_with_trained_and_with_random_weights(small):
    found = {
        (r.parameters["layer"], r.parameters["weights"], r.quantity): r
        for r in group_records(small, "mine", "shapes", maps=3)
    }
    for layer in ("conv1", "conv5"):
        for weights in ("trained", "untrained"):
            by_name = {quantity: r for (*place, quantity), r in found.items() if place == [layer, weights]}
            assert by_name[LIKE.format("shape")].n == 3 and by_name[RANDOM.format("shape")].n == 1
            assert 0 < by_name[ENTROPY].value <= math.log2(9) and by_name[FOUND].n == 27
    assert found["conv1", "trained", EXTENT].value <= 7
    assert found["conv1", "trained", EXTENT].value < found["conv3", "trained", EXTENT].value


def test_what_is_not_stored_names_its_command_and_what_is_stored_is_shown(small, tmp_path, monkeypatch):
    assert "zfnet run fig2 --profile tiny --live" in grouping.groups("tiny").markdown()
    table = grouping.groups("smoke")
    assert [row["layer"] for row in table.rows[:2]] == ["conv1", "conv2"] and len(table.rows) == 10
    assert TITLES.items() <= table.columns.items()
    (path,) = (tmp_path / "smoke" / "groups").glob("*.jsonl")
    assert path.name == "mini--shapes.jsonl"
    few = records.read(path)
    monkeypatch.setattr(grouping, "group_records", lambda *given: few)
    assert grouping.groups("tiny", live=True).rows == grouping.groups("tiny").rows == table.rows
