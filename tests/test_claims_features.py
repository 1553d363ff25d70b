"""The claims of section 4 on what maps respond to: stimuli, cases by hand, and thresholds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import Coloured, colour_net, judged, number, small

from zfnet_lib.architecture import MINI, Unit, receptive_field
from zfnet_lib.datasets.opening import open_dataset
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import invariance
from zfnet_lib.paper.claims import features, stimuli
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS, UNDECIDED
from zfnet_lib.strongest import strongest


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """Empty folders of results."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))


@pytest.fixture(scope="module")
def at():
    """A random network on few drawn pictures."""
    return small(ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=12))


def measured(found):
    """Return measured numbers by quantity and place."""
    return {(each.quantity, *each.place.values()): each for each in found}


# ---- verdicts ------------------------------------------------------------------------------------------------


def textures(share=60, third=50, fourth=40):
    found = [number(features.PREFER, value, 5, weights=w) for w, value in (("trained", share), ("untrained", 50))]
    kept = {"conv2": 60, "conv3": third, "conv4": fourth}
    return [*found, *(number(features.SCRAMBLED, value, 4, layer=layer) for layer, value in kept.items())]


def invariant(ranks, more):
    found = []
    for way, rank, rise in zip(("shift", "scale", "turn"), ranks, more, strict=True):
        found += [number(features.RANKS, rank, 0.02, way=way), number(features.MORE, rise, 0.05, way=way)]
        found += [number(features.INDEX, 0.5, layer=layer, way=way) for layer in ("conv1", "fc7")]
    return found


def coherent(alike, labels=(2.5, 3.0, 2.9)):
    """Plant likeness and entropy of maps, of maps of random weights and of random combinations of maps."""
    return [
        number(quantity, value, half, layer=layer, of=of)
        for layer in ("conv3", "conv4", "conv5")
        for quantity, values, half in (
            (features.ALIKE.format("shape"), alike, 0.02),
            (features.LABELS, labels, 0.1),
        )
        for of, value in zip(("trained", "untrained", features.COMBINED), values, strict=True)
    ]


TEXTURES, RANDOM, INVARIANCE = (
    "layers-2-3-edges-then-textures",
    "features-far-from-random",
    "invariance-grows-with-layer",
)


@pytest.mark.parametrize(
    ("claim", "found", "expected"),
    [
        (TEXTURES, textures(), HOLDS),
        (TEXTURES, textures(share=54), UNDECIDED),
        (TEXTURES, textures(fourth=44), UNDECIDED),
        (TEXTURES, textures(share=40), FAILS),
        (TEXTURES, textures(third=40, fourth=50), FAILS),
        (RANDOM, coherent((0.8, 0.7, 0.7)), HOLDS),
        (RANDOM, coherent((0.8, 0.7, 0.82), (2.5, 3.0, 2.5)), UNDECIDED),
        (RANDOM, coherent((0.8, 0.79, 0.7)), UNDECIDED),
        (RANDOM, coherent((0.6, 0.7, 0.5)), FAILS),
        (INVARIANCE, invariant((0.97, 0.97, 0.2), (0.1, 0.1, -0.3)), HOLDS),
        (INVARIANCE, invariant((0.97, 0.89, 0.2), (0.1, 0.1, 0.1)), UNDECIDED),
        (INVARIANCE, invariant((0.97, 0.97, 0.97), (0.1, 0.0, 0.0)), UNDECIDED),
        (INVARIANCE, invariant((0.97, -0.5, -0.2), (0.1, 0.1, 0.1)), FAILS),
    ],
)
def test_verdicts_turn_at_their_thresholds(claim, found, expected):
    finding = judged(claim, *found)
    assert finding.verdict == expected
    alike_in_shape = [
        n.value for name, n in finding.numbers.items() if "random combinations of maps: alike" in name
    ]
    assert ("no special axes" in finding.note) == (0.82 in alike_in_shape)


# ---- random directions, and what units see -------------------------------------------------------------------


