"""The registry of claims: three-valued verdicts, stored numbers, the ledger, its command and its pages."""

import json
import re
from operator import itemgetter
from statistics import stdev
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import curve
from planted import judged, number, plant, plant_seeds, plant_training, record

from zfnet_lib.__main__ import main, zfnet
from zfnet_lib.files import PROJECT
from zfnet_lib.images import FigureError
from zfnet_lib.paper import claims, fig7, records, table1_2, table3_4_6, table5
from zfnet_lib.paper.claims import CLAIMS, evidence, features, registry, training
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE, NotRun, Number, Stored

truths = st.sampled_from([True, False, None])
intervals = st.lists(st.integers(-3, 3), min_size=2, max_size=2).map(lambda ends: Number(0, min(ends), max(ends)))


@given(intervals, intervals, st.integers(-3, 3))
def test_statements_ask_the_whole_interval(one, other, level):
    inside = [one.low + (one.high - one.low) * step / 8 for step in range(9)]

    def literal(holds):
        kept = {holds(value) for value in inside}
        return kept.pop() if len(kept) == 1 else None

    assert evidence.above(one, level) is literal(lambda value: value > level)
    assert evidence.below(one, level) is literal(lambda value: value < level)
    assert evidence.at_least(one, level) is literal(lambda value: value >= level)
    truth = evidence.apart(one, other)
    assert (truth is True) == (one.low > other.high)
    assert (truth is False) == (one.low <= other.high and one.high <= other.low)


def test_numbers_rise_where_their_intervals_are_apart_and_unknown_ones_decide_nothing():
    steps = [number("", value, 0.1) for value in (1, 2, 3)]
    assert [evidence.rising([*steps, number("", value, 0.1)]) for value in (4, 3.1, 2)] == [True, None, False]
    for unknown in (Number(100.0), Number(float("nan"), float("nan"), float("nan"))):
        asked = [ask(unknown, 1) for ask in (evidence.above, evidence.below, evidence.at_least)]
        assert [*asked, evidence.apart(unknown, evidence.exact(1))] == [None] * 4


@given(st.lists(truths, max_size=4), truths, truths)
def test_every_and_some_follow_kleene_and_between_thresholds_is_undecided(found, holds, fails):
    order = {False: 0, None: 1, True: 2}
    assert evidence.every(found) is min(found, key=order.get, default=True)
    assert evidence.some(found) is max(found, key=order.get, default=False)
    assert evidence.verdict(holds, fails) == (HOLDS if holds else FAILS if fails else UNDECIDED)
    assert evidence.verdict(holds) == {True: HOLDS, False: FAILS, None: UNDECIDED}[holds]


def test_numbers_are_shown_with_interval_n_and_unit():
    numbers = {"a": Number(1.234567, 1, 2, 5, "%"), "b": Number(3), "c": evidence.exact(2e-8, n=4000)}
    shown = evidence.Finding(UNDECIDED, numbers)
    assert (shown.shown, shown.n) == ("a 1.23 % (1 to 2); b 3; c 2e-08", "1 to 4,000")


def test_a_bootstrap_interval_is_that_of_the_mean_and_leaves_nan_out():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = evidence.measured("drop", [*values, float("nan")], "%", layer="conv1")
    assert (found.n, found.value, found.place) == (400, pytest.approx(values.mean()), {"layer": "conv1"})
    half = 1.96 * values.std() / 20
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.15)
    middle = evidence.measured("drop", [0, 0, 0, 0, 100], middle=np.median)
    assert (middle.value, middle.low) == (0, 0)
    assert evidence.measured("drop", [float("nan")]).n == 0
    # Units of one map that all say the same are as many as the maps.
    alike, of = np.repeat(values, 9), np.repeat(np.arange(400), 9)
    redrawn = evidence.measured("drop", [*alike, float("nan")], groups=[*of, 400])
    assert redrawn.n == 3600
    assert (redrawn.value - redrawn.low, redrawn.high - redrawn.value) == pytest.approx((half, half), rel=0.15)


