"""Every threshold of the claims: numbers planted on both sides of it, and the verdict that has to follow."""

from itertools import product

import pytest
from planted import judged, number, plant_seeds, plant_training

from zfnet_lib.files import results_root
from zfnet_lib.paper import records
from zfnet_lib.paper.claims import CLAIMS, features, training
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE
from zfnet_lib.paper.fig4 import ALIGNMENT, LARGEST, NEARNESS, PROBE
from zfnet_lib.paper.grouping import (
    CHANCE,
    DESCRIPTORS,
    ENTROPY,
    EXTENT,
    FOUND,
    LIKE,
    MORE_THAN_RANDOM,
    RANDOM,
    VARY,
)
from zfnet_lib.paper.numbers import cell

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """Empty folders of results."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))


FALLING = (3.0, 2.9, 2.7, 2.5, 2.4)
TABLE = []


def cases(claim, holds=(), undecided=(), fails=(), untestable=(), not_run=()):
    """Mark a function that plants, with the arguments that give each verdict of a claim."""
    verdicts = {HOLDS: holds, UNDECIDED: undecided, FAILS: fails, UNTESTABLE: untestable, NOT_RUN: not_run}

    def marked(plant):
        found = [(case, verdict) for verdict, given in verdicts.items() for case in given]
        TABLE.extend(pytest.param(claim, plant, *each, id=f"{claim}-{n}") for n, each in enumerate(found))
        return plant

    return marked


def three(error):
    return [error, error + 0.2, error - 0.2]


def grid(quantity, value, half=0.0, **axes):
    """Return one value at every combination of places."""
    return [
        number(quantity, value, half, **dict(zip(axes, place, strict=True))) for place in product(*axes.values())
    ]


def by(key, quantity, values, half=0.0, **place):
    """Return numbers of one quantity, one for each value of a parameter."""
    return [number(quantity, value, half, **place, **{key: each}) for each, value in values.items()]


def over(quantity, values, half=0.0, first=0, **place):
    """Return numbers layer by layer."""
    return by("layer", quantity, dict(zip(LAYERS[first:], values, strict=False)), half, **place)


@cases("unpooling-switches-preserve-structure", [{}], [{"half": 0.3}], [{"conv4": -0.2}])
def switches(gain=0.2, half=0.1, conv4=0.4):
    errors = grid("error of unpooling", 0.5, layer=["conv1"], switches=("recorded", "centre", "random"))
    ways = {"over": ("centre", "random")}
    gains = grid("recorded switches gain", gain, half, layer=("conv2", "conv3"), **ways)
    return errors + gains + grid("recorded switches gain", conv4, half, layer=["conv4"], **ways)


@cases("rectification-gives-valid-reconstructions", [{}], [{"share": 10}], [{"gain": -0.2}, {"share": 0.5}])
def rectification(share=12, gain=0.0):
    negative = number("energy below 0", share, min(1, share / 2), layer="conv5", arrives="conv2")
    return [negative, *grid("rectification gains", gain, 0.1, layer=("conv2", "conv3"), over=("none", "mask"))]


@cases("projection-similar-to-backprop", [{}], [{"cosine": 0.05}], [{"cosine": -0.2}, {"difference": 0.0002}])
def gradient(cosine=0.2, difference=9e-5):
    return over("cosine", [cosine] * 2, 0.1) + over("both undone, difference", [difference] * 2)


@cases("projection-weighted-by-contribution", [{}], [{"own": 0.5}], [{"gain": -0.1}])
def contribution(own=0.6, gain=0.2):
    names = ("correlation with the projection", "correlation with the picture's edges", "projection above edges")
    return [number(name, v, 0.05, layer="conv5") for name, v in zip(names, (own, own - gain, gain), strict=True)]


@cases(
    "projection-emphasises-discriminative-parts",
    [{}],
    [{"ratio": 1.05}, {"lead": 0.05}],
    [{"ratio": 0.8}, {"lead": -0.3}],
)
def evidence(ratio=1.5, lead=0.4):
    ratios = over("energy on the evidence", [1.1, 1.1, ratio, ratio], 0.1, 1)
    return ratios + over("more than layer 2", [lead, lead], 0.1, 3)


@cases("input-range-128", [{}], [{"inside": 99.0}], [{"inside": 98}, {"top": 100}])
def inputs(inside=99.5, top=120):
    shares = [number("inside", share, 0.2, bound=bound) for bound, share in ((128, 97), (140, inside))]
    return [*shares, number("percentile", top, share=99.9)]


@cases("background-feature-grass", [(3, 1)], [(3,), (3, 0)], [(0,), (0, 0)])
def background(*counts):
    found = by("seed", features.BACKGROUND, dict(enumerate(counts)))
    return [*found, number(f"{features.BACKGROUND}, random weights", 0), number(features.BEYOND, 30, map=7, seed=0)]


@cases(
    "features-hierarchical",
    [((7, 20, 40, 50, 60),)],
    [((7, 20, 40, 41, 60),)],
    [((7, 20, 40, 37, 60),), ((7, 20, 40, 50, 60), (3, 20, 40, 30, 80))],
)
def growth(extents, pieces=(3, 20, 40, 60, 80)):
    values = {"side of the square that holds 90 %": extents, "pieces of edges": pieces}
    values |= {"of the receptive field": [50] * 5, "maps beneath that take part": [50] * 5}
    ways = [(weights, *pair) for weights in ("trained", "untrained") for pair in values.items()]
    return [each for weights, name, steps in ways for each in over(name, steps, 1, weights=weights)]


@cases(
    "layer-5-objects-with-pose-variation",
    [{}],
    [{"coverage": 51}, {"top": 1.15}],
    [{"coverage": 40}, {"top": 0.6}],
    [{"window": 1.2}],
)
def objects(coverage=60, top=1.3, window=0.6):
    found = [number(features.WINDOW, window), number(features.COVERED, coverage, 2)]
    return found + over(features.VARIATION, (0.5, 0.7, 0.9, 1.1, top), 0.05)


@cases("top9-strong-grouping", [{}], [{"share": 52}, {"share": 40}], [{"alike": 0.45}])
def groups(alike=0.6, share=60):
    return [
        each
        for name in DESCRIPTORS
        for quantity, values, half in ((LIKE, alike, 0.01), (RANDOM, 0.5, 0.01), (MORE_THAN_RANDOM, share, 5))
        for each in grid(quantity.format(name), values, half, layer=LAYERS, weights=["trained"])
    ]


@cases("patches-vary-more-than-projections", [(80,)], [(76,)], [(70,)])
def varied(share):
    return [
        each for name in DESCRIPTORS for each in over(VARY.format(name), [10] + [share] * 4, 3, weights="trained")
    ]


@cases("projection-resembles-input-piece", [{}], [{"second": 51}, {"third": 58}], [{"upper": -3}])
def pieces(second=60, upper=20, third=40):
    found = over(FOUND, [0, second, second, upper, upper], 3, weights="trained")
    return found + over(EXTENT, (7, 20, third, 60, 90), 1, weights="trained")


@cases(
    "layer-4-more-class-specific",
    [(FALLING,)],
    [((3.0, 2.9, 2.7, 2.65, 2.4),), (FALLING, FALLING)],
    [((3.0, 2.9, 2.5, 2.7, 2.4),)],
)
def entropies(trained, untrained=(3.1,) * 5):
    found = over(ENTROPY, trained, 0.05, weights="trained") + over(ENTROPY, untrained, 0.05, weights="untrained")
    return found + over(CHANCE, [3.13] * 5, weights="trained")


@cases("lower-layers-converge-early", [(2, 5, 20, 40, 64)], fails=[(2, 10, 20, 40, 64)])
@cases("upper-layers-develop-late", [(2, 5, 10, 20, 40)], fails=[(2, 5, 10, 5, 40), (2, 5, 10, 20, 30)])
def settling(*epochs):
    """Curves that reach 0.95 at an epoch, layer by layer, and stay there."""
    moments = (1, 2, 5, 10, 20, 30, 40, 64)
    return [
        number(quantity, 0.95 if epoch >= at else 0.5, layer=layer, epoch=epoch)
        for quantity in (ALIGNMENT, NEARNESS)
        for layer, at in zip(LAYERS, epochs, strict=True)
        for epoch in moments
    ]


@cases("jumps-are-image-changes", [(50, 95)], [(50, 94), (50, 95, 0.2)], [(50, 49)])
def jumping(few, many, same=0.9):
    found = [number(LARGEST, few, n=100, layer="conv1"), number(LARGEST, many, n=900, layer="conv2")]
    kinds = {"same unit": same, "other picture": 0.3}
    return found + [each for layer in LAYERS[:2] for each in by("kind", "median cosine", kinds, layer=layer)]


@cases("train-until-fully-converged", [(0, 3)], [(3, 3), (0, 1)], [(0, -2)])
def gaining(lower, upper):
    gains = dict.fromkeys(("conv1", "conv2"), lower) | dict.fromkeys(("conv5", "fc6", "fc7"), upper)
    return [
        number(PROBE, 40.0 + gain * (epoch == 64), n=10_000, layer=layer, epoch=epoch)
        for layer, gain in gains.items()
        for epoch in (40, 64)
    ]


@cases(
    "layers-2-3-edges-then-textures",
    [{}],
    [{"share": 54}, {"fourth": 44}],
    [{"share": 40}, {"third": 40, "fourth": 50}],
)
def textures(share=60, third=50, fourth=40):
    found = by("weights", "maps that prefer corners or coloured edges", {"trained": share, "untrained": 50}, 5)
    return found + over("kept under scrambling", (60, third, fourth), 4, 1)


@cases(
    "invariance-grows-with-layer",
    [((0.97, 0.97, 0.2), (0.1, 0.1, -0.3))],
    [((0.97, 0.89, 0.2), (0.1,) * 3), ((0.97,) * 3, (0.1, 0.0, 0.0))],
    [((0.97, -0.5, -0.2), (0.1,) * 3)],
)
def invariant(ranks, more):
    ways = ("shift", "scale", "turn")
    found = by("way", features.RANKS, dict(zip(ways, ranks, strict=True)), 0.02)
    found += by("way", features.MORE, dict(zip(ways, more, strict=True)), 0.05)
    return found + grid(features.INDEX, 0.5, layer=("conv1", "fc7"), way=ways)


@cases(
    "features-far-from-random",
    [((0.8, 0.7, 0.7), (2.5, 3.0, 2.9))],
    [((0.8, 0.7, 0.82), (2.5, 3.0, 2.5)), ((0.8, 0.79, 0.7), (2.5, 3.0, 2.9))],
    [((0.6, 0.7, 0.5), (2.5, 3.0, 2.9))],
)
def coherent(alike, labels):
    return [
        number(quantity, value, half, layer=layer, of=of)
        for layer in LAYERS[2:]
        for quantity, values, half in (
            (features.ALIKE.format("shape"), alike, 0.02),
            (features.LABELS, labels, 0.1),
        )
        for of, value in zip(("trained", "untrained", features.COMBINED), values, strict=True)
    ]


@cases(
    "object-occlusion-lowers-class-probability",
    [{}],
    [{"share": 74.9}, {"area": 0.65}],
    [{"share": 60, "area": 0.5}],
)
@cases(
    "occluding-strongest-feature-lowers-activity",
    [{}],
    [{"drop": 29.9}, {"thrice": -0.1}, {"lowest": 79}],
    [{"drop": 29.9, "lead": 0}],
)
def covering(**changed):
    values = {
        "drop of the log probability, object less background": 1,
        "pictures that lose more on the object": changed.get("share", 75),
        "area under the ROC curve": changed.get("area", 0.66),
        "drop of the activity, on the region": changed.get("drop", 30),
        "drop of the activity, elsewhere": 5,
        "on the region less elsewhere": changed.get("lead", 35),
        "on the region less three times elsewhere": changed.get("thrice", 0),
        "pictures whose lowest activity lies in the region": changed.get("lowest", 80),
    }
    return [number(name, value) for name, value in values.items()]


@cases("projection-corresponds-to-stimulus", [{}], [{"hits": 70}, {"kept": 50}, {"gain": 0}], [{"hits": 60}])
def corresponding(hits=80, kept=60, gain=10):
    values = {"hits": hits, "kept by the region alone": kept, "region above random regions": gain}
    found = [each for name, value in values.items() for each in grid(name, value, 1, layer=LAYERS[2:])]
    return found + grid("rank correlation", 0.5, layer=LAYERS[1:], projection=["exchanged"])


@cases("occlusion-flips-label-to-other-object", [(60, 15)], [(60, 22), (45, 5)], [(10, 9)])
def flips(share, control):
    return by("covered", "answers turned to the other object", {"object": share, "background": control}, 1)


@cases("class-evidence-differs-from-strongest-feature", [{}], [{"share": 24.5}, {"maps": 1.0}], [{"share": 3}])
def apart(share=27, maps=3.0):
    found = [
        number("pictures whose lowest places lie apart", share, 1),
        number("correlation of the two losses", 0.1),
    ]
    return [*found, number("maps that explain 80 % of the drops", maps, 0.5)]


@cases(
    "few-filters-dominate-without-clipping",
    [((6.0, 6.0, 3.0), (1.5, 1.9, 1.5))],
    [((6.0,), (1.5,))],
    [((6.0, 4.9, 3.0), (1.5,) * 3), ((6.0,) * 3, (2.1,) * 3)],
    not_run=[((), (1.5,))],
)
def ratios(free, bound):
    for clip, found in (("none", free), ("all", bound)):
        for seed, ratio in enumerate(found):
            plant_training("zfnet", seed, clip, rms={"conv1": [0.02, 0.02 * ratio]})


@cases("scale-clipping-is-crucial", [(55.0, 50.5)], [(55.0,), (55.0, 54.0), (50.0, 50.5)], [(49.0, 50.5)])
def clipped(none, first=None):
    for clip, error in {"all": 50.0, "none": none, "first": first}.items():
        plant_seeds("zfnet", three(error) if error else [], "val1", clip=clip)


@cases(
    "crops-and-flips-help", [(three(60.0),)], [([60.0],), (three(60.0), 45.0)], [(three(40.0),)], not_run=[([],)]
)
def views(centre, train=5.0):
    plant_seeds("zfnet", three(50.0), "val1", train=30.0)
    plant_seeds("zfnet", centre, "val1", train=train, views="centre")


@cases("smaller-stem-lower-error", [(20, 21, 22)], [(20, 24, 28), (20,)], [(29, 30, 31)], not_run=[()])
@cases("ours-beats-krizhevsky-single", [(20, 21, 22)], [(20,)], [(29, 30, 31)])
def stems(*ours):
    for seed, (five, theirs) in enumerate(zip(ours, (25, 26, 27), strict=False)):
        plant_training("zfnet", seed, val5=five, val1=five + 20)
        plant_training("krizhevsky", seed, val5=theirs, val1=theirs + 20)


@cases("fc-removal-gives-slight-increase", [(21, 22, 40)], fails=[(23, 27, 29)])
@cases("middle-conv-removal-relatively-small", [(21, 22, 40)], fails=[(23, 27, 29)])
@cases("removing-both-is-dramatic", [(21, 22, 40)], [(21, 22, 40, 5.0, 1)], [(23, 27, 29), (21, 22, 40, 5.0)])
@cases("depth-not-any-single-section", undecided=[(21, 22, 40)])
def removals(dense, convs, both, train=60.0, seeds=3):
    for name, error in {training.BASE: 20, training.DENSE: dense, training.CONVS: convs}.items():
        plant_seeds(name, three(error)[:seeds])
    plant_seeds(training.BOTH, three(both)[:seeds], train=train)
    plant_seeds("krizhevsky-without-7", [20.5])


@cases("fc-width-makes-little-difference", [()], fails=[(18.0,)])
def widths(enlarged=20.0):
    for name in ("zfnet", "krizhevsky", "zfnet-fc-2048", "krizhevsky-fc-2048", "krizhevsky-fc-8192"):
        plant_seeds(name, three(20.0))
    plant_seeds("zfnet-fc-8192", three(enlarged))


@cases("larger-middle-layers-help", [{}], fails=[{"middle": 21.0}])
@cases("enlarging-both-over-fits", [{}], fails=[{"both": 17.0}, {"gap": 10.0}])
def enlarged(middle=18.0, both=19.0, gap=29.0):
    names = {"zfnet": 20.0, "zfnet-fc-8192": 20.0, training.WIDE: middle}
    for name, error in names.items():
        for seed, five in enumerate(three(error)):
            plant_training(name, seed, val5=five, val1=five + 20, train=five + 5)
    for seed, five in enumerate(three(both)):
        plant_training("zfnet-fc-8192-maps-512-1024-512", seed, val5=five, val1=five + 20, train=five + 20 - gap)


@cases("ensemble-gain", undecided=[(23.0,)], fails=[(27.0,)])
def ensembles(five):
    plant_seeds("zfnet", three(25.0))
    made = records.Stopwatch().provenance()
    places = {n: {"parameters": {"views": 1, "networks": ["x"] * n}} for n in (5, 6)}
    found = [records.Record("t", "val top-5 error", v, "%", made, **places[n]) for n, v in ((5, five), (6, 22.0))]
    records.store(results_root("tiny") / "errors" / "ensembles.jsonl", found)


@cases("seventy-epochs-twelve-days", untestable=[()])
@cases("visual-diagnosis-predicts-accuracy", not_run=[()])
@cases("transposed-filters-are-flips", [()])
@cases("fc-layers-hold-most-parameters", [()])
@cases("replication-within-0-1", [()])
def nothing():
    """What rests on arithmetic, or has no trainings here."""


@pytest.mark.parametrize(("claim", "plant", "case", "verdict"), TABLE)
def test_planted_numbers_give_their_verdict(claim, plant, case, verdict):
    found = plant(**case) if isinstance(case, dict) else plant(*case)
    assert judged(claim, *(found or ())).verdict == verdict


def test_notes_name_what_is_missing_and_numbers_what_was_counted():
    assert judged("input-range-128").note == "`zfnet claims --profile tiny --live input-range-128`; minutes"
    plant_training("zfnet", rms={"conv1": [0.02, 0.09], "conv2": [0.01, 0.03]})
    free = judged("scale-clipping-is-crucial")
    assert free.verdict == UNTESTABLE and "largest RMS, 0.09, is that of conv1" in free.note
    rates = judged("seventy-epochs-twelve-days").numbers.values()
    assert [round(each.value, 2) for each in rates] == [87.77, 1.17, 80.0]
    assert "`zfnet train --table 1 --data tiny-imagenet --recipe tiny`; about" in judged("ensemble-gain").note
    clipped(55.0)
    assert "--clip first" in judged("scale-clipping-is-crucial").note
    assert "--views centre`; about 1.0 h on two cores" in judged("crops-and-flips-help").note
    stems(20, 21, 22)
    single = judged("ours-beats-krizhevsky-single")
    assert single.numbers["reduction"].value == pytest.approx(100 * 5 / 26)
    assert single.note == "3 of 5 seeds"
    removals(23, 27, 29)
    steps = judged("depth-not-any-single-section").numbers.values()
    assert [round(each.value, 1) for each in steps] == [4.0, 2.5, 2.0]
    assert judged("removing-both-is-dramatic").numbers["interaction, top-5"].value == pytest.approx(-1)
    dense = judged("fc-layers-hold-most-parameters").numbers["zfnet, 224 pixels"]
    assert dense.value == pytest.approx((9217 + 4097) * 4096 / 62357608)
    assert judged("transposed-filters-are-flips").n == "10"
    assert judged("jumps-are-image-changes", *jumping(50, 95)).numbers["all layers"].value == pytest.approx(90.5)
    only_random = coherent((0.8, 0.7, 0.82), (2.5, 3.0, 2.5))
    assert "no special axes" in judged("features-far-from-random", *only_random).note


def test_cells_are_found_by_row_and_network():
    assert cell(1, "Our replication", "val_top5") == 18.1
    assert cell(2, "Adjust layers 6,7: 2048 units", "val_top5", "ours") == 17.6
    with pytest.raises(LookupError, match="Table 2 has no row 'Removed layer 9'"):
        cell(2, "Removed layer 9", "val_top5")


def test_printed_numbers_agree_or_not_as_the_tables_say():
    found = {name: claim.agreement for name, claim in CLAIMS.items() if claim.printed}
    assert len(found) == 20 and {name for name, (agrees, _) in found.items() if agrees == "inconsistent"} == {
        "fc-removal-gives-slight-increase",
        "pretrained-beats-best-caltech-101",
        "all-layers-give-best-results",
    }
    assert found["fc-removal-gives-slight-increase"][1] == "+4.3 points, 23.8 % of the error"
    assert found["seventy-epochs-twelve-days"][1] == "87.8 images/s, 710,938 updates"
    assert found["removing-both-is-dramatic"][1] == "+32.0 against +4.0 and +4.3 points"
    assert found["pretrained-beats-scratch"][1] == "+61.0, +40.0; +56.7, +48.1, +41.5, +35.4"
    assert found["pascal-transfers-less-well"][1].startswith("3.2 below [27], 3.8 below [21]; Bird, Boat, Cat")
    assert found["replication-within-0-1"][1] == "top-5 differs by 0.1, top-1 by 0.2"
