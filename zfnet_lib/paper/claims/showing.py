"""The ledger as readers see it: lines of text for the command, tables for the book."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from ..records import Sentence, Table
from .finding import FAILS, HOLDS
from .ledger import Entry, Ledger

WIDTH = 110
"""Characters of a line."""

SECTIONS = {
    "2.1": "Visualization with a Deconvnet",
    "3": "Training Details",
    "4": "Convnet Visualization",
    "4.1": "Architecture Selection",
    "4.2": "Occlusion Sensitivity",
    "5.1": "ImageNet 2012",
    "5.2": "Feature Generalization",
    "5.3": "Feature Analysis",
    "6": "Discussion",
}
"""The paper's headings."""

MACHINERY = "Narrow networks, trained for seconds on drawings: they test the machinery, not the paper."


def report(ledger: Ledger) -> Iterator[str]:
    """Yield the ledger as lines of text, section by section, then how many claims have each verdict."""
    for section in ledger.sections:
        yield f"{section} {SECTIONS[section]}"
        for entry in ledger.of(section):
            yield ""
            yield from _lines(entry)
        yield ""
    yield " · ".join(f"{verdict} {count}" for verdict, count in ledger.counts.items())
    yield basis(ledger)


def basis(ledger: Ledger) -> Sentence:
    """Say how many verdicts rest on real pictures or exact arithmetic."""
    said = f"{ledger.resting} of {len(ledger.entries)} verdicts rest on real pictures or on exact arithmetic."
    return Sentence(f"{said} {MACHINERY}" if ledger.profile == "smoke" else said)


def table(ledger: Ledger, section: str) -> Table:
    """Return the claims that a section makes first, as a table for the book.

    Args:
        ledger: All claims.
        section: Of the paper, such as `2.1`.
    """
    columns = {"claim": "The paper", "verdict": "Verdict", "ours": "Ours", "test": "Tested"}
    rows = [
        {"claim": _claim(entry), "verdict": _verdict(entry), "ours": _ours(entry), "test": _test(entry)}
        for entry in ledger.of(section)
    ]
    return Table(columns, rows)


def _lines(entry: Entry) -> Iterator[str]:
    claim, finding = entry.claim, entry.finding
    yield f"  {claim.id}: {finding.verdict}"
    parts = {
        "claim": f"“{claim.quote}”",
        "ours": f"{finding.shown} (n = {finding.n})" if finding.numbers else "",
        "holds if": claim.verdicts[HOLDS],
        "paper": f"its own numbers are {entry.consistent}: {entry.printed.arithmetic}" if entry.printed else "",
        "note": finding.note,
        "record": entry.record,
    }
    for title, text in parts.items():
        if text:
            yield from wrap(text, WIDTH, initial_indent=f"    {title:9} ", subsequent_indent=" " * 14)


def _claim(entry: Entry) -> str:
    where = f"section {entry.claim.section}" + (f", {entry.claim.place}" if entry.claim.place else "")
    return f"“{cell_text(entry.claim.quote)}” ({where}; `{entry.claim.id}`)"


def _test(entry: Entry) -> str:
    thresholds = [f"*{word.capitalize()}*: {cell_text(entry.claim.verdicts[word])}." for word in (HOLDS, FAILS)]
    return "<br>".join([cell_text(entry.claim.statistic), *thresholds])


def _ours(entry: Entry) -> str:
    lines = [cell_text(f"{name}: {number}") for name, number in entry.finding.numbers.items()]
    lines += [f"n = {entry.finding.n}"] if lines else []
    lines += [cell_text(entry.finding.note)] if entry.finding.note else []
    return "<br>".join([*lines, *([f"`{entry.record}`"] if entry.record else [])])


def _verdict(entry: Entry) -> str:
    lines = [f"**{entry.finding.verdict}**"]
    if entry.printed:
        lines.append(f"The paper's own numbers: {entry.consistent} ({cell_text(entry.printed.arithmetic)})")
    if entry.page:
        lines.append(f"[{entry.page}]({entry.page}.ipynb)")
    return "<br>".join(lines)


def cell_text(text: str) -> str:
    """Return text as it has to stand in a cell of a Markdown table.

    Example:
        >>> cell_text("|<Ax, y>| & more")
        '\\\\|&lt;Ax, y&gt;\\\\| &amp; more'
    """
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", r"\|"), ("*", r"\*")):
        text = text.replace(sign, written)
    return text
