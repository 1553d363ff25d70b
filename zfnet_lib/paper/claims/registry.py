"""The registry of the paper's claims (`claims.toml`): judging them by records, measuring, and the ledger shown."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from math import isfinite
from textwrap import wrap
from types import SimpleNamespace
from typing import Any

from ...files import PROJECT, ZfnetError
from ...images import FigureError
from ...weights import weights_hash
from .. import plots, records
from ..records import Record, Sentence, Stopwatch
from ..setting import describe_pictures, profile_of, training_of
from . import evidence
from .evidence import FAILS, HOLDS, NOT_RUN, VERDICTS, Finding, NotRun, Number, Stored, Subject

ENTRIES = dict(records.claims())
SECTIONS, DEFAULTS, CLEAR = (ENTRIES.pop(key) for key in ("sections", "defaults", "clear"))
"""The paper's headings by section, what an entry need not say, and how many standard errors are clear."""

ARITHMETIC, PICTURES, DRAWINGS = "exact arithmetic", "real pictures", "drawings"
"""What a statistic rests on; `smoke` has drawings alone."""


class Claim(SimpleNamespace):
    """One claim of the paper: its entry in `claims.toml`, whose head explains the fields, by attributes."""

    def stated(self, sentence: str, **others: float) -> str:
        """Put the thresholds into a sentence."""
        values = {"clear": CLEAR} | self.thresholds | others
        printed = {name: re.sub(r"e([+-])0", r"e\1", f"{value:g}") for name, value in values.items()}
        return sentence.format(**printed)

    @property
    def verdicts(self) -> dict[str, str]:
        """By verdict, the sentence with the thresholds that give it."""
        return {HOLDS: self.stated(self.holds), FAILS: self.stated(self.fails)}

    @property
    def caveats(self) -> dict[str, str]:
        """What a sceptic asks of the test: its control, its limits, what was changed after its number was seen."""
        marked = ("{date}: {why} Before: {was} That gave: {gave}.".format(**each) for each in self.changed)
        said = {"control": self.stated(self.control), "caveat": self.caveat, "changed": " ".join(marked)}
        return {title: text for title, text in said.items() if text}

    @property
    def agreement(self) -> tuple[str, str]:
        """Whether the paper's own numbers agree with the claim, in a word, and the arithmetic on them."""
        if not self.printed:
            return "", ""
        agrees, arithmetic = self.printed(**self.thresholds, **self.rows)
        return "consistent" if agrees else "inconsistent", arithmetic

    def stored(self, profile: str) -> Stored:
        """Return what the judge reads."""
        facts = {"profile": profile, "network": profile_of(profile).network, "claim": self.id}
        facts["data"] = training_of(profile, "zfnet").data
        path = f"claims/{self.id}.jsonl" if self.measure else self.record
        return Stored(profile, path.format(**facts), f"`{self.command.format(**facts)}`; {self.cost}")

    def finding(self, profile: str) -> Finding:
        """Judge the claim by what is stored for a profile."""
        stored, side = self.stored(profile), training_of(profile, "zfnet").spec(2).image_size
        judge = self.judge or partial(evidence.compared, self.numbers, side=side)
        try:
            found = judge(stored, **self.thresholds, **self.networks)
        except NotRun as unrun:
            return Finding(NOT_RUN, {}, str(unrun))
        found = replace(found, note=f"{self.stated(self.note, side=side)} {found.note}".strip())
        if not found.numbers:
            return found
        file, basis = stored.file, DRAWINGS if (profile, self.basis) == ("smoke", PICTURES) else self.basis
        record = str(file.relative_to(PROJECT) if file.is_relative_to(PROJECT) else file)
        return replace(found, basis=basis, record=record if stored.path and file.exists() else "")


