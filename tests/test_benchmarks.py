"""The page of benchmarks: stored records only, the last of each kind, and no result without its machine."""

from dataclasses import replace

import pytest

from zfnet_lib.files import ZfnetError
from zfnet_lib.paper import benchmarks, records
from zfnet_lib.paper.records import Provenance, Record

MADE = Provenance("0123456789abcdef", False, {"python": "3.11", "torch": "2.9"}, "a processor", 0, 1.0)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Store one benchmark: measured twice with the default allocator, once with the tuned one."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    ratio = Record("bench-norm", "after pool1", 3.0, "times as fast as torch", MADE, n=7, spread=0.5)
    first, again = (replace(ratio, value=value, parameters={"allocator": "default"}) for value in (3.0, 4.25))
    tuned = replace(ratio, value=2.0, parameters={"allocator": "tuned"}, provenance=replace(MADE, dirty=True))
    records.append(tmp_path / "tiny" / "bench" / "norm.jsonl", [first, tuned, again])


@pytest.mark.usefixtures("measured")
def test_the_last_measurement_of_each_allocator_is_shown_with_its_range():
    row, machine = benchmarks.benchmark("norm").rows
    assert row["part"] == "after pool1"
    assert row["default"] == "4.2 (range 0.5, n = 7)"
    assert row["tuned"] == "2.0 (range 0.5, n = 7)"
    assert machine["default"] == "a processor, torch 2.9, 0123456789"
    assert machine["tuned"] == "a processor, torch 2.9, 0123456789 and changes"


@pytest.mark.usefixtures("measured")
def test_what_has_not_run_is_a_command():
    (row,) = benchmarks.benchmark("train").rows
    assert row["command"].startswith("`zfnet bench train --json ")


def test_an_unknown_benchmark_is_named():
    with pytest.raises(ZfnetError, match="there is no benchmark 'coffee'; known are deconv, "):
        benchmarks.benchmark("coffee")
