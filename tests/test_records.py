"""Records: one JSON line a number, with where it comes from; and what notebooks show of them."""

import json
import shutil
import subprocess
from dataclasses import replace

import IPython.display
import myst_nb
import myst_nb.ext.glue
import pytest

from zfnet_lib.files import PACKAGE, PROJECT, ZfnetError
from zfnet_lib.paper import records
from zfnet_lib.paper.records import Provenance, Record, Sentence, Table, benchmark

MADE = Provenance("0123456789abcdef", False, {"python": "3.11", "torch": "2.9"}, "a processor", 3, 1.0)
RECORD = Record("bench-norm", "after pool1", 3.0, "times as fast as torch", MADE, n=7, spread=0.5)


def test_records_survive_the_file(tmp_path):
    path = tmp_path / "results" / "test.jsonl"
    assert records.read(path) == []
    kept = [replace(RECORD, value=value) for value in (1.0, 2.0, 3.0)]
    records.append(path, kept[:1])
    records.append(path, kept[1:])
    assert records.read(path) == kept
    assert len(path.read_text().splitlines()) == 3
    records.store(path, kept[2:])
    assert records.read(path) == kept[2:]


@pytest.mark.parametrize("line", ["{", "{}", '{"experiment": 1, "provenance": {}}', "[]"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "test.jsonl"
    records.append(path, [RECORD])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ZfnetError, match=r"test\.jsonl is damaged .*restore it, or remove test\.jsonl\.sha256 if"):
        records.read(path)
    (tmp_path / "test.jsonl.sha256").unlink()
    with pytest.raises(ZfnetError, match="line 2 is no record"):
        records.read(path)


def test_provenance_says_where_a_number_comes_from(tmp_path, monkeypatch):
    made = records.Stopwatch().provenance(seed=3)
    assert made.versions.keys() == {"python", "torch"} and "thread" in made.device
    assert made.seed == 3 and made.seconds >= 0 and json.dumps(made.versions)
    records.store(tmp_path / "own.jsonl", [replace(RECORD, provenance=made)])
    assert records.is_fresh(tmp_path / "own.jsonl") == bool(made.commit and not made.dirty)
    clean = replace(made, commit="c0ffee", dirty=False)
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: clean)
    for dirty in (False, True):  # what was undone since has left its numbers
        records.store(tmp_path / "own.jsonl", [replace(RECORD, provenance=replace(clean, dirty=dirty))])
        assert records.is_fresh(tmp_path / "own.jsonl") == (not dirty)
    records.store(tmp_path / "other.jsonl", [RECORD])
    assert not records.is_fresh(tmp_path / "other.jsonl") and not records.is_fresh(tmp_path / "none.jsonl")


def test_the_commit_is_that_of_this_package_and_not_of_a_repository_around_it(monkeypatch):
    asked = ["git", "-C", str(PACKAGE), "rev-parse", "HEAD"]
    head = subprocess.run(asked, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""
    assert records._git_state.__wrapped__()[0] == head  # what is remembered may be of a moment before
    monkeypatch.setattr(records, "PACKAGE", PROJECT / "tests")  # as if installed there
    assert records._git_state.__wrapped__() == ("", False)


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ([38.4, 40.0], ["38.4", "40.0"]),
        ([0.1234, 2.0, None], ["0.1234", "2.000", ""]),
        ([63.356, 0.0123, 0.0], ["63.36", "0.0123", "0.0000"]),
        ([1e-9, float("nan"), 1.5], ["1e-09", "nan", "1.5"]),
        ([62357608, True, "conv1"], ["62,357,608", "yes", "conv1"]),
    ],
)
def test_a_table_writes_its_values(values, cells):
    table = Table({"layer": "Layer", "error": "Error, %"}, [{"error": value} for value in values], "Ours.")
    lines = table.markdown().splitlines()
    assert lines[:2] == ["| Layer | Error, % |", "|:---|---:|"]
    assert lines[2:] == [*(f"|  | {cell} |" for cell in cells), "", "*Ours.*"]


def test_a_sentence_reaches_the_prose_as_myst_nb_hands_it_on(monkeypatch):
    shown = []
    for module, name in ((IPython.display, "display"), (myst_nb.ext.glue, "ipy_display")):
        monkeypatch.setattr(module, name, lambda *data, **how: shown.append((data, how)))
    assert Sentence("")._repr_markdown_() == ""
    sentence = Sentence("`zfnet` beats 'krizhevsky'.")
    sentence.glue("contest")
    myst_nb.glue("contest", sentence.replace("`", ""), display=False)
    assert shown[0] == shown[1] and "zfnet beats" in str(shown)


def test_the_last_measurement_of_each_allocator_is_shown_with_its_range_and_machine(results):
    first, again = (replace(RECORD, value=value, parameters={"allocator": "default"}) for value in (3.0, 4.25))
    tuned = replace(RECORD, value=2.0, parameters={"allocator": "tuned"}, provenance=replace(MADE, dirty=True))
    records.append(results / "tiny/bench/norm.jsonl", [first, tuned, again])
    row, machine = benchmark("norm").rows
    shown = {"default": "4.2 (range 0.5, n = 7)", "tuned": "2.0 (range 0.5, n = 7)"}
    assert row == {"part": "after pool1", "unit": RECORD.unit} | shown
    assert machine["default"] == "a processor, torch 2.9, 0123456789"
    assert machine["tuned"] == "a processor, torch 2.9, 0123456789 and changes"
    (row,) = benchmark("train").rows
    assert row["command"].startswith("`zfnet bench train --json ")
    with pytest.raises(ZfnetError, match="there is no benchmark 'coffee'; known are deconv, "):
        benchmark("coffee")
