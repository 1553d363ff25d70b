"""Tables 3 to 6 and Fig. 7 from the records that ship, and from none."""

from statistics import mean

import pytest
from ledgers import CALTECH, JITTER, NOVEL, OWN, UNTRAINED, curve, scratch, tried

from zfnet_lib.datasets import open_dataset
from zfnet_lib.images import FigureError
from zfnet_lib.paper import fig7, table3_4_6, table5, trainings, transfer
from zfnet_lib.paper.table3_4_6 import Source, Trial


def test_without_records_every_table_says_what_brings_them(results):
    for number, table in ((3, table3_4_6.table3), (4, table3_4_6.table4), (5, table5.table5)):
        shown = table("tiny").table.markdown()
        assert f"`zfnet run table{number} --profile tiny --live`" in shown
    assert table3_4_6.table6("tiny").verdict.count("not run.") == 3
    found = fig7.fig7("tiny")
    assert (found.curves, found.verdict, found.notes) == ({}, "Not run.", "Nothing is stored here yet.")
    with pytest.raises(FigureError, match="at least one curve"):
        fig7.few_shot(found.curves, found.printed, found.data)


@pytest.mark.parametrize(
    ("accuracy", "word"),
    [(50.0, "10.0 ± 0.2 points above"), (30.0, "10.0 ± 0.2 points below")],
)
def test_pretraining_is_compared_fold_by_fold(results, accuracy, word):
    tried(OWN, CALTECH, {("fc7", "softmax", n): accuracy for n in (15, 30)})
    scratch(CALTECH, 30, [40 + shift for shift in JITTER])
    found = table3_4_6.table3("tiny")
    assert f"lies {word} training from scratch (n = 5)" in found.verdict
    assert "From scratch with 15 a class: not run." in found.verdict
    rows = {row["label"]: row for row in found.table.rows}
    assert rows["From scratch"] == {"label": "From scratch", "15": "not run", "30": "40.0 ± 0.2 (n = 5)"}
    assert rows[f"`{OWN}`, softmax (7)"]["30"] == f"{accuracy:.1f} ± 0.2"
    assert rows["ImageNet-pretrained convnet (paper, Caltech-101)"]["30"] == "86.5 ± 0.5"


def test_fig_7_finds_how_few_pictures_are_enough(results):
    curve(lambda n: 20.0 + n)
    found = fig7.fig7("tiny")
    assert list(found.curves) == [f"`{OWN}`", f"`{OWN}, untrained`", "`hog`", "`pixels`", "from scratch"]
    assert found.verdict == f"With 15 a class, `{OWN}` beats the best of the others, 30.0 % with up to 60 a class."
    ours, theirs = fig7.few_shot(found.curves, found.printed, found.data).axes
    assert len(ours.containers) == 5 and len(theirs.lines) == 1 + len(found.printed) == 5
    assert [axes.lines[-1].get_ydata()[0] for axes in (ours, theirs)] == [30.0, 55.2]  # what is to be passed


def test_layers_rise_or_do_not(results):
    tried(OWN, NOVEL, {(layer, "svm", 60): 10.0 + 5 * n for n, layer in enumerate(table3_4_6.LAYERS)})
    tried(OWN, CALTECH, {(layer, "svm", 30): 10.0 for layer in table3_4_6.LAYERS})
    tried(UNTRAINED, CALTECH, {("conv2", "svm", 30): 7.0})
    found = table3_4_6.table6("tiny")
    assert found.table.rows[1][f"`{UNTRAINED}`, Caltech-101"] == "7.0 ± 0.2"
    verdict = found.verdict
    assert "untrained" not in verdict
    assert "rises with every layer from 1 to 5 (10.0 to 30.0 %)" in verdict
    assert "does not rise with every layer from 1 to 5" in verdict


def test_what_ships_fills_table_5():
    found = table5.table5("tiny")
    *every, means, won = found.table.rows
    assert len(every) == 20 and (means["ours"], won["ref_27"]) == (79.0, 11)  # as printed
    classes = [row for row in every if row.get("positives")]
    assert len(classes) == 14
    ours = ("zfnet-tiny softmax", "zfnet-tiny logistic", "hog softmax")
    assert means[ours[0]] == pytest.approx(mean(row[ours[0]] for row in classes), abs=0.1)
    assert sum(won[way] for way in ours) >= len(classes)
    assert f"over {len(classes)} classes" in found.verdict


def test_a_source_is_measured_on_every_fold(data, monkeypatch):
    monkeypatch.setattr(trainings, "undivided", lambda name: open_dataset(name, "val", n=300))
    monkeypatch.setitem(transfer.MOST, "shapes-transfer", 15)
    trials = (Trial("pixels", "svm", 15), Trial("pixels", "softmax", 15))
    svm, softmax = table3_4_6.transfer_records(Source("pixels", "shapes-transfer", trials))
    assert len(svm.parameters["folds"]) == svm.n == 5 and len(softmax.parameters["decays"]) == 5
    assert (svm.parameters["classes"], svm.parameters["dimensions"]) == (10, 3072)
    assert svm.value > 15 and softmax.value > 15  # chance is 10 %


def test_several_objects_are_scored_class_by_class(data, monkeypatch):
    monkeypatch.setattr(table5, "training_data", lambda name, split: open_dataset(name, split, n=180))
    seen, plain = [], transfer.coordinates
    monkeypatch.setattr(transfer, "coordinates", lambda kernel, *rows: (seen.append(rows), plain(kernel, *rows))[1])
    found = list(table5.several_records("shapes-scenes", (("hog", "hog"), ("pixels", "pixels"))))
    assert all(not {*train} & {*test} for train, test in seen)
    assert sorted(row for _, test in seen[:2] for row in test) == list(range(180))
    scored = [record for record in found if record.quantity == table5.PRECISION]
    assert {(record.spec, record.parameters["loss"]) for record in scored} == {
        (source, loss) for source in ("hog", "pixels") for loss in table5.LOSSES
    }
    assert all(0 < record.value <= 100 and record.n >= table5.ENOUGH for record in scored)
    gain, other = (record for record in found if record.quantity == table5.GAIN)  # scenes show several objects
    told = [(each.parameters["by"], each.parameters["shown"]) for each in (gain, other)]
    assert told == [(by, table5.SEVERAL) for by in (table5.BY_LOSS, table5.BY_FEATURES)]
    assert gain.parameters["low"] <= gain.value <= gain.parameters["high"]