def claim_of(name: str, entry: Mapping[str, Any]) -> Claim:
    """Return a claim of an entry of the registry, whose functions are named as `module.function`."""
    words = {key: " ".join(value.split()) if isinstance(value, str) else value for key, value in entry.items()}
    claim = Claim(id=name, first=entry["section"].partition(",")[0], **DEFAULTS | words)
    claim.printed = claim.printed or "evidence.reckoned" * bool(claim.rows)
    for role in ("judge", "measure", "printed"):
        if named := getattr(claim, role):
            module, function = named.split(".")
            setattr(claim, role, getattr(import_module(f".{module}", __package__), function))
    claim.statistic = claim.stated(claim.statistic)
    return claim


CLAIMS = {name: claim_of(name, entry) for name, entry in ENTRIES.items()}
"""All claims by id, in the paper's order."""


@dataclass(frozen=True)
class Ledger:
    """All claims, or some, with what was found of each for one profile."""

    profile: str
    rows: tuple[tuple[Claim, Finding], ...]
    page: str = ""  # the notebook that they are shown on
    section: str = ""  # the only one that is shown

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        found = Counter(finding.verdict for _, finding in self.rows)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def changes(self) -> Sentence:
        """How many claims have a test that was changed after its number was seen, and what that did in `tiny`."""
        moved = Counter((claim.changed[0]["gave"], found.verdict) for claim, found in self.rows if claim.changed)
        many = f"The tests of {moved.total()} claims were changed after their number had been seen in `tiny`."
        if self.profile != "tiny":
            return Sentence(many)
        said = [f"{count} from {old} to {new}" for (old, new), count in moved.most_common() if old != new]
        said += [f"{sum(count for (old, new), count in moved.items() if old == new)} as before"]
        return Sentence(f"{many} From what the first test gave to what stands here: {', '.join(said)}.")

    @property
    def sections(self) -> list[str]:
        """The sections of the paper that make these claims first."""
        return sorted({claim.first for claim, _ in self.rows})

    def of(self, section: str) -> Ledger:
        """Return the claims that a section makes first."""
        rows = tuple(row for row in self.rows if row[0].first == section)
        return replace(self, rows=rows, section=section)

    @property
    def resting(self) -> int:
        """How many verdicts rest on a statistic of real pictures, or on exact arithmetic."""
        judged = (found for _, found in self.rows if found.verdict in (HOLDS, FAILS, evidence.UNDECIDED))
        return sum(found.basis in (PICTURES, ARITHMETIC) for found in judged)

    def values(self) -> dict[str, Any]:
        """Return the ledger as plain values that JSON can hold, which knows no NaN."""
        rows = []
        for claim, finding in self.rows:
            found = finding.numbers.items()
            numbers = {name: dict(zip(Number._fields[:5], number, strict=False)) for name, number in found}
            for number in numbers.values():
                number |= {key: None for key in ("value", "low", "high") if not isfinite(number[key] or 0)}
            agrees, arithmetic = claim.agreement
            rows.append(
                {"claim": claim.id}
                | {key: getattr(claim, key) for key in ("section", "statement", "statistic", "page")}
                | {"numbers": numbers, "thresholds": claim.verdicts, "caveats": claim.caveats}
                | {key: getattr(finding, key) for key in ("n", "verdict", "note", "basis", "record")}
                | {"paper": {"consistent": agrees == "consistent", "arithmetic": arithmetic} if agrees else None}
            )
        return {"profile": self.profile, "verdicts": self.counts, "resting": self.resting, "claims": rows}

    @property
    def summary(self) -> Sentence:
        """How many claims have which verdict, in a sentence that notebooks hand on to the introduction."""
        said = ", ".join(f"{verdict} {count}" for verdict, count in self.counts.items() if count)
        many = f"{len(self.rows)} {'claim' if len(self.rows) == 1 else 'claims'}: {said}."
        return Sentence(many if self.rows else "The paper makes no claim here that is tested.")

    def markdown(self) -> str:
        """Return a row a claim: its verdict, the claim, and what decided; all else is folded away beneath it."""
        lines = [] if self.section else [str(self.summary), ""]
        for claim, finding in self.rows:
            word = f'<span class="verdict {finding.verdict.split()[-1]}">{finding.verdict}</span>'
            link = "" if claim.page == self.page else f" [{claim.page}]({claim.page}.ipynb)"
            decided = f" *{literal(finding.deciding)}.*" if finding.deciding else ""
            lines += [
                '<div class="claim">',
                "",
                f"{word} {literal(claim.statement)}{decided}{link if claim.page else ''}",
                "",
                "<details><summary>How it was tested, and all numbers</summary>",
                "",
                *(f"- *{title}*: {text}" for title, text in _folded(claim, finding).items() if text),
                "",
                "</details></div>",
                "",
            ]
        return "\n".join(lines)

    _repr_markdown_ = markdown


