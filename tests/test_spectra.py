"""Numbers of filters and projections, against patterns whose frequencies are known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linprog

from zfnet_lib.paper import fig5
from zfnet_lib.paper.fig5 import BANDS, SpectrumError, grid


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


def test_energy_near_and_above_the_sampling_frequency():
    low, at_grid = grid(waves(1 / 32, 51), 4), grid(waves(1 / 4, 51, 1), 4)
    assert low.above < 2 and low.near < 1 and at_grid.above > 95
    along = np.repeat(np.cos(np.pi * np.arange(51) / 2)[None, None, None], 3, 1).repeat(51, 2)
    assert grid(along, 4).near > 95 and grid(along, 4).above > 95


def test_a_mean_spectrum_counts_every_projection_alike_and_zeros_not_at_all():
    one, other = waves(0.1, 20, 1), waves(0.3, 20, 1, seed=3)
    mean = fig5.mean_spectrum(np.concatenate([one, 100 * other, np.zeros_like(one)]))
    alone = [fig5.mean_spectrum(each) for each in (one, other)]
    assert mean.sum() == pytest.approx(1) and np.allclose(mean, (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: grid(np.ones((2, 3, 20, 20)), 4), "projections of 20 pixels are too small for a grid of 4"),
        (lambda: grid(np.zeros((2, 3, 30, 30)), 4), "all projections are 0"),
    ],
)
def test_what_has_no_spectrum_is_refused(call, sentence):
    with pytest.raises(SpectrumError, match=sentence):
        call()


def literal_dip(values):
    """Bisect the smallest distance at which some distribution of one mode passes near every step."""
    places, counts = np.unique(values, return_counts=True)
    upper = np.cumsum(counts) / len(values)
    lower, n = upper - counts / len(values), len(places)

    def possible(distance):
        low, high = upper - distance, lower + distance  # between which the curve has to pass at each place
        return any(
            convex_between(places[: m + 1], low[: m + 1], high[: m + 1])
            and convex_between(-places[m:][::-1], 1 - high[m:][::-1], 1 - low[m:][::-1])
            for m in range(n)
        )

    few, many = 0.0, 0.5
    for _ in range(40):
        middle = (few + many) / 2
        few, many = (few, middle) if possible(middle) else (middle, many)
    return many


def convex_between(places, low, high):
    """Tell whether a convex curve passes every place; at the last, the mode, it may jump, so it may lie below."""
    rises = [
        [(k == i - 1) / a - (k == i) * (1 / a + 1 / b) + (k == i + 1) / b for k in range(len(places))]
        for i, (a, b) in enumerate(pairwise(np.diff(places)), start=1)
    ]
    bounds = [*zip(low[:-1], high[:-1], strict=True), (None, high[-1])]
    if any(a > b for a, b in bounds[:-1]):
        return False
    limits = {"A_ub": -np.array(rises), "b_ub": np.zeros(len(rises))} if rises else {}
    return linprog(np.zeros(len(places)), bounds=bounds, **limits).status == 0


@pytest.mark.parametrize(
    "values", [[0, 1, 2, 3], [0, 0, 0, 1, 5, 5, 6], [1, 1, 4, 4, 4, 9], [0, 2, 2, 3, 7, 8, 8, 8]]
)
def test_the_dip_is_the_distance_from_the_nearest_distribution_of_one_mode(values):
    assert fig5.dip(np.array(values, float)) == pytest.approx(literal_dip(np.array(values, float)), abs=1e-6)
