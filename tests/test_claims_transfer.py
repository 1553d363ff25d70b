"""The claims on transfer: each verdict turns where its threshold lies."""

import shutil
from statistics import mean, stdev
from types import SimpleNamespace

import numpy as np
import pytest
from ledgers import CALTECH, JITTER, NOVEL, OWN, UNTRAINED, curve, scratch, tried
from planted import judged, plant_training, record

from zfnet_lib.datasets.overlap import Overlap, Pair
from zfnet_lib.paper import records, table5
from zfnet_lib.paper.claims import CLAIMS, transfer
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE, NotRun, Number
from zfnet_lib.paper.table3_4_6 import LAYERS
from zfnet_lib.paper.table5 import BY_FEATURES, BY_LOSS, ONE, SEVERAL
from zfnet_lib.paper.transfer import average_precision, precision_gain, protocol_folds

SIZES = {CALTECH: (15, 30), NOVEL: (15, 30, 45, 60)}
BOTH = ("svm", "softmax")
BEST_101 = "pretrained-beats-best-caltech-101"
pytestmark = pytest.mark.usefixtures("results")


def softmax(accuracies):
    """Return what the softmax on layer 7 reads, by training pictures a class."""
    return {("fc7", "softmax", each): value for each, value in accuracies.items()}


@pytest.mark.parametrize(
    ("margins", "folds", "expected"),
    [
        ((30, 20, 15, 12), 5, HOLDS),
        ((30, 20, 15, 12), 2, UNDECIDED),
        ((30, 20, 15, 9), 5, UNDECIDED),  # below ten points, yet above 0
        ((12, 15, 20, 30), 5, UNDECIDED),  # grows with the size
        ((30, 20, 15, 0), 5, FAILS),
    ],
)
def test_pretraining_must_beat_scratch_widely_at_every_size(margins, folds, expected):
    for data, sizes in SIZES.items():
        tried(OWN, data, softmax(dict.fromkeys(sizes, 60.0)))
        for each, margin in zip(sizes, margins, strict=False):
            scratch(data, each, [60.0 - margin + shift for shift in JITTER[:folds]])
    found = judged("pretrained-beats-scratch")
    assert (found.verdict, len(found.numbers)) == (expected, 6)
    assert found.numbers[f"{NOVEL}, 15 a class"].value == pytest.approx(margins[0], abs=0.2)
    assert ("2 of 5 folds" in found.note) == (folds == 2)


def test_what_hangs_on_pictures_of_both_data_is_all_that_naming_them_can_change(monkeypatch):
    names = [[f"{split}/{row}.jpg" for row in range(120)] for split in ("train", "val")]
    parts = [SimpleNamespace(name=NOVEL, split=split, names=names[n]) for n, split in enumerate(("train", "val"))]
    novel = SimpleNamespace(name=NOVEL, parts=parts, labels=np.arange(240) % 3, classes=("a", "b", "c"))
    caltech = SimpleNamespace(name=CALTECH, split="all", names=names[0], labels=np.arange(120) % 3, classes="abc")
    copies = {f"{NOVEL} val": names[1][:30:2], f"{NOVEL} train": [], f"{CALTECH} all": names[0][:9]}
    pairs = {title: tuple(Pair("", name, 1.0, False) for name in copied) for title, copied in copies.items()}
    found = [Overlap("training", title, (9, 120), 0.8, of) for title, of in pairs.items()]
    monkeypatch.setattr(transfer, "known_overlaps", lambda *data: found)
    monkeypatch.setattr(transfer, "undivided", {NOVEL: novel, CALTECH: caltech}.get)
    for data, most in ((CALTECH, 30), (NOVEL, 60)):
        tried(OWN, data, softmax({most: 60.0}))
    measured = list(transfer.matches(SimpleNamespace(profile="tiny")))
    assert [number.value for number in measured[:3]] == [125, 0, 75]
    owed = {number.place["pictures"]: number for number in measured if number.quantity == transfer.OWED}
    for data, shared in ((caltech, range(9)), (novel, range(120, 150, 2))):
        tests = [fold.test for fold in protocol_folds(data)]
        shares = [np.isin(test[data.labels[test] == label], shared).mean() for test in tests for label in range(3)]
        assert owed[data.name].value == pytest.approx(100 * mean(shares)) and mean(shares) > 0
    found.clear()
    with pytest.raises(NotRun, match=f"zfnet overlap tiny-imagenet {CALTECH}"):
        next(transfer.matches(SimpleNamespace(profile="tiny")))


