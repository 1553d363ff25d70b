"""Fig. 6: which pictures are chosen, and what a row shows."""

import numpy as np
import pytest
import torch

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset
from zfnet_lib.images import FigureError
from zfnet_lib.network import ConvNet
from zfnet_lib.occlusion import Occlusion
from zfnet_lib.paper import fig6


def seen(image, activity, probability, label, target=0):
    activity, probability = (torch.tensor(values) for values in (activity, probability))
    return fig6._Seen(
        image, torch.zeros(3, 8, 8), Occlusion(activity, probability, torch.tensor(label), 0, target, 4, 4)
    )


def test_each_story_gets_the_picture_that_tells_it():
    flips = seen(1, [[5.0, 1.0]], [[0.9, 0.1]], [[0, 3]])
    disagree = seen(2, [[5.0, 1.0]], [[0.1, 0.9]], [[0, 0]])
    many = seen(3, [[5.0, 4.0, 5.0]], [[0.5, 0.4, 0.4]], [[0, 1, 2]])
    dull = seen(4, [[5.0, 5.0]], [[0.9, 0.9]], [[0, 0]])
    chosen = fig6._chosen([dull, many, disagree, flips])
    assert [one.image for one in chosen.values()] == [1, 2, 3]
    assert [one.image for one in fig6._chosen([dull]).values()] == [4]


def test_without_a_classifier_the_activity_decides():
    weak, strong = (
        fig6._Seen(i, torch.zeros(3, 8, 8), Occlusion(torch.tensor([[4.0, low]]), None, None, 0, None, 4, 4))
        for i, low in enumerate((3.0, 1.0))
    )
    assert [one.image for one in fig6._chosen([weak, strong]).values()] == [1, 0]


@pytest.fixture(scope="module")
def result():
    return fig6.measure("smoke", candidates=10, size=16, stride=8)


def test_a_row_holds_what_the_network_saw(result):
    row = result.rows[0]
    assert row.picture.shape == (64, 64, 3) and row.picture.dtype == np.uint8
    assert row.activity.shape == row.probability.shape == row.label.shape == (7, 7)
    assert len(row.projections) == 4 and row.projections[0].shape == row.projections[3].shape
    top, left, side = row.square
    assert row.probability[top // 8, left // 8] == row.probability.min() and side == 16
    assert row.classes[row.target] in row.title and "mini" in str(result.source)


def test_the_figure_draws_rows_with_and_without_a_classifier(result):
    from dataclasses import replace

    silent = replace(result.rows[0], probability=None, label=None, target=None)
    figure = fig6.occlusion([result.rows[0], silent], "two rows")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("no classifier") == 2 and "two rows" in words
    assert figure._repr_png_()[0][:4] == b"\x89PNG"
    with pytest.raises(FigureError, match="at least one picture"):
        fig6.occlusion([], "nothing")


def test_the_surest_crop_of_a_photograph_is_found():
    net = ConvNet(MINI, seed=2).eval()
    photos = open_dataset("photos")
    crop, target = fig6._surest(net, photos, "coffee", [3, 5])
    own = [i for i, name in enumerate(photos.names) if name.startswith("coffee ")]
    found = {i: net(net.prepare([photos[i].picture])).softmax(1)[0] for i in own}
    assert (crop, target) == max(((i, c) for i in own for c in (3, 5)), key=lambda pair: found[pair[0]][pair[1]])


def test_photographs_of_known_objects_need_their_network(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", str(tmp_path))
    assert "see the profile `tiny`" in fig6.fig6_objects("smoke")
    assert "zfnet fetch alexnet" in fig6.fig6_objects("tiny")


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
