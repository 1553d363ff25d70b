"""The claims on transfer: each verdict turns where its threshold lies."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import CALTECH, JITTER, NOVEL, OWN, UNTRAINED, curve, record, scratch, training, tried

from zfnet_lib.paper import claims, records, table5
from zfnet_lib.paper.claims import folds, transfer
from zfnet_lib.paper.claims.finding import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE, Number
from zfnet_lib.paper.table3_4_6 import LAYERS
from zfnet_lib.paper.transfer import average_precision, precision_gain


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty folder of results of `tiny`."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    return tmp_path / "tiny"


def judged(name):
    """Return what the test of one claim finds in `tiny`."""
    return claims.ledger("tiny", [name]).entries[0].finding


def test_differences_are_paired_where_the_records_keep_their_folds():
    one, other = folds.over_folds([50.0, 60.0, 70.0, 80.0, 90.0]), folds.over_folds([40.0, 50.0, 60.0, 70.0, 81.0])
    paired = (one - other).number()
    assert paired.value == pytest.approx(9.8)
    assert paired.high - paired.value == pytest.approx(2 * stdev([10, 10, 10, 10, 9]) / 5**0.5)
    alone = (replace(one, values=()) - other).number()
    assert alone.value == pytest.approx(9.8)
    assert alone.high - alone.value == pytest.approx(2 * np.hypot(one.error, other.error))
    assert (one - folds.over_folds([1.0, 2.0])).number() == Number(pytest.approx(68.5), None, None, 2, "points")


SIZES = {CALTECH: (15, 30), NOVEL: (15, 30, 45, 60)}


@pytest.mark.parametrize(
    ("margins", "folds_run", "expected"),
    [
        ((30, 20, 15, 12), 5, HOLDS),
        ((30, 20, 15, 12), 2, UNDECIDED),
        ((30, 20, 15, 9), 5, UNDECIDED),  # below ten points, yet above 0
        ((12, 15, 20, 30), 5, UNDECIDED),  # grows with the size
        ((30, 20, 15, 0), 5, FAILS),
    ],
)
def test_pretraining_must_beat_scratch_widely_at_every_size(results, margins, folds_run, expected):
    for data, sizes in SIZES.items():
        tried(results, OWN, data, {("fc7", "softmax", each): 60.0 for each in sizes})
        for each, margin in zip(sizes, margins, strict=False):
            scratch(results, data, each, [60.0 - margin + shift for shift in JITTER[:folds_run]])
    found = judged("pretrained-beats-scratch")
    assert found.verdict == expected
    assert found.numbers[f"{NOVEL}, 15 a class"].value == pytest.approx(margins[0], abs=0.2)
    assert len(found.numbers) == 6
    assert ("2 of 5 folds" in found.note) == (folds_run == 2)


def test_what_was_not_trained_from_scratch_is_named_with_its_command_and_hours(results):
    tried(results, OWN, CALTECH, {("fc7", "softmax", each): 60.0 for each in (15, 30)})
    training(results, rate=101.0)
    found = judged("pretrained-beats-scratch")
    assert found.verdict == NOT_RUN
    assert (
        "`zfnet train zfnet --data caltech-101 --recipe tiny --epochs 160 --each 15`, and so on to `--seed 4`"
        in (found.note)
    )
    assert f"about {5 * 160 * 15 * 101 / 101 / 3600:.1f} h" in found.note
    scratch(results, CALTECH, 15, [20.0] * 5)
    partly = judged("pretrained-beats-scratch")
    assert (partly.verdict, list(partly.numbers)) == (HOLDS, ["caltech-101, 15 a class"])
    assert "On caltech-101, 30 a class: `zfnet train" in partly.note
    assert "On mini-imagenet-novel, 15, 30, 45, 60 a class: `zfnet run table4" in partly.note


@pytest.mark.parametrize(
    ("enough", "expected"), [(6, HOLDS), (10, HOLDS), (15, UNDECIDED), (30, UNDECIDED), (45, FAILS), (99, FAILS)]
)
def test_few_pictures_must_beat_five_times_as_many(results, enough, expected):
    curve(results, lambda n: 40.0 if n >= enough else 20.0)
    found = judged("six-images-beat-sixty")
    assert found.verdict == expected
    ratio = found.numbers["hog (30.0 % with 60 a class), passed with"]
    assert ratio == Number(60 / enough if enough < 61 else 0, *[60 / enough if enough < 61 else 0] * 2, 5, "times")
    assert found.numbers["pixels (10.0 % with 60 a class), passed with"].value == 60


def test_near_the_rival_the_ratio_is_an_interval(results):
    curve(results, lambda n: {6: 30.05}.get(n, 40.0 if n > 6 else 20.0))
    ratio = judged("six-images-beat-sixty").numbers["hog (30.0 % with 60 a class), passed with"]
    assert (ratio.value, ratio.low, ratio.high) == (10, 6, 10)


def test_without_trainings_from_scratch_few_pictures_cannot_hold(results):
    curve(results, lambda n: 40.0)
    for path in (results / "errors").iterdir():
        path.unlink()
    found = judged("six-images-beat-sixty")
    assert found.verdict == UNDECIDED
    assert "`zfnet train zfnet --data mini-imagenet-novel" in found.note


@pytest.mark.parametrize(
    ("whole", "softmax", "device", "expected"),
    [
        (4000, 50.0, "A processor, 1 threads", HOLDS),
        (3990, 50.0, "A processor, 1 threads", UNDECIDED),
        (4000, 47.0, "A processor, 1 threads", UNDECIDED),  # it has not converged
        (4000, 50.0, "Another one, 2 threads", UNDECIDED),
        (390, 50.0, "A processor, 2 threads", FAILS),
    ],
)
def test_the_softmax_must_train_a_hundred_times_faster(results, whole, softmax, device, expected):
    training(results, seconds=whole / 2)
    accuracies = {("fc7", "softmax", 15): 40.0, ("fc7", "softmax", 30): softmax, ("fc7", "svm", 30): 50.0}
    tried(results, OWN, CALTECH, accuracies, device=device)
    found = judged("softmax-trains-quickly")
    assert found.verdict == expected
    assert ("on another machine, A processor" in found.note) == device.startswith("Another")
    assert found.numbers["faster than the whole training"].value == pytest.approx(whole / 40)
    assert found.numbers["fewer parameters"].value == pytest.approx(30_768_456 / (101 * 4097))


def test_times_are_compared_with_a_training_on_the_same_machine(results):
    training(results, seconds=1.0, device="Another one, 2 threads")
    training(results, seed=1, seconds=4000.0)
    accuracies = {("fc7", way, each): 50.0 for way in ("softmax", "svm") for each in (15, 30)}
    tried(results, OWN, CALTECH, accuracies, device="A processor, 1 threads")
    found = judged("softmax-trains-quickly")
    assert (found.verdict, found.numbers["faster than the whole training"].value) == (HOLDS, 200)


@pytest.mark.parametrize(("shift", "expected"), [(1.0, HOLDS), (25.0, FAILS)])
def test_features_must_explain_ten_times_what_classifiers_do(results, shift, expected):
    features = {"conv5": 50.0, "fc7": 60.0}
    both = {"svm": 0.0, "softmax": shift}
    for source, base in ((OWN, 0.0), (UNTRAINED, -30.0)):
        table = {(layer, way, 30): value + base + both[way] for layer, value in features.items() for way in both}
        tried(results, source, CALTECH, table)
    for name in ("hog", "pixels"):
        tried(results, name, CALTECH, {(name, way, 30): 25.0 + both[way] for way in both})
    found = judged("representation-matters-more-than-classifier")
    assert found.verdict == expected
    shares = found.numbers["by features"].value, found.numbers["by classifier"].value
    assert sum(shares) == pytest.approx(100, abs=0.1)
    values = np.array([50, 60, 20, 30, 25, 25.0])
    ratio = 2 * ((values - values.mean()) ** 2).sum() / (12 * (shift / 2) ** 2)
    assert shares[0] / shares[1] == pytest.approx(ratio, rel=0.05)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=2, max_size=4))
def test_a_two_way_table_is_split_completely(rows):
    table = np.array(rows, float)
    by_rows, by_columns, rest = transfer.two_way(table)
    literal = sum(
        (table[i].mean() + table[:, j].mean() - 2 * table.mean()) ** 2 for i in range(len(table)) for j in range(3)
    )
    assert by_rows + by_columns == pytest.approx(literal)
    assert by_rows + by_columns + rest == pytest.approx(((table - table.mean()) ** 2).sum())


@pytest.mark.parametrize(
    ("own", "untrained", "expected"),
    [
        ((10, 20, 30, 40, 50, 45), (30, 29, 28, 27, 26, 25), HOLDS),
        ((10, 20, 30, 40, 50, 45), (10, 11, 12, 13, 14, 15), UNDECIDED),  # the untrained network rises as well
        ((10, 20, 30, 40, 50, 45), None, UNDECIDED),
        ((10, 20, 30, 30, 50, 45), (30, 29, 28, 27, 26, 25), UNDECIDED),
        ((10, 20, 30, 25, 50, 45), (30, 29, 28, 27, 26, 25), FAILS),
    ],
)
def test_every_layer_must_add_something_that_random_weights_do_not(results, own, untrained, expected):
    for source, values in ((OWN, own), (UNTRAINED, untrained)):
        if values:
            tried(
                results, source, CALTECH, {(layer, "svm", 30): v for layer, v in zip(LAYERS, values, strict=True)}
            )
    found = judged("features-more-discriminative-with-layer")
    assert found.verdict == expected
    assert found.numbers["step 1 to 2"].value == pytest.approx(10, abs=0.3)
    assert "The peak is layer 5." in found.note
    assert ("Not run, the untrained network: `zfnet run table3" in found.note) == (untrained is None)
    rising = list(own[:5]) == sorted(set(own[:5]))
    assert (found.numbers["Spearman with the layer, 1 to 5"].value == pytest.approx(1)) == rising


@pytest.mark.parametrize(
    ("leads", "expected"),
    [((2, 2, 2, 2), HOLDS), ((2, 2, 2, -1), FAILS), ((2, 0.1, 2, 2), FAILS)],
)
def test_layer_7_must_be_best_on_both_sets_with_both_classifiers(results, leads, expected):
    cells = [(data, way) for data in (CALTECH, NOVEL) for way in ("svm", "softmax")]
    for data, most in ((CALTECH, 30), (NOVEL, 60)):
        mine = {way: lead for (where, way), lead in zip(cells, leads, strict=True) if where == data}
        table = {("conv5", way, most): 50.0 for way in mine} | {
            ("fc7", way, most): 50.0 + v for way, v in mine.items()
        }
        tried(results, OWN, data, table, folds=False)
    found = judged("all-layers-give-best-results")
    assert found.verdict == expected
    assert [number.value for number in found.numbers.values()] == pytest.approx(leads, abs=1e-9)


@pytest.mark.parametrize(
    ("margins", "expected"),
    [((9, 7, 5, 4), HOLDS), ((9, 7, 5, -1), FAILS), ((5, 7, 5, 4), FAILS), ((5, 5, 4, 3), UNDECIDED)],
)
def test_the_margin_over_the_descriptor_must_be_largest_with_few_pictures(results, margins, expected):
    sizes = SIZES[NOVEL]
    tried(results, "hog", NOVEL, {("hog", "svm", each): 30.0 for each in sizes}, folds=False)
    own = {("fc7", "softmax", each): 30.0 + m for each, m in zip(sizes, margins, strict=True)}
    tried(results, OWN, NOVEL, own, folds=False)
    assert judged("pretrained-beats-bo-caltech-256").verdict == expected


def test_the_margins_on_caltech_101_decide_nothing_at_this_scale(results):
    assert judged("pretrained-beats-best-caltech-101").numbers == {}
    tried(results, OWN, CALTECH, {("fc7", "softmax", 30): 95.0})
    tried(results, "hog", CALTECH, {("hog", "svm", 30): 30.0})
    found = judged("pretrained-beats-best-caltech-101")
    assert found.verdict == UNTESTABLE
    assert found.numbers["above the printed 86.5"].value == pytest.approx(8.5)
    assert found.numbers["above hog"].value == pytest.approx(65)


def test_a_downloaded_network_decides_nothing(results):
    better = {(layer, way, 30): 99.0 for layer in LAYERS for way in ("svm", "softmax")}
    tried(results, "alexnet-imagenet", CALTECH, better)
    names = [name for name, test in claims.TESTS.items() if test.path == "transfer"]
    assert len(names) == 10
    for name in set(names) - {"pascal-transfers-less-well", "pretrained-beats-best-caltech-101"}:
        assert judged(name).verdict == NOT_RUN


@pytest.mark.parametrize(
    ("gain", "half", "expected"), [(3, 2, HOLDS), (2, 3, UNDECIDED), (-2, 3, UNDECIDED), (-3, 2, FAILS)]
)
def test_another_loss_must_help_where_several_objects_are_shown(results, gain, half, expected):
    by = table5.BY_LOSS
    records.store(results / "transfer" / "several--voc-2012.jsonl", gains((by, table5.SEVERAL, gain, half)))
    found = judged("multi-label-loss-would-help")
    assert (found.verdict, list(found.numbers)) == (expected, [table5.SEVERAL])
    both = gains((by, table5.SEVERAL, gain, half), (by, table5.ONE, -50, 1))
    records.store(results / "transfer" / "several--voc-2012.jsonl", both)
    found = judged("multi-label-loss-would-help")
    assert (found.verdict, found.numbers[table5.ONE].value) == (expected, -50)


@pytest.mark.parametrize(
    ("one", "many", "expected"), [(10, 3, HOLDS), (10, 8, UNDECIDED), (3, 10, FAILS), (None, None, UNDECIDED)]
)
def test_features_must_gain_less_where_several_objects_are_shown(results, one, many, expected):
    if one is not None:
        by = table5.BY_FEATURES
        found = gains((by, table5.ONE, one, 3), (by, table5.SEVERAL, many, 4))
        records.store(results / "transfer" / "several--voc-2012.jsonl", found)
    found = judged("pascal-transfers-less-well")
    assert found.verdict == expected
    assert found.numbers["below [27]"].value == 3.2
    if one is not None:
        assert found.numbers["less on several objects by"] == Number(
            one - many, one - many - 5, one - many + 5, 100
        )


def gains(*rows):
    """Return records of Table 5's gains: by what, on what, how much, half the interval."""
    return [
        record(
            table5.GAIN,
            value,
            n=100,
            parameters={
                "by": by,
                "shown": shown,
                "classes": ["cat", "dog"],
                "low": value - half,
                "high": value + half,
            },
        )
        for by, shown, value, half in rows
    ]


