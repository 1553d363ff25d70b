"""Tables 1 and 2 and the curves of training, from stored records."""

import json

import pytest

from zfnet_lib.architecture import STEMS, TABLE_2
from zfnet_lib.paper import curves, records, table1_2


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    return tmp_path / "tiny"


def store(results, network, seed, **errors):
    """Write what `zfnet train` leaves: one record an error."""
    made = records.Stopwatch().provenance(seed)
    for quantity, value in errors.items():
        split, top = quantity.split("_")
        for views, shift in ((1, 0.0), (10, 2.0)):
            record = records.Record(
                "training", f"{split} {top.replace('top', 'top-')} error", value - shift, "%", made,
                parameters={"views": views}, spec=network,
            )  # fmt: skip
            records.append(results / "errors" / f"{network}-tiny-imagenet-tiny-seed{seed}.jsonl", [record])


def test_table_2_shows_mean_spread_and_n_of_what_was_run(results):
    store(results, "zfnet", 0, train_top1=60.0, val_top1=70.0, val_top5=40.0)
    store(results, "zfnet", 1, train_top1=62.0, val_top1=72.0, val_top5=41.0)
    store(results, "zfnet-fc-2048", 0, train_top1=1.0, val_top1=2.0, val_top5=3.0)
    found = table1_2.table2("tiny")
    rows = {row["network"].split("`")[1]: row for row in found.table.rows}
    assert list(rows) == list(TABLE_2)
    zfnet = rows["zfnet"]
    assert (zfnet["paper_val1"], zfnet["paper_val5"], zfnet["paper_train"]) == (38.4, 16.5, 33.1)
    assert (zfnet["ours_val1"], zfnet["ours_val5"], zfnet["n"]) == ("71.0 ± 1.4 (+32.6)", "40.5 ± 0.7 (+24.0)", 2)
    assert (rows["krizhevsky"]["ours_val1"], rows["krizhevsky"]["n"]) == ("not run", 0)
    assert {point["name"]: point["ours"] for point in found.points}["zfnet"] == 71.0


def test_a_row_is_added_to_table_2_by_one_entry(results, monkeypatch):
    monkeypatch.setitem(TABLE_2, "zfnet-without-5", TABLE_2["zfnet"].without("conv5", name="zfnet-without-5"))
    store(results, "zfnet-without-5", 0, train_top1=60.0, val_top1=70.0, val_top5=40.0)
    found = table1_2.table2("tiny")
    row = found.table.rows[-1]
    assert (row["network"], row["ours_val1"]) == ("`zfnet-without-5`: added here", "70.0")
    assert row["paper_val1"] is None and table1_2.depth_and_width(found.points).axes[0].lines[1].get_xdata() == [7]


def test_table_1_takes_single_networks_and_recorded_ensembles(results):
    store(results, "zfnet", 0, val_top1=70.0, val_top5=40.0)
    rows = table1_2.table1("tiny").table.rows
    assert [row["ours_val1"] for row in rows] == ["not run", "70.0 (+31.6)", "not run", "not run", "not run"]
    assert [row["paper_val5"] for row in rows] == [18.1, 16.5, 15.3, 16.0, 14.7]


def test_what_was_not_run_comes_with_its_command(results):
    store(results, "zfnet", 0, val_top1=70.0)
    missing = {row["network"]: row["command"] for row in table1_2.missing_table("tiny").rows}
    assert missing.keys() == (TABLE_2 | STEMS).keys() - {"zfnet"}
    assert missing["krizhevsky-7x7"] == ("`zfnet train krizhevsky-7x7 --data tiny-imagenet --recipe tiny --resume`")
    assert table1_2.missing_table("smoke").rows == []


def test_curves_come_from_the_records_of_epochs(results):
    path = results / "trainings" / "zfnet-clip-none-tiny-imagenet-tiny-seed0.jsonl"
    path.parent.mkdir(parents=True)
    epoch = {"epoch": 1, "loss": 5.1, "top1": 97.0, "seconds": 60, "rms": {"conv1": [0.01, 0.2]}}
    epoch["plateau_left"] = 312
    line = {
        "training": path.stem, "data": "tiny-imagenet train", "epoch": epoch,
        "provenance": {"device": "a processor", "commit": "0123456789abcdef"},
    }  # fmt: skip
    path.write_text(json.dumps(line) + "\n")
    found = curves.training("tiny")
    assert found.epochs["zfnet, not renormalised"] == [epoch]
    assert found.epochs["zfnet"] == []
    assert [row["left"] for row in found.plateaus.rows] == ["not run", "not run", 312]
    assert "a processor" in table1_2.basis("tiny")
    loss, left, right = curves.curves(found.epochs, found.classes).axes
    assert [line.get_ydata()[0] for line in loss.lines] == [5.1, pytest.approx(5.298, abs=1e-3)]
    assert [line.get_ydata()[0] for line in left.lines] == [97.0]
    assert right.lines[0].get_ydata()[0] == 0.2
    assert "not run" in [text.get_text() for text in curves.curves({"zfnet": []}, 200).axes[0].texts]


def test_the_plot_shows_the_paper_and_what_was_run():
    points = [
        {"name": "a", "layers": 8, "parameters": 100, "paper": 38.4, "ours": 70.0},
        {"name": "b", "layers": 4, "parameters": 10, "paper": 71.3, "ours": None},
    ]
    depth, width = table1_2.depth_and_width(points).axes
    assert [list(line.get_xdata()) for line in depth.lines] == [[8, 4], [8]]
    assert [list(line.get_ydata()) for line in width.lines] == [[38.4, 71.3], [70.0]]


def test_precisions_are_compared_as_far_as_both_went(results):
    assert "--precision float32" in curves.precisions("tiny").rows[0]["command"]
    for name, losses in (("zfnet", (5.1, 4.7)), ("zfnet-precision-float32", (5.2,))):
        path = results / "trainings" / f"{name}-tiny-imagenet-tiny-seed0.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        epochs = [{"epoch": n, "loss": loss, "top1": 97.0, "plateau_left": 400} for n, loss in enumerate(losses, 1)]
        path.write_text("".join(json.dumps({"epoch": epoch}) + "\n" for epoch in epochs))
    (row,) = curves.precisions("tiny").rows
    assert (row["epoch"], row["bfloat16 loss"], row["float32 loss"]) == (1, 5.1, 5.2)


def test_the_contest_is_decided_only_with_a_known_spread(results):
    assert table1_2.contest("tiny").startswith("Not run")
    store(results, "zfnet", 0, val_top1=62.0)
    store(results, "krizhevsky", 0, val_top1=64.0)
    assert "`zfnet` is 2.0 points better. With one training" in table1_2.contest("tiny")
    for seed, (ours, theirs) in enumerate([(62.2, 64.2), (61.8, 63.8)], 1):
        store(results, "zfnet", seed, val_top1=ours)
        store(results, "krizhevsky", seed, val_top1=theirs)
    assert "That is more than twice the spread of such a difference, 0.3 points" in table1_2.contest("tiny")
    store(results, "krizhevsky", 3, val_top1=50.0)
    assert "That is no more than twice" in table1_2.contest("tiny")