def test_without_the_transfer_data_other_claims_are_still_measured(data, monkeypatch):
    monkeypatch.setattr(transfer, "known_overlaps", lambda *data: [])
    with pytest.raises(NotRun, match=f"zfnet fetch {CALTECH}"):  # which measuring all claims passes over
        next(transfer.matches(SimpleNamespace(profile="tiny")))


def test_what_was_not_trained_from_scratch_is_named_with_its_command_and_hours():
    tried(OWN, CALTECH, softmax({15: 60.0, 30: 60.0}))
    plant_training("zfnet", rate=101.0)
    plant_training("zfnet", seed=1, rate=10.0, precision="float32")  # slower, and nobody would choose it
    found, command = judged("pretrained-beats-scratch"), "`zfnet train zfnet --data caltech-101 --recipe tiny"
    assert found.verdict == NOT_RUN
    assert f"{command} --epochs 160 --each 15`, and so on to `--seed 4`" in found.note
    assert f"about {5 * 160 * 15 * 101 / 101 / 3600:.1f} h" in found.note
    scratch(CALTECH, 15, [20.0] * 5)
    partly = judged("pretrained-beats-scratch")
    assert (partly.verdict, list(partly.numbers)) == (HOLDS, ["caltech-101, 15 a class"])
    assert "On caltech-101, 30 a class: `zfnet train" in partly.note
    assert "On mini-imagenet-novel, 15, 30, 45, 60 a class: `zfnet run table4" in partly.note


@pytest.mark.parametrize(
    ("passed", "ratio", "expected"),
    [
        (6, (10, 10, 10), HOLDS),
        (10, (6, 6, 6), HOLDS),
        (15, (4, 4, 4), UNDECIDED),
        (30, (2, 2, 2), UNDECIDED),
        (45, (60 / 45,) * 3, FAILS),
        (99, (0, 0, 0), FAILS),
        (6.05, (10, 6, 10), HOLDS),  # near the rival: an interval
    ],
)
def test_few_pictures_must_beat_five_times_as_many(results, passed, ratio, expected):
    curve(lambda n: 40.0 if n >= passed else 30.05 if n + 0.05 == passed else 20.0)
    found = judged("six-images-beat-sixty")
    assert found.verdict == expected
    passed = {name.partition(" with ")[0]: number for name, number in found.numbers.items()}
    assert passed["hog"] == Number(*ratio, 5, "times fewer pictures")
    assert "hog with 60 a class (30.0 %) is passed with" in found.numbers and passed["pixels"].value == 60
    assert f"{UNTRAINED} with 60 a class (15.0 %) is passed with" in found.numbers  # its best layer
    shutil.rmtree(results / "tiny/errors")
    without = judged("six-images-beat-sixty")
    assert without.verdict == (FAILS if expected == FAILS else UNDECIDED)
    assert "`zfnet train zfnet --data mini-imagenet-novel" in without.note


@pytest.mark.parametrize(
    ("margins", "untrained", "expected"),
    [
        ((5, 7, 5, 4), 1.0, HOLDS),
        ((9, 7, 5, -1), -9.0, FAILS),
        ((5, 7, 5, 4), 6.0, FAILS),
        ((5, 7, 5, 4), None, UNDECIDED),
    ],
)
def test_the_margin_over_the_descriptor_must_exceed_that_of_untrained_features(margins, untrained, expected):
    sizes = SIZES[NOVEL]
    tried("hog", NOVEL, {("hog", "svm", each): 30.0 for each in sizes})
    tried(OWN, NOVEL, softmax({each: 30.0 + margin for each, margin in zip(sizes, margins, strict=True)}))
    if untrained is not None:
        tried(f"{OWN}-untrained", NOVEL, softmax(dict.fromkeys(sizes, 30.0 + untrained)))
    assert judged("pretrained-beats-bo-caltech-256").verdict == expected


def test_neither_caltech_101_nor_a_downloaded_network_decides_anything_at_this_scale():
    better = {(layer, way, 30): 99.0 for layer in LAYERS for way in BOTH}
    tried("alexnet-imagenet", CALTECH, better)
    names = {name for name, claim in CLAIMS.items() if claim.record == "transfer"}
    assert len(names) == 10
    assert {judged(name).verdict for name in names - {"pascal-transfers-less-well", BEST_101}} == {NOT_RUN}
    assert judged(BEST_101).numbers == {}
    tried(OWN, CALTECH, softmax({30: 95.0}))
    tried("hog", CALTECH, {("hog", "svm", 30): 30.0})
    found = judged(BEST_101)
    assert found.verdict == UNTESTABLE
    assert [number.value for number in found.numbers.values()] == pytest.approx([95, 65, 8.5])


