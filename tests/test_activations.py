"""The strongest units of a data set."""

import pytest
import torch

from zfnet_lib import MINI, ConvNet, ZfnetError, strongest
from zfnet_lib.activations import Hits, _merged


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(3)
    return [(torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8), 0) for _ in range(11)]


def literal_search(net, pictures, layer, k):
    """Every unit of every picture in plain loops: per map the k best pictures with their best place."""
    best = []
    maps = [net.trace(net.prepare([picture]))[layer].maps[0] for picture, _ in pictures]
    for number in range(maps[0].shape[0]):
        places = []
        for image, values in enumerate(maps):
            grid = values[number].tolist()
            score, row, column = max(
                ((value, -r, -c) for r, line in enumerate(grid) for c, value in enumerate(line)), key=lambda p: p
            )
            places.append((score, image, -row, -column))
        best.append(sorted(places, key=lambda place: (-place[0], place[1]))[:k])
    return best


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_strongest_equals_a_literal_search(pictures, batch):
    net = ConvNet(MINI, seed=1).eval()
    found = strongest(net, pictures, k=3, layers=["conv2", "conv5"], batch=batch)
    for layer, hits in found.items():
        expected = literal_search(net, pictures, layer, 3)
        for number, places in enumerate(expected):
            for rank, (score, image, row, column) in enumerate(places):
                assert hits.score[number, rank].item() == pytest.approx(score, rel=1e-4, abs=1e-7)
                if score > 0 and (rank == 0 or places[rank - 1][0] - score > 1e-4 * score):
                    unit = hits.units(number)[rank]
                    assert (unit.image, unit.row, unit.column) == (image, row, column)


def test_one_hit_a_picture_strongest_first(pictures):
    hits = strongest(ConvNet(MINI).eval(), pictures, k=11, layers=["conv3"])["conv3"]
    assert all(len(set(images)) == 11 for images in hits.image.tolist())
    assert (hits.score.diff(dim=1) <= 0).all()


def test_ties_go_to_the_earlier_picture():
    def hits(scores, images):
        image = torch.tensor([images])
        return Hits("conv1", torch.tensor([scores]), image, image, image)

    merged = _merged(hits([2.0, 1.0], [4, 0]), hits([2.0, 1.0, 3.0], [5, 6, 7]), 4)
    assert merged.image.tolist() == [[7, 4, 5, 0]]


def test_a_planted_pattern_is_found(pictures):
    """A filter made from a patch of one picture fires strongest in that picture, at that place."""
    net = ConvNet(MINI).eval()
    x = net.prepare([picture for picture, _ in pictures])
    patch = x[6, :, 20:27, 30:37]
    with torch.no_grad():
        net.conv1.weight[5] = patch / patch.norm()
    unit = strongest(net, pictures, k=1, layers=["conv1"])["conv1"].units(5)[0]
    assert (unit.image, unit.row, unit.column) == (6, 10, 15)


@pytest.mark.parametrize("k", [0, 12])
def test_k_beyond_the_data_set_is_refused(pictures, k):
    with pytest.raises(ZfnetError, match=f"k = {k}: the data set has 11 pictures"):
        strongest(ConvNet(MINI).eval(), pictures, k=k)
