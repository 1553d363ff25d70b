"""The claims of section 4 on layers: planted signals, cases by hand, and thresholds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import Coloured, colour_net, coloured, judged, number, small, verdict_of

from zfnet_lib.architecture import MINI, ZFNET, Box, Unit, receptive_field
from zfnet_lib.datasets import open_dataset
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import invariance
from zfnet_lib.paper.claims import coherence, layers, probing, stimuli
from zfnet_lib.paper.claims.finding import FAILS, HOLDS, UNDECIDED, UNTESTABLE, Number, rising
from zfnet_lib.strongest import strongest


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """Empty folders of results."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))


@pytest.fixture(scope="module")
def at():
    """A random network on few drawn pictures."""
    return small(ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=12))


def shown(found):
    """Return measured numbers by quantity and place."""
    return {(each.quantity, *each.place.values()): each for each in found}


def test_numbers_rise_where_intervals_are_apart():
    steps = [Number(1, 0.9, 1.1), Number(2, 1.9, 2.1), Number(3, 2.9, 3.1)]
    assert rising(steps) is True
    assert rising([*steps, Number(3.1, 3.0, 3.2)]) is None
    assert rising([*steps, Number(2, 1.9, 2.1)]) is False


# ---- maps that look at the background ------------------------------------------------------------------------


def test_energy_outside_counts_above_its_area():
    energy = torch.zeros(2, 4, 4)
    energy[0, 0, 0], energy[1, 3, 3] = 2, 5
    inside = torch.zeros(2, 4, 4, dtype=torch.bool)
    inside[:, :2, :2] = True
    assert layers.outside(energy, inside).tolist() == [-0.75, 0.25]


def test_a_map_that_sees_beside_the_object_is_found():
    honest, lied = (layers.outside_shares(coloured(lie=lie), (0, 1)) for lie in (False, True))
    area = 1 - 36 / 32**2
    assert list(honest.values()) == pytest.approx([-area, -area], abs=1e-4)  # all energy on the object
    assert list(lied.values()) == pytest.approx([1 - area, 1 - area], abs=1e-4)


def test_background_maps_have_to_be_found_in_two_trainings():
    def verdict(*counts):
        found = [number(layers.BACKGROUND, count, seed=seed) for seed, count in enumerate(counts)]
        found += [number(f"{layers.BACKGROUND}, random weights", 0)]
        found += [number(layers.BEYOND, 30, map=7, seed=0)]
        return verdict_of("background-feature-grass", *found)

    assert verdict(3, 1) == HOLDS
    assert verdict(3) == verdict(3, 0) == UNDECIDED
    assert verdict(0) == verdict(0, 0) == FAILS


def test_background_names_its_strongest_maps(at):
    found = shown(layers.background(at))
    shares = layers.outside_shares(at, (at.hits["conv5"].score > 0).all(1).nonzero().flatten().tolist())
    best = max(shares, key=shares.get)
    assert found[layers.BEYOND, best, 0].value == pytest.approx(100 * shares[best])
    assert found[layers.BACKGROUND, 0].value == sum(share > 0.2 for share in shares.values())


# ---- extent, edges, maps that take part ----------------------------------------------------------------------


def test_every_bar_has_four_edges():
    picture = np.zeros((3, 60, 60))
    for top, left in ((5, 5), (5, 35), (35, 5)):
        picture[:, top : top + 20, left : left + 8] = 1
    assert layers.edge_pieces(picture) == 12
    faint = picture.copy()
    faint[:, 35:55, 35:43] = 0.1
    assert layers.edge_pieces(faint) == 12
    colours = np.zeros((3, 40, 40))
    colours[0, :, :20], colours[1, :, 20:] = 1, 1  # an edge between colours, the grey of both the same
    assert layers.edge_pieces(colours) == 1