def test_the_gain_is_that_of_the_means_and_its_error_that_of_redrawn_pictures():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((80, 3)) < 0.4, 1, -1).astype(np.int8)
    good, bad = labels + rng.normal(0, 1, labels.shape), labels + rng.normal(0, 3, labels.shape)
    gain, error = precision_gain(labels, good, bad, [0, 2])
    each = [
        average_precision(labels[:, c], good[:, c]) - average_precision(labels[:, c], bad[:, c]) for c in (0, 2)
    ]
    assert gain == pytest.approx(mean(each))
    draws = [rng.integers(0, 80, 80) for _ in range(300)]
    again = [
        mean(
            average_precision(labels[drawn, c], s[drawn, c]) * sign
            for c in (0, 2)
            for s, sign in ((good, 2), (bad, -2))
        )
        for drawn in draws
    ]
    assert error == pytest.approx(stdev(again), rel=0.2)


def test_pictures_of_one_object_are_told_from_those_of_several():
    labels = np.full((60, 3), -1, np.int8)
    labels[:20, 0] = labels[20:40, 1] = 1
    labels[40:, :] = 1
    apart = {shown: (some.tolist(), classes) for shown, some, classes in table5.kinds(labels, alike=False)}
    assert apart == {
        table5.ONE: (list(range(40)), [0, 1]),
        table5.SEVERAL: (list(range(40, 60)), [0, 1, 2]),
    }
    assert {shown: classes for shown, _, classes in table5.kinds(labels, alike=True)} == {
        table5.ONE: [0, 1],
        table5.SEVERAL: [0, 1],
    }
    assert list(table5.kinds(labels[:40], alike=True)) == []