def test_fewer_trainings_than_three_leave_the_spread_unknown():
    assert evidence.difference([3, 5], [1, 1, 1])[:4] == (3, None, None, 2)
    some, others = [3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0]
    pooled = ((2 * stdev(some) ** 2 + 3 * stdev(others) ** 2) / 5) ** 0.5
    margin = 2.5706 * pooled * (1 / 3 + 1 / 4) ** 0.5  # Student's t at 5 degrees of freedom
    assert evidence.difference(some, others)[:4] == pytest.approx((1.5, 1.5 - margin, 1.5 + margin, 3), abs=1e-4)
    one = 4.3027 * stdev(some) / 3**0.5
    assert evidence.over_seeds(some, "%")[:4] == pytest.approx((4.0, 4.0 - one, 4.0 + one, 3), abs=1e-3)
    assert evidence.over_seeds(some, least=5) == Number(4.0, n=3)


def test_numbers_come_by_quantity_and_place_with_their_interval(results):
    at = Stored("tiny", "x.jsonl", "`zfnet x`; an hour")
    with pytest.raises(NotRun, match=r"^`zfnet x`; an hour$"):
        at.contents  # noqa: B018
    shares = evidence.measured("share", [1.0, 2.0, 4.0], "%", layer="conv2")
    made = records.Stopwatch().provenance(seed=7)
    found = [
        record("drop", 5.0, "%", n=4, spread=2.0, parameters={"layer": "conv1", "way": "a"}),
        record("drop", 7.0, "%", n=9, parameters={"layer": "conv2", "way": "a", "low": 6.0, "high": 9.0}),
        record("drop", 8.0, n=1, parameters={"layer": "conv3", "way": "b"}),
        record("drop", 9.0, n=9, parameters={"way": "a"}),
        registry.record_of(shares, "x", "net", "data", made, basis="b"),
    ]
    records.store(results / "tiny/x.jsonl", found)
    by_layer = at.by("layer", "drop", way="a")
    assert by_layer == {"conv1": Number(5, 5 - 1.96, 5 + 1.96, 4, "%"), "conv2": Number(7, 6, 9, 9, "%")}
    assert at.one("drop", layer="conv3") == Number(8, 8, 8)
    assert at.one("share", layer="conv2") == Number(*shares[:5])
    read = at.record("share", basis="b")
    assert (read.experiment, read.spec, read.data, read.provenance.seed) == ("claim x", "net", "data", 7)
    for ask in (lambda: at.one("drop", layer="conv9"), lambda: at.by("layer", "rise")):
        with pytest.raises(NotRun, match=r"^`zfnet x`; an hour; the record at hand holds no '(drop|rise)' \("):
            ask()


def test_errors_and_epochs_are_those_of_all_seeds(results):
    at = Stored("tiny")
    command = "`zfnet train zfnet --data tiny-imagenet --recipe tiny`"
    with pytest.raises(NotRun, match=f"^{command}; no training here to"):
        at.errors("zfnet")
    for seed in (0, 2):
        errors = dict.fromkeys(("train", "val1", "val5"), 60.0 + seed)
        plant_training("zfnet", seed, seconds=7200.0, rate=100.0, device="A processor, 2 threads", **errors)
    assert at.errors("zfnet") == [dict.fromkeys(("train", "val1", "val5"), 60.0 + seed) for seed in (0, 2)]
    assert len(at.runs("zfnet")) == 2 and len(at.epochs("zfnet")) == 1
    with pytest.raises(NotRun, match=r"`zfnet train krizhevsky .*`; about 2\.2 h on A processor, 2 threads$"):
        at.errors("krizhevsky")  # 12 epochs of 100,000 pictures, 65 % of the work, at 100 pictures a second
    plant_training("krizhevsky", rate=1000.0, device="a GPU")
    with pytest.raises(NotRun, match=r"; about 30 minutes on a GPU or 3\.3 h on A processor, 2 threads$"):
        at.errors("zfnet", clip="none")


