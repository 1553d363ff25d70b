"""Fig. 6: which pictures are chosen, and what a row shows."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import pictures, words
from planted import coloured

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import FigureError
from zfnet_lib.network import ConvNet
from zfnet_lib.occlusion import Occlusion, occlude
from zfnet_lib.paper import fig6


def test_each_story_gets_the_picture_that_tells_it():
    def seen(*values: list) -> Occlusion:
        activity, probability, label = (torch.tensor([row]) for row in values)
        return Occlusion(activity, probability, label, 0, 0, 4, 4)

    dull = seen([5.0, 5.0], [0.9, 0.9], [0, 0])
    many = seen([5.0, 4.0, 5.0], [0.5, 0.4, 0.4], [0, 1, 2])
    disagree = seen([5.0, 1.0], [0.1, 0.9], [0, 0])
    flips = seen([5.0, 1.0], [0.9, 0.1], [0, 3])
    chosen = fig6.stories({4: dull, 3: many, 2: disagree, 1: flips})
    assert chosen == dict(zip(fig6.STORIES, [1, 2, 3], strict=True))
    assert list(fig6.stories({4: dull}).values()) == [4]
    weak, strong = (Occlusion(torch.tensor([[4.0, low]]), None, None, 0, None, 4, 4) for low in (3.0, 1.0))
    assert list(fig6.stories({0: weak, 1: strong}).values()) == [1, 0]  # without a classifier the activity decides


def test_rows_show_what_the_network_saw_with_and_without_a_classifier():
    result = fig6.measure("smoke", candidates=10, size=16, stride=8)
    row = result.rows[0]
    again = occlude(result.net, row.x, size=16, stride=8)
    assert torch.equal(again.probability, row.seen.probability) and again.map == row.seen.map
    assert row.classes[row.seen.target] in row.title and "mini" in str(result.source)
    for each in result.rows:  # all are named rightly, in words
        name = each.classes[int(result.net(each.x[None]).argmax())]
        assert f": {name}, named {name};" in each.title

    labels = torch.zeros_like(row.seen.label)
    labels[:3] = 1  # the trained network's own answer may be the same everywhere
    row = row._replace(seen=replace(row.seen, label=labels))
    silent = row._replace(seen=replace(row.seen, probability=None, label=None, target=None))
    figure = fig6.draw([row, silent], "two rows")
    images = pictures(figure)
    assert words(figure).count("no classifier") == 2 and "two rows" in words(figure)
    top, left = (8 * n for n in np.unravel_index(int(row.seen.probability.argmin()), (7, 7)))
    grey, uncovered = (result.net.preparation.visible(x[None])[0] for x in (0 * row.x, row.x))
    square = slice(top, top + 16), slice(left, left + 16)
    assert (images[0][square] == grey.permute(1, 2, 0).numpy()[square]).all()  # 0 to the network is the mean
    changed = (images[0] != uncovered.permute(1, 2, 0).numpy()).any(-1)
    assert 0 < changed.sum() == changed[square].sum()
    assert np.allclose(images[1], row.seen.activity) and np.allclose(images[6], row.seen.probability)
    assert len(images) == 8 + 6  # four projections each
    always = row._replace(seen=replace(row.seen, label=torch.zeros_like(labels)))
    figure = fig6.draw([always], "one label")
    assert len(pictures(figure)) == 7 and "everywhere" in words(figure)
    with pytest.raises(FigureError, match="at least one picture"):
        fig6.draw([], "nothing")


def test_a_right_answer_is_a_class_of_the_pictures_or_of_the_photograph_and_else_unknown():
    photos, shapes = open_dataset("photos"), open_dataset("shapes", "val", n=4)
    cat = photos.classes.index("cat")
    image = int(np.flatnonzero(photos.labels == cat)[0])
    assert fig6.in_words(photos, image) == "cat"
    assert fig6.rightly(photos, image, ("dog", "tabby", "cougar face")) == (1, 2)
    assert fig6.rightly(photos, image, ("dog",)) == ()
    assert fig6.rightly(shapes, 2, shapes.classes) == (shapes.labels[2],)
    assert fig6.rightly(shapes, 2, ("dog",)) is None


def test_the_surest_crop_of_a_photograph_is_found():
    net, photos = ConvNet(MINI, seed=2).eval(), open_dataset("photos")
    own = [i for i, name in enumerate(photos.names) if name.startswith("coffee ")]
    found = {i: net(net.prepare([photos[i].picture])).softmax(1)[0] for i in own}
    surest = max(((i, c) for i in own for c in (3, 5)), key=lambda pair: found[pair[0]][pair[1]])
    assert fig6.surest_crop(net, photos, "coffee", [3, 5]) == surest


def test_a_class_is_lost_where_its_object_is_said_to_be(results, monkeypatch):
    at, data = coloured(), {"shapes": coloured().dataset, "shapes-scenes": coloured(lie=True).dataset}
    for each in data.values():
        each.objects = lambda i, of=each: [SimpleNamespace(label=int(of.labels[i]), mask=of.sample(i).mask)]
    monkeypatch.setattr(fig6.setting, "network_of", lambda profile: at.net)
    monkeypatch.setattr(fig6, "open_dataset", lambda name, split: data[name])
    there, elsewhere = fig6.looking("smoke", pictures=12).rows
    assert (there["n"], there[fig6.INSIDE], elsewhere[fig6.INSIDE]) == (12, 100, 0)
    assert 0 < there[fig6.CHANCE] < 20
    data["shapes"].objects = lambda i: []
    with pytest.raises(ZfnetError, match="names no object in 3 pictures of shapes; look at more of them"):
        fig6.looking("smoke", live=True, pictures=3)


def test_what_is_not_at_hand_names_what_brings_it(data, results):
    assert fig6.looking("tiny").rows == [{"command": "`zfnet run fig6 --profile tiny --live`"}]
    assert "zfnet fetch alexnet" in fig6.measure_objects("tiny")
    assert "see the profile `tiny`" in fig6.measure_objects("smoke")
