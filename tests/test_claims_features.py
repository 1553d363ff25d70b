"""What the claims of section 4 measure of the layers: planted signals and cases by hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from planted import arriving, coloured, shown, small
from torch.nn import functional as F

from zfnet_lib.architecture import MINI, Unit, receptive_field
from zfnet_lib.datasets import open_dataset
from zfnet_lib.deconv import cut
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import grouping, invariance
from zfnet_lib.paper.claims import features
from zfnet_lib.paper.claims.evidence import NotRun
from zfnet_lib.strongest import strongest
from zfnet_lib.training import FIGURE_4_EPOCHS
from zfnet_lib.weights import save_network


@pytest.fixture(scope="module")
def at():
    """A random network on few drawn pictures."""
    return small(ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=12))


def test_a_map_that_sees_beside_the_object_is_found_and_named(at):
    area = 1 - 36 / 32**2
    for lie, outside in ((False, -area), (True, 1 - area)):  # all energy is on the object
        shares = features.outside_shares(coloured(lie=lie), (0, 1))
        assert list(shares.values()) == pytest.approx([outside, outside], abs=1e-4)
    found = shown(features.background(at))
    shares = features.outside_shares(at, (at.hits["conv5"].score > 0).all(1).nonzero().flatten().tolist())
    best = max(shares, key=shares.get)
    assert found[features.BEYOND, best, 0].value == pytest.approx(100 * shares[best])
    assert found[features.BACKGROUND, 0].value == sum(share > 0.2 for share in shares.values())


def test_a_training_whose_rate_never_falls_is_followed_as_that_of_figure_4(at, data, monkeypatch):
    with pytest.raises(NotRun, match=r"^`zfnet train zfnet --data shapes --recipe smoke --rate constant`$"):
        list(features.evolving_at_constant_rate(at))
    folder = features.constant_rate("smoke").folder / "snapshots"
    for epoch in FIGURE_4_EPOCHS:
        save_network(at.net, folder / f"epoch-{epoch:02d}-of-70", {})
    monkeypatch.setattr(features.fig4, "SCALES", {"smoke": (8, 40, 8)})
    found = shown(features.evolving_at_constant_rate(at))
    assert found[features.fig4.ALIGNMENT, "conv1", 1].value == pytest.approx(1)  # the same network at all moments
    assert found[features.fig4.PROBE, "conv5", 64].n == 8


def test_every_bar_has_four_edges():
    picture = np.zeros((3, 60, 60))
    assert features.edge_pieces(picture) == 0
    for top, left in ((5, 5), (5, 35), (35, 5)):
        picture[:, top : top + 20, left : left + 8] = 1
    assert features.edge_pieces(picture) == 12
    picture[:, 35:55, 35:43] = 0.1  # faint
    assert features.edge_pieces(picture) == 12
    colours = np.zeros((3, 40, 40))
    colours[0, :, :20], colours[1, :, 20:] = 1, 1  # an edge between colours, the grey of both the same
    assert features.edge_pieces(colours) == 1


def test_projections_are_measured_trained_and_untrained_and_maps_take_part_by_their_energy(at):
    found = shown(features.growing(at))
    first = found["side of the square that holds 90 %", "conv1", "trained"]
    assert first.value <= 7 and first.n == 12
    assert found["of the receptive field", "conv1", "trained"].value == pytest.approx(100 * first.value / 7)
    assert found["maps beneath that take part", "conv5", "untrained"].value > 1
    energies = [arriving(at, unit).clamp(min=0).square().sum(1) for unit in at.units("conv2", 1)]
    expected = np.mean([float(energy.sum() ** 2 / energy.square().sum()) for energy in energies])
    assert found["maps beneath that take part", "conv2", "trained"].value == pytest.approx(expected, rel=1e-4)


def test_variation_is_that_within_maps_over_that_between():
    values = np.array([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 1.0]])
    found = features.variation(values, np.array([4, 4, 9, 9]))
    between = np.mean([10, np.hypot(10, 1), np.hypot(10, 2), np.hypot(10, 1)])
    assert found == pytest.approx(np.array([2, 1]) / between)


def test_coverage_is_the_share_of_the_object_in_the_square_of_the_energy():
    assert features.coverage(coloured(), "conv1").min() > 70
    assert not features.coverage(coloured(lie=True), "conv1").any()


def test_poses_vary_in_pixels_as_in_the_layer_that_answers_to_them(at):
    """The top layer is read where its field lies nearest to the patch: its own at the unit itself."""
    units = at.units("conv5")[: 2 * at.scale.units]
    x = at.x([unit.image for unit in units])
    maps, field = at.net.trace(x)["conv5"].maps, receptive_field(at.net.spec, "conv5")
    own, resized = [], []
    for i, unit in enumerate(units):
        own.append(maps[i, :, unit.row, unit.column].numpy())
        patch = cut(x[i], field.box(unit.row, unit.column))[None]
        resized.append(F.interpolate(patch, (24, 24), mode="bilinear", antialias=True).flatten().numpy())
    named = np.array([unit.map for unit in units])
    expected = features.variation(np.stack(resized), named) / features.variation(np.stack(own), named)
    assert features.pose_variation(at, "conv5") == pytest.approx(expected, rel=1e-4)


def test_a_combination_of_maps_is_ranked_by_their_weighted_sum(at):
    mixed = features.combined(at.net, "conv3", 5, seed=2)
    weights = mixed.get_submodule(features.COMBINED).weight.detach()[:, :, 0, 0]
    assert weights.norm(dim=1).tolist() == pytest.approx([1] * 5)
    hits = strongest(mixed, at.dataset, 3, [features.COMBINED], rows=at.rows)[features.COMBINED]
    maps = at.net.trace(at.x(at.rows))["conv3"].maps
    literal = torch.einsum("dm,nmhw->ndhw", weights, maps).clamp(min=0).amax((2, 3))
    best, where = literal.topk(3, dim=0)
    assert torch.allclose(hits.score.float(), best.T, rtol=1e-3)
    assert hits.image.tolist() == torch.tensor(at.rows)[where].T.tolist()
    assert receptive_field(mixed.spec, features.COMBINED) == receptive_field(at.net.spec, "conv3")


def test_patches_are_what_units_see_and_coherence_is_measured_for_maps_and_both_controls(at):
    unit = at.units("conv1")[0]
    box = receptive_field(at.net.spec, "conv1").box(unit.row, unit.column)
    picture = at.net.preparation.visible(at.x([unit.image]))[0].permute(1, 2, 0)
    (patch,) = features.what_they_see(at, "conv1", [unit])
    assert (patch == picture[box.top : box.bottom, box.left : box.right].numpy()).all()
    (whole,) = features.what_they_see(at, "conv5", [Unit(unit.image, "conv5", 0, 0, 0)])
    assert (whole == picture.numpy()).all()
    found = shown(features.coherent(at))
    kinds = ("trained", "untrained", features.COMBINED)
    assert {key[1:] for key in found} == {*product(("conv3", "conv4", "conv5"), kinds)}
    assert all(0 <= number.value <= np.log2(9) for key, number in found.items() if key[0] == grouping.ENTROPY)


@pytest.mark.parametrize(("make", "n"), [("gratings", 256), ("corners", 128), ("colour_edges", 128)])
def test_stimuli_differ_and_have_one_contrast(make, n):
    found = getattr(features, make)(48)
    assert found.shape == (n, 3, 48, 48)
    assert found.square().mean((1, 2, 3)).sqrt().tolist() == pytest.approx([features.CONTRAST] * n, rel=0.02)
    assert len({each.numpy().tobytes() for each in found}) == n


def test_gratings_vary_in_one_direction_corners_are_quadrants_and_coloured_edges_have_no_brightness():
    wave = features.grating(64, 1 / 8, np.pi / 2, 0.0)
    assert torch.allclose(wave[..., :1].expand_as(wave), wave, atol=1e-3)  # it varies downwards
    assert int(torch.fft.rfft(wave[0, :, 0]).abs().argmax()) == 8
    corner, inverse = features.corners(49)[:2]
    assert 0.2 < (corner[0] > 0).float().mean() < 0.3 and torch.equal(corner, -inverse)
    assert corner[0, 40, 40] > 0 > corner[0, 10, 10] and corner[0, 10, 40] < 0
    assert features.colour_edges(48).mean(1).abs().max() < 1e-3


@pytest.mark.parametrize("size", [(24, 24), (25, 31)])
def test_the_bank_takes_pictures_apart_and_puts_them_together(size):
    pictures = torch.randn(2, 3, *size, generator=torch.manual_seed(0))
    bands = features.bands(pictures)
    assert len(bands) == 14 and torch.allclose(features.together(bands), pictures, atol=1e-4)
    across = features.bands(features.grating(64, 1 / 8, 0.0, 0.0)[None])
    assert int(torch.stack([band.square().mean() for band in across]).argmax()) == 1 + 4 * 1  # from left to right


def test_scrambled_textures_keep_histograms_and_lose_the_layout():
    y, x = np.mgrid[:80, :80]
    stripes = 60 * np.sign(np.sin(0.6 * (x + 0.3 * y)))
    picture = torch.from_numpy(np.stack([stripes, 0.5 * stripes, -stripes])).float()[None]
    texture = features.scrambled(picture, (8, 8), 64, seed=1)
    window = picture[..., 8:72, 8:72]
    assert abs(float(np.corrcoef(window.flatten(), texture.flatten())[0, 1])) < 0.3
    assert torch.allclose(texture.mean((2, 3)), window.mean((2, 3)), atol=0.5)
    assert float(np.corrcoef(texture[0, 0].flatten(), texture[0, 2].flatten())[0, 1]) < -0.99  # colours go together
    shuffled = window.flatten(2)[..., torch.randperm(64 * 64)].view_as(window)
    own, other, noise = (
        torch.stack([band.square().mean() for band in features.bands(each)])
        for each in (picture, texture, shuffled)
    )
    assert (own - other).norm() < 0.6 * (own - noise).norm()
    changed = picture.clone()
    changed[..., :2, :] += 500  # outside of the square
    assert features.scrambled(changed, (20, 20), 32).std() < 2 * picture.std()


def test_a_map_of_corners_and_one_of_gratings_are_told_apart():
    """Layer 2 holds a map that sums red against green, one of a fast grating, and a silent one."""
    narrow = replace(MINI, image_size=64).resized(conv1=3, conv2=3)
    at = small(ConvNet(narrow).eval(), open_dataset("shapes", "val", n=12))
    wave = torch.cos(torch.arange(7.0) * np.pi / 2)
    with torch.no_grad():
        for parameter in (*at.net.conv1.parameters(), *at.net.conv2.parameters()):
            parameter.zero_()
        at.net.conv1.weight[0, 0], at.net.conv1.weight[0, 1] = 0.01, -0.01
        at.net.conv1.weight[1] = 0.02 * wave
        for map_ in (0, 1):
            at.net.conv2.weight[map_, map_] = 1.0
    at.scale = at.scale._replace(maps=1)
    preferring, _, *kept = features.probed(at)
    assert (preferring.value, preferring.n, preferring.place) == (50, 2, {"weights": "trained"})
    assert [each.place["layer"] for each in kept] == ["conv2", "conv3", "conv4"] and kept[0].value > 0


def test_the_index_counts_the_mean_distance_of_all_steps(at):
    (way,) = [each for each in invariance.TRANSFORMATIONS if each.way == "shift"]
    pictures = list(at.squares(at.rows[:3]))
    still, both, alone = (
        features.indices(at.net, pictures, [way._replace(steps=steps)])["shift"]
        for steps in ((0.0,), (0.0, 0.25), (0.25,))
    )
    assert all(index == pytest.approx(1) for index in still.values())
    assert both["conv1"] == pytest.approx((1 + alone["conv1"]) / 2)
    assert list(still) == [*at.layers, "fc6", "fc7"]


def test_the_rank_correlation_is_bootstrapped_over_pictures():
    index = np.array([[0.1, 0.2, 0.3, 0.4]] * 8 + [[0.4, 0.3, 0.2, 0.1]] * 2)
    found = features.correlation(index, 0, "shift")
    assert found.value == pytest.approx(1) and found.n == 10 and found.low <= 1 == pytest.approx(found.high)
    certain = features.correlation(index[:8], 0, "shift")
    assert (certain.low, certain.high) == (1.0, 1.0)


def test_the_maximum_of_a_map_is_followed_through_moves(at):
    found = shown(features.moved(at))
    assert found[features.RANKS, "shift"].n == 2 and found["maximum kept", "conv1", "scale"].n == at.scale.maps
    units = at.units("conv2", 1)
    squares = at.squares([unit.image for unit in units])
    turn = {"turn": features.MOVES["turn"]}
    turned = torch.stack([invariance.transformed(square, at.net.preparation, **turn) for square in squares])
    peaks = [at.net.trace(at.net.prepare(each))["conv2"].maps.amax((2, 3)) for each in (squares, turned)]
    shares = [float(100 * peaks[1][i, unit.map] / peaks[0][i, unit.map]) for i, unit in enumerate(units)]
    assert found["maximum kept", "conv2", "turn"].value == pytest.approx(np.median(shares), rel=1e-4)