def test_a_combination_of_maps_is_ranked_by_their_weighted_sum(at):
    mixed = features.combined(at.net, "conv3", 5, seed=2)
    weights = mixed.get_submodule(features.COMBINED).weight.detach()[:, :, 0, 0]
    assert weights.norm(dim=1).tolist() == pytest.approx([1] * 5)
    hits = strongest(mixed, at.dataset, 3, [features.COMBINED], rows=at.rows)[features.COMBINED]
    maps = at.net.trace(at.x(at.rows))["conv3"].maps.detach()
    literal = torch.einsum("dm,nmhw->ndhw", weights, maps).clamp(min=0).amax((2, 3))
    best, where = literal.topk(3, dim=0)
    assert torch.allclose(hits.score.float(), best.T, rtol=1e-3)
    assert hits.image.tolist() == torch.tensor(at.rows)[where].T.tolist()
    assert receptive_field(mixed.spec, features.COMBINED) == receptive_field(at.net.spec, "conv3")


def test_patches_are_what_units_see(at):
    unit = at.units("conv1")[0]
    box = receptive_field(at.net.spec, "conv1").box(unit.row, unit.column)
    picture = at.net.preparation.visible(at.x([unit.image]))[0].permute(1, 2, 0).numpy()
    (patch,), (whole,) = features.seen_by(at, "conv1", [unit]), features.seen_by(at, "conv5", [unit])
    assert (patch == picture[box.top : box.bottom, box.left : box.right]).all() and (whole == picture).all()


def test_coherence_is_measured_for_maps_and_both_controls(at):
    found = measured(features.coherent(at))
    entropies = {key[1:]: each.value for key, each in found.items() if key[0] == features.LABELS}
    kinds = ("trained", "untrained", features.COMBINED)
    assert set(entropies) == {(layer, of) for layer in ("conv3", "conv4", "conv5") for of in kinds}
    assert all(0 <= value <= np.log2(9) for value in entropies.values())


# ---- stimuli -------------------------------------------------------------------------------------------------


def test_gratings_have_their_frequency_and_direction():
    wave = stimuli.grating(64, 1 / 8, np.pi / 2, 0.0)
    assert torch.allclose(wave[..., :1].expand_as(wave), wave, atol=1e-3)  # it varies downwards
    assert int(torch.fft.rfft(wave[0, :, 0]).abs().argmax()) == 8


@pytest.mark.parametrize(("make", "n"), [("gratings", 256), ("corners", 128), ("colour_edges", 128)])
def test_stimuli_differ_and_have_one_contrast(make, n):
    found = getattr(stimuli, make)(48)
    assert found.shape == (n, 3, 48, 48)
    assert found.square().mean((1, 2, 3)).sqrt().tolist() == pytest.approx([stimuli.CONTRAST] * n, rel=0.02)
    assert len({each.numpy().tobytes() for each in found}) == n


def test_corners_are_quadrants_and_coloured_edges_have_no_brightness():
    corner, inverse = stimuli.corners(49)[:2]
    assert 0.2 < (corner[0] > 0).float().mean() < 0.3 and torch.equal(corner, -inverse)
    assert corner[0, 40, 40] > 0 > corner[0, 10, 10] and corner[0, 10, 40] < 0
    assert stimuli.colour_edges(48).mean(1).abs().max() < 1e-3


@pytest.mark.parametrize("size", [(24, 24), (25, 31)])
def test_the_bank_takes_pictures_apart_and_puts_them_together(size):
    pictures = torch.randn(2, 3, *size, generator=torch.manual_seed(0))
    bands = stimuli.bands(pictures)
    assert len(bands) == 14 and torch.allclose(stimuli.together(bands), pictures, atol=1e-4)
    across = stimuli.grating(64, 1 / 8, 0.0, 0.0)[None]
    energy = torch.stack([band.square().mean() for band in stimuli.bands(across)])
    assert int(energy.argmax()) == 1 + 4 * 1  # the second octave, from left to right


