"""Figure 5: patterns of known frequencies, first and second layers of small networks, what is at hand, drawings."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from drawings import assert_legible, words
from planted import record
from scipy.optimize import linprog

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import fig5
from zfnet_lib.paper.fig5 import BANDS, Compared, SpectrumError, Stems, grid
from zfnet_lib.paper.records import store
from zfnet_lib.weights import CheckpointError

FEATURES, SPECTRA, ARTEFACTS = "features", "spectra", "artefacts"


def waves(frequency: float, side: int, n: int = 6, seed: int = 0) -> np.ndarray:
    """Grey waves of one radial frequency [n, 3, side, side], each in a direction of its own."""
    rng = np.random.default_rng(seed)
    angle, phase = rng.uniform(0, np.pi, n), rng.uniform(0, 2 * np.pi, n)
    y, x = np.mgrid[:side, :side]
    turns = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    pattern = np.cos(2 * np.pi * frequency * turns + phase[:, None, None])
    return np.repeat(pattern[:, None], 3, axis=1)


@pytest.mark.parametrize(("frequency", "band"), [(0.06, "low"), (0.19, "middle"), (0.36, "high")])
def test_a_wave_falls_into_its_band(frequency, band):
    filters = waves(frequency, 23)
    shares = {name: fig5.energy_between(filters, *edges) for name, edges in BANDS.items()}
    assert (shares[band] > 0.8).all() and np.allclose(sum(shares.values()), 1)
    assert np.abs(fig5.peak_frequencies(filters) - frequency).max() < 0.02


def test_colours_add_their_energy_and_none_is_lost():
    pictures = np.random.default_rng(0).normal(size=(4, 3, 7, 7))
    energy = fig5.energies(pictures, 20)
    assert np.allclose(energy.sum((1, 2)), 400 * np.square(pictures).sum((1, 2, 3)))
    turns = np.exp(-2j * np.pi * (3 * np.arange(7)[:, None] + 5 * np.arange(7)) / 20)
    assert energy[0, 3, 5] == pytest.approx((np.abs((pictures[0] * turns).sum((1, 2))) ** 2).sum())


def test_a_stem_is_described_by_the_shares_of_its_filters():
    filters = np.concatenate([waves(0.06, 11, 5), waves(0.19, 11, 4)])
    filters[0] *= 10
    filters[1] *= 0.01
    filters[2] = 0.5 * np.random.default_rng(5).normal(size=(3, 11, 11))
    largest = np.ones(9)
    largest[[3, 1]] = 0
    assert [each.nonzero()[0].tolist() for each in fig5.faults(filters, largest)] == [[1, 3], [1], [2]]
    found, rms = fig5.stem(filters, 4, largest), np.sqrt(np.square(filters).mean((1, 2, 3)))
    assert found["features"] == {
        "Filters": "9 of 11x11, stride 4",
        "RMS, largest / median": round(rms[0] / np.median(rms), 1),
        "Silent, %": 22.2,
        "Faint, %": 11.1,
        "Noise, %": 11.1,
        "Dead (any), %": 33.3,
    }
    above, *energy, low, middle, high = found["spectra"].values()
    assert (low, middle, high) == (33.3, 66.7, 0) and sum(energy) == pytest.approx(100, abs=0.2)
    assert above == pytest.approx(energy[1] + energy[2], abs=0.1)  # stride 4: above 1/8
    dead = fig5.stem(waves(0.1, 7), 2, np.zeros(6))
    assert dead["features"]["Dead (any), %"] == 100 and np.isnan(list(dead["spectra"].values())).all()


@pytest.mark.parametrize("side", [7, 8, 11])
def test_noise_resembles_noise_and_structure_does_not(side):
    noise = np.random.default_rng(side).normal(size=(1000, 3, side, side))
    assert 0.92 < fig5.resembles_noise(noise).mean() < 0.98
    assert not fig5.resembles_noise(waves(0.2, side)).any()
    blobs = np.ones((3, 3, side, side)) * [[[[1]], [[-1]], [[0.5]]]]
    assert not fig5.resembles_noise(blobs + 0.1 * noise[:3]).any()


@pytest.mark.parametrize(("period", "side"), [(2, 27), (4, 27), (4, 51), (8, 51)])
def test_a_planted_grid_is_found_at_its_period_alone(period, side):
    rng = np.random.default_rng(period)
    projections = rng.normal(size=(20, 3, side, side))
    before = grid(projections, period).excess
    projections[..., ::period, ::period] += period
    assert 0.7 < before < 1.4 and grid(projections, period).excess > 3 * before
    assert grid(projections, 3).excess < 1.5


def test_a_mean_spectrum_counts_every_projection_alike_and_a_grid_lies_at_its_frequency():
    one, other = waves(0.1, 20, 1), waves(0.3, 20, 1, seed=3)
    mean = fig5.mean_spectrum(np.concatenate([one, 100 * other, np.zeros_like(one)]))
    alone = [fig5.mean_spectrum(each) for each in (one, other)]
    assert mean.sum() == pytest.approx(1) and np.allclose(mean, (alone[0] + alone[1]) / 2)
    low, at_grid = grid(waves(1 / 32, 51), 4), grid(waves(1 / 4, 51, 1), 4)
    assert low.above < 2 and low.near < 1 and at_grid.above > 95
    along = np.repeat(np.cos(np.pi * np.arange(51) / 2)[None, None, None], 3, 1).repeat(51, 2)
    assert grid(along, 4).near > 95 and grid(along, 4).above > 95


def test_what_has_no_spectrum_is_refused():
    with pytest.raises(SpectrumError, match="projections of 20 pixels are too small for a grid of 4"):
        grid(np.ones((2, 3, 20, 20)), 4)
    with pytest.raises(SpectrumError, match="all projections are 0"):
        grid(np.zeros((2, 3, 30, 30)), 4)


def literal_dip(values):
    """The smallest distance at which some distribution of one mode passes near every step, by linear programs."""
    places, counts = np.unique(values, return_counts=True)
    upper, gaps, n = np.cumsum(counts) / len(values), np.diff(places), len(places)
    lower, unknown, found = upper - counts / len(values), np.eye(n + 2), []
    for mode in range(n):  # where the curve may jump; what is unknown: convex before it, concave after, distance
        rows, limits = [], []
        for k in range(n + 1):
            place, bend = (k, 1) if k <= mode else (k - 1, -1)
            if bend > 0 or place > mode:
                rows, limits = [*rows, unknown[k] - unknown[-1]], [*limits, lower[place]]
            if bend < 0 or place < mode:
                rows, limits = [*rows, -unknown[k] - unknown[-1]], [*limits, -upper[place]]
            if (0 < place < mode and bend > 0) or (mode < place < n - 1 and bend < 0):
                before, after = ((unknown[k + i] - unknown[k + i - 1]) / gaps[place + i - 1] for i in (0, 1))
                rows, limits = [*rows, bend * (before - after)], [*limits, 0]
        found.append(linprog(unknown[-1], A_ub=np.array(rows), b_ub=limits, bounds=(None, None)).fun)
    return min(found)


@pytest.mark.parametrize("values", ["0123", "0001556", "114449", "02237888"])
def test_the_dip_is_the_distance_from_the_nearest_distribution_of_one_mode(values):
    values = np.array([*values], float)
    assert fig5.dip(values) == pytest.approx(literal_dip(values), abs=1e-6)


@pytest.fixture(scope="module")
def measured():
    """A network whose first filters are stripes, as noise would count as dead, and what was measured on it."""
    net, dataset = ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=12)
    y, x = np.mgrid[:7, :7]
    stripes = [np.cos((0.3 + 0.1 * n) * (x if n % 2 else y)) for n in range(12)]
    with torch.no_grad():
        net.conv1.weight += torch.from_numpy(0.05 * np.stack(stripes)[:, None]).float()
    return net, dataset, fig5.describe(net, dataset)


def test_the_first_two_layers_are_measured(measured):
    net, dataset, (stride, filters, projections, tables) = measured
    assert stride == 2 and filters.shape == (12, 3, 7, 7)
    assert 0 < len(projections) <= 32 and projections.shape[1:] == (3, 27, 27)
    x = net.prepare([dataset[i].picture for i in range(12)])
    largest = net.trace(x)["conv1"].maps.detach().amax((0, 2, 3)).numpy()
    assert {name: tables[name] for name in (FEATURES, SPECTRA)} == fig5.stem(filters, 2, largest)
    own, pool = (grid(projections, period) for period in (2, 4))
    _, near, at_layer, untrained, at_pool, _ = tables[ARTEFACTS].values()
    assert (near, at_layer, at_pool) == (round(own.near, 1), round(own.excess, 2), round(pool.excess, 2))
    assert untrained != at_layer


def test_what_is_at_hand_is_shown_and_what_brings_the_rest_is_named(measured, results, data, monkeypatch):
    monkeypatch.setattr(fig5, "open_network", Mock(side_effect=CheckpointError("no weights")))
    found = fig5.measure("tiny")
    beside = ["AlexNet, ImageNet", "krizhevsky, Caltech-101", "zfnet, Caltech-101"]
    assert found.panels(1) == dict.fromkeys(["(a) zfnet, not renormalised", "(b) krizhevsky", "(c) zfnet", *beside])
    assert found.panels(2) == dict.fromkeys(["(d) krizhevsky", "(e) zfnet", *beside])
    assert "1/4 cycle a pixel" in found.caveat
    commands = [row["Not run"] for row in found.table(FEATURES).rows]
    assert commands[0] == "not run: `zfnet train zfnet --data tiny-imagenet --recipe tiny --clip none`"
    assert commands[3] == "not run: `zfnet fetch alexnet-imagenet`"
    training = "zfnet train zfnet --data caltech-101 --recipe tiny --epochs 60"
    assert commands[5] == f"not run: `{training} && zfnet ship zfnet-caltech-101-stem`"

    found.networks[2] = Compared(*found.networks[2][:3], *measured[2])
    for name in (FEATURES, SPECTRA, ARTEFACTS):
        table = found.table(name)
        first, *others = list(table.columns)[1:]
        assert {"Network": "zfnet"} | measured[2][3][name] == table.rows[2]
        assert table.rows[3][first] == commands[3] and not set(others) & set(table.rows[3])
        zeros = [title for title, cell in measured[2][3][name].items() if cell == 0]  # said, not tabled
        assert not set(zeros) & set(table.columns)
        assert all(title.rstrip(", %").lower() in table.note for title in zeros)
    drawn = [fig5.draw_filters(found), fig5.draw_frequencies(found)]
    drawn += [fig5.draw_projections(found, 4), fig5.draw_spectra(found)]
    assert [words(figure).count("not run") for figure in drawn] == [5, 5, 4, 4]


def test_filters_that_differ_in_scale_are_the_same_and_grids_are_compared_over_trainings(results):
    filters = np.random.default_rng(0).normal(size=(96, 3, 7, 7))
    scales = np.ones((96, 1, 1, 1))
    scales[3] = 5
    both = [Compared(name, ("", None), "", 2, each, None, {"features": {}}) for name, each in
            ((fig5.FREE, scales * filters), ("zfnet", filters))]  # fmt: skip
    assert "median cosine of 1.000: they are the same ones" in Stems(both, None, None, 0).renormalised
    assert "Not run" in Stems(both[:1], None, None, 0).renormalised
    both[1] = both[1]._replace(filters=filters[::-1])
    assert "they are others" in Stems(both, None, None, 0).renormalised

    assert "Not run" in fig5.grids("tiny")
    place = {"grid": "layer 1", "weights": "trained"}
    for theirs, word in (((3, 4), "the reverse of"), ((13, 14), "do not agree"), ((15, 16), "stride 4, as the")):
        excess = [
            record("excess", value, "times", parameters=place | {"network": name}, data="caltech-101 all (")
            for name, values in {"zfnet": (12, 13.5), "krizhevsky": theirs}.items()
            for value in values
        ]
        store(results / "tiny/claims/stride-4-causes-layer-2-aliasing.jsonl", excess)
        assert word in fig5.grids("tiny") and "(2 and 2 trainings)" in fig5.grids("tiny")


def test_letters_are_legible_and_every_filter_is_a_dot_at_its_frequency():
    rng = np.random.default_rng(0)
    layers = 2, rng.normal(size=(96, 3, 7, 7)), rng.normal(size=(25, 3, 27, 27)), {"features": {}}
    networks = [Compared(name, ("(a) ", "(d) "), "", *layers) for name in ("one", "a longer name")]
    result = Stems([*networks, Compared("missing", ("(c) ", "(e) "), "none")], None, None, 0)
    for figure in (fig5.draw_filters(result), fig5.draw_projections(result, 16), fig5.draw_frequencies(result)):
        assert_legible(figure)
    lines = figure.axes[0].lines
    dots = next(line for line in lines if len(line.get_xdata()) == 96)
    assert (dots.get_xdata() == fig5.peak_frequencies(layers[1])).all()
    assert [1 / 4] * 2 in [list(line.get_xdata()) for line in lines]