def ledger(profile: str, names: Sequence[str] = (), live: bool = False) -> Ledger:
    """Judge claims, all by default, by what is stored for a profile; `live` first measures their own records."""
    profile_of(profile)
    if live:
        deque(measure(profile, names), maxlen=0)
    return Ledger(profile, tuple((claim, claim.finding(profile)) for claim in _chosen(names)))


def about(page: str, profile: str) -> Ledger:
    """Return the claims that a notebook is about."""
    rows = tuple((each, each.finding(profile)) for each in CLAIMS.values() if each.page == page)
    return Ledger(profile, rows, page)


def _chosen(names: Sequence[str]) -> list[Claim]:
    """Return claims by name, in the paper's order; all by default."""
    for name in names:
        if name not in CLAIMS:
            near = get_close_matches(name, CLAIMS, 3)
            known = f"did you mean {' or '.join(near)}?" if near else "`zfnet claims --profile tiny` lists them"
            raise ZfnetError(f"there is no claim {name!r}; {known}")
    return [claim for claim in CLAIMS.values() if not names or claim.id in names]


def measurable(names: Sequence[str] = ()) -> list[str]:
    """Return the claims that have a record of their own; of some names, all must have one."""
    found = _chosen(names)
    alien = [claim.id for claim in found if not claim.measure]
    if names and alien:
        raise ZfnetError(f"{', '.join(alien)} rests on no record of its own; `zfnet claims` says on what")
    return [claim.id for claim in found if claim.measure]


def measure(profile: str, names: Sequence[str] = ()) -> Iterator[tuple[str, float]]:
    """Compute the records of claims that have one of their own; yield each claim and the seconds that it took.

    A record that this very code made of these very pictures and weights is kept, in 0 seconds: a run that was
    stopped goes on where it was. Claims that need trainings which are not here are passed over, unless they are
    asked for by name.
    """
    at = Subject(profile)
    for name in measurable(names):
        watch, file = Stopwatch(), CLAIMS[name].stored(profile).file
        if records.is_fresh(file) and records.read(file)[0].parameters.get("basis") == _basis(at):
            yield name, 0.0
            continue
        try:
            found, data = list(CLAIMS[name].measure(at)), describe_pictures(at.dataset)
        except NotRun as unrun:
            if names:
                raise ZfnetError(f"{name} needs what is not here yet: {unrun}") from unrun
            continue  # the ledger says what it would take
        basis, made = _basis(at), watch.provenance(at.seed)
        records.store(file, [record_of(each, name, at.name, data, made, basis=basis) for each in found])
        yield name, made.seconds


def record_of(number: Number, claim: str, spec: str, data: str, made: records.Provenance, **more: Any) -> Record:
    """Return a measured number as a record, whose parameters hold the interval too."""
    place = number.place | {"low": number.low, "high": number.high} | more
    facts = number.quantity, number.value, number.unit, made, number.n, number.spread
    told = {"spec": place.get("network", spec), "data": number.data or data}
    return Record(f"claim {claim}", *facts, parameters=place, **told)


def _basis(at: Subject) -> str:
    """Return a hash of what claims are measured on beside the code: the pictures, and all weights at hand."""
    return hashlib.sha256(f"{at.dataset.fingerprint} {weights_hash()}".encode()).hexdigest()[:16]


WIDTH = 110  # characters of a line


