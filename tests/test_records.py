"""Records: one JSON line a number, with where it comes from."""

import json

import pytest

from zfnet_lib.files import ZfnetError
from zfnet_lib.paper import records


def a_record(value=1.5):
    return records.Record("test", "height", value, "m", records.Stopwatch().provenance(seed=3), n=2, spread=0.1)


def test_records_survive_the_file(tmp_path):
    path = tmp_path / "results" / "test.jsonl"
    records.append(path, [a_record(1.0)])
    records.append(path, [a_record(2.0), a_record(3.0)])
    assert [record.value for record in records.read(path)] == [1.0, 2.0, 3.0]
    assert records.read(path)[0].provenance.seed == 3
    assert len(path.read_text().splitlines()) == 3


def test_an_absent_file_has_no_records(tmp_path):
    assert records.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("line", ["{", "{}", '{"experiment": 1, "provenance": {}}', "[]"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "test.jsonl"
    records.append(path, [a_record()])
    path.write_text(path.read_text() + line + "\n")
    (tmp_path / "test.jsonl.sha256").unlink()
    with pytest.raises(ZfnetError, match="line 2 is no record"):
        records.read(path)


def test_provenance_says_where_a_number_comes_from():
    made = records.Stopwatch().provenance()
    assert made.versions.keys() == {"python", "torch"}
    assert "threads" in made.device
    assert made.seconds >= 0
    assert json.dumps(made.versions)
