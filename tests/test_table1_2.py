"""Tables 1 and 2 and the curves of training, from stored records."""

import json
from dataclasses import replace

import pytest
from planted import record

from zfnet_lib.architecture import STEMS, TABLE_2
from zfnet_lib.paper import curves, records, table1_2
from zfnet_lib.paper.setting import training_of
from zfnet_lib.paper.trainings import COLUMNS, ensembles_file

pytestmark = pytest.mark.usefixtures("results")


def store(path, networks=(), data="tiny-imagenet val", **errors):
    """Write the errors that a training or an ensemble leaves, by their columns."""
    quantities = {column: name for name, column in COLUMNS.items()}
    for column, value in errors.items():
        for views, error in ((1, value), (10, value - 2)):
            facts = {"views": views, "networks": networks}
            records.append(path, [record(quantities[column], error, "%", parameters=facts, data=data)])


def train(network, seed=0, **errors):
    store(training_of("tiny", network, seed).errors_file, **errors)


def test_table_2_shows_mean_spread_and_n_of_what_was_run():
    train("zfnet", 0, train=60.0, val1=70.0, val5=40.0)
    train("zfnet", 12, train=62.0, val1=72.0, val5=41.0)
    train("zfnet-fc-2048", 0, train=1.0, val1=2.0, val5=3.0)
    found = table1_2.table2("tiny")
    rows = {row["network"].split("`")[1]: row for row in found.table.rows}
    assert list(rows) == list(TABLE_2)
    zfnet = rows["zfnet"]
    assert (zfnet["paper_val1"], zfnet["paper_val5"], zfnet["paper_train"]) == ("38.4", "16.5", "33.1")
    # the spread of two seeds, 1.414 and 0.707, times Student's t at 1 degree of freedom over the root of n
    assert (zfnet["ours_val1"], zfnet["ours_val5"], zfnet["n"]) == ("71.0 ± 12.7", "40.5 ± 6.4", 2)
    narrow = rows["zfnet-fc-2048"]
    assert (narrow["paper_val5"], narrow["ours_val5"]) == ("17.6 (+1.1)", "3.0 ± 9.0 (-37.5)")
    assert (narrow["ten_val5"], narrow["n"]) == ("1.0 (-37.5)", 1)
    assert (rows["krizhevsky"]["ours_val1"], rows["krizhevsky"]["n"]) == ("not run", None)
    assert "val top-5: Spread between seeds 0.71 points, pooled over `zfnet` 0.71 (n = 2)." in found.table.note
    assert {point["name"]: point["ours"] for point in found.points}["zfnet"] == 71.0


def test_a_row_is_added_to_table_2_by_one_entry(monkeypatch):
    added, printed = TABLE_2["zfnet"].without("conv3", "conv5"), table1_2.table2("tiny").table.rows
    monkeypatch.setattr(table1_2, "TABLE_2", {added.name: added} | TABLE_2)
    train("zfnet-without-3-5", 0, train=60.0, val1=70.0, val5=40.0)
    found = table1_2.table2("tiny")
    row, *others = found.table.rows
    assert (row["network"], row["paper_val1"], row["ours_val1"]) == ("`zfnet-without-3-5`: added here", "", "70.0")
    assert [{key: line[key] for key in before} for line, before in zip(others, printed, strict=True)] == printed
    assert all(each["paper_val1"] for each in printed)
    depth, width = table1_2.depth_and_width(found.points).axes
    assert [len(line.get_xdata()) for line in width.lines] == [len(TABLE_2), 1]
    assert (depth.lines[1].get_xdata(), depth.lines[1].get_ydata()) == ([6], [70.0])


def test_table_1_takes_single_networks_and_recorded_ensembles():
    train("zfnet", 0, val1=70.0, val5=40.0)
    five = sorted(training_of("tiny", "zfnet", seed).name for seed in range(5))
    store(ensembles_file("tiny"), networks=five, val1=65.0, val5=38.0)
    rows = table1_2.table1("tiny").table.rows
    ours = {row["network"]: row["ours_val1"] for row in rows if row["ours_val1"]}
    assert list(ours.values()) == ["not run", "70.0", "not run", "65.0", "not run", "not run"]
    assert [row["network"] for row in rows if row["test_top5"]][:2] == ["Gunji et al. [12]", "DeCAF [7]"]
    train("krizhevsky", 0, val1=74.0, val5=45.0)
    rows = {row["network"][:9]: row for row in table1_2.table1("tiny").table.rows}
    assert rows["5 convnet"]["paper_val5"] == "15.3 (-2.8)" and rows["5 convnet"]["ours_val5"] == "38.0 (-7.0)"
    assert (rows["5 convnet"]["ten_val5"], rows["5 convnet"]["n"]) == ("36.0 (-7.0)", 1)
    assert (rows["2 convnet"]["paper_val5"], rows["2 convnet"]["ours_val5"]) == ("", "not run")