@pytest.mark.parametrize(
    ("whole", "accuracy", "device", "expected"),
    [
        (4000, 50.0, "A processor, 1 threads", HOLDS),
        (3990, 50.0, "A processor, 1 threads", UNDECIDED),
        (4000, 47.0, "A processor, 1 threads", UNDECIDED),  # it has not converged
        (4000, 50.0, "Another one, 2 threads", UNDECIDED),
        (390, 50.0, "A processor, 2 threads", FAILS),
    ],
)
def test_the_softmax_must_train_a_hundred_times_faster(whole, accuracy, device, expected):
    plant_training("zfnet", seconds=whole, device="A processor, 2 threads")
    accuracies = softmax({15: 40.0, 30: accuracy}) | {("fc7", "svm", 30): 50.0}
    tried(OWN, CALTECH, accuracies, device=device)
    found, another = judged("softmax-trains-quickly"), device.startswith("Another")
    assert found.verdict == expected
    assert ("on another machine, A processor" in found.note) == another
    assert found.numbers["faster than the whole training"].value == pytest.approx(whole / 40)
    assert found.numbers["fewer parameters"].value == pytest.approx(30_768_456 / (101 * 4097))
    plant_training("zfnet", seconds=2.0, device="Another one, 2 threads")  # the time on the same machine counts
    plant_training("zfnet", 1, seconds=whole, device="A processor, 2 threads")
    same = judged("softmax-trains-quickly").numbers["faster than the whole training"].value
    assert same == pytest.approx((2 if another else whole) / 40)


@pytest.mark.parametrize(
    ("shifts", "expected"),
    [((1, 1, 1), HOLDS), ((25, 25, 25), FAILS), ((15, -15, 0), FAILS)],  # the last helps one and harms another
)
def test_features_must_explain_ten_times_what_classifiers_do(shifts, expected):
    layers = dict(zip(("conv5", "fc7", "hog"), (50.0, 60.0, 25.0), strict=True))
    table = {layer: (value, value + shift) for (layer, value), shift in zip(layers.items(), shifts, strict=True)}
    for source, names in {OWN: ("conv5", "fc7"), "hog": ("hog",)}.items():
        tried(source, CALTECH, {(k, way, 30): v for k in names for way, v in zip(BOTH, table[k], strict=True)})
    found = judged("representation-matters-more-than-classifier")
    assert found.verdict == expected
    shares = found.numbers["by features"].value, found.numbers["by classifier"].value
    assert sum(shares) == pytest.approx(100, abs=0.1)
    middles = [mean(each) for each in table.values()]
    ratio = 2 * 3 * np.var(middles) / sum(shift**2 / 2 for shift in shifts)
    assert shares[0] / shares[1] == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize(
    ("fourth", "untrained", "expected"),
    [
        (40, (30, 29, 28, 27, 26, 25), HOLDS),
        (40, (10, 11, 12, 13, 14, 15), UNDECIDED),  # the untrained network rises as well
        (40, None, UNDECIDED),
        (30, (30, 29, 28, 27, 26, 25), UNDECIDED),
        (25, (30, 29, 28, 27, 26, 25), FAILS),
    ],
)
def test_every_layer_must_add_something_that_random_weights_do_not(fourth, untrained, expected):
    for source, values in ((OWN, (10, 20, 30, fourth, 50, 45)), (UNTRAINED, untrained)):
        if values:
            tried(source, CALTECH, {(layer, "svm", 30): value for layer, value in zip(LAYERS, values, strict=True)})
    found = judged("features-more-discriminative-with-layer")
    assert found.verdict == expected
    assert found.numbers["step 1 to 2"].value == pytest.approx(10, abs=0.3)
    assert "The peak is layer 5." in found.note
    assert ("Not run, the untrained network: `zfnet run table3" in found.note) == (untrained is None)
    assert (found.numbers["Spearman with the layer, 1 to 5"].value == pytest.approx(1)) == (fourth == 40)


