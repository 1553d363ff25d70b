"""Errors against sorting and averaging by hand in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import TINY_SPEC, Squares, network, texture_classes

from zfnet_lib import ConvNet, ZfnetError, open_dataset
from zfnet_lib.evaluation import Errors, errors, ranks, summary, tallies

DATA = texture_classes(70, classes=8)
SPEC = replace(TINY_SPEC, classes=8)


def spread(seed: int, spec=SPEC) -> ConvNet:
    """Return an untrained network whose opinions differ from picture to picture."""
    net = network(DATA, spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for dense in (net.fc6, net.fc7, net.fc8):
            dense.weight.normal_(0, 0.1, generator=generator)
    return net.eval()


def softmax_by_hand(net: ConvNet, views: int) -> np.ndarray:
    """Average the softmax over views that are cut one by one, in float64."""
    double = ConvNet(net.spec, net.preparation).double().eval()
    double.load_state_dict(net.state_dict())
    squares = torch.stack([net.preparation.square(DATA[i][0]) for i in range(len(DATA))]).double()
    centred, room = squares - net.preparation.mean.double(), net.preparation.short_side - 64
    places = [(room // 2, room // 2)]
    if views == 10:
        places += [(0, 0), (0, room), (room, 0), (room, room)]
    found = []
    for top, left in places:
        crop = centred[:, :, top : top + 64, left : left + 64]
        for view in (crop, crop.flip(-1)) if views == 10 else (crop,):
            with torch.no_grad():
                found.append(np.exp(double(view).log_softmax(1).numpy()))
    return np.mean(found, axis=0)


def errors_by_sorting(probabilities: np.ndarray, labels: np.ndarray, top: int) -> float:
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return 100 * np.mean([label not in row[:top] for label, row in zip(labels, order, strict=True)])


@pytest.mark.parametrize("views", [1, 10])
def test_errors_equal_those_by_hand(views):
    net = spread(0)
    found, expected = errors(net, DATA, views), softmax_by_hand(net, views)
    assert found.top1 == pytest.approx(errors_by_sorting(expected, DATA.labels, 1))
    assert found.top5 == pytest.approx(errors_by_sorting(expected, DATA.labels, 5))
    assert (found.n, found.views) == (70, views)
    for label in range(8):
        own = DATA.labels == label
        by_hand = errors_by_sorting(expected[own], DATA.labels[own], 1)
        assert found.per_class[label] == pytest.approx(by_hand)
    assert 0 < found.top5 < found.top1 < 100


def test_an_ensemble_averages_probabilities_of_networks_that_differ():
    other = replace(SPEC, image_size=80).resized(conv3=7)
    nets = [spread(0), spread(1), spread(2, replace(SPEC, name="other").resized(fc6=30))]
    expected = np.mean([softmax_by_hand(net, 1) for net in nets], axis=0)
    found = errors(nets, DATA)
    assert found.top1 == pytest.approx(errors_by_sorting(expected, DATA.labels, 1))
    assert found.top5 == pytest.approx(errors_by_sorting(expected, DATA.labels, 5))
    assert found.per_class.tolist() not in [errors(net, DATA).per_class.tolist() for net in nets]
    assert errors([nets[0], spread(3, other)], DATA).n == 70
    assert errors([nets[0]], DATA).top1 == errors(nets[0], DATA).top1


def test_dropout_is_off_and_batches_do_not_matter():
    net = spread(0)
    expected = errors(net, DATA)
    assert errors(net.train(), DATA).top1 == expected.top1
    parts = sum(tallies(net, DATA, rows=rows) for rows in (range(33), range(33, 70)))
    again = summary(parts)
    assert (again.top1, again.top5, again.n) == (expected.top1, expected.top5, 70)
    np.testing.assert_array_equal(again.per_class, expected.per_class)


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=8), st.data())
def test_the_rank_is_the_place_in_a_stable_order(rows, data):
    labels = data.draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows)))
    found = ranks(torch.tensor(rows, dtype=torch.float32), torch.tensor(labels))
    for row, label, rank in zip(rows, labels, found.tolist(), strict=True):
        assert sorted(range(6), key=lambda k: (-row[k], k)).index(label) == rank


def test_classes_without_pictures_have_no_error():
    found = errors(spread(0), Squares(DATA.pictures, DATA.labels % 4))
    assert np.isnan(found.per_class[4:]).all() and np.isfinite(found.per_class[:4]).all()


def test_what_cannot_be_evaluated_gets_one_sentence():
    net, unsound, drawn = spread(0), spread(0), open_dataset("shapes", n=16)  # which is not packed
    unsound.fc8.bias.data.fill_(torch.nan)
    for nets, data, options, sentence in (
        (net, DATA, {"views": 5}, "^views = 5; the paper's are 1"),
        (net, DATA, {"rows": DATA.labels == 1}, "^rows are the numbers of pictures, no mask"),
        ([net, network(DATA)], DATA, {}, "networks of 4, 8 classes cannot be evaluated together"),
        ([], DATA, {}, "networks of no classes"),
        (net, DATA, {"rows": []}, "there are no pictures"),
        (network(drawn, replace(SPEC, classes=16)), drawn, {"rows": []}, "there are no pictures"),
        (net.features(), DATA, {}, "^small has no classifier here; evaluate a network that has one$"),
        (net, Squares(DATA.pictures, np.arange(70) % 10), {}, "labels from 0 to 9, but the network has 8 classes"),
        (unsound, DATA, {}, "the probabilities of small are not finite"),
    ):
        with pytest.raises(ZfnetError, match=sentence):
            errors(nets, data, **options)


def test_the_easiest_and_the_hardest_classes():
    found = Errors(50.0, 10.0, np.array([30.0, np.nan, 0.0, 90.0, 30.0]), 10, 1)
    assert found.extremes(2) == ([2, 0], [3, 4])
