"""What the claims of sections 2.1 and 4.2 measure: cases by hand, and pictures in which only the object matters."""

from itertools import product

import numpy as np
import pytest
import torch
from oracles import lively
from planted import SIDE, arriving, coloured, judged, shown, small
from torch.nn import functional as F

from zfnet_lib.architecture import KRIZHEVSKY, MINI, ZFNET, Conv, Pool, Unit, receptive_field
from zfnet_lib.datasets import open_dataset
from zfnet_lib.deconv import project
from zfnet_lib.network import ConvNet, Stage, Trace
from zfnet_lib.paper.claims import deconvnet, occlusion, training
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS

pytestmark = pytest.mark.usefixtures("results")


@pytest.fixture(scope="module")
def at():
    """A random network on few drawn pictures."""
    return small(ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=12))


@pytest.mark.parametrize("conv", [Conv("conv2", 6, 5, stride=2, groups=2), Conv("conv1", 4, 3)])
def test_transposition_is_exact_and_an_error_would_show(conv, monkeypatch):
    weight = torch.randn(conv.maps, 4 // conv.groups, conv.kernel, conv.kernel, generator=torch.manual_seed(0))
    assert max(deconvnet.transposition_errors(conv, weight)) < 1e-5
    transposed = F.conv_transpose2d
    monkeypatch.setattr(F, "conv_transpose2d", lambda y, w, **how: transposed(y, w.flip(2), **how))
    assert min(deconvnet.transposition_errors(conv, weight)) > 1e-3


@pytest.mark.parametrize("spec", [ZFNET, KRIZHEVSKY], ids=lambda spec: spec.name)
def test_with_both_differences_undone_a_projection_is_the_gradient(spec):
    net = lively(spec.scaled(1 / 16, image_size=64).features("conv3"), seed=1).float()
    x = 60 * torch.randn(2, 3, 64, 64, generator=torch.manual_seed(0))
    maps = net.trace(x)["conv3"].maps.detach()
    units = [Unit(i, "conv3", int(m), 1, 2) for i, m in enumerate(maps[:, :, 1, 2].argmax(1))]
    assert max(deconvnet.undone_errors(net, x, units)) < 1e-12
    lone = torch.zeros_like(maps)
    lone[[0, 1], [unit.map for unit in units], 1, 2] = 1
    plain, undone = (way(net.trace(x), "conv3", lone) for way in (project, deconvnet.undone))
    assert (plain - undone).norm() > 0.1 * undone.norm()


def test_projections_and_gradients_are_compared_in_every_layer(at):
    found = shown(deconvnet.backpropagating(at))
    assert [key[1] for key in found if key[0] == "cosine"] == at.layers
    assert found["cosine", "conv1"].value == pytest.approx(1, abs=1e-5) and found["cosine", "conv5"].value < 0.95
    assert all(found["both undone, difference", layer].value < 1e-10 for layer in at.layers)


def test_the_error_of_unpooling_divides_by_the_windows_that_share_a_place():
    maps = torch.tensor([[[[0.0] * 5, [0, 0, 9, 0, 0], [0] * 5]]])  # both windows have their maximum at (1, 2)
    values, switches = F.max_pool2d(maps, 3, 2, return_indices=True)
    trace = Trace(ConvNet(MINI.features("conv1")), None, {"conv1": Stage(maps, switches, values)}, None)
    conv = Conv("conv1", 1, 7, pool=Pool())
    assert deconvnet.unpooling_errors(trace, conv, "recorded", 0) == [0.0]
    centre = deconvnet.unpooling_errors(trace, conv, "centre", 0)
    assert centre == pytest.approx([3**0.5])  # 9 at both centres, none at its place


def test_the_paper_s_way_and_its_rivals_are_measured_map_by_map(at):
    switched, rectified = shown(deconvnet.unpooling(at)), shown(deconvnet.rectifying(at))
    for found, gain, (own, *rivals) in (
        (switched, "recorded switches gain", deconvnet.SWITCHES),
        (rectified, "rectification gains", deconvnet.RECTIFIED),
    ):
        for layer, rival in product(at.layers[1:], rivals):
            ours, other = (found["correlation of edges", layer, way].value for way in (own, rival))
            assert found[gain, layer, rival].value == pytest.approx(ours - other)
            assert found[gain, layer, rival].n == at.scale.maps
    recorded, *others = (switched["error of unpooling", "conv1", way].value for way in deconvnet.SWITCHES)
    assert recorded < min(others)
    below = [arriving(at, unit) for unit in at.units("conv2", 1)]  # energy below 0 is what arrives from one unit
    expected = np.mean([100 * float((one.clamp(max=0) ** 2).sum() / (one**2).sum()) for one in below])
    assert rectified["energy below 0", "conv2", "conv1"].value == pytest.approx(expected, rel=1e-4)


def test_pixel_values_are_counted_of_pictures_less_their_mean(at):
    found = shown(training.pixel_values(at))
    x = (at.squares(at.rows).double() - 128).flatten().numpy()
    assert found["inside", 128].value == pytest.approx(100 * (np.abs(x) <= 128).mean())
    assert found["percentile", 1.0].value == pytest.approx(np.quantile(x, 0.01), abs=1 / 16)


@pytest.mark.parametrize("boxed", [False, True])
def test_where_only_the_object_matters_every_claim_on_covering_it_holds(boxed):
    at = coloured(boxed=boxed)  # an object is where its mask is, or its box if there is no mask
    found = {
        measure.__name__: judged(claim, *measure(at))
        for claim, measure in {
            "object-occlusion-lowers-class-probability": occlusion.object_covered,
            "model-uses-local-structure-not-only-context": occlusion.object_alone,
            "occluding-strongest-feature-lowers-activity": occlusion.activity_where_shown,
            "occlusion-flips-label-to-other-object": occlusion.two_objects,
        }.items()
    }
    alone = found.pop("object_alone").numbers
    assert {each.verdict for each in found.values()} == {HOLDS}
    assert alone["both, grey: right"].value == alone["object, grey: right"].value == 100
    assert alone["background, grey: right"].value == 50
    assert found["activity_where_shown"].numbers["drop of the activity, elsewhere"].value < 10


def test_where_the_object_is_said_to_be_elsewhere_covering_it_does_nothing():
    at = coloured(lie=True)
    assert judged("object-occlusion-lowers-class-probability", *occlusion.object_covered(at)).verdict == FAILS
    alone = judged("model-uses-local-structure-not-only-context", *occlusion.object_alone(at))
    assert alone.verdict == FAILS and alone.numbers["background, grey: right"].value == 100


def test_units_lose_where_their_projection_is():
    at = coloured()
    found = occlusion.contributions(at, "conv1")
    assert found["hit"].all()
    assert found["projection"].min() > 0.9
    assert found["kept"].min() > 0.8 and found["maps"].tolist() == [0, 0, 0, 1, 1, 1]
    # squares of one colour look alike in their windows, so that another unit's, moved there, does as well
    assert found["moved"].min() > 0.9 and found["moved hit"].all()
    assert found["moved kept"] == pytest.approx(found["kept"], abs=0.1)


def test_losses_are_those_of_pictures_covered_one_by_one():
    at = coloured()
    one = occlusion.covered(at)[0]
    assert one.activity.min() == pytest.approx(0, abs=1e-5) and one.activity.max() == pytest.approx(1)
    assert one.centres.T[:2].tolist() == [[3, 3], [3, 5]]  # a square of 6 pixels at every second one
    views = occlusion.covered_at(at.x([one.row])[0], [(0, 0), (12, 4)], one.seen.size)
    assert not views[1, :, 12 : 12 + one.seen.size, 4 : 4 + one.seen.size].any() and views[1, :, :12].any()
    unit = Unit(0, "conv1", one.seen.map, 1, 1)
    literal = [float(at.net.trace(view[None])["conv1"].maps[0, one.seen.map, 1, 1]) for view in views]
    assert occlusion.activations(at, views, [unit, unit]).tolist() == pytest.approx(literal)


def test_regions_are_the_smallest_that_hold_their_share():
    energy = torch.zeros(40, 40)
    energy[5:15, 20:30] = 1
    chosen, values = occlusion.region(energy), occlusion.smoothed(energy)
    assert values[chosen].sum() >= 0.8 * values.sum() > values[chosen].sum() - values[chosen].min()
    assert values[chosen].min() >= values[~chosen].max()


def test_energy_is_compared_at_places_as_rich_in_edges():
    edges = np.tile(np.repeat([1.0, 2.0], 10), (20, 1))
    inside = np.zeros((20, 20), bool)
    inside[:10, 10:] = True  # rich in edges, as all of the right half
    values = np.where(inside, 6.0, np.where(edges == 2, 3.0, 0.1))
    assert occlusion.matched_ratio(values, inside, edges) == pytest.approx(2)
    assert np.isnan(occlusion.matched_ratio(values, np.zeros((20, 20), bool), edges))


def test_blur_is_a_mean_over_what_lies_inside_and_composites_have_both_pictures_in_opposite_corners():
    x = torch.arange(50.0).view(1, 1, 5, 10)
    blurred = occlusion.blurred(x, 5)
    assert blurred[0, 0, 0, 0] == x[0, 0, :3, :3].mean() and blurred[0, 0, 2, 5] == x[0, 0, :, 3:8].mean()
    at = coloured()
    both, half = occlusion.composites(at, np.array([[0, 1]])), SIDE // 2
    first, second = (F.avg_pool2d(at.x([row]), 2)[0] for row in (0, 1))
    assert torch.allclose(both[0, :, :half, :half], first) and torch.allclose(both[0, :, half:, half:], second)


def test_the_control_is_another_maps_unit_moved_into_the_window():
    at, energy = coloured(), torch.rand(4, SIDE, SIDE)
    units = [Unit(image, "conv1", map_, row, 1) for image, (map_, row) in enumerate(product((0, 1), (1, 2)))]
    assert torch.equal(occlusion.another_maps(at, energy, units), energy[[2, 3, 0, 1]])  # in the same windows
    units[0] = units[0]._replace(row=2)
    step = receptive_field(at.net.spec, "conv1").stride
    moved = occlusion.another_maps(at, energy, units)[0]
    assert torch.equal(moved[step:], energy[2, :-step]) and not moved[:step].any()  # nothing from beyond the edge