def test_maps_take_part_by_their_energy(at):
    unit = at.units("conv2")[0]
    found = layers._maps_beneath(at, "conv2", "conv1")
    trace = at.net.trace(at.x([unit.image]))
    signal = torch.zeros_like(trace["conv2"].maps)
    signal[0, unit.map, unit.row, unit.column] = float(
        trace["conv2"].maps[0, unit.map, unit.row, unit.column].detach()
    )
    back = torch.nn.functional.conv_transpose2d(signal, at.net.conv2.weight.detach(), stride=2)
    switches, maps = trace["conv1"].switches, trace["conv1"].maps
    rows, columns = switches.shape[2:]
    flat = torch.zeros(maps.shape[1], maps[0, 0].numel())
    flat.scatter_add_(1, switches[0].flatten(1), back[0, :, :rows, :columns].flatten(1))
    energy = flat.clamp(min=0).square().sum(1)
    assert found[0] == pytest.approx(float(energy.sum() ** 2 / energy.square().sum()), rel=1e-4)


def growth(extents, pieces=(3, 20, 40, 60, 80)):
    found = []
    for weights in ("trained", "untrained"):
        for i, layer in enumerate(("conv1", "conv2", "conv3", "conv4", "conv5")):
            place = {"layer": layer, "weights": weights}
            found.append(number(layers.EXTENT, extents[i], 1, **place))
            found.append(number(layers.PIECES, pieces[i], 1, **place))
            found.append(number(layers.OF_FIELD, 50, 1, **place))
            found.append(number(layers.BENEATH, 50, 1, **place))
    return verdict_of("features-hierarchical", *found)


def test_the_hierarchy_has_to_rise_with_every_layer():
    assert growth((7, 20, 40, 50, 60)) == HOLDS
    assert growth((7, 20, 40, 41, 60)) == UNDECIDED
    assert growth((7, 20, 40, 37, 60)) == FAILS
    assert growth((7, 20, 40, 50, 60), pieces=(3, 20, 40, 30, 80)) == FAILS


def test_projections_are_measured_trained_and_untrained(at):
    found = shown(layers.growing(at))
    first = found[layers.EXTENT, "conv1", "trained"]
    assert first.value <= 7 and first.n == 12
    assert found[layers.OF_FIELD, "conv1", "trained"].value == pytest.approx(100 * first.value / 7)
    assert found[layers.BENEATH, "conv5", "untrained"].value > 1


# ---- objects and their poses ---------------------------------------------------------------------------------


def test_variation_is_that_within_maps_over_that_between():
    values = np.array([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 1.0]])
    found = layers.variation(values, np.array([4, 4, 9, 9]))
    between = np.mean([10, np.hypot(10, 1), np.hypot(10, 2), np.hypot(10, 1)])
    assert found == pytest.approx(np.array([2, 1]) / between)


def test_patches_are_resized_and_the_top_layer_is_read_at_their_middle():
    picture = torch.arange(3 * 40 * 40.0).view(3, 40, 40)
    whole = layers._resized(picture, Box(8, 8, 32, 32)).reshape(3, 24, 24)
    assert (whole == picture[:, 8:32, 8:32].numpy()).all()
    assert not layers._resized(picture, Box(-24, -24, 0, 0)).any()
    net = ConvNet(replace(ZFNET, image_size=112).scaled(1 / 16).features(), seed=1).eval()
    with torch.no_grad():
        trace = net.trace(torch.randn(1, 3, 200, 200, generator=torch.manual_seed(0)) * 60)
    for row, column in ((2, 3), (0, 0)):
        box = receptive_field(net.spec, "conv5").box(row, column)
        answer = layers._at_middle(trace, 0, box)
        assert (answer == trace["conv5"].maps[0, :, row, column].numpy()).all()


def test_coverage_is_the_share_of_the_object_in_the_square_of_the_energy():
    assert layers._coverage(coloured(), "conv1").min() > 0.7
    assert not layers._coverage(coloured(lie=True), "conv1").any()


def test_objects_are_covered_and_vary_with_the_layer_or_cannot_be_tested():
    def verdict(coverage=60, variation=(0.5, 0.7, 0.9, 1.1, 1.3), window=0.6):
        found = [
            number(layers.WINDOW, window),
            number(layers.COVERED, coverage, 2),
        ]
        by_layer = zip(("conv1", "conv2", "conv3", "conv4", "conv5"), variation, strict=True)
        found += [number(layers.VARIATION, value, 0.05, layer=layer) for layer, value in by_layer]
        return verdict_of("layer-5-objects-with-pose-variation", *found)

    assert verdict() == HOLDS
    assert verdict(coverage=51) == verdict(variation=(0.5, 0.7, 0.9, 1.1, 1.15)) == UNDECIDED
    assert verdict(coverage=40) == verdict(variation=(0.5, 0.7, 0.9, 1.1, 0.6)) == FAILS
    assert verdict(window=1.2) == UNTESTABLE


