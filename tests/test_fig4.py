"""Figure 4: features at several moments against literal searches and projections, stored files and drawings."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from drawings import assert_legible, words
from pictures import TINY_SPEC, texture_classes
from torch.nn import functional as F

from zfnet_lib.architecture import receptive_field
from zfnet_lib.batches import training_preparation
from zfnet_lib.datasets import open_dataset, pack_in_memory
from zfnet_lib.deconv import deconv
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import projection_image
from zfnet_lib.network import ConvNet, Trace
from zfnet_lib.paper import fig4, records
from zfnet_lib.paper.fig4 import ALIGNMENT, JUMPED, KEPT, MOVED, NEARNESS, PROBE, Development
from zfnet_lib.training import FIGURE_4_EPOCHS
from zfnet_lib.weights import save_network

DATA = texture_classes(24, 4)
DATA.names = [f"texture {n}" for n in range(24)]
FEW = TINY_SPEC.features("conv3")
EPOCHS = (1, 20, 64)
LAST = {"epoch": 12, "updates": 840, "plateau_left": 140}  # 70 updates an epoch, and 10 for one of the paper's
OWN = [150 / 70, 340 / 70, 780 / 70]


def moments(spec=FEW, data=DATA, epochs=range(3), by: float = 0.6) -> list[ConvNet]:
    """Networks of one architecture whose weights move a little from moment to moment."""
    nets = [ConvNet(spec, training_preparation(data, 64), seed=0) for _ in epochs]
    with torch.no_grad():
        for epoch, net in zip(epochs, nets, strict=True):
            generator = torch.Generator().manual_seed(epoch)
            for conv in spec.convs[:3]:
                weight = net.get_submodule(conv.name).weight
                weight += by * epoch * conv.std * torch.randn(weight.shape, generator=generator)
    return nets


@cache
def traced(net: ConvNet) -> Trace:
    """One pass of all pictures; networks are compared by identity."""
    return net.trace(net.prepare(DATA.pictures))


def literal(net: ConvNet, layer: str) -> np.ndarray:
    """Picture, row and column of the largest activation of each map."""
    maps = traced(net)[layer].maps.detach()
    flat = maps.permute(1, 0, 2, 3).flatten(1).argmax(1)
    return np.stack(np.unravel_index(flat.numpy(), (maps.shape[0], *maps.shape[2:])), axis=1)


def window(net: ConvNet, layer: str, map_: int, place: np.ndarray) -> torch.Tensor:
    """The literal projection of a unit, cut to its field, zeros beyond the picture."""
    image, row, column = place.tolist()
    whole = deconv(net.trace(net.prepare(DATA.pictures[image : image + 1])), layer, (map_, row, column))[0]
    box = receptive_field(net.spec, layer).box(row, column)
    top, left, size = box.top + 99, box.left + 99, box.bottom - box.top
    return whole if size >= whole.shape[-1] else F.pad(whole, (99,) * 4)[:, top : top + size, left : left + size]


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def test_steps_likeness_nearness_and_features_are_those_of_literal_searches_and_projections():
    nets = moments()
    evolved = fig4.evolve(nets, DATA, maps=3)
    assert JUMPED in np.concatenate([found.steps.ravel() for found in evolved.values()])
    for layer, found in evolved.items():
        places = [literal(net, layer) for net in nets]
        for (before, after), steps in zip(pairwise(places), found.steps, strict=True):
            for one, other, step in zip(before, after, steps, strict=True):
                assert step == (KEPT if (one == other).all() else MOVED if one[0] == other[0] else JUMPED)
        for map_ in range(2):
            shown = [window(net, layer, map_, place[map_]) for net, place in zip(nets, places, strict=True)]
            likeness = [angle(one, other) for one, other in pairwise(shown)]
            assert found.likeness[:, map_] == pytest.approx(likeness, abs=1e-4, nan_ok=True)
            lasting = [window(net, layer, map_, places[-1][map_]) for net in nets]
            nearness = np.nan_to_num([angle(each, shown[-1]) for each in lasting])
            assert found.nearness[:, map_] == pytest.approx(nearness, abs=1e-4)
        assert len(found.features) == min(3, nets[0].spec.conv(layer).maps)
        for feature in found.features:
            assert len(feature.pictures) == len(feature.scores) == 3
            place = places[1][feature.map]
            assert (feature.names[1], *feature.places[1]) == (f"texture {place[0]}", *place[1:])
            expected = projection_image(window(nets[1], layer, feature.map, place).detach().numpy())
            assert np.abs(feature.pictures[1].astype(int) - expected).max() <= 1
    assert list(evolved) == ["conv1", "conv2", "conv3"]


def test_maps_that_were_not_active_yet_are_far_and_those_that_never_are_do_not_count():
    nets = moments()[:2]
    with torch.no_grad():
        for net, map_ in ((nets[0], 0), (nets[0], 1), (nets[1], 1)):
            net.conv1.weight[map_], net.conv1.bias[map_] = 0, -1
    found = fig4.evolve(nets, DATA)["conv1"]
    assert found.nearness[:, 0] == pytest.approx([0, 1])
    assert np.isnan(found.nearness[:, 1]).all() and np.isnan(found.likeness[0, :2]).all()
    assert all(feature.map != 1 for feature in found.features)
    given = {epoch: fig4.answers(net, DATA, range(8)) for epoch, net in zip((1, 64), nets, strict=True)}
    values = {(name, place["epoch"]): value for name, value, _, _, place in fig4.settling({"conv1": found}, given)}
    assert [values[name, 64] for name in (NEARNESS, ALIGNMENT)] == pytest.approx([1, 1])
    assert values[NEARNESS, 1] < 0.99 > values[ALIGNMENT, 1]


def test_shares_and_the_largest_changes_by_hand():
    steps = np.array([[KEPT] * 6 + [MOVED] * 2 + [JUMPED] * 12 + [JUMPED]])
    likeness = np.array([[0.9] * 6 + [0.5] * 2 + [0.05, 0.01] + [0.2] * 10 + [np.nan]])
    layers = {"conv1": fig4.LayerEvolution([], steps, likeness, np.ones((2, 21)))}
    assert [value for _, value, *_ in fig4.stepping(layers)] == [30, 0.9, 10, 0.5, 60, 0.2, 100]
    likeness[0, 0] = -0.3
    assert [*fig4.stepping(layers)][-1][1] == 50


def test_alignment_is_that_of_centred_gram_matrices():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, n, generator=generator, dtype=torch.float64) for n in (5, 7))
    centre = torch.eye(40, dtype=torch.float64) - 1 / 40
    one, other = (centre @ (values @ values.T) @ centre for values in (x, y))
    expected = (one * other).sum() / (one.norm() * other.norm())
    assert fig4.cka(x, y) == pytest.approx(float(expected))
    turned, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    assert fig4.cka(x, 3 * x @ turned + 1) == pytest.approx(1)


def test_answers_are_taken_at_the_same_positions_of_every_network_and_summaries_are_means_over_quarters():
    rows, places = [3, 7, 11], {}
    for net in moments()[:2]:
        for layer, found in fig4.answers(net, DATA, rows).items():
            maps, seen = traced(net)[layer].maps.detach().flatten(2)[rows], found.unflatten(0, (3, -1))
            if layer not in places:
                places[layer] = [int((maps[0].T - each).abs().sum(1).argmin()) for each in seen[0]]
            assert torch.allclose(seen, maps[:, :, places[layer]].transpose(1, 2), atol=1e-4)
    net = ConvNet(TINY_SPEC, training_preparation(DATA, 64))
    found, maps = fig4.summaries(net, DATA, rows), traced(net)["conv2"].maps.detach()[rows].numpy()
    halves = slice(0, -(-maps.shape[2] // 2)), slice(maps.shape[2] // 2, None)  # they share the middle of odd maps
    means = [maps[:, :, a, b].mean((2, 3)) for a in halves for b in halves]
    assert np.allclose(found["conv2"].numpy(), np.stack(means, 2).reshape(3, -1), atol=1e-4)
    assert torch.allclose(found["fc7"], traced(net)["fc7"].maps[rows], atol=1e-4)
    assert list(found) == [layer.name for layer in TINY_SPEC.layers[:-1]]


@pytest.mark.parametrize(("curve", "epoch"), [((0.95, 0.97, 1), 1), ((0.95, 0.5, 1), 5), ((0, 0.5, np.nan), 5)])
def test_a_curve_that_falls_back_has_not_crossed(curve, epoch):
    assert fig4.crossing([1, 2, 5], curve) == epoch


def test_snapshots_are_read_in_order_and_missing_ones_named(tmp_path):
    spec = replace(TINY_SPEC.features("conv1"), name="begun")
    for epochs in (FIGURE_4_EPOCHS[:-2], FIGURE_4_EPOCHS[-2:]):
        with pytest.raises(ZfnetError, match=r"lacks the snapshots of epochs .*40, 64 of 70; train to the end"):
            fig4.snapshots(tmp_path)
        for epoch in epochs:
            save_network(ConvNet(spec, seed=epoch), tmp_path / f"snapshots/epoch-{epoch:02d}-of-70", {})
    found = fig4.snapshots(tmp_path)
    assert list(found) == list(FIGURE_4_EPOCHS)
    assert torch.equal(found[20].conv1.weight, ConvNet(spec, seed=20).conv1.weight)


@pytest.fixture(scope="module")
def development():
    """Fig. 4 of a network at three moments, on few pictures."""
    pack = pack_in_memory(open_dataset("shapes", "train", n=96), 64)
    nets = dict(zip(EPOCHS, moments(TINY_SPEC, pack, EPOCHS, 0.01), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig4, "training_data", lambda name, split: pack)
        patch.setattr(fig4, "SCALES", {"smoke": (16, 64, 32)})
        return fig4.follow("smoke", nets, "mini", maps=2, seed=0).dated(LAST)


def test_a_development_has_every_layer_at_every_moment_in_curves_and_tables(development):
    layers = [conv.name for conv in TINY_SPEC.convs]
    assert list(development.epochs) == list(EPOCHS) and development.own == OWN
    assert "which has 12: 2.1, 4.9, 11 stand for the paper's 1, 20, 64 of 70" in development.moments
    assert list(development.features) == layers
    for layer, features in development.features.items():
        assert all(len(feature.pictures) == 3 for feature in features)
        assert all(name.startswith("shapes/train/") for feature in features for name in feature.names)
        assert [development.curves(each)[layer][-1] for each in (ALIGNMENT, NEARNESS)] == pytest.approx([1, 1])
    probes = development.curves(PROBE)
    assert list(probes) == [*layers, "fc6", "fc7"]
    assert all(0 <= value <= 100 for values in probes.values() for value in values)
    assert "16 of shapes train" in str(development.source)
    rows = {row["layer"]: row for row in development.settled.rows}
    assert rows["conv5"]["paper"] == "40-50 of 70"
    settled = fig4.crossing(EPOCHS, development.curves(ALIGNMENT)["conv1"])
    assert rows["conv1"]["share"] == f"{settled / 70:.0%}"
    assert rows["conv1"]["answers"] == f"{OWN[EPOCHS.index(settled)]:.2g}"
    for row in development.jumps.rows:
        assert sum(row[f"{kind} %"] for kind in fig4.KINDS) == pytest.approx(100, abs=0.1)
    for axes, quantity in zip(fig4.draw_settling(development).axes, (ALIGNMENT, NEARNESS, PROBE), strict=True):
        curves = list(development.curves(quantity).values())
        assert [list(line.get_ydata()) for line in axes.lines[: len(curves)]] == curves
        assert list(axes.lines[0].get_xdata()) == OWN


def test_a_stored_development_is_read_back_and_only_for_its_parameters(development, results, data):
    folder, parameters = results / "tiny/evolution", {"maps": 2, "seed": 0}
    assert Development.load(folder, parameters) is None
    development.save(folder, parameters)
    assert not fig4.measure("tiny", maps=2).features  # when its moments were, the training's record says
    records.write_lines(fig4.training_of("tiny", "zfnet").epochs_file, [json.dumps({"epoch": LAST})])
    found = fig4.measure("tiny", maps=2)
    assert found.numbers == development.numbers and found.source == development.source
    for layer, features in development.features.items():
        for one, other in zip(features, found.features[layer], strict=True):
            assert (one.pictures == other.pictures).all()
            assert (one.names, one.scores) == (other.names, other.scores)
    assert "-p maps=3 -p seed=0" in fig4.measure("tiny", maps=3).source


def test_what_was_not_run_names_its_commands_and_draws(results, data):
    found = fig4.measure("tiny")
    assert "`zfnet train zfnet --data tiny-imagenet --recipe tiny`" in found.source
    assert "`zfnet run fig4 --profile tiny --live -p maps=6 -p seed=0`" in found.source
    assert found.settled.rows == found.jumps.rows == []
    assert all("not run" in words(figure) for figure in (fig4.draw(found, "conv1"), fig4.draw_settling(found)))
    with pytest.raises(ZfnetError, match="zfnet-tiny-imagenet-tiny-seed0 lacks the snapshots of epochs 1, 2, 5"):
        fig4.measure("tiny", live=True)


def test_a_block_has_a_row_a_map_and_a_bar_a_change_and_its_letters_are_legible(development):
    epochs = (0.75, 0.91, 1.4, 2.2, 3.8, 5.5, 7.1, 11)
    features = [
        one._replace(map=10 + n, pictures=one.pictures[[0, 1, 2, 0, 1, 2, 0, 1]], names=list("aabbbabb"))
        for n, one in enumerate(3 * development.features["conv2"][:1])
    ]
    result = replace(development, own=epochs, features={"conv2": features})
    figure = fig4.draw(result, "conv2")
    written = words(figure)
    assert written[0] == "Layer 2" and {"map 10", "map 11", "map 12"} < set(written)
    assert [word for word in written if word[0].isdigit()] == [str(epoch) for epoch in epochs]
    (axes,) = figure.axes
    assert len(axes.images) == 24 and len(axes.patches) == 3 * 3 + 1  # one bar explains the others
    shown = np.asarray(axes.images[9].get_array())
    assert (shown[0, 0] == features[1].pictures[1][0, 0]).all()
    for columns in (1, 2):
        assert_legible(fig4.draw(result, "conv2", columns))
    with pytest.raises(ZfnetError, match="layer 'conv9' was not followed; here are conv2"):
        fig4.draw(result, "conv9")