def test_the_spread_between_seeds_is_that_of_all_networks_that_have_several(results):
    at, top5 = Stored("tiny"), itemgetter("val5")
    plant_seeds("zfnet", [20.0])
    spread, told = at.spread(top5)
    assert spread.margin((1, 1)) is None and "the spread between seeds is unknown" in told
    plant_seeds("zfnet", [20.0, 22.0])
    plant_seeds("krizhevsky", [30.0, 33.0, 33.0], clip="none")
    plant_seeds("krizhevsky", [50.0])
    spread, told = at.spread(top5)
    assert spread == pytest.approx((((2 + 6) / 3) ** 0.5, 3))  # squares about each network's own mean
    assert "points, pooled over `krizhevsky-clip-none` 1.73 (n = 3), `zfnet` 1.41 (n = 2)." in told
    assert "To be trained next: `zfnet train zfnet --data tiny-imagenet --recipe tiny --clip none`; about" in told
    less = training.lead(at, "krizhevsky", "zfnet")
    margin = 3.1824 * (8 / 3) ** 0.5 * (1 + 1 / 2) ** 0.5
    assert less[:4] == pytest.approx((29.0, 29.0 - margin, 29.0 + margin, 1), abs=1e-3)


def test_an_interval_with_a_pooled_spread_covers_the_truth_in_95_of_100_cases():
    draws = np.random.default_rng(0).normal(0, 1, (4000, 5))
    covered = 0
    for twice, again, other in zip(*(draws[:, part] for part in (slice(2), [2, 3], [4])), strict=True):
        spread = records.pooled([twice, again, other])
        covered += abs(other.mean() - twice.mean()) <= spread.margin((1, 1), (-1, 2))
    assert 0.94 < covered / 4000 < 0.96


def test_stored_records_hold_what_claims_ask_for_and_whatever_holds_names_its_control():
    rows = claims.ledger("tiny").rows
    assert not [found.note for _, found in rows if "the record at hand holds no" in found.note]
    holding = [claim for claim, found in rows if found.verdict == HOLDS]
    assert len(holding) > 9 and not [claim.id for claim in holding if not claim.control]


ENTRY = {
    "section": "4.1",
    "page": "fig1",
    "quote": "the answer is\n42",
    "statement": "It is 42.",
    "evidence": "A number.",
    "statistic": "The answer.",
    "thresholds": {"least": 40, "tiny": 1e-5},
    "holds": "above {least} by {tiny}",
    "fails": "at most {least}",
    "control": "what chance gives, {least}",
    "changed": [{"date": "2014-09-06", "gave": "undecided", "was": "above 41.", "why": "The paper says 40."}],
    "numbers": [{"of": "answer", "where": {"layer": "conv1"}, "holds": "> least"}],
    "measure": "training.answering",
}


@pytest.fixture
def added(results, monkeypatch):
    """One more claim, whose measurement only counts how often it ran, in a checkout without changes."""
    ran = []

    def answering(at):
        ran.append("the-answer")
        yield number("answer", 42, 1, layer="conv1")

    module = registry.import_module("zfnet_lib.paper.claims.training")
    monkeypatch.setattr(module, "answering", answering, raising=False)
    monkeypatch.setitem(CLAIMS, "the-answer", registry.claim_of("the-answer", ENTRY))
    made = records.Provenance("c0ffee", False, {}, "a processor", 0, 1.0)
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: made)
    pictures = SimpleNamespace(name="drawings", split="val", fingerprint="f")
    monkeypatch.setattr(registry, "describe_pictures", lambda dataset: "drawings")
    monkeypatch.setattr(registry, "Subject", lambda profile: SimpleNamespace(name="net", seed=0, dataset=pictures))
    return ran


def test_one_entry_adds_a_claim(added, capsys):
    for state in ("measured in 1 s", "kept, by this very code"):
        assert main(["claims", "--profile", "tiny", "--live", "the-answer"]) == 0
        said = capsys.readouterr().out
        assert f"the-answer: {state}" in said and "the-answer: holds" in said
        assert "“the answer is 42”" in said and "answer 42 (41 to 43) (n = 9)" in said
        assert "holds if  above 40 by 1e-5" in said and "control   what chance gives, 40" in said
        assert "changed   2014-09-06: The paper says 40. Before: above 41. That gave: undecided." in said
    assert added == ["the-answer"]
    whole = claims.ledger("tiny")
    assert whole.rows[-1][0].id == "the-answer" and "the-answer" in whole.of("4.1").markdown()
    assert 'holds">holds</span> It is 42. *answer 42 (41 to 43)' in claims.about("fig1", "tiny").markdown()


