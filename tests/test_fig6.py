"""Fig. 6: which pictures are chosen, and what a row shows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset
from zfnet_lib.images import FigureError
from zfnet_lib.network import ConvNet
from zfnet_lib.occlusion import Occlusion, occlude
from zfnet_lib.paper import fig6


def seen(activity, probability, label, target=0):
    activity, probability = (torch.tensor(values) for values in (activity, probability))
    return Occlusion(activity, probability, torch.tensor(label), 0, target, 4, 4)


def test_each_story_gets_the_picture_that_tells_it():
    dull = seen([[5.0, 5.0]], [[0.9, 0.9]], [[0, 0]])
    many = seen([[5.0, 4.0, 5.0]], [[0.5, 0.4, 0.4]], [[0, 1, 2]])
    disagree = seen([[5.0, 1.0]], [[0.1, 0.9]], [[0, 0]])
    flips = seen([[5.0, 1.0]], [[0.9, 0.1]], [[0, 3]])
    chosen = fig6.stories({4: dull, 3: many, 2: disagree, 1: flips})
    assert chosen == dict(zip(fig6.STORIES, [1, 2, 3], strict=True))
    assert list(fig6.stories({4: dull}).values()) == [4]


def test_without_a_classifier_the_activity_decides():
    weak, strong = (Occlusion(torch.tensor([[4.0, low]]), None, None, 0, None, 4, 4) for low in (3.0, 1.0))
    assert list(fig6.stories({0: weak, 1: strong}).values()) == [1, 0]


@pytest.fixture(scope="module")
def result():
    return fig6.measure("smoke", candidates=10, size=16, stride=8)


def test_a_row_holds_what_the_network_saw(result):
    row = result.rows[0]
    assert row.picture.shape == (64, 64, 3) and row.picture.dtype == np.uint8
    assert row.seen.activity.shape == row.seen.probability.shape == row.seen.label.shape == (7, 7)
    again = occlude(result.net, row.x, size=16, stride=8)
    assert torch.equal(again.probability, row.seen.probability) and again.map == row.seen.map
    assert len(row.projections) == 4 and row.projections[0].shape == row.projections[3].shape
    assert row.classes[row.seen.target] in row.title and "mini" in str(result.source)


def test_the_figure_draws_rows_with_and_without_a_classifier(result):
    row = result.rows[0]
    silent = row._replace(seen=replace(row.seen, probability=None, label=None, target=None))
    figure = fig6.draw([row, silent], "two rows")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("no classifier") == 2 and "two rows" in words
    images = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    top, left = (8 * n for n in np.unravel_index(int(row.seen.probability.argmin()), (7, 7)))
    assert (images[0][top : top + 16, left : left + 16] == 128).all()
    assert (images[0] == 128).all(-1).sum() < 2 * 16**2
    assert np.allclose(images[1], row.seen.activity) and np.allclose(images[6], row.seen.probability)
    with pytest.raises(FigureError, match="at least one picture"):
        fig6.draw([], "nothing")


def test_the_surest_crop_of_a_photograph_is_found():
    net = ConvNet(MINI, seed=2).eval()
    photos = open_dataset("photos")
    crop, target = fig6.surest_crop(net, photos, "coffee", [3, 5])
    own = [i for i, name in enumerate(photos.names) if name.startswith("coffee ")]
    found = {i: net(net.prepare([photos[i].picture])).softmax(1)[0] for i in own}
    assert (crop, target) == max(((i, c) for i in own for c in (3, 5)), key=lambda pair: found[pair[0]][pair[1]])


def test_photographs_of_known_objects_need_their_network(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", str(tmp_path))
    assert "see the profile `tiny`" in fig6.measure_objects("smoke")
    assert "zfnet fetch alexnet" in fig6.measure_objects("tiny")


def test_the_class_is_lost_where_the_object_is():
    one, several = fig6.looking("smoke", pictures=80).rows
    assert one["n"] >= 50
    assert one[fig6.INSIDE] >= 85 and one[fig6.INSIDE] >= one[fig6.CHANCE] + 30
    # A share of some 30 has a deviation of 9 points, and how good the network is hangs on rounding too.
    assert several["n"] >= 15 and several[fig6.INSIDE] >= several[fig6.CHANCE] + 10


def test_what_the_network_looks_at_is_stored_or_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    (row,) = fig6.looking("tiny").rows
    assert row["command"] == "`zfnet run fig6 --profile tiny --live`"