def test_large_pictures_are_seen_by_the_same_convolutions(at):
    large = at.enlarged(96)
    assert large.net.preparation.crop == 96 and large.net.conv3 is at.net.conv3
    assert large.rows == at.rows and large.objects([at.rows[0]]).shape == (1, 96, 96)
    assert at.enlarged(32).net.preparation.crop == 64


# ---- random directions ---------------------------------------------------------------------------------------


def test_a_combination_of_maps_is_ranked_by_their_weighted_sum(at):
    mixed = coherence.combined(at.net, "conv3", 5, seed=2)
    weights = mixed.get_submodule(coherence.COMBINED).weight.detach()[:, :, 0, 0]
    assert weights.norm(dim=1).tolist() == pytest.approx([1] * 5)
    hits = strongest(mixed, at.dataset, 3, [coherence.COMBINED], rows=at.rows)[coherence.COMBINED]
    maps = at.net.trace(at.x(at.rows))["conv3"].maps.detach()
    literal = torch.einsum("dm,nmhw->ndhw", weights, maps).clamp(min=0).amax((2, 3))
    best, where = literal.topk(3, dim=0)
    assert torch.allclose(hits.score.float(), best.T, rtol=1e-3)
    assert hits.image.tolist() == torch.tensor(at.rows)[where].T.tolist()
    assert receptive_field(mixed.spec, coherence.COMBINED) == receptive_field(at.net.spec, "conv3")


def test_patches_are_what_units_see(at):
    unit = at.units("conv1")[0]
    box = receptive_field(at.net.spec, "conv1").box(unit.row, unit.column)
    picture = at.net.preparation.visible(at.x([unit.image]))[0]
    ((patch,),) = coherence._patches(at, "conv1", [[unit]])
    assert (patch == picture[:, box.top : box.bottom, box.left : box.right].permute(1, 2, 0).numpy()).all()
    ((whole,),) = coherence._patches(at, "conv5", [[Unit(unit.image, "conv5", 0, 0, 0)]])
    assert (whole == picture.permute(1, 2, 0).numpy()).all()


def coherent(alike, labels):
    found = []
    for layer in ("conv3", "conv4", "conv5"):
        for of, like, entropy in zip(coherence.MAPS, alike, labels, strict=True):
            place = {"layer": layer, "of": of}
            found.append(number(coherence.ALIKE.format("shape"), like, 0.02, **place))
            found.append(number(coherence.LABELS, entropy, 0.1, **place))
    return judged("features-far-from-random", *found)


def test_maps_beat_random_weights_and_random_directions():
    assert coherent((0.8, 0.7, 0.7), (2.5, 3.0, 2.9)).verdict == HOLDS
    assert "no special axes" not in coherent((0.8, 0.7, 0.7), (2.5, 3.0, 2.9)).note
    only_random = coherent((0.8, 0.7, 0.82), (2.5, 3.0, 2.5))
    assert only_random.verdict == UNDECIDED and "no special axes" in only_random.note
    assert coherent((0.8, 0.79, 0.7), (2.5, 3.0, 2.9)).verdict == UNDECIDED
    assert coherent((0.6, 0.7, 0.5), (2.5, 3.0, 2.9)).verdict == FAILS


def test_coherence_is_measured_for_maps_and_both_controls(at):
    found = shown(coherence.coherent(at))
    assert {key[2] for key in found} == set(coherence.MAPS)
    assert {key[1] for key in found} == {"conv3", "conv4", "conv5"}
    assert all(0 <= found[coherence.LABELS, "conv5", of].value <= np.log2(9) for of in coherence.MAPS)


# ---- stimuli -------------------------------------------------------------------------------------------------


def test_gratings_have_their_frequency_direction_and_contrast():
    wave = stimuli.grating(64, 1 / 8, np.pi / 2, 0.0)
    assert torch.allclose(wave[..., :1].expand_as(wave), wave, atol=1e-3)  # it varies downwards
    spectrum = torch.fft.rfft(wave[0, :, 0]).abs()
    assert int(spectrum.argmax()) == 8
    assert float(wave.square().mean().sqrt()) == pytest.approx(stimuli.CONTRAST, rel=1e-3)


