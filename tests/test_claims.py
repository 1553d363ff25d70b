"""The claims ledger: three-valued verdicts, stored numbers, the ledger, its command and its page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import import_module
from statistics import stdev
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import curve, record, training

from zfnet_lib.__main__ import main
from zfnet_lib.datasets import open_dataset, pack_in_memory
from zfnet_lib.evaluation import Errors
from zfnet_lib.files import PROJECT
from zfnet_lib.images import FigureError
from zfnet_lib.paper import claims, numbers, records, trainings
from zfnet_lib.paper.claims import finding, showing, stored, verdicts
from zfnet_lib.paper.claims.finding import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE, Number
from zfnet_lib.paper.claims.stored import NotRun, Stored
from zfnet_lib.training import EpochResult

module = import_module("zfnet_lib.paper.claims.ledger")  # the function of that name hides the module


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty folder of results of `tiny`."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    return tmp_path / "tiny"


# ---- finding ------------------------------------------------------------------------------------------------

truths = st.sampled_from([True, False, None])
ends = st.integers(-3, 3)


@given(ends, ends, ends)
def test_above_below_and_at_least_ask_the_whole_interval(a, b, level):
    low, high = min(a, b), max(a, b)
    number = Number((low + high) / 2, low, high)
    inside = [low + (high - low) * step / 8 for step in range(9)]

    def literal(holds):
        kept = {holds(value) for value in inside}
        return kept.pop() if len(kept) == 1 else None

    assert finding.above(number, level) is literal(lambda value: value > level)
    assert finding.below(number, level) is literal(lambda value: value < level)
    assert finding.at_least(number, level) is literal(lambda value: value >= level)


def test_a_number_of_unknown_spread_decides_nothing():
    unknown = Number(100.0, None, None)
    assert {ask(unknown, 1) for ask in (finding.above, finding.below, finding.at_least)} == {None}
    assert finding.apart(unknown, finding.exact(1)) is None
    nothing = Number(float("nan"), float("nan"), float("nan"))
    assert finding.above(nothing, 0) is finding.at_least(nothing, 0) is None


@given(ends, ends, ends, ends)
def test_apart_needs_intervals_that_do_not_touch(a, b, c, d):
    one, other = (Number(0, min(pair), max(pair)) for pair in ((a, b), (c, d)))
    truth = finding.apart(one, other)
    assert (truth is True) == (one.low > other.high)
    assert (truth is False) == (one.low <= other.high and one.high <= other.low)


@given(st.lists(truths, max_size=4))
def test_every_and_some_follow_kleene(found):
    order = {False: 0, None: 1, True: 2}
    assert finding.every(found) is min(found, key=order.get, default=True)
    assert finding.some(found) is max(found, key=order.get, default=False)


@given(truths, truths)
def test_a_claim_between_its_thresholds_is_undecided(holds, fails):
    expected = HOLDS if holds else FAILS if fails else UNDECIDED
    assert finding.verdict(holds, fails) == expected
    assert finding.verdict(holds) == {True: HOLDS, False: FAILS, None: UNDECIDED}[holds]


def test_numbers_are_shown_with_interval_n_and_unit():
    numbers = {"a": Number(1.234567, 1, 2, 5, "%"), "b": Number(3, None, None, 1), "c": finding.exact(2e-8, n=4000)}
    shown = finding.Finding(UNDECIDED, numbers)
    assert shown.shown == "a 1.23 (1 to 2) %; b 3; c 2e-08"
    assert shown.n == "1 to 4,000"
    assert finding.Finding(NOT_RUN, {}).n == ""


# ---- stored -------------------------------------------------------------------------------------------------


def test_numbers_come_by_quantity_and_place_with_their_interval(results):
    found = [
        record("drop", 5.0, "%", n=4, spread=2.0, parameters={"layer": "conv1", "way": "a"}),
        record("drop", 7.0, "%", n=9, parameters={"layer": "conv2", "way": "a", "low": 6.0, "high": 9.0}),
        record("drop", 8.0, n=1, parameters={"layer": "conv3", "way": "b"}),
        record("drop", 9.0, n=9, parameters={"way": "a"}),
    ]
    records.store(results / "x.jsonl", found)
    numbers = Stored("tiny", "x.jsonl", "zfnet x", "an hour").numbers
    by_layer = numbers.by("layer", "drop", way="a")
    assert by_layer == {"conv1": Number(5, 5 - 1.96, 5 + 1.96, 4, "%"), "conv2": Number(7, 6, 9, 9, "%")}
    assert numbers.one("drop", layer="conv3") == Number(8, 8, 8)


@pytest.mark.parametrize("ask", [lambda n: n.one("drop", layer="conv9"), lambda n: n.by("layer", "rise")])
def test_a_number_that_the_record_lacks_is_not_run(results, ask):
    records.store(results / "x.jsonl", [record("drop", 5.0, parameters={"layer": "conv1"})])
    with pytest.raises(NotRun, match=r"^`zfnet x`; an hour; the record at hand holds no '(drop|rise)' \("):
        ask(Stored("tiny", "x.jsonl", "zfnet x", "an hour").numbers)


def test_an_absent_record_names_command_and_cost(results):
    with pytest.raises(NotRun, match=r"^`zfnet x`; an hour$"):
        Stored("tiny", "x.jsonl", "zfnet x", "an hour").numbers  # noqa: B018


def test_measured_bootstraps_the_middle_and_leaves_nan_out():
    values = [*np.random.default_rng(3).normal(10, 2, 400), float("nan")]
    found = stored.measured("drop", values, "%", layer="conv1")
    assert (found.n, found.place) == (400, {"layer": "conv1"})
    half = 1.96 * found.spread / 20
    assert found.value - found.low == pytest.approx(half, rel=0.15)
    assert found.high - found.value == pytest.approx(half, rel=0.15)
    middle = stored.measured("drop", [0, 0, 0, 0, 100], middle=np.median)
    assert (middle.value, middle.low) == (0, 0)
    assert stored.measured("drop", [float("nan")]).n == 0


def test_a_measured_number_survives_its_record(results):
    written = stored.measured("share", [1.0, 2.0, 4.0], "%", layer="conv2")
    made = records.Stopwatch()
    records.store(results / "x.jsonl", [written.record("claim x", "net", "data", made, seed=7)])
    (read,) = records.read(results / "x.jsonl")
    assert (read.experiment, read.spec, read.data, read.provenance.seed) == ("claim x", "net", "data", 7)
    number = Stored("tiny", "x.jsonl").numbers.one("share", layer="conv2")
    assert number == Number(written.value, written.low, written.high, 3, "%")


def test_fewer_trainings_than_three_leave_the_spread_unknown():
    assert stored.difference([3, 5], [1, 1, 1]) == Number(3, None, None, 2)
    some, others = [3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0]
    number = stored.difference(some, others)
    margin = 2 * (stdev(some) ** 2 / 3 + stdev(others) ** 2 / 4) ** 0.5
    assert number == Number(1.5, 1.5 - margin, 1.5 + margin, 3)


def test_errors_and_epochs_are_those_of_all_seeds(results):
    at = Stored("tiny")
    with pytest.raises(
        NotRun, match=r"^`zfnet train zfnet --data tiny-imagenet --recipe tiny`; no training here to"
    ):
        at.errors("zfnet")
    for seed in (0, 2):
        training(results, seed=seed)
    assert at.errors("zfnet") == [dict.fromkeys(("train", "val1", "val5"), 60.0 + seed) for seed in (0, 2)]
    assert len(at.runs("zfnet")) == 2 and len(at.epochs("zfnet")) == 2
    assert at.hours("zfnet") == 2.0
    assert at.learning(720_000) == "about 2.0 h on A processor, 2 threads"
    assert at.learning(7_200) == "minutes on A processor, 2 threads"
    with pytest.raises(NotRun, match=r"`zfnet train krizhevsky .*`; about \d+\.\d h on A processor, 2 threads$"):
        at.errors("krizhevsky")


def test_a_training_on_the_spot_leaves_what_the_ledger_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    pictures = {split: pack_in_memory(open_dataset("shapes", split, n=16), 64) for split in ERRORS}
    monkeypatch.setattr(trainings, "training_data", lambda name, split: pictures[split])
    monkeypatch.setattr(trainings, "train", lambda *a, **k: iter([replace(EPOCH, epoch=n) for n in (1, 2)]))
    monkeypatch.setattr(trainings, "errors", lambda net, data, views, rows: ERRORS[data.split])
    for code in "ab":  # the second training replaces what the first one left
        monkeypatch.setattr(trainings, "library_hash", lambda code=code: code)
        trainings.trained.cache_clear()
        trainings.trained("zfnet", seed=1)
    trainings.trained.cache_clear()
    at = Stored("smoke")
    assert at.errors("zfnet") == [{"train": 10.0, "val1": 20.0, "val5": 5.0}]
    assert [line["epoch"]["epoch"] for line in at.runs("zfnet")[0]] == [1, 2]


EPOCH = EpochResult(1, 64, 0.01, 2.5, None, None, 90.0, 2.0, {"conv1": (0.1, 0.2)}, None, False)
ERRORS = {
    "train": Errors(10.0, 1.0, np.array([10.0]), 4, 1),
    "val": Errors(20.0, 5.0, np.array([20.0]), 4, 1),
}


# ---- ledger -------------------------------------------------------------------------------------------------

KNOWN = list(claims.TESTS)


def test_every_claim_has_a_test():
    assert claims.TESTS.keys() == {claim.id for claim in numbers.claims()}


def test_without_results_only_arithmetic_is_judged_and_the_rest_says_what_it_takes(results):
    found = claims.ledger("tiny")
    assert [entry.claim.id for entry in found.entries] == [claim.id for claim in numbers.claims()]
    for entry in found.entries:
        verdict, note = entry.finding.verdict, entry.finding.note
        assert verdict in claims.VERDICTS
        if verdict == NOT_RUN:
            assert re.search(r"`zfnet \w+", note), entry.claim.id
            assert re.search(r"\d h\b|hour|minute", note), entry.claim.id
            assert (entry.record, entry.basis, entry.finding.numbers) == ("", "", {})
        elif verdict == UNTESTABLE:
            assert note
        else:
            assert entry.basis == "exact arithmetic"
    assert sum(found.counts.values()) == len(KNOWN)
    assert found.resting == sum(entry.finding.verdict in (HOLDS, FAILS, UNDECIDED) for entry in found.entries)


def test_commands_of_what_was_not_run_are_commands(results):
    from zfnet_lib.__main__ import _parser

    for profile in ("smoke", "tiny", "paper"):
        for entry in claims.ledger(profile).entries:
            for command in re.findall(r"`zfnet ([^`]+)`", entry.finding.note):
                if not re.search(r"\b[A-Z]\b|^train$", command):  # `zfnet overlap A B` names no data
                    _parser().parse_args(command.split())


def test_what_rests_on_drawings_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    inside = [
        record("inside", 99.5, "%", n=9, parameters={"bound": bound, "low": 99, "high": 100})
        for bound in (128, 140)
    ]
    top = record("percentile", 120.0, n=9, parameters={"share": 99.9})
    for profile, basis, resting in (("smoke", "drawings", 0), ("tiny", "real pictures", 1)):
        records.store(tmp_path / profile / "claims" / "input-range-128.jsonl", [*inside, top])
        found = claims.ledger(profile, ["input-range-128"])
        (entry,) = found.entries
        assert (entry.finding.verdict, entry.basis, found.resting) == (HOLDS, basis, resting)
        assert entry.record.endswith(f"{profile}/claims/input-range-128.jsonl")
        assert ("test the machinery" in claims.basis(found)) == (profile == "smoke")


@pytest.fixture
def counted(results, monkeypatch):
    """Two claims whose measurement only counts how often it ran, in a checkout without changes."""
    ran = []

    def measuring(name):
        def measure(at):
            ran.append(name)
            yield stored.Measured("answer", 42.0, 41.0, 43.0, 7, place={"layer": "conv1"})

        return measure

    def judge(at):
        number = at.numbers.one("answer", layer="conv1")
        return finding.Finding(finding.verdict(finding.above(number, 40)), {"answer": number})

    for name in COUNTED:
        monkeypatch.setitem(claims.TESTS, name, module.Test(judge, "fig1", measuring(name)))
    made = records.Provenance("c0ffee", False, {}, "a processor", 0, 1.0)
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: made)
    whole = SimpleNamespace(name="drawings", split="val", fingerprint="f", __len__=None)
    monkeypatch.setattr(module, "describe_pictures", lambda dataset: "drawings")
    monkeypatch.setattr(module, "Subject", lambda profile: SimpleNamespace(name="net", seed=0, dataset=whole))
    return ran


COUNTED = ["input-range-128", "projection-similar-to-backprop"]


def test_measuring_keeps_what_this_very_code_measured(counted, results, monkeypatch):
    assert [name for name, _ in claims.measure("tiny", COUNTED)] == sorted(COUNTED, key=KNOWN.index)
    assert claims.ledger("tiny", COUNTED).counts[HOLDS] == 2
    list(claims.measure("tiny", COUNTED))
    assert len(counted) == 2
    changed = records.Provenance("c0ffee", True, {}, "a processor", 0, 1.0)
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: changed)
    claims.ledger("tiny", COUNTED[:1], live=True)
    assert counted[2:] == COUNTED[:1]


def test_a_measurement_that_is_stopped_goes_on_with_the_next_claim(counted, results, monkeypatch):
    first, second = sorted(COUNTED, key=KNOWN.index)
    good = claims.TESTS[second]

    def stopped(at):
        yield stored.Measured("answer", 0.0, 0.0, 0.0, 1)
        raise KeyboardInterrupt

    monkeypatch.setitem(claims.TESTS, second, replace(good, measure=stopped))
    with pytest.raises(KeyboardInterrupt):
        list(claims.measure("tiny", COUNTED))
    assert [path.stem for path in (results / "claims").glob("*.jsonl")] == [first]
    monkeypatch.setitem(claims.TESTS, second, good)
    seconds = dict(claims.measure("tiny", COUNTED))
    assert (seconds[first], seconds[second] > 0) == (0, True)
    assert counted == [first, second]


# ---- command ------------------------------------------------------------------------------------------------


def test_the_command_prints_every_row_and_the_counts(results, capsys, tmp_path):
    curve(results, lambda n: 40.0 if n >= 6 else 20.0)
    names = ["six-images-beat-sixty", "fc-layers-hold-most-parameters", "input-range-128"]
    assert main(["claims", "--profile", "tiny", *names, "--json", str(tmp_path / "out" / "ledger.json")]) == 0
    said = capsys.readouterr().out
    for part in (
        "5.2 Feature Generalization",
        "six-images-beat-sixty: holds",
        "“just 6 Caltech-256 training images",
        "passed with 10 times",
        "(n = 5)",
        "holds if  ratio at least 5",
        "fc-layers-hold-most-parameters: holds",
        "input-range-128: not run",
        "`zfnet claims --profile tiny --live input-range-128`; minutes",
        "holds 2 · does not hold 0 · undecided 0 · not testable here 0 · not run 1",
        "2 of 3 verdicts rest on real pictures or on exact arithmetic.",
    ):
        assert part in " ".join(said.split()) or part in said, part
    assert max(map(len, said.splitlines())) <= showing.WIDTH
    written = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert (written["profile"], written["resting"], written["verdicts"]["holds"]) == ("tiny", 2, 2)
    six = next(row for row in written["claims"] if row["claim"] == "six-images-beat-sixty")
    assert six["numbers"]["pixels (10.0 % with 60 a class), passed with"]["value"] == 60
    assert six["thresholds"]["holds"].startswith("ratio at least 5")


def test_the_ledger_as_json_knows_no_nan(results):
    nothing = stored.measured("inside", [float("nan")])
    found = [nothing.record("claim", "net", "data", records.Stopwatch(), 0)]
    found = [replace(found[0], parameters=found[0].parameters | {"bound": bound}) for bound in (128, 140)]
    found.append(record("percentile", 120.0, parameters={"share": 99.9}))
    records.store(results / "claims" / "input-range-128.jsonl", found)
    written = claims.ledger("tiny", ["input-range-128"]).values()
    assert json.loads(json.dumps(written, allow_nan=False))["claims"][0]["numbers"]["inside ±140"]["value"] is None
    assert written["claims"][0]["verdict"] == UNDECIDED


def test_live_shows_a_line_a_claim(counted, results, capsys):
    for state in ("measured in 1 s", "kept, by this very code"):
        assert main(["claims", "--profile", "tiny", "--live", *COUNTED]) == 0
        said = capsys.readouterr().out
        assert all(f"{name}: {state}" in said and f"{name}: holds" in said for name in COUNTED)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--profile", "huge"], "there is no profile 'huge'; choose one of smoke, tiny, paper"),
        (
            ["--profile", "tiny", "all-is-well"],
            "there is no claim 'all-is-well'; `zfnet claims --profile tiny` lists",
        ),
        (["--profile", "tiny", "--live", "ensemble-gain"], "ensemble-gain rests on no record of its own"),
    ],
)
def test_a_wrong_request_is_one_sentence(results, capsys, words, sentence):
    assert main(["claims", *words]) == 1
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out


def test_a_damaged_record_is_named_with_its_line(results, capsys):
    path = results / "claims" / "input-range-128.jsonl"
    records.store(path, [record("percentile", 1.0)])
    path.write_text(path.read_text() + '{"half": \n')
    path.with_name(f"{path.name}.sha256").unlink()
    assert main(["claims", "--profile", "tiny", "input-range-128"]) == 1
    said = capsys.readouterr().err
    assert f"{path}, line 2 is no record" in said and "restore the file" in said


def test_a_ledger_that_cannot_be_written_is_one_sentence(results, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    words = [
        "claims",
        "--profile",
        "tiny",
        "fc-layers-hold-most-parameters",
        "--json",
        str(tmp_path / "file" / "x"),
    ]
    assert main(words) == 1
    assert "cannot write" in capsys.readouterr().err


# ---- page and figure ----------------------------------------------------------------------------------------


def test_the_page_has_a_table_for_every_section_that_makes_a_claim():
    page = json.loads((PROJECT / "notebooks" / "claims.ipynb").read_text())
    shown = re.findall(r'claims\.table\(ledger, \\?"([\d.]+)\\?"\)', json.dumps(page))
    assert (
        shown == list(showing.SECTIONS) == sorted({claim.section.partition(",")[0] for claim in numbers.claims()})
    )


def test_tables_hold_quote_statistic_number_threshold_and_links(results):
    curve(results, lambda n: 40.0 if n >= 6 else 20.0)
    found = claims.ledger("tiny")
    tables = {section: claims.table(found, section) for section in found.sections}
    assert sum(len(table.rows) for table in tables.values()) == len(KNOWN)
    for table in tables.values():
        lines = table.markdown().splitlines()
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}  # signs in cells are escaped
    row = next(row for row in tables["5.2"].rows if "six-images-beat-sixty" in row["claim"])
    assert "“just 6 Caltech-256 training images" in row["claim"] and "section 5.2, Fig. 7" in row["claim"]
    assert "Smallest number of images per class" in row["test"] and "*Holds*: ratio at least 5" in row["test"]
    assert "passed with: 10 times<br>" in row["ours"] and "<br>n = 5<br>" in row["ours"]
    assert row["verdict"].startswith("**holds**") and row["verdict"].endswith("[fig7](fig7.ipynb)")
    arithmetic = next(row for row in tables["2.1"].rows if "transposed-filters" in row["claim"])
    assert r"\|&lt;Ax, y&gt;" in arithmetic["ours"]


def test_the_figure_counts_every_verdict():
    counts = {"2.1": {"holds": 5, "not run": 2}, "4": {"holds": 0, "undecided": 3}}
    figure = verdicts.by_section(counts)
    (axes,) = figure.axes
    widths = sorted(bar.get_width() for bar in axes.patches)
    assert [width for width in widths if width] == [2, 3, 5]
    assert sorted(text.get_text() for text in axes.texts) == ["2", "3", "5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["section 2.1", "section 4"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(claims.VERDICTS)


@pytest.mark.parametrize("counts", [{}, {"4": {"proven": 1}}])
def test_the_figure_refuses_what_is_no_ledger(counts):
    with pytest.raises(FigureError, match=r"given none|unknown are proven"):
        verdicts.by_section(counts)
