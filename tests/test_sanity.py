"""Sanity: ways to the pixels against autograd, similarities against scipy, randomisation layer by layer."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from drawings import assert_legible, words
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import RectifiedBackwards, close, deconv_by_autograd, lively, picture
from scipy.stats import spearmanr

from zfnet_lib.architecture import ArchSpec, Conv, Norm, Pool, Unit
from zfnet_lib.files import ZfnetError
from zfnet_lib.images import projection_image
from zfnet_lib.paper import sanity
from zfnet_lib.paper.sanity import GRADIENT, WAYS, projections, randomised, seen, similarity, strongest_units


def bare(norm: Norm | None = None) -> ArchSpec:
    """Three layers without a classifier."""
    convs = (
        Conv("conv1", 6, 5, stride=2, pool=Pool(), norm=norm),
        Conv("conv2", 8, 3, padding=1, pool=Pool(), norm=norm),
        Conv("conv3", 8, 3, padding=1),
    )
    return ArchSpec("bare", convs, dense=(), classes=0, image_size=48)


NORMALISED = bare(Norm(alpha=1e-2))
NET, X = lively(bare()), picture(48, 48, n=3)
UNITS = strongest_units(NET, X, "conv3", 2)


def test_the_strongest_units_are_the_maxima_of_their_maps_where_enough_are_excited():
    maps = NET.trace(X)["conv3"].maps.detach()
    expected = []
    for image in range(3):
        for map_ in sorted(range(8), key=lambda m: -maps[image, m].max().item())[:2]:
            place = max(np.ndindex(*maps.shape[2:]), key=lambda rc: maps[image, map_, rc[0], rc[1]].item())
            expected.append(Unit(image, "conv3", map_, *place))
    assert expected == UNITS
    dark = deepcopy(NET)
    with torch.no_grad():
        dark.conv3.bias.sub_(maps[0].amax())
    found = strongest_units(dark, X * torch.tensor([0.5, 1.5, 2.0]).view(3, 1, 1, 1), "conv3", 1)
    assert {unit.image for unit in found} == {1, 2}


RULES = {
    "deconvnet": RectifiedBackwards.apply,
    "guided": lambda x: RectifiedBackwards.apply(x).relu(),
    "forward mask": torch.relu,
    GRADIENT: torch.relu,
}
"""Rectifiers whose way back is that of a way to the pixels."""


@pytest.mark.parametrize("way", RULES)
def test_ways_equal_autograd_with_their_rule(way):
    for unit, found in zip(UNITS, projections(NET, X, UNITS, way), strict=True):
        image, layer, *place = unit
        back, activation = deconv_by_autograd(NET, X[image][None], layer, tuple(place), relu=RULES[way])
        assert close(torch.from_numpy(found), seen(NET, back[0], unit) / activation)


def test_the_exact_gradient_is_not_the_forward_mask_where_maps_are_normalised():
    net = lively(NORMALISED)
    units = strongest_units(net, X, "conv3", 1)
    for mask, exact in zip(*(projections(net, X, units, way) for way in ("forward mask", GRADIENT)), strict=True):
        assert not close(torch.from_numpy(mask), torch.from_numpy(exact), 1e-2)


def test_the_exact_gradient_predicts_a_small_step():
    net = lively(NORMALISED)
    (unit,) = strongest_units(net, X[:1], "conv3", 1)
    (gradient,) = projections(net, X, [unit], GRADIENT)
    step = 1e-6 * torch.randn(X[:1].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before, after = (net.trace(image)["conv3"].maps[0][unit.place].item() for image in (X[:1], X[:1] + step))
    expected = (torch.from_numpy(gradient) * seen(net, step[0], unit)).sum().item()
    assert after - before == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("way", [*WAYS, GRADIENT])
def test_silent_units_have_a_projection_too(way):
    maps = NET.trace(X)["conv3"].maps
    image, map_, row, column = (maps == 0).nonzero()[7].tolist()
    (found,) = projections(NET, X, [Unit(image, "conv3", map_, row, column)], way)
    assert np.abs(found).max() > 0


def test_more_units_than_fit_a_batch_come_in_their_order():
    many = [Unit(n % 3, "conv2", n % 8, 2 + n % 4, 5 - n % 4) for n in range(11)]
    for unit, found in zip(many, projections(NET, X, many), strict=True):
        assert close(torch.from_numpy(found), torch.from_numpy(projections(NET, X, [unit])[0]))


def test_only_the_named_layers_become_random_each_by_seed_and_name_alone():
    before = {name: value.clone() for name, value in NET.state_dict().items()}
    changed = randomised(NET, ["conv3", "conv1"], seed=5)
    assert all(torch.equal(NET.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(changed.conv2.weight, NET.conv2.weight)
    for layer in ("conv1", "conv3"):
        new, old = changed.get_submodule(layer), NET.get_submodule(layer)
        assert not new.bias.any()
        assert new.weight.std().item() == pytest.approx(old.weight.std().item(), rel=0.15)
        assert abs(np.corrcoef(new.weight.detach().flatten(), old.weight.detach().flatten())[0, 1]) < 0.2
    alone, other = (randomised(NET, ["conv3"], seed) for seed in (5, 6))
    assert torch.equal(alone.conv3.weight, changed.conv3.weight)
    assert not torch.equal(alone.conv3.weight, other.conv3.weight)


@given(arrays(np.float64, (2, 40), elements=st.integers(-5, 5).map(float)))
def test_rank_correlation_equals_scipy_with_ties(values):
    one, other = values
    expected = spearmanr(one, other).statistic if np.ptp(one) and np.ptp(other) else 0
    assert sanity.rank_correlation(one, other) == pytest.approx(expected, abs=1e-12)


def test_similarity_knows_equal_opposite_unrelated_and_nothing_and_copies_the_picture_s_edges():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 30, 30))
    assert similarity(one, 3 * one) == pytest.approx((1, 1, 1))
    assert similarity(one, -one)[:2] == pytest.approx((1, -1))
    assert all(abs(value) < 0.1 for value in similarity(one, other))
    assert similarity(one, 0 * one) == (0, 0, 0)
    assert np.isfinite(similarity(one[:, :4, :9], other[:, :4, :9])).all()  # smaller than SSIM's window
    steps = np.kron(rng.normal(size=(3, 6, 6)), np.ones((8, 8)))
    assert sanity.copied(steps, steps) == pytest.approx(1)
    assert sanity.copied(np.roll(steps, 3, axis=2), steps) < 0.5
    assert abs(sanity.copied(rng.normal(size=(3, 48, 48)), steps)) < 0.1


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: projections(NET, X, UNITS, "sideways"), "there is no way 'sideways'; choose one of"),
        (lambda: projections(NET, X, []), "units are of one layer; given none"),
        (lambda: projections(NET, X, [*UNITS, Unit(0, "conv1", 0, 0, 0)]), "given conv1, conv3"),
        (lambda: strongest_units(NET, X, "conv3", 9), "excites 9 maps of conv3; choose"),
        (lambda: strongest_units(NET, X, "conv3", 0), "choose a number from 1 to"),
        (lambda: strongest_units(NET, X, "conv9", 1), "has no layer 'conv9'"),
        (lambda: randomised(NET, ["conv9"]), "has no layer 'conv9'"),
        (lambda: sanity.measure("smoke", layer="fc6"), "mini has no layer 'fc6'; its layers are conv1"),
        (lambda: sanity.measure("smoke", count=1), "choose a count from 2 to that, not 1"),
    ],
)
def test_bad_requests_get_one_sentence(ask, sentence):
    with pytest.raises(ZfnetError, match=rf"\A.*{sentence}.*\Z"):
        ask()


@pytest.fixture(scope="module")
def result() -> sanity.Trust:
    return sanity.measure("smoke", count=3)


def test_the_experiment_follows_units_through_both_randomisations(result):
    assert len(result.units) == len(result.patches) == 6
    assert len({unit.image for unit in result.units[:3]}) == 3
    assert [unit.image for unit in result.units[:3]] == [unit.image for unit in result.units[3:]]
    assert list(result.downwards.projections) == ["trained", "conv5", "+ conv4", "+ conv3", "+ conv2", "+ conv1"]
    assert list(result.alone.projections) == ["trained", "conv5", "conv4", "conv3", "conv2", "conv1"]
    for way in sanity.FOLLOWED:
        down, alone = (one.similarities[way] for one in (result.downwards, result.alone))
        assert down.shape == (5, 6, 3)
        assert np.array_equal(down[0], alone[0]) and not np.array_equal(down[1], alone[1])
    for one in (result.downwards, result.alone):
        for step, images in enumerate(list(one.projections.values())[1:]):
            measured = [similarity(*pair) for pair in zip(result.shown["deconvnet"], images, strict=True)]
            assert np.array_equal(one.similarities["deconvnet"][step], measured)
    for way, shown in result.shown.items():
        for one, other in zip(projections(result.net, result.x, result.units, way), shown, strict=True):
            assert np.array_equal(one, other)


def test_the_table_tells_the_unit_from_a_rival_and_from_another_picture(result):
    rows = {row["way"]: row for row in result.owed.rows}
    assert list(rows) == [*WAYS, GRADIENT]
    assert rows["central switches"]["picture"] == rows["random switches"]["picture"] == 1
    assert rows["deconvnet"]["picture"] < 1  # its switches do see the picture
    assert f"{rows['deconvnet']['map']:.2f}" in result.verdict and "conv5" in result.verdict
    assert "mini" in str(result.source) and "seed 0" in str(result.source)
    maps, cosines = result.net.trace(result.x)["conv5"].maps, []
    for unit, own in zip(result.units, result.shown["deconvnet"], strict=True):
        values = maps[unit.image, :, unit.row, unit.column].tolist()
        rival = max((map_ for map_ in range(len(values)) if map_ != unit.map), key=values.__getitem__)
        (other,) = projections(result.net, result.x, [unit._replace(map=rival)])
        cosines.append(similarity(own, other).cosine)
    assert rows["deconvnet"]["map"] == pytest.approx(np.mean(cosines), abs=1e-3)


def test_the_figures_show_every_picture_at_its_own_contrast_and_curves_the_means(result):
    ways = sanity.draw(result, result.shown, "Ways")
    down = sanity.draw(result, result.downwards.projections, "Random")
    for figure in (ways, down):
        assert_legible(figure)
        shown = [np.asarray(image.get_array()) for image in figure.axes[0].images]
        assert len(shown) == sanity.ROWS * 7
        assert np.array_equal(shown[0], result.patches[0])
        assert np.array_equal(shown[1], projection_image(result.shown["deconvnet"][0]))
    assert {"deconvnet", "guided", "central", "switches", f"conv5\nmap {result.units[0].map}"} <= set(words(ways))
    assert {"trained", "conv5", "+ conv4", "+ conv1"} <= set(words(down))
    panels = np.array(sanity.draw_curves(result).axes).reshape(2, 3)
    for line, one in zip(panels, (result.downwards, result.alone), strict=True):
        for number, axes in enumerate(line):
            for bars, way in zip(axes.containers, sanity.FOLLOWED, strict=True):
                expected = [1, *one.similarities[way][:, :, number].mean(1)]
                assert bars.lines[0].get_ydata() == pytest.approx(expected)
