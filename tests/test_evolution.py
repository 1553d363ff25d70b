"""Features at several moments, against literal searches and projections."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from pictures import TINY_SPEC, texture_classes
from torch.nn import functional as F

from zfnet_lib.architecture import receptive_field
from zfnet_lib.batches import squares_of, training_preparation
from zfnet_lib.deconv import deconv
from zfnet_lib.network import ConvNet, Trace
from zfnet_lib.paper import evolution
from zfnet_lib.paper.evolution import (
    JUMPED,
    KEPT,
    MOVED,
    EvolutionError,
    LayerEvolution,
    Snapshots,
    cka,
    evolve,
    probe,
)
from zfnet_lib.training import FIGURE_4_EPOCHS
from zfnet_lib.weights import save_network

DATA = texture_classes(24, 4)


def moments(count: int = 3) -> list[ConvNet]:
    """Networks of one architecture whose weights move a little from moment to moment."""
    spec = TINY_SPEC.features("conv3")
    preparation = training_preparation(DATA, 64)
    nets = [ConvNet(spec, preparation, seed=0) for _ in range(count)]
    for number, net in enumerate(nets):
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for conv in spec.convs:
                weight = net.get_submodule(conv.name).weight
                weight += 0.6 * number * conv.std * torch.randn(weight.shape, generator=generator)
    return nets


@pytest.fixture(scope="module")
def followed():
    nets = moments()
    return nets, evolve(nets, DATA, maps=3)


@cache
def traced(net: ConvNet) -> Trace:
    """One pass of all pictures; networks are compared by identity."""
    return net.trace(net.prepare(DATA.pictures))


def literal(net: ConvNet, layer: str) -> np.ndarray:
    """Picture, row and column of the largest activation of each map."""
    maps = traced(net)[layer].maps.detach()
    flat = maps.permute(1, 0, 2, 3).flatten(1).argmax(1)
    return np.stack(np.unravel_index(flat.numpy(), (maps.shape[0], *maps.shape[2:])), axis=1)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3"])
def test_steps_are_those_of_a_literal_search(followed, layer):
    nets, found = followed
    places = [literal(net, layer) for net in nets]
    for (before, after), steps in zip(pairwise(places), found[layer].steps, strict=True):
        for one, other, step in zip(before, after, steps, strict=True):
            kind = KEPT if (one == other).all() else MOVED if one[0] == other[0] else JUMPED
            assert step == kind
    assert {JUMPED} <= set(np.concatenate([each.steps.ravel() for each in found.values()]))


def window(net: ConvNet, layer: str, map_: int, place: np.ndarray) -> torch.Tensor:
    """The literal projection of a unit, cut to its field, zeros beyond the picture."""
    image, row, column = place.tolist()
    trace = net.trace(net.prepare(DATA.pictures[image : image + 1]))
    whole = deconv(trace, layer, (map_, row, column))[0]
    box = receptive_field(net.spec, layer).box(row, column)
    if box.bottom - box.top >= whole.shape[-1]:
        return whole
    top, left = box.top + 99, box.left + 99
    size = box.bottom - box.top
    return F.pad(whole, (99, 99, 99, 99))[:, top : top + size, left : left + size]


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3"])
def test_likeness_and_nearness_are_cosines_of_literal_projections(followed, layer):
    nets, found = followed
    places = [literal(net, layer) for net in nets]
    for map_ in range(2):
        shown = [window(net, layer, map_, place[map_]) for net, place in zip(nets, places, strict=True)]
        likeness = [angle(one, other) for one, other in pairwise(shown)]
        assert found[layer].likeness[:, map_] == pytest.approx(likeness, abs=1e-4, nan_ok=True)
        lasting = [window(net, layer, map_, places[-1][map_]) for net in nets]
        nearness = np.nan_to_num([angle(each, shown[-1]) for each in lasting])
        assert found[layer].nearness[:, map_] == pytest.approx(nearness, abs=1e-4)


def test_strands_hold_units_scores_and_projections(followed):
    nets, found = followed
    for layer, each in found.items():
        assert len(each.strands) == min(3, nets[0].spec.conv(layer).maps)
        for strand in each.strands:
            assert len(strand.units) == len(strand.scores) == len(strand.projections) == 3
            place = literal(nets[1], layer)[strand.map]
            assert (strand.units[1].image, strand.units[1].row, strand.units[1].column) == tuple(place)
            assert torch.allclose(strand.projections[1], window(nets[1], layer, strand.map, place), atol=1e-4)


def test_everything_is_settled_at_the_last_moment(followed):
    _, found = followed
    assert all(each.settled[-1] == pytest.approx(1) and each.settled[0] < 0.99 for each in found.values())


def test_a_network_that_does_not_change_neither_moves_nor_jumps():
    net = moments(1)[0]
    for each in evolve([net, net], DATA, rows=range(8)).values():
        assert (each.steps == KEPT).all() and each.share(KEPT) == 100
        assert each.likeness[np.isfinite(each.likeness)] == pytest.approx(1) and each.settled == pytest.approx(1)


def test_maps_that_were_not_active_yet_are_far_and_those_that_never_are_do_not_count():
    nets = moments(2)
    with torch.no_grad():
        for net, map_ in ((nets[0], 0), (nets[0], 1), (nets[1], 1)):
            net.conv1.weight[map_], net.conv1.bias[map_] = 0, -1
    found = evolve(nets, DATA)["conv1"]
    assert found.nearness[:, 0] == pytest.approx([0, 1])
    assert np.isnan(found.nearness[:, 1]).all() and np.isnan(found.likeness[0, :2]).all()
    assert found.settled[-1] == pytest.approx(1)
    assert all(strand.map != 1 for strand in found.strands)


def test_shares_and_the_largest_changes_by_hand():
    steps = np.array([[KEPT] * 6 + [MOVED] * 2 + [JUMPED] * 12 + [JUMPED]])
    likeness = np.array([[0.9] * 6 + [0.5] * 2 + [0.05, 0.01] + [0.2] * 10 + [np.nan]])
    found = LayerEvolution([], steps, likeness, np.ones((2, 21)))
    assert [found.share(kind) for kind in (KEPT, MOVED, JUMPED)] == [30, 10, 60]
    assert [found.typical_likeness(kind) for kind in (KEPT, MOVED, JUMPED)] == [0.9, 0.5, 0.2]
    assert found.jumps_among_largest == 100
    likeness[0, 0] = -0.3
    assert found.jumps_among_largest == 50


def test_alignment_is_that_of_centred_gram_matrices():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, n, generator=generator, dtype=torch.float64) for n in (5, 7))
    centre = torch.eye(40, dtype=torch.float64) - 1 / 40
    one, other = (centre @ (values @ values.T) @ centre for values in (x, y))
    expected = (one * other).sum() / (one.norm() * other.norm())
    assert cka(x, y) == pytest.approx(float(expected))
    turned, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    assert cka(x, 3 * x @ turned + 1) == pytest.approx(1)


def test_answers_are_taken_at_the_same_positions_of_every_network():
    one, other = moments(2)
    rows = [3, 7, 11]
    found, again = evolution.answers(one, DATA, rows), evolution.answers(other, DATA, rows)
    for conv in one.spec.convs:
        maps = one.trace(one.prepare(DATA.pictures[rows]))[conv.name].maps.detach().flatten(2)
        seen = found[conv.name].unflatten(0, (3, -1))
        places = [int((maps[0].T - each).abs().sum(1).argmin()) for each in seen[0]]
        assert torch.allclose(seen, maps[:, :, places].transpose(1, 2), atol=1e-4)
        maps = other.trace(other.prepare(DATA.pictures[rows]))[conv.name].maps.detach().flatten(2)
        assert torch.allclose(again[conv.name].unflatten(0, (3, -1)), maps[:, :, places].transpose(1, 2), atol=1e-4)


def test_summaries_are_means_over_quarters_and_units():
    net = ConvNet(TINY_SPEC, training_preparation(DATA, 64))
    found = evolution.summaries(net, DATA, [0, 5])
    trace = net.trace(net.prepare(squares_of(DATA, [0, 5], net.preparation)))
    maps = trace["conv2"].maps.detach().numpy()
    half = -(-maps.shape[2] // 2), maps.shape[2] // 2  # quarters share the middle line of odd maps
    means = [maps[:, :, a, b].mean((2, 3)) for a in _halves(*half) for b in _halves(*half)]
    assert np.allclose(found["conv2"].numpy(), np.stack(means, 2).reshape(2, -1), atol=1e-4)
    assert torch.allclose(found["fc7"], trace["fc7"].maps, atol=1e-4)
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]


def _halves(end: int, start: int) -> tuple[slice, slice]:
    return slice(0, end), slice(start, None)


def test_a_probe_separates_what_can_be_separated():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = np.eye(3)[labels] * 4 + rng.normal(size=(300, 3))
    useless = np.column_stack([rng.normal(size=(300, 5)), np.full(300, 7.0)])
    train, test = slice(0, 200), slice(200, 300)
    assert probe(features[train], labels[train], features[test], labels[test]) > 95
    assert 15 < probe(useless[train], labels[train], useless[test], labels[test]) < 52


def test_a_curve_that_falls_back_has_not_crossed():
    assert evolution.crossing([1, 2, 5], [0.95, 0.97, 1.0]) == 1
    assert evolution.crossing([1, 2, 5], [0.95, 0.5, 1.0]) == 5
    assert evolution.crossing([1, 2, 5], [0.0, 0.5, float("nan")]) == 5


def test_snapshots_are_read_in_order_and_missing_ones_named(tmp_path):
    spec = replace(TINY_SPEC.features("conv1"), name="begun")
    for epoch in FIGURE_4_EPOCHS[:-2]:
        save_network(ConvNet(spec, seed=epoch), tmp_path / "snapshots" / f"epoch-{epoch:02d}-of-70", {})
    with pytest.raises(EvolutionError, match="lacks the snapshots of epochs 40, 64 of 70; train to the end"):
        Snapshots(tmp_path)
    for epoch in FIGURE_4_EPOCHS[-2:]:
        save_network(ConvNet(spec, seed=epoch), tmp_path / "snapshots" / f"epoch-{epoch:02d}-of-70", {})
    found = Snapshots(tmp_path)
    assert list(found) == list(FIGURE_4_EPOCHS) and len(found) == 8
    assert torch.equal(found[20].conv1.weight, ConvNet(spec, seed=20).conv1.weight)
