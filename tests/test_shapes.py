"""The drawn pictures: determinism, masks, and what can be learnt from them."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from zfnet_lib.datasets import mask_box, open_dataset
from zfnet_lib.datasets.shapes import FAMILIES, Canvas, outlines

FAMILY = st.sampled_from(sorted(FAMILIES))


def test_a_picture_depends_on_seed_family_split_and_number_alone():
    one, other = open_dataset("shapes", "train", n=40), open_dataset("shapes", "train", n=400)
    seed, val = open_dataset("shapes", "train", n=40, seed=1), open_dataset("shapes", "val")
    other[3]
    assert torch.equal(one[17].picture, other[17].picture)
    assert one[16].label == seed[16].label == val[16].label == one[32].label
    assert not any(torch.equal(one[16].picture, sample.picture) for sample in (seed[16], val[16], one[32]))
    assert one.fingerprint == open_dataset("shapes", "train", n=40).fingerprint
    assert len({one.fingerprint, other.fingerprint, seed.fingerprint}) == 3


@given(FAMILY, st.integers(0, 500), st.integers(16, 70))
def test_parts_are_disjoint_and_make_up_the_object(family, i, size):
    data = open_dataset(family, "train", n=501, size=size)
    sample, objects = data[i], data.objects(i)
    assert sample.picture.shape == (3, size, size) and sample.picture.dtype == torch.uint8
    count = sum(mask.int() for shown in objects for mask in shown.parts.values())
    assert count.max() <= 1 and torch.equal(count > 0, sample.mask) and sample.box == mask_box(sample.mask)
    for shown in objects:
        assert torch.equal(torch.stack(list(shown.parts.values())).any(0), shown.mask)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_part_of_every_kind_is_seen(family):
    data, seen = open_dataset(family, "train", n=80), defaultdict(list)
    for i in range(len(data)):
        for shown in data.objects(i):
            for name, mask in shown.parts.items():
                seen[shown.label, name].append(mask.sum().item())
    assert all(np.median(pixels) >= 3 for pixels in seen.values()), seen
    assert {label for label, _ in seen} == set(range(len(data.classes)))


def test_size_changes_the_scale_and_not_the_scene():
    for i in range(12):
        small, large = (open_dataset("shapes", n=12, size=size)[i] for size in (64, 128))
        assert np.allclose(2 * np.array(small.box), large.box, atol=3)


def test_colour_tells_classes_by_the_object_and_not_by_the_background():
    data = open_dataset("shapes", "train", n=320, size=32)
    samples = [data[i] for i in range(len(data))]

    def accuracy(show_object):
        """Of the nearest class mean of the mean colour, learnt on one half and tried on the other."""
        shown = [s.picture[:, s.mask if show_object else ~s.mask] for s in samples]
        learnt, tried = np.split(torch.stack([pixels.double().mean(1) for pixels in shown]).numpy(), 2)
        known, wanted = np.split(data.labels, 2)
        means = np.stack([learnt[known == k].mean(0) for k in range(16)])
        return (cdist(tried, means).argmin(1) == wanted).mean()

    assert accuracy(True) > 3 / 16
    assert accuracy(False) < 2 / 16


def test_scenes_label_what_they_show():
    scenes, numbers = open_dataset("shapes-scenes", "train", n=60), set()
    assert scenes.multilabel and scenes.labels.shape == (60, 16) and set(np.unique(scenes.labels)) == {-1, 1}
    for i in range(60):
        objects = scenes.objects(i)
        assert sorted(shown.label for shown in objects) == np.flatnonzero(scenes.labels[i] == 1).tolist()
        numbers.add(len(objects))
    assert numbers == {2, 3, 4}


@pytest.mark.parametrize("line", ["ellipse 10 9 7 4 turn=30", "ring 10 10 8 5 end=180", "polygon 2 3 17 5 9 16"])
def test_outlines_against_points_counted_in_float64(line):
    """Even-odd rule at 16 x 16 points in each pixel; the drawn edge may be a quarter of a pixel wide."""
    (outline,), points = outlines(line), (np.arange(320) + 0.5) / 16
    x, y = np.meshgrid(points, points)
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    literal = inside.reshape(20, 16, 20, 16).mean((1, 3))
    canvas = Canvas(np.zeros((20, 20, 3), np.float32), np.zeros((20, 20), np.int16))
    canvas.paint(outline, "plain", np.eye(2, 3), (0.0, 0.0, 1.0), number=7)
    owned = canvas.owner == 7
    assert not owned[literal < 0.05].any() and owned[literal > 0.95].all()
    assert abs(owned.sum() / literal.sum() - 1) < 0.12
