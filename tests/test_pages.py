"""A page's claims: which they are, their verdicts counted, and marks that are not read as Markdown."""

from dataclasses import replace

import pytest
from zfnet_lib.paper.claims.ledger import ledger

from zfnet_lib.paper.claims import TESTS, Finding, Number, about, pages


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Empty results: what needs a record has not run."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))


@pytest.mark.parametrize("page", sorted({test.page for test in TESTS.values()}))
def test_a_page_has_its_claims_in_the_paper_s_order(page, results):
    shown = about(page, "tiny")
    wanted = [name for name, test in TESTS.items() if test.page == page]
    assert sorted(entry.claim.id for entry in shown.entries) == sorted(wanted)
    assert shown.entries == ledger("tiny", wanted).entries
    listed = shown.markdown()
    assert listed.count("\n- **") == len(wanted)
    assert all(f"- **{entry.finding.verdict}**: " in listed for entry in shown.entries)


def test_verdicts_are_counted(results):
    first, second, *_ = about("fig2", "tiny").entries
    holding = replace(first, finding=Finding("holds", {"share": Number(0.5, 0.4, 0.6, 12, "%")}, "Few pictures."))
    shown = pages.About((holding, second, second))
    assert shown.summary == "3 claims: holds 1, not run 2."
    assert "  - Ours: share 0.5 (0.4 to 0.6) % (n = 12)\n  - Few pictures.\n" in shown.markdown()
    assert pages.About((holding,)).summary == "1 claim: holds 1."


def test_a_page_without_claims_says_so():
    assert about("browse", "tiny").markdown().strip() == "The paper makes no claim here that is tested."


def test_marks_in_statements_stay_what_they_are():
    assert pages._literal("|<Ax, y>| [n] a*b $5") == r"\|\<Ax, y\>\| \[n\] a\*b \$5"
