"""The claims of section 4.1 on stems: planted frequencies, aliases and twins, and thresholds over seeds."""

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from planted import judged, number, small, verdict_of
from scipy.optimize import linprog

from zfnet_lib.architecture import KRIZHEVSKY, MINI, ZFNET, Conv
from zfnet_lib.datasets import open_dataset
from zfnet_lib.files import ZfnetError
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import claims
from zfnet_lib.paper.claims import decoding, distinct, frequencies, stems
from zfnet_lib.paper.claims.finding import FAILS, HOLDS, UNDECIDED, UNTESTABLE
from zfnet_lib.paper.claims.stored import NotRun
from zfnet_lib.paper.fig5 import dip, faults, stem
from zfnet_lib.weights import save_network

SPECS = {
    "zfnet": replace(ZFNET, image_size=112).scaled(1 / 16).features("conv2"),
    "krizhevsky": replace(KRIZHEVSKY, image_size=112).scaled(1 / 16).features("conv2"),
}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch, data):
    """Empty folders of results and of data."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))
    return data


@pytest.fixture(scope="module")
def nets():
    """Both stems with random weights: two seeds of the one, one of the other."""
    made = {(name, 0): ConvNet(spec, seed=1).eval() for name, spec in SPECS.items()}
    return made | {("zfnet", 1): ConvNet(SPECS["zfnet"], seed=2).eval()}


@pytest.fixture
def at(nets, monkeypatch):
    """A subject of drawn pictures whose stems are these."""
    for module in (frequencies, decoding, distinct):
        monkeypatch.setattr(module, "lower_layers", lambda *chosen, **how: dict(nets))
    subject = small(ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=24))
    subject.scale, subject.rows = replace(subject.scale, few=4), list(range(24))
    return subject


def seeds(quantity, by_network, half=0.0, **place):
    """Return a quantity of each network, a value a seed."""
    return [
        number(quantity, value, half, network=name, seed=seed, **place)
        for name, values in by_network.items()
        for seed, value in enumerate(values)
    ]


def pair(ours, theirs):
    """Return three seeds of both stems around two values."""
    by_name = {"zfnet": ours, "krizhevsky": theirs}
    return {name: [value + step for step in (-0.1, 0, 0.1)] for name, value in by_name.items()}


def by_network(found):
    """Return measured numbers by quantity, network and seed."""
    return {(each.quantity, each.place["network"], each.place["seed"]): each for each in found}


# ---- which stems are at hand ---------------------------------------------------------------------------------


def test_stems_come_by_seed_as_far_as_they_were_trained(nets):
    commands = "`zfnet train zfnet --data caltech-101 --recipe tiny --epochs 60`, `zfnet train krizhevsky"
    with pytest.raises(NotRun, match=f"^{commands}"):
        stems.lower_layers("tiny", native=True)
    for name, net_seed in (("zfnet", 0), ("zfnet", 2), ("krizhevsky", 0)):
        run = stems.run_of("tiny", name, net_seed, native=True)
        save_network(nets[name, 0], run.weights, {})
    found = stems.lower_layers("tiny", native=True)
    assert list(found) == [("zfnet", 0), ("zfnet", 2), ("krizhevsky", 0)]
    assert [conv.name for conv in found["zfnet", 2].spec.convs] == ["conv1", "conv2"]
    assert stems.alexnet("smoke") == stems.alexnet("tiny") == {}


def test_native_stems_learn_from_pictures_that_are_not_enlarged():
    assert stems.run_of("tiny", "zfnet", 1, native=True).name == "zfnet-epochs-60-caltech-101-tiny-seed1"
    assert stems.run_of("tiny", "zfnet").data == "tiny-imagenet"
    assert stems.run_of("smoke", "zfnet", native=True).data == "shapes"
    assert stems.run_of("paper", "zfnet", native=True).data == "imagenet"


def test_a_claim_whose_stems_are_missing_names_their_trainings_and_is_passed_over():
    claim = "krizhevsky-layer-1-few-mid-frequencies"
    with pytest.raises(NotRun, match=f"--epochs 60`, then `zfnet claims --profile tiny --live {claim}`"):
        judged(claim)
    with pytest.raises(NotRun, match=r"bring it with: zfnet fetch caltech-101"):
        stems.native_pictures(type("At", (), {"profile": "tiny"}))


def test_what_cannot_be_measured_yet_is_passed_over_unless_it_is_asked_for(monkeypatch):
    claim = "stride-4-causes-layer-2-aliasing"
    with pytest.raises(ZfnetError, match=f"^{claim} needs what is not here yet: .*zfnet fetch caltech-101"):
        list(claims.measure("tiny", [claim]))
    monkeypatch.setattr(sys.modules["zfnet_lib.paper.claims.ledger"], "measurable", lambda names: [claim])
    assert list(claims.measure("tiny")) == []


def test_alexnet_stands_beside_where_it_is_at_hand(nets, results):
    save_network(nets["krizhevsky", 0], results / "weights" / stems.ALEXNET, {})
    assert list(stems.alexnet("tiny")) == [("alexnet-imagenet", 0)]


# ---- frequencies ---------------------------------------------------------------------------------------------


def test_the_middle_third_is_one_of_three_equal_steps_of_the_logarithm():
    log = np.linspace(-5, -1, 300, endpoint=False)
    assert frequencies.middle_third(2**log).mean() == pytest.approx(1 / 3, abs=0.01)
    assert not frequencies.middle_third(np.array([0.0, 0.5, 0.7])).any()


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


SAMPLES = [[0, 1, 2, 3], [0, 0, 0, 1, 5, 5, 6], [1, 1, 4, 4, 4, 9], [0, 2, 2, 3, 7, 8, 8, 8]]


@pytest.mark.parametrize("values", SAMPLES)
def test_the_dip_is_the_distance_from_the_nearest_distribution_of_one_mode(values):
    assert dip(np.array(values, float)) == pytest.approx(literal_dip(np.array(values, float)), abs=1e-6)


def test_faults_are_what_a_stem_counts_as_dead():
    rng = np.random.default_rng(0)
    filters = np.cos(np.arange(7) * np.array([0.5, 1, 1.5, 2])[:, None])[:, None, None, :] * np.ones((4, 3, 7, 7))
    filters = np.concatenate([filters, 0.01 * filters[:1], rng.normal(size=(1, 3, 7, 7))])
    largest = np.array([0.0, 1, 1, 1, 1, 1])
    silent, faint, noisy = faults(filters, largest)
    assert [each.nonzero()[0].tolist() for each in (silent, faint, noisy)] == [[0], [4], [5]]
    assert stem(filters, 2, largest).dead == pytest.approx(50)


def test_filters_of_one_frequency_are_counted_by_network(at, monkeypatch):
    wave = torch.from_numpy(np.cos(2 * np.pi * np.arange(7) / 8)).float()
    net = ConvNet(SPECS["zfnet"], seed=1).eval()
    with torch.no_grad():
        net.conv1.weight.copy_((wave[:, None] * torch.ones(7)).expand_as(net.conv1.weight))
    both = {("zfnet", 0): net, ("krizhevsky", 0): ConvNet(SPECS["krizhevsky"], seed=0).eval()}
    monkeypatch.setattr(frequencies, "live", lambda filters, largest: np.full(len(filters), filters.shape[-1] == 7))
    monkeypatch.setattr(frequencies, "lower_layers", lambda profile, native: both)
    found = by_network(frequencies.preferred(at))
    assert found[frequencies.MIDDLE, "zfnet", 0].value == 100 and found[frequencies.DIP, "zfnet", 0].value == 0
    peak = found["median preferred frequency", "zfnet", 0].value
    assert peak == pytest.approx(1 / 8, abs=0.02)
    assert found["in half of the sampling frequency", "zfnet", 0].value == pytest.approx(peak / (1 / 4))
    assert "shapes val (24 pictures" in found[frequencies.MIDDLE, "zfnet", 0].data
    assert {name for _, name, _ in found} == {"zfnet"}  # where nothing is live, nothing is preferred


def test_fewer_filters_prefer_the_middle_in_every_seed():
    def verdict(ours, theirs):
        shares = {"zfnet": ours, "krizhevsky": theirs, "alexnet-imagenet": [30.0]}
        found = seeds(frequencies.MIDDLE, shares) + seeds(frequencies.DIP, shares)
        return judged("krizhevsky-layer-1-few-mid-frequencies", *found)

    assert verdict([40, 41, 42], [20, 21, 22]).verdict == HOLDS
    assert verdict([40, 41, 15], [10, 9, 16]).verdict == UNDECIDED
    assert verdict([40], [20]).verdict == UNDECIDED and "1 of 3 seeds" in verdict([40], [20]).note
    assert verdict([20, 21, 22], [40, 41, 42]).verdict == FAILS
    assert verdict([40], [20]).numbers[f"alexnet-imagenet: {frequencies.MIDDLE}"].value == 30


# ---- aliasing ------------------------------------------------------------------------------------------------


def planted_stem(kernel: int, stride: int) -> ConvNet:
    """A stem whose first filters average so many pixels; its second ones hand maps on, and differences of maps."""
    spec = replace(SPECS["krizhevsky"], convs=(Conv("conv1", 2, kernel, stride=stride), Conv("conv2", 2, 3)))
    net = ConvNet(spec).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.conv1.weight[0], net.conv1.weight[1] = 1 / kernel**2, -1 / kernel**2
        net.conv2.weight[0, 0, 1, 1] = 1
        net.conv2.weight[1, :, 1, 2], net.conv2.weight[1, :, 1, 1] = 1, -1
    return net


def test_single_pixels_answer_to_aliases_and_averages_do_not():
    assert frequencies.answers_to_aliases(planted_stem(1, 4)).tolist() == [True, True]
    assert not frequencies.answers_to_aliases(planted_stem(8, 4)).any()


def test_excess_is_measured_at_the_grids_that_fit_into_a_window(at, nets):
    found = [each.place["grid"] for each in frequencies.excesses(nets["krizhevsky", 0], at.dataset)]
    assert found == ["layer 1", "pool 1"]
    first, second = SPECS["krizhevsky"].convs
    net = ConvNet(replace(SPECS["krizhevsky"], convs=(replace(first, kernel=7), second))).eval()
    found = [each.place["grid"] for each in frequencies.excesses(net, at.dataset)]
    assert found == ["layer 1"]  # its windows of 47 pixels are too small for a grid of 8


def test_all_stems_are_sampled_trained_and_not(at):
    found = list(frequencies.sampled(at))
    places = {(each.place["network"], each.place["seed"], each.place.get("weights")) for each in found}
    assert ("zfnet", 1, "untrained") in places and ("krizhevsky", 0, "trained") in places
    assert {each.quantity for each in found} == {frequencies.EXCESS, frequencies.ALIASES}


def aliasing(theirs=3.0, begun=1.0, ours=1.2, crossed=(2.5, 1.1), n=3):
    by_name = {"krizhevsky": theirs, "zfnet": ours}
    if crossed:
        by_name |= dict(zip(("krizhevsky-7x7", "zfnet-11x11"), crossed, strict=True))
    values = {name: [value + 0.05 * seed for seed in range(n)] for name, value in by_name.items()}
    found = seeds(frequencies.EXCESS, values, weights="trained", grid="layer 1")
    found += seeds(frequencies.EXCESS, dict.fromkeys(values, [begun] * n), weights="untrained", grid="layer 1")
    return judged("stride-4-causes-layer-2-aliasing", *found, *seeds(frequencies.ALIASES, {"zfnet": [10.0] * n}))


def test_aliasing_follows_the_stride():
    assert aliasing().verdict == HOLDS
    assert aliasing(theirs=1.45).verdict == aliasing(ours=3.0).verdict == UNDECIDED
    assert aliasing(begun=3.2).verdict == FAILS
    assert aliasing(crossed=(1.1, 2.5)).verdict == FAILS  # it follows the size of the filters
    assert aliasing(n=1).verdict == UNDECIDED
    alone = aliasing(crossed=())
    assert alone.verdict == UNDECIDED and "--epochs 60" in alone.note and "zfnet train zfnet-11x11" in alone.note


# ---- what is retained ----------------------------------------------------------------------------------------


def pixel_net(stride: int, keep: int) -> ConvNet:
    """A layer that hands on the first `keep` pixels of every block of `stride`, in both signs."""
    convs = (Conv("conv1", 6 * keep, stride, stride=stride),)
    net = ConvNet(replace(SPECS["zfnet"], convs=convs)).eval()
    with torch.no_grad():
        net.conv1.weight.zero_()
        net.conv1.bias.zero_()
        for colour in range(3):
            for place in range(keep):
                for sign in (0, 1):
                    map_ = 2 * (keep * colour + place) + sign
                    net.conv1.weight[map_, colour, place // stride, place % stride] = 1 - 2 * sign
    return net


def noise(n: int, seed: int) -> torch.Tensor:
    return 50 * torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pooled", [True, False])
def test_a_decoder_gives_back_what_a_layer_hands_on(pooled):
    whole, half = (
        decoding.decoded(decoding.Cells(pixel_net(4, keep), "conv1", 4, pooled), noise(48, 0), noise(4, 1))
        for keep in (16, 8)
    )
    assert min(whole) > 0.98
    assert half.all == pytest.approx(0.5, abs=0.06)


def test_averages_over_a_cell_keep_less_than_its_positions():
    raw, pooled = (
        decoding.decoded(decoding.Cells(pixel_net(2, keep=4), "conv1", 4, each), noise(12, 0), noise(4, 1))
        for each in (False, True)
    )
    assert min(raw) > 0.95 and pooled.all < 0.5


def test_cells_lie_around_the_middle_of_their_fields():
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 24:28, 32:36] = 100
    cells = decoding.Cells(pixel_net(4, keep=16), "conv1", 4, True)
    assert cells.first == 4
    pixels = cells.pixels(picture, 14, 14)[0].abs().sum(0)
    assert pixels.nonzero().tolist() == [[5, 7]]
    features = cells.features(picture)[0].unflatten(0, (-1, 9))[:, 4].sum(0)  # of the middle of the 3x3 cells
    assert features.nonzero().tolist() == [[5, 7]]
    for name, spec in SPECS.items():
        for layer, side in decoding.CELL.items():
            cells = decoding.Cells(ConvNet(spec), layer, side, True)
            rows, columns = cells.features(torch.zeros(1, 3, 112, 112)).shape[2:]
            assert cells.first >= 0 and cells.first + side * max(rows, columns) <= 112, (name, layer)
            assert cells.first <= 35 and cells.first + side * rows >= 77  # the middle that is compared


def test_high_energy_is_that_of_fast_changes():
    x = torch.arange(40.0)
    slow, fast = (torch.cos(2 * np.pi * f * x).expand(1, 3, 40, 40).numpy() for f in (1 / 20, 1 / 4))
    assert decoding.high_energy(slow) < 0.02 * decoding.high_energy(fast)


def test_information_is_measured_of_both_stems(at):
    found = list(decoding.information(at))
    r2 = {tuple(each.place.values()): each.value for each in found if each.quantity == decoding.R2}
    assert len(r2) == 3 * 2 * 2 * 2 and max(r2.values()) < 1
    probes = [each for each in found if each.quantity == decoding.ACCURACY]
    assert {each.n for each in probes} == {6} and len(probes) == 6


def retained(first=0.6, second=0.5, probe=10.0, n=3):
    found = []
    for layer, ours in (("conv1", first), ("conv2", second)):
        for compared in (decoding.EQUAL, decoding.RAW):
            for band in ("all", "high"):
                values = {"zfnet": [ours + 0.001 * s for s in range(n)], "krizhevsky": [0.4] * n}
                found += seeds(decoding.R2, values, layer=layer, compared=compared, band=band)
        accuracies = {"zfnet": [probe + 0.1 * s for s in range(n)], "krizhevsky": [9.0, 10.0, 11.0][:n]}
        found += seeds(decoding.ACCURACY, accuracies, layer=layer)
    return verdict_of("smaller-stem-retains-information", *found)


def test_much_more_has_to_be_retained_in_both_layers_and_classes_no_worse():
    assert retained() == HOLDS
    assert retained(second=0.44) == retained(probe=5.0) == retained(n=1) == UNDECIDED
    assert retained(second=0.3) == FAILS


# ---- dead and distinctive features ---------------------------------------------------------------------------


def test_faulty_filters_are_counted_by_kind(at, nets, monkeypatch):
    monkeypatch.setattr(distinct, "_unbound", lambda profile: {})
    found = by_network(distinct.faulty(at))
    filters = frequencies.filters_of(nets["zfnet", 1])
    x = nets["zfnet", 1].prepare([at.dataset[row].picture for row in at.rows])
    largest = nets["zfnet", 1].trace(x, upto="conv1")["conv1"].maps.detach().amax((0, 2, 3)).numpy()
    for kind, which in zip(distinct.KINDS, faults(filters, largest), strict=True):
        assert found[f"{kind} filters", "zfnet", 1].value == which.sum()


def dead(ours, theirs):
    """Judge by (silent, faint) of each seed."""
    found = []
    for place, kind in enumerate(("silent", "faint")):
        by_name = {"zfnet": [s[place] for s in ours], "krizhevsky": [s[place] for s in theirs]}
        found += seeds(f"{kind} filters", by_name)
    found += seeds("noisy filters", {"zfnet": [1] * len(ours), "krizhevsky": [0] * len(theirs)})
    return verdict_of("smaller-stem-fewer-dead-features", *found)


def test_fewer_filters_have_to_be_dead_in_every_seed():
    assert dead([(0, 1)] * 3, [(2, 1)] * 3) == HOLDS
    assert dead([(0, 1)], [(2, 1)]) == UNDECIDED
    assert dead([(0, 1), (0, 1), (2, 1)], [(2, 1)] * 3) == UNDECIDED
    assert dead([(0, 2)] * 3, [(2, 1)] * 3) == FAILS  # more of the other kind
    assert dead([(2, 1)] * 3, [(2, 1)] * 3) == FAILS
    assert dead([(0, 0)] * 3, [(0, 0)] * 3) == UNTESTABLE


def test_filters_are_compared_at_one_size_and_over_small_shifts():
    y, x = np.mgrid[:7, :7]
    blob = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 2)[None]
    colours = np.array([1.0, 1, 1])[:, None, None] * blob, np.array([1.0, -1, 0])[:, None, None] * blob
    filters = np.stack([colours[0], -np.roll(colours[0], 1, axis=2), colours[1]])
    found = distinct.largest_cosines(filters)
    assert found[:2] == pytest.approx([1, 1], abs=0.02) and found[2] == pytest.approx(0, abs=1e-9)


def test_distinctive_features_are_measured_of_live_filters(at, monkeypatch):
    monkeypatch.setattr(distinct, "live", lambda filters, largest: np.arange(len(filters)) < 11 - filters.shape[-1])
    found = by_network(distinct.distinctive(at))
    assert 0 < found[distinct.RANK, "krizhevsky", 0].value <= 100
    assert found[distinct.COSINE, "zfnet", 1].n == 4
    assert (distinct.COSINE, "krizhevsky", 0) not in found  # none of its filters is live


def test_distinctive_features_are_less_alike_and_span_more():
    def verdict(cosines, ranks):
        return verdict_of(
            "smaller-stem-more-distinctive-features",
            *seeds(distinct.COSINE, cosines),
            *seeds(distinct.RANK, ranks),
        )

    assert verdict(pair(0.5, 0.9), pair(20, 10)) == HOLDS
    assert verdict(pair(0.85, 0.9), pair(20, 10)) == UNDECIDED
    assert verdict({"zfnet": [0.5], "krizhevsky": [0.9]}, {"zfnet": [20], "krizhevsky": [10]}) == UNDECIDED
    assert verdict(pair(0.9, 0.5), pair(20, 10)) == verdict(pair(0.5, 0.9), pair(10, 20)) == FAILS