def test_measuring_goes_on_where_it_was_stopped_and_begins_anew_with_other_code(added, results, monkeypatch):
    names, measuring = ["input-range-128", "the-answer"], CLAIMS["the-answer"].measure

    def stopped(at):
        yield number("answer", 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(CLAIMS[names[0]], "measure", measuring)
    monkeypatch.setattr(CLAIMS[names[1]], "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(claims.measure("tiny", names))
    assert [path.stem for path in (results / "tiny/claims").glob("*.jsonl")] == names[:1]
    monkeypatch.setattr(CLAIMS[names[1]], "measure", measuring)
    assert dict(claims.measure("tiny", names)) == {names[0]: 0, names[1]: 1}
    changed = records.Provenance("c0ffee", True, {}, "a processor", 0, 1.0)
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: changed)
    list(claims.measure("tiny", names[:1]))
    assert len(added) == 3


def test_every_claim_says_what_makes_its_record_and_takes_its_thresholds():
    assert len(CLAIMS) == 60
    needed = {"id", "first", "section", "quote", "statement", "evidence", "statistic", "holds", "fails"}
    for claim in CLAIMS.values():
        assert vars(claim).keys() == needed | registry.DEFAULTS.keys(), claim.id
        stored = claim.stored("tiny")
        assert stored.again.startswith("`zfnet ") and "{" not in stored.path + stored.again
        assert (stored.path == f"claims/{claim.id}.jsonl") == bool(claim.measure)
        assert all("{" not in sentence for sentence in claim.verdicts.values())
        assert (PROJECT / "notebooks" / f"{claim.page}.ipynb").exists()
        assert bool(claim.judge) != bool(claim.numbers)
        for row in claim.numbers:
            verdicts = ("holds", "fails", "unless")
            assert {"of"} <= row.keys() <= {"of", "name", "where", "than", "exact", "hidden", *verdicts}
            asked = re.findall(r"[a-z]+", " ".join(row.get(key, "") for key in verdicts))
            other = ("value", "high", "interval") if "than" in row else ()
            assert {*asked} <= {"all", "rising", "falling", "side", *other, *claim.thresholds}, claim.id


def test_how_many_standard_errors_are_clear_is_written_once():
    said = [text for entry in registry.ENTRIES.values() for text in entry.values() if isinstance(text, str)]
    assert not [text for text in said if re.search(r"\d standard error", text)]
    assert "by 2 standard errors" in CLAIMS["jumps-are-image-changes"].verdicts["holds"]
    half = evidence.exact(50.0, "%", 98)  # 50 of 100, with the two that are added
    lead = features.lead_of_share(half, half)
    assert lead.high - lead.value == pytest.approx(2 * 100 * (2 * 0.25 / 98) ** 0.5)


@pytest.mark.parametrize("profile", ["smoke", "tiny", "paper"])
def test_without_results_only_arithmetic_is_judged_and_the_rest_says_what_it_takes(profile, results):
    found = claims.ledger(profile)
    assert [claim.id for claim, _ in found.rows] == list(CLAIMS)
    for claim, finding in found.rows:
        if finding.verdict == NOT_RUN:
            said = re.search(r"`zfnet \w+", finding.note) and re.search(r"\d h\b|hour|minute", finding.note)
            assert said and (finding.record, finding.basis, finding.numbers) == ("", "", {}), claim.id
        elif finding.verdict == UNTESTABLE:
            assert finding.note
        else:
            assert finding.basis == "exact arithmetic"
        for command in re.findall(r"`zfnet ([^`]+)`", finding.note):
            if not re.search(r"\b[A-Z]\b|^train$", command):  # `zfnet overlap A B` names no data
                name, *words = command.split()
                zfnet.commands[name].make_context(name, words)
    assert sum(found.counts.values()) == len(CLAIMS)
    assert found.resting == sum(found.counts[word] for word in (HOLDS, FAILS, UNDECIDED))


RANGE = [*(number("inside", 99.5, 0.2, bound=n) for n in (128, 140)), number("percentile", 120.0, share=99.9)]


@pytest.mark.parametrize(("profile", "basis", "resting"), [("smoke", "drawings", 0), ("tiny", "real pictures", 1)])
def test_what_rests_on_drawings_does_not_count(profile, basis, resting, results):
    found = judged("input-range-128", *RANGE, profile=profile)
    assert (found.verdict, found.basis) == (HOLDS, basis)
    assert found.record.endswith(f"{profile}/claims/input-range-128.jsonl")
    ledger = claims.ledger(profile, ["input-range-128"])
    assert ledger.resting == resting and ("test the machinery" in claims.basis(ledger)) == (profile == "smoke")


def test_the_command_prints_every_row_and_the_counts(results, capsys, tmp_path):
    curve(lambda n: 40.0 if n >= 6 else 20.0)
    names = ["six-images-beat-sixty", "fc-layers-hold-most-parameters", "input-range-128"]
    assert main(["claims", "--profile", "tiny", *names, "--json", str(tmp_path / "out" / "ledger.json")]) == 0
    said = capsys.readouterr().out
    for part in (
        "5.2 Feature Generalization",
        "six-images-beat-sixty: holds",
        "is passed with 10 times fewer pictures",
        "fc-layers-hold-most-parameters: holds",
        "input-range-128: not run",
        "`zfnet claims --profile tiny --live input-range-128`; minutes",
        "holds 2 · does not hold 0 · undecided 0 · not testable here 0 · not run 1",
        "2 of 3 verdicts rest on real pictures or on exact arithmetic.",
    ):
        assert part in " ".join(said.split()) or part in said, part
    assert max(map(len, said.splitlines())) <= registry.WIDTH
    written = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert (written["profile"], written["resting"], written["verdicts"]["holds"]) == ("tiny", 2, 2)
    six = next(row for row in written["claims"] if row["claim"] == "six-images-beat-sixty")
    assert six["numbers"]["pixels with 60 a class (10.0 %) is passed with"]["value"] == 60
    assert six["thresholds"]["holds"].startswith("ratio at least 5")


def test_the_ledger_as_json_knows_no_nan(results):
    nothing = [evidence.measured("inside", [float("nan")], bound=bound) for bound in (128, 140)]
    assert judged("input-range-128", *nothing, RANGE[-1]).verdict == UNDECIDED
    written = claims.ledger("tiny", ["input-range-128"]).values()
    assert json.loads(json.dumps(written, allow_nan=False))["claims"][0]["numbers"]["inside ±140"]["value"] is None


def test_a_wrong_request_or_a_damaged_record_is_one_sentence(results, capsys, tmp_path):
    path = results / "tiny/claims/input-range-128.jsonl"
    records.store(path, [record("percentile", 1.0)])
    path.write_text(path.read_text() + '{"half": \n')
    path.with_name(f"{path.name}.sha256").unlink()
    (tmp_path / "file").write_text("")
    for words, sentence in {
        "huge": "there is no profile 'huge'; choose one of smoke, tiny, paper",
        "tiny all-is-well": "there is no claim 'all-is-well'; `zfnet claims --profile tiny` lists",
        "tiny --live ensemble-gain": "ensemble-gain rests on no record of its own",
        "tiny input-range-128": f"{path}, line 2 is no record",
        f"tiny fc-layers-hold-most-parameters --json {tmp_path}/file/x": "cannot write",
    }.items():
        assert main(["claims", "--profile", *words.split()]) == 1
        said = capsys.readouterr()
        assert sentence in said.err and said.err.count("\n") == 1


def test_a_row_shows_verdict_claim_deciding_number_and_link_and_folds_the_rest_away(results):
    page = json.loads((PROJECT / "notebooks" / "claims.ipynb").read_text())
    shown = re.findall(r'ledger\.of\(\\?"([\d.]+)\\?"\)', json.dumps(page))
    curve(lambda n: 40.0 if n >= 6 else 20.0)
    found = claims.ledger("tiny")
    assert shown == list(registry.SECTIONS) == found.sections
    parts = {section: found.of(section).markdown() for section in shown}
    assert sum(part.count('<div class="claim">') for part in parts.values()) == len(CLAIMS)
    assert all(part.count("<details>") == part.count("</details></div>") for part in parts.values())
    row = next(row for row in parts["5.2"].split('<div class="claim">') if "`six-images-beat-sixty`" in row)
    open_, folded = row.split("<details>")
    assert '<span class="verdict holds">holds</span>' in open_ and "[fig7](fig7.ipynb)" in open_
    assert "is passed with 10 times fewer pictures" in open_ and "Smallest number" not in open_
    assert "“just 6 Caltech-256 training images" in folded and "(section 5.2, Fig. 7)" in folded
    assert "*Test*: Smallest number of images per class" in folded and "*Holds*: ratio at least 5" in folded
    assert "(fig7.ipynb)" not in claims.about("fig7", "tiny").markdown()  # a page does not point to itself


def test_verdicts_of_a_page_are_counted_and_marks_stay_what_they_are(results, monkeypatch):
    (claim, _), (other, unrun), *_ = claims.about("fig2", "tiny").rows
    monkeypatch.setattr(claim, "statement", "|<Ax, y>| [n] a*b $5")
    holding = evidence.Finding(HOLDS, {"|share>": Number(0.5, 0.4, 0.6, 12, "%")}, "Few pictures.")
    rows = ((claim, holding), (other, unrun), (other, unrun))
    shown, one, none = (registry.Ledger("tiny", rows[:n]).markdown() for n in (3, 1, 0))
    assert shown.startswith("3 claims: holds 1, not run 2.") and shown.count('run">not run</span>') == 2
    assert "- *Ours*: \\|share\\> 0.5 % (0.4 to 0.6) (n = 12)\n- *Note*: Few pictures.\n" in shown
    assert r"holds</span> \|\<Ax, y\>\| \[n\] a\*b \$5 *\|share\> 0.5 % (0.4 to 0.6).*" in shown
    assert one.startswith("1 claim: holds 1.") and "no claim here" in none


def test_verdicts_stand_in_the_ledger_alone():
    """A headline or a page that judged a claim itself could contradict the ledger below it."""
    verdict = re.compile(f"{FAILS}|{UNDECIDED}|{UNTESTABLE}|claims? holds?|[*(]{HOLDS}[*)]")
    tables = [table3_4_6.table3, table3_4_6.table4, table5.table5, table3_4_6.table6, fig7.fig7]
    said = {table.__name__: table("tiny").verdict for table in tables} | {"contest": table1_2.contest("tiny")}
    for page in (PROJECT / "notebooks").glob("*.ipynb"):
        cells = json.loads(page.read_text())["cells"]
        said[page.stem] = "\n".join("".join(one["source"]) for one in cells if one["cell_type"] == "markdown")
    said |= {page.name: page.read_text() for page in (PROJECT / "book").glob("*.md")}
    del said["claims"], said["intro.md"]  # which explain what the words mean
    assert {page: found for page, text in said.items() if (found := verdict.findall(text))} == {}


def test_what_decides_is_the_number_that_makes_the_verdict(results):
    share = {"of": "share", "name": "{layer}"}
    entry = [share | {"where": {"layer": ["conv1", "conv2"]}, "holds": "> bar", "fails": "< low"}]
    entry.append(share | {"where": {"layer": "conv2"}, "unless": "> high"})
    for second, verdict, decided in (
        (70, HOLDS, "conv1 60 % (59 to 61); bar > 50"),
        (95, UNDECIDED, "conv2 95 % (94 to 96); bar > 90"),
        (50, UNDECIDED, "conv2 50 % (49 to 51); bar > 50"),
        (40, UNDECIDED, "conv2 40 % (39 to 41); bar > 50"),
        (20, FAILS, "conv2 20 % (19 to 21); bar < 30"),
    ):
        layers = (("conv1", 60), ("conv2", second))
        plant(results / "tiny/x.jsonl", [number("share", value, 1, "%", layer=layer) for layer, value in layers])
        found = evidence.compared(entry, Stored("tiny", "x.jsonl"), bar=50, low=30, high=90)
        assert (found.verdict, found.deciding) == (verdict, decided)


def test_the_figure_counts_every_verdict(results):
    whole = claims.ledger("tiny")
    (axes,) = claims.figure(whole).axes
    by_section = [list(whole.of(section).counts.values()) for section in whole.sections]
    counts = [n for of_verdict in zip(*by_section, strict=True) for n in of_verdict]
    assert [bar.get_width() for bar in axes.patches] == counts
    assert [text.get_text() for text in axes.texts] == [str(n or "") for n in counts]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"section {each}" for each in whole.sections]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(evidence.VERDICTS)
    with pytest.raises(FigureError, match="at least one section"):
        claims.figure(registry.Ledger("tiny", ()))
