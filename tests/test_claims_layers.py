"""The claims of section 4 on layers: planted signals, cases by hand, and thresholds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import coloured, number, small, verdict_of

from zfnet_lib.architecture import MINI, ZFNET, Box, receptive_field
from zfnet_lib.datasets.opening import open_dataset
from zfnet_lib.network import ConvNet
from zfnet_lib.paper.claims import layers
from zfnet_lib.paper.claims.finding import FAILS, HOLDS, UNDECIDED, UNTESTABLE, Number, rising


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
