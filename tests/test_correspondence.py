"""Correspondence: Delta against a literal double loop, masks against the parts they are to hide."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import class_folders
from oracles import lively, picture
from pictures import TINY_SPEC

from zfnet_lib.files import ZfnetError
from zfnet_lib.images import Preparation
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import correspondence as parts
from zfnet_lib.paper.correspondence import GROUP, RANDOM, SAME, SIDE, correspondence, faces, squares

SIZE = 64
NET, X = lively(TINY_SPEC, seed=1), picture(SIZE, SIZE, n=6)


def hidden(*places: tuple[int, int], side: int = 12) -> torch.Tensor:
    """Return one mask for each top left corner."""
    masks = torch.zeros(len(places), SIZE, SIZE, dtype=torch.bool)
    for mask, (top, left) in zip(masks, places, strict=True):
        mask[top : top + side, left : left + side] = True
    return masks


SOMEWHERE = hidden((3, 9), (20, 40), (50, 50), (8, 8), (33, 0), (26, 26))


def by_loops(net, x, mask, layer) -> tuple[float, float, float]:
    """Return Delta, Delta by chance and the share of changes: sign by sign, pair by pair."""
    signs = []
    for own, square in zip(x, mask, strict=True):
        covered = own.clone()
        covered[:, square] = 0
        before, after = (net.trace(one[None])[layer].maps.detach().flatten() for one in (own, covered))
        signs.append([int(np.sign(change)) for change in (before - after).tolist()])
    n, distances, by_chance = len(signs[0]), [], []
    for one, other in permutations(signs, 2):
        distances.append(sum(a != b for a, b in zip(one, other, strict=True)) / n)
        pairs = [one.count(a) * other.count(b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a != b]
        by_chance.append(sum(pairs) / n**2)
    return np.mean(distances), np.mean(by_chance), np.mean([sign != 0 for one in signs for sign in one])


def test_delta_equals_a_literal_double_loop():
    found = correspondence(NET, X, {"part": SOMEWHERE}, ("conv2", "conv5", "fc7"), group=3)
    assert found.delta.shape == (3, 1, 2) and ((found.delta > 0) & (found.delta < 1)).all()
    for level, layer in enumerate(found.layers):
        for number, rows in enumerate((slice(0, 3), slice(3, 6))):
            measured = [array[level, 0, number] for array in (found.delta, found.chance, found.changed)]
            assert measured == pytest.approx(by_loops(NET, X[rows], SOMEWHERE[rows], layer), abs=1e-12)


def test_the_same_change_is_fully_consistent_and_none_changes_nothing():
    same = X[:1].repeat(3, 1, 1, 1)
    masks = {"one place": hidden(*[(20, 20)] * 3), "three places": hidden((3, 3), (25, 25), (48, 48))}
    masks["nothing"] = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    found = correspondence(NET, same, masks, group=3)
    assert (found.delta[:, 0] == 0).all() and (found.delta[:, 1] > 0.05).all()
    assert not found.delta[:, 2].any() and not found.changed[:, 2].any() and (found.relative[:, 2] == 1).all()
    assert found.layers == ("conv5", "fc7")
    assert correspondence(NET.features(), same, masks, group=3).layers == ("conv5",)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"group": 4}, "6 make none of 4"),
        ({"group": 1}, "of at least 2: 6 make none of 1"),
        ({"masks": {"eye": SOMEWHERE[:3]}}, r"the mask 'eye' is bool \[6, 64, 64\]; given bool \[3, 64, 64\]"),
        ({"masks": {"eye": SOMEWHERE.float()}}, "given float32"),
        ({"layers": ("conv9",)}, "small has no layer 'conv9'; its layers are conv1"),
        ({"profile": "smoke", "pictures": "photos"}, "the parts of 'photos' are not known; choose caltech-101"),
        ({"profile": "smoke", "groups": 0}, "64 faces of shapes make 1 to 12 groups of 5, not 0"),
        ({"profile": "smoke", "groups": 13}, "1 to 12 groups of 5, not 13"),
    ],
)
def test_bad_requests_get_one_sentence(changes, sentence):
    with pytest.raises(ZfnetError, match=sentence):
        if "profile" in changes:
            parts.measure(**changes)
        else:
            correspondence(**{"net": NET, "x": X, "masks": {"part": SOMEWHERE}, "group": 3} | changes)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([(64, 73), (112, 128), (224, 256), (224, 224)]))
def test_squares_have_one_size_and_lie_inside_the_view(row, column, sizes):
    crop, short_side = sizes
    preparation = Preparation(short_side, crop, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    (mask,) = squares(np.array([[row, column]]), preparation)
    width = round(SIDE * short_side)
    assert mask.sum() == width**2
    for place, covered in ((row, mask.any(1).nonzero()), (column, mask.any(0).nonzero())):
        assert len(covered) == width
        middle = place * short_side - (short_side - crop) // 2
        wanted = min(max(middle, width / 2), crop - width / 2)
        assert covered.double().mean() + 0.5 == pytest.approx(wanted, abs=0.51)


@pytest.fixture(scope="module")
def result() -> parts.Parts:
    return parts.measure("smoke", groups=3)


def test_the_experiment_hides_the_parts_of_drawn_faces_and_places_on_their_heads_in_smoke(result):
    assert result.found.layers == ("conv5", "fc7")
    assert result.found.parts == ("left eye", "right eye", "mouth", RANDOM, SAME)
    assert result.found.delta.shape == (2, 5, 3)
    assert "shapes val" in str(result.source)
    assert len(result.shown) == GROUP and all(len(row) == 6 for row in result.shown)
    for whole, *covered in result.shown:
        for one in covered:
            assert 0.02 < (one != whole).any(-1).mean() <= (round(SIDE * 73) / 64) ** 2
    drawn, rows, places = faces(result.net, "shapes", 3, seed=0)
    for i, row in enumerate(rows):
        face, left, right = drawn.objects(row)[0], result.masks["left eye"][i], result.masks["right eye"][i]
        eyes, mouth = (face.parts[part][4:68, 4:68] for part in ("eyes", "mouth"))
        assert (eyes & (left | right)).sum() >= 0.95 * eyes.sum()
        assert (eyes & left).any() and (eyes & right).any() and (mouth & result.masks["mouth"][i]).any()
        assert places["left eye"][i, 1] < places["right eye"][i, 1]
        assert face.mask[*(places[RANDOM][i] * drawn.size).astype(int)]
    assert len(np.unique(places[RANDOM], axis=0)) == 3 * GROUP and len(np.unique(places[SAME], axis=0)) == 3
    assert np.array_equal(places[SAME][::GROUP], places[RANDOM][::GROUP])
    for seed, same in ((0, True), (4, False)):
        assert np.array_equal(places[RANDOM], faces(result.net, "shapes", 3, seed)[2][RANDOM]) == same


def test_table_and_verdict_say_what_was_found(result):
    delta = result.found.delta
    assert [row["delta"] for row in result.table.rows] == [
        f"{own.mean():.3f} ± {own.std(ddof=1):.3f}" for level in delta for own in level
    ]
    below = int((delta[0, :3].mean(0) < delta[0, 3]).sum())
    assert f"In conv5 the mean Δ of true parts is below that of a random place in {below} of 3" in result.verdict
    papers = {(row["layer"], row["part"]): row["paper"] for row in result.table.rows}
    assert papers["fc7", RANDOM] == "0.073 ± 0.014" and papers["conv5", "mouth"] == ""


@pytest.fixture
def untrained(monkeypatch, data):
    """The profile `tiny` with a small network and no data."""
    monkeypatch.setattr(parts, "network_of", lambda profile, network: ConvNet(TINY_SPEC, seed=1).eval().features())
    return data


def test_without_caltech_the_drawn_faces_are_taken_and_named(untrained):
    assert "shapes val" in str(parts.measure("tiny", groups=1).source)
    with pytest.raises(ZfnetError, match="zfnet fetch caltech-101"):
        parts.measure("tiny", "caltech-101")


def test_aligned_faces_are_taken_far_apart(untrained):
    root = untrained / "caltech-101" / "caltech101" / "101_ObjectCategories"
    class_folders(root, ["Faces", "Faces_easy"], 12)
    result = parts.measure("tiny", groups=2)
    assert result.found.delta.shape == (1, 5, 2) and result.found.parts[2] == "nose"
    dataset, rows, places = faces(result.net, "caltech-101", 2, 0)
    assert (places["left eye"] == places["left eye"][0]).all() and len(np.unique(places[RANDOM], axis=0)) == 10
    assert "caltech-101 all" in str(result.source)
    assert [int(dataset.names[row][-8:-4]) for row in rows] == [1, 3, 5, 7, 9, 2, 4, 6, 8, 10]


def test_the_figure_draws_every_group_and_the_means(result):
    found = result.found
    figure = parts.draw(found)
    panels = np.array(figure.axes).reshape(2, 2)
    for level, line in enumerate(panels):
        for axes, values in zip(line, (found.delta[level], found.relative[level]), strict=True):
            assert np.array_equal([curve.get_ydata() for curve in axes.lines], values)
            means = [bar.get_segments()[0][0, 1] for bar in axes.collections]
            assert means == pytest.approx(values.mean(1))
        assert [label.get_text() for label in line[0].get_xticklabels()][-1] == "one random\nplace for\nall"