@pytest.mark.parametrize(
    ("leads", "expected"), [((2, 2, 2, 2), HOLDS), ((2, 2, 2, -1), FAILS), ((2, 0.1, 2, 2), FAILS)]
)
def test_layer_7_must_be_best_on_both_sets_with_both_classifiers(leads, expected):
    for data, most, mine in ((CALTECH, 30, leads[:2]), (NOVEL, 60, leads[2:])):
        top = {("fc7", way, most): 50.0 + lead for way, lead in zip(BOTH, mine, strict=True)}
        tried(OWN, data, {("conv5", way, most): 50.0 for way in BOTH} | top)
    found = judged("all-layers-give-best-results")
    assert found.verdict == expected
    assert [number.value for number in found.numbers.values()] == pytest.approx(leads, abs=1e-9)


@pytest.mark.parametrize(
    ("claim", "gains", "expected"),
    [
        ("multi-label-loss-would-help", [(BY_LOSS, SEVERAL, 3, 2)], UNDECIDED),  # without its control
        ("multi-label-loss-would-help", [(BY_LOSS, SEVERAL, 3, 2), (BY_LOSS, ONE, 9, 1)], UNDECIDED),
        ("multi-label-loss-would-help", [(BY_LOSS, SEVERAL, 3, 2), (BY_LOSS, ONE, -50, 1)], HOLDS),
        ("multi-label-loss-would-help", [(BY_LOSS, SEVERAL, 9, 3), (BY_LOSS, ONE, 4, 3)], HOLDS),  # 5 ± 4.2
        ("multi-label-loss-would-help", [(BY_LOSS, SEVERAL, 2, 3)], UNDECIDED),
        ("multi-label-loss-would-help", [(BY_LOSS, SEVERAL, -3, 2)], FAILS),
        ("pascal-transfers-less-well", [(BY_FEATURES, ONE, 10, 3), (BY_FEATURES, SEVERAL, 3, 4)], HOLDS),
        ("pascal-transfers-less-well", [(BY_FEATURES, ONE, 10, 3), (BY_FEATURES, SEVERAL, 8, 4)], UNDECIDED),
        ("pascal-transfers-less-well", [(BY_FEATURES, ONE, 3, 3), (BY_FEATURES, SEVERAL, 10, 4)], FAILS),
        ("pascal-transfers-less-well", [], NOT_RUN),
    ],
)
def test_several_objects_must_make_features_gain_less_and_another_loss_help(results, claim, gains, expected):
    found = []
    for by, shown, value, half in gains:
        place = {"by": by, "shown": shown, "classes": ["cat", "dog"], "low": value - half, "high": value + half}
        found.append(record(table5.GAIN, value, n=100, parameters=place))
    records.store(results / "tiny/transfer/several--voc-2012.jsonl", found)
    judgement = judged(claim)
    assert judgement.verdict == expected
    if claim.startswith("multi"):
        assert list(judgement.numbers)[: len(gains)] == [shown for _, shown, _, _ in gains]
    elif gains:
        lost = gains[0][2] - gains[1][2]
        assert judgement.numbers["gain on one object less that on several"] == Number(lost, lost - 5, lost + 5, 100)


def test_the_gain_is_that_of_the_means_and_its_error_that_of_redrawn_pictures():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((80, 3)) < 0.4, 1, -1).astype(np.int8)
    good, bad = labels + rng.normal(0, 1, labels.shape), labels + rng.normal(0, 3, labels.shape)

    def literal(drawn):
        scores = [[average_precision(labels[drawn, c], each[drawn, c]) for each in (good, bad)] for c in (0, 2)]
        return mean(one - other for one, other in scores)

    gain, error = precision_gain(labels, good, bad, [0, 2])
    assert gain == pytest.approx(literal(np.arange(80)))
    assert error == pytest.approx(stdev(literal(rng.integers(0, 80, 80)) for _ in range(300)), rel=0.2)


def test_pictures_of_one_object_are_told_from_those_of_several():
    labels = np.full((60, 3), -1, np.int8)
    labels[:20, 0] = labels[20:40, 1] = 1
    labels[40:, :] = 1
    told = {shown: (some.tolist(), classes) for shown, some, classes in table5.kinds(labels)}
    assert told == {ONE: (list(range(40)), [0, 1]), SEVERAL: (list(range(40, 60)), [0, 1])}
    assert [(shown, classes) for shown, _, classes in table5.kinds(labels[40:])] == [(SEVERAL, [0, 1, 2])]
    assert list(table5.kinds(labels[:0])) == []