@pytest.mark.parametrize(("make", "n"), [("gratings", 256), ("corners", 128), ("colour_edges", 128)])
def test_stimuli_differ_and_have_one_contrast(make, n):
    found = getattr(stimuli, make)(48)
    assert found.shape == (n, 3, 48, 48)
    assert found.square().mean((1, 2, 3)).sqrt().tolist() == pytest.approx([stimuli.CONTRAST] * n, rel=0.02)
    assert len({each.numpy().tobytes() for each in found}) == n


def test_corners_are_quadrants_and_coloured_edges_have_no_brightness():
    corner, inverse = stimuli.corners(49)[:2]
    bright = (corner[0] > 0).float().mean()
    assert 0.2 < bright < 0.3 and torch.equal(corner, -inverse)
    assert corner[0, 40, 40] > 0 > corner[0, 10, 10] and corner[0, 10, 40] < 0
    assert stimuli.colour_edges(48).mean(1).abs().max() < 1e-3


@pytest.mark.parametrize("size", [(24, 24), (25, 31)])
def test_the_bank_takes_pictures_apart_and_puts_them_together(size):
    pictures = torch.randn(2, 3, *size, generator=torch.manual_seed(0))
    bands = stimuli._bands(pictures)
    assert len(bands) == 14 and torch.allclose(stimuli._together(bands), pictures, atol=1e-4)
    across = stimuli.grating(64, 1 / 8, 0.0, 0.0)[None]
    energy = torch.stack([band.square().mean() for band in stimuli._bands(across)])
    assert int(energy.argmax()) == 1 + 4 * 1  # the second octave, from left to right


def test_scrambled_textures_keep_histograms_and_lose_the_layout():
    y, x = np.mgrid[:80, :80]
    stripes = 60 * np.sign(np.sin(0.6 * (x + 0.3 * y)))
    picture = torch.from_numpy(np.stack([stripes, 0.5 * stripes, -stripes])).float()[None]
    texture = stimuli.scrambled(picture, (8, 8), 64, seed=1)
    window = picture[..., 8:72, 8:72]
    assert abs(float(np.corrcoef(window.flatten(), texture.flatten())[0, 1])) < 0.3
    assert torch.allclose(texture.mean((2, 3)), window.mean((2, 3)), atol=0.5)
    assert float(np.corrcoef(texture[0, 0].flatten(), texture[0, 2].flatten())[0, 1]) < -0.99  # colours go together
    own, other = (torch.stack([b.square().mean() for b in stimuli._bands(p)]) for p in (picture, texture))
    shuffled = window.flatten(2)[..., torch.randperm(64 * 64)].view_as(window)
    noise = torch.stack([band.square().mean() for band in stimuli._bands(shuffled)])
    assert (own - other).norm() < 0.6 * (own - noise).norm()


def test_only_what_is_in_the_square_is_scrambled_of():
    picture = torch.randn(1, 3, 60, 60, generator=torch.manual_seed(0)) * 20
    changed = picture.clone()
    changed[..., :2, :] += 500
    assert stimuli.scrambled(changed, (20, 20), 32).std() < 2 * picture.std()


# ---- what layers answer --------------------------------------------------------------------------------------