def test_what_was_not_run_comes_with_its_command():
    train("zfnet", 0, val1=70.0)
    train("krizhevsky", 1, val1=70.0)
    found = table1_2.missing_table("tiny")
    missing = {(row["network"], row["seed"]): row["command"] for row in found.rows if "clip" not in row["command"]}
    others = {(name, 0) for name in (TABLE_2 | STEMS).keys() - {"zfnet"}}
    assert missing.keys() == others | {("zfnet", seed) for seed in (1, 2, 3, 4)} | {("krizhevsky", 2)}
    assert missing["zfnet", 1] == "`zfnet train zfnet --data tiny-imagenet --recipe tiny --seed 1 --resume`"
    assert "`zfnet train --table 2 --data tiny-imagenet --recipe tiny`; no training here" in found.note
    assert table1_2.missing_table("smoke").rows == []


def learn(*losses, **changes):
    """Write the record of a training, an epoch a loss, and return the epochs; `changes` are those of its recipe."""
    run, known = training_of("tiny", "zfnet"), {"top1": 97.0, "seconds": 60, "plateau_left": 312}
    run = replace(run, recipe=replace(run.recipe, **changes))
    epochs = [known | {"epoch": n, "loss": each, "rms": {"conv1": [0.0, 0.2]}} for n, each in enumerate(losses, 1)]
    facts = {"training": run.name, "data": "tiny-imagenet train"}
    facts["provenance"] = {"device": "a processor", "commit": "0123456789abcdef"}
    records.write_lines(run.epochs_file, [json.dumps(facts | {"epoch": epoch}) for epoch in epochs])
    return epochs


def test_curves_come_from_the_records_of_epochs():
    epochs = learn(5.1, clip="none")
    found = curves.training("tiny")
    assert (found.epochs["zfnet, not renormalised"], found.epochs["zfnet"]) == (epochs, [])
    assert [row["left"] for row in found.plateaus.rows] == ["not run", "not run", 312]
    assert "a processor" in table1_2.basis("tiny")
    loss, left, right = curves.curves(found.epochs, found.classes).axes
    assert [line.get_ydata()[0] for line in loss.lines] == [5.1, pytest.approx(5.298, abs=1e-3)]
    assert [line.get_ydata()[0] for line in left.lines] == [97.0]
    assert right.lines[0].get_ydata()[0] == 0.2
    assert "not run" in [text.get_text() for text in curves.curves({"zfnet": []}, 200).axes[0].texts]


def test_precisions_are_compared_as_far_as_both_went():
    assert "--precision float32" in curves.precisions("tiny").rows[0]["command"]
    learn(5.1, 4.7, precision="bfloat16")
    learn(5.2, precision="float32")
    (row,) = curves.precisions("tiny").rows
    assert (row["epoch"], row["bfloat16 loss"], row["float32 loss"]) == (1, 5.1, 5.2)


def test_the_contest_is_decided_only_with_a_known_spread():
    assert table1_2.contest("tiny").startswith("Not run")
    train("zfnet", 0, val1=62.0)
    train("krizhevsky", 0, val1=64.0)
    assert "`zfnet` is 2.0 points better. No network was trained with a second seed" in table1_2.contest("tiny")
    for seed, (ours, theirs) in enumerate([(62.2, 64.2), (61.8, 63.8)], 1):
        train("zfnet", seed, val1=ours)
        train("krizhevsky", seed, val1=theirs)
    assert table1_2.contest("tiny").endswith("more than 0.5 points between two such networks is clear (95 %).")
    for seed in (0, 1):  # of other data, whose names end alike
        file = training_of("tiny", "zfnet").errors_file.with_name(f"a-my-tiny-imagenet-tiny-seed{seed}.jsonl")
        store(file, data="my-tiny-imagenet val", val1=9.0 * seed)
    train("krizhevsky", 3, val1=50.0)
    assert "of more than 10.7 points between" in table1_2.contest("tiny")