def test_scrambled_textures_keep_the_square_s_histograms_and_lose_its_layout():
    y, x = np.mgrid[:80, :80]
    stripes = 60 * np.sign(np.sin(0.6 * (x + 0.3 * y)))
    picture = torch.from_numpy(np.stack([stripes, 0.5 * stripes, -stripes])).float()[None]
    picture[..., :2, :] += 500  # outside the square
    texture, window = stimuli.scrambled(picture, (8, 8), 64, seed=1), picture[..., 8:72, 8:72]
    assert abs(float(np.corrcoef(window.flatten(), texture.flatten())[0, 1])) < 0.3
    assert torch.allclose(texture.mean((2, 3)), window.mean((2, 3)), atol=0.5)
    assert float(np.corrcoef(texture[0, 0].flatten(), texture[0, 2].flatten())[0, 1]) < -0.99  # colours go together
    shuffled = window.flatten(2)[..., torch.randperm(64 * 64, generator=torch.manual_seed(0))].view_as(window)
    own, other, noise = (
        torch.stack([band.square().mean() for band in stimuli.bands(each)]) for each in (window, texture, shuffled)
    )
    assert (own - other).norm() < 0.6 * (own - noise).norm()


# ---- what layers answer --------------------------------------------------------------------------------------


def test_a_map_of_corners_and_one_of_gratings_are_told_apart(at):
    """Layer 2 holds a map that sums red against green, one of a fast grating, and a silent one."""
    net = ConvNet(replace(MINI, image_size=64).resized(conv1=3, conv2=3).features()).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.conv1.weight[0, 0], net.conv1.weight[0, 1] = 0.01, -0.01
        net.conv1.weight[1] = 0.02 * torch.cos(torch.arange(7.0) * np.pi / 2)
        for map_ in (0, 1):
            net.conv2.weight[map_, map_] = 1.0
    share = next(features.probed(small(net, at.dataset)))
    assert (share.value, share.n, share.data) == (50, 2, stimuli.MADE)


def test_the_square_around_a_unit_stays_in_the_picture():
    unit, net = Unit(0, "conv1", 0, 1, 1), small(colour_net(), Coloured(2)).net
    assert features.square_around(net, unit, 12) == [3, 3]
    assert features.square_around(net, unit._replace(row=0, column=5), 12) == [0, 20]


def test_layers_are_probed(at):
    found = measured(features.probed(at))
    assert 0 <= found[features.PREFER, "trained"].value <= 100
    assert [key[1] for key in found if key[0] == features.SCRAMBLED] == ["conv2", "conv3", "conv4"]


def test_the_index_counts_the_mean_distance_of_all_steps(at):
    (way,) = [each for each in invariance.TRANSFORMATIONS if each.way == "shift"]
    still, moved, alone = (
        features.indices(at.net, list(at.squares(at.rows[:3])), [replace(way, steps=steps)])["shift"]
        for steps in ((0.0,), (0.0, 0.25), (0.25,))
    )
    assert all(index == pytest.approx(1) for index in still.values())
    assert moved["conv1"] == pytest.approx((1 + alone["conv1"]) / 2)
    assert list(still) == [*at.layers, "fc6", "fc7"]


def test_the_rank_correlation_is_bootstrapped_over_pictures():
    index = np.array([[0.1, 0.2, 0.3, 0.4]] * 8 + [[0.4, 0.3, 0.2, 0.1]] * 2)
    found, certain = (features.correlation(each, 0, "shift") for each in (index, index[:8]))
    assert found.value == pytest.approx(1) and found.n == 10 and found.low <= 1 == pytest.approx(found.high)
    assert (certain.low, certain.high) == (1.0, 1.0)


def test_pictures_are_moved_for_every_layer_and_maxima_followed(at):
    found = measured(features.moved(at))
    assert found[features.RANKS, "shift"].n == 2
    units, kept = at.units("conv2")[:: at.scale.units], []
    for unit in units:
        square = at.squares([unit.image])[0]
        turned = invariance.transformed(square, at.net.preparation, turn=features.MOVES["turn"])
        peaks = at.net.trace(at.net.prepare(torch.stack([square, turned])))["conv2"].maps[:, unit.map].amax((1, 2))
        kept.append(float((peaks[1] / peaks[0]).detach()))
    assert found["maximum kept", "conv2", "turn"].value == pytest.approx(100 * np.median(kept), rel=1e-4)