def test_a_map_of_corners_and_one_of_gratings_are_told_apart():
    """Layer 2 holds a map that sums red against green, one of a fast grating, and a silent one."""
    net = ConvNet(replace(MINI, image_size=64).resized(conv1=3, conv2=3).features("conv2")).eval()
    wave = torch.cos(torch.arange(7.0) * np.pi / 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.conv1.weight[0, 0], net.conv1.weight[0, 1] = 0.01, -0.01
        net.conv1.weight[1] = 0.02 * wave
        for map_ in (0, 1):
            net.conv2.weight[map_, map_] = 1.0
    assert probing._selective(net, "conv2").tolist() == [True, False]


def test_scrambling_leaves_a_map_of_one_colour_what_it_had():
    at = small(colour_net(), Coloured(20))
    unit = Unit(0, "conv1", 0, 1, 1)
    assert probing._around(at.net, unit, 12, 32) == [3, 3]
    assert probing._around(at.net, unit._replace(row=0, column=5), 12, 32) == [0, 20]
    assert probing._by_map([unit, unit, unit._replace(map=1)], [1.0, 0.5, 3.0]).tolist() == [0.75, 3.0]


def test_textures_are_kept_longer_in_layer_3_than_in_layer_4():
    def verdict(share=60, third=50, fourth=40):
        found = [number(probing.PREFER, share, 5, weights="trained")]
        found += [number(probing.PREFER, 50, 5, weights="untrained")]
        kept = {"conv2": 60, "conv3": third, "conv4": fourth}
        found += [number(probing.SCRAMBLED, value, 4, layer=layer) for layer, value in kept.items()]
        return verdict_of("layers-2-3-edges-then-textures", *found)

    assert verdict() == HOLDS
    assert verdict(share=54) == verdict(fourth=44) == UNDECIDED
    assert verdict(share=40) == verdict(third=40, fourth=50) == FAILS


def test_layers_are_probed(at):
    found = shown(probing.probed(at))
    assert 0 <= found[probing.PREFER, "trained"].value <= 100
    assert [key[1] for key in found if key[0] == probing.SCRAMBLED] == ["conv2", "conv3", "conv4"]


# ---- invariance ----------------------------------------------------------------------------------------------


def test_the_index_counts_the_mean_distance_of_all_steps(at):
    (way,) = [each for each in invariance.TRANSFORMATIONS if each.way == "shift"]
    rows = at.rows[:3]
    found = probing._indices(at, rows, [replace(way, steps=(0.0,))])["shift"]
    assert all(index == pytest.approx(1) for index in found.values())
    moved = probing._indices(at, rows, [replace(way, steps=(0.0, 0.25))])["shift"]
    alone = probing._indices(at, rows, [replace(way, steps=(0.25,))])["shift"]
    assert moved["conv1"] == pytest.approx((1 + alone["conv1"]) / 2)
    assert list(found) == [*at.layers, "fc6", "fc7"]


def test_the_rank_correlation_is_bootstrapped_over_pictures():
    index = np.array([[0.1, 0.2, 0.3, 0.4]] * 8 + [[0.4, 0.3, 0.2, 0.1]] * 2)
    found = probing._correlation(index, 0, "shift")
    assert found.value == pytest.approx(1) and found.n == 10 and found.low <= 1 == pytest.approx(found.high)
    certain = probing._correlation(index[:8], 0, "shift")
    assert (certain.low, certain.high) == (1.0, 1.0)


def test_the_maximum_of_a_map_is_followed_through_moves(at):
    found = probing._kept_moved(at, "conv2")
    unit = at.units("conv2")[:: at.scale.units][1]
    square = at.squares([unit.image])[0]
    turned = invariance.transformed(square, at.net.preparation, turn=probing.MOVES["turn"])
    peaks = at.net.trace(at.net.prepare(torch.stack([square, turned])))["conv2"].maps[:, unit.map].amax((1, 2))
    assert found["turn"][1] == pytest.approx(float((peaks[1] / peaks[0]).detach()), rel=1e-4)


def invariant(ranks, more):
    ways = ("shift", "scale", "turn")
    found = [number(probing.RANKS, rank, 0.02, way=way) for way, rank in zip(ways, ranks, strict=True)]
    for way, rise in zip(ways, more, strict=True):
        found.append(number(probing.MORE, rise, 0.05, way=way))
        found += [number(probing.INDEX, 0.5, layer=layer, way=way) for layer in ("conv1", "fc7")]
    return verdict_of("invariance-grows-with-layer", *found)


def test_invariance_grows_under_two_of_three_transformations():
    assert invariant((0.97, 0.97, 0.2), (0.1, 0.1, -0.3)) == HOLDS
    assert invariant((0.97, 0.89, 0.2), (0.1, 0.1, 0.1)) == UNDECIDED
    assert invariant((0.97, 0.97, 0.97), (0.1, 0.0, 0.0)) == UNDECIDED
    assert invariant((0.97, -0.5, -0.2), (0.1, 0.1, 0.1)) == FAILS


def test_pictures_are_moved_for_every_layer(at):
    found = shown(probing.moved(at))
    assert found[probing.RANKS, "shift"].n == 2
    assert found["maximum kept", "conv1", "scale"].n == at.scale.maps