def report(found: Ledger) -> Iterator[str]:
    """Yield the ledger as lines of text, section by section, then how many claims have each verdict."""
    for section in found.sections:
        yield f"{section} {SECTIONS[section]}"
        for claim, finding in found.of(section).rows:
            agrees, arithmetic = claim.agreement
            parts = {
                "claim": f"“{claim.quote}”",
                "ours": f"{finding.shown} (n = {finding.n})" if finding.numbers else "",
                "holds if": claim.verdicts[HOLDS],
                **claim.caveats,
                "paper": f"its own numbers are {agrees}: {arithmetic}" if agrees else "",
                "note": finding.note,
                "record": finding.record,
            }
            yield from ("", f"  {claim.id}: {finding.verdict}")
            for title, text in parts.items():
                yield from wrap(text, WIDTH, initial_indent=f"    {title:9} ", subsequent_indent=" " * 14)
        yield ""
    yield " · ".join(f"{verdict} {count}" for verdict, count in found.counts.items())
    yield basis(found)


def basis(found: Ledger) -> Sentence:
    """Say how many verdicts rest on real pictures or exact arithmetic."""
    said = f"{found.resting} of {len(found.rows)} verdicts rest on real pictures or on exact arithmetic."
    machinery = "Narrow networks, trained for seconds on drawings: they test the machinery, not the paper."
    return Sentence(f"{said} {machinery}" if found.profile == "smoke" else said)


def _folded(claim: Claim, finding: Finding) -> dict[str, str]:
    """Return what a row folds away, in Markdown: the paper's words and numbers, the test, ours."""
    agrees, arithmetic = claim.agreement
    of_paper = f"{claim.evidence} Its own numbers are {agrees}: {arithmetic}." if agrees else claim.evidence
    where = f"section {claim.section}" + (f", {claim.place}" if claim.place else "")
    test = {word.capitalize(): f"{claim.verdicts[word]}." for word in (HOLDS, FAILS)}
    shown = {
        "The paper": f"“{claim.quote}” ({where})",
        "Its numbers": of_paper,
        "Test": claim.statistic,
        **test,
        **{title.capitalize(): text for title, text in claim.caveats.items()},
        "Ours": f"{finding.shown} (n = {finding.n})" if finding.numbers else "",
        "Note": finding.note,
    }
    record = {"Record": f"`{finding.record}`, claim `{claim.id}`" if finding.record else f"claim `{claim.id}`"}
    return {title: literal(text) for title, text in shown.items()} | record


def literal(text: str) -> str:
    """Keep what Markdown would read as marks."""
    return re.sub(r"([*_<>|$\[\]])", r"\\\1", text)


def figure(found: Ledger) -> plots.Figure:
    """Draw a bar a section, its length the number of claims, its parts their verdicts."""
    if not found.rows:
        raise FigureError("the ledger's figure takes the claims of at least one section")
    drawn, start = plots.Figure(0.8 + 0.28 * len(found.sections)), [0] * len(found.sections)
    axes, sections = drawn.subplots(), [f"section {section}" for section in found.sections]
    colours = (plots.BLUE, plots.VERMILION, plots.ORANGE, plots.GREY, plots.PALE)
    # The counts stand in the bars, so that no verdict is told by its colour alone.
    for verdict, colour in zip(VERDICTS, colours, strict=True):
        counts = [found.of(section).counts[verdict] for section in found.sections]
        bars = axes.barh(sections, counts, left=start, color=colour, edgecolor="white", height=0.75, label=verdict)
        ink = "white" if colour in (plots.BLUE, plots.GREY) else plots.INK
        axes.bar_label(bars, [n or "" for n in counts], label_type="center", color=ink, fontsize=plots.SMALL)
        start = [sum(pair) for pair in zip(start, counts, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("claims", fontsize=plots.NORMAL)
    axes.tick_params(labelsize=plots.SMALL)
    axes.tick_params("y", labelsize=plots.NORMAL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=plots.SMALL, frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    drawn.tight_layout()
    return drawn
