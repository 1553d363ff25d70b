"""The claims of section 4.1 on stems: planted frequencies, aliases and twins, and thresholds over seeds."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import judged, number, small

from zfnet_lib.architecture import KRIZHEVSKY, MINI, ZFNET, Conv
from zfnet_lib.datasets import open_dataset
from zfnet_lib.files import ZfnetError
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import claims
from zfnet_lib.paper.claims import stems
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE, NotRun
from zfnet_lib.weights import save_network

SPECS = {
    name: replace(spec, image_size=112).scaled(1 / 16).features("conv2")
    for name, spec in (("zfnet", ZFNET), ("krizhevsky", KRIZHEVSKY))
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
    monkeypatch.setattr(stems, "lower_layers", lambda *chosen, **how: dict(nets))
    subject = small(ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=24))
    subject.scale, subject.rows = subject.scale._replace(few=4), list(range(24))
    return subject


def by_network(found):
    """Return measured numbers by quantity, network and seed."""
    return {(each.quantity, each.place["network"], each.place["seed"]): each for each in found}


def test_stems_come_by_seed_as_far_as_they_were_trained(nets, results):
    data = {profile: stems.run_of(profile, "zfnet", 1, native=True).data for profile in ("tiny", "smoke", "paper")}
    assert data == {"tiny": "caltech-101", "smoke": "shapes", "paper": "imagenet"}  # none of them enlarged
    commands = "`zfnet train zfnet --data caltech-101 --recipe tiny --epochs 60`, `zfnet train krizhevsky"
    with pytest.raises(NotRun, match=f"^{commands}"):
        stems.lower_layers("tiny", native=True)
    for name, seed in (("zfnet", 0), ("zfnet", 2), ("krizhevsky", 0)):
        save_network(nets[name, 0], stems.run_of("tiny", name, seed, native=True).weights, {})
    found = stems.lower_layers("tiny", native=True)
    assert list(found) == [("zfnet", 0), ("zfnet", 2), ("krizhevsky", 0)]
    assert [conv.name for conv in found["zfnet", 2].spec.convs] == ["conv1", "conv2"]
    assert stems.alexnet("smoke") == stems.alexnet("tiny") == {}
    save_network(nets["krizhevsky", 0], results / "weights" / stems.ALEXNET, {})
    assert list(stems.alexnet("tiny")) == [("alexnet-imagenet", 0)]


def test_a_claim_whose_stems_are_missing_names_their_trainings_and_is_passed_over(monkeypatch):
    claim = "krizhevsky-layer-1-few-mid-frequencies"
    finding = judged(claim)
    assert finding.verdict == NOT_RUN
    assert f"--epochs 60`, then `zfnet claims --profile tiny --live {claim}`" in finding.note
    with pytest.raises(NotRun, match=r"bring it with: zfnet fetch caltech-101"):
        stems.native_pictures(type("At", (), {"profile": "tiny"}))
    with pytest.raises(ZfnetError, match=f"^{claim} needs what is not here yet: .*zfnet fetch caltech-101"):
        list(claims.measure("tiny", [claim]))
    monkeypatch.setattr(sys.modules["zfnet_lib.paper.claims.registry"], "measurable", lambda names: [claim])
    assert list(claims.measure("tiny")) == []


def seeds(quantity, by_name, **place):
    """Plant a quantity of each network, a value a seed."""
    return [
        number(quantity, value, network=name, seed=seed, **place)
        for name, values in by_name.items()
        for seed, value in enumerate(values)
    ]


def pair(ours, theirs):
    """Return three seeds of both stems around two values."""
    return {"zfnet": [ours - 0.1, ours, ours + 0.1], "krizhevsky": [theirs - 0.1, theirs, theirs + 0.1]}


def middle(ours, theirs):
    shares = {"zfnet": ours, "krizhevsky": theirs, "alexnet-imagenet": [30.0]}
    return seeds(stems.MIDDLE, shares) + seeds(stems.DIP, shares)


def aliasing(theirs=3.0, begun=1.0, ours=1.2, crossed=(2.5, 1.1), n=3):
    by_name = {"krizhevsky": theirs, "zfnet": ours} | dict(zip(stems.CROSSED, crossed, strict=False))
    values = {name: [value + 0.05 * seed for seed in range(n)] for name, value in by_name.items()}
    found = seeds(stems.EXCESS, values, weights="trained", grid="layer 1")
    found += seeds(stems.EXCESS, dict.fromkeys(values, [begun] * n), weights="untrained", grid="layer 1")
    return found + seeds(stems.ALIASES, {"zfnet": [10.0] * n})


def retained(first=0.6, second=0.5, probe=10.0, n=3):
    found = []
    for layer, ours in (("conv1", first), ("conv2", second)):
        values = {"zfnet": [ours + 0.001 * s for s in range(n)], "krizhevsky": [0.4] * n}
        for compared in (stems.EQUAL, stems.RAW):
            for band in ("all", "high"):
                found += seeds(stems.R2, values, layer=layer, compared=compared, band=band)
        accuracies = {"zfnet": [probe + 0.1 * s for s in range(n)], "krizhevsky": [9.0, 10.0, 11.0][:n]}
        found += seeds(stems.ACCURACY, accuracies, layer=layer)
    return found


def dead(ours, theirs):
    """Plant (silent, faint) of each seed, and one noisy filter."""
    found = seeds("noisy filters", {"zfnet": [1] * len(ours), "krizhevsky": [0] * len(theirs)})
    for kind, one, other in zip(
        ("silent", "faint"), zip(*ours, strict=True), zip(*theirs, strict=True), strict=True
    ):
        found += seeds(f"{kind} filters", {"zfnet": one, "krizhevsky": other})
    return found


def distinct(cosines, ranks):
    return seeds(stems.COSINE, cosines) + seeds(stems.RANK, ranks)


FEW, ALIASES = "krizhevsky-layer-1-few-mid-frequencies", "stride-4-causes-layer-2-aliasing"
RETAINS, DEAD = "smaller-stem-retains-information", "smaller-stem-fewer-dead-features"
DISTINCT = "smaller-stem-more-distinctive-features"


@pytest.mark.parametrize(
    ("claim", "found", "expected"),
    [
        (FEW, middle([40, 41, 42], [20, 21, 22]), HOLDS),
        (FEW, middle([40, 41, 15], [10, 9, 16]), UNDECIDED),  # not in every seed
        (FEW, middle([40], [20]), UNDECIDED),
        (FEW, middle([20, 21, 22], [40, 41, 42]), FAILS),
        (ALIASES, aliasing(), HOLDS),
        (ALIASES, aliasing(theirs=1.45), UNDECIDED),
        (ALIASES, aliasing(ours=3.0), UNDECIDED),
        (ALIASES, aliasing(n=1), UNDECIDED),
        (ALIASES, aliasing(crossed=()), UNDECIDED),
        (ALIASES, aliasing(begun=3.2), FAILS),
        (ALIASES, aliasing(crossed=(1.1, 2.5)), FAILS),  # it follows the size of the filters
        (RETAINS, retained(), HOLDS),
        (RETAINS, retained(second=0.44), UNDECIDED),
        (RETAINS, retained(probe=5.0), UNDECIDED),
        (RETAINS, retained(n=1), UNDECIDED),
        (RETAINS, retained(second=0.3), FAILS),
        (DEAD, dead([(0, 1)] * 3, [(2, 1)] * 3), HOLDS),
        (DEAD, dead([(0, 1)], [(2, 1)]), UNDECIDED),
        (DEAD, dead([(0, 1), (0, 1), (2, 1)], [(2, 1)] * 3), UNDECIDED),
        (DEAD, dead([(0, 2)] * 3, [(2, 1)] * 3), FAILS),  # more of the other kind
        (DEAD, dead([(2, 1)] * 3, [(2, 1)] * 3), FAILS),
        (DEAD, dead([(0, 0)] * 3, [(0, 0)] * 3), UNTESTABLE),
        (DISTINCT, distinct(pair(0.5, 0.9), pair(20, 10)), HOLDS),
        (DISTINCT, distinct(pair(0.85, 0.9), pair(20, 10)), UNDECIDED),
        (DISTINCT, distinct({"zfnet": [0.5], "krizhevsky": [0.9]}, {"zfnet": [20], "krizhevsky": [10]}), UNDECIDED),
        (DISTINCT, distinct(pair(0.9, 0.5), pair(20, 10)), FAILS),
        (DISTINCT, distinct(pair(0.5, 0.9), pair(10, 20)), FAILS),
    ],
)
def test_verdicts_turn_at_their_thresholds_over_seeds(claim, found, expected):
    finding = judged(claim, *found)
    assert finding.verdict == expected
    assert ("1 of 3 seeds" in finding.note) == (max(each.place["seed"] for each in found) == 0)
    crossed = {each.place["network"] for each in found} & {*stems.CROSSED}
    assert ("zfnet train zfnet-11x11" in finding.note) == (claim == ALIASES and not crossed)


def test_filters_of_one_frequency_are_counted_by_network(at, monkeypatch):
    wave = torch.from_numpy(np.cos(2 * np.pi * np.arange(7) / 8)).float()
    net = ConvNet(SPECS["zfnet"], seed=1).eval()
    with torch.no_grad():
        net.conv1.weight.copy_((wave[:, None] * torch.ones(7)).expand_as(net.conv1.weight))
    both = {("zfnet", 0): net, ("krizhevsky", 0): ConvNet(SPECS["krizhevsky"], seed=0).eval()}
    monkeypatch.setattr(stems.fig5, "faults", lambda filters, _: np.full((3, len(filters)), filters.shape[-1] > 7))
    monkeypatch.setattr(stems, "lower_layers", lambda profile, native: both)
    found = by_network(stems.preferred(at))
    assert found[stems.MIDDLE, "zfnet", 0].value == 100 and found[stems.DIP, "zfnet", 0].value == 0
    peak = found["median preferred frequency", "zfnet", 0].value
    assert peak == pytest.approx(1 / 8, abs=0.02)
    assert found["in half of the sampling frequency", "zfnet", 0].value == pytest.approx(peak / (1 / 4))
    assert "shapes val (24 pictures" in found[stems.MIDDLE, "zfnet", 0].data
    assert {name for _, name, _ in found} == {"zfnet"}  # where nothing is live, nothing is preferred


@pytest.mark.parametrize(("kernel", "aliased"), [(1, [True, True]), (8, [False, False])])
def test_single_pixels_answer_to_aliases_and_averages_do_not(kernel, aliased):
    """The first filters average so many pixels; the second ones hand maps on, and differences of maps."""
    spec = replace(SPECS["krizhevsky"], convs=(Conv("conv1", 2, kernel, stride=4), Conv("conv2", 2, 3)))
    net = ConvNet(spec).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.conv1.weight[0], net.conv1.weight[1] = 1 / kernel**2, -1 / kernel**2
        net.conv2.weight[0, 0, 1, 1] = 1
        net.conv2.weight[1, :, 1, 2], net.conv2.weight[1, :, 1, 1] = 1, -1
    assert stems.answers_to_aliases(net).tolist() == aliased


def test_stems_are_sampled_trained_and_not_at_the_grids_that_fit_into_a_window(at, nets, monkeypatch):
    first, second = SPECS["krizhevsky"].convs
    narrow = ConvNet(replace(SPECS["krizhevsky"], convs=(replace(first, kernel=7), second))).eval()
    nets = nets | {("narrow", 0): narrow}
    monkeypatch.setattr(stems, "lower_layers", lambda *chosen, **how: nets)
    found = [each for each in stems.sampled(at) if each.quantity == stems.EXCESS]
    places = {
        (each.place["network"], each.place["seed"], each.place["weights"], each.place["grid"]) for each in found
    }
    kinds = {(name, seed, weights) for name, seed in nets for weights in ("trained", "untrained")}
    assert places == {(*kind, "layer 1") for kind in kinds} | {
        (*kind, "pool 1")
        for kind in kinds
        if kind[0] != "narrow"  # its windows of 47 pixels hold no grid of 8
    }


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


@pytest.mark.parametrize(
    ("stride", "keep", "pooled", "low", "high"),
    [
        (4, 16, True, 0.98, 1),
        (4, 16, False, 0.98, 1),
        (4, 8, True, 0.44, 0.56),
        (4, 8, False, 0.44, 0.56),
        (2, 4, False, 0.95, 1),
        (2, 4, True, 0, 0.5),  # averages over a cell keep less than its positions
    ],
)
def test_a_decoder_gives_back_what_a_layer_hands_on(stride, keep, pooled, low, high):
    x, held_out = (
        50 * torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(n)) for n in (48, 4)
    )  # noise
    whole, fast = stems.decoded(pixel_net(stride, keep), "conv1", pooled, x, held_out)
    assert low < whole <= high and (fast > low or keep != 16)


def test_high_energy_is_that_of_fast_changes():
    x = torch.arange(40.0)
    slow, fast = (torch.cos(2 * np.pi * f * x).expand(1, 3, 40, 40).numpy() for f in (1 / 20, 1 / 4))
    assert stems.high_energy(slow) < 0.02 * stems.high_energy(fast)


def test_information_is_measured_of_both_stems(at):
    found = list(stems.information(at))
    r2 = {tuple(each.place.values()): each.value for each in found if each.quantity == stems.R2}
    assert len(r2) == 3 * 2 * 2 * 2 and max(r2.values()) < 1
    probes = [each for each in found if each.quantity == stems.ACCURACY]
    assert {each.n for each in probes} == {6} and len(probes) == 6


def test_faulty_filters_are_counted_by_kind(at, nets):
    found, net = by_network(stems.faulty(at)), nets["zfnet", 1]
    x = net.prepare([at.dataset[row].picture for row in at.rows])
    largest = net.trace(x, upto="conv1")["conv1"].maps.detach().amax((0, 2, 3)).numpy()
    counts = [int(which.sum()) for which in stems.fig5.faults(net.conv1.weight.detach().numpy(), largest)]
    assert [found[f"{kind} filters", "zfnet", 1].value for kind in stems.KINDS] == counts


def test_filters_are_compared_at_one_size_and_over_small_shifts():
    y, x = np.mgrid[:7, :7]
    blob = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 2)[None]
    colours = np.array([1.0, 1, 1])[:, None, None] * blob, np.array([1.0, -1, 0])[:, None, None] * blob
    filters = np.stack([colours[0], -np.roll(colours[0], 1, axis=2), colours[1]])
    found = stems.largest_cosines(filters)
    assert found[:2] == pytest.approx([1, 1], abs=0.02) and found[2] == pytest.approx(0, abs=1e-9)


def test_distinctive_features_are_measured_of_live_filters(at, monkeypatch):
    faults = lambda filters, _: np.tile(np.arange(len(filters)) >= 11 - filters.shape[-1], (3, 1))  # noqa: E731
    monkeypatch.setattr(stems.fig5, "faults", faults)
    found = by_network(stems.distinctive(at))
    assert 0 < found[stems.RANK, "krizhevsky", 0].value <= 100
    assert found[stems.COSINE, "zfnet", 1].n == 4
    assert (stems.COSINE, "krizhevsky", 0) not in found  # none of its filters is live
